# The scripts of the cluster lab: what ctdb, smbtorture and people call
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Texts for str.format(); clusterlab.py writes them into a cluster's folder.

# The event script of the lab for addresses; ctdb's own reads /sys, which
# knows nothing of namespaces. In test mode ctdbd tells nobody that an address
# has moved (ARP), so clients would try the old node for half a minute. And an
# address that leaves must not take those with it that came after it.
ADDRESSES = """#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
case $1 in
takeip)
	echo 1 >"/proc/sys/net/ipv4/conf/$2/promote_secondaries"
	ip addr add "$3/$4" dev "$2" 2>/dev/null
	"$CTDB" gratarp "$3" "$2"
	;;
releaseip) ip addr del "$3/$4" dev "$2" 2>/dev/null || true ;;
esac
exit 0
"""


# The same command on all nodes, as ctdb demands, but each takes its own way
# to the shared file, so that a node can lose it.
LOCK = """#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
exec {bin}/ctdb_mutex_fcntl_helper "$CTDB_BASE/shared/cluster.lock" 2
"""


# What smbtorture calls on the node its client is connected to, with the
# node's number: leave the cluster, or come back, and wait until ctdb is done.
LEAVE = """#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
export CTDB_TEST_MODE=yes
ask=$(( ($1 + 1) % {count} ))
{change}
for i in $(seq 300); do
	CTDB_BASE={top}/n$ask {bin}/ctdb status >{top}/status.$1 2>/dev/null
	grep -q "Recovery mode:NORMAL" {top}/status.$1 &&
		grep -q "^Size:{size}$" {top}/status.$1 && exit 0
	sleep 0.1
done
exit 1
"""

# For people and scripts: `ctl stop 1`
CTL = """#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
exec {python} {here}/ctl {top} "$@"
"""

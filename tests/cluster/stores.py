# A cluster of three with durable handles kept, and what its stores have
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# `--rados` as an argument of a test that calls cluster(): the storage is a Ceph
# cluster's (scripts/build --ceph), not the nodes' own.

import json
import os
import sys
import time

import clusterlab
from clusterlab import phlab

OPENS = "smbXsrv_open_global"
KEEP = ["phstore:durable v2 = yes"]


def cluster(tag, **options):
    options.update(nodes=3, global_options=KEEP)
    if "--rados" not in sys.argv[1:]:
        clusterlab.need_cluster()
        return clusterlab.Cluster(phlab.scratch(tag), backend="ctdb",
                                  **options)
    sys.path.insert(0, os.path.join(clusterlab.HERE, "..", "ceph"))
    import smblab
    smblab.need_cluster()
    return smblab.Cluster(phlab.scratch(tag), **options)


def records(node, table=OPENS):
    """{key: value}, as phstore shows them; None while it cannot be read."""
    r = node.phstore("dump", table, "--json")
    if r.returncode != 0:
        return None
    return {d["key"]: d["record"] for d in json.loads(r.stdout)["records"]}


def wait_shipped(c, pnn, timeout=60.0):
    """
    What nobody waits for has got around: each open this node has is, as it
    is, on another node too. In RADOS nobody sees that from outside.
    """
    if c.backend == "rados":
        time.sleep(2)
        return

    def shipped():
        his = records(c[pnn])
        others = [records(node) or {} for node in c.nodes if node.pnn != pnn]
        return his is not None and all(
            any(o.get(key) == his[key] for o in others) for key in his)
    clusterlab.wait_for(shipped, timeout,
                        lambda: "what node %d has does not get to others" %
                        pnn)

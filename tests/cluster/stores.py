# What the nodes' stores have
#
# SPDX-License-Identifier: GPL-3.0-or-later

import json

import clusterlab

OPENS = "smbXsrv_open_global"


def records(node, table=OPENS):
    """{key: value}, as phstore shows them; None while it cannot be read."""
    r = node.phstore("dump", table, "--json")
    if r.returncode != 0:
        return None
    return {d["key"]: d["record"] for d in json.loads(r.stdout)["records"]}


def wait_shipped(c, pnn, timeout=60.0):
    """
    What nobody waits for has got around: each open this node has is, as it
    is, on another node too.
    """
    def shipped():
        his = records(c[pnn])
        others = [records(node) or {} for node in c.nodes if node.pnn != pnn]
        return his is not None and all(
            any(o.get(key) == his[key] for o in others) for key in his)
    clusterlab.wait_for(shipped, timeout,
                        lambda: "what node %d has does not get to others" %
                        pnn)

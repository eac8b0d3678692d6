# bench: what a store that costs nothing but its syncs would reach
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Beside each plain handle's rate: as many processes as there were clients,
# which only compute, as much as a request with a plain handle took, and then
# the same with a bare group commit behind each of them (storebench's modes
# nothing and group). No SMB, no records, no index: what is lost between the
# two is lost to syncs, and to waiting and being woken, on this machine.

import os

from benchlib import median, storebench

# Requests of a cycle whose answer waits for the disk
WAITS = {"open-close": 2, "open-lock-unlock-close": 4}
STEPS = 2


def measure(bench, limits, workload, clients, plain_per_s):
    """plain_per_s: cycles/s of the plain handle that was measured last."""
    waits = WAITS[workload]
    busy = min(clients, os.cpu_count())
    compute = max(1, round(busy * 1e6 / plain_per_s / waits))
    got = {}
    for mode in ("nothing", "group"):
        r = storebench(bench, mode, "--size", 700, "--writers", clients,
                       "--compute", compute, "--seconds", bench.seconds)
        got[mode] = r["commits_per_s"] / waits
        bench.did("limit, %s, %s, %d client%s" %
                  (mode, workload, clients, "" if clients == 1 else "s"),
                  "%7.0f cycles/s of %d x %d us" %
                  (got[mode], waits, compute))
    limits.setdefault((workload, clients), []).append(got)


def rows(bench, limits):
    for (workload, clients), got in limits.items():
        ratios = [g["group"] / g["nothing"] for g in got]
        name = "limit/%s/%d-client%s" % (workload, clients,
                                         "" if clients == 1 else "s")
        how = ("as many processes as clients, each computing as long as a "
               "request with a plain handle took, then a bare group commit "
               "of 700 bytes: %d of them a cycle; over the same without "
               "the commit, in turns: what a store could reach here that "
               "costs nothing but its syncs" % WAITS[workload])
        bench.row(name, ratios, "x computing only", None, None, None, how,
                  figures="%.0f us a cycle, without %.0f" % tuple(
                      clients * 1e6 / median([g[mode] for g in got])
                      for mode in ("group", "nothing")))

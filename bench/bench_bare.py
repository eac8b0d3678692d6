# bench: a durable handle in memory, and a bare group commit behind it
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Samba's own durable handle, kept in memory only, is what a handle that comes
# back costs an smbd before anything is stored. Beside its rate: as many
# processes as there were clients, which only compute, as much as a request
# with such a handle took, and then the same with a bare group commit behind
# each of them (storebench's modes nothing and group). No SMB, no records, no
# index: what is lost between the two is lost to syncs, and to waiting and
# being woken, on this machine. Both together, over a plain handle's rate, are
# what a persistent handle's rate is read beside. They are no upper bound: our
# own store with the same computing was seen above the bare group commit.

import os

from benchlib import median, storebench

# Requests of a cycle whose answer waits for the disk
WAITS = {"open-close": 2, "open-lock-unlock-close": 4}
STEPS = 2


def measure(bench, bare, workload, clients, plain_per_s, durable_per_s):
    """Cycles/s of a plain and of an in-memory durable handle, just now."""
    waits = WAITS[workload]
    busy = min(clients, os.cpu_count())
    compute = max(1, round(busy * 1e6 / durable_per_s / waits))
    got = {"handle": durable_per_s / plain_per_s}
    for mode in ("nothing", "group"):
        r = storebench(bench, mode, "--size", 700, "--writers", clients,
                       "--compute", compute, "--seconds", bench.seconds)
        got[mode] = r["commits_per_s"] / waits
        bench.did("bare, %s, %s, %d client%s" %
                  (mode, workload, clients, "" if clients == 1 else "s"),
                  "%7.0f cycles/s of %d x %d us" %
                  (got[mode], waits, compute))
    bare.setdefault((workload, clients), []).append(got)


def rows(bench, bare):
    for (workload, clients), got in bare.items():
        handle = [g["handle"] for g in got]
        syncs = [g["group"] / g["nothing"] for g in got]
        bench.row("bare/%s/%d-client%s" % (workload, clients,
                                           "" if clients == 1 else "s"),
                  [h * s for h, s in zip(handle, syncs)],
                  "x plain handle's cycles/s", None, None, None,
                  "upstream's durable v2 handle with an RWH lease, in memory "
                  "only, over a plain one; times what is left to processes "
                  "that compute as long as its requests take when each has "
                  "a bare group commit of 700 bytes behind it, %d a cycle; "
                  "no upper bound" % WAITS[workload],
                  figures="handle %.2f, syncs %.2f" % (median(handle),
                                                       median(syncs)))

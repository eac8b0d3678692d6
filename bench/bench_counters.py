# bench: counts per cycle, which do not depend on the machine's speed
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# bounds.json says for each count how large it may be, and why; `bench/run
# --only counters` and tests/smb/test_counters hold it against them. One
# client, so that no sync is shared and no count depends on who met whom; a
# fixed number of cycles. Where each count comes from:
#
#   fdatasync, other_syncs   preload/synccount.c, around all smbds
#   appends, appended_bytes  the store's own counters (phstore status); these
#                            include the one cycle of the warm-up
#   voluntary_switches       /proc/PID/task/*/status of all smbds: how often
#                            one waited, for a request, a sync or a lock
#   written_bytes            /proc/PID/io: write() and the like, not sockets
#
# Bounds are upper bounds. Load makes a count smaller if anything (who is
# late finds work and does not wait), but for what a bound's "why" tells.

import json
import os

import phlab
from benchlib import HERE, BenchError, Server

CYCLES = 300
STORE = ("appends", "appended_bytes")
# not open_sync: the O_SYNC of a client's own file, as Samba does it
OTHER_SYNCS = ("fsync", "msync", "sync_file_range", "pwritev2_sync", "syncfs")


def bounds():
    with open(os.path.join(HERE, "bounds.json")) as f:
        return json.load(f)["counters"]


def cells(rows):
    """What has to be run: each once, in the file's order."""
    return list(dict.fromkeys(
        (row["workload"], row["handle"], row["lease"]) for row in rows))


def store_counts(server):
    if not server.smbd.has_phstore():
        return None
    st = server.smbd.phstore_json("status")
    return {"appends": st["num_appends"],
            "appended_bytes": st["appended_bytes"]}


def count(server, workload, handle, lease):
    """All counts of one workload, per cycle."""
    before = store_counts(server)
    # without our storage a share must be told to give more than R
    share = "ca" if lease == "none" else "ca_rwh"
    r = server.run(handle, 1, lease=lease, share=share, more=[
        "--workload", workload, "--count", str(CYCLES), "--warmup", "0"])
    after = store_counts(server)
    if r["cycles"] != CYCLES:
        raise BenchError("%d cycles instead of %d" % (r["cycles"], CYCLES))
    got = dict(r["server_per_cycle"])
    got["fdatasync"] = r["syncs_per_cycle"]["fdatasync"]
    got["other_syncs"] = sum(r["syncs_per_cycle"][name]
                             for name in OTHER_SYNCS)
    if before is not None:
        for name in STORE:
            got[name] = (after[name] - before[name]) / CYCLES
    return got


def steps(bench):
    return bench.rounds * 2 * len(cells(bounds()))


def run(bench):
    if not phlab.smbd_has_hooks():
        raise BenchError("smbd was built without phstore's hooks")
    rows = bounds()
    got = {}
    servers = [Server(bench, "counted-" + backend, backend)
               for backend in ("local", "none")]
    try:
        for _ in range(bench.rounds):
            for cell in cells(rows):
                for server in servers:
                    r = count(server, *cell)
                    got.setdefault((server.name,) + cell, []).append(r)
                    bench.did("%s, %s, %s, lease %s" %
                              ((server.name,) + cell),
                              "fdatasync %.2f  switches %.1f" %
                              (r["fdatasync"], r["voluntary_switches"]))
    finally:
        for server in servers:
            server.stop()
    for row in rows:
        cell = (row["workload"], row["handle"], row["lease"])
        name = row["counter"]
        ours = [r[name] for r in got[("counted-local",) + cell]]
        peers = [r[name] for r in got[("counted-none",) + cell]
                 if name in r]
        bench.row("counter/" + row["name"], ours, "per cycle", "<=",
                  row["bound"], max(peers) if peers else None,
                  "%d cycles of one client; %s" % (CYCLES, row["why"]))

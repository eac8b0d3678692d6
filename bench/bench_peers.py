# bench: the store beside other stores, with puts of the sizes smbd writes
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# All of them, and a bare loop of pwrite and fdatasync, in turns; each commit
# of each is on the disk when it returns. bench.peers holds the medians, for
# the report's plots; what was not there when storebench was built is in
# bench.missing_peers, with the reason.

import json
import subprocess

from benchlib import BenchError, median, storebench

WRITERS = (1, 2, 4, 8, 16, 64)


def rounds(bench):
    return min(bench.rounds, 3)


def modes(bench):
    r = subprocess.run([bench.storebench, "--list"], capture_output=True,
                       text=True, check=False)
    if r.returncode != 0:
        raise BenchError("storebench --list: " + r.stderr)
    found = json.loads(r.stdout)
    return found["modes"], found["missing"]


def steps(bench):
    return rounds(bench) * len(modes(bench)[0]) * len(WRITERS)


def run(bench):
    found, bench.missing_peers = modes(bench)
    for mode, why in bench.missing_peers.items():
        bench.notes.append("%s was not measured: %s." % (mode, why))
        bench.say("note: " + bench.notes[-1])
    got = {}
    for _ in range(rounds(bench)):
        for writers in WRITERS:
            for mode in found:
                r = storebench(bench, mode, "--size", "smbd", "--writers",
                               writers, "--seconds", bench.seconds * 0.6)
                got.setdefault((mode, writers), []).append(r)
                bench.did("%s, %d writer%s, sizes of smbd" %
                          (mode, writers, "" if writers == 1 else "s"),
                          "%.0f /s, p50 %.0f us" % (r["commits_per_s"],
                                                    r["p50_us"]))
    bench.peers = []
    for (mode, writers), results in got.items():
        rates = [r["commits_per_s"] for r in results]
        peer = {"mode": mode, "writers": writers, "size": "smbd",
                "commits_per_s": round(median(rates), 1),
                "spread": [min(rates), max(rates)]}
        for key in ("p50_us", "p99_us", "p999_us", "max_us"):
            peer[key] = round(median([r[key] for r in results]), 1)
        bench.peers.append(peer)
    for writers in (1, 64):
        others = {mode: median([r["commits_per_s"]
                                for r in got[(mode, writers)]])
                  for mode in found if mode not in ("raw", "store")}
        best = max(others, key=others.get)
        bench.row("peers/%d-writer%s" % (writers, "" if writers == 1 else
                                         "s"),
                  [r["commits_per_s"] for r in got[("store", writers)]],
                  "commits/s", None, None, others[best],
                  "records of the sizes smbd writes, one synced commit each; "
                  "peer: the fastest other one, %s; all: %s" % (
                      best, ", ".join("%s %.0f" % item
                                      for item in others.items())),
                  digits=0)

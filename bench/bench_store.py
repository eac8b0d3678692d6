# bench: the store alone, beside bare system calls and tdb
#
# SPDX-License-Identifier: GPL-3.0-or-later

from benchlib import median, storebench

STEPS_PER_ROUND = 9
SIZE = 500


def steps(bench):
    return STEPS_PER_ROUND * bench.rounds


def run(bench):
    raw, tdb, one, many, many_tdb = ([] for _ in range(5))
    stage, stage_tdb, scan, scan_tdb = ([] for _ in range(4))

    def take(samples, what, mode, *args):
        r = storebench(bench, mode, "--size", SIZE, *args)
        samples.append(r)
        bench.did(what, "%.0f /s, p50 %.0f us" %
                  (r["commits_per_s"], r["p50_us"])
                  if "commits_per_s" in r else
                  "%.2f us of CPU" % r["cpu_us_per_put"]
                  if "cpu_us_per_put" in r else
                  "%.3f s" % r["seconds"])

    timed = ["--seconds", bench.seconds]
    for _ in range(bench.rounds):
        take(raw, "pwrite + fdatasync, 1 writer", "raw", *timed)
        take(one, "store, 1 writer", "store", *timed)
        take(tdb, "tdb, 1 writer", "tdb", *timed)
        take(many, "store, 64 writers", "store", "--writers", 64, *timed)
        take(many_tdb, "tdb, 64 writers", "tdb", "--writers", 64, *timed)
        take(stage, "put without barrier", "stage", "--records", 50000)
        take(stage_tdb, "tdb, put without sync", "stage", "--of", "tdb",
             "--records", 5000)
        take(scan, "reopen and scan 100,000 records", "scan",
             "--records", 100000)
        take(scan_tdb, "tdb, the same", "scan", "--of", "tdb",
             "--records", 100000)

    def rate(results):
        return [r["commits_per_s"] for r in results]

    ratio = [s / r for s, r in zip(rate(one), rate(raw))]
    peer_ratio = [t / r for t, r in zip(rate(tdb), rate(raw))]
    bench.row("store/1-writer", ratio, "x bare pwrite+fdatasync", ">=", 0.7,
              median(peer_ratio),
              "commits/s of 1 writer over those of a bare loop of "
              "pwrite (500 bytes, preallocated file) and fdatasync, in turns",
              ours_per_s=median(rate(one)), bare_per_s=median(rate(raw)),
              peer_per_s=median(rate(tdb)),
              figures="%.0f /s, bare %.0f" % (median(rate(one)),
                                              median(rate(raw))))

    ratio = [m / t for m, t in zip(rate(many), rate(tdb))]
    peer_ratio = [m / t for m, t in zip(rate(many_tdb), rate(tdb))]
    bench.row("store/64-writers", ratio, "x 1 writer's tdb transactions/s",
              ">=", 20, median(peer_ratio),
              "commits/s of 64 writer processes over synced tdb transactions"
              "/s of one; peer: tdb with 64 writers",
              ours_per_s=median(rate(many)), peer_per_s=median(rate(tdb)),
              ours_p99_us=median([m["p99_us"] for m in many]),
              figures="%.0f /s, one writer's tdb %.0f" % (
                  median(rate(many)), median(rate(tdb))))

    bench.row("store/reopen-scan-100000", [s["seconds"] for s in scan], "s",
              "<", 1.0, median([s["seconds"] for s in scan_tdb]),
              "phstore_open() and phstore_scan() of 100,000 records of 500 "
              "bytes in a new process, every byte of the values read; files "
              "in the page cache; peer: tdb_open() and tdb_traverse_read() "
              "of the same, with the hash that smbd's tables have", digits=3,
              open_s=median([s["open_seconds"] for s in scan]))

    bench.row("store/put-cpu", [s["cpu_us_per_put"] for s in stage], "us",
              "<", 15, median([s["cpu_us_per_put"] for s in stage_tdb]),
              "user + system time of the process per phstore_stage() of one "
              "500-byte record, over 50,000 without a barrier, rotation and "
              "compaction included; peer: a tdb transaction of one such "
              "record without its syncs, over 5,000")

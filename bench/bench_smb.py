# bench: open and close over SMB, our storage beside upstream's
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Two servers of one build run all the time: "local" keeps what must survive
# in our store, "none" in upstream's own tdb files. Each round measures every
# cell once on both, and the disk's own fdatasync in between.

import itertools
import subprocess

import bench_bare
import phlab
import plots
from benchlib import BenchError, Server, disk_us, median

WORKLOADS = (
    ("open-close", False, 2.0, 1.0),
    ("open-lock-unlock-close", True, 4.0, 2.0),
)
SLOW_US = 2000
CLIENTS = (1, 8)
MORE_CLIENTS = (2, 4, 16, 32)
# an open loop: cycles that arrive per second, for 8 clients of 4 lanes
OFFERED = (50, 100, 200, 400, 800, 1600)
# handles that are not the main subject: share, handle, lease
MORE_HANDLES = {
    "durable": ("plain", "durable-v2", "RWH"),
    "lease-rwh": ("ca_rwh", "persistent", "RWH"),
    "lease-none": ("ca_rwh", "persistent", "none"),
}
# What is compared within a few percent: one right behind the other, in short
# slices, many times, as a machine has phases, longer than those; and in each
# round with servers started anew, as where a smbd lies in memory is a matter of
# chance that its children inherit, and makes some percent.
SLICES = 6
SLICE_S = 0.25
TURNS = (("local", "durable"), ("none", "durable"),
         ("none", "durable"), ("local", "durable"),
         ("local", "lease-rwh"), ("local", "lease-none"),
         ("local", "lease-none"), ("local", "lease-rwh"),
         ("none", "lease-rwh"), ("none", "lease-none"))
SIDES = (("persistent, phstore", "local", "persistent", 0),
         ("persistent, Samba's own storage", "none", "persistent", 1),
         ("plain handle", "local", "plain", 6))
SYNCS = ("fdatasync", "msync")
ODD_SYNCS = ("fsync", "sync_file_range", "pwritev2_sync", "syncfs")


def steps(bench):
    cells = len(WORKLOADS) * len(CLIENTS) * 4
    more = 3 * (len(MORE_CLIENTS) + len(OFFERED)) * few_rounds(bench)
    bare = len(WORKLOADS) * len(CLIENTS) * (bench_bare.STEPS + 1)
    each = cells + len(WORKLOADS) + bare + SLICES * len(TURNS)
    return bench.rounds * each + more + slow_steps(bench)


def offered(handle, rate):
    return "%s, %d/s offered" % (handle, rate)


def few_rounds(bench):
    return min(2, bench.rounds)


def slow_rounds(bench):
    return max(1, bench.rounds // 2)


def slow_steps(bench):
    return slow_rounds(bench) * 2 + (
        slow_rounds(bench) if phlab.smbd_has_test_knobs() else 0)


class Cells(dict):
    """Results by (server, workload, handle, clients), one per round."""

    def measure(self, bench, server, workload, lock, handle, clients,
                name=None, **options):
        r = server.run(handle, clients, lock, **options)
        key = (server.name, workload, name or handle, clients)
        self.setdefault(key, []).append(r)
        bench.did("%s, %s, %s, %d client%s" %
                  (server.name, workload, name or handle, clients,
                   "" if clients == 1 else "s"),
                  "%7.0f cycles/s  p50 %6.0f us  fdatasync %.2f" %
                  (r["cycles_per_s"], r["cycle_us"],
                   r["syncs_per_cycle"]["fdatasync"]))

    def get_all(self, server, workload, handle, clients, *path):
        found = []
        for r in self[(server, workload, handle, clients)]:
            for name in path:
                r = r[name]
            found.append(r)
        return found


def run(bench):
    if not phlab.smbd_has_hooks():
        raise BenchError("smbd of %s was built without phstore's hooks: "
                         "run `make samba`" % phlab.samba_dir())
    ours = Server(bench, "local", "local")
    peer = Server(bench, "none", "none")
    cells = Cells()
    disk = {}
    cross = []
    bare = {}
    try:
        for i in range(bench.rounds):
            for workload, lock, _, _ in WORKLOADS:
                f = disk_us(bench)
                disk.setdefault(workload, []).append(f)
                bench.did("disk, 4 KiB overwrite + fdatasync",
                          "p50 %.0f us" % f)
                before = counts(ours)
                for clients, handle, server in itertools.product(
                        CLIENTS, ("plain", "persistent"), (ours, peer)):
                    cells.measure(bench, server, workload, lock, handle,
                                  clients)
                cross.append(counts_ratio(before, counts(ours)))
                for clients in CLIENTS:
                    beside_bare(bench, bare, cells, peer, workload, lock,
                                clients)
            more_handles(bench, cells, i)
        for _ in range(few_rounds(bench)):
            for clients in MORE_CLIENTS:
                for server, handle in ((ours, "plain"), (ours, "persistent"),
                                       (peer, "persistent")):
                    cells.measure(bench, server, "open-close", False, handle,
                                  clients)
            for rate, (_, server, handle, _) in itertools.product(
                    OFFERED, SIDES):
                cells.measure(bench, ours if server == "local" else peer,
                              "open-close", False, handle, 8,
                              offered(handle, rate),
                              more=("--rate", str(rate), "--depth", "4"))
    finally:
        ours.stop()
        peer.stop()

    for workload, lock, syncs, factor in WORKLOADS:
        sync_rows(bench, cells, workload, syncs)
        time_rows(bench, cells, workload, disk[workload], factor)
    bench.row("syncs/cross-check", cross, "x", None, None, None,
              "the store's own count of log and other syncs over the "
              "fdatasync calls seen from outside: 1 when nothing is hidden")
    bench_bare.rows(bench, bare)
    slow_rows(bench)
    cpu_rows(bench, cells)
    more_handle_rows(bench, cells)
    pictures(bench, cells)


def beside_bare(bench, bare, cells, peer, workload, lock, clients):
    share, handle, lease = MORE_HANDLES["durable"]
    cells.measure(bench, peer, workload, lock, handle, clients, "in memory",
                  share=share, lease=lease)
    plain, durable = (
        cells.get_all(server, workload, name, clients, "cycles_per_s")[-1]
        for server, name in (("local", "plain"), ("none", "in memory")))
    bench_bare.measure(bench, bare, workload, clients, plain, durable)


def more_handles(bench, cells, i):
    servers = {}
    try:
        for name in ("local", "none"):
            servers[name] = Server(bench, "%s-%d" % (name, i), name)
            servers[name].name = name
        for name, what in TURNS * SLICES:
            share, handle, lease = MORE_HANDLES[what]
            cells.measure(bench, servers[name], "open-close", False, handle,
                          1, what, share=share, lease=lease,
                          seconds=min(SLICE_S, bench.seconds),
                          more=("--warmup", "0.1"))
    finally:
        for server in servers.values():
            server.stop()


def more_handle_rows(bench, cells):
    def times(server, name):
        return cells.get_all(server, "open-close", name, 1, "cycle_us")

    def ratios(ours, other):
        return [a / b for a, b in zip(ours, other)]

    bench.row("durable/open-close/1-client",
              ratios(times("local", "durable"), times("none", "durable")),
              "x upstream's time", "<=", 1.1, 1,
              "median time of a cycle with a durable v2 handle and an RWH "
              "lease, ours over upstream's storage, in turns of %g s" %
              SLICE_S,
              figures="%.0f us, upstream's %.0f" % (
                  median(times("local", "durable")),
                  median(times("none", "durable"))))
    bench.row("lease-rwh/open-close/1-client",
              ratios(times("local", "lease-rwh"),
                     times("local", "lease-none")),
              "x without a lease", "<=", 1.1,
              median(ratios(times("none", "lease-rwh"),
                            times("none", "lease-none"))),
              "median time of a cycle with a persistent handle and an RWH "
              "lease over one without a lease, in turns of %g s; peer: "
              "upstream's storage likewise, the share told to grant RWH" %
              SLICE_S,
              figures="%.0f us, without %.0f" % (
                  median(times("local", "lease-rwh")),
                  median(times("local", "lease-none"))))


def pictures(bench, cells):
    note = ("rounds: %d of %g s each, in turns; medians, whiskers from the "
            "smallest to the largest round" % (bench.rounds, bench.seconds))
    for clients in CLIENTS:
        bench.plots.append(plots.percentiles(
            "One open and close, %d client%s" % (
                clients, "" if clients == 1 else "s"),
            [plots.percentile_series(
                name, [r["ops"]["cycle"] for r in
                       cells[(server, "open-close", handle, clients)]],
                colour=colour) for name, server, handle, colour in SIDES],
            "rounds: %d of %g s each, in turns, all together; a point is "
            "there if ten cycles took longer" % (bench.rounds,
                                                 bench.seconds)))
    bench.plots.append(plots.plot(
        "line", "Throughput over clients, open and close", "clients",
        "cycles/s",
        [plots.series(name, {
            n: cells.get_all(server, "open-close", handle, n,
                             "cycles_per_s")
            for n in sorted(CLIENTS + MORE_CLIENTS)}, 1, colour=colour)
         for name, server, handle, colour in SIDES],
        note, log_x=True, log_y=True))
    for quantile, title in (("p50_us", "median"), ("p99_us", "99 %")):
        bench.plots.append(plots.plot(
            "line", "Open and close under an offered load, " + title,
            "cycles that arrive per second", "us",
            [plots.series(name, {
                rate: cells.get_all(server, "open-close", offered(
                    handle, rate), 8, "ops", "cycle", quantile)
                for rate in OFFERED}, 1, colour=colour)
             for name, server, handle, colour in SIDES],
            note + "; from when a cycle should have begun: what the server "
            "cannot keep up with waits, until the end of the round",
            log_x=True, log_y=True))

    def groups(*path):
        return [plots.series(name, {
            "%s, %d client%s" % (workload, n, "" if n == 1 else "s"):
            cells.get_all(server, workload, handle, n, *path)
            for workload, _, _, _ in WORKLOADS for n in CLIENTS},
            colour=colour) for name, server, handle, colour in SIDES]

    bench.plots.append(plots.plot(
        "bars", "fdatasync per cycle", "", "calls of all smbds",
        groups("syncs_per_cycle", "fdatasync")[:2], note + "; counted by a "
        "library before each smbd's calls"))
    bench.plots.append(plots.plot(
        "bars", "Processor time per cycle", "", "us of all smbds",
        groups("server_cpu_us_per_cycle"), note))


def counts(server):
    """Syncs so far: by the shim, and as the store itself counts."""
    try:
        status = server.smbd.phstore_json("status")
    except (phlab.LabError, subprocess.TimeoutExpired) as e:
        raise BenchError("phstore status does not answer (a tool that is "
                         "older or newer than smbd?): %s" % e) from e
    return (server.sync_counts(),
            status["num_syncs"] + status["num_meta_syncs"])


def counts_ratio(before, after):
    outside = after[0] - before[0]
    if outside == 0:
        return 0.0
    return (after[1] - before[1]) / outside


def sync_rows(bench, cells, workload, limit):
    limits = {1: limit, 8: 1.2 if workload == "open-close" else limit}
    for clients in CLIENTS:
        got = cells.get_all("local", workload, "persistent", clients,
                            "syncs_per_cycle")
        peers = cells.get_all("none", workload, "persistent", clients,
                              "syncs_per_cycle")
        for kind in SYNCS:
            bench.row("%s/%s/%d-client%s" %
                      (kind, workload, clients, "" if clients == 1 else "s"),
                      [g[kind] for g in got], "per cycle",
                      "<=" if kind == "fdatasync" else "==",
                      limits[clients] if kind == "fdatasync" else 0,
                      median([p[kind] for p in peers]),
                      "%s calls of all smbds, counted by an LD_PRELOAD "
                      "library, over the cycles of the same time" % kind)
        odd = [sum(g[kind] for kind in ODD_SYNCS) for g in got]
        bench.row("other-syncs/%s/%d-client%s" %
                  (workload, clients, "" if clients == 1 else "s"),
                  odd, "per cycle", "==", 0,
                  median([sum(p[k] for k in ODD_SYNCS) for p in peers]),
                  "calls of %s, counted likewise" % ", ".join(ODD_SYNCS))


def time_rows(bench, cells, workload, disk, factor):
    f = median(disk)
    ours = cells.get_all("local", workload, "persistent", 1, "cycle_us")
    plain = cells.get_all("local", workload, "plain", 1, "cycle_us")
    peers = cells.get_all("none", workload, "persistent", 1, "cycle_us")
    bound = median(plain) + factor * 2.5 * f
    strict = median(plain) + 2.5 * f
    extra = {}
    if factor != 1.0:
        extra = {
            "literal_bound": round(strict, 1),
            "literal_pass": median(ours) <= strict,
        }
    bench.row("time/%s/1-client" % workload, ours, "us", "<=", bound,
              median(peers),
              "median time of a cycle with a persistent handle; bound: "
              "plain handle %.0f us + %g x 2.5 x this disk's fdatasync "
              "%.0f us (%g pair%s of syncs); peer: upstream's storage" %
              (median(plain), factor, f, factor,
               "" if factor == 1.0 else "s"),
              figures="plain %.0f us, fdatasync %.0f" % (median(plain), f),
              digits=1, plain_us=round(median(plain), 1),
              disk_us=round(f, 1), disk_spread=[min(disk), max(disk)],
              plain_spread=[min(plain), max(plain)], **extra)

    def ratios(server):
        top = cells.get_all(server, workload, "persistent", 8,
                            "cycles_per_s")
        low = cells.get_all(server, workload, "plain", 8, "cycles_per_s")
        return [t / b for t, b in zip(top, low)]

    def rate(server, handle, clients):
        return round(median(cells.get_all(server, workload, handle, clients,
                                          "cycles_per_s")), 1)

    bench.row("rate/%s/8-clients" % workload, ratios("local"),
              "x plain handle's cycles/s", ">=", 0.6,
              median(ratios("none")),
              "cycles/s with persistent handles over cycles/s with plain "
              "ones, both with 8 clients, in turns",
              ours_per_s=rate("local", "persistent", 8),
              plain_per_s=rate("local", "plain", 8),
              peer_per_s=rate("none", "persistent", 8),
              figures="%.0f /s, plain %.0f" % (
                  rate("local", "persistent", 8), rate("local", "plain", 8)))
    for clients in CLIENTS:
        bench.row("cycles/%s/%d-client%s" %
                  (workload, clients, "" if clients == 1 else "s"),
                  cells.get_all("local", workload, "persistent", clients,
                                "cycles_per_s"),
                  "cycles/s", None, None,
                  rate("none", "persistent", clients),
                  "persistent handles; a plain one: %.0f" %
                  rate("local", "plain", clients), digits=0)


def slow_rows(bench):
    """The same with a disk on which each sync takes 2 ms longer."""
    shim = {"PHBENCH_SYNC_DELAY_US": str(SLOW_US)}
    knob = {"PHSTORE_TEST_SYNC_DELAY_US": str(SLOW_US)}
    setups = [("slow-local", "local", shim), ("slow-none", "none", shim)]
    if phlab.smbd_has_test_knobs():
        setups.append(("slow-knob", "local", knob))
    got = {}
    for name, backend, env in setups:
        server = Server(bench, name, backend, env)
        try:
            for _ in range(slow_rounds(bench)):
                r = server.run("persistent", 8)
                got.setdefault(name, []).append(
                    r["syncs_per_cycle"]["fdatasync"])
                bench.did("%s, open-close, persistent, 8 clients, sync + "
                          "%d us" % (backend, SLOW_US),
                          "%7.0f cycles/s  fdatasync %.2f" %
                          (r["cycles_per_s"],
                           r["syncs_per_cycle"]["fdatasync"]))
        finally:
            server.stop()
    bench.row("fdatasync/open-close/8-clients-slow-disk", got["slow-local"],
              "per cycle", "<=", 0.4, median(got["slow-none"]),
              "as above, each sync of the server slowed down by 2 ms by the "
              "LD_PRELOAD library, for both")
    if "slow-knob" in got:
        bench.row("fdatasync/open-close/8-clients-slow-store",
                  got["slow-knob"], "per cycle", "<=", 0.4,
                  median(got["slow-none"]),
                  "as above, slowed down by the test build's own "
                  "PHSTORE_TEST_SYNC_DELAY_US")


def cpu_rows(bench, cells):
    """Where time goes that no disk can be blamed for."""
    for workload, _, _, _ in WORKLOADS:
        for clients in CLIENTS:
            def cpu(server, handle):
                return cells.get_all(server, workload, handle, clients,
                                     "server_cpu_us_per_cycle")
            bench.row("cpu/%s/%d-client%s" %
                      (workload, clients, "" if clients == 1 else "s"),
                      cpu("local", "persistent"), "us per cycle", None, None,
                      median(cpu("none", "persistent")),
                      "CPU time of all smbds per cycle; with a plain "
                      "handle: %.0f us" % median(cpu("local", "plain")),
                      digits=0)

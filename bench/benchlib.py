# bench: what the benchmark's parts share
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Servers to measure, the programs that measure, and the rows that come of
# it. A part (bench_smb.py, bench_store.py) only says what to run and what
# bound its numbers have.
#
# Rule: a number and what it is compared with are measured in turns (ours,
# peer, disk, ours, peer, disk ...), and each is the median of its turns, so
# that a machine that is slower for a minute is slower for all of them.

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import phlab

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)


def boost(pid):
    """
    Put one session before the other processes of this machine: servers,
    clients and peers alike, so that nothing that is compared gains by it.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, -20)
        # where sessions are scheduled as groups, only this one counts
        with open("/proc/%s/autogroup" % (pid or "self"), "w") as f:
            f.write("-20")
    except OSError:
        pass


def measure(cmd, timeout):
    """Run a program that measures, in a session of its own."""
    return subprocess.run(cmd, capture_output=True, text=True,
                          timeout=timeout, check=False,
                          start_new_session=True,
                          preexec_fn=lambda: boost(0))


class BenchError(Exception):
    """Nothing was measured: a part is missing or broke."""


def median(values):
    return statistics.median(values)


class Bench:
    """One run: options, programs, work folder, progress and rows."""

    def __init__(self, rounds, seconds, only, keep=False):
        self.rounds = rounds
        self.seconds = seconds
        self.only = only
        self.rows = []
        self.notes = []
        self.plots = []
        self.steps = 0
        self.step = 0
        self.began = time.monotonic()
        if keep:
            os.environ["PHLAB_KEEP"] = "1"
        self.dir = phlab.scratch("bench")
        self.phbench = None
        self.storebench = None
        self.shim = None

    def wants(self, part):
        return not self.only or part in self.only

    # ---- programs

    def find_storebench(self):
        path = os.environ.get("STOREBENCH") or os.path.join(
            phlab.build_dir(), "bench", "storebench")
        if not os.path.exists(path):
            raise BenchError("no %s: run `make`" % path)
        self.storebench = path

    def find_phbench(self):
        path = os.environ.get("PHBENCH") or os.path.join(
            phlab.samba_dir(), "bin", "phbench")
        if not os.path.exists(path):
            raise BenchError("no %s: run `make samba`" % path)
        self.phbench = path

    def build_shim(self):
        """The library that counts syncs; small enough to build each time."""
        self.shim = os.path.join(self.dir, "synccount.so")
        r = subprocess.run(
            [os.environ.get("CC", "cc"), "-O2", "-Wall", "-fPIC", "-shared",
             "-o", self.shim, os.path.join(HERE, "preload", "synccount.c"),
             "-ldl"], capture_output=True, text=True, check=False)
        if r.returncode != 0:
            raise BenchError("synccount.c: " + r.stderr)

    # ---- progress

    def say(self, text):
        print(text, flush=True)

    def did(self, what, result):
        self.step += 1
        self.say("[%3d/%d %4.0f s] %-46s %s" %
                 (self.step, self.steps, time.monotonic() - self.began,
                  what, result))

    # ---- rows

    def row(self, name, samples, unit, op, bound, peer, how,
            bound_text=None, digits=2, **extra):
        """
        One line of the report. samples: the value of each round; value is
        their median. op: "<=", ">=", "<" or "=="; None: informative.
        Compared is what is printed, after rounding to that many digits:
        the store's rare syncs of its own (a new segment once in thousands
        of cycles) are in the counts, but are not what a bound is about.
        """
        value = round(median(samples), digits)
        if bound is not None:
            bound = round(bound, digits)
        passed = {
            None: lambda: True,
            "<=": lambda: value <= bound,
            ">=": lambda: value >= bound,
            "<": lambda: value < bound,
            "==": lambda: value == bound,
        }[op]()
        text = None
        if op is not None:
            text = "%s %s" % (op, bound_text or ("%.*f" % (digits, bound)))
        row = {
            "name": name,
            "value": value,
            "unit": unit,
            "bound": text,
            "bound_value": bound,
            "peer": None if peer is None else round(peer, digits),
            "pass": passed,
            "spread": [round(min(samples), digits),
                       round(max(samples), digits)],
            "rounds": len(samples),
            "how": how,
        }
        row.update(extra)
        self.rows.append(row)
        return row


class Server:
    """A private smbd under the sync counter."""

    def __init__(self, bench, name, backend, env=None, **options):
        path = os.path.join(bench.dir, name)
        os.makedirs(path, mode=0o755)
        self.counters = os.path.join(path, "syncs")
        full_env = {
            "LD_PRELOAD": bench.shim,
            "PHBENCH_SYNC_COUNTERS": self.counters,
        }
        full_env.update(env or {})
        self.bench = bench
        self.name = name
        self.smbd = phlab.SmbServer(path, backend=backend, env=full_env,
                                    log_level="0", **options)
        self.smbd.start()
        boost(self.smbd.proc.pid)

    def stop(self):
        self.smbd.stop()

    def run(self, handle, clients, lock=False, seconds=None, share="ca",
            lease=None, more=()):
        """
        One measurement; phbench's JSON as a dict. more: options of phbench
        that come last and so win.
        """
        with tempfile.NamedTemporaryFile(
                "r", dir=self.bench.dir, suffix=".json") as out:
            cmd = [self.bench.phbench, "//127.0.0.1/" + share,
                   "--port", str(self.smbd.port),
                   "-U", self.smbd.user + "%" + self.smbd.password,
                   "-s", "/dev/null",
                   "--handle", handle, "--clients", str(clients),
                   "--seconds", str(seconds or self.bench.seconds),
                   "--warmup", "0.4",
                   "--counters", self.counters,
                   "--server-pid", str(self.smbd.proc.pid),
                   "--json", out.name]
            if lock:
                cmd += ["--workload", "open-lock-unlock-close"]
            if lease:
                cmd += ["--lease", lease]
            cmd += more
            r = measure(cmd, 120)
            if "not one cycle" in r.stderr:
                # upstream's storage on a slow disk: give it more time
                r = measure(cmd + ["--seconds", "5"], 120)
            if r.returncode != 0:
                raise BenchError("%s: %s%s" % (self.name, r.stderr,
                                               self.smbd.log_tail(5)))
            result = json.load(out)
        result["cycle_us"] = result["ops"]["cycle"]["p50_us"]
        return result

    def sync_counts(self):
        """fdatasync calls since the server's start, seen by the shim."""
        with open(self.counters, "rb") as f:
            data = f.read(16)
        return int.from_bytes(data[8:16], sys.byteorder)


def storebench(bench, mode, *args, folder=None):
    """Run storebench in a fresh folder on the benchmark's disk."""
    with tempfile.TemporaryDirectory(dir=bench.dir) as fresh:
        cmd = [bench.storebench, mode, "--dir", folder or fresh]
        r = measure(cmd + [str(a) for a in args], 300)
    if r.returncode != 0:
        raise BenchError("storebench %s: %s" % (mode, r.stderr))
    return json.loads(r.stdout)


def disk_us(bench, seconds=0.5):
    """Median time of a 4 KiB overwrite and its fdatasync, now."""
    return storebench(bench, "raw", "--size", 4096, "--seconds", seconds,
                      "--warmup", 0.05)["p50_us"]

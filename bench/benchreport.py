# bench: the report, as JSON for programs and as a table for people
#
# SPDX-License-Identifier: GPL-3.0-or-later

import datetime
import json
import os
import platform
import subprocess

import phlab
import plots
from benchlib import TOP
from svgplot import number


def first_match(path, key):
    try:
        with open(path) as f:
            for line in f:
                if line.startswith(key):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown"


def output(*cmd):
    try:
        return subprocess.run(cmd, capture_output=True, text=True,
                              check=True, cwd=TOP).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def file_system(path):
    return output("findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", path)


def hardware():
    """The machine, without a word on where it is or whose."""
    kb = first_match("/proc/meminfo", "MemTotal").split()[0]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime(
            "%Y-%m-%d %H:%M UTC"),
        "cpu": first_match("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(kb) / 1024 / 1024, 1)
        if kb.isdigit() else None,
        "kernel": platform.release(),
        "commit": output("git", "describe", "--always", "--dirty"),
        "load_start": round(os.getloadavg()[0], 2),
    }


def machine(bench):
    version = "not used"
    if bench.wants("smb"):
        version = output(os.path.join(phlab.samba_dir(), "bin", "smbd"),
                         "--version")
    return dict(hardware(), file_system=file_system(bench.dir),
                samba=version, rounds=bench.rounds, seconds=bench.seconds)


# as everywhere: 0 is ours, 1 Samba's, 6 what there is at best
PEER_COLOURS = {"store": 0, "tdb": 1, "lmdb": 2, "rocksdb": 3, "sqlite": 4,
                "raw": 6}


def peer_plots(bench):
    """The store beside other stores (bench_peers.py: bench.peers)."""
    peers = getattr(bench, "peers", [])
    modes = list(dict.fromkeys(p["mode"] for p in peers))
    note = "one record a commit, synced; each writer a process"
    out = []
    for key, title, unit in (
            ("commits_per_s", "The store beside others", "commits/s"),
            ("p50_us", "Time of a commit, median", "us"),
            ("p99_us", "Time of a commit, 99 %", "us")):
        lines = [dict(
            name={"raw": "pwrite + fdatasync", "store": "phstore"}.get(mode,
                                                                       mode),
            colour=PEER_COLOURS.get(mode, 7),
            points=[[p["writers"], p[key]] for p in peers
                    if p["mode"] == mode],
            spread=[p.get("spread") if key == "commits_per_s" else None
                    for p in peers if p["mode"] == mode])
            for mode in modes]
        if lines:
            out.append(plots.plot("line", title, "writers", unit, lines,
                                  note, log_x=True, log_y=True))
    return out


def summary(bench, info):
    """The part's JSON."""
    return {"machine": info, "notes": bench.notes, "rows": bench.rows,
            "plots": bench.plots + peer_plots(bench),
            "peers": getattr(bench, "peers", []),
            "missing_peers": getattr(bench, "missing_peers", {})}


def by_name(new, old, key):
    """What is new takes the place of the old one of its name."""
    found = {item[key]: item for item in new}
    there = {item[key] for item in old}
    return ([found.get(item[key], item) for item in old] +
            [item for item in new if item[key] not in there])


def merged(data, old):
    """A part measured anew, beside what an earlier run has of the others."""
    when = old["machine"].get("date", "at an unknown time")
    kept = [row if "date" in row else dict(
        row, date=when, how="%s (measured %s)" % (row["how"], when))
            for row in old["rows"]]
    info = {key: value for key, value in data["machine"].items()
            if value != "not used"}
    out = dict(old, machine=dict(old["machine"], **info), notes=data["notes"],
               rows=by_name(data["rows"], kept, "name"),
               plots=by_name(data["plots"], old.get("plots", []), "title"))
    if data["peers"]:
        out.update(peers=data["peers"], missing_peers=data["missing_peers"])
    return out


def earlier_run(folder):
    """summary.json of before, or None."""
    try:
        with open(os.path.join(folder, "summary.json")) as f:
            old = json.load(f)
        return old if isinstance(old["machine"], dict) and all(
            isinstance(row["name"], str) and row["how"]
            for row in old["rows"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def mark(row):
    if row["bound"] is None:
        return ""
    return "ok" if row["pass"] else "**MISSED**"


def write(bench, info, folder):
    os.makedirs(folder, exist_ok=True)
    data = summary(bench, info)
    old = earlier_run(folder) if bench.only else None
    if old is not None:
        data = merged(data, old)
    with open(os.path.join(folder, "summary.json"), "w") as f:
        json.dump(data, f, indent=1)
        f.write("\n")

    lines = [
        "# Benchmark report",
        "",
        "Written by `make bench`. Ours: `phstore:backend = local`. Peer: "
        "upstream's own storage (`phstore:backend = none`), the same smbd, "
        "measured in turns with ours; for the store alone, tdb "
        "transactions.",
        "",
        "| what | ours | bound | peer | spread | |",
        "|---|---|---|---|---|---|",
    ]
    bounded = [r for r in data["rows"] if r["bound"] is not None]
    others = [r for r in data["rows"] if r["bound"] is None]
    for row in bounded + others:
        lines.append("| %s | %s %s | %s | %s | %s – %s | %s |" % (
            row["name"], number(row["value"]), row["unit"],
            row["bound"] or "", number(row["peer"]),
            number(row["spread"][0]), number(row["spread"][1]), mark(row)))
    lines += [
        "",
        "Value: the median of %d rounds of %g s each (slow-disk rows: half "
        "as many rounds); spread: the smallest and the largest of them. A "
        "bound is compared with the value as printed. "
        "Rows without a bound are there to understand the others." %
        (bench.rounds, bench.seconds), ""]
    lines += ["> " + note for note in data["notes"]]
    lines += [
        "",
        "## The machine",
        "",
        "| | |",
        "|---|---|",
    ]
    lines += ["| %s | %s |" % (key.replace("_", " "), value)
              for key, value in info.items()]
    lines += [
        "",
        "Server, clients and store share this machine: the client's CPU "
        "time is part of every rate.",
        "",
        "## How each number was got",
        "",
    ]
    for row in data["rows"]:
        lines.append("- **%s**: %s." % (row["name"], row["how"]))
    literal = [r for r in data["rows"] if "literal_bound" in r]
    for row in literal:
        lines.append("- **%s**, read strictly (one pair of syncs for the "
                     "whole cycle): bound %s us, %s." % (
                         row["name"], number(row["literal_bound"]),
                         "held" if row["literal_pass"] else "not held"))
    lines += [
        "",
        "To repeat: `make bench`, or a part of it: "
        "`bench/run --only store`, `bench/run --quick`; see `--help`.",
        "",
    ]
    with open(os.path.join(folder, "report.md"), "w") as f:
        f.write("\n".join(lines))


def verdict(bench, folder):
    bench.say("")
    missed = 0
    for row in bench.rows:
        if row["bound"] is None:
            continue
        missed += not row["pass"]
        bench.say("%-8s %-48s %10s %-26s bound %-12s peer %s" % (
            "ok" if row["pass"] else "MISSED", row["name"],
            number(row["value"]), row["unit"], row["bound"],
            number(row["peer"]) or "-"))
    bounded = sum(row["bound"] is not None for row in bench.rows)
    bench.say("")
    bench.say("%d of %d bounds hold; report: %s" % (
        bounded - missed, bounded, os.path.join(folder, "report.md")))
    return missed == 0

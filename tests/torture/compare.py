# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the plan on two kinds of server, side by side, and compare.

A Side says which kind: `run` has Samba's own storage and ours, tests/ceph has
shares on CephFS, and state in RADOS, beside the same on a local disk. Nothing
that passes on the first side may fail on the second.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import suites
from server import Server, ServerError, binary

REPO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
FLAPPING_TRIES = 8
MAX_SUSPECTS = 60
# Unix sockets lie below a lane's folder, their path is limited to 107 bytes.
MAX_TOP = 50


class Side:
    """A kind of server; backend is smb.conf's `phstore:backend`."""

    def __init__(self, name, backend, title, tries, extra=""):
        self.name = name
        self.backend = backend
        self.title = title
        self.tries = tries
        self.extra = extra

    def server(self, opts, top):
        return Server(opts.samba, top, self.backend, self.extra, opts.tool)


class Stopped(Exception):
    """The run was told to end."""


class Run:
    """One side's run: its lanes, its results."""

    def __init__(self, opts, side, items, top):
        self.opts = opts
        self.side = side
        self.backend = side.name
        self.items = list(items)
        self.top = os.path.join(top, side.name)
        self.logdir = os.path.join(opts.logdir, "torture", side.name)
        self.lock = threading.Lock()
        self.results = {}
        self.started = {}
        self.procs = set()
        self.problems = []
        self.panics = []
        self.stopping = False
        self.lanes = 0
        self.done = 0
        self.began = time.monotonic()
        self.seconds = 0.0

    def next_item(self):
        with self.lock:
            if self.stopping or not self.items:
                return None
            return self.items.pop(0)

    def new_server(self):
        """A started server in a folder of its own."""
        with self.lock:
            self.lanes += 1
            top = os.path.join(self.top, "%d" % self.lanes)
        error = None
        for _ in range(3):
            server = self.side.server(self.opts, top)
            try:
                server.start()
                return server
            except ServerError as e:
                # most likely another program took the port meanwhile
                error = e
                shutil.rmtree(top, ignore_errors=True)
        raise error

    def execute(self, item, server, attempt):
        """Run one test; returns its result, reason and whole output."""
        server.new_folder()
        args, env = suites.command(item, server, attempt)
        with self.lock:
            if self.stopping:
                raise Stopped()
            proc = subprocess.Popen(
                args, env=env, cwd=server.path("client"),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True)
            self.procs.add(proc)
        try:
            output = proc.communicate(timeout=item.limit)[0]
            late = False
        except subprocess.TimeoutExpired:
            end_group(proc)
            output = proc.communicate()[0]
            late = True
        finally:
            with self.lock:
                self.procs.discard(proc)
        output = output.decode(errors="replace")
        if late:
            return (suites.TIMEOUT, "still running after %d s" % item.limit,
                    output)
        result, reason = suites.parse(item, output)
        if result == suites.SUCCESS and proc.returncode != 0:
            result, reason = suites.ERROR, "exit %d" % proc.returncode
        return result, reason, output

    def attempt(self, item, server):
        """Run a test once and note the result."""
        with self.lock:
            number = self.started.get(item.name, 0) + 1
            self.started[item.name] = number
        began = time.monotonic()
        result, reason, output = self.execute(item, server, number)
        seconds = round(time.monotonic() - began, 1)
        with self.lock:
            entry = self.results.setdefault(
                item.name, {"result": None, "reason": "", "tries": []})
            entry["tries"].append({"result": result, "seconds": seconds})
            if entry["result"] != suites.SUCCESS:
                entry["result"] = result
                entry["reason"] = reason
            self.done += 1
        if result != suites.SUCCESS:
            name = "%s.try%d.txt" % (item.name.replace("/", "_"), number)
            with open(os.path.join(self.logdir, name), "w",
                      encoding="utf-8") as f:
                f.write(output)
        if self.opts.show:
            say("# %-5s %6.1f %-8s %s" % (self.backend, seconds, result,
                                          item.name))
        return result

    def lane(self):
        """Take tests until there are none left; one thread each."""
        server = None
        try:
            server = self.new_server()
            while True:
                item = self.next_item()
                if item is None:
                    break
                if not server.alive():
                    self.problem("smbd ended by itself before %s, see %s" %
                                 (item.name, server.top))
                    self.finish(server)
                    server = self.new_server()
                self.attempt(item, server)
        except Stopped:
            pass
        except Exception as e:
            self.problem("lane: %s: %s" % (type(e).__name__, e))
        finally:
            if server is not None:
                self.finish(server)

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def finish(self, server):
        """Stop a server and see what its folder tells."""
        server.stop()
        error = server.check_storage()
        panics = server.panics()
        with self.lock:
            if error is not None and not self.stopping:
                self.problems.append(error)
            self.panics += panics

    def retry(self, item):
        """Try one test again, alone on a fresh server."""
        try:
            server = self.new_server()
        except ServerError as e:
            self.problem("again %s: %s" % (item.name, e))
            return False
        try:
            self.attempt(item, server)
        finally:
            self.finish(server)
        return True

    def start(self):
        """Start the lanes; join() waits for their end."""
        shutil.rmtree(self.logdir, ignore_errors=True)
        os.makedirs(self.logdir)
        count = min(self.opts.lanes, len(self.items))
        self.threads = [threading.Thread(target=self.lane)
                        for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            while thread.is_alive():
                # with a timeout: a signal is handled in between
                thread.join(0.2)
        self.seconds = time.monotonic() - self.began

    def stop(self):
        with self.lock:
            self.stopping = True
            procs = list(self.procs)
        for proc in procs:
            end_group(proc)

    def save(self):
        path = os.path.join(self.opts.logdir,
                            "torture-%s.json" % self.backend)
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"backend": self.backend,
                       "samba": self.opts.samba,
                       "time": time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                             time.gmtime()),
                       "seconds": round(self.seconds, 1),
                       "problems": self.problems,
                       "panics": self.panics,
                       "results": self.results},
                      f, indent=1, sort_keys=True)

    def passed(self, name):
        entry = self.results.get(name)
        return entry is not None and entry["result"] == suites.SUCCESS

    def tries(self, name):
        return len(self.results.get(name, {}).get("tries", ()))


def end_group(proc):
    try:
        os.killpg(proc.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(runs, total):
    """A line now and then, until all lanes are done."""
    last = time.monotonic()
    while any(t.is_alive() for r in runs for t in r.threads):
        time.sleep(0.5)
        if time.monotonic() - last >= 20:
            last = time.monotonic()
            say("# " + ", ".join("%s %d/%d" % (r.backend, r.done, total)
                                 for r in runs))


def retry_test(item, upstream, ours, known):
    """Second and third tries of one test that did not pass with ours."""
    name = item.name
    while (not upstream.passed(name) and
           upstream.tries(name) < upstream.side.tries):
        if not upstream.retry(item):
            return
    if not upstream.passed(name):
        return
    if known.flapping(name):
        left = FLAPPING_TRIES - ours.tries(name)
        in_threads([(ours.retry, item)] * left, left)
        return
    while not ours.passed(name) and ours.tries(name) < ours.side.tries:
        say("# again with %s: %s (%s)" %
            (ours.side.title, name,
             ours.results.get(name, {}).get("reason", "")))
        if not ours.retry(item):
            return


def in_threads(calls, count):
    """Make all calls, at most count at a time."""
    calls = list(calls)
    errors = []

    def work():
        while calls:
            try:
                call = calls.pop(0)
            except IndexError:
                return
            try:
                call[0](*call[1:])
            except Exception as e:
                errors.append(e)

    threads = [threading.Thread(target=work)
               for _ in range(min(count, len(calls)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
    if errors:
        raise errors[0]


def retry_all(opts, items, upstream, ours, known):
    """Try again, side by side, what did not pass with ours."""
    suspects = [i for i in items if not ours.passed(i.name) and
                (upstream.passed(i.name) or not known.has(i.name))]
    if len(suspects) > MAX_SUSPECTS:
        say("# %d tests did not pass with %s: too many to try them again"
            % (len(suspects), ours.side.title))
        return
    in_threads([(retry_test, i, upstream, ours, known) for i in suspects],
               opts.lanes)


def word(run, name):
    entry = run.results.get(name)
    if entry is None:
        return "not run"
    if len(entry["tries"]) > 1:
        return "%s (%s)" % (entry["result"], ", ".join(
            t["result"] for t in entry["tries"]))
    return entry["result"]


def judge(items, upstream, ours, known):
    """Compare; returns TAP lines, the table of differences, what is bad."""
    tap = []
    table = []
    bad = []
    passing = {}
    for number, item in enumerate(sorted(items, key=lambda i: i.name), 1):
        name = item.name
        up_ok = upstream.passed(name)
        our_ok = ours.passed(name)
        passing.setdefault(item.group, [0, 0, 0])
        passing[item.group][0] += up_ok
        passing[item.group][1] += our_ok
        passing[item.group][2] += 1
        line = "ok %d - %s" % (number, name)
        if up_ok and not our_ok:
            line = "not " + line
            bad.append("%s: %s %s, %s %s: %s" %
                       (name, upstream.side.title, word(upstream, name),
                        ours.side.title, word(ours, name),
                        ours.results.get(name, {}).get("reason", "")))
        elif not up_ok:
            line += " # SKIP %s: %s" % (upstream.side.title,
                                        word(upstream, name))
        tap.append(line)
        flaky = upstream.tries(name) > 1 or ours.tries(name) > 1
        listed = known.has(name)
        if up_ok != our_ok or flaky or listed == up_ok:
            note = ""
            if up_ok and not our_ok:
                note = "WORSE"
            elif our_ok and not up_ok:
                note = "better"
            elif up_ok and flaky:
                note = "passes, not at the first try"
            elif not up_ok and not listed:
                note = "fails with both, not listed in known.txt"
            elif up_ok and listed and item.row is None:
                note = "passes, but is listed in known.txt"
            table.append("%-60s %-22s %-22s %s" %
                         (name, word(upstream, name), word(ours, name),
                          note))
    for group, (up, our, total) in sorted(passing.items()):
        table.append("%-60s %4d of %-4d pass       %4d of %-4d pass" %
                     (group, up, total, our, total))
        if up == 0 and total > 3:
            bad.append("%s: nothing passes %s, nothing was compared" %
                       (group, upstream.side.title))
    if ours.panics and not upstream.panics:
        bad += ["smbd crashed with %s: %s" % (ours.side.title, p)
                for p in ours.panics[:10]]
    for run in (upstream, ours):
        bad += ["%s: %s" % (run.backend, p) for p in run.problems[:5]]
        if len(run.problems) > 5:
            bad.append("%s: and %d more" % (run.backend,
                                            len(run.problems) - 5))
    return tap, table, bad


def compare(opts, items, upstream, ours, known):
    """0: nothing that passes with the first fails with the second."""
    retry_all(opts, items, upstream, ours, known)
    for run in (upstream, ours):
        run.save()
    tap, table, bad = judge(items, upstream, ours, known)
    for line in tap:
        say(line)
    head = "%-60s %-22s %-22s" % ("test or suite", upstream.side.title,
                                  ours.side.title)
    name = "torture-diff.txt"
    if ours.side.name != "local":
        name = "torture-diff-%s.txt" % ours.side.name
    with open(os.path.join(opts.logdir, name), "w", encoding="utf-8") as f:
        f.write("\n".join([head] + table + [""] + bad) + "\n")
    for line in [head] + table:
        say("# " + line)
    for line in bad:
        say("# BAD " + line.replace("\n", "\n#   "))
    say("# %s %.0f s, %s %.0f s, side by side" %
        (upstream.side.title, upstream.seconds, ours.side.title,
         ours.seconds))
    return 1 if bad else 0


def single(opts, items, run):
    run.save()
    for item in sorted(items, key=lambda i: i.name):
        say("# %-60s %s" % (item.name, word(run, item.name)))
    for line in run.problems + run.panics:
        say("# BAD " + line)
    count = sum(run.passed(i.name) for i in items)
    say("# %s: %d of %d pass, %.0f s" % (run.backend, count, len(items),
                                         run.seconds))
    return 1 if run.problems or run.panics else 0


def find_samba():
    samba = os.environ.get("SAMBA_DIR")
    if not samba:
        res = subprocess.run(["make", "-s", "-C", REPO, "samba-dir"],
                             stdout=subprocess.PIPE, check=False)
        samba = res.stdout.decode().strip()
    for name in ("smbd", "smbtorture", "smbpasswd", "phtorture"):
        if not os.path.exists(binary(samba, name)):
            say("no %s in %s/bin: run `make samba`" % (name, samba))
            sys.exit(77)
    return samba


def parse_args():
    parser = argparse.ArgumentParser(
        description="Samba's tests with its own storage and with phstore")
    parser.add_argument("--suite", action="append", metavar="PATTERN",
                        help="only these: a suite (smb2.lock), a suite on a "
                        "share (smb2.lock@tmp), a test, or a pattern")
    parser.add_argument("--backend", default="both",
                        choices=(UPSTREAM, OURS, "both"),
                        help="run one storage only; compares nothing")
    parser.add_argument("--lanes", type=int, default=12,
                        help="servers for each storage (12)")
    parser.add_argument("--ours", action="append", default=[],
                        metavar="LINE", help="one more line in the [global] "
                        "section of the smb.conf of ours")
    parser.add_argument("--keep", action="store_true",
                        help="keep the servers' folders")
    parser.add_argument("--list", action="store_true",
                        help="show the tests, run nothing")
    parser.add_argument("--show", action="store_true",
                        help="show every test as it ends")
    return parser.parse_args()


def make_top():
    """The folder of all servers; short, for the sockets' sake."""
    parent = os.environ.get("TEST_TMP", "/var/tmp")
    if len(parent) > MAX_TOP:
        parent = "/var/tmp"
    top = tempfile.mkdtemp(prefix="tort.", dir=parent)
    os.chmod(top, 0o755)
    return top


def on_signal(signum, frame):
    raise Stopped()


def run_sides(opts, items, sides, known):
    """All sides at once, then each but the first compared with the first."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    top = make_top()
    runs = [Run(opts, side, items, top) for side in sides]
    say("# %d tests, %s, %d servers each, below %s" %
        (len(items), " and ".join(side.name for side in sides), opts.lanes,
         top))
    code = 1
    try:
        for run in runs:
            run.start()
        progress(runs, len(items))
        for run in runs:
            run.join()
        if len(runs) == 1:
            code = single(opts, items, runs[0])
        else:
            code = max(compare(opts, items, runs[0], run, known)
                       for run in runs[1:])
    except (Stopped, KeyboardInterrupt):
        say("# told to stop")
        for run in runs:
            run.stop()
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join()
    finally:
        if opts.keep:
            say("# kept " + top)
        else:
            shutil.rmtree(top, ignore_errors=True)
    return code

# The lab: a private smbd on loopback, and what tests do to it
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: SmbServer writes an smb.conf, starts an smbd of the built
# Samba tree ($SAMBA_DIR), and can kill every process of exactly this server
# with SIGKILL. Client is a caller of smb2.py that knows its server.
#
# Its rules:
# - Everything lies below one work folder, on a disk (not tmpfs): a store on
#   tmpfs would be refused.
# - The server listens on 127.0.0.1 only.
# - The smbd is started as the leader of a session of its own. Its processes
#   are the members of that session; no process is ever found by name.
# - A killing is a SIGSTOP to all first, the parent before its children,
#   then SIGKILL: otherwise a child that sees its parent die exits cleanly,
#   and tidies up what a crash leaves behind.
#
# Clients log in as "phuser". smbd wants a Unix account for it; the lab adds
# none to the machine but maps the name to an unprivileged one every Debian
# has. Not root, so that smbd really changes its effective user.

import atexit
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
USER = "phuser"
PASSWORD = "phpass-1"
MAX_SOCKET_PATH = 107


class LabError(Exception):
    """The lab itself failed: not what is tested, but what tests it."""


def samba_dir():
    path = os.environ.get("SAMBA_DIR", "")
    if not path:
        try:
            path = subprocess.run(["make", "-s", "-C", TOP, "samba-dir"],
                                  capture_output=True, text=True,
                                  check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            path = ""
        os.environ["SAMBA_DIR"] = path
    if not os.path.exists(os.path.join(path, "bin", "smbd")):
        raise LabError("no built Samba at SAMBA_DIR=%r: run `make samba`" %
                       path)
    return path


def setup_python():
    """Put Samba's python modules of the built tree on the path."""
    path = os.path.join(samba_dir(), "bin", "python")
    if path not in sys.path:
        sys.path.insert(0, path)


def build_dir():
    return os.path.abspath(os.environ.get("PHSTORE_BUILD",
                                          os.path.join(TOP, "build")))


def smbd_has(text):
    """Whether smbd, or a library built with it, contains this string."""
    root = os.path.join(samba_dir(), "bin")
    files = [os.path.join(root, "smbd")]
    for folder in ("shared", "shared/private"):
        for name in sorted(os.listdir(os.path.join(root, folder))):
            if name.startswith(("libsmbd", "libdbwrap", "libphstore")):
                files.append(os.path.join(root, folder, name))
    for name in files:
        if os.path.isfile(name):
            with open(name, "rb") as f:
                if text.encode() in f.read():
                    return True
    return False


def smbd_has_hooks():
    return smbd_has("phstore:") or smbd_has("phstore_barrier_send")


def smbd_has_test_knobs():
    return smbd_has("PHSTORE_TEST_SYNC_DELAY_US")


def is_volatile(path):
    """Whether path lies on tmpfs or ramfs."""
    best = ("", "")
    path = os.path.realpath(path)
    with open("/proc/self/mounts") as f:
        for line in f:
            fields = line.split()
            mnt = fields[1]
            if (path == mnt or path.startswith(mnt.rstrip("/") + "/")) \
                    and len(mnt) >= len(best[0]):
                best = (mnt, fields[2])
    return best[1] in ("tmpfs", "ramfs")


def scratch(tag):
    """
    A fresh work folder on a disk. In the test runner's $TEST_TMP if sockets
    fit below it (it keeps that when the test fails), otherwise removed at
    exit unless PHLAB_KEEP is set.
    """
    parent = os.environ.get("PHLAB_TMP")
    keep = os.environ.get("PHLAB_KEEP") is not None
    if parent is None:
        parent = os.environ.get("TEST_TMP", "")
        keep = keep or parent != ""
    if not parent or len(parent) > MAX_SOCKET_PATH - 55:
        parent = "/var/tmp" if is_volatile("/tmp") else "/tmp"
        keep = os.environ.get("PHLAB_KEEP") is not None
    path = tempfile.mkdtemp(prefix="phlab-%s-" % tag, dir=parent)
    os.chmod(path, 0o755)
    if not keep:
        atexit.register(shutil.rmtree, path, True)
    return path


def preload_library(source, folder):
    """A library for $LD_PRELOAD, compiled from a C file into the folder."""
    name = os.path.basename(source)
    path = os.path.join(folder, os.path.splitext(name)[0] + ".so")
    r = subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", path,
                        source], capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise LabError("%s: %s" % (name, r.stderr))
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def proc_stat(pid, zombies=False):
    """Parent, session and start time of a process, None if it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            text = f.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2:].split()
    if fields[0] in ("Z", "X") and not zombies:
        return None
    return {"ppid": int(fields[1]), "session": int(fields[3]),
            "start": int(fields[19])}


def session_pids(leader, zombies=False):
    """All living processes of a session, the leader first."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            st = proc_stat(int(name), zombies)
            if st is not None and st["session"] == leader:
                found.append(int(name))
    return sorted(found, key=lambda pid: (pid != leader, pid))


def wait_gone(pid, timeout=60.0):
    """Until nothing is left of it: smbd takes a zombie for a living peer."""
    end = time.monotonic() + timeout
    while os.path.exists("/proc/%d" % pid):
        if time.monotonic() > end:
            raise LabError("process %d does not die" % pid)
        time.sleep(0.005)


def signal_pid(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def kill_session(leader, deadline=10.0):
    """SIGKILL every process of a session, none of which gets to act."""
    end = time.monotonic() + deadline
    killed = set()
    stopped = set()
    while True:
        # Until a look finds none that is not stopped yet: no more forks.
        fresh = [pid for pid in session_pids(leader) if pid not in stopped]
        if not fresh:
            break
        for pid in fresh:
            signal_pid(pid, signal.SIGSTOP)
            stopped.add(pid)
    for pid in sorted(stopped):
        signal_pid(pid, signal.SIGKILL)
        killed.add(pid)
    # And until they are reaped, as are those that were killed before their
    # parent was: smbd takes a zombie for a living peer.
    left = killed | set(session_pids(leader, zombies=True))
    while left:
        if time.monotonic() > end:
            raise LabError("processes of session %d do not die" % leader)
        for pid in session_pids(leader):
            signal_pid(pid, signal.SIGKILL)
            killed.add(pid)
            left.add(pid)
        for pid in sorted(left):
            if reaped(pid, leader):
                left.discard(pid)
        time.sleep(0.001)
    return killed


def adopt_orphans():
    """
    Have orphans handed to this process rather than to init: it reaps them
    at once, whatever kind of init this machine has.
    """
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def reaped(pid, leader):
    """Reap a dead child; True when nothing is left of the process."""
    if pid != leader:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
    try:
        with open("/proc/%d/stat" % pid) as f:
            text = f.read()
    except (FileNotFoundError, ProcessLookupError):
        return True
    # The leader's Popen waits for it
    return pid == leader and text[text.rindex(")") + 2] == "Z"


SHARES = """
[plain]
	path = {share}
	comment = no continuous availability: durable handles at most

[ca]
	path = {share}
	comment = persistent handles
	continuous availability = yes

[ca_rwh]
	path = {share}
	continuous availability = yes
	smb3 ca:max lease mask = RWH
	smb3 ca so:max lease mask = RWH

[fo]
	path = {share}
	smb3 share cap:CLUSTER = yes
	smb3 share cap:SCALE OUT = no

[ca_fo]
	path = {share}
	smb3 share cap:CLUSTER = yes
	smb3 share cap:SCALE OUT = no
	continuous availability = yes

[ca_fo_max_rwh]
	path = {share}
	smb3 share cap:CLUSTER = yes
	smb3 share cap:SCALE OUT = no
	continuous availability = yes
	smb3 ca:max lease mask = RWH

[so]
	path = {share}

[ca_so]
	path = {share}
	continuous availability = yes
"""

GLOBAL = """# written by tests/lab/phlab.py; edits are lost at the next start
[global]
	server role = standalone server
	netbios name = PHLAB
	workgroup = WORKGROUP
	interfaces = 127.0.0.1/8
	bind interfaces only = yes
	smb ports = {port}
	disable netbios = yes
	rpc start on demand helpers = no
	load printers = no
	printcap name = /dev/null
	private dir = {dir}/private
	lock directory = {dir}/lock
	state directory = {dir}/state
	cache directory = {dir}/cache
	pid directory = {dir}/pid
	ncalrpc dir = {dir}/ncalrpc
	usershare path =
	passdb backend = tdbsam:{dir}/private/passdb.tdb
	username map = {dir}/username.map
	map to guest = never
	log file = {dir}/log.smbd
	log level = {log_level}
	max log size = 0
	panic action =
	server min protocol = SMB2_02
	persistent handles = yes
	smb3 directory leases = yes
	smbd:FSCTL_SMBTORTURE = yes
	kernel oplocks = no
	kernel share modes = no
	posix locking = no
	read only = no
	phstore:backend = {backend}
"""


def unprivileged_user():
    for name in ("games", "daemon", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise LabError("this machine has none of the usual system accounts")


class SmbServer:
    """One private smbd."""

    def __init__(self, workdir, backend="local", port=None,
                 global_options=None, share_options=None, shares="",
                 unix_user=None, log_level="1", env=None):
        """
        global_options, share_options: a list of smb.conf lines; the latter
        go into each standard share. shares: text of further ones. env: for
        smbd's environment.
        """
        self.dir = os.path.abspath(workdir)
        self.backend = backend
        self.port = port or free_port()
        self.global_options = list(global_options or [])
        self.share_options = list(share_options or [])
        self.shares = shares
        self.unix_user = unix_user or unprivileged_user()
        self.log_level = log_level
        self.env = dict(env or {})
        self.share = os.path.join(self.dir, "share")
        self.conf = os.path.join(self.dir, "smb.conf")
        self.log = os.path.join(self.dir, "log.smbd")
        self.proc = None
        self.host = "127.0.0.1"
        self.user = USER
        self.password = PASSWORD
        self.bin = os.path.join(samba_dir(), "bin")
        longest = os.path.join(self.dir, "private", "msg.sock", "9999999")
        if len(longest) > MAX_SOCKET_PATH:
            raise LabError("the path of %s is too long for sockets" %
                           self.dir)
        adopt_orphans()
        atexit.register(self._at_exit)

    def _at_exit(self):
        if self.proc is not None:
            self.kill9_all()

    # ---- configuration

    @property
    def store(self):
        """The store's folder: phstore:path, or its default."""
        for line in reversed(self.global_options):
            name, _, value = line.partition("=")
            if name.strip() == "phstore:path":
                return value.strip()
        return os.path.join(self.dir, "state", "phstore")

    def write_conf(self):
        for name in ("private", "lock", "state", "cache", "pid", "ncalrpc",
                     "share"):
            os.makedirs(os.path.join(self.dir, name), mode=0o755,
                        exist_ok=True)
        entry = pwd.getpwnam(self.unix_user)
        os.chown(self.share, entry.pw_uid, entry.pw_gid)
        with open(os.path.join(self.dir, "username.map"), "w") as f:
            f.write("%s = %s\n" % (self.unix_user, self.user))
        text = GLOBAL.format(dir=self.dir, port=self.port,
                             log_level=self.log_level, backend=self.backend)
        text += "".join("\t%s\n" % line for line in self.global_options)
        extra = "".join("\t%s\n" % line for line in self.share_options)
        for part in SHARES.format(share=self.share).strip().split("\n\n"):
            text += "\n" + part + "\n" + extra
        text += self.shares.format(share=self.share)
        with open(self.conf, "w") as f:
            f.write(text)
        self._add_user()

    def _add_user(self):
        if os.path.exists(os.path.join(self.dir, "private", "passdb.tdb")):
            return
        r = self.tool("smbpasswd", "-c", self.conf, "-L", "-a", "-s",
                      self.unix_user,
                      input="%s\n%s\n" % (self.password, self.password))
        if r.returncode != 0:
            raise LabError("smbpasswd: " + r.stdout + r.stderr)

    # ---- processes

    def start(self, timeout=60.0, wait=True):
        if self.proc is not None:
            raise LabError("already started")
        self.write_conf()
        env = dict(os.environ)
        env.update(self.env)
        if "PHLAB_PRELOAD" in env:
            # try a library with smbd alone, not with the test
            env["LD_PRELOAD"] = env["PHLAB_PRELOAD"]
        with open(os.path.join(self.dir, "stdout.smbd"), "ab") as out:
            self.proc = subprocess.Popen(
                [os.path.join(self.bin, "smbd"), "-s", self.conf, "-F",
                 "--no-process-group", "--log-basename", self.dir],
                stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True, env=env)
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=60.0):
        """Until the port answers."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.proc.poll() is not None:
                raise LabError("smbd ended at once; the end of its log:\n" +
                               self.log_tail())
            try:
                socket.create_connection((self.host, self.port),
                                         0.5).close()
                return
            except OSError:
                time.sleep(0.005)
        raise LabError("smbd does not listen; the end of its log:\n" +
                       self.log_tail())

    def is_alive(self):
        return self.proc is not None and self.proc.poll() is None

    def pids(self):
        return session_pids(self.proc.pid) if self.proc else []

    def kill9_all(self):
        """SIGKILL every process of this server; returns their pids."""
        if self.proc is None:
            return set()
        killed = kill_session(self.proc.pid)
        self.proc.wait()
        self.proc = None
        return killed

    def kill9_one(self, conn):
        """
        SIGKILL the smbd that serves this connection, and wait for its end:
        until then it counts as alive, and a reconnect is refused.
        """
        pid = self.pid_of(conn)
        if pid is not None and self.proc is not None and \
                pid != self.proc.pid:
            signal_pid(pid, signal.SIGKILL)
            wait_gone(pid)
            return pid
        return None

    def pid_of(self, conn):
        """The smbd that holds the server's end of a connection."""
        return holder_of(conn, self.pids(), self.port)

    def stop(self, timeout=20.0):
        """The clean end: SIGTERM to the parent, which tells its children."""
        if self.proc is None:
            return
        leader = self.proc.pid
        self.proc.terminate()
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.proc.poll()
            if not session_pids(leader):
                break
            time.sleep(0.005)
        left = session_pids(leader)
        if left:
            self.kill9_all()
            raise LabError("smbd did not stop cleanly, left: %s" % left)
        self.proc.wait()
        self.proc = None

    def detach(self):
        """Leave the server running; returns what identifies it later."""
        leader = self.proc.pid
        with open("/proc/sys/kernel/random/boot_id") as f:
            boot = f.read().strip()
        record = {"leader": leader, "start": proc_stat(leader)["start"],
                  "boot": boot, "port": self.port, "conf": self.conf,
                  "backend": self.backend, "samba": samba_dir()}
        # Popen would warn about a child nobody waits for
        self.proc.returncode = 0
        self.proc = None
        return record

    # ---- looking at it

    def log_text(self):
        text = ""
        for name in ("log.smbd", "stdout.smbd"):
            path = os.path.join(self.dir, name)
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += f.read()
        return text

    def log_tail(self, lines=30):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def panicked(self):
        """Lines of the log that no healthy smbd writes."""
        return [line for line in self.log_text().splitlines()
                if re.search(r"PANIC|INTERNAL ERROR|Sanitizer", line)]

    def tool(self, name, *args, input=None, timeout=60):
        """Run one of Samba's own programs."""
        return subprocess.run([os.path.join(self.bin, name)] + list(args),
                              input=input, capture_output=True, text=True,
                              timeout=timeout, check=False)

    def smbstatus(self, *args):
        return self.tool("smbstatus", "-s", self.conf, *args)

    def has_phstore(self):
        """Whether this server keeps its records in a phstore."""
        return self.backend != "none" and os.path.isdir(self.store)

    def phstore(self, command, *args, timeout=60):
        """Run build/phstore on this server's store."""
        program = os.path.join(build_dir(), "phstore")
        if not os.path.exists(program):
            raise LabError("no %s: run `make`" % program)
        return subprocess.run([program, "--store", self.store, command] +
                              list(args), capture_output=True, text=True,
                              timeout=timeout, check=False)

    def phstore_json(self, command):
        """The tool's JSON answer, parsed."""
        import json
        r = self.phstore(command, "--json")
        if r.returncode != 0:
            raise LabError("phstore %s: %s" % (command, r.stderr.strip()))
        return json.loads(r.stdout)


def holder_of(conn, pids, port):
    """Which of these processes of one host has the end of a connection."""
    ends = (":%04X" % port, ":%04X" % conn.local_port)
    inode = None
    with open("/proc/%d/net/tcp" % pids[0]) as f:
        for line in f:
            fields = line.split()
            if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
                inode = "socket:[%s]" % fields[9]
    if inode is None:
        return None
    for pid in reversed(pids):
        folder = "/proc/%d/fd" % pid
        try:
            fds = os.listdir(folder)
        except OSError:
            continue
        for fd in fds:
            try:
                link = os.readlink(os.path.join(folder, fd))
            except OSError:
                continue    # closed since
            if link == inode:
                return pid
    return None


def detached_pids(record):
    """
    The living processes of a detached server. A process counts when it is
    in the recorded session and did not start before its leader; none does
    after a reboot, or when the leader's pid went to somebody else.
    """
    with open("/proc/sys/kernel/random/boot_id") as f:
        if f.read().strip() != record["boot"]:
            return []
    st = proc_stat(record["leader"])
    if st is not None and st["start"] != record["start"]:
        return []
    found = []
    for pid in session_pids(record["leader"]):
        st = proc_stat(pid)
        if st is not None and st["start"] >= record["start"]:
            found.append(pid)
    return found


class Client:
    """A client machine: its own ClientGuid, one connection at a time."""

    def __init__(self, server, share="ca", name="client", timeout=20.0):
        setup_python()
        self.server = server
        self.share = share
        self.name = name
        self.timeout = timeout
        self.guid = uuid.uuid4().bytes
        self.conn = None
        self.tree = None
        self.session = 0	# the last one, which a new one ends

    def connect(self, timeout=None, reach=None):
        import smb2
        self.drop()
        self.conn = smb2.Connection(
            self.server.host, self.server.port, self.server.user,
            self.server.password, client_guid=self.guid,
            timeout=timeout or self.timeout, previous=self.session,
            reach=reach)
        self.session = self.conn.session_id
        self.tree = self.conn.tree(self.share)
        return self

    def connect_when_up(self, timeout=60.0):
        """Try again until the server is there, as real clients do."""
        import smb2
        end = time.monotonic() + timeout
        while True:
            try:
                return self.connect()
            except (smb2.Gone, smb2.Late):
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def wait_break(self, what, seconds=120.0):
        """Until a break is in conn.breaks."""
        wait_until(lambda: self.conn.drain(0.1) or self.conn.breaks, what,
                   seconds)

    def drop(self):
        """Lose the connection without a word."""
        if self.conn is not None:
            self.conn.close()
        self.conn = None
        self.tree = None


class Skip(Exception):
    """What a test needs is not there."""


class Failed(Exception):
    """What a test fears has happened."""


def check(ok, text):
    if not ok:
        raise Failed(text)


def wait_for(fn, timeout, what, error=LabError):
    """error(what()) when fn() is not true by then."""
    end = time.monotonic() + timeout
    while True:
        if fn():
            return
        if time.monotonic() > end:
            raise error(what())
        time.sleep(0.05)


def wait_until(fn, what, seconds=120.0):
    """The property is broken when fn() is not true by then."""
    wait_for(fn, seconds, lambda: "waited %d s: %s" % (seconds, what), Failed)


def test_main(fn):
    """Run one test program's function; exit 0, 1, 75 or 77 (tests/run)."""
    name = os.path.basename(sys.argv[0])
    began = time.monotonic()
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        fn()
    except Skip as e:
        print("skip %s: %s" % (name, e))
        sys.exit(77)
    except Failed as e:
        print("not ok %s: %s" % (name, e))
        sys.exit(1)
    except (LabError, subprocess.TimeoutExpired) as e:
        import traceback
        traceback.print_exc(file=sys.stdout)
        print("not ok %s: the lab broke: %s" % (
            name, str(e).splitlines()[0]))
        sys.exit(os.EX_TEMPFAIL)
    except Exception:
        import traceback
        traceback.print_exc(file=sys.stdout)
        # neither passed nor seen to fail: a client's timeout, for one
        print("not ok %s: broke" % name)
        sys.exit(os.EX_TEMPFAIL)
    print("ok %s (%.1f s)" % (name, time.monotonic() - began))
    if "rados" in sys.modules:
        # librados crashed in its own end once, after the test had passed
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(0)
    sys.exit(0)


def need_local_backend(knobs=False):
    """Skip unless smbd has our hooks (and the test build's knobs)."""
    if not smbd_has_hooks():
        raise Skip("this smbd was built without phstore's hooks")
    if knobs and not smbd_has_test_knobs():
        raise Skip("this smbd was built without -DPHSTORE_TEST_BUILD")


def test_backend():
    """$PHLAB_BACKEND, or local where smbd has the hooks, else none."""
    wanted = os.environ.get("PHLAB_BACKEND")
    if wanted:
        return wanted
    return "local" if smbd_has_hooks() else "none"

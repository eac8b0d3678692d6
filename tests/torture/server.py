# SPDX-License-Identifier: GPL-3.0-or-later
"""A private smbd for smbtorture: one lane of the torture run.

Every lane has its own folder, port, databases and store, so tests that use
the same file names can run at the same time on different lanes, and a smbd
that one test wedged does not take the others with it.

The shares carry the names Samba's tests ask for. What is upstream's storage
and what is ours differs in one line of smb.conf: `phstore:backend`.
"""

import os
import re
import signal
import socket
import subprocess
import time

USER = "root"
PASSWORD = "torture"

# Files smbd must not share with the kernel's own locking when it hands out
# durable handles.
DURABLE = """\
\tkernel share modes = no
\tkernel oplocks = no
\tposix locking = no
"""

GLOBAL = """\
[global]
\tnetbios name = TORTURE
\tworkgroup = TORTURE
\tserver role = standalone
\tsecurity = user
\tpassdb backend = tdbsam
\tinterfaces = 127.0.0.1/8
\tbind interfaces only = yes
\tserver smb transports = tcp:{port}
\tclient smb transports = tcp:{port}
\tdisable netbios = yes
\tserver min protocol = SMB2_02
\tserver multi channel support = yes
\tclient min protocol = SMB2_02
\tprivate dir = {top}/private
\tlock directory = {top}/lock
\tstate directory = {top}/state
\tcache directory = {top}/cache
\tpid directory = {top}/pid
\tncalrpc dir = {top}/ncalrpc
\tlogging = file
\tlog file = {top}/log.%m
\tlog level = 1
\tmax log size = 0
\tload printers = no
\tprinting = bsd
\tprintcap name = /dev/null
\tdisable spoolss = yes
\tkernel oplocks = no
\tkernel change notify = no
\tread only = no
\tmap hidden = no
\tmap system = no
\tmap readonly = no
\tmap archive = no
\tstore dos attributes = yes
\tcreate mask = 755
\tdos filemode = yes
\tstrict rename = yes
\tstrict sync = yes
\tvfs objects = acl_xattr xattr_tdb streams_depot
\tsmbd:FSCTL_SMBTORTURE = yes
\tsmbd:validate_oplock_types = yes
\tsmbd:sharedelay = 100000
\tsmbd:writetimeupdatedelay = 500000
\tpersistent handles = yes
\tsmb3 directory leases = yes
\tphstore:backend = {backend}
{extra}
"""

# name, options beyond the path. The names are the tests' own.
SHARES = (
    ("tmp", ""),
    ("durable", DURABLE),
    ("dynamic_share",
     "\troot preexec = mkdir -p %P\n"),
    ("fo", DURABLE +
     "\tsmb3 share cap:CLUSTER = yes\n"
     "\tsmb3 share cap:SCALE OUT = no\n"
     "\tcontinuous availability = no\n"),
    ("ca_fo", DURABLE +
     "\tsmb3 share cap:CLUSTER = yes\n"
     "\tsmb3 share cap:SCALE OUT = no\n"
     "\tcontinuous availability = yes\n"
     "\tsmb3 ca:max lease mask = R\n"),
    ("ca_fo_max_rwh", DURABLE +
     "\tsmb3 share cap:CLUSTER = yes\n"
     "\tsmb3 share cap:SCALE OUT = no\n"
     "\tcontinuous availability = yes\n"
     "\tsmb3 ca:max lease mask = RWH\n"),
    ("so", DURABLE +
     "\tsmb3 share cap:CLUSTER = yes\n"
     "\tsmb3 share cap:SCALE OUT = yes\n"
     "\tcontinuous availability = no\n"),
    ("ca_so", DURABLE +
     "\tsmb3 share cap:CLUSTER = yes\n"
     "\tsmb3 share cap:SCALE OUT = yes\n"
     "\tcontinuous availability = yes\n"),
)


def binary(samba, name):
    """A program of the Samba tree; $PHTORTURE tells of another phtorture."""
    if name == "phtorture" and "PHTORTURE" in os.environ:
        return os.environ["PHTORTURE"]
    return os.path.join(samba, "bin", name)


FOLDERS = ("private", "lock", "state", "cache", "pid", "ncalrpc", "share",
           "share/dynamic", "client")


class ServerError(Exception):
    """smbd could not be started, or is not there any more."""


def free_port():
    """A loopback TCP port nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One smbd with its own folder; start() and stop() in pairs."""

    def __init__(self, samba, top, backend, extra="", tool=None):
        self.samba = samba
        self.top = top
        self.backend = backend
        self.extra = extra
        self.tool = tool
        self.port = free_port()
        self.conf = os.path.join(top, "smb.conf")
        self.proc = None
        self.starts = 0
        self.trashed = 0
        self.locals = 0

    def path(self, *names):
        return os.path.join(self.top, *names)

    def binary(self, name):
        return binary(self.samba, name)

    def prepare(self):
        """Make the folders and smb.conf."""
        for name in FOLDERS:
            os.makedirs(self.path(name), mode=0o755, exist_ok=True)
        os.chmod(self.path("share"), 0o777)
        text = GLOBAL.format(port=self.port, top=self.top,
                             backend=self.backend, extra=self.extra)
        for name, options in SHARES:
            text += "[%s]\n\tpath = %s\n%s" % (
                name, self.share_path(name), options + self.share_options())
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(text)

    def share_path(self, name):
        if name == "dynamic_share":
            return self.path("share", "dynamic", "%t")
        return self.path("share")

    def share_options(self):
        """More lines for every share."""
        return ""

    def add_user(self):
        res = subprocess.run(
            [self.binary("smbpasswd"), "-c", self.conf, "-a", "-s", USER],
            input=("%s\n%s\n" % (PASSWORD, PASSWORD)).encode(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if res.returncode != 0:
            raise ServerError("smbpasswd: " +
                              res.stdout.decode(errors="replace"))

    def start(self):
        """Start smbd and wait until it accepts connections."""
        if self.starts == 0:
            self.prepare()
            self.add_user()
        self.starts += 1
        with open(self.path("smbd.out"), "ab") as out:
            self.proc = subprocess.Popen(
                [self.binary("smbd"), "-F", "--no-process-group",
                 "-s", self.conf],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.proc.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise ServerError("smbd does not listen on port %d:\n%s" %
                          (self.port, self.log_tail()))

    def log_tail(self):
        """The last lines smbd wrote, to be shown when it did not start."""
        text = b""
        for name in ("smbd.out", "log.smbd"):
            if os.path.exists(self.path(name)):
                with open(self.path(name), "rb") as f:
                    text += b"\n".join(f.read().splitlines()[-6:])
        return text.decode(errors="replace")

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def stop(self):
        """End smbd and all it forked, for certain."""
        if self.proc is None:
            return
        for sig, wait in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.proc.pid, sig)
            except ProcessLookupError:
                break
            end = time.monotonic() + wait
            while time.monotonic() < end and self.group_exists():
                self.proc.poll()
                time.sleep(0.02)
            if not self.group_exists():
                break
        self.proc.wait()
        self.proc = None

    def group_exists(self):
        """Does any process of smbd's process group still run?"""
        try:
            os.killpg(self.proc.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def local_conf(self):
        """An smb.conf for a local test: databases no smbd has open."""
        self.locals += 1
        alone = Server(self.samba, self.path("local%d" % self.locals),
                       self.backend, self.extra)
        alone.prepare()
        return alone.conf

    def new_folder(self):
        """An empty share for the next test.

        What the last one left is moved away, not deleted: a handle a test
        left disconnected still names its file by inode number, and the
        next file must not be given the same one.
        """
        left = [n for n in os.listdir(self.path("share")) if n != "dynamic"]
        if not left:
            return
        self.trashed += 1
        trash = self.path("trash", "%d" % self.trashed)
        os.makedirs(trash)
        for name in left:
            try:
                os.rename(self.path("share", name), os.path.join(trash, name))
            except FileNotFoundError:
                # its smbd deletes it only now, on close
                pass

    def check_storage(self):
        """After stop(): None when the storage asked for was the one used."""
        twins = [n for n in os.listdir(self.path("lock"))
                 if n.endswith("_persistent.tdb")]
        store = self.path("state", "phstore")
        files = os.listdir(store) if os.path.isdir(store) else []
        if self.backend == "none":
            if files:
                return "%s: a store was made without being asked" % store
            if not twins:
                return "%s: no *_persistent.tdb" % self.path("lock")
            return None
        if twins:
            return "%s: upstream's %s was used" % (self.top, twins[0])
        if not files:
            return "%s: no store was made" % store
        return self.verify(store)

    def verify(self, store):
        """What `phstore verify` says of a stopped server's store."""
        if self.tool is None or not os.path.exists(self.tool):
            return None
        res = subprocess.run(
            [self.tool, "--offline", "--store", store, "verify"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False)
        if res.returncode == 0:
            return None
        return "phstore verify %s: exit %d: %s" % (
            store, res.returncode, res.stdout.decode(errors="replace"))

    def panics(self):
        """Lines of the logs that tell of a crashed smbd."""
        found = []
        pattern = re.compile(rb"PANIC|INTERNAL ERROR")
        for name in sorted(os.listdir(self.top)):
            if not name.startswith("log.") and name != "smbd.out":
                continue
            with open(self.path(name), "rb") as f:
                for line in f:
                    if pattern.search(line):
                        found.append("%s: %s" % (
                            name, line.decode(errors="replace").strip()))
        return found

    def client_args(self):
        """smbtorture's arguments that lead to this server."""
        return ["-s", self.conf,
                "-U%s%%%s" % (USER, PASSWORD),
                "--option=client smb transports=tcp:%d" % self.port,
                "--option=fss:sequence timeout=1",
                "--option=torture:sharedelay=100000",
                "--option=torture:writetimeupdatedelay=500000",
                "--basedir=" + self.path("client"),
                "--target=samba3",
                "--format=subunit"]

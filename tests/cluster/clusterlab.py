# The cluster lab: N nodes with ctdbd, phstored and smbd each
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: Cluster brings up nodes of the built Samba tree ($SAMBA_DIR) in
# network namespaces (netns.py), with one shared folder, a cluster lock and
# public addresses that ctdb moves; a node can be killed, stopped, paused, cut
# off and started again. phlab.Client takes a Node as its server.
#
# Its rules:
# - Everything lies below one work folder on a disk.
# - Processes are found by their network namespace. All are gone, and the
#   namespaces too, when the process that made the cluster ends; if it is
#   killed, when the next cluster is made. Exception: detach().
# - The making process moves into the hub's namespace: it is a client.
#
# Storage: backend "none" is Samba's own, durability full_outage or
# partial_outage; "ctdb" is ours, with phstored on each node.

import atexit
import concurrent.futures
import glob
import hashlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lab"))
import phlab		# noqa: E402
from phlab import wait_for	# noqa: E402
import netns		# noqa: E402
from nodescripts import ADDRESSES, CTL, LEAVE, LOCK	# noqa: E402

PORT = 445

# Found sooner: what docs/CLUSTER.md advises
# A node that was cut off may ban itself; by itself ctdb makes that 300 s.
QUICK = {"KeepaliveInterval": 1, "KeepaliveLimit": 3, "RecoveryBanPeriod": 10}
# For tests on a busy machine, where a daemon may have to wait for its turn
PATIENT = {"KeepaliveInterval": 1, "KeepaliveLimit": 8,
           "RecoveryBanPeriod": 10}

CTDB_CONF = """[logging]
	location = file:{dir}/stdout.ctdbd
	log level = {log_level}
[cluster]
	cluster lock = !{top}/cluster-lock
	node address = {address}
	leader timeout = {leader_timeout}
[database]
	volatile database directory = {dir}/db/volatile
	persistent database directory = {dir}/db/persistent
	state database directory = {dir}/db/state
"""

SMB_CONF = """# written by tests/cluster/clusterlab.py
[global]
	server role = standalone server
	clustering = yes
	ctdbd socket = {dir}/run/ctdbd.socket
	netbios name = PHCLUSTER
	workgroup = WORKGROUP
	interfaces = eth0 lo
	bind interfaces only = no
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
	passdb backend = tdbsam
	username map = {top}/username.map
	map to guest = never
	log file = {dir}/log.smbd
	log level = {log_level}
	max log size = 0
	panic action =
	server min protocol = SMB2_02
	persistent handles = yes
	smb3 directory leases = yes
	smbd:FSCTL_SMBTORTURE = yes
	smbd:suicide mode = yes
	clusteredmember:stop_node = {top}/leave
	clusteredmember:start_node = {top}/join
	kernel oplocks = no
	kernel share modes = no
	posix locking = no
	read only = no
	admin users = {user}
	phstore:backend = {backend}
	phstore:path = {store}
"""

# What a process that a test ended returns
ENDED_BY_TEST = (-signal.SIGKILL, -signal.SIGTERM)

# Storages with a phstored on each node. For rados see tests/ceph/smblab.py.
SHIPPED = ("ctdb", "rados")


def programs_missing():
    """None, or what the tree lacks to run a cluster."""
    folder = os.path.join(phlab.samba_dir(), "bin")
    for name in ("ctdbd", "ctdb", "ctdb_mutex_fcntl_helper", "ctdb-eventd",
                 "smbd", "smbpasswd"):
        if not os.path.exists(os.path.join(folder, name)):
            return "%s was not built in %s" % (name, phlab.samba_dir())
    return None


def run_folder():
    """Where `make cluster` keeps its cluster."""
    return os.path.abspath(os.environ.get(
        "PHSTORE_RUN", os.path.join(phlab.TOP, "build", "run")) + "-cluster")


def run_tag(folder):
    """What its namespaces are called: the same for the same folder."""
    return "run" + hashlib.sha256(folder.encode()).hexdigest()[:6]


def default_backend():
    """ctdb where its daemon was built, else Samba's own storage."""
    return "ctdb" if os.path.exists(
        os.path.join(phlab.build_dir(), "phstored")) else "none"


def has_witness():
    """Whether the tree has a witness service and a client for it."""
    folder = os.path.join(phlab.samba_dir(), "bin")
    return all(os.path.exists(os.path.join(folder, name)) for name in (
        "samba-dcerpcd", "rpcd_witness", "rpcd_epmapper")) and bool(
            glob.glob(os.path.join(folder, "python/samba/dcerpc/witness*")))


def need_cluster():
    """Skip the test unless a cluster can be brought up here."""
    why = netns.usable() or programs_missing()
    if why:
        raise phlab.Skip(why)


class Node:
    """One node: its programs, and what can happen to it."""

    def __init__(self, cluster, pnn):
        self.cluster = cluster
        self.pnn = pnn
        self.dir = os.path.join(cluster.dir, "n%d" % pnn)
        self.ns = cluster.net.node(pnn)
        self.host = cluster.net.address(pnn)
        self.port = PORT
        self.user = phlab.USER
        self.password = phlab.PASSWORD
        self.conf = os.path.join(self.dir, "smb.conf")
        self.store = os.path.join(self.dir, "phstore")
        self.disk = None
        self.paused = False
        self.procs = {}

    # ---- a disk of its own

    def make_disk(self, mb):
        """The store on a small file system, for filling it up."""
        image = os.path.join(self.dir, "disk.img")
        self.disk = os.path.join(self.dir, "disk")
        os.makedirs(self.disk, mode=0o755)
        with open(image, "wb") as f:
            f.truncate(mb << 20)
        for argv in (["mkfs.ext4", "-q", "-m", "0", image],
                     ["mount", "-o", "loop", image, self.disk]):
            r = subprocess.run(argv, capture_output=True, text=True)
            if r.returncode != 0:
                self.disk = None
                raise phlab.Skip("no disk of its own for a store: " +
                                 r.stderr.strip())
        self.store = os.path.join(self.disk, "phstore")

    def remove_disk(self):
        if self.disk is not None:
            subprocess.run(["umount", "-l", self.disk], check=False)
            self.disk = None

    def fill_disk(self):
        """Nothing more fits."""
        size = 1 << 20
        with open(os.path.join(self.disk, "filler"), "wb",
                  buffering=0) as f:
            while size >= 512:
                try:
                    f.write(b"x" * size)
                except OSError:
                    size //= 2

    def free_disk(self):
        os.unlink(os.path.join(self.disk, "filler"))

    # ---- programs

    def run(self, *argv, timeout=60, check=False, **kw):
        """Run a program on this node."""
        return subprocess.run(
            ["nsenter", "--net=" + os.path.join(netns.RUN, self.ns)] +
            list(argv), capture_output=True, text=True, timeout=timeout,
            check=check, env=self.env(), **kw)

    def env(self):
        env = dict(os.environ, CTDB_TEST_MODE="yes", CTDB_BASE=self.dir,
                   CTDB_TEST_HELPER_BINDIR=self.cluster.bin,
                   CTDB=os.path.join(self.cluster.bin, "ctdb"))
        env["PATH"] = self.cluster.bin + ":" + env.get("PATH", "/usr/bin")
        env["PHSTORE_BUILD"] = phlab.build_dir()
        env["PHSTORE_STORE"] = self.store
        env["PHSTORE_TOOL"] = os.path.join(phlab.build_dir(), "phstore")
        env.update(self.cluster.env)
        return env

    def spawn(self, name, *argv, env=None):
        full = self.env()
        full.update(env or {})
        with open(os.path.join(self.dir, "stdout." + name), "ab") as out:
            self.procs[name] = subprocess.Popen(
                ["nsenter", "--net=" + os.path.join(netns.RUN, self.ns)] +
                list(argv), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True, env=full)
        return self.procs[name]

    def ctdb(self, *args, timeout=30):
        return self.run(os.path.join(self.cluster.bin, "ctdb"), *args,
                        timeout=timeout)

    def phstore(self, *args, timeout=30):
        return self.run(os.path.join(phlab.build_dir(), "phstore"),
                        "--store", self.store, *args, timeout=timeout)

    def smbstatus(self, *args):
        return self.run(os.path.join(self.cluster.bin, "smbstatus"),
                        "-s", self.conf, *args)

    def pids(self):
        return netns.pids(self.ns)

    def running(self, name):
        """Pids of the program of this name that spawn() started."""
        p = self.procs.get(name)
        return [] if p is None or p.poll() is not None else \
            phlab.session_pids(p.pid)

    def broken(self):
        """
        (name, code) of daemons that aborted, and of ctdbd if it gave up. One
        that a test killed, or told to end, did not end by itself.
        """
        return [(name, p.returncode) for name, p in list(self.procs.items()) if
                p.poll() is not None and
                (p.returncode < 0 and p.returncode not in ENDED_BY_TEST or
                 name == "ctdbd" and p.returncode > 0)]

    # ---- files

    def write_files(self):
        c = self.cluster
        for name in ("run", "var", "db/volatile", "db/persistent",
                     "db/state", "private", "lock", "state", "cache", "pid",
                     "ncalrpc", "events/legacy", "share/events/legacy"):
            os.makedirs(os.path.join(self.dir, name), exist_ok=True)
        os.chmod(os.path.join(self.dir, "private"), 0o700)
        self.shared(True)
        values = dict(dir=self.dir, top=c.dir, bin=c.bin, port=PORT,
                      address=self.host, user=c.unix_user,
                      leader_timeout=c.leader_timeout, backend=c.backend,
                      store=self.store)
        write(self.dir, "ctdb.conf", CTDB_CONF.format(
            log_level="NOTICE", **values))
        write(self.dir, "nodes", "".join(
            c.net.address(i) + "\n" for i in range(c.count)))
        write(self.dir, "public_addresses", "".join(
            "%s/24 eth0\n" % c.net.public(k) for k in range(c.publics)))
        write(self.dir, "ctdb.tunables", "".join(
            "%s=%s\n" % item for item in c.tunables.items()))
        write(self.dir, "events/legacy/10.addresses.script", ADDRESSES,
              0o755)
        if c.backend in SHIPPED:
            target = os.path.join(self.dir, "events/legacy",
                                  "55.phstore.script")
            shutil.copy(os.path.join(phlab.TOP, "events/phstore.script"),
                        target)
            os.chmod(target, 0o755)
        text = SMB_CONF.format(log_level=c.log_level, **values)
        if c.backend == "none" and c.durability:
            text += "\tpersistent handles durability = %s\n" % c.durability
        text += "".join("\t%s\n" % line for line in c.global_options)
        text += phlab.SHARES.format(share=c.share) + c.shares
        write(self.dir, "smb.conf", text)

    # ---- what can happen to it

    def start_ctdb(self):
        self.write_files()
        self.spawn("ctdbd", os.path.join(self.cluster.bin, "ctdbd"), "-i")

    def start_phstored(self):
        if self.cluster.backend in SHIPPED:
            self.spawn("phstored", *self.cluster.phstored_argv(self))

    def restart_phstored(self):
        """What a supervisor does when it has ended."""
        p = self.procs.get("phstored")
        if p is not None and p.poll() is not None:
            self.start_phstored()

    def start_smbd(self, alone=False):
        env = {}
        if self.cluster.preload:
            env["LD_PRELOAD"] = self.cluster.preload
        self.spawn("smbd", os.path.join(self.cluster.bin, "smbd"), "-s",
                   self.conf, "-F", "--no-process-group", env=env)
        if self.cluster.witness and not alone:
            self.spawn("dcerpcd",
                       os.path.join(self.cluster.bin, "samba-dcerpcd"), "-s",
                       self.conf, "-F", "--no-process-group",
                       "--log-basename", self.dir,
                       *[os.path.join(self.cluster.bin, name)
                         for name in ("rpcd_epmapper", "rpcd_witness")])

    def start(self, wait=True):
        """All of it, as a machine that boots."""
        self.start_ctdb()
        self.start_phstored()
        self.wait_ctdb()
        self.start_smbd()
        if wait:
            self.wait_smbd()

    def kill9(self):
        """Power is gone: SIGKILL to everything at once."""
        netns.kill_all(self.ns)
        for p in self.procs.values():
            p.wait()
        self.procs = {}
        self.paused = False
        # what the kernel of a machine that dies forgets
        for k in range(self.cluster.publics):
            netns.ip("addr", "del", self.cluster.net.public(k) + "/24",
                     "dev", "eth0", ns=self.ns, check=False)

    def kill9_program(self, name):
        p = self.procs.pop(name, None)
        if p is not None:
            phlab.kill_session(p.pid)
            p.wait()

    def pid_of(self, conn):
        """The smbd that holds the node's end of a connection."""
        return phlab.holder_of(conn, self.running("smbd"), PORT)

    def kill9_one(self, conn):
        """SIGKILL the smbd that serves this connection, to its end."""
        pid = self.pid_of(conn)
        if pid is None:
            raise phlab.LabError("no smbd has this connection")
        phlab.signal_pid(pid, phlab.signal.SIGKILL)
        phlab.wait_gone(pid)
        return pid

    def stop(self, timeout=60.0):
        """A planned stop: smbd, ctdb (which runs its scripts), phstored."""
        self.stop_program("dcerpcd")
        self.stop_program("smbd")
        self.ctdb("shutdown")
        self.stop_program("ctdbd", signal_it=False, timeout=timeout)
        self.stop_program("phstored")
        self.kill9()

    def stop_program(self, name, signal_it=True, timeout=60.0):
        p = self.procs.pop(name, None)
        if p is None:
            return
        if signal_it and p.poll() is None:
            p.terminate()
        end = time.monotonic() + timeout
        while phlab.session_pids(p.pid):
            p.poll()
            if time.monotonic() > end:
                phlab.kill_session(p.pid)
                p.wait()
                raise phlab.LabError("%s of node %d did not stop cleanly" %
                                     (name, self.pnn))
            time.sleep(0.01)
        p.wait()

    def pause(self):
        self.paused = True
        for pid in self.pids():
            phlab.signal_pid(pid, phlab.signal.SIGSTOP)

    def resume(self):
        for pid in self.pids():
            phlab.signal_pid(pid, phlab.signal.SIGCONT)
        self.paused = False

    def cut(self, storage=True):
        """
        No packet gets through any more; with storage, the shared file
        system is lost as well, as when it lies behind the same link. (If it
        is not, a leader that is cut off keeps the cluster lock, and ctdb
        lets no other node lead.)
        """
        self.cluster.net.partition(self.pnn)
        if storage:
            self.shared(False)
            for pid in self.pids():
                if "ctdb_mutex_fcntl_helper" in read(
                        "/proc/%d" % pid, "comm") + read(
                        "/proc/%d" % pid, "cmdline").split("\0")[0]:
                    phlab.signal_pid(pid, phlab.signal.SIGKILL)

    def mend(self):
        self.shared(True)
        self.cluster.net.heal(self.pnn)

    def shared(self, there):
        """The way to the cluster lock's file."""
        path = os.path.join(self.dir, "shared")
        if there and not os.path.islink(path):
            os.symlink(os.path.join(self.cluster.dir, "lock"), path)
        elif not there and os.path.islink(path):
            os.unlink(path)

    # ---- waiting for it

    def is_ok(self):
        """ctdb says NORMAL and OK for this node, as seen by itself."""
        r = self.ctdb("-X", "nodestatus", "all")
        row = nodestatus(r.stdout).get(self.pnn)
        if row is None or row != "OK":
            return False
        r = self.ctdb("status")
        return "Recovery mode:NORMAL" in r.stdout

    def wait_ctdb(self, timeout=120.0):
        wait_for(self.is_ok, timeout,
                 lambda: "node %d is not OK:\n%s%s" % (
                     self.pnn, self.ctdb("status").stdout,
                     self.tail("stdout.ctdbd")))

    def wait_smbd(self, timeout=120.0):
        again = []

        def listens():
            if self.procs["smbd"].poll() is not None:
                # Samba's own: it may not get its version record while
                # all of them start, and ends; systemd starts it again
                if "smbd_claim_version" in self.tail("log.smbd", 8) and \
                        len(again) < 3:
                    again.append(True)
                    self.start_smbd(alone=True)
                    return False
                raise phlab.LabError("smbd of node %d ended:\n%s" %
                                     (self.pnn, self.tail("log.smbd")))
            try:
                socket.create_connection((self.host, PORT), 0.5).close()
                return True
            except OSError:
                return False
        wait_for(listens, timeout,
                 lambda: "smbd of node %d does not listen:\n%s" %
                 (self.pnn, self.tail("log.smbd")))

    def log_text(self):
        return "".join(read(self.dir, name) for name in
                       ("log.smbd", "stdout.smbd"))

    def tail(self, name, lines=30):
        return "\n".join(read(self.dir, name).splitlines()[-lines:])

    def panicked(self):
        return [line for line in self.log_text().splitlines()
                if "PANIC" in line or "INTERNAL ERROR" in line]

    def before_panic(self, lines=24):
        """What smbd said before its last panic."""
        text = self.log_text().splitlines()
        at = [i for i, line in enumerate(text) if "INTERNAL ERROR" in line]
        return "\n".join(text[max(0, at[-1] - lines):at[-1] + 1]) \
            if at else ""


def nodestatus(text):
    """{pnn: "OK" or its flags} of `ctdb -X nodestatus all`."""
    found = {}
    head = None
    for line in text.splitlines():
        fields = line.strip("|").split("|")
        if fields and fields[0] == "Node":
            head = fields
        elif head and len(fields) >= len(head) - 1 and fields[0].isdigit():
            flags = [name for name, value in zip(head[2:], fields[2:])
                     if value == "1"]
            found[int(fields[0])] = "|".join(flags) or "OK"
    return found


def write(folder, name, text, mode=0o644):
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as f:
        f.write(text)
    os.chmod(path + ".new", mode)
    os.replace(path + ".new", path)


def read(folder, name):
    try:
        with open(os.path.join(folder, name), errors="replace") as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError):
        # the latter: /proc of a process that ends at this moment
        return ""


class Cluster:
    """N nodes and what they share."""

    def __init__(self, workdir, nodes=3, backend="none", durability=None,
                 publics=0, tunables=None, leader_timeout=5,
                 global_options=None, shares="", witness=False, copies=2,
                 tag=None, log_level="1", env=None, preload=None, smbd=True,
                 disk_mb=None, phstored_options=()):
        self.dir = os.path.abspath(workdir)
        self.count = nodes
        self.backend = backend
        self.durability = durability
        self.publics = publics
        self.tunables = dict(tunables or {})
        self.leader_timeout = leader_timeout
        self.global_options = list(global_options or [])
        self.witness = witness
        self.copies = copies
        self.log_level = log_level
        self.env = dict(env or {})
        self.preload = preload
        self.smbd = smbd
        self.disk_mb = disk_mb		# each store on a disk of its own
        self.phstored_options = list(phstored_options)
        self.tag = tag or str(os.getpid())
        self.bin = os.path.join(phlab.samba_dir(), "bin")
        self.share = os.path.join(self.dir, "share")
        self.shares = shares.format(share=self.share)
        self.unix_user = phlab.unprivileged_user()
        self.net = netns.Net(self.tag, nodes)
        self.nodes = [Node(self, i) for i in range(nodes)]
        self.kept = False
        longest = os.path.join(self.dir, "n0/private/msg.sock/9999999")
        if len(longest) > phlab.MAX_SOCKET_PATH:
            raise phlab.LabError("the path of %s is too long for sockets" %
                                 self.dir)
        phlab.adopt_orphans()
        atexit.register(self.down)

    def __getitem__(self, i):
        return self.nodes[i]

    # ---- life

    def cluster_lock(self):
        """The script that is ctdb's cluster lock."""
        return LOCK.format(bin=self.bin)

    def up(self):
        for name in ("share", "lock"):
            os.makedirs(os.path.join(self.dir, name), exist_ok=True)
        entry = pwd.getpwnam(self.unix_user)
        os.chown(self.share, entry.pw_uid, entry.pw_gid)
        write(self.dir, "username.map", "%s = %s\n" % (self.unix_user,
                                                       phlab.USER))
        write(self.dir, "ctl", CTL.format(python=sys.executable, here=HERE,
                                          top=self.dir), 0o755)
        for name, what, size in (("leave", "stop", self.count - 1),
                                 ("join", "continue", self.count)):
            write(self.dir, name, LEAVE.format(
                count=self.count, top=self.dir, bin=self.bin, size=size,
                change="CTDB_BASE=%s/n$1 %s/ctdb %s || exit 1" % (
                    self.dir, self.bin, what)), 0o755)
        if self.disk_mb is not None:
            for node in self.nodes:
                node.make_disk(self.disk_mb)
        write(self.dir, "cluster-lock", self.cluster_lock(), 0o755)
        self.net.up()
        self.net.enter_hub()
        self.save()
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            # phlab.test_main(): SIGTERM is exit 1
            threading.Thread(target=self.watch, daemon=True).start()
        self.start()
        return self

    def watch(self):
        """
        A daemon that ends by itself ends the test, at once and with the end
        of its log: nobody then waits for answers that can not come.
        """
        while not self.kept:
            for node in self.nodes:
                for name, code in node.broken():
                    print("not ok - %s of node %d ended by itself (%d); the "
                          "end of its log:\n%s" % (
                              name, node.pnn, code,
                              node.tail("stdout." + name, 40)), flush=True)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
            time.sleep(0.2)

    def start(self):
        """All nodes at once."""
        began = time.monotonic()
        for node in self.nodes:
            node.start_ctdb()
            node.start_phstored()
        for node in self.nodes:
            node.wait_ctdb()
        self.ctdb_seconds = time.monotonic() - began
        if not self.smbd:
            return
        self.add_user()
        for node in self.nodes:
            node.start_smbd()
        for node in self.nodes:
            node.wait_smbd()
        self.save()

    def add_user(self):
        mark = os.path.join(self.dir, "user-added")
        if os.path.exists(mark):
            return
        r = self.nodes[0].run(
            os.path.join(self.bin, "smbpasswd"), "-c", self.nodes[0].conf,
            "-L", "-a", "-s", self.unix_user,
            input="%s\n%s\n" % (phlab.PASSWORD, phlab.PASSWORD))
        if r.returncode != 0:
            raise phlab.LabError("smbpasswd: " + r.stdout + r.stderr)
        write(self.dir, "user-added", "")

    def stop(self):
        """The planned stop of the whole cluster."""
        for node in self.nodes:
            node.stop_program("dcerpcd")
            node.stop_program("smbd")
        with concurrent.futures.ThreadPoolExecutor(self.count) as pool:
            list(pool.map(lambda node: node.ctdb("shutdown"), self.nodes))
        for node in self.nodes:
            node.stop_program("ctdbd", signal_it=False, timeout=60.0)
            node.stop_program("phstored")
            node.kill9()

    def kill9(self):
        """Power is gone everywhere."""
        for node in self.nodes:
            for pid in node.pids():
                phlab.signal_pid(pid, phlab.signal.SIGSTOP)
        for node in self.nodes:
            node.kill9()

    def down(self):
        if self.kept:
            return
        self.kept = True
        self.net.down()
        for node in self.nodes:
            for p in node.procs.values():
                p.poll()
            node.procs = {}
            node.remove_disk()

    def phstored_argv(self, node):
        return [os.path.join(phlab.build_dir(), "phstored"),
                "--store", node.store, "--ctdb-socket",
                os.path.join(node.dir, "run/ctdbd.socket"),
                "--copies", str(self.copies)] + self.phstored_options

    # ---- looking at it

    def leader(self, ask=None):
        for node in self.nodes if ask is None else [self.nodes[ask]]:
            r = node.ctdb("leader")
            if r.returncode == 0 and r.stdout.strip().isdigit():
                return int(r.stdout)
        return None

    def wait_ok(self, pnns=None, timeout=120.0):
        for i in range(self.count) if pnns is None else pnns:
            self.nodes[i].wait_ctdb(timeout)

    def holder(self, k, ask=0):
        """The node that has public address k, None if nobody has."""
        r = self.nodes[ask].ctdb("-X", "ip", "all")
        for line in r.stdout.splitlines():
            fields = line.strip("|").split("|")
            if fields[0] == self.net.public(k) and \
                    fields[1].lstrip("-").isdigit() and int(fields[1]) >= 0:
                return int(fields[1])
        return None

    def panicked(self):
        return [line for node in self.nodes for line in node.panicked()]

    # ---- leaving it to run

    def save(self):
        write(self.dir, "cluster.json", json.dumps({
            "tag": self.tag, "nodes": self.count, "backend": self.backend,
            "durability": self.durability, "publics": self.publics,
            "tunables": self.tunables, "copies": self.copies,
            "leader_timeout": self.leader_timeout,
            "global_options": self.global_options, "witness": self.witness,
            "samba": phlab.samba_dir(), "shares": self.shares,
            "procs": {str(n.pnn): {name: p.pid for name, p in
                                   n.procs.items()} for n in self.nodes},
        }, indent=1) + "\n")

    def detach(self):
        """Leave it running when this process ends."""
        self.save()
        self.kept = True
        for node in self.nodes:
            for p in node.procs.values():
                p.returncode = 0	# nobody shall wait for it


class Adopted:
    """A process another lab started: what Node wants of a Popen."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        return None if phlab.proc_stat(self.pid) is not None else 0

    def terminate(self):
        phlab.signal_pid(self.pid, phlab.signal.SIGTERM)

    def wait(self):
        end = time.monotonic() + 10.0
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return 0


def attach(workdir):
    """The cluster that runs in this folder; None if there is none."""
    text = read(workdir, "cluster.json")
    if not text:
        return None
    d = json.loads(text)
    os.environ.setdefault("SAMBA_DIR", d["samba"])
    c = Cluster(workdir, nodes=d["nodes"], backend=d["backend"],
                durability=d["durability"], publics=d["publics"],
                tunables=d["tunables"], leader_timeout=d["leader_timeout"],
                global_options=d["global_options"], witness=d["witness"],
                copies=d["copies"], tag=d["tag"])
    c.shares = d["shares"]
    c.kept = True
    if not os.path.exists(os.path.join(netns.RUN, c.net.hub)):
        return None
    for node in c.nodes:
        for name, pid in d["procs"][str(node.pnn)].items():
            node.procs[name] = Adopted(pid)
    c.net.enter_hub()
    return c

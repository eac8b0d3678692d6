# smbd on the backend rados: nodes of one smbd and one phstored each
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: a Node is a private smbd (tests/lab/phlab.py) with a phstored of
# its own, on a store in a Ceph lab. Several nodes share the files and the
# store's namespace; without ctdb one of them serves at a time. It can lose
# its daemons, all of its processes, and its local store. A Story is a client
# that looks whether all is as it left it. A Cluster is the
# cluster lab (tests/cluster/clusterlab.py) on such a store: Ceph lives in the
# hub's network, beside the clients.

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "lab"))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
import cephlab
import clusterlab
import phlab
import smb2


class Phstored:
    """One phstored with the sink rados."""

    def __init__(self, folder, store, path, node, lines=()):
        self.store = store
        self.conf = os.path.join(folder, "phstored.conf")
        self.log = os.path.join(folder, "log.phstored")
        self.p = None
        os.makedirs(folder, exist_ok=True)
        os.makedirs(os.path.dirname(store), exist_ok=True)
        with open(self.conf, "w") as f:
            f.write("store = %s\nsink = rados\ncluster = lab\nnode = %d\n"
                    "rados store = %s\n%s" %
                    (store, node, path, "".join(l + "\n" for l in lines)))

    def start(self, wait=True):
        with open(self.log, "ab") as out:
            self.p = subprocess.Popen(
                [os.path.join(cephlab.build_dir(), "phstored"), "--config",
                 self.conf], stdout=out, stderr=out)
        if wait:
            self.wait_open()

    def is_open(self):
        r = subprocess.run(
            [os.path.join(cephlab.build_dir(), "phstore"), "--store",
             self.store, "gate", "wait", "0"], capture_output=True)
        return r.returncode == 0

    def wait_open(self, seconds=120.0):
        limit = time.monotonic() + seconds
        while not self.is_open():
            if self.p.poll() is not None or time.monotonic() > limit:
                raise cephlab.LabError("phstored does not open the gate:\n" +
                                       self.tail())
            time.sleep(0.02)

    def tail(self, lines=20):
        with open(self.log, errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def status(self):
        return cephlab.phstored_status(self.store)

    def end(self, sig=signal.SIGTERM):
        if self.p is None:
            return None
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGCONT)
            self.p.send_signal(sig)
        try:
            code = self.p.wait(timeout=100)
        except subprocess.TimeoutExpired:
            self.p.kill()
            code = self.p.wait()
        self.p = None
        return code


class Node(phlab.SmbServer):
    """One machine: smbd, phstored, a local store that may be lost."""

    def __init__(self, folder, path, number=0, like=None, lines=(), **kw):
        super().__init__(folder, backend="rados", **kw)
        if like is not None:
            # the same server to its clients: files, accounts, its SID
            self.share = like.share
            os.makedirs(os.path.join(self.dir, "private"), mode=0o755)
            for name in ("passdb.tdb", "secrets.tdb"):
                shutil.copy(os.path.join(like.dir, "private", name),
                            os.path.join(self.dir, "private", name))
        self.daemon = Phstored(self.dir, self.store, path, number, lines)

    def start_all(self):
        self.daemon.start()
        self.start()
        return self

    def stop_all(self):
        self.stop()
        return self.daemon.end()

    def lose_power(self, lose_store=False):
        """SIGKILL to everything of this node, its store may go as well."""
        self.kill9_all()
        self.daemon.end(signal.SIGKILL)
        if lose_store:
            shutil.rmtree(self.store)

    def pause(self):
        for pid in self.pids() + [self.daemon.p.pid]:
            phlab.signal_pid(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.pids() + [self.daemon.p.pid]:
            phlab.signal_pid(pid, signal.SIGCONT)

    def end_all(self):
        """However the test ended."""
        self.kill9_all()
        self.daemon.end(signal.SIGKILL)


class Story:
    """A client with one open, locked file and one that it has closed."""

    def __init__(self, server, share, name):
        self.client = phlab.Client(server, share, name).connect()
        tree = self.client.tree
        self.closed = tree.create(name + ".closed")
        self.op = tree.create(name, lease=smb2.LEASE_R)
        phlab.check(self.op.persistent, "the handle is not persistent")
        tree.lock(self.op, 0, 16)
        tree.write(self.op, 0, b"before")
        tree.close(self.closed)
        self.name = name

    def holds(self, server):
        self.client.server = server
        self.client.connect_when_up()
        tree = self.client.tree
        back = tree.reconnect(self.op)
        phlab.check(back.persistent_id == self.op.persistent_id,
                    "another handle came back")
        self.op = back
        status = tree.status_of(tree.reconnect, self.closed)
        phlab.check(status == "OBJECT_NAME_NOT_FOUND",
                    "the closed handle: %s" % status)
        phlab.check(tree.read(self.op, 0, 6) == b"before", "other data")
        other = phlab.Client(server, self.client.share, "other").connect()
        op = other.tree.create(self.name)
        status = other.tree.status_of(other.tree.lock, op, 0, 16)
        phlab.check(status == "LOCK_NOT_GRANTED", "its lock: %s" % status)
        other.tree.close(op)
        other.drop()


HUB = "10.77.0.254"


RADOS_LOCK = """#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
CEPH_CONF={conf} exec {helper} ceph client.phstore {pool} ctdb-lock 5
"""


def make_lock_helper(folder):
    """
    Samba's program for a cluster lock in RADOS, from the source of the Samba
    under test, which was configured without it.
    """
    samba = phlab.samba_dir()
    private = os.path.join(samba, "bin/shared/private")
    helper = os.path.join(folder, "ctdb_mutex_ceph_rados_helper")
    subprocess.run(
        ["cc", "-D__STDC_WANT_LIB_EXT1__=1", "-DHAVE_CONFIG_H=1", "-o",
         helper] +
        ["-I" + os.path.join(samba, name) for name in (
            "bin/default/include", "lib/replace", "lib/tevent",
            "lib/talloc")] +
        [os.path.join(samba, "ctdb/utils/ceph",
                      "ctdb_mutex_ceph_rados_helper.c"), "-L" + private] +
        ["-l:lib%s-private-samba.so" % name for name in (
            "talloc", "tevent", "replace")] +
        ["-lrados", "-Wl,-rpath," + private,
         "-Wl,--allow-shlib-undefined"], check=True)
    return helper


class Cluster(clusterlab.Cluster):
    """
    Nodes with ctdb, phstored and smbd, on one store in RADOS; with
    rados_lock ctdb's cluster lock is there as well.
    """

    def __init__(self, workdir, lines=(), osds=3, lab=None, rados_lock=False,
                 **kw):
        super().__init__(workdir, backend="rados", **kw)
        self.lines = list(lines)
        self.rados_lock = rados_lock
        self.lab = lab or cephlab.CephLab(cephlab.scratch("smb"), osds=osds,
                                          address=HUB)
        self.path = None

    def cluster_lock(self):
        if not self.rados_lock:
            return super().cluster_lock()
        return RADOS_LOCK.format(conf=self.lab.conf, pool=cephlab.POOL,
                                 helper=make_lock_helper(self.dir))

    def start(self):
        if self.path is None:
            # in the hub by now
            self.lab.start()
            self.path = self.lab.path(namespace="cluster", timeout=60)
        super().start()

    def down(self):
        super().down()
        self.lab.stop()

    def phstored_argv(self, node):
        argv = [os.path.join(cephlab.build_dir(), "phstored"),
                "--store", node.store, "--sink", "rados", "--node",
                str(node.pnn), "--rados-store", self.path, "--ctdb-socket",
                os.path.join(node.dir, "run/ctdbd.socket")]
        return argv + self.lines


def need_cluster():
    need()
    clusterlab.need_cluster()


def need(knobs=False):
    why = cephlab.missing()
    if why:
        raise phlab.Skip(why)
    phlab.need_local_backend(knobs)


class Recovery(threading.Thread):
    """When a node's ctdbd ends its next recovery; it may need several."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.before = self.count()
        self.ended = None
        self.over = False
        self.start()

    def count(self):
        return clusterlab.read(self.node.dir, "stdout.ctdbd").count(
            "Recovery has finished")

    def run(self):
        while not self.over:
            if self.count() > self.before:
                self.ended = time.monotonic()
                return
            time.sleep(0.01)


def move(stream, node, patience=60.0):
    """
    A client goes to another node, as its own is gone, and writes there:
    seconds in all, those of them after ctdb's first recovery (None: it was
    sooner), how many recoveries there were. stream: a cephsmb.Stream.
    """
    began = time.monotonic()
    recovery = Recovery(node)
    stream.lost()
    stream.client.server = node
    stream.take_up(240.0, patience)
    stream.run(1)
    done = time.monotonic()
    recovery.over = True
    recovery.join()
    return (done - began,
            None if recovery.ended is None else done - recovery.ended,
            recovery.count() - recovery.before)

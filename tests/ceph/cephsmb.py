# Private smbds on a private CephFS: what the tests of vfs_ceph_ca share
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# CephFs is a CephLab with an MDS and a Ceph user for smbd. Its shares()
# are the text of two shares: [ceph], with vfs_ceph_ca, and [ceph_new], the
# same without it. Stream is a client that writes and remembers.

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(TOP, "tests", "lab"))
import cephlab  # noqa: E402
import phlab  # noqa: E402
import smb2  # noqa: E402

CEPH_USER = "samba"

SHARE = """
[%s]
	path = /share
	vfs objects = %s
	continuous availability = yes
	ceph_new:config_file = %s
	ceph_new:user_id = %s
"""


def need():
    """Skip the test unless a share on CephFS can be had here."""
    why = cephlab.missing()
    if not why and shutil.which("ceph-mds") is None:
        why = "no ceph-mds here (scripts/setup ceph)"
    if not why:
        try:
            import cephfs  # noqa: F401
        except ImportError:
            why = "no python module cephfs here (scripts/setup ceph)"
    if not why:
        folder = os.path.join(phlab.samba_dir(), "bin", "modules", "vfs")
        for name in ("ceph_new.so", "ceph_ca.so"):
            if not os.path.exists(os.path.join(folder, name)):
                why = "no %s in the Samba tree: it has no libcephfs-dev" % name
    if why:
        raise phlab.Skip(why)


def recorded(server):
    """uuids in the table of sessions."""
    return [r["key"] for r in server.phstore_json("dump")["records"]
            if r["table"] == "cephfs_session"]


class CephFs(cephlab.CephLab):
    def __init__(self, folder=None, **kwargs):
        kwargs.setdefault("with_class", False)
        kwargs.setdefault("mds", 1)
        super().__init__(folder, **kwargs)

    def make_keys(self):
        super().make_keys()
        self.tool("ceph-authtool", os.path.join(self.dir, "keyring"),
                  "--gen-key", "-n", "client." + CEPH_USER,
                  "--cap", "mon", "allow r", "--cap", "mds", "allow rw",
                  "--cap", "osd", "allow rw pool=fsdata")

    def share(self, name, objects, options=()):
        """The text of a share; for str.format()."""
        text = SHARE % (name, objects, self.conf, CEPH_USER)
        text += "".join("\t%s\n" % line for line in options)
        return text.replace("{", "{{").replace("}", "}}")

    def shares(self, options=()):
        return self.share("ceph", "ceph_ca ceph_new", options) + \
            self.share("ceph_new", "ceph_new", options)

    def start(self):
        super().start()
        fs = self.client()
        fs.mkdir("/share", 0o777)
        fs.chmod("/share", 0o777)
        fs.unmount()
        fs.shutdown()

    def mds_tell(self, *command, rank=0):
        name = self.mds_active(rank)
        r = subprocess.run(["ceph", "-c", self.conf, "daemon",
                            os.path.join(self.sockets, "%s.asok" % name),
                            *command], capture_output=True, text=True)
        if r.returncode != 0:
            raise cephlab.LabError("%s: %s" % (name, r.stderr.strip()))
        return r.stdout

    def sessions(self, rank=0):
        """smbds' sessions with that MDS, each as it tells them."""
        return [s for s in json.loads(self.mds_tell("session", "ls",
                                                    rank=rank))
                if s["client_metadata"].get("entity_id") == CEPH_USER]

    def has_folder(self, path, rank):
        """Is that MDS the one that answers for it?"""
        trees = json.loads(self.mds_tell("get", "subtrees", rank=rank))
        return any(t["dir"]["path"] == path and t["auth_first"] == rank
                   for t in trees)

    def evict(self, session_id):
        """What a reclaim has the MDS do."""
        self.mds_tell("session", "evict", str(session_id))

    def client(self):
        """A client of Ceph's own, beside all smbds."""
        import cephfs
        fs = cephfs.LibCephFS(conffile=self.conf, auth_id="admin")
        fs.mount()
        return fs

    def content(self, name):
        fs = self.client()
        try:
            fd = fs.open("/share/" + name.replace("\\", "/"), "r")
            data = fs.read(fd, 0, fs.fstat(fd).st_size)
            fs.close(fd)
        finally:
            fs.unmount()
            fs.shutdown()
        return data


class Stream:
    """
    A client that writes block after block through one persistent handle, a
    few at a time, and remembers which were acknowledged. A block says which
    one it is in each of its bytes.
    """
    SIZE = 32768
    WINDOW = 6

    def __init__(self, client, name, **kwargs):
        self.client = client
        self.name = name
        self.op = client.tree.create(name, **kwargs)
        self.next = 0
        self.flying = []
        self.acked = set()
        self.again = []

    @classmethod
    def block(cls, i):
        seed = hashlib.sha256(b"block %d" % i).digest()
        return seed * (cls.SIZE // len(seed))

    def _send(self, i):
        p = self.client.tree.write_send(self.op, i * self.SIZE,
                                        self.block(i))
        self.flying.append((i, p))

    def _one(self):
        i, p = self.flying[0]
        self.client.conn.wait(p)
        self.acked.add(i)
        self.flying.pop(0)

    def run(self, blocks):
        """Until so many more were acknowledged; others stay on the way."""
        goal = len(self.acked) + blocks
        while len(self.acked) < goal:
            while len(self.flying) < self.WINDOW:
                if self.again:
                    self._send(self.again.pop(0))
                else:
                    self.next += 1
                    self._send(self.next - 1)
            self._one()

    def settle(self):
        while self.flying:
            self._one()

    def killed(self):
        """Its smbd is: what was on its way may still be answered."""
        try:
            self.settle()
        except smb2.Gone:
            pass
        self.lost()

    def finish(self, fs):
        """What was on its way is there; to its end."""
        while self.again:
            self.run(1)
        self.settle()
        self.client.tree.close(self.op)
        self.check_content(fs)

    def lost(self):
        """The connection is gone: what was answered in time counts."""
        for i, p in self.flying:
            if p.done and p.status == 0:
                self.acked.add(i)
            else:
                self.again.append(i)
        self.flying = []
        self.client.drop()

    def take_up(self, timeout=90.0, patience=60.0):
        """
        Until the handle is back, as a client does it, which gives a request
        up after its patience; seconds.
        """
        began = time.monotonic()
        while True:
            try:
                # a server that is in no state to answer is tried again
                self.client.connect(timeout=min(timeout, patience),
                                    reach=1.0)
                self.op = self.client.tree.reconnect(self.op)
                return time.monotonic() - began
            except (smb2.Gone, smb2.Late, smb2.SmbError, OSError) as e:
                why = e
                self.client.drop()
            if time.monotonic() - began > timeout:
                raise phlab.Failed("the handle did not come back: %s" % why)
            time.sleep(0.05)

    def check_acked(self):
        """What was acknowledged is there, read through the handle."""
        for i in sorted(self.acked):
            data = self.client.tree.read(self.op, i * self.SIZE, self.SIZE)
            phlab.check(data == self.block(i),
                        "block %d was acknowledged and is lost" % i)

    def check_content(self, fs):
        """The whole file, as another client of Ceph sees it."""
        data = fs.content(self.name)
        phlab.check(len(data) == self.next * self.SIZE,
                    "%d bytes instead of %d" % (len(data),
                                                self.next * self.SIZE))
        for i in range(self.next):
            phlab.check(data[i * self.SIZE:(i + 1) * self.SIZE] ==
                        self.block(i), "block %d is not what was written" % i)

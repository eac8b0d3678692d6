# The Ceph lab: a small real cluster on loopback, and what tests do to it
#
# SPDX-License-Identifier: LGPL-3.0-or-later
#
# What it is: CephLab makes one monitor, some OSDs (BlueStore in sparse files)
# and, if asked for, a manager and MDSs (more than one: standby), from Debian's packages, with a
# private configuration, cephx on, and no systemd. It can kill, stop, and
# start each daemon again.
#
# Its rules:
# - Everything lies below one work folder: configuration, keys, data, logs.
# - Every daemon listens on 127.0.0.1 only, or on one address of a network
#   namespace (tests/cluster/netns.py), for nodes in others.
# - A daemon is a child with a session of its own; it is known by pid and
#   start time, never found by name. Unless detached (`make ceph`), it dies
#   with the process that made it, however that ends.
#
# Why it is up in four seconds: the keys of all daemons are in the keyring the
# monitor is made with (no "auth add"); all monitor commands go through one
# client; pools are made when the OSDs are up, so that no PG is remapped and
# sits out a lease; the state of PGs is asked of the OSDs, which needs no
# manager.

import atexit
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
CLASS_DIRS = ("/usr/lib/x86_64-linux-gnu/rados-classes",
              "/usr/lib/aarch64-linux-gnu/rados-classes",
              "/usr/lib/rados-classes")
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lab"))
from phlab import LabError	# noqa: E402

PR_SET_PDEATHSIG = 1
POOL = "phstore"


def run_main(main):
    """End this test program with main's code; 75 if only the lab broke."""
    try:
        code = main()
    except LabError as e:
        print("not ok the lab broke: %s" % e)
        code = os.EX_TEMPFAIL
    sys.exit(code)


def missing():
    """What this machine lacks for a cluster; "" when nothing."""
    for tool in ("ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool"):
        if shutil.which(tool) is None:
            return "no %s here (scripts/setup ceph)" % tool
    try:
        import rados  # noqa: F401
    except ImportError:
        return "no python module rados here (scripts/setup ceph)"
    return ""


def build_dir():
    return os.path.abspath(os.environ.get("PHSTORE_BUILD",
                                          os.path.join(TOP, "build-ceph")))


def free_port(address="127.0.0.1"):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def start_time(pid):
    """Start time of a living process, None if it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def phstored_status(store, seconds=60.0):
    """The daemon's own words, as `phstore status` shows them."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(seconds)
        s.connect(os.path.join(store, "phstored.sock"))
        s.sendall(b"status\n")
        text = b""
        while True:
            part = s.recv(65536)
            if not part:
                return json.loads(text)
            text += part


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


def scratch(tag):
    """A work folder on a disk: in $TEST_TMP, or removed at exit."""
    parent = os.environ.get("TEST_TMP", "")
    path = tempfile.mkdtemp(prefix="ceph-%s-" % tag,
                            dir=parent or "/var/tmp")
    if not parent and "PHLAB_KEEP" not in os.environ:
        atexit.register(shutil.rmtree, path, True)
    return path


CONF = """# written by tests/ceph/cephlab.py; edits are lost at the next start
[global]
fsid = {fsid}
mon_host = v2:{address}:{port}/0
public_addr = {address}
cluster_addr = {address}
ms_bind_msgr1 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {dir}/keyring
run_dir = {sockets}
# not only for people: without one no daemon answers "tell" or "pg query"
admin_socket = {sockets}/$name.asok
log_file = {dir}/log/$name.log
log_to_stderr = false
err_to_stderr = true
mon_cluster_log_file = {dir}/log/cluster.log
osd_pool_default_size = {size}
osd_pool_default_min_size = {min_size}
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 2000
[client]
admin_socket =
log_file =
[mon]
mon_data = {dir}/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.05
paxos_min_wait = 0.02
mon_osd_min_down_reporters = 1
mon_osd_adjust_heartbeat_grace = false
mon_osd_down_out_interval = 0
[mgr]
mgr_data = {dir}/mgr
mgr_initial_modules =
mgr_stats_period = 1
mgr_tick_period = 1
[osd]
osd_data = {dir}/osd$id
osd_objectstore = bluestore
osd_class_dir = {dir}/classes
osd_class_load_list = *
osd_class_default_list = *
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
bluestore_block_size = {block_size}
bluestore_block_create = true
bluestore_block_db_create = false
bluestore_block_wal_create = false
bluestore_fsck_on_mount = false
bluestore_fsck_on_mkfs = false
osd_heartbeat_interval = 1
osd_heartbeat_grace = 6
osd_fast_shutdown = true
osd_crush_update_on_start = false
osd_mon_report_interval = 1
osd_scrub_begin_hour = 0
[mds]
mds_data = {dir}/mds
mds_cache_memory_limit = 134217728
"""

# A standby takes over when it is told to (fail_mds), not because a busy machine
# was silent; and clients have less time to come back than in earnest, 45 s
STANDBY = """
[global]
mds_beacon_interval = 1
mds_beacon_grace = 120
mds_tick_interval = 1
mds_reconnect_timeout = 5
"""


class CephLab:
    """One private cluster. Use it as a context manager."""

    def __init__(self, folder=None, osds=3, size=3, min_size=2, mds=False,
                 mgr=False, with_class=True, detached=False,
                 block_size=2 << 30, address="127.0.0.1"):
        self.dir = os.path.abspath(folder or scratch("lab"))
        self.osds = osds
        self.size = size
        self.min_size = min_size
        self.mds = mds
        self.mds_names = ["mds." + c for c in "abc"[:int(mds)]]
        self.mgr = mgr
        self.with_class = with_class
        self.detached = detached
        self.block_size = block_size
        self.address = address
        self.conf = os.path.join(self.dir, "ceph.conf")
        self.sockets = self.dir
        self.procs = {}         # "osd.0": (pid, start time)
        self.children = {}      # "osd.0": Popen
        self._rados = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *args):
        self.stop()

    # daemons

    def spawn(self, name):
        kind, ident = name.split(".")
        argv = ["ceph-" + kind, "-f", "-c", self.conf, "-i", ident]
        detached = self.detached

        def child():
            if not detached:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL,
                                        0, 0, 0)

        with open(os.path.join(self.dir, "log", name + ".out"), "ab") as out:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=out, start_new_session=True,
                                 preexec_fn=child)
        self.children[name] = p
        self.procs[name] = (p.pid, start_time(p.pid))

    def alive(self, name):
        p = self.children.get(name)
        if p is not None and p.poll() is not None:
            return False
        pid, start = self.procs.get(name, (0, None))
        return pid != 0 and start is not None and start_time(pid) == start

    def send(self, name, sig):
        if self.alive(name):
            try:
                os.kill(self.procs[name][0], sig)
            except ProcessLookupError:
                pass

    def end(self, name, sig=signal.SIGTERM, patience=10.0):
        """Signal a daemon and wait until it is gone."""
        if name not in self.procs:
            return
        self.send(name, signal.SIGCONT)
        self.send(name, sig)
        limit = time.monotonic() + patience
        while self.alive(name):
            if time.monotonic() > limit:
                self.send(name, signal.SIGKILL)
                limit += 5
            time.sleep(0.005)
        p = self.children.pop(name, None)
        if p is not None:
            p.wait()
        del self.procs[name]

    def kill(self, name):
        self.end(name, signal.SIGKILL)

    # a cluster's life

    def tool(self, *argv):
        p = subprocess.run(argv, capture_output=True, text=True)
        if p.returncode != 0:
            raise LabError("%s: %s" % (" ".join(argv), p.stderr.strip()))

    def make_classes(self):
        """The OSDs' classes: those of the packages, and ours if asked."""
        folder = os.path.join(self.dir, "classes")
        os.makedirs(folder)
        for packaged in CLASS_DIRS:
            if os.path.isdir(packaged):
                for name in os.listdir(packaged):
                    os.symlink(os.path.join(packaged, name),
                               os.path.join(folder, name))
        own = os.path.join(build_dir(), "libcls_phstore.so")
        name = os.path.join(folder, "libcls_phstore.so")
        if os.path.lexists(name):
            os.unlink(name)     # an installed one: not what is tested
        if self.with_class:
            if not os.path.exists(own):
                raise LabError("no %s: run scripts/build --ceph" % own)
            os.symlink(own, name)

    def make_sockets(self):
        """Where the sockets are: their names must stay below 108 bytes."""
        if len(self.dir) < 90:
            return self.dir
        folder = tempfile.mkdtemp(prefix="phceph-", dir="/tmp")
        atexit.register(shutil.rmtree, folder, True)
        return folder

    def make_keys(self):
        ring = os.path.join(self.dir, "keyring")
        names = [("mon.", ["mon", "allow *"]),
                 ("client.admin", ["mon", "allow *", "osd", "allow *",
                                   "mds", "allow *", "mgr", "allow *"]),
                 ("client.phstore", ["mon",
                                     "allow r, "
                                     'allow command "osd blocklist"',
                                     "osd", "allow rwx pool=" + POOL])]
        names += [("osd.%d" % i, ["mon", "allow profile osd", "osd",
                                  "allow *", "mgr", "allow profile osd"])
                  for i in range(self.osds)]
        names += [(name, ["mon", "allow profile mds", "osd", "allow *",
                          "mds", "allow", "mgr", "allow profile mds"])
                  for name in self.mds_names]
        names += [("mgr.x", ["mon", "allow profile mgr", "osd", "allow *",
                             "mds", "allow *"])]
        with open(ring, "w"):
            pass
        os.chmod(ring, 0o600)
        for name, caps in names:
            argv = ["ceph-authtool", ring, "--gen-key", "-n", name]
            for i in range(0, len(caps), 2):
                argv += ["--cap", caps[i], caps[i + 1]]
            self.tool(*argv)

    def start(self):
        reason = missing()
        if reason:
            raise LabError(reason)
        if os.path.exists(self.conf):
            raise LabError("%s has a cluster already" % self.dir)
        for name in ("log", "mon", "mds", "mgr"):
            os.makedirs(os.path.join(self.dir, name))
        fsid, port = str(uuid.uuid4()), free_port(self.address)
        self.sockets = self.make_sockets()
        with open(self.conf, "w") as f:
            f.write(CONF.format(fsid=fsid, port=port, dir=self.dir,
                                address=self.address,
                                sockets=self.sockets,
                                size=self.size, min_size=self.min_size,
                                block_size=self.block_size))
            if len(self.mds_names) > 1:
                f.write(STANDBY)
        self.make_classes()
        self.make_keys()
        monmap = os.path.join(self.dir, "monmap")
        self.tool("monmaptool", "--create", "--clobber", "--fsid", fsid,
                  "--addv", "a", "[v2:%s:%d]" % (self.address, port),
                  "--set-min-mon-release", "pacific", monmap)
        self.tool("ceph-mon", "-c", self.conf, "-i", "a", "--mkfs",
                  "--monmap", monmap, "--keyring",
                  os.path.join(self.dir, "keyring"))
        self.spawn("mon.a")
        self.make_osds()
        self.wait_for("OSDs up", lambda: self.osds_up() >= self.osds)
        self.make_pool(POOL)
        if self.mds:
            self.make_pool("fsmeta")
            self.make_pool("fsdata")
            self.mon(prefix="fs new", fs_name="cephfs", metadata="fsmeta",
                     data="fsdata")
        self.wait_clean()
        if self.mds:
            self.wait_for("MDS active", self.mds_active)

    def make_osds(self):
        made = []
        ids = [(i, str(uuid.uuid4())) for i in range(self.osds)]
        for i, ident in ids:
            os.makedirs(os.path.join(self.dir, "osd%d" % i))
            with open(os.path.join(self.dir, "log", "mkfs.%d" % i),
                      "wb") as out:
                made.append(subprocess.Popen(
                    ["ceph-osd", "-c", self.conf, "-i", str(i), "--mkfs",
                     "--osd-uuid", ident, "--no-mon-config"],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out))
        if [p for p in made if p.wait() != 0]:
            raise LabError("ceph-osd --mkfs failed, see %s/log" % self.dir)
        for i, ident in ids:
            self.mon(prefix="osd new", uuid=ident, id=i)
            self.mon(prefix="osd crush add", id=i, weight=1.0,
                     args=["root=default", "host=lab"])
        for i, ident in ids:
            self.spawn("osd.%d" % i)
        if self.mgr:
            self.spawn("mgr.x")
        for name in self.mds_names:
            self.spawn(name)

    def make_pool(self, name):
        self.mon(prefix="osd pool create", pool=name)
        self.mon(prefix="osd pool application enable", pool=name,
                 app=POOL if name == POOL else "cephfs")

    def stop(self):
        self.disconnect()
        for name in sorted(self.procs):
            # what it has synced counts; and the MDS ignores SIGTERM for 5 s
            self.send(name, signal.SIGCONT)
            self.send(name, signal.SIGKILL if name[:3] == "mds"
                        else signal.SIGTERM)
        for name in sorted(self.procs):
            self.end(name)

    # as a client

    def rados(self):
        if self._rados is None:
            import rados
            r = rados.Rados(conffile=self.conf, rados_id="admin")
            r.connect(timeout=30)
            self._rados = r
        return self._rados

    def disconnect(self):
        if self._rados is not None and self.alive("mon.a"):
            self._rados.shutdown()
        self._rados = None

    def mon(self, **command):
        command["format"] = "json"
        ret, out, err = self.rados().mon_command(json.dumps(command), b"",
                                                 timeout=60)
        if ret != 0:
            raise LabError("%s: %d %s" % (command["prefix"], ret, err))
        text = out.decode().strip()
        # some commands add a remark for people
        return json.JSONDecoder().raw_decode(text)[0] if text else None

    def osds_up(self):
        return self.mon(prefix="osd stat")["num_up_osds"]

    def mds_active(self, rank=0):
        """The name of the active MDS of that rank, if there is one."""
        for f in self.mon(prefix="fs dump")["filesystems"]:
            for i in f["mdsmap"]["info"].values():
                if i["state"] == "up:active" and i["rank"] == rank:
                    return "mds." + i["name"]
        return None

    def fail_mds(self, name):
        """SIGKILL, and the monitor need not find that out."""
        self.kill(name)
        self.mon(prefix="mds fail", role_or_gid=name.split(".")[1])

    def wait_for(self, what, check, seconds=240.0):
        limit = time.monotonic() + seconds
        while not check():
            for name in list(self.procs):
                if not self.alive(name):
                    raise LabError("%s ended by itself, see %s/log"
                                   % (name, self.dir))
            if time.monotonic() > limit:
                raise LabError("waited %d s for: %s" % (seconds, what))
            time.sleep(0.05)

    def unclean(self):
        """PGs that are not active+clean, as their primaries say."""
        dump = self.mon(prefix="osd dump")
        left = []
        for pool in dump["pools"]:
            for i in range(pool["pg_num"]):
                pg = "%d.%x" % (pool["pool"], i)
                if self.pg_state(pg) != "active+clean":
                    left.append(pg)
        return left

    def pg_state(self, pg):
        """
        As its primary says. A query to an OSD that dies may never be
        answered, and the call has no time limit: so in a thread, and if it
        does not come back, it and its connection are left alone for good.
        """
        answer = []
        client = self.rados()
        query = json.dumps({"prefix": "query", "pgid": pg, "format": "json"})

        def ask():
            try:
                ret, out, err = client.pg_command(pg, query, b"")
                answer.append(json.loads(out)["state"] if ret == 0 else "?")
            except Exception:
                answer.append("?")

        t = threading.Thread(target=ask, daemon=True)
        t.start()
        t.join(5)
        if not answer:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
            self._rados = None
            return "?"
        return answer[0]

    def wait_clean(self, seconds=240.0):
        self.wait_for("PGs active+clean", lambda: not self.unclean(),
                      seconds)

    def path(self, **options):
        """The store's name for phstore_open()."""
        options.setdefault("conf", self.conf)
        options.setdefault("id", "phstore")
        namespace = options.pop("namespace", "default")
        return "rados:%s/%s?%s" % (POOL, namespace, "&".join(
            "%s=%s" % item for item in options.items()))

    # `make ceph`

    def record(self):
        return {"dir": self.dir, "conf": self.conf, "boot": boot_id(),
                "procs": self.procs}

    @classmethod
    def from_record(cls, record):
        lab = cls(record["dir"], detached=True)
        if record["boot"] == boot_id():
            lab.procs = {name: tuple(p)
                         for name, p in record["procs"].items()}
        return lab


def main():
    """up FOLDER: leave a cluster running; down FOLDER: end it."""
    what, folder = sys.argv[1], os.path.abspath(sys.argv[2])
    note = os.path.join(folder, "ceph.json")
    if os.path.exists(note):
        with open(note) as f:
            lab = CephLab.from_record(json.load(f))
        running = [n for n in lab.procs if lab.alive(n)]
    else:
        lab, running = None, []
    if what == "down":
        if lab is None:
            print("Nothing to stop: no %s." % note)
            return 0
        lab.stop()
        shutil.rmtree(folder)
        print("Stopped %s." % (" ".join(sorted(running)) or "nothing"))
        return 0
    if running:
        print("It is running already.")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        reason = missing()
        if reason:
            print(reason)
            return 1
        began = time.monotonic()
        lab = CephLab(folder, detached=True,
                      mds="--mds" in sys.argv[3:],
                      mgr="--mgr" in sys.argv[3:],
                      with_class=os.path.exists(
                          os.path.join(build_dir(), "libcls_phstore.so")))
        try:
            lab.start()
        except BaseException:
            lab.stop()
            raise
        with open(note + ".new", "w") as f:
            json.dump(lab.record(), f, indent=1)
        os.replace(note + ".new", note)
        print("A Ceph cluster is running (%.1f s)."
              % (time.monotonic() - began))
    print("  configuration  %s" % lab.conf)
    print("  daemons        %s" % " ".join(sorted(lab.procs)))
    print("  store          '%s'" % lab.path())
    print("  try            %s --store '%s' status"
          % (os.path.join(build_dir(), "phstore"), lab.path()))
    print("  stop           make ceph-stop")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as e:
        print("error: %s" % e)
        sys.exit(1)

# Network namespaces of the cluster lab
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: one namespace for each node, and a hub with a bridge between
# them, where the clients are. Nothing of the machine's own network is
# touched or reachable.
#
# Its rules: names begin with "phc-TAG-", where TAG is the pid of the process
# that made them, or "run" for a cluster that is to stay. A process belongs to
# a node when its network namespace is that node's: that is how processes are
# found, never by name. What a killed lab left behind is removed by the next
# one (clean_left).

import ctypes
import os
import re
import signal
import subprocess
import time

import phlab

RUN = "/run/netns"
BRIDGE = "02:50:48:00:00:fe"
CLONE_NEWNET = 0x40000000


def ip(*args, ns=None, check=True):
    argv = ["ip"] + (["-n", ns] if ns else []) + list(args)
    r = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and r.returncode != 0:
        raise phlab.LabError("%s: %s" % (" ".join(argv), r.stderr.strip()))
    return r.stdout


def usable():
    """None, or why there can be no namespaces here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for name in ("ip", "nsenter"):
        if subprocess.run(["sh", "-c", "command -v " + name],
                          stdout=subprocess.DEVNULL,
                          check=False).returncode != 0:
            return "no program %s (packages iproute2, util-linux)" % name
    name = "phc-%d-try" % os.getpid()
    r = subprocess.run(["ip", "netns", "add", name], capture_output=True,
                       text=True, check=False)
    if r.returncode != 0:
        return "no network namespaces here: " + r.stderr.strip()
    r = subprocess.run(["ip", "-n", name, "link", "add", "br0", "type",
                        "bridge"], capture_output=True, text=True,
                       check=False)
    ip("netns", "del", name, check=False)
    if r.returncode != 0:
        return "no bridges here: " + r.stderr.strip()
    return None


def _inode(path):
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def pids(name):
    """Processes whose network namespace this is."""
    want = _inode(os.path.join(RUN, name))
    if want is None:
        return []
    return sorted(int(p) for p in os.listdir("/proc") if p.isdigit() and
                  _inode("/proc/%s/ns/net" % p) == want)


def kill_all(name, deadline=10.0):
    """SIGKILL all of a namespace, none of which gets to act on it."""
    end = time.monotonic() + deadline
    stopped, own = set(), os.getpid()
    while True:
        fresh = [p for p in pids(name) if p not in stopped and p != own]
        if not fresh:
            break
        for pid in fresh:
            phlab.signal_pid(pid, signal.SIGSTOP)
            stopped.add(pid)
    for pid in stopped:
        phlab.signal_pid(pid, signal.SIGKILL)
    left = set(stopped)
    while left:
        if time.monotonic() > end:
            raise phlab.LabError("processes of %s do not die: %s" %
                                 (name, sorted(left)))
        for pid in sorted(left):
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
            if phlab.proc_stat(pid, zombies=True) is None:
                left.discard(pid)
        time.sleep(0.002)
    return stopped


def remove(name):
    kill_all(name)
    ip("netns", "del", name, check=False)


def names():
    try:
        return sorted(os.listdir(RUN))
    except FileNotFoundError:
        return []


def clean_left():
    """Remove what labs left that are no more."""
    for name in names():
        m = re.match(r"phc-(\d+)-", name)
        if m and not os.path.exists("/proc/" + m.group(1)):
            remove(name)


class Net:
    """The hub and its nodes."""

    def __init__(self, tag, count):
        self.prefix = "phc-%s-" % tag
        self.count = count
        self.hub = self.prefix + "hub"

    def node(self, i):
        return self.prefix + "n%d" % i

    def up(self):
        clean_left()
        self.down()
        ip("netns", "add", self.hub)
        ip("link", "set", "lo", "up", ns=self.hub)
        # Its own address: a bridge without one takes that of a port, and
        # another's when that port is cut; the nodes' ARP tables would then
        # lead nowhere for half a minute.
        ip("link", "add", "br0", "address", BRIDGE, "type", "bridge",
           ns=self.hub)
        for net in (0, 1):
            ip("addr", "add", "10.77.%d.254/24" % net, "dev", "br0",
               ns=self.hub)
        ip("link", "set", "br0", "up", ns=self.hub)
        for i in range(self.count):
            node = self.node(i)
            ip("netns", "add", node)
            ip("link", "set", "lo", "up", ns=node)
            ip("link", "add", "h%d" % i, "type", "veth", "peer", "name",
               "eth0", "netns", node, ns=self.hub)
            ip("link", "set", "h%d" % i, "master", "br0", "up", ns=self.hub)
            ip("addr", "add", "%s/24" % self.address(i), "dev", "eth0",
               ns=node)
            ip("link", "set", "eth0", "up", ns=node)

    def down(self):
        for name in names():
            if name.startswith(self.prefix):
                remove(name)

    @staticmethod
    def address(i):
        """A node's own address."""
        return "10.77.0.%d" % (i + 1)

    @staticmethod
    def public(k):
        """One of the addresses ctdb moves."""
        return "10.77.1.%d" % (k + 1)

    def partition(self, i):
        """Packets are lost without a word, as behind a dead switch."""
        ip("link", "set", "h%d" % i, "nomaster", ns=self.hub)

    def heal(self, i):
        ip("link", "set", "h%d" % i, "master", "br0", ns=self.hub)

    def enter_hub(self):
        """This process, and what it starts, becomes a client's machine."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(os.path.join(RUN, self.hub), "rb") as f:
            if libc.setns(f.fileno(), CLONE_NEWNET) != 0:
                raise phlab.LabError("setns: " +
                                     os.strerror(ctypes.get_errno()))

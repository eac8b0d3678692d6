# A database of smbd by hand, on a node of the cluster lab
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Db(node) runs Samba's bin/phdb (tests/torture/samba/phdb.c) on that node:
# put, del, get, ... as smbd would do them to locking.tdb, without SMB.

import os
import select
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import netns
from clusterlab import phlab

PHDB = os.path.join(phlab.samba_dir(), "bin/phdb")


def need_phdb():
    if not os.path.exists(PHDB):
        raise phlab.Skip("phdb was not built in %s" % phlab.samba_dir())


class Gone(Exception):
    """The program ended, or says nothing any more."""


class Db:
    def __init__(self, node, timeout=60.0):
        self.node = node
        self.timeout = timeout
        self.log = open(os.path.join(node.dir, "log.phdb"), "ab")
        self.proc = subprocess.Popen(
            ["nsenter", "--net=" + os.path.join(netns.RUN, node.ns), PHDB],
            env=dict(node.env(), SMB_CONF_PATH=node.conf),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.rest = b""
        self.expect("ready")

    def send(self, command):
        try:
            self.proc.stdin.write(command.encode() + b"\n")
            self.proc.stdin.flush()
        except BrokenPipeError:
            raise Gone(command) from None

    def line(self, timeout=None):
        end = time.monotonic() + (timeout or self.timeout)
        fd = self.proc.stdout.fileno()
        while b"\n" not in self.rest:
            left = end - time.monotonic()
            ready = select.select([fd], [], [], max(left, 0))[0]
            if not ready:
                raise Gone("node %d says nothing; the end of its ctdbd's log:"
                           "\n%s" % (self.node.pnn,
                                     self.node.tail("stdout.ctdbd", 40)))
            data = os.read(fd, 65536)
            if not data:
                raise Gone("phdb of node %d ended" % self.node.pnn)
            self.rest += data
        text, self.rest = self.rest.split(b"\n", 1)
        return text.decode()

    def expect(self, want):
        got = self.line()
        phlab.check(got == want, "node %d: %r, not %r" % (
            self.node.pnn, got, want))

    def __call__(self, command, timeout=None):
        self.send(command)
        return self.line(timeout)

    def ok(self, command):
        got = self(command)
        phlab.check(got.split()[0] == "ok", "node %d: %s: %s" % (
            self.node.pnn, command, got))
        return got

    def get(self, key):
        """The value, None if there is none."""
        got = self("get " + key)
        phlab.check(got == "none" or got.startswith("value "),
                    "node %d: get %s: %s" % (self.node.pnn, key, got))
        return None if got == "none" else got.split()[1]

    def lock(self, key):
        """(value, persistent) under the record's lock, None if none."""
        got = self("lock " + key)
        phlab.check(got == "none" or got.startswith("value "),
                    "node %d: lock %s: %s" % (self.node.pnn, key, got))
        if got == "none":
            return None
        return got.split()[1], got.split()[2] == "p"

    def all(self, command="list"):
        """{key: value} of list or store."""
        self.send(command)
        found = {}
        while True:
            got = self.line()
            if not got.startswith("record "):
                break
            _, key, value = got.split()
            found[key] = value
        phlab.check(got == "ok %d" % len(found), "%s: %s" % (command, got))
        return found

    def end(self):
        self.proc.stdin.close()
        self.proc.wait(30)

    def kill(self):
        self.proc.kill()
        self.proc.wait()

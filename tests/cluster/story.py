# The failover story: what a client sees when nodes die
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: the chapters of `make cluster-demo`, which are also the test
# test_failover. Ann works on one node with a persistent handle, a lock and a
# lease; nodes die, are cut off, are stopped; Bob tries to get at her file.
#
# Clients do as real ones: they follow an address of the cluster (public,
# moved by ctdb) and try again until somebody answers there.

import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import clusterlab		# noqa: E402
from clusterlab import phlab	# noqa: E402
import smb2			# noqa: E402

SHARE = "ca_rwh"


class Address:
    """A public address, as a server for phlab.Client."""

    def __init__(self, cluster, k):
        self.cluster = cluster
        self.k = k
        self.host = cluster.net.public(k)
        self.port = clusterlab.PORT
        self.user = phlab.USER
        self.password = phlab.PASSWORD


class Step:
    """Prints a story; expect() ends it."""

    def __init__(self, tap=False):
        self.tap = tap
        self.number = 0
        self.began = time.monotonic()
        self.title = ""

    def chapter(self, title):
        self.passed()
        self.number += 1
        self.title = title
        if not self.tap:
            print("\n%d. %s" % (self.number, title), flush=True)

    def passed(self):
        if self.tap and self.title:
            print("ok %d - %s" % (self.number, self.title), flush=True)
        self.title = ""

    def say(self, text, seconds=None):
        print(("# " if self.tap else "   ") + text +
              ("" if seconds is None else "  [%.1f ms]" % (seconds * 1000)),
              flush=True)

    def expect(self, ok, text):
        if not ok:
            raise phlab.Failed("%s: %s" % (self.title, text))


# what asks for a file whose only user is away, or back
REFUSALS = {"FILE_NOT_AVAILABLE", "SHARING_VIOLATION"}


class Asker:
    """Bob, who asks for a file again and again, and what he is answered."""

    def __init__(self, node, name):
        self.client = phlab.Client(node, SHARE, "Bob").connect()
        self.name = name
        self.answers = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask, daemon=True)

    def ask(self):
        tree = self.client.tree
        while not self.over.is_set() or not self.answers:
            try:
                self.answers.append(tree.status_of(tree.create, self.name))
            except (smb2.Gone, smb2.Late) as e:
                self.answers.append(str(e))
                return
            time.sleep(0.02)

    def start(self):
        self.client.conn.timeout = 60.0
        self.thread.start()

    def stop(self):
        self.over.set()
        self.thread.join(90.0)
        self.client.drop()
        return self.answers


def timed(fn, *args, **kwargs):
    began = time.monotonic()
    result = fn(*args, **kwargs)
    return result, time.monotonic() - began


def return_of(client, handles, timeout=60.0):
    """
    Connect again and ask for the handles, until it is done or the time is
    over: what an SMB client does by itself. The answers on the way.
    """
    end = time.monotonic() + timeout
    seen = []
    patience = 2.0
    while True:
        try:
            client.connect(timeout=patience, reach=1.0)
            return [client.tree.reconnect(op) for op in handles], seen
        except (smb2.Gone, smb2.Late) as e:
            last = str(e)
            if isinstance(e, smb2.Late):	# a slow machine
                patience = min(2 * patience, 15.0)
        except smb2.SmbError as e:
            last = e.name
            # a server that has what it needs does not say these
            if last in ("OBJECT_NAME_NOT_FOUND", "ACCESS_DENIED"):
                raise
        if not seen or seen[-1] != last:
            seen.append(last)
        if time.monotonic() > end:
            raise phlab.Failed("not back after %d s: %s" % (timeout, seen))
        time.sleep(0.02)


class Story:
    def __init__(self, step, cluster):
        self.step = step
        self.c = cluster
        self.ann = None
        self.op = None
        self.lease = 0
        self.figures = {}

    # ---- chapters

    def cluster_is_up(self):
        s, c = self.step, self.c
        s.chapter("A cluster of %d nodes" % c.count)
        _, seconds = timed(c.up)
        s.say("ctdb is healthy on all nodes after %.1f s, smbd listens after "
              "%.1f s." % (c.ctdb_seconds, seconds))
        self.wait_addresses()
        s.say("Addresses: %s." % ", ".join(
            "%s on node %s" % (c.net.public(k), c.holder(k))
            for k in range(c.publics)))
        s.say("Records are kept by %s." % (
            "phstore" if c.backend != "none" else
            "Samba itself (%s)" % (c.durability or "full_outage")))

    def ann_works(self):
        s, c = self.step, self.c
        s.chapter("Ann opens a file")
        self.address = Address(c, 0)
        self.ann = phlab.Client(self.address, SHARE, "Ann").connect()
        s.expect(self.ann.tree.continuously_available,
                 "the share is not continuously available")
        tree = self.ann.tree
        self.op, seconds = timed(
            tree.create, "report.txt",
            lease=smb2.LEASE_R | smb2.LEASE_W | smb2.LEASE_H)
        s.expect(self.op.persistent, "the handle is not persistent")
        self.lease = self.op.lease_state
        s.expect(self.lease & smb2.LEASE_W or c.backend != "ctdb",
                 "a lease without W")
        s.say("Through %s on node %d: a persistent handle, lease %s," % (
            self.address.host, c.holder(0),
            smb2.lease_name(self.op.lease_state)), seconds)
        _, seconds = timed(tree.lock, self.op, 0, 16)
        tree.write(self.op, 0, b"before the death")
        s.say("a lock on the first 16 bytes.", seconds)

    def node_dies(self, how, name, draft):
        """
        Kill or cut off the node Ann is on; she follows her address. Bob asks
        for the file nobody shall have beside her, draft, all the while.
        """
        s, c = self.step, self.c
        s.chapter(name)
        victim = c.holder(0)
        told = self.witness(c[(victim + 1) % c.count])
        who = "the leader" if victim == c.leader() else "not the leader"
        alive = [i for i in range(c.count) if i != victim]
        other = self.ann.tree.create(draft, share=smb2.SHARE_NONE)
        self.note_breaks()
        s.say("Ann has a second handle, on %s." % draft)
        bob = Asker(c[alive[0]], draft)
        began = time.monotonic()
        how(c[victim])
        bob.start()
        s.say("Node %d, %s, is gone." % (victim, who))
        try:
            back, seen = return_of(self.ann, [self.op, other], timeout=90.0)
            self.ann.tree.write(back[0], 16, b"and after")
            seconds = time.monotonic() - began
        finally:
            answers = bob.stop()
        recovery = self.recovery_seconds(alive[0])
        self.figures[name] = seconds
        self.is_back(back[0])
        s.say("Ann followed %s to node %s, has her handles back (lease %s) "
              "and wrote, %.2f s after it (the recovery itself took %.2f s)." %
              (self.address.host, c.holder(0, alive[0]),
               smb2.lease_name(self.op.lease_state), seconds, recovery))
        if told:
            lines = told(began)
            s.say("A witness had told her %.2f s after it: %s." % (
                float(lines[0].split()[0]) - began,
                ", then ".join(line.split(" ", 1)[1] for line in lines)))
        s.expect(answers and set(answers) <= REFUSALS,
                 "Bob, asking for %s meanwhile, was answered %s" %
                 (draft, answers))
        s.say("Bob asked for %s %d times meanwhile: NT_STATUS_%s." % (
            draft, len(answers), ", ".join(sorted(set(answers)))))
        self.ann.tree.close(back[1])
        self.closed = back[1]
        s.say("She closed %s there." % draft)
        return victim, alive

    def witness(self, node):
        """
        Have Ann's address watched by another node's witness service. What it
        told so far, as a function; None where there is no such service.
        """
        if not self.c.witness:
            self.step.say("There is no witness service here.")
            return None
        path = os.path.join(self.c.dir, "witness.%d" % self.step.number)
        with open(path, "wb") as out:
            proc = subprocess.Popen(
                [sys.executable, os.path.join(HERE, "witness.py"), node.host,
                 phlab.USER, phlab.PASSWORD, "PHCLUSTER", self.address.host,
                 "120"], stdout=out, stderr=subprocess.STDOUT)
        try:
            clusterlab.wait_for(
                lambda: "registered" in clusterlab.read("", path), 60.0,
                lambda: "no witness: " + clusterlab.read("", path))
        except phlab.LabError:
            proc.kill()
            proc.wait()
            raise
        self.step.say("Node %d's witness service watches %s for her." %
                      (node.pnn, self.address.host))

        def words():
            return [line for line in clusterlab.read("", path).splitlines()
                    if line.split()[1:] == [self.address.host, "unavailable"]]

        def told(began):
            try:
                clusterlab.wait_for(words, 30.0, lambda: "no word")
            except phlab.LabError:
                pass
            proc.kill()
            proc.wait()
            text = clusterlab.read("", path)
            lines = words()
            self.step.expect(lines, "no witness told Ann of it, but: " +
                             " ".join(text.split()))
            return lines
        return told

    def bob_is_refused(self, node, ann_away):
        s = self.step
        bob = phlab.Client(node, SHARE, "Bob").connect()
        if ann_away:
            status = bob.tree.status_of(bob.tree.create, "report.txt")
            s.expect(status == "FILE_NOT_AVAILABLE",
                     "Bob's open was answered " + status)
            s.say("Bob opens report.txt on node %d: NT_STATUS_%s." %
                  (node.pnn, status))
            return
        wanted = bob.tree.create_send("report.txt")
        end = time.monotonic() + 10
        while not wanted.done and time.monotonic() < end:
            self.ann.conn.drain(0.02)
            try:
                bob.conn._pump(time.monotonic() + 0.02)
            except smb2.Late:
                pass
        theirs = bob.tree.create_recv(wanted)
        status = bob.tree.status_of(bob.tree.lock, theirs, 8, 4)
        s.expect(status == "LOCK_NOT_GRANTED",
                 "Bob locking the locked range was answered " + status)
        s.say("Bob locks her bytes through node %d: NT_STATUS_%s." %
              (node.pnn, status))
        bob.tree.close(theirs)

    def node_returns(self, victim, alive, start):
        s, c = self.step, self.c
        s.chapter("The node comes back")
        began = time.monotonic()
        start()
        # the others say when it is one of them: cut off, it sees nothing
        # but itself, and finds that healthy
        clusterlab.wait_for(
            lambda: victim in [c.holder(k, alive[0])
                               for k in range(c.publics)],
            90.0, lambda: "ctdb gives no address to node %d" % victim)
        c.wait_ok()
        s.say("Node %d is healthy and serves." % victim,
              time.monotonic() - began)
        self.ann_follows(alive[0])
        cat = phlab.Client(c[victim], SHARE, "Cat").connect()
        status = cat.tree.status_of(cat.tree.reconnect, self.closed)
        s.expect(status == "OBJECT_NAME_NOT_FOUND",
                 "the closed handle came back there: " + status)
        op = cat.tree.create(self.closed.name, share=smb2.SHARE_NONE)
        cat.tree.close(op)
        s.say("%s is free there: it brought no zombie." % self.closed.name)
        self.bob_is_refused(c[victim], ann_away=False)
        data = self.ann.tree.read(self.op, 0, 25)
        s.expect(data == b"before the deathand after", "Ann reads %r" % data)
        s.say("Ann still works.")

    def ann_follows(self, ask):
        """ctdb may have given her address to the node that came back."""
        try:
            conn = self.ann.conn
            conn.wait(conn.echo_send(), timeout=5.0)
        except (smb2.Gone, smb2.Late):
            self.note_breaks()
            back, seen = return_of(self.ann, [self.op])
            self.is_back(back[0])
            self.step.say("%s is on node %s now: Ann has her handle there." %
                          (self.address.host, self.c.holder(0, ask)))

    def all_stop(self, how, name):
        s, c = self.step, self.c
        s.chapter(name)
        _, seconds = timed(how)
        self.note_breaks()
        self.ann.drop()
        s.say("No node runs any more.", seconds)
        began = time.monotonic()
        c.start()
        self.wait_addresses()
        s.say("They are started again and healthy.",
              time.monotonic() - began)
        self.bob_is_refused(c[1], ann_away=True)
        back, seen = return_of(self.ann, [self.op])
        self.is_back(back[0])
        s.say("Ann has her handle again, lease %s." %
              smb2.lease_name(self.op.lease_state))
        self.bob_is_refused(c[1], ann_away=False)

    def the_end(self):
        s = self.step
        s.chapter("The end")
        self.ann.tree.close(self.op)
        status = self.ann.tree.status_of(self.ann.tree.reconnect, self.op)
        s.expect(status == "OBJECT_NAME_NOT_FOUND",
                 "the closed handle came back: " + status)
        s.say("Ann closes; asking for the handle again: NT_STATUS_%s." %
              status)
        s.expect(not self.c.panicked(), "panics: %s" %
                 self.c.panicked()[:3])
        s.passed()

    # ---- helpers

    def note_breaks(self):
        for key, _, new in self.ann.conn.breaks:
            if key == self.op.lease_key:
                self.lease &= new

    def is_back(self, op):
        """
        It is the handle she had, with its lease. A shared lease of a file
        with locks may be gone.
        """
        s = self.step
        s.expect(op.persistent_id == self.op.persistent_id,
                 "another handle came back")
        s.expect(op.lease_state == self.lease or
                 (not self.lease & smb2.LEASE_W and op.lease_state == 0),
                 "she had lease %d, and got %d" %
                 (self.lease, op.lease_state))
        self.lease = op.lease_state
        self.op = op

    def wait_addresses(self):
        c = self.c
        clusterlab.wait_for(
            lambda: all(c.holder(k) is not None for k in range(c.publics)),
            90.0, lambda: "ctdb assigned no addresses")

    def recovery_seconds(self, i):
        """How long the last recovery took, as ctdb has it."""
        for line in self.c[i].ctdb("uptime").stdout.splitlines():
            if line.startswith("Duration of last recovery"):
                return float(line.split()[-2])
        return 0.0


def tell(s):
    """All of it."""
    c = s.c
    s.cluster_is_up()
    s.ann_works()
    victim, alive = s.node_dies(lambda node: node.kill9(), "Her node dies",
                                "draft.txt")
    s.bob_is_refused(c[alive[0]], ann_away=False)
    s.node_returns(victim, alive, c[victim].start)
    victim, alive = s.node_dies(lambda node: node.cut(),
                                "Her node's link is cut", "draft2.txt")
    # nothing of it was killed: it comes back with the smbds it had
    s.node_returns(victim, alive, c[victim].mend)
    s.all_stop(c.stop, "All nodes are stopped as planned")
    s.all_stop(c.kill9, "All nodes lose power at once")
    s.the_end()

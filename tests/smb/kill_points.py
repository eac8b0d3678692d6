#!/usr/bin/env python3
# phstore: smbd dies at every point of an open, a lock, a close
#
# SPDX-License-Identifier: GPL-3.0-or-later
# test-timeout: 900
#
# The n-th step of the store kills the smbd that takes it (kill_points.c),
# for n = 1, 2, 3, ... until the request completes; once with the other
# smbds living on, once with all of them killed and started again, and once
# with all of them killed when the first one's death had been seen to.
#
# What is feared: what was acknowledged is gone; what was closed is back; a
# lock or share mode that belongs to nobody keeps others off the file. Or is in
# the store only, from a smbd that died between staging a change and making it
# visible, and would keep them off after the next restart. A LOCK or UNLOCK with
# a sequence number was carried out, the number is not known, and the client
# that sends it again is refused; or the number is, and it was not carried out.
# Half a CLOSE: the handle comes back, and its lock does not; or the store has
# its share mode entry and not the open. Half a CREATE: the
# store has a share mode entry and not its open, or a client is kept off a file,
# for a moment, by an open that never was. Half a reconnect, or half a break of a
# lease that two handles have: one record is as before, another is not.

import os
import signal
import sys
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lab"))

import phlab  # noqa: E402
import smb2  # noqa: E402
from phlab import check  # noqa: E402

MOST = 60
OPENS = "smbXsrv_open_global"
# at least: 3 for each frame, 2 for each lock or open in a volatile database
POINTS = {"open": 8, "lock": 5, "lock numbered": 7, "unlock numbered": 7,
          "unlock one numbered": 7, "durable lock numbered": 7,
          "lock given up": 5, "reconnect": 11, "raise": 8, "broken": 5,
          "written": 5, "lease let go": 7, "close": 13, "close leased": 13,
          "close unlocked": 8, "close shared": 8}
# a machine may stand still for some seconds
TIMEOUT_MSEC = 20000


def aim(gun, n, pid, sig=signal.SIGKILL):
    """At the n-th step from now, which may be one of an earlier request."""
    with open(gun + ".new", "w") as f:
        f.write("%-8d %d %d" % (n, pid, sig))
    # smbd is the client's user at some points
    os.chmod(gun + ".new", 0o666)
    os.rename(gun + ".new", gun)


class Run:
    # not in a cluster
    one_machine = True

    # when it was put right, all others die as well
    then_all = False

    def __init__(self, server, gun, all_die, share="ca"):
        self.server = server
        self.gun = gun
        self.all_die = all_die
        self.c = phlab.Client(server, share, name="owner").connect()
        self.other = phlab.Client(server, share="plain",
                                  name="other").connect()

    def parent(self):
        return self.server.proc.pid

    def fire(self, n, send, told=None):
        """
        Returns whether it was acknowledged, or told() is true, and whether
        smbd died of it.
        """
        self.c.conn.breaks.clear()
        # the scavenger changes the store as well, when it likes
        pid = self.server.pid_of(self.c.conn)
        # it must not begin to put things right before the store was looked at
        phlab.signal_pid(self.parent(), signal.SIGSTOP)
        aim(self.gun, n, pid)
        try:
            p = send()
            if told is not None:
                phlab.wait_until(told, "the client is not told")
                acked = True
            else:
                self.c.conn.wait(p, check=False)
                acked = p.status == smb2.OK
        except smb2.Gone:
            # it may have come with the end of the connection
            acked = told is not None and len(self.c.conn.breaks) > 0
        # the sync's last points may come after the answer
        end = time.monotonic() + 0.05
        while time.monotonic() < end and os.path.exists(self.gun):
            time.sleep(0.005)
        died = False
        try:
            os.unlink(self.gun)
        except FileNotFoundError:
            died = True
        check(acked or died, "refused though nobody died")
        if died:
            self.dumped = self.dump()
            self.left = self.stored(self.dumped)
        if died and self.all_die:
            self.server.kill9_all()
            self.server.start()
            self.other.connect_when_up()
        else:
            phlab.signal_pid(self.parent(), signal.SIGCONT)
        if died and not self.all_die:
            phlab.wait_gone(pid)
        if died:
            self.c.connect_when_up()
        if died and self.then_all:
            # the parent took the connection after it had put things right;
            # the scavenger may be about to remove a handle that was closed
            phlab.wait_until(self.is_whole, "point %d: put right, the store "
                             "has %s" % (n, self.stored()), seconds=5)
            self.server.kill9_all()
            self.server.start()
            self.other.connect_when_up()
            self.c.connect_when_up()
        return acked, died

    def open(self, name, lease_key=None):
        return self.c.tree.create(
            name, timeout_msec=TIMEOUT_MSEC, lease_key=lease_key,
            lease=None if lease_key is None else smb2.LEASE_R)

    def open_soon(self, name, share):
        """Another client gets the file before long."""
        end = time.monotonic() + 60
        while True:
            p = self.other.tree.create_send(name, share=share,
                                            persistent=False)
            op = self.other.tree.create_recv(p, check=False)
            if op is not None:
                return op
            check(time.monotonic() < end, "%s stays %s" % (
                name, smb2.status_name(p.status)))
            time.sleep(0.1)

    def free_soon(self, name):
        self.other.tree.close(self.open_soon(name, 0))

    def dump(self):
        return self.server.phstore_json("dump")["records"]

    def entries(self, name):
        """Lines about the file's share mode entries, whoever made them."""
        r = self.server.smbstatus("-L", "-f")
        check(r.returncode == 0, "smbstatus: %s" % r.stderr)
        return [s for s in r.stdout.splitlines() if name in s]

    def stored(self, dumped=None):
        """How many records each table has."""
        left = {"brlock": 0, "locking": 0, OPENS: 0}
        for r in dumped or self.dump():
            if r["table"] in left:
                left[r["table"]] += 1
        return left

    def is_whole(self):
        """Of one file: it has an entry, and its open has."""
        left = self.stored()
        return left["locking"] == left[OPENS]

    def leases(self):
        """What each open in the store had for a lease when smbd died."""
        return [int(r["record"]["lease"]["state"].split()[0], 16)
                for r in self.dumped if r["table"] == OPENS]

    def breaking(self):
        """To what a break asks its client to come down, of each."""
        return [r["record"]["lease"].get("breaking_to")
                for r in self.dumped if r["table"] == OPENS]

    def nothing_stored(self, name, n):
        """
        Everything is closed: the store must not know better. Asked while
        smbd is up, when it would find out sooner or later.
        """
        end = time.monotonic() + 60
        while True:
            left = self.stored()
            if not any(left.values()):
                return
            check(time.monotonic() < end,
                  "%s, point %d: left in the store: %s" % (name, n, left))
            time.sleep(0.05)

    def at_open(self, name, n):
        guid = uuid.uuid4().bytes
        sent = []

        def send():
            sent.append(self.c.tree.create_send(
                name, create_guid=guid, timeout_msec=TIMEOUT_MSEC))
            return sent[0]

        acked, died = self.fire(n, send)
        if died:
            check(self.left["locking"] == self.left[OPENS],
                  "%s, point %d: half a CREATE: %s" % (name, n, self.left))
            # half a CREATE is removed, nobody needs to ask for the file
            phlab.wait_until(
                lambda: self.stored()[OPENS] > 0 or not self.entries(name),
                "%s, point %d: an entry of nobody stays" % (name, n))
            if self.stored()[OPENS] == 0:
                self.other.tree.close(self.other.tree.create(
                    name, share=0, persistent=False))
        op = None
        if acked:
            op = self.c.tree.create_recv(sent[0])
            if died:
                op = self.c.tree.reconnect(op)
        else:
            p = self.c.tree.create_send(
                name, create_guid=guid, timeout_msec=TIMEOUT_MSEC,
                flags=smb2.FLAG_REPLAY)
            op = self.c.tree.create_recv(p, check=False)
        if op is not None:
            self.c.tree.close(op)
        elif self.one_machine:
            # there is no such open: nobody waits for it
            self.other.tree.close(self.other.tree.create(
                name, share=0, persistent=False))
        self.free_soon(name)
        self.nothing_stored(name, n)
        return died

    def at_numbered(self, name, n, unlock, ranges=1, others=True, **how):
        """
        Sent again with its sequence number ([MS-SMB2] 3.3.5.14): success,
        carried out once.
        """
        op = self.c.tree.create(name, timeout_msec=TIMEOUT_MSEC, **how)
        number = (1 << 4) | (n % 16)
        flags = smb2.LOCK_EXCLUSIVE | smb2.LOCK_NOWAIT
        if unlock:
            for i in range(ranges):
                self.c.tree.lock(op, 20 * i, 10)
            flags = smb2.LOCK_UNLOCK
        acked, died = self.fire(n, lambda: self.c.tree.lock_send(
            op, 0, 10, flags, sequence=number))
        where = "%s, point %d, acknowledged: %s" % (name, n, acked)
        if died:
            op = self.c.tree.reconnect(op, persistent=op.persistent)
        status = self.c.tree.status_of(self.c.tree.lock, op, 0, 10, flags,
                                       sequence=number)
        check(status == "OK", "%s: sent again: %s" % (where, status))
        if others:
            fd = self.other.tree.create(name, persistent=False)
            status = self.other.tree.status_of(self.other.tree.lock, fd, 5, 1)
            check((status == "OK") == unlock,
                  "%s: another asks for the range: %s" % (where, status))
            self.other.tree.close(fd)
        left = [0] if not unlock else [20 * i for i in range(1, ranges)]
        for offset in left:
            status = self.c.tree.status_of(self.c.tree.unlock, op, offset, 10)
            check(status == "OK", "%s: the lock at %d: %s" % (
                where, offset, status))
        status = self.c.tree.status_of(self.c.tree.unlock, op, 0, 10)
        check(status == "RANGE_NOT_LOCKED", "%s: locked twice: %s" % (
            where, status))
        self.c.tree.close(op)
        self.free_soon(name)
        return died

    def at_lock_numbered(self, name, n):
        return self.at_numbered(name, n, False)

    def at_unlock_numbered(self, name, n):
        """It was the file's last lock: the record of its locks goes."""
        return self.at_numbered(name, n, True)

    def at_unlock_one_numbered(self, name, n):
        return self.at_numbered(name, n, True, ranges=2)

    def at_durable_lock_numbered(self, name, n):
        """Not persistent; it is lost when somebody else opens the file."""
        return self.at_numbered(name, n, False, others=False,
                                persistent=False, durable=True,
                                lease=smb2.LEASE_R | smb2.LEASE_W |
                                smb2.LEASE_H)

    def at_lock_given_up(self, name, n):
        """The owner closes its handle; nobody else asks for a lock."""
        op = self.open(name)
        _, died = self.fire(n, lambda: self.c.tree.lock_send(op, 0, 10))
        if died:
            op = self.c.tree.reconnect(op)
        status = self.c.tree.status_of(self.c.tree.unlock, op, 0, 10)
        check(status in ("OK", "RANGE_NOT_LOCKED"), status)
        self.c.tree.close(op)
        self.nothing_stored(name, n)
        return died

    def at_lock(self, name, n):
        op = self.open(name)
        acked, died = self.fire(n, lambda: self.c.tree.lock_send(op, 0, 10))
        if died:
            op = self.c.tree.reconnect(op)
        fd = self.other.tree.create(name, persistent=False)
        status = self.other.tree.status_of(self.other.tree.lock, fd, 5, 1)
        if acked:
            check(status != "OK", "%s: an acknowledged lock is gone" % name)
            self.c.tree.unlock(op, 0, 10)
        elif status == "OK":
            self.other.tree.unlock(fd, 5, 1)
        else:
            # it is there: then it is the owner's to unlock
            self.c.tree.unlock(op, 0, 10)
        self.other.tree.lock(fd, 5, 1)
        self.other.tree.unlock(fd, 5, 1)
        self.other.tree.close(fd)
        self.c.tree.close(op)
        self.free_soon(name)
        return died

    def gone_from(self):
        """Her smbd has written down that she went."""
        return [r["record"].get("server") for r in self.dump()
                if r["table"] == OPENS] == ["disconnected"]

    def at_reconnect(self, name, n):
        """Who serves the handle changes; the handle is there all the time."""
        op = self.c.tree.create(name)
        self.c.tree.lock(op, 0, 10)
        self.c.drop()
        phlab.wait_until(self.gone_from, "the disconnect is not stored")
        self.c.connect()
        sent = []
        before = {(r["table"], r["version"]) for r in self.dump()}

        def send():
            sent.append(self.c.tree.reconnect_send(op))
            return sent[0]

        acked, died = self.fire(n, send)
        if died:
            check(set(self.left.values()) == {1}, "%s, point %d: of the "
                  "handle the store has %s" % (name, n, self.left))
            old = [r["table"] for r in self.dumped
                   if (r["table"], r["version"]) in before]
            check(len(old) in (0, 3), "%s, point %d: half a reconnect: only "
                  "%s as before" % (name, n, old))
            op = self.c.tree.reconnect(op)
        else:
            check(acked, "%s: refused" % name)
            op = self.c.tree.create_recv(sent[0])
        fd = self.other.tree.create(name, persistent=False)
        status = self.other.tree.status_of(self.other.tree.lock, fd, 5, 1)
        check(status == "LOCK_NOT_GRANTED",
              "%s, point %d: the lock does not hold: %s" % (name, n, status))
        self.other.tree.close(fd)
        self.c.tree.close(op)
        self.nothing_stored(name, n)
        return died

    def at_raise(self, name, n):
        """
        A third CREATE raises the lease that two handles have as well: they
        have what their client was told, or what the third was to be told. What
        it is told with one of them, when only that smbd has died, it finds with
        the other when all have.
        """
        key = uuid.uuid4().bytes
        guid = uuid.uuid4().bytes
        low = smb2.LEASE_R | smb2.LEASE_H
        high = low | smb2.LEASE_W
        two = [self.c.tree.create(name, lease=low, lease_key=key)
               for _ in (1, 2)]
        check(two[0].lease_state == low, "%s: lease %s" % (
            name, two[0].lease_state))
        sent = []

        def send():
            sent.append(self.c.tree.create_send(
                name, lease=high, lease_key=key, create_guid=guid))
            return sent[0]

        acked, died = self.fire(n, send)
        third = None
        if acked:
            third = self.c.tree.create_recv(sent[0])
            check(third.lease_state == high, "%s: not raised" % name)
        if died:
            check(self.leases() in ([low] * 2, [high] * 3), "%s, point %d: "
                  "half a CREATE: leases %s" % (name, n, self.leases()))
            want = (high,) if acked else (low, high)
            # the lease is one: its client knows it from the third's answer
            claim = None
            if acked:
                claim = (high, third.lease_epoch)
            two[0] = self.c.tree.reconnect(two[0], claim=claim)
            told = two[0].lease_state
            check(told in want, "%s, point %d: lease %s" % (name, n, told))
            claim = (told, two[0].lease_epoch)
            if self.one_machine and not self.all_die:
                self.server.kill9_all()
                self.server.start()
                self.other.connect_when_up()
                self.c.connect_when_up()
            two[1] = self.c.tree.reconnect(two[1], claim=claim)
            if self.one_machine and not self.all_die:
                two[0] = self.c.tree.reconnect(two[0], claim=claim)
            check(two[0].lease_state == two[1].lease_state == told,
                  "%s, point %d: leases %s, %s, told %s" % (
                      name, n, two[0].lease_state, two[1].lease_state, told))
        if died and acked:
            third = self.c.tree.reconnect(third, claim=claim)
        elif died:
            p = self.c.tree.create_send(
                name, lease=high, lease_key=key, create_guid=guid,
                flags=smb2.FLAG_REPLAY)
            third = self.c.tree.create_recv(p, check=False)
        for op in two + [third]:
            if op is not None:
                self.c.tree.close(op)
        # an entry of the third that a reconnect took along
        self.free_soon(name)
        self.nothing_stored(name, n)
        return died

    def at_let_go(self, name, n):
        """
        A lease that two handles have was broken, its client lets go. Who
        wanted the file may get it meanwhile.
        """
        key = uuid.uuid4().bytes
        less = smb2.LEASE_R | smb2.LEASE_H
        all_of_it = less | smb2.LEASE_W
        ops = [self.c.tree.create(name, lease=all_of_it, lease_key=key)
               for _ in (1, 2)]
        check(ops[1].lease_state == all_of_it, "%s: lease %s" % (
            name, ops[1].lease_state))
        self.c.conn.ack_breaks = False
        p = self.other.tree.create_send(name, persistent=False)
        phlab.wait_until(lambda: self.heard(less), "no break")
        epoch = ops[1].lease_epoch + 1
        acked, died = self.fire(n, lambda: self.c.tree.lease_ack_send(
            key, less))
        if died:
            check(self.leases() in ([less] * 2, [all_of_it] * 2),
                  "%s, point %d: half a break: leases %s" % (
                      name, n, self.leases()))
            # not known to have let go: asked once more
            want = [less] if acked or self.all_die else [less, all_of_it]
            for i in (0, 1):
                ops[i] = self.c.tree.reconnect(ops[i], claim=(less, epoch))
                check(ops[i].lease_state in want, "%s, point %d: lease %s" % (
                    name, n, ops[i].lease_state))
                if ops[i].lease_state != less:
                    phlab.wait_until(lambda: self.heard(less), "no break")
                want = [less]
        if not (died and self.all_die):
            fd = self.other.tree.create_recv(p, check=False)
            if fd is not None:
                self.other.tree.close(fd)
        self.c.conn.ack_breaks = True
        for op in ops:
            self.c.tree.close(op)
        self.free_soon(name)
        self.nothing_stored(name, n)
        return died

    def at_broken(self, name, n):
        """
        Somebody wants the file, and its client is to give up a lease that two
        handles have. He is not answered; its client is asked once more, or when
        he asks once more.
        """
        key = uuid.uuid4().bytes
        less = smb2.LEASE_R | smb2.LEASE_H
        all_of_it = less | smb2.LEASE_W
        ops = [self.c.tree.create(name, lease=all_of_it, lease_key=key)
               for _ in (1, 2)]
        self.c.conn.ack_breaks = False
        asked = []

        def ask():
            asked[:] = [self.other.tree.create_send(name, persistent=False)]

        told, died = self.fire(n, ask, lambda: self.heard(less))
        if died:
            check(len(set(self.breaking())) == 1, "%s, point %d: half a "
                  "break: asked for %s" % (name, n, self.breaking()))
            self.c.conn.ack_breaks = False
            claim = (all_of_it, ops[1].lease_epoch + told)
            for i in (0, 1):
                ops[i] = self.c.tree.reconnect(ops[i], claim=claim)
                check(ops[i].lease_state == all_of_it, "%s, point %d: lease "
                      "%s" % (name, n, ops[i].lease_state))
            if self.all_die:
                ask()

        def told_again():
            self.other.conn.drain(0.02)
            if asked[0].done:
                ask()
            return self.heard(less)

        phlab.wait_until(told_again, "%s, point %d: no break" % (name, n))
        self.c.conn.ack_breaks = True
        self.c.conn.wait(self.c.tree.lease_ack_send(key, less))
        fd = self.other.tree.create_recv(asked[0])
        self.other.tree.close(fd)
        for op in ops:
            self.c.tree.close(op)
        self.free_soon(name)
        self.nothing_stored(name, n)
        return died

    def at_written(self, name, n):
        """
        Another writes to the file, for which nobody asks the client who has a
        lease: he is not answered before, and does not ask again. So what its
        client was told is stored.
        """
        key = uuid.uuid4().bytes
        both = smb2.LEASE_R | smb2.LEASE_H
        op = self.c.tree.create(name, lease=both, lease_key=key)
        fd = self.other.tree.create(name, persistent=False)
        self.c.conn.ack_breaks = False
        told, died = self.fire(
            n, lambda: self.other.tree.write_send(fd, 0, b"new"),
            lambda: self.heard(0))
        if died:
            check(not told or self.breaking() == ["0x0"], "%s, point %d: told "
                  "of a break that is not stored: %s" % (
                      name, n, self.breaking()))
            self.c.conn.ack_breaks = False
            op = self.c.tree.reconnect(op, claim=(both,
                                                  op.lease_epoch + told))
            check(not told or op.lease_state == both, "%s, point %d: lease %s"
                  % (name, n, op.lease_state))
        if told:
            phlab.wait_until(lambda: self.heard(0), "%s, point %d: no break" % (
                name, n))
            self.c.conn.ack_breaks = True
            self.c.conn.wait(self.c.tree.lease_ack_send(key, 0))
        self.c.tree.close(op)
        if not (died and self.all_die):
            self.other.tree.close(fd)
        self.free_soon(name)
        self.nothing_stored(name, n)
        return died

    def heard(self, lease):
        """Its client was told to come down to this."""
        self.c.conn.drain(0.02)
        return any(b[2] == lease for b in self.c.conn.breaks)

    def at_close_leased(self, name, n):
        return self.at_close(name, n, lease_key=uuid.uuid4().bytes)

    def at_close_unlocked(self, name, n):
        return self.at_close(name, n, locked=False)

    def at_close_shared(self, name, n):
        """Another client has the file open."""
        fd = self.other.tree.create(name, persistent=False)
        op = self.open(name)
        acked, died = self.fire(n, lambda: self.c.tree.close_send(op))
        if died:
            p = self.c.tree.reconnect_send(op)
            back = self.c.tree.create_recv(p, check=False)
            check(back is None or not acked,
                  "%s: an acknowledged close was undone" % name)
            if back is not None:
                self.c.tree.close(back)
            phlab.wait_until(
                lambda: not self.stored()[OPENS],
                "%s, point %d: its open stays" % (name, n), seconds=5)
        if not (died and self.all_die):
            self.other.tree.close(fd)
        self.free_soon(name)
        self.nothing_stored(name, n)
        return died

    def at_close(self, name, n, lease_key=None, locked=True):
        op = self.open(name, lease_key)
        if locked:
            self.c.tree.lock(op, 0, 10)
        acked, died = self.fire(n, lambda: self.c.tree.close_send(op))
        if died:
            here = {self.left[t] for t in self.left
                    if t != "brlock" or locked}
            check(len(here) == 1,
                  "%s, point %d: half a CLOSE: %s" % (name, n, self.left))
            p = self.c.tree.reconnect_send(op)
            back = self.c.tree.create_recv(p, check=False)
            check(back is None or not acked,
                  "%s: an acknowledged close was undone" % name)
            if back is not None:
                fd = self.other.tree.create(name, persistent=False)
                status = self.other.tree.status_of(self.other.tree.lock,
                                                   fd, 5, 1)
                check(status == "LOCK_NOT_GRANTED" or not locked,
                      "%s, point %d: the handle is back without its lock: "
                      "%s" % (name, n, status))
                self.other.tree.close(fd)
                self.c.tree.close(back)
            elif self.one_machine and not locked:
                # and others are not kept off the file, not for a moment
                self.other.tree.close(self.other.tree.create(
                    name, share=0, persistent=False))
            # whoever is told that the handle is gone finds its lock gone
            fd = self.open_soon(name, smb2.SHARE_READ | smb2.SHARE_WRITE |
                                smb2.SHARE_DELETE)
            status = self.other.tree.status_of(self.other.tree.lock,
                                               fd, 5, 1)
            check(status == "OK", "%s, point %d: a lock of nobody: %s" % (
                name, n, status))
            self.other.tree.close(fd)
        self.free_soon(name)
        self.nothing_stored(name, n)
        return died


def load(work):
    """The file to aim with, and what smbd has to be started with."""
    gun = os.path.join(work, "armed", "gun")
    os.mkdir(os.path.dirname(gun))
    os.chmod(os.path.dirname(gun), 0o777)
    try:
        bullet = phlab.preload_library(os.path.join(HERE, "kill_points.c"),
                                       work)
    except phlab.LabError as e:
        raise phlab.Skip("no C compiler: %s" % e) from e
    return gun, bullet


def every_point(what, fn, how):
    n = 1
    while fn("%s-%d" % (what, n), n):
        n += 1
        check(n < MOST, "%s never completes" % what)
    check(n > POINTS[what], "%s died at %d points only: the points are not "
          "there" % (what, n - 1))
    print("%s: %d points, %s" % (what, n - 1, how))


def main():
    phlab.need_local_backend(knobs=True)
    work = phlab.scratch("kill")
    gun, bullet = load(work)
    for how, where in (("one dies", "one"), ("all die", "all"),
                       ("one dies, then all", "then")):
        server = phlab.SmbServer(
            os.path.join(work, where),
            backend="local",
            env={"LD_PRELOAD": bullet, "KILL_POINTS_FILE": gun})
        os.makedirs(server.dir)
        server.start()
        run = Run(server, gun, how == "all die")
        run.then_all = how == "one dies, then all"
        every = [("open", run.at_open),
                 ("reconnect", run.at_reconnect),
                 ("close", run.at_close),
                 ("close unlocked", run.at_close_unlocked),
                 ("close shared", run.at_close_shared),
                 ("close leased", run.at_close_leased)]
        if run.then_all:
            # both clients would be gone
            every.remove(("close shared", run.at_close_shared))
        else:
            every += [("lock", run.at_lock),
                      ("lock numbered", run.at_lock_numbered),
                      ("unlock numbered", run.at_unlock_numbered),
                      ("unlock one numbered", run.at_unlock_one_numbered),
                      ("durable lock numbered", run.at_durable_lock_numbered),
                      ("lock given up", run.at_lock_given_up),
                      ("raise", run.at_raise),
                      ("broken", run.at_broken),
                      ("written", run.at_written),
                      ("lease let go", run.at_let_go)]
        for what, fn in every:
            every_point(what, fn, how)
        check(not server.panicked(), "smbd panicked: %s" %
              server.panicked())
        server.kill9_all()


if __name__ == "__main__":
    phlab.test_main(main)

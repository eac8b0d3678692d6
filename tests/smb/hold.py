#!/usr/bin/env python3
# phstore: replies wait for their barrier, and nothing else does
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The disk is made slow (the store's test build sleeps before each sync), so
# that a reply sent too early is seen by the clock. What is feared: a reply
# that overtakes its own barrier on one of smbd's side paths (a compound
# whose rest goes asynchronous, an error that repeats a parked answer), a
# reply after a failed barrier, a connection that stands still meanwhile, a
# smbd that trips over a parked reply when its connection goes away.

import os
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lab"))

import phlab  # noqa: E402
import smb2  # noqa: E402
from phlab import check  # noqa: E402

SLOW = 0.4
RELATED = 0x4
SAME = b"\xff" * 16


def split_compounds(conn):
    """Have the client understand answers that come in one message."""
    arrived = conn._arrived

    def one_by_one(message):
        while True:
            nxt = struct.unpack_from("<I", message, 20)[0]
            if nxt == 0:
                arrived(message)
                return
            part = message[:nxt]
            # its signature covers NextCommand, which the client refuses
            flags = struct.unpack_from("<I", part, 16)[0] & \
                ~smb2.FLAG_SIGNED
            arrived(part[:16] + struct.pack("<II", flags, 0) + part[24:])
            message = message[nxt:]

    conn._arrived = one_by_one


def send_compound(tree, parts):
    """parts: (command, body); all related. Returns their Pendings."""
    conn = tree.conn
    out = b""
    pendings = []
    for i, (command, body) in enumerate(parts):
        p = smb2.Pending(command, conn.next_message_id)
        conn.next_message_id += 1
        conn.credits -= 1
        flags = smb2.FLAG_SIGNED | (RELATED if i > 0 else 0)
        last = i == len(parts) - 1
        if not last:
            body += b"\0" * (-(64 + len(body)) % 8)
        message = struct.pack(
            "<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, 1, 0, command, 64, flags,
            0 if last else 64 + len(body), p.message_id, 0xFEFF,
            tree.tree_id, conn.session_id, b"\0" * 16) + body
        out += conn._sign(message)
        conn.pending[p.message_id] = p
        pendings.append(p)
    conn._send_raw(out)
    return pendings


def create_body(name, options=0x40):
    """[MS-SMB2] 2.2.13, asking for a persistent handle"""
    raw = name.encode("utf-16-le")
    contexts = smb2._contexts_pack([(b"DH2Q", struct.pack(
        "<IIQ16s", 0, 2, 0, os.urandom(16)))])
    padded = smb2._pad8(raw)
    at = 64 + 56
    return struct.pack(
        "<HBBIQQIIIIIHHII", 57, 0, 0, 2, 0, 0, 0x100183, 0x80, 3, 3,
        options, at, len(raw), at + len(padded), len(contexts)) + \
        padded + contexts


def beside_a_slow_one(c, plain, old, attempt):
    """An open that waits for the disk, and who waited beside it, or None."""
    waited = None
    create = c.tree.create_send("slow-%d" % attempt)
    others = [c.conn.echo_send(), c.tree.read_send(old, 0, 64),
              c.tree.write_send(old, 0, b"y"), c.tree.query_size_send(old),
              c.tree.create_send("unpromised-%d" % attempt,
                                 persistent=False)]
    for p in others:
        c.conn.wait(p)
        if p.seconds >= SLOW / 2 or create.done:
            waited = "a %s waited %.3f s for another request's barrier" % (
                smb2._names[p.command], p.seconds)
    began = time.monotonic()
    plain.tree.close(plain.tree.create("elsewhere", persistent=False))
    if time.monotonic() - began >= SLOW / 2 or create.done:
        waited = waited or "another client waited"
    return create, waited


def test_only_the_reply_waits(server):
    c = phlab.Client(server).connect()
    plain = phlab.Client(server, share="plain", name="other").connect()
    old = c.tree.create("readable", persistent=False)
    c.tree.write(old, 0, b"x" * 64)

    # a machine that stands still for a moment is no fault of smbd's; who
    # waits for a barrier does so each time
    for attempt in range(5):
        create, waited = beside_a_slow_one(c, plain, old, attempt)
        op = c.tree.create_recv(create)
        if not waited:
            break
        c.tree.close(op)
    check(not waited, waited)
    check(create.seconds >= SLOW, "the open was acknowledged after %.3f s, "
          "a sync takes %.1f" % (create.seconds, SLOW))
    check(op.persistent, "the handle is persistent")

    # from the first one on: this process may stand still between the two
    began = time.monotonic()
    close = c.tree.close_send(op)
    again = c.tree.close_send(op)
    c.conn.wait(again, check=False)
    took = time.monotonic() - began
    check(again.status != smb2.OK, "the second close is an error")
    check(took >= SLOW,
          "\"closed\" was told after %.3f s, before it was durable" % took)
    c.conn.wait(close)
    check(close.seconds >= SLOW, "the close was acknowledged after %.3f s" %
          close.seconds)
    c.drop()
    plain.drop()


def test_compound(server):
    c = phlab.Client(server).connect()
    split_compounds(c.conn)

    create, close = send_compound(c.tree, [
        (smb2.CREATE, create_body("both")),
        (smb2.CLOSE, struct.pack("<HHI16s", 24, 0, 0, SAME))])
    c.conn.wait(create)
    c.conn.wait(close)
    check(create.seconds >= SLOW and close.seconds >= SLOW,
          "a compound was answered after %.3f s" % create.seconds)

    # READ is the last element, CREATE still is in the answer
    create, size = send_compound(c.tree, [
        (smb2.CREATE, create_body("both")),
        (smb2.QUERY_INFO, struct.pack("<HBBIHHIII16s", 41, 1, 5, 1024, 0, 0,
                                      0, 0, 0, SAME))])
    c.conn.wait(create)
    check(create.seconds >= SLOW,
          "a compound with a query last was answered after %.3f s" %
          create.seconds)

    # NOTIFY stays pending: smbd answers the CREATE before it, alone
    os.makedirs(os.path.join(server.share, "dir"), exist_ok=True)
    os.chmod(os.path.join(server.share, "dir"), 0o777)
    create, notify = send_compound(c.tree, [
        (smb2.CREATE, create_body("dir", options=0x1)),
        (smb2.CHANGE_NOTIFY, struct.pack("<HHI16sII", 32, 0, 4096, SAME,
                                         0x17f, 0))])
    c.conn.wait(create)
    check(not notify.done, "the notify is pending")
    persistent = b"DH2Q" in create.message
    check(persistent, "the directory's handle is persistent")
    check(create.seconds >= SLOW,
          "an open whose compound goes on was answered after %.3f s" %
          create.seconds)
    c.drop()


def test_parked_and_gone(server):
    c = phlab.Client(server).connect()
    sent = [c.tree.create_send("gone-%d" % i) for i in range(10)]
    c.drop()
    check(len(sent) == 10, "sent")

    c = phlab.Client(server, name="logoff").connect()
    create = c.tree.create_send("logoff")
    try:
        c.conn.logoff()
        c.conn.wait(create, check=False)
    except smb2.Gone:
        pass
    c.drop()

    c = phlab.Client(server, name="cancel").connect()
    create = c.tree.create_send("cancel")
    # [MS-SMB2] 2.2.30: no answer to a cancel
    mid = c.conn.next_message_id
    c.conn.next_message_id = create.message_id
    c.conn.credits += 1
    c.conn.send(smb2.CANCEL, struct.pack("<HH", 4, 0))
    c.conn.next_message_id = mid
    c.conn.pending = {create.message_id: create}
    op = c.tree.create_recv(create)
    check(create.seconds >= SLOW and op.persistent,
          "a cancel does not touch a parked answer")
    c.tree.close(op)
    c.drop()
    check(server.is_alive() and not server.panicked(),
          "smbd trips over a parked reply: %s" % server.panicked())


def test_timeout():
    server = phlab.SmbServer(
        phlab.scratch("hold-timeout"), backend="local",
        global_options=["phstore:barrier timeout = 1"],
        env={"PHSTORE_TEST_SYNC_DELAY_US": "3000000"})
    server.start()
    c = phlab.Client(server, timeout=30).connect()
    began = time.monotonic()
    try:
        c.tree.create("late")
        check(False, "acknowledged though the barrier came too late")
    except smb2.Gone:
        pass
    took = time.monotonic() - began
    check(0.9 < took < 2.5, "the connection ended after %.1f s" % took)
    check("barrier timeout" in server.log_text(), "the log says why")
    c.drop()
    plain = phlab.Client(server, share="plain", name="other").connect()
    plain.tree.close(plain.tree.create("works", persistent=False))
    plain.drop()
    check(not server.panicked(), "smbd panicked")
    server.kill9_all()


def main():
    phlab.need_local_backend(knobs=True)
    server = phlab.SmbServer(
        phlab.scratch("hold"), backend="local",
        env={"PHSTORE_TEST_SYNC_DELAY_US": str(int(SLOW * 1000000))})
    server.start()
    test_only_the_reply_waits(server)
    test_compound(server)
    test_parked_and_gone(server)
    check(not server.panicked(), "smbd panicked")
    server.kill9_all()
    test_timeout()


if __name__ == "__main__":
    phlab.test_main(main)

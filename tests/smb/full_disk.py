#!/usr/bin/env python3
# phstore: a full disk under the store of a serving smbd
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What is feared: an open that is acknowledged and not kept; a handle that
# can not be closed; smbd in a panic; anything that stays broken once there
# is room again; a durable handle that is refused, or comes back without a
# lock that was granted when there was no room to keep it. The store lies on a small tmpfs of its own (mounted here,
# needs root), its owner being told that this is fine.

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lab"))

import phlab  # noqa: E402
import smb2  # noqa: E402
from phlab import check  # noqa: E402


def fill(path):
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * 4096)
        except OSError:
            pass


def durable(client, name):
    return client.tree.create(
        name, persistent=False, durable=True, share=7,
        lease=smb2.LEASE_R | smb2.LEASE_W | smb2.LEASE_H)


def run(server, small):
    server.start()
    c = phlab.Client(server).connect()
    locked = c.tree.create("locked")
    c.tree.lock(locked, 0, 1)
    early = c.tree.create("early")
    d = phlab.Client(server, share="plain", name="durable").connect()
    kept = durable(d, "kept")
    unlocked = durable(d, "unlocked")
    fill(os.path.join(small, "filler"))

    ops = []
    for i in range(5000):
        p = c.tree.create_send("file-%d" % i)
        op = c.tree.create_recv(p, check=False)
        if op is None:
            break
        ops.append(op)
    check(smb2.status_name(p.status) == "DISK_FULL",
          "the open that finds no room: %s" % smb2.status_name(p.status))

    status = c.tree.status_of(c.tree.create, "one-more")
    check(status == "DISK_FULL", "the next open: %s" % status)
    status = c.tree.status_of(c.tree.lock, early, 0, 1)
    check(status == "DISK_FULL", "a lock: %s" % status)
    status = c.tree.status_of(c.tree.unlock, locked, 0, 1)
    check(status == "OK", "an unlock: %s" % status)
    status = c.tree.status_of(c.tree.close, early)
    check(status == "OK", "a close: %s" % status)
    c.tree.write(locked, 0, b"data")
    check(c.tree.read(locked, 0, 4) == b"data", "reads and writes go on")
    check(durable(d, "late").durable, "a durable handle is refused")
    status = d.tree.status_of(d.tree.lock, kept, 0, 1)
    check(status == "OK", "a lock on a durable handle: %s" % status)
    plain = phlab.Client(server, share="plain", name="plain").connect()
    plain.tree.close(plain.tree.create("plain", persistent=False))
    plain.drop()

    # every promise survives, also when smbd is killed with the disk full
    server.kill9_all()
    filler = os.path.join(small, "filler")
    try:
        server.start()
    except phlab.LabError:
        # No room for the index: then it has to say so.
        server.kill9_all()
        check("No space left on device" in server.log_text(),
              "smbd does not start and does not say why")
        os.unlink(filler)
        server.start()
    c.connect_when_up()
    status = c.tree.status_of(c.tree.reconnect, early)
    check(status in ("OBJECT_NAME_NOT_FOUND", "DISK_FULL"),
          "what was closed stays closed: %s" % status)
    if os.path.exists(filler):
        os.unlink(filler)
    d.connect_when_up()
    for op, wanted in ((kept, "OBJECT_NAME_NOT_FOUND"), (unlocked, "OK")):
        status = d.tree.status_of(d.tree.reconnect, op, persistent=False,
                                  claim=(op.lease_state, op.lease_epoch))
        check(status == wanted, "%s: a durable handle, reconnected: %s" %
              (op.name, status))
    d.drop()
    locked = c.tree.reconnect(locked)
    ops = [c.tree.reconnect(op) for op in ops]
    c.tree.lock(locked, 0, 1)
    c.tree.close(c.tree.create("room-again"))
    for op in ops + [locked]:
        c.tree.close(op)
    c.drop()
    check(not server.panicked(), "smbd panicked: %s" % server.panicked())
    server.stop()
    print("%d handles on the full disk, all there afterwards" % len(ops))


def main():
    phlab.need_local_backend()
    work = phlab.scratch("full")
    small = os.path.join(work, "small")
    os.mkdir(small)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs",
                        small], capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise phlab.Skip("can not mount a small tmpfs: " + r.stderr.strip())
    server = phlab.SmbServer(work, backend="local", global_options=[
        "phstore:path = " + os.path.join(small, "store"),
        "phstore:allow volatile = yes",
        "phstore:segment size = 64K"])
    try:
        run(server, small)
    finally:
        server.kill9_all()
        subprocess.run(["umount", small], check=False)


if __name__ == "__main__":
    phlab.test_main(main)

#!/usr/bin/env python3
# phstore: handles that upstream's storage kept are taken over, once
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What is feared: an upgrade loses handles or locks; an old file brings back
# later what was closed since; a configuration that is not understood lets
# smbd serve persistent handles from another storage than was asked for.

import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lab"))

import phlab  # noqa: E402
from phlab import check  # noqa: E402

DATABASES = ("locking", "brlock", "smbXsrv_open_global")


def twin(server, name, imported=False):
    return os.path.join(server.dir, "lock", "%s_persistent.tdb%s" %
                        (name, ".imported" if imported else ""))


def log_since(server, mark):
    return server.log_text()[mark:]


def test_taken_over(server):
    server.backend = "none"
    server.start()
    c = phlab.Client(server).connect()
    ops = [c.tree.create("old-%d" % i) for i in range(3)]
    c.tree.write(ops[0], 0, b"kept")
    c.tree.lock(ops[0], 0, 10)
    server.kill9_all()

    server.backend = "local"
    server.start()
    for name in DATABASES:
        check(not os.path.exists(twin(server, name)) and
              os.path.exists(twin(server, name, True)),
              "%s is renamed once it is taken over" % name)
    other = phlab.Client(server, name="other").connect()
    check(other.tree.status_of(other.tree.create, "old-0") ==
          "FILE_NOT_AVAILABLE", "the handle is protected")
    c.connect()
    old = ops
    ops = [c.tree.reconnect(op) for op in ops]
    check([o.persistent_id for o in ops] == [o.persistent_id for o in old],
          "the handles are the same")
    check(c.tree.read(ops[0], 0, 4) == b"kept", "they can be read")
    plain = phlab.Client(server, share="plain", name="plain").connect()
    fd = plain.tree.create("old-0", persistent=False)
    check(plain.tree.status_of(plain.tree.lock, fd, 5, 1) ==
          "LOCK_NOT_GRANTED", "the lock still holds")
    plain.tree.close(fd)
    c.tree.unlock(ops[0], 0, 10)
    for op in ops:
        c.tree.close(op)
    for client in (c, other, plain):
        client.drop()
    server.kill9_all()

    # and they stay closed
    server.start()
    c.connect()
    for op in ops:
        status = c.tree.status_of(c.tree.reconnect, op)
        check(status == "OBJECT_NAME_NOT_FOUND",
              "%s was closed, reconnect says %s" % (op.name, status))
    c.drop()
    server.stop()


def test_interrupted(server):
    """Killed before the rename: taken over again. After it: done."""
    server.backend = "none"
    server.start()
    c = phlab.Client(server).connect()
    op = c.tree.create("twice")
    server.kill9_all()

    keep = {name: open(twin(server, name), "rb").read()
            for name in DATABASES}
    # The rename must fail: something is in its way.
    os.unlink(twin(server, "locking", True))
    os.mkdir(twin(server, "locking", True))
    server.backend = "local"
    mark = len(server.log_text())
    try:
        server.start()
        check(False, "smbd serves though the take-over is not complete")
    except phlab.LabError:
        pass
    server.kill9_all()
    check("can not rename" in log_since(server, mark), "the log says why")
    os.rmdir(twin(server, "locking", True))

    server.start()
    check(os.path.exists(twin(server, "locking", True)), "now renamed")
    c.connect()
    op = c.tree.reconnect(op)
    # An old file appears again while the handle is there: not touched.
    server.kill9_all()
    with open(twin(server, "locking"), "wb") as f:
        f.write(keep["locking"])
    mark = len(server.log_text())
    server.start()
    check("the file is ignored" in log_since(server, mark),
          "two storages with records: the log says which one counts")
    c.connect()
    op = c.tree.reconnect(op)
    c.tree.close(op)
    c.drop()
    server.stop()
    os.unlink(twin(server, "locking"))


def test_refused(server):
    server.backend = "local"
    for line in ("phstore:durability = fast",
                 "phstore:durability.locking = fast",
                 "phstore:backend = floppy",
                 "phstore:segment size = 1K",
                 "phstore:allow volatile = maybe",
                 "phstore:barrier timeout = 0",
                 "phstore:path = /proc/none"):
        server.global_options = [line]
        mark = len(server.log_text())
        try:
            server.start()
            check(False, "smbd serves with \"%s\"" % line)
        except phlab.LabError:
            pass
        server.kill9_all()
        text = log_since(server, mark)
        what = line.split("=")[0].strip() if "path" not in line else "/proc"
        check("phstore" in text and what in text,
              "\"%s\": the log names it: %s" % (line, text[-500:]))
    server.global_options = []


def main():
    phlab.need_local_backend()
    work = phlab.scratch("upgrade")
    server = phlab.SmbServer(work)
    test_taken_over(server)
    test_interrupted(server)
    test_refused(server)
    check(not server.panicked(), "smbd panicked: %s" % server.panicked())
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    phlab.test_main(main)

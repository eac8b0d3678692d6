# Clients that know what they were told, and find out whether it holds
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: eight clients open, lock, unlock, write and close at random, on
# files of their own and on shared ones, while somebody kills servers. Then
# every client asks for its handles, as real ones do, and what it was told
# before is compared with what it finds.
#
# What was told must hold:
# - a handle whose CREATE was answered reconnects, with the same id
# - a handle whose CLOSE was answered does not
# - a range whose LOCK was answered is locked: another client's LOCK fails
# - a range whose UNLOCK was answered, or never locked, is free
# - what WRITE was answered for is there
# A request that was under way may have happened or not. The client finds
# out and both are fine: CREATE is replayed ([MS-SMB2] 3.2.4.3, the flag
# REPLAY), CLOSE, LOCK and UNLOCK are asked again. A CREATE whose replay is
# refused may have left a handle nobody knows, which makes the file
# unavailable for new opens until it times out: the clients go on with
# another name.
#
# The seed repeats every decision, though not the scheduling.

import random
import re
import threading
import time
import uuid

import phlab
import smb2

CLIENTS = 8
OWN_FILES = 3
SHARED_FILES = 3
SLOTS = 4			# ranges a client locks in each file
SLOT = 16			# bytes of a range
CONTENDED = 1 << 20		# offset of the range all clients fight for
TIMEOUT_MSEC = 300000


class Handle:
    """What a client knows of one open file."""

    def __init__(self, name, create_guid):
        self.name = name
        self.create_guid = create_guid
        self.lease = None
        self.lease_key = None
        self.op = None			# None: CREATE not answered yet
        self.closing = False		# CLOSE not answered yet
        self.locks = set()		# answered
        self.unsure = set()		# LOCK or UNLOCK not answered yet
        self.connected = False


class Worker:
    def __init__(self, test, index, server):
        self.test = test
        self.index = index
        self.rng = random.Random("%d/%d" % (test.seed, index))
        self.client = phlab.Client(server, "ca", "client%d" % index)
        self.handles = []
        self.closed = []		# Opens whose CLOSE was answered
        self.data = {}			# (name, start): what may be there
        self.writing = None		# (name, start), value: not answered
        self.may_come = {}		# (name, start): written late, maybe
        self.counter = 0
        self.ops = 0
        self.doing = ""			# for messages
        self.error = None

    # ---- the load

    def load(self):
        """Requests until the round ends or everything is down."""
        try:
            while not self.test.over.is_set():
                try:
                    if self.client.conn is None:
                        self.connect()
                        self.recover()
                    self.one_request()
                    self.ops += 1
                except (smb2.Gone, smb2.Late) as e:
                    self.lost(e)
                    if self.test.down.is_set():
                        return
                    time.sleep(0.005)
        except smb2.SmbError as e:
            self.error = phlab.Failed("client %d, %s: %s" % (
                self.index, self.doing, e))
        except Exception as e:
            self.error = e

    def note(self, h, what):
        """For the report, when something is wrong with this file."""
        self.test.events.setdefault(h.name, []).append(
            "%s client %d %s: %s" % (
                "%.6f" % (time.time() % 3600), self.index,
                "0x%x" % h.op.persistent_id if h.op else "-", what))

    def lost(self, why):
        if isinstance(why, smb2.Late) and not self.test.late_is_gone:
            raise phlab.Failed("client %d: %s" % (self.index, why))
        self.client.drop()
        if self.writing is not None and self.test.late_writes:
            key, data = self.writing
            self.may_come.setdefault(key, set()).add(data)
        self.writing = None
        for h in self.handles:
            h.connected = False
            self.note(h, "connection lost")

    def connect(self):
        try:
            self.client.connect()
        except smb2.SmbError as e:
            # a node that is about to go, or not ready yet
            self.client.drop()
            if not self.test.late_is_gone:
                raise
            raise smb2.Gone(str(e)) from e

    def connect_when_up(self):
        end = time.monotonic() + 60.0
        while True:
            try:
                self.connect()
                return
            except (smb2.Gone, smb2.Late):
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def slots_of(self, h):
        """The ranges this client locks in this file."""
        base = self.index * SLOTS * SLOT
        ranges = [(base + i * SLOT, SLOT) for i in range(SLOTS)]
        if h.name.startswith("shared"):
            ranges.append((CONTENDED, 1))
        return ranges

    def one_request(self):
        rng = self.rng
        tree = self.client.tree
        usable = [h for h in self.handles if h.op is not None]
        roll = rng.random()
        if not usable or (roll < 0.25 and
                          len(usable) < OWN_FILES + SHARED_FILES):
            self.open_one()
            return
        h = rng.choice(usable)
        self.doing = "%s 0x%016x" % (h.name, h.op.persistent_id)
        if roll < 0.45:
            h.closing = True
            self.note(h, "CLOSE, locks %s" % sorted(h.locks))
            tree.close(h.op)
            self.was_closed(h, "answered")
        elif roll < 0.65:
            free = [r for r in self.slots_of(h) if r not in h.locks]
            if free:
                self.lock_one(h, rng.choice(free))
        elif roll < 0.80:
            if h.locks:
                r = rng.choice(sorted(h.locks))
                h.locks.discard(r)
                h.unsure.add(r)
                self.note(h, "UNLOCK %s" % (r,))
                tree.unlock(h.op, *r)
                h.unsure.discard(r)
        else:
            start = self.slots_of(h)[rng.randrange(SLOTS)][0]
            self.counter += 1
            data = (b"%d.%d" % (self.index, self.counter)).ljust(SLOT)
            key = (h.name, start)
            self.data.setdefault(key, {b"\0" * SLOT}).add(data)
            self.writing = (key, data)
            tree.write(h.op, start, data)
            self.writing = None
            self.data[key] = {data} | self.may_come.get(key, set())

    def open_one(self):
        rng = self.rng
        names = ["own-%d-%d" % (self.index, i) for i in range(OWN_FILES)]
        names += ["shared-%d" % i for i in range(SHARED_FILES)]
        names = [self.test.current_name(n) for n in names]
        taken = {h.name for h in self.handles}
        names = [n for n in names if n not in taken]
        if not names:
            return
        h = Handle(rng.choice(names), rng.randbytes(16))
        if h.name.startswith("own") and rng.random() < 0.5:
            h.lease = smb2.LEASE_R
            h.lease_key = rng.randbytes(16)
        self.handles.append(h)
        try:
            self.create(h)
        except smb2.SmbError as e:
            if e.name in self.test.may_refuse:
                self.handles.remove(h)
                self.note(h, "CREATE refused: " + e.name)
                self.test.refused += 1
                return
            if e.name == "FILE_NOT_AVAILABLE" and self.half_closed(h.name):
                self.handles.remove(h)
                return
            # the file waits for a client that has not come back yet
            if e.name != "FILE_NOT_AVAILABLE" or h.lease is not None or \
                    not h.name.startswith("shared"):
                raise phlab.Failed("client %d: %s: %s" % (
                    self.index, h.name, e)) from e
            self.handles.remove(h)
            self.test.unavailable += 1

    def create(self, h, flags=0):
        op = self.client.tree.create(
            h.name, create_guid=h.create_guid, lease=h.lease,
            lease_key=h.lease_key, timeout_msec=TIMEOUT_MSEC, flags=flags)
        phlab.check(op.persistent, "%s: not persistent" % h.name)
        h.op = op
        h.connected = True
        self.note(h, "opened" if not flags else "replayed")

    def half_closed(self, name):
        """
        Does a CLOSE of ours that was not answered keep the file from being
        opened: was the handle not found only because its smbd was not dead
        yet?
        """
        return any(op.name == name and
                   op.persistent_id in self.test.half_closed and
                   self.close_again(op) == "OK" for op in self.closed)

    def close_again(self, op):
        try:
            found = self.client.tree.reconnect(op)
        except smb2.SmbError as e:
            return e.name
        self.client.tree.close(found)
        return "OK"

    def lock_one(self, h, r):
        h.unsure.add(r)
        self.note(h, "LOCK %s" % (r,))
        try:
            self.client.tree.lock(h.op, *r)
            h.locks.add(r)
        except smb2.SmbError as e:
            if e.name in self.test.may_refuse:
                self.note(h, "LOCK refused: " + e.name)
                self.test.refused += 1
            elif r[0] != CONTENDED or e.name not in (
                    "LOCK_NOT_GRANTED", "FILE_LOCK_CONFLICT"):
                raise
        h.unsure.discard(r)

    def was_closed(self, h, how):
        self.note(h, "CLOSE " + how)
        self.handles.remove(h)
        self.closed.append(h.op)
        # all of them would cost a minute: the newest, and some old ones
        if len(self.closed) > 12:
            del self.closed[self.rng.randrange(6)]

    # ---- after a kill

    def retry(self, fn, what):
        """Call fn; ask again while the dead smbd may count as alive."""
        end = time.monotonic() + self.test.retry_seconds
        while True:
            try:
                return fn()
            except smb2.SmbError as e:
                if time.monotonic() > end:
                    raise phlab.Failed("client %d: %s: %s" % (
                        self.index, what, e)) from e
                self.test.retries[e.name] = \
                    self.test.retries.get(e.name, 0) + 1
                time.sleep(0.02)

    def recover(self):
        """Connect, ask for every handle, and find out what was unsure."""
        for h in list(self.handles):
            if h.connected:
                continue
            if h.op is None:
                self.replay(h)
            elif h.closing:
                self.reclose(h)
            else:
                self.reconnect(h)
            if h.op is not None and h in self.handles:
                self.settle(h)

    def replay(self, h):
        for _ in range(3):
            status = self.client.tree.status_of(self.create, h,
                                                smb2.FLAG_REPLAY)
            if status == "OK":
                self.test.replayed += 1
                return
            time.sleep(0.02)
        self.handles.remove(h)
        self.note(h, "CREATE given up: " + status)
        self.test.abandon(h, status)

    def reclose(self, h):
        status = self.client.tree.status_of(self.reconnect_once, h)
        end = time.monotonic() + 0.5
        last = False
        while status == "OBJECT_NAME_NOT_FOUND" and not last:
            # also said while the smbd that was killed is not dead yet
            last = time.monotonic() > end and not self.test.dying
            time.sleep(0.05)
            status = self.client.tree.status_of(self.reconnect_once, h)
        if status == "OBJECT_NAME_NOT_FOUND":
            # at least half done: the open's own record may be left
            self.test.half_closed.add(h.op.persistent_id)
            self.was_closed(h, "in flight, handle not found")
            self.test.closed_in_flight += 1
            return
        if status != "OK":
            self.retry(lambda: self.reconnect_once(h),
                       "handle in CLOSE %s" % h.name)
        self.client.tree.close(h.op)
        self.was_closed(h, "asked again")

    def reconnect_once(self, h):
        op = self.client.tree.reconnect(h.op)
        phlab.check(op.persistent_id == h.op.persistent_id,
                    "%s came back with another id" % h.name)
        h.op = op
        h.connected = True
        self.note(h, "reconnected")

    def reconnect(self, h):
        self.retry(lambda: self.reconnect_once(h),
                   "handle lost: %s, id 0x%016x" % (h.name,
                                                    h.op.persistent_id))
        self.test.reconnected += 1

    def settle(self, h):
        """Ranges that were in flight: unlock, whichever way it went."""
        for r in sorted(h.unsure):
            status = self.client.tree.status_of(self.client.tree.unlock,
                                                h.op, *r)
            phlab.check(status in ("OK", "RANGE_NOT_LOCKED"),
                        "%s: unlock in flight: %s" % (h.name, status))
            h.unsure.discard(r)
            self.note(h, "unlock %s in flight: %s" % (r, status))
            self.test.settled += 1

    def recover_until_done(self):
        try:
            while True:
                try:
                    if self.client.conn is None:
                        self.connect_when_up()
                    self.recover()
                    self.check_closed()
                    self.check_data()
                    break
                except (smb2.Gone, smb2.Late) as e:
                    # killed after its last answer
                    self.lost(e)
        except Exception as e:
            self.error = e

    def is_connected(self):
        """Whether the server still answers on this connection."""
        try:
            if self.client.conn is None:
                return False
            self.client.conn.echo()
            return True
        except (smb2.Gone, smb2.Late) as e:
            self.lost(e)
            return False

    def check_closed(self):
        for op in self.closed:
            status = self.close_again(op)
            if status == "OK" and op.persistent_id in self.test.half_closed:
                continue
            phlab.check(status == "OBJECT_NAME_NOT_FOUND",
                        "closed handle 0x%016x of %s: reconnect answered %s"
                        % (op.persistent_id, op.name, status))

    def check_data(self):
        for h in self.handles:
            for r in self.slots_of(h):
                allowed = self.data.get((h.name, r[0]))
                if allowed is None:
                    continue
                try:
                    got = self.client.tree.read(h.op, r[0], SLOT)
                except smb2.SmbError as e:
                    phlab.check(e.name == "END_OF_FILE", "%s at %d: %s" % (
                        h.name, r[0], e))
                    got = b""
                got = got.ljust(SLOT, b"\0")
                phlab.check(got in allowed, "%s at %d: %r, written %r" % (
                    h.name, r[0], got, allowed))
                self.data[h.name, r[0]] = {got}
        self.may_come = {}


class World:
    """What the clients share, and what was seen of them."""

    retry_seconds = 60.0	# a reconnect may be refused so long
    patience = 90		# until a client counts as hanging
    late_is_gone = False	# an answer that does not come: connect again
    check_seconds = 0.0		# connections may break so long while checking
    # What CREATE and LOCK may be refused with, for now
    may_refuse = ()
    # A smbd was killed, and is not dead yet
    dying = False
    # A server that was cut off or stopped still writes what it had been sent
    # into the shared file. To keep it from that is the file system's part.
    late_writes = False

    def __init__(self, seed, servers):
        self.seed = seed
        self.rng = random.Random(seed)
        self.over = threading.Event()
        self.down = threading.Event()
        self.retries = {}
        self.orphans = {}		# create guid: why it was given up
        self.events = {}		# of a file name, for the report
        self.half_closed = set()	# ids whose CLOSE was not answered
        self.generation = {}		# of a file name
        self.unavailable = 0
        self.replayed = self.reconnected = self.settled = 0
        self.closed_in_flight = 0
        self.broken_later = 0
        self.refused = 0
        self.locks_checked = 0
        self.servers = servers
        self.workers = [Worker(self, i, servers[i % len(servers)])
                        for i in range(CLIENTS)]

    def current_name(self, name):
        return "%s.%d" % (name, self.generation.get(name, 0))

    def abandon(self, h, status):
        """Nobody knows whether this CREATE happened."""
        self.orphans[str(uuid.UUID(bytes_le=h.create_guid))] = status
        name = h.name.rpartition(".")[0]
        self.generation[name] = self.generation.get(name, 0) + 1

    def begin(self):
        self.over.clear()
        self.down.clear()
        for name in self.events:
            self.events[name].append("---- a round begins")
            del self.events[name][:-60]

    def in_threads(self, method):
        threads = [threading.Thread(target=getattr(w, method), daemon=True)
                   for w in self.workers]
        for t in threads:
            t.start()
        return threads

    def join(self, threads):
        for t in threads:
            t.join(self.patience)
            phlab.check(not t.is_alive(), "a client hangs")
        for w in self.workers:
            if w.error is not None:
                raise w.error

    def check_until_done(self, check, server):
        """
        check(server), again while connections break, as they do when ctdb
        moves an address to a node that has become healthy.
        """
        end = time.monotonic() + self.check_seconds
        while True:
            try:
                return check(server)
            except (smb2.Gone, smb2.Late) as e:
                if time.monotonic() > end:
                    raise phlab.Failed("checker: %s" % e) from e
                time.sleep(0.1)

    def owner_was_away(self, name):
        """
        Clients of this file whose connection broke after they were back:
        let them ask for their handles again. Whether there was one.
        """
        away = [w for w in self.workers
                if any(h.name == name for h in w.handles) and
                not w.is_connected()]
        for w in away:
            w.recover_until_done()
            if w.error is not None:
                raise w.error
        self.broken_later += len(away)
        return bool(away)

    def create_to_check(self, tree, name):
        """The file's open, None if it waits for a handle nobody knows."""
        end = time.monotonic() + self.check_seconds
        while True:
            try:
                return tree.create(name, persistent=False)
            except smb2.SmbError as e:
                base = name.rpartition(".")[0]
                waits = e.name == "FILE_NOT_AVAILABLE"
                if waits and self.current_name(base) != name:
                    return None
                if not waits or time.monotonic() > end or \
                        not self.owner_was_away(name):
                    raise phlab.Failed("checker: %s: %s" % (name, e)) from e

    def check_locks(self, server):
        """Another client tries every range."""
        held = {}
        for w in self.workers:
            for h in w.handles:
                for r in h.locks:
                    key = (h.name, r)
                    phlab.check(key not in held,
                                "two clients hold %s %s" % key)
                    held[key] = w
        names = {h.name for w in self.workers for h in w.handles}
        checker = phlab.Client(server, "ca", "checker").connect()
        tree = checker.tree
        ranges = [(i * SLOT, SLOT) for i in range(CLIENTS * SLOTS)]
        ranges.append((CONTENDED, 1))
        for name in sorted(names):
            op = self.create_to_check(tree, name)
            if op is None:
                continue
            sent = [(r, tree.lock_send(op, *r)) for r in ranges]
            for r, p in sent:
                checker.conn.wait(p, check=False)
                locked = p.status != smb2.OK
                phlab.check(
                    locked == ((name, r) in held),
                    "%s %s: %s, answered NT_STATUS_%s" % (
                        name, r, "a lock is lost" if not locked
                        else "a lock is invented",
                        smb2.status_name(p.status)))
                self.locks_checked += locked
            tree.close(op)
        checker.conn.logoff()
        checker.drop()

    def check_dump(self, server):
        """The store holds what is open, and nothing else."""
        if not server.has_phstore():
            return
        opens = {}
        for w in self.workers:
            for h in w.handles:
                opens[h.op.persistent_id] = (h.name, h.locks)
        stored = {}
        stored_locks = {}
        for rec in server.phstore_json("dump")["records"]:
            if rec["table"] == "smbXsrv_open_global":
                stored[int(rec["record"]["persistent_id"], 16)] = \
                    rec["record"]["create_guid"]
            elif rec["table"] == "brlock":
                for lock in rec["record"]["locks"]:
                    stored_locks.setdefault(
                        int(lock["context"], 16), set()).add(
                            (lock["start"], lock["size"]))
        lost = [opens[i] for i in opens if i not in stored]
        phlab.check(not lost, "not in the store: %s" % lost)
        extra = [hex(i) for i in stored if i not in opens and
                 i not in self.half_closed and
                 stored[i] not in self.orphans]
        phlab.check(not extra, "in the store, but not open: %s" % extra)
        for i, (name, locks) in opens.items():
            phlab.check(stored_locks.get(i, set()) == locks,
                        "locks of %s: stored %s, held %s" % (
                            name, sorted(stored_locks.get(i, set())),
                            sorted(locks)))
        extra = [hex(i) for i in stored_locks if i not in opens]
        phlab.check(not extra, "locks of nobody: %s" % extra)

    def report(self, message):
        """What clients did with the files and handles it speaks of."""
        said = set(re.findall(r"0x[0-9a-f]+", message))
        for name, events in sorted(self.events.items()):
            if name in message or any(
                    i in line for i in said for line in events):
                print(name)
                print("\n".join(events[-40:]))

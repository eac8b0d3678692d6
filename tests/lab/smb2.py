# A small SMB 3.1.1 client with full control
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: requests of [MS-SMB2] as this project's tests need them:
# create contexts for persistent handles and leases, byte-range locks, and
# requests sent without waiting, so that a test can see what a server does
# while one reply is outstanding.
#
# Its rule: one Connection belongs to one thread. Nothing reads from the
# socket but wait(), so every answer carries the time at which it came in.
# A test that cares for times keeps waiting for something.
#
# Why not a ready client: Samba's python binding hides the file id, knows no
# locks and waits for each reply.
#
# NTLMSSP tokens and the session key come from Samba's python binding
# (gensec). Messages are signed by HMAC-SHA256, which 3.1.1 can negotiate
# ([MS-SMB2] 2.2.3.1.7); so nothing but python's own library is needed.

import hashlib
import hmac
import os
import select
import socket
import struct
import time
import uuid

# [MS-SMB2] 2.2.1.2, Command
NEGOTIATE, SESSION_SETUP, LOGOFF, TREE_CONNECT, TREE_DISCONNECT = range(5)
CREATE, CLOSE, FLUSH, READ, WRITE, LOCK, IOCTL, CANCEL = range(5, 13)
ECHO, QUERY_DIRECTORY, CHANGE_NOTIFY = range(13, 16)
QUERY_INFO, SET_INFO, OPLOCK_BREAK = range(16, 19)

FLAG_RESPONSE = 0x1
FLAG_ASYNC = 0x2
FLAG_SIGNED = 0x8
FLAG_REPLAY = 0x20000000

# [MS-ERREF] 2.3.1, only what shows up here
STATUS = {
    0x00000000: "OK",
    0x00000103: "PENDING",
    0x80000006: "NO_MORE_FILES",
    0xC0000008: "INVALID_HANDLE",
    0xC000000D: "INVALID_PARAMETER",
    0xC0000011: "END_OF_FILE",
    0xC0000016: "MORE_PROCESSING_REQUIRED",
    0xC0000022: "ACCESS_DENIED",
    0xC0000034: "OBJECT_NAME_NOT_FOUND",
    0xC0000035: "OBJECT_NAME_COLLISION",
    0xC000003A: "OBJECT_PATH_NOT_FOUND",
    0xC0000043: "SHARING_VIOLATION",
    0xC0000054: "FILE_LOCK_CONFLICT",
    0xC0000055: "LOCK_NOT_GRANTED",
    0xC0000056: "DELETE_PENDING",
    0xC000006D: "LOGON_FAILURE",
    0xC000007E: "RANGE_NOT_LOCKED",
    0xC000007F: "DISK_FULL",
    0xC000009A: "INSUFFICIENT_RESOURCES",
    0xC00000BB: "NOT_SUPPORTED",
    0xC00000CC: "BAD_NETWORK_NAME",
    0xC00000E5: "INTERNAL_ERROR",
    0xC0000120: "CANCELLED",
    0xC0000128: "FILE_CLOSED",
    0xC0000203: "USER_SESSION_DELETED",
    0xC000020C: "CONNECTION_DISCONNECTED",
    0xC0000185: "IO_DEVICE_ERROR",
    0xC000022D: "DUPLICATE_OBJECTID",
    0xC0000467: "FILE_NOT_AVAILABLE",
}
OK = 0
PENDING = 0x103
MORE_PROCESSING = 0xC0000016

# [MS-SMB2] 2.2.13.1.1 and 2.2.13
FILE_READ = 0x1
FILE_WRITE = 0x2
FILE_ATTRS = 0x180
DELETE = 0x10000
RW = FILE_READ | FILE_WRITE | FILE_ATTRS
SHARE_NONE, SHARE_READ, SHARE_WRITE, SHARE_DELETE = 0, 1, 2, 4
OPEN, OPEN_IF = 1, 3
SUPERSEDE, CREATE_NEW, OVERWRITE_IF = 0, 2, 5

# [MS-SMB2] 2.2.13.2.8, LeaseState
LEASE_R, LEASE_H, LEASE_W = 1, 2, 4

# [MS-SMB2] 2.2.13, RequestedOplockLevel
OPLOCK_NONE, OPLOCK_BATCH, OPLOCK_LEASE = 0, 9, 0xFF

# [MS-SMB2] 2.2.10
CAP_CONTINUOUS_AVAILABILITY = 0x10
# [MS-SMB2] 2.2.4
CAP_PERSISTENT_HANDLES = 0x10
# [MS-SMB2] 2.2.13.2.11
DH_PERSISTENT = 2

# [MS-SMB2] 2.2.26.1
LOCK_SHARED, LOCK_EXCLUSIVE, LOCK_UNLOCK, LOCK_NOWAIT = 1, 2, 4, 0x10


def status_name(status):
    """The name of an NTSTATUS, without its NT_STATUS_ in front."""
    return STATUS.get(status, "0x%08X" % status)


def lease_name(state):
    text = "".join(c for c, bit in (("R", LEASE_R), ("W", LEASE_W),
                                    ("H", LEASE_H)) if state & bit)
    return text or "none"


class SmbError(Exception):
    """The server answered with an error."""

    def __init__(self, status, what):
        super().__init__("%s: NT_STATUS_%s" % (what, status_name(status)))
        self.status = status
        self.name = status_name(status)


class Gone(Exception):
    """The connection is no more: the server died or hung up."""


class Late(Exception):
    """No answer in time."""


class Pending:
    """A request on its way."""

    def __init__(self, command, message_id):
        self.command = command
        self.message_id = message_id
        self.sent_at = time.monotonic()
        self.came_at = None
        self.interim_at = None
        self.async_id = None
        self.status = None
        self.message = None

    @property
    def done(self):
        return self.came_at is not None

    @property
    def seconds(self):
        return self.came_at - self.sent_at


def _kdf(key, label, context):
    """[MS-SMB2] 3.1.4.2, counter mode of SP800-108 by HMAC-SHA256."""
    data = (struct.pack(">I", 1) + label + b"\0" + context +
            struct.pack(">I", 128))
    return hmac.new(key, data, hashlib.sha256).digest()[:16]


def _pad8(data):
    return data + b"\0" * (-len(data) % 8)


def _contexts_pack(contexts):
    """[MS-SMB2] 2.2.13.2: a chain of named blobs."""
    out = b""
    for i, (name, data) in enumerate(contexts):
        body = struct.pack("<HHHHI", 16, len(name), 0, 24, len(data))
        body += _pad8(name)
        body = body.ljust(20, b"\0") + data
        last = i == len(contexts) - 1
        if not last:
            body += b"\0" * (-(len(body) + 4) % 8)
        out += struct.pack("<I", 0 if last else len(body) + 4) + body
    return out


def _contexts_unpack(data):
    out = {}
    while len(data) >= 16:
        nxt, noff, nlen, _, doff, dlen = struct.unpack_from("<IHHHHI", data)
        out[bytes(data[noff:noff + nlen])] = bytes(data[doff:doff + dlen])
        if nxt == 0:
            break
        data = data[nxt:]
    return out


def _lease_ack(key, state):
    """[MS-SMB2] 2.2.24.2"""
    return struct.pack("<HHI16sIQ", 36, 0, 0, key, state, 0)


class Connection:
    """One TCP connection with one session."""

    def __init__(self, host, port, user, password, domain="",
                 client_guid=None, timeout=20.0, login=True, previous=0,
                 reach=None):
        """
        previous: the session this one takes the place of, 3.2.4.2.3.
        reach: seconds for TCP to connect, the timeout if none are given. An
        address that moves meanwhile is found by a new try; the kernel's own
        come after 1, 3, 7, 15 seconds.
        """
        self.timeout = timeout
        self.client_guid = client_guid or uuid.uuid4().bytes
        self.user = user
        self.next_message_id = 0
        self.credits = 1
        self.session_id = 0
        self.any_tree = 0		# break acknowledgements need one
        self.signing_key = None
        self.preauth = b"\0" * 64
        self.pending = {}
        self.breaks = []
        self.break_epoch = 0		# of the last one of a lease
        self.ack_breaks = True
        self.server_capabilities = 0
        self.received = b""
        try:
            self.sock = socket.create_connection((host, port),
                                                 reach or timeout)
        except OSError as e:
            raise Gone(str(e)) from e
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.local_port = self.sock.getsockname()[1]
        try:
            self._negotiate()
            if login:
                self._session_setup(user, password, domain, previous)
        except BaseException:
            self.close()
            raise

    def login(self, user, password, domain="", previous=0):
        """What was not done when it was connected."""
        self._session_setup(user, password, domain, previous)

    def close(self):
        """Hang up, as a client does whose machine went away."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    # ---- messages

    def _send_raw(self, data):
        if self.sock is None:
            raise Gone("closed here")
        view = memoryview(struct.pack(">I", len(data)) + data)
        end = time.monotonic() + self.timeout
        while len(view) > 0:
            try:
                view = view[self.sock.send(view):]
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0:
                    raise Late("cannot send") from None
                select.select([], [self.sock], [], left)
            except OSError as e:
                raise Gone(str(e)) from e

    def _sign(self, message):
        """[MS-SMB2] 3.1.4.1"""
        zeroed = message[:48] + b"\0" * 16 + message[64:]
        digest = hmac.new(self.signing_key, zeroed, hashlib.sha256).digest()
        return message[:48] + digest[:16] + message[64:]

    def send(self, command, body, tree=0, flags=0, length=0):
        """Send one request and return at once with its Pending."""
        charge = max(1, (length + 65535) // 65536)
        while self.credits < charge and self.pending:
            self._pump(time.monotonic() + self.timeout)
        if self.credits < charge:
            raise Late("no credits left")
        self.credits -= charge
        if self.signing_key is not None:
            flags |= FLAG_SIGNED
        p = Pending(command, self.next_message_id)
        self.next_message_id += charge
        # [MS-SMB2] 2.2.1.2
        message = struct.pack(
            "<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, charge, 0, command,
            max(charge, 64), flags, 0, p.message_id, 0xFEFF, tree,
            self.session_id, b"\0" * 16) + body
        if self.signing_key is not None:
            message = self._sign(message)
        elif command in (NEGOTIATE, SESSION_SETUP):
            self._preauth(message)
        self.pending[p.message_id] = p
        self._send_raw(message)
        return p

    def _preauth(self, message):
        """[MS-SMB2] 3.2.5.2: the hash of what was said before signing."""
        self.preauth = hashlib.sha512(self.preauth + message).digest()

    def _pump(self, end):
        """Read and file what comes in, at least one message."""
        while True:
            if len(self.received) >= 4:
                size = struct.unpack(">I", self.received[:4])[0]
                if len(self.received) >= 4 + size:
                    message = self.received[4:4 + size]
                    self.received = self.received[4 + size:]
                    self._arrived(message)
                    return
            left = end - time.monotonic()
            if left <= 0:
                raise Late("no answer in time")
            if self.sock is None:
                raise Gone("closed here")
            ready = select.select([self.sock], [], [], left)[0]
            if not ready:
                continue
            try:
                data = self.sock.recv(1 << 17)
            except BlockingIOError:
                continue
            except OSError as e:
                raise Gone(str(e)) from e
            if not data:
                raise Gone("the server hung up")
            self.received += data

    def _arrived(self, message):
        now = time.monotonic()
        (magic, _, _, status, command, granted, flags, nxt,
         message_id) = struct.unpack_from("<4sHHIHHIIQ", message)
        if magic != b"\xfeSMB" or nxt != 0:
            raise Gone("not an answer this client understands")
        self.credits += granted
        if command == OPLOCK_BREAK and message_id == 0xFFFFFFFFFFFFFFFF:
            self._broken(message)
            return
        p = self.pending.get(message_id)
        if p is None:
            raise Gone("an answer to nothing: message %d" % message_id)
        if status == PENDING and flags & FLAG_ASYNC:
            p.interim_at = now
            p.async_id = struct.unpack_from("<Q", message, 32)[0]
            return
        if self.signing_key is not None and flags & FLAG_SIGNED:
            if self._sign(message)[48:64] != message[48:64]:
                raise Gone("a bad signature")
        del self.pending[message_id]
        p.came_at = now
        p.status = status
        p.message = message

    def _broken(self, message):
        """[MS-SMB2] 2.2.23: a break; acknowledge if asked to."""
        size, epoch, flags = struct.unpack_from("<HHI", message, 64)
        if size == 24:
            # 2.2.23.1, 2.2.24.1: an oplock
            level = message[66]
            self.breaks.append((message[72:88], OPLOCK_BATCH, level))
            if self.ack_breaks:
                self.send(OPLOCK_BREAK, struct.pack(
                    "<HBBI16s", 24, level, 0, 0, message[72:88]),
                    self.any_tree)
            return
        if size != 44:
            return
        key = message[72:88]
        current, new = struct.unpack_from("<II", message, 88)
        self.breaks.append((key, current, new))
        self.break_epoch = epoch
        if flags & 1 and self.ack_breaks:
            self.send(OPLOCK_BREAK, _lease_ack(key, new), self.any_tree)

    def wait(self, p, timeout=None, check=True):
        """The answer to p. SmbError if it is an error and check is set."""
        end = time.monotonic() + (self.timeout if timeout is None
                                  else timeout)
        while not p.done:
            self._pump(end)
        if check and p.status != OK:
            raise SmbError(p.status, _names[p.command])
        return p

    def call(self, command, body, tree=0, check=True, **kwargs):
        return self.wait(self.send(command, body, tree, **kwargs),
                         check=check)

    def drain(self, seconds):
        """Read what comes in for a while."""
        end = time.monotonic() + seconds
        try:
            while True:
                self._pump(end)
        except Late:
            pass

    # ---- session

    def _negotiate(self):
        # [MS-SMB2] 2.2.3 and its contexts 2.2.3.1.1, 2.2.3.1.7
        preauth = struct.pack("<HHH32s", 1, 32, 1, os.urandom(32))
        signing = struct.pack("<HH", 1, 0)
        contexts = b""
        for kind, data in ((1, preauth), (8, signing)):
            contexts += b"\0" * (-len(contexts) % 8)
            contexts += struct.pack("<HHI", kind, len(data), 0) + data
        offset = 64 + 36 + 4
        body = struct.pack("<HHHHI16sIHHHxx", 36, 1, 1, 0,
                           0x7F, self.client_guid, offset, 2, 0, 0x0311)
        p = self.call(NEGOTIATE, body + contexts)
        self._preauth(p.message)
        dialect = struct.unpack_from("<H", p.message, 68)[0]
        if dialect != 0x0311:
            raise Gone("the server chose dialect 0x%04x" % dialect)
        # 2.2.4
        self.server_capabilities = struct.unpack_from("<I", p.message, 88)[0]
        count, at = struct.unpack_from("<H", p.message, 70)[0], \
            struct.unpack_from("<I", p.message, 124)[0]
        algorithm = None
        for _ in range(count):
            kind, size = struct.unpack_from("<HH", p.message, at)
            if kind == 8:
                algorithm = struct.unpack_from("<H", p.message, at + 10)[0]
            at += 8 + size + (-size % 8)
        if algorithm != 0:
            raise Gone("the server does not sign by HMAC-SHA256")

    def _session_setup(self, user, password, domain, previous):
        from samba import credentials, gensec, param
        lp = param.LoadParm()
        lp.set("client use kerberos", "off")
        creds = credentials.Credentials()
        creds.set_username(user)
        creds.set_password(password)
        creds.set_domain(domain or "WORKGROUP")
        creds.set_workstation("PHLAB")
        creds.set_kerberos_state(credentials.DONT_USE_KERBEROS)
        sec = gensec.Security.start_client({"lp_ctx": lp,
                                            "target_hostname": "localhost"})
        sec.set_credentials(creds)
        sec.want_feature(gensec.FEATURE_SESSION_KEY)
        sec.start_mech_by_name("ntlmssp")
        token = b""
        while True:
            finished, token = sec.update(token)
            # 2.2.5
            body = struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 64 + 24,
                               len(token), previous) + token
            p = self.call(SESSION_SETUP, body, check=False)
            self.session_id = struct.unpack_from("<Q", p.message, 40)[0]
            # 2.2.6
            flags, off, size = struct.unpack_from("<HHH", p.message, 66)
            token = p.message[off:off + size]
            if p.status == MORE_PROCESSING:
                self._preauth(p.message)
                continue
            if p.status != OK:
                raise SmbError(p.status, "SESSION_SETUP")
            break
        if flags & 3:
            raise SmbError(0xC000006D, "SESSION_SETUP (only as guest)")
        self.signing_key = _kdf(sec.session_key()[:16],
                                b"SMBSigningKey\0", self.preauth)

    def tree(self, share, host="127.0.0.1"):
        """[MS-SMB2] 2.2.9"""
        path = ("\\\\%s\\%s" % (host, share)).encode("utf-16-le")
        p = self.call(TREE_CONNECT, struct.pack("<HHHH", 9, 0, 72,
                                                len(path)) + path)
        tree_id = struct.unpack_from("<I", p.message, 36)[0]
        capabilities = struct.unpack_from("<I", p.message, 72)[0]
        self.any_tree = tree_id
        return Tree(self, share, tree_id, capabilities)

    def echo_send(self):
        return self.send(ECHO, struct.pack("<HH", 4, 0))

    def echo(self):
        return self.wait(self.echo_send())

    def logoff(self):
        """End the session as a client does that shuts down."""
        self.call(LOGOFF, struct.pack("<HH", 4, 0))


_names = {NEGOTIATE: "NEGOTIATE", SESSION_SETUP: "SESSION_SETUP",
          LOGOFF: "LOGOFF", TREE_CONNECT: "TREE_CONNECT",
          TREE_DISCONNECT: "TREE_DISCONNECT", CREATE: "CREATE",
          CLOSE: "CLOSE", FLUSH: "FLUSH", READ: "READ", WRITE: "WRITE",
          LOCK: "LOCK", IOCTL: "IOCTL", ECHO: "ECHO",
          QUERY_DIRECTORY: "QUERY_DIRECTORY", QUERY_INFO: "QUERY_INFO",
          SET_INFO: "SET_INFO", OPLOCK_BREAK: "OPLOCK_BREAK"}


class Open:
    """What a client remembers of a handle: enough to ask for it again."""

    def __init__(self, name, access, share, create_guid, lease_key,
                 lease_state, options):
        self.name = name
        self.access = access
        self.share = share
        self.create_guid = create_guid
        self.lease_key = lease_key
        self.lease_wanted = lease_state
        self.options = options
        self.tree = None
        self.file_id = None		# 16 bytes
        self.durable = False
        self.persistent = False
        self.timeout_msec = 0
        self.lease_state = 0
        self.lease_epoch = 0
        self.lease_version = 2
        self.oplock = OPLOCK_NONE
        self.version = 2
        self.create_action = None
        self.size = 0

    @property
    def persistent_id(self):
        return struct.unpack_from("<Q", self.file_id)[0]

    @property
    def volatile_id(self):
        return struct.unpack_from("<Q", self.file_id, 8)[0]


class Tree:
    """A share, as one connection sees it."""

    def __init__(self, conn, share, tree_id, capabilities):
        self.conn = conn
        self.share = share
        self.tree_id = tree_id
        self.continuously_available = bool(
            capabilities & CAP_CONTINUOUS_AVAILABILITY)

    def send(self, command, body, **kwargs):
        return self.conn.send(command, body, self.tree_id, **kwargs)

    def _create_send(self, op, disposition, contexts, oplock, flags=0):
        # [MS-SMB2] 2.2.13
        name = op.name.encode("utf-16-le")
        blob = _contexts_pack(contexts)
        name_at = 64 + 56
        padded = _pad8(name) or b"\0" * 8
        body = struct.pack(
            "<HBBIQQIIIIIHHII", 57, 0, oplock, 2, 0, 0, op.access, 0x80,
            op.share, disposition, op.options, name_at, len(name),
            name_at + len(padded) if blob else 0, len(blob))
        p = self.send(CREATE, body + padded + blob, flags=flags)
        p.open = op
        return p

    def create_send(self, name, access=RW, share=SHARE_READ | SHARE_WRITE,
                    disposition=OPEN_IF, persistent=True, durable=None,
                    lease=None, lease_key=None, create_guid=None,
                    timeout_msec=0, options=0x40, extra=(), flags=0,
                    oplock=OPLOCK_NONE, version=2, lease_version=2):
        """
        Ask for a handle. persistent and durable add DH2Q (2.2.13.2.11), or
        with version 1 DHnQ (.3); lease RqLs of lease_version.
        """
        op = Open(name, access, share, create_guid or uuid.uuid4().bytes,
                  lease_key or (os.urandom(16) if lease is not None
                                else None), lease, options)
        contexts = list(extra)
        if durable is None:
            durable = persistent
        op.version = version
        op.lease_version = lease_version
        op.oplock = OPLOCK_LEASE if lease is not None else oplock
        if durable and version == 1:
            contexts.append((b"DHnQ", b"\0" * 16))
        elif durable:
            contexts.append((b"DH2Q", struct.pack(
                "<IIQ16s", timeout_msec, DH_PERSISTENT if persistent else 0,
                0, op.create_guid)))
        contexts += self._lease_context(op)
        return self._create_send(op, disposition, contexts, op.oplock, flags)

    @staticmethod
    def _lease_context(op):
        """2.2.13.2.10, or .8, which has no epoch"""
        if op.lease_key is None:
            return []
        if op.lease_version == 1:
            return [(b"RqLs", struct.pack("<16sIIQ", op.lease_key,
                                          op.lease_wanted, 0, 0))]
        return [(b"RqLs", struct.pack("<16sIIQ16sHH", op.lease_key,
                                      op.lease_wanted, 0, 0, b"\0" * 16,
                                      op.lease_epoch, 0))]

    def reconnect_send(self, old, persistent=True, claim=None):
        """
        Ask for a handle that was lost: DH2C (2.2.13.2.12), or with version
        1 DHnC (.4). claim: lease state and epoch the client believes to
        have; else what it once asked for.
        """
        op = Open(old.name, old.access, old.share, old.create_guid,
                  old.lease_key, old.lease_wanted, old.options)
        if claim is not None:
            op.lease_wanted, op.lease_epoch = claim
        op.version = old.version
        op.lease_version = old.lease_version
        op.oplock = OPLOCK_LEASE if op.lease_key else old.oplock
        if old.version == 1:
            contexts = [(b"DHnC", old.file_id)]
        else:
            contexts = [(b"DH2C", struct.pack(
                "<16s16sI", old.file_id, old.create_guid,
                DH_PERSISTENT if persistent else 0))]
        contexts += self._lease_context(op)
        return self._create_send(op, OPEN, contexts, op.oplock)

    def create_recv(self, p, check=True):
        """The Open, or None when it failed and check is not set."""
        self.conn.wait(p, check=check)
        if p.status != OK:
            return None
        # 2.2.14
        op = p.open
        m = p.message
        op.tree = self
        op.oplock = m[66]
        op.create_action = struct.unpack_from("<I", m, 68)[0]
        op.size = struct.unpack_from("<Q", m, 64 + 48)[0]
        op.file_id = m[64 + 64:64 + 80]
        at, size = struct.unpack_from("<II", m, 64 + 80)
        contexts = _contexts_unpack(m[at:at + size]) if size else {}
        op.contexts = contexts
        if b"DH2Q" in contexts:
            op.timeout_msec, flags = struct.unpack_from("<II",
                                                        contexts[b"DH2Q"])
            op.durable = True
            op.persistent = bool(flags & DH_PERSISTENT)
        elif b"DHnQ" in contexts:
            op.durable = True
        if b"RqLs" in contexts:
            op.lease_state = struct.unpack_from("<I", contexts[b"RqLs"],
                                                16)[0]
        if len(contexts.get(b"RqLs", b"")) > 48:
            op.lease_epoch = struct.unpack_from("<H", contexts[b"RqLs"],
                                                48)[0]
        return op

    def create(self, name, **kwargs):
        return self.create_recv(self.create_send(name, **kwargs))

    def reconnect(self, old, **kwargs):
        return self.create_recv(self.reconnect_send(old, **kwargs))

    # ---- requests on a handle

    def close_send(self, op):
        """2.2.15"""
        return self.send(CLOSE, struct.pack("<HHI16s", 24, 0, 0,
                                            op.file_id))

    def close(self, op):
        return self.conn.wait(self.close_send(op))

    def lease_ack_send(self, key, state):
        """A break is acknowledged."""
        return self.send(OPLOCK_BREAK, _lease_ack(key, state))

    def write_send(self, op, offset, data):
        """2.2.21"""
        return self.send(WRITE, struct.pack(
            "<HHIQ16sIIHHI", 49, 64 + 48, len(data), offset, op.file_id,
            0, 0, 0, 0, 0) + data, length=len(data))

    def write(self, op, offset, data):
        return self.conn.wait(self.write_send(op, offset, data))

    def read_send(self, op, offset, length):
        """2.2.19"""
        return self.send(READ, struct.pack(
            "<HBBIQ16sIIIHHB", 49, 80, 0, length, offset, op.file_id,
            0, 0, 0, 0, 0, 0), length=length)

    def read_recv(self, p):
        self.conn.wait(p)
        at = p.message[66]
        size = struct.unpack_from("<I", p.message, 68)[0]
        return p.message[at:at + size]

    def read(self, op, offset, length):
        return self.read_recv(self.read_send(op, offset, length))

    def lock_send(self, op, offset, length, flags=LOCK_EXCLUSIVE |
                  LOCK_NOWAIT, sequence=0):
        """2.2.26; sequence: index (1 to 64) << 4 | number (0 to 15)"""
        return self.send(LOCK, struct.pack(
            "<HHI16sQQII", 48, 1, sequence, op.file_id, offset, length,
            flags, 0))

    def lock(self, op, offset, length, flags=LOCK_EXCLUSIVE | LOCK_NOWAIT,
             sequence=0):
        return self.conn.wait(self.lock_send(op, offset, length, flags,
                                             sequence))

    def unlock(self, op, offset, length, sequence=0):
        return self.lock(op, offset, length, LOCK_UNLOCK, sequence)

    def delete_on_close(self, op):
        """2.2.39: FileDispositionInformation"""
        return self.conn.wait(self.send(SET_INFO, struct.pack(
            "<HBBIHHI16sB", 33, 1, 13, 1, 64 + 32, 0, 0, op.file_id, 1)))

    def rename_send(self, op, name):
        """2.2.39: FileRenameInformation, [MS-FSCC] 2.4.42.2"""
        name = name.encode("utf-16-le")
        info = struct.pack("<B7xQI", 0, 0, len(name)) + name
        info = info.ljust(24, b"\0")
        return self.send(SET_INFO, struct.pack(
            "<HBBIHHI16s", 33, 1, 10, len(info), 64 + 32, 0, 0,
            op.file_id) + info)

    def rename(self, op, name):
        return self.conn.wait(self.rename_send(op, name))

    def flush(self, op):
        """2.2.17"""
        return self.conn.wait(self.send(FLUSH, struct.pack(
            "<HHI16s", 24, 0, 0, op.file_id)))

    def query_size_send(self, op):
        """2.2.37: FileStandardInformation"""
        return self.send(QUERY_INFO, struct.pack(
            "<HBBIHHIII16s", 41, 1, 5, 64, 0, 0, 0, 0, 0, op.file_id))

    def query_size(self, op):
        p = self.conn.wait(self.query_size_send(op))
        at = struct.unpack_from("<H", p.message, 66)[0]
        return struct.unpack_from("<Q", p.message, at + 8)[0]

    def status_of(self, fn, *args, **kwargs):
        """Call fn and return the status it was answered with, as a name."""
        try:
            fn(*args, **kwargs)
        except SmbError as e:
            return e.name
        return "OK"

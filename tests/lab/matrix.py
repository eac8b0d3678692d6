# Kinds of handles, caching and events: what a client gets after an end of its
# server
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What it is: the cells of (durable v1, durable v2, persistent) x (no lease, R,
# RH, RWH, batch oplock) x an end x (nothing else, someone opens the file, a
# break in flight, the CREATE sent again), for smb/test_handle_matrix and
# cluster/test_handle_matrix. wanted() says what is to come, or why the cell
# cannot be. All cells of one end are done at once: Ann has a handle for each,
# on one connection; Bob opens some of the files from another one.
#
# Ends: "killed" (her smbd; others live and know), and any other, after which
# nobody has her lease in memory.

import itertools
import time

import phlab
import smb2

R, RH = smb2.LEASE_R, smb2.LEASE_R | smb2.LEASE_H
RWH = RH | smb2.LEASE_W
KINDS = ("v1", "v2", "persistent")
CACHES = {"none": {}, "R": {"lease": R}, "RH": {"lease": RH},
          "RWH": {"lease": RWH}, "batch": {"oplock": smb2.OPLOCK_BATCH}}
EVENTS = ("nothing", "open", "break", "replay")
ALL = smb2.SHARE_READ | smb2.SHARE_WRITE | smb2.SHARE_DELETE
LOST = "OBJECT_NAME_NOT_FOUND"
PATIENCE = 60
# ends of Ann's server that Bob's connection outlives
BOB_STAYS = ("killed", "node killed", "node restarted")


def granted(kind, cache):
    """
    [MS-SMB2] 3.3.5.9.6, .10: durable wants a batch oplock or a lease with
    H; persistent wants neither. Samba grants no persistent handle with an
    oplock, but a durable one.
    """
    if kind == "persistent":
        return "v2" if cache == "batch" else "persistent"
    return kind if cache in ("RH", "RWH", "batch") else None


def wanted(kind, cache, end, event):
    """
    (Ann's reconnect or replay, Bob's open before it), or why not. Bob: None,
    he does not ask; "waits", he has to until Ann is back.
    """
    has = granted(kind, cache)
    if event == "break" and cache not in ("RWH", "batch"):
        return "an open that shares breaks nothing"
    if event == "break" and kind == "v1" and end in BOB_STAYS:
        return ("Samba: nobody knows of a v1 handle whose server died, the "
                "open waits for the break, more than a minute")
    if event == "replay" and kind == "v1":
        return "a v1 CREATE has no GUID to know it by"
    if event == "replay" and has is None:
        return "no handle was granted that could be found again"
    if has == "persistent":
        if event in ("nothing", "replay"):
            return "OK", None
        # 3.3.5.9.11, .12, 3.3.4.7: only what breaks nothing goes on, and
        # only while the lease is known
        free = cache == "RH" and end == "killed"
        return "OK", "OK" if free else "waits"
    bob = None if event in ("nothing", "replay") else "OK"
    # 3.3.5.9.7, .12: durable is not persistent: v1 is in memory only; v2 is
    # kept, and an open takes it (3.3.4.6)
    if has == "v2" and bob is None:
        return "OK", None
    return LOST, bob


class Cell:
    def __init__(self, kind, cache, end, event, shares):
        self.kind, self.cache = kind, cache
        self.end, self.event = end, event
        self.name = "-".join((kind, cache, end, event)).replace(" ", "-")
        self.wanted = wanted(kind, cache, end, event)
        self.share = shares[kind == "persistent"]
        self.op = None
        self.his = None

    def check(self, ok, text):
        phlab.check(ok, "%s: %s" % (self.name, text))

    def ask(self, trees, **kwargs):
        kwargs.update(CACHES[self.cache])
        return trees[self.share].create_recv(trees[self.share].create_send(
            self.name, share=ALL, persistent=self.kind == "persistent",
            durable=True, version=1 if self.kind == "v1" else 2, **kwargs))

    def open(self, trees):
        self.op = op = self.ask(trees)
        has = granted(self.kind, self.cache)
        self.check(op.durable == (has is not None) and
                   op.persistent == (has == "persistent"),
                   "granted durable %s, persistent %s" % (op.durable,
                                                          op.persistent))
        self.check(op.lease_state == CACHES[self.cache].get("lease", 0),
                   "lease %s" % smb2.lease_name(op.lease_state))

    def bob_asks(self, trees):
        self.his = trees[self.share].create_send(
            self.name, share=ALL, persistent=False, disposition=smb2.OPEN)

    def bob_got(self):
        if not self.his.done:
            return "waits"
        got = smb2.status_name(self.his.status)
        return "waits" if got == "FILE_NOT_AVAILABLE" else got

    def back(self, trees):
        tree = trees[self.share]
        if self.event == "replay":
            call = lambda: self.ask(trees, create_guid=self.op.create_guid,
                                    lease_key=self.op.lease_key,
                                    flags=smb2.FLAG_REPLAY)
        else:
            call = lambda: tree.reconnect(
                self.op, persistent=self.op.persistent,
                claim=(self.op.lease_state, self.op.lease_epoch))
        try:
            new = call()
        except smb2.SmbError as e:
            self.check(e.name == self.wanted[0], "answered %s, not %s" %
                       (e.name, self.wanted[0]))
            self.op = None
            return
        self.check(self.wanted[0] == "OK", "answered OK, not %s" %
                   self.wanted[0])
        self.check(new.persistent_id == self.op.persistent_id, "another one")
        self.check(new.lease_state == self.op.lease_state, "back with %s" %
                   smb2.lease_name(new.lease_state))
        self.op = new
        tree.write(new, 0, b"mine")


def trees_of(client, shares):
    return {share: client.conn.tree(share) for share in shares}


def until(clients, done, what):
    end = time.monotonic() + PATIENCE
    while not done():
        phlab.check(time.monotonic() < end, "%s: not in %d s" %
                    (what, PATIENCE))
        for client in clients:
            client.conn.drain(0.02)


def cells_of(end, events=EVENTS, shares=("plain", "ca")):
    """The cells of this end, and those that cannot be: {why: names}."""
    cells = []
    excluded = {}
    for event, kind, cache in itertools.product(events, KINDS, CACHES):
        cell = Cell(kind, cache, end, event, shares)
        if isinstance(cell.wanted, str):
            excluded.setdefault(cell.wanted, []).append(cell.name)
        else:
            cells.append(cell)
    return cells, excluded


def play(end, cells, ann, bob, strike, shares=("plain", "ca")):
    """
    All cells of this end. strike(): her server ends; when it returns what is
    left of it serves, and Ann's and Bob's `server` are where to go.
    """
    events = {e: [c for c in cells if c.event == e] for e in EVENTS}
    breaks = events["break"]
    ann.connect_when_up()
    bob.connect_when_up()
    hers, his = trees_of(ann, shares), trees_of(bob, shares)
    for cell in cells:
        cell.open(hers)
    ann.conn.ack_breaks = False
    for cell in breaks:
        cell.bob_asks(his)
    until((ann,), lambda: len(ann.conn.breaks) == len(breaks),
          "%s: Ann hears of the breaks" % end)
    strike(ann)
    if end not in BOB_STAYS:
        bob.connect_when_up()
        his = trees_of(bob, shares)
    ann.drop()
    asked = events["open"] + breaks
    for cell in asked:
        if cell.event == "open" or end not in BOB_STAYS:
            cell.bob_asks(his)
    until((bob,), lambda: all(c.his.done or c.wanted[1] == "waits"
                              for c in asked), "%s: Bob is answered" % end)
    bob.conn.drain(0.3)
    for cell in asked:
        cell.check(cell.bob_got() == cell.wanted[1],
                   "Bob was answered %s, not %s" % (cell.bob_got(),
                                                    cell.wanted[1]))
    ann.connect_when_up()
    hers = trees_of(ann, shares)
    for cell in cells:
        cell.back(hers)
    # who had to wait is served now, and Ann told of what he breaks
    left = [c for c in cells if c.wanted[1] == "waits"]
    while left:
        for cell in left:
            if cell.his.done and cell.bob_got() == "waits":
                cell.bob_asks(his)
        until((ann, bob), lambda: all(c.his.done for c in left),
              "%s: Bob is served" % end)
        left = [c for c in left if c.bob_got() == "waits"]
    for cell in cells:
        if cell.his is not None:
            cell.check(cell.bob_got() == "OK", "Bob was answered %s at last"
                       % cell.bob_got())
        if cell.op is not None:
            hers[cell.share].close(cell.op)
    ann.drop()
    bob.drop()

# bench: every bound the project set itself, and where its value comes from
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Rule: this list is complete, whatever was measured. A bound is a row of the
# page in each run; when its part was not run, or has no row for it, the page
# says so and gives no value. The limit itself, the peer's value and whether
# it held are the row's own (benchlib.Bench.row), as some limits are made of
# what was measured along with them.
#
# GOALS: (heading, ((what, wanted, part, row) ...)). A bound that no
# benchmark can show, since it is about what must not happen, has the part
# "test" and the tests' names; what they printed comes from their logs
# (bench/tests).
#
# NO_PEER: {(part, row): why nobody's value stands beside ours}.

PARTS = (
    ("summary", "make bench", "one machine: handles over SMB, the store"),
    ("cluster", "make bench-cluster", "clusters of 3 to 8 nodes"),
    ("ceph", "make bench-ceph", "the backend rados, on three OSDs"),
    ("cephfs", "make bench-ceph", "shares on CephFS"),
    ("sim", "bench/model/run", "the replication core in virtual time"),
    ("test", "make test", "tests, as their last logs tell"),
)

GOALS = (
    ("One machine, backend local", (
        ("fdatasync per open and close, 1 client", "<= 2", "summary",
         "fdatasync/open-close/1-client"),
        ("the same, 8 clients", "<= 1.2", "summary",
         "fdatasync/open-close/8-clients"),
        ("the same, 8 clients, each sync 2 ms slower", "<= 0.4", "summary",
         "fdatasync/open-close/8-clients-slow-disk"),
        ("the same, slowed down in the store itself", "<= 0.4", "summary",
         "fdatasync/open-close/8-clients-slow-store"),
        ("msync per open and close, 1 client", "0", "summary",
         "msync/open-close/1-client"),
        ("msync per open and close, 8 clients", "0", "summary",
         "msync/open-close/8-clients"),
        ("open and close, 1 client", "<= plain handle + 2.5 fdatasync",
         "summary", "time/open-close/1-client"),
        ("open and close, 8 clients", ">= 0.6 x plain handles", "summary",
         "rate/open-close/8-clients"),
        ("fdatasync per open, lock, unlock, close, 1 client", "<= 4",
         "summary", "fdatasync/open-lock-unlock-close/1-client"),
        ("the same, 8 clients", "<= 4", "summary",
         "fdatasync/open-lock-unlock-close/8-clients"),
        ("msync per open, lock, unlock, close, 1 client", "0", "summary",
         "msync/open-lock-unlock-close/1-client"),
        ("the same, 8 clients", "0", "summary",
         "msync/open-lock-unlock-close/8-clients"),
        ("open, lock, unlock, close, 1 client",
         "<= plain handle + 2 x 2.5 fdatasync", "summary",
         "time/open-lock-unlock-close/1-client"),
        ("open, lock, unlock, close, 8 clients", ">= 0.6 x plain handles",
         "summary", "rate/open-lock-unlock-close/8-clients"),
        ("store, 1 writer", ">= 0.7 x pwrite + fdatasync", "summary",
         "store/1-writer"),
        ("store, 64 writers", ">= 20 x one writer's tdb transactions",
         "summary", "store/64-writers"),
        ("100,000 records of 500 bytes reopened and scanned", "< 1 s",
         "summary", "store/reopen-scan-100000"),
        ("processor time of a put", "< 15 us", "summary", "store/put-cpu"),
        ("smbds killed at random under load, 50 rounds", "no handle or lock "
         "lost or invented", "test", "tests/smb/test_kill9_rounds"),
        ("power cut at >= 10,000 places", "0 acknowledged lost, 0 halves",
         "test", "tests/crash/test_crash_disk"),
        ("killed at every write and sync", "0 acknowledged lost, 0 halves",
         "test", "tests/crash/test_die_everywhere"),
        ("disk full, errors of write and fdatasync", "told, nothing lost",
         "test", "tests/crash/test_faults"),
        ("damaged, foreign, newer, read-only stores", "refused by name and "
         "reason, nothing overwritten", "test", "tests/unit/test_bad_store"),
        ("a fuzz target for each decoder, 60 s", "no finding", "test",
         "tests/fuzz/run"),
        ("smbtorture: handles, replay, leases, locks, oplocks", "nothing "
         "fails that passes with Samba's own storage", "test",
         "tests/torture/run"),
    )),
    ("A ctdb cluster, backend ctdb, K = 2", (
        ("sync, 1 client, 3 nodes", ">= 1 x partial_outage", "cluster",
         "sync/1-client/x-partial"),
        ("the same", ">= 10 x full_outage", "cluster",
         "sync/1-client/x-full"),
        ("sync, 8 clients, 3 nodes", ">= 1.5 x partial_outage", "cluster",
         "sync/8-clients/x-partial"),
        ("the same", ">= 25 x full_outage", "cluster",
         "sync/8-clients/x-full"),
        ("the same", ">= 0.5 x plain handles", "cluster",
         "sync/8-clients/x-plain"),
        ("fdatasync of all nodes per cycle, 1 client", "<= 4", "cluster",
         "sync/1-client/fdatasync"),
        ("the same, 8 clients", "<= 2.5", "cluster",
         "sync/8-clients/fdatasync"),
        ("replicated, 1 client", ">= 0.7 x plain handles", "cluster",
         "replicated/1-client/x-plain"),
        ("replicated, 8 clients", ">= 0.7 x plain handles", "cluster",
         "replicated/8-clients/x-plain"),
        ("cost on 8 nodes over cost on 3, sync, 1 client", "<= 1.2",
         "cluster", "sync/1-client/8-nodes-to-3"),
        ("the same, 5 nodes over 3", "reported", "cluster",
         "sync/1-client/5-nodes-to-3"),
        ("first write after a node's death, beyond ctdb's own recovery",
         "< 300 ms", "cluster", "failover/after-recovery"),
        ("that with 100,000 handles open", "< 2,000 ms", "cluster",
         "failover/after-recovery-100000"),
        ("first write after a node's death, in all", "reported",
         "cluster", "failover/other/total"),
        ("the same, ctdb's leader dies", "reported", "cluster",
         "failover/leader/total"),
        ("a link is cut, in all", "< 10 s", "cluster",
         "failover/cut/total"),
        ("nodes die, are cut off, come back, all stop or lose power",
         "handles and locks as they were, no zombie", "test",
         "tests/cluster/test_failover"),
        ("30 minutes of kills, pauses, cuts, full disks (--seconds 1800; "
         "a test run has fewer)", "0 handles or "
         "locks lost, no zombie", "test", "tests/cluster/test_chaos"),
        ("wrong K, another cluster or protocol, garbage", "refused, nothing "
         "lost", "test", "tests/unit/test_phstored_refused"),
        ("each fault put into the replication core", "noticed by the "
         "simulator", "test", "tests/sim/run"),
        ("each fault put into the protocol's model", "found by spin; none "
         "without", "test", "tests/model/run"),
    )),
    ("A Ceph cluster, backend rados", (
        ("one commit, cls_phstore", "<= 1.3 x a bare omap_set", "ceph",
         "class/commit"),
        ("one commit, without the class", "<= 1.3 x a bare omap_set",
         "ceph", "plain/commit"),
        ("64 writers, cls_phstore", ">= 8 x compare-and-set of one record",
         "ceph", "class/64-writers"),
        ("64 writers, without the class",
         ">= 8 x compare-and-set of one record", "ceph",
         "plain/64-writers"),
        ("100,000 records scanned, cls_phstore", "< 2 s", "ceph",
         "class/scan-100000"),
        ("100,000 records scanned, without the class", "< 2 s", "ceph",
         "plain/scan-100000"),
        ("one OSD of three killed under load", "0 errors", "ceph",
         "osd-killed/errors"),
        ("its longest stall", "reported", "ceph", "osd-killed/longest"),
        ("persistent handles over SMB, 8 clients", "reported, beside "
         "full_outage", "cluster", "rados/8-clients"),
        ("the same, backend ctdb, class sync", "reported, beside "
         "full_outage", "cluster", "sync/8-clients"),
        ("the same, backend local, one smbd", "reported, beside "
         "full_outage", "cluster", "local/8-clients"),
        ("the monitor restarts under load", "0 errors", "test",
         "tests/ceph/test_kills"),
        ("full pool", "a clear error, recovers", "test",
         "tests/ceph/test_full_pool"),
        ("200 kills of OSDs, phstored and smbd (--kills 200; a test run has "
         "fewer)", "0 acknowledged lost",
         "test", "tests/ceph/test_kills, tests/ceph/test_smb_kills"),
    )),
    ("Shares on CephFS, vfs_ceph_ca", (
        ("a node is killed: first write on the survivor",
         "< 2 s beyond detection", "cephfs", "kill-to-write/node"),
        ("the same, ctdb's detection and recovery included", "reported",
         "cephfs", "kill-to-write/node-total"),
        ("a smbd is killed: first write with the next one", "< 2 s",
         "cephfs", "kill-to-write"),
        ("a write, beside vfs_ceph_new alone", "ratio within noise",
         "cephfs", "write-cost"),
        ("a read, beside vfs_ceph_new alone", "ratio within noise",
         "cephfs", "read-cost"),
        ("open and close, beside vfs_ceph_new alone", "reported", "cephfs",
         "open-close"),
        ("smbtorture: durable and persistent handles, locks", "nothing fails "
         "that passes on a local folder", "test", "tests/ceph/test_torture"),
    )),
    ("Durable v2 handles and leases", (
        ("durable v2, open and close, 1 client", "<= 1.1 x upstream's",
         "summary", "durable/open-close/1-client"),
        ("persistent with an RWH lease, open and close, 1 client",
         "<= 1.1 x without a lease", "summary",
         "lease-rwh/open-close/1-client"),
        ("handle x lease x death x what comes between", "MS-SMB2's answer "
         "in each cell", "test", "tests/smb/test_handle_matrix, "
         "tests/cluster/test_handle_matrix"),
        ("smbtorture, deleteonclose-expire among it", "no worse than before",
         "test", "tests/torture/run"),
        ("smbtorture on three nodes with ctdb (by hand, many minutes)",
         "nothing fails that passes with Samba's own storage", "test",
         "tests/cluster/upstream"),
    )),
)

_NOT_IN_RADOS = "nobody else keeps a server's open files in RADOS"
NO_PEER = {
    ("cluster", "failover/after-recovery-100000"):
        "to open 100,000 handles with full_outage takes three quarters of "
        "an hour",
    ("ceph", "class/scan-100000"): _NOT_IN_RADOS,
    ("ceph", "plain/scan-100000"): _NOT_IN_RADOS,
    ("ceph", "osd-killed/errors"): _NOT_IN_RADOS,
    ("ceph", "osd-killed/longest"): _NOT_IN_RADOS,
}


def names(row):
    """Those of a row of the part test."""
    return row.split(", ")


def tests():
    """Each test that shows a bound, once."""
    return list(dict.fromkeys(
        name for _, goals in GOALS for _, _, part, row in goals
        if part == "test" for name in names(row)))


def no_peer(part, row):
    """Why it has no peer's value; None if that is not known."""
    return row.get("no_peer") or NO_PEER.get((part, row["name"]))


def told(parts, row):
    """
    [(test, what its last log says, whether it passed or None)] of a row of
    the part test.
    """
    data, _ = parts.get("test", (None, None))
    logs = {r["name"]: r for r in data["rows"]} if data else {}
    out = []
    for name in names(row):
        r = logs.get(name)
        if r is None:
            out.append((name, "no log of it here", None))
            continue
        out.append((name, "%s%s (%s)" % (
            r.get("text") or "%d checks" % r["value"],
            "" if r.get("pass") else ", FAILED", r.get("date", "?")),
            bool(r.get("pass"))))
    return out


def find(parts, part, row):
    """(row, None), or (None, why there is none)."""
    if part == "test":
        return None, "; ".join("%s: %s" % (name, said) for name, said, _
                               in told(parts, row))
    data, why = parts.get(part, (None, "not run"))
    if data is None:
        command = [c for name, c, _ in PARTS if name == part][0]
        return None, "part %s %s (%s)" % (part, why, command)
    for r in data["rows"]:
        if r["name"] == row:
            return r, None
    return None, "not measured in this run of part " + part

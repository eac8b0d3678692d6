# bench: what bench/cluster measured, as rows and pictures of the page
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Rule: a row is there only if everything it is made of was measured; ratios
# are made round by round, as a round's figures were measured seconds apart.

import statistics

import plots

NAMES = {"local": "phstore, local (no cluster)", "sync": "phstore, sync",
         "replicated": "phstore, replicated", "rados": "phstore, rados"}
COLOURS = {"local": 5, "sync": 0, "replicated": 2, "rados": 3, "full_outage": 1,
           "partial_outage": 4}
PROCESSES = (1, 8, 64)	# that write records without SMB
OPS = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b,
       "<": lambda a, b: a < b}


def median(values):
    return statistics.median(values)


def rates(data, nodes, storage, clients, handle="persistent"):
    cell = data["throughput"][str(nodes)][storage][
        "%s/%d" % (handle, clients)]
    return cell.get("rates") or [cell["cycles_per_s"]]


def beside(data, nodes):
    """{storage: cells} of that size; beside 3 nodes also none at all."""
    cells = data["throughput"].get(str(nodes), {})
    if str(nodes) == "1":
        return {s: c for s, c in cells.items() if s != "local"}
    local = data["throughput"].get("1", {}).get("local")
    return dict({"local": local} if local and str(nodes) == "3" else {},
                **cells)


def ratios(top, low):
    if len(top) != len(low):
        return [median(top) / median(low)]
    return [a / b for a, b in zip(top, low)]


def of_plain(data, nodes, storage, clients):
    return ratios(rates(data, nodes, storage, clients),
                  rates(data, nodes, storage, clients, "plain"))


def syncs(data, storage, clients):
    cell = data["throughput"]["3"][storage]["persistent/%d" % clients]
    return [cell["fdatasync_per_cycle"]]


def after(data, storage):
    """Milliseconds from the end of ctdb's recovery to the first write."""
    got = [r["after_ms"] for name, runs in data["failover"].items()
           if name in (storage + "/leader", storage + "/other")
           for r in runs]
    if not got:
        raise KeyError(storage)
    return got


def wanted(data):
    """(name, unit, op, limit, ours, peer or None, how[, figures])"""
    def x_peer(storage, clients):
        return lambda: ratios(rates(data, 3, "sync", clients),
                              rates(data, 3, storage, clients))

    def x_plain(storage, clients):
        return lambda: of_plain(data, 3, storage, clients)

    def growth(storage, nodes):
        return lambda: [median(of_plain(data, 3, storage, 1)) /
                        median(of_plain(data, nodes, storage, 1))]

    def total(storage, whom):
        return lambda: [r["total_s"] for r in
                        data["failover"]["%s/%s" % (storage, whom)]]

    def one():
        return [1]

    def figures(storage, clients):
        pair = [samples(lambda s=s: [median(rates(data, 3, s, clients))])
                for s in ("sync", storage)]
        return None if None in pair else "%.0f /s, %s %.0f" % (
            pair[0][0], storage, pair[1][0])

    rate_how = ("cycles/s of class sync, K=2, over those of Samba's own "
                "storage with %s, in a cluster of its own, 3 nodes")
    plain_how = ("cycles/s over those of plain handles, measured in turns "
                 "in the same cluster of 3 nodes; peer: %s likewise")
    for clients, full, partial in ((1, 10.0, 1.0), (8, 25.0, 1.5)):
        name = "%d-client%s" % (clients, "" if clients == 1 else "s")
        yield ("sync/%s/x-partial" % name, "x partial_outage", ">=",
               partial, x_peer("partial_outage", clients), one,
               rate_how % "partial_outage", figures("partial_outage",
                                                    clients))
        yield ("sync/%s/x-full" % name, "x full_outage", ">=", full,
               x_peer("full_outage", clients), one,
               rate_how % "full_outage", figures("full_outage", clients))
        yield ("sync/%s/x-plain" % name, "x plain handles", ">=" if
               clients == 8 else None, 0.5, x_plain("sync", clients),
               x_plain("full_outage", clients), plain_how % "full_outage")
        yield ("sync/%s/fdatasync" % name, "per cycle", "<=",
               4.0 if clients == 1 else 2.5,
               lambda n=clients: syncs(data, "sync", n),
               lambda n=clients: syncs(data, "full_outage", n),
               "fdatasync calls of all processes of all 3 nodes over the "
               "cycles of the same time, median of the rounds; peer: "
               "full_outage, which has as many msync besides")
        yield ("sync/%s/messages" % name, "per cycle", None, None,
               lambda n=clients: [data["throughput"]["3"]["sync"][
                   "persistent/%d" % n]["messages_per_cycle"]], None,
               "messages between the phstoreds of 3 nodes over the cycles "
               "of the same time, sweeps and the node's own among them")
        yield ("replicated/%s/x-plain" % name, "x plain handles", ">=",
               0.7, x_plain("replicated", clients),
               x_plain("partial_outage", clients),
               plain_how % "partial_outage")
        for storage, nodes, how in (
                ("rados", 3, "3 nodes over a Ceph cluster of three OSDs on "
                 "the same machine"),
                ("sync", 3, "3 nodes, backend ctdb, class sync, K=2"),
                ("local", 1, "one smbd without a cluster, backend local")):
            yield ("%s/%s" % (storage, name), "cycles/s", None, None,
                   lambda s=storage, k=nodes, n=clients: rates(data, k, s, n),
                   lambda n=clients: rates(data, 3, "full_outage", n),
                   "persistent handles, " + how + "; peer: full_outage on 3 "
                   "nodes")
    for n, op in ((8, "<="), (5, None)):
        yield ("sync/1-client/%d-nodes-to-3" % n, "x", op, 1.2,
               growth("sync", n), growth("full_outage", n),
               "the cost of a persistent handle, plain cycles/s over "
               "persistent ones in the same cluster, on %d nodes over that "
               "on 3; peer: full_outage" % n)
    for n in PROCESSES:
        yield ("records/%d-process%s" % (n, "" if n == 1 else "es"),
               "commits/s", None, None,
               lambda n=n: data["peers"]["phstore/%d" % n],
               lambda n=n: data["peers"]["ctdb/%d" % n],
               "records stored and deleted on one of 3 nodes, class sync, "
               "K=2, no SMB; peer: a transaction each on a persistent "
               "database of ctdb's")
    yield ("round-trip", "us", None, None,
           lambda: [data["peers"]["round_trip_us"]], None,
           "400 bytes to another node and back over TCP, median: the least "
           "that any replication adds to a sync")
    yield ("failover/after-recovery", "ms", "<", 300.0,
           lambda: after(data, "sync"), lambda: after(data, "full_outage"),
           "SIGKILL of all of a node; from the end of ctdb's recovery until "
           "the handle asked for on another node is back and was written "
           "to; leader and another node; peer: full_outage")
    for whom, what, limit in (
            ("other", "SIGKILL of all of a node (not ctdb's leader)", None),
            ("leader", "SIGKILL of all of a node (ctdb's leader)", None),
            ("cut", "a node's link is cut (not ctdb's leader's)", 10.0),
            ("cut-leader", "the link of ctdb's leader is cut", 10.0)):
        yield ("failover/%s/total" % whom, "s", "<" if limit else None,
               limit, total("sync", whom), total("full_outage", whom),
               what + " until the handle is back on another one and was "
               "written to, ctdb's detection and recovery included; peer: "
               "full_outage")
    yield ("failover/after-recovery-100000", "ms", "<", 2000.0,
           lambda: [data["failover"]["sync/other, 100000 handles open"][0][
               "after_ms"]], None,
           "the same while 100,000 handles were open on the node that died")


def samples(fn):
    try:
        return fn() if fn else None
    except (KeyError, IndexError, statistics.StatisticsError,
            ZeroDivisionError):
        return None


def rows(data):
    out = []
    for name, unit, op, limit, ours, peer, how, *figures in wanted(data):
        got, other = samples(ours), samples(peer)
        if got is None:
            continue
        value = round(median(got), 2)
        out.append({
            "name": name, "value": value, "unit": unit,
            "bound": "%s %g" % (op, limit) if op else None,
            "bound_value": limit if op else None,
            "peer": None if other is None else round(median(other), 2),
            "pass": OPS[op](value, limit) if op else True,
            "spread": [round(min(got), 2), round(max(got), 2)],
            "rounds": len(got), "how": how,
            "figures": figures[0] if figures else None})
    return out


def sizes(data):
    return sorted(data["throughput"], key=int)


def all_storages(data):
    found = []
    for size in sizes(data):
        found += [s for s in data["throughput"][size] if s not in found]
    return found


def pictures(data):
    m = data.get("machine", {})
    note = ("rounds of %s s: medians, whiskers from the smallest to the "
            "largest; all nodes, daemons and clients share the machine" %
            m.get("seconds", "?"))
    out = []
    over_n, bars, sync_bars = [], [], []
    for storage in all_storages(data):
        name = NAMES.get(storage, "Samba, " + storage)
        look = {"colour": COLOURS.get(storage, 7)}
        got = {int(n): rates(data, n, storage, 1) for n in sizes(data)
               if "persistent/1" in data["throughput"][n].get(storage, {})}
        if len(got) > 1:
            over_n.append(plots.series(name, got, 1, **look))
        cells = beside(data, 3).get(storage, {})
        groups = {"%s client%s" % (n, "" if n == "1" else "s"):
                  "persistent/" + n for n in ("1", "8")}
        groups = {k: v for k, v in groups.items() if v in cells}
        if groups:
            bars.append(plots.series(name, {
                k: cells[v].get("rates") or [cells[v]["cycles_per_s"]]
                for k, v in groups.items()}, 1, **look))
            sync_bars.append(plots.series(name, {
                k: [cells[v]["fdatasync_per_cycle"] +
                    cells[v]["msync_per_cycle"]]
                for k, v in groups.items()}, **look))
    if over_n:
        plain = next(s for s in ("sync", "partial_outage", "full_outage",
                                 "replicated", "rados")
                     if s in all_storages(data))
        over_n.append(plots.series("plain handles", {
            int(n): rates(data, n, plain, 1, "plain") for n in sizes(data)
            if plain in data["throughput"][n]}, 1, dash=True, colour=6))
        out.append(plots.plot(
            "line", "Open and close over the number of nodes, 1 client",
            "nodes", "cycles/s", over_n, note, log_y=True))
    if bars:
        out.append(plots.plot("bars", "Open and close, 3 nodes", "",
                              "cycles/s", bars, note))
        out.append(plots.plot(
            "bars", "Syncs per cycle, all processes of 3 nodes", "",
            "fdatasync and msync calls", sync_bars, note, log_y=True))
    if data["failover"]:
        out.append(timeline(data))
    return out


def timeline(data):
    """From the death of a node to the first write, in its phases."""
    phases = (("ctdb notices and recovers",
               lambda r: r["total_s"] - r["after_ms"] / 1000),
              ("new session, handle back, first write",
               lambda r: r["after_ms"] / 1000))
    names = {}
    for key, runs in data["failover"].items():
        storage, whom = key.split("/", 1)
        names["%s, %s" % (storage, whom.replace(" handles open", ""))] = runs
    return plots.plot(
        "bars", "Failover: from SIGKILL of a node to the first write", "",
        "seconds",
        [plots.series(title, {name: [fn(r) for r in runs]
                              for name, runs in names.items()}, 3)
         for title, fn in phases],
        "3 nodes, one client with handle and lock; medians of %d run(s); "
        "leader, other: which node died; cut: another one's link was cut" %
        max(len(r) for r in names.values()), stacked=True)

# bench: what a commit costs in a cluster, on paper
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# docs/COST_MODEL.md is the text to it. predict() takes constants and a
# cluster, and gives counts per commit, load of each resource, throughput and
# time; simulate() has tests/sim (the core's own code in virtual time) tell
# the same, with the same constants. All times in microseconds.

import dataclasses
import json
import math
import os
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
MAX_SIMULATED = 64		# nodes, PHSTORE_NODES_MAX
HEADER, RECORD, ITEM = 56, 32, 4		# bytes, repl_wire.h
KEY = 24
SWEEP_BATCH, SWEEP_PERIOD = 2048, 2050000.0	# phstored's
SWEEP_PIECE = 32
TICK = 50000.0


@dataclasses.dataclass
class Constants:
    """
    Measured on the machine of bench/reference (docs/COST_MODEL.md says
    how); wake, msg, item, swept and told are of phstored's one thread.
    """
    sync: float = 120.0		# an fdatasync
    latency: float = 50.0	# one way between two nodes
    per_byte: float = 0.008	# 1 Gbit/s
    wake: float = 13.0		# an event, whatever it is
    msg: float = 9.0		# a message sent or received
    item: float = 9.0		# a record written or applied
    swept: float = 2.0		# a deletion of a sweep applied or forgotten
    told: float = 10.0		# its volatile record taken away
    smbd: float = 270.0		# smbd for an open or a close
    cores: int = 2		# of a node, for its smbds
    records: int = 2		# that an open or close changes
    bytes: int = 400		# of a record's value


@dataclasses.dataclass
class Cluster:
    nodes: int = 3
    copies: int = 2
    clients: int = 8		# of all nodes
    think: float = 0.0		# between two commits of a client
    replicated: bool = False


def syncs_per_us(demand, sync):
    """
    One sync at a time; who comes meanwhile shares the next one. With
    demand arrivals per us, independent of each other.
    """
    if demand <= 0:
        return 0.0
    return 1 / (sync + math.exp(-demand * sync) / demand)


def tick_syncs(arrivals, swept):
    """
    Class replicated: a member syncs what has come with its next tick, if
    nothing else had it sync before, and PURGEs do, at random moments. (Syncs
    per us for that, syncs of both kinds that have something new.)
    """
    both = arrivals + swept
    if arrivals <= 0:
        return 0.0, 0.0
    none = math.exp(-both * TICK)
    # that nothing came since the last sync: as a tick, as a PURGE sees it
    tick = swept / both * (1 - none) + none
    purge = swept / both + arrivals / both * (1 - none) / (both * TICK)
    ticks = (1 - tick) / TICK
    return ticks, ticks + swept * (1 - purge)


def sweep(k, cl, x):
    """
    Deletions of a node (half of its x commits per us) go to all members
    twice, PURGE and FORGET, in batches: per us and node.
    """
    deletions = x * k.records / 2
    if deletions <= 0:
        return 0.0, 0.0, 0.0, 0.0
    batch = min(SWEEP_BATCH, max(1.0, deletions * SWEEP_PERIOD))
    rate = deletions / batch
    messages = 4 * (cl.nodes - 1) * rate
    size = messages * HEADER + 2 * (cl.nodes - 1) * deletions * (
        RECORD + KEY)
    # each member applies and forgets those of all nodes, in pieces
    pieces = math.ceil(batch / SWEEP_PIECE)
    turns = rate * (2 * cl.nodes * (pieces + 1) + pieces)
    load = deletions * (2 * cl.nodes * k.swept + k.told) + (
        messages * (2 * k.msg + k.wake) + 4 * rate * (k.msg + k.wake) +
        turns * k.wake)
    return rate, messages, size, load


def share(cl):
    """Clients of a node."""
    return max(1, round(cl.clients / cl.nodes))


def sweep_load(k, cl, x):
    """phstored's time for sweeps, of all time."""
    return sweep(k, cl, x)[3]


def batching(k, cl, x, swept=0.0):
    """
    (batches per us, phstored's load by them) of one node at x commits per
    us, beside a load by sweeps. What is staged while phstored is busy is one batch; of
    the clients of a closed loop about a quarter can be in that state at
    once (they are spread over smbd, phstored, network and disk).
    """
    peers = cl.copies - 1
    # the log's tail; acks and others' batches coming in, and the answers;
    # class sync: the end of the sync, and only then the answer
    per_batch = k.wake + k.msg * peers + 2 * peers * (k.wake + k.msg) + (
        peers * k.msg + (0 if cl.replicated else k.wake))
    jobs = 2 + 2 * peers
    records = x * k.records * cl.copies * k.item
    most = max(1.0, share(cl) / 4)
    batch, load = 1.0, 0.0
    for _ in range(80):
        load = x / batch * per_batch + records
        busy = min(load + swept, 0.99)
        service = (per_batch + records * batch / x) / jobs
        new = min(most, 1 + x * busy * service / (2 * (1 - busy)))
        batch = (batch + new) / 2
    return x / batch, load


def at_rate(k, cl, x):
    """Everything per commit of one node that commits x times per us."""
    peers = cl.copies - 1
    rate, sweep_msgs, sweep_bytes, _ = sweep(k, cl, x)
    swept = min(0.95, sweep_load(k, cl, x))
    batches, load = batching(k, cl, x, swept)
    if cl.replicated:
        ticks, told = tick_syncs(batches * peers, rate * cl.nodes)
        syncs = syncs_per_us(ticks, k.sync)
        acks = peers * (batches + told)
    else:
        syncs = syncs_per_us(x + batches * peers, k.sync)
        acks = peers * batches
    # each PURGE is synced by every member, unless another sync does it
    syncs += rate * cl.nodes * (1 if cl.replicated else math.exp(
        -(x + batches * peers) * k.sync))
    value = k.records * (ITEM + RECORD + KEY + k.bytes / 2)
    return {
        "ship": peers * batches / x, "ack": acks / x,
        "sweep": sweep_msgs / x,
        "bytes": (peers * batches + acks) / x * HEADER + peers * value +
        sweep_bytes / x,
        "syncs": syncs / x,
        "phstored": load + swept,
        "smbd": x * k.smbd / k.cores,
        "disk": min(1.0, syncs * k.sync),
    }


def unloaded_wait(k, cl):
    """From staging to the answer, when nothing else goes on."""
    data = HEADER + k.records * (ITEM + RECORD + KEY + k.bytes / 2)
    there = (k.wake + k.records * k.item + k.msg + data * k.per_byte +
             k.latency + k.wake + k.msg + k.records * k.item)
    back = k.msg + HEADER * k.per_byte + k.latency + k.wake + k.msg
    if cl.copies == 1:
        return k.wake if cl.replicated else k.sync
    if cl.replicated:
        return there + back
    return there + k.sync + k.wake + back


def capacity(k, cl):
    """Commits per us at which a node's first resource is used up, and it."""
    smbd = k.cores / k.smbd
    low, high = 1e-9, 1.0
    for _ in range(50):
        mid = (low + high) / 2
        swept = sweep_load(k, cl, mid)
        _, load = batching(k, cl, mid, swept)
        if load + swept < 0.98:
            low = mid
        else:
            high = mid
    return min((smbd, "smbd"), (low, "phstored"))


def closed_loop(k, cl):
    """
    Commits per us of a node: mean value analysis, stations smbd (cores of
    them) and phstored, the rest a delay. phstored's time depends on the rate,
    as batches grow and sweeps take their part of it: found by turns.
    """
    clients = share(cl)
    wait = unloaded_wait(k, cl)
    station = k.smbd / k.cores
    x = 1 / (k.smbd + wait + cl.think)
    for _ in range(25):
        swept = min(0.9, sweep_load(k, cl, x))
        _, load = batching(k, cl, x, swept)
        own = load / x / (1 - swept)
        delay = cl.think + k.smbd - station + max(0.0, wait - own)
        queue_s = queue_p = rate = 0.0
        for n in range(1, min(clients, 3000) + 1):
            time_s = station * (1 + queue_s)
            time_p = own * (1 + queue_p)
            rate = n / (delay + time_s + time_p)
            queue_s, queue_p = rate * time_s, rate * time_p
        if clients > 3000:
            # as many as that are at the limit, or hardly seen
            rate = min(1 / station, 1 / own,
                       clients / (delay + station + own))
        x = (x + rate) / 2
    return x


def queueing(k, cl, x):
    """
    What a commit waits for others in phstored, on the mean: three times (at
    its writer's, at a successor's, and when the answer is back) it comes at
    a random moment (Pollaczek and Khinchine); of a sweep it waits for the
    piece that is under way.
    """
    swept = sweep_load(k, cl, x)
    batches, load = batching(k, cl, x, swept)
    jobs = batches * (2 + 2 * (cl.copies - 1))
    wait = (swept * SWEEP_PIECE * k.swept + load * load / jobs) / (
        2 * max(0.02, 1 - swept - load))
    return wait * (3 if cl.copies > 1 else 1)


def predict(k, cl):
    most, first = capacity(k, cl)
    x = min(closed_loop(k, cl), most)
    out = at_rate(k, cl, x)
    wait = unloaded_wait(k, cl)
    out.update(commits_per_s=x * 1e6 * cl.nodes,
               limit_per_s=most * 1e6 * cl.nodes, first=first,
               wait_us=wait,
               time_us=max(
                   share(cl) / x - cl.think,
                   min(wait + k.smbd + queueing(k, cl, x),
                       share(cl) / x) if cl.think else wait + k.smbd))
    return out


class Simulator:
    """tests/sim, built once into a folder."""

    def __init__(self, folder):
        self.program = os.path.join(folder, "sim")
        subprocess.run([os.path.join(TOP, "tests", "sim", "run"),
                        "--mutants"], check=True, stdout=subprocess.DEVNULL,
                       env=dict(os.environ, TEST_TMP=folder))

    def run(self, k, cl, seed=1, length=3e6, warmup=3e6):
        def ns(us):
            return str(round(us * 1000))

        out = subprocess.run([
            self.program, "--load", "--nodes", str(cl.nodes),
            "--copies", str(cl.copies), "--clients", str(cl.clients),
            "--think-ns", ns(cl.think), "--sync-ns", ns(k.sync),
            "--latency-ns", ns(k.latency), "--wake-ns", ns(k.wake),
            "--msg-ns", ns(k.msg), "--item-ns", ns(k.item),
            "--swept-ns", ns(k.swept), "--told-ns", ns(k.told),
            "--smbd-ns", ns(k.smbd), "--cores", str(k.cores),
            "--records", str(k.records), "--bytes", str(k.bytes),
            "--ns-per-byte", str(k.per_byte * 1000),
            "--replicated", str(int(cl.replicated)),
            "--warmup-ns", ns(warmup), "--length-ns", ns(length),
            "--seed", str(seed)], check=True, stdout=subprocess.PIPE,
            text=True)
        return json.loads(out.stdout)

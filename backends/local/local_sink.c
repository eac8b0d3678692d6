/*
 * phstore local backend: what a sink changes for those who stage and wait
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A daemon ships the log of a store with a sink (local_ship.c). It publishes
 * in the shared memory: a gate, the epoch of versions, two watermarks. Here
 * is what every other process does with them:
 *
 *   stage    looks at the gate under the append mutex, so that whoever has
 *            closed it and then held that mutex knows that nothing follows
 *   barrier  synced here, and the sink's watermark: two conditions of which
 *            the last one to come true answers; the leader of the group
 *            commit and the daemon both look through the waiters' slots
 *   version  (sink's epoch, one above the newest known)
 *
 * What was undone (fenced) stands below the watermark as well, so the
 * intervals are kept: a watermark is read first, then they are. When there
 * are more than LOCAL_FENCES, two become one with what lies between: whoever
 * still waits there is told FENCED although it was safe, which costs a
 * connection and breaks no promise.
 *
 * A store without a sink pays one load of a line that stage and barrier
 * read anyway.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "local.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SLICE_NS 20000000ULL
#define DRAIN_NAP_NS 50000

static const char *const kind_names[LOCAL_SINK_END] = {
	[LOCAL_SINK_CTDB] = "ctdb",
	[LOCAL_SINK_RADOS] = "rados",
};

uint32_t local_sink_by_name(const char *name)
{
	uint32_t i;

	for (i = 1; name != NULL && i < LOCAL_SINK_END; i++) {
		if (strcmp(kind_names[i], name) == 0) {
			return i;
		}
	}
	return LOCAL_SINK_NONE;
}

const char *local_sink_kind_name(uint32_t kind)
{
	return kind < LOCAL_SINK_END ? kind_names[kind] : NULL;
}

enum phstore_err local_sink_check_open(struct local_store *ls, bool any_sink)
{
	struct local_shared *sh = ls->shared;
	uint32_t kind = atomic_load(&sh->sink_kind);

	if (any_sink || kind == ls->want_sink) {
		return PHSTORE_OK;
	}
	if (kind == LOCAL_SINK_NONE) {
		/* no daemon was there yet: nothing is taken until then */
		return PHSTORE_OK;
	}
	return phstore_fail(PHSTORE_ERR_SINK,
			    "%s belongs to %s \"%.*s\", it was opened as %s",
			    ls->store->path, kind_names[kind],
			    PHSTORE_SHIP_NAME_MAX, sh->super.sink_name,
			    ls->want_sink == LOCAL_SINK_NONE ? "local" :
			    kind_names[ls->want_sink]);
}

static enum phstore_err not_ready(struct local_store *ls)
{
	struct local_sink *sink = &ls->shared->sink;

	return phstore_fail(PHSTORE_ERR_NOT_READY,
			    "%s: no changes are taken now: %.*s",
			    ls->store->path, PHSTORE_SHIP_REASON_MAX - 1,
			    sink->reason[0] != '\0' ? sink->reason :
			    "phstored has not begun");
}

static enum phstore_err backlog_full(struct local_store *ls, uint64_t max)
{
	return phstore_fail(PHSTORE_ERR_NOT_READY,
			    "%s: %" PRIu64 " bytes of the log have not "
			    "reached the sink", ls->store->path, max);
}

static enum phstore_err sink_full(struct local_store *ls)
{
	return phstore_fail(PHSTORE_ERR_FULL, "%s: its sink is full",
			    ls->store->path);
}

static uint64_t backlog(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint64_t from = atomic_load(&sh->sink.released);
	uint64_t tail = atomic_load(&sh->tail);

	return atomic_load(&sh->head) - (from > tail ? from : tail);
}

enum phstore_err local_sink_gate(struct local_store *ls,
				 const struct phstore_txn *txn,
				 bool use_reserve)
{
	struct local_sink *sink = &ls->shared->sink;
	uint64_t max = atomic_load(&sink->backlog_max);
	uint16_t i;

	if (atomic_load(&sink->gate) == LOCAL_GATE_CLOSED) {
		return not_ready(ls);
	}
	for (i = 0; i < txn->num_ops; i++) {
		const struct phstore_txn_op *top = &txn->ops[i];
		struct phstore_version v;

		if (top->skipped) {
			continue;
		}
		v = phstore_op_get_version(txn->buf + top->ofs);
		if (v.epoch != sink->epoch) {
			return phstore_fail(PHSTORE_ERR_FENCED,
					    "%s: a version of epoch %" PRIu64
					    " in epoch %" PRIu64,
					    ls->store->path, v.epoch,
					    sink->epoch);
		}
	}
	if (!use_reserve && atomic_load(&sink->full) != 0) {
		return sink_full(ls);
	}
	/* a reserve of the same size for what lets go of something */
	if (backlog(ls) > (use_reserve ? 4 : 2) * max) {
		return backlog_full(ls, max);
	}
	return PHSTORE_OK;
}

/* Without the append mutex: a guess, as all of phstore_room() is. */
enum phstore_err local_sink_room(struct local_store *ls)
{
	struct local_sink *sink = &ls->shared->sink;
	uint64_t max = atomic_load(&sink->backlog_max);

	if (atomic_load(&sink->gate) == LOCAL_GATE_CLOSED) {
		return not_ready(ls);
	}
	if (atomic_load(&sink->full) != 0) {
		return sink_full(ls);
	}
	if (backlog(ls) > max) {
		return backlog_full(ls, max);
	}
	return PHSTORE_OK;
}

struct phstore_version local_sink_version(struct local_store *ls,
					  struct phstore_version newest)
{
	struct local_sink *sink = &ls->shared->sink;

	if (newest.epoch < sink->epoch) {
		return (struct phstore_version) {
			.epoch = sink->epoch,
			.seq = sink->floor + 1,
		};
	}
	/* nobody remembers the deletions up to floor */
	if (newest.epoch == sink->epoch && newest.seq < sink->floor) {
		newest.seq = sink->floor;
	}
	newest.seq += 1;
	return newest;
}

/*
 * Leaving out what is stored already answers for the stored one: only if it
 * is the newest, and its durability is told by a barrier of this node.
 */
bool local_sink_may_skip(struct local_store *ls,
			 const struct phstore_txn_op *top,
			 const struct local_entry *e)
{
	bool newest;

	if (!local_has_sink(ls)) {
		return true;
	}
	newest = e->version.epoch > top->seen.epoch ||
		 (e->version.epoch == top->seen.epoch &&
		  e->version.seq >= top->seen.seq);
	return newest && (!e->copied ||
			  e->end_lsn <= atomic_load(&ls->shared->sink.begun));
}

bool local_sink_fenced(struct local_store *ls, uint64_t lsn)
{
	struct local_sink *sink = &ls->shared->sink;
	uint64_t n = atomic_load(&sink->num_fences);
	uint64_t i;

	for (i = 0; i < n && i < LOCAL_FENCES; i++) {
		if (lsn > atomic_load(&sink->fences[i].from) &&
		    lsn <= atomic_load(&sink->fences[i].to))
		{
			return true;
		}
	}
	return false;
}

bool local_sink_reached(struct local_store *ls, uint64_t lsn,
			enum phstore_class durability)
{
	struct local_sink *sink = &ls->shared->sink;
	uint64_t mark;

	mark = durability == PHSTORE_CLASS_SYNC ? atomic_load(&sink->disk) :
						  atomic_load(&sink->mem);
	return mark >= lsn && !local_sink_fenced(ls, lsn);
}

bool local_is_durable(struct phstore *store, uint64_t lsn,
		      enum phstore_class durability)
{
	struct local_store *ls = store->backend;
	bool ok = true;

	if (durability == PHSTORE_CLASS_SYNC) {
		ok = local_is_synced(store, lsn);
	}
	if (ok && durability != PHSTORE_CLASS_LOCAL && lsn != 0 &&
	    local_has_sink(ls))
	{
		ok = local_sink_reached(ls, lsn, durability);
	}
	return ok;
}

/* Without a sink K is 1: replicated is what the host's memory gives. */
bool local_class_waits(struct phstore *store, enum phstore_class durability)
{
	if (durability == PHSTORE_CLASS_REPLICATED) {
		return local_has_sink(store->backend);
	}
	return durability == PHSTORE_CLASS_SYNC;
}

/* Tell all who wait for something of the sink to look again. */
void local_sink_moved(struct local_store *ls)
{
	struct local_sink *sink = &ls->shared->sink;

	atomic_fetch_add(&sink->gen, 1);
	if (atomic_load(&sink->sleepers) != 0) {
		(void)syscall(SYS_futex, &sink->gen, FUTEX_WAKE, INT_MAX,
			      NULL, NULL, 0);
	}
	(void)local_notify_reached(ls);
}

void local_sink_wait_moved(struct local_store *ls, uint32_t gen, uint64_t ns)
{
	struct local_sink *sink = &ls->shared->sink;
	struct timespec ts = {};

	if (ns > WAIT_SLICE_NS) {
		ns = WAIT_SLICE_NS;
	}
	ts.tv_nsec = (long)ns;
	atomic_fetch_add(&sink->sleepers, 1);
	(void)syscall(SYS_futex, &sink->gen, FUTEX_WAIT, gen, &ts, NULL, 0);
	atomic_fetch_sub(&sink->sleepers, 1);
}

/*
 * Wake the daemon, if it sleeps. Over a connected socket: the folder can be
 * entered by its owner only, which the caller need not be at the moment.
 */
void local_sink_kick(struct phstore *store)
{
	struct local_store *ls = store->backend;
	struct local_sink *sink = &ls->shared->sink;
	uint32_t asleep = 1;
	uint8_t byte = 0;
	ssize_t n = -1;
	bool ok;

	if (!local_has_sink(ls) || atomic_load(&sink->asleep) == 0) {
		return;
	}
	ok = atomic_compare_exchange_strong(&sink->asleep, &asleep, 0);
	if (!ok) {
		return;
	}
	if (ls->ship_fd != -1) {
		n = send(ls->ship_fd, &byte, sizeof(byte),
			 MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (n == -1 && (ls->ship_fd == -1 || errno != EAGAIN)) {
		/* another daemon than last time */
		if (ls->ship_fd != -1) {
			close(ls->ship_fd);
		}
		phstore_owner_begin(store);
		ls->ship_fd = local_notify_connect(ls, "wake-ship");
		phstore_owner_end(store);
		if (ls->ship_fd != -1) {
			n = send(ls->ship_fd, &byte, sizeof(byte),
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		}
	}
	/* what could not be sent: the daemon looks by itself now and then */
	(void)n;
}

/* Time left of a limit (0: none), 0 when it is over. */
static uint64_t time_left(uint64_t start_ns, uint32_t timeout_ms)
{
	uint64_t past, limit = timeout_ms * 1000000ULL;

	if (timeout_ms == 0) {
		return UINT64_MAX;
	}
	past = phstore_now_ns() - start_ns;
	return past < limit ? limit - past : 0;
}

enum phstore_err local_barrier(struct phstore *store,
			       uint64_t lsn,
			       enum phstore_class durability,
			       uint32_t timeout_ms)
{
	struct local_store *ls = store->backend;
	struct local_sink *sink = &ls->shared->sink;
	uint64_t start_ns = 0;
	enum phstore_err err;

	if (!local_has_sink(ls)) {
		if (durability != PHSTORE_CLASS_SYNC) {
			return PHSTORE_OK;
		}
		return local_barrier_disk(store, lsn, timeout_ms);
	}
	if (durability == PHSTORE_CLASS_LOCAL || lsn == 0) {
		return PHSTORE_OK;
	}
	start_ns = phstore_now_ns();
	local_sink_kick(store);
	if (durability == PHSTORE_CLASS_SYNC) {
		err = local_barrier_disk(store, lsn, timeout_ms);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	while (true) {
		uint32_t gen = atomic_load(&sink->gen);
		uint64_t left;
		bool ok;

		ok = local_sink_reached(ls, lsn, durability);
		if (ok) {
			return PHSTORE_OK;
		}
		err = local_barrier_check(store, lsn);
		if (err != PHSTORE_OK) {
			return err;
		}
		left = time_left(start_ns, timeout_ms);
		if (left == 0) {
			return phstore_fail(PHSTORE_ERR_TIMEOUT,
					    "not with the sink after %"
					    PRIu32 " ms", timeout_ms);
		}
		local_sink_wait_moved(ls, gen, left);
	}
}

bool phstore_gate_get(struct phstore *store, struct phstore_gate *gate)
{
	struct local_store *ls = store->backend;
	struct local_sink *sink = &ls->shared->sink;
	uint64_t seq;

	*gate = (struct phstore_gate) {};
	if (!local_has_sink(ls)) {
		return false;
	}
	do {
		seq = atomic_load(&sink->seq) & ~(uint64_t)1;
		gate->epoch = atomic_load(&sink->epoch);
		gate->floor = atomic_load(&sink->floor);
		gate->generation = atomic_load(&sink->generation);
		gate->node = atomic_load(&sink->node);
		gate->full = atomic_load(&sink->full) != 0;
		gate->open = atomic_load(&sink->gate) == LOCAL_GATE_OPEN;
	} while (gate->open && atomic_load(&sink->seq) != seq);
	return true;
}

bool phstore_gate_is_open(struct phstore *store)
{
	struct local_store *ls = store->backend;

	return !local_has_sink(ls) ||
	       atomic_load(&ls->shared->sink.gate) == LOCAL_GATE_OPEN;
}

static void leave(struct local_sink *sink)
{
	uint32_t n = atomic_load(&sink->entered);

	/* it is set to 0 when those who entered took too long */
	while (n > 0 &&
	       !atomic_compare_exchange_weak(&sink->entered, &n, n - 1))
	{
		/* n is reloaded */
	}
}

enum phstore_err phstore_gate_enter(struct phstore *store)
{
	struct local_store *ls = store->backend;
	struct local_sink *sink = &ls->shared->sink;

	if (!local_has_sink(ls)) {
		return PHSTORE_OK;
	}
	atomic_fetch_add(&sink->entered, 1);
	if (atomic_load(&sink->gate) != LOCAL_GATE_OPEN) {
		leave(sink);
		return not_ready(ls);
	}
	return PHSTORE_OK;
}

void phstore_gate_leave(struct phstore *store)
{
	struct local_store *ls = store->backend;

	if (local_has_sink(ls)) {
		leave(&ls->shared->sink);
	}
}

enum phstore_err phstore_gate_wait(struct phstore *store, uint32_t timeout_ms)
{
	struct local_store *ls = store->backend;
	struct local_sink *sink = &ls->shared->sink;
	uint64_t start_ns = phstore_now_ns();

	while (true) {
		uint32_t gen = atomic_load(&sink->gen);
		bool ok = phstore_gate_is_open(store);
		uint64_t left = time_left(start_ns, timeout_ms);

		if (ok) {
			return PHSTORE_OK;
		}
		if (left == 0) {
			return not_ready(ls);
		}
		local_sink_wait_moved(ls, gen, left);
	}
}

/* Returns when nobody stages any more. bar: only a new generation opens. */
enum phstore_err local_sink_close_gate(struct local_store *ls,
				       const char *reason,
				       bool bar)
{
	struct local_sink *sink = &ls->shared->sink;
	struct timespec nap = { .tv_nsec = DRAIN_NAP_NS };
	uint32_t open = LOCAL_GATE_OPEN;
	uint64_t start_ns = phstore_now_ns();
	enum phstore_err err;

	if (bar) {
		atomic_fetch_add(&sink->bar, 1);
	}
	(void)atomic_compare_exchange_strong(&sink->gate, &open,
					     LOCAL_GATE_CLOSING);
	while (atomic_load(&sink->gate) == LOCAL_GATE_CLOSING &&
	       atomic_load(&sink->entered) != 0)
	{
		if (phstore_now_ns() - start_ns >
		    PHSTORE_GATE_DRAIN_MS * 1000000ULL)
		{
			/* killed, or stopped: its stage will be refused */
			atomic_store(&sink->entered, 0);
			break;
		}
		nanosleep(&nap, NULL);
	}
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		/* who was staging has ended, who comes now finds it closed */
		atomic_store(&sink->gate, LOCAL_GATE_CLOSED);
		return err;
	}
	atomic_store(&sink->gate, LOCAL_GATE_CLOSED);
	snprintf(sink->reason, sizeof(sink->reason), "%s",
		 reason != NULL ? reason : "");
	local_append_unlock(ls);
	local_sink_moved(ls);
	return PHSTORE_OK;
}

enum phstore_err phstore_gate_close(struct phstore *store,
					 const char *reason)
{
	struct local_store *ls = store->backend;

	phstore_check_fork(store);
	if (store->read_only) {
		return phstore_fail(PHSTORE_ERR_READ_ONLY,
				    "%s: opened read-only", store->path);
	}
	return local_sink_close_gate(ls, reason, true);
}

enum phstore_err phstore_ship_get_state(struct phstore *store,
					struct phstore_ship_state *st)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	struct local_sink *sink = &sh->sink;
	enum phstore_err err;
	int ret = EBUSY;

	*st = (struct phstore_ship_state) {};
	if (atomic_load(&sh->sink_kind) == LOCAL_SINK_NONE) {
		return phstore_fail(PHSTORE_ERR_NOT_SUPPORTED,
				    "%s: no sink", store->path);
	}
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (!store->read_only &&
	    atomic_load(&sink->pid) != (uint32_t)getpid()) {
		ret = pthread_mutex_trylock(&sink->owner);
		if (ret == 0) {
			pthread_mutex_unlock(&sink->owner);
		} else if (ret == EOWNERDEAD) {
			(void)pthread_mutex_consistent(&sink->owner);
			pthread_mutex_unlock(&sink->owner);
		}
	}
	*st = (struct phstore_ship_state) {
		.attached = ret == EBUSY && atomic_load(&sink->pid) != 0,
		.pid = atomic_load(&sink->pid),
		.kind = local_sink_kind_name(atomic_load(&sh->sink_kind)),
		.epoch = sink->epoch,
		.floor = sink->floor,
		.generation = sink->generation,
		.node = sink->node,
		.writable = atomic_load(&sink->gate) == LOCAL_GATE_OPEN,
		.complete = sink->complete,
		.mem_lsn = atomic_load(&sink->mem),
		.disk_lsn = atomic_load(&sink->disk),
		.released_lsn = atomic_load(&sink->released),
		.head_lsn = atomic_load(&sh->head),
		.backlog_max = atomic_load(&sink->backlog_max),
		.num_fenced = atomic_load(&sink->num_fences),
	};
	memcpy(st->name, sh->super.sink_name, sizeof(sh->super.sink_name));
	memcpy(st->reason, sink->reason, sizeof(st->reason));
	local_append_unlock(ls);
	return PHSTORE_OK;
}

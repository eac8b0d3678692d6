/*
 * phstore local backend: group commit
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Whoever waits for a barrier tries to become the leader. The leader takes
 * the head of the log, syncs up to there and answers everyone below it with
 * one fdatasync; those who came later elect the next leader among them. A
 * leader that is killed leaves a robust mutex: the next who tries gets it.
 * Waiters sleep on a futex and look themselves after WAIT_SLICE_MS, so that
 * a leader killed between its sync and the wake-up delays them by no more.
 *
 * Event loops do not sleep on the futex, they have a slot and a socket: see
 * local_notify.c. A helper thread that leads goes on doing so while one of
 * them waits, so that under load the log has one busy leader and nobody
 * hands over.
 *
 * Gathering: with N clients in a closed loop and a greedy leader, half of
 * them are always just too late for the running sync: they wait for it and
 * the next, and each sync serves half. So before it syncs the leader waits
 * for those the last sync answered, as they are about to come back: until
 * as many returned, but not longer than half a sync's moving average. A
 * single client is its own last group and waits for nobody. A killed or
 * idle client costs one such wait, then it is not in the last group.
 *
 * What was tried and was worse: spinning for the sync's end (the leader
 * needs that CPU), and a plain mutex queue instead of the futex (waiters
 * that are answered already queue behind one that is not).
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "local.h"
#include "phstore_io.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_SLICE_MS 20
/* The leader never gathers longer than this. */
#define GATHER_MAX_NS 5000000ULL
/* Rounds a helper thread leads for others; then it hands over. */
#define LEAD_ROUNDS 1000
/* Segments one group commit syncs; more are left to the next. */
#define SYNC_SEGS_MAX 64

int local_mutex_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int ret;

	ret = pthread_mutexattr_init(&attr);
	if (ret != 0) {
		return ret;
	}
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	ret = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return ret;
}

int local_mutex_lock(struct local_store *ls, pthread_mutex_t *mutex,
		     bool *owner_died)
{
	int ret = pthread_mutex_lock(mutex);

	*owner_died = false;
	if (ret == EOWNERDEAD) {
		*owner_died = true;
		atomic_fetch_add(&ls->shared->num_owner_deaths, 1);
		ret = pthread_mutex_consistent(mutex);
	}
	return ret;
}

static void futex_wait(_Atomic uint32_t *addr, uint32_t val, uint64_t ns)
{
	struct timespec ts = {
		.tv_sec = ns / 1000000000ULL,
		.tv_nsec = ns % 1000000000ULL,
	};

	(void)syscall(SYS_futex, addr, FUTEX_WAIT, val, &ts, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *addr)
{
	(void)syscall(SYS_futex, addr, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool local_is_synced(struct phstore *store, uint64_t lsn)
{
	struct local_store *ls = store->backend;

	return atomic_load(&ls->shared->durable) >= lsn;
}

static void sync_latch(struct local_store *ls, int sys_errno)
{
	uint32_t none = 0;

	(void)atomic_compare_exchange_strong(&ls->shared->latched, &none,
					     (uint32_t)sys_errno);
}

/* Sync one segment; it may have been retired meanwhile. */
static int sync_segment(struct local_store *ls, const struct local_seg *seg)
{
	int fd, ret;

	fd = local_fd_get(ls, seg->segno);
	if (fd == -1 && errno == ENOENT &&
	    atomic_load(&ls->shared->tail) > seg->start)
	{
		return 0;
	}
	if (fd == -1) {
		return -1;
	}
	atomic_fetch_add(&ls->shared->num_syncs, 1);
	ret = phstore_io->fdatasync(fd);
	local_fd_put(ls, seg->segno);
	return ret;
}

/* The leader's work; sync mutex held. */
static enum phstore_err sync_lead(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	struct local_seg segs[SYNC_SEGS_MAX];
	size_t num_segs = 0;
	uint64_t durable = atomic_load(&sh->durable);
	uint64_t target, dir_dirty, start_ns, ns, avg;
	uint32_t arrivals, i, end;
	enum phstore_err err;
	int ret = 0;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	target = atomic_load(&sh->head);
	arrivals = atomic_load(&sh->arrivals);
	dir_dirty = sh->dir_dirty;
	end = atomic_load(&sh->seg_end);
	for (i = atomic_load(&sh->seg_begin); i != end; i++) {
		struct local_seg *seg = &sh->segs[i % LOCAL_MAX_SEGMENTS];

		if (seg->start + seg->size <= durable) {
			continue;
		}
		if (num_segs == SYNC_SEGS_MAX) {
			target = seg->start;
			break;
		}
		segs[num_segs++] = *seg;
	}
	local_append_unlock(ls);

	start_ns = phstore_now_ns();
	for (i = 0; i < num_segs && ret == 0; i++) {
		ret = sync_segment(ls, &segs[i]);
	}
	if (ret == 0 && dir_dirty != atomic_load(&sh->dir_synced)) {
		ret = phstore_io->fsync_dir(ls->dir_fd);
		atomic_fetch_add(&sh->num_meta_syncs, 1);
		if (ret == 0) {
			atomic_store(&sh->dir_synced, dir_dirty);
		}
	}
	if (ret == -1) {
		/* what reached the disk is unknown now: stop here */
		sync_latch(ls, errno);
		return local_latched_error(ls);
	}
	ns = phstore_now_ns() - start_ns;

	PHSTORE_TEST_POINT("sync: synced");
	atomic_store(&sh->durable, target);
	PHSTORE_TEST_POINT("sync: durable moved");

	atomic_store(&sh->last_group, arrivals - sh->arrivals_synced);
	sh->arrivals_synced = arrivals;
	atomic_store(&sh->returned, 0);
	atomic_fetch_add(&sh->sync_no, 1);
	atomic_fetch_add(&sh->sync_ns_total, ns);
	if (ns > atomic_load(&sh->sync_ns_max)) {
		atomic_store(&sh->sync_ns_max, ns);
	}
	avg = atomic_load(&sh->sync_ns_avg);
	atomic_store(&sh->sync_ns_avg,
		     avg == 0 ? ns : avg - avg / 8 + ns / 8);
	return PHSTORE_OK;
}

/* Wait for those the last sync answered; see the head of this file. */
static void sync_gather(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint32_t group = atomic_load(&sh->last_group);
	uint64_t limit = atomic_load(&sh->sync_ns_avg) / 2;
	uint64_t start = phstore_now_ns();

	if (limit > GATHER_MAX_NS) {
		limit = GATHER_MAX_NS;
	}
	atomic_store(&sh->leader_waits, 1);
	while (atomic_load(&sh->returned) < group) {
		uint32_t seen = atomic_load(&sh->arrivals);
		uint64_t past = phstore_now_ns() - start;

		if (past >= limit) {
			break;
		}
		if (atomic_load(&sh->returned) >= group) {
			break;
		}
		futex_wait(&sh->arrivals, seen, limit - past);
	}
	atomic_store(&sh->leader_waits, 0);
}

/* Count a barrier that has to wait in, for sync_gather(). */
void local_sync_arrive(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	bool last = false;

	atomic_fetch_add(&sh->num_barriers, 1);
	if (atomic_load(&ls->last_sync_no) == atomic_load(&sh->sync_no)) {
		last = atomic_fetch_add(&sh->returned, 1) + 1 >=
		       atomic_load(&sh->last_group);
	}
	atomic_fetch_add(&sh->arrivals, 1);
	/* not before: the leader would look, and sleep again */
	if (last && atomic_load(&sh->leader_waits)) {
		futex_wake(&sh->arrivals);
	}
}

/* A barrier was answered after that time. */
void local_served(struct phstore *store, uint64_t wait_ns)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	uint64_t us = wait_ns / 1000;
	unsigned int i = 0;

	while (us > 1 && i < PHSTORE_LATENCY_BUCKETS - 1) {
		us /= 2;
		i += 1;
	}
	atomic_fetch_add(&sh->barrier_us[i], 1);
	atomic_store(&ls->last_sync_no, atomic_load(&sh->sync_no));
}

static void wake_sleepers(struct local_shared *sh)
{
	atomic_fetch_add(&sh->sync_gen, 1);
	if (atomic_load(&sh->sleepers) != 0) {
		futex_wake(&sh->sync_gen);
	}
}

/*
 * Lead group commits until lsn is durable and, for max_rounds at most, no
 * event loop waits any more; sync mutex held.
 */
static enum phstore_err sync_rounds(struct local_store *ls,
				    uint64_t lsn,
				    int max_rounds)
{
	struct local_shared *sh = ls->shared;
	enum phstore_err err = PHSTORE_OK;
	bool more = false;
	int rounds = 0;

	atomic_store(&sh->leader_active, 1);
	while (err == PHSTORE_OK &&
	       (atomic_load(&sh->durable) < lsn ||
		(more && rounds < max_rounds)))
	{
		sync_gather(ls);
		err = sync_lead(ls);
		rounds += 1;
		more = local_notify_reached(ls);
		wake_sleepers(sh);
		if (err == PHSTORE_OK && !more) {
			/* say so, then look again: see local_notify.c */
			atomic_store(&sh->leader_active, 0);
			more = local_notify_reached(ls);
			if (more && rounds < max_rounds) {
				atomic_store(&sh->leader_active, 1);
			}
		}
	}
	atomic_store(&sh->leader_active, 0);
	return err;
}

static enum phstore_err sync_wait(struct local_store *ls,
				  uint64_t lsn,
				  uint64_t start_ns,
				  uint32_t timeout_ms,
				  int max_rounds)
{
	struct phstore *store = ls->store;
	struct local_shared *sh = ls->shared;
	enum phstore_err err = PHSTORE_OK;

	while (atomic_load(&sh->durable) < lsn) {
		uint32_t gen = atomic_load(&sh->sync_gen);
		uint64_t wait_ns = WAIT_SLICE_MS * 1000000ULL;
		int ret;

		if (atomic_load(&sh->latched) != 0) {
			return local_latched_error(ls);
		}
		if (timeout_ms != 0) {
			uint64_t past_ns = phstore_now_ns() - start_ns;
			uint64_t limit = timeout_ms * 1000000ULL;

			if (past_ns >= limit) {
				return phstore_fail(PHSTORE_ERR_TIMEOUT,
						    "not durable after %"
						    PRIu32 " ms", timeout_ms);
			}
			if (limit - past_ns < wait_ns) {
				wait_ns = limit - past_ns;
			}
		}
		ret = pthread_mutex_trylock(&sh->sync);
		if (ret == EOWNERDEAD) {
			atomic_fetch_add(&sh->num_owner_deaths, 1);
			ret = pthread_mutex_consistent(&sh->sync);
		}
		if (ret == EBUSY) {
			atomic_fetch_add(&sh->sleepers, 1);
			futex_wait(&sh->sync_gen, gen, wait_ns);
			atomic_fetch_sub(&sh->sleepers, 1);
			continue;
		}
		if (ret != 0) {
			return phstore_fail(PHSTORE_ERR_IO,
					    "%s: sync lock: %s", store->path,
					    strerror(ret));
		}
		err = sync_rounds(ls, lsn, max_rounds);
		/* unlock before the wake-up: the woken try to lock */
		pthread_mutex_unlock(&sh->sync);
		PHSTORE_TEST_POINT("sync: unlocked");
		wake_sleepers(sh);
		local_notify_hand_over(ls);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	return PHSTORE_OK;
}

/* Would a sync fail at once? */
static enum phstore_err disk_check(struct phstore *store, uint64_t lsn)
{
	struct local_store *ls = store->backend;

	if (store->read_only) {
		return phstore_fail(PHSTORE_ERR_READ_ONLY,
				    "%s: opened read-only", store->path);
	}
	if (lsn > atomic_load(&ls->shared->head)) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "LSN %" PRIu64 " is beyond the log's "
				    "head", lsn);
	}
	if (atomic_load(&ls->shared->latched) != 0) {
		return local_latched_error(ls);
	}
	return PHSTORE_OK;
}

/* Would a barrier? */
enum phstore_err local_barrier_check(struct phstore *store, uint64_t lsn)
{
	struct local_store *ls = store->backend;
	enum phstore_err err;

	err = disk_check(store, lsn);
	if (err == PHSTORE_OK && local_has_sink(ls) &&
	    local_sink_fenced(ls, lsn))
	{
		err = phstore_fail(PHSTORE_ERR_FENCED,
				   "%s: undone: this node had left the "
				   "cluster's members", store->path);
	}
	return err;
}

enum phstore_err local_lead(struct phstore *store, uint64_t lsn)
{
	return sync_wait(store->backend, lsn, 0, 0, LEAD_ROUNDS);
}

/*
 * For the daemon of a sink: synced, and not counted among those who come back
 * after a sync, as it does not: writers would gather for it each time.
 */
enum phstore_err local_sync_aside(struct phstore *store, uint64_t lsn)
{
	enum phstore_err err;

	err = disk_check(store, lsn);
	if (err != PHSTORE_OK) {
		return err;
	}
	return sync_wait(store->backend, lsn, 0, 0, 1);
}

enum phstore_err local_barrier_disk(struct phstore *store,
				    uint64_t lsn,
				    uint32_t timeout_ms)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	enum phstore_err err;
	uint64_t start_ns;

	if (atomic_load(&sh->durable) >= lsn) {
		return PHSTORE_OK;
	}
	err = disk_check(store, lsn);
	if (err != PHSTORE_OK) {
		return err;
	}
	start_ns = phstore_now_ns();
	local_sync_arrive(ls);
	err = sync_wait(ls, lsn, start_ns, timeout_ms, 1);
	if (err != PHSTORE_OK) {
		return err;
	}
	local_served(store, phstore_now_ns() - start_ns);
	return PHSTORE_OK;
}

/*
 * phstore: from staged to durable, through the shards
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Every transaction is cut into units, one per shard it touches. A shard has
 * a queue of units and at most one batch on its way; what queues meanwhile
 * is the next batch. So the order per record is that of staging, a shard's
 * batches grow with the load, and all shards are busy at once. Batching is
 * the flow control: a slow shard makes larger batches, and beyond
 * conf.queue_bytes staging waits.
 *
 * A transaction over several shards is led by its first unit: that batch
 * also writes an *intent*, the whole transaction, into the leading shard.
 * When the lead is done the other units are queued; when all are done the
 * transaction is, and the intent is removed. Whoever finds an intent of a
 * dead writer completes it (rados_scan.c): all or nothing.
 *
 * What is durable is a prefix of the LSNs: transactions are done in any
 * order, "durable" moves over those that are done from the front. One that
 * failed by itself (CONFLICT, STALE) does not hold up the others; its own
 * barrier tells.
 *
 * Threads: the caller's, librados' callbacks, the ticker (rados_tick.c:
 * gathering, retries, looking why nothing moves). All under one mutex;
 * nothing blocks while it is held.
 *
 * What does not go away (the writer is fenced, the pool deleted) latches:
 * every later promise is refused until the store is opened anew.
 */

#include "rados_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

uint64_t phr_hash(const uint8_t *key, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < len; i++) {
		h = (h ^ key[i]) * 0x100000001b3ULL;
	}
	return h ^ h >> 29;
}

/* The overlay: for each key the last operation that is not durable yet. */

struct phr_op *phr_overlay_find(struct phr_engine *e, const uint8_t *key,
				size_t key_len)
{
	uint64_t hash = phr_hash(key, key_len);
	struct phr_op *op = e->overlay[hash % PHR_OVERLAY_BUCKETS];

	while (op != NULL) {
		if (op->hash == hash && op->key_len == key_len &&
		    memcmp(op->key, key, key_len) == 0)
		{
			return op;
		}
		op = op->hnext;
	}
	return NULL;
}

static void overlay_del(struct phr_engine *e, struct phr_op *op)
{
	struct phr_op **p = &e->overlay[op->hash % PHR_OVERLAY_BUCKETS];

	if (!op->in_overlay) {
		return;
	}
	while (*p != op) {
		p = &(*p)->hnext;
	}
	*p = op->hnext;
	op->in_overlay = false;
}

static void overlay_add(struct phr_engine *e, struct phr_op *op)
{
	struct phr_op **p = &e->overlay[op->hash % PHR_OVERLAY_BUCKETS];
	struct phr_op *old = phr_overlay_find(e, op->key, op->key_len);

	if (old != NULL) {
		overlay_del(e, old);
	}
	op->hnext = *p;
	*p = op;
	op->in_overlay = true;
}

struct phr_txn *phr_txn_make(struct phr_engine *e)
{
	struct phr_txn *t = calloc(1, sizeof(*t));

	if (t != NULL) {
		t->engine = e;
	}
	return t;
}

static struct phr_unit *txn_unit(struct phr_txn *t, uint32_t shard)
{
	struct phr_unit **p = &t->units;
	struct phr_unit *u = NULL;

	for (; *p != NULL; p = &(*p)->sibling) {
		if ((*p)->shard->id == shard) {
			return *p;
		}
	}
	u = calloc(1, sizeof(*u));
	if (u == NULL) {
		return NULL;
	}
	u->txn = t;
	u->shard = &t->engine->shards[shard];
	u->ops_end = &u->ops;
	*p = u;
	t->num_units += 1;
	t->units_left += 1;
	return u;
}

struct phr_op *phr_txn_op(struct phr_txn *t, uint32_t shard,
			  enum phr_op_kind kind, const uint8_t *key,
			  size_t key_len, size_t value_len)
{
	struct phr_unit *u = txn_unit(t, shard);
	struct phr_op *op = NULL;

	if (u == NULL) {
		return NULL;
	}
	op = calloc(1, sizeof(*op) + key_len + value_len);
	if (op == NULL) {
		return NULL;
	}
	op->txn = t;
	op->kind = kind;
	op->key = (uint8_t *)(op + 1);
	op->key_len = key_len;
	memcpy(op->key, key, key_len);
	op->value = op->key + key_len;
	op->value_len = value_len;
	op->hash = phr_hash(key, key_len);
	*u->ops_end = op;
	u->ops_end = &op->next;
	u->num_ops += 1;
	u->bytes += key_len + value_len;
	t->bytes += key_len + value_len;
	return op;
}

void phr_txn_free(struct phr_txn *t)
{
	while (t->units != NULL) {
		struct phr_unit *u = t->units;

		t->units = u->sibling;
		while (u->ops != NULL) {
			struct phr_op *op = u->ops;

			u->ops = op->next;
			free(op);
		}
		free(u);
	}
	while (t->dropped != NULL) {
		struct phr_op *op = t->dropped;

		t->dropped = op->next;
		free(op);
	}
	free(t);
}

void phr_notify(struct phr_engine *e)
{
	uint64_t one = 1;
	ssize_t n;

	pthread_cond_broadcast(&e->cond);
	n = write(e->notify_fd, &one, sizeof(one));
	(void)n; /* a full counter is readable as well */
}

void phr_engine_latch(struct phr_engine *e, enum phstore_err err, int error,
		      const char *text)
{
	if (e->latched == PHSTORE_OK) {
		e->latched = err;
		e->latched_errno = error;
		snprintf(e->latched_text, sizeof(e->latched_text), "%s: %s",
			 text, strerror(error));
	}
	phr_notify(e);
}

static void enqueue(struct phr_unit *u)
{
	struct phr_shard *s = u->shard;

	u->next = NULL;
	*s->end = u;
	s->end = &u->next;
	phr_shard_kick(s);
}

/* The intent goes with everything it was about. */
static void queue_cleanup(struct phr_txn *t)
{
	struct phr_engine *e = t->engine;
	struct phr_op *intent = t->units->ops;
	struct phr_txn *c = NULL;
	struct phr_op *op = NULL;

	c = phr_txn_make(e);
	if (c == NULL) {
		return;		/* found and completed at the next open */
	}
	op = phr_txn_op(c, t->units->shard->id, PHR_OP_REMOVE, intent->key,
			intent->key_len, 0);
	if (op == NULL) {
		phr_txn_free(c);
		return;
	}
	op->use_reserve = true;
	e->pending += 1;
	e->queued_bytes += c->bytes;
	enqueue(c->units);
}

static void txn_finish(struct phr_txn *t)
{
	struct phr_engine *e = t->engine;
	struct phr_unit *u = NULL;
	struct phr_op *op = NULL;
	uint64_t before = e->durable;

	for (u = t->units; u != NULL; u = u->sibling) {
		for (op = u->ops; op != NULL; op = op->next) {
			overlay_del(e, op);
		}
	}
	for (op = t->dropped; op != NULL; op = op->next) {
		overlay_del(e, op);
	}
	if (t->num_units > 1 && t->following && t->err == PHSTORE_OK &&
	    t->units->ops->kind == PHR_OP_SET)
	{
		queue_cleanup(t);
	}
	t->done = true;
	e->pending -= 1;
	e->queued_bytes -= t->bytes;
	if (t->done_fn != NULL) {
		t->done_fn(t, t->private_data);
	}
	if (t->lsn == 0) {
		phr_txn_free(t);
		phr_notify(e);
		return;
	}
	if (t->err != PHSTORE_OK) {
		e->failed[e->num_failed % PHR_FAILED_MAX] =
			(struct phr_failed) { .lsn = t->lsn, .err = t->err };
		e->num_failed += 1;
	}
	while (e->first != NULL && e->first->done) {
		struct phr_txn *d = e->first;

		e->first = d->next;
		if (e->first == NULL) {
			e->end = &e->first;
		}
		e->durable = d->lsn;
		phr_txn_free(d);
	}
	if (e->durable != before || e->pending == 0) {
		phr_notify(e);
	}
}

void phr_unit_done(struct phr_unit *u)
{
	struct phr_txn *t = u->txn;

	t->units_left -= 1;
	if (t->units_left == 0) {
		txn_finish(t);
		return;
	}
	if (!t->following) {
		struct phr_unit *f = NULL;

		t->following = true;
		for (f = t->units->sibling; f != NULL; f = f->sibling) {
			enqueue(f);
		}
	}
}

void phr_unit_failed(struct phr_unit *u, enum phstore_err err)
{
	struct phr_txn *t = u->txn;

	if (t->following) {
		/* the lead is applied: what is newer there stays, see docs */
		phr_unit_done(u);
		return;
	}
	t->err = err;
	t->units_left = 0;
	txn_finish(t);
}

static bool batch_takes(struct phr_batch *b, struct phr_unit *u)
{
	struct phr_unit *o = NULL;
	struct phr_op *op = NULL;
	struct phr_op *p = NULL;

	if (b->units == NULL) {
		return true;
	}
	if (b->num_ops + u->num_ops > PHR_BATCH_OPS ||
	    b->bytes + u->bytes > PHR_BATCH_BYTES)
	{
		return false;
	}
	/* each key once: the OSD compares with what was before the batch */
	for (o = b->units; o != NULL; o = o->next) {
		for (op = o->ops; op != NULL; op = op->next) {
			for (p = u->ops; p != NULL; p = p->next) {
				if (p->hash == op->hash) {
					return false;
				}
			}
		}
	}
	return true;
}

/* Make a batch of what waits. */
void phr_shard_send(struct phr_shard *s)
{
	struct phr_engine *e = s->engine;
	struct phr_batch *b = NULL;
	struct phr_unit **end = NULL;

	s->gather_ns = 0;
	b = calloc(1, sizeof(*b));
	if (b == NULL) {
		/* again at the next tick */
		s->gather_ns = phstore_now_ns() + PHR_TICK_NS;
		return;
	}
	b->shard = s;
	end = &b->units;
	while (s->first != NULL && batch_takes(b, s->first)) {
		struct phr_unit *u = s->first;

		s->first = u->next;
		u->next = NULL;
		*end = u;
		end = &u->next;
		b->num_ops += u->num_ops;
		b->bytes += u->bytes;
	}
	if (s->first == NULL) {
		s->end = &s->first;
	}
	b->number = s->next_batch;
	s->next_batch += 1;
	s->batch = b;
	e->in_flight += 1;
	phr_batch_send(b);
}

/*
 * Send now, or wait for company?
 *
 * Alone: now. When a batch of several was acknowledged, as many are likely
 * to stage again in a moment; sent at once, the first of them would go alone
 * and the others wait for it. With very many (throughput is what counts
 * then) the shards' batches leave together: half as many operations carry
 * the same records. Never longer than half an operation takes (one, with very
 * many), or gather_us.
 */
void phr_shard_kick(struct phr_shard *s)
{
	struct phr_engine *e = s->engine;
	uint64_t wait, now;
	bool many;

	if (s->batch != NULL || s->first == NULL ||
	    e->latched != PHSTORE_OK)
	{
		return;
	}
	many = e->pending > PHR_ROUNDS * e->conn->super.shards &&
	       e->conn->super.shards > 1;
	wait = many ? e->avg_ns : e->avg_ns / 2;
	if (wait > e->conn->conf.gather_us * 1000ULL) {
		wait = e->conn->conf.gather_us * 1000ULL;
	}
	if (wait == 0 || (e->returning == 0 && (!many || e->in_flight == 0)))
	{
		phr_shard_send(s);
		return;
	}
	if (s->gather_ns != 0) {
		return;		/* the ticker will */
	}
	now = phstore_now_ns();
	s->gather_ns = now + wait;
	pthread_cond_signal(&e->tick_cond);
}

/* Those that only waited for others to come back, or to be done. */
static void kick_all(struct phr_engine *e)
{
	bool together = e->in_flight == 0 && e->returning == 0;
	uint32_t i;

	for (i = 0; i < e->conn->super.shards; i++) {
		struct phr_shard *s = &e->shards[i];

		if (s->gather_ns == 0) {
			continue;
		}
		if (together && s->batch == NULL && s->first != NULL &&
		    e->latched == PHSTORE_OK)
		{
			phr_shard_send(s);
		} else {
			phr_shard_kick(s);
		}
	}
}

/* All units of the batch are dealt with. */
void phr_batch_done(struct phr_batch *b)
{
	struct phr_shard *s = b->shard;

	struct phr_engine *e = s->engine;

	e->in_flight -= 1;
	s->batch = NULL;
	free(b->request);
	free(b);
	phr_shard_kick(s);
	if (e->in_flight == 0) {
		kick_all(e);
	}
}

int phr_engine_new(struct phr_conn *c, struct phr_engine **pe)
{
	struct phr_engine *e = calloc(1, sizeof(*e));
	pthread_condattr_t attr;
	uint32_t i;

	if (e == NULL) {
		return -ENOMEM;
	}
	e->conn = c;
	e->end = &e->first;
	e->stat.has_class = c->has_class;
	e->stat.epoch = c->epoch;
	e->stat.shards = c->super.shards;
	e->shards = calloc(c->super.shards, sizeof(e->shards[0]));
	e->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->shards == NULL || e->notify_fd == -1) {
		free(e->shards);
		free(e);
		return -ENOMEM;
	}
	for (i = 0; i < c->super.shards; i++) {
		struct phr_shard *s = &e->shards[i];

		s->engine = e;
		s->id = i;
		s->end = &s->first;
		s->next_batch = 1;
		phr_oid(s->oid, i);
	}
	pthread_mutex_init(&e->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->cond, &attr);
	pthread_cond_init(&e->tick_cond, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&e->ticker, NULL, phr_ticker_main, e) == 0) {
		e->has_ticker = true;
	} else {
		phr_engine_free(e);
		return -ENOMEM;
	}
	*pe = e;
	return 0;
}

void phr_engine_free(struct phr_engine *e)
{
	uint32_t i;

	pthread_mutex_lock(&e->mutex);
	e->stop = true;
	pthread_cond_signal(&e->tick_cond);
	pthread_mutex_unlock(&e->mutex);
	if (e->has_ticker) {
		pthread_join(e->ticker, NULL);
	}
	/*
	 * What is on its way will call back into this memory: have it
	 * cancelled, and wait for each.
	 */
	pthread_mutex_lock(&e->mutex);
	if (e->latched == PHSTORE_OK) {
		e->latched = PHSTORE_ERR_LATCHED;
	}
	for (i = 0; i < e->conn->super.shards; i++) {
		struct phr_batch *b = e->shards[i].batch;

		if (b != NULL && b->completion != NULL) {
			rados_completion_t c = b->completion;

			pthread_mutex_unlock(&e->mutex);
			(void)rados_aio_cancel(e->conn->io, c);
			pthread_mutex_lock(&e->mutex);
		}
	}
	while (e->callbacks > 0) {
		pthread_cond_wait(&e->cond, &e->mutex);
	}
	pthread_mutex_unlock(&e->mutex);

	while (e->first != NULL) {
		struct phr_txn *t = e->first;

		e->first = t->next;
		phr_txn_free(t);
	}
	for (i = 0; i < e->conn->super.shards; i++) {
		if (e->shards[i].batch != NULL) {
			free(e->shards[i].batch->request);
			free(e->shards[i].batch);
		}
	}
	close(e->notify_fd);
	pthread_cond_destroy(&e->cond);
	pthread_cond_destroy(&e->tick_cond);
	pthread_mutex_destroy(&e->mutex);
	free(e->shards);
	free(e);
}

static enum phstore_err latched_fail(struct phr_engine *e)
{
	return phstore_fail(e->latched, "rados:%s/%s: %s",
			    e->conn->conf.pool, e->conn->conf.ns,
			    e->latched_text);
}

static enum phstore_err full_fail(struct phr_engine *e)
{
	return phstore_fail(PHSTORE_ERR_FULL,
			    "rados:%s: the pool or the cluster is full",
			    e->conn->conf.pool);
}

static void deadline(struct timespec *ts, uint32_t ms)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += ms / 1000;
	ts->tv_nsec += (ms % 1000) * 1000000L;
	if (ts->tv_nsec >= 1000000000L) {
		ts->tv_sec += 1;
		ts->tv_nsec -= 1000000000L;
	}
}

/* Under the lock: room in the queue. */
static enum phstore_err queue_wait(struct phr_engine *e, size_t bytes)
{
	size_t max = e->conn->conf.queue_bytes;
	struct timespec until;

	deadline(&until, e->conn->conf.timeout_ms);
	while (e->queued_bytes > 0 && e->queued_bytes + bytes > max) {
		int r;

		if (e->latched != PHSTORE_OK) {
			return latched_fail(e);
		}
		if (e->full) {
			return full_fail(e);
		}
		r = pthread_cond_timedwait(&e->cond, &e->mutex, &until);
		if (r == ETIMEDOUT) {
			return phstore_fail(PHSTORE_ERR_TIMEOUT,
					    "rados: the queue stays full");
		}
	}
	return PHSTORE_OK;
}

static bool all_reserve(const struct phr_txn *t)
{
	const struct phr_unit *u = NULL;
	const struct phr_op *op = NULL;

	for (u = t->units; u != NULL; u = u->sibling) {
		for (op = u->ops; op != NULL; op = op->next) {
			if (!op->use_reserve) {
				return false;
			}
		}
	}
	return true;
}

enum phstore_err phr_engine_submit(struct phr_engine *e, struct phr_txn *t,
				   bool internal, uint64_t *lsn)
{
	struct phr_unit *u = NULL;
	enum phstore_err err = PHSTORE_OK;

	pthread_mutex_lock(&e->mutex);
	if (e->latched != PHSTORE_OK) {
		err = latched_fail(e);
	} else if (e->full && !all_reserve(t)) {
		err = full_fail(e);
	} else if (!internal) {
		err = queue_wait(e, t->bytes);
	}
	if (err != PHSTORE_OK) {
		pthread_mutex_unlock(&e->mutex);
		return err;
	}
	if ((!internal || t->done_fn != NULL) && e->returning > 0) {
		e->returning -= 1;
	}
	if (!internal) {
		e->head += 1;
		t->lsn = e->head;
		*e->end = t;
		e->end = &t->next;
		*lsn = t->lsn;
	}
	e->pending += 1;
	e->queued_bytes += t->bytes;
	for (u = t->units; u != NULL; u = u->sibling) {
		struct phr_op *op = NULL;

		for (op = u->ops; op != NULL; op = op->next) {
			if (op->kind == PHR_OP_RECORD) {
				overlay_add(e, op);
			}
		}
	}
	enqueue(t->units);
	if (e->returning == 0) {
		kick_all(e);
	}
	pthread_mutex_unlock(&e->mutex);
	return PHSTORE_OK;
}

static enum phstore_err failed_find(struct phr_engine *e, uint64_t lsn)
{
	unsigned i;
	unsigned n = e->num_failed;

	n = n > PHR_FAILED_MAX ? PHR_FAILED_MAX : n;
	for (i = 0; i < n; i++) {
		if (e->failed[i].lsn == lsn) {
			return e->failed[i].err;
		}
	}
	return PHSTORE_OK;
}

static enum phstore_err check_locked(struct phr_engine *e, uint64_t lsn)
{
	enum phstore_err err;

	if (lsn > e->head) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "barrier on an LSN beyond the head");
	}
	err = lsn > 0 ? failed_find(e, lsn) : PHSTORE_OK;
	if (err != PHSTORE_OK) {
		return phstore_fail(err, "rados: another writer changed a "
				    "record of this transaction first");
	}
	if (lsn > e->durable && e->latched != PHSTORE_OK) {
		return latched_fail(e);
	}
	if (lsn > e->durable && e->full) {
		return full_fail(e);
	}
	return PHSTORE_OK;
}

bool phr_engine_is_durable(struct phr_engine *e, uint64_t lsn)
{
	bool ok;

	pthread_mutex_lock(&e->mutex);
	ok = lsn <= e->durable &&
	     (lsn == 0 || failed_find(e, lsn) == PHSTORE_OK);
	pthread_mutex_unlock(&e->mutex);
	return ok;
}

enum phstore_err phr_engine_check(struct phr_engine *e, uint64_t lsn)
{
	enum phstore_err err;

	pthread_mutex_lock(&e->mutex);
	err = check_locked(e, lsn);
	pthread_mutex_unlock(&e->mutex);
	return err;
}

enum phstore_err phr_engine_wait(struct phr_engine *e, uint64_t lsn,
				 uint32_t timeout_ms)
{
	enum phstore_err err;
	struct timespec until;

	if (timeout_ms == 0 || timeout_ms > e->conn->conf.timeout_ms) {
		timeout_ms = e->conn->conf.timeout_ms;
	}
	deadline(&until, timeout_ms);
	pthread_mutex_lock(&e->mutex);
	while (true) {
		int r;

		err = check_locked(e, lsn);
		if (err != PHSTORE_OK || lsn <= e->durable) {
			break;
		}
		r = pthread_cond_timedwait(&e->cond, &e->mutex, &until);
		if (r == ETIMEDOUT && lsn > e->durable) {
			err = phstore_fail(PHSTORE_ERR_TIMEOUT,
					   "rados: no answer in %u ms",
					   timeout_ms);
			break;
		}
	}
	pthread_mutex_unlock(&e->mutex);
	return err;
}

enum phstore_err phr_engine_drain(struct phr_engine *e)
{
	enum phstore_err err = PHSTORE_OK;
	struct timespec until;

	deadline(&until, e->conn->conf.timeout_ms);
	pthread_mutex_lock(&e->mutex);
	while (e->pending > 0 && err == PHSTORE_OK) {
		int r;

		if (e->latched != PHSTORE_OK) {
			err = latched_fail(e);
			break;
		}
		if (e->full) {
			err = full_fail(e);
			break;
		}
		r = pthread_cond_timedwait(&e->cond, &e->mutex, &until);
		if (r == ETIMEDOUT && e->pending > 0) {
			err = phstore_fail(PHSTORE_ERR_TIMEOUT,
					   "rados: no answer in %u ms",
					   e->conn->conf.timeout_ms);
		}
	}
	pthread_mutex_unlock(&e->mutex);
	return err;
}

/*
 * phstore: what happens by the clock
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * One thread per writer. It sends what has waited long enough for company,
 * sends again what had no clear answer, and when an operation takes more
 * than a second, it asks whether the pool is full: librados holds writes
 * back then without a word.
 */

#include "rados_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Look why nothing moves when an operation takes so long. */
#define STALL_NS 1000000000ULL
/* How often it is looked at where no operation is ever held back. */
#define WATCH_NS 1000000000ULL

/* Full? Nothing else tells: the client library holds writes back then. */
struct probe {
	struct phr_engine *e;
	rados_write_op_t op;
	bool removing;
};

static void probe_done(rados_completion_t c, void *arg)
{
	struct probe *p = arg;
	struct phr_engine *e = p->e;
	int ret = rados_aio_get_return_value(c);

	rados_aio_release(c);
	rados_release_write_op(p->op);
	free(p);
	pthread_mutex_lock(&e->mutex);
	e->probing = false;
	if (ret == -ENOSPC || ret == -EDQUOT) {
		e->full = true;
		e->stat.full = true;
		phr_notify(e);
	} else if (ret == 0 || ret == -EEXIST || ret == -ENOENT) {
		e->full = false;
		e->stat.full = false;
	}
	e->callbacks -= 1;
	pthread_cond_broadcast(&e->cond);
	pthread_mutex_unlock(&e->mutex);
}

/*
 * A write that asks to be refused rather than held back when the pool is
 * full. What counts for that is bytes of data, omap does not: so it makes an
 * object of one byte, and removes it in the same breath the next time.
 */
static void probe_full(struct phr_engine *e)
{
	struct phr_conn *c = e->conn;
	struct probe *p = calloc(1, sizeof(*p));
	rados_completion_t comp;
	char oid[PHR_WRITER_MAX + 8];
	int ret;

	if (p == NULL) {
		return;
	}
	snprintf(oid, sizeof(oid), "probe.%s", c->writer);
	p->e = e;
	p->op = rados_create_write_op();
	rados_write_op_append(p->op, "x", 1);
	ret = rados_aio_create_completion2(p, probe_done, &comp);
	if (ret == 0) {
		e->probing = true;
		e->callbacks += 1;
		ret = rados_aio_write_op_operate(
			p->op, c->io, comp, oid, NULL,
			LIBRADOS_OPERATION_FULL_TRY);
		if (ret == 0) {
			return;
		}
		e->probing = false;
		e->callbacks -= 1;
		rados_aio_release(comp);
	}
	rados_release_write_op(p->op);
	free(p);
}

static void tick(struct phr_engine *e, uint64_t now, uint64_t *next)
{
	uint32_t i;
	bool stalled = e->full;

	for (i = 0; i < e->conn->super.shards; i++) {
		struct phr_shard *s = &e->shards[i];
		struct phr_batch *b = s->batch;

		if (s->gather_ns != 0 && s->gather_ns <= now) {
			s->gather_ns = 0;
			e->returning = 0;	/* they do not */
			if (s->batch == NULL && s->first != NULL &&
			    e->latched == PHSTORE_OK)
			{
				phr_shard_send(s);
			}
		} else if (s->gather_ns != 0 && s->gather_ns < *next) {
			*next = s->gather_ns;
		}
		if (b != NULL && b->retry_ns != 0 && b->retry_ns <= now) {
			b->retry_ns = 0;
			e->stat.num_resent += 1;
			phr_batch_send(b);
		}
		if (b != NULL && now - b->start_ns > STALL_NS) {
			stalled = true;
		}
	}
	if (e->watch_full && now - e->probed_ns > WATCH_NS) {
		stalled = true;
	}
	if (stalled && !e->probing && e->latched == PHSTORE_OK) {
		e->probed_ns = now;
		probe_full(e);
	}
}

void *phr_ticker_main(void *private_data)
{
	struct phr_engine *e = private_data;

	phstore_helper_thread = true;
	pthread_mutex_lock(&e->mutex);
	while (!e->stop) {
		uint64_t now = phstore_now_ns();
		uint64_t next = now + PHR_TICK_NS;
		struct timespec ts;

		tick(e, now, &next);
		ts = (struct timespec) {
			.tv_sec = next / 1000000000ULL,
			.tv_nsec = next % 1000000000ULL,
		};
		if (e->stop) {
			break;
		}
		pthread_cond_timedwait(&e->tick_cond, &e->mutex, &ts);
	}
	pthread_mutex_unlock(&e->mutex);
	return NULL;
}

/*
 * phstore: barriers and commits without blocking the event loop
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * fdatasync() cannot be asked for without a thread, so every process that
 * uses the async calls has two helper threads, made when first needed:
 *
 *   the waiter   leads the sync that covers the highest LSN asked for
 *   the keeper   does maintenance (spare segments, compaction), so that it
 *                never delays a barrier
 *
 * How the event loop hears of it: the backend gives a descriptor that
 * becomes readable when a barrier may be reached, whichever process led
 * (notify_fd). The waiter is needed only when nobody leads. Where there is
 * no such descriptor, and for a second event context in a process, the
 * waiter waits for every LSN and writes to an eventfd.
 *
 * The threads touch the shared state and this struct under its mutex, never
 * talloc, tevent or the requests. One LSN is enough for any number of
 * requests: the log is one sequence, a later barrier covers earlier ones.
 *
 * A notification that got lost (a killed leader) is made up for by a timer,
 * which then has the waiter look itself.
 *
 * After a fork the child has no threads: phstore_check_fork() forgets the
 * struct (leaks it on purpose: its mutex may be in any state).
 */

#include "phstore_private.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Look oneself when nothing was heard for so long. */
#define NOTIFY_FALLBACK_MS 20
/* The same for the sink's answer, in an event loop without a socket. */
#define SINK_POLL_MS 2

/* One event context that has requests waiting. */
struct waiter_channel {
	struct waiter_channel *next;
	struct tevent_context *ev;
	struct tevent_fd *fde;		/* on efd */
	struct tevent_fd *notify_fde;	/* on the backend's descriptor */
	struct tevent_timer *te;	/* fallback, while somebody waits */
	struct phstore_waiter *waiter;
	pid_t pid;			/* whose threads write to efd */
	int efd;			/* guarded by waiter->mutex */
	struct barrier_state *reqs;	/* of the event loop only */
};

struct phstore_waiter {
	struct phstore *store;
	pthread_mutex_t mutex;
	pthread_cond_t cond;		/* want, stop */
	pthread_cond_t keeper_cond;	/* keeper_run, stop */
	pthread_t thread;
	pthread_t keeper;
	bool have_keeper;
	bool stop;
	bool keeper_run;
	uint64_t want;			/* highest LSN asked for */
	uint64_t done;			/* highest LSN reached or failed */
	enum phstore_err err;		/* sticky: a barrier's failure */
	struct waiter_channel *channels;
};

struct barrier_state {
	struct barrier_state *prev, *next;
	struct waiter_channel *channel;
	struct tevent_req *req;
	uint64_t lsn;
	enum phstore_class durability;
	uint64_t start_ns;
};

static void *waiter_main(void *private_data)
{
	struct phstore_waiter *w = private_data;
	struct phstore *store = w->store;

	phstore_helper_thread = true;
	pthread_mutex_lock(&w->mutex);
	while (true) {
		struct waiter_channel *c = NULL;
		enum phstore_err err;
		uint64_t target;
		bool keep;

		while (!w->stop && w->want <= w->done) {
			pthread_cond_wait(&w->cond, &w->mutex);
		}
		if (w->stop) {
			break;
		}
		target = w->want;
		pthread_mutex_unlock(&w->mutex);

		err = store->ops->lead(store, target);
		keep = store->ops->wants_maintenance(store);

		pthread_mutex_lock(&w->mutex);
		if (target > w->done) {
			w->done = target;
		}
		if (err != PHSTORE_OK) {
			w->err = err;
		}
		for (c = w->channels; c != NULL; c = c->next) {
			uint64_t one = 1;
			ssize_t n;

			if (c->notify_fde != NULL && err == PHSTORE_OK) {
				/* has been told by whoever led */
				continue;
			}
			n = write(c->efd, &one, sizeof(one));
			(void)n; /* a full counter is readable as well */
		}
		if (w->have_keeper && keep && !w->keeper_run) {
			w->keeper_run = true;
			pthread_cond_signal(&w->keeper_cond);
		}
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

static void *keeper_main(void *private_data)
{
	struct phstore_waiter *w = private_data;
	struct phstore *store = w->store;

	phstore_helper_thread = true;
	pthread_mutex_lock(&w->mutex);
	while (true) {
		while (!w->stop && !w->keeper_run) {
			pthread_cond_wait(&w->keeper_cond, &w->mutex);
		}
		if (w->stop) {
			break;
		}
		pthread_mutex_unlock(&w->mutex);
		/* an error shows in the next stage or barrier */
		(void)store->ops->maintain(store, false);
		pthread_mutex_lock(&w->mutex);
		w->keeper_run = false;
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

static enum phstore_err waiter_start(struct phstore *store)
{
	struct phstore_waiter *w = NULL;
	sigset_t all, old;
	int ret;

	if (store->waiter != NULL) {
		return PHSTORE_OK;
	}
	w = calloc(1, sizeof(*w));
	if (w == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	w->store = store;
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->cond, NULL);
	pthread_cond_init(&w->keeper_cond, NULL);

	/* signals are the event loop's, credentials are the owner's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	phstore_owner_begin(store);
	ret = pthread_create(&w->thread, NULL, waiter_main, w);
	if (ret == 0) {
		int ret2 = pthread_create(&w->keeper, NULL, keeper_main, w);
		pthread_mutex_lock(&w->mutex);
		w->have_keeper = ret2 == 0;
		pthread_mutex_unlock(&w->mutex);
	}
	phstore_owner_end(store);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret != 0) {
		free(w);
		return phstore_fail(PHSTORE_ERR_NO_MEMORY,
				    "cannot start a thread: %s",
				    strerror(ret));
	}
	store->waiter = w;
	return PHSTORE_OK;
}

/* Have the waiter see to it that lsn becomes durable. */
static void waiter_ask(struct phstore_waiter *w, uint64_t lsn)
{
	bool asked = false;

	pthread_mutex_lock(&w->mutex);
	if (lsn > w->want) {
		w->want = lsn;
		asked = true;
	} else if (lsn <= w->done) {
		/* done before the request was there, or failed: ask again */
		w->done = lsn - 1;
		asked = true;
	}
	pthread_mutex_unlock(&w->mutex);
	if (asked) {
		/* not under the mutex: the woken would wait for it */
		pthread_cond_signal(&w->cond);
	}
}

static void channel_free(struct waiter_channel *c)
{
	TALLOC_FREE(c->te);
	TALLOC_FREE(c->notify_fde);
	TALLOC_FREE(c->fde);
	if (c->efd != -1) {
		close(c->efd);
	}
	free(c);
}

void phstore_waiter_stop(struct phstore *store)
{
	struct phstore_waiter *w = store->waiter;

	if (w == NULL) {
		return;
	}
	store->waiter = NULL;
	pthread_mutex_lock(&w->mutex);
	w->stop = true;
	pthread_cond_signal(&w->cond);
	pthread_cond_signal(&w->keeper_cond);
	pthread_mutex_unlock(&w->mutex);
	pthread_join(w->thread, NULL);
	if (w->have_keeper) {
		pthread_join(w->keeper, NULL);
	}
	while (w->channels != NULL) {
		struct waiter_channel *c = w->channels;
		struct barrier_state *s = NULL;

		w->channels = c->next;
		for (s = c->reqs; s != NULL; s = s->next) {
			s->channel = NULL;
		}
		channel_free(c);
	}
	pthread_cond_destroy(&w->cond);
	pthread_cond_destroy(&w->keeper_cond);
	pthread_mutex_destroy(&w->mutex);
	free(w);
}

void phstore_waiter_forget(struct phstore *store)
{
	store->waiter = NULL;
}

static int barrier_state_destructor(struct barrier_state *state);
static void barrier_channel_handler(struct tevent_context *ev,
				    struct tevent_fd *fde,
				    uint16_t flags,
				    void *private_data);

/* The talloc'd end of a channel: goes away with its event context. */
struct channel_guard {
	struct waiter_channel *channel;
};

static int channel_guard_destructor(struct channel_guard *g)
{
	struct waiter_channel *c = g->channel;
	/* after a fork the mutex may be in any state, and no thread looks */
	bool ours = c->pid == tevent_cached_getpid();

	/* the event context dies before the store: nobody reads any more */
	if (ours) {
		pthread_mutex_lock(&c->waiter->mutex);
	}
	c->ev = NULL;
	c->fde = NULL;
	c->notify_fde = NULL;
	c->te = NULL;
	if (ours) {
		pthread_mutex_unlock(&c->waiter->mutex);
	}
	return 0;
}

static struct waiter_channel *channel_get(struct phstore *store,
					  struct tevent_context *ev)
{
	struct phstore_waiter *w = store->waiter;
	struct waiter_channel *c = NULL;
	struct channel_guard *g = NULL;
	bool first = true;
	int fd = -1;

	for (c = w->channels; c != NULL; c = c->next) {
		if (c->ev == ev) {
			return c;
		}
		first = first && c->notify_fde == NULL;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		return NULL;
	}
	c->waiter = w;
	c->pid = tevent_cached_getpid();
	c->ev = ev;
	c->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->efd == -1) {
		free(c);
		return NULL;
	}
	c->fde = tevent_add_fd(ev, ev, c->efd, TEVENT_FD_READ,
			       barrier_channel_handler, c);
	if (c->fde == NULL) {
		channel_free(c);
		return NULL;
	}
	g = talloc_zero(c->fde, struct channel_guard);
	if (g == NULL) {
		channel_free(c);
		return NULL;
	}
	g->channel = c;
	talloc_set_destructor(g, channel_guard_destructor);

	if (first) {
		fd = store->ops->notify_fd(store);
	}
	if (fd != -1) {
		/* without it the eventfd serves */
		c->notify_fde = tevent_add_fd(ev, c->fde, fd, TEVENT_FD_READ,
					      barrier_channel_handler, c);
	}

	pthread_mutex_lock(&w->mutex);
	c->next = w->channels;
	w->channels = c;
	pthread_mutex_unlock(&w->mutex);
	return c;
}

static void barrier_fallback(struct tevent_context *ev,
			     struct tevent_timer *te,
			     struct timeval now,
			     void *private_data)
{
	struct waiter_channel *c = private_data;
	struct barrier_state *s = NULL;
	uint64_t lsn = 0;

	(void)ev;
	(void)te;
	(void)now;
	c->te = NULL;
	for (s = c->reqs; s != NULL; s = s->next) {
		lsn = s->lsn > lsn ? s->lsn : lsn;
	}
	if (lsn == 0 || c->pid != tevent_cached_getpid()) {
		return;
	}
	if (!c->waiter->store->ops->is_synced(c->waiter->store, lsn)) {
		waiter_ask(c->waiter, lsn);
	}
	barrier_channel_handler(c->ev, NULL, 0, c);
}

/* See that somebody leads, for all requests of this channel. */
static void channel_wait(struct waiter_channel *c)
{
	struct phstore_waiter *w = c->waiter;
	struct phstore *store = w->store;
	enum phstore_notify what = PHSTORE_NOTIFY_LEAD;
	struct barrier_state *s = NULL;
	uint32_t fallback_ms = NOTIFY_FALLBACK_MS;
	uint64_t low = 0;
	uint64_t low_mem = 0;
	uint64_t high = 0;

	for (s = c->reqs; s != NULL; s = s->next) {
		uint64_t *p = &low;

		if (s->durability == PHSTORE_CLASS_REPLICATED) {
			p = &low_mem;
		} else {
			high = s->lsn > high ? s->lsn : high;
		}
		*p = *p == 0 || s->lsn < *p ? s->lsn : *p;
	}
	if (low == 0 && low_mem == 0) {
		return;
	}
	if (c->notify_fde != NULL) {
		what = store->ops->notify_wait(store, low, low_mem);
	} else if (store->ops->is_synced(store, high)) {
		/* the sink is waited for, and nobody tells a second loop */
		what = PHSTORE_NOTIFY_COMING;
		fallback_ms = SINK_POLL_MS;
	}
	if (c->te == NULL && (c->notify_fde != NULL ||
			      what == PHSTORE_NOTIFY_COMING))
	{
		c->te = tevent_add_timer(
			c->ev, c->fde,
			tevent_timeval_current_ofs(0, fallback_ms * 1000),
			barrier_fallback, c);
		if (c->te == NULL && high != 0) {
			/* no memory for that: let the thread wait */
			what = PHSTORE_NOTIFY_LEAD;
		}
	}
	if (what == PHSTORE_NOTIFY_LEAD) {
		waiter_ask(w, c->notify_fde != NULL ? low : high);
	} else if (what == PHSTORE_NOTIFY_DURABLE) {
		/* reached in between: come back to it */
		uint64_t one = 1;
		ssize_t n = write(c->efd, &one, sizeof(one));
		(void)n;
	}
}

struct tevent_req *phstore_barrier_send(TALLOC_CTX *mem_ctx,
					struct tevent_context *ev,
					struct phstore *store,
					uint64_t lsn)
{
	return phstore_barrier_class_send(mem_ctx, ev, store, lsn,
					  PHSTORE_CLASS_SYNC);
}

struct tevent_req *phstore_barrier_class_send(TALLOC_CTX *mem_ctx,
					      struct tevent_context *ev,
					      struct phstore *store,
					      uint64_t lsn,
					      enum phstore_class durability)
{
	struct tevent_req *req = NULL;
	struct barrier_state *state = NULL;
	enum phstore_err err;

	req = tevent_req_create(mem_ctx, &state, struct barrier_state);
	if (req == NULL) {
		return NULL;
	}
	phstore_check_fork(store);
	state->req = req;
	state->lsn = lsn;
	state->durability = durability;

	if (store->ops->is_durable(store, lsn, durability)) {
		tevent_req_done(req);
		return tevent_req_post(req, ev);
	}
	err = store->ops->barrier_check(store, lsn);
	if (err != PHSTORE_OK) {
		tevent_req_error(req, err);
		return tevent_req_post(req, ev);
	}
	err = waiter_start(store);
	if (err != PHSTORE_OK) {
		tevent_req_error(req, err);
		return tevent_req_post(req, ev);
	}
	state->start_ns = phstore_now_ns();
	state->channel = channel_get(store, ev);
	if (tevent_req_nomem(state->channel, req)) {
		return tevent_req_post(req, ev);
	}
	state->next = state->channel->reqs;
	if (state->next != NULL) {
		state->next->prev = state;
	}
	state->channel->reqs = state;
	talloc_set_destructor(state, barrier_state_destructor);

	if (durability == PHSTORE_CLASS_REPLICATED) {
		store->ops->kick(store);
	} else {
		store->ops->hint(store, lsn);
	}
	channel_wait(state->channel);
	return req;
}

void phstore_kick(struct phstore *store)
{
	phstore_check_fork(store);
	if (!store->read_only) {
		store->ops->kick(store);
	}
}

void phstore_barrier_start(struct phstore *store, uint64_t lsn)
{
	enum phstore_err err;

	phstore_check_fork(store);
	if (store->read_only ||
	    store->ops->is_durable(store, lsn, PHSTORE_CLASS_SYNC))
	{
		return;
	}
	err = store->ops->barrier_check(store, lsn);
	if (err != PHSTORE_OK) {
		return;
	}
	err = waiter_start(store);
	if (err != PHSTORE_OK) {
		return;
	}
	store->ops->hint(store, lsn);
	if (!store->ops->leading(store)) {
		waiter_ask(store->waiter, lsn);
	}
}

static int barrier_state_destructor(struct barrier_state *state)
{
	if (state->prev != NULL) {
		state->prev->next = state->next;
	} else if (state->channel != NULL) {
		state->channel->reqs = state->next;
	}
	if (state->next != NULL) {
		state->next->prev = state->prev;
	}
	return 0;
}

static void barrier_channel_handler(struct tevent_context *ev,
				    struct tevent_fd *fde,
				    uint16_t flags,
				    void *private_data)
{
	struct waiter_channel *c = private_data;
	struct phstore_waiter *w = c->waiter;
	struct phstore *store = w->store;
	struct tevent_req *ready = NULL;
	struct barrier_state *s = NULL;
	struct barrier_state *next = NULL;
	enum phstore_err check;

	(void)ev;
	(void)flags;

	if (c->pid != tevent_cached_getpid()) {
		/* inherited by fork; the bytes are the parent's to read */
		if (fde == c->notify_fde) {
			c->notify_fde = NULL;
		} else {
			c->fde = NULL;
		}
		talloc_free(fde);
		return;
	}
	if (fde != NULL && fde == c->notify_fde) {
		store->ops->notify_drain(store);
	} else if (fde != NULL) {
		uint64_t count;
		ssize_t n = read(c->efd, &count, sizeof(count));
		(void)n;
	}

	/*
	 * A callback may free any request, also others of this list: so
	 * take one that is ready, finish it, start over.
	 */
	do {
		ready = NULL;
		check = PHSTORE_OK;
		for (s = c->reqs; s != NULL; s = next) {
			bool ok = store->ops->is_durable(store, s->lsn,
							 s->durability);

			next = s->next;
			if (!ok) {
				check = store->ops->barrier_check(store,
								  s->lsn);
			}
			if (!ok && check == PHSTORE_OK) {
				pthread_mutex_lock(&w->mutex);
				if (s->lsn <= w->done) {
					check = w->err;
				}
				pthread_mutex_unlock(&w->mutex);
			}
			if (!ok && check == PHSTORE_OK) {
				continue;
			}
			talloc_set_destructor(s, NULL);
			barrier_state_destructor(s);
			s->prev = s->next = NULL;
			s->channel = NULL;
			ready = s->req;
			if (ok) {
				uint64_t now = phstore_now_ns();

				store->ops->served(store, now - s->start_ns);
				tevent_req_done(ready);
			} else {
				tevent_req_error(ready, check);
			}
			break;
		}
	} while (ready != NULL);

	channel_wait(c);
}

enum phstore_err phstore_barrier_recv(struct tevent_req *req)
{
	enum tevent_req_state req_state;
	uint64_t error = 0;
	bool failed;

	failed = tevent_req_is_error(req, &req_state, &error);
	if (failed) {
		tevent_req_received(req);
		switch (req_state) {
		case TEVENT_REQ_USER_ERROR:
			return (enum phstore_err)error;
		case TEVENT_REQ_TIMED_OUT:
			return PHSTORE_ERR_TIMEOUT;
		case TEVENT_REQ_NO_MEMORY:
			return PHSTORE_ERR_NO_MEMORY;
		default:
			return PHSTORE_ERR_IO;
		}
	}
	tevent_req_received(req);
	return PHSTORE_OK;
}

struct commit_state {
	uint64_t lsn;
};

static void commit_done(struct tevent_req *subreq);

struct tevent_req *phstore_commit_send(TALLOC_CTX *mem_ctx,
				       struct tevent_context *ev,
				       struct phstore_txn *txn)
{
	struct phstore *store = txn->store;
	enum phstore_class durability = txn->durability;
	struct tevent_req *req = NULL;
	struct tevent_req *subreq = NULL;
	struct commit_state *state = NULL;
	enum phstore_err err;
	bool waits;

	req = tevent_req_create(mem_ctx, &state, struct commit_state);
	if (req == NULL) {
		return NULL;
	}
	err = phstore_stage(txn, &state->lsn);
	if (err != PHSTORE_OK) {
		tevent_req_error(req, err);
		return tevent_req_post(req, ev);
	}
	waits = store->ops->class_waits(store, durability);
	if (!waits) {
		tevent_req_done(req);
		return tevent_req_post(req, ev);
	}
	subreq = phstore_barrier_class_send(state, ev, store, state->lsn,
					    durability);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, commit_done, req);
	return req;
}

static void commit_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	enum phstore_err err;

	err = phstore_barrier_recv(subreq);
	TALLOC_FREE(subreq);
	if (err != PHSTORE_OK) {
		tevent_req_error(req, err);
		return;
	}
	tevent_req_done(req);
}

enum phstore_err phstore_commit_recv(struct tevent_req *req, uint64_t *lsn)
{
	struct commit_state *state = tevent_req_data(req,
						     struct commit_state);
	uint64_t got = state->lsn;
	enum phstore_err err;

	err = phstore_barrier_recv(req);
	if (err == PHSTORE_OK && lsn != NULL) {
		*lsn = got;
	}
	return err;
}

/*
 * phstored: syncs beside the event loop
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A successor answers with class SYNC when what it received is on its disk.
 * The sync is a thread's: meanwhile the loop takes what comes next, which
 * the sync after this one covers, and answers who waits for memory only. A
 * disk that stands still delays those who wait for it, nobody else.
 *
 * One sync at a time. The thread knows the store's shared state only, as the
 * library's own helper threads do; it tells the loop through an eventfd.
 */

#include "phd_ctdb.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "phstore_private.h"

struct phd_sync {
	struct phd_ctdb *d;
	struct tevent_fd *fde;
	int fd;
	pthread_t thread;
	bool running;			/* of the loop: asked, not answered */

	pthread_mutex_t mutex;		/* what follows */
	pthread_cond_t cond;
	bool stop;
	bool asked;
	enum phstore_err err;
	char text[256];			/* of err */
};

static void *sync_main(void *private_data)
{
	struct phd_sync *s = private_data;
	struct phstore_ship *ship = s->d->phd->ship;

	phstore_helper_thread = true;
	pthread_mutex_lock(&s->mutex);
	while (true) {
		enum phstore_err err;
		uint64_t one = 1;
		ssize_t n;

		while (!s->stop && !s->asked) {
			pthread_cond_wait(&s->cond, &s->mutex);
		}
		if (s->stop) {
			break;
		}
		s->asked = false;
		pthread_mutex_unlock(&s->mutex);
		err = phstore_ship_sync(ship);
		pthread_mutex_lock(&s->mutex);
		s->err = err;
		if (err != PHSTORE_OK) {
			snprintf(s->text, sizeof(s->text), "%s",
				 phstore_last_error());
		}
		n = write(s->fd, &one, sizeof(one));
		(void)n;	/* one is under way at most: it fits */
	}
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

static void sync_handler(struct tevent_context *ev, struct tevent_fd *fde,
			 uint16_t flags, void *private_data)
{
	struct phd_sync *s = private_data;
	char text[sizeof(s->text)];
	enum phstore_err err;
	uint64_t count = 0;
	ssize_t n;

	(void)ev;
	(void)fde;
	(void)flags;
	n = read(s->fd, &count, sizeof(count));
	if (n != sizeof(count)) {
		return;
	}
	pthread_mutex_lock(&s->mutex);
	err = s->err;
	memcpy(text, s->text, sizeof(text));
	pthread_mutex_unlock(&s->mutex);
	s->running = false;
	phd_ctdb_synced(s->d, err, text);
}

bool phd_sync_running(const struct phd_sync *s)
{
	return s->running;
}

void phd_sync_begin(struct phd_sync *s)
{
	s->running = true;
	pthread_mutex_lock(&s->mutex);
	s->asked = true;
	pthread_mutex_unlock(&s->mutex);
	pthread_cond_signal(&s->cond);
}

/* Joins the thread: to be freed before the store is closed. */
static int sync_destructor(struct phd_sync *s)
{
	pthread_mutex_lock(&s->mutex);
	s->stop = true;
	pthread_mutex_unlock(&s->mutex);
	pthread_cond_signal(&s->cond);
	pthread_join(s->thread, NULL);
	TALLOC_FREE(s->fde);
	close(s->fd);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->mutex);
	return 0;
}

struct phd_sync *phd_sync_start(struct phd_ctdb *d)
{
	struct phd_sync *s = talloc_zero(d, struct phd_sync);
	sigset_t all, old;
	int ret;

	if (s == NULL) {
		return NULL;
	}
	s->d = d;
	s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->fd == -1) {
		phd_log(0, "eventfd: %s", strerror(errno));
		talloc_free(s);
		return NULL;
	}
	s->fde = tevent_add_fd(d->phd->ev, s, s->fd, TEVENT_FD_READ,
			       sync_handler, s);
	if (s->fde == NULL) {
		close(s->fd);
		talloc_free(s);
		return NULL;
	}
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->cond, NULL);
	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&s->thread, NULL, sync_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret != 0) {
		phd_log(0, "cannot start a thread: %s", strerror(ret));
		TALLOC_FREE(s->fde);
		close(s->fd);
		talloc_free(s);
		return NULL;
	}
	talloc_set_destructor(s, sync_destructor);
	return s;
}

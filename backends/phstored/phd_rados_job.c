/*
 * phstored: the sink "rados": what waits for RADOS, beside the event loop
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The steps of forming an epoch are calls that wait until RADOS has answered:
 * milliseconds, or as long as an OSD is away. A thread makes them, one after
 * the other, and the loop goes on: it hears ctdbd, closes the gate, answers
 * who asks for the status.
 *
 * A job's work() runs in its thread and may use the connection, the engine
 * and r->job, nothing else; done() runs in the loop afterwards, and turn()
 * whenever the thread has called phd_rados_job_wake(). While a job runs no
 * other begins, and the group does not step: so what work() was given is as
 * it was. What happens meanwhile (a new generation, the node found fenced)
 * changes the phase, at which done() looks before it believes anything.
 */

#ifdef PHSTORE_WITH_RADOS

#include "phd_rados.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "phstore_private.h"

void phd_rados_job_wake(struct phd_rados *r)
{
	uint64_t one = 1;
	ssize_t n;

	n = write(r->efd, &one, sizeof(one));
	(void)n;
}

static void *job_main(void *private_data)
{
	struct phd_rados *r = private_data;
	struct phd_rados_job *job = &r->job;

	phstore_helper_thread = true;
	job->err = job->work(r);
	if (job->err != PHSTORE_OK) {
		snprintf(job->text, sizeof(job->text), "%s",
			 phstore_last_error());
	}
	atomic_store(&job->ended, true);
	phd_rados_job_wake(r);
	return NULL;
}

/* r->job has what work() needs. */
void phd_rados_job_begin(struct phd_rados *r,
			 enum phstore_err (*work)(struct phd_rados *r),
			 void (*done)(struct phd_rados *r))
{
	struct phd_rados_job *job = &r->job;
	sigset_t all, old;
	int ret;

	job->work = work;
	job->done = done;
	job->turn = NULL;
	job->text[0] = '\0';
	job->running = true;
	atomic_store(&job->ended, false);
	atomic_store(&job->cancel, false);
	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&job->thread, NULL, job_main, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret != 0) {
		job->running = false;
		phd_fail(r->phd, PHD_EXIT_FAILED, "cannot start a thread: %s",
			 strerror(ret));
	}
}

/* Is one at work? Sees to what it has done so far. */
bool phd_rados_job_running(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;

	if (!job->running) {
		return false;
	}
	if (job->turn != NULL) {
		job->turn(r);
	}
	if (!atomic_load(&job->ended)) {
		return true;
	}
	pthread_join(job->thread, NULL);
	job->running = false;
	job->done(r);
	if (r->reborn_due && !job->running) {
		r->reborn_due = false;
		phd_rados_reborn(r);
	}
	return job->running;
}

/* The end of the daemon: what it does is of no use any more. */
void phd_rados_job_stop(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;

	if (!job->running) {
		return;
	}
	pthread_mutex_lock(&job->mutex);
	atomic_store(&job->cancel, true);
	pthread_cond_signal(&job->cond);
	pthread_mutex_unlock(&job->mutex);
	pthread_join(job->thread, NULL);
	job->running = false;
}

#endif /* PHSTORE_WITH_RADOS */

/*
 * vfs_ceph_ca: writes are durable before they are acknowledged
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A CephFS client writes into its own memory; what was not synced when it
 * dies is lost. Windows takes a write on a handle of a continuously available
 * share for written through, so the answer to one waits for a sync of the
 * file's data to the OSDs.
 *
 * The sync runs in a thread. One runs per file; the writes that are done
 * while it runs wait for the next one and share it. So a client that keeps
 * many writes in flight pays for few syncs.
 *
 * A sync that went well says nothing when the session was ended meanwhile:
 * the client drops what it had not written yet, and then there is nothing to
 * sync. So the file is asked for its attributes afterwards. While the session
 * lives its caps answer that, without the MDS; when it was ended the caps went
 * with the data, and the MDS has to be asked, which fails.
 *
 * Data only: the size is a matter of the MDS, and when it reclaims the
 * session of a dead client it asks the OSDs how far the data goes.
 */

#include "includes.h"
#include <pthread.h>
#include "lib/pthreadpool/pthreadpool_tevent.h"
#include "lib/util/dlinklist.h"
#include "lib/util/tevent_unix.h"
#include "ceph_ca_private.h"

#define CEPH_CA_NOSNAP UINT64_C(0xfffffffffffffffe)

static pthread_mutex_t ceph_ca_jobs_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ceph_ca_jobs_cond = PTHREAD_COND_INITIALIZER;
static unsigned ceph_ca_jobs;

void ceph_ca_job_begin(void)
{
	pthread_mutex_lock(&ceph_ca_jobs_mutex);
	ceph_ca_jobs++;
	pthread_mutex_unlock(&ceph_ca_jobs_mutex);
}

void ceph_ca_job_end(void)
{
	pthread_mutex_lock(&ceph_ca_jobs_mutex);
	ceph_ca_jobs--;
	pthread_cond_broadcast(&ceph_ca_jobs_cond);
	pthread_mutex_unlock(&ceph_ca_jobs_mutex);
}

void ceph_ca_jobs_wait(void)
{
	pthread_mutex_lock(&ceph_ca_jobs_mutex);
	while (ceph_ca_jobs != 0) {
		pthread_cond_wait(&ceph_ca_jobs_cond, &ceph_ca_jobs_mutex);
	}
	pthread_mutex_unlock(&ceph_ca_jobs_mutex);
}

int ceph_ca_sync(const struct ceph_ca_lib *lib,
		 struct ceph_mount_info *mnt,
		 uint64_t ino)
{
	vinodeno_t vino = {
		.ino = { .val = ino },
		.snapid = { .val = CEPH_CA_NOSNAP },
	};
	struct ceph_statx stx = {};
	struct UserPerm *root = NULL;
	struct Inode *in = NULL;
	int ret;

	/* open, so the client knows it: no question to the MDS */
	in = lib->ceph_ll_get_inode(mnt, vino);
	if (in == NULL) {
		return -ESTALE;
	}
	ret = lib->ceph_ll_sync_inode(mnt, in, 1);
	if (ret < 0) {
		goto done;
	}
	root = lib->ceph_userperm_new(0, 0, 0, NULL);
	if (root == NULL) {
		ret = -ENOMEM;
		goto done;
	}
	ret = lib->ceph_ll_getattr(mnt, in, &stx, CEPH_STATX_MODE, 0, root);
	lib->ceph_userperm_destroy(root);
done:
	(void)lib->ceph_ll_put(mnt, in);
	return ret;
}

struct ceph_ca_sync_state;

/* A file with a sync that runs. Not the child of any request. */
struct ceph_ca_batch {
	struct ceph_ca_batch *prev, *next;
	const struct ceph_ca_lib *lib;
	struct ceph_mount_info *mnt;
	uint64_t ino;
	struct tevent_context *ev;
	struct pthreadpool_tevent *pool;
	/* those it is for, and those that came later */
	struct ceph_ca_sync_state *now;
	struct ceph_ca_sync_state *later;
	int ret;
};

struct ceph_ca_sync_state {
	struct ceph_ca_sync_state *prev, *next;
	struct ceph_ca_sync_state **list;
	struct tevent_req *req;
	int ret;
};

static struct ceph_ca_batch *ceph_ca_batches;

static void ceph_ca_batch_job(void *private_data);
static void ceph_ca_batch_done(struct tevent_req *subreq);

static bool ceph_ca_batch_start(struct ceph_ca_batch *batch)
{
	struct tevent_req *subreq = NULL;
	struct ceph_ca_sync_state *state = NULL;

	while ((state = batch->later) != NULL) {
		DLIST_REMOVE(batch->later, state);
		DLIST_ADD_END(batch->now, state);
		state->list = &batch->now;
	}
	ceph_ca_job_begin();
	subreq = pthreadpool_tevent_job_send(
		batch, batch->ev, batch->pool, ceph_ca_batch_job, batch);
	if (subreq == NULL) {
		ceph_ca_job_end();
		return false;
	}
	tevent_req_set_callback(subreq, ceph_ca_batch_done, batch);
	return true;
}

static void ceph_ca_batch_job(void *private_data)
{
	struct ceph_ca_batch *batch = private_data;

	batch->ret = ceph_ca_sync(batch->lib, batch->mnt, batch->ino);
	ceph_ca_job_end();
}

static void ceph_ca_batch_finish(struct ceph_ca_batch *batch,
				 struct ceph_ca_sync_state **list,
				 int ret)
{
	struct ceph_ca_sync_state *state = NULL;

	while ((state = *list) != NULL) {
		DLIST_REMOVE(*list, state);
		state->list = NULL;
		state->ret = ret;
		/* its callback may free it, and others of the list */
		tevent_req_done(state->req);
	}
}

static void ceph_ca_batch_done(struct tevent_req *subreq)
{
	struct ceph_ca_batch *batch = tevent_req_callback_data(
		subreq, struct ceph_ca_batch);
	int err;
	bool ok;

	err = pthreadpool_tevent_job_recv(subreq);
	TALLOC_FREE(subreq);
	if (err != 0) {
		batch->ret = -err;
	}
	ceph_ca_batch_finish(batch, &batch->now, batch->ret);

	if (batch->later != NULL) {
		ok = ceph_ca_batch_start(batch);
		if (ok) {
			return;
		}
		ceph_ca_batch_finish(batch, &batch->now, -ENOMEM);
	}
	DLIST_REMOVE(ceph_ca_batches, batch);
	TALLOC_FREE(batch);
}

static void ceph_ca_sync_cleanup(struct tevent_req *req,
				 enum tevent_req_state req_state)
{
	struct ceph_ca_sync_state *state = tevent_req_data(
		req, struct ceph_ca_sync_state);

	if (state->list != NULL) {
		DLIST_REMOVE(*state->list, state);
		state->list = NULL;
	}
}

struct tevent_req *ceph_ca_sync_send(TALLOC_CTX *mem_ctx,
				     struct tevent_context *ev,
				     struct pthreadpool_tevent *pool,
				     const struct ceph_ca_lib *lib,
				     struct ceph_mount_info *mnt,
				     uint64_t ino)
{
	struct tevent_req *req = NULL;
	struct ceph_ca_sync_state *state = NULL;
	struct ceph_ca_batch *batch = NULL;
	bool ok;

	req = tevent_req_create(mem_ctx, &state, struct ceph_ca_sync_state);
	if (req == NULL) {
		return NULL;
	}
	state->req = req;
	tevent_req_set_cleanup_fn(req, ceph_ca_sync_cleanup);
	tevent_req_defer_callback(req, ev);

	for (batch = ceph_ca_batches; batch != NULL; batch = batch->next) {
		if (batch->mnt == mnt && batch->ino == ino) {
			break;
		}
	}
	if (batch != NULL) {
		state->list = &batch->later;
		DLIST_ADD_END(batch->later, state);
		return req;
	}

	/* the thread uses it, also if all requests are gone */
	batch = talloc_zero(NULL, struct ceph_ca_batch);
	if (tevent_req_nomem(batch, req)) {
		return tevent_req_post(req, ev);
	}
	*batch = (struct ceph_ca_batch) {
		.lib = lib,
		.mnt = mnt,
		.ino = ino,
		.ev = ev,
		.pool = pool,
	};
	state->list = &batch->later;
	DLIST_ADD_END(batch->later, state);
	DLIST_ADD(ceph_ca_batches, batch);
	ok = ceph_ca_batch_start(batch);
	if (!ok) {
		DLIST_REMOVE(batch->now, state);
		state->list = NULL;
		DLIST_REMOVE(ceph_ca_batches, batch);
		TALLOC_FREE(batch);
		tevent_req_oom(req);
		return tevent_req_post(req, ev);
	}
	return req;
}

int ceph_ca_sync_recv(struct tevent_req *req)
{
	struct ceph_ca_sync_state *state = tevent_req_data(
		req, struct ceph_ca_sync_state);
	int ret = state->ret;
	int err;

	if (tevent_req_is_unix_error(req, &err)) {
		ret = -err;
	}
	tevent_req_received(req);
	return ret;
}

/*
 * vfs_ceph_ca: end the sessions of dead smbds, many at once
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Each in a thread, some at a time. Two do that:
 *
 * - a process that cleanupd starts for it when smbds have died, here or with
 *   a node (smbd/phstore_ceph.c). It ends all there are;
 * - a smbd that a client connects to, in the background, so that the client
 *   does not wait: those of other clients. cleanupd has begun with them, but
 *   it may be dead itself.
 *
 * A client of a dead node that comes back has its own session ended by its
 * own smbd, and does not wait for this either. What this is for are the files
 * of those that do not come back.
 */

#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "lib/pthreadpool/pthreadpool_tevent.h"
#include "messages.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "ceph_ca_private.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

/* Of one smbd: each is a Ceph client */
#define SWEEP_AT_ONCE 16

struct ceph_ca_sweep {
	struct tevent_context *ev;
	struct pthreadpool_tevent *pool;
	struct server_id self;
	const struct ceph_ca_lib *lib;
	struct ceph_ca_record *recs;
	size_t num_recs;
	size_t next;
	size_t running;
	size_t ended;
	struct timeval began;
	bool *done;
};

struct ceph_ca_sweep_job {
	struct ceph_ca_sweep *sweep;
	const struct ceph_ca_record *rec;
	int ret;
};

static void ceph_ca_sweep_job_fn(void *private_data)
{
	struct ceph_ca_sweep_job *job = private_data;

	job->ret = ceph_ca_reclaim(
		job->sweep->lib, &job->rec->target, job->rec->uuid);
	ceph_ca_job_end();
}

static void ceph_ca_sweep_done(struct tevent_req *subreq);

static void ceph_ca_sweep_more(struct ceph_ca_sweep *sweep)
{
	while (sweep->running < SWEEP_AT_ONCE &&
	       sweep->next < sweep->num_recs)
	{
		const struct ceph_ca_record *rec =
			&sweep->recs[sweep->next++];
		struct ceph_ca_sweep_job *job = NULL;
		struct tevent_req *subreq = NULL;
		bool ok;

		ok = ceph_ca_record_claim(rec->uuid, sweep->self);
		if (!ok) {
			continue;
		}
		job = talloc_zero(sweep, struct ceph_ca_sweep_job);
		if (job == NULL) {
			break;
		}
		job->sweep = sweep;
		job->rec = rec;
		ceph_ca_job_begin();
		subreq = pthreadpool_tevent_job_send(job,
						     sweep->ev,
						     sweep->pool,
						     ceph_ca_sweep_job_fn,
						     job);
		if (subreq == NULL) {
			ceph_ca_job_end();
			break;
		}
		tevent_req_set_callback(subreq, ceph_ca_sweep_done, job);
		sweep->running++;
	}
	if (sweep->running == 0) {
		if (sweep->ended > 0) {
			DBG_NOTICE("%zu CephFS sessions of dead smbds were "
				   "ended in %.3f s\n",
				   sweep->ended,
				   timeval_elapsed(&sweep->began));
		}
		if (sweep->done != NULL) {
			*sweep->done = true;
		}
		TALLOC_FREE(sweep);
	}
}

static void ceph_ca_sweep_done(struct tevent_req *subreq)
{
	struct ceph_ca_sweep_job *job = tevent_req_callback_data(
		subreq, struct ceph_ca_sweep_job);
	struct ceph_ca_sweep *sweep = job->sweep;
	int err;

	err = pthreadpool_tevent_job_recv(subreq);
	TALLOC_FREE(subreq);
	if (err == 0 && job->ret == 0) {
		DBG_NOTICE("CephFS session %s of a dead smbd was ended\n",
			   job->rec->uuid);
		ceph_ca_record_delete(job->rec->uuid);
		sweep->ended++;
	} else {
		DBG_WARNING("CephFS session %s of a dead smbd can not be "
			    "ended: %s\n",
			    job->rec->uuid,
			    strerror(err != 0 ? err : -job->ret));
	}
	TALLOC_FREE(job);
	sweep->running--;
	ceph_ca_sweep_more(sweep);
}

static struct ceph_ca_sweep *ceph_ca_sweep_create(
	const struct ceph_ca_lib *lib,
	struct messaging_context *msg,
	struct tevent_context *ev,
	struct pthreadpool_tevent *pool,
	const struct GUID *not_client)
{
	struct ceph_ca_sweep *sweep = NULL;
	NTSTATUS status;

	/* threads use it, whatever becomes of the one who asked for it */
	sweep = talloc_zero(NULL, struct ceph_ca_sweep);
	if (sweep == NULL) {
		return NULL;
	}
	*sweep = (struct ceph_ca_sweep) {
		.ev = ev,
		.pool = pool,
		.self = messaging_server_id(msg),
		.lib = lib,
		.began = timeval_current(),
	};
	status = ceph_ca_record_dead(
		sweep, NULL, not_client, &sweep->recs, &sweep->num_recs);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("can not look for dead CephFS sessions: %s\n",
			    nt_errstr(status));
		TALLOC_FREE(sweep);
	}
	return sweep;
}

void ceph_ca_sweep_start(const struct ceph_ca_lib *lib,
			 struct smbd_server_connection *sconn)
{
	struct ceph_ca_sweep *sweep = NULL;

	if (sconn->client == NULL || sconn->pool == NULL) {
		/* smbd's own work, for no client */
		return;
	}
	sweep = ceph_ca_sweep_create(lib,
				     sconn->msg_ctx,
				     sconn->ev_ctx,
				     sconn->pool,
				     &sconn->client->global->client_guid);
	if (sweep != NULL) {
		ceph_ca_sweep_more(sweep);
	}
}

void ceph_ca_sweep_all(struct messaging_context *msg)
{
	struct tevent_context *ev = messaging_tevent_context(msg);
	struct pthreadpool_tevent *pool = NULL;
	struct ceph_ca_sweep *sweep = NULL;
	const struct ceph_ca_lib *lib = NULL;
	const char *missing = NULL;
	bool done = false;
	NTSTATUS status;
	int ret;

	lib = ceph_ca_lib_get(&missing);
	if (lib == NULL) {
		DBG_ERR("libcephfs is too old or not there: no %s\n", missing);
		return;
	}
	status = dbwrap_phstore_ready();
	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("no sessions are ended: %s\n", nt_errstr(status));
		return;
	}
	ret = pthreadpool_tevent_init(NULL, SWEEP_AT_ONCE, &pool);
	if (ret != 0) {
		DBG_ERR("no threads: %s\n", strerror(ret));
		return;
	}
	sweep = ceph_ca_sweep_create(lib, msg, ev, pool, NULL);
	if (sweep != NULL) {
		sweep->done = &done;
		ceph_ca_sweep_more(sweep);
		while (!done) {
			ret = tevent_loop_once(ev);
			if (ret != 0) {
				DBG_ERR("tevent_loop_once failed\n");
				break;
			}
		}
	}
	TALLOC_FREE(pool);
}

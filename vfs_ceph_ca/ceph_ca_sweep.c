/*
 * vfs_ceph_ca: end the sessions dead smbds had for other clients
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * In the background, so that the client that happened to connect does not
 * wait for it: each in a thread, some at a time. A client of a dead node that
 * comes back has its own session ended by its own smbd, and does not wait for
 * this either. What this is for are the files of those that do not come back.
 */

#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "lib/pthreadpool/pthreadpool_tevent.h"
#include "messages.h"
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

void ceph_ca_sweep_start(const struct ceph_ca_lib *lib,
			 struct smbd_server_connection *sconn)
{
	struct ceph_ca_sweep *sweep = NULL;
	NTSTATUS status;

	if (sconn->client == NULL || sconn->pool == NULL) {
		/* smbd's own work, for no client */
		return;
	}
	/* a thread uses it, whatever becomes of the connection */
	sweep = talloc_zero(NULL, struct ceph_ca_sweep);
	if (sweep == NULL) {
		return;
	}
	sweep->ev = sconn->ev_ctx;
	sweep->pool = sconn->pool;
	sweep->self = messaging_server_id(sconn->msg_ctx);
	sweep->lib = lib;
	status = ceph_ca_record_dead(sweep,
				     NULL,
				     &sconn->client->global->client_guid,
				     &sweep->recs,
				     &sweep->num_recs);
	if (!NT_STATUS_IS_OK(status)) {
		TALLOC_FREE(sweep);
		return;
	}
	ceph_ca_sweep_more(sweep);
}

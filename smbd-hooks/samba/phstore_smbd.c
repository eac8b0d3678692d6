/*
 * phstore: a reply waits until what it acknowledges is durable
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A request that changes something durable only stages it
 * (lib/dbwrap/dbwrap_phstore.c). Its response is built, signed and encrypted
 * as ever, and then, instead of being queued, parked here until a barrier on
 * this process's last LSN has completed. All other requests, also of the
 * same connection, go on meanwhile: SMB2 responses may overtake each other,
 * and a nonce or signature does not depend on the order of sending.
 *
 * Who waits: a response with at least one element of an operation that can
 * change durable state, when
 *   - something was staged in this process since its first element was
 *     dispatched (another request's change may be among it: that costs a
 *     wait, never a promise), or
 *   - it may repeat what a parked response says: a replayed operation, a
 *     LOCK on a persistent handle (lock sequence numbers are answered from
 *     memory), a CLOSE of a handle that is gone.
 * READ, WRITE, FLUSH, queries, NOTIFY, IOCTL, ECHO, NEGOTIATE and SESSION
 * SETUP promise nothing about the three databases. (WRITE may store a
 * channel sequence: it tells old connections from new ones, and no
 * connection outlives the host's memory.)
 *
 * Never a false ack: when the barrier fails or takes too long, or when a
 * change was refused and the response says success all the same, nothing is
 * sent and the connection ends. The client reconnects and asks again.
 *
 * A parked response is off xconn->smb2.requests, as one in the send queue
 * is: cancel does not find it, and the end of a session, tree connect or
 * connection does not wait for it. It is a talloc child of the connection
 * and is dropped with it; freeing it cancels the wait.
 */

#include "includes.h"
#include "system/filesys.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "../libcli/smb/smb_common.h"
#include "messages.h"
#include "lib/util/server_id_db.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "smbd/phstore_smbd.h"
#include "smbd/phstore_open.h"

/* How long a client waits for smbd-notifyd at most, and how it looks */
#define PHSTORE_NOTIFYD_MSEC 30000
#define PHSTORE_NOTIFYD_STEP 5

struct phstore_smb2_parked {
	struct smbd_smb2_request *req;
	struct tevent_req *subreq;
	struct tevent_timer *te;
};

static void phstore_smbd_fatal(const char *reason)
{
	DBG_ERR("phstore: %s. This client's smbd ends here, as if killed, so "
		"that nothing is acknowledged that is not durable. The "
		"client's persistent handles stay as they were.\n", reason);
	/* no cleanup: it would want to store as well */
	_exit(1);
}

static const struct dbwrap_phstore_progress *phstore_smb2_progress(void)
{
	const struct dbwrap_phstore_progress *progress =
		dbwrap_phstore_progress();

	if (progress->store == NULL) {
		return NULL;
	}
	return progress;
}

/* [MS-SMB2] 2.2.26: a LOCK whose sequence number is stored behind the lock */
static bool phstore_smb2_is_numbered(struct smbd_smb2_request *req)
{
	const uint8_t *inhdr = SMBD_SMB2_IN_HDR_PTR(req);
	const uint8_t *body = SMBD_SMB2_IN_BODY_PTR(req);

	if (SVAL(inhdr, SMB2_HDR_OPCODE) != SMB2_OP_LOCK ||
	    SMBD_SMB2_IN_BODY_LEN(req) < 8)
	{
		return false;
	}
	return IVAL(body, 4) != 0;
}

void phstore_smb2_dispatch(struct smbd_smb2_request *req)
{
	const struct dbwrap_phstore_progress *progress =
		phstore_smb2_progress();
	static pid_t fatal_set;
	const uint8_t *inhdr = NULL;
	uint32_t flags;

	if (progress == NULL) {
		return;
	}
	if (fatal_set != tevent_cached_getpid()) {
		fatal_set = tevent_cached_getpid();
		dbwrap_phstore_set_fatal(phstore_smbd_fatal);
	}
	if (!req->phstore.started) {
		req->phstore.started = true;
		req->phstore.stages = progress->stages;
		req->phstore.failures = progress->failures;
	}

	dbwrap_phstore_request_end();
	inhdr = SMBD_SMB2_IN_HDR_PTR(req);
	flags = IVAL(inhdr, SMB2_HDR_FLAGS);
	dbwrap_phstore_more(phstore_smb2_is_numbered(req));
	dbwrap_phstore_kept_begin(SVAL(inhdr, SMB2_HDR_OPCODE) ==
				  SMB2_OP_SETINFO);

	switch (SVAL(inhdr, SMB2_HDR_OPCODE)) {
	case SMB2_OP_CREATE:
	case SMB2_OP_CLOSE:
	case SMB2_OP_LOCK:
	case SMB2_OP_SETINFO:
	case SMB2_OP_BREAK:
	case SMB2_OP_LOGOFF:
	case SMB2_OP_TCON:
	case SMB2_OP_TDIS:
		req->phstore.counts = true;
		if (flags & SMB2_HDR_FLAG_REPLAY_OPERATION) {
			req->phstore.always = true;
		}
		break;
	default:
		break;
	}
}

/*
 * With a full or failed store, opens, locks and changes through persistent
 * handles are refused at the door. Reads, writes, plain handles and (from
 * the store's reserve) unlocks and closes go on.
 */
NTSTATUS phstore_smb2_admit_open(void)
{
	NTSTATUS status = dbwrap_phstore_room();

	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("phstore: refused, the store takes no changes: "
			    "%s\n", nt_errstr(status));
	}
	return status;
}

/* [MS-SMB2] 2.2.26: the first element's flags */
static bool phstore_smb2_is_unlock(struct smbd_smb2_request *req)
{
	const uint8_t *body = SMBD_SMB2_IN_BODY_PTR(req);

	if (SMBD_SMB2_IN_BODY_LEN(req) < 48) {
		return false;
	}
	return (IVAL(body, 24 + 16) & SMB2_LOCK_FLAG_UNLOCK) != 0;
}

NTSTATUS phstore_smb2_admit(struct smbd_smb2_request *req)
{
	const uint8_t *inhdr = SMBD_SMB2_IN_HDR_PTR(req);
	struct files_struct *fsp = req->compat_chain_fsp;
	bool is_unlock;
	NTSTATUS status;

	switch (SVAL(inhdr, SMB2_HDR_OPCODE)) {
	case SMB2_OP_CREATE:
		/* no file can be opened while the node is not in the cluster */
		return dbwrap_phstore_ready();
	case SMB2_OP_LOCK:
		is_unlock = phstore_smb2_is_unlock(req);
		if (is_unlock) {
			return NT_STATUS_OK;
		}
		break;
	case SMB2_OP_SETINFO:
		break;
	default:
		return NT_STATUS_OK;
	}
	if (fsp == NULL || fsp->op == NULL) {
		return NT_STATUS_OK;
	}
	if (phstore_open_is_kept(fsp->op->global)) {
		status = dbwrap_phstore_room();
		if (!NT_STATUS_IS_OK(status)) {
			phstore_open_unkeep(fsp->op);
		}
		return phstore_open_check_ours(fsp->op);
	}
	if (!fsp->op->global->persistent) {
		return NT_STATUS_OK;
	}
	status = phstore_smb2_admit_open();
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	return phstore_open_check_ours(fsp->op);
}

void phstore_smb2_answered(struct smbd_smb2_request *req)
{
	const uint8_t *outhdr = SMBD_SMB2_OUT_HDR_PTR(req);
	NTSTATUS status = NT_STATUS(IVAL(outhdr, SMB2_HDR_STATUS));
	bool is_error = NT_STATUS_IS_ERR(status);
	struct files_struct *fsp = req->compat_chain_fsp;

	dbwrap_phstore_request_end();
	if (!is_error) {
		req->phstore.acks = true;
	}

	switch (SVAL(outhdr, SMB2_HDR_OPCODE)) {
	case SMB2_OP_CLOSE:
		/* "closed already": by a close that is parked, maybe */
		if (is_error) {
			req->phstore.always = true;
		}
		break;
	case SMB2_OP_LOCK:
		/* a known lock sequence number is answered from memory */
		if (fsp != NULL && fsp->op != NULL &&
		    fsp->op->global->persistent)
		{
			req->phstore.always = true;
		}
		break;
	default:
		break;
	}
}

static void phstore_smb2_release(struct smbd_smb2_request *req)
{
	struct smbXsrv_connection *xconn = req->xconn;
	NTSTATUS status;

	req->queue_entry.mem_ctx = req;
	req->queue_entry.vector = req->out.vector;
	req->queue_entry.count = req->out.vector_count;
	DLIST_ADD_END(xconn->smb2.send_queue, &req->queue_entry);
	xconn->smb2.send_queue_len++;

	status = phstore_smb2_flush(xconn);
	if (!NT_STATUS_IS_OK(status)) {
		smbd_server_connection_terminate(xconn, nt_errstr(status));
	}
}

static void phstore_smb2_refuse(struct smbd_smb2_request *req,
				const char *reason)
{
	struct smbXsrv_connection *xconn = req->xconn;

	DBG_ERR("phstore: %s: a response is not sent, the connection to %s "
		"ends\n", reason, smbXsrv_connection_dbg(xconn));
	TALLOC_FREE(req);
	smbd_server_connection_terminate(xconn, reason);
}

static void phstore_smb2_parked_done(struct tevent_req *subreq)
{
	struct phstore_smb2_parked *parked = tevent_req_callback_data(
		subreq, struct phstore_smb2_parked);
	struct smbd_smb2_request *req = parked->req;
	enum phstore_err err;

	err = phstore_barrier_recv(subreq);
	TALLOC_FREE(parked);

	if (!NT_STATUS_IS_OK(req->xconn->transport.status)) {
		TALLOC_FREE(req);
		return;
	}
	if (err != PHSTORE_OK) {
		phstore_smb2_refuse(req, phstore_strerror(err));
		return;
	}
	phstore_smb2_release(req);
}

static void phstore_smb2_parked_timeout(struct tevent_context *ev,
					struct tevent_timer *te,
					struct timeval now,
					void *private_data)
{
	struct phstore_smb2_parked *parked = talloc_get_type_abort(
		private_data, struct phstore_smb2_parked);
	struct smbd_smb2_request *req = parked->req;

	TALLOC_FREE(parked);

	if (!NT_STATUS_IS_OK(req->xconn->transport.status)) {
		TALLOC_FREE(req);
		return;
	}
	phstore_smb2_refuse(req, "phstore barrier timeout");
}

static NTSTATUS phstore_smb2_park(
	struct smbd_smb2_request *req,
	const struct dbwrap_phstore_progress *progress)
{
	/* not the request's own event context: nothing here is the user's */
	struct tevent_context *ev = req->xconn->client->raw_ev_ctx;
	struct phstore_smb2_parked *parked = NULL;

	parked = talloc_zero(req, struct phstore_smb2_parked);
	if (parked == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	parked->req = req;
	parked->te = tevent_add_timer(
		ev,
		parked,
		timeval_current_ofs(progress->barrier_timeout_sec, 0),
		phstore_smb2_parked_timeout,
		parked);
	if (parked->te == NULL) {
		TALLOC_FREE(parked);
		return NT_STATUS_NO_MEMORY;
	}
	parked->subreq = phstore_barrier_class_send(
		parked, ev, progress->store, progress->lsn,
		progress->durability);
	if (parked->subreq == NULL) {
		TALLOC_FREE(parked);
		return NT_STATUS_NO_MEMORY;
	}
	tevent_req_set_callback(
		parked->subreq, phstore_smb2_parked_done, parked);
	return NT_STATUS_EVENT_PENDING;
}

NTSTATUS phstore_smb2_hold(struct smbd_smb2_request *req,
			   const struct smbd_smb2_request *orig)
{
	const struct dbwrap_phstore_progress *progress =
		phstore_smb2_progress();
	bool durable;

	if (progress == NULL || !orig->phstore.counts) {
		return NT_STATUS_OK;
	}
	if (orig->phstore.acks &&
	    orig->phstore.failures != progress->failures)
	{
		DBG_ERR("phstore: a change was refused, its success is not "
			"acknowledged, the connection to %s ends\n",
			smbXsrv_connection_dbg(req->xconn));
		return NT_STATUS_UNEXPECTED_IO_ERROR;
	}
	if (!orig->phstore.always &&
	    orig->phstore.stages == progress->stages)
	{
		return NT_STATUS_OK;
	}
	if (progress->stages == 0) {
		return NT_STATUS_OK;
	}
	durable = phstore_is_durable(progress->store, progress->lsn);
	if (durable) {
		return NT_STATUS_OK;
	}
	return phstore_smb2_park(req, progress);
}

/*
 * smbd listens before its smbd-notifyd has said who it is. A TREE_CONNECT in
 * between fails with NO_MEMORY, and who comes first after a crash is a client
 * with persistent handles, which it then gives up.
 */
void phstore_smb2_wait_notifyd(struct messaging_context *msg)
{
	const struct dbwrap_phstore_progress *progress =
		phstore_smb2_progress();
	struct server_id_db *names = messaging_names_db(msg);
	struct server_id id = {};
	unsigned int i;

	if (progress == NULL) {
		return;
	}
	for (i = 0; i < PHSTORE_NOTIFYD_MSEC / PHSTORE_NOTIFYD_STEP; i++) {
		bool ok = server_id_db_lookup_one(names, "notify-daemon", &id);

		if (ok) {
			return;
		}
		smb_msleep(PHSTORE_NOTIFYD_STEP);
	}
}

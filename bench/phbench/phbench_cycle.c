/*
 * phbench: the workloads
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A workload is a list of steps, a step a request (or, connect: a lost
 * connection and a new one), all done by one lane one after the other. The
 * handle is asked for by the first step and closed by the last one, so a lane
 * between two cycles holds nothing.
 *
 * The list ends a cycle even when phbench was interrupted meanwhile: that is
 * the shortest way to a server without our handles.
 */

#include "includes.h"
#include "source3/include/client.h"
#include "libsmb/proto.h"
#include "../libcli/smb/smbXcli_base.h"
#include "../libcli/smb/smb2_constants.h"
#include "../lib/util/tevent_ntstatus.h"
#include "phbench.h"
#include "phbench_lane.h"

/* a server may need a moment to see that a connection is lost */
#define RETRY_US 1000
#define RETRY_MAX 30000

static const struct phbench_workload workloads[] = {
	{
		.name = "open-close",
		.num_steps = 2,
		.steps = { PHBENCH_OP_OPEN, PHBENCH_OP_CLOSE },
	}, {
		.name = "open-lock-unlock-close",
		.num_steps = 4,
		.steps = { PHBENCH_OP_OPEN, PHBENCH_OP_LOCK,
			   PHBENCH_OP_UNLOCK, PHBENCH_OP_CLOSE },
	}, {
		.name = "create-delete",
		.creates = true,
		.num_steps = 3,
		.steps = { PHBENCH_OP_OPEN, PHBENCH_OP_DELETE,
			   PHBENCH_OP_CLOSE },
	}, {
		.name = "reconnect",
		.needs_guid = true,
		.needs_depth_1 = true,
		.num_steps = 4,
		.steps = { PHBENCH_OP_OPEN, PHBENCH_OP_CONNECT,
			   PHBENCH_OP_RECONNECT, PHBENCH_OP_CLOSE },
	}, {
		.name = "replay",
		.needs_guid = true,
		.num_steps = 3,
		.steps = { PHBENCH_OP_OPEN, PHBENCH_OP_REPLAY,
			   PHBENCH_OP_CLOSE },
	},
};

static void lane_park(struct phbench_lane *lane);
static void lane_step(struct phbench_lane *lane);
static void lane_stepped(struct tevent_req *subreq);
static void lane_again(struct tevent_context *ev, struct tevent_timer *te,
		       struct timeval now, void *private_data);
static void lane_cycle_done(struct phbench_lane *lane, uint64_t now);
static void lane_think_over(struct tevent_context *ev,
			    struct tevent_timer *te,
			    struct timeval now, void *private_data);

const struct phbench_workload *phbench_workload_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(workloads); i++) {
		int cmp = strcmp(name, workloads[i].name);

		if (cmp == 0) {
			return &workloads[i];
		}
	}
	return NULL;
}

const char *phbench_workload_names(TALLOC_CTX *mem_ctx)
{
	char *names = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(workloads); i++) {
		talloc_asprintf_addbuf(&names, "%s%s", i == 0 ? "" : ", ",
				       workloads[i].name);
		if (i == 0) {
			talloc_steal(mem_ctx, names);
		}
	}
	return names;
}

/* ---- the steps: how each is sent, and what its reply has to say */

/* Was granted what was asked for? Fails the run if not. */
static bool lane_check_granted(struct phbench_lane *lane,
			       const struct smb2_create_blobs *blobs)
{
	struct phbench *pb = lane->conn->pb;
	const char *share = pb->opt.share;
	const char *host = pb->opt.host;
	struct smb2_create_blob *dh2q = NULL;
	struct smb2_create_blob *rqls = NULL;
	uint32_t flags;

	dh2q = smb2_create_blob_find(blobs, SMB2_CREATE_TAG_DH2Q);
	rqls = smb2_create_blob_find(blobs, SMB2_CREATE_TAG_RQLS);

	if (pb->opt.handle != PHBENCH_HANDLE_PLAIN) {
		if (dh2q == NULL || dh2q->data.length != 8) {
			phbench_fail(pb, 2, "//%s/%s granted neither a "
				     "durable nor a persistent handle "
				     "(no DH2Q in the reply)", host, share);
			return false;
		}
		flags = IVAL(dh2q->data.data, 4);
		if (pb->opt.handle == PHBENCH_HANDLE_PERSISTENT &&
		    !(flags & SMB2_DHANDLE_FLAG_PERSISTENT))
		{
			phbench_fail(pb, 2, "//%s/%s granted a durable "
				     "handle, but not a persistent one",
				     host, share);
			return false;
		}
	}

	if (pb->opt.lease != 0) {
		struct smb2_lease lease = {};
		ssize_t len = -1;

		if (rqls != NULL) {
			len = smb2_lease_pull(rqls->data.data,
					      rqls->data.length,
					      &lease);
		}
		if (len == -1 || lease.lease_state != pb->opt.lease) {
			phbench_fail(pb, 2, "//%s/%s granted lease state 0x%x "
				     "instead of 0x%x", host, share,
				     (unsigned int)lease.lease_state,
				     (unsigned int)pb->opt.lease);
			return false;
		}
		lane->lease.lease_epoch = lease.lease_epoch;
	}
	return true;
}

static struct tevent_req *step_open_send(struct phbench_lane *lane)
{
	return lane_create_send(lane, PHBENCH_CREATE_CYCLE);
}

static NTSTATUS step_open_recv(struct phbench_lane *lane,
			       struct tevent_req *subreq)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct smb2_create_blobs blobs = { .num_blobs = 0 };
	NTSTATUS status;
	bool ok;

	status = smb2cli_create_recv(subreq,
				     &lane->fid_persistent,
				     &lane->fid_volatile,
				     NULL, frame, &blobs, NULL);
	if (NT_STATUS_IS_OK(status)) {
		lane->open = true;
		ok = lane_check_granted(lane, &blobs);
		if (!ok) {
			status = NT_STATUS_REQUEST_NOT_ACCEPTED;
		}
	}
	TALLOC_FREE(frame);
	return status;
}

static struct tevent_req *step_replay_send(struct phbench_lane *lane)
{
	return lane_create_send(lane, PHBENCH_CREATE_REPLAY);
}

/* It has to be the handle there is already. */
static NTSTATUS step_replay_recv(struct phbench_lane *lane,
				 struct tevent_req *subreq)
{
	uint64_t fid_persistent = lane->fid_persistent;
	NTSTATUS status;

	status = step_open_recv(lane, subreq);
	if (NT_STATUS_IS_OK(status) &&
	    lane->fid_persistent != fid_persistent)
	{
		phbench_fail(lane->conn->pb, 1, "%s: a replayed CREATE was "
			     "given another handle", lane->name);
	}
	return status;
}

static struct tevent_req *step_lock_common_send(struct phbench_lane *lane,
						bool unlock)
{
	struct cli_state *cli = lane->conn->cli;
	struct tevent_req *subreq = NULL;
	uint8_t *fixed = NULL;

	fixed = talloc_zero_array(lane, uint8_t, 48);
	if (fixed == NULL) {
		return NULL;
	}
	SSVAL(fixed, 0, 48);
	SSVAL(fixed, 2, 1);
	/* bucket 1, sequence number 1, 2: what a client with replay sends */
	SIVAL(fixed, 4, (1 << 4) | (unlock ? 2 : 1));
	SBVAL(fixed, 8, lane->fid_persistent);
	SBVAL(fixed, 16, lane->fid_volatile);
	SBVAL(fixed, 24, 0);
	SBVAL(fixed, 32, 1);
	SIVAL(fixed, 40, unlock ? SMB2_LOCK_FLAG_UNLOCK :
	      (SMB2_LOCK_FLAG_EXCLUSIVE|SMB2_LOCK_FLAG_FAIL_IMMEDIATELY));

	subreq = smb2cli_req_send(lane,
				  lane->conn->pb->ev,
				  cli->conn,
				  SMB2_OP_LOCK,
				  0, 0,
				  cli->timeout,
				  cli->smb2.tcon,
				  cli->smb2.session,
				  fixed, 48,
				  NULL, 0, 0);
	if (subreq != NULL) {
		/* it has to live as long as the request */
		talloc_steal(subreq, fixed);
	}
	return subreq;
}

static struct tevent_req *step_lock_send(struct phbench_lane *lane)
{
	return step_lock_common_send(lane, false);
}

static struct tevent_req *step_unlock_send(struct phbench_lane *lane)
{
	return step_lock_common_send(lane, true);
}

static NTSTATUS step_lock_recv(struct phbench_lane *lane,
			       struct tevent_req *subreq)
{
	static const struct smb2cli_req_expected_response expected[] = {{
		.status = NT_STATUS_OK,
		.body_size = 4,
	}};

	return smb2cli_req_recv(subreq, NULL, NULL,
				expected, ARRAY_SIZE(expected));
}

static struct tevent_req *step_delete_send(struct phbench_lane *lane)
{
	static uint8_t delete_on_close = 1;
	const DATA_BLOB blob = data_blob_const(&delete_on_close, 1);
	struct cli_state *cli = lane->conn->cli;

	return smb2cli_set_info_send(lane,
				     lane->conn->pb->ev,
				     cli->conn,
				     cli->timeout,
				     cli->smb2.session,
				     cli->smb2.tcon,
				     1,	/* of a file */
				     13, /* FileDispositionInformation */
				     &blob, 0,
				     lane->fid_persistent,
				     lane->fid_volatile);
}

static NTSTATUS step_delete_recv(struct phbench_lane *lane,
				 struct tevent_req *subreq)
{
	return smb2cli_set_info_recv(subreq);
}

/* Without a word to the server, as when a cable is cut. */
static struct tevent_req *step_connect_send(struct phbench_lane *lane)
{
	struct phbench_conn *conn = lane->conn;

	if (conn->cli != NULL) {
		smbXcli_conn_disconnect(conn->cli->conn,
					NT_STATUS_LOCAL_DISCONNECT);
		TALLOC_FREE(conn->cli);
	}
	return phbench_connect_send(conn, conn->pb, conn->client_guid);
}

static NTSTATUS step_connect_recv(struct phbench_lane *lane,
				  struct tevent_req *subreq)
{
	return phbench_connect_recv(subreq, lane->conn, &lane->conn->cli);
}

static struct tevent_req *step_reconnect_send(struct phbench_lane *lane)
{
	return lane_create_send(lane, PHBENCH_CREATE_RECONNECT);
}

static NTSTATUS step_reconnect_recv(struct phbench_lane *lane,
				    struct tevent_req *subreq)
{
	uint64_t fid_persistent = 0;
	uint64_t fid_volatile = 0;
	NTSTATUS status;

	status = smb2cli_create_recv(subreq, &fid_persistent, &fid_volatile,
				     NULL, NULL, NULL, NULL);
	if (NT_STATUS_EQUAL(status, NT_STATUS_OBJECT_NAME_NOT_FOUND) ||
	    NT_STATUS_EQUAL(status, NT_STATUS_FILE_NOT_AVAILABLE))
	{
		return NT_STATUS_RETRY;
	}
	if (NT_STATUS_IS_OK(status)) {
		lane->fid_persistent = fid_persistent;
		lane->fid_volatile = fid_volatile;
	}
	return status;
}

static NTSTATUS step_close_recv(struct phbench_lane *lane,
				struct tevent_req *subreq)
{
	lane->open = false;
	return smb2cli_close_recv(subreq);
}

static const struct {
	const char *what;
	struct tevent_req *(*send)(struct phbench_lane *lane);
	NTSTATUS (*recv)(struct phbench_lane *lane,
			 struct tevent_req *subreq);
} steps[PHBENCH_OP_WAIT] = {
	[PHBENCH_OP_OPEN] = { "open", step_open_send, step_open_recv },
	[PHBENCH_OP_REPLAY] = {
		"replay", step_replay_send, step_replay_recv },
	[PHBENCH_OP_LOCK] = { "lock", step_lock_send, step_lock_recv },
	[PHBENCH_OP_UNLOCK] = { "unlock", step_unlock_send, step_lock_recv },
	[PHBENCH_OP_DELETE] = {
		"deletion", step_delete_send, step_delete_recv },
	[PHBENCH_OP_CONNECT] = {
		"new connection", step_connect_send, step_connect_recv },
	[PHBENCH_OP_RECONNECT] = {
		"reconnect", step_reconnect_send, step_reconnect_recv },
	[PHBENCH_OP_CLOSE] = { "close", lane_close_send, step_close_recv },
};

/* ---- a cycle */

static void lane_park(struct phbench_lane *lane)
{
	struct phbench *pb = lane->conn->pb;

	if (lane->parked) {
		return;
	}
	lane->parked = true;
	pb->num_parked++;
	if (pb->num_parked == pb->num_lanes) {
		pb->num_parked = 0;
		pb->parked_fn(pb);
	}
}

/* May no cycle begin before the next phase? */
static bool lane_must_park(const struct phbench *pb)
{
	if (pb->phase == PHBENCH_MEASURE) {
		return pb->opt.count != 0 &&
		       pb->cycles_started >= pb->opt.count;
	}
	return pb->phase == PHBENCH_SETTLE || pb->phase == PHBENCH_STOP;
}

/*
 * Begin one, or wait: for an arrival, or for the next phase. Also for a lane
 * that waits already, or thinks: the phase may be another now.
 */
void lane_cycle(struct phbench_lane *lane)
{
	struct phbench *pb = lane->conn->pb;
	bool must_park = lane_must_park(pb);
	uint64_t now;

	TALLOC_FREE(lane->timer);
	if (lane->idle) {
		DLIST_REMOVE(pb->idle, lane);
		lane->idle = false;
	}
	if (pb->phase >= PHBENCH_DRAIN) {
		/* phbench_lanes_drain() will come */
		return;
	}
	if (must_park) {
		lane_park(lane);
		return;
	}
	lane->parked = false;
	lane->intended_ns = 0;
	if (pb->arrivals != NULL) {
		bool ok = phbench_arrivals_take(pb->arrivals,
						&lane->intended_ns);
		if (!ok) {
			lane->idle = true;
			DLIST_ADD_END(pb->idle, lane);
			return;
		}
	}
	if (pb->phase == PHBENCH_MEASURE) {
		pb->cycles_started++;
	}

	now = phbench_now();
	if (pb->arrivals == NULL) {
		lane->intended_ns = now;
	}
	lane->took[PHBENCH_OP_WAIT] = now - lane->intended_ns;
	lane->op_ns = now;
	lane->step = 0;
	lane->tries = 0;
	lane_step(lane);
	if (pb->phase == PHBENCH_MEASURE && pb->opt.count != 0 &&
	    pb->cycles_started == pb->opt.count)
	{
		phbench_lanes_run(pb);
	}
}

static void lane_step(struct phbench_lane *lane)
{
	const struct phbench_workload *w = lane->conn->pb->opt.workload;
	struct tevent_req *subreq = NULL;

	lane->busy = true;
	subreq = steps[w->steps[lane->step]].send(lane);
	lane_expect(lane, subreq, lane_stepped);
}

static void lane_stepped(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	struct phbench *pb = lane->conn->pb;
	const struct phbench_workload *w = pb->opt.workload;
	enum phbench_op op = w->steps[lane->step];
	uint64_t now = phbench_now();
	NTSTATUS status;

	status = steps[op].recv(lane, subreq);
	TALLOC_FREE(subreq);
	if (NT_STATUS_EQUAL(status, NT_STATUS_RETRY) &&
	    lane->tries < RETRY_MAX)
	{
		lane->tries++;
		pb->retries++;
		lane->timer = tevent_add_timer(
			pb->ev, lane, tevent_timeval_current_ofs(0, RETRY_US),
			lane_again, lane);
		if (lane->timer != NULL) {
			return;
		}
		status = NT_STATUS_NO_MEMORY;
	}
	lane->busy = false;
	if (!NT_STATUS_IS_OK(status)) {
		lane_failed(lane, steps[op].what, status);
		return;
	}

	lane->took[op] = now - lane->op_ns;
	lane->op_ns = now;
	lane->tries = 0;
	lane->step++;
	if (lane->step == w->num_steps) {
		lane_cycle_done(lane, now);
		return;
	}
	if (w->steps[lane->step] == PHBENCH_OP_CONNECT) {
		/* not below a callback of the connection that it frees */
		lane->busy = true;
		lane->timer = tevent_add_timer(
			pb->ev, lane, timeval_zero(), lane_again, lane);
		if (lane->timer == NULL) {
			lane->busy = false;
			lane_failed(lane, "timer", NT_STATUS_NO_MEMORY);
		}
		return;
	}
	lane_step(lane);
}

static void lane_again(struct tevent_context *ev, struct tevent_timer *te,
		       struct timeval now, void *private_data)
{
	struct phbench_lane *lane =
		talloc_get_type_abort(private_data, struct phbench_lane);

	lane->timer = NULL;
	lane_step(lane);
}

static void lane_record(struct phbench_lane *lane)
{
	struct phbench *pb = lane->conn->pb;
	const struct phbench_workload *w = pb->opt.workload;
	unsigned int i;

	for (i = 0; i < w->num_steps; i++) {
		enum phbench_op op = w->steps[i];

		hist_add(&pb->hists[op], lane->took[op]);
	}
	if (pb->arrivals != NULL) {
		hist_add(&pb->hists[PHBENCH_OP_WAIT],
			 lane->took[PHBENCH_OP_WAIT]);
	}
	hist_add(&pb->hists[PHBENCH_OP_CYCLE],
		 lane->took[PHBENCH_OP_CYCLE]);
}

static void lane_cycle_done(struct phbench_lane *lane, uint64_t now)
{
	struct phbench *pb = lane->conn->pb;
	bool must_park;

	lane->took[PHBENCH_OP_CYCLE] = now - lane->intended_ns;

	if (pb->phase == PHBENCH_STOP) {
		pb->cycles_after++;
		if (pb->arrivals != NULL) {
			/* the slowest ones end here: not to be left out */
			lane_record(lane);
		}
	}
	if (pb->phase == PHBENCH_MEASURE) {
		lane_record(lane);
		pb->cycles++;
		if (pb->cycles == pb->opt.count) {
			pb->end_ns = now;
		}
	}

	if (pb->phase >= PHBENCH_DRAIN) {
		lane_cleanup(lane);
		return;
	}
	must_park = lane_must_park(pb);
	if (pb->opt.think_us == 0 || must_park) {
		lane_cycle(lane);
		return;
	}
	lane->timer = tevent_add_timer(
		pb->ev, lane,
		tevent_timeval_current_ofs(pb->opt.think_us / 1000000,
					   pb->opt.think_us % 1000000),
		lane_think_over, lane);
	if (lane->timer == NULL) {
		lane_expect(lane, NULL, NULL);
	}
}

static void lane_think_over(struct tevent_context *ev,
			    struct tevent_timer *te,
			    struct timeval now,
			    void *private_data)
{
	struct phbench_lane *lane =
		talloc_get_type_abort(private_data, struct phbench_lane);

	lane->timer = NULL;
	lane_cycle(lane);
}

void phbench_lanes_arrival(struct phbench *pb)
{
	while (pb->idle != NULL) {
		struct phbench_lane *lane = pb->idle;

		lane_cycle(lane);
		if (lane->idle) {
			/* nothing more is due */
			return;
		}
	}
}

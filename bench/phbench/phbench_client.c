/*
 * phbench: one connection and the cycles that run on it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A client is one SMB connection, session and tree connect (its own client
 * GUID, so a Samba server gives it its own process). It carries `depth`
 * lanes. A lane owns one file and does one request at a time:
 *
 *   set up:    create the file, close it
 *   cycle:     open, [lock, unlock,] close     again and again
 *   clean up:  open with delete-on-close, close
 *
 * Every reply is checked: a lane never goes on after less was granted than
 * was asked for, because a number for a handle that is not persistent would
 * be a lie. After a failure the handle is still closed, as a persistent one
 * would otherwise stay behind on the server.
 */

#include "includes.h"
#include "source3/include/client.h"
#include "libsmb/proto.h"
#include "libsmb/smbsock_connect.h"
#include "../libcli/smb/smbXcli_base.h"
#include "../libcli/smb/smb2_lease.h"
#include "../libcli/smb/smb2_constants.h"
#include "../lib/util/tevent_ntstatus.h"
#include "auth/credentials/credentials.h"
#include "phbench.h"

struct phbench_lane {
	struct phbench_client *client;
	unsigned int number;
	char *name;
	bool busy;		/* a request is on its way */
	bool gone;		/* cleaned up, never used again */
	struct tevent_timer *timer;

	bool open;
	uint64_t fid_persistent;
	uint64_t fid_volatile;
	struct smb2_lease lease;

	uint64_t cycle_ns;	/* when the cycle began */
	uint64_t op_ns;		/* when the running request was sent */
	uint64_t took[PHBENCH_OP_NUM];
};

struct phbench_client {
	struct phbench *pb;
	unsigned int number;
	struct cli_state *cli;
	struct phbench_lane **lanes;
};

static void phbench_client_connected(struct tevent_req *subreq);
static struct phbench_lane *lane_new(struct phbench_client *client,
				     unsigned int index);
static void lane_setup(struct phbench_lane *lane);
static void lane_setup_opened(struct tevent_req *subreq);
static void lane_setup_done(struct tevent_req *subreq);
static void lane_park(struct phbench *pb);
static void lane_cycle(struct phbench_lane *lane);
static void lane_opened(struct tevent_req *subreq);
static void lane_lock(struct phbench_lane *lane, bool unlock);
static void lane_locked(struct tevent_req *subreq);
static void lane_unlocked(struct tevent_req *subreq);
static void lane_close(struct phbench_lane *lane);
static void lane_closed(struct tevent_req *subreq);
static void lane_next(struct phbench_lane *lane);
static void lane_think_over(struct tevent_context *ev,
			    struct tevent_timer *te,
			    struct timeval now,
			    void *private_data);
static void lane_abort(struct phbench_lane *lane);
static void lane_aborted(struct tevent_req *subreq);
static void lane_cleanup(struct phbench_lane *lane);
static void lane_cleanup_opened(struct tevent_req *subreq);
static void lane_cleanup_done(struct tevent_req *subreq);
static void lane_gone(struct phbench_lane *lane);

NTSTATUS phbench_client_start(struct phbench *pb, unsigned int number)
{
	struct phbench_client *client = NULL;
	struct tevent_req *subreq = NULL;

	client = talloc_zero(pb, struct phbench_client);
	if (client == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	client->pb = pb;
	client->number = number;
	pb->clients[number] = client;

	subreq = cli_full_connection_creds_send(client,
						pb->ev,
						"phbench",
						pb->opt.host,
						NULL,
						pb->transports,
						pb->opt.share,
						"?????",
						pb->creds,
						0,
						NULL);
	if (subreq == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	tevent_req_set_callback(subreq, phbench_client_connected, client);
	return NT_STATUS_OK;
}

static void phbench_client_failed(struct phbench_client *client)
{
	struct phbench *pb = client->pb;

	pb->num_gone += pb->opt.depth;
	pb->progress_fn(pb);
}

static void phbench_client_connected(struct tevent_req *subreq)
{
	struct phbench_client *client =
		tevent_req_callback_data(subreq, struct phbench_client);
	struct phbench *pb = client->pb;
	enum protocol_types protocol;
	uint32_t caps;
	NTSTATUS status;
	unsigned int i;

	status = cli_full_connection_creds_recv(subreq, client, &client->cli);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		phbench_fail(pb, 1, "cannot connect to //%s/%s: %s",
			     pb->opt.host, pb->opt.share, nt_errstr(status));
		phbench_client_failed(client);
		return;
	}

	protocol = smbXcli_conn_protocol(client->cli->conn);
	if (protocol < PROTOCOL_SMB3_00) {
		phbench_fail(pb, 2, "//%s/%s does not speak SMB3",
			     pb->opt.host, pb->opt.share);
		phbench_client_failed(client);
		return;
	}

	caps = smb2cli_tcon_capabilities(client->cli->smb2.tcon);
	if (pb->opt.handle == PHBENCH_HANDLE_PERSISTENT &&
	    !(caps & SMB2_SHARE_CAP_CONTINUOUS_AVAILABILITY))
	{
		phbench_fail(pb, 2,
			     "share //%s/%s is not continuously available: "
			     "it cannot grant persistent handles",
			     pb->opt.host, pb->opt.share);
		phbench_client_failed(client);
		return;
	}

	client->lanes = talloc_zero_array(client,
					  struct phbench_lane *,
					  pb->opt.depth);
	if (client->lanes == NULL) {
		phbench_fail(pb, 1, "out of memory");
		phbench_client_failed(client);
		return;
	}
	for (i = 0; i < pb->opt.depth; i++) {
		client->lanes[i] = lane_new(client, i);
		if (client->lanes[i] == NULL) {
			phbench_fail(pb, 1, "out of memory");
			pb->num_gone++;
			pb->progress_fn(pb);
			continue;
		}
		lane_setup(client->lanes[i]);
	}
}

static struct phbench_lane *lane_new(struct phbench_client *client,
				     unsigned int index)
{
	struct phbench *pb = client->pb;
	struct phbench_lane *lane = NULL;

	lane = talloc_zero(client, struct phbench_lane);
	if (lane == NULL) {
		return NULL;
	}
	lane->client = client;
	lane->number = client->number * pb->opt.depth + index;
	lane->name = talloc_asprintf(lane, "%s-%u.dat",
				     pb->opt.file_prefix, lane->number);
	if (lane->name == NULL) {
		TALLOC_FREE(lane);
		return NULL;
	}
	/* one lease key per lane, new in every run */
	generate_random_buffer((uint8_t *)&lane->lease.lease_key,
			       sizeof(lane->lease.lease_key));
	lane->lease.lease_state = pb->opt.lease;
	lane->lease.lease_version = 2;
	return lane;
}

static struct tevent_req *lane_create_send(struct phbench_lane *lane,
					   uint32_t access_mask,
					   uint32_t disposition,
					   uint32_t options,
					   bool want_handle)
{
	struct phbench *pb = lane->client->pb;
	struct cli_state *cli = lane->client->cli;
	struct smb2_create_blobs blobs = { .num_blobs = 0 };
	struct tevent_req *req = NULL;
	uint8_t oplock = SMB2_OPLOCK_LEVEL_NONE;
	uint8_t dh2q[32] = {};
	uint8_t rqls[52];
	NTSTATUS status;

	if (want_handle && pb->opt.handle != PHBENCH_HANDLE_PLAIN) {
		uint32_t flags = 0;

		if (pb->opt.handle == PHBENCH_HANDLE_PERSISTENT) {
			flags |= SMB2_DHANDLE_FLAG_PERSISTENT;
		}
		SIVAL(dh2q, 0, pb->opt.durable_timeout_ms);
		SIVAL(dh2q, 4, flags);
		generate_random_buffer(dh2q + 16, 16);
		status = smb2_create_blob_add(
			lane->client, &blobs, SMB2_CREATE_TAG_DH2Q,
			data_blob_const(dh2q, sizeof(dh2q)));
		if (!NT_STATUS_IS_OK(status)) {
			return NULL;
		}
	}

	if (want_handle && pb->opt.lease != 0) {
		bool ok;

		oplock = SMB2_OPLOCK_LEVEL_LEASE;
		ok = smb2_lease_push(&lane->lease, rqls, sizeof(rqls));
		if (!ok) {
			return NULL;
		}
		status = smb2_create_blob_add(
			lane->client, &blobs, SMB2_CREATE_TAG_RQLS,
			data_blob_const(rqls, sizeof(rqls)));
		if (!NT_STATUS_IS_OK(status)) {
			return NULL;
		}
	} else if (want_handle && pb->opt.handle == PHBENCH_HANDLE_DURABLE) {
		/* durable v2 is only granted with this or an H lease */
		oplock = SMB2_OPLOCK_LEVEL_BATCH;
	}

	req = smb2cli_create_send(lane->client,
				  pb->ev,
				  cli->conn,
				  cli->timeout,
				  cli->smb2.session,
				  cli->smb2.tcon,
				  lane->name,
				  oplock,
				  SMB2_IMPERSONATION_IMPERSONATION,
				  access_mask,
				  FILE_ATTRIBUTE_NORMAL,
				  FILE_SHARE_READ|FILE_SHARE_WRITE|
				  FILE_SHARE_DELETE,
				  disposition,
				  options,
				  &blobs);
	TALLOC_FREE(blobs.blobs);
	lane->busy = true;
	return req;
}

/* Was granted what was asked for? Fails the run if not. */
static bool lane_check_granted(struct phbench_lane *lane,
			       const struct smb2_create_blobs *blobs)
{
	struct phbench *pb = lane->client->pb;
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

static struct tevent_req *lane_close_send(struct phbench_lane *lane)
{
	struct cli_state *cli = lane->client->cli;

	lane->busy = true;
	return smb2cli_close_send(lane->client,
				  lane->client->pb->ev,
				  cli->conn,
				  cli->timeout,
				  cli->smb2.session,
				  cli->smb2.tcon,
				  0,
				  lane->fid_persistent,
				  lane->fid_volatile);
}

/* Set a request's callback, or fail the run if there is no request. */
static void lane_expect(struct phbench_lane *lane,
			struct tevent_req *subreq,
			tevent_req_fn fn)
{
	if (subreq == NULL) {
		phbench_fail(lane->client->pb, 1, "out of memory");
		lane_gone(lane);
		return;
	}
	tevent_req_set_callback(subreq, fn, lane);
}

static void lane_failed(struct phbench_lane *lane,
			const char *what,
			NTSTATUS status)
{
	phbench_fail(lane->client->pb, 1, "%s of %s failed: %s",
		     what, lane->name, nt_errstr(status));
	lane_abort(lane);
}

static void lane_setup(struct phbench_lane *lane)
{
	struct tevent_req *subreq = NULL;

	subreq = lane_create_send(lane,
				  SEC_FILE_READ_DATA|SEC_FILE_WRITE_DATA,
				  FILE_OPEN_IF, FILE_NON_DIRECTORY_FILE,
				  false);
	lane_expect(lane, subreq, lane_setup_opened);
}

static void lane_setup_opened(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	NTSTATUS status;

	lane->busy = false;
	status = smb2cli_create_recv(subreq,
				     &lane->fid_persistent,
				     &lane->fid_volatile,
				     NULL, NULL, NULL, NULL);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		lane_failed(lane, "creation", status);
		return;
	}
	lane->open = true;
	subreq = lane_close_send(lane);
	lane_expect(lane, subreq, lane_setup_done);
}

static void lane_setup_done(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	struct phbench *pb = lane->client->pb;
	NTSTATUS status;

	lane->busy = false;
	lane->open = false;
	status = smb2cli_close_recv(subreq);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		lane_failed(lane, "first close", status);
		return;
	}
	if (pb->phase >= PHBENCH_DRAIN) {
		lane_cleanup(lane);
		return;
	}
	pb->num_ready++;
	pb->progress_fn(pb);
}

static void lane_park(struct phbench *pb)
{
	pb->num_parked++;
	if (pb->num_parked == pb->num_lanes) {
		pb->num_parked = 0;
		pb->parked_fn(pb);
	}
}

static void lane_cycle(struct phbench_lane *lane)
{
	struct phbench *pb = lane->client->pb;
	struct tevent_req *subreq = NULL;

	if (pb->phase == PHBENCH_SETTLE || pb->phase == PHBENCH_STOP) {
		lane_park(pb);
		return;
	}
	if (pb->phase == PHBENCH_MEASURE) {
		if (pb->opt.count != 0 &&
		    pb->cycles_started >= pb->opt.count)
		{
			lane_park(pb);
			return;
		}
		pb->cycles_started++;
	}

	lane->cycle_ns = lane->op_ns = phbench_now();
	subreq = lane_create_send(lane,
				  SEC_FILE_READ_DATA|SEC_FILE_WRITE_DATA,
				  FILE_OPEN, FILE_NON_DIRECTORY_FILE,
				  true);
	lane_expect(lane, subreq, lane_opened);
}

static uint64_t lane_took(struct phbench_lane *lane, enum phbench_op op)
{
	uint64_t now = phbench_now();

	lane->busy = false;
	lane->took[op] = now - lane->op_ns;
	lane->op_ns = now;
	return now;
}

static void lane_opened(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	struct smb2_create_blobs blobs = { .num_blobs = 0 };
	TALLOC_CTX *frame = talloc_stackframe();
	NTSTATUS status;
	bool ok;

	lane_took(lane, PHBENCH_OP_OPEN);
	status = smb2cli_create_recv(subreq,
				     &lane->fid_persistent,
				     &lane->fid_volatile,
				     NULL, frame, &blobs, NULL);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		TALLOC_FREE(frame);
		lane_failed(lane, "open", status);
		return;
	}
	lane->open = true;
	ok = lane_check_granted(lane, &blobs);
	TALLOC_FREE(frame);
	if (!ok) {
		lane_abort(lane);
		return;
	}
	if (lane->client->pb->opt.lock) {
		lane_lock(lane, false);
		return;
	}
	lane_close(lane);
}

static void lane_lock(struct phbench_lane *lane, bool unlock)
{
	struct cli_state *cli = lane->client->cli;
	struct tevent_req *subreq = NULL;
	uint8_t *fixed = NULL;

	/* lives until the request is freed by its callback's TALLOC_FREE */
	fixed = talloc_zero_array(lane->client, uint8_t, 48);
	if (fixed == NULL) {
		lane_expect(lane, NULL, NULL);
		return;
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

	subreq = smb2cli_req_send(lane->client,
				  lane->client->pb->ev,
				  cli->conn,
				  SMB2_OP_LOCK,
				  0, 0,
				  cli->timeout,
				  cli->smb2.tcon,
				  cli->smb2.session,
				  fixed, 48,
				  NULL, 0, 0);
	if (subreq != NULL) {
		talloc_steal(subreq, fixed);
	}
	lane->busy = true;
	lane_expect(lane, subreq, unlock ? lane_unlocked : lane_locked);
}

static NTSTATUS lane_lock_recv(struct tevent_req *subreq)
{
	static const struct smb2cli_req_expected_response expected[] = {{
		.status = NT_STATUS_OK,
		.body_size = 4,
	}};
	NTSTATUS status;

	status = smb2cli_req_recv(subreq, NULL, NULL,
				  expected, ARRAY_SIZE(expected));
	TALLOC_FREE(subreq);
	return status;
}

static void lane_locked(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	NTSTATUS status;

	lane_took(lane, PHBENCH_OP_LOCK);
	status = lane_lock_recv(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		lane_failed(lane, "lock", status);
		return;
	}
	lane_lock(lane, true);
}

static void lane_unlocked(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	NTSTATUS status;

	lane_took(lane, PHBENCH_OP_UNLOCK);
	status = lane_lock_recv(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		lane_failed(lane, "unlock", status);
		return;
	}
	lane_close(lane);
}

static void lane_close(struct phbench_lane *lane)
{
	struct tevent_req *subreq = NULL;

	subreq = lane_close_send(lane);
	lane_expect(lane, subreq, lane_closed);
}

static void lane_closed(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	struct phbench *pb = lane->client->pb;
	NTSTATUS status;
	uint64_t now;
	unsigned int op;

	now = lane_took(lane, PHBENCH_OP_CLOSE);
	lane->took[PHBENCH_OP_CYCLE] = now - lane->cycle_ns;
	lane->open = false;
	status = smb2cli_close_recv(subreq);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		lane_failed(lane, "close", status);
		return;
	}

	if (pb->phase == PHBENCH_STOP) {
		pb->cycles_after++;
	}
	if (pb->phase == PHBENCH_MEASURE) {
		for (op = 0; op < PHBENCH_OP_NUM; op++) {
			bool is_lock = (op == PHBENCH_OP_LOCK ||
					op == PHBENCH_OP_UNLOCK);

			if (is_lock && !pb->opt.lock) {
				continue;
			}
			hist_add(&pb->hists[op], lane->took[op]);
		}
		pb->cycles++;
		if (pb->cycles == pb->opt.count) {
			pb->end_ns = now;
		}
	}
	lane_next(lane);
}

static void lane_next(struct phbench_lane *lane)
{
	struct phbench *pb = lane->client->pb;

	if (pb->phase >= PHBENCH_DRAIN) {
		lane_cleanup(lane);
		return;
	}
	if (pb->opt.think_us == 0) {
		lane_cycle(lane);
		return;
	}
	lane->timer = tevent_add_timer(
		pb->ev, lane->client,
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

/* Something failed: close the handle if there is one, then clean up. */
static void lane_abort(struct phbench_lane *lane)
{
	struct tevent_req *subreq = NULL;

	if (!lane->open) {
		lane_cleanup(lane);
		return;
	}
	lane->open = false;
	subreq = lane_close_send(lane);
	lane_expect(lane, subreq, lane_aborted);
}

static void lane_aborted(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);

	lane->busy = false;
	smb2cli_close_recv(subreq);
	TALLOC_FREE(subreq);
	lane_cleanup(lane);
}

static void lane_cleanup(struct phbench_lane *lane)
{
	struct tevent_req *subreq = NULL;
	bool connected;

	TALLOC_FREE(lane->timer);
	connected = smbXcli_conn_is_connected(lane->client->cli->conn);
	if (!connected) {
		lane_gone(lane);
		return;
	}
	subreq = lane_create_send(lane, SEC_STD_DELETE, FILE_OPEN,
				  FILE_DELETE_ON_CLOSE, false);
	lane_expect(lane, subreq, lane_cleanup_opened);
}

static void lane_cleanup_opened(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	NTSTATUS status;

	status = smb2cli_create_recv(subreq,
				     &lane->fid_persistent,
				     &lane->fid_volatile,
				     NULL, NULL, NULL, NULL);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		phbench_fail(lane->client->pb, 1, "cannot remove %s: %s",
			     lane->name, nt_errstr(status));
		lane_gone(lane);
		return;
	}
	subreq = lane_close_send(lane);
	lane_expect(lane, subreq, lane_cleanup_done);
}

static void lane_cleanup_done(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	NTSTATUS status;

	status = smb2cli_close_recv(subreq);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		phbench_fail(lane->client->pb, 1, "cannot remove %s: %s",
			     lane->name, nt_errstr(status));
	}
	lane_gone(lane);
}

static void lane_gone(struct phbench_lane *lane)
{
	struct phbench *pb = lane->client->pb;

	if (lane->gone) {
		return;
	}
	lane->gone = true;
	lane->busy = false;
	pb->num_gone++;
	pb->progress_fn(pb);
}

/* Call fn for every lane that waits for no reply. */
static void phbench_idle_lanes(struct phbench *pb,
			       void (*fn)(struct phbench_lane *lane))
{
	unsigned int i;
	unsigned int k;

	for (i = 0; i < pb->opt.clients; i++) {
		struct phbench_client *client = pb->clients[i];

		if (client == NULL || client->lanes == NULL) {
			continue;
		}
		for (k = 0; k < pb->opt.depth; k++) {
			struct phbench_lane *lane = client->lanes[k];

			if (lane != NULL && !lane->busy && !lane->gone) {
				fn(lane);
			}
		}
	}
}

void phbench_clients_run(struct phbench *pb)
{
	phbench_idle_lanes(pb, lane_cycle);
}

void phbench_clients_drain(struct phbench *pb)
{
	phbench_idle_lanes(pb, lane_cleanup);
}

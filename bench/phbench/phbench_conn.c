/*
 * phbench: connections, and the beginning and end of their lanes
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A client has a client GUID of its own (a Samba server gives it a process
 * of its own) and one or more connections, each with its session and tree
 * connect. A connection carries `depth` lanes. A lane owns one file name and
 * does one request at a time:
 *
 *   set up:    create the file, close it (not where cycles create it)
 *   cycle:     phbench_cycle.c, again and again
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
#include "../libcli/smb/smbXcli_base.h"
#include "../libcli/smb/smb2_constants.h"
#include "../lib/util/tevent_ntstatus.h"
#include "phbench.h"
#include "phbench_lane.h"

static void conn_connected(struct tevent_req *subreq);
static struct phbench_lane *lane_new(struct phbench_conn *conn,
				     unsigned int index);
static void lane_setup(struct phbench_lane *lane);
static void lane_setup_opened(struct tevent_req *subreq);
static void lane_setup_done(struct tevent_req *subreq);
static void lane_ready(struct phbench_lane *lane);
static void lane_aborted(struct tevent_req *subreq);
static void lane_cleanup_opened(struct tevent_req *subreq);
static void lane_cleanup_done(struct tevent_req *subreq);
static void lane_gone(struct phbench_lane *lane);

NTSTATUS phbench_conn_start(struct phbench *pb, unsigned int number,
			    struct GUID client_guid)
{
	struct phbench_conn *conn = NULL;
	struct tevent_req *subreq = NULL;

	conn = talloc_zero(pb, struct phbench_conn);
	if (conn == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	conn->pb = pb;
	conn->number = number;
	conn->client_guid = client_guid;
	pb->conns[number] = conn;

	subreq = phbench_connect_send(conn, pb, client_guid);
	if (subreq == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	tevent_req_set_callback(subreq, conn_connected, conn);
	return NT_STATUS_OK;
}

static void conn_failed(struct phbench_conn *conn)
{
	struct phbench *pb = conn->pb;

	pb->num_gone += pb->opt.depth;
	pb->progress_fn(pb);
}

static void conn_connected(struct tevent_req *subreq)
{
	struct phbench_conn *conn =
		tevent_req_callback_data(subreq, struct phbench_conn);
	struct phbench *pb = conn->pb;
	uint32_t caps;
	NTSTATUS status;
	unsigned int i;

	status = phbench_connect_recv(subreq, conn, &conn->cli);
	TALLOC_FREE(subreq);
	if (NT_STATUS_EQUAL(status, NT_STATUS_REVISION_MISMATCH)) {
		phbench_fail(pb, 2, "//%s/%s does not speak SMB3",
			     pb->opt.host, pb->opt.share);
		conn_failed(conn);
		return;
	}
	if (!NT_STATUS_IS_OK(status)) {
		phbench_fail(pb, 1, "cannot connect to //%s/%s: %s",
			     pb->opt.host, pb->opt.share, nt_errstr(status));
		conn_failed(conn);
		return;
	}

	caps = smb2cli_tcon_capabilities(conn->cli->smb2.tcon);
	if (pb->opt.handle == PHBENCH_HANDLE_PERSISTENT &&
	    !(caps & SMB2_SHARE_CAP_CONTINUOUS_AVAILABILITY))
	{
		phbench_fail(pb, 2,
			     "share //%s/%s is not continuously available: "
			     "it cannot grant persistent handles",
			     pb->opt.host, pb->opt.share);
		conn_failed(conn);
		return;
	}

	conn->lanes = talloc_zero_array(conn, struct phbench_lane *,
					pb->opt.depth);
	if (conn->lanes == NULL) {
		phbench_fail(pb, 1, "out of memory");
		conn_failed(conn);
		return;
	}
	for (i = 0; i < pb->opt.depth; i++) {
		conn->lanes[i] = lane_new(conn, i);
		if (conn->lanes[i] == NULL) {
			phbench_fail(pb, 1, "out of memory");
			pb->num_gone++;
			pb->progress_fn(pb);
			continue;
		}
		lane_setup(conn->lanes[i]);
	}
}

static struct phbench_lane *lane_new(struct phbench_conn *conn,
				     unsigned int index)
{
	struct phbench *pb = conn->pb;
	struct phbench_lane *lane = NULL;

	lane = talloc_zero(conn, struct phbench_lane);
	if (lane == NULL) {
		return NULL;
	}
	lane->conn = conn;
	lane->number = conn->number * pb->opt.depth + index;
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

static NTSTATUS lane_add_blobs(struct phbench_lane *lane,
			       enum phbench_create kind,
			       struct smb2_create_blobs *blobs)
{
	struct phbench *pb = lane->conn->pb;
	uint8_t dh2q[32] = {};
	uint8_t dh2c[36] = {};
	uint8_t rqls[52];
	uint32_t flags = 0;
	NTSTATUS status;
	bool ok;

	if (pb->opt.handle == PHBENCH_HANDLE_PERSISTENT) {
		flags |= SMB2_DHANDLE_FLAG_PERSISTENT;
	}
	if (kind == PHBENCH_CREATE_RECONNECT) {
		SBVAL(dh2c, 0, lane->fid_persistent);
		SBVAL(dh2c, 8, lane->fid_volatile);
		memcpy(dh2c + 16, lane->create_guid, 16);
		SIVAL(dh2c, 32, flags);
		status = smb2_create_blob_add(
			lane, blobs, SMB2_CREATE_TAG_DH2C,
			data_blob_const(dh2c, sizeof(dh2c)));
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
	} else if (pb->opt.handle != PHBENCH_HANDLE_PLAIN) {
		if (kind == PHBENCH_CREATE_CYCLE) {
			generate_random_buffer(lane->create_guid, 16);
		}
		SIVAL(dh2q, 0, pb->opt.durable_timeout_ms);
		SIVAL(dh2q, 4, flags);
		memcpy(dh2q + 16, lane->create_guid, 16);
		status = smb2_create_blob_add(
			lane, blobs, SMB2_CREATE_TAG_DH2Q,
			data_blob_const(dh2q, sizeof(dh2q)));
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
	}

	if (pb->opt.lease == 0) {
		return NT_STATUS_OK;
	}
	ok = smb2_lease_push(&lane->lease, rqls, sizeof(rqls));
	if (!ok) {
		return NT_STATUS_INTERNAL_ERROR;
	}
	return smb2_create_blob_add(lane, blobs, SMB2_CREATE_TAG_RQLS,
				    data_blob_const(rqls, sizeof(rqls)));
}

struct tevent_req *lane_create_send(struct phbench_lane *lane,
				    enum phbench_create kind)
{
	struct phbench *pb = lane->conn->pb;
	struct cli_state *cli = lane->conn->cli;
	struct smb2_create_blobs blobs = { .num_blobs = 0 };
	struct tevent_req *req = NULL;
	uint32_t access_mask = SEC_FILE_READ_DATA|SEC_FILE_WRITE_DATA;
	uint32_t disposition = FILE_OPEN;
	uint32_t options = FILE_NON_DIRECTORY_FILE;
	uint8_t oplock = SMB2_OPLOCK_LEVEL_NONE;
	NTSTATUS status;

	switch (kind) {
	case PHBENCH_CREATE_SETUP:
		disposition = FILE_OPEN_IF;
		break;
	case PHBENCH_CREATE_CLEANUP:
		access_mask = SEC_STD_DELETE;
		options = FILE_DELETE_ON_CLOSE;
		break;
	default:
		if (pb->opt.workload->creates) {
			access_mask |= SEC_STD_DELETE;
			disposition = FILE_CREATE;
		}
		if (pb->opt.lease != 0) {
			oplock = SMB2_OPLOCK_LEVEL_LEASE;
		} else if (pb->opt.handle == PHBENCH_HANDLE_DURABLE) {
			/* only granted with this or an H lease */
			oplock = SMB2_OPLOCK_LEVEL_BATCH;
		}
		status = lane_add_blobs(lane, kind, &blobs);
		if (!NT_STATUS_IS_OK(status)) {
			return NULL;
		}
		break;
	}

	if (kind == PHBENCH_CREATE_REPLAY) {
		smb2cli_session_start_replay(cli->smb2.session);
	}
	req = smb2cli_create_send(lane,
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
	if (kind == PHBENCH_CREATE_REPLAY) {
		smb2cli_session_stop_replay(cli->smb2.session);
	}
	TALLOC_FREE(blobs.blobs);
	lane->busy = true;
	return req;
}

struct tevent_req *lane_close_send(struct phbench_lane *lane)
{
	struct cli_state *cli = lane->conn->cli;

	lane->busy = true;
	return smb2cli_close_send(lane,
				  lane->conn->pb->ev,
				  cli->conn,
				  cli->timeout,
				  cli->smb2.session,
				  cli->smb2.tcon,
				  0,
				  lane->fid_persistent,
				  lane->fid_volatile);
}

void lane_expect(struct phbench_lane *lane, struct tevent_req *subreq,
		 void (*fn)(struct tevent_req *subreq))
{
	if (subreq == NULL) {
		phbench_fail(lane->conn->pb, 1, "out of memory");
		lane_gone(lane);
		return;
	}
	tevent_req_set_callback(subreq, fn, lane);
}

void lane_failed(struct phbench_lane *lane, const char *what,
		 NTSTATUS status)
{
	phbench_fail(lane->conn->pb, 1, "%s of %s failed: %s",
		     what, lane->name, nt_errstr(status));
	lane_abort(lane);
}

static void lane_setup(struct phbench_lane *lane)
{
	struct tevent_req *subreq = NULL;

	if (lane->conn->pb->opt.workload->creates) {
		lane_ready(lane);
		return;
	}
	subreq = lane_create_send(lane, PHBENCH_CREATE_SETUP);
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
	NTSTATUS status;

	lane->busy = false;
	lane->open = false;
	status = smb2cli_close_recv(subreq);
	TALLOC_FREE(subreq);
	if (!NT_STATUS_IS_OK(status)) {
		lane_failed(lane, "first close", status);
		return;
	}
	lane_ready(lane);
}

static void lane_ready(struct phbench_lane *lane)
{
	struct phbench *pb = lane->conn->pb;

	if (pb->phase >= PHBENCH_DRAIN) {
		lane_cleanup(lane);
		return;
	}
	pb->num_ready++;
	pb->progress_fn(pb);
}

static bool lane_connected(struct phbench_lane *lane)
{
	struct cli_state *cli = lane->conn->cli;

	return cli != NULL && smbXcli_conn_is_connected(cli->conn);
}

void lane_abort(struct phbench_lane *lane)
{
	struct tevent_req *subreq = NULL;
	bool connected = lane_connected(lane);

	if (!lane->open || !connected) {
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

void lane_cleanup(struct phbench_lane *lane)
{
	struct tevent_req *subreq = NULL;
	bool connected = lane_connected(lane);

	TALLOC_FREE(lane->timer);
	if (lane->idle) {
		DLIST_REMOVE(lane->conn->pb->idle, lane);
		lane->idle = false;
	}
	if (!connected) {
		lane_gone(lane);
		return;
	}
	subreq = lane_create_send(lane, PHBENCH_CREATE_CLEANUP);
	lane_expect(lane, subreq, lane_cleanup_opened);
}

static void lane_cleanup_opened(struct tevent_req *subreq)
{
	struct phbench_lane *lane =
		tevent_req_callback_data(subreq, struct phbench_lane);
	struct phbench *pb = lane->conn->pb;
	NTSTATUS status;

	status = smb2cli_create_recv(subreq,
				     &lane->fid_persistent,
				     &lane->fid_volatile,
				     NULL, NULL, NULL, NULL);
	TALLOC_FREE(subreq);
	if (pb->opt.workload->creates &&
	    NT_STATUS_EQUAL(status, NT_STATUS_OBJECT_NAME_NOT_FOUND))
	{
		lane_gone(lane);
		return;
	}
	if (!NT_STATUS_IS_OK(status)) {
		phbench_fail(pb, 1, "cannot remove %s: %s",
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
		phbench_fail(lane->conn->pb, 1, "cannot remove %s: %s",
			     lane->name, nt_errstr(status));
	}
	lane_gone(lane);
}

static void lane_gone(struct phbench_lane *lane)
{
	struct phbench *pb = lane->conn->pb;

	if (lane->gone) {
		return;
	}
	lane->gone = true;
	lane->busy = false;
	pb->num_gone++;
	pb->progress_fn(pb);
}

/* Call fn for every lane that waits for no reply. */
static void free_lanes(struct phbench *pb,
		       void (*fn)(struct phbench_lane *lane))
{
	unsigned int i;
	unsigned int k;

	for (i = 0; i < pb->num_conns; i++) {
		struct phbench_conn *conn = pb->conns[i];

		if (conn == NULL || conn->lanes == NULL) {
			continue;
		}
		for (k = 0; k < pb->opt.depth; k++) {
			struct phbench_lane *lane = conn->lanes[k];

			if (lane != NULL && !lane->busy && !lane->gone) {
				fn(lane);
			}
		}
	}
}

void phbench_lanes_run(struct phbench *pb)
{
	free_lanes(pb, lane_cycle);
}

void phbench_lanes_drain(struct phbench *pb)
{
	free_lanes(pb, lane_cleanup);
}

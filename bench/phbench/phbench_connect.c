/*
 * phbench: make one connection
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * TCP, negotiate, session setup, tree connect, without blocking, for a
 * client GUID that is given: the library's cli_full_connection_creds_send()
 * takes that from a global variable at a moment nobody can know, and a
 * handle is given back to the client that had it only.
 */

#include "includes.h"
#include "source3/include/client.h"
#include "libsmb/proto.h"
#include "libsmb/smbsock_connect.h"
#include "lib/cmdline/cmdline.h"
#include "lib/util/util_net.h"
#include "../libcli/smb/smbXcli_base.h"
#include "../lib/util/tevent_ntstatus.h"
#include "auth/credentials/credentials.h"
#include "phbench.h"

struct phbench_connect_state {
	struct phbench *pb;
	struct GUID client_guid;
	struct cli_state *cli;
};

static void phbench_connect_tcp_done(struct tevent_req *subreq);
static void phbench_connect_negotiated(struct tevent_req *subreq);
static void phbench_connect_session_done(struct tevent_req *subreq);
static void phbench_connect_tree_done(struct tevent_req *subreq);

struct tevent_req *phbench_connect_send(TALLOC_CTX *mem_ctx,
					struct phbench *pb,
					struct GUID client_guid)
{
	struct tevent_req *req = NULL;
	struct tevent_req *subreq = NULL;
	struct phbench_connect_state *state = NULL;

	req = tevent_req_create(mem_ctx, &state,
				struct phbench_connect_state);
	if (req == NULL) {
		return NULL;
	}
	state->pb = pb;
	state->client_guid = client_guid;

	subreq = smbsock_connect_send(state, pb->ev,
				      samba_cmdline_get_lp_ctx(),
				      &pb->address->u.ss,
				      pb->transports,
				      pb->opt.host, 0x20,
				      "phbench", 0);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, pb->ev);
	}
	tevent_req_set_callback(subreq, phbench_connect_tcp_done, req);
	return req;
}

static void phbench_connect_tcp_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	struct phbench_connect_state *state = tevent_req_data(
		req, struct phbench_connect_state);
	struct phbench *pb = state->pb;
	struct smbXcli_transport *transport = NULL;
	enum smb_signing_setting signing;
	NTSTATUS status;

	status = smbsock_connect_recv(subreq, state, &transport);
	TALLOC_FREE(subreq);
	if (tevent_req_nterror(req, status)) {
		return;
	}

	signing = cli_credentials_get_smb_signing(pb->creds);
	if (cli_credentials_get_smb_encryption(pb->creds) >=
	    SMB_ENCRYPTION_DESIRED)
	{
		signing = SMB_SIGNING_REQUIRED;
	}
	cli_state_client_guid = state->client_guid;
	state->cli = cli_state_create(state, &transport, pb->opt.host,
				      signing, 0);
	ZERO_STRUCT(cli_state_client_guid);
	if (tevent_req_nomem(state->cli, req)) {
		return;
	}

	subreq = smbXcli_negprot_send(state, pb->ev, state->cli->conn,
				      state->cli->timeout,
				      lp_client_min_protocol(),
				      lp_client_max_protocol(),
				      1, NULL);
	if (tevent_req_nomem(subreq, req)) {
		return;
	}
	tevent_req_set_callback(subreq, phbench_connect_negotiated, req);
}

static void phbench_connect_negotiated(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	struct phbench_connect_state *state = tevent_req_data(
		req, struct phbench_connect_state);
	enum protocol_types protocol;
	NTSTATUS status;

	status = smbXcli_negprot_recv(subreq, NULL, NULL);
	TALLOC_FREE(subreq);
	if (tevent_req_nterror(req, status)) {
		return;
	}
	protocol = smbXcli_conn_protocol(state->cli->conn);
	if (protocol < PROTOCOL_SMB3_00) {
		tevent_req_nterror(req, NT_STATUS_REVISION_MISMATCH);
		return;
	}
	smb2cli_conn_set_max_credits(state->cli->conn,
				     DEFAULT_SMB2_MAX_CREDITS);

	subreq = cli_session_setup_creds_send(state, state->pb->ev,
					      state->cli, state->pb->creds);
	if (tevent_req_nomem(subreq, req)) {
		return;
	}
	tevent_req_set_callback(subreq, phbench_connect_session_done, req);
}

static void phbench_connect_session_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	struct phbench_connect_state *state = tevent_req_data(
		req, struct phbench_connect_state);
	struct phbench *pb = state->pb;
	struct cli_state *cli = state->cli;
	const char *unc = NULL;
	NTSTATUS status;

	status = cli_session_setup_creds_recv(subreq);
	TALLOC_FREE(subreq);
	if (tevent_req_nterror(req, status)) {
		return;
	}
	if (cli_credentials_get_smb_encryption(pb->creds) >=
	    SMB_ENCRYPTION_DESIRED)
	{
		status = smb2cli_session_encryption_on(cli->smb2.session);
		if (tevent_req_nterror(req, status)) {
			return;
		}
	}

	cli->smb2.tcon = smbXcli_tcon_create(cli);
	unc = talloc_asprintf(state, "\\\\%s\\%s", pb->opt.host,
			      pb->opt.share);
	if (tevent_req_nomem(cli->smb2.tcon, req) ||
	    tevent_req_nomem(unc, req))
	{
		return;
	}
	subreq = smb2cli_tcon_send(state, pb->ev, cli->conn, cli->timeout,
				   cli->smb2.session, cli->smb2.tcon, 0, unc);
	if (tevent_req_nomem(subreq, req)) {
		return;
	}
	tevent_req_set_callback(subreq, phbench_connect_tree_done, req);
}

static void phbench_connect_tree_done(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	NTSTATUS status;

	status = smb2cli_tcon_recv(subreq);
	TALLOC_FREE(subreq);
	if (tevent_req_nterror(req, status)) {
		return;
	}
	tevent_req_done(req);
}

NTSTATUS phbench_connect_recv(struct tevent_req *req,
			      TALLOC_CTX *mem_ctx,
			      struct cli_state **cli)
{
	struct phbench_connect_state *state = tevent_req_data(
		req, struct phbench_connect_state);
	NTSTATUS status;

	if (tevent_req_is_nterror(req, &status)) {
		tevent_req_received(req);
		return status;
	}
	*cli = talloc_move(mem_ctx, &state->cli);
	tevent_req_received(req);
	return NT_STATUS_OK;
}

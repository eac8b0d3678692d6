/*
 * phstore: the open that a CREATE which is sent again has made
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The replay cache is in the volatile database only: storing it as well
 * would cost every open and its first use a change, for a question that is
 * asked after a crash. So the opens are looked through instead. In a cluster it
 * is each node's own, see dbwrap_phstore_replay.c.
 */

#include "includes.h"
#include "lib/util/server_id.h"
#include "serverid.h"
#include "messages.h"
#include "global_contexts.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "smbd/smbXsrv_open.h"
#include "dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "librpc/gen_ndr/ndr_misc.h"
#include "librpc/gen_ndr/ndr_smbXsrv.h"
#include "smbd/phstore_open.h"

/* of a GUID in NDR */
#define PHSTORE_GUID_LEN 16

struct phstore_open_created_state {
	const struct GUID *client_guid;
	const struct GUID *create_guid;
	DATA_BLOB needle;
	uint32_t id;
	bool in_use;
};

static bool phstore_open_has_guids(
	const struct smbXsrv_open_global *global,
	const struct phstore_open_created_state *state)
{
	return GUID_equal(&global->create_guid, state->create_guid) &&
	       GUID_equal(&global->client_guid, state->client_guid);
}

/* The id of an open that outlives, with these GUIDs; 0 if it is not one. */
static uint32_t phstore_open_match(
	struct phstore_open_created_state *state,
	TDB_DATA key,
	TDB_DATA value,
	bool must_be_left)
{
	struct server_id me = messaging_server_id(global_messaging_context());
	struct smbXsrv_open_global *global = phstore_open_parse(key, value);
	uint32_t id = 0;
	bool ok;

	if (global == NULL) {
		return 0;
	}
	ok = phstore_open_outlives(global) &&
	     phstore_open_has_guids(global, state);
	if (ok && must_be_left) {
		ok = !phstore_open_is_closed(global);
	}
	if (ok && must_be_left && phstore_open_is_served(global)) {
		ok = false;
		/* in use here: it was used, or its record would be here */
		state->in_use = !server_id_equal(&global->server_id, &me);
	}
	if (ok) {
		id = global->open_global_id;
	}
	TALLOC_FREE(global);
	return id;
}

static int phstore_open_created_fn(struct db_record *rec, void *private_data)
{
	struct phstore_open_created_state *state = private_data;
	TDB_DATA key = dbwrap_record_get_key(rec);
	TDB_DATA value = dbwrap_record_get_value(rec);
	const void *found = NULL;
	uint32_t id;

	found = memmem(value.dptr,
		       value.dsize,
		       state->needle.data,
		       state->needle.length);
	if (found == NULL || key.dsize != sizeof(uint32_t)) {
		return 0;
	}
	id = phstore_open_match(state, key, value, false);
	if (id != 0) {
		state->id = id;
	}
	return 0;
}

static void phstore_open_created_parser(TDB_DATA key,
					TDB_DATA value,
					void *private_data)
{
	struct phstore_open_created_state *state = private_data;

	state->id = phstore_open_match(state, key, value, true);
}

static uint32_t phstore_open_created(struct db_context *db,
				     const struct GUID *client_guid,
				     const struct GUID *create_guid,
				     bool search,
				     bool *in_use)
{
	struct phstore_open_created_state state = {
		.client_guid = client_guid,
		.create_guid = create_guid,
	};
	TALLOC_CTX *frame = talloc_stackframe();
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA key = { .dptr = keybuf, .dsize = sizeof(keybuf) };
	enum ndr_err_code ndr_err;
	NTSTATUS status;
	int count = 0;

	ndr_err = ndr_push_struct_blob(
		&state.needle,
		frame,
		create_guid,
		(ndr_push_flags_fn_t)ndr_push_GUID);
	if (!NDR_ERR_CODE_IS_SUCCESS(ndr_err) ||
	    state.needle.length != PHSTORE_GUID_LEN)
	{
		goto done;
	}
	status = dbwrap_traverse_per_rec_persistent_read(
		db, phstore_open_created_fn, &state, &count);
	if (!NT_STATUS_IS_OK(status)) {
		state.id = 0;
	}
	if (state.id == 0 && search) {
		/* all smbds of a node were killed, and the copies are there */
		dbwrap_phstore_replay_search(
			db, phstore_open_created_fn, &state);
	}
	if (state.id == 0) {
		goto done;
	}

	/* who serves it now is in the volatile database */
	RSIVAL(keybuf, 0, state.id);
	state.id = 0;
	status = dbwrap_parse_record(
		db, key, phstore_open_created_parser, &state);
	if (!NT_STATUS_IS_OK(status)) {
		state.id = 0;
	}
done:
	TALLOC_FREE(frame);
	*in_use = state.in_use;
	return state.id;
}

static void phstore_open_id_parser(TDB_DATA key,
				   TDB_DATA value,
				   void *private_data)
{
	uint32_t *id = private_data;

	*id = (value.dsize == sizeof(*id)) ? RIVAL(value.dptr, 0) : UINT32_MAX;
}

static void phstore_open_is_that_parser(TDB_DATA key,
					TDB_DATA value,
					void *private_data)
{
	struct phstore_open_created_state *state = private_data;
	struct smbXsrv_open_global *global = phstore_open_parse(key, value);

	if (global != NULL && phstore_open_has_guids(global, state)) {
		state->id = global->open_global_id;
	}
	TALLOC_FREE(global);
}

uint32_t phstore_open_replay_find(struct db_context *db,
				  TDB_DATA key,
				  const struct GUID *client_guid,
				  const struct GUID *create_guid,
				  bool is_persistent,
				  bool *in_use)
{
	struct phstore_open_created_state state = {
		.client_guid = client_guid,
		.create_guid = create_guid,
	};
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA open_key = { .dptr = keybuf, .dsize = sizeof(keybuf) };
	bool is_cached;
	uint32_t id = 0;
	NTSTATUS status;

	dbwrap_phstore_replay_take(db, key);
	status = dbwrap_parse_record(db, key, phstore_open_id_parser, &id);
	is_cached = NT_STATUS_IS_OK(status);
	if (id != 0) {
		RSIVAL(keybuf, 0, id);
		status = dbwrap_parse_record(
			db, open_key, phstore_open_is_that_parser, &state);
		if (state.id != 0 ||
		    !(NT_STATUS_IS_OK(status) ||
		      NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND)))
		{
			return 0;
		}
		/* that open is gone, maybe its id is used again */
		(void)dbwrap_purge(db, key);
		is_cached = false;
	}
	if (!is_persistent && !dbwrap_phstore_keeps()) {
		return 0;
	}
	return phstore_open_created(db,
				    client_guid,
				    create_guid,
				    is_persistent && !is_cached,
				    in_use);
}

static void phstore_open_orphan_parser(TDB_DATA key,
				       TDB_DATA value,
				       void *private_data)
{
	bool *is_orphan = private_data;
	struct smbXsrv_open_global *global = phstore_open_parse(key, value);

	*is_orphan = global != NULL && phstore_open_outlives(global) &&
		     !serverid_exists(&global->server_id);
	TALLOC_FREE(global);
}

bool phstore_open_is_orphan(struct db_context *db, uint32_t id)
{
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA key = { .dptr = keybuf, .dsize = sizeof(keybuf) };
	bool is_orphan = false;

	RSIVAL(keybuf, 0, id);
	(void)dbwrap_parse_record(
		db, key, phstore_open_orphan_parser, &is_orphan);
	return is_orphan;
}

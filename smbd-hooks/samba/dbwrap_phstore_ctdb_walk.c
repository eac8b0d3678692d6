/*
 * phstore: all records of a volatile ctdb database
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The keys ctdb has on all nodes, and those only the store has (not touched
 * since all nodes were down). Each record is then read or locked like any
 * other. The keys are collected first: what is called may wait for the gate,
 * which ctdb's traverse must not. They count if the gate was open, in one
 * epoch, all the time: a traverse beside a recovery of ctdb leaves out keys,
 * and so does a store that is not complete yet.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "lib/dbwrap/dbwrap_phstore_ctdb.h"
#include "lib/dbwrap/dbwrap_rbt.h"

static NTSTATUS clu_storev_deny(struct db_record *rec,
				const TDB_DATA *dbufs,
				int num_dbufs,
				int flag)
{
	return NT_STATUS_MEDIA_WRITE_PROTECTED;
}

static NTSTATUS clu_delete_deny(struct db_record *rec)
{
	return NT_STATUS_MEDIA_WRITE_PROTECTED;
}

struct clu_traverse_state {
	struct db_context *db;
	struct db_context *keys;
	int (*fn)(struct db_record *rec, void *private_data);
	void *private_data;
	int count;
	int ret;
};

static int clu_collect_fn(struct db_record *base_rec, void *private_data)
{
	struct clu_traverse_state *state = private_data;
	TDB_DATA raw = dbwrap_record_get_value(base_rec);
	NTSTATUS status;

	if (raw.dsize <= PHVOL_HDR_LEN) {
		return 0;
	}
	status = dbwrap_store(state->keys, base_rec->key, tdb_null, 0);
	return NT_STATUS_IS_OK(status) ? 0 : -1;
}

static int clu_collect_store_fn(const char *table,
				const struct phstore_record *rec,
				void *private_data)
{
	struct clu_traverse_state *state = private_data;
	TDB_DATA key = make_tdb_data(rec->key.data, rec->key.len);
	NTSTATUS status;

	status = dbwrap_store(state->keys, key, tdb_null, 0);
	return NT_STATUS_IS_OK(status) ? 0 : -1;
}

static bool clu_collect(struct clu_traverse_state *state)
{
	struct db_phstore_ctx *ctx = clu_ctx_of(state->db);
	struct phstore *store = clu_store(ctx);
	enum phstore_err err;
	uint64_t before = 0;
	uint64_t after = 0;
	NTSTATUS status;
	bool ok;

again:
	TALLOC_FREE(state->keys);
	state->keys = db_open_rbt(NULL);
	if (state->keys == NULL) {
		return false;
	}
	if (store == NULL) {
		if (!ctx->rdonly) {
			return false;
		}
		status = dbwrap_traverse_read(
			ctx->base, clu_collect_fn, state, NULL);
		return NT_STATUS_IS_OK(status);
	}
	ok = clu_epoch(store, &before);
	if (!ok) {
		ok = clu_wait(ctx);
		if (!ok) {
			return false;
		}
		goto again;
	}
	status = dbwrap_traverse_read(ctx->base, clu_collect_fn, state, NULL);
	err = phstore_scan(store, ctx->table, clu_collect_store_fn, state,
			   NULL);
	ok = clu_epoch(store, &after);
	if (!ok || before != after) {
		goto again;
	}
	if (!NT_STATUS_IS_OK(status)) {
		return false;
	}
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(ctx, "scan", err, false);
		return false;
	}
	return true;
}

static int clu_traverse_fn(struct db_record *key_rec, void *private_data)
{
	struct clu_traverse_state *state = private_data;
	struct db_record *rec = NULL;
	TDB_DATA value = {};

	rec = clu_fetch_locked(state->db, talloc_tos(), key_rec->key);
	if (rec == NULL) {
		return -1;
	}
	value = dbwrap_record_get_value(rec);
	if (value.dsize != 0) {
		state->count += 1;
		state->ret = state->fn(rec, state->private_data);
	}
	TALLOC_FREE(rec);
	return state->ret;
}

static void clu_traverse_parser(TDB_DATA key, TDB_DATA value,
				void *private_data)
{
	struct clu_traverse_state *state = private_data;
	struct db_record rec = {
		.db = state->db,
		.key = key,
		.value = value,
		.value_valid = true,
		.storev = clu_storev_deny,
		.delete_rec = clu_delete_deny,
	};

	state->count += 1;
	state->ret = state->fn(&rec, state->private_data);
}

static int clu_traverse_read_fn(struct db_record *key_rec, void *private_data)
{
	struct clu_traverse_state *state = private_data;
	NTSTATUS status;

	status = clu_parse_record(state->db, key_rec->key,
				  clu_traverse_parser, state);
	if (!NT_STATUS_IS_OK(status) &&
	    !NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND))
	{
		return -1;
	}
	return state->ret;
}

static int clu_traverse_keys(struct db_context *db,
			     int (*each)(struct db_record *rec,
					 void *private_data),
			     int (*fn)(struct db_record *rec,
				       void *private_data),
			     void *private_data)
{
	struct clu_traverse_state state = {
		.db = db,
		.fn = fn,
		.private_data = private_data,
	};
	NTSTATUS status;
	bool ok;

	ok = clu_collect(&state);
	if (!ok) {
		TALLOC_FREE(state.keys);
		return -1;
	}
	status = dbwrap_traverse_read(state.keys, each, &state, NULL);
	TALLOC_FREE(state.keys);
	if (!NT_STATUS_IS_OK(status) && state.ret == 0) {
		return -1;
	}
	return state.count;
}

int clu_traverse(struct db_context *db,
			int (*fn)(struct db_record *rec, void *private_data),
			void *private_data)
{
	return clu_traverse_keys(db, clu_traverse_fn, fn, private_data);
}

int clu_traverse_read(struct db_context *db,
			     int (*fn)(struct db_record *rec,
				       void *private_data),
			     void *private_data)
{
	return clu_traverse_keys(db, clu_traverse_read_fn, fn, private_data);
}

static int clu_scan_fn(const char *table,
		       const struct phstore_record *prec,
		       void *private_data)
{
	struct clu_traverse_state *state = private_data;
	const uint8_t *bytes = prec->value.data;
	struct db_record rec = {
		.db = state->db,
		.key = make_tdb_data(prec->key.data, prec->key.len),
		.value_valid = true,
		.flags.persistent = true,
		.storev = clu_storev_deny,
		.delete_rec = clu_delete_deny,
	};

	if (prec->value.len < 2 ||
	    bytes[prec->value.len - 1] != CLU_FORM_PERSISTENT)
	{
		return 0;
	}
	rec.value = make_tdb_data(bytes, prec->value.len - 1);
	state->count += 1;
	return state->fn(&rec, state->private_data);
}

/* Shows what this node's store has. */
int clu_traverse_store(struct db_context *db,
			      int (*fn)(struct db_record *rec,
					void *private_data),
			      void *private_data)
{
	struct db_phstore_ctx *ctx = clu_ctx_of(db);
	struct clu_traverse_state state = {
		.db = db,
		.fn = fn,
		.private_data = private_data,
	};
	struct phstore *store = dbwrap_phstore_store(true);
	enum phstore_err err;
	uint64_t epoch = 0;
	bool ok;

	if (store == NULL) {
		return -1;
	}
	/* before its epoch begins a store may have what is gone */
	ok = clu_epoch(store, &epoch);
	if (!ok) {
		ok = clu_wait(ctx);
		if (!ok) {
			return -1;
		}
	}
	err = phstore_scan(store, ctx->table, clu_scan_fn, &state, NULL);
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(ctx, "scan", err, false);
		return -1;
	}
	return state.count;
}

static int clu_wipe_fn(struct db_record *rec, void *private_data)
{
	NTSTATUS status = dbwrap_record_delete(rec);

	return NT_STATUS_IS_OK(status) ? 0 : -1;
}

/*
 * Without the store nothing can be wiped: what it has is part of the
 * database. Records of plain opens go with it.
 */
int clu_wipe(struct db_context *db, struct dbwrap_wipe_flags flags)
{
	int ret;

	if (!flags.wipe_persistent_backup_db) {
		return dbwrap_wipe(clu_ctx_of(db)->base, flags);
	}
	ret = clu_traverse(db, clu_wipe_fn, NULL);
	return (ret == -1) ? -1 : 0;
}


/*
 * phstore: the replay cache of a node, in a cluster
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Samba keeps, in the database of the opens, a record for each CREATE with a
 * create GUID whose handle was not used yet: key client and create GUID,
 * value a u32, 0 (under way) or the open's id. Each is a new key, for which
 * ctdb has to be asked. Where durable handles are kept they are in a volatile
 * tdb of the node instead; what smbd does there is the same.
 *
 * Rules
 *
 * - A record is in the node's tdb as long as its smbd serves the client. When
 *   that goes, the records of handles that outlive it are moved to the
 *   cluster's database, first stored there, then removed here. A CREATE with
 *   the replay flag that finds none here looks there and moves it here, in the
 *   same order: a record may be twice, and is never nowhere.
 * - For a smbd that was killed its parent does that. If all of a node were,
 *   the open is looked for by its GUIDs (phstore_open_created()): in the
 *   store, and if nodes did not change since, and the copies are elsewhere, a
 *   persistent one in what ctdb has on all nodes.
 * - Locks: with a record of the cluster's database locked one of the node's tdb
 *   may be, not the other way round.
 */

#include "includes.h"
#include "system/filesys.h"
#include "lib/tdb/include/tdb.h"
#include "lib/util/util_tdb.h"
#include "lib/util/time_basic.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_open.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "lib/dbwrap/dbwrap_phstore_ctdb.h"
#include "lib/param/param.h"

/* All nodes' opens are looked through at most so often by one node's smbds. */
#define CLU_REPLAY_SEARCH_SEC 1

/* When they were: u64 seconds of the monotonic clock */
static const char clu_replay_stamp[] = "searched";

bool clu_replay_open(struct db_phstore_ctx *ctx,
		     int hash_size,
		     int tdb_flags,
		     mode_t mode)
{
	char *path = NULL;
	bool keeps = dbwrap_phstore_keeps();

	if (!ctx->is_opens || ctx->rdonly || !keeps) {
		return true;
	}
	path = lock_path(talloc_tos(), "smbXsrv_open_replay.tdb");
	if (path == NULL) {
		return false;
	}
	ctx->replay = dbwrap_local_open(ctx,
					path,
					hash_size,
					tdb_flags,
					O_RDWR | O_CREAT,
					mode,
					DBWRAP_LOCK_ORDER_NONE,
					DBWRAP_FLAG_NONE);
	if (ctx->replay == NULL) {
		DBG_ERR("can not open %s: %s\n", path, strerror(errno));
	}
	TALLOC_FREE(path);
	return ctx->replay != NULL;
}

struct db_context *clu_replay_of(struct db_context *db, TDB_DATA key)
{
	if (key.dsize == sizeof(uint32_t)) {
		/* an open */
		return NULL;
	}
	return clu_ctx_of(db)->replay;
}

static NTSTATUS replay_storev(struct db_record *rec,
			      const TDB_DATA *dbufs,
			      int num_dbufs,
			      int flag)
{
	struct db_record *base_rec = rec->private_data;

	return dbwrap_record_storev(base_rec, dbufs, num_dbufs, flag);
}

static NTSTATUS replay_delete(struct db_record *rec)
{
	struct db_record *base_rec = rec->private_data;

	return dbwrap_record_delete(base_rec);
}

/* A record of its own: who asked for it puts another database into it. */
struct db_record *clu_replay_fetch(struct db_context *db,
				   struct db_context *replay,
				   TALLOC_CTX *mem_ctx,
				   TDB_DATA key)
{
	struct db_record *rec = NULL;
	struct db_record *base_rec = NULL;

	rec = talloc_zero(mem_ctx, struct db_record);
	if (rec == NULL) {
		return NULL;
	}
	base_rec = dbwrap_fetch_locked(replay, rec, key);
	if (base_rec == NULL) {
		TALLOC_FREE(rec);
		return NULL;
	}
	*rec = (struct db_record) {
		.db = db,
		.key = dbwrap_record_get_key(base_rec),
		.value = dbwrap_record_get_value(base_rec),
		.value_valid = true,
		.storev = replay_storev,
		.delete_rec = replay_delete,
		.private_data = base_rec,
	};
	return rec;
}

/* NULL: all is as upstream */
static struct db_context *replay_local(struct db_context *db)
{
	struct db_phstore_ctx *ctx = talloc_get_type(
		db->private_data, struct db_phstore_ctx);

	return ctx != NULL ? ctx->replay : NULL;
}

static bool replay_shared_exists(struct db_context *db, TDB_DATA key)
{
	NTSTATUS status;

	status = clu_parse_record(db, key, clu_null_parser, NULL);
	return NT_STATUS_IS_OK(status);
}

/* to: NULL, it is forgotten */
static void replay_move_from_shared(struct db_context *db,
				    struct db_context *to,
				    TDB_DATA key)
{
	struct db_record *rec = NULL;
	TDB_DATA value = {};
	NTSTATUS status = NT_STATUS_OK;
	bool ok;

	/* locking a record makes one */
	ok = replay_shared_exists(db, key);
	if (!ok) {
		return;
	}
	rec = clu_fetch_locked(db, talloc_tos(), key);
	if (rec == NULL) {
		return;
	}
	value = dbwrap_record_get_value(rec);
	if (value.dsize != 0) {
		if (to != NULL) {
			status = dbwrap_store(to, key, value, TDB_REPLACE);
		}
		if (NT_STATUS_IS_OK(status)) {
			status = dbwrap_record_delete(rec);
		}
	}
	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("a record of the replay cache is not moved: %s\n",
			    nt_errstr(status));
	}
	TALLOC_FREE(rec);
}

void dbwrap_phstore_replay_give(struct db_context *db, TDB_DATA key)
{
	struct db_context *local = replay_local(db);
	TALLOC_CTX *frame = NULL;
	struct db_record *rec = NULL;
	TDB_DATA value = {};
	NTSTATUS status;

	if (local == NULL) {
		return;
	}
	frame = talloc_stackframe();
	status = dbwrap_fetch(local, frame, key, &value);
	if (!NT_STATUS_IS_OK(status)) {
		/* mostly: it was used, and is not there */
		goto done;
	}
	rec = clu_fetch_locked(db, frame, key);
	if (rec == NULL) {
		goto done;
	}
	status = dbwrap_record_store(rec, value, TDB_REPLACE);
	TALLOC_FREE(rec);
	if (NT_STATUS_IS_OK(status)) {
		status = dbwrap_purge(local, key);
	}
	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("a record of the replay cache is not moved: %s\n",
			    nt_errstr(status));
	}
done:
	TALLOC_FREE(frame);
}

struct replay_entry {
	TDB_DATA key;
	uint32_t id;
};

struct replay_entries {
	TALLOC_CTX *mem_ctx;
	struct replay_entry *all;
};

static int replay_collect_fn(struct db_record *rec, void *private_data)
{
	struct replay_entries *entries = private_data;
	TDB_DATA key = dbwrap_record_get_key(rec);
	TDB_DATA value = dbwrap_record_get_value(rec);
	struct replay_entry *all = entries->all;
	size_t num = talloc_array_length(all);
	uint32_t id = 0;

	if (value.dsize == sizeof(uint32_t)) {
		id = RIVAL(value.dptr, 0);
	}
	if (id == 0) {
		/* under way */
		return 0;
	}
	all = talloc_realloc(
		entries->mem_ctx, all, struct replay_entry, num + 1);
	if (all == NULL) {
		return -1;
	}
	entries->all = all;
	all[num] = (struct replay_entry) {
		.key.dptr = talloc_memdup(all, key.dptr, key.dsize),
		.key.dsize = key.dsize,
		.id = id,
	};
	return (all[num].key.dptr != NULL) ? 0 : -1;
}

void dbwrap_phstore_replay_give_all(struct db_context *db,
				    bool (*is_orphan)(uint32_t id))
{
	struct db_context *local = (db != NULL) ? replay_local(db) : NULL;
	struct replay_entries entries = {};
	size_t i;

	if (local == NULL) {
		return;
	}
	entries.mem_ctx = talloc_stackframe();
	(void)dbwrap_traverse_read(local, replay_collect_fn, &entries, NULL);
	for (i = 0; i < talloc_array_length(entries.all); i++) {
		struct replay_entry *e = &entries.all[i];
		bool gone = e->key.dptr != NULL && is_orphan(e->id);

		if (gone) {
			dbwrap_phstore_replay_give(db, e->key);
		}
	}
	TALLOC_FREE(entries.mem_ctx);
}

void dbwrap_phstore_replay_take(struct db_context *db, TDB_DATA key)
{
	struct db_context *local = replay_local(db);
	bool exists;

	if (local == NULL) {
		return;
	}
	exists = dbwrap_exists(local, key);
	if (!exists) {
		replay_move_from_shared(db, local, key);
	}
}

void dbwrap_phstore_replay_forget(struct db_context *db, TDB_DATA key)
{
	struct db_context *local = replay_local(db);

	if (local != NULL) {
		replay_move_from_shared(db, NULL, key);
	}
}

/* Is it the turn of this process? */
static bool replay_may_search(struct db_context *local)
{
	TDB_DATA key = string_tdb_data(clu_replay_stamp);
	struct db_record *rec = NULL;
	TDB_DATA value = {};
	uint8_t buf[sizeof(uint64_t)];
	uint64_t now = time_mono(NULL);
	uint64_t last;
	NTSTATUS status = NT_STATUS_OK;
	bool may = true;

	rec = dbwrap_fetch_locked(local, talloc_tos(), key);
	if (rec == NULL) {
		return false;
	}
	value = dbwrap_record_get_value(rec);
	if (value.dsize == sizeof(buf)) {
		last = BVAL(value.dptr, 0);
		may = now >= last + CLU_REPLAY_SEARCH_SEC;
	}
	if (may) {
		SBVAL(buf, 0, now);
		value = make_tdb_data(buf, sizeof(buf));
		status = dbwrap_record_store(rec, value, TDB_REPLACE);
	}
	TALLOC_FREE(rec);
	return may && NT_STATUS_IS_OK(status);
}

struct replay_search_state {
	int (*fn)(struct db_record *rec, void *private_data);
	void *private_data;
};

static int replay_search_fn(struct db_record *base_rec, void *private_data)
{
	struct replay_search_state *state = private_data;
	TDB_DATA raw = dbwrap_record_get_value(base_rec);
	const uint8_t *buf = raw.dptr;
	struct phvol_hdr hdr = {};
	size_t len = raw.dsize;
	struct db_record rec = {
		.db = base_rec->db,
		.key = base_rec->key,
		.value_valid = true,
	};
	bool ok;

	ok = phvol_pull(&buf, &len, &hdr);
	if (!ok || len == 0) {
		return 0;
	}
	rec.value = make_tdb_data(buf, len);
	return state->fn(&rec, state->private_data);
}

void dbwrap_phstore_replay_search(
	struct db_context *db,
	int (*fn)(struct db_record *rec, void *private_data),
	void *private_data)
{
	struct replay_search_state state = {
		.fn = fn,
		.private_data = private_data,
	};
	struct db_context *local = replay_local(db);
	NTSTATUS status;
	bool ok;

	if (local == NULL) {
		return;
	}
	ok = replay_may_search(local);
	if (!ok) {
		return;
	}
	status = dbwrap_traverse_read(
		clu_ctx_of(db)->base, replay_search_fn, &state, NULL);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_NOTICE("not all opens were looked through: %s\n",
			   nt_errstr(status));
	}
}

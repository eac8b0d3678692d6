/*
 * phstore: the replay cache of a node, in a cluster
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Samba keeps, in the database of the opens, a record for each CREATE with a
 * create GUID whose handle was not used yet: key client and create GUID,
 * value a u32, 0 (under way) or the open's id. Each is a new key, for which
 * ctdb has to be asked. Where durable handles are kept they are in a volatile
 * tdb of the node instead; what smbd does there is the same. In the tdb a u32
 * follows: the pid of who stored it.
 *
 * Rules
 *
 * - A record is in the node's tdb as long as its smbd serves the client. When
 *   that goes, the records of handles that outlive it are moved to the
 *   cluster's database, first stored there, then removed here. A CREATE with
 *   the replay flag that finds none here looks there and moves it here, in the
 *   same order: a record may be twice, and is never nowhere.
 * - For a smbd that was killed its parent does that, if it need not wait and
 *   for so many only, and removes its other records. If all of a node were,
 *   the open is looked for by its GUIDs (phstore_open_replay.c): in the store,
 *   and if nodes did not change since, and the copies are elsewhere, a
 *   persistent one in what ctdb has on all nodes.
 * - Nobody waits for a record of the cluster, or the gate, with one of the
 *   node's tdb locked.
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

/* What Samba stores, and what we do */
#define CLU_REPLAY_ID_LEN 4
#define CLU_REPLAY_LEN 8

/* smbd's parent has more to do. */
#define CLU_REPLAY_GIVE_MAX 1000

/*
 * All nodes' opens are looked through by one smbd of a node at a time, and
 * then not for as long, ten times over, or a second. Who died of it counts
 * for half a minute.
 */
#define CLU_REPLAY_SEARCH_REST 10
#define CLU_REPLAY_SEARCH_SEC 30

/* When that may begin: u64 microseconds of the monotonic clock, u64 (0) */
static const char clu_replay_stamp[] = "searched";
#define CLU_REPLAY_STAMP_LEN 16

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

/* What Samba is to see of a value in the node's tdb */
static TDB_DATA replay_value(TDB_DATA raw)
{
	if (raw.dsize == CLU_REPLAY_LEN) {
		raw.dsize = CLU_REPLAY_ID_LEN;
	}
	return raw;
}

static NTSTATUS replay_storev(struct db_record *rec,
			      const TDB_DATA *dbufs,
			      int num_dbufs,
			      int flag)
{
	struct db_record *base_rec = rec->private_data;
	TDB_DATA all[num_dbufs + 1];
	uint8_t pid[CLU_REPLAY_LEN - CLU_REPLAY_ID_LEN];
	int i;

	for (i = 0; i < num_dbufs; i++) {
		all[i] = dbufs[i];
	}
	SIVAL(pid, 0, getpid());
	all[num_dbufs] = make_tdb_data(pid, sizeof(pid));
	return dbwrap_record_storev(base_rec, all, num_dbufs + 1, flag);
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
		.value = replay_value(dbwrap_record_get_value(base_rec)),
		.value_valid = true,
		.storev = replay_storev,
		.delete_rec = replay_delete,
		.private_data = base_rec,
	};
	return rec;
}

struct replay_parse_state {
	void (*parser)(TDB_DATA key, TDB_DATA data, void *private_data);
	void *private_data;
};

static void replay_parser(TDB_DATA key, TDB_DATA raw, void *private_data)
{
	struct replay_parse_state *state = private_data;

	state->parser(key, replay_value(raw), state->private_data);
}

NTSTATUS clu_replay_parse(struct db_context *replay,
			  TDB_DATA key,
			  void (*parser)(TDB_DATA key,
					 TDB_DATA data,
					 void *private_data),
			  void *private_data)
{
	struct replay_parse_state state = {
		.parser = parser,
		.private_data = private_data,
	};

	return dbwrap_parse_record(replay, key, replay_parser, &state);
}

/* NULL: all is as upstream */
static struct db_context *replay_local(struct db_context *db)
{
	struct db_phstore_ctx *ctx = NULL;

	if (db == NULL) {
		return NULL;
	}
	ctx = talloc_get_type(db->private_data, struct db_phstore_ctx);
	return ctx != NULL ? ctx->replay : NULL;
}

/* A value, as Samba and as the node's tdb know it */
struct replay_entry {
	TDB_DATA key;
	uint8_t raw[CLU_REPLAY_LEN];
	bool found;
};

static uint32_t replay_entry_id(const struct replay_entry *e)
{
	return RIVAL(e->raw, 0);
}

static pid_t replay_entry_pid(const struct replay_entry *e)
{
	return IVAL(e->raw, CLU_REPLAY_ID_LEN);
}

static void replay_entry_parser(TDB_DATA key, TDB_DATA raw, void *private_data)
{
	struct replay_entry *e = private_data;

	if (raw.dsize == CLU_REPLAY_ID_LEN || raw.dsize == CLU_REPLAY_LEN) {
		memcpy(e->raw, raw.dptr, raw.dsize);
		e->found = true;
	}
}

/* Remove it from the node's tdb, if it still is what it was. */
static NTSTATUS replay_drop(struct db_context *local,
			    const struct replay_entry *e)
{
	struct db_record *rec = NULL;
	TDB_DATA raw = {};
	NTSTATUS status = NT_STATUS_OK;

	rec = dbwrap_fetch_locked(local, talloc_tos(), e->key);
	if (rec == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	raw = dbwrap_record_get_value(rec);
	if (raw.dsize == sizeof(e->raw) &&
	    memcmp(raw.dptr, e->raw, sizeof(e->raw)) == 0)
	{
		status = dbwrap_record_delete(rec);
	}
	TALLOC_FREE(rec);
	return status;
}

static void replay_not_moved(const char *what, NTSTATUS status)
{
	DBG_WARNING("a record of the replay cache is not %s: %s\n",
		    what, nt_errstr(status));
}

static void replay_give(struct db_context *db,
			struct db_context *local,
			struct replay_entry *e)
{
	TDB_DATA value = make_tdb_data(e->raw, CLU_REPLAY_ID_LEN);
	struct db_record *rec = NULL;
	NTSTATUS status;

	rec = clu_fetch_locked(db, talloc_tos(), e->key);
	if (rec == NULL) {
		return;
	}
	status = dbwrap_record_store(rec, value, TDB_REPLACE);
	TALLOC_FREE(rec);
	if (NT_STATUS_IS_OK(status)) {
		status = replay_drop(local, e);
	}
	if (!NT_STATUS_IS_OK(status)) {
		replay_not_moved("given", status);
	}
}

void dbwrap_phstore_replay_give(struct db_context *db,
				TDB_DATA key,
				uint32_t open_id)
{
	struct db_context *local = replay_local(db);
	struct replay_entry e = { .key = key };
	NTSTATUS status;

	if (local == NULL) {
		return;
	}
	status = dbwrap_parse_record(local, key, replay_entry_parser, &e);
	if (!NT_STATUS_IS_OK(status) || !e.found ||
	    replay_entry_id(&e) != open_id)
	{
		/* mostly: it was used, and there is none */
		return;
	}
	replay_give(db, local, &e);
}

/* Delete what the cluster has, or move it here. */
static void replay_take(struct db_context *db,
			struct db_context *to,
			TDB_DATA key)
{
	struct replay_entry e = { .key = key };
	TDB_DATA id = make_tdb_data(e.raw, CLU_REPLAY_ID_LEN);
	struct db_record *rec = NULL;
	TDB_DATA value = {};
	NTSTATUS status;
	bool is_same;

	/* locking a record makes one */
	status = clu_parse_record(db, key, replay_entry_parser, &e);
	if (!NT_STATUS_IS_OK(status) || !e.found) {
		return;
	}
	if (to != NULL) {
		rec = clu_replay_fetch(db, to, talloc_tos(), key);
		if (rec == NULL) {
			return;
		}
		status = dbwrap_record_store(rec, id, TDB_INSERT);
		TALLOC_FREE(rec);
		if (!NT_STATUS_IS_OK(status)) {
			replay_not_moved("taken", status);
			return;
		}
	}
	rec = clu_fetch_locked(db, talloc_tos(), key);
	if (rec == NULL) {
		return;
	}
	value = dbwrap_record_get_value(rec);
	is_same = tdb_data_equal(value, id);
	if (is_same) {
		status = dbwrap_record_delete(rec);
	}
	TALLOC_FREE(rec);
	if (!NT_STATUS_IS_OK(status)) {
		replay_not_moved("removed", status);
	}
}

struct replay_entries {
	TALLOC_CTX *mem_ctx;
	pid_t pid;
	struct replay_entry *all;
};

static int replay_collect_fn(struct db_record *rec, void *private_data)
{
	struct replay_entries *entries = private_data;
	TDB_DATA key = dbwrap_record_get_key(rec);
	TDB_DATA raw = dbwrap_record_get_value(rec);
	struct replay_entry *all = entries->all;
	size_t num = talloc_array_length(all);
	struct replay_entry e = {};

	if (raw.dsize != CLU_REPLAY_LEN) {
		return 0;
	}
	memcpy(e.raw, raw.dptr, raw.dsize);
	if (replay_entry_pid(&e) != entries->pid) {
		return 0;
	}
	all = talloc_realloc(
		entries->mem_ctx, all, struct replay_entry, num + 1);
	if (all == NULL) {
		return -1;
	}
	entries->all = all;
	all[num] = e;
	all[num].key.dptr = talloc_memdup(all, key.dptr, key.dsize);
	all[num].key.dsize = key.dsize;
	return (all[num].key.dptr != NULL) ? 0 : -1;
}

void dbwrap_phstore_replay_give_all(struct db_context *db,
				    pid_t pid,
				    bool (*is_orphan)(struct db_context *db,
						      uint32_t open_id))
{
	struct db_context *local = replay_local(db);
	struct phstore *store = NULL;
	struct replay_entries entries = { .pid = pid };
	size_t i;

	if (local == NULL) {
		return;
	}
	store = clu_store(clu_ctx_of(db));
	entries.mem_ctx = talloc_stackframe();
	(void)dbwrap_traverse_read(local, replay_collect_fn, &entries, NULL);
	for (i = 0; i < talloc_array_length(entries.all); i++) {
		struct replay_entry *e = &entries.all[i];
		uint32_t id = replay_entry_id(e);
		bool give;

		if (e->key.dptr == NULL) {
			break;
		}
		/* closed: each store will have it in the next epoch */
		give = id != 0 && i < CLU_REPLAY_GIVE_MAX &&
		       store != NULL && phstore_gate_is_open(store) &&
		       is_orphan(db, id);
		if (give) {
			replay_give(db, local, e);
		} else {
			(void)replay_drop(local, e);
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
		replay_take(db, local, key);
	}
}

void dbwrap_phstore_replay_forget(struct db_context *db, TDB_DATA key)
{
	struct db_context *local = replay_local(db);

	if (local != NULL) {
		replay_take(db, NULL, key);
	}
}

static uint64_t replay_now_usec(void)
{
	struct timespec ts = {};

	clock_gettime_mono(&ts);
	return (uint64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* The next search may begin at that time; begins: only if this one may. */
static bool replay_search_stamp(struct db_context *local,
				uint64_t next,
				bool begins)
{
	TDB_DATA key = string_tdb_data(clu_replay_stamp);
	struct db_record *rec = NULL;
	TDB_DATA value = {};
	uint8_t buf[CLU_REPLAY_STAMP_LEN] = {};
	NTSTATUS status = NT_STATUS_OK;
	bool may = true;

	rec = dbwrap_fetch_locked(local, talloc_tos(), key);
	if (rec == NULL) {
		return false;
	}
	value = dbwrap_record_get_value(rec);
	if (begins && value.dsize == sizeof(buf)) {
		may = replay_now_usec() >= BVAL(value.dptr, 0);
	}
	if (may) {
		SBVAL(buf, 0, next);
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
	uint64_t began = replay_now_usec();
	uint64_t took;
	NTSTATUS status;
	bool ok;

	if (local == NULL) {
		return;
	}
	ok = replay_search_stamp(
		local, began + CLU_REPLAY_SEARCH_SEC * 1000000, true);
	if (!ok) {
		return;
	}
	status = dbwrap_traverse_read(
		clu_ctx_of(db)->base, replay_search_fn, &state, NULL);
	took = replay_now_usec() - began;
	(void)replay_search_stamp(
		local,
		began + took + MAX(took * CLU_REPLAY_SEARCH_REST, 1000000),
		false);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_NOTICE("not all opens were looked through: %s\n",
			   nt_errstr(status));
	}
}

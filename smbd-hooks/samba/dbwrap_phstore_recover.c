/*
 * phstore: fill a volatile database after a restart
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The first opener after a restart finds the volatile database empty (tdb
 * clears it) and without the marker record. It copies each record of the
 * table from the store, marked as persistent, and then writes the marker.
 * All under the marker's record lock, so that nobody else starts to work on
 * a half-filled database. A copier that dies leaves no marker: the next
 * opener copies again. The durable form of a value is a valid volatile one,
 * so this is plain copying.
 *
 * Upgrade. Upstream keeps the durable copy of NAME.tdb in
 * NAME_persistent.tdb beside it. If that has records and our table has
 * none, they are taken over, once:
 *
 *   1. stage a record in table "phstore_import", key NAME: import begun
 *   2. stage every record
 *   3. barrier: all of it is durable
 *   4. rename to NAME_persistent.tdb.imported, sync the folder
 *   5. delete the record of step 1
 *
 * No client is served before that is over. A crash before 4 leaves the
 * record of step 1 (or nothing at all): the import is done again, which
 * changes nothing that is there already. A crash after 4 leaves no file to
 * import: only step 5 is done. So an old file can not bring back what was
 * closed since.
 */

#include "includes.h"
#include "system/filesys.h"
#include "system/dir.h"
#include "lib/util/util_tdb.h"
#include "lib/util/time_basic.h"
#include "lib/tdb_wrap/tdb_wrap.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"

#define DB_PHSTORE_IMPORT_TABLE "phstore_import"

struct db_phstore_copy_state {
	struct db_phstore_ctx *ctx;
	bool same_boot;
	NTSTATUS status;
};

static int db_phstore_copy_fn(const char *table,
			      const struct phstore_record *rec,
			      void *private_data)
{
	struct db_phstore_copy_state *state = private_data;
	TDB_DATA key = {
		.dptr = discard_const_p(uint8_t, rec->key.data),
		.dsize = rec->key.len,
	};
	TDB_DATA val = { .dsize = DB_PHSTORE_HDR_LEN + rec->value.len };
	bool is_kept = dbwrap_phstore_class_is_kept(
		state->ctx, rec->durability);

	if (is_kept && !state->same_boot) {
		enum phstore_err err;

		err = dbwrap_phstore_stage_kept(state->ctx, key, NULL);
		return (err == PHSTORE_OK) ? 0 : -1;
	}

	val.dptr = talloc_array(state->ctx, uint8_t, val.dsize);
	if (val.dptr == NULL) {
		state->status = NT_STATUS_NO_MEMORY;
		return -1;
	}
	db_phstore_hdr_push(val.dptr, true, is_kept);
	if (rec->value.len != 0) {
		memcpy(val.dptr + DB_PHSTORE_HDR_LEN,
		       rec->value.data,
		       rec->value.len);
	}
	state->status = dbwrap_store(
		state->ctx->base, key, val, DBWRAP_REPLACE);
	TALLOC_FREE(val.dptr);
	if (!NT_STATUS_IS_OK(state->status)) {
		DBG_ERR("%s: can not restore a record: %s\n",
			state->ctx->table, nt_errstr(state->status));
		return -1;
	}
	return 0;
}

static bool db_phstore_copy(struct db_phstore_ctx *ctx,
			    struct phstore *store)
{
	struct db_phstore_copy_state state = { .ctx = ctx };
	enum phstore_err err;
	uint64_t count = 0;

	state.same_boot = dbwrap_phstore_same_boot(ctx);
	err = phstore_scan(
		store, ctx->table, db_phstore_copy_fn, &state, &count);
	if (err != PHSTORE_OK) {
		DBG_ERR("phstore: can not read table %s: %s (%s)\n",
			ctx->table, phstore_strerror(err),
			phstore_last_error());
		return false;
	}
	if (!NT_STATUS_IS_OK(state.status)) {
		return false;
	}
	dbwrap_phstore_note_boot(ctx);
	DBG_NOTICE("phstore: restored %"PRIu64" records of %s\n",
		   count, ctx->table);
	return true;
}

static int db_phstore_count_fn(const char *table,
			       const struct phstore_record *rec,
			       void *private_data)
{
	bool *found = private_data;

	*found = true;
	return 1;
}

/* ctx as seen by the stage function, for the import's own record */
static enum phstore_err db_phstore_import_mark(struct db_phstore_ctx *ctx,
					       bool begun)
{
	struct db_phstore_ctx mark_ctx = {
		.table = DB_PHSTORE_IMPORT_TABLE,
		.durability = PHSTORE_CLASS_SYNC,
	};
	TDB_DATA key = string_tdb_data(ctx->table);
	TDB_DATA val = string_tdb_data("begun");

	return dbwrap_phstore_stage(
		&mark_ctx, key, begun ? &val : NULL, false);
}

struct db_phstore_import_state {
	struct db_phstore_ctx *ctx;
	enum phstore_err err;
	uint64_t count;
};

static int db_phstore_import_fn(struct tdb_context *tdb,
				TDB_DATA key,
				TDB_DATA val,
				void *private_data)
{
	struct db_phstore_import_state *state = private_data;
	struct db_phstore_ctx *ctx = state->ctx;
	TDB_DATA form = {};
	bool persistent = false;
	bool kept = false;
	bool is_marker = db_phstore_is_marker(key);
	bool ok;

	ok = db_phstore_hdr_pull(&val, &persistent, &kept);
	if (is_marker || !ok || !persistent || val.dsize == 0) {
		return 0;
	}

	form.dptr = talloc_memdup(ctx, val.dptr, val.dsize);
	if (form.dptr == NULL) {
		state->err = PHSTORE_ERR_NO_MEMORY;
		return -1;
	}
	form.dsize = val.dsize;
	(void)phstore_canon(ctx->kind, form.dptr, &form.dsize);
	if (form.dsize != 0) {
		state->err = dbwrap_phstore_stage(ctx, key, &form, false);
		state->count += 1;
	}
	TALLOC_FREE(form.dptr);
	return (state->err == PHSTORE_OK) ? 0 : -1;
}

static bool db_phstore_import_done(struct db_phstore_ctx *ctx,
				   const char *twin)
{
	char *imported = NULL;
	char *folder = NULL;
	int fd = -1;
	int ret;
	bool ok = false;

	imported = talloc_asprintf(ctx, "%s.imported", twin);
	if (imported == NULL) {
		goto done;
	}
	folder = talloc_strdup(ctx, twin);
	if (folder == NULL) {
		goto done;
	}
	ret = rename(twin, imported);
	if (ret != 0) {
		DBG_ERR("phstore: can not rename %s: %s\n",
			twin, strerror(errno));
		goto done;
	}
	fd = open(dirname(folder), O_RDONLY | O_DIRECTORY);
	if (fd == -1) {
		DBG_ERR("phstore: can not open the folder of %s: %s\n",
			twin, strerror(errno));
		goto done;
	}
	ret = fsync(fd);
	if (ret != 0) {
		DBG_ERR("phstore: can not sync the folder of %s: %s\n",
			twin, strerror(errno));
		goto done;
	}
	ok = true;
done:
	if (fd != -1) {
		close(fd);
	}
	TALLOC_FREE(imported);
	TALLOC_FREE(folder);
	return ok;
}

static bool db_phstore_import_twin(struct db_phstore_ctx *ctx,
				   const char *twin,
				   struct tdb_wrap *wrap)
{
	struct db_phstore_import_state state = { .ctx = ctx };
	int ret;

	state.err = db_phstore_import_mark(ctx, true);
	if (state.err != PHSTORE_OK) {
		goto fail;
	}
	ret = tdb_traverse_read(wrap->tdb, db_phstore_import_fn, &state);
	if (state.err != PHSTORE_OK) {
		goto fail;
	}
	if (ret == -1) {
		DBG_ERR("phstore: can not read %s: %s\n",
			twin, tdb_errorstr(wrap->tdb));
		return false;
	}
	state.err = dbwrap_phstore_sync();
	if (state.err != PHSTORE_OK) {
		goto fail;
	}
	DBG_NOTICE("phstore: took over %"PRIu64" records of %s\n",
		   state.count, twin);
	return true;

fail:
	DBG_ERR("phstore: can not take over %s: %s (%s)\n",
		twin, phstore_strerror(state.err), phstore_last_error());
	return false;
}

/* "/lock/locking.tdb": "/lock/locking_persistent.tdb" */
static char *db_phstore_twin_path(struct db_phstore_ctx *ctx)
{
	size_t len = strlen(ctx->path);

	if (len > 4 && strequal(ctx->path + len - 4, ".tdb")) {
		len -= 4;
	}
	return talloc_asprintf(
		ctx, "%.*s_persistent.tdb", (int)len, ctx->path);
}

static bool db_phstore_import(struct db_phstore_ctx *ctx,
			      struct phstore *store,
			      int tdb_flags)
{
	struct phstore_blob mark_key = {
		.data = ctx->table,
		.len = strlen(ctx->table),
	};
	struct phstore_record mark = {};
	TALLOC_CTX *frame = talloc_stackframe();
	struct tdb_wrap *wrap = NULL;
	char *twin = NULL;
	struct stat st = {};
	enum phstore_err err;
	bool begun = false;
	bool have_ours = false;
	bool ok = false;
	int num;
	int ret;

	err = phstore_get(
		frame, store, DB_PHSTORE_IMPORT_TABLE, mark_key, &mark);
	begun = (err == PHSTORE_OK);

	twin = db_phstore_twin_path(ctx);
	if (twin == NULL) {
		goto done;
	}
	ret = stat(twin, &st);
	if (ret != 0) {
		ok = true;
		goto done;
	}
	/* read-write: it may need its own recovery first */
	wrap = tdb_wrap_open(frame,
			     twin,
			     0,
			     tdb_flags & ~(TDB_CLEAR_IF_FIRST |
					   TDB_MUTEX_LOCKING),
			     O_RDWR,
			     0600);
	if (wrap == NULL) {
		DBG_ERR("phstore: can not open %s to take it over: %s\n",
			twin, strerror(errno));
		goto done;
	}
	num = tdb_traverse_read(wrap->tdb, NULL, NULL);
	if (num == -1) {
		DBG_ERR("phstore: can not read %s: %s\n",
			twin, tdb_errorstr(wrap->tdb));
		goto done;
	}
	if (num == 0) {
		ok = true;
		goto done;
	}
	err = phstore_scan(
		store, ctx->table, db_phstore_count_fn, &have_ours, NULL);
	if (err != PHSTORE_OK) {
		DBG_ERR("phstore: can not read table %s: %s (%s)\n",
			ctx->table, phstore_strerror(err),
			phstore_last_error());
		goto done;
	}
	if (have_ours && !begun) {
		DBG_WARNING("phstore: %s has %d records, and so has the "
			    "store: the file is ignored. Move it away when "
			    "nothing in it is needed any more.\n",
			    twin, num);
		ok = true;
		goto done;
	}
	ok = db_phstore_import_twin(ctx, twin, wrap);
	if (!ok) {
		goto done;
	}
	TALLOC_FREE(wrap);
	ok = db_phstore_import_done(ctx, twin);
	begun = true;
done:
	if (ok && begun) {
		err = db_phstore_import_mark(ctx, false);
		ok = (err == PHSTORE_OK);
	}
	TALLOC_FREE(twin);
	TALLOC_FREE(frame);
	return ok;
}

bool dbwrap_phstore_recover(struct db_phstore_ctx *ctx, int tdb_flags)
{
	TDB_DATA key = string_term_tdb_data(
		DBWRAP_PERSISTENT_MIGRATION_MARKER_KEY);
	struct db_record *marker = NULL;
	struct phstore *store = NULL;
	uint8_t hdr[DB_PHSTORE_HDR_LEN];
	TDB_DATA value = {};
	TDB_DATA dbufs[2];
	char *now = NULL;
	uint64_t before = 0;
	uint64_t after = 0;
	NTSTATUS status;
	bool ok = false;

	marker = dbwrap_fetch_locked(ctx->base, ctx, key);
	if (marker == NULL) {
		DBG_ERR("%s: can not lock the marker record\n", ctx->path);
		goto done;
	}
	value = dbwrap_record_get_value(marker);
	if (value.dsize != 0) {
		/*
		 * Filled already. smbd opens the store now all the same: it
		 * must not find out that it can not while it serves. Tools
		 * write to the table of opens at most, they may never need
		 * it.
		 */
		ok = true;
		if (!strequal(ctx->table, "smbXsrv_open_global")) {
			store = dbwrap_phstore_store(false);
			ok = store != NULL &&
			     dbwrap_phstore_complete(store, &before);
		}
		goto done;
	}

	store = dbwrap_phstore_store(false);
	if (store == NULL) {
		goto done;
	}
	ok = dbwrap_phstore_complete(store, &before);
	if (!ok) {
		goto done;
	}
	ok = db_phstore_import(ctx, store, tdb_flags);
	if (!ok) {
		goto done;
	}
	ok = db_phstore_copy(ctx, store);
	if (!ok) {
		goto done;
	}
	/* phstored fills the store anew when it starts: not beside us */
	ok = dbwrap_phstore_complete(store, &after);
	if (!ok || before != after) {
		ok = false;
		DBG_ERR("phstore: the store was filled while %s was restored "
			"from it. Start smbd again.\n", ctx->table);
		goto done;
	}

	ok = false;
	now = current_timestring(marker, false);
	if (now == NULL) {
		goto done;
	}
	db_phstore_hdr_push(hdr, false, false);
	dbufs[0] = (TDB_DATA) { .dptr = hdr, .dsize = sizeof(hdr) };
	dbufs[1] = string_term_tdb_data(now);
	status = dbwrap_record_storev(marker, dbufs, 2, DBWRAP_INSERT);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_ERR("%s: can not store the marker record: %s\n",
			ctx->path, nt_errstr(status));
		goto done;
	}
	ok = true;
done:
	TALLOC_FREE(marker);
	return ok;
}

struct db_phstore_wipe_state {
	struct db_phstore_ctx *ctx;
	enum phstore_err err;
};

static int db_phstore_wipe_fn(const char *table,
			      const struct phstore_record *rec,
			      void *private_data)
{
	struct db_phstore_wipe_state *state = private_data;
	TDB_DATA key = {
		.dptr = discard_const_p(uint8_t, rec->key.data),
		.dsize = rec->key.len,
	};

	state->err = dbwrap_phstore_stage(state->ctx, key, NULL, true);
	return (state->err == PHSTORE_OK) ? 0 : -1;
}

int dbwrap_phstore_wipe_table(struct db_phstore_ctx *ctx)
{
	struct db_phstore_wipe_state state = { .ctx = ctx };
	struct phstore *store = NULL;
	enum phstore_err err;

	store = dbwrap_phstore_store(false);
	if (store == NULL) {
		return -1;
	}
	err = phstore_scan(
		store, ctx->table, db_phstore_wipe_fn, &state, NULL);
	if (err == PHSTORE_OK) {
		err = state.err;
	}
	if (err == PHSTORE_OK) {
		err = dbwrap_phstore_sync();
	}
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(ctx, "wipe", err, false);
		return -1;
	}
	return 0;
}

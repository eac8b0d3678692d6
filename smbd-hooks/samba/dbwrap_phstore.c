/*
 * phstore: a dbwrap backend that keeps marked records in a phstore
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A db_context stacked on the plain volatile tdb. Record locks, reads and
 * traverses are the tdb's own, at its speed. A record stored with
 * DBWRAP_STORE_PERSISTENT is, in addition, staged in the store's log.
 *
 * Rules
 *
 * - Nothing waits here: staging appends to the log, it does not sync. What
 *   waits is the reply of the SMB request (smbd/phstore_smbd.c).
 * - Order: stage, then the volatile store, both under the record's lock. So
 *   log order is lock order, and who reads a value in the volatile database
 *   can rely on its LSN being at or below the head of the log.
 * - The volatile database is the truth while the node is up. A process that
 *   dies between the two steps leaves a staged change that nobody saw and
 *   nobody was told of; the next store of the record stages all of it again,
 *   and smbd's parent does at once (dbwrap_phstore_inflight.c).
 * - What one request changes is one transaction: dbwrap_phstore_held.c,
 *   _creating.c, _closing.c, _number.c.
 * - A change the store refuses is not made in the volatile database either.
 *   Where the caller can not be told (removals, locks, share modes) this
 *   process ends as if killed, see dbwrap_phstore_failed(). It seldom comes
 *   to that: smbd asks for room before it begins (phstore_smbd.c).
 * - Values in the volatile database are padded to a multiple of 512 bytes,
 *   opens of 1024, small ones to 128 (the header has the padding's length):
 *   an open's record grows when it becomes persistent, and tdb's search for a
 *   larger free block cost more than staging. Of one size, the block is found
 *   or reused at once.
 * - The durable form leaves out waiters and lock holders (phstore_canon.c);
 *   staging the same form again appends nothing.
 */

#include "includes.h"
#include "system/filesys.h"
#include "lib/util/server_id.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"

static NTSTATUS db_phstore_storev(struct db_record *rec,
				  const TDB_DATA *dbufs,
				  int num_dbufs,
				  int flag);
static NTSTATUS db_phstore_delete(struct db_record *rec);

static struct db_phstore_ctx *db_phstore_ctx_of(struct db_context *db)
{
	return talloc_get_type_abort(db->private_data, struct db_phstore_ctx);
}

/*
 * Describe a record of the base as one of ours. A value that is not ours
 * to understand reads as empty, as dbwrap_watch does it.
 */
static void db_phstore_rec_init(struct db_record *rec,
				struct db_phstore_rec *prec,
				struct db_context *db,
				struct db_record *base_rec,
				TDB_DATA value)
{
	bool persistent = false;
	bool kept = false;
	bool ok;

	ok = db_phstore_hdr_pull(&value, &persistent, &kept);
	if (!ok) {
		DBG_ERR("%s: record without a valid header\n",
			dbwrap_name(db));
		value = tdb_null;
	}

	*prec = (struct db_phstore_rec) {
		.ctx = db_phstore_ctx_of(db),
		.base_rec = base_rec,
		.old_len = value.dsize,
		.kept = kept,
	};
	*rec = (struct db_record) {
		.db = db,
		.key = dbwrap_record_get_key(base_rec),
		.value = value,
		.flags.persistent = persistent,
		.storev = db_phstore_storev,
		.delete_rec = db_phstore_delete,
		.private_data = prec,
	};
}

struct db_phstore_both {
	struct db_record rec;
	struct db_phstore_rec prec;
};

/* Freed in this order: leave the gate, then unlock */
static int db_phstore_both_destructor(struct db_phstore_both *both)
{
	dbwrap_phstore_gate_leave();
	return 0;
}

static struct db_record *db_phstore_fetch_locked(struct db_context *db,
						 TALLOC_CTX *mem_ctx,
						 TDB_DATA key)
{
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(db);
	struct db_phstore_both *both = NULL;
	struct db_record *base_rec = NULL;
	enum dbwrap_phstore_gate gate;
	bool ok;

again:
	both = talloc_zero_size(mem_ctx, sizeof(*both));
	if (both == NULL) {
		return NULL;
	}
	base_rec = dbwrap_fetch_locked(ctx->base, both, key);
	if (base_rec == NULL) {
		TALLOC_FREE(both);
		return NULL;
	}
	gate = dbwrap_phstore_gate_enter(ctx);
	switch (gate) {
	case DBWRAP_PHSTORE_GATE_NONE:
		break;
	case DBWRAP_PHSTORE_GATE_ENTERED:
		talloc_set_destructor(both, db_phstore_both_destructor);
		break;
	case DBWRAP_PHSTORE_GATE_CLOSED:
		TALLOC_FREE(both);
		ok = dbwrap_phstore_gate_wait(ctx);
		if (ok) {
			goto again;
		}
		return NULL;
	case DBWRAP_PHSTORE_GATE_FENCED:
		TALLOC_FREE(both);
		return NULL;
	}
	db_phstore_rec_init(&both->rec,
			    &both->prec,
			    db,
			    base_rec,
			    dbwrap_record_get_value(base_rec));
	both->rec.value_valid = true;
	return &both->rec;
}

struct db_phstore_do_locked_state {
	struct db_context *db;
	void (*fn)(struct db_record *rec, TDB_DATA value, void *private_data);
	void *private_data;
	enum dbwrap_phstore_gate gate;
};

static void db_phstore_do_locked_fn(struct db_record *base_rec,
				    TDB_DATA value,
				    void *private_data)
{
	struct db_phstore_do_locked_state *state = private_data;
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(state->db);
	struct db_phstore_rec prec = {};
	struct db_record rec = {};
	TDB_DATA our_value = {};

	state->gate = dbwrap_phstore_gate_enter(ctx);
	if (state->gate == DBWRAP_PHSTORE_GATE_CLOSED ||
	    state->gate == DBWRAP_PHSTORE_GATE_FENCED)
	{
		return;
	}
	db_phstore_rec_init(&rec, &prec, state->db, base_rec, value);
	our_value = rec.value;
	rec.value = tdb_null;

	state->fn(&rec, our_value, state->private_data);
	if (state->gate == DBWRAP_PHSTORE_GATE_ENTERED) {
		dbwrap_phstore_gate_leave();
	}
}

static NTSTATUS db_phstore_do_locked(struct db_context *db,
				     TDB_DATA key,
				     void (*fn)(struct db_record *rec,
						TDB_DATA value,
						void *private_data),
				     void *private_data)
{
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(db);
	struct db_phstore_do_locked_state state = {
		.db = db,
		.fn = fn,
		.private_data = private_data,
	};
	NTSTATUS status;
	bool ok;

	do {
		status = dbwrap_do_locked(
			ctx->base, key, db_phstore_do_locked_fn, &state);
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
		ok = state.gate == DBWRAP_PHSTORE_GATE_CLOSED &&
		     dbwrap_phstore_gate_wait(ctx);
	} while (ok);
	if (state.gate == DBWRAP_PHSTORE_GATE_CLOSED ||
	    state.gate == DBWRAP_PHSTORE_GATE_FENCED)
	{
		return NT_STATUS_FILE_NOT_AVAILABLE;
	}
	return NT_STATUS_OK;
}

struct db_phstore_parse_state {
	void (*parser)(TDB_DATA key, TDB_DATA data, void *private_data);
	void *private_data;
	bool ok;
};

static void db_phstore_parser(TDB_DATA key, TDB_DATA data, void *private_data)
{
	struct db_phstore_parse_state *state = private_data;
	bool persistent = false;
	bool kept = false;

	state->ok = db_phstore_hdr_pull(&data, &persistent, &kept);
	if (!state->ok) {
		return;
	}
	state->parser(key, data, state->private_data);
}

static NTSTATUS db_phstore_parse_record(struct db_context *db,
					TDB_DATA key,
					void (*parser)(TDB_DATA key,
						       TDB_DATA data,
						       void *private_data),
					void *private_data)
{
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(db);
	struct db_phstore_parse_state state = {
		.parser = parser,
		.private_data = private_data,
	};
	NTSTATUS status;

	status = dbwrap_parse_record(
		ctx->base, key, db_phstore_parser, &state);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	if (!state.ok) {
		DBG_ERR("%s: record without a valid header\n",
			dbwrap_name(db));
		return NT_STATUS_INTERNAL_DB_CORRUPTION;
	}
	return NT_STATUS_OK;
}

struct db_phstore_undo_state {
	struct db_phstore_ctx *ctx;
	enum phstore_err err;
	bool done;
};

static void db_phstore_undo_parser(TDB_DATA key,
				   TDB_DATA data,
				   void *private_data)
{
	struct db_phstore_undo_state *state = private_data;
	TDB_DATA form = {};
	size_t len = 0;
	bool persistent = false;
	bool kept = false;
	NTSTATUS status;
	bool ok;

	ok = db_phstore_hdr_pull(&data, &persistent, &kept);
	if (!ok || !persistent) {
		return;
	}
	status = dbwrap_phstore_form(state->ctx, &data, 1, &form, &len);
	if (!NT_STATUS_IS_OK(status)) {
		state->err = PHSTORE_ERR_NO_MEMORY;
		state->done = true;
		return;
	}
	if (form.dsize == 0) {
		return;
	}
	if (kept) {
		state->err = dbwrap_phstore_stage_kept(state->ctx, key, &form);
	} else {
		state->err = dbwrap_phstore_stage(
			state->ctx, key, &form, true);
	}
	state->done = true;
}

/*
 * The volatile database did not take what was staged: stage again what it
 * has. It is read anew, callers may have changed the copy they were given.
 */
static void db_phstore_undo(struct db_phstore_ctx *ctx, TDB_DATA key)
{
	struct db_phstore_undo_state state = { .ctx = ctx };

	(void)dbwrap_parse_record(
		ctx->base, key, db_phstore_undo_parser, &state);
	if (!state.done) {
		state.err = dbwrap_phstore_stage(ctx, key, NULL, true);
	}
	if (state.err != PHSTORE_OK) {
		dbwrap_phstore_failed(ctx, "undo", state.err, true);
	}
}

static NTSTATUS db_phstore_do_storev(struct db_record *rec,
				     const TDB_DATA *dbufs,
				     int num_dbufs,
				     int flag)
{
	struct db_phstore_rec *prec = rec->private_data;
	struct db_phstore_ctx *ctx = prec->ctx;
	bool persistent = ((flag & DBWRAP_STORE_PERSISTENT) != 0);
	bool kept = dbwrap_phstore_is_kept(flag, prec->kept);
	/* a lock is taken or a waiter comes: the durable form is the same */
	bool same = (kept || ctx->is_shares) && persistent &&
		    rec->flags.persistent && !(flag & DBWRAP_STORE_PHSTORE);
	TDB_DATA form = {};
	enum phstore_err err = PHSTORE_OK;
	size_t len = 0;
	bool staged = false;
	NTSTATUS status;

	if (persistent && !same) {
		status = dbwrap_phstore_form(
			ctx, dbufs, num_dbufs, &form, &len);
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
	}

	if (form.dsize != 0 && (!kept || prec->kept || !rec->flags.persistent))
	{
		/* a CREATE's entry: staged with its open */
		same = dbwrap_phstore_creating_put_off(ctx, rec->key);
	}

	if (same) {
		/* it is there, or will be */
	} else if (kept && form.dsize != 0) {
		err = dbwrap_phstore_keep(ctx, rec->key, &form,
					  rec->flags.persistent, prec->kept,
					  &persistent);
		kept = persistent;
		staged = true;
	} else if (form.dsize != 0) {
		/* an unlock, one of several closes, a disconnect */
		bool releases = (rec->flags.persistent &&
				 len <= prec->old_len);

		err = dbwrap_phstore_stage(ctx, rec->key, &form, releases);
		staged = true;
	} else if (rec->flags.persistent) {
		dbwrap_phstore_note_purge(ctx, rec->key, dbufs, num_dbufs);
		err = dbwrap_phstore_removal(ctx, rec->key, prec->kept);
		staged = true;
	}
	if (err != PHSTORE_OK) {
		bool is_removal = (form.dsize == 0);

		dbwrap_phstore_failed(ctx,
				      is_removal ? "removal" : "store",
				      err,
				      is_removal || ctx->put_must_work);
		return dbwrap_phstore_map_err(err);
	}

	status = db_phstore_base_storev(ctx,
					prec->base_rec,
					persistent,
					kept,
					dbufs,
					num_dbufs,
					flag & DBWRAP_TDB_FLAGS);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_ERR("%s: volatile store failed: %s\n",
			ctx->table, nt_errstr(status));
		if (staged) {
			db_phstore_undo(ctx, rec->key);
		}
		return status;
	}

	rec->flags.persistent = persistent;
	prec->kept = kept;
	return NT_STATUS_OK;
}

static NTSTATUS db_phstore_storev(struct db_record *rec,
				  const TDB_DATA *dbufs,
				  int num_dbufs,
				  int flag)
{
	struct db_phstore_rec *prec = rec->private_data;
	bool matters = rec->flags.persistent ||
		       (flag & DBWRAP_STORE_PERSISTENT) != 0;
	NTSTATUS status;

	if (!matters) {
		return db_phstore_do_storev(rec, dbufs, num_dbufs, flag);
	}
	dbwrap_phstore_number_lock(prec->ctx, dbufs, num_dbufs);
	dbwrap_phstore_inflight_begin(prec->ctx->inflight_idx, rec->key);
	status = db_phstore_do_storev(rec, dbufs, num_dbufs, flag);
	dbwrap_phstore_number_unlock(status);
	dbwrap_phstore_inflight_end();
	return status;
}

static NTSTATUS db_phstore_do_delete(struct db_record *rec)
{
	struct db_phstore_rec *prec = rec->private_data;
	struct db_phstore_ctx *ctx = prec->ctx;
	bool staged = rec->flags.persistent;
	NTSTATUS status;
	bool is_gone;

	/*
	 * Who clears up after a dead smbd looks into the store as well: it
	 * may have staged a record and died before the volatile store.
	 */
	if (!staged) {
		staged = !dbwrap_phstore_serves_client();
	}

	is_gone = dbwrap_phstore_closing_end(ctx, rec->key);
	if (staged && !is_gone) {
		enum phstore_err err;

		err = dbwrap_phstore_removal(ctx, rec->key, prec->kept);
		if (err != PHSTORE_OK) {
			dbwrap_phstore_failed(ctx, "removal", err, true);
			return dbwrap_phstore_map_err(err);
		}
	}

	status = dbwrap_record_delete(prec->base_rec);
	if (is_gone) {
		dbwrap_phstore_inflight_closing(0, NULL);
	}
	if (!NT_STATUS_IS_OK(status)) {
		bool gone = NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND);

		if (rec->flags.persistent && !gone) {
			db_phstore_undo(ctx, rec->key);
		}
		return status;
	}

	rec->flags.persistent = false;
	return NT_STATUS_OK;
}

static NTSTATUS db_phstore_delete(struct db_record *rec)
{
	struct db_phstore_rec *prec = rec->private_data;
	NTSTATUS status;

	if (!rec->flags.persistent) {
		return db_phstore_do_delete(rec);
	}
	dbwrap_phstore_number_lock(prec->ctx, NULL, 0);
	dbwrap_phstore_inflight_begin(prec->ctx->inflight_idx, rec->key);
	status = db_phstore_do_delete(rec);
	dbwrap_phstore_number_unlock(status);
	dbwrap_phstore_inflight_end();
	return status;
}

struct db_phstore_traverse_state {
	struct db_context *db;
	int (*fn)(struct db_record *rec, void *private_data);
	void *private_data;
	bool found_marker;
	bool read_only;
	int count;
};

static NTSTATUS db_phstore_storev_deny(struct db_record *rec,
				       const TDB_DATA *dbufs,
				       int num_dbufs,
				       int flag)
{
	return NT_STATUS_MEDIA_WRITE_PROTECTED;
}

static NTSTATUS db_phstore_delete_deny(struct db_record *rec)
{
	return NT_STATUS_MEDIA_WRITE_PROTECTED;
}

static int db_phstore_traverse_fn(struct db_record *base_rec,
				  void *private_data)
{
	struct db_phstore_traverse_state *state = private_data;
	TDB_DATA value = dbwrap_record_get_value(base_rec);
	struct db_phstore_rec prec = {};
	struct db_record rec = {};
	bool is_marker = db_phstore_is_marker(base_rec->key);

	if (is_marker) {
		state->found_marker = true;
		return 0;
	}
	if (value.dsize < DB_PHSTORE_HDR_LEN) {
		dbwrap_log_key("Small record", base_rec->key);
		return 0;
	}

	db_phstore_rec_init(&rec, &prec, state->db, base_rec, value);
	rec.value_valid = true;
	if (state->read_only) {
		rec.storev = db_phstore_storev_deny;
		rec.delete_rec = db_phstore_delete_deny;
	}
	return state->fn(&rec, state->private_data);
}

static int db_phstore_traverse(struct db_context *db,
			       int (*fn)(struct db_record *rec,
					 void *private_data),
			       void *private_data)
{
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(db);
	struct db_phstore_traverse_state state = {
		.db = db,
		.fn = fn,
		.private_data = private_data,
	};
	int count = 0;
	NTSTATUS status;

	status = dbwrap_traverse(
		ctx->base, db_phstore_traverse_fn, &state, &count);
	if (!NT_STATUS_IS_OK(status)) {
		return -1;
	}
	return state.found_marker ? count - 1 : count;
}

static int db_phstore_traverse_read(struct db_context *db,
				    int (*fn)(struct db_record *rec,
					      void *private_data),
				    void *private_data)
{
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(db);
	struct db_phstore_traverse_state state = {
		.db = db,
		.fn = fn,
		.private_data = private_data,
		.read_only = true,
	};
	int count = 0;
	NTSTATUS status;

	status = dbwrap_traverse_read(
		ctx->base, db_phstore_traverse_fn, &state, &count);
	if (!NT_STATUS_IS_OK(status)) {
		return -1;
	}
	return state.found_marker ? count - 1 : count;
}

static int db_phstore_scan_fn(const char *table,
			      const struct phstore_record *prec,
			      void *private_data)
{
	struct db_phstore_traverse_state *state = private_data;
	struct db_record rec = {
		.db = state->db,
		.key = {
			.dptr = discard_const_p(uint8_t, prec->key.data),
			.dsize = prec->key.len,
		},
		.value = {
			.dptr = discard_const_p(uint8_t, prec->value.data),
			.dsize = prec->value.len,
		},
		.value_valid = true,
		.flags.persistent = true,
		.storev = db_phstore_storev_deny,
		.delete_rec = db_phstore_delete_deny,
	};

	state->count += 1;
	return state->fn(&rec, state->private_data);
}

/* Shows what the store has, not what the volatile database has. */
static int db_phstore_traverse_store(struct db_context *db,
				     int (*fn)(struct db_record *rec,
					       void *private_data),
				     void *private_data)
{
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(db);
	struct db_phstore_traverse_state state = {
		.db = db,
		.fn = fn,
		.private_data = private_data,
	};
	struct phstore *store = NULL;
	enum phstore_err err;

	store = dbwrap_phstore_store(true);
	if (store == NULL) {
		return -1;
	}
	err = phstore_scan(
		store, ctx->table, db_phstore_scan_fn, &state, NULL);
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(ctx, "scan", err, false);
		return -1;
	}
	return state.count;
}

static int db_phstore_wipe(struct db_context *db,
			   struct dbwrap_wipe_flags flags)
{
	struct db_phstore_ctx *ctx = db_phstore_ctx_of(db);
	struct dbwrap_wipe_flags base_flags = { .wipe_default = true };
	int ret;

	if (flags.wipe_persistent_backup_db) {
		ret = dbwrap_phstore_wipe_table(ctx);
		if (ret != 0) {
			return ret;
		}
	}
	if (flags.wipe_default) {
		ret = dbwrap_wipe(ctx->base, base_flags);
		if (ret != 0) {
			return ret;
		}
	}
	return 0;
}

static int db_phstore_exists(struct db_context *db, TDB_DATA key)
{
	return dbwrap_exists(db_phstore_ctx_of(db)->base, key) ? 1 : 0;
}

static int db_phstore_check(struct db_context *db)
{
	return dbwrap_check(db_phstore_ctx_of(db)->base);
}

static size_t db_phstore_id(struct db_context *db, uint8_t *id, size_t idlen)
{
	return dbwrap_db_id(db_phstore_ctx_of(db)->base, id, idlen);
}

static int db_phstore_get_seqnum(struct db_context *db)
{
	return dbwrap_get_seqnum(db_phstore_ctx_of(db)->base);
}

/*
 * Transactions are for databases that are persistent as a whole. These are
 * not: dbwrap refuses before it comes here, as it does for the plain tdb.
 */
static int db_phstore_transaction_start(struct db_context *db)
{
	return dbwrap_transaction_start(db_phstore_ctx_of(db)->base);
}

static NTSTATUS db_phstore_transaction_start_nonblock(struct db_context *db)
{
	return dbwrap_transaction_start_nonblock(
		db_phstore_ctx_of(db)->base);
}

static int db_phstore_transaction_commit(struct db_context *db)
{
	return dbwrap_transaction_commit(db_phstore_ctx_of(db)->base);
}

static int db_phstore_transaction_cancel(struct db_context *db)
{
	return dbwrap_transaction_cancel(db_phstore_ctx_of(db)->base);
}

struct db_context *db_open_phstore(TALLOC_CTX *mem_ctx,
				   const char *name,
				   int hash_size,
				   int tdb_flags,
				   int open_flags,
				   mode_t mode,
				   enum dbwrap_lock_order lock_order,
				   uint64_t dbwrap_flags)
{
	struct db_context *db = NULL;
	struct db_phstore_ctx *ctx = NULL;
	uint64_t base_flags = dbwrap_flags & ~DBWRAP_FLAG_PER_REC_PERSISTENT;
	bool writable = ((open_flags & O_ACCMODE) == O_RDWR);
	bool ok;

	if (!(tdb_flags & TDB_CLEAR_IF_FIRST)) {
		DBG_ERR("%s: only a TDB_CLEAR_IF_FIRST database can have "
			"persistent records\n", name);
		errno = EINVAL;
		return NULL;
	}

	db = talloc_zero(mem_ctx, struct db_context);
	if (db == NULL) {
		goto nomem;
	}
	ctx = db_phstore_ctx_new(db, name);
	if (ctx == NULL) {
		goto nomem;
	}
	ok = dbwrap_phstore_table_config(ctx);
	if (!ok) {
		TALLOC_FREE(db);
		errno = EINVAL;
		return NULL;
	}

	ctx->base = dbwrap_local_open(ctx,
				      name,
				      hash_size,
				      tdb_flags,
				      open_flags,
				      mode,
				      DBWRAP_LOCK_ORDER_NONE,
				      base_flags);
	if (ctx->base == NULL) {
		int err = errno;

		TALLOC_FREE(db);
		errno = err;
		return NULL;
	}

	db->private_data = ctx;
	db->lock_order = lock_order;
	db->flags = dbwrap_flags;
	db->persistent = false;
	db->name = dbwrap_name(ctx->base);
	db->fetch_locked = db_phstore_fetch_locked;
	db->do_locked = db_phstore_do_locked;
	db->traverse = db_phstore_traverse;
	db->traverse_read = db_phstore_traverse_read;
	db->traverse_per_rec_persistent_read = db_phstore_traverse_store;
	db->parse_record = db_phstore_parse_record;
	db->get_seqnum = db_phstore_get_seqnum;
	db->transaction_start = db_phstore_transaction_start;
	db->transaction_start_nonblock =
		db_phstore_transaction_start_nonblock;
	db->transaction_commit = db_phstore_transaction_commit;
	db->transaction_cancel = db_phstore_transaction_cancel;
	db->exists = db_phstore_exists;
	db->wipe = db_phstore_wipe;
	db->check = db_phstore_check;
	db->id = db_phstore_id;

	if (!writable) {
		/* A reader of the volatile database needs no store. */
		return db;
	}

	ok = dbwrap_phstore_recover(ctx, tdb_flags);
	if (!ok) {
		TALLOC_FREE(db);
		errno = EIO;
		return NULL;
	}
	ctx->inflight_idx = dbwrap_phstore_inflight_add(db);
	return db;

nomem:
	TALLOC_FREE(db);
	errno = ENOMEM;
	return NULL;
}

/*
 * phstore: a dbwrap backend over a volatile ctdb database
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * As dbwrap_phstore.c, for a cluster. Record locks, reads and traverses are
 * ctdb's own, on a plain volatile database: nothing is pushed to other
 * nodes, no transaction, no polling. A record stored with
 * DBWRAP_STORE_PERSISTENT is staged in this node's log, phstored ships it.
 *
 * Each value has a header (backends/ctdb/volatile_value.c): the version, and
 * the epoch the record was last compared with the store in. It travels with
 * the record.
 *
 * Rules
 *
 * - Gate. Values count only while this node is a member of an active epoch.
 *   phstored closes the gate before ctdb touches a database in a recovery
 *   (event "startrecovery") and when it promises a new epoch. We look at it
 *   after the chain lock was got, or the value read: what was got while the
 *   gate is open was got before any recovery that could have changed it.
 *   Closed: let go of the record, wait (bounded, no lock held), try again.
 * - Compare. ctdb's recovery may find an older copy of a record, and after a
 *   start finds none. So the first touch of a record in an epoch compares it
 *   with the store of this node, which has every live record when the epoch
 *   begins: the store's version is handed out if it is another one. Who
 *   waits for or holds the record now is kept (phstore_canon_merge()). What
 *   was compared carries the epoch and is not compared again.
 * - A value that only the volatile database has is what a node that is gone
 *   changed and never acknowledged: it is dropped.
 * - Order: volatile store, then stage, both under the record's lock; the
 *   other way round than on one machine. A process killed in between leaves
 *   a version that nobody else will give again; had it staged first, another
 *   node could give the same version to another value.
 * - A deletion leaves a tombstone in the volatile database, with the
 *   deletion's version, until phstored says that all have forgotten it
 *   (rule W1 of docs/REPLICATION.md); phstored removes it.
 * - A record that loses its last persistent entry but has plain ones is
 *   staged once more and marked, so that the persistent entry does not come
 *   back, and the plain ones of other nodes do not go.
 *
 * What is staged is the durable form and one byte: 1, or 0 for the mark.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "lib/dbwrap/dbwrap_phstore_ctdb.h"
#include "dbwrap/dbwrap_ctdb.h"

struct clu_parse_state {
	struct db_phstore_ctx *ctx;
	struct phstore *store;
	TDB_DATA key;
	void (*parser)(TDB_DATA key, TDB_DATA data, void *private_data);
	void *private_data;
	enum clu_look look;
	bool found;
};

static void clu_parser(TDB_DATA key, TDB_DATA raw, void *private_data)
{
	struct clu_parse_state *state = private_data;
	TALLOC_CTX *frame = NULL;
	struct phvol_hdr hdr = {};
	TDB_DATA value = {};
	uint64_t epoch = 0;
	bool ok;

	if (state->store != NULL) {
		ok = clu_epoch(state->store, &epoch);
		if (!ok) {
			state->look = CLU_LOOK_AGAIN;
			return;
		}
	}
	frame = talloc_stackframe();
	state->look = clu_look(state->ctx, frame, state->store, key, raw,
			       epoch, &hdr, &value);
	if (state->look == CLU_LOOK_OK && value.dsize != 0) {
		state->found = true;
		state->parser(key, value, state->private_data);
	}
	TALLOC_FREE(frame);
}

NTSTATUS clu_parse_record(struct db_context *db,
				 TDB_DATA key,
				 void (*parser)(TDB_DATA key,
						TDB_DATA data,
						void *private_data),
				 void *private_data)
{
	struct db_phstore_ctx *ctx = clu_ctx_of(db);
	struct clu_parse_state state = {
		.ctx = ctx,
		.parser = parser,
		.private_data = private_data,
	};
	NTSTATUS status;
	bool ok;

	state.store = clu_store(ctx);
	if (state.store == NULL && !ctx->rdonly) {
		return NT_STATUS_INTERNAL_DB_ERROR;
	}
again:
	state.look = CLU_LOOK_OK;
	state.found = false;
	status = dbwrap_parse_record(ctx->base, key, clu_parser, &state);
	if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND)) {
		/* nobody has touched it since all nodes were down, maybe */
		clu_parser(key, tdb_null, &state);
	} else if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	switch (state.look) {
	case CLU_LOOK_AGAIN:
		ok = clu_wait(ctx);
		if (ok) {
			goto again;
		}
		return NT_STATUS_FILE_NOT_AVAILABLE;
	case CLU_LOOK_FAILED:
		return NT_STATUS_INTERNAL_DB_CORRUPTION;
	case CLU_LOOK_OK:
		break;
	}
	return state.found ? NT_STATUS_OK : NT_STATUS_NOT_FOUND;
}

void clu_null_parser(TDB_DATA key, TDB_DATA data, void *private_data)
{
}

/*
 * Beside the opens are records of the replay cache, which may be the node's
 * own.
 */
static NTSTATUS clu_parse(struct db_context *db,
			  TDB_DATA key,
			  void (*parser)(TDB_DATA key,
					 TDB_DATA data,
					 void *private_data),
			  void *private_data)
{
	struct db_context *replay = clu_replay_of(db, key);

	if (replay != NULL) {
		return clu_replay_parse(replay, key, parser, private_data);
	}
	return clu_parse_record(db, key, parser, private_data);
}

static struct db_record *clu_fetch(struct db_context *db,
				   TALLOC_CTX *mem_ctx,
				   TDB_DATA key)
{
	struct db_context *replay = clu_replay_of(db, key);

	if (replay != NULL) {
		return clu_replay_fetch(db, replay, mem_ctx, key);
	}
	return clu_fetch_locked(db, mem_ctx, key);
}

static int clu_exists(struct db_context *db, TDB_DATA key)
{
	NTSTATUS status;

	status = clu_parse(db, key, clu_null_parser, NULL);
	return NT_STATUS_IS_OK(status) ? 1 : 0;
}

static size_t clu_id(struct db_context *db, uint8_t *id, size_t idlen)
{
	return dbwrap_db_id(clu_ctx_of(db)->base, id, idlen);
}

/* A new epoch may show other values without anything being written. */
static int clu_get_seqnum(struct db_context *db)
{
	struct db_phstore_ctx *ctx = clu_ctx_of(db);
	struct phstore *store = clu_store(ctx);
	int seqnum = dbwrap_get_seqnum(ctx->base);
	uint64_t epoch = 0;

	if (store != NULL) {
		(void)clu_epoch(store, &epoch);
	}
	return (int)((uint32_t)seqnum + (uint32_t)epoch * 0x9E3779B1U);
}

static int clu_transaction_deny(struct db_context *db)
{
	return -1;
}

static NTSTATUS clu_transaction_deny_nonblock(struct db_context *db)
{
	return NT_STATUS_NOT_SUPPORTED;
}

struct db_context *db_open_phstore_ctdb(TALLOC_CTX *mem_ctx,
					struct tevent_context *ev,
					struct messaging_context *msg_ctx,
					struct ctdbd_connection *conn,
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
	struct phstore *store = NULL;
	/*
	 * No read-only copies: ctdbd 4.25 ends itself ("Failed to add deferred
	 * call for revoke child") when a node dies while some are called back.
	 */
	uint64_t not_for_base = DBWRAP_FLAG_PER_REC_PERSISTENT |
				DBWRAP_FLAG_OPTIMIZE_READONLY_ACCESS;
	bool ok;

	if (dbwrap_flags & DBWRAP_FLAG_OPTIMIZE_READONLY_ACCESS) {
		DBG_NOTICE("%s: dbwrap_optimize_readonly is ignored: not safe "
			   "with handles that must survive\n", name);
	}
	if (!(tdb_flags & TDB_CLEAR_IF_FIRST)) {
		DBG_ERR("%s: only a TDB_CLEAR_IF_FIRST database can have "
			"persistent records\n", name);
		errno = EINVAL;
		return NULL;
	}
	db = talloc_zero(mem_ctx, struct db_context);
	if (db == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	ctx = db_phstore_ctx_new(db, name);
	if (ctx == NULL) {
		TALLOC_FREE(db);
		errno = ENOMEM;
		return NULL;
	}
	ctx->rdonly = ((open_flags & O_ACCMODE) != O_RDWR);
	ok = dbwrap_phstore_table_config(ctx);
	if (!ok) {
		TALLOC_FREE(db);
		errno = EINVAL;
		return NULL;
	}
	if (!ctx->rdonly) {
		/* smbd must not find out that it can not while it serves */
		store = dbwrap_phstore_store(false);
		if (store == NULL) {
			TALLOC_FREE(db);
			errno = EIO;
			return NULL;
		}
	}
	ctx->base = db_open_ctdb_ex(ctx,
				    ev,
				    msg_ctx,
				    conn,
				    false,
				    false,
				    name,
				    hash_size,
				    tdb_flags,
				    open_flags,
				    mode,
				    DBWRAP_LOCK_ORDER_NONE,
				    dbwrap_flags & ~not_for_base);
	ok = ctx->base != NULL &&
	     clu_replay_open(ctx, hash_size, tdb_flags, mode);
	if (!ok) {
		int err = errno;

		TALLOC_FREE(db);
		errno = err;
		return NULL;
	}

	ctx->db = db;
	ctx->restage = clu_restage;
	ctx->inflight_idx = dbwrap_phstore_inflight_add(db);

	db->private_data = ctx;
	db->lock_order = lock_order;
	db->flags = dbwrap_flags;
	db->persistent = false;
	db->name = dbwrap_name(ctx->base);
	db->fetch_locked = clu_fetch;
	db->traverse = clu_traverse;
	db->traverse_read = clu_traverse_read;
	db->traverse_per_rec_persistent_read = clu_traverse_store;
	db->parse_record = clu_parse;
	db->get_seqnum = clu_get_seqnum;
	db->transaction_start = clu_transaction_deny;
	db->transaction_start_nonblock = clu_transaction_deny_nonblock;
	db->transaction_commit = clu_transaction_deny;
	db->transaction_cancel = clu_transaction_deny;
	db->exists = clu_exists;
	db->wipe = clu_wipe;
	db->id = clu_id;
	return db;
}

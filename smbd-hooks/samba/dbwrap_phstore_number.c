/*
 * phstore: a lock and its sequence number are one transaction
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * [MS-SMB2] 3.3.5.14: a LOCK or UNLOCK may have a number, which is kept with
 * the open; the same number again is answered with success and does nothing.
 * Two records change: the file's locks, and the open. A crash between them
 * left a lock whose number nobody knew, and the client that sent its LOCK
 * again was refused, by its own lock.
 *
 * A CLOSE that removes locks is the same: what the open's record is given is
 * not a number, but that the handle is closed. A crash between the two left a
 * handle that came back without its locks. But there both are stored in the
 * volatile databases only, and staged with what CLOSE removes last
 * (dbwrap_phstore_held.c).
 *
 * Rules
 *
 * - While the record of the locks is locked, is staged and stored, the open's
 *   is locked as well. Both are staged in one frame, then stored in the
 *   volatile databases, the locks first. The order in which the two are
 *   locked is the other way round than dbwrap's ranks have it, so the open's
 *   is taken below them. Nobody waits for a cycle: who holds the record of an
 *   open asks for no other.
 * - An open is changed by the smbd that serves it, so what is stored is what
 *   that has in memory, with the number.
 * - The number is only in when the operation succeeded: an UNLOCK of several
 *   ranges that fails in the middle stores what it did, and no number.
 * - Killed before the frame was appended: neither. With it appended: both,
 *   when all smbds died. While others live the volatile databases count; the
 *   parent looks which of the two have it (dbwrap_phstore_inflight.c): with
 *   the lock there it sets the number, without it it takes the number back
 *   out of the store. Never a number without its lock.
 * - Whatever is not as expected here (the open is not in the store, or not as
 *   what it was): nothing is joined, and the number is stored behind the lock,
 *   on its own (phstore_open_locked()).
 * - In a cluster a value is stored in the volatile database before it is staged
 *   and nobody may wait for ctdb while he has a record locked. So there the
 *   locks are stored, and held back; then, still under the file's lock
 *   (g_lock), the open is locked and stored, and both are staged. All changes
 *   of a file's locks are made under that lock, so none gets in between. A
 *   version is used up before anything is staged, as ever. If the store has no
 *   room for what a durable handle wants in it, the locks are stored once more,
 *   which takes them out of it.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "lib/dbwrap/dbwrap_phstore_ctdb.h"

enum number_state {
	NUMBER_NONE,
	NUMBER_BEGUN,		/* the request is under way */
	NUMBER_GRANTED,		/* its lock is */
	NUMBER_NOTED,		/* in a cluster: the locks are stored next */
	NUMBER_HELD,		/* they were, and are not staged */
	NUMBER_LOCKED,		/* the open is locked, its value is built */
	NUMBER_JOINED,		/* it is in the transaction */
	NUMBER_STAGED,
	NUMBER_STORED,
};

static struct {
	struct db_phstore_ctx *opens;
	enum number_state state;
	const struct dbwrap_phstore_number *number;
	struct db_record *base_rec;	/* of the open; the rest hangs on it */
	bool kept;
	TDB_DATA before;
	TDB_DATA value;
	int flag;
} current;

/* In a cluster: what is to be staged of the locks */
static struct {
	TALLOC_CTX *mem_ctx;
	struct db_context *db;
	struct db_phstore_ctx ctx;
	struct phstore *store;
	TDB_DATA key;
	TDB_DATA value;			/* dptr NULL: removed */
	bool releases;
	struct phstore_version version;
} held;

void dbwrap_phstore_number_opens(struct db_phstore_ctx *opens)
{
	current.opens = opens;
}

void dbwrap_phstore_number_begin(const struct dbwrap_phstore_number *number)
{
	current.number = number;
	current.state = NUMBER_BEGUN;
}

void dbwrap_phstore_number_granted(void)
{
	if (current.state == NUMBER_BEGUN) {
		current.state = NUMBER_GRANTED;
	}
}

bool dbwrap_phstore_number_end(void)
{
	bool is_stored;

	dbwrap_phstore_number_stage();
	is_stored = current.state == NUMBER_STORED;
	current.state = NUMBER_NONE;
	current.number = NULL;
	return is_stored;
}

uint64_t dbwrap_phstore_hash(const void *data, size_t len)
{
	TDB_DATA buf = make_tdb_data(data, len);

	return dbwrap_phstore_number_hash(&buf, 1);
}

uint64_t dbwrap_phstore_number_hash(const TDB_DATA *dbufs, int num_dbufs)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	size_t n;
	int i;

	for (i = 0; i < num_dbufs; i++) {
		for (n = 0; n < dbufs[i].dsize; n++) {
			hash = (hash ^ dbufs[i].dptr[n]) * 0x100000001b3ULL;
		}
	}
	return hash;
}

/* What smbd would store is kept here, as a child of private_data. */
static NTSTATUS number_take(struct db_record *rec,
			    const TDB_DATA *dbufs,
			    int num_dbufs,
			    int flag)
{
	if (num_dbufs != 1) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	current.value.dptr = talloc_memdup(
		rec->private_data, dbufs[0].dptr, dbufs[0].dsize);
	if (current.value.dptr == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	current.value.dsize = dbufs[0].dsize;
	current.flag = flag;
	return NT_STATUS_OK;
}

/* The open's value as it is to be, if it stays in the store. */
static bool number_build(TALLOC_CTX *mem_ctx, TDB_DATA key, TDB_DATA old)
{
	struct db_record rec = {
		.key = key,
		.value = old,
		.value_valid = true,
		.flags.persistent = true,
		.storev = number_take,
		.private_data = mem_ctx,
	};
	NTSTATUS status;

	status = current.number->store(&rec, old, current.number);
	if (!NT_STATUS_IS_OK(status)) {
		return false;
	}
	return (current.flag & DBWRAP_STORE_PERSISTENT) != 0;
}

/* Does it stay there as what it was? */
static bool number_is_same(void)
{
	bool kept = dbwrap_phstore_is_kept(current.flag, current.kept);

	return kept == current.kept;
}

void dbwrap_phstore_number_lock(const struct db_phstore_ctx *ctx,
				const TDB_DATA *dbufs,
				int num_dbufs)
{
	const struct dbwrap_phstore_number *number = current.number;
	bool is_cluster = ctx->restage != NULL;
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA key = make_tdb_data(keybuf, sizeof(keybuf));
	TDB_DATA value = {};
	bool persistent = false;
	bool ok;

	if (current.state != NUMBER_GRANTED || !ctx->is_locks ||
	    current.opens == NULL)
	{
		return;
	}
	if (is_cluster) {
		current.state = NUMBER_NOTED;
		goto note;
	}
	RSIVAL(keybuf, 0, number->open_id);
	current.base_rec = dbwrap_fetch_locked(current.opens->base, NULL, key);
	if (current.base_rec == NULL) {
		return;
	}
	value = dbwrap_record_get_value(current.base_rec);
	ok = db_phstore_hdr_pull(&value, &persistent, &current.kept);
	if (!ok || !persistent) {
		goto alone;
	}
	current.before = value;
	ok = number_build(current.base_rec, current.base_rec->key, value) &&
	     number_is_same();
	if (!ok) {
		goto alone;
	}
	current.state = NUMBER_LOCKED;
note:
	dbwrap_phstore_inflight_number(
		number->open_id, number->bucket, number->value,
		dbwrap_phstore_number_hash(dbufs, num_dbufs));
	return;
alone:
	TALLOC_FREE(current.base_rec);
}

/* Nobody waits for what is kept for a durable handle. */
static enum phstore_class number_class(void)
{
	return current.kept ? PHSTORE_CLASS_LOCAL : current.opens->durability;
}

enum phstore_err dbwrap_phstore_number_join(const struct db_phstore_ctx *ctx,
					    struct phstore_txn *txn,
					    bool releases)
{
	struct phstore_op_options opts = {
		.skip_same = true,
		.use_reserve = releases,
	};
	struct phstore_blob key = {};
	struct phstore_blob val = {};
	enum phstore_err err;
	TDB_DATA form = {};
	size_t len = 0;
	NTSTATUS status;

	if (current.state != NUMBER_LOCKED || !ctx->is_locks) {
		return PHSTORE_OK;
	}
	status = dbwrap_phstore_form(
		current.opens, &current.value, 1, &form, &len);
	if (!NT_STATUS_IS_OK(status) || form.dsize == 0) {
		return PHSTORE_OK;
	}
	key.data = current.base_rec->key.dptr;
	key.len = current.base_rec->key.dsize;
	val.data = form.dptr;
	val.len = form.dsize;
	opts.durability = number_class();
	err = phstore_txn_put(txn, current.opens->table, key, val, &opts);
	if (err == PHSTORE_OK) {
		current.state = NUMBER_JOINED;
	}
	if (current.number->bucket != PHSTORE_NUMBER_CLOSED) {
		/* this is the last the request stages */
		dbwrap_phstore_more(false);
	}
	return err;
}

void dbwrap_phstore_number_taken(void)
{
	if (current.state == NUMBER_LOCKED) {
		/* as good as staged: the open's removal will be */
		current.state = NUMBER_STAGED;
	}
}

void dbwrap_phstore_number_staged(enum phstore_err err, uint64_t lsn)
{
	if (current.state != NUMBER_JOINED) {
		return;
	}
	if (err != PHSTORE_OK) {
		/* what else is tried for the lock is tried without it */
		current.state = NUMBER_GRANTED;
		return;
	}
	current.state = NUMBER_STAGED;
	if (!current.kept) {
		dbwrap_phstore_covered(current.opens, lsn);
	}
}

/* The lock was not stored after all: the store has the open as it was. */
static void number_undo(void)
{
	TDB_DATA form = {};
	enum phstore_err err;
	size_t len = 0;
	NTSTATUS status;

	status = dbwrap_phstore_form(
		current.opens, &current.before, 1, &form, &len);
	if (!NT_STATUS_IS_OK(status)) {
		err = PHSTORE_ERR_NO_MEMORY;
	} else if (current.kept) {
		err = dbwrap_phstore_stage_kept(
			current.opens, current.base_rec->key, &form);
	} else {
		err = dbwrap_phstore_stage(
			current.opens, current.base_rec->key, &form, true);
	}
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(current.opens, "undo", err, true);
	}
}

void dbwrap_phstore_number_unlock(NTSTATUS status)
{
	bool is_staged = current.state == NUMBER_STAGED;

	if (current.state == NUMBER_NOTED) {
		/* nothing was staged */
		current.state = NUMBER_BEGUN;
	}
	if (current.base_rec == NULL) {
		return;
	}
	current.state = NUMBER_BEGUN;
	if (is_staged && !NT_STATUS_IS_OK(status)) {
		number_undo();
	} else if (is_staged) {
		status = db_phstore_base_storev(current.opens,
						current.base_rec,
						true,
						current.kept,
						&current.value,
						1,
						DBWRAP_REPLACE);
		if (NT_STATUS_IS_OK(status)) {
			current.state = NUMBER_STORED;
		}
	}
	TALLOC_FREE(current.base_rec);
}

bool dbwrap_phstore_number_hold(const struct db_phstore_ctx *ctx,
				TDB_DATA key,
				const TDB_DATA *value,
				bool releases,
				const struct phstore_version *version)
{
	TALLOC_CTX *mem_ctx = NULL;
	uint64_t epoch = 0;
	uint64_t floor = 0;
	enum phstore_err err;

	if (current.state != NUMBER_NOTED || !ctx->is_locks) {
		return false;
	}
	mem_ctx = talloc_new(NULL);
	if (mem_ctx == NULL) {
		return false;
	}
	held.mem_ctx = mem_ctx;
	held.db = ctx->db;
	held.ctx = *ctx;
	held.store = dbwrap_phstore_store(false);
	held.releases = releases;
	held.version = *version;
	held.key = make_tdb_data(talloc_memdup(mem_ctx, key.dptr, key.dsize),
				 key.dsize);
	held.value = tdb_null;
	if (value != NULL) {
		held.value = make_tdb_data(
			talloc_memdup(mem_ctx, value->dptr, value->dsize),
			value->dsize);
	}
	if (held.store == NULL || held.key.dptr == NULL ||
	    (value != NULL && held.value.dptr == NULL))
	{
		goto not_held;
	}
	/* it is entered already, for the record that is locked */
	err = clu_enter(held.store, &epoch, &floor);
	if (err != PHSTORE_OK) {
		goto not_held;
	}
	current.state = NUMBER_HELD;
	return true;
not_held:
	TALLOC_FREE(held.mem_ctx);
	return false;
}

bool dbwrap_phstore_number_is_held(void)
{
	return current.state == NUMBER_HELD;
}

/* The locks, and with form the open. */
static enum phstore_err number_commit(const struct clu_rec *crec,
				      TDB_DATA key,
				      const TDB_DATA *form,
				      const struct phvol_hdr *hdr)
{
	struct phstore_op_options opts = {
		.durability = held.ctx.durability,
		.use_reserve = held.releases,
		.version = held.version,
	};
	struct phstore_blob pkey = {
		.data = held.key.dptr,
		.len = held.key.dsize,
	};
	struct phstore_blob pval = {
		.data = held.value.dptr,
		.len = held.value.dsize,
	};
	struct phstore_txn *txn = NULL;
	enum phstore_err err;
	uint64_t lsn = 0;

	txn = phstore_txn_new(NULL, held.store);
	if (txn == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	if (pval.data != NULL) {
		err = phstore_txn_put(txn, held.ctx.table, pkey, pval, &opts);
	} else {
		err = phstore_txn_delete(txn, held.ctx.table, pkey, &opts);
	}
	if (err == PHSTORE_OK && form != NULL) {
		pkey.data = key.dptr;
		pkey.len = key.dsize;
		pval.data = form->dptr;
		pval.len = form->dsize;
		opts.durability = crec->ctx->durability;
		opts.version.epoch = hdr->epoch;
		opts.version.seq = hdr->seq;
		err = phstore_txn_put(
			txn, crec->ctx->table, pkey, pval, &opts);
	}
	if (err == PHSTORE_OK) {
		err = phstore_stage(txn, &lsn);
	}
	if (err == PHSTORE_OK) {
		if (form != NULL) {
			/* this is the last the request stages */
			dbwrap_phstore_more(false);
			dbwrap_phstore_covered(crec->ctx, lsn);
		}
		dbwrap_phstore_staged(&held.ctx, lsn);
	}
	talloc_free(txn);
	return err;
}

/* The open is locked: store it, stage both. False: neither. */
static bool number_stage_both(struct db_record *rec)
{
	struct clu_rec *crec = rec->private_data;
	struct phvol_hdr hdr = crec->hdr;
	TDB_DATA form = {};
	enum phstore_err err;
	NTSTATUS status;
	bool ok;

	current.kept = (hdr.flags & PHVOL_KEPT) != 0;
	if (!clu_is_persistent(&hdr) || crec->store == NULL ||
	    crec->raw.dsize == 0)
	{
		return false;
	}
	ok = number_build(crec, rec->key, dbwrap_record_get_value(rec));
	if (!ok) {
		return false;
	}
	status = clu_form(crec->ctx, crec, &current.value, 1,
			  CLU_FORM_PERSISTENT, &form);
	if (!NT_STATUS_IS_OK(status) || form.dsize == 0) {
		return false;
	}
	clu_next_version(crec, &hdr);
	status = clu_base_store(crec, &hdr, &current.value, 1);
	if (!NT_STATUS_IS_OK(status)) {
		return false;
	}
	ok = current.number->bucket == PHSTORE_NUMBER_CLOSED &&
	     dbwrap_phstore_held_take(
		     &held.ctx, held.key,
		     (held.value.dptr != NULL) ? &held.value : NULL,
		     held.releases, &held.version);
	if (ok) {
		/* with the open's removal, which has a later version */
		return true;
	}
	err = number_commit(crec, rec->key, &form, &hdr);
	if (err != PHSTORE_OK) {
		/* a number without its lock must not stay */
		status = dbwrap_record_storev(
			crec->base_rec, &crec->raw, 1, 0);
		if (!NT_STATUS_IS_OK(status)) {
			dbwrap_phstore_failed(crec->ctx, "undo", err, true);
		}
		return false;
	}
	return true;
}

/* The locks alone */
static void number_stage_locks(void)
{
	struct db_record *rec = NULL;
	struct clu_rec *crec = NULL;
	TDB_DATA value = {};
	enum phstore_err err;
	NTSTATUS status;

	err = number_commit(NULL, tdb_null, NULL, NULL);
	if (err == PHSTORE_OK) {
		return;
	}
	rec = clu_fetch_locked(held.db, held.mem_ctx, held.key);
	if (rec == NULL) {
		goto failed;
	}
	crec = rec->private_data;
	if (!clu_is_persistent(&crec->hdr) ||
	    !(crec->hdr.flags & PHVOL_KEPT))
	{
		goto failed;
	}
	/* for durable handles: without room they go out of the store */
	value = dbwrap_record_get_value(rec);
	status = dbwrap_record_storev(rec, &value, 1,
				      DBWRAP_STORE_PERSISTENT |
				      DBWRAP_STORE_PHSTORE_KEPT);
	TALLOC_FREE(rec);
	if (NT_STATUS_IS_OK(status)) {
		return;
	}
failed:
	TALLOC_FREE(rec);
	/* the next who changes the record stages it */
	dbwrap_phstore_failed(&held.ctx, "store", err, true);
}

void dbwrap_phstore_number_stage(void)
{
	struct db_record *rec = NULL;
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA key = make_tdb_data(keybuf, sizeof(keybuf));
	bool ok = false;

	if (current.state != NUMBER_HELD) {
		return;
	}
	RSIVAL(keybuf, 0, current.number->open_id);
	rec = clu_fetch_locked(current.opens->db, held.mem_ctx, key);
	if (rec != NULL) {
		ok = number_stage_both(rec);
		TALLOC_FREE(rec);
	}
	current.state = ok ? NUMBER_STORED : NUMBER_BEGUN;
	if (!ok) {
		number_stage_locks();
	}
	clu_leave(held.store);
	TALLOC_FREE(held.mem_ctx);
	dbwrap_phstore_inflight_end();
}

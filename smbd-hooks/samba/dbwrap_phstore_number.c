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
 * - Not in a cluster: there a value is stored in the volatile database before
 *   it is staged, and nobody may wait for ctdb while he has a record locked.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"

enum number_state {
	NUMBER_NONE,
	NUMBER_BEGUN,		/* the request is under way */
	NUMBER_GRANTED,		/* its lock is */
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
	bool is_stored = current.state == NUMBER_STORED;

	current.state = NUMBER_NONE;
	current.number = NULL;
	return is_stored;
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

/* What smbd would store is kept here. */
static NTSTATUS number_take(struct db_record *rec,
			    const TDB_DATA *dbufs,
			    int num_dbufs,
			    int flag)
{
	if (num_dbufs != 1) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	current.value.dptr = talloc_memdup(
		current.base_rec, dbufs[0].dptr, dbufs[0].dsize);
	if (current.value.dptr == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	current.value.dsize = dbufs[0].dsize;
	current.flag = flag;
	return NT_STATUS_OK;
}

void dbwrap_phstore_number_lock(const struct db_phstore_ctx *ctx,
				const TDB_DATA *dbufs,
				int num_dbufs)
{
	const struct dbwrap_phstore_number *number = current.number;
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA key = make_tdb_data(keybuf, sizeof(keybuf));
	struct db_record rec = {};
	TDB_DATA value = {};
	bool persistent = false;
	NTSTATUS status;
	bool ok;

	if (current.state != NUMBER_GRANTED || !ctx->is_locks ||
	    current.opens == NULL)
	{
		return;
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
	rec = (struct db_record) {
		.key = dbwrap_record_get_key(current.base_rec),
		.value = value,
		.value_valid = true,
		.flags.persistent = true,
		.storev = number_take,
	};
	status = number->store(&rec, value, number);
	if (!NT_STATUS_IS_OK(status)) {
		goto alone;
	}
	ok = (current.flag & DBWRAP_STORE_PERSISTENT) &&
	     dbwrap_phstore_is_kept(current.flag, current.kept) ==
		     current.kept;
	if (!ok) {
		goto alone;
	}
	current.state = NUMBER_LOCKED;
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
		/* this is the last the request stages */
		dbwrap_phstore_more(false);
	}
	return err;
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

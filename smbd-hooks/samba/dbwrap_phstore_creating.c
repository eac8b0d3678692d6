/*
 * phstore: a share mode entry and its open come in one transaction
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A CREATE makes two records: the file gets a share mode entry, under its
 * lock, as others have to be refused while the file is still being opened;
 * then, at the end, the open is marked as one that survives. The entry is not
 * staged when it is stored, but with the open, so that a crash leaves both or
 * neither.
 *
 * Rules
 *
 * - Between the two the volatile database has an entry that the store has not.
 *   Who changes the file's record meanwhile stages all of it, with the entry.
 *   So what is staged in the end is not what this process stored, but what
 *   the record has then: it is locked and read again, and stays locked until
 *   the open is stored. "Log order is lock order" holds.
 * - Locked are the file's record, then the open's, the first below dbwrap's
 *   ranks (both are of one). Nobody waits for a cycle: who holds the record of
 *   an open asks for no other.
 * - A process killed in between leaves an entry in the volatile database, of an
 *   open that is not marked. It is taken for what it is, garbage
 *   (dbwrap_phstore_entry_is_half()), and never was in the store, unless
 *   another's change took it along. Then it is there after a restart, its open
 *   is not, and the scavenger removes it when somebody asks for the file.
 * - A CREATE that fails removes its entry; what the record is then is staged
 *   at the latest when the request has been answered, before the answer goes.
 *   What it took from the file (a durable handle's entry) is not there until
 *   then either: if all smbds die that handle is back, and nobody was told
 *   that it had gone.
 * - Requests are processed one after the other, and a CREATE does not go back
 *   to the event loop between its entry and its open: one state is enough. For
 *   a second file (there is none today) nothing is put off.
 * - In a cluster the entry has a version already, see dbwrap_phstore_held.c.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "librpc/gen_ndr/file_id.h"

enum creating_state {
	CREATING_NONE,
	CREATING_BEGUN,		/* the entry is stored next */
	CREATING_PUT_OFF,	/* it was, and is not staged */
	CREATING_LOCKED,	/* the file is, the open is stored next */
	CREATING_JOINED,	/* the entry is in that transaction */
	CREATING_STAGED,
};

static struct {
	struct db_phstore_ctx *opens;
	enum creating_state state;
	struct file_id file;
	uint8_t open_key[sizeof(uint32_t)];
	struct db_phstore_ctx *shares;
	struct db_record *base_rec;	/* of the file */
	TDB_DATA value;			/* what it has */
	bool kept;			/* for durable handles only */
	bool entered;			/* the gate, with backend rados */
} creating;

static TDB_DATA creating_file(void)
{
	return make_tdb_data((const uint8_t *)&creating.file,
			     sizeof(creating.file));
}

void dbwrap_phstore_creating_opens(struct db_phstore_ctx *opens)
{
	creating.opens = opens;
	creating.state = CREATING_NONE;
}

void dbwrap_phstore_creating_begin(uint32_t open_id, const struct file_id *file)
{
	if (lp_clustering()) {
		dbwrap_phstore_held_begin(open_id, file, false);
		return;
	}
	if (creating.state == CREATING_PUT_OFF) {
		return;
	}
	creating.state = CREATING_BEGUN;
	creating.file = *file;
	RSIVAL(creating.open_key, 0, open_id);
}

bool dbwrap_phstore_creating_put_off(struct db_phstore_ctx *ctx, TDB_DATA key)
{
	bool is_its;

	if (creating.state != CREATING_BEGUN &&
	    creating.state != CREATING_PUT_OFF)
	{
		return false;
	}
	is_its = ctx->is_shares && tdb_data_equal(key, creating_file());
	if (!is_its) {
		return false;
	}
	creating.shares = ctx;
	creating.state = CREATING_PUT_OFF;
	return true;
}

static void creating_let_go(void)
{
	if (creating.entered) {
		creating.entered = false;
		dbwrap_phstore_gate_leave();
	}
	TALLOC_FREE(creating.base_rec);
}

/* Lock the file's record. False: the store need not have it any more. */
static bool creating_fetch(void)
{
	enum dbwrap_phstore_gate gate;
	bool persistent = false;
	bool ok;

again:
	creating.base_rec = dbwrap_fetch_locked(
		creating.shares->base, NULL, creating_file());
	if (creating.base_rec == NULL) {
		dbwrap_phstore_failed(
			creating.shares, "lock", PHSTORE_ERR_IO, true);
		return false;
	}
	/* before the open: nobody waits for the gate with a record locked */
	gate = dbwrap_phstore_gate_enter(creating.shares);
	if (gate == DBWRAP_PHSTORE_GATE_CLOSED) {
		TALLOC_FREE(creating.base_rec);
		ok = dbwrap_phstore_gate_wait(creating.shares);
		if (ok) {
			goto again;
		}
		return false;
	}
	if (gate == DBWRAP_PHSTORE_GATE_FENCED) {
		TALLOC_FREE(creating.base_rec);
		return false;
	}
	creating.entered = gate == DBWRAP_PHSTORE_GATE_ENTERED;
	creating.value = dbwrap_record_get_value(creating.base_rec);
	ok = db_phstore_hdr_pull(
		&creating.value, &persistent, &creating.kept);
	if (!ok || !persistent) {
		/* whoever removed the last of them has staged that */
		creating_let_go();
		return false;
	}
	return true;
}

void dbwrap_phstore_creating_lock(void)
{
	bool ok;

	if (creating.state != CREATING_PUT_OFF) {
		creating.state = CREATING_NONE;
		return;
	}
	ok = creating_fetch();
	creating.state = ok ? CREATING_LOCKED : CREATING_NONE;
}

enum phstore_err dbwrap_phstore_creating_join(const struct db_phstore_ctx *ctx,
					      TDB_DATA key,
					      struct phstore_txn *txn)
{
	TDB_DATA file = creating_file();
	TDB_DATA open_key = make_tdb_data(creating.open_key,
					  sizeof(creating.open_key));
	struct phstore_blob pkey = { .data = file.dptr, .len = file.dsize };
	struct phstore_op_options opts = { .skip_same = true };
	struct phstore_blob pval = {};
	enum phstore_err err;
	TDB_DATA form = {};
	size_t len = 0;
	NTSTATUS status;

	if (creating.state != CREATING_LOCKED || !ctx->is_opens ||
	    !tdb_data_equal(key, open_key))
	{
		return PHSTORE_OK;
	}
	status = dbwrap_phstore_form(
		creating.shares, &creating.value, 1, &form, &len);
	if (!NT_STATUS_IS_OK(status)) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	opts.durability = creating.kept ? PHSTORE_CLASS_LOCAL :
					  creating.shares->durability;
	pval.data = form.dptr;
	pval.len = form.dsize;
	err = phstore_txn_put(txn, creating.shares->table, pkey, pval, &opts);
	if (err == PHSTORE_OK) {
		creating.state = CREATING_JOINED;
	}
	return err;
}

void dbwrap_phstore_creating_staged(enum phstore_err err, uint64_t lsn)
{
	if (creating.state != CREATING_JOINED) {
		return;
	}
	if (err != PHSTORE_OK) {
		creating.state = CREATING_LOCKED;
		return;
	}
	creating.state = CREATING_STAGED;
	if (!creating.kept) {
		dbwrap_phstore_covered(creating.shares, lsn);
	}
}

/* Without its open: that is not to survive, or the store refused both. */
static void creating_stage_alone(void)
{
	TDB_DATA file = creating_file();
	enum phstore_err err;
	bool persistent = true;
	TDB_DATA form = {};
	size_t len = 0;
	NTSTATUS status;

	status = dbwrap_phstore_form(
		creating.shares, &creating.value, 1, &form, &len);
	if (!NT_STATUS_IS_OK(status)) {
		err = PHSTORE_ERR_NO_MEMORY;
	} else if (creating.kept) {
		err = dbwrap_phstore_keep(creating.shares, file, &form,
					  true, true, &persistent);
	} else {
		err = dbwrap_phstore_stage(
			creating.shares, file, &form, false);
	}
	if (err == PHSTORE_OK && !persistent) {
		/* no room: it goes on as one that is not kept */
		status = db_phstore_base_storev(
			creating.shares, creating.base_rec, false, false,
			&creating.value, 1, DBWRAP_REPLACE);
		if (!NT_STATUS_IS_OK(status)) {
			err = PHSTORE_ERR_IO;
		}
	}
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(creating.shares, "store", err, true);
	}
}

void dbwrap_phstore_creating_unlock(NTSTATUS status)
{
	if (creating.base_rec == NULL) {
		creating.state = CREATING_NONE;
		return;
	}
	if (creating.state == CREATING_STAGED) {
		creating.state = CREATING_NONE;
	} else if (NT_STATUS_IS_OK(status)) {
		creating_stage_alone();
		creating.state = CREATING_NONE;
	} else {
		/* CREATE fails and removes it */
		creating.state = CREATING_PUT_OFF;
	}
	creating_let_go();
}

void dbwrap_phstore_request_end(void)
{
	dbwrap_phstore_held_end();
	if (creating.state == CREATING_NONE) {
		return;
	}
	dbwrap_phstore_creating_lock();
	dbwrap_phstore_creating_unlock(NT_STATUS_OK);
}

static void creating_is_stored_parser(TDB_DATA key,
				      TDB_DATA value,
				      void *private_data)
{
	bool *persistent = private_data;
	bool kept = false;

	(void)db_phstore_hdr_pull(&value, persistent, &kept);
}

/*
 * Not there at all is the open of a handle that the scavenger is about to
 * remove, and whose locks are still there. In a cluster nobody may wait for
 * ctdb with a record locked.
 */
bool dbwrap_phstore_entry_is_half(uint64_t share_file_id)
{
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA key = make_tdb_data(keybuf, sizeof(keybuf));
	bool persistent = false;
	NTSTATUS status;

	if (creating.opens == NULL || lp_clustering()) {
		return false;
	}
	RSIVAL(keybuf, 0, share_file_id & UINT32_MAX);
	status = dbwrap_parse_record(creating.opens->base, key,
				     creating_is_stored_parser, &persistent);
	return NT_STATUS_IS_OK(status) && !persistent;
}

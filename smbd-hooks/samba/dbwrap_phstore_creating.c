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
 * So it is with a CREATE that takes a handle up again (a reconnect). It stores
 * the open, as one of this smbd, then the file's locks and the entry, and at
 * the end the open once more. All of that is staged at the end.
 *
 * Rules
 *
 * - Between the two the volatile database has an entry that the store has not.
 *   Who changes the file's record meanwhile stages all of it, with the entry.
 *   So what is staged in the end is not what this process stored, but what
 *   the record has then: it is locked and read again, and stays locked until
 *   the open is stored. "Log order is lock order" holds. The open's first
 *   change needs no such thing: nobody else changes it, the last has all of it.
 * - Locked are the file's share modes, then its locks, then the open, the first
 *   two below dbwrap's ranks (the order is smbd's own). Nobody waits for a
 *   cycle: who holds the record of an open asks for no other, who holds that of
 *   locks for an open's at most.
 * - A process killed in between leaves an entry in the volatile database, of an
 *   open that is not marked. It is taken for what it is, garbage
 *   (dbwrap_phstore_entry_is_half()), and never was in the store, unless
 *   another's change took it along. Then it is there after a restart, its open
 *   is not, and the scavenger removes it when somebody asks for the file. If
 *   smbd's parent lives it tells the scavenger, which removes it at once.
 * - Killed in the middle of a reconnect: the volatile databases say that the
 *   dead process has the handle, the store what was before. Both say that the
 *   handle is there and nobody serves it.
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
	CREATING_BEGUN,		/* what is to be put off is stored next */
	CREATING_PUT_OFF,	/* it was, and is not staged */
	CREATING_LOCKED,	/* the file is, the open is stored next */
	CREATING_JOINED,	/* what was put off is in that transaction */
	CREATING_STAGED,
};

/* A record of the file */
struct creating_rec {
	struct db_phstore_ctx *ctx;	/* NULL: it is not put off */
	struct db_record *base_rec;	/* NULL: it is not to be staged */
	TDB_DATA value;			/* what it has */
	bool kept;			/* for durable handles only */
	bool entered;			/* the gate, with backend rados */
};

/* in the order in which they are locked */
enum { CREATING_SHARES, CREATING_LOCKS, CREATING_RECS };

static struct {
	struct db_phstore_ctx *opens;
	enum creating_state state;
	bool reconnects;
	bool open_is_put_off;
	bool is_noted;			/* for smbd's parent */
	struct file_id file;
	uint8_t open_key[sizeof(uint32_t)];
	struct creating_rec recs[CREATING_RECS];
} creating;

static TDB_DATA creating_file(void)
{
	return make_tdb_data((const uint8_t *)&creating.file,
			     sizeof(creating.file));
}

static TDB_DATA creating_open(void)
{
	return make_tdb_data(creating.open_key, sizeof(creating.open_key));
}

static void creating_reset(void)
{
	creating.state = CREATING_NONE;
	creating.open_is_put_off = false;
	creating.recs[CREATING_SHARES].ctx = NULL;
	creating.recs[CREATING_LOCKS].ctx = NULL;
}

void dbwrap_phstore_creating_opens(struct db_phstore_ctx *opens)
{
	creating.opens = opens;
	creating_reset();
}

static void creating_begin(uint32_t open_id,
			   const struct file_id *file,
			   bool reconnects)
{
	if (lp_clustering()) {
		dbwrap_phstore_held_begin(open_id, file, reconnects ?
					  DBWRAP_PHSTORE_HELD_RECONNECT :
					  DBWRAP_PHSTORE_HELD_CREATE);
		return;
	}
	if (creating.state == CREATING_PUT_OFF) {
		return;
	}
	creating_reset();
	creating.state = CREATING_BEGUN;
	creating.reconnects = reconnects;
	creating.file = *file;
	RSIVAL(creating.open_key, 0, open_id);
}

void dbwrap_phstore_creating_begin(uint32_t open_id,
				   const struct file_id *file,
				   uint32_t name_hash)
{
	creating.is_noted = true;
	dbwrap_phstore_inflight_creating(open_id, file, name_hash);
	creating_begin(open_id, file, false);
}

void dbwrap_phstore_reconnect_begin(uint32_t open_id,
				    const struct file_id *file)
{
	struct phstore *store = dbwrap_phstore_progress()->store;
	enum phstore_err err = PHSTORE_ERR_IO;

	/*
	 * A store that takes nothing any more says so at once, and not when the
	 * handle is this smbd's: it would have to be closed then. A full one
	 * has its reserve.
	 */
	if (store != NULL) {
		err = phstore_room(store, 0);
	}
	if (err != PHSTORE_OK && err != PHSTORE_ERR_FULL) {
		return;
	}
	creating_begin(open_id, file, true);
}

bool dbwrap_phstore_creating_put_off(struct db_phstore_ctx *ctx, TDB_DATA key)
{
	struct creating_rec *rec = NULL;

	if (creating.state != CREATING_BEGUN &&
	    creating.state != CREATING_PUT_OFF)
	{
		return false;
	}
	if (ctx->is_opens && creating.reconnects &&
	    creating.state == CREATING_BEGUN &&
	    tdb_data_equal(key, creating_open()))
	{
		creating.open_is_put_off = true;
		creating.state = CREATING_PUT_OFF;
		return true;
	}
	if (ctx->is_shares) {
		rec = &creating.recs[CREATING_SHARES];
	} else if (ctx->is_locks && creating.reconnects) {
		rec = &creating.recs[CREATING_LOCKS];
	}
	if (rec == NULL || !tdb_data_equal(key, creating_file())) {
		return false;
	}
	rec->ctx = ctx;
	creating.state = CREATING_PUT_OFF;
	return true;
}

static void creating_let_go(struct creating_rec *rec)
{
	if (rec->entered) {
		rec->entered = false;
		dbwrap_phstore_gate_leave();
	}
	TALLOC_FREE(rec->base_rec);
}

/* Lock the record. base_rec NULL: the store need not have it any more. */
static void creating_fetch(struct creating_rec *rec)
{
	enum dbwrap_phstore_gate gate;
	bool persistent = false;
	bool ok;

again:
	rec->base_rec = dbwrap_fetch_locked(
		rec->ctx->base, NULL, creating_file());
	if (rec->base_rec == NULL) {
		dbwrap_phstore_failed(rec->ctx, "lock", PHSTORE_ERR_IO, true);
		return;
	}
	/* before the open: nobody waits for the gate with a record locked */
	gate = dbwrap_phstore_gate_enter(rec->ctx);
	if (gate == DBWRAP_PHSTORE_GATE_CLOSED) {
		TALLOC_FREE(rec->base_rec);
		ok = dbwrap_phstore_gate_wait(rec->ctx);
		if (ok) {
			goto again;
		}
		return;
	}
	if (gate == DBWRAP_PHSTORE_GATE_FENCED) {
		TALLOC_FREE(rec->base_rec);
		return;
	}
	rec->entered = gate == DBWRAP_PHSTORE_GATE_ENTERED;
	rec->value = dbwrap_record_get_value(rec->base_rec);
	ok = db_phstore_hdr_pull(&rec->value, &persistent, &rec->kept);
	if (!ok || !persistent) {
		/* whoever removed the last of them has staged that */
		creating_let_go(rec);
	}
}

void dbwrap_phstore_creating_lock(void)
{
	unsigned i;

	if (creating.state != CREATING_PUT_OFF) {
		creating_reset();
		return;
	}
	for (i = 0; i < CREATING_RECS; i++) {
		if (creating.recs[i].ctx != NULL) {
			/* the gate: entered with the first, or not there */
			creating_fetch(&creating.recs[i]);
		}
	}
	creating.state = CREATING_LOCKED;
}

static enum phstore_err creating_put(const struct creating_rec *rec,
				     struct phstore_txn *txn)
{
	TDB_DATA file = creating_file();
	struct phstore_blob pkey = { .data = file.dptr, .len = file.dsize };
	struct phstore_op_options opts = {
		.skip_same = true,
		/* a reconnect takes no more room than there was */
		.use_reserve = creating.reconnects,
	};
	struct phstore_blob pval = {};
	TDB_DATA form = {};
	size_t len = 0;
	NTSTATUS status;

	status = dbwrap_phstore_form(rec->ctx, &rec->value, 1, &form, &len);
	if (!NT_STATUS_IS_OK(status)) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	if (form.dsize == 0) {
		return PHSTORE_OK;
	}
	opts.durability = rec->kept ? PHSTORE_CLASS_LOCAL :
				      rec->ctx->durability;
	pval.data = form.dptr;
	pval.len = form.dsize;
	return phstore_txn_put(txn, rec->ctx->table, pkey, pval, &opts);
}

enum phstore_err dbwrap_phstore_creating_join(const struct db_phstore_ctx *ctx,
					      TDB_DATA key,
					      struct phstore_txn *txn)
{
	unsigned i;

	if (creating.state != CREATING_LOCKED || !ctx->is_opens ||
	    !tdb_data_equal(key, creating_open()))
	{
		return PHSTORE_OK;
	}
	for (i = 0; i < CREATING_RECS; i++) {
		enum phstore_err err;

		if (creating.recs[i].base_rec == NULL) {
			continue;
		}
		err = creating_put(&creating.recs[i], txn);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	creating.state = CREATING_JOINED;
	return PHSTORE_OK;
}

void dbwrap_phstore_creating_staged(enum phstore_err err, uint64_t lsn)
{
	unsigned i;

	if (creating.state != CREATING_JOINED) {
		return;
	}
	if (err != PHSTORE_OK) {
		creating.state = CREATING_LOCKED;
		return;
	}
	creating.state = CREATING_STAGED;
	for (i = 0; i < CREATING_RECS; i++) {
		const struct creating_rec *rec = &creating.recs[i];

		if (rec->base_rec != NULL && !rec->kept) {
			dbwrap_phstore_covered(rec->ctx, lsn);
		}
	}
}

/* Without its open: that is not to survive, or the store refused both. */
static void creating_stage_alone(const struct creating_rec *rec)
{
	TDB_DATA file = creating_file();
	enum phstore_err err;
	bool persistent = true;
	TDB_DATA form = {};
	size_t len = 0;
	NTSTATUS status;

	status = dbwrap_phstore_form(rec->ctx, &rec->value, 1, &form, &len);
	if (!NT_STATUS_IS_OK(status)) {
		err = PHSTORE_ERR_NO_MEMORY;
	} else if (form.dsize == 0) {
		return;
	} else if (rec->kept) {
		err = dbwrap_phstore_keep(rec->ctx, file, &form,
					  true, true, &persistent);
	} else {
		err = dbwrap_phstore_stage(
			rec->ctx, file, &form, creating.reconnects);
	}
	if (err == PHSTORE_OK && !persistent) {
		/* no room: it goes on as one that is not kept */
		status = db_phstore_base_storev(
			rec->ctx, rec->base_rec, false, false,
			&rec->value, 1, DBWRAP_REPLACE);
		if (!NT_STATUS_IS_OK(status)) {
			err = PHSTORE_ERR_IO;
		}
	}
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(rec->ctx, "store", err, true);
	}
}

void dbwrap_phstore_creating_unlock(NTSTATUS status)
{
	bool fails = !NT_STATUS_IS_OK(status);
	enum creating_state state;
	unsigned i;

	if (creating.state == CREATING_JOINED) {
		/* it came to no staging */
		creating.state = CREATING_LOCKED;
	}
	state = creating.state;
	if (state != CREATING_LOCKED && state != CREATING_STAGED) {
		creating_reset();
		return;
	}
	/* the last first */
	for (i = CREATING_RECS; i > 0; i--) {
		struct creating_rec *rec = &creating.recs[i - 1];

		if (rec->base_rec == NULL) {
			continue;
		}
		if (state == CREATING_LOCKED && !fails) {
			creating_stage_alone(rec);
		}
		creating_let_go(rec);
	}
	if (state == CREATING_LOCKED && fails) {
		/* CREATE fails and removes it */
		creating.state = CREATING_PUT_OFF;
		return;
	}
	creating_reset();
}

void dbwrap_phstore_request_end(void)
{
	bool restage;

	dbwrap_phstore_closing_reset();
	dbwrap_phstore_held_end();
	if (creating.is_noted) {
		creating.is_noted = false;
		dbwrap_phstore_inflight_creating(0, NULL, 0);
	}
	if (creating.state == CREATING_NONE) {
		return;
	}
	restage = creating.open_is_put_off;
	dbwrap_phstore_creating_lock();
	dbwrap_phstore_creating_unlock(NT_STATUS_OK);
	if (restage) {
		/* never with another record locked */
		dbwrap_phstore_restage_open(RIVAL(creating.open_key, 0));
	}
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

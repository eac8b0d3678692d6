/*
 * phstore: what a request has stored and stages with its last record
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A request changes up to three records: the file's locks, its share modes,
 * and the open, in this order in a CLOSE, without the locks in a CREATE; a
 * CREATE that takes a handle up again (a reconnect) begins with the open, too.
 * A lease that several handles of a client have is in the record of each open:
 * a break changes them all, and so does a CREATE that raises it. All are staged
 * in one transaction, with the last of them, so that a crash leaves all or
 * nothing. The others are stored in the volatile database and held back here.
 *
 * Rules, on one machine
 *
 * - Held back are the locks that a CLOSE removes. They are staged with the
 *   share mode entry, which is removed under the same lock of the file
 *   (g_lock): nobody changes the locks in between. (A CREATE's entry and what
 *   a reconnect changes: dbwrap_phstore_creating.c.)
 *
 * Rules, in a cluster
 *
 * - A value is stored in the volatile database, with its version, before it is
 *   staged, and this version is nobody else's. So what was stored can be staged
 *   later, as it was then, whatever became of the record since: the greater
 *   version counts. Held back are the locks and the share modes; they are
 *   staged with the open. The first change of the open in a reconnect is not
 *   staged at all, the last one has all of it.
 * - The gate stays entered meanwhile: who closes it waits for the request, for
 *   50 ms at most. Then, or if the epoch is another at the end, staging is
 *   refused, and smbd ends as if killed, as with any record that it has locked
 *   for too long.
 * - Another node may have changed the record, and its version, with what was
 *   held back in it, be in this store already. Then ours is refused as STALE.
 *   The share modes are left out, and the locks only if it is refused once
 *   more; what was left out is locked and staged anew, in a version of this
 *   node, before the request is answered: that K nodes have the other version
 *   nobody told us.
 *
 * Rules, for both
 *
 * - Opens with one lease: nobody else changes the record of an open that its
 *   smbd serves. So what was stored can be staged later. In a CREATE they are
 *   staged with its own open; else (a break, an acknowledgment), in one
 *   transaction, at once. That is for HELD_OPENS_MAX of them; each one more
 *   has a transaction of its own.
 * - A smbd that is killed in the middle of a CLOSE: smbd's parent stages what
 *   the volatile databases have (dbwrap_phstore_inflight.c). Nobody was told
 *   anything; if all die before that, or the node, the handle is back as it
 *   was. In the middle of a CREATE or a reconnect: there is nothing to stage,
 *   the next who takes the handle up stages all of it. In the middle of a
 *   lease's change: the scavenger notes in each open of a dead smbd when it
 *   was lost, and stages that.
 * - A request that ends without its last record stages what is held before it
 *   is answered.
 * - Requests are processed one after the other; for a second file nothing is
 *   held back.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "lib/dbwrap/dbwrap_phstore_ctdb.h"
#include "librpc/gen_ndr/file_id.h"

/* the file's locks and its share modes, and opens with one lease */
#define HELD_OPENS_MAX 254
#define HELD_MAX (2 + HELD_OPENS_MAX)

enum held_state {
	HELD_NONE,
	HELD_BEGUN,
	HELD_JOINED,		/* in the transaction with the last record */
	HELD_LEFT,		/* that is staged, something is left */
};

struct held_rec {
	struct db_phstore_ctx as;
	uint8_t key[sizeof(struct file_id)];
	size_t key_len;
	TDB_DATA value;			/* dptr NULL: removed */
	bool releases;
	bool stale;		/* does not go with the last record */
	struct phstore_version version;
};

static struct {
	enum held_state state;
	enum dbwrap_phstore_held what;
	bool takes_opens;
	bool last_is_open;		/* else the share modes */
	bool open_is_put_off;		/* of a handle that is taken up */
	struct file_id file;
	uint32_t open_id;
	uint8_t open_key[sizeof(uint32_t)];
	struct held_rec recs[HELD_MAX];
	unsigned num;
	struct phstore *entered;	/* its gate, in a cluster */
} held;

static TDB_DATA held_file(void)
{
	return make_tdb_data((const uint8_t *)&held.file, sizeof(held.file));
}

static TDB_DATA held_open(void)
{
	return make_tdb_data(held.open_key, sizeof(held.open_key));
}

static TDB_DATA held_key(const struct held_rec *rec)
{
	return make_tdb_data(rec->key, rec->key_len);
}

static void held_clear(void)
{
	unsigned i;

	for (i = 0; i < held.num; i++) {
		TALLOC_FREE(held.recs[i].value.dptr);
	}
	held.num = 0;
	held.state = HELD_NONE;
	dbwrap_phstore_inflight_held(0, tdb_null, 0);
	if (held.entered != NULL) {
		clu_leave(held.entered);
		held.entered = NULL;
	}
}

void dbwrap_phstore_held_begin(uint32_t open_id,
			       const struct file_id *file,
			       enum dbwrap_phstore_held what)
{
	if (held.num != 0 || held.open_is_put_off) {
		/* another file's: they are staged when the request ends */
		return;
	}
	held.state = HELD_BEGUN;
	held.what = what;
	held.takes_opens = false;
	held.last_is_open = lp_clustering();
	held.file = *file;
	held.open_id = open_id;
	RSIVAL(held.open_key, 0, open_id);
}

void dbwrap_phstore_close_begin(uint32_t open_id, const struct file_id *file)
{
	dbwrap_phstore_held_begin(open_id, file, DBWRAP_PHSTORE_HELD_CLOSE);
}

void dbwrap_phstore_leases_begin(uint32_t open_id)
{
	static const struct file_id none;

	if (held.state != HELD_BEGUN || held.open_id != open_id) {
		dbwrap_phstore_held_begin(
			open_id, &none, DBWRAP_PHSTORE_HELD_CREATE);
	}
	if (held.open_id != open_id) {
		return;
	}
	held.takes_opens = true;
	held.last_is_open = true;
}

void dbwrap_phstore_leases_end(void)
{
	bool took_opens = held.takes_opens;

	held.takes_opens = false;
	if (took_opens && held.open_id == 0) {
		/* none comes that they could go with */
		dbwrap_phstore_held_end();
	}
}

/* The place for what is held of this record; the later change counts. */
static struct held_rec *held_place(const struct db_phstore_ctx *ctx,
				   TDB_DATA key)
{
	unsigned i;

	for (i = 0; i < held.num; i++) {
		struct held_rec *rec = &held.recs[i];

		if (strcmp(rec->as.table, ctx->table) == 0 &&
		    tdb_data_equal(held_key(rec), key))
		{
			TALLOC_FREE(rec->value.dptr);
			return rec;
		}
	}
	if (held.num == HELD_MAX) {
		return NULL;
	}
	held.num += 1;
	return &held.recs[held.num - 1];
}

static bool held_wants(const struct db_phstore_ctx *ctx,
		       TDB_DATA key,
		       bool is_cluster)
{
	if (held.state != HELD_BEGUN) {
		return false;
	}
	if (ctx->is_opens) {
		return held.takes_opens && !tdb_data_equal(key, held_open());
	}
	if (!tdb_data_equal(key, held_file())) {
		return false;
	}
	if (ctx->is_shares) {
		return is_cluster;
	}
	return ctx->is_locks && held.what != DBWRAP_PHSTORE_HELD_CREATE;
}

/*
 * In a cluster, a handle is taken up: its open is stored twice, first as one
 * of this smbd, and last with all the rest.
 */
static bool held_put_off_open(const struct db_phstore_ctx *ctx,
			      TDB_DATA key,
			      bool is_cluster)
{
	if (!is_cluster || held.state != HELD_BEGUN ||
	    held.what != DBWRAP_PHSTORE_HELD_RECONNECT || !ctx->is_opens ||
	    held.num != 0 || held.open_is_put_off ||
	    !tdb_data_equal(key, held_open()))
	{
		return false;
	}
	held.open_is_put_off = true;
	return true;
}

bool dbwrap_phstore_held_take(const struct db_phstore_ctx *ctx,
			      TDB_DATA key,
			      const TDB_DATA *value,
			      bool releases,
			      const struct phstore_version *version)
{
	struct held_rec rec = { .as = *ctx, .releases = releases };
	struct phstore *store = NULL;
	struct held_rec *place = NULL;
	uint64_t epoch = 0;
	uint64_t floor = 0;
	enum phstore_err err;
	bool ok;

	ok = held_put_off_open(ctx, key, version != NULL);
	if (ok) {
		return true;
	}
	ok = held_wants(ctx, key, version != NULL);
	if (!ok || key.dsize > sizeof(rec.key)) {
		return false;
	}
	memcpy(rec.key, key.dptr, key.dsize);
	rec.key_len = key.dsize;
	if (ctx->is_opens && ctx->durability != PHSTORE_CLASS_LOCAL) {
		/* it had a lease: it is as long as it was */
		rec.releases = true;
	}
	if (value != NULL) {
		rec.value.dptr = talloc_memdup(
			NULL, value->dptr, value->dsize);
		if (rec.value.dptr == NULL) {
			return false;
		}
		rec.value.dsize = value->dsize;
	}
	if (version != NULL) {
		rec.version = *version;
	}
	if (version != NULL && held.entered == NULL) {
		/* it is already, for the record that is locked */
		store = dbwrap_phstore_store(false);
		err = (store != NULL) ? clu_enter(store, &epoch, &floor) :
					PHSTORE_ERR_IO;
		if (err != PHSTORE_OK) {
			TALLOC_FREE(rec.value.dptr);
			return false;
		}
		held.entered = store;
	}
	place = held_place(ctx, key);
	if (place == NULL) {
		TALLOC_FREE(rec.value.dptr);
		return false;
	}
	*place = rec;
	if (!ctx->is_opens && held.what == DBWRAP_PHSTORE_HELD_CLOSE) {
		dbwrap_phstore_inflight_held(
			ctx->inflight_idx, key, held.open_id);
	}
	return true;
}

static enum phstore_err held_put(const struct held_rec *rec,
				 struct phstore_txn *txn)
{
	struct phstore_op_options opts = {
		.durability = rec->as.durability,
		.skip_same = held.entered == NULL,
		.use_reserve = rec->releases,
		.version = rec->version,
	};
	struct phstore_blob key = { .data = rec->key, .len = rec->key_len };
	struct phstore_blob val = {
		.data = rec->value.dptr,
		.len = rec->value.dsize,
	};

	if (rec->value.dptr == NULL) {
		return phstore_txn_delete(txn, rec->as.table, key, &opts);
	}
	return phstore_txn_put(txn, rec->as.table, key, val, &opts);
}

enum phstore_err dbwrap_phstore_held_join(const struct db_phstore_ctx *ctx,
					  TDB_DATA key,
					  struct phstore_txn *txn)
{
	bool is_last;
	unsigned i;

	if (held.state != HELD_BEGUN ||
	    (held.num == 0 && !held.open_is_put_off))
	{
		return PHSTORE_OK;
	}
	if (held.last_is_open) {
		is_last = ctx->is_opens && tdb_data_equal(key, held_open());
	} else {
		is_last = ctx->is_shares && tdb_data_equal(key, held_file());
	}
	if (!is_last) {
		return PHSTORE_OK;
	}
	for (i = 0; i < held.num; i++) {
		enum phstore_err err;

		if (held.recs[i].stale) {
			continue;
		}
		err = held_put(&held.recs[i], txn);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	held.state = HELD_JOINED;
	return PHSTORE_OK;
}

/* The next try leaves one more out. False: none is left in. */
static bool held_leave_out(void)
{
	struct held_rec *found = NULL;
	unsigned i;

	for (i = 0; i < held.num; i++) {
		if (!held.recs[i].stale &&
		    (found == NULL || held.recs[i].as.is_shares))
		{
			found = &held.recs[i];
		}
	}
	if (found == NULL) {
		return false;
	}
	found->stale = true;
	return true;
}

bool dbwrap_phstore_held_staged(enum phstore_err err, uint64_t lsn)
{
	unsigned num = 0;
	unsigned i;

	if (held.state != HELD_JOINED) {
		return false;
	}
	if (err != PHSTORE_OK) {
		held.state = HELD_BEGUN;
		return err == PHSTORE_ERR_STALE && held_leave_out();
	}
	for (i = 0; i < held.num; i++) {
		if (held.recs[i].stale) {
			held.recs[num] = held.recs[i];
			num += 1;
			continue;
		}
		dbwrap_phstore_covered(&held.recs[i].as, lsn);
		TALLOC_FREE(held.recs[i].value.dptr);
	}
	held.num = num;
	held.open_is_put_off = false;
	held.state = HELD_LEFT;
	if (num == 0) {
		held_clear();
	}
	return false;
}

/* On one machine: a durable handle's open loses its place in the store. */
static enum phstore_err held_unkeep(const struct held_rec *held_rec)
{
	struct db_context *db = NULL;
	struct db_record *rec = NULL;
	TDB_DATA value = {};
	NTSTATUS status;

	db = dbwrap_phstore_inflight_db(held_rec->as.inflight_idx);
	if (db == NULL) {
		return PHSTORE_ERR_FULL;
	}
	rec = dbwrap_fetch_locked(db, NULL, held_key(held_rec));
	if (rec == NULL) {
		return PHSTORE_ERR_NOT_READY;
	}
	value = dbwrap_record_get_value(rec);
	status = dbwrap_record_storev(
		rec, &value, 1,
		DBWRAP_STORE_PERSISTENT | DBWRAP_STORE_PHSTORE_KEPT);
	TALLOC_FREE(rec);
	return NT_STATUS_IS_OK(status) ? PHSTORE_OK : PHSTORE_ERR_FULL;
}

/*
 * In a cluster: stage what the record is now, in a version of this node. err:
 * why what is held was refused.
 */
static enum phstore_err held_stage_anew(const struct held_rec *held_rec,
					enum phstore_err err)
{
	struct db_record *rec = NULL;
	struct clu_rec *crec = NULL;
	TDB_DATA value = {};
	NTSTATUS status;
	int flag;

	if (held.entered == NULL) {
		bool is_kept = held_rec->as.is_opens &&
			held_rec->as.durability == PHSTORE_CLASS_LOCAL;

		return is_kept ? held_unkeep(held_rec) : err;
	}
	rec = clu_fetch_locked(held_rec->as.db, NULL, held_key(held_rec));
	if (rec == NULL) {
		return PHSTORE_ERR_NOT_READY;
	}
	crec = rec->private_data;
	if (!clu_is_persistent(&crec->hdr)) {
		/* STALE: who removed the last of them has staged that */
		TALLOC_FREE(rec);
		return (err == PHSTORE_ERR_STALE) ? PHSTORE_OK : err;
	}
	flag = (crec->hdr.flags & PHVOL_KEPT) ? DBWRAP_STORE_PHSTORE_KEPT :
						DBWRAP_STORE_PHSTORE_SURE;
	DBG_NOTICE("%s: changed by another node meanwhile, staged anew\n",
		   held_rec->as.table);
	value = dbwrap_record_get_value(rec);
	status = dbwrap_record_storev(
		rec, &value, 1, DBWRAP_STORE_PERSISTENT | flag);
	TALLOC_FREE(rec);
	return NT_STATUS_IS_OK(status) ? PHSTORE_OK : PHSTORE_ERR_IO;
}

/* one NULL: all of them, in one transaction */
static enum phstore_err held_stage(const struct held_rec *one)
{
	struct phstore *store = dbwrap_phstore_store(false);
	struct phstore_txn *txn = NULL;
	enum phstore_err err = PHSTORE_OK;
	uint64_t lsn = 0;
	unsigned i;

	if (store == NULL) {
		return PHSTORE_ERR_IO;
	}
	txn = phstore_txn_new(NULL, store);
	if (txn == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	for (i = 0; i < held.num && err == PHSTORE_OK; i++) {
		if (one == NULL || one == &held.recs[i]) {
			err = held_put(&held.recs[i], txn);
		}
	}
	if (err == PHSTORE_OK) {
		err = phstore_stage(txn, &lsn);
	}
	for (i = 0; i < held.num && err == PHSTORE_OK; i++) {
		if (one == NULL || one == &held.recs[i]) {
			dbwrap_phstore_staged(&held.recs[i].as, lsn);
		}
	}
	talloc_free(txn);
	return err;
}

static void held_stage_each(void)
{
	unsigned i;

	for (i = 0; i < held.num; i++) {
		struct held_rec *rec = &held.recs[i];
		enum phstore_err err;

		err = held_stage(rec);
		if (err == PHSTORE_ERR_STALE || err == PHSTORE_ERR_FULL) {
			/* full: what is kept goes out of the store */
			err = held_stage_anew(rec, err);
		}
		if (err != PHSTORE_OK) {
			/* a lease: its answer is not sent, smbd goes on */
			dbwrap_phstore_failed(
				&rec->as, "store", err, !rec->as.is_opens);
		}
	}
}

/* On one machine: as with a record locked. False: do not stage. */
static bool held_gate(bool *entered)
{
	enum dbwrap_phstore_gate gate;
	bool ok;

	*entered = false;
	if (held.entered != NULL) {
		return true;
	}
	do {
		gate = dbwrap_phstore_gate_enter(&held.recs[0].as);
		ok = gate == DBWRAP_PHSTORE_GATE_CLOSED &&
		     dbwrap_phstore_gate_wait(&held.recs[0].as);
	} while (ok);
	*entered = gate == DBWRAP_PHSTORE_GATE_ENTERED;
	return *entered || gate == DBWRAP_PHSTORE_GATE_NONE;
}

static void held_stage_all(void)
{
	enum phstore_err err;
	bool entered;
	bool ok;

	ok = held_gate(&entered);
	if (!ok) {
		/* it was said, and this process should have ended */
		return;
	}
	err = held_stage(NULL);
	if (err != PHSTORE_OK) {
		held_stage_each();
	}
	if (entered) {
		dbwrap_phstore_gate_leave();
	}
}

void dbwrap_phstore_held_end(void)
{
	/* what is staged now is not held back once more */
	held.state = HELD_NONE;
	if (held.open_is_put_off) {
		held.open_is_put_off = false;
		dbwrap_phstore_restage_open(held.open_id);
	}
	if (held.num > 0) {
		held_stage_all();
	}
	if (held.num != 0 || held.entered != NULL) {
		held_clear();
	}
}

/*
 * phstore: a record of a volatile ctdb database, locked and changed
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The rules are in dbwrap_phstore_ctdb.c. What is staged is the durable form
 * and one byte behind it: 1, or 0 for a record that is not persistent any
 * more.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "lib/dbwrap/dbwrap_phstore_ctdb.h"
#include "lib/util/server_id.h"
#include "lib/cluster_support.h"
#include "ctdbd_conn.h"

static NTSTATUS clu_storev(struct db_record *rec,
			   const TDB_DATA *dbufs,
			   int num_dbufs,
			   int flag);
static NTSTATUS clu_delete(struct db_record *rec);

struct db_phstore_ctx *clu_ctx_of(struct db_context *db)
{
	return talloc_get_type_abort(db->private_data, struct db_phstore_ctx);
}

/* NULL for a tool that may not open the store: it sees what ctdb has. */
struct phstore *clu_store(struct db_phstore_ctx *ctx)
{
	return dbwrap_phstore_store(ctx->rdonly);
}

/*
 * A process may hold several records. While it holds one it has entered the
 * gate and must not wait for it: who closes it waits for us to let go, and so
 * would ctdb, for the chain lock.
 */
static struct {
	unsigned int held;
	uint64_t epoch;
} clu_gate;

enum phstore_err clu_enter(struct phstore *store,
			   uint64_t *epoch,
			   uint64_t *floor)
{
	struct phstore_gate gate = {};
	enum phstore_err err;

	if (clu_gate.held == 0) {
		err = phstore_gate_enter(store);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	/* the floor: as of now, with the record locked */
	(void)phstore_gate_get(store, &gate);
	if (clu_gate.held == 0) {
		clu_gate.epoch = gate.epoch;
	}
	clu_gate.held += 1;
	*epoch = clu_gate.epoch;
	*floor = (gate.epoch == *epoch) ? gate.floor : 0;
	return PHSTORE_OK;
}

void clu_leave(struct phstore *store)
{
	clu_gate.held -= 1;
	if (clu_gate.held == 0) {
		phstore_gate_leave(store);
	}
}

bool clu_epoch(struct phstore *store, uint64_t *epoch)
{
	struct phstore_gate gate = {};
	bool is_tool = dbwrap_phstore_is_rdonly();

	if (is_tool) {
		*epoch = 0;
		return true;
	}
	if (clu_gate.held != 0) {
		*epoch = clu_gate.epoch;
		return true;
	}
	(void)phstore_gate_get(store, &gate);
	*epoch = gate.epoch;
	return gate.open;
}

bool clu_wait(struct db_phstore_ctx *ctx)
{
	if (clu_gate.held != 0) {
		/* others have gone on without this node: too late */
		dbwrap_phstore_failed(ctx, "access", PHSTORE_ERR_FENCED, true);
		return false;
	}
	return dbwrap_phstore_gate_wait(ctx);
}

/*
 * Compare a value of the volatile database with the store, if that was not
 * done in this epoch. *value is what the record is; it may point into raw or
 * be a child of mem_ctx.
 */
enum clu_look clu_look(struct db_phstore_ctx *ctx,
			      TALLOC_CTX *mem_ctx,
			      struct phstore *store,
			      TDB_DATA key,
			      TDB_DATA raw,
			      uint64_t epoch,
			      struct phvol_hdr *hdr,
			      TDB_DATA *value)
{
	struct phstore_blob pkey = { .data = key.dptr, .len = key.dsize };
	const uint8_t *buf = raw.dptr;
	size_t len = raw.dsize;
	struct phstore_record rec = {};
	enum phstore_err err;
	uint8_t mark = CLU_FORM_PERSISTENT;
	size_t form_len = 0;
	uint8_t *tmp = NULL;
	bool ok;

	ok = phvol_pull(&buf, &len, hdr);
	if (!ok) {
		DBG_ERR("%s: a record without a phstore header: do all nodes "
			"have the same phstore:backend?\n", ctx->table);
		return CLU_LOOK_FAILED;
	}
	*value = make_tdb_data(buf, len);
	if (store == NULL || hdr->checked == epoch) {
		return CLU_LOOK_OK;
	}
	if (hdr->checked > epoch && epoch != 0) {
		/* others have begun an epoch this node does not know of */
		return CLU_LOOK_AGAIN;
	}

	err = phstore_get(mem_ctx, store, ctx->table, pkey, &rec);
	if (epoch == 0 && (err != PHSTORE_OK ||
			   rec.version.epoch < hdr->epoch ||
			   (rec.version.epoch == hdr->epoch &&
			    rec.version.seq <= hdr->seq)))
	{
		/* a tool: without the gate it shows what is newer */
		return CLU_LOOK_OK;
	}
	if (err == PHSTORE_ERR_NOT_FOUND) {
		if (!(hdr->flags & PHVOL_STORED)) {
			/* plain, or new; an old deletion is forgotten */
			hdr->flags = 0;
			hdr->epoch = hdr->seq = 0;
			return CLU_LOOK_OK;
		}
		hdr->epoch = hdr->seq = 0;
		hdr->flags = 0;
	} else if (err != PHSTORE_OK || rec.value.len == 0) {
		dbwrap_phstore_failed(ctx, "read", err, false);
		return CLU_LOOK_FAILED;
	} else {
		const uint8_t *bytes = rec.value.data;

		if ((hdr->flags & PHVOL_STORED) &&
		    hdr->epoch == rec.version.epoch &&
		    hdr->seq == rec.version.seq)
		{
			return CLU_LOOK_OK;
		}
		form_len = rec.value.len - 1;
		mark = bytes[form_len];
		hdr->flags = PHVOL_STORED;
		hdr->epoch = rec.version.epoch;
		hdr->seq = rec.version.seq;
		hdr->origin = UINT32_MAX;
		if (dbwrap_phstore_class_is_kept(ctx, rec.durability)) {
			hdr->flags |= PHVOL_KEPT;
		}
		if (mark == CLU_FORM_PLAIN) {
			hdr->flags |= PHVOL_PLAIN;
			if (raw.dsize == 0) {
				/* plain opens, and all nodes were down */
				form_len = 0;
			}
		}
	}
	DBG_INFO("%s: %s, version %"PRIu64".%"PRIu64"\n", ctx->table,
		 form_len != 0 ? "taken from the store" : "gone",
		 hdr->epoch, hdr->seq);

	tmp = talloc_size(mem_ctx, len + form_len + 1);
	if (tmp == NULL) {
		return CLU_LOOK_FAILED;
	}
	value->dsize = phstore_canon_merge(ctx->kind, buf, len,
					   rec.value.data, form_len,
					   (hdr->epoch << 24) ^ hdr->seq ^
					   (epoch << 40), tmp);
	value->dptr = tmp;
	return CLU_LOOK_OK;
}

static int clu_rec_destructor(struct clu_rec *crec)
{
	if (crec->entered) {
		crec->entered = false;
		clu_leave(crec->store);
	}
	return 0;
}

bool clu_is_persistent(const struct phvol_hdr *hdr)
{
	return (hdr->flags & (PHVOL_STORED | PHVOL_PLAIN)) == PHVOL_STORED;
}

/* The record is locked: is it ours to hand out? */
static enum clu_look clu_rec_init(struct db_context *db,
				  struct db_record *rec,
				  struct clu_rec *crec,
				  struct db_record *base_rec)
{
	struct db_phstore_ctx *ctx = clu_ctx_of(db);
	TDB_DATA raw = dbwrap_record_get_value(base_rec);
	struct phstore *store = clu_store(ctx);
	TDB_DATA value = {};
	enum clu_look look;
	enum phstore_err err;
	bool is_tool = dbwrap_phstore_is_rdonly();

	crec->ctx = ctx;
	crec->base_rec = base_rec;
	if (store == NULL && !ctx->rdonly) {
		return CLU_LOOK_FAILED;
	}
	if (store != NULL && !is_tool) {
		crec->store = store;
		err = clu_enter(crec->store, &crec->epoch, &crec->floor);
		if (err != PHSTORE_OK) {
			return CLU_LOOK_AGAIN;
		}
		crec->entered = true;
	}
	if (raw.dsize != 0) {
		/* callers may change what they are given */
		crec->raw.dptr = talloc_memdup(crec, raw.dptr, raw.dsize);
		if (crec->raw.dptr == NULL) {
			return CLU_LOOK_FAILED;
		}
		crec->raw.dsize = raw.dsize;
	}
	look = clu_look(ctx, crec, store, base_rec->key, raw,
			crec->epoch, &crec->hdr, &value);
	if (look != CLU_LOOK_OK) {
		return look;
	}
	crec->old_len = value.dsize;
	*rec = (struct db_record) {
		.db = db,
		.key = dbwrap_record_get_key(base_rec),
		.value = value,
		.value_valid = true,
		.flags.persistent = clu_is_persistent(&crec->hdr),
		.storev = clu_storev,
		.delete_rec = clu_delete,
		.private_data = crec,
	};
	return CLU_LOOK_OK;
}

struct db_record *clu_fetch_locked(struct db_context *db,
					  TALLOC_CTX *mem_ctx,
					  TDB_DATA key)
{
	struct db_phstore_ctx *ctx = clu_ctx_of(db);
	struct db_record *base_rec = NULL;
	struct db_record *rec = NULL;
	struct clu_rec *crec = NULL;
	enum clu_look look;
	bool ok;

again:
	rec = talloc_zero(mem_ctx, struct db_record);
	if (rec == NULL) {
		return NULL;
	}
	/* freed in this order: leave the gate, then unlock */
	crec = talloc_zero(rec, struct clu_rec);
	if (crec == NULL) {
		TALLOC_FREE(rec);
		return NULL;
	}
	talloc_set_destructor(crec, clu_rec_destructor);
	base_rec = dbwrap_fetch_locked(ctx->base, crec, key);
	if (base_rec == NULL) {
		TALLOC_FREE(rec);
		return NULL;
	}
	look = clu_rec_init(db, rec, crec, base_rec);
	if (look == CLU_LOOK_OK) {
		return rec;
	}
	if (look == CLU_LOOK_AGAIN) {
		TALLOC_FREE(rec);
		ok = clu_wait(ctx);
		if (ok) {
			goto again;
		}
		return NULL;
	}
	TALLOC_FREE(rec);
	return NULL;
}

NTSTATUS clu_form(struct db_phstore_ctx *ctx,
		  TALLOC_CTX *mem_ctx,
		  const TDB_DATA *dbufs,
		  int num_dbufs,
		  uint8_t mark,
		  TDB_DATA *form)
{
	size_t need = 0;
	size_t ofs = 0;
	size_t len;
	int i;

	*form = tdb_null;
	for (i = 0; i < num_dbufs; i++) {
		need += dbufs[i].dsize;
		if (need < dbufs[i].dsize) {
			return NT_STATUS_INVALID_PARAMETER;
		}
	}
	form->dptr = talloc_size(mem_ctx, need + 1);
	if (form->dptr == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	for (i = 0; i < num_dbufs; i++) {
		if (dbufs[i].dsize == 0) {
			continue;
		}
		memcpy(form->dptr + ofs, dbufs[i].dptr, dbufs[i].dsize);
		ofs += dbufs[i].dsize;
	}
	len = need;
	/* A value that does not parse is kept as it is. */
	(void)phstore_canon(ctx->kind, form->dptr, &len);
	if (len != 0) {
		form->dptr[len] = mark;
		form->dsize = len + 1;
	}
	return NT_STATUS_OK;
}

/*
 * Is that what the store has, under the version of the volatile record? A
 * version another node gave in this epoch does not count: that it is here
 * does not say that K copies are.
 */
static bool clu_is_same(struct clu_rec *crec,
			const struct db_phstore_ctx *ctx,
			TDB_DATA key,
			TDB_DATA form)
{
	struct phstore_blob pkey = { .data = key.dptr, .len = key.dsize };
	struct phstore_record rec = {};
	enum phstore_err err;
	int cmp;

	if (!clu_is_persistent(&crec->hdr) ||
	    (crec->hdr.epoch == crec->epoch &&
	     crec->hdr.origin != get_my_vnn()))
	{
		return false;
	}
	err = phstore_get(crec, crec->store, ctx->table, pkey, &rec);
	if (err != PHSTORE_OK ||
	    rec.version.epoch != crec->hdr.epoch ||
	    rec.version.seq != crec->hdr.seq ||
	    rec.value.len != form.dsize)
	{
		return false;
	}
	cmp = memcmp(rec.value.data, form.dptr, form.dsize);
	if (cmp != 0) {
		return false;
	}
	dbwrap_phstore_covered(ctx, rec.lsn);
	return true;
}

void clu_next_version(struct clu_rec *crec, struct phvol_hdr *hdr)
{
	uint64_t seq = 0;

	if (crec->hdr.epoch == crec->epoch) {
		seq = crec->hdr.seq;
	}
	hdr->epoch = crec->epoch;
	hdr->seq = MAX(seq, crec->floor) + 1;
	hdr->origin = get_my_vnn();
}

NTSTATUS clu_base_store(struct clu_rec *crec,
			struct phvol_hdr *hdr,
			const TDB_DATA *dbufs,
			int num_dbufs)
{
	static const uint8_t zeros[DB_PHSTORE_PAD_OPEN] = {};
	size_t unit = crec->ctx->pad;
	uint8_t buf[PHVOL_HDR_LEN];
	TDB_DATA all[num_dbufs + 2];
	size_t full = sizeof(buf);
	int i;

	all[0] = make_tdb_data(buf, sizeof(buf));
	for (i = 0; i < num_dbufs; i++) {
		all[i + 1] = dbufs[i];
		full += dbufs[i].dsize;
	}
	hdr->pad = 0;
	if (full > sizeof(buf)) {
		hdr->pad = (unit - full % unit) % unit;
	}
	all[num_dbufs + 1] = make_tdb_data(zeros, hdr->pad);
	hdr->checked = crec->epoch;
	phvol_push(buf, hdr);
	return dbwrap_record_storev(crec->base_rec, all, num_dbufs + 2, 0);
}

/* The store refused: the volatile database is put back as it was. */
static void clu_undo(struct clu_rec *crec, const char *what,
		     enum phstore_err err, bool is_fatal)
{
	NTSTATUS status;

	if (crec->raw.dsize == 0) {
		status = dbwrap_record_delete(crec->base_rec);
	} else {
		status = dbwrap_record_storev(
			crec->base_rec, &crec->raw, 1, 0);
	}
	if (!NT_STATUS_IS_OK(status)) {
		DBG_ERR("%s: can not undo a %s: %s\n",
			crec->ctx->table, what, nt_errstr(status));
		is_fatal = true;
	}
	dbwrap_phstore_failed(crec->ctx, what, err, is_fatal);
}

/* As what a change is staged: for durable handles only, or not. */
static struct db_phstore_ctx clu_staged_as(const struct clu_rec *crec,
					   bool kept)
{
	return kept ? dbwrap_phstore_as_kept(crec->ctx) : *crec->ctx;
}

/*
 * Another node changed the record in this epoch such that no handle that
 * survives is in it. If that node dies with what it did, what is opened here
 * now must not be lost to the older record.
 */
static bool clu_is_theirs(const struct clu_rec *crec)
{
	return (crec->hdr.flags & (PHVOL_TOMB | PHVOL_PLAIN)) &&
	       crec->hdr.epoch == crec->epoch &&
	       crec->hdr.origin != get_my_vnn();
}

/* The volatile record has hdr: the store's is deleted, in that version. */
static NTSTATUS clu_stage_removal(struct db_record *rec,
				  struct clu_rec *crec,
				  bool kept,
				  const struct phvol_hdr *hdr)
{
	struct db_phstore_ctx as = clu_staged_as(crec, kept);
	struct phstore_version version = {
		.epoch = hdr->epoch,
		.seq = hdr->seq,
	};
	enum phstore_err err;

	err = dbwrap_phstore_stage_version(
		&as, rec->key, NULL, true, &version);
	if (err != PHSTORE_OK) {
		clu_undo(crec, "removal", err, true);
		return dbwrap_phstore_map_err(err);
	}
	crec->hdr = *hdr;
	rec->flags.persistent = false;
	return NT_STATUS_OK;
}

/* Deleted in the store, and so that nobody forgets it too early. */
static NTSTATUS clu_remove(struct db_record *rec, struct clu_rec *crec)
{
	bool kept = (crec->hdr.flags & PHVOL_KEPT) != 0;
	struct phvol_hdr hdr = { .flags = PHVOL_TOMB };
	NTSTATUS status;

	clu_next_version(crec, &hdr);
	status = clu_base_store(crec, &hdr, NULL, 0);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	return clu_stage_removal(rec, crec, kept, &hdr);
}

/*
 * The store has no room for what durable handles want in it: they are not
 * kept any more, and go on. tried: the version that was refused.
 */
static NTSTATUS clu_unkeep(struct db_record *rec,
			   struct clu_rec *crec,
			   const struct phvol_hdr *tried,
			   const TDB_DATA *dbufs,
			   int num_dbufs)
{
	struct phvol_hdr hdr = *tried;
	NTSTATUS status;

	hdr.flags = PHVOL_TOMB;
	hdr.seq += 1;
	status = clu_base_store(crec, &hdr, dbufs, num_dbufs);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	return clu_stage_removal(rec, crec, true, &hdr);
}

static NTSTATUS clu_do_storev(struct db_record *rec,
			      const TDB_DATA *dbufs,
			      int num_dbufs,
			      int flag)
{
	struct clu_rec *crec = rec->private_data;
	struct db_phstore_ctx *ctx = crec->ctx;
	bool persistent = ((flag & DBWRAP_STORE_PERSISTENT) != 0);
	bool was_persistent = clu_is_persistent(&crec->hdr);
	bool stored = (crec->hdr.flags & PHVOL_STORED) != 0;
	bool was_kept = stored && (crec->hdr.flags & PHVOL_KEPT);
	bool kept = dbwrap_phstore_is_kept(flag, was_kept);
	/* a lock is taken or a waiter comes: the durable form is the same */
	bool same = kept && persistent && was_persistent &&
		    !(flag & DBWRAP_STORE_PHSTORE_KEPT);
	bool theirs = clu_is_theirs(crec);
	bool stage = false;
	struct db_phstore_ctx as = {};
	struct phvol_hdr hdr = crec->hdr;
	struct phstore_version version = {};
	uint8_t mark = CLU_FORM_PERSISTENT;
	TDB_DATA form = {};
	enum phstore_err err;
	NTSTATUS status;

	if (crec->store == NULL) {
		return NT_STATUS_MEDIA_WRITE_PROTECTED;
	}
	/* the last persistent handle leaves: that is acked */
	as = clu_staged_as(crec, (kept && (was_kept || !was_persistent)) ||
				 (theirs && !persistent));
	if (!persistent) {
		mark = CLU_FORM_PLAIN;
	}
	if (same) {
		/* it is there */
	} else if (persistent || stored || theirs) {
		status = clu_form(ctx, crec, dbufs, num_dbufs, mark, &form);
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
	}
	if (same) {
		/* it is there */
	} else if (form.dsize == 0 && stored) {
		size_t all = 0;
		int i;

		/* waiters may be left: they go with the tombstone */
		for (i = 0; i < num_dbufs; i++) {
			all += dbufs[i].dsize;
		}
		if (all == 0) {
			return clu_remove(rec, crec);
		}
		hdr.flags = PHVOL_TOMB;
		stage = true;
	} else if (form.dsize != 0 && persistent) {
		same = clu_is_same(crec, &as, rec->key, form);
		stage = !same;
		hdr.flags = PHVOL_STORED | (kept ? PHVOL_KEPT : 0);
	} else if (form.dsize != 0 && (was_persistent || theirs)) {
		hdr.flags = PHVOL_STORED | PHVOL_PLAIN |
			    (kept || theirs ? PHVOL_KEPT : 0);
		stage = true;
	}
	if (stage) {
		clu_next_version(crec, &hdr);
		version.epoch = hdr.epoch;
		version.seq = hdr.seq;
	}

	status = clu_base_store(crec, &hdr, dbufs, num_dbufs);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_ERR("%s: volatile store failed: %s\n",
			ctx->table, nt_errstr(status));
		return status;
	}
	if (stage) {
		/* an unlock, one of several closes, a disconnect */
		bool releases = was_persistent &&
				form.dsize <= crec->old_len + 1;
		bool is_removal = !persistent || form.dsize == 0;

		err = dbwrap_phstore_stage_version(
			&as, rec->key,
			(form.dsize != 0) ? &form : NULL,
			releases || is_removal, &version);
		if (err != PHSTORE_OK && kept && !stored) {
			/* granted as ever, and not kept */
			hdr = crec->hdr;
			TALLOC_FREE(form.dptr);
			return clu_base_store(crec, &hdr, dbufs, num_dbufs);
		}
		if (err == PHSTORE_ERR_FULL && kept && was_kept &&
		    form.dsize != 0)
		{
			return clu_unkeep(rec, crec, &hdr, dbufs, num_dbufs);
		}
		if (err != PHSTORE_OK) {
			clu_undo(crec, is_removal ? "removal" : "store", err,
				 is_removal || ctx->put_must_work);
			return dbwrap_phstore_map_err(err);
		}
	}
	TALLOC_FREE(form.dptr);
	crec->hdr = hdr;
	rec->flags.persistent = clu_is_persistent(&hdr);
	return NT_STATUS_OK;
}

static NTSTATUS clu_storev(struct db_record *rec,
			   const TDB_DATA *dbufs,
			   int num_dbufs,
			   int flag)
{
	struct clu_rec *crec = rec->private_data;
	bool matters = (crec->hdr.flags & PHVOL_STORED) != 0 ||
		       (flag & DBWRAP_STORE_PERSISTENT) != 0;
	NTSTATUS status;

	if (!matters) {
		return clu_do_storev(rec, dbufs, num_dbufs, flag);
	}
	dbwrap_phstore_number_lock(crec->ctx, dbufs, num_dbufs);
	dbwrap_phstore_inflight_begin(crec->ctx->inflight_idx, rec->key);
	status = clu_do_storev(rec, dbufs, num_dbufs, flag);
	dbwrap_phstore_number_unlock(status);
	dbwrap_phstore_inflight_end();
	return status;
}

static NTSTATUS clu_delete(struct db_record *rec)
{
	struct clu_rec *crec = rec->private_data;
	NTSTATUS status;

	if (crec->store == NULL) {
		return NT_STATUS_MEDIA_WRITE_PROTECTED;
	}
	if (crec->hdr.flags & PHVOL_STORED) {
		dbwrap_phstore_number_lock(crec->ctx, NULL, 0);
		dbwrap_phstore_inflight_begin(
			crec->ctx->inflight_idx, rec->key);
		status = clu_remove(rec, crec);
		dbwrap_phstore_number_unlock(status);
		dbwrap_phstore_inflight_end();
		return status;
	}
	if (crec->hdr.flags & PHVOL_TOMB) {
		/* deleted, written again without being marked, deleted */
		struct phvol_hdr hdr = crec->hdr;

		return clu_base_store(crec, &hdr, NULL, 0);
	}
	status = dbwrap_record_delete(crec->base_rec);
	rec->flags.persistent = false;
	return status;
}


/*
 * A smbd of this node was killed between the volatile store and staging:
 * stage what it had stored, under the version it had given. Nobody else has
 * given that version, so if it was staged already this changes nothing. If
 * the record was changed since, it was staged with that.
 */
void clu_restage(struct db_context *db, TDB_DATA key)
{
	struct db_phstore_ctx *ctx = clu_ctx_of(db);
	struct phstore *store = clu_store(ctx);
	struct phstore_version version = {};
	struct db_phstore_ctx as = {};
	struct db_record *rec = NULL;
	struct clu_rec *crec = NULL;
	TDB_DATA value = {};
	TDB_DATA form = {};
	enum phstore_err err;
	NTSTATUS status;

	if (store == NULL || !phstore_gate_is_open(store)) {
		/* the next epoch drops it: nothing of it was acknowledged */
		return;
	}
	rec = clu_fetch_locked(db, talloc_tos(), key);
	if (rec == NULL) {
		return;
	}
	crec = rec->private_data;
	if (crec->hdr.epoch != crec->epoch ||
	    crec->hdr.origin != get_my_vnn())
	{
		goto done;
	}
	if (crec->hdr.flags & PHVOL_STORED) {
		value = dbwrap_record_get_value(rec);
		status = clu_form(ctx, crec, &value, 1,
				  (crec->hdr.flags & PHVOL_PLAIN) ?
				  CLU_FORM_PLAIN : CLU_FORM_PERSISTENT,
				  &form);
		if (!NT_STATUS_IS_OK(status)) {
			goto done;
		}
	} else if (!(crec->hdr.flags & PHVOL_TOMB)) {
		goto done;
	}
	version.epoch = crec->hdr.epoch;
	version.seq = crec->hdr.seq;
	as = clu_staged_as(crec, crec->hdr.flags & PHVOL_KEPT);
	err = dbwrap_phstore_stage_version(
		&as, key, (form.dsize != 0) ? &form : NULL, true, &version);
	if (err != PHSTORE_OK && err != PHSTORE_ERR_STALE) {
		dbwrap_phstore_failed(ctx, "restage", err, false);
	}
done:
	TALLOC_FREE(rec);
}

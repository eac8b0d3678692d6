/*
 * phstored: what the replication core asks of the store
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The core's key is table, NUL, key. What is to be applied is gathered and
 * written as one frame before anything that follows from it: a message, a
 * sync, a read. One item of a stream is never split (P2).
 */

#include "phd_ctdb.h"

#include <inttypes.h>
#include <string.h>

size_t phd_full_key(uint8_t *buf, const char *table, struct phstore_blob key)
{
	size_t len = strlen(table) + 1;

	memcpy(buf, table, len);
	memcpy(buf + len, key.data, key.len);
	return len + key.len;
}

/* false: a peer sent a key without a table */
static bool split_key(struct phstore_blob full, const char **table,
		      struct phstore_blob *key)
{
	const char *end = memchr(full.data, '\0', full.len);
	size_t len;

	if (end == NULL) {
		return false;
	}
	len = (size_t)(end - (const char *)full.data);
	*table = full.data;
	*key = (struct phstore_blob) {
		.data = end + 1,
		.len = full.len - len - 1,
	};
	return len > 0 && len <= PHSTORE_TABLE_MAX && key->len > 0 &&
	       key->len <= PHSTORE_KEY_MAX;
}

static bool ended(struct phd_ctdb *d)
{
	return d->phd->ended || d->resigned;
}

static void store_failed(struct phd_ctdb *d, enum phstore_err err,
			 const char *what)
{
	if (err == PHSTORE_ERR_FULL) {
		phd_ctdb_resign(d, what);
		return;
	}
	phd_fail(d->phd, PHD_EXIT_FAILED, "%s: %s; this node leaves the "
		 "cluster's members", what, phstore_last_error());
}

static void snaps_old(struct phd_ctdb *d)
{
	d->snaps[0].old = true;
	d->snaps[1].old = true;
}

void phd_ctdb_snaps_free(struct phd_ctdb *d)
{
	TALLOC_FREE(d->snaps[0].snap);
	TALLOC_FREE(d->snaps[1].snap);
}

void phd_ctdb_flush_batch(struct phd_ctdb *d)
{
	uint64_t end_lsn = 0;
	enum phstore_err err;

	if (d->batch_num == 0) {
		return;
	}
	if (d->phd->ended) {
		/* it may be half of a transaction */
		d->batch_num = 0;
		return;
	}
	err = phstore_ship_apply(d->phd->ship, d->batch, d->batch_num,
				 &end_lsn);
	d->num_applied += d->batch_num;
	d->batch_num = 0;
	d->batch_bytes = 0;
	TALLOC_FREE(d->batch_mem);
	if (end_lsn != 0) {
		snaps_old(d);
	}
	if (err != PHSTORE_OK) {
		store_failed(d, err,
			     "cannot store what came from another node");
	}
}

static void op_send(void *p, uint8_t to, const uint8_t *buf, size_t len)
{
	struct phd_ctdb *d = p;
	struct phd_message *m = NULL;

	phd_ctdb_flush_batch(d);
	if (ended(d) && !d->leaving) {
		return;
	}
	if (to != d->view.self) {
		d->num_sent += 1;
		d->net.ops->send(&d->net, to, buf, len);
		return;
	}
	m = talloc_zero(d, struct phd_message);
	if (m != NULL) {
		m->buf = talloc_memdup(m, buf, len);
		m->len = len;
	}
	if (m == NULL || m->buf == NULL) {
		talloc_free(m);
		return;		/* as if lost */
	}
	*d->self_end = m;
	d->self_end = &m->next;
	phd_ctdb_later(d);
}

static void op_meta(void *p, const struct repl_meta *meta)
{
	struct phd_ctdb *d = p;
	enum phstore_err err;

	phd_ctdb_flush_batch(d);
	if (ended(d)) {
		return;
	}
	/* nobody stages any more when a promise is given */
	phd_ctdb_close(d, "a new epoch is being formed");
	if (ended(d)) {
		return;
	}
	err = phd_meta_write(d, meta);
	if (err != PHSTORE_OK) {
		store_failed(d, err, "cannot remember a promise");
	}
}

/* The bytes belong to a message: the batch needs its own. */
static bool batch_add(struct phd_ctdb *d, const struct repl_record *rec)
{
	struct phstore_ship_op *op = &d->batch[d->batch_num];
	uint8_t *key = NULL;
	uint8_t *value = NULL;
	const char *table = NULL;
	struct phstore_blob k = {};
	struct phstore_blob full;
	bool ok;

	if (d->batch_mem == NULL) {
		d->batch_mem = talloc_new(d);
	}
	key = talloc_memdup(d->batch_mem, rec->key.data, rec->key.len);
	if (key == NULL) {
		return false;
	}
	if (rec->value.len > 0) {
		value = talloc_memdup(d->batch_mem, rec->value.data,
				      rec->value.len);
		if (value == NULL) {
			return false;
		}
	}
	full = (struct phstore_blob) { key, rec->key.len };
	ok = split_key(full, &table, &k);
	if (!ok) {
		/* checksummed, so this is what a member has: leave it out */
		phd_log(1, "a record without table came from another node");
		return true;
	}
	*op = (struct phstore_ship_op) {
		.table = table,
		.key = k,
		.value = { value, rec->deleted ? 0 : rec->value.len },
		.version = rec->version,
		.durability = PHSTORE_CLASS_SYNC,
		.deleted = rec->deleted,
	};
	d->batch_num += 1;
	d->batch_bytes += rec->key.len + rec->value.len;
	return true;
}

/* More than a batch holds, as one frame all the same. */
static void apply_many(struct phd_ctdb *d, const struct repl_record *recs,
		       size_t n)
{
	struct phstore_ship_op *ops = NULL;
	uint64_t end_lsn = 0;
	enum phstore_err err;
	size_t i, num = 0;

	ops = talloc_zero_array(d, struct phstore_ship_op, n);
	if (ops == NULL) {
		phd_fail(d->phd, PHD_EXIT_FAILED, "out of memory");
		return;
	}
	for (i = 0; i < n; i++) {
		struct phstore_ship_op *op = &ops[num];
		bool ok;

		ok = split_key(recs[i].key, &op->table, &op->key);
		if (!ok) {
			continue;
		}
		op->value = recs[i].value;
		op->version = recs[i].version;
		op->durability = PHSTORE_CLASS_SYNC;
		op->deleted = recs[i].deleted;
		num++;
	}
	err = num == 0 ? PHSTORE_OK :
	      phstore_ship_apply(d->phd->ship, ops, num, &end_lsn);
	talloc_free(ops);
	snaps_old(d);
	d->num_applied += num;
	if (err != PHSTORE_OK) {
		store_failed(d, err,
			     "cannot store what came from another node");
	}
}

static void op_apply(void *p, const struct repl_record *recs, size_t n)
{
	struct phd_ctdb *d = p;
	size_t i, bytes = 0;

	if (d->writing || ended(d)) {
		/* own changes are in the log already */
		return;
	}
	for (i = 0; i < n; i++) {
		bytes += recs[i].key.len + recs[i].value.len;
	}
	if (d->batch_num + n > PHD_BATCH_OPS ||
	    d->batch_bytes + bytes > PHD_BATCH_BYTES)
	{
		phd_ctdb_flush_batch(d);
	}
	if (n > PHD_BATCH_OPS) {
		apply_many(d, recs, n);
		return;
	}
	for (i = 0; i < n; i++) {
		bool ok = batch_add(d, &recs[i]);

		if (!ok) {
			phd_fail(d->phd, PHD_EXIT_FAILED, "out of memory");
			return;
		}
	}
}

static void op_clear(void *p)
{
	struct phd_ctdb *d = p;
	struct phstore_stat st = {};
	enum phstore_err err;
	uint64_t head;

	d->batch_num = 0;
	d->batch_bytes = 0;
	TALLOC_FREE(d->batch_mem);
	if (ended(d)) {
		return;
	}
	(void)phstore_stat(d->phd->store, &st);
	err = phstore_ship_clear(d->phd->ship);
	if (err != PHSTORE_OK) {
		store_failed(d, err, "cannot empty the store");
		return;
	}
	snaps_old(d);
	d->full_emptied = true;
	head = phstore_ship_head(d->phd->ship);
	phstore_ship_fence(d->phd->ship, head);
	phstore_ship_seek(d->phd->ship, head);
	phstore_ship_release(d->phd->ship, head);
	phd_log(2, "the store was emptied (%llu records): it was not part of "
		"the last epoch, the others have all that counts",
		(unsigned long long)st.num_records);
}

static void op_drop(void *p, const struct repl_record *rec)
{
	struct phd_ctdb *d = p;
	const char *table = NULL;
	struct phstore_blob key = {};
	enum phstore_err err;
	bool ok;

	phd_ctdb_flush_batch(d);
	ok = split_key(rec->key, &table, &key);
	if (!ok || ended(d)) {
		return;
	}
	/* first: who sees the tombstone gone begins above it */
	phstore_ship_set_floor(d->phd->ship, repl_floor(d->core));
	err = phstore_ship_forget(d->phd->ship, table, key, rec->version);
	if (err != PHSTORE_OK) {
		store_failed(d, err, "cannot forget a deletion");
	}
}

static void op_drop_all(void *p)
{
	struct phd_ctdb *d = p;
	enum phstore_err err;

	phd_ctdb_flush_batch(d);
	if (ended(d)) {
		return;
	}
	err = phstore_ship_forget_all(d->phd->ship);
	snaps_old(d);
	if (err != PHSTORE_OK) {
		store_failed(d, err, "cannot forget deletions");
	}
}

/*
 * Others read us from the first key to the last while nothing is staged; a
 * reader that begins gets a snapshot with all that was applied so far.
 */
static bool op_next(void *p, uint64_t min_epoch, struct phstore_blob after,
		    struct repl_record *rec)
{
	struct phd_ctdb *d = p;
	struct phd_snap *s = NULL;
	struct phstore_ship_op op = {};
	enum phstore_err err = PHSTORE_OK;
	size_t i, n;

	phd_ctdb_flush_batch(d);
	if (ended(d)) {
		return false;
	}
	s = &d->snaps[min_epoch == 0 ? 0 : 1];
	if (s->snap != NULL &&
	    ((s->old && after.len == 0) || s->epoch != min_epoch))
	{
		TALLOC_FREE(s->snap);
	}
	if (s->snap == NULL) {
		err = phstore_ship_snapshot(d, d->phd->ship, min_epoch,
					    &s->snap);
		s->epoch = min_epoch;
		s->old = false;
	}
	if (err != PHSTORE_OK) {
		store_failed(d, err, "cannot list the records");
		return false;
	}
	i = phstore_ship_snapshot_above(s->snap, after);
	n = phstore_ship_snapshot_len(s->snap);
	for (; i < n; i++) {
		err = phstore_ship_snapshot_get(s->snap, i, &op);
		if (err == PHSTORE_OK) {
			break;
		}
		if (err != PHSTORE_ERR_NOT_FOUND) {
			/* damaged: the others may have it, this copy not */
			phd_log(0, "%s", phstore_last_error());
			phd_ctdb_damaged(d);
		}
	}
	if (i >= n) {
		return false;
	}
	*rec = (struct repl_record) {
		.key.data = d->next_key,
		.key.len = phd_full_key(d->next_key, op.table, op.key),
		.value = op.value,
		.version = op.version,
		.deleted = op.deleted,
	};
	return true;
}

static void op_sync(void *p)
{
	struct phd_ctdb *d = p;

	phd_ctdb_flush_batch(d);
	d->want_synced = true;
	phd_ctdb_later(d);
}

static void op_reached(void *p, enum phstore_class durability, uint64_t pos)
{
	struct phd_ctdb *d = p;
	uint64_t lsn = d->lsn_of[pos % PHD_POSITIONS];

	if (ended(d) || pos == 0) {
		return;
	}
	if (durability == PHSTORE_CLASS_SYNC) {
		phstore_ship_reached(d->phd->ship, lsn, lsn);
		phstore_ship_release(d->phd->ship, lsn);
	} else {
		phstore_ship_reached(d->phd->ship, lsn, 0);
	}
}

static void op_fenced(void *p, uint64_t pos)
{
	/* all of the log was fenced when the store was emptied */
	(void)p;
	(void)pos;
}

static bool op_forgotten(void *p, const struct repl_record *rec)
{
	struct phd_ctdb *d = p;
	const char *table = NULL;
	struct phstore_blob key = {};
	bool ok = split_key(rec->key, &table, &key);

	return !ok || ended(d) ||
	       d->net.ops->forgotten(&d->net, table, key, rec->version);
}

static void op_turn(void *p)
{
	phd_ctdb_turn(p);
}

static void op_state(void *p, enum repl_state state, uint64_t epoch)
{
	struct phd_ctdb *d = p;

	phd_ctdb_flush_batch(d);
	if (ended(d)) {
		return;
	}
	if (state == REPL_JOINING) {
		phd_ctdb_close(d, "a new epoch is being formed");
		return;
	}
	phd_ctdb_snaps_free(d);
	phd_log(1, "epoch %llx has begun, members %" PRIx64,
		(unsigned long long)epoch, d->meta.members);
	phd_ctdb_began(d);
}

static void op_stranger(void *p, uint64_t birth)
{
	phd_ctdb_stranger(p, birth);
}

const struct repl_ops phd_repl_ops = {
	.send = op_send,
	.meta = op_meta,
	.apply = op_apply,
	.clear = op_clear,
	.drop = op_drop,
	.drop_all = op_drop_all,
	.next = op_next,
	.sync = op_sync,
	.reached = op_reached,
	.fenced = op_fenced,
	.forgotten = op_forgotten,
	.turn = op_turn,
	.state = op_state,
	.stranger = op_stranger,
};

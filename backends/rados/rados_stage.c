/*
 * phstore: staging for RADOS
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Staging looks at what the operation needs to know (an expected version, a
 * version given by the caller, skip_same, several shards): first among what
 * this handle has staged and not yet seen durable, then in RADOS. What needs
 * none of that is sent without a look. In each case the OSD compares again.
 *
 * Several operations of one transaction on one key become one: the last
 * one's value, the first one's expected version.
 */

#include "rados_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "phstore_bytes.h"

/* What is stored, as far as this handle has to know. */
enum phstore_err phr_look(struct phr_conn *c, struct phr_engine *e,
			  TALLOC_CTX *mem_ctx, const uint8_t *key,
			  size_t key_len, bool staged_only,
			  struct phr_seen *seen)
{
	struct phr_op *op = NULL;
	struct phr_record rec = {};
	enum phstore_err err;

	*seen = (struct phr_seen) {};
	pthread_mutex_lock(&e->mutex);
	op = phr_overlay_find(e, key, key_len);
	if (op != NULL) {
		size_t len = op->value_len - PHR_RECORD_HDR;

		*seen = (struct phr_seen) {
			.known = true,
			.there = true,
			.kind = op->record_kind,
			.durability = op->value[22],
			.version = op->version,
			.lsn = op->txn->lsn,
			.value_len = len,
		};
		seen->value = phr_dup(mem_ctx, op->value + PHR_RECORD_HDR,
				      len);
	}
	pthread_mutex_unlock(&e->mutex);
	if (seen->known && seen->value == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	if (seen->known || staged_only) {
		return PHSTORE_OK;
	}
	err = phr_get(c, key, key_len, mem_ctx, &rec);
	if (err == PHSTORE_ERR_NOT_FOUND) {
		seen->known = true;
		return PHSTORE_OK;
	}
	if (err != PHSTORE_OK) {
		return err;
	}
	*seen = (struct phr_seen) {
		.known = true,
		.there = true,
		.kind = rec.kind,
		.durability = rec.durability,
		.version = rec.version,
		.value = rec.value,
		.value_len = rec.value_len,
	};
	return PHSTORE_OK;
}

static bool same(const struct phr_seen *s, const struct phstore_frame_op *op)
{
	if (op->kind == PHSTORE_OP_DELETE) {
		return !s->there || s->kind == PHR_TOMBSTONE;
	}
	return s->there && s->kind == PHR_PUT &&
	       op->durability <= s->durability &&
	       op->value_len == s->value_len &&
	       memcmp(op->value, s->value, op->value_len) == 0;
}

static enum phstore_err check(const struct phstore_txn_op *top,
			      const struct phstore_frame_op *op,
			      const struct phr_seen *s)
{
	struct phr_version none = {};
	struct phr_version live = s->there && s->kind == PHR_PUT ?
				  s->version : none;
	struct phr_version want = {
		.epoch = top->expected.epoch,
		.seq = top->expected.seq,
	};
	struct phr_version mine = {
		.epoch = op->version.epoch,
		.seq = op->version.seq,
	};

	if (top->check_version && phr_version_cmp(want, live) != 0) {
		return phstore_fail(PHSTORE_ERR_CONFLICT,
				    "version %" PRIu64 ".%" PRIu64
				    " expected, %" PRIu64 ".%" PRIu64
				    " stored", want.epoch, want.seq,
				    live.epoch, live.seq);
	}
	if (!top->auto_version && phr_version_cmp(mine, s->version) < 0) {
		return phstore_fail(PHSTORE_ERR_STALE,
				    "version %" PRIu64 ".%" PRIu64
				    " is below the stored %" PRIu64
				    ".%" PRIu64, mine.epoch, mine.seq,
				    s->version.epoch, s->version.seq);
	}
	return PHSTORE_OK;
}

/* One operation of a transaction on its way to be one of the engine's. */
struct staging {
	struct phstore_frame_op op;
	const struct phstore_txn_op *top;
	uint8_t *key;
	size_t key_len;
	uint32_t shard;
	struct phr_seen seen;
	bool skip;
	struct phr_version version;
	bool conditional;
	bool exact_first;	/* expected version, from the first on a key */
	struct phr_version expected;
};

static struct staging *earlier(struct staging *list, unsigned i)
{
	unsigned j;

	for (j = i; j > 0; j--) {
		struct staging *s = &list[j - 1];

		if (!s->skip && s->key_len == list[i].key_len &&
		    memcmp(s->key, list[i].key, s->key_len) == 0)
		{
			return s;
		}
	}
	return NULL;
}

static struct phr_version auto_version(struct phr_engine *e,
				       struct phr_version above)
{
	struct phr_version v = { .epoch = e->conn->epoch };

	e->last_seq += 1;
	v.seq = e->last_seq;
	if (phr_version_cmp(v, above) <= 0) {
		v = phr_version_next(above);
	}
	return v;
}

static enum phstore_err stage_one(struct phr_engine *e,
				  struct phstore_txn *txn,
				  struct staging *list, unsigned i,
				  bool several, uint64_t *covered)
{
	struct staging *s = &list[i];
	struct staging *prev = earlier(list, i);
	const struct phstore_txn_op *top = s->top;
	enum phstore_err err;
	struct phr_version beyond = {
		.epoch = top->seen.epoch,
		.seq = top->seen.seq,
	};
	bool must = top->check_version || !top->auto_version ||
		    top->skip_same || several;

	if (prev != NULL) {
		/* an earlier operation of this very transaction */
		s->seen = (struct phr_seen) {
			.known = true,
			.there = true,
			.kind = prev->op.kind == PHSTORE_OP_PUT ?
				PHR_PUT : PHR_TOMBSTONE,
			.durability = prev->op.durability,
			.version = prev->version,
			.value = prev->op.value,
			.value_len = prev->op.value_len,
		};
	} else {
		err = phr_look(e->conn, e, txn, s->key, s->key_len, !must,
			       &s->seen);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	err = check(top, &s->op, &s->seen);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (top->skip_same && top->auto_version && same(&s->seen, &s->op) &&
	    phr_version_cmp(s->seen.version, beyond) >= 0)
	{
		s->skip = true;
		txn->ops[i].skipped = true;
		txn->ops[i].version = (struct phstore_version) {
			.epoch = s->seen.version.epoch,
			.seq = s->seen.version.seq,
		};
		if (s->seen.lsn > *covered) {
			*covered = s->seen.lsn;
		}
		return PHSTORE_OK;
	}
	if (top->auto_version) {
		if (phr_version_cmp(beyond, s->seen.version) < 0) {
			beyond = s->seen.version;
		}
		s->version = auto_version(e, beyond);
		phstore_op_set_version(txn->buf + top->ofs,
				       (struct phstore_version) {
					       .epoch = s->version.epoch,
					       .seq = s->version.seq,
				       });
	} else {
		s->version = (struct phr_version) {
			.epoch = s->op.version.epoch,
			.seq = s->op.version.seq,
		};
	}
	s->exact_first = top->check_version;
	s->expected = s->seen.version;
	if (prev != NULL) {
		/* the last one on a key stands for all of them */
		prev->skip = true;
		s->exact_first = prev->exact_first;
		s->expected = prev->expected;
	}
	return PHSTORE_OK;
}

static void put_op(struct phr_op *op, const struct staging *s)
{
	struct phr_record rec = {
		.version = s->version,
		.kind = s->op.kind == PHSTORE_OP_PUT ? PHR_PUT :
						       PHR_TOMBSTONE,
		.durability = s->op.durability,
		.value = s->op.value,
		.value_len = s->op.value_len,
	};

	op->record_kind = rec.kind;
	op->version = s->version;
	op->auto_version = s->top->auto_version;
	op->use_reserve = s->top->use_reserve;
	op->check = s->exact_first ? PHR_CHECK_EXACT : PHR_CHECK_NEWER;
	if (s->exact_first) {
		op->expected = s->expected;
	}
	phr_record_push(op->value, op->key, op->key_len, &rec);
}

/* All of the transaction as bytes, first in the leading shard. */
static struct phr_op *put_intent(struct phr_engine *e, struct phr_txn *t,
				 const struct staging *list, unsigned num,
				 uint32_t lead)
{
	struct phr_conn *c = e->conn;
	struct phr_batch_hdr h = {
		.epoch = c->epoch,
		.batch = e->last_seq,
		.writer = c->writer,
		.writer_len = strlen(c->writer),
	};
	size_t len = phr_batch_hdr_len(&h);
	char key[PHR_WRITER_MAX + 24];
	struct phr_op *op = NULL;
	size_t used;
	unsigned i;

	for (i = 0; i < num; i++) {
		if (!list[i].skip) {
			len += PHR_OP_HDR + list[i].key_len +
			       PHR_RECORD_HDR + list[i].op.value_len;
			h.num_ops += 1;
		}
	}
	snprintf(key, sizeof(key), "!T%s/%016" PRIx64, c->writer,
		 e->last_seq);
	op = phr_txn_op(t, lead, PHR_OP_SET, (uint8_t *)key, strlen(key),
			len);
	if (op == NULL) {
		return NULL;
	}
	used = phr_batch_hdr_push(op->value, &h);
	for (i = 0; i < num; i++) {
		struct phr_record rec = {
			.version = list[i].version,
			.kind = list[i].op.kind == PHSTORE_OP_PUT ?
				PHR_PUT : PHR_TOMBSTONE,
			.durability = list[i].op.durability,
			.value = list[i].op.value,
			.value_len = list[i].op.value_len,
		};
		struct phr_batch_op o = {
			.kind = PHR_OP_RECORD,
			.check = PHR_CHECK_LENIENT,
			.key = list[i].key,
			.key_len = list[i].key_len,
		};
		uint8_t *value = op->value + used + PHR_OP_HDR + o.key_len;

		if (list[i].skip) {
			continue;
		}
		/* the value straight to where it belongs */
		(void)phr_batch_op_push(op->value + used, &o);
		phr_record_push(value, o.key, o.key_len, &rec);
		phstore_push_u32(op->value + used + 8,
				 phr_record_len(&rec));
		used += PHR_OP_HDR + o.key_len + phr_record_len(&rec);
	}
	phr_batch_seal(op->value, used);
	return op;
}

static enum phstore_err stage_submit(struct phr_engine *e,
				     struct staging *list, unsigned num,
				     uint64_t *lsn)
{
	struct phr_txn *t = phr_txn_make(e);
	struct phr_op *op = NULL;
	enum phstore_err err;
	uint32_t lead = UINT32_MAX;
	bool spans = false;
	bool exact = false;
	unsigned i;

	for (i = 0; i < num; i++) {
		if (list[i].skip) {
			continue;
		}
		lead = lead == UINT32_MAX ? list[i].shard : lead;
		spans = spans || list[i].shard != lead;
		exact = exact || list[i].exact_first;
	}
	if (t == NULL) {
		return phr_fail(-ENOMEM, "stage", NULL);
	}
	if (spans && exact) {
		phr_txn_free(t);
		return phstore_fail(PHSTORE_ERR_NOT_SUPPORTED,
				    "rados: expected versions in a "
				    "transaction over several shards");
	}
	if (spans) {
		op = put_intent(e, t, list, num, lead);
		if (op == NULL) {
			goto nomem;
		}
	}
	for (i = 0; i < num; i++) {
		if (list[i].skip) {
			continue;
		}
		op = phr_txn_op(t, list[i].shard, PHR_OP_RECORD, list[i].key,
				list[i].key_len,
				PHR_RECORD_HDR + list[i].op.value_len);
		if (op == NULL) {
			goto nomem;
		}
		put_op(op, &list[i]);
	}
	err = phr_engine_submit(e, t, false, lsn);
	if (err != PHSTORE_OK) {
		phr_txn_free(t);
	}
	return err;
nomem:
	phr_txn_free(t);
	return phr_fail(-ENOMEM, "stage", NULL);
}

enum phstore_err phr_stage(struct phr_engine *e, struct phstore_txn *txn,
			   uint64_t *lsn)
{
	struct staging *list = NULL;
	uint64_t covered = 0;
	enum phstore_err err = PHSTORE_OK;
	unsigned left = 0;
	bool several = false;
	unsigned i;

	list = talloc_zero_array(txn, struct staging, txn->num_ops);
	if (list == NULL) {
		return phr_fail(-ENOMEM, "stage", NULL);
	}
	for (i = 0; i < txn->num_ops; i++) {
		struct staging *s = &list[i];
		size_t ofs = txn->ops[i].ofs;

		s->top = &txn->ops[i];
		(void)phstore_op_pull(txn->buf + ofs, txn->len - ofs, ofs,
				      &s->op);
		s->key_len = phr_key_push(NULL, (const char *)s->op.table,
					  s->op.table_len, s->op.key,
					  s->op.key_len);
		s->key = talloc_size(list, s->key_len);
		if (s->key == NULL) {
			err = phr_fail(-ENOMEM, "stage", NULL);
			goto done;
		}
		(void)phr_key_push(s->key, (const char *)s->op.table,
				   s->op.table_len, s->op.key, s->op.key_len);
		s->shard = phr_shard_of(s->key, s->key_len,
					e->conn->super.shards);
		several = several || s->shard != list[0].shard;
	}
	for (i = 0; i < txn->num_ops; i++) {
		err = stage_one(e, txn, list, i, several, &covered);
		if (err != PHSTORE_OK) {
			goto done;
		}
	}
	for (i = 0; i < txn->num_ops; i++) {
		left += list[i].skip ? 0 : 1;
	}
	if (left == 0) {
		pthread_mutex_lock(&e->mutex);
		e->stat.num_elided += txn->num_ops;
		pthread_mutex_unlock(&e->mutex);
		*lsn = covered;
		goto done;
	}
	err = stage_submit(e, list, txn->num_ops, lsn);
done:
	TALLOC_FREE(list);
	return err;
}


/*
 * phstore: building transactions
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A transaction is built as the very bytes of its frame, so that staging
 * copies nothing: values are checksummed here, outside any lock; the
 * versions, the LSN and the frame's checksum are filled in under the log's
 * lock (see phstore_frame.h for why that is cheap even for big values).
 */

#include "phstore_private.h"

#include <string.h>

struct phstore_txn *phstore_txn_new(TALLOC_CTX *mem_ctx,
				    struct phstore *store)
{
	struct phstore_txn *txn = NULL;

	txn = talloc(mem_ctx, struct phstore_txn);
	if (txn == NULL) {
		return NULL;
	}
	memset(txn, 0, offsetof(struct phstore_txn, own_ops));
	txn->store = store;
	txn->len = PHSTORE_FRAME_HDR;
	txn->buf = txn->own_buf;
	txn->size = sizeof(txn->own_buf);
	txn->ops = txn->own_ops;
	txn->max_ops = PHSTORE_TXN_OPS_OWN;
	return txn;
}

static enum phstore_err txn_reserve(struct phstore_txn *txn, size_t len)
{
	size_t want = txn->len + len + PHSTORE_FRAME_ALIGN;
	size_t size = txn->size;
	bool is_own = txn->buf == txn->own_buf;
	uint8_t *buf = NULL;

	if (want > PHSTORE_FRAME_MAX) {
		return phstore_fail(PHSTORE_ERR_TOO_BIG,
				    "transaction of more than %d bytes",
				    PHSTORE_FRAME_MAX);
	}
	if (want <= txn->size) {
		return PHSTORE_OK;
	}
	while (size < want) {
		size *= 2;
	}
	buf = talloc_realloc(txn, is_own ? NULL : txn->buf, uint8_t, size);
	if (buf == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	if (is_own) {
		memcpy(buf, txn->own_buf, txn->len);
	}
	txn->buf = buf;
	txn->size = size;
	return PHSTORE_OK;
}

/* Room for one operation more. */
static enum phstore_err txn_reserve_op(struct phstore_txn *txn)
{
	bool is_own = txn->ops == txn->own_ops;
	uint16_t max_ops = txn->max_ops;
	struct phstore_txn_op *ops = NULL;

	if (txn->num_ops < max_ops) {
		return PHSTORE_OK;
	}
	max_ops = max_ops > PHSTORE_TXN_OPS_MAX / 2 ? PHSTORE_TXN_OPS_MAX :
						      max_ops * 2;
	ops = talloc_realloc(txn, is_own ? NULL : txn->ops,
			     struct phstore_txn_op, max_ops);
	if (ops == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	if (is_own) {
		memcpy(ops, txn->own_ops, sizeof(txn->own_ops));
	}
	txn->ops = ops;
	txn->max_ops = max_ops;
	return PHSTORE_OK;
}

static enum phstore_err txn_check(struct phstore_txn *txn,
				  const char *table,
				  struct phstore_blob key,
				  struct phstore_blob value)
{
	size_t table_len = table != NULL ? strlen(table) : 0;

	if (txn->staged) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "transaction was staged already");
	}
	if (table_len == 0 || table_len > PHSTORE_TABLE_MAX) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "table name of %zu bytes, not 1 to %d",
				    table_len, PHSTORE_TABLE_MAX);
	}
	if (key.len == 0 || key.data == NULL) {
		return phstore_fail(PHSTORE_ERR_INVALID, "empty key");
	}
	if (key.len > PHSTORE_KEY_MAX) {
		return phstore_fail(PHSTORE_ERR_TOO_BIG,
				    "key of %zu bytes, at most %d",
				    key.len, PHSTORE_KEY_MAX);
	}
	if (value.len > PHSTORE_VALUE_MAX) {
		return phstore_fail(PHSTORE_ERR_TOO_BIG,
				    "value of %zu bytes, at most %d",
				    value.len, PHSTORE_VALUE_MAX);
	}
	if (value.len > 0 && value.data == NULL) {
		return phstore_fail(PHSTORE_ERR_INVALID, "value without data");
	}
	if (txn->num_ops >= PHSTORE_TXN_OPS_MAX) {
		return phstore_fail(PHSTORE_ERR_TOO_BIG,
				    "more than %d operations",
				    PHSTORE_TXN_OPS_MAX);
	}
	return PHSTORE_OK;
}

static enum phstore_err txn_add(struct phstore_txn *txn,
				uint8_t kind,
				const char *table,
				struct phstore_blob key,
				struct phstore_blob value,
				const struct phstore_op_options *opts)
{
	static const struct phstore_op_options defaults = {
		.durability = PHSTORE_CLASS_SYNC,
	};
	struct phstore_frame_op op = {};
	enum phstore_err err;

	if (opts == NULL) {
		opts = &defaults;
	}
	err = txn_check(txn, table, key, value);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (opts->durability > PHSTORE_CLASS_SYNC) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "unknown durability class %d",
				    (int)opts->durability);
	}

	op = (struct phstore_frame_op) {
		.kind = kind,
		.durability = (uint8_t)opts->durability,
		.table = (const uint8_t *)table,
		.table_len = strlen(table),
		.key = key.data,
		.key_len = key.len,
		.value = value.data,
		.value_len = value.len,
		.value_crc = phstore_crc32(0, value.data, value.len),
		.version = opts->version,
	};
	op.len = phstore_op_len(op.table_len, op.key_len, op.value_len);

	err = txn_reserve(txn, op.len);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = txn_reserve_op(txn);
	if (err != PHSTORE_OK) {
		return err;
	}
	txn->ops[txn->num_ops] = (struct phstore_txn_op) {
		.ofs = txn->len,
		.auto_version = opts->version.epoch == 0 &&
				opts->version.seq == 0,
		.check_version = opts->check_version,
		.expected = opts->expected,
		.skip_same = opts->skip_same,
		.use_reserve = opts->use_reserve ||
			       kind == PHSTORE_OP_DELETE,
		.seen = opts->seen,
	};
	txn->len += phstore_op_push(txn->buf + txn->len, &op);
	txn->num_ops += 1;
	if (opts->durability > txn->durability) {
		txn->durability = opts->durability;
	}
	return PHSTORE_OK;
}

enum phstore_err phstore_txn_put(struct phstore_txn *txn,
				 const char *table,
				 struct phstore_blob key,
				 struct phstore_blob value,
				 const struct phstore_op_options *opts)
{
	return txn_add(txn, PHSTORE_OP_PUT, table, key, value, opts);
}

enum phstore_err phstore_txn_delete(struct phstore_txn *txn,
				    const char *table,
				    struct phstore_blob key,
				    const struct phstore_op_options *opts)
{
	struct phstore_blob none = {};

	return txn_add(txn, PHSTORE_OP_DELETE, table, key, none, opts);
}

struct phstore_version phstore_txn_version(const struct phstore_txn *txn,
					   uint16_t i)
{
	struct phstore_version v = {};

	if (!txn->staged || i >= txn->num_ops) {
		return v;
	}
	if (txn->ops[i].skipped) {
		return txn->ops[i].version;
	}
	return phstore_op_get_version(txn->buf + txn->ops[i].ofs);
}

enum phstore_err phstore_stage(struct phstore_txn *txn, uint64_t *lsn)
{
	struct phstore *store = txn->store;

	phstore_check_fork(store);
	if (store->read_only) {
		return phstore_fail(PHSTORE_ERR_READ_ONLY,
				    "%s: opened read-only", store->path);
	}
	if (txn->staged) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "transaction was staged already");
	}
	if (txn->num_ops == 0) {
		return phstore_fail(PHSTORE_ERR_INVALID, "empty transaction");
	}
	txn->staged = true;
	return store->ops->stage(store, txn, lsn);
}

enum phstore_err phstore_room(struct phstore *store, size_t bytes)
{
	phstore_check_fork(store);
	if (store->read_only) {
		return phstore_fail(PHSTORE_ERR_READ_ONLY,
				    "%s: opened read-only", store->path);
	}
	return store->ops->room(store, bytes);
}

enum phstore_err phstore_commit(struct phstore_txn *txn, uint64_t *plsn)
{
	struct phstore *store = txn->store;
	enum phstore_class durability = txn->durability;
	enum phstore_err err;
	uint64_t lsn = 0;
	bool waits;

	err = phstore_stage(txn, &lsn);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (plsn != NULL) {
		*plsn = lsn;
	}
	waits = store->ops->class_waits(store, durability);
	if (waits) {
		err = store->ops->barrier(store, lsn, durability, 0);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	if (store->ops->wants_maintenance(store)) {
		/* what fails here shows in the next stage, not in this one */
		(void)store->ops->maintain(store, false);
	}
	return PHSTORE_OK;
}

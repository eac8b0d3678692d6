/*
 * phstore tool: put and del
 *
 * Both commit one operation and return when its durability class holds: what
 * the tool said is stored survives what the class promises. Arguments are
 * checked before the store is opened, so that a mistake in the command line
 * does not create or recover anything.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "phstore_tool.h"

static bool check_sizes(struct phtool *tool, const char *table,
			struct phstore_blob key, struct phstore_blob value)
{
	size_t table_len = strlen(table);

	if (table_len == 0 || table_len > PHSTORE_TABLE_MAX) {
		phtool_error(tool, "a table name has 1 to %d bytes, "
			     "this one has %zu",
			     PHSTORE_TABLE_MAX, table_len);
		return false;
	}
	if (key.len == 0 || key.len > PHSTORE_KEY_MAX) {
		phtool_error(tool, "a key has 1 to %d bytes, this one has %zu",
			     PHSTORE_KEY_MAX, key.len);
		return false;
	}
	if (value.len > PHSTORE_VALUE_MAX) {
		phtool_error(tool, "a value has at most %d bytes, "
			     "this one has more", PHSTORE_VALUE_MAX);
		return false;
	}
	return true;
}

/* All of stdin; stops soon behind the largest value there can be. */
static bool read_stdin(struct phtool *tool, TALLOC_CTX *mem_ctx,
		       struct phstore_blob *value)
{
	size_t cap = 65536;
	size_t len = 0;
	uint8_t *buf = talloc_array(mem_ctx, uint8_t, cap);

	while (buf != NULL && len <= PHSTORE_VALUE_MAX) {
		size_t n = fread(buf + len, 1, cap - len, stdin);

		len += n;
		if (len < cap) {
			int failed = ferror(stdin);

			if (failed) {
				phtool_error(tool, "standard input: %s",
					     strerror(errno));
				return false;
			}
			*value = (struct phstore_blob) {
				.data = buf,
				.len = len,
			};
			return true;
		}
		cap *= 2;
		buf = talloc_realloc(mem_ctx, buf, uint8_t, cap);
	}
	if (buf == NULL) {
		phtool_error(tool, "out of memory");
		return false;
	}
	*value = (struct phstore_blob) { .data = buf, .len = len };
	return true;
}

/* What the commit did, from the store itself. */
static enum phtool_exit show_commit(struct phtool *tool, const char *done,
				    struct phstore_blob key, uint64_t lsn)
{
	struct phdump_out *out = &tool->out;
	struct phstore_record rec = {};
	enum phstore_err err;
	bool durable;

	durable = phstore_is_durable(tool->store, lsn);
	err = phstore_get(tool->store, tool->store, tool->argv[0], key, &rec);
	phdump_object(out, NULL);
	phdump_str(out, "done", done);
	phdump_str(out, "table", tool->argv[0]);
	phdump_key(out, "key", key.data, key.len);
	if (err == PHSTORE_OK) {
		phdump_fmt(out, "version", "%"PRIu64".%"PRIu64,
			   rec.version.epoch, rec.version.seq);
		phdump_str(out, "class", phtool_class_name(rec.durability));
	}
	phdump_u64(out, "lsn", lsn);
	phdump_bool(out, "durable", durable);
	phdump_end(out);
	return phtool_flush(tool);
}

static enum phtool_exit commit_failed(struct phtool *tool,
				      enum phstore_err err,
				      struct phstore_blob key)
{
	struct phstore_record rec = {};
	enum phtool_exit result = phtool_fail(tool, err, tool->dir);

	if (err != PHSTORE_ERR_CONFLICT) {
		return result;
	}
	err = phstore_get(tool->store, tool->store, tool->argv[0], key, &rec);
	if (err == PHSTORE_OK) {
		phtool_error(tool, "expected version %"PRIu64".%"PRIu64", "
			     "the record has %"PRIu64".%"PRIu64,
			     tool->expected.epoch, tool->expected.seq,
			     rec.version.epoch, rec.version.seq);
	} else if (err == PHSTORE_ERR_NOT_FOUND) {
		phtool_error(tool, "expected version %"PRIu64".%"PRIu64", "
			     "there is no such record",
			     tool->expected.epoch, tool->expected.seq);
	}
	return result;
}

/* Close tells the last sync's error; nothing may be lost silently. */
static enum phtool_exit close_store(struct phtool *tool,
				    enum phtool_exit result)
{
	enum phstore_err err;

	err = phstore_close(tool->store);
	tool->store = NULL;
	if (err != PHSTORE_OK && result == PHTOOL_OK) {
		return phtool_fail(tool, err, tool->dir);
	}
	return result;
}

enum phtool_exit phtool_put(struct phtool *tool)
{
	struct phstore_op_options opts = {
		.durability = tool->durability,
		.check_version = tool->check_version,
		.expected = tool->expected,
	};
	struct phstore_txn *txn = NULL;
	struct phstore_blob key = {};
	struct phstore_blob value = {};
	TALLOC_CTX *mem_ctx = talloc_new(NULL);
	enum phtool_exit result = PHTOOL_USAGE;
	enum phstore_err err;
	uint64_t lsn = 0;
	int cmp;
	bool ok;

	ok = phtool_parse_bytes(tool, mem_ctx, "key", tool->argv[1], &key);
	if (!ok) {
		goto done;
	}
	cmp = strcmp(tool->argv[2], "-");
	if (cmp == 0) {
		ok = read_stdin(tool, mem_ctx, &value);
	} else {
		ok = phtool_parse_bytes(tool, mem_ctx, "value",
					tool->argv[2], &value);
	}
	if (!ok) {
		goto done;
	}
	ok = check_sizes(tool, tool->argv[0], key, value);
	if (!ok) {
		goto done;
	}
	result = phtool_open_write(tool);
	if (result != PHTOOL_OK) {
		goto done;
	}
	txn = phstore_txn_new(mem_ctx, tool->store);
	if (txn == NULL) {
		phtool_error(tool, "out of memory");
		result = PHTOOL_STORE;
		goto done;
	}
	err = phstore_txn_put(txn, tool->argv[0], key, value, &opts);
	if (err == PHSTORE_OK) {
		err = phstore_commit(txn, &lsn);
	}
	if (err != PHSTORE_OK) {
		result = commit_failed(tool, err, key);
		goto done;
	}
	TALLOC_FREE(txn);
	result = show_commit(tool, "put", key, lsn);
	result = close_store(tool, result);
done:
	TALLOC_FREE(mem_ctx);
	return result;
}

enum phtool_exit phtool_del(struct phtool *tool)
{
	struct phstore_op_options opts = {
		.durability = tool->durability,
		.check_version = tool->check_version,
		.expected = tool->expected,
	};
	struct phstore_record rec = {};
	struct phstore_txn *txn = NULL;
	struct phstore_blob key = {};
	TALLOC_CTX *mem_ctx = talloc_new(NULL);
	enum phtool_exit result = PHTOOL_USAGE;
	enum phstore_err err;
	uint64_t lsn = 0;
	bool ok;

	ok = phtool_parse_bytes(tool, mem_ctx, "key", tool->argv[1], &key);
	if (!ok) {
		goto done;
	}
	ok = check_sizes(tool, tool->argv[0], key, (struct phstore_blob) {});
	if (!ok) {
		goto done;
	}
	result = phtool_open_write(tool);
	if (result != PHTOOL_OK) {
		goto done;
	}
	/* the store itself does not mind deleting what is not there */
	err = phstore_get(mem_ctx, tool->store, tool->argv[0], key, &rec);
	if (err == PHSTORE_ERR_NOT_FOUND) {
		phtool_error(tool, "%s: table \"%s\" has no record \"%s\"",
			     tool->dir, tool->argv[0], tool->argv[1]);
		result = PHTOOL_NOT_FOUND;
		goto done;
	}
	if (err != PHSTORE_OK) {
		result = phtool_fail(tool, err, tool->dir);
		goto done;
	}
	txn = phstore_txn_new(mem_ctx, tool->store);
	if (txn == NULL) {
		phtool_error(tool, "out of memory");
		result = PHTOOL_STORE;
		goto done;
	}
	err = phstore_txn_delete(txn, tool->argv[0], key, &opts);
	if (err == PHSTORE_OK) {
		err = phstore_commit(txn, &lsn);
	}
	if (err != PHSTORE_OK) {
		result = commit_failed(tool, err, key);
		goto done;
	}
	TALLOC_FREE(txn);
	result = show_commit(tool, "del", key, lsn);
	result = close_store(tool, result);
done:
	TALLOC_FREE(mem_ctx);
	return result;
}

/*
 * phstore tool: dump, scan, tables, get
 *
 * Records are written as they are read, so that a large store needs no
 * memory. A damaged store is shown as far as it can be read; the exit code
 * and a line on stderr tell that something is missing.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "phstore_decode.h"
#include "phstore_tool.h"

struct walk_state {
	struct phtool *tool;
	enum phtool_exit result;
	uint64_t num_records;
	uint64_t num_undecoded;
	uint64_t num_bytes;
};

/* The table argument that dump and scan may have, NULL for all tables. */
static const char *table_arg(struct phtool *tool)
{
	return (tool->argc > 0) ? tool->argv[0] : NULL;
}

/* One table or, in the order of their names, all of them. */
static enum phtool_exit walk(struct walk_state *state, phstore_scan_fn fn)
{
	struct phtool *tool = state->tool;
	const char *only = table_arg(tool);
	const char **names = &only;
	size_t num_names = 1;
	enum phstore_err err = PHSTORE_OK;
	size_t i;

	if (only == NULL) {
		names = NULL;
		num_names = 0;
		err = phstore_tables(tool->store, tool->store, &names,
				     &num_names);
	}
	for (i = 0; i < num_names && err == PHSTORE_OK; i++) {
		err = phstore_scan(tool->store, names[i], fn, state, NULL);
		if (state->result != PHTOOL_OK) {
			return state->result;
		}
	}
	if (err != PHSTORE_OK) {
		return phtool_fail(tool, err, tool->dir);
	}
	return PHTOOL_OK;
}

static enum phtool_exit worse(enum phtool_exit a, enum phtool_exit b)
{
	return (a != PHTOOL_OK) ? a : b;
}

static int dump_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	struct walk_state *state = private_data;
	struct phtool *tool = state->tool;
	struct phdump_out *out = &tool->out;
	enum phdump_kind kind = phdump_table_kind(table);
	bool ok;

	if (!out->json && state->num_records != 0) {
		phdump_line(out, "%s", "");
	}
	phdump_object(out, NULL);
	phtool_show_record_head(tool, table, rec);
	phdump_decode_key(kind, rec->key, out);
	phdump_object(out, "record");
	ok = phdump_decode_value(kind, rec->value, out);
	phdump_end(out);
	if (tool->raw) {
		phdump_hex(out, "value_hex", rec->value.data, rec->value.len);
	}
	phdump_end(out);
	state->num_records += 1;
	if (!ok) {
		state->num_undecoded += 1;
	}
	state->result = phtool_flush(tool);
	return (state->result == PHTOOL_OK) ? 0 : 1;
}

enum phtool_exit phtool_dump(struct phtool *tool)
{
	struct walk_state state = { .tool = tool };
	struct phdump_out *out = &tool->out;
	enum phtool_exit result;
	enum phtool_exit walked;
	enum phtool_exit damage;

	result = phtool_open_read(tool);
	if (result != PHTOOL_OK) {
		return result;
	}
	if (out->json) {
		phdump_object(out, NULL);
		phdump_str(out, "store", tool->dir);
		phdump_array(out, "records");
	}
	walked = walk(&state, dump_fn);
	damage = phtool_warn_damage(tool);
	if (out->json) {
		phdump_end(out);
		phdump_u64(out, "num_records", state.num_records);
		phdump_u64(out, "num_not_decoded", state.num_undecoded);
		phdump_bool(out, "complete", walked == PHTOOL_OK &&
					     damage == PHTOOL_OK);
		phdump_end(out);
	} else {
		phdump_line(out, "%s%"PRIu64" record%s",
			    state.num_records == 0 ? "" : "\n",
			    state.num_records,
			    state.num_records == 1 ? "" : "s");
		if (state.num_undecoded != 0) {
			phdump_line(out, "%"PRIu64" not decoded",
				    state.num_undecoded);
		}
	}
	result = phtool_flush(tool);
	return worse(worse(result, walked), damage);
}

static int scan_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	struct walk_state *state = private_data;
	struct phtool *tool = state->tool;
	struct phdump_out *out = &tool->out;

	if (out->json) {
		phdump_object(out, NULL);
		phtool_show_record_head(tool, table, rec);
		phdump_end(out);
	} else {
		phdump_cell(out, table, strlen(table), false);
		phdump_cell(out, rec->key.data, rec->key.len, false);
		phdump_line(out, "%zu\t%"PRIu64".%"PRIu64"\t%s\t%"PRIu64,
			    rec->value.len,
			    rec->version.epoch, rec->version.seq,
			    phtool_class_name(rec->durability), rec->lsn);
	}
	state->num_records += 1;
	state->result = phtool_flush(tool);
	return (state->result == PHTOOL_OK) ? 0 : 1;
}

enum phtool_exit phtool_scan(struct phtool *tool)
{
	struct walk_state state = { .tool = tool };
	struct phdump_out *out = &tool->out;
	enum phtool_exit result;
	enum phtool_exit walked;
	enum phtool_exit damage;

	result = phtool_open_read(tool);
	if (result != PHTOOL_OK) {
		return result;
	}
	if (out->json) {
		phdump_object(out, NULL);
		phdump_str(out, "store", tool->dir);
		phdump_array(out, "records");
	}
	walked = walk(&state, scan_fn);
	damage = phtool_warn_damage(tool);
	if (out->json) {
		phdump_end(out);
		phdump_u64(out, "num_records", state.num_records);
		phdump_bool(out, "complete", walked == PHTOOL_OK &&
					     damage == PHTOOL_OK);
		phdump_end(out);
	}
	result = phtool_flush(tool);
	return worse(worse(result, walked), damage);
}

static int count_fn(const char *table, const struct phstore_record *rec,
		    void *private_data)
{
	struct walk_state *state = private_data;

	(void)table;
	state->num_records += 1;
	state->num_bytes += rec->value.len;
	return 0;
}

enum phtool_exit phtool_tables(struct phtool *tool)
{
	struct phdump_out *out = &tool->out;
	enum phtool_exit result;
	const char **names = NULL;
	size_t num_names = 0;
	enum phstore_err err;
	size_t i;

	result = phtool_open_read(tool);
	if (result != PHTOOL_OK) {
		return result;
	}
	err = phstore_tables(tool->store, tool->store, &names, &num_names);
	if (err != PHSTORE_OK) {
		return phtool_fail(tool, err, tool->dir);
	}
	if (out->json) {
		phdump_object(out, NULL);
		phdump_str(out, "store", tool->dir);
		phdump_array(out, "tables");
	}
	for (i = 0; i < num_names; i++) {
		struct walk_state state = { .tool = tool };

		err = phstore_scan(tool->store, names[i], count_fn, &state,
				   NULL);
		if (err != PHSTORE_OK) {
			return phtool_fail(tool, err, names[i]);
		}
		if (out->json) {
			phdump_object(out, NULL);
			phdump_str(out, "table", names[i]);
			phdump_u64(out, "num_records", state.num_records);
			phdump_u64(out, "bytes", state.num_bytes);
			phdump_end(out);
			continue;
		}
		phdump_cell(out, names[i], strlen(names[i]), false);
		phdump_line(out, "%"PRIu64"\t%"PRIu64, state.num_records,
			    state.num_bytes);
	}
	if (out->json) {
		phdump_end(out);
		phdump_end(out);
	}
	result = phtool_flush(tool);
	return worse(result, phtool_warn_damage(tool));
}

static void show_value(struct phtool *tool, const struct phstore_record *rec)
{
	struct phdump_out *out = &tool->out;
	bool is_text = phdump_is_text(rec->value.data, rec->value.len);

	if (out->json) {
		phdump_object(out, NULL);
		phtool_show_record_head(tool, tool->argv[0], rec);
		if (is_text) {
			phdump_bytes(out, "value", rec->value.data,
				     rec->value.len);
		} else {
			phdump_null(out, "value");
		}
		phdump_hex(out, "value_hex", rec->value.data, rec->value.len);
		phdump_end(out);
		return;
	}
	if (tool->hex) {
		phdump_hex(out, NULL, rec->value.data, rec->value.len);
		return;
	}
	phdump_cell(out, rec->value.data, rec->value.len, true);
}

static enum phtool_exit write_raw(struct phtool *tool,
				  const struct phstore_record *rec)
{
	size_t written;

	written = fwrite(rec->value.data, 1, rec->value.len, stdout);
	if (written != rec->value.len) {
		phtool_error(tool, "standard output: %s", strerror(errno));
		return PHTOOL_STORE;
	}
	return phtool_flush(tool);
}

enum phtool_exit phtool_get(struct phtool *tool)
{
	struct phstore_record rec = {};
	struct phstore_blob key = {};
	TALLOC_CTX *mem_ctx = talloc_new(NULL);
	enum phtool_exit result = PHTOOL_USAGE;
	enum phstore_err err;
	bool ok;

	ok = phtool_parse_bytes(tool, mem_ctx, "key", tool->argv[1], &key);
	if (!ok) {
		goto done;
	}
	result = phtool_open_read(tool);
	if (result != PHTOOL_OK) {
		goto done;
	}
	err = phstore_get(mem_ctx, tool->store, tool->argv[0], key, &rec);
	if (err == PHSTORE_ERR_NOT_FOUND) {
		phtool_error(tool, "%s: table \"%s\" has no record \"%s\"",
			     tool->dir, tool->argv[0], tool->argv[1]);
		phtool_warn_damage(tool);
		result = PHTOOL_NOT_FOUND;
		goto done;
	}
	if (err != PHSTORE_OK) {
		result = phtool_fail(tool, err, tool->dir);
		goto done;
	}
	if (tool->raw) {
		result = write_raw(tool, &rec);
		goto done;
	}
	show_value(tool, &rec);
	result = phtool_flush(tool);
done:
	TALLOC_FREE(mem_ctx);
	return result;
}

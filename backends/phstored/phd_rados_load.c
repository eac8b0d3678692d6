/*
 * phstored: the sink "rados": what RADOS has, into the local store
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * While the gate is closed. Blocks, for as long as RADOS takes to be read.
 */

#ifdef PHSTORE_WITH_RADOS

#include "phd_rados.h"

#include <inttypes.h>
#include <string.h>

/* Records applied to the local store at once. */
#define LOAD_OPS 256

struct load_state {
	struct phd_rados *r;
	uint64_t prev;
	TALLOC_CTX *mem;
	struct phstore_ship_op ops[LOAD_OPS];
	size_t num;
	enum phstore_err err;
	uint64_t damaged;
};

static void load_flush(struct load_state *state)
{
	uint64_t lsn = 0;

	if (state->num > 0 && state->err == PHSTORE_OK) {
		state->err = phstore_ship_apply(state->r->phd->ship,
						state->ops, state->num,
						&lsn);
		state->r->loaded += state->num;
	}
	state->num = 0;
	talloc_free_children(state->mem);
}

static int load_entry(const uint8_t *key, size_t key_len,
		      const uint8_t *value, size_t value_len, uint32_t shard,
		      void *private_data)
{
	struct load_state *state = private_data;
	struct phstore_ship_op *op = &state->ops[state->num];
	char table[PHR_TABLE_MAX + 1];
	static uint8_t plain[PHR_KEY_MAX];
	size_t table_len = 0;
	size_t plain_len = 0;
	struct phr_record rec = {};
	bool ok;

	(void)shard;
	ok = phr_key_pull(key, key_len, table, &table_len, plain,
			  &plain_len) &&
	     phr_record_pull(value, value_len, key, key_len, &rec);
	if (!ok) {
		state->damaged += 1;
		return 0;
	}
	if (rec.version.epoch < state->prev) {
		/* was there when the last epoch began */
		return 0;
	}
	*op = (struct phstore_ship_op) {
		.table = talloc_strdup(state->mem, table),
		.key.data = talloc_memdup(state->mem, plain, plain_len),
		.key.len = plain_len,
		.value.data = phr_dup(state->mem, rec.value, rec.value_len),
		.value.len = rec.value_len,
		.version.epoch = rec.version.epoch,
		.version.seq = rec.version.seq,
		.durability = rec.durability,
		.deleted = rec.kind == PHR_TOMBSTONE,
	};
	if (op->table == NULL || op->key.data == NULL ||
	    op->value.data == NULL)
	{
		state->err = PHSTORE_ERR_NO_MEMORY;
		return 1;
	}
	state->num += 1;
	if (state->num == LOAD_OPS) {
		load_flush(state);
	}
	return state->err != PHSTORE_OK;
}

/*
 * prev: the epoch that ended. Who has what that began with needs what was
 * written in it only, the deletions among it, as these are pruned when all
 * members have read them. Everybody else begins with nothing.
 */
enum phstore_err phd_rados_load(struct phd_rados *r, uint64_t prev)
{
	struct load_state *state = talloc_zero(r, struct load_state);
	struct phstore_ship *ship = r->phd->ship;
	enum phstore_err err = PHSTORE_OK;
	uint64_t head;

	if (state == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	state->r = r;
	state->mem = talloc_new(state);
	r->loaded = 0;
	if (prev != 0 && r->loaded_epoch == prev) {
		state->prev = prev;
	} else {
		err = phstore_ship_clear(ship);
	}
	r->loaded_epoch = 0;
	if (err == PHSTORE_OK) {
		err = phr_scan(&r->conn, (const uint8_t *)"R", 1, true,
			       load_entry, state);
	}
	if (err == PHSTORE_OK) {
		load_flush(state);
		err = state->err;
	}
	if (state->damaged > 0) {
		phd_log(0, "%" PRIu64 " records in RADOS are damaged",
			state->damaged);
	}
	talloc_free(state);
	if (err == PHSTORE_OK) {
		/* nothing older can come: all versions are of this epoch */
		err = phstore_ship_forget_all(ship);
	}
	/* nothing that was loaded is to be shipped */
	head = phstore_ship_head(ship);
	phstore_ship_seek(ship, head);
	phd_rados_advance(r);
	return err;
}

#endif /* PHSTORE_WITH_RADOS */

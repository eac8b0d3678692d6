/*
 * phstore local backend: all keys in order, tombstones among them
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * For the daemon of a sink (phstore_ship.h): what it gives to the others,
 * and what it forgets. The keys are copied under the append mutex, sorted
 * outside, the values read one by one as they are then.
 */

#include "local.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Start over this often when a record moves while it is read. */
#define READ_TRIES 100

struct snap_key {
	size_t ofs;		/* in buf */
	uint32_t len;
	const uint8_t *p;	/* once buf moves no more */
};

struct phstore_ship_snapshot {
	struct phstore *store;
	bool tombstones_only;
	uint64_t min_epoch;
	uint8_t *buf;
	size_t len, size;
	struct snap_key *keys;
	size_t num, max;
	bool nomem;
	uint8_t *value;
	size_t value_size;
};

static int snap_destructor(struct phstore_ship_snapshot *s)
{
	free(s->buf);
	free(s->keys);
	free(s->value);
	return 0;
}

static int snap_collect(struct tdb_context *tdb, TDB_DATA key, TDB_DATA data,
			void *private_data)
{
	struct phstore_ship_snapshot *s = private_data;
	struct local_entry e = {};
	bool ok;

	(void)tdb;
	ok = local_entry_pull(data.dptr, data.dsize, &e);
	if (!ok || (s->tombstones_only && e.kind != PHSTORE_OP_DELETE) ||
	    e.version.epoch < s->min_epoch)
	{
		return 0;
	}
	if (s->len + key.dsize > s->size) {
		size_t size = (s->len + key.dsize) * 2 + 65536;
		uint8_t *buf = realloc(s->buf, size);

		if (buf == NULL) {
			s->nomem = true;
			return -1;
		}
		s->buf = buf;
		s->size = size;
	}
	if (s->num == s->max) {
		size_t max = s->max * 2 + 1024;
		struct snap_key *keys = realloc(s->keys, max * sizeof(*keys));

		if (keys == NULL) {
			s->nomem = true;
			return -1;
		}
		s->keys = keys;
		s->max = max;
	}
	memcpy(s->buf + s->len, key.dptr, key.dsize);
	s->keys[s->num++] = (struct snap_key) {
		.ofs = s->len,
		.len = (uint32_t)key.dsize,
	};
	s->len += key.dsize;
	return 0;
}

static int bytes_cmp(const uint8_t *a, size_t a_len,
		     const uint8_t *b, size_t b_len)
{
	int ret = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (ret != 0) {
		return ret;
	}
	return a_len < b_len ? -1 : a_len > b_len;
}

static int key_cmp(const void *a, const void *b)
{
	const struct snap_key *x = a;
	const struct snap_key *y = b;

	return bytes_cmp(x->p, x->len, y->p, y->len);
}

static enum phstore_err collect(struct local_store *ls,
				struct phstore_ship_snapshot *s)
{
	(void)tdb_traverse_read(ls->index, snap_collect, s);
	if (s->nomem) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	return PHSTORE_OK;
}

enum phstore_err local_snapshot(TALLOC_CTX *mem_ctx,
				struct local_store *ls,
				uint64_t min_epoch,
				struct phstore_ship_snapshot **snap)
{
	struct phstore_ship_snapshot *s = NULL;
	enum phstore_err err;
	size_t i;

	s = talloc_zero(mem_ctx, struct phstore_ship_snapshot);
	if (s == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	s->store = ls->store;
	s->min_epoch = min_epoch;
	talloc_set_destructor(s, snap_destructor);
	err = local_append_lock(ls);
	if (err == PHSTORE_OK) {
		err = collect(ls, s);
		local_append_unlock(ls);
	}
	if (err != PHSTORE_OK) {
		talloc_free(s);
		return err;
	}
	for (i = 0; i < s->num; i++) {
		s->keys[i].p = s->buf + s->keys[i].ofs;
	}
	if (s->num > 0) {
		qsort(s->keys, s->num, sizeof(s->keys[0]), key_cmp);
	}
	*snap = s;
	return PHSTORE_OK;
}

size_t phstore_ship_snapshot_len(const struct phstore_ship_snapshot *s)
{
	return s->num;
}

size_t phstore_ship_snapshot_above(const struct phstore_ship_snapshot *s,
				   struct phstore_blob key)
{
	size_t low = 0;
	size_t high = s->num;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int cmp = bytes_cmp(s->keys[mid].p, s->keys[mid].len,
				    key.data, key.len);

		if (cmp <= 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

static enum phstore_err snap_value(struct phstore_ship_snapshot *s,
				   const struct local_entry *e)
{
	if (s->value_size < e->value_len) {
		uint8_t *value = realloc(s->value, e->value_len);

		if (value == NULL) {
			return phstore_fail(PHSTORE_ERR_NO_MEMORY,
					    "out of memory");
		}
		s->value = value;
		s->value_size = e->value_len;
	}
	return local_read_value(s->store->backend, e, s->value);
}

static void snap_damaged(struct local_store *ls, const struct local_entry *e)
{
	const struct local_seg *seg = local_seg_find(ls, e->lsn);

	if (seg != NULL) {
		local_damage_found(ls, seg, e->lsn, e->end_lsn - e->lsn,
				   LOCAL_DAMAGE_FRAME);
	}
}

enum phstore_err phstore_ship_snapshot_get(struct phstore_ship_snapshot *s,
					   size_t i,
					   struct phstore_ship_op *op)
{
	struct local_store *ls = s->store->backend;
	const struct snap_key *k = &s->keys[i];
	size_t table_len = strlen((const char *)k->p);
	enum phstore_err err = PHSTORE_OK;
	int tries;

	for (tries = 0; tries < READ_TRIES; tries++) {
		struct local_entry e = {};

		err = local_append_lock(ls);
		if (err != PHSTORE_OK) {
			return err;
		}
		err = local_index_get(ls, k->p, table_len,
				      k->p + table_len + 1,
				      k->len - table_len - 1, &e);
		local_append_unlock(ls);
		if (err != PHSTORE_OK) {
			return err;
		}
		err = snap_value(s, &e);
		if (atomic_load(&ls->shared->tail) > e.lsn) {
			/* moved while being read */
			continue;
		}
		if (err == PHSTORE_ERR_CORRUPT) {
			snap_damaged(ls, &e);
		}
		if (err != PHSTORE_OK) {
			return err;
		}
		*op = (struct phstore_ship_op) {
			.table = (const char *)k->p,
			.key = {
				.data = k->p + table_len + 1,
				.len = k->len - table_len - 1,
			},
			.value = { .data = s->value, .len = e.value_len },
			.version = e.version,
			.durability = (enum phstore_class)e.durability,
			.deleted = e.kind == PHSTORE_OP_DELETE,
		};
		return PHSTORE_OK;
	}
	return err != PHSTORE_OK ? err :
		phstore_fail(PHSTORE_ERR_BUSY, "record moves all the time");
}

/* Drop all tombstones from the index. */
enum phstore_err local_drop_tombstones(struct local_store *ls)
{
	struct phstore_ship_snapshot s = {
		.store = ls->store,
		.tombstones_only = true,
	};
	enum phstore_err err;
	size_t i;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = collect(ls, &s);
	for (i = 0; i < s.num && err == PHSTORE_OK; i++) {
		const uint8_t *p = s.buf + s.keys[i].ofs;
		struct phstore_frame_op op = {
			.table = p,
			.table_len = strlen((const char *)p),
		};

		op.key = p + op.table_len + 1;
		op.key_len = s.keys[i].len - op.table_len - 1;
		err = local_index_drop(ls, &op);
	}
	local_append_unlock(ls);
	snap_destructor(&s);
	return err;
}

/*
 * phstore local backend: get, scan, stat, verify, history
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Values are read without the log's lock. Compaction may retire the segment
 * meanwhile; so after reading, the reader looks whether the tail has passed
 * it and starts over if so.
 */

#include "local.h"
#include "phstore_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Start over this often before calling it an error. */
#define READ_TRIES 100

/* Append mutex held, or the caller checks the tail afterwards. */
enum phstore_err local_read_value(struct local_store *ls,
				  const struct local_entry *e,
				  uint8_t *buf)
{
	const struct local_seg *found = local_seg_find(ls, e->value_lsn);
	struct local_seg seg;
	uint32_t crc;
	ssize_t n;
	int fd;

	if (e->value_len == 0) {
		return PHSTORE_OK;
	}
	if (found == NULL) {
		return PHSTORE_ERR_CORRUPT;
	}
	seg = *found;
	fd = local_fd_get(ls, seg.segno);
	if (fd == -1) {
		return phstore_fail(PHSTORE_ERR_IO,
				    "%s/seg-%016" PRIx64 ": %s",
				    ls->store->path, seg.segno,
				    strerror(errno));
	}
	n = phstore_io_read_full(fd, buf, e->value_len,
				 e->value_lsn - seg.start);
	local_fd_put(ls, seg.segno);
	if (n == -1) {
		return phstore_fail(PHSTORE_ERR_IO,
				    "%s/seg-%016" PRIx64 ": %s",
				    ls->store->path, seg.segno,
				    strerror(errno));
	}
	crc = phstore_crc32(0, buf, n);
	if ((size_t)n != e->value_len || crc != e->value_crc) {
		return phstore_fail(PHSTORE_ERR_CORRUPT,
				    "%s/seg-%016" PRIx64 ": value at offset "
				    "%" PRIu64 " is damaged",
				    ls->store->path, seg.segno,
				    e->value_lsn - seg.start);
	}
	return PHSTORE_OK;
}

enum phstore_err local_get(TALLOC_CTX *mem_ctx,
			   struct phstore *store,
			   const char *table,
			   struct phstore_blob key,
			   struct phstore_record *rec)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	enum phstore_err err = PHSTORE_OK;
	int tries;

	for (tries = 0; tries < READ_TRIES; tries++) {
		struct local_entry e = {};
		uint8_t *buf = NULL;

		err = local_append_lock(ls);
		if (err != PHSTORE_OK) {
			return err;
		}
		err = local_index_get(ls, (const uint8_t *)table,
				      strlen(table), key.data, key.len, &e);
		local_append_unlock(ls);
		if (err == PHSTORE_OK && e.kind == PHSTORE_OP_DELETE) {
			err = PHSTORE_ERR_NOT_FOUND;
		}
		if (err != PHSTORE_OK) {
			return err;
		}
		buf = talloc_array(mem_ctx, uint8_t,
				   key.len + e.value_len + 1);
		if (buf == NULL) {
			return phstore_fail(PHSTORE_ERR_NO_MEMORY,
					    "out of memory");
		}
		err = local_read_value(ls, &e, buf);
		if (atomic_load(&sh->tail) > e.lsn) {
			/* moved while being read */
			TALLOC_FREE(buf);
			continue;
		}
		if (err != PHSTORE_OK) {
			TALLOC_FREE(buf);
			return err;
		}
		memcpy(buf + e.value_len, key.data, key.len);
		*rec = (struct phstore_record) {
			.key = { buf + e.value_len, key.len },
			.value = { buf, e.value_len },
			.version = e.version,
			.durability = (enum phstore_class)e.durability,
			.lsn = e.end_lsn,
		};
		return PHSTORE_OK;
	}
	return err != PHSTORE_OK ? err :
		phstore_fail(PHSTORE_ERR_BUSY, "record moves all the time");
}

/* A key of the snapshot; in one buffer after another. */
struct scan_state {
	const char *table;
	size_t table_len;
	uint8_t *buf;
	size_t len;
	size_t size;
	uint64_t num;
	bool nomem;
};

static int scan_collect(struct tdb_context *tdb, TDB_DATA key, TDB_DATA data,
			void *private_data)
{
	struct scan_state *state = private_data;
	struct local_entry e = {};
	uint32_t klen = (uint32_t)key.dsize;
	size_t need = state->len + sizeof(klen) + key.dsize;
	bool ok;

	(void)tdb;
	ok = local_entry_pull(data.dptr, data.dsize, &e);
	if (!ok || e.kind != PHSTORE_OP_PUT) {
		return 0;
	}
	if (state->table != NULL &&
	    (key.dsize <= state->table_len ||
	     memcmp(key.dptr, state->table, state->table_len + 1) != 0))
	{
		return 0;
	}
	if (need > state->size) {
		size_t size = need * 2 + 4096;
		uint8_t *buf = realloc(state->buf, size);

		if (buf == NULL) {
			state->nomem = true;
			return -1;
		}
		state->buf = buf;
		state->size = size;
	}
	memcpy(state->buf + state->len, &klen, sizeof(klen));
	memcpy(state->buf + state->len + sizeof(klen), key.dptr, key.dsize);
	state->len = need;
	state->num += 1;
	return 0;
}

enum phstore_err local_scan(struct phstore *store,
			    const char *table,
			    phstore_scan_fn fn,
			    void *private_data,
			    uint64_t *count)
{
	struct local_store *ls = store->backend;
	struct scan_state state = {
		.table = table,
		.table_len = table != NULL ? strlen(table) : 0,
	};
	enum phstore_err err;
	size_t ofs = 0;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	(void)tdb_traverse_read(ls->index, scan_collect, &state);
	local_append_unlock(ls);
	if (state.nomem) {
		err = phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
		goto done;
	}
	while (ofs < state.len) {
		struct phstore_record rec = {};
		TALLOC_CTX *frame = NULL;
		const char *name = NULL;
		size_t name_len;
		uint32_t klen;
		int stop;

		memcpy(&klen, state.buf + ofs, sizeof(klen));
		name = (const char *)state.buf + ofs + sizeof(klen);
		name_len = strlen(name);
		ofs += sizeof(klen) + klen;

		frame = talloc_new(NULL);
		if (frame == NULL) {
			err = phstore_fail(PHSTORE_ERR_NO_MEMORY,
					   "out of memory");
			goto done;
		}
		err = local_get(frame, store, name,
				(struct phstore_blob) {
					.data = name + name_len + 1,
					.len = klen - name_len - 1,
				}, &rec);
		if (err == PHSTORE_ERR_NOT_FOUND) {
			/* deleted since the snapshot */
			TALLOC_FREE(frame);
			err = PHSTORE_OK;
			continue;
		}
		if (err != PHSTORE_OK) {
			TALLOC_FREE(frame);
			goto done;
		}
		*count += 1;
		stop = fn(name, &rec, private_data);
		TALLOC_FREE(frame);
		if (stop != 0) {
			break;
		}
	}
done:
	free(state.buf);
	return err;
}

enum phstore_err local_stat(struct phstore *store, struct phstore_stat *st)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	enum phstore_err err;
	uint32_t i;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	memcpy(st->uuid, sh->super.uuid, sizeof(st->uuid));
	st->format_version = LOCAL_FORMAT_VERSION;
	st->epoch = sh->super.epoch;
	st->segment_size = sh->super.segment_size;
	st->num_segments = atomic_load(&sh->seg_end) -
			   atomic_load(&sh->seg_begin);
	for (i = 0; i < LOCAL_MAX_SPARES; i++) {
		st->num_spares += atomic_load(&sh->spare_ready[i]);
	}
	st->tail_lsn = atomic_load(&sh->tail);
	st->head_lsn = atomic_load(&sh->head);
	st->durable_lsn = atomic_load(&sh->durable);
	st->log_bytes = st->head_lsn - st->tail_lsn;
	st->live_bytes = atomic_load(&sh->live_bytes);
	st->num_records = atomic_load(&sh->num_records);
	st->num_tombstones = atomic_load(&sh->num_tombstones);
	st->num_appends = atomic_load(&sh->num_appends);
	st->num_elided = atomic_load(&sh->num_elided);
	st->appended_bytes = atomic_load(&sh->appended_bytes);
	st->num_syncs = atomic_load(&sh->num_syncs);
	st->num_meta_syncs = atomic_load(&sh->num_meta_syncs);
	st->num_barriers = atomic_load(&sh->num_barriers);
	st->num_compacted = atomic_load(&sh->num_compacted);
	st->num_owner_deaths = atomic_load(&sh->num_owner_deaths);
	st->sync_ns_total = atomic_load(&sh->sync_ns_total);
	st->sync_ns_max = atomic_load(&sh->sync_ns_max);
	st->sync_ns_avg = atomic_load(&sh->sync_ns_avg);
	for (i = 0; i < PHSTORE_LATENCY_BUCKETS; i++) {
		st->barrier_us[i] = atomic_load(&sh->barrier_us[i]);
	}
	st->latched_errno = (int)atomic_load(&sh->latched);
	st->latched = st->latched_errno != 0 ? PHSTORE_ERR_LATCHED :
					       PHSTORE_OK;
	st->num_damaged = atomic_load(&sh->num_damage);
	st->torn_tail_bytes = sh->torn_tail_bytes;
	st->recovery_us = sh->recovery_us;
	st->live = !store->read_only;
	local_append_unlock(ls);
	return PHSTORE_OK;
}

void local_damage_add(struct local_store *ls,
		      const struct local_seg *seg,
		      uint64_t lsn, uint64_t len,
		      enum local_damage_reason reason)
{
	struct local_shared *sh = ls->shared;
	uint32_t n = atomic_load(&sh->num_damage);

	if (n < LOCAL_MAX_DAMAGE) {
		sh->damage[n] = (struct local_damage) {
			.lsn = lsn,
			.len = len,
			.segno = seg->segno,
			.ofs = lsn - seg->start,
			.reason = reason,
		};
	}
	atomic_store(&sh->num_damage, n + 1);
}

void local_damage_found(struct local_store *ls,
			const struct local_seg *seg,
			uint64_t lsn, uint64_t len,
			enum local_damage_reason reason)
{
	struct local_shared *sh = ls->shared;
	uint32_t n = atomic_load(&sh->num_damage);
	uint32_t i;

	for (i = 0; i < n && i < LOCAL_MAX_DAMAGE; i++) {
		if (sh->damage[i].lsn == lsn) {
			return;
		}
	}
	/* of more than that nobody knows which are told already */
	if (n < LOCAL_MAX_DAMAGE) {
		local_damage_add(ls, seg, lsn, len, reason);
	}
}

enum phstore_err local_damage_get(struct phstore *store,
				  uint64_t i,
				  struct phstore_damage *damage)
{
	static const char *reasons[] = {
		[LOCAL_DAMAGE_FRAME] = "no valid frame",
		[LOCAL_DAMAGE_MISSING] = "file is missing",
		[LOCAL_DAMAGE_HEADER] = "segment header is damaged",
		[LOCAL_DAMAGE_TRUNCATED] = "file is too short",
	};
	static __thread char file[32];
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	struct local_damage *d = NULL;

	if (i >= atomic_load(&sh->num_damage) || i >= LOCAL_MAX_DAMAGE) {
		return PHSTORE_ERR_NOT_FOUND;
	}
	d = &sh->damage[i];
	snprintf(file, sizeof(file), "seg-%016" PRIx64, d->segno);
	*damage = (struct phstore_damage) {
		.lsn = d->lsn,
		.len = d->len,
		.file = file,
		.offset = d->ofs,
		.reason = d->reason < 4 ? reasons[d->reason] : "unknown",
	};
	return PHSTORE_OK;
}

struct verify_state {
	uint64_t frames;
	uint64_t regions;
	uint64_t bytes;
};

static enum phstore_err verify_frame(struct local_store *ls,
				     const struct local_seg *seg,
				     const struct phstore_frame_hdr *hdr,
				     const uint8_t *buf,
				     void *private_data)
{
	struct verify_state *state = private_data;

	(void)ls;
	(void)seg;
	(void)hdr;
	(void)buf;
	state->frames += 1;
	return PHSTORE_OK;
}

static void verify_damage(struct local_store *ls,
			  const struct local_seg *seg,
			  uint64_t lsn, uint64_t len,
			  enum local_damage_reason reason,
			  void *private_data)
{
	struct verify_state *state = private_data;

	state->regions += 1;
	state->bytes += len;
	local_damage_found(ls, seg, lsn, len, reason);
}

static void verify_header(struct local_store *ls,
			  const struct local_seg *seg,
			  struct verify_state *state)
{
	uint8_t buf[LOCAL_SEG_HDR];
	struct local_seg found = {};
	bool ok = false;
	ssize_t n;
	int fd;

	fd = local_fd_get(ls, seg->segno);
	if (fd == -1) {
		/* the walk has told of it */
		return;
	}
	n = phstore_io_read_full(fd, buf, sizeof(buf), 0);
	local_fd_put(ls, seg->segno);
	if (n != -1) {
		ok = local_seg_hdr_pull(buf, n, ls->seed, &found) &&
		     found.segno == seg->segno;
	}
	if (!ok) {
		verify_damage(ls, seg, seg->start, LOCAL_SEG_HDR,
			      LOCAL_DAMAGE_HEADER, state);
	}
}

static void log_end(struct phstore *store, struct local_seg *segs)
{
	struct local_store *ls = store->backend;

	free(segs);
	if (!store->read_only) {
		pthread_mutex_unlock(&ls->shared->maint);
	}
}

/* The log as it is now. No compaction until log_end(). */
static enum phstore_err log_begin(struct phstore *store,
				  struct local_seg **segs,
				  uint32_t *num,
				  uint64_t *head,
				  struct local_super *super)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	enum phstore_err err;
	uint32_t begin, i;
	int ret;

	if (!store->read_only) {
		ret = local_maint_lock(ls);
		if (ret != 0) {
			return phstore_fail(PHSTORE_ERR_IO, "%s: %s",
					    store->path, strerror(ret));
		}
	}
	*segs = calloc(LOCAL_MAX_SEGMENTS, sizeof(**segs));
	if (*segs == NULL) {
		log_end(store, NULL);
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		log_end(store, *segs);
		return err;
	}
	begin = atomic_load(&sh->seg_begin);
	*num = atomic_load(&sh->seg_end) - begin;
	for (i = 0; i < *num; i++) {
		(*segs)[i] = sh->segs[(begin + i) % LOCAL_MAX_SEGMENTS];
	}
	*head = atomic_load(&sh->head);
	*super = sh->super;
	local_append_unlock(ls);
	return PHSTORE_OK;
}

enum phstore_err local_verify(struct phstore *store)
{
	static const struct local_walk_fn fns = {
		.frame = verify_frame,
		.damage = verify_damage,
	};
	struct local_store *ls = store->backend;
	struct verify_state state = {};
	struct local_seg *segs = NULL;
	struct local_super super;
	enum phstore_err err;
	uint64_t head, end = 0;
	uint32_t num, i;

	err = log_begin(store, &segs, &num, &head, &super);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = local_walk(ls, segs, num, 0, head, &super, &fns, &state, &end,
			 NULL);
	for (i = 0; err == PHSTORE_OK && i < num; i++) {
		verify_header(ls, &segs[i], &state);
	}
	if (err == PHSTORE_OK && state.regions > 0) {
		err = phstore_fail(PHSTORE_ERR_CORRUPT,
				   "%s: %" PRIu64 " damaged region(s), %"
				   PRIu64 " bytes; %" PRIu64
				   " transactions are intact",
				   store->path, state.regions, state.bytes,
				   state.frames);
	}
	log_end(store, segs);
	return err;
}

struct history_state {
	const char *table;
	size_t table_len;
	struct phstore_blob key;
	phstore_history_fn fn;
	void *private_data;
	bool stopped;
};

static enum phstore_err history_frame(struct local_store *ls,
				      const struct local_seg *seg,
				      const struct phstore_frame_hdr *hdr,
				      const uint8_t *buf,
				      void *private_data)
{
	struct history_state *state = private_data;
	size_t ofs = PHSTORE_FRAME_HDR;
	uint16_t i;
	int ret;

	(void)ls;
	(void)seg;
	for (i = 0; i < hdr->num_ops && !state->stopped; i++) {
		struct phstore_frame_op op = {};
		struct phstore_record rec = {};

		(void)phstore_op_pull(buf + ofs, hdr->len - ofs, ofs, &op);
		ofs += op.len;
		if (op.table_len != state->table_len ||
		    op.key_len != state->key.len ||
		    memcmp(op.table, state->table, op.table_len) != 0 ||
		    memcmp(op.key, state->key.data, op.key_len) != 0)
		{
			continue;
		}
		rec = (struct phstore_record) {
			.key = state->key,
			.value = { .data = op.value, .len = op.value_len },
			.version = op.version,
			.durability = op.durability,
			.lsn = hdr->lsn + hdr->len,
		};
		ret = state->fn(&rec, op.kind == PHSTORE_OP_DELETE,
				state->private_data);
		state->stopped = (ret != 0);
	}
	return PHSTORE_OK;
}

static void history_damage(struct local_store *ls,
			   const struct local_seg *seg,
			   uint64_t lsn, uint64_t len,
			   enum local_damage_reason reason,
			   void *private_data)
{
	(void)ls;
	(void)seg;
	(void)lsn;
	(void)len;
	(void)reason;
	(void)private_data;
}

enum phstore_err local_history(struct phstore *store,
			       const char *table,
			       struct phstore_blob key,
			       phstore_history_fn fn,
			       void *private_data)
{
	static const struct local_walk_fn fns = {
		.frame = history_frame,
		.damage = history_damage,
	};
	struct history_state state = {
		.table = table,
		.table_len = strlen(table),
		.key = key,
		.fn = fn,
		.private_data = private_data,
	};
	struct local_seg *segs = NULL;
	struct local_super super;
	enum phstore_err err;
	uint64_t head, end = 0;
	uint32_t num;

	err = log_begin(store, &segs, &num, &head, &super);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = local_walk(store->backend, segs, num, 0, head, &super, &fns,
			 &state, &end, NULL);
	log_end(store, segs);
	return err;
}

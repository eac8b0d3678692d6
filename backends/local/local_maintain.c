/*
 * phstore local backend: spare segments and compaction
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Done by helper threads and blocking committers after their own work, by
 * one process at a time (maint mutex, trylock: who does not get it goes on).
 *
 * Compaction empties the first segment: what is still current in it is
 * appended again, tombstones are dropped (all older frames of their key are
 * gone), then the tail moves. It starts when the log is more than three
 * times the live data and half a segment, so that it has space to work in
 * below the bound of P5: log <= 4 x live + one segment.
 *
 * Barriers: the whole first segment durable; copies; everything up to here
 * durable; superblock written and synced; then the file may be used again.
 * The first, because a dropped tombstone must have been durable (who deletes
 * the same key again is told that nothing is left to wait for). The second,
 * although nothing may have been copied: what made a record of this segment
 * obsolete may itself be unsynced yet, and would be lost with it.
 */

#include "local.h"
#include "phstore_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Compaction steps of one call, when not asked to go on until done. */
#define MAINTAIN_STEPS 2

static bool compaction_wanted(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint64_t used = atomic_load(&sh->head) - atomic_load(&sh->tail);
	uint64_t live = atomic_load(&sh->live_bytes);
	uint32_t segs = atomic_load(&sh->seg_end) -
			atomic_load(&sh->seg_begin);

	if (segs < 2 && local_seg_last(ls)->size <= sh->super.segment_size) {
		return false;
	}
	if (used <= 3 * live + sh->super.segment_size / 2) {
		return false;
	}
	if (atomic_load(&sh->sink_kind) != LOCAL_SINK_NONE) {
		uint32_t i = atomic_load(&sh->seg_begin);
		const struct local_seg *first =
			&sh->segs[i % LOCAL_MAX_SEGMENTS];

		/* what the sink has not got yet is read from the log */
		return first->start + first->size <=
		       atomic_load(&sh->sink.released);
	}
	return true;
}

bool local_wants_maintenance(struct phstore *store)
{
	struct local_store *ls = store->backend;

	if (store->read_only || atomic_load(&ls->shared->latched) != 0) {
		return false;
	}
	return local_spare_wanted(ls) || compaction_wanted(ls);
}

struct compact_state {
	uint8_t *buf;
	size_t size;
};

/* Append an operation again, if it still is the newest of its key. */
static enum phstore_err compact_op(struct local_store *ls,
				   const struct phstore_frame_hdr *hdr,
				   const struct phstore_frame_op *op,
				   struct compact_state *state)
{
	struct local_shared *sh = ls->shared;
	struct local_entry e = {};
	size_t need = PHSTORE_FRAME_HDR + op->len + PHSTORE_FRAME_ALIGN;
	bool sink = atomic_load(&sh->sink_kind) != LOCAL_SINK_NONE;
	uint64_t end_lsn = 0;
	enum phstore_err err;

	if (state->size < need) {
		uint8_t *buf = realloc(state->buf, need);

		if (buf == NULL) {
			return phstore_fail(PHSTORE_ERR_NO_MEMORY,
					    "out of memory");
		}
		state->buf = buf;
		state->size = need;
	}
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = local_index_get(ls, op->table, op->table_len,
			      op->key, op->key_len, &e);
	if (err == PHSTORE_ERR_NOT_FOUND) {
		err = PHSTORE_OK;
		goto done;
	}
	if (err != PHSTORE_OK) {
		goto done;
	}
	if (e.value_lsn != hdr->lsn + op->value_ofs) {
		/* there is a newer one */
		goto done;
	}
	if (op->kind == PHSTORE_OP_DELETE && !sink) {
		err = local_index_drop(ls, op);
		goto done;
	}
	(void)phstore_op_push(state->buf + PHSTORE_FRAME_HDR, op);
	err = local_append_frame(ls, state->buf,
				 PHSTORE_FRAME_HDR + op->len, 1,
				 sink ? PHSTORE_FRAME_COPY :
					PHSTORE_FRAME_TXN,
				 true, &e, &end_lsn);
	if (err == PHSTORE_OK) {
		atomic_fetch_add(&sh->num_compacted, 1);
	}
done:
	local_append_unlock(ls);
	PHSTORE_TEST_POINT("compact: op");
	return err;
}

static enum phstore_err compact_frame(struct local_store *ls,
				      const struct local_seg *seg,
				      const struct phstore_frame_hdr *hdr,
				      const uint8_t *buf,
				      void *private_data)
{
	struct compact_state *state = private_data;
	size_t ofs = PHSTORE_FRAME_HDR;
	enum phstore_err err;
	uint16_t i;

	(void)seg;
	for (i = 0; i < hdr->num_ops; i++) {
		struct phstore_frame_op op = {};

		(void)phstore_op_pull(buf + ofs, hdr->len - ofs, ofs, &op);
		err = compact_op(ls, hdr, &op, state);
		if (err != PHSTORE_OK) {
			return err;
		}
		ofs += op.len;
	}
	return PHSTORE_OK;
}

/* Empty the first segment; maint mutex held. */
static enum phstore_err compact_step(struct local_store *ls)
{
	static const struct local_walk_fn fns = { .frame = compact_frame };
	struct local_shared *sh = ls->shared;
	struct compact_state state = {};
	struct local_super super = sh->super;
	struct local_seg first, second;
	enum phstore_err err;
	uint32_t begin;
	uint64_t end = 0;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	begin = atomic_load(&sh->seg_begin);
	if (begin + 1 == atomic_load(&sh->seg_end)) {
		/* one huge frame's own segment, and that is obsolete */
		err = local_seg_rotate(ls, 0);
		if (err != PHSTORE_OK) {
			local_append_unlock(ls);
			return err;
		}
	}
	first = sh->segs[begin % LOCAL_MAX_SEGMENTS];
	second = sh->segs[(begin + 1) % LOCAL_MAX_SEGMENTS];
	local_append_unlock(ls);

	err = local_barrier_disk(ls->store, second.start, 0);
	if (err != PHSTORE_OK) {
		return err;
	}
	/* known: its end, the segment behind it is in use */
	err = local_walk(ls, &first, 1, 0, first.start + first.size,
			 &super, &fns, &state, &end, NULL);
	free(state.buf);
	if (err != PHSTORE_OK) {
		return err;
	}
	PHSTORE_TEST_POINT("compact: copied");
	err = local_barrier_disk(ls->store, atomic_load(&sh->head), 0);
	if (err != PHSTORE_OK) {
		return err;
	}
	super = sh->super;
	super.seq += 1;
	super.tail_segno = second.segno;
	super.tail_lsn = second.start;
	super.durable = atomic_load(&sh->durable);
	super.sink_released = atomic_load(&sh->sink.released);
	err = local_super_write(ls, &super);
	if (err != PHSTORE_OK) {
		return err;
	}
	PHSTORE_TEST_POINT("compact: superblock");

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (atomic_load(&sh->seg_begin) == begin) {
		atomic_store(&sh->seg_begin, begin + 1);
		PHSTORE_TEST_POINT("compact: begin moved");
		atomic_store(&sh->tail, second.start);
	}
	local_append_unlock(ls);
	PHSTORE_TEST_POINT("compact: tail moved");

	local_seg_retire(ls, &first);
	local_fd_forget_below(ls, second.segno);
	return PHSTORE_OK;
}

/* What a maintainer that was killed left half done. */
static void maintain_repair(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	struct local_super super = {};
	enum phstore_err err;
	uint32_t begin;

	/* the superblock may be newer than what is remembered of it */
	err = local_super_read(ls, &super);
	if (err != PHSTORE_OK) {
		return;
	}
	local_super_remember(sh, &super);
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return;
	}
	begin = atomic_load(&sh->seg_begin);
	if (begin > 0) {
		/* left the log, but the file may still have its name */
		local_seg_retire(ls,
				 &sh->segs[(begin - 1) % LOCAL_MAX_SEGMENTS]);
	}
	while (begin + 1 < atomic_load(&sh->seg_end) &&
	       sh->segs[begin % LOCAL_MAX_SEGMENTS].segno < super.tail_segno)
	{
		struct local_seg seg = sh->segs[begin % LOCAL_MAX_SEGMENTS];

		begin += 1;
		atomic_store(&sh->seg_begin, begin);
		local_seg_retire(ls, &seg);
	}
	atomic_store(&sh->tail, sh->segs[begin % LOCAL_MAX_SEGMENTS].start);
	local_append_unlock(ls);
}

int local_maint_lock(struct local_store *ls)
{
	bool owner_died = false;
	int ret;

	ret = local_mutex_lock(ls, &ls->shared->maint, &owner_died);
	if (owner_died) {
		maintain_repair(ls);
	}
	return ret;
}

enum phstore_err local_maintain(struct phstore *store, bool until_done)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	enum phstore_err err = PHSTORE_OK;
	int steps = MAINTAIN_STEPS;
	int ret;

	if (until_done) {
		ret = local_maint_lock(ls);
		/* one round empties every segment there is now */
		steps = LOCAL_MAX_SEGMENTS;
	} else {
		ret = pthread_mutex_trylock(&sh->maint);
		if (ret == EBUSY) {
			return PHSTORE_OK;
		}
		if (ret == EOWNERDEAD) {
			atomic_fetch_add(&sh->num_owner_deaths, 1);
			ret = pthread_mutex_consistent(&sh->maint);
			maintain_repair(ls);
		}
	}
	if (ret != 0) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: maintenance lock: "
				    "%s", store->path, strerror(ret));
	}
	while (steps > 0 && err == PHSTORE_OK) {
		if (atomic_load(&sh->latched) != 0) {
			err = local_latched_error(ls);
		} else if (compaction_wanted(ls)) {
			err = compact_step(ls);
		} else if (local_spare_wanted(ls)) {
			err = local_spare_make(ls);
		} else {
			break;
		}
		steps -= 1;
	}
	pthread_mutex_unlock(&sh->maint);
	return err;
}

/*
 * phstore local backend: stage
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * One critical section: look up, check versions, one pwrite, move head,
 * update the index. No sync, no wait for a disk in it but what a page cache
 * may do.
 */

#include "local.h"
#include "phstore_bytes.h"
#include "phstore_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum phstore_err local_latched_error(struct local_store *ls)
{
	uint32_t e = atomic_load(&ls->shared->latched);

	return phstore_fail(PHSTORE_ERR_LATCHED,
			    "%s: a sync failed (%s); close the store in all "
			    "processes and open it again",
			    ls->store->path, strerror((int)e));
}

/* What the last owner of the append mutex left when it was killed. */
static enum phstore_err append_repair(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	const struct local_seg *last = local_seg_last(ls);
	enum phstore_err err;

	if (atomic_load(&sh->head) < last->start) {
		/* rotation: segment added, head not moved */
		atomic_store(&sh->head, last->start + LOCAL_SEG_HDR);
	}
	if (sh->index_busy) {
		uint64_t tail = atomic_load(&sh->tail);

		err = local_index_create(ls, sh->index_gen + 1);
		if (err != PHSTORE_OK) {
			sh->index_busy = 1;
			return err;
		}
		sh->indexed = tail + LOCAL_SEG_HDR;
	}
	if (sh->indexed < atomic_load(&sh->head)) {
		err = local_replay(ls, sh->indexed, atomic_load(&sh->head));
		if (err != PHSTORE_OK) {
			/* whoever is next begins with a new index */
			sh->index_busy = 1;
			return err;
		}
		sh->indexed = atomic_load(&sh->head);
	}
	return PHSTORE_OK;
}

enum phstore_err local_append_lock(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	enum phstore_err err = PHSTORE_OK;
	bool owner_died = false;
	int ret;

	if (ls->store->read_only) {
		return PHSTORE_OK;
	}
	ret = local_mutex_lock(ls, &sh->append, &owner_died);
	if (ret != 0) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: log lock: %s",
				    ls->store->path, strerror(ret));
	}
	if ((ls->index == NULL || ls->index_gen != sh->index_gen) &&
	    !sh->index_busy)
	{
		err = local_index_open(ls);
	}
	if (err == PHSTORE_OK &&
	    (owner_died || sh->index_busy ||
	     sh->indexed != atomic_load(&sh->head)))
	{
		/* it reads the log, and may begin an index */
		phstore_owner_begin(ls->store);
		err = append_repair(ls);
		phstore_owner_end(ls->store);
	}
	if (err != PHSTORE_OK) {
		pthread_mutex_unlock(&sh->append);
	}
	return err;
}

void local_append_unlock(struct local_store *ls)
{
	if (ls->store->read_only) {
		return;
	}
	pthread_mutex_unlock(&ls->shared->append);
}

enum phstore_err local_room(struct phstore *store, size_t bytes)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	const struct local_seg *last = local_seg_last(ls);
	uint64_t end = last->start + last->size - last->size / 8;
	enum phstore_err err;

	if (atomic_load(&sh->latched) != 0) {
		return local_latched_error(ls);
	}
	if (local_has_sink(ls)) {
		err = local_sink_room(ls);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	/* without the lock: a guess, as all of this is a moment later */
	if (atomic_load(&sh->head) + bytes + PHSTORE_FRAME_HDR <= end &&
	    atomic_load(&sh->index_tight) == 0)
	{
		return PHSTORE_OK;
	}
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = local_index_room(ls, bytes, LOCAL_ROOM_ASK);
	if (err == PHSTORE_OK) {
		err = local_seg_reserve(ls, bytes, false);
	}
	local_append_unlock(ls);
	return err;
}

/* The version of the last operation in front of `to` with that key. */
static struct phstore_version version_before(const struct phstore_txn *txn,
					     size_t to,
					     const struct phstore_frame_op *op,
					     struct phstore_version v)
{
	size_t ofs = PHSTORE_FRAME_HDR;

	while (ofs < to) {
		struct phstore_frame_op o = {};

		(void)phstore_op_pull(txn->buf + ofs, to - ofs, ofs, &o);
		if (o.table_len == op->table_len &&
		    o.key_len == op->key_len &&
		    memcmp(o.table, op->table, o.table_len) == 0 &&
		    memcmp(o.key, op->key, o.key_len) == 0)
		{
			v = o.version;
		}
		ofs += o.len;
	}
	return v;
}

/* Is the stored record what the operation would make of it? */
static enum phstore_err same_record(struct local_store *ls,
				    const struct phstore_frame_op *op,
				    const struct local_entry *e,
				    bool *same)
{
	uint8_t stack[4096];
	uint8_t *buf = stack;
	enum phstore_err err;

	*same = false;
	if (op->kind != e->kind) {
		return PHSTORE_OK;
	}
	if (op->kind == PHSTORE_OP_DELETE) {
		*same = true;
		return PHSTORE_OK;
	}
	if (op->durability > e->durability || op->value_len != e->value_len ||
	    op->value_crc != e->value_crc)
	{
		return PHSTORE_OK;
	}
	if (op->value_len > sizeof(stack)) {
		buf = malloc(op->value_len);
		if (buf == NULL) {
			return PHSTORE_OK;
		}
	}
	err = local_read_value(ls, e, buf);
	if (err == PHSTORE_OK) {
		*same = op->value_len == 0 ||
			memcmp(buf, op->value, op->value_len) == 0;
	}
	if (buf != stack) {
		free(buf);
	}
	/* unreadable: then it is time to write it anew */
	return PHSTORE_OK;
}

static int version_cmp(struct phstore_version a, struct phstore_version b)
{
	if (a.epoch != b.epoch) {
		return a.epoch < b.epoch ? -1 : 1;
	}
	if (a.seq != b.seq) {
		return a.seq < b.seq ? -1 : 1;
	}
	return 0;
}

/*
 * The index has this record, and the log has lost it: recovery and compaction
 * drop all of a frame of which a byte is wrong.
 */
static bool is_lost(struct local_store *ls, const struct local_entry *e)
{
	const struct local_seg *seg = local_seg_find(ls, e->lsn);
	struct phstore_frame_hdr hdr = {};
	uint64_t len = e->end_lsn - e->lsn;
	uint8_t *buf = NULL;
	ssize_t n = -1;
	bool ok;
	int fd;

	if (seg == NULL) {
		return true;
	}
	buf = malloc(len);
	if (buf == NULL) {
		return false;
	}
	fd = local_fd_get(ls, seg->segno);
	if (fd != -1) {
		n = phstore_io_read_full(fd, buf, len, e->lsn - seg->start);
		local_fd_put(ls, seg->segno);
	}
	ok = n != -1 && (uint64_t)n == len &&
	     phstore_frame_check(buf, len, e->lsn, ls->seed, true, &hdr);
	free(buf);
	return !ok;
}

/*
 * Check one operation against the stored record.
 * skip: leave it out, *covered is the LSN of what is stored
 */
static enum phstore_err stage_check(struct local_store *ls,
				    const struct phstore_txn_op *top,
				    const struct phstore_frame_op *op,
				    struct local_entry *e,
				    bool *skip,
				    uint64_t *covered)
{
	struct phstore_version none = {};
	struct phstore_version stored = {};
	struct phstore_version live = {};
	enum phstore_err err;
	bool found;

	*skip = false;
	err = local_index_get(ls, op->table, op->table_len,
			      op->key, op->key_len, e);
	if (err != PHSTORE_OK && err != PHSTORE_ERR_NOT_FOUND) {
		return err;
	}
	found = err == PHSTORE_OK;
	if (found) {
		stored = e->version;
		live = e->kind == PHSTORE_OP_PUT ? e->version : none;
	} else {
		*e = (struct local_entry) { .kind = PHSTORE_OP_DELETE };
	}
	if (top->check_version && version_cmp(top->expected, live) != 0) {
		return phstore_fail(PHSTORE_ERR_CONFLICT,
				    "version %" PRIu64 ".%" PRIu64
				    " expected, %" PRIu64 ".%" PRIu64
				    " stored",
				    top->expected.epoch, top->expected.seq,
				    live.epoch, live.seq);
	}
	if (top->if_newer) {
		if (ls->repair && found &&
		    version_cmp(op->version, stored) == 0 &&
		    is_lost(ls, e))
		{
			/* another node's copy; counts as newer */
			stored = none;
			e->version = none;
		}
		*skip = version_cmp(op->version, stored) <= 0;
		return PHSTORE_OK;
	}
	if (!top->auto_version && version_cmp(op->version, stored) < 0) {
		return phstore_fail(PHSTORE_ERR_STALE,
				    "version %" PRIu64 ".%" PRIu64
				    " is below the stored %" PRIu64
				    ".%" PRIu64,
				    op->version.epoch, op->version.seq,
				    stored.epoch, stored.seq);
	}
	if (top->skip_same && top->auto_version &&
	    local_sink_may_skip(ls, top, e))
	{
		err = same_record(ls, op, e, skip);
		if (err != PHSTORE_OK) {
			return err;
		}
		if (*skip && e->end_lsn > *covered) {
			*covered = e->end_lsn;
		}
	}
	return PHSTORE_OK;
}

/* Versions of operations that did not bring their own. */
static void stage_version(struct local_store *ls,
			  uint8_t *buf,
			  const struct local_entry *e,
			  uint64_t lsn)
{
	struct phstore_version v = {
		.epoch = ls->shared->super.epoch,
		.seq = lsn,
	};

	if (version_cmp(v, e->version) <= 0) {
		v = e->version;
		v.seq += 1;
		v.epoch += v.seq == 0 ? 1 : 0;
	}
	phstore_op_set_version(buf, v);
}

enum phstore_err local_append_frame(struct local_store *ls,
				    uint8_t *buf,
				    size_t ops_end,
				    uint16_t num_ops,
				    uint16_t type,
				    bool use_reserve,
				    const struct local_entry *old,
				    uint64_t *end_lsn)
{
	struct local_shared *sh = ls->shared;
	const struct local_seg *seg = NULL;
	struct phstore_frame_hdr hdr = {
		.type = type,
		.num_ops = num_ops,
		.epoch = sh->super.epoch,
	};
	/* else its keys are in the index already */
	bool new_keys = num_ops > 0 && old == NULL;
	size_t ofs = PHSTORE_FRAME_HDR;
	enum phstore_err err;
	uint16_t i;
	int fd, ret, saved_errno;

	for (i = 0; old != NULL && i < num_ops; i++) {
		new_keys = new_keys || old[i].end_lsn == 0;
	}

	hdr.len = (ops_end + PHSTORE_FRAME_ALIGN - 1) &
		  ~(size_t)(PHSTORE_FRAME_ALIGN - 1);
	memset(buf + ops_end, 0, hdr.len - ops_end);

	if (new_keys) {
		err = local_index_room(ls, hdr.len, use_reserve ?
				       LOCAL_ROOM_RESERVE : LOCAL_ROOM_STAGE);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	err = local_seg_reserve(ls, hdr.len, use_reserve);
	if (err != PHSTORE_OK) {
		return err;
	}
	seg = local_seg_last(ls);
	hdr.lsn = atomic_load(&sh->head);
	if (local_worn(&sh->super, seg->segno, hdr.lsn, LOCAL_WORN_APPEND)) {
		return phstore_fail(PHSTORE_ERR_CORRUPT,
				    "%s: position %" PRIu64 " in segment %"
				    PRIx64 ", epoch %" PRIu64 ": no log gets "
				    "that far, nothing is appended",
				    ls->store->path, hdr.lsn, seg->segno,
				    sh->super.epoch);
	}
	hdr.durable = atomic_load(&sh->durable);

	for (i = 0; i < num_ops; i++) {
		struct phstore_frame_op op = {};

		(void)phstore_op_pull(buf + ofs, hdr.len - ofs, ofs, &op);
		if (op.version.epoch == 0 && op.version.seq == 0) {
			struct local_entry e = {};

			if (old != NULL) {
				e = old[i];
			} else {
				(void)local_index_get(
					ls, op.table, op.table_len,
					op.key, op.key_len, &e);
			}
			stage_version(ls, buf + ofs, &e, hdr.lsn);
		}
		ofs += op.len;
	}
	phstore_frame_push(buf, &hdr, ls->seed);

	fd = local_fd_get(ls, seg->segno);
	if (fd == -1) {
		return phstore_fail(PHSTORE_ERR_IO,
				    "%s: segment %" PRIx64 ": %s",
				    ls->store->path, seg->segno,
				    strerror(errno));
	}
	ret = phstore_io_write_full(fd, buf, hdr.len, hdr.lsn - seg->start);
	saved_errno = errno;
	local_fd_put(ls, seg->segno);
	if (ret == -1) {
		return phstore_fail(phstore_io_err(saved_errno),
				    "%s: segment %" PRIx64 ": %s",
				    ls->store->path, seg->segno,
				    strerror(saved_errno));
	}
	PHSTORE_TEST_POINT("append: written");
	/* from here on the transaction is in the log */
	atomic_store(&sh->head, hdr.lsn + hdr.len);
	PHSTORE_TEST_POINT("append: head moved");

	ofs = PHSTORE_FRAME_HDR;
	for (i = 0; i < num_ops; i++) {
		struct phstore_frame_op op = {};

		(void)phstore_op_pull(buf + ofs, hdr.len - ofs, ofs, &op);
		/* a failure marks the index for a rebuild by the next */
		(void)local_index_apply(ls, hdr.lsn, hdr.len, type, &op,
					old != NULL ? &old[i] : NULL);
		PHSTORE_TEST_POINT("append: indexed");
		ofs += op.len;
	}
	sh->indexed = hdr.lsn + hdr.len;
	atomic_fetch_add(&sh->num_appends, 1);
	atomic_fetch_add(&sh->appended_bytes, hdr.len);
	*end_lsn = hdr.lsn + hdr.len;
	return PHSTORE_OK;
}

/* Does an operation in front of this one, up to `to`, have the same key? */
static bool changed_before(const struct phstore_txn *txn,
			   size_t to,
			   const struct phstore_frame_op *op)
{
	size_t ofs = PHSTORE_FRAME_HDR;

	while (ofs < to) {
		struct phstore_frame_op o = {};

		(void)phstore_op_pull(txn->buf + ofs, to - ofs, ofs, &o);
		if (o.table_len == op->table_len &&
		    o.key_len == op->key_len &&
		    memcmp(o.table, op->table, o.table_len) == 0 &&
		    memcmp(o.key, op->key, o.key_len) == 0)
		{
			return true;
		}
		ofs += o.len;
	}
	return false;
}

/* What so few operations find in the index is not looked up again. */
#define STAGE_OLD_MAX 4

enum phstore_err local_stage(struct phstore *store,
			     struct phstore_txn *txn,
			     uint64_t *lsn)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	size_t to = PHSTORE_FRAME_HDR;
	bool use_reserve = true;
	uint16_t kept = 0;
	uint64_t covered = 0;
	struct local_entry e = {};
	struct local_entry old[STAGE_OLD_MAX];
	bool old_known = true;
	enum phstore_err err;
	bool sink = local_has_sink(ls);
	uint16_t i;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (atomic_load(&sh->latched) != 0) {
		err = local_latched_error(ls);
		goto done;
	}
	for (i = 0; i < txn->num_ops; i++) {
		struct phstore_txn_op *top = &txn->ops[i];
		uint8_t *p = txn->buf + top->ofs;
		struct phstore_frame_op op = {};
		bool skip = false;

		(void)phstore_op_pull(p, txn->len - top->ofs, top->ofs, &op);
		err = stage_check(ls, top, &op, &e, &skip, &covered);
		if (err != PHSTORE_OK) {
			goto done;
		}
		if (top->if_newer && !skip) {
			/* also not when this very frame has a newer one */
			skip = version_cmp(op.version,
					   version_before(txn, to, &op,
							  e.version)) <= 0;
		}
		if (skip && (top->if_newer || !changed_before(txn, to, &op))) {
			top->skipped = true;
			top->version = e.version;
			continue;
		}
		if (sink && top->auto_version) {
			struct phstore_version v = e.version;

			if (version_cmp(v, top->seen) < 0) {
				v = top->seen;
			}
			v = version_before(txn, to, &op, v);
			v = local_sink_version(ls, v);
			phstore_op_set_version(p, v);
		}
		use_reserve = use_reserve && top->use_reserve;
		old_known = old_known && kept < STAGE_OLD_MAX &&
			    !changed_before(txn, to, &op);
		if (old_known) {
			old[kept] = e;
		}
		if (top->ofs != to) {
			memmove(txn->buf + to, p, op.len);
			top->ofs = to;
		}
		to += op.len;
		kept += 1;
	}
	if (kept == 0) {
		atomic_fetch_add(&sh->num_elided, 1);
		*lsn = covered;
		goto done;
	}
	if (sink && !txn->is_copy) {
		err = local_sink_gate(ls, txn, use_reserve);
		if (err != PHSTORE_OK) {
			goto done;
		}
	}
	err = local_append_frame(ls, txn->buf, to, kept,
				 txn->is_copy ? PHSTORE_FRAME_COPY :
						PHSTORE_FRAME_TXN,
				 use_reserve,
				 old_known ? old : NULL, lsn);
	if (err != PHSTORE_OK) {
		goto done;
	}
	ls->staged = true;
	if (covered > *lsn) {
		*lsn = covered;
	}
done:
	local_append_unlock(ls);
	return err;
}

/*
 * phstore local backend: the index, key to log position
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A tdb without locks of its own (everything here runs under the append
 * mutex) and without syncs (it is made anew at every start). It is derived
 * from the log, never the other way round.
 *
 * tdb cannot be killed in the middle of a store without a transaction, and
 * transactions would cost more than everything else in stage. So a flag in
 * the shared memory is set around each change; whoever finds it set after
 * an owner died makes a new index from the log, in a new file with the next
 * generation. Others notice the generation and reopen.
 *
 * A frame that is in the log must get into the index, on a full disk as well:
 * so the index has blocks behind its end, for the next time tdb makes it
 * longer, before a frame with new keys is appended.
 *
 * Index key: table, NUL, key. The value is struct local_entry, pushed.
 */

#include "local.h"
#include "phstore_bytes.h"
#include "phstore_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <unistd.h>

/* Buckets of the tdb: 100,000 open handles make chains of two. */
#define INDEX_HASH_SIZE 65537
#define INDEX_KEY_MAX (PHSTORE_TABLE_MAX + 1 + PHSTORE_KEY_MAX)
/* tdb grows by a quarter, or by so many of the record that did not fit */
#define INDEX_GROW_RECORDS 128
#define INDEX_RECORD_MAX (INDEX_KEY_MAX + 512)
/* bytes in the index for one in the log, at most */
#define INDEX_PER_BYTE 4
#define INDEX_GROW_MIN 16384

void local_entry_push(uint8_t *buf, const struct local_entry *e)
{
	phstore_push_u64(buf, e->lsn);
	phstore_push_u64(buf + 8, e->end_lsn);
	phstore_push_u64(buf + 16, e->value_lsn);
	phstore_push_u32(buf + 24, e->value_len);
	phstore_push_u32(buf + 28, e->value_crc);
	phstore_push_u32(buf + 32, e->live_len);
	buf[36] = e->kind;
	buf[37] = e->durability;
	buf[38] = e->copied;
	buf[39] = 0;
	phstore_push_u64(buf + 40, e->version.epoch);
	phstore_push_u64(buf + 48, e->version.seq);
}

bool local_entry_pull(const uint8_t *buf, size_t len, struct local_entry *e)
{
	if (len != LOCAL_ENTRY_LEN) {
		return false;
	}
	*e = (struct local_entry) {
		.lsn = phstore_pull_u64(buf),
		.end_lsn = phstore_pull_u64(buf + 8),
		.value_lsn = phstore_pull_u64(buf + 16),
		.value_len = phstore_pull_u32(buf + 24),
		.value_crc = phstore_pull_u32(buf + 28),
		.live_len = phstore_pull_u32(buf + 32),
		.kind = buf[36],
		.durability = buf[37],
		.copied = buf[38],
		.version.epoch = phstore_pull_u64(buf + 40),
		.version.seq = phstore_pull_u64(buf + 48),
	};
	return true;
}

static TDB_DATA index_key(uint8_t buf[INDEX_KEY_MAX],
			  const uint8_t *table, size_t table_len,
			  const uint8_t *key, size_t key_len)
{
	memcpy(buf, table, table_len);
	buf[table_len] = 0;
	memcpy(buf + table_len + 1, key, key_len);
	return (TDB_DATA) { .dptr = buf, .dsize = table_len + 1 + key_len };
}

static void index_path(struct local_store *ls, uint32_t gen,
		       char buf[LOCAL_PATH_MAX])
{
	snprintf(buf, LOCAL_PATH_MAX, "%s/index.%" PRIu32,
		 ls->store->path, gen);
}

static enum phstore_err index_do_open(struct local_store *ls,
				      uint32_t gen,
				      int open_flags)
{
	char path[LOCAL_PATH_MAX];
	int tdb_flags = TDB_NOLOCK | TDB_NOSYNC | TDB_INCOMPATIBLE_HASH;

	if (ls->index != NULL) {
		tdb_close(ls->index);
		ls->index = NULL;
	}
	index_path(ls, gen, path);
	if (ls->store->read_only) {
		tdb_flags |= TDB_INTERNAL;
	}
	phstore_owner_begin(ls->store);
	ls->index = tdb_open(path, INDEX_HASH_SIZE, tdb_flags, open_flags,
			     0600);
	phstore_owner_end(ls->store);
	if (ls->index == NULL) {
		enum phstore_err err = errno == EBUSY ?
			PHSTORE_ERR_BUSY : phstore_io_err(errno);

		return phstore_fail(err, "%s: cannot open the index: %s",
				    path, strerror(errno));
	}
	ls->index_gen = gen;
	return PHSTORE_OK;
}

/* The file's blocks are there up to `upto`, its length stays. */
static enum phstore_err index_reserve(struct local_store *ls, uint64_t upto)
{
	int ret;

	phstore_owner_begin(ls->store);
	ret = fallocate(tdb_fd(ls->index), FALLOC_FL_KEEP_SIZE, 0,
			(off_t)upto);
	phstore_owner_end(ls->store);
	if (ret == 0) {
		return PHSTORE_OK;
	}
	if (errno == ENOSPC || errno == EDQUOT) {
		return phstore_fail(PHSTORE_ERR_FULL, "%s: no room for the "
				    "index: %s", ls->store->path,
				    strerror(errno));
	}
	/* else it was disturbed: asked again with the next frame */
	ls->index_any_fs = errno == EOPNOTSUPP;
	return PHSTORE_OK;
}

/*
 * The index grows by `grow` next time, and has blocks for so many times of
 * that as there are levels. When the disk is full that is used up: who asks
 * (phstore_room()) is refused first, so that nobody fails in the middle.
 */
enum phstore_err local_index_room(struct local_store *ls,
				  size_t len,
				  enum local_room_level level)
{
	uint64_t record = MIN(len, (size_t)INDEX_RECORD_MAX);
	uint64_t size, have, grow, need;
	enum phstore_err err;
	struct stat st = {};
	int ret;

	if (ls->store->read_only || ls->index_any_fs) {
		return PHSTORE_OK;
	}
	/* others make it longer, too */
	ret = fstat(tdb_fd(ls->index), &st);
	if (ret == -1) {
		return PHSTORE_OK;
	}
	size = (uint64_t)st.st_size;
	have = (uint64_t)st.st_blocks * 512;
	grow = size / 4 + record * INDEX_GROW_RECORDS +
	       len * INDEX_PER_BYTE + INDEX_GROW_MIN;
	need = size + LOCAL_ROOM_ASK * grow;
	err = have >= need ? PHSTORE_OK : index_reserve(ls, need + grow);
	if (err != PHSTORE_OK) {
		err = index_reserve(ls, need);
	}
	atomic_store(&ls->shared->index_tight, err != PHSTORE_OK);
	need = size + level * grow;
	if (err == PHSTORE_OK || have >= need) {
		return PHSTORE_OK;
	}
	return level < LOCAL_ROOM_ASK ? index_reserve(ls, need) : err;
}

/*
 * No room for another file: the one there is gets empty, whatever is in it.
 * Others have it open and go on with it, so it keeps its generation.
 */
static enum phstore_err index_wipe(struct local_store *ls, uint32_t gen)
{
	enum phstore_err err;
	int ret;

	err = index_do_open(ls, gen, O_RDWR);
	if (err != PHSTORE_OK) {
		return err;
	}
	ret = tdb_wipe_all(ls->index);
	if (ret != 0) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: index: %s",
				    ls->store->path,
				    tdb_errorstr(ls->index));
	}
	return PHSTORE_OK;
}

enum phstore_err local_index_create(struct local_store *ls, uint32_t gen)
{
	struct local_shared *sh = ls->shared;
	uint32_t old_gen = sh->index_gen;
	char path[LOCAL_PATH_MAX];
	struct stat st = {};
	enum phstore_err err;

	if (!ls->store->read_only) {
		index_path(ls, old_gen, path);
		(void)stat(path, &st);
		index_path(ls, gen, path);
		(void)unlink(path);
	}
	err = index_do_open(ls, gen, O_RDWR | O_CREAT);
	if (err == PHSTORE_OK && st.st_size > 0) {
		/* who fills it again comes to the end */
		err = index_reserve(ls, (uint64_t)st.st_size);
	}
	if (err == PHSTORE_ERR_FULL && st.st_size > 0 && old_gen != gen) {
		(void)unlink(path);
		/* who is killed in it leaves nothing that counts */
		sh->index_busy = 1;
		atomic_thread_fence(memory_order_seq_cst);
		gen = old_gen;
		err = index_wipe(ls, gen);
	}
	if (err != PHSTORE_OK) {
		sh->index_busy = 1;
		return err;
	}
	/* says whether it is tight */
	(void)local_index_room(ls, 0, LOCAL_ROOM_RESERVE);
	PHSTORE_TEST_POINT("index: file made");
	atomic_store(&sh->live_bytes, 0);
	atomic_store(&sh->num_records, 0);
	atomic_store(&sh->num_tombstones, 0);
	/* before it counts: who is killed here must not leave it as complete */
	sh->indexed = 0;
	atomic_thread_fence(memory_order_seq_cst);
	sh->index_gen = gen;
	sh->index_busy = 0;
	PHSTORE_TEST_POINT("index: new one in use");
	if (!ls->store->read_only && old_gen != gen) {
		index_path(ls, old_gen, path);
		(void)unlink(path);
	}
	return PHSTORE_OK;
}

enum phstore_err local_index_open(struct local_store *ls)
{
	return index_do_open(ls, ls->shared->index_gen, O_RDWR);
}

static int index_get_fn(TDB_DATA key, TDB_DATA data, void *private_data)
{
	struct local_entry *e = private_data;
	bool ok;

	(void)key;
	ok = local_entry_pull(data.dptr, data.dsize, e);
	return ok ? 0 : -1;
}

enum phstore_err local_index_get(struct local_store *ls,
				 const uint8_t *table, size_t table_len,
				 const uint8_t *key, size_t key_len,
				 struct local_entry *e)
{
	uint8_t buf[INDEX_KEY_MAX];
	TDB_DATA k = index_key(buf, table, table_len, key, key_len);
	enum TDB_ERROR ecode;
	int ret;

	ret = tdb_parse_record(ls->index, k, index_get_fn, e);
	if (ret == 0) {
		return PHSTORE_OK;
	}
	ecode = tdb_error(ls->index);
	if (ecode == TDB_ERR_NOEXIST) {
		return PHSTORE_ERR_NOT_FOUND;
	}
	return phstore_fail(PHSTORE_ERR_IO, "%s: index: %s",
			    ls->store->path, tdb_errorstr(ls->index));
}

static void index_account(struct local_shared *sh,
			  const struct local_entry *e,
			  int sign)
{
	if (e->kind == PHSTORE_OP_PUT) {
		atomic_fetch_add(&sh->num_records, sign);
		atomic_fetch_add(&sh->live_bytes,
				 sign * (int64_t)e->live_len);
	} else {
		atomic_fetch_add(&sh->num_tombstones, sign);
		if (atomic_load(&sh->sink_kind) != LOCAL_SINK_NONE) {
			/* compaction keeps it */
			atomic_fetch_add(&sh->live_bytes,
					 sign * (int64_t)e->live_len);
		}
	}
}

/* An operation has become the newest of its key. */
enum phstore_err local_index_apply(struct local_store *ls,
				   uint64_t frame_lsn,
				   uint32_t frame_len,
				   uint16_t frame_type,
				   const struct phstore_frame_op *op,
				   const struct local_entry *old)
{
	struct local_shared *sh = ls->shared;
	uint8_t kbuf[INDEX_KEY_MAX];
	uint8_t vbuf[LOCAL_ENTRY_LEN];
	TDB_DATA k = index_key(kbuf, op->table, op->table_len,
			       op->key, op->key_len);
	TDB_DATA v = { .dptr = vbuf, .dsize = sizeof(vbuf) };
	struct local_entry found = {};
	struct local_entry e = {
		.lsn = frame_lsn,
		.end_lsn = frame_lsn + frame_len,
		.value_lsn = frame_lsn + op->value_ofs,
		.value_len = (uint32_t)op->value_len,
		.value_crc = op->value_crc,
		.live_len = (uint32_t)(op->len + PHSTORE_FRAME_HDR),
		.kind = op->kind,
		.durability = op->durability,
		.copied = frame_type == PHSTORE_FRAME_COPY,
		.version = op->version,
	};
	enum phstore_err err;
	int ret;

	if (old == NULL) {
		old = &found;
		(void)tdb_parse_record(ls->index, k, index_get_fn, &found);
	}
	local_entry_push(vbuf, &e);
	sh->index_busy = 1;
	atomic_thread_fence(memory_order_seq_cst);
	if (old->end_lsn != 0) {
		index_account(sh, old, -1);
	}
	PHSTORE_TEST_POINT("index: counting");
	index_account(sh, &e, 1);
	ret = tdb_store(ls->index, k, v, TDB_REPLACE);
	PHSTORE_TEST_POINT("index: stored");
	atomic_thread_fence(memory_order_seq_cst);
	sh->index_busy = 0;
	if (ret != 0) {
		/* the next user of the log makes a new index */
		sh->index_busy = 1;
		err = local_index_room(ls, frame_len, LOCAL_ROOM_RESERVE);
		if (err == PHSTORE_ERR_FULL) {
			return err;
		}
		return phstore_fail(PHSTORE_ERR_IO, "%s: index: %s",
				    ls->store->path,
				    tdb_errorstr(ls->index));
	}
	return PHSTORE_OK;
}

/* A tombstone that nothing can undo any more. */
enum phstore_err local_index_drop(struct local_store *ls,
				  const struct phstore_frame_op *op)
{
	struct local_shared *sh = ls->shared;
	uint8_t kbuf[INDEX_KEY_MAX];
	TDB_DATA k = index_key(kbuf, op->table, op->table_len,
			       op->key, op->key_len);
	struct local_entry old = {};
	int ret;

	ret = tdb_parse_record(ls->index, k, index_get_fn, &old);
	if (ret != 0) {
		return PHSTORE_OK;
	}
	sh->index_busy = 1;
	atomic_thread_fence(memory_order_seq_cst);
	index_account(sh, &old, -1);
	(void)tdb_delete(ls->index, k);
	atomic_thread_fence(memory_order_seq_cst);
	sh->index_busy = 0;
	return PHSTORE_OK;
}

/*
 * phstore local backend: recovery
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Runs in the first process that opens the store, under the exclusive lock
 * of `lock`; in a read-only handle it runs in private memory and writes
 * nothing. Steps, and what is durable after each:
 *
 *   1 superblock, segment headers        read only
 *   2 walk the log, build the index      read only
 *   3 sync every segment and the folder  what was found is durable now
 *     (after a failed sync: written again before)
 *   4 superblock, both slots: new epoch  what was cut off stays cut off
 *   5 retire files that are not in use   -
 *
 * Killed anywhere, the next one starts over with the same result.
 */

#include "local.h"
#include "phstore_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct seg_list {
	struct local_seg *segs;
	bool *bad_header;
	size_t num;
};

static int seg_cmp(const void *a, const void *b)
{
	const struct local_seg *x = a;
	const struct local_seg *y = b;

	return x->segno < y->segno ? -1 : x->segno > y->segno;
}

/* Segment numbers in the folder; also which spares there are. */
static enum phstore_err list_segments(struct local_store *ls,
				      struct seg_list *l)
{
	struct local_shared *sh = ls->shared;
	enum phstore_err err = PHSTORE_OK;
	struct dirent *de = NULL;
	DIR *dir = NULL;

	dir = opendir(ls->store->path);
	if (dir == NULL) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: %s",
				    ls->store->path, strerror(errno));
	}
	while ((de = readdir(dir)) != NULL) {
		struct local_seg *segs = NULL;
		uint64_t segno = 0;
		uint32_t spare = 0;
		char extra;

		if (sscanf(de->d_name, "spare-%" SCNu32 "%c",
			   &spare, &extra) == 1 &&
		    spare < LOCAL_MAX_SPARES)
		{
			struct stat st = {};
			int ret = fstatat(dirfd(dir), de->d_name, &st, 0);

			/* one that was not finished is made again */
			if (ret == 0 && (uint64_t)st.st_size ==
			    sh->super.segment_size)
			{
				atomic_store(&sh->spare_ready[spare], 1);
			}
			continue;
		}
		if (strlen(de->d_name) != 20 ||
		    sscanf(de->d_name, "seg-%16" SCNx64 "%c",
			   &segno, &extra) != 1)
		{
			continue;
		}
		segs = realloc(l->segs, (l->num + 1) * sizeof(*segs));
		if (segs == NULL) {
			err = phstore_fail(PHSTORE_ERR_NO_MEMORY,
					   "out of memory");
			break;
		}
		l->segs = segs;
		segs[l->num++] = (struct local_seg) { .segno = segno };
	}
	closedir(dir);
	if (l->num > 0) {
		qsort(l->segs, l->num, sizeof(l->segs[0]), seg_cmp);
	}
	return err;
}

/* false: no valid header; size is then the file's. */
static enum phstore_err read_header(struct local_store *ls,
				    struct local_seg *seg,
				    bool *valid)
{
	uint8_t buf[LOCAL_SEG_HDR];
	struct local_seg found = {};
	char path[LOCAL_PATH_MAX];
	struct stat st = {};
	ssize_t n;
	int fd;

	*valid = false;
	local_seg_path(ls, seg->segno, path);
	fd = phstore_io->open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd == -1) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: %s", path,
				    strerror(errno));
	}
	n = phstore_io_read_full(fd, buf, sizeof(buf), 0);
	if (n == -1) {
		phstore_fail(PHSTORE_ERR_IO, "%s: %s", path, strerror(errno));
		phstore_io->close(fd);
		return PHSTORE_ERR_IO;
	}
	(void)fstat(fd, &st);
	phstore_io->close(fd);
	*valid = local_seg_hdr_pull(buf, n, ls->seed, &found) &&
		 found.segno == seg->segno;
	if (*valid) {
		*seg = found;
	} else {
		seg->size = st.st_size;
	}
	return PHSTORE_OK;
}

/*
 * The log as a contiguous list from the superblock's tail on: a segment
 * whose file or header is lost gets its place from its neighbours.
 */
static enum phstore_err lay_out(struct local_store *ls,
				const struct seg_list *found,
				struct seg_list *log)
{
	const struct local_super *super = &ls->shared->super;
	uint64_t next_segno = super->tail_segno;
	uint64_t next_start = super->tail_lsn;
	enum phstore_err err;
	size_t i;

	log->segs = calloc(LOCAL_MAX_SEGMENTS, sizeof(log->segs[0]));
	log->bad_header = calloc(LOCAL_MAX_SEGMENTS, sizeof(bool));
	if (log->segs == NULL || log->bad_header == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	for (i = 0; i < found->num; i++) {
		struct local_seg seg = found->segs[i];
		bool valid = false;

		if (seg.segno < super->tail_segno) {
			continue;
		}
		err = read_header(ls, &seg, &valid);
		if (err != PHSTORE_OK) {
			return err;
		}
		if (valid && seg.start < next_start) {
			valid = false;
		}
		if (seg.segno > next_segno && !valid) {
			/* a gap in front and no word of where it lies */
			break;
		}
		if (valid && (seg.segno != next_segno ||
			      seg.start != next_start))
		{
			/* one segment stands for all that are lost here */
			uint64_t gap = seg.start - next_start;

			if (seg.segno == next_segno || gap == 0 ||
			    log->num >= LOCAL_MAX_SEGMENTS)
			{
				break;
			}
			log->segs[log->num] = (struct local_seg) {
				.segno = next_segno,
				.start = next_start,
				.size = gap,
			};
			log->bad_header[log->num++] = true;
		}
		if (!valid) {
			uint64_t size = super->segment_size;

			/* trust the file's length if nothing else does */
			if (seg.size > size && seg.size <= LOCAL_SEGMENT_MAX)
			{
				size = seg.size & ~(uint64_t)7;
			}
			seg.start = next_start;
			seg.size = size;
		}
		if (log->num >= LOCAL_MAX_SEGMENTS) {
			break;
		}
		log->bad_header[log->num] = !valid;
		log->segs[log->num++] = seg;
		next_segno = seg.segno + 1;
		next_start = seg.start + seg.size;
	}
	if (log->num > 0 && log->num < LOCAL_MAX_SEGMENTS &&
	    super->durable > next_start)
	{
		/* it was synced once and is not there: the last is lost */
		uint64_t size = super->durable - next_start;

		if (size < super->segment_size) {
			size = super->segment_size;
		}
		log->segs[log->num] = (struct local_seg) {
			.segno = next_segno,
			.start = next_start,
			.size = (size + 7) & ~(uint64_t)7,
		};
		log->bad_header[log->num++] = true;
	}
	return PHSTORE_OK;
}

static enum phstore_err recover_frame(struct local_store *ls,
				      const struct local_seg *seg,
				      const struct phstore_frame_hdr *hdr,
				      const uint8_t *buf,
				      void *private_data)
{
	size_t ofs = PHSTORE_FRAME_HDR;
	enum phstore_err err;
	uint16_t i;

	(void)seg;
	(void)private_data;
	if (hdr->type == PHSTORE_FRAME_CLEAR) {
		return local_index_create(ls, ls->shared->index_gen + 1);
	}
	for (i = 0; i < hdr->num_ops; i++) {
		struct phstore_frame_op op = {};

		(void)phstore_op_pull(buf + ofs, hdr->len - ofs, ofs, &op);
		err = local_index_apply(ls, hdr->lsn, hdr->len, hdr->type,
					&op, NULL);
		if (err != PHSTORE_OK) {
			return err;
		}
		ofs += op.len;
	}
	return PHSTORE_OK;
}

static void recover_damage(struct local_store *ls,
			   const struct local_seg *seg,
			   uint64_t lsn, uint64_t len,
			   enum local_damage_reason reason,
			   void *private_data)
{
	struct seg_list *log = private_data;
	size_t i;

	for (i = 0; i < log->num; i++) {
		if (log->segs[i].segno == seg->segno) {
			log->segs[i].damaged += len;
			if (log->bad_header[i] &&
			    reason == LOCAL_DAMAGE_FRAME)
			{
				reason = LOCAL_DAMAGE_HEADER;
			}
		}
	}
	local_damage_add(ls, seg, lsn, len, reason);
	phstore_log(ls->store, 3,
		    "%s/seg-%016" PRIx64 ": %" PRIu64 " bytes from offset %"
		    PRIu64 " on are damaged; the records outside were kept",
		    ls->store->path, seg->segno, len, lsn - seg->start);
}

static const struct local_walk_fn recover_fns = {
	.frame = recover_frame,
	.damage = recover_damage,
};

/*
 * Headers that were synced once (there was something durable behind them)
 * and are not valid: nothing but the header is lost, but it is damage.
 */
static void tell_headers(struct local_store *ls, struct seg_list *log,
			 uint64_t known)
{
	size_t i;

	for (i = 0; i < log->num; i++) {
		struct local_seg *seg = &log->segs[i];

		if (log->bad_header[i] && seg->damaged == 0 &&
		    known > seg->start + LOCAL_SEG_HDR)
		{
			recover_damage(ls, seg, seg->start, LOCAL_SEG_HDR,
				       LOCAL_DAMAGE_HEADER, log);
		}
	}
}

/* It was whole when the store was opened. */
static void replay_damage(struct local_store *ls,
			  const struct local_seg *seg,
			  uint64_t lsn, uint64_t len,
			  enum local_damage_reason reason,
			  void *private_data)
{
	(void)private_data;
	local_damage_found(ls, seg, lsn, len, reason);
}

/* Bring the index from `from` up to `to`; append mutex held. */
enum phstore_err local_replay(struct local_store *ls,
			      uint64_t from,
			      uint64_t to)
{
	static const struct local_walk_fn replay_fns = {
		.frame = recover_frame,
		.damage = replay_damage,
	};
	struct local_shared *sh = ls->shared;
	uint32_t begin = atomic_load(&sh->seg_begin);
	uint32_t num = atomic_load(&sh->seg_end) - begin;
	struct local_seg *segs = NULL;
	enum phstore_err err;
	uint64_t end = 0;
	uint32_t i;

	segs = calloc(num, sizeof(*segs));
	if (segs == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	for (i = 0; i < num; i++) {
		segs[i] = sh->segs[(begin + i) % LOCAL_MAX_SEGMENTS];
	}
	err = local_walk(ls, segs, num, from, to, &sh->super, &replay_fns,
			 NULL, &end, NULL);
	free(segs);
	return err;
}

/* The first segment of a store that has none. */
static enum phstore_err first_segment(struct local_store *ls,
				      struct seg_list *log)
{
	const struct local_super *super = &ls->shared->super;
	struct local_seg seg = {
		.segno = super->tail_segno,
		.start = super->tail_lsn,
		.size = super->segment_size,
	};
	enum phstore_err err;

	if (super->durable > super->tail_lsn + LOCAL_SEG_HDR) {
		return phstore_fail(PHSTORE_ERR_CORRUPT,
				    "%s: all segments are missing",
				    ls->store->path);
	}
	if (!ls->store->read_only) {
		if (!atomic_load(&ls->shared->spare_ready[0])) {
			err = local_spare_make(ls);
			if (err != PHSTORE_OK) {
				return err;
			}
		}
		err = local_seg_create(ls, &seg);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	log->segs[0] = seg;
	log->num = 1;
	return PHSTORE_OK;
}

/*
 * After a failed sync the kernel calls the pages clean although the disk may
 * not have them: a sync alone would succeed and promise nothing. Written
 * again they are dirty again.
 */
static int dirty_again(int fd, uint64_t size)
{
	size_t chunk = 256 * 1024;
	uint8_t *buf = malloc(chunk);
	uint64_t ofs;
	int ret = 0;

	if (buf == NULL) {
		errno = ENOMEM;
		return -1;
	}
	for (ofs = 0; ofs < size && ret == 0; ofs += chunk) {
		ssize_t n = phstore_io_read_full(fd, buf, chunk, ofs);

		if (n <= 0) {
			ret = (int)n;
			break;
		}
		ret = phstore_io_write_full(fd, buf, n, ofs);
	}
	free(buf);
	return ret;
}

/* Everything found is made durable before a new epoch builds on it. */
static enum phstore_err sync_all(struct local_store *ls,
				 const struct seg_list *log,
				 bool was_latched)
{
	char path[LOCAL_PATH_MAX];
	size_t i;
	int ret = 0;

	for (i = 0; i < log->num; i++) {
		int fd;

		local_seg_path(ls, log->segs[i].segno, path);
		fd = phstore_io->open(path, O_RDWR | O_CLOEXEC, 0);
		if (fd == -1 && errno == ENOENT &&
		    log->segs[i].damaged > 0)
		{
			continue;
		}
		if (fd == -1) {
			goto fail;
		}
		if (was_latched) {
			ret = dirty_again(fd, log->segs[i].size);
		}
		if (ret == 0) {
			ret = phstore_io->fdatasync(fd);
		}
		if (ret == -1) {
			int saved_errno = errno;

			phstore_io->close(fd);
			errno = saved_errno;
			goto fail;
		}
		phstore_io->close(fd);
		atomic_fetch_add(&ls->shared->num_meta_syncs, 1);
	}
	snprintf(path, sizeof(path), "%s", ls->store->path);
	ret = phstore_io->fsync_dir(ls->dir_fd);
	if (ret == -1) {
		goto fail;
	}
	atomic_fetch_add(&ls->shared->num_meta_syncs, 1);
	return PHSTORE_OK;
fail:
	return phstore_fail(PHSTORE_ERR_IO, "%s: %s", path, strerror(errno));
}

static bool is_found(const struct seg_list *found, uint64_t segno)
{
	size_t i;

	for (i = 0; i < found->num; i++) {
		if (found->segs[i].segno == segno) {
			return true;
		}
	}
	return false;
}

/*
 * The last segment goes on being used, so it needs a file with a header. A
 * power cut may have taken either, and what else is in the folder then (a
 * segment number of before an earlier cut, say) still gave it a place in the
 * log. Not if something in it was synced once: then it is damage, kept.
 */
static enum phstore_err mend_last(struct local_store *ls,
				  struct seg_list *log,
				  uint64_t head,
				  uint64_t known)
{
	struct local_seg *last = &log->segs[log->num - 1];
	uint8_t hdr[LOCAL_SEG_HDR];
	char path[LOCAL_PATH_MAX];
	int fd, ret, saved_errno;

	if (!log->bad_header[log->num - 1] ||
	    known > last->start + LOCAL_SEG_HDR)
	{
		return PHSTORE_OK;
	}
	if (head <= last->start + LOCAL_SEG_HDR) {
		last->size = ls->shared->super.segment_size;
		return local_seg_create(ls, last);
	}
	local_seg_path(ls, last->segno, path);
	fd = phstore_io->open(path, O_RDWR | O_CLOEXEC, 0);
	if (fd == -1) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: %s", path,
				    strerror(errno));
	}
	local_seg_hdr_push(hdr, last, ls->seed);
	ret = phstore_io_write_full(fd, hdr, sizeof(hdr), 0);
	saved_errno = errno;
	phstore_io->close(fd);
	if (ret == -1) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: %s", path,
				    strerror(saved_errno));
	}
	return PHSTORE_OK;
}

static enum phstore_err write_epoch(struct local_store *ls, uint64_t head)
{
	struct local_super super = ls->shared->super;
	enum phstore_err err;
	int i;

	super.epoch += 1;
	super.epoch_start = head;
	super.durable = head;
	super.num_damaged += atomic_load(&ls->shared->num_damage);
	/* both: a later loss of one must not bring the old epoch back */
	for (i = 0; i < 2; i++) {
		super.seq += 1;
		err = local_super_write(ls, &super);
		if (err != PHSTORE_OK) {
			return err;
		}
		PHSTORE_TEST_POINT("recover: superblock");
	}
	return PHSTORE_OK;
}

enum phstore_err local_recover(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint64_t start_ns = phstore_now_ns();
	uint64_t cached_head = 0;
	struct seg_list found = {};
	struct seg_list log = {};
	struct local_super super = {};
	enum phstore_err err;
	uint64_t known, head = 0;
	uint64_t torn = 0;
	uint64_t data_end = 0;
	uint64_t i;
	bool was_latched = false;

	err = local_super_read(ls, &super);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (!ls->store->read_only) {
		bool same_store = atomic_load(&sh->ready) &&
			memcmp(sh->super.uuid, super.uuid, 16) == 0;

		was_latched = same_store && atomic_load(&sh->latched) != 0;
		if (same_store && !was_latched) {
			/* this boot's page cache has all of it */
			cached_head = atomic_load(&sh->head);
		}
		atomic_store(&sh->ready, 0);
		local_shared_reset(ls);
	}
	sh->super = super;
	atomic_store(&sh->sink_kind, super.sink_kind);
	atomic_store(&sh->sink.released, super.sink_released);
	ls->seed = local_seed(super.uuid);

	err = list_segments(ls, &found);
	if (err != PHSTORE_OK) {
		goto done;
	}
	err = lay_out(ls, &found, &log);
	if (err != PHSTORE_OK) {
		goto done;
	}
	if (log.num == 0) {
		err = first_segment(ls, &log);
		if (err != PHSTORE_OK) {
			goto done;
		}
	}
	data_end = log.segs[log.num - 1].start + log.segs[log.num - 1].size;
	known = super.durable;
	if (cached_head > known && cached_head <= data_end) {
		known = cached_head;
	}
	err = local_index_create(ls, sh->index_gen + 1);
	if (err != PHSTORE_OK) {
		goto done;
	}
	err = local_walk(ls, log.segs, log.num, 0, known, &super,
			 &recover_fns, &log, &head, &torn);
	if (err != PHSTORE_OK) {
		goto done;
	}
	sh->torn_tail_bytes = torn;
	/* segments behind the cut are not part of the log */
	while (log.num > 1 && log.segs[log.num - 1].start >= head) {
		log.num -= 1;
	}
	tell_headers(ls, &log, known);
	if (!ls->store->read_only &&
	    local_worn(&super, log.segs[log.num - 1].segno, head, 0))
	{
		err = phstore_fail(PHSTORE_ERR_CORRUPT,
				   "%s: position %" PRIu64 ", epoch %"
				   PRIu64 ": no log gets that far, it can be "
				   "read only", ls->store->path, head,
				   super.epoch);
		goto done;
	}
	if (!ls->store->read_only) {
		err = mend_last(ls, &log, head, known);
		if (err != PHSTORE_OK) {
			goto done;
		}
	}
	for (i = 0; i < log.num; i++) {
		sh->segs[i] = log.segs[i];
	}
	if (log.segs[log.num - 1].damaged > 0 &&
	    !is_found(&found, log.segs[log.num - 1].segno))
	{
		/* no file to go on in: the next append begins a new one */
		head = log.segs[log.num - 1].start +
		       log.segs[log.num - 1].size;
	}
	atomic_store(&sh->seg_begin, 0);
	atomic_store(&sh->seg_end, log.num);
	atomic_store(&sh->tail, super.tail_lsn);
	atomic_store(&sh->head, head);
	sh->indexed = head;
	if (ls->store->read_only) {
		atomic_store(&sh->durable, head);
		goto done;
	}
	err = sync_all(ls, &log, was_latched);
	if (err != PHSTORE_OK) {
		goto done;
	}
	atomic_store(&sh->durable, head);
	err = write_epoch(ls, head);
	if (err != PHSTORE_OK) {
		goto done;
	}
	for (i = 0; i < found.num; i++) {
		struct local_seg *seg = &found.segs[i];

		if (seg->segno < super.tail_segno) {
			local_seg_retire(ls, seg);
		} else if (seg->segno > log.segs[log.num - 1].segno) {
			/* behind the cut: its bytes are of no epoch now */
			local_seg_retire(ls, seg);
		}
	}
	if (local_wants_maintenance(ls->store)) {
		(void)local_maintain(ls->store, false);
	}
done:
	if (err == PHSTORE_OK) {
		sh->recovery_us = (phstore_now_ns() - start_ns) / 1000;
	}
	free(found.segs);
	free(log.segs);
	free(log.bad_header);
	return err;
}

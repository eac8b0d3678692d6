/*
 * phstore local backend: segment files
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A segment's life: spare-N (zeroed and synced by maintenance), renamed to
 * seg-X when the log rotates to it, retired when compaction emptied it:
 * renamed to spare-N again, or removed when there are enough spares.
 *
 * Rotation happens inside stage, under the append mutex, and does not sync.
 * Without a spare the file is made there: allocated but not zeroed, so that
 * the first syncs in it are slower; maintenance makes spares in time to
 * keep that rare.
 *
 * A segment's last eighth is kept for when the disk is full: then only
 * deletes and compaction may use it, as they make room. It also makes a
 * rotation early enough that the log stays below its bound (P5) while the
 * retired segment is not yet compacted.
 */

#include "local.h"
#include "phstore_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A spare is zeroed in writes of this size. Linux keeps what one write wrote
 * in one piece of its page cache, and goes through the whole piece for each
 * frame and each sync: with 256 KiB a sync took 65 to 92 us, with this 58.
 */
#define SPARE_CHUNK (16 * 1024)

void local_seg_path(struct local_store *ls, uint64_t segno,
		    char buf[LOCAL_PATH_MAX])
{
	snprintf(buf, LOCAL_PATH_MAX, "%s/seg-%016" PRIx64,
		 ls->store->path, segno);
}

void local_spare_path(struct local_store *ls, uint32_t i,
		      char buf[LOCAL_PATH_MAX])
{
	snprintf(buf, LOCAL_PATH_MAX, "%s/spare-%" PRIu32,
		 ls->store->path, i);
}

void local_damaged_path(struct local_store *ls, uint64_t segno,
			char buf[LOCAL_PATH_MAX])
{
	snprintf(buf, LOCAL_PATH_MAX, "%s/damaged-%016" PRIx64,
		 ls->store->path, segno);
}

const struct local_seg *local_seg_find(struct local_store *ls, uint64_t lsn)
{
	struct local_shared *sh = ls->shared;
	uint32_t lo = atomic_load(&sh->seg_begin);
	uint32_t hi = atomic_load(&sh->seg_end);

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		struct local_seg *seg = &sh->segs[mid % LOCAL_MAX_SEGMENTS];

		if (lsn < seg->start) {
			hi = mid;
		} else if (lsn >= seg->start + seg->size) {
			lo = mid + 1;
		} else {
			return seg;
		}
	}
	return NULL;
}

const struct local_seg *local_seg_last(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint32_t end = atomic_load(&sh->seg_end);

	return &sh->segs[(end - 1) % LOCAL_MAX_SEGMENTS];
}

int local_fd_get(struct local_store *ls, uint64_t segno)
{
	char path[LOCAL_PATH_MAX];
	struct local_fd *victim = NULL;
	int flags = ls->store->read_only ? O_RDONLY : O_RDWR;
	int fd = -1;
	size_t i;

	pthread_mutex_lock(&ls->fd_mutex);
	ls->fd_clock += 1;
	for (i = 0; i < LOCAL_FD_CACHE; i++) {
		struct local_fd *f = &ls->fds[i];

		if (f->fd != -1 && f->segno == segno) {
			f->users += 1;
			f->used = ls->fd_clock;
			fd = f->fd;
			goto done;
		}
		if (f->users == 0 &&
		    (victim == NULL || f->fd == -1 || f->used < victim->used))
		{
			if (victim == NULL || victim->fd != -1) {
				victim = f;
			}
		}
	}
	if (victim == NULL) {
		errno = EMFILE;
		goto done;
	}
	local_seg_path(ls, segno, path);
	phstore_owner_begin(ls->store);
	fd = phstore_io->open(path, flags | O_CLOEXEC, 0);
	phstore_owner_end(ls->store);
	if (fd == -1) {
		goto done;
	}
	if (victim->fd != -1) {
		phstore_io->close(victim->fd);
	}
	*victim = (struct local_fd) {
		.segno = segno,
		.fd = fd,
		.users = 1,
		.used = ls->fd_clock,
	};
done:
	pthread_mutex_unlock(&ls->fd_mutex);
	return fd;
}

void local_fd_put(struct local_store *ls, uint64_t segno)
{
	size_t i;

	pthread_mutex_lock(&ls->fd_mutex);
	for (i = 0; i < LOCAL_FD_CACHE; i++) {
		struct local_fd *f = &ls->fds[i];

		if (f->fd != -1 && f->segno == segno && f->users > 0) {
			f->users -= 1;
			break;
		}
	}
	pthread_mutex_unlock(&ls->fd_mutex);
}

/* A retired segment's file lives on under another name: let go of it. */
void local_fd_forget_below(struct local_store *ls, uint64_t segno)
{
	size_t i;

	pthread_mutex_lock(&ls->fd_mutex);
	for (i = 0; i < LOCAL_FD_CACHE; i++) {
		struct local_fd *f = &ls->fds[i];

		if (f->fd != -1 && f->segno < segno && f->users == 0) {
			phstore_io->close(f->fd);
			f->fd = -1;
		}
	}
	pthread_mutex_unlock(&ls->fd_mutex);
}

void local_fd_close_all(struct local_store *ls)
{
	size_t i;

	for (i = 0; i < LOCAL_FD_CACHE; i++) {
		struct local_fd *f = &ls->fds[i];

		if (f->fd != -1) {
			phstore_io->close(f->fd);
			f->fd = -1;
		}
	}
}

static enum phstore_err seg_io_error(const char *what, const char *path)
{
	return phstore_fail(phstore_io_err(errno), "%s: %s: %s", path, what,
			    strerror(errno));
}

/* Make the file of a new segment, from a spare if there is one. */
enum phstore_err local_seg_create(struct local_store *ls,
				  struct local_seg *seg)
{
	struct local_shared *sh = ls->shared;
	uint8_t hdr[LOCAL_SEG_HDR];
	char path[LOCAL_PATH_MAX];
	char spare[LOCAL_PATH_MAX];
	enum phstore_err err = PHSTORE_OK;
	bool have_file = false;
	int fd = -1;
	uint32_t i;
	int ret;

	local_seg_path(ls, seg->segno, path);
	phstore_owner_begin(ls->store);

	for (i = 0; i < LOCAL_MAX_SPARES && !have_file; i++) {
		if (seg->size != sh->super.segment_size ||
		    !atomic_load(&sh->spare_ready[i]))
		{
			continue;
		}
		local_spare_path(ls, i, spare);
		ret = phstore_io->rename(spare, path);
		atomic_store(&sh->spare_ready[i], 0);
		have_file = ret == 0;
	}
	fd = phstore_io->open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1) {
		err = seg_io_error("cannot create", path);
		goto done;
	}
	if (!have_file) {
		ret = phstore_io->allocate(fd, (off_t)seg->size);
		if (ret == -1) {
			err = seg_io_error("cannot allocate", path);
			(void)phstore_io->unlink(path);
			goto done;
		}
	}
	local_seg_hdr_push(hdr, seg, ls->seed);
	ret = phstore_io_write_full(fd, hdr, sizeof(hdr), 0);
	if (ret == -1) {
		err = seg_io_error("cannot write", path);
		goto done;
	}
done:
	if (fd != -1) {
		phstore_io->close(fd);
	}
	phstore_owner_end(ls->store);
	return err;
}

enum phstore_err local_seg_rotate(struct local_store *ls, size_t len)
{
	struct local_shared *sh = ls->shared;
	const struct local_seg *last = local_seg_last(ls);
	uint32_t end = atomic_load(&sh->seg_end);
	uint64_t head = atomic_load(&sh->head);
	uint64_t size = sh->super.segment_size;
	uint64_t need = LOCAL_SEG_HDR + len + PHSTORE_FRAME_HDR;
	struct local_seg seg = {};
	uint8_t seal[PHSTORE_FRAME_HDR];
	struct phstore_frame_hdr hdr = {
		.len = PHSTORE_FRAME_HDR,
		.type = PHSTORE_FRAME_SEAL,
		.lsn = head,
		.epoch = sh->super.epoch,
		.durable = atomic_load(&sh->durable),
	};
	enum phstore_err err;
	int fd, ret;

	if (end - atomic_load(&sh->seg_begin) >= LOCAL_MAX_SEGMENTS) {
		return phstore_fail(PHSTORE_ERR_FULL,
				    "%s: log has %d segments, the most",
				    ls->store->path, LOCAL_MAX_SEGMENTS);
	}
	if (need > size - size / 8) {
		/* a frame that large gets a segment of its own size */
		size = need + need / 4;
		size = (size + LOCAL_SUPER_SIZE - 1) / LOCAL_SUPER_SIZE *
		       LOCAL_SUPER_SIZE;
	}
	seg = (struct local_seg) {
		.segno = last->segno + 1,
		.start = last->start + last->size,
		.size = size,
	};
	err = local_seg_create(ls, &seg);
	if (err != PHSTORE_OK) {
		return err;
	}
	PHSTORE_TEST_POINT("rotate: file made");

	if (head + PHSTORE_FRAME_HDR <= last->start + last->size) {
		phstore_frame_push(seal, &hdr, ls->seed);
		fd = local_fd_get(ls, last->segno);
		if (fd == -1) {
			return phstore_fail(PHSTORE_ERR_IO,
					    "segment %" PRIx64 ": %s",
					    last->segno, strerror(errno));
		}
		ret = phstore_io_write_full(fd, seal, sizeof(seal),
					    head - last->start);
		local_fd_put(ls, last->segno);
		if (ret == -1) {
			return phstore_fail(PHSTORE_ERR_IO,
					    "segment %" PRIx64 ": %s",
					    last->segno, strerror(errno));
		}
	}
	PHSTORE_TEST_POINT("rotate: sealed");

	sh->segs[end % LOCAL_MAX_SEGMENTS] = seg;
	sh->dir_dirty += 1;
	/* between these two an owner's death leaves head in the sealed one */
	atomic_store(&sh->seg_end, end + 1);
	PHSTORE_TEST_POINT("rotate: added");
	atomic_store(&sh->head, seg.start + LOCAL_SEG_HDR);
	sh->indexed = seg.start + LOCAL_SEG_HDR;
	return PHSTORE_OK;
}

enum phstore_err local_seg_reserve(struct local_store *ls,
				   size_t len,
				   bool use_reserve)
{
	const struct local_seg *last = local_seg_last(ls);
	uint64_t end = last->start + last->size;
	uint64_t head = atomic_load(&ls->shared->head);
	/* the seal, and before it *clear*, whatever else has no room */
	size_t keep = len > PHSTORE_FRAME_HDR ? 2 * PHSTORE_FRAME_HDR :
						PHSTORE_FRAME_HDR;
	enum phstore_err err;

	if (head < last->start) {
		/* a rotation died after adding the segment */
		head = last->start + LOCAL_SEG_HDR;
		atomic_store(&ls->shared->head, head);
		ls->shared->indexed = head;
	}
	if (head + len + PHSTORE_FRAME_HDR + last->size / 8 <= end) {
		return PHSTORE_OK;
	}
	err = local_seg_rotate(ls, len);
	if (err == PHSTORE_ERR_FULL && use_reserve &&
	    head + len + keep <= end)
	{
		return PHSTORE_OK;
	}
	return err;
}

bool local_spare_wanted(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	const struct local_seg *last = local_seg_last(ls);
	uint64_t used = atomic_load(&sh->head) - last->start;
	uint32_t i;

	if (used < last->size / 2) {
		return false;
	}
	for (i = 0; i < LOCAL_MAX_SPARES; i++) {
		if (atomic_load(&sh->spare_ready[i])) {
			return false;
		}
	}
	return true;
}

/* Write a spare full of zeros and sync it; maint mutex held. */
enum phstore_err local_spare_make(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint64_t size = sh->super.segment_size;
	char path[LOCAL_PATH_MAX];
	enum phstore_err err = PHSTORE_OK;
	size_t chunk = SPARE_CHUNK;
	uint8_t *zeros = NULL;
	uint64_t ofs;
	int fd = -1;
	int ret;

	local_spare_path(ls, 0, path);
	zeros = calloc(1, chunk);
	if (zeros == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	fd = phstore_io->open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1) {
		err = seg_io_error("cannot create", path);
		goto done;
	}
	ret = phstore_io->allocate(fd, (off_t)size);
	for (ofs = 0; ret == 0 && ofs < size; ofs += chunk) {
		size_t n = size - ofs < chunk ? size - ofs : chunk;

		ret = phstore_io_write_full(fd, zeros, n, ofs);
	}
	if (ret == 0) {
		ret = phstore_io->fdatasync(fd);
		atomic_fetch_add(&sh->num_meta_syncs, 1);
	}
	if (ret == -1) {
		err = seg_io_error("cannot prepare", path);
		(void)phstore_io->unlink(path);
		goto done;
	}
	PHSTORE_TEST_POINT("spare: made");
	atomic_store(&sh->spare_ready[0], 1);
done:
	if (fd != -1) {
		phstore_io->close(fd);
	}
	free(zeros);
	return err;
}

/*
 * A segment that is not part of the log any more, as the superblock on disk
 * says: keep it if it is evidence of damage, use it again, or remove it.
 */
void local_seg_retire(struct local_store *ls, const struct local_seg *seg)
{
	struct local_shared *sh = ls->shared;
	char path[LOCAL_PATH_MAX];
	char to[LOCAL_PATH_MAX];
	uint32_t i;
	int ret;

	local_seg_path(ls, seg->segno, path);
	if (seg->damaged > 0) {
		local_damaged_path(ls, seg->segno, to);
		(void)phstore_io->rename(path, to);
		return;
	}
	for (i = 0; i < LOCAL_MAX_SPARES; i++) {
		if (seg->size != sh->super.segment_size ||
		    atomic_load(&sh->spare_ready[i]))
		{
			continue;
		}
		local_spare_path(ls, i, to);
		ret = phstore_io->rename(path, to);
		if (ret == 0) {
			atomic_store(&sh->spare_ready[i], 1);
			return;
		}
	}
	(void)phstore_io->unlink(path);
}

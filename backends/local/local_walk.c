/*
 * phstore local backend: reading the log in order
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The one reader of the log's bytes: recovery, index repair, compaction and
 * verify walk with it. The rule which frames count stands in
 * docs/DISK_FORMAT.md ("Which frames count"); `known` is the position below
 * which everything was synced once, so that what is not valid there is
 * damage and not the torn tail.
 */

#include "local.h"
#include "phstore_bytes.h"
#include "phstore_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct walk {
	struct local_store *ls;
	const struct local_seg *segs;
	size_t num_segs;
	uint32_t seed;
	uint64_t epoch;
	uint64_t epoch_start;
	uint64_t last_epoch;

	/* one segment in memory; what is not in the file reads as zeros */
	uint8_t *buf;
	size_t buf_size;
	size_t loaded;		/* index of the segment, num_segs: none */
	bool missing;
	bool truncated;
};

/* A position in the log. */
struct walk_pos {
	size_t seg;
	uint64_t lsn;
};

static enum phstore_err walk_load(struct walk *w, size_t i)
{
	const struct local_seg *seg = &w->segs[i];
	char path[LOCAL_PATH_MAX];
	ssize_t n;
	int fd;

	if (w->loaded == i) {
		return PHSTORE_OK;
	}
	w->loaded = w->num_segs;
	w->missing = false;
	w->truncated = false;
	local_seg_path(w->ls, seg->segno, path);
	fd = phstore_io->open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd == -1 && errno == ENOENT) {
		/* also a gap of any size that a header speaks of */
		w->missing = true;
		w->loaded = i;
		return PHSTORE_OK;
	}
	if (fd == -1) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: %s", path,
				    strerror(errno));
	}
	if (w->buf_size < seg->size) {
		uint8_t *buf = realloc(w->buf, seg->size);

		if (buf == NULL) {
			phstore_io->close(fd);
			return phstore_fail(PHSTORE_ERR_NO_MEMORY,
					    "out of memory");
		}
		w->buf = buf;
		w->buf_size = seg->size;
	}
	n = phstore_io_read_full(fd, w->buf, seg->size, 0);
	if (n == -1) {
		int saved_errno = errno;

		phstore_io->close(fd);
		return phstore_fail(PHSTORE_ERR_IO, "%s: %s", path,
				    strerror(saved_errno));
	}
	phstore_io->close(fd);
	if ((uint64_t)n < seg->size) {
		w->truncated = true;
		memset(w->buf + n, 0, seg->size - n);
	}
	w->loaded = i;
	return PHSTORE_OK;
}

/* Is there a valid frame at pos? Its segment is loaded. */
static bool walk_valid(struct walk *w,
		       const struct walk_pos *pos,
		       struct phstore_frame_hdr *hdr)
{
	const struct local_seg *seg = &w->segs[pos->seg];
	uint64_t ofs = pos->lsn - seg->start;
	bool ok;

	if (w->missing ||
	    phstore_pull_u32(w->buf + ofs) != PHSTORE_FRAME_MAGIC)
	{
		return false;
	}
	ok = phstore_frame_check(w->buf + ofs, seg->size - ofs, pos->lsn,
				 w->seed, true, hdr);
	if (!ok || hdr->epoch < w->last_epoch) {
		return false;
	}
	if (pos->lsn >= w->epoch_start) {
		return hdr->epoch == w->epoch;
	}
	return hdr->epoch < w->epoch;
}

static bool walk_seg_over(struct walk *w, const struct walk_pos *pos)
{
	const struct local_seg *seg = &w->segs[pos->seg];

	return pos->lsn + PHSTORE_FRAME_HDR > seg->start + seg->size;
}

static void walk_next_seg(struct walk *w, struct walk_pos *pos)
{
	pos->seg += 1;
	if (pos->seg < w->num_segs) {
		pos->lsn = w->segs[pos->seg].start + LOCAL_SEG_HDR;
	}
}

/*
 * From an invalid position on, find the next valid frame. pos->seg is
 * num_segs when there is none.
 */
static enum phstore_err walk_resync(struct walk *w, struct walk_pos *pos)
{
	struct phstore_frame_hdr hdr;
	enum phstore_err err;

	while (pos->seg < w->num_segs) {
		err = walk_load(w, pos->seg);
		if (err != PHSTORE_OK) {
			return err;
		}
		for (; !w->missing && !walk_seg_over(w, pos);
		     pos->lsn += PHSTORE_FRAME_ALIGN)
		{
			bool ok = walk_valid(w, pos, &hdr);

			if (ok) {
				return PHSTORE_OK;
			}
		}
		walk_next_seg(w, pos);
	}
	return PHSTORE_OK;
}

/*
 * From an invalid position on: the highest durable of any valid frame, and
 * how many bytes a cut at pos would take away (what can be told of them).
 */
static enum phstore_err walk_look_ahead(struct walk *w,
					struct walk_pos pos,
					uint64_t *known,
					uint64_t *torn)
{
	const struct local_seg *seg = &w->segs[pos.seg];
	uint64_t saved_epoch = w->last_epoch;
	struct phstore_frame_hdr half = {};
	uint64_t from = pos.lsn;
	enum phstore_err err;
	bool ok = false;

	if (!w->missing) {
		ok = phstore_frame_pull_hdr(w->buf + (from - seg->start),
					    seg->size - (from - seg->start),
					    &half);
	}
	*torn = ok && half.lsn == from ? half.len : 0;
	while (true) {
		struct phstore_frame_hdr hdr = {};

		err = walk_resync(w, &pos);
		if (err != PHSTORE_OK || pos.seg == w->num_segs) {
			break;
		}
		(void)walk_valid(w, &pos, &hdr);
		w->last_epoch = hdr.epoch;
		if (hdr.durable > *known) {
			*known = hdr.durable;
		}
		pos.lsn += hdr.len;
		*torn = pos.lsn - from;
	}
	w->last_epoch = saved_epoch;
	return err;
}

/*
 * Tell of damage from `from` to `to`, a call per segment. A segment's header
 * lies between two frames of different segments: it is not counted.
 */
static void walk_tell(struct walk *w,
		      struct walk_pos from,
		      struct walk_pos to,
		      uint64_t known,
		      const struct local_walk_fn *fns,
		      void *private_data)
{
	while (from.seg < w->num_segs) {
		const struct local_seg *seg = &w->segs[from.seg];
		uint64_t end = seg->start + seg->size;
		enum local_damage_reason reason = LOCAL_DAMAGE_FRAME;
		enum phstore_err err;

		if (from.seg == to.seg) {
			end = to.lsn;
		} else if (from.seg + 1 == w->num_segs && known < end) {
			end = known;
		}
		err = walk_load(w, from.seg);
		if (err == PHSTORE_OK && w->missing) {
			reason = LOCAL_DAMAGE_MISSING;
		} else if (err == PHSTORE_OK && w->truncated) {
			reason = LOCAL_DAMAGE_TRUNCATED;
		}
		if (end > from.lsn && fns->damage != NULL) {
			fns->damage(w->ls, seg, from.lsn, end - from.lsn,
				    reason, private_data);
		}
		if (from.seg == to.seg) {
			break;
		}
		walk_next_seg(w, &from);
	}
}

/*
 * segs are contiguous. Calls fns->frame for each valid frame at or behind
 * `from` (the first segment's first frame if 0) in order; ends at the torn
 * tail, *end tells where, *torn (may be NULL) how much is cut off. A frame
 * callback's error ends the walk.
 */
enum phstore_err local_walk(struct local_store *ls,
			    const struct local_seg *segs,
			    size_t num_segs,
			    uint64_t from,
			    uint64_t known,
			    const struct local_super *super,
			    const struct local_walk_fn *fns,
			    void *private_data,
			    uint64_t *end,
			    uint64_t *torn)
{
	struct walk w = {
		.ls = ls,
		.segs = segs,
		.num_segs = num_segs,
		.seed = ls->seed,
		.epoch = super->epoch,
		.epoch_start = super->epoch_start,
		.loaded = num_segs,
	};
	struct walk_pos pos = {};
	enum phstore_err err = PHSTORE_OK;
	uint64_t dummy;

	if (torn == NULL) {
		torn = &dummy;
	}
	*torn = 0;
	if (num_segs == 0) {
		*end = from;
		return PHSTORE_OK;
	}
	pos.lsn = segs[0].start + LOCAL_SEG_HDR;
	if (from > pos.lsn) {
		while (pos.seg + 1 < num_segs &&
		       from >= segs[pos.seg + 1].start)
		{
			pos.seg += 1;
		}
		pos.lsn = from;
	}
	while (true) {
		struct phstore_frame_hdr hdr = {};
		struct walk_pos next = {};
		uint64_t ofs;
		bool ok;

		if (walk_seg_over(&w, &pos)) {
			if (pos.seg + 1 == num_segs) {
				break;
			}
			walk_next_seg(&w, &pos);
			continue;
		}
		err = walk_load(&w, pos.seg);
		if (err != PHSTORE_OK) {
			goto done;
		}
		ok = walk_valid(&w, &pos, &hdr);
		if (ok && hdr.durable > known) {
			known = hdr.durable;
		}
		if (ok && hdr.type == PHSTORE_FRAME_SEAL) {
			w.last_epoch = hdr.epoch;
			if (pos.seg + 1 == num_segs) {
				/* the next segment was not made: cut here */
				break;
			}
			walk_next_seg(&w, &pos);
			continue;
		}
		if (ok) {
			ofs = pos.lsn - segs[pos.seg].start;
			w.last_epoch = hdr.epoch;
			err = fns->frame(ls, &segs[pos.seg], &hdr,
					 w.buf + ofs, private_data);
			if (err != PHSTORE_OK) {
				goto done;
			}
			pos.lsn += hdr.len;
			continue;
		}

		if (pos.lsn >= known) {
			err = walk_look_ahead(&w, pos, &known, torn);
			if (err != PHSTORE_OK) {
				goto done;
			}
		}
		if (pos.lsn >= known) {
			break;
		}
		*torn = 0;
		next = pos;
		err = walk_resync(&w, &next);
		if (err != PHSTORE_OK) {
			goto done;
		}
		walk_tell(&w, pos, next, known, fns, private_data);
		if (next.seg == num_segs) {
			const struct local_seg *last = &segs[num_segs - 1];
			uint64_t limit = last->start + last->size;

			pos.lsn = known < limit ? known : limit;
			break;
		}
		pos = next;
	}
	*end = pos.lsn;
done:
	free(w.buf);
	return err;
}

/*
 * phstore local backend: superblock and segment header as bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The layout stands in docs/DISK_FORMAT.md.
 */

#include "local.h"
#include "phstore_bytes.h"

#include <string.h>

static const uint8_t super_magic[8] = { 'P','H','S','T','O','R','E','\n' };
static const uint8_t seg_magic[8] = { 'P','H','S','E','G','M','T','\n' };

/* So that sums of positions and sizes cannot overflow. */
#define LSN_MAX (UINT64_MAX / 2)

/*
 * No store gets as far as this by use. What is read may lie between the two
 * limits, what is written may not: it could not be opened again.
 */
#define COUNTER_END (UINT64_MAX / 4)

uint32_t local_seed(const uint8_t uuid[16])
{
	return phstore_crc32(0, uuid, 16);
}

void local_super_push(uint8_t buf[LOCAL_SUPER_LEN],
		      const struct local_super *super)
{
	uint32_t crc;

	memset(buf, 0, LOCAL_SUPER_LEN);
	memcpy(buf, super_magic, sizeof(super_magic));
	phstore_push_u32(buf + 8, super->sink_kind == LOCAL_SINK_NONE ?
			 LOCAL_FORMAT_VERSION : LOCAL_FORMAT_SINK);
	phstore_push_u64(buf + 16, super->seq);
	memcpy(buf + 24, super->uuid, 16);
	phstore_push_u64(buf + 40, super->segment_size);
	phstore_push_u64(buf + 48, super->epoch);
	phstore_push_u64(buf + 56, super->epoch_start);
	phstore_push_u64(buf + 64, super->tail_segno);
	phstore_push_u64(buf + 72, super->tail_lsn);
	phstore_push_u64(buf + 80, super->durable);
	phstore_push_u64(buf + 88, super->num_damaged);
	if (super->sink_kind != LOCAL_SINK_NONE) {
		phstore_push_u64(buf + 96, super->sink_released);
		buf[104] = (uint8_t)super->sink_kind;
		memcpy(buf + 105, super->sink_name,
		       sizeof(super->sink_name));
	}
	crc = phstore_crc32(0, buf + 16, LOCAL_SUPER_LEN - 16);
	phstore_push_u32(buf + 12, crc);
}

enum phstore_err local_super_pull(const uint8_t *buf,
				  size_t len,
				  struct local_super *super)
{
	uint32_t crc, version;

	if (len < LOCAL_SUPER_LEN) {
		return PHSTORE_ERR_CORRUPT;
	}
	if (memcmp(buf, super_magic, sizeof(super_magic)) != 0) {
		return PHSTORE_ERR_FOREIGN;
	}
	version = phstore_pull_u32(buf + 8);
	if (version > LOCAL_FORMAT_SINK) {
		return PHSTORE_ERR_NEWER;
	}
	crc = phstore_crc32(0, buf + 16, LOCAL_SUPER_LEN - 16);
	if (crc != phstore_pull_u32(buf + 12) ||
	    version < LOCAL_FORMAT_VERSION)
	{
		return PHSTORE_ERR_CORRUPT;
	}
	*super = (struct local_super) {
		.seq = phstore_pull_u64(buf + 16),
		.segment_size = phstore_pull_u64(buf + 40),
		.epoch = phstore_pull_u64(buf + 48),
		.epoch_start = phstore_pull_u64(buf + 56),
		.tail_segno = phstore_pull_u64(buf + 64),
		.tail_lsn = phstore_pull_u64(buf + 72),
		.durable = phstore_pull_u64(buf + 80),
		.num_damaged = phstore_pull_u64(buf + 88),
	};
	memcpy(super->uuid, buf + 24, 16);
	if (version == LOCAL_FORMAT_SINK) {
		super->sink_released = phstore_pull_u64(buf + 96);
		super->sink_kind = buf[104];
		memcpy(super->sink_name, buf + 105,
		       sizeof(super->sink_name));
		if (super->sink_kind == LOCAL_SINK_NONE ||
		    super->sink_kind >= LOCAL_SINK_END ||
		    super->sink_released > LSN_MAX)
		{
			return PHSTORE_ERR_CORRUPT;
		}
	}
	if (super->seq > LSN_MAX || super->epoch > LSN_MAX ||
	    super->tail_segno > LSN_MAX)
	{
		return PHSTORE_ERR_CORRUPT;
	}
	if (super->segment_size < LOCAL_SEGMENT_MIN ||
	    super->segment_size > LOCAL_SEGMENT_MAX ||
	    super->segment_size % LOCAL_SUPER_SIZE != 0 ||
	    super->tail_lsn % PHSTORE_FRAME_ALIGN != 0 ||
	    super->durable % PHSTORE_FRAME_ALIGN != 0 ||
	    super->epoch_start % PHSTORE_FRAME_ALIGN != 0 ||
	    super->tail_lsn > LSN_MAX || super->durable > LSN_MAX ||
	    super->epoch_start > LSN_MAX)
	{
		return PHSTORE_ERR_CORRUPT;
	}
	return PHSTORE_OK;
}

bool local_worn(const struct local_super *super,
		uint64_t segno,
		uint64_t head,
		uint64_t more)
{
	uint64_t end = COUNTER_END - more;

	return super->seq > end || super->epoch > end || segno > end ||
	       head > end;
}

void local_seg_hdr_push(uint8_t buf[LOCAL_SEG_HDR],
			const struct local_seg *seg,
			uint32_t seed)
{
	uint32_t crc;

	memset(buf, 0, LOCAL_SEG_HDR);
	memcpy(buf, seg_magic, sizeof(seg_magic));
	phstore_push_u32(buf + 8, LOCAL_FORMAT_VERSION);
	phstore_push_u64(buf + 16, seg->segno);
	phstore_push_u64(buf + 24, seg->start);
	phstore_push_u64(buf + 32, seg->size);
	crc = phstore_crc32(seed, buf + 16, LOCAL_SEG_HDR - 16);
	phstore_push_u32(buf + 12, crc);
}

bool local_seg_hdr_pull(const uint8_t *buf,
			size_t len,
			uint32_t seed,
			struct local_seg *seg)
{
	uint32_t crc;

	if (len < LOCAL_SEG_HDR ||
	    memcmp(buf, seg_magic, sizeof(seg_magic)) != 0 ||
	    phstore_pull_u32(buf + 8) != LOCAL_FORMAT_VERSION)
	{
		return false;
	}
	crc = phstore_crc32(seed, buf + 16, LOCAL_SEG_HDR - 16);
	if (crc != phstore_pull_u32(buf + 12)) {
		return false;
	}
	*seg = (struct local_seg) {
		.segno = phstore_pull_u64(buf + 16),
		.start = phstore_pull_u64(buf + 24),
		.size = phstore_pull_u64(buf + 32),
	};
	/* one frame, a header and a seal fit in any segment */
	return seg->size >= LOCAL_SEGMENT_MIN &&
	       seg->size <= LOCAL_SEGMENT_MAX &&
	       seg->start <= LSN_MAX &&
	       seg->start % PHSTORE_FRAME_ALIGN == 0 &&
	       seg->size % PHSTORE_FRAME_ALIGN == 0;
}

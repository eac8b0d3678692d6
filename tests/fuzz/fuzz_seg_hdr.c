/*
 * phstore fuzzing: a segment's header
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * As it is, and with the checksum put right.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "local.h"
#include "phstore_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const uint8_t *buf, size_t size)
{
	struct local_seg seg = {};
	struct local_seg again = {};
	uint8_t out[LOCAL_SEG_HDR];
	bool ok;

	ok = local_seg_hdr_pull(buf, size, 7, &seg);
	if (!ok) {
		return;
	}
	local_seg_hdr_push(out, &seg, 7);
	ok = local_seg_hdr_pull(out, sizeof(out), 7, &again);
	if (!ok || memcmp(&seg, &again, sizeof(seg)) != 0 ||
	    seg.size > LOCAL_SEGMENT_MAX)
	{
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[LOCAL_SEG_HDR];
	uint32_t crc;

	look(data, size);
	if (size < sizeof(buf)) {
		return 0;
	}
	memcpy(buf, data, sizeof(buf));
	memcpy(buf, "PHSEGMT\n", 8);
	phstore_push_u32(buf + 8, LOCAL_FORMAT_VERSION);
	crc = phstore_crc32(7, buf + 16, sizeof(buf) - 16);
	phstore_push_u32(buf + 12, crc);
	look(buf, sizeof(buf));
	return 0;
}

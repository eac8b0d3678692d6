/*
 * phstore fuzzing: a superblock
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * As it is, and with magic, version and checksum put right. What is taken
 * keeps its limits and is the same when pushed again (but for bytes that
 * are zero by rule).
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "local.h"
#include "phstore_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const uint8_t *buf, size_t size)
{
	struct local_super super = {};
	struct local_super again = {};
	uint8_t out[LOCAL_SUPER_LEN];
	enum phstore_err err;

	err = local_super_pull(buf, size, &super);
	if (err != PHSTORE_OK) {
		return;
	}
	if (super.segment_size < LOCAL_SEGMENT_MIN ||
	    super.segment_size > LOCAL_SEGMENT_MAX)
	{
		abort();
	}
	local_super_push(out, &super);
	err = local_super_pull(out, sizeof(out), &again);
	if (err != PHSTORE_OK || again.seq != super.seq ||
	    again.durable != super.durable ||
	    again.tail_lsn != super.tail_lsn)
	{
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[LOCAL_SUPER_LEN];
	uint32_t crc;

	look(data, size);
	if (size < sizeof(buf)) {
		return 0;
	}
	memcpy(buf, data, sizeof(buf));
	memcpy(buf, "PHSTORE\n", 8);
	phstore_push_u32(buf + 8, LOCAL_FORMAT_VERSION);
	crc = phstore_crc32(0, buf + 16, sizeof(buf) - 16);
	phstore_push_u32(buf + 12, crc);
	look(buf, sizeof(buf));
	return 0;
}

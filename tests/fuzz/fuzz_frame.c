/*
 * phstore fuzzing: a whole frame
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Position 4096, seed 0. Bytes as they are, and with the checksum put
 * right, so that the search gets behind it. A frame that is valid must be
 * the same when its operations are pushed again.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "phstore_bytes.h"
#include "phstore_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const uint8_t *buf, size_t size, uint64_t lsn)
{
	struct phstore_frame_hdr hdr = {};
	size_t ofs = PHSTORE_FRAME_HDR;
	uint8_t *again = NULL;
	uint16_t i;
	bool ok;

	(void)phstore_frame_pull_hdr(buf, size, &hdr);
	(void)phstore_frame_check(buf, size, lsn, 0, false, &hdr);
	ok = phstore_frame_check(buf, size, lsn, 0, true, &hdr);
	if (!ok) {
		return;
	}
	again = calloc(1, hdr.len);
	if (again == NULL) {
		return;
	}
	for (i = 0; i < hdr.num_ops; i++) {
		struct phstore_frame_op op = {};

		ok = phstore_op_pull(buf + ofs, hdr.len - ofs, ofs, &op);
		if (!ok) {
			abort();
		}
		ofs += phstore_op_push(again + ofs, &op);
	}
	phstore_frame_push(again, &hdr, 0);
	if (memcmp(again, buf, hdr.len) != 0) {
		abort();
	}
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct phstore_frame_hdr hdr = {};
	uint8_t *copy = NULL;
	bool ok;

	look(data, size, 4096);
	ok = phstore_frame_pull_hdr(data, size, &hdr);
	if (!ok || hdr.len > size) {
		return 0;
	}
	copy = malloc(size);
	if (copy == NULL) {
		return 0;
	}
	memcpy(copy, data, size);
	phstore_frame_push(copy, &hdr, 0);
	look(copy, size, hdr.lsn);
	free(copy);
	return 0;
}

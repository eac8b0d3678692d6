/*
 * phstore fuzzing: one operation of a frame
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What is well formed is the same when pushed again, and lies within the
 * bytes that were given.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "phstore_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct phstore_frame_op op = {};
	uint8_t *again = NULL;
	size_t n;
	bool ok;

	ok = phstore_op_pull(data, size, 40, &op);
	if (!ok) {
		return 0;
	}
	if (op.len > size || op.value_ofs + op.value_len != 40 + op.len) {
		abort();
	}
	again = malloc(op.len);
	if (again == NULL) {
		return 0;
	}
	n = phstore_op_push(again, &op);
	if (n != op.len || memcmp(again, data, n) != 0) {
		abort();
	}
	free(again);
	return 0;
}

/*
 * phstore fuzzing: an entry of the index
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Not a disk format, but read from a file that others can write.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "local.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct local_entry e = {};
	struct local_entry again = {};
	uint8_t buf[LOCAL_ENTRY_LEN];
	bool ok;

	ok = local_entry_pull(data, size, &e);
	if (!ok) {
		return 0;
	}
	local_entry_push(buf, &e);
	ok = local_entry_pull(buf, sizeof(buf), &again);
	if (!ok || memcmp(&e, &again, sizeof(e)) != 0) {
		abort();
	}
	return 0;
}

/*
 * phstore fuzzing: the lease in an open's record
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What is read as a lease is written as the bytes it came from.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../smbd-hooks/samba/phstore_lease_value.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct phstore_lease_value lease;
	uint8_t again[PHSTORE_LEASE_VALUE_LEN];
	uint8_t *tight = NULL;
	bool ok;

	tight = malloc(size + 1);
	if (tight == NULL) {
		abort();
	}
	/* nothing before it, and nothing behind */
	memcpy(tight + 1, data, size);
	ok = phstore_lease_value_pull(tight + 1, size, &lease);
	if (ok) {
		const uint8_t *end = data + size;

		phstore_lease_value_push(&lease, again);
		if (memcmp(again, end - sizeof(again), sizeof(again)) != 0) {
			abort();
		}
	}
	free(tight);
	return 0;
}

/*
 * phstore fuzzing: the durable form of smbd's values
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Never longer than what came in; its own durable form; what does not parse
 * is left untouched.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../smbd-hooks/samba/phstore_canon.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum phstore_canon_kind kind;
	uint8_t *buf = NULL;
	uint8_t *once = NULL;
	size_t len, len2;
	bool ok;

	if (size < 1) {
		return 0;
	}
	kind = (enum phstore_canon_kind)(data[0] % 3);
	data += 1;
	size -= 1;
	/* exactly as long, so that a byte beyond is seen */
	buf = malloc(size);
	once = malloc(size);
	if (size > 0 && (buf == NULL || once == NULL)) {
		abort();
	}
	if (size > 0) {
		memcpy(buf, data, size);
	}
	len = size;
	ok = phstore_canon(kind, buf, &len);
	if (!ok) {
		if (len != size ||
		    (size > 0 && memcmp(buf, data, size) != 0))
		{
			abort();
		}
		goto done;
	}
	if (len > size) {
		abort();
	}
	if (len > 0) {
		memcpy(once, buf, len);
	}
	len2 = len;
	ok = len == 0 || phstore_canon(kind, buf, &len2);
	if (!ok || (len > 0 && (len2 != len ||
				memcmp(once, buf, len) != 0)))
	{
		abort();
	}
done:
	free(buf);
	free(once);
	return 0;
}

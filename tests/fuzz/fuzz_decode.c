/*
 * phstore fuzzing: what phstore dump decodes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The first byte chooses the decoder and the form; the rest is the value,
 * and the key.
 */

#include <stdint.h>

#include "../../tools/phstore_cursor.c"
#include "../../tools/phstore_decode.c"
#include "../../tools/phstore_out.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct phdump_out out = {};
	struct phstore_blob blob = {};
	enum phdump_kind kind;
	size_t i;

	if (size < 1) {
		return 0;
	}
	kind = (enum phdump_kind)(data[0] & 3);
	blob = (struct phstore_blob) { .data = data + 1, .len = size - 1 };
	phdump_init(&out, data[0] & 4, data[0] & 8);
	phdump_object(&out, NULL);
	phdump_decode_key(kind, blob, &out);
	(void)phdump_decode_value(kind, blob, &out);
	phdump_end(&out);
	/* the administrator's terminal sees no control characters */
	for (i = 0; out.buf != NULL && i < out.len; i++) {
		uint8_t c = (uint8_t)out.buf[i];

		if ((c < 0x20 && c != '\n') || c == 0x7f) {
			__builtin_trap();
		}
	}
	phdump_free(&out);
	return 0;
}

/*
 * phstore: tests of the CRC
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What is feared: a length, an alignment or a beginning for which the fast way
 * gives another CRC than zlib, with which all stores were written; a byte
 * beyond the end is read.
 *
 * Seen to fail: with one bit of either factor changed; with the CRC added to
 * the folded bytes once more in the end; without the bytes behind the last 16.
 */

#include "phstore_frame.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define LEN_MAX 1100

int main(void)
{
	static const uint8_t check[] = "123456789";
	uint32_t state = 12345;
	unsigned failed = 0;
	size_t len, ofs, i;

	if (phstore_crc32(0, check, 9) != 0xcbf43926) {
		failed += 1;
	}
	for (len = 0; len <= LEN_MAX; len++) {
		for (ofs = 0; ofs < 3; ofs++) {
			/* exactly as long: a sanitizer sees a byte beyond */
			uint8_t *all = malloc(ofs + len + (len == 0));
			uint8_t *p = all + ofs;
			uint32_t from;
			bool same;

			if (all == NULL) {
				return 1;
			}
			for (i = 0; i < ofs + len; i++) {
				state = state * 1664525 + 1013904223;
				all[i] = len % 7 == 0 ? 0 : state >> 24;
			}
			from = len % 3 == 0 ? 0 : state;
			same = phstore_crc32(from, p, len) ==
			       (uint32_t)crc32(from, p, (uInt)len);
			/* in two parts: it is the same */
			same = same &&
			       phstore_crc32(phstore_crc32(from, p, len / 3),
					     p + len / 3, len - len / 3) ==
			       (uint32_t)crc32(from, p, (uInt)len);
			if (!same) {
				printf("# length %zu at %zu\n", len, ofs);
				failed += 1;
			}
			free(all);
		}
	}
	printf("%sok 1 - the CRC is zlib's, %u wrong\n",
	       failed != 0 ? "not " : "", failed);
	return failed != 0;
}

/*
 * phstore: CRC-32
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * That of zlib, IEEE 802.3 and [MS-SMB2]'s compression: polynomial
 * 0x04c11db7, reflected. zlib's own goes a byte or a few at a time: 3.5 us
 * for the records of one open and close, more than all else a stage computes.
 *
 * Where the processor multiplies without carry, 16 bytes are folded at a time
 * (V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using
 * PCLMULQDQ Instruction", Intel 2009). As polynomials over GF(2), what was
 * read so far times x^128 is, modulo the CRC's polynomial P, its lower half
 * times (x^(128+32) mod P) plus its upper half times (x^(128-32) mod P). What
 * is left in the end are 16 bytes with the CRC of all: zlib takes it, and the
 * bytes behind the last whole 16.
 *
 * Any thread.
 */

#include "phstore_frame.h"

#include <zlib.h>

static uint32_t crc32_zlib(uint32_t crc, const uint8_t *p, size_t len)
{
	while (len > 0) {
		uInt n = len > (1U << 30) ? (1U << 30) : (uInt)len;

		crc = (uint32_t)crc32(crc, p, n);
		p += n;
		len -= n;
	}
	return crc;
}

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

/* below, zlib is as fast */
#define CRC32_FOLD_MIN 48
/* x^(128+32) and x^(128-32) mod P, reflected, and a bit up: it is odd */
#define CRC32_FOLD_LOWER 0x1751997d0LL
#define CRC32_FOLD_UPPER 0x0ccaa009eLL

__attribute__((target("pclmul,sse2")))
static uint32_t crc32_fold(uint32_t crc, const uint8_t *p, size_t len)
{
	const __m128i by = _mm_set_epi64x(CRC32_FOLD_UPPER, CRC32_FOLD_LOWER);
	__m128i x = _mm_loadu_si128((const __m128i *)p);
	uint8_t left[16];
	size_t ofs;

	/* a CRC goes on by being added to the first 4 bytes, inverted */
	x = _mm_xor_si128(x, _mm_cvtsi32_si128((int)~crc));
	for (ofs = 16; ofs + 16 <= len; ofs += 16) {
		__m128i next = _mm_loadu_si128((const __m128i *)(p + ofs));
		__m128i lower = _mm_clmulepi64_si128(x, by, 0x00);
		__m128i upper = _mm_clmulepi64_si128(x, by, 0x11);

		x = _mm_xor_si128(_mm_xor_si128(lower, upper), next);
	}
	_mm_storeu_si128((__m128i *)left, x);
	/* ~0: nothing is to be added to these */
	crc = crc32_zlib(0xffffffff, left, sizeof(left));
	return crc32_zlib(crc, p + ofs, len - ofs);
}

uint32_t phstore_crc32(uint32_t crc, const void *buf, size_t len)
{
	if (len >= CRC32_FOLD_MIN && __builtin_cpu_supports("pclmul")) {
		return crc32_fold(crc, buf, len);
	}
	return crc32_zlib(crc, buf, len);
}

#else

uint32_t phstore_crc32(uint32_t crc, const void *buf, size_t len)
{
	return crc32_zlib(crc, buf, len);
}

#endif

/*
 * phstore: little-endian numbers in byte buffers
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Disk and wire formats are never cast from bytes; they are pushed and
 * pulled one number at a time with these.
 */

#ifndef PHSTORE_BYTES_H
#define PHSTORE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void phstore_push_u16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void phstore_push_u32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void phstore_push_u64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t phstore_pull_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t phstore_pull_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t phstore_pull_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

#endif /* PHSTORE_BYTES_H */

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

#include <stdint.h>

static inline void phstore_push_u16(uint8_t *p, uint16_t v)
{
	p[0] = v & 0xff;
	p[1] = v >> 8;
}

static inline void phstore_push_u32(uint8_t *p, uint32_t v)
{
	phstore_push_u16(p, v & 0xffff);
	phstore_push_u16(p + 2, v >> 16);
}

static inline void phstore_push_u64(uint8_t *p, uint64_t v)
{
	phstore_push_u32(p, v & 0xffffffff);
	phstore_push_u32(p + 4, v >> 32);
}

static inline uint16_t phstore_pull_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | (p[1] << 8));
}

static inline uint32_t phstore_pull_u32(const uint8_t *p)
{
	return phstore_pull_u16(p) | ((uint32_t)phstore_pull_u16(p + 2) << 16);
}

static inline uint64_t phstore_pull_u64(const uint8_t *p)
{
	return phstore_pull_u32(p) | ((uint64_t)phstore_pull_u32(p + 4) << 32);
}

#endif /* PHSTORE_BYTES_H */

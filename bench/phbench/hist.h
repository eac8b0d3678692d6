/*
 * phbench: latency histogram
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Log-linear: values below 2^HIST_SUB_BITS ns each have their own slot, above
 * that every power of two is cut into 2^HIST_SUB_BITS equal slots, so a
 * percentile is off by less than 1/64 = 1.6 %. Constant memory, constant time
 * per value and mergeable by addition, which a sorted list of all latencies
 * is not; the extremes and the sum are kept exactly. All of it is in this
 * header, as the two programs that use it are built by different trees.
 */

#ifndef PHBENCH_HIST_H
#define PHBENCH_HIST_H

#include <stdint.h>
#include <string.h>

#define HIST_SUB_BITS 6
#define HIST_SUB (1U << HIST_SUB_BITS)
/* up to 2^40 ns (18 minutes); more is counted in the last slot */
#define HIST_MAX_BITS 40
#define HIST_SLOTS ((HIST_MAX_BITS - HIST_SUB_BITS + 1) * HIST_SUB)

struct hist {
	uint64_t count;
	uint64_t sum;
	uint64_t min;
	uint64_t max;
	uint64_t slots[HIST_SLOTS];
};

static inline unsigned int hist_slot(uint64_t ns)
{
	unsigned int bits;
	unsigned int shift;
	unsigned int slot;

	if (ns < HIST_SUB) {
		return (unsigned int)ns;
	}

	bits = 63 - (unsigned int)__builtin_clzll(ns);
	shift = bits - HIST_SUB_BITS;
	slot = (shift + 1) * HIST_SUB + (unsigned int)(ns >> shift) - HIST_SUB;
	if (slot >= HIST_SLOTS) {
		return HIST_SLOTS - 1;
	}
	return slot;
}

/* The largest value that hist_slot() puts into this slot. */
static inline uint64_t hist_slot_top(unsigned int slot)
{
	unsigned int shift;
	uint64_t first;

	if (slot < HIST_SUB) {
		return slot;
	}
	shift = slot / HIST_SUB - 1;
	first = (uint64_t)(slot % HIST_SUB + HIST_SUB) << shift;
	return first + ((uint64_t)1 << shift) - 1;
}

static inline void hist_clear(struct hist *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

static inline void hist_add(struct hist *h, uint64_t ns)
{
	h->slots[hist_slot(ns)]++;
	h->count++;
	h->sum += ns;
	if (ns < h->min) {
		h->min = ns;
	}
	if (ns > h->max) {
		h->max = ns;
	}
}

static inline void hist_merge(struct hist *to, const struct hist *from)
{
	unsigned int i;

	for (i = 0; i < HIST_SLOTS; i++) {
		to->slots[i] += from->slots[i];
	}
	to->count += from->count;
	to->sum += from->sum;
	if (from->min < to->min) {
		to->min = from->min;
	}
	if (from->max > to->max) {
		to->max = from->max;
	}
}

static inline double hist_mean(const struct hist *h)
{
	if (h->count == 0) {
		return 0;
	}
	return (double)h->sum / (double)h->count;
}

/**
 * @param[in] quantile  0 < quantile <= 1, 0.99 is p99
 * @return the upper edge of the slot it falls in, never above max
 */
static inline uint64_t hist_quantile(const struct hist *h, double quantile)
{
	double exact = quantile * (double)h->count;
	uint64_t wanted = (uint64_t)exact;
	uint64_t seen = 0;
	unsigned int i;

	if (h->count == 0) {
		return 0;
	}
	if (wanted == 0 || (double)wanted < exact) {
		wanted++;
	}
	for (i = 0; i < HIST_SLOTS; i++) {
		seen += h->slots[i];
		if (seen >= wanted) {
			uint64_t top = hist_slot_top(i);

			return top < h->max ? top : h->max;
		}
	}
	return h->max;
}

#endif /* PHBENCH_HIST_H */

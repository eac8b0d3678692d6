/*
 * phbench: latency histogram, see hist.h
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include <math.h>
#include <string.h>

#include "hist.h"

static unsigned int hist_slot(uint64_t ns)
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
static uint64_t hist_slot_top(unsigned int slot)
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

void hist_clear(struct hist *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

void hist_add(struct hist *h, uint64_t ns)
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

void hist_merge(struct hist *to, const struct hist *from)
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

double hist_mean(const struct hist *h)
{
	if (h->count == 0) {
		return 0;
	}
	return (double)h->sum / (double)h->count;
}

uint64_t hist_quantile(const struct hist *h, double quantile)
{
	uint64_t wanted = (uint64_t)ceil(quantile * (double)h->count);
	uint64_t seen = 0;
	unsigned int i;

	if (h->count == 0) {
		return 0;
	}
	if (wanted == 0) {
		wanted = 1;
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

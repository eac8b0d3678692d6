/*
 * phbench: latency histogram
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Log-linear: values below 2^HIST_SUB_BITS ns each have their own slot, above
 * that every power of two is cut into 2^HIST_SUB_BITS equal slots, so a
 * percentile is off by less than 1/64 = 1.6 %. Constant memory, constant time
 * per value and mergeable by addition, which a sorted list of all latencies
 * is not; the extremes and the sum are kept exactly.
 */

#ifndef PHBENCH_HIST_H
#define PHBENCH_HIST_H

#include <stdint.h>

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

void hist_clear(struct hist *h);
void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *to, const struct hist *from);
double hist_mean(const struct hist *h);

/**
 * @param[in] quantile  0 < quantile <= 1, 0.99 is p99
 * @return the upper edge of the slot it falls in, never above max
 */
uint64_t hist_quantile(const struct hist *h, double quantile);

#endif /* PHBENCH_HIST_H */

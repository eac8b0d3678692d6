/*
 * synccount: the counter file shared by synccount.c and its readers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * One page: the magic, then 64-bit counters in host order, which only ever
 * grow. The names below are the order in the file.
 */

#ifndef PHSTORE_SYNCCOUNT_H
#define PHSTORE_SYNCCOUNT_H

#include <stdint.h>

#define SYNCCOUNT_MAGIC UINT64_C(0x31544e5543534850)	/* "PHSCUNT1" */
#define SYNCCOUNT_ENV "PHBENCH_SYNC_COUNTERS"
#define SYNCCOUNT_ENV_DELAY "PHBENCH_SYNC_DELAY_US"
#define SYNCCOUNT_ENV_SKIP "PHBENCH_SYNC_SKIP"

enum synccount_id {
	SYNCCOUNT_FDATASYNC = 0,
	SYNCCOUNT_FSYNC,
	SYNCCOUNT_MSYNC,
	SYNCCOUNT_SYNC_FILE_RANGE,
	SYNCCOUNT_PWRITEV2_SYNC,	/* with RWF_DSYNC or RWF_SYNC */
	SYNCCOUNT_OPEN_SYNC,		/* open() with O_DSYNC or O_SYNC */
	SYNCCOUNT_SYNCFS,		/* syncfs() and sync() */
	SYNCCOUNT_NUM
};

#define SYNCCOUNT_NAMES { \
	"fdatasync", "fsync", "msync", "sync_file_range", \
	"pwritev2_sync", "open_sync", "syncfs" \
}

struct synccount_page {
	uint64_t magic;
	uint64_t counters[SYNCCOUNT_NUM];
};

#endif /* PHSTORE_SYNCCOUNT_H */

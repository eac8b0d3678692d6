/*
 * phstore tests: a disk that loses power
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file crash_disk.h
 *
 * @brief What a folder looks like after the power was cut.
 *
 * The table crash_disk_io goes under the store (phstore_io). Calls pass
 * through to real files of one folder and are remembered; at a chosen call
 * the disk "dies": that call and all later ones fail with EIO and change
 * nothing. crash_disk_image() then replaces the folder's files by what a
 * power cut at that moment may have left.
 *
 * The device and the file system, as the store assumes them:
 *
 * - What was synced is there: fdatasync covers a file's data and length,
 *   fsync of the folder its names.
 * - Sectors of 512 bytes are atomic as to bytes that did not change: a
 *   write in flight never harms them. The bytes that do change may be old,
 *   new, of an older unsynced write, or (CRASH_TEAR) anything.
 * - Writes are not ordered: each unsynced sector write is there or not,
 *   whatever became of others, of the same file or another.
 * - A length (allocate, write beyond the end) that was not synced is there
 *   or not; a sector without its data reads as zeros.
 * - Names: rename is atomic. What was not synced is there or not; either
 *   as journalling file systems do it, a prefix, or any subset.
 *
 * One disk at a time, one thread.
 */

#ifndef CRASH_DISK_H
#define CRASH_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "phstore_io.h"

extern const struct phstore_io_ops crash_disk_io;

/* xorshift64*, so that a seed means the same everywhere */
struct crash_rnd {
	uint64_t state;
};

uint64_t crash_rnd_u64(struct crash_rnd *rnd);
/* 0 .. n - 1 */
uint32_t crash_rnd_below(struct crash_rnd *rnd, uint32_t n);
/* true with a probability of percent */
bool crash_rnd_percent(struct crash_rnd *rnd, uint32_t percent);

/** @brief Begin with an empty folder; removes all files in it. */
void crash_disk_begin(const char *dir);

/** @brief Die at the n-th call from now on (0: the next one). */
void crash_disk_arm(uint64_t n);

/** @brief Calls seen since crash_disk_arm(). */
uint64_t crash_disk_calls(void);

bool crash_disk_is_dead(void);

/** @brief Make the folder what the cut left; alive again afterwards. */
void crash_disk_image(struct crash_rnd *rnd);

/** @brief A text on how the last image was made. */
const char *crash_disk_how(void);

/**
 * @brief Called at the beginning of each fdatasync and fsync, before it has
 * any effect: where other processes get to run.
 */
extern void (*crash_disk_sync_fn)(void);

#endif /* CRASH_DISK_H */

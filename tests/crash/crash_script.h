/*
 * phstore tests: a fixed sequence of transactions
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file crash_script.h
 *
 * @brief Transaction i is always the same, whoever stages it.
 *
 * So the state after the first k of them is known to every process without
 * a word between them, and one look at the store tells which k it is.
 * Transactions have 1 to 3 operations on 16 keys in two tables: puts of 16
 * to 6000 bytes (now and then 30,000), a third deletes.
 */

#ifndef CRASH_SCRIPT_H
#define CRASH_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "phstore.h"

#define SCRIPT_SEGMENT (64 * 1024)

/** @brief Open with 64 KiB segments, tmpfs is fine. */
enum phstore_err script_open(const char *path, uint32_t flags,
			     struct phstore **store);

/**
 * @brief Go on as this user, who can not open the store's files; 0: as root.
 * Not before the store is open. False: this process is not root.
 */
bool script_as_user(uid_t uid);

/** @brief Stage transaction i; commit: and wait, and do maintenance. */
enum phstore_err script_stage(struct phstore *store, uint32_t i,
			      uint64_t *lsn);
enum phstore_err script_commit(struct phstore *store, uint32_t i);

/**
 * @brief Is this the state after lo to hi transactions?
 * @return after how many (the most that fit), or -1; prints why
 */
int script_find(struct phstore *store, uint32_t lo, uint32_t hi);

/** @brief Are num_records and live_bytes what k transactions leave? */
bool script_check_counters(struct phstore *store, uint32_t k);

/** @brief seg-* files in the folder. */
uint64_t script_count_segments(const char *path);

/* Folders under the test's own one. */

/** @brief A new folder's name on a memory file system; NULL: cannot. */
char *script_tmpdir(const char *name);
/** @brief Remove a folder and the files in it. */
void script_rmdir(const char *path);
/** @brief Copy all files; without_state: as after a reboot. */
bool script_copy(const char *from, const char *to, bool without_state);

#endif /* CRASH_SCRIPT_H */

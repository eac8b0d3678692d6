/*
 * phstore tool: history, what its two parts share
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_HISTORY_H
#define PHSTORE_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "phstore.h"
#include "phstore_cursor.h"

#define HISTORY_FILE_LEN 24
/* of one handle's entry, in all its lives */
#define HISTORY_GONE_MAX 64

/** Who has, or had, the file open */
struct history_entry {
	uint8_t server[SERVER_ID_LEN];
	struct guid_str client;
	bool has_client;	/* only with a lease */
	uint64_t share_file_id;
	uint32_t uid;
};

/** A share mode entry is not there any more. */
struct history_gone {
	uint64_t lsn;
	bool has_by;
	struct history_entry by;	/* came with it */
};

/**
 * @brief When did the file's record lose the handle's entry, and to whom?
 *
 * Appends to gone, *num of at most HISTORY_GONE_MAX, oldest first.
 */
enum phstore_err history_file(struct phstore *store, uint32_t id,
			      const uint8_t file[HISTORY_FILE_LEN],
			      struct history_gone *gone, size_t *num);

#endif /* PHSTORE_HISTORY_H */

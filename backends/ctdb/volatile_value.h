/*
 * phstore: the header of a value in a volatile ctdb database
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_VOLATILE_VALUE_H
#define PHSTORE_VOLATILE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHVOL_HDR_LEN 40

/* the store has the record under this version */
#define PHVOL_STORED	0x01U
/* what the store has is of no use after a restart: plain opens only */
#define PHVOL_PLAIN	0x02U
/* the record was deleted in the store under this version */
#define PHVOL_TOMB	0x04U
/* STORED for durable handles only, which are not persistent */
#define PHVOL_KEPT	0x08U

struct phvol_hdr {
	uint32_t flags;			/* PHVOL_* */
	uint32_t pad;			/* zeros behind the value */
	uint32_t origin;		/* node that made this version */
	uint64_t checked;		/* epoch it was last compared in */
	uint64_t epoch, seq;		/* the version, if STORED or TOMB */
};

/**
 * @brief Take the header off a value.
 *
 * @param[in,out] buf, len  the value, then what is between header and pad
 * @return false: not one of ours. An empty value is a record nobody has
 *         written yet: all zero, true
 */
bool phvol_pull(const uint8_t **buf, size_t *len, struct phvol_hdr *hdr);

void phvol_push(uint8_t buf[PHVOL_HDR_LEN], const struct phvol_hdr *hdr);

/**
 * @brief All nodes have forgotten the deletion: the volatile database may.
 *
 * @param[out] out  PHVOL_HDR_LEN bytes that replace the header, when the
 *                  value is not to be emptied
 * @return 0: leave it, it is another version; 1: make the value empty;
 *         2: somebody wrote it again, only replace its header
 */
int phvol_forget(const uint8_t *value, size_t len,
		 uint64_t epoch, uint64_t seq,
		 uint8_t out[PHVOL_HDR_LEN]);

#endif /* PHSTORE_VOLATILE_VALUE_H */

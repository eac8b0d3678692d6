/*
 * phstore: the lease in an open's record
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHSTORE_LEASE_VALUE_H
#define PHSTORE_LEASE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHSTORE_LEASE_VALUE_LEN 40

/** A lease as its client knows it, [MS-SMB2] 3.3.1.12 */
struct phstore_lease_value {
	uint64_t key[2];
	/* SMB2_LEASE_*; a break: what it was told to let go to, has to */
	uint32_t state;
	uint32_t breaking_to_requested;
	uint32_t breaking_to_required;
	uint16_t epoch;
	uint8_t version;	/* 1 or 2 */
	bool breaking;
};

/** @brief Write PHSTORE_LEASE_VALUE_LEN bytes. */
void phstore_lease_value_push(const struct phstore_lease_value *lease,
			      uint8_t *buf);

/**
 * @brief The lease at the end of an open's record.
 *
 * @return false: it has none
 */
bool phstore_lease_value_pull(const uint8_t *buf,
			      size_t len,
			      struct phstore_lease_value *lease);

#endif /* PHSTORE_LEASE_VALUE_H */

/*
 * phstore: the lease in an open's record
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Behind what Samba stores of an open come, if it has a lease, 40 bytes, all
 * numbers little-endian:
 *
 *    0  u64 u64  lease key
 *   16  u32      state: 1 read, 2 handle, 4 write
 *   20  u32      a break is under way: the client was told to keep this
 *   24  u32      a break is under way: it has to come down to this
 *   28  u16      lease epoch
 *   30  u8       lease version, 1 or 2
 *   31  u8       1: a break is under way, else 0
 *   32  8 bytes  "PHLEASE1"
 *
 * Rule: a record that ends with these eight bytes, and whose numbers are as
 * above, has a lease. One without it ends with the open's lock sequence
 * numbers, each below 16 or 255, and zeros: never with a letter. Samba's own
 * code reads both, it ignores what follows. A record's checksum is that of
 * its frame in the log.
 *
 * No Samba header is used here, the unit test builds this file alone.
 */

#include "phstore_lease_value.h"
#include <string.h>

#define LEASE_ALL 7
#define LEASE_MAGIC "PHLEASE1"
#define LEASE_MAGIC_OFS 32
#define LEASE_MAGIC_LEN 8

static void push_le(uint8_t *p, uint64_t val, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		p[i] = (uint8_t)(val >> (8 * i));
	}
}

static uint64_t pull_le(const uint8_t *p, size_t len)
{
	uint64_t val = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		val |= (uint64_t)p[i] << (8 * i);
	}
	return val;
}

void phstore_lease_value_push(const struct phstore_lease_value *lease,
			      uint8_t *buf)
{
	push_le(buf, lease->key[0], 8);
	push_le(buf + 8, lease->key[1], 8);
	push_le(buf + 16, lease->state, 4);
	push_le(buf + 20, lease->breaking_to_requested, 4);
	push_le(buf + 24, lease->breaking_to_required, 4);
	push_le(buf + 28, lease->epoch, 2);
	push_le(buf + 30, lease->version, 1);
	push_le(buf + 31, lease->breaking ? 1 : 0, 1);
	memcpy(buf + LEASE_MAGIC_OFS, LEASE_MAGIC, LEASE_MAGIC_LEN);
}

bool phstore_lease_value_pull(const uint8_t *buf,
			      size_t len,
			      struct phstore_lease_value *lease)
{
	uint8_t breaking;
	int cmp;

	*lease = (struct phstore_lease_value) {};
	if (len < PHSTORE_LEASE_VALUE_LEN) {
		return false;
	}
	buf += len - PHSTORE_LEASE_VALUE_LEN;
	cmp = memcmp(buf + LEASE_MAGIC_OFS, LEASE_MAGIC, LEASE_MAGIC_LEN);
	if (cmp != 0) {
		return false;
	}
	lease->key[0] = pull_le(buf, 8);
	lease->key[1] = pull_le(buf + 8, 8);
	lease->state = pull_le(buf + 16, 4);
	lease->breaking_to_requested = pull_le(buf + 20, 4);
	lease->breaking_to_required = pull_le(buf + 24, 4);
	lease->epoch = pull_le(buf + 28, 2);
	lease->version = pull_le(buf + 30, 1);
	breaking = pull_le(buf + 31, 1);
	if (lease->state > LEASE_ALL ||
	    lease->breaking_to_requested > LEASE_ALL ||
	    lease->breaking_to_required > LEASE_ALL ||
	    lease->version < 1 || lease->version > 2 || breaking > 1)
	{
		*lease = (struct phstore_lease_value) {};
		return false;
	}
	lease->breaking = breaking == 1;
	return true;
}

/*
 * phstore: the header of a value in a volatile ctdb database
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * 40 bytes in front of each value, numbers little-endian:
 *
 *    0  u32  magic "PHV2"
 *    4  u32  flags, PHVOL_*
 *    8  u32  bytes of zeros behind the value
 *   12  u32  node that made the version
 *   16  u64  epoch in which the record was last compared with the store
 *   24  u64  version: epoch
 *   32  u64  version: seq
 *
 * Rule: it travels with the record, so it is as new as the value. Whoever
 * holds the record's lock knows the newest version anybody gave it in this
 * epoch (W1 of docs/REPLICATION.md), without asking. A value without the
 * magic is not ours: some smbd of the cluster runs without phstore.
 *
 * No header of Samba or ctdb is used here: smbd, phstored and the unit test
 * build this file.
 */

#include "volatile_value.h"
#include <string.h>

static uint32_t pull_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | ((uint32_t)p[1] << 8) |
	       ((uint32_t)p[2] << 16) | ((uint32_t)p[3] << 24);
}

static uint64_t pull_u64(const uint8_t *p)
{
	return pull_u32(p) | ((uint64_t)pull_u32(p + 4) << 32);
}

static void push_u32(uint8_t *p, uint32_t v)
{
	p[0] = v & 0xff;
	p[1] = (v >> 8) & 0xff;
	p[2] = (v >> 16) & 0xff;
	p[3] = (v >> 24) & 0xff;
}

static void push_u64(uint8_t *p, uint64_t v)
{
	push_u32(p, (uint32_t)v);
	push_u32(p + 4, (uint32_t)(v >> 32));
}

bool phvol_pull(const uint8_t **buf, size_t *len, struct phvol_hdr *hdr)
{
	const uint8_t *p = *buf;

	*hdr = (struct phvol_hdr) {};
	if (*len == 0) {
		return true;
	}
	if (*len < PHVOL_HDR_LEN || memcmp(p, "PHV2", 4) != 0) {
		return false;
	}
	hdr->flags = pull_u32(p + 4);
	hdr->pad = pull_u32(p + 8);
	hdr->origin = pull_u32(p + 12);
	hdr->checked = pull_u64(p + 16);
	hdr->epoch = pull_u64(p + 24);
	hdr->seq = pull_u64(p + 32);
	if (hdr->pad > *len - PHVOL_HDR_LEN) {
		return false;
	}
	*buf = p + PHVOL_HDR_LEN;
	*len -= PHVOL_HDR_LEN + hdr->pad;
	return true;
}

void phvol_push(uint8_t buf[PHVOL_HDR_LEN], const struct phvol_hdr *hdr)
{
	memcpy(buf, "PHV2", 4);
	push_u32(buf + 4, hdr->flags);
	push_u32(buf + 8, hdr->pad);
	push_u32(buf + 12, hdr->origin);
	push_u64(buf + 16, hdr->checked);
	push_u64(buf + 24, hdr->epoch);
	push_u64(buf + 32, hdr->seq);
}

int phvol_forget(const uint8_t *value, size_t len,
		 uint64_t epoch, uint64_t seq,
		 uint8_t out[PHVOL_HDR_LEN])
{
	struct phvol_hdr hdr = {};
	bool ok;

	ok = phvol_pull(&value, &len, &hdr);
	if (!ok || (hdr.flags & PHVOL_TOMB) == 0 ||
	    hdr.epoch != epoch || hdr.seq != seq)
	{
		return 0;
	}
	if (len == 0) {
		return 1;
	}
	hdr.flags &= ~PHVOL_TOMB;
	hdr.epoch = 0;
	hdr.seq = 0;
	phvol_push(out, &hdr);
	return 2;
}

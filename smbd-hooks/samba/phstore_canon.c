/*
 * phstore: what of a dbwrap value has to survive
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * smbd stores two kinds of things in one value: what must survive (share
 * modes, locks, opens) and who waits for or holds the record at the moment
 * (watchers, g_lock holders, the lock's epochs). The second kind names
 * processes that do not exist after a restart, and it changes each time the
 * record's lock is taken. So the durable form leaves it out: taking and
 * releasing the share-mode lock then changes nothing that is durable, and
 * costs no durable write.
 *
 * Layout, all numbers little-endian:
 *
 *   watched:  u32 W, W watchers of 32 bytes (server_id 24, instance u64),
 *             then the rest. An empty value is a fresh record.
 *   g_lock:   watched, and the rest is: exclusive holder (server_id 24),
 *             u64 lock epoch, u64 data epoch, u32 S, S shared holders of
 *             24 bytes, then the data. A rest shorter than 44 bytes is an
 *             unlocked record without data.
 *
 *   durable:  W = 0; holder all zero, both epochs 0, S = 0; the data.
 *
 * Rule: a value whose data is empty has no durable form (length 0): only
 * waiters and holders were in it. A value that does not parse is left as it
 * is: keeping too much is safe, guessing is not.
 *
 * No Samba header is used here, the unit test builds this file alone.
 */

#include "phstore_canon.h"
#include <string.h>

#define WATCH_HDR_LEN 4
#define WATCHER_LEN (PHSTORE_CANON_SERVER_ID_LEN + 8)
#define G_LOCK_HDR_LEN (PHSTORE_CANON_SERVER_ID_LEN + 8 + 8 + 4)
#define G_LOCK_NUM_SHARED_OFS (PHSTORE_CANON_SERVER_ID_LEN + 8 + 8)

static const struct {
	const char *table;
	enum phstore_canon_kind kind;
} phstore_canon_tables[] = {
	{ "locking", PHSTORE_CANON_G_LOCK },
	{ "brlock", PHSTORE_CANON_RAW },
	{ "smbXsrv_open_global", PHSTORE_CANON_RAW },
};

enum phstore_canon_kind phstore_canon_kind_of(const char *table)
{
	size_t num = sizeof(phstore_canon_tables) /
		     sizeof(phstore_canon_tables[0]);
	size_t i;

	for (i = 0; i < num; i++) {
		int cmp = strcmp(phstore_canon_tables[i].table, table);

		if (cmp == 0) {
			return phstore_canon_tables[i].kind;
		}
	}
	return PHSTORE_CANON_RAW;
}

static uint32_t pull_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | ((uint32_t)p[1] << 8) |
	       ((uint32_t)p[2] << 16) | ((uint32_t)p[3] << 24);
}

bool phstore_canon(enum phstore_canon_kind kind, uint8_t *buf, size_t *len)
{
	size_t left = *len;
	size_t ofs;
	size_t hdr_len;
	size_t num;

	if (kind == PHSTORE_CANON_RAW || left == 0) {
		return true;
	}

	if (left < WATCH_HDR_LEN) {
		return false;
	}
	num = pull_u32(buf);
	ofs = WATCH_HDR_LEN;
	left -= WATCH_HDR_LEN;
	if (num > left / WATCHER_LEN) {
		return false;
	}
	ofs += num * WATCHER_LEN;
	left -= num * WATCHER_LEN;
	hdr_len = WATCH_HDR_LEN;

	if (kind == PHSTORE_CANON_G_LOCK) {
		if (left < G_LOCK_HDR_LEN) {
			*len = 0;
			return true;
		}
		num = pull_u32(buf + ofs + G_LOCK_NUM_SHARED_OFS);
		ofs += G_LOCK_HDR_LEN;
		left -= G_LOCK_HDR_LEN;
		if (num > left / PHSTORE_CANON_SERVER_ID_LEN) {
			return false;
		}
		ofs += num * PHSTORE_CANON_SERVER_ID_LEN;
		left -= num * PHSTORE_CANON_SERVER_ID_LEN;
		hdr_len += G_LOCK_HDR_LEN;
	}

	if (left == 0) {
		*len = 0;
		return true;
	}

	memset(buf, 0, hdr_len);
	memmove(buf + hdr_len, buf + ofs, left);
	*len = hdr_len + left;
	return true;
}

/* Length of what is in front of the data; 0: none, or it does not parse. */
static size_t prefix_len(enum phstore_canon_kind kind,
			 const uint8_t *buf, size_t len,
			 size_t *watch_len, bool *in_use)
{
	static const uint8_t nobody[PHSTORE_CANON_SERVER_ID_LEN];
	size_t ofs = WATCH_HDR_LEN;
	size_t num;
	int cmp;

	*watch_len = 0;
	*in_use = false;
	if (kind == PHSTORE_CANON_RAW || len < WATCH_HDR_LEN) {
		return 0;
	}
	num = pull_u32(buf);
	if (num > (len - ofs) / WATCHER_LEN) {
		return 0;
	}
	*in_use = (num != 0);
	ofs += num * WATCHER_LEN;
	*watch_len = ofs;
	if (kind == PHSTORE_CANON_WATCHED || len - ofs < G_LOCK_HDR_LEN) {
		return ofs;
	}
	cmp = memcmp(buf + ofs, nobody, sizeof(nobody));
	num = pull_u32(buf + ofs + G_LOCK_NUM_SHARED_OFS);
	ofs += G_LOCK_HDR_LEN;
	if (num > (len - ofs) / PHSTORE_CANON_SERVER_ID_LEN) {
		*watch_len = 0;
		*in_use = false;
		return 0;
	}
	*in_use = *in_use || cmp != 0 || num != 0;
	return ofs + num * PHSTORE_CANON_SERVER_ID_LEN;
}

size_t phstore_canon_merge(enum phstore_canon_kind kind,
			   const uint8_t *old, size_t old_len,
			   const uint8_t *form, size_t form_len,
			   uint64_t stamp, uint8_t *out)
{
	size_t form_hdr = WATCH_HDR_LEN;
	size_t watch_len = 0;
	bool in_use = false;
	size_t keep;
	size_t i;

	keep = prefix_len(kind, old, old_len, &watch_len, &in_use);
	if (!in_use) {
		/* nobody is there: the form is a whole value */
		if (form_len != 0) {
			memcpy(out, form, form_len);
		}
		return form_len;
	}
	memcpy(out, old, keep);
	if (kind == PHSTORE_CANON_G_LOCK && keep > watch_len) {
		uint8_t *p = out + watch_len + PHSTORE_CANON_SERVER_ID_LEN + 8;

		for (i = 0; i < 8; i++) {
			p[i] ^= (uint8_t)(stamp >> (8 * i));
		}
		form_hdr += G_LOCK_HDR_LEN;
	}
	if (form_len <= form_hdr) {
		return keep;
	}
	memcpy(out + keep, form + form_hdr, form_len - form_hdr);
	return keep + form_len - form_hdr;
}

/*
 * phstore tool: reading bytes that nobody vouches for
 *
 * Integers are little endian, alignment counts from the value's begin, as
 * in NDR. See phstore_cursor.h.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "phstore_cursor.h"

#define SID_SUBAUTHS_MAX 15
/* 100 ns steps from 1601 to 1970, in seconds */
#define NTTIME_EPOCH_S 11644473600ULL

struct cursor cur_init(const void *data, size_t len)
{
	static const uint8_t nothing[1];

	return (struct cursor) {
		.data = (data != NULL) ? data : nothing,
		.len = (data != NULL) ? len : 0,
	};
}

const uint8_t *cur_take(struct cursor *c, size_t n)
{
	const uint8_t *p = NULL;

	if (c->reason != NULL) {
		return NULL;
	}
	if (n > c->len - c->pos) {
		c->reason = "the value ends too early";
		return NULL;
	}
	p = c->data + c->pos;
	c->pos += n;
	return p;
}

void cur_align(struct cursor *c, size_t n)
{
	size_t over = c->pos % n;

	if (over != 0) {
		cur_take(c, n - over);
	}
}

static uint64_t le_bytes(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n > 0) {
		n -= 1;
		v = (v << 8) | p[n];
	}
	return v;
}

/* Little endian integer of n bytes, aligned to `align` bytes. */
uint64_t cur_le(struct cursor *c, size_t n, size_t align)
{
	const uint8_t *p = NULL;

	cur_align(c, align);
	p = cur_take(c, n);
	if (p == NULL) {
		return 0;
	}
	return le_bytes(p, n);
}

uint8_t cur_u8(struct cursor *c)
{
	return cur_le(c, 1, 1);
}

uint16_t cur_u16(struct cursor *c)
{
	return cur_le(c, 2, 2);
}

uint32_t cur_u32(struct cursor *c)
{
	return cur_le(c, 4, 4);
}

uint64_t cur_u64(struct cursor *c)
{
	return cur_le(c, 8, 8);
}

/* udlong and NTTIME */
uint64_t cur_u64_align4(struct cursor *c)
{
	return cur_le(c, 8, 4);
}

struct guid_str cur_guid(struct cursor *c)
{
	struct guid_str g = { .s = "-" };
	const uint8_t *p = NULL;

	cur_align(c, 4);
	p = cur_take(c, 16);
	if (p == NULL) {
		return g;
	}
	snprintf(g.s, sizeof(g.s),
		 "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 (unsigned int)le_bytes(p, 4),
		 (unsigned int)le_bytes(p + 4, 2),
		 (unsigned int)le_bytes(p + 6, 2),
		 p[8], p[9], p[10], p[11], p[12], p[13], p[14], p[15]);
	return g;
}

/* The rest of the value, when it can not be read from here. */
bool cur_undecoded(struct cursor *c, struct phdump_out *out,
		   const char *reason)
{
	phdump_fmt(out, "not_decoded", "%s (offset %zu of %zu)",
		   reason, c->pos, c->len);
	phdump_hex(out, "rest_hex", c->data + c->pos, c->len - c->pos);
	return false;
}

void cur_show_nttime(struct phdump_out *out, const char *name,
		     uint64_t nttime)
{
	uint64_t s = nttime / 10000000;
	unsigned int us = (nttime / 10) % 1000000;
	struct tm tm = {};
	char date[64];
	time_t t;
	struct tm *ptm = NULL;

	if (nttime == 0) {
		phdump_null(out, name);
		return;
	}
	if (nttime >= INT64_MAX) {
		phdump_str(out, name, "never");
		return;
	}
	t = (time_t)s - (time_t)NTTIME_EPOCH_S;
	ptm = gmtime_r(&t, &tm);
	if (ptm == NULL) {
		phdump_id(out, name, nttime, 16);
		return;
	}
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", ptm);
	phdump_fmt(out, name, "%s.%06uZ", date, us);
}

void cur_show_unix_time(struct phdump_out *out, const char *name,
			uint64_t s, uint32_t us)
{
	const uint64_t s_max = INT64_MAX / 10000000 - NTTIME_EPOCH_S;

	if (s >= s_max || us >= 1000000) {
		phdump_fmt(out, name, "%"PRIu64".%06"PRIu32, s, us);
		return;
	}
	cur_show_nttime(out, name,
			(s + NTTIME_EPOCH_S) * 10000000 + us * 10ULL);
}

void cur_show_server_id(struct phdump_out *out, const char *name,
			struct cursor *c)
{
	uint64_t pid = cur_u64(c);
	uint32_t task = cur_u32(c);
	uint32_t vnn = cur_u32(c);
	uint64_t unique = cur_u64(c);
	char node[16] = "";

	if (c->reason != NULL) {
		return;
	}
	if (pid == 0) {
		phdump_null(out, name);
		return;
	}
	if (pid == UINT64_MAX && unique == UINT64_MAX) {
		/* an open that waits for its client, no smbd has it */
		phdump_str(out, name, "disconnected");
		return;
	}
	if (vnn != UINT32_MAX) {
		snprintf(node, sizeof(node), "%"PRIu32":", vnn);
	}
	if (task != 0) {
		phdump_fmt(out, name, "%s%"PRIu64".%"PRIu32"/%"PRIx64,
			   node, pid, task, unique);
	} else {
		phdump_fmt(out, name, "%s%"PRIu64"/%"PRIx64,
			   node, pid, unique);
	}
}

void cur_show_file_id(struct phdump_out *out, const char *name,
		      struct cursor *c)
{
	uint64_t dev = cur_u64_align4(c);
	uint64_t ino = cur_u64_align4(c);
	uint64_t ext = cur_u64_align4(c);

	if (c->reason != NULL) {
		return;
	}
	if (dev == 0 && ino == 0 && ext == 0) {
		phdump_null(out, name);
		return;
	}
	/* the form smbstatus uses */
	phdump_fmt(out, name, "%"PRIx64":%"PRIx64":%"PRIx64, dev, ino, ext);
}

bool cur_show_sid(struct phdump_out *out, const char *name,
		  struct cursor *c)
{
	char buf[32 + SID_SUBAUTHS_MAX * 12];
	const uint8_t *p = NULL;
	uint64_t authority = 0;
	uint8_t rev, num;
	size_t len;
	unsigned int i;

	cur_align(c, 4);
	rev = cur_u8(c);
	num = cur_u8(c);
	p = cur_take(c, 6);
	if (p == NULL) {
		return false;
	}
	if (num > SID_SUBAUTHS_MAX) {
		c->pos -= 8;
		c->reason = "a SID with more than 15 parts";
		return false;
	}
	for (i = 0; i < 6; i++) {
		authority = (authority << 8) | p[i];
	}
	len = snprintf(buf, sizeof(buf), "S-%u-%"PRIu64,
		       (unsigned int)rev, authority);
	for (i = 0; i < num; i++) {
		uint32_t sub = cur_u32(c);

		len += snprintf(buf + len, sizeof(buf) - len,
				"-%"PRIu32, sub);
	}
	if (c->reason != NULL) {
		return false;
	}
	phdump_str(out, name, buf);
	return true;
}

/* An NDR string behind a pointer: u32 size, offset, length, bytes. */
bool cur_show_string(struct phdump_out *out, const char *name,
		     struct cursor *c)
{
	const uint8_t *p = NULL;
	uint32_t length;

	cur_u32(c);
	cur_u32(c);
	length = cur_u32(c);
	p = cur_take(c, length);
	if (p == NULL) {
		return false;
	}
	if (length != 0 && p[length - 1] == '\0') {
		length -= 1;
	}
	phdump_bytes(out, name, p, length);
	return true;
}

void cur_show_bits(struct phdump_out *out, const char *name,
		   uint32_t value, const struct bit_name *names,
		   size_t num_names)
{
	char buf[256];
	uint32_t rest = value;
	size_t len;
	size_t i;

	len = snprintf(buf, sizeof(buf), "0x%x", (unsigned int)value);
	for (i = 0; i < num_names; i++) {
		if ((value & names[i].bit) == 0) {
			continue;
		}
		len += snprintf(buf + len, sizeof(buf) - len,
				"%s%s", rest == value ? " " : ",",
				names[i].name);
		rest &= ~names[i].bit;
	}
	phdump_str(out, name, buf);
}

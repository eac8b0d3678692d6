/*
 * phstore: what lies in RADOS, as bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The layouts stand in rados_codec.h. Compiled into the object class too:
 * zlib for the checksum is the only library.
 */

#include "rados_codec.h"

#include <string.h>
#include <zlib.h>

#include "lib/phstore/phstore_bytes.h"

static uint32_t crc(uint32_t c, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len > 0) {
		uInt n = len > (1U << 30) ? (1U << 30) : (uInt)len;

		c = (uint32_t)crc32(c, p, n);
		p += n;
		len -= n;
	}
	return c;
}

int phr_version_cmp(struct phr_version a, struct phr_version b)
{
	if (a.epoch != b.epoch) {
		return a.epoch < b.epoch ? -1 : 1;
	}
	if (a.seq != b.seq) {
		return a.seq < b.seq ? -1 : 1;
	}
	return 0;
}

struct phr_version phr_version_next(struct phr_version v)
{
	v.seq += 1;
	if (v.seq == 0) {
		v.epoch += 1;
	}
	return v;
}

void phr_ordered_push(uint8_t *buf, uint64_t v)
{
	int i;

	for (i = PHR_ORDERED_LEN - 1; i >= 0; i--) {
		buf[i] = v & 0x7f;
		v >>= 7;
	}
}

bool phr_ordered_pull(const uint8_t *buf, size_t len, uint64_t *v)
{
	size_t i;

	*v = 0;
	if (len < PHR_ORDERED_LEN || buf[0] > 1) {
		return false;
	}
	for (i = 0; i < PHR_ORDERED_LEN; i++) {
		if (buf[i] > 0x7f) {
			return false;
		}
		*v = *v << 7 | buf[i];
	}
	return true;
}

void phr_version_push(uint8_t *buf, struct phr_version v)
{
	phr_ordered_push(buf, v.epoch);
	phr_ordered_push(buf + PHR_ORDERED_LEN, v.seq);
}

bool phr_version_pull(const uint8_t *buf, size_t len, struct phr_version *v)
{
	bool ok;

	ok = len >= PHR_VERSION_LEN && phr_ordered_pull(buf, len, &v->epoch);
	return ok && phr_ordered_pull(buf + PHR_ORDERED_LEN,
				      len - PHR_ORDERED_LEN, &v->seq);
}

static size_t escape(uint8_t *buf, const uint8_t *p, size_t len)
{
	size_t used = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		if (p[i] > 1) {
			if (buf != NULL) {
				buf[used] = p[i];
			}
			used += 1;
			continue;
		}
		if (buf != NULL) {
			buf[used] = 1;
			buf[used + 1] = p[i] + 2;
		}
		used += 2;
	}
	return used;
}

/* Up to an 01 01 or the end; false when malformed or too long. */
static bool unescape(const uint8_t *p, size_t len, size_t *used,
		     uint8_t *buf, size_t max, size_t *got)
{
	size_t i = 0;
	size_t n = 0;

	while (i < len) {
		uint8_t c = p[i];

		if (c == 0) {
			return false;
		}
		if (c == 1) {
			if (i + 1 >= len) {
				return false;
			}
			if (p[i + 1] == 1) {
				break;
			}
			if (p[i + 1] != 2 && p[i + 1] != 3) {
				return false;
			}
			c = p[i + 1] - 2;
			i += 1;
		}
		i += 1;
		if (n == max) {
			return false;
		}
		buf[n] = c;
		n += 1;
	}
	*used = i;
	*got = n;
	return true;
}

size_t phr_key_push(uint8_t *buf, const char *table, size_t table_len,
		    const uint8_t *key, size_t key_len)
{
	size_t used = 1;

	used += escape(buf != NULL ? buf + 1 : NULL,
		       (const uint8_t *)table, table_len);
	if (buf != NULL) {
		buf[0] = 'R';
		buf[used] = 1;
		buf[used + 1] = 1;
	}
	used += 2;
	used += escape(buf != NULL ? buf + used : NULL, key, key_len);
	return used;
}

bool phr_key_pull(const uint8_t *buf, size_t len,
		  char *table, size_t *table_len,
		  uint8_t *key, size_t *key_len)
{
	size_t used = 0;
	bool ok;

	if (len < 1 || buf[0] != 'R') {
		return false;
	}
	buf += 1;
	len -= 1;
	ok = unescape(buf, len, &used, (uint8_t *)table, PHR_TABLE_MAX,
		      table_len);
	if (!ok || *table_len == 0 || len - used < 2) {
		return false;
	}
	table[*table_len] = '\0';
	buf += used + 2;
	len -= used + 2;
	ok = unescape(buf, len, &used, key, PHR_KEY_MAX, key_len);
	return ok && used == len && *key_len > 0;
}

size_t phr_record_len(const struct phr_record *r)
{
	return PHR_RECORD_HDR + r->value_len;
}

static uint32_t record_crc(const uint8_t *buf, size_t len,
			   const uint8_t *key, size_t key_len)
{
	uint32_t c = crc(0, key, key_len);

	c = crc(c, buf, PHR_RECORD_HDR - 4);
	return crc(c, buf + PHR_RECORD_HDR, len - PHR_RECORD_HDR);
}

void phr_record_push(uint8_t *buf, const uint8_t *key, size_t key_len,
		     const struct phr_record *r)
{
	buf[20] = PHR_RECORD_FORMAT;
	buf[21] = r->kind;
	buf[22] = r->durability;
	buf[23] = 0;
	phstore_push_u32(buf + 24, (uint32_t)r->value_len);
	if (r->value_len > 0) {
		memcpy(buf + PHR_RECORD_HDR, r->value, r->value_len);
	}
	phr_record_set_version(buf, phr_record_len(r), key, key_len,
			       r->version);
}

void phr_record_set_version(uint8_t *buf, size_t len,
			    const uint8_t *key, size_t key_len,
			    struct phr_version v)
{
	phr_version_push(buf, v);
	phstore_push_u32(buf + 28, record_crc(buf, len, key, key_len));
}

bool phr_record_pull(const uint8_t *buf, size_t len,
		     const uint8_t *key, size_t key_len,
		     struct phr_record *r)
{
	bool ok;

	if (len < PHR_RECORD_HDR) {
		return false;
	}
	ok = phr_version_pull(buf, len, &r->version);
	if (!ok || buf[20] != PHR_RECORD_FORMAT || buf[23] != 0) {
		return false;
	}
	r->kind = buf[21];
	r->durability = buf[22];
	r->value = buf + PHR_RECORD_HDR;
	r->value_len = phstore_pull_u32(buf + 24);
	if (r->value_len > PHR_VALUE_MAX ||
	    r->value_len != len - PHR_RECORD_HDR)
	{
		return false;
	}
	if (r->kind != PHR_PUT &&
	    (r->kind != PHR_TOMBSTONE || r->value_len != 0))
	{
		return false;
	}
	if (r->durability > 2) {
		return false;
	}
	return phstore_pull_u32(buf + 28) ==
	       record_crc(buf, len, key, key_len);
}

size_t phr_batch_hdr_len(const struct phr_batch_hdr *h)
{
	return PHR_BATCH_HDR + h->writer_len;
}

size_t phr_batch_op_len(const struct phr_batch_op *op)
{
	return PHR_OP_HDR + op->key_len + op->value_len;
}

size_t phr_batch_hdr_push(uint8_t *buf, const struct phr_batch_hdr *h)
{
	memset(buf, 0, PHR_BATCH_HDR);
	phstore_push_u32(buf, PHR_BATCH_MAGIC);
	phstore_push_u16(buf + 4, PHR_BATCH_VERSION);
	phstore_push_u64(buf + 16, h->epoch);
	phstore_push_u64(buf + 24, h->batch);
	phstore_push_u32(buf + 32, h->num_ops);
	buf[36] = (uint8_t)h->writer_len;
	memcpy(buf + PHR_BATCH_HDR, h->writer, h->writer_len);
	return phr_batch_hdr_len(h);
}

size_t phr_batch_op_push(uint8_t *buf, const struct phr_batch_op *op)
{
	memset(buf, 0, PHR_OP_HDR);
	buf[0] = op->kind;
	buf[1] = op->check;
	phstore_push_u32(buf + 4, (uint32_t)op->key_len);
	phstore_push_u32(buf + 8, (uint32_t)op->value_len);
	if (op->check == PHR_CHECK_EXACT) {
		phstore_push_u64(buf + 16, op->expected.epoch);
		phstore_push_u64(buf + 24, op->expected.seq);
	}
	memcpy(buf + PHR_OP_HDR, op->key, op->key_len);
	if (op->value_len > 0) {
		memcpy(buf + PHR_OP_HDR + op->key_len, op->value,
		       op->value_len);
	}
	return phr_batch_op_len(op);
}

void phr_batch_seal(uint8_t *buf, size_t len)
{
	phstore_push_u32(buf + 12, (uint32_t)len);
	phstore_push_u32(buf + 8, crc(0, buf + 12, len - 12));
}

static bool op_fields_ok(const struct phr_batch_op *op)
{
	struct phr_version v = {};

	if (op->key_len == 0 || op->key_len > PHR_OMAP_KEY_MAX ||
	    op->value_len > PHR_OMAP_VALUE_MAX)
	{
		return false;
	}
	if (op->check != PHR_CHECK_EXACT &&
	    (op->expected.epoch != 0 || op->expected.seq != 0))
	{
		return false;
	}
	switch (op->kind) {
	case PHR_OP_RECORD:
		if (op->check < PHR_CHECK_NEWER ||
		    op->check > PHR_CHECK_LENIENT || op->key[0] != 'R')
		{
			return false;
		}
		return op->value_len >= PHR_RECORD_HDR &&
		       phr_version_pull(op->value, op->value_len, &v);
	case PHR_OP_SET:
		return op->check == PHR_CHECK_NONE && op->key[0] == '!';
	case PHR_OP_REMOVE:
		return op->check == PHR_CHECK_NONE && op->key[0] == '!' &&
		       op->value_len == 0;
	case PHR_OP_PRUNE:
		return op->check == PHR_CHECK_EXACT && op->key[0] == 'R' &&
		       op->value_len == 0;
	default:
		return false;
	}
}

size_t phr_batch_op_pull(const uint8_t *buf, size_t len,
			 struct phr_batch_op *op)
{
	size_t left;
	bool ok;

	if (len < PHR_OP_HDR) {
		return 0;
	}
	*op = (struct phr_batch_op) {
		.kind = buf[0],
		.check = buf[1],
		.key = buf + PHR_OP_HDR,
		.key_len = phstore_pull_u32(buf + 4),
		.value_len = phstore_pull_u32(buf + 8),
		.expected.epoch = phstore_pull_u64(buf + 16),
		.expected.seq = phstore_pull_u64(buf + 24),
	};
	left = len - PHR_OP_HDR;
	if (phstore_pull_u16(buf + 2) != 0 ||
	    phstore_pull_u32(buf + 12) != 0 ||
	    op->key_len > left || op->value_len > left - op->key_len)
	{
		return 0;
	}
	op->value = op->key + op->key_len;
	ok = op->key_len > 0 && op_fields_ok(op);
	return ok ? phr_batch_op_len(op) : 0;
}

size_t phr_batch_pull(const uint8_t *buf, size_t len,
		      struct phr_batch_hdr *h)
{
	size_t used, n;
	uint32_t i;

	if (len < PHR_BATCH_HDR ||
	    phstore_pull_u32(buf) != PHR_BATCH_MAGIC ||
	    phstore_pull_u16(buf + 4) != PHR_BATCH_VERSION ||
	    phstore_pull_u16(buf + 6) != 0 ||
	    phstore_pull_u32(buf + 12) != len ||
	    phstore_pull_u32(buf + 8) != crc(0, buf + 12, len - 12))
	{
		return 0;
	}
	*h = (struct phr_batch_hdr) {
		.epoch = phstore_pull_u64(buf + 16),
		.batch = phstore_pull_u64(buf + 24),
		.num_ops = phstore_pull_u32(buf + 32),
		.writer = (const char *)buf + PHR_BATCH_HDR,
		.writer_len = buf[36],
	};
	if (buf[37] != 0 || buf[38] != 0 || buf[39] != 0 ||
	    h->num_ops > PHR_BATCH_OPS_MAX ||
	    len - PHR_BATCH_HDR < h->writer_len ||
	    !phr_writer_ok(h->writer, h->writer_len))
	{
		return 0;
	}
	used = phr_batch_hdr_len(h);
	for (i = 0; i < h->num_ops; i++) {
		struct phr_batch_op op = {};

		n = phr_batch_op_pull(buf + used, len - used, &op);
		if (n == 0) {
			return 0;
		}
		used += n;
	}
	return used == len ? phr_batch_hdr_len(h) : 0;
}

static const uint8_t super_magic[8] = "PHRADOS\n";

void phr_super_push(uint8_t buf[PHR_SUPER_LEN], const struct phr_super *s)
{
	memset(buf, 0, PHR_SUPER_LEN);
	memcpy(buf, super_magic, sizeof(super_magic));
	phstore_push_u32(buf + 8, PHR_SUPER_VERSION);
	memcpy(buf + 16, s->uuid, sizeof(s->uuid));
	phstore_push_u32(buf + 32, s->shards);
	phstore_push_u32(buf + 12, crc(0, buf + 16, PHR_SUPER_LEN - 16));
}

int phr_super_pull(const uint8_t *buf, size_t len, struct phr_super *s)
{
	if (len < 16 || memcmp(buf, super_magic, sizeof(super_magic)) != 0) {
		return 1;
	}
	if (phstore_pull_u32(buf + 8) > PHR_SUPER_VERSION) {
		return 2;
	}
	if (len != PHR_SUPER_LEN ||
	    phstore_pull_u32(buf + 8) != PHR_SUPER_VERSION ||
	    phstore_pull_u32(buf + 12) !=
	    crc(0, buf + 16, PHR_SUPER_LEN - 16))
	{
		return 3;
	}
	memcpy(s->uuid, buf + 16, sizeof(s->uuid));
	s->shards = phstore_pull_u32(buf + 32);
	return s->shards >= 1 && s->shards <= PHR_SHARDS_MAX ? 0 : 3;
}

#define MEMBER_HDR 32
#define MEMBER_VERSION 1
#define MEMBER_ADDRS_MAX 1024

size_t phr_member_len(const struct phr_member *m)
{
	return MEMBER_HDR + m->addrs_len;
}

void phr_member_push(uint8_t *buf, const struct phr_member *m)
{
	memset(buf, 0, MEMBER_HDR);
	phstore_push_u32(buf, MEMBER_VERSION);
	phstore_push_u64(buf + 8, m->epoch);
	phstore_push_u64(buf + 16, m->since);
	buf[24] = m->state;
	phstore_push_u32(buf + 28, (uint32_t)m->addrs_len);
	if (m->addrs_len > 0) {
		memcpy(buf + MEMBER_HDR, m->addrs, m->addrs_len);
	}
	phstore_push_u32(buf + 4, crc(0, buf + 8, phr_member_len(m) - 8));
}

bool phr_member_pull(const uint8_t *buf, size_t len, struct phr_member *m)
{
	if (len < MEMBER_HDR || phstore_pull_u32(buf) != MEMBER_VERSION ||
	    phstore_pull_u32(buf + 4) != crc(0, buf + 8, len - 8))
	{
		return false;
	}
	*m = (struct phr_member) {
		.epoch = phstore_pull_u64(buf + 8),
		.since = phstore_pull_u64(buf + 16),
		.state = buf[24],
		.addrs = (const char *)buf + MEMBER_HDR,
		.addrs_len = phstore_pull_u32(buf + 28),
	};
	if (buf[25] != 0 || buf[26] != 0 || buf[27] != 0) {
		return false;
	}
	return m->addrs_len <= MEMBER_ADDRS_MAX &&
	       m->addrs_len == len - MEMBER_HDR &&
	       (m->state == PHR_MEMBER_LIVE ||
		m->state == PHR_MEMBER_FENCED);
}

bool phr_writer_ok(const char *name, size_t len)
{
	size_t i;

	if (len == 0 || len > PHR_WRITER_MAX) {
		return false;
	}
	for (i = 0; i < len; i++) {
		char c = name[i];
		bool ok = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
			  (c >= '0' && c <= '9') || c == '.' || c == '_' ||
			  c == '-';

		if (!ok) {
			return false;
		}
	}
	return true;
}

uint32_t phr_shard_of(const uint8_t *key, size_t len, uint32_t shards)
{
	/* FNV-1a, then mixed: the low bits alone follow the last byte */
	uint64_t h = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < len; i++) {
		h = (h ^ key[i]) * 0x100000001b3ULL;
	}
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ULL;
	return (uint32_t)((h >> 32) % shards);
}

/*
 * phstore: the frame, one transaction as bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The layout and the validity rule stand in phstore_frame.h.
 */

#include "phstore_frame.h"
#include "phstore_bytes.h"

#include <string.h>

size_t phstore_op_len(size_t table_len, size_t key_len, size_t value_len)
{
	return PHSTORE_OP_HDR + table_len + key_len + value_len;
}

size_t phstore_op_push(uint8_t *buf, const struct phstore_frame_op *op)
{
	uint8_t *p = buf + PHSTORE_OP_HDR;

	buf[0] = op->kind;
	buf[1] = op->durability;
	buf[2] = (uint8_t)op->table_len;
	buf[3] = 0;
	phstore_push_u32(buf + 4, (uint32_t)op->key_len);
	phstore_push_u32(buf + 8, (uint32_t)op->value_len);
	phstore_push_u32(buf + 12, op->value_crc);
	phstore_op_set_version(buf, op->version);
	memcpy(p, op->table, op->table_len);
	p += op->table_len;
	memcpy(p, op->key, op->key_len);
	p += op->key_len;
	if (op->value_len > 0) {
		memcpy(p, op->value, op->value_len);
		p += op->value_len;
	}
	return p - buf;
}

void phstore_op_set_version(uint8_t *buf, struct phstore_version version)
{
	phstore_push_u64(buf + 16, version.epoch);
	phstore_push_u64(buf + 24, version.seq);
}

struct phstore_version phstore_op_get_version(const uint8_t *buf)
{
	return (struct phstore_version) {
		.epoch = phstore_pull_u64(buf + 16),
		.seq = phstore_pull_u64(buf + 24),
	};
}

bool phstore_op_pull(const uint8_t *buf,
		     size_t len,
		     size_t ofs,
		     struct phstore_frame_op *op)
{
	if (len < PHSTORE_OP_HDR) {
		return false;
	}
	*op = (struct phstore_frame_op) {
		.kind = buf[0],
		.durability = buf[1],
		.table_len = buf[2],
		.key_len = phstore_pull_u32(buf + 4),
		.value_len = phstore_pull_u32(buf + 8),
		.value_crc = phstore_pull_u32(buf + 12),
		.version.epoch = phstore_pull_u64(buf + 16),
		.version.seq = phstore_pull_u64(buf + 24),
		.ofs = ofs,
	};
	if (op->kind != PHSTORE_OP_PUT && op->kind != PHSTORE_OP_DELETE) {
		return false;
	}
	if (op->durability > PHSTORE_CLASS_SYNC || buf[3] != 0) {
		return false;
	}
	if (op->table_len == 0 || op->table_len > PHSTORE_TABLE_MAX ||
	    op->key_len == 0 || op->key_len > PHSTORE_KEY_MAX ||
	    op->value_len > PHSTORE_VALUE_MAX)
	{
		return false;
	}
	if (op->kind == PHSTORE_OP_DELETE && op->value_len != 0) {
		return false;
	}
	op->len = phstore_op_len(op->table_len, op->key_len, op->value_len);
	if (op->len > len) {
		return false;
	}
	op->table = buf + PHSTORE_OP_HDR;
	op->key = op->table + op->table_len;
	op->value = op->key + op->key_len;
	op->value_ofs = ofs + (op->value - buf);
	return true;
}

static uint32_t op_crc(uint32_t crc, const struct phstore_frame_op *op)
{
	return phstore_crc32(crc,
			     op->table - PHSTORE_OP_HDR,
			     PHSTORE_OP_HDR + op->table_len + op->key_len);
}

void phstore_frame_push(uint8_t *buf,
			const struct phstore_frame_hdr *hdr,
			uint32_t seed)
{
	size_t ofs = PHSTORE_FRAME_HDR;
	uint32_t crc = seed;
	uint16_t i;

	phstore_push_u32(buf, PHSTORE_FRAME_MAGIC);
	phstore_push_u32(buf + 8, hdr->len);
	phstore_push_u16(buf + 12, hdr->type);
	phstore_push_u16(buf + 14, hdr->num_ops);
	phstore_push_u64(buf + 16, hdr->lsn);
	phstore_push_u64(buf + 24, hdr->epoch);
	phstore_push_u64(buf + 32, hdr->durable);

	crc = phstore_crc32(crc, buf + 8, PHSTORE_FRAME_HDR - 8);
	for (i = 0; i < hdr->num_ops; i++) {
		struct phstore_frame_op op = {};
		bool ok;

		ok = phstore_op_pull(buf + ofs, hdr->len - ofs, ofs, &op);
		if (!ok) {
			/* the caller pushed it: cannot happen */
			break;
		}
		crc = op_crc(crc, &op);
		ofs += op.len;
	}
	phstore_push_u32(buf + 4, crc);
}

bool phstore_frame_pull_hdr(const uint8_t *buf,
			    size_t len,
			    struct phstore_frame_hdr *hdr)
{
	if (len < PHSTORE_FRAME_HDR) {
		return false;
	}
	if (phstore_pull_u32(buf) != PHSTORE_FRAME_MAGIC) {
		return false;
	}
	*hdr = (struct phstore_frame_hdr) {
		.crc = phstore_pull_u32(buf + 4),
		.len = phstore_pull_u32(buf + 8),
		.type = phstore_pull_u16(buf + 12),
		.num_ops = phstore_pull_u16(buf + 14),
		.lsn = phstore_pull_u64(buf + 16),
		.epoch = phstore_pull_u64(buf + 24),
		.durable = phstore_pull_u64(buf + 32),
	};
	if (hdr->len < PHSTORE_FRAME_HDR || hdr->len > PHSTORE_FRAME_MAX ||
	    hdr->len % PHSTORE_FRAME_ALIGN != 0 ||
	    hdr->durable % PHSTORE_FRAME_ALIGN != 0)
	{
		return false;
	}
	switch (hdr->type) {
	case PHSTORE_FRAME_TXN:
	case PHSTORE_FRAME_COPY:
		return hdr->num_ops > 0 &&
		       hdr->num_ops <= PHSTORE_TXN_OPS_MAX;
	case PHSTORE_FRAME_SEAL:
	case PHSTORE_FRAME_CLEAR:
		return hdr->num_ops == 0 && hdr->len == PHSTORE_FRAME_HDR;
	default:
		return false;
	}
}

bool phstore_frame_check(const uint8_t *buf,
			 size_t len,
			 uint64_t lsn,
			 uint32_t seed,
			 bool with_values,
			 struct phstore_frame_hdr *hdr)
{
	size_t ofs = PHSTORE_FRAME_HDR;
	uint32_t crc = seed;
	uint16_t i;
	bool ok;

	ok = phstore_frame_pull_hdr(buf, len, hdr);
	if (!ok || hdr->lsn != lsn || hdr->len > len) {
		return false;
	}
	crc = phstore_crc32(crc, buf + 8, PHSTORE_FRAME_HDR - 8);
	for (i = 0; i < hdr->num_ops; i++) {
		struct phstore_frame_op op = {};

		ok = phstore_op_pull(buf + ofs, hdr->len - ofs, ofs, &op);
		if (!ok) {
			return false;
		}
		crc = op_crc(crc, &op);
		if (with_values) {
			uint32_t vcrc = phstore_crc32(0,
						      op.value,
						      op.value_len);
			if (vcrc != op.value_crc) {
				return false;
			}
		}
		ofs += op.len;
	}
	if (hdr->len - ofs >= PHSTORE_FRAME_ALIGN) {
		return false;
	}
	for (; ofs < hdr->len; ofs++) {
		if (buf[ofs] != 0) {
			return false;
		}
	}
	return crc == hdr->crc;
}

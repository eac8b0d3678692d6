/*
 * phstore: replication messages as bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The layout is in repl_wire.h. A pull function reads nothing beyond the
 * length it is given and refuses what its push function does not write, so
 * that each message has one form.
 */

#include <string.h>

#include "phstore_bytes.h"
#include "phstore_frame.h"
#include "repl_wire.h"

static bool all_zero(const uint8_t *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (p[i] != 0) {
			return false;
		}
	}
	return true;
}

void repl_hdr_push(uint8_t *buf, const struct repl_hdr *hdr)
{
	phstore_push_u32(buf, REPL_MAGIC);
	phstore_push_u32(buf + 8, hdr->len);
	phstore_push_u16(buf + 12, hdr->version);
	buf[14] = hdr->type;
	buf[15] = hdr->flags;
	buf[16] = hdr->from;
	buf[17] = hdr->to;
	memset(buf + 18, 0, 6);
	phstore_push_u64(buf + 24, hdr->cluster);
	phstore_push_u64(buf + 32, hdr->epoch);
	phstore_push_u64(buf + 40, hdr->arg1);
	phstore_push_u64(buf + 48, hdr->arg2);
	phstore_push_u32(buf + 4, phstore_crc32(0, buf + 8, hdr->len - 8));
}

enum repl_wire_err repl_hdr_pull(const uint8_t *buf,
				 size_t len,
				 uint64_t cluster,
				 struct repl_hdr *hdr)
{
	uint32_t crc;

	if (len < REPL_HDR || len > REPL_MSG_MAX ||
	    phstore_pull_u32(buf) != REPL_MAGIC ||
	    phstore_pull_u32(buf + 8) != len) {
		return REPL_WIRE_GARBAGE;
	}
	crc = phstore_crc32(0, buf + 8, len - 8);
	if (phstore_pull_u32(buf + 4) != crc) {
		return REPL_WIRE_GARBAGE;
	}
	*hdr = (struct repl_hdr) {
		.len = len,
		.version = phstore_pull_u16(buf + 12),
		.type = buf[14],
		.flags = buf[15],
		.from = buf[16],
		.to = buf[17],
		.cluster = phstore_pull_u64(buf + 24),
		.epoch = phstore_pull_u64(buf + 32),
		.arg1 = phstore_pull_u64(buf + 40),
		.arg2 = phstore_pull_u64(buf + 48),
	};
	if (hdr->version != REPL_PROTOCOL) {
		return REPL_WIRE_VERSION;
	}
	if (hdr->cluster != cluster) {
		return REPL_WIRE_CLUSTER;
	}
	if (hdr->type == 0 || hdr->type >= REPL_TYPE_END ||
	    hdr->from >= PHSTORE_NODES_MAX || hdr->to >= PHSTORE_NODES_MAX ||
	    !all_zero(buf + 18, 6)) {
		return REPL_WIRE_GARBAGE;
	}
	return REPL_WIRE_OK;
}

size_t repl_record_len(const struct repl_record *rec)
{
	return REPL_RECORD_HDR + rec->key.len + rec->value.len;
}

size_t repl_record_push(uint8_t *buf, const struct repl_record *rec)
{
	memset(buf, 0, REPL_RECORD_HDR);
	phstore_push_u32(buf, rec->key.len);
	phstore_push_u32(buf + 4, rec->value.len);
	buf[8] = rec->deleted;
	phstore_push_u64(buf + 16, rec->version.epoch);
	phstore_push_u64(buf + 24, rec->version.seq);
	memcpy(buf + REPL_RECORD_HDR, rec->key.data, rec->key.len);
	if (rec->value.len > 0) {
		memcpy(buf + REPL_RECORD_HDR + rec->key.len,
		       rec->value.data,
		       rec->value.len);
	}
	return repl_record_len(rec);
}

size_t repl_record_pull(const uint8_t *buf,
			size_t len,
			struct repl_record *rec)
{
	size_t key_len, value_len;

	if (len < REPL_RECORD_HDR) {
		return 0;
	}
	key_len = phstore_pull_u32(buf);
	value_len = phstore_pull_u32(buf + 4);
	if (key_len == 0 || key_len > REPL_KEY_MAX ||
	    value_len > PHSTORE_VALUE_MAX || buf[8] > 1 ||
	    (buf[8] == 1 && value_len != 0) || !all_zero(buf + 9, 7) ||
	    len - REPL_RECORD_HDR < key_len + value_len) {
		return 0;
	}
	*rec = (struct repl_record) {
		.key = {
			.data = buf + REPL_RECORD_HDR,
			.len = key_len,
		},
		.value = {
			.data = buf + REPL_RECORD_HDR + key_len,
			.len = value_len,
		},
		.version = {
			.epoch = phstore_pull_u64(buf + 16),
			.seq = phstore_pull_u64(buf + 24),
		},
		.deleted = buf[8] == 1,
	};
	return repl_record_len(rec);
}

void repl_meta_push(uint8_t *buf, const struct repl_meta *meta)
{
	phstore_push_u64(buf, meta->promised);
	phstore_push_u64(buf + 8, meta->epoch);
	phstore_push_u64(buf + 16, meta->data);
	phstore_push_u64(buf + 24, meta->members);
	phstore_push_u64(buf + 32, meta->voters);
	phstore_push_u32(buf + 40, meta->k);
	phstore_push_u32(buf + 44, meta->flags);
	phstore_push_u64(buf + 48, meta->birth);
}

bool repl_meta_pull(const uint8_t *buf, size_t len, struct repl_meta *meta)
{
	if (len != REPL_META_LEN) {
		return false;
	}
	*meta = (struct repl_meta) {
		.promised = phstore_pull_u64(buf),
		.epoch = phstore_pull_u64(buf + 8),
		.data = phstore_pull_u64(buf + 16),
		.members = phstore_pull_u64(buf + 24),
		.voters = phstore_pull_u64(buf + 32),
		.k = phstore_pull_u32(buf + 40),
		.flags = phstore_pull_u32(buf + 44),
		.birth = phstore_pull_u64(buf + 48),
	};
	return meta->k <= PHSTORE_NODES_MAX && meta->flags <= 3;
}

void repl_plan_push(uint8_t *buf, const struct repl_plan *plan)
{
	phstore_push_u64(buf, plan->members);
	phstore_push_u64(buf + 8, plan->sources);
	phstore_push_u64(buf + 16, plan->voters);
	phstore_push_u32(buf + 24, plan->k);
	phstore_push_u32(buf + 28, plan->flags);
	phstore_push_u64(buf + 32, plan->generation);
	phstore_push_u64(buf + 40, plan->base);
	phstore_push_u64(buf + 48, plan->birth);
}

bool repl_plan_pull(const uint8_t *buf, size_t len, struct repl_plan *plan)
{
	if (len != REPL_PLAN_LEN) {
		return false;
	}
	*plan = (struct repl_plan) {
		.members = phstore_pull_u64(buf),
		.sources = phstore_pull_u64(buf + 8),
		.voters = phstore_pull_u64(buf + 16),
		.k = phstore_pull_u32(buf + 24),
		.flags = phstore_pull_u32(buf + 28),
		.generation = phstore_pull_u64(buf + 32),
		.base = phstore_pull_u64(buf + 40),
		.birth = phstore_pull_u64(buf + 48),
	};
	return plan->k >= 1 && plan->k <= PHSTORE_NODES_MAX &&
		plan->members != 0 && plan->flags <= 1 &&
		(plan->sources & ~plan->members) == 0;
}

int repl_version_cmp(struct phstore_version a, struct phstore_version b)
{
	if (a.epoch != b.epoch) {
		return a.epoch < b.epoch ? -1 : 1;
	}
	if (a.seq != b.seq) {
		return a.seq < b.seq ? -1 : 1;
	}
	return 0;
}

/*
 * phstore: replication messages as bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file repl_wire.h
 *
 * @brief What nodes send each other. Numbers are little-endian, never cast.
 *
 *   header, 56 bytes
 *    0 u32 magic     "PHR1"
 *    4 u32 crc       CRC-32 of bytes 8..len
 *    8 u32 len       of the whole message
 *   12 u16 version   of the protocol, 3
 *   14 u8  type      enum repl_type
 *   15 u8  flags     by type
 *   16 u8  from      node
 *   17 u8  to        node
 *   18 6 bytes       zero
 *   24 u64 cluster   messages of another cluster are dropped
 *   32 u64 epoch
 *   40 u64 arg1      by type
 *   48 u64 arg2      by type
 *   56 body
 *
 *   record: 32 bytes, key, value
 *    0 u32 key_len   1..4200 (table and key)
 *    4 u32 value_len 0..16 MiB, deletion: 0
 *    8 u8  deleted   0 or 1, then 7 bytes zero
 *   16 u64 version.epoch
 *   24 u64 version.seq
 *
 *   meta, 56 bytes: u64 promised, epoch, data, members, voters, u32 k, flags,
 *   u64 birth
 *
 * Bodies: PROMISE meta; START, COMMIT plan (56 bytes: u64 members, sources,
 * voters, u32 k, flags, u64 generation, base, birth); PULL a key; PULLED u32
 * length and key of the request, then records; SHIP items (u32 number of
 * records, records); PURGE, FORGET records; the others none.
 *
 * Protocol 1 had sets of 32 nodes, 2 no birth. A node that speaks another
 * version takes part in no epoch with this one: all of a cluster's phstoreds
 * are stopped for such an upgrade.
 */

#ifndef REPL_WIRE_H
#define REPL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "phstore.h"
#include "phstore_nodes.h"

#define REPL_MAGIC 0x31524850	/* "PHR1" */
#define REPL_PROTOCOL 3
#define REPL_HDR 56
#define REPL_RECORD_HDR 32
#define REPL_META_LEN 56
#define REPL_PLAN_LEN 56
#define REPL_KEY_MAX 4200
#define REPL_MSG_MAX (80 * 1024 * 1024)

enum repl_type {
	REPL_HELLO = 1,		/* not active; arg1 promised, arg2 epoch */
	REPL_PREPARE,
	REPL_PROMISE,
	REPL_REFUSE,		/* arg1: what was promised already; flags
				 * REPL_GONE: takes no part any more,
				 * REPL_STRANGER: you do not, arg2 our birth */
	REPL_START,
	REPL_PULL,		/* body: last key seen, or nothing; arg1: only
				 * versions of this epoch on */
	REPL_PULLED,		/* flags 1: that was all; 2: of a store that
				 * has lost records to damage */
	REPL_READY,		/* flags 1: not yet, arg1: so far */
	REPL_COMMIT,
	REPL_COMMITTED,
	REPL_ACTIVATE,
	REPL_ACTIVATED,
	REPL_SHIP,		/* arg1: position before the first item,
				 * flags 1: answer after the sync only */
	REPL_ACK,		/* arg1: in memory to, arg2: on disk to */
	REPL_PURGE,		/* arg1: number of the batch */
	REPL_PURGED,
	REPL_FORGET,
	REPL_FORGOTTEN,
	REPL_TYPE_END
};

/** Why a message was not taken. */
enum repl_wire_err {
	REPL_WIRE_OK = 0,
	REPL_WIRE_GARBAGE,	/* magic, length, checksum or a field */
	REPL_WIRE_VERSION,	/* another protocol version */
	REPL_WIRE_CLUSTER,	/* of another cluster */
};

struct repl_hdr {
	uint32_t len;
	uint16_t version;
	uint8_t type;
	uint8_t flags;
	uint8_t from;
	uint8_t to;
	uint64_t cluster;
	uint64_t epoch;
	uint64_t arg1;
	uint64_t arg2;
};

/** A record or, when deleted, its tombstone. Bytes are not owned. */
struct repl_record {
	struct phstore_blob key;
	struct phstore_blob value;
	struct phstore_version version;
	bool deleted;
};

/* flags of REPL_REFUSE */
#define REPL_GONE 1
#define REPL_STRANGER 2

/* repl_meta.flags */
#define REPL_META_FIRST 1	/* ready for the cluster's first epoch */
#define REPL_META_BEGAN 2	/* this node saw that its epoch has begun */

/** What a node must remember besides its store; see REPLICATION.md. */
struct repl_meta {
	uint64_t promised;
	uint64_t epoch;
	uint64_t data;
	uint64_t members;
	uint64_t voters;
	uint32_t k;
	uint32_t flags;
	uint64_t birth;		/* of the cluster; counts with an epoch */
};

/** What a coordinator decided. */
struct repl_plan {
	uint64_t members;
	uint64_t sources;
	uint64_t voters;
	uint32_t k;
	uint32_t flags;		/* REPL_META_FIRST */
	uint64_t generation;	/* of CTDB, as the coordinator knew it */
	uint64_t base;		/* sources have all that is older, or 0 */
	uint64_t birth;
};

/** @brief Write the header of a message whose body is in place. */
void repl_hdr_push(uint8_t *buf, const struct repl_hdr *hdr);

/**
 * @brief Check a whole message and read its header.
 * @param[in] cluster  ours
 */
enum repl_wire_err repl_hdr_pull(const uint8_t *buf,
				 size_t len,
				 uint64_t cluster,
				 struct repl_hdr *hdr);

/** @return bytes a record takes. */
size_t repl_record_len(const struct repl_record *rec);
/** @return bytes written; buf has repl_record_len() of them. */
size_t repl_record_push(uint8_t *buf, const struct repl_record *rec);
/** @return bytes read, 0 when it is not well formed. */
size_t repl_record_pull(const uint8_t *buf,
			size_t len,
			struct repl_record *rec);

void repl_meta_push(uint8_t *buf, const struct repl_meta *meta);
bool repl_meta_pull(const uint8_t *buf, size_t len, struct repl_meta *meta);
void repl_plan_push(uint8_t *buf, const struct repl_plan *plan);
bool repl_plan_pull(const uint8_t *buf, size_t len, struct repl_plan *plan);

/** @return the order of two versions: < 0, 0, > 0. */
int repl_version_cmp(struct phstore_version a, struct phstore_version b);

#endif /* REPL_WIRE_H */

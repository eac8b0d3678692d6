/*
 * phstore: what lies in RADOS, as bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file rados_codec.h
 *
 * @brief Keys and values of the omap, and the requests of the object class.
 *
 * Used by the client and, compiled into the OSD, by the class: plain C, no
 * I/O, no allocation, nothing is cast from bytes. docs/RADOS.md says what
 * the objects are and which rule holds when.
 *
 * Numbers are little-endian, but for *ordered* numbers: 10 bytes of 7 bits,
 * the highest first. The OSD compares omap values as strings of char, which
 * is signed on some machines: bytes above 127 would sort differently there.
 *
 * Omap keys must not contain a NUL: the paging calls of librados take C
 * strings. Bytes 0 and 1 of table and key are escaped so that the order
 * stays: 0 is 01 02, 1 is 01 03.
 *
 *   record    'R' escaped table, 01 01, escaped key
 *   writer    '!' 'W' name
 *   intent    '!' 'T' name '/' 16 hex digits (the LSN)
 *   floor     '!' 'F'
 *
 * Value of a record
 *    0 10 bytes  version.epoch, ordered
 *   10 10 bytes  version.seq, ordered
 *   20 u8        format, 1
 *   21 u8        1 put, 2 tombstone
 *   22 u8        enum phstore_class
 *   23 u8        zero
 *   24 u32       length of the value, tombstone: 0
 *   28 u32       CRC-32 of the omap key, bytes 0..27, the value
 *   32           the value
 *
 * Value of a writer: epoch and number of its last batch, both ordered (20
 * bytes). Value of the floor: a version, ordered (20 bytes).
 *
 * Batch (what the class is asked to apply; also the value of an intent)
 *    0 u32  magic "PHRB"
 *    4 u16  version, 1
 *    6 u16  zero
 *    8 u32  CRC-32 of bytes 12 to the end
 *   12 u32  length of all
 *   16 u64  epoch of the writer
 *   24 u64  number of the batch
 *   32 u32  number of operations
 *   36 u8   length of the writer's name, 1..64
 *   37      3 bytes zero
 *   40      name, then the operations without padding:
 *    0 u8   1 record, 2 set, 3 remove, 4 prune
 *    1 u8   record: 1 newer, 2 exact, 3 newer or leave it out; prune: 2;
 *           else 0
 *    2 u16  zero
 *    4 u32  length of the omap key
 *    8 u32  length of the omap value, remove and prune: 0
 *   12 u32  zero
 *   16 u64  exact: expected version.epoch
 *   24 u64  exact: expected version.seq
 *   32      key, value
 */

#ifndef PHSTORE_RADOS_CODEC_H
#define PHSTORE_RADOS_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PHR_ORDERED_LEN 10
#define PHR_VERSION_LEN (2 * PHR_ORDERED_LEN)
#define PHR_RECORD_HDR 32
#define PHR_RECORD_FORMAT 1
#define PHR_TABLE_MAX 64
#define PHR_KEY_MAX 4096
#define PHR_VALUE_MAX (16 * 1024 * 1024)
#define PHR_WRITER_MAX 64
#define PHR_OMAP_KEY_MAX (3 + 2 * PHR_TABLE_MAX + 2 * PHR_KEY_MAX)
#define PHR_OMAP_VALUE_MAX (80 * 1024 * 1024)
#define PHR_BATCH_MAGIC 0x42524850	/* "PHRB" */
#define PHR_BATCH_VERSION 1
#define PHR_BATCH_HDR 40
#define PHR_OP_HDR 32
#define PHR_BATCH_OPS_MAX 4096
#define PHR_SUPER_LEN 64
#define PHR_SUPER_VERSION 1
#define PHR_SHARDS_MAX 1024

#define PHR_PUT 1
#define PHR_TOMBSTONE 2

enum phr_op_kind {
	PHR_OP_RECORD = 1,
	PHR_OP_SET = 2,		/* no version rule */
	PHR_OP_REMOVE = 3,	/* no version rule */
	PHR_OP_PRUNE = 4,	/* remove a tombstone of this version */
};

enum phr_check {
	PHR_CHECK_NONE = 0,	/* set and remove */
	PHR_CHECK_NEWER = 1,	/* the stored version must be lower */
	PHR_CHECK_EXACT = 2,	/* {0, 0}: nothing must be stored */
	PHR_CHECK_LENIENT = 3,	/* newer; leave it out where it is not */
};

struct phr_version {
	uint64_t epoch;
	uint64_t seq;
};

/* A record's value; value points into the bytes it was pulled from. */
struct phr_record {
	struct phr_version version;
	uint8_t kind;
	uint8_t durability;
	const uint8_t *value;
	size_t value_len;
};

struct phr_batch_hdr {
	uint64_t epoch;
	uint64_t batch;
	uint32_t num_ops;
	const char *writer;	/* no NUL behind it when pulled */
	size_t writer_len;
};

struct phr_batch_op {
	uint8_t kind;		/* enum phr_op_kind */
	uint8_t check;		/* enum phr_check */
	const uint8_t *key;
	size_t key_len;
	const uint8_t *value;
	size_t value_len;
	struct phr_version expected;
};

/* What an object "meta" says of the store. */
struct phr_super {
	uint8_t uuid[16];
	uint32_t shards;
};

/* A writer as "meta" knows it. */
struct phr_member {
	uint64_t epoch;
	uint64_t since;		/* seconds since 1970 */
	uint8_t state;		/* enum phr_member_state */
	const char *addrs;	/* of its client, to block it */
	size_t addrs_len;
};

enum phr_member_state {
	PHR_MEMBER_LIVE = 1,
	PHR_MEMBER_FENCED = 2,
};

int phr_version_cmp(struct phr_version a, struct phr_version b);

/** @return the next higher version. */
struct phr_version phr_version_next(struct phr_version v);

void phr_ordered_push(uint8_t *buf, uint64_t v);
bool phr_ordered_pull(const uint8_t *buf, size_t len, uint64_t *v);

void phr_version_push(uint8_t *buf, struct phr_version v);
bool phr_version_pull(const uint8_t *buf, size_t len, struct phr_version *v);

/**
 * @brief The omap key of a record.
 * @return its length; buf may be NULL. Without key (key_len 0): what all
 *         keys of the table begin with
 */
size_t phr_key_push(uint8_t *buf, const char *table, size_t table_len,
		    const uint8_t *key, size_t key_len);

/**
 * @brief Table and key of an omap key.
 * @param[out] table  PHR_TABLE_MAX + 1 bytes, a NUL is added
 * @param[out] key    PHR_KEY_MAX bytes
 * @return false when it is not the key of a record
 */
bool phr_key_pull(const uint8_t *buf, size_t len,
		  char *table, size_t *table_len,
		  uint8_t *key, size_t *key_len);

size_t phr_record_len(const struct phr_record *r);

/** @brief The value of omap key `key`; buf has phr_record_len() bytes. */
void phr_record_push(uint8_t *buf, const uint8_t *key, size_t key_len,
		     const struct phr_record *r);

/** @brief Give a pushed record another version. */
void phr_record_set_version(uint8_t *buf, size_t len,
			    const uint8_t *key, size_t key_len,
			    struct phr_version v);

/** @return false unless all of it is as phr_record_push() writes it. */
bool phr_record_pull(const uint8_t *buf, size_t len,
		     const uint8_t *key, size_t key_len,
		     struct phr_record *r);

size_t phr_batch_hdr_len(const struct phr_batch_hdr *h);
size_t phr_batch_op_len(const struct phr_batch_op *op);

/** @brief Header; length and CRC are filled in by phr_batch_seal(). */
size_t phr_batch_hdr_push(uint8_t *buf, const struct phr_batch_hdr *h);
size_t phr_batch_op_push(uint8_t *buf, const struct phr_batch_op *op);
void phr_batch_seal(uint8_t *buf, size_t len);

/**
 * @brief Check a whole batch: length, CRC, each operation.
 * @return bytes of the header with the name, 0 when it is not valid
 */
size_t phr_batch_pull(const uint8_t *buf, size_t len,
		      struct phr_batch_hdr *h);

/** @return bytes used, 0 when it is not valid. */
size_t phr_batch_op_pull(const uint8_t *buf, size_t len,
			 struct phr_batch_op *op);

void phr_super_push(uint8_t buf[PHR_SUPER_LEN], const struct phr_super *s);

/** @return 0; 1 not ours; 2 a newer format; 3 damaged */
int phr_super_pull(const uint8_t *buf, size_t len, struct phr_super *s);

size_t phr_member_len(const struct phr_member *m);
void phr_member_push(uint8_t *buf, const struct phr_member *m);
bool phr_member_pull(const uint8_t *buf, size_t len, struct phr_member *m);

/** @return whether it is 1 to 64 of A-Z a-z 0-9 . _ - */
bool phr_writer_ok(const char *name, size_t len);

/** @return the shard of an omap key of a record. */
uint32_t phr_shard_of(const uint8_t *key, size_t len, uint32_t shards);

#ifdef __cplusplus
}
#endif

#endif /* PHSTORE_RADOS_CODEC_H */

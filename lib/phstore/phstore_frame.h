/*
 * phstore: the frame, one transaction as bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file phstore_frame.h
 *
 * @brief One transaction in the log, and on its way to a peer.
 *
 * Numbers are little-endian. A frame starts at a multiple of 8 and its
 * length is a multiple of 8 (zero padding at the end).
 *
 *   header, 40 bytes
 *    0 u32 magic     "PHF1"
 *    4 u32 crc       see below
 *    8 u32 len       of the whole frame
 *   12 u16 type      1 transaction, 2 seal (rest of the segment is unused),
 *                    3 clear (nothing in front of it counts), 4 transaction
 *                    made elsewhere, or copied by compaction: not shipped
 *   14 u16 num_ops   seal, clear: 0
 *   16 u64 lsn       log position of byte 0 of this frame
 *   24 u64 epoch     of the writer
 *   32 u64 durable   everything below this LSN was synced when written; a
 *                    multiple of 8
 *
 *   then num_ops times, without padding in between
 *    0 u8  kind      1 put, 2 delete
 *    1 u8  class     enum phstore_class
 *    2 u8  table_len 1..64
 *    3 u8  zero
 *    4 u32 key_len   1..4096
 *    8 u32 value_len 0..16 MiB, delete: 0
 *   12 u32 value_crc crc32 of the value
 *   16 u64 version.epoch
 *   24 u64 version.seq
 *   32 table, key, value
 *
 * crc is the CRC-32 (zlib's) with the store's seed over bytes 8..39 and,
 * per operation, its 32 bytes, the table and the key. Values are covered by
 * value_crc, which lies inside what crc covers: so a big value's checksum
 * is computed before the log's lock is taken, not under it.
 *
 * A frame is valid at log position p when: magic, len in bounds and a
 * multiple of 8, lsn == p, crc matches, the operations fill len exactly
 * (less than 8 bytes of zero padding), each field is in its range, each
 * value_crc matches. The reader checks the epoch rule on top (see
 * docs/DISK_FORMAT.md).
 */

#ifndef PHSTORE_FRAME_H
#define PHSTORE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "phstore.h"

#define PHSTORE_FRAME_MAGIC 0x31464850	/* "PHF1" */
#define PHSTORE_FRAME_HDR 40
#define PHSTORE_OP_HDR 32
#define PHSTORE_FRAME_ALIGN 8

#define PHSTORE_FRAME_TXN 1
#define PHSTORE_FRAME_SEAL 2
/* only in stores with a sink */
#define PHSTORE_FRAME_CLEAR 3
#define PHSTORE_FRAME_COPY 4

#define PHSTORE_OP_PUT 1
#define PHSTORE_OP_DELETE 2

/* A transaction may not be larger than this, in bytes. */
#define PHSTORE_FRAME_MAX (64 * 1024 * 1024)

struct phstore_frame_hdr {
	uint32_t crc;
	uint32_t len;
	uint16_t type;
	uint16_t num_ops;
	uint64_t lsn;
	uint64_t epoch;
	uint64_t durable;
};

/* One operation; the pointers point into the frame's bytes. */
struct phstore_frame_op {
	uint8_t kind;
	uint8_t durability;
	const uint8_t *table;
	size_t table_len;
	const uint8_t *key;
	size_t key_len;
	const uint8_t *value;
	size_t value_len;
	uint32_t value_crc;
	struct phstore_version version;
	size_t ofs;		/* of the op header from the frame's start */
	size_t value_ofs;	/* of the value from the frame's start */
	size_t len;		/* of the op */
};

/** @return CRC-32 of buf, going on from crc (0 to begin). */
uint32_t phstore_crc32(uint32_t crc, const void *buf, size_t len);

/** @return bytes an operation takes. */
size_t phstore_op_len(size_t table_len, size_t key_len, size_t value_len);

/**
 * @brief Write an operation; buf has phstore_op_len() bytes.
 * @return bytes written
 */
size_t phstore_op_push(uint8_t *buf, const struct phstore_frame_op *op);

/** @brief Change the version of a pushed operation in place. */
void phstore_op_set_version(uint8_t *buf, struct phstore_version version);
struct phstore_version phstore_op_get_version(const uint8_t *buf);

/**
 * @brief Read one operation.
 * @param[in]  len  bytes left in the frame
 * @param[in]  ofs  of buf from the frame's start, for op->ofs
 * @return false when it is not well formed; the value is not checked
 */
bool phstore_op_pull(const uint8_t *buf,
		     size_t len,
		     size_t ofs,
		     struct phstore_frame_op *op);

/**
 * @brief Write header and checksum over operations already in place.
 *
 * buf holds hdr->len bytes with the operations from byte 40 on; hdr->crc is
 * ignored. Padding is zeroed by the caller.
 */
void phstore_frame_push(uint8_t *buf,
			const struct phstore_frame_hdr *hdr,
			uint32_t seed);

/** @brief Read the 40 bytes; false unless magic and len are plausible. */
bool phstore_frame_pull_hdr(const uint8_t *buf,
			    size_t len,
			    struct phstore_frame_hdr *hdr);

/**
 * @brief Check a whole frame (all of the validity rule but the epoch).
 * @param[in] len  bytes available at buf
 * @param[in] lsn  where it has to be
 * @param[in] with_values  check value_crc as well
 */
bool phstore_frame_check(const uint8_t *buf,
			 size_t len,
			 uint64_t lsn,
			 uint32_t seed,
			 bool with_values,
			 struct phstore_frame_hdr *hdr);

#endif /* PHSTORE_FRAME_H */

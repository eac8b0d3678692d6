/*
 * phstored: how two daemons agree on a link of their own
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A daemon tells the others through ctdbd at which port it listens and a
 * secret (PHD_HELLO_OFFER); who connects repeats it (PHD_HELLO_TAKE). So
 * whoever can speak through ctdbd can have a link, and nobody else: the
 * same trust as before. Numbers are little-endian.
 *
 *    0 u32 magic    PHD_HELLO_OFFER or PHD_HELLO_TAKE
 *    4 u8  version  PHD_HELLO_VERSION
 *    5 u8  from     node that sends this
 *    6 u16 port     of OFFER; 0 in TAKE
 *    8 u64 cluster  as in all messages of the cluster
 *   16 u8[16]       the secret of the one who listens
 *   32 u32 zero
 *   36 u32 crc      CRC-32 of the bytes before
 *
 * What follows TAKE on the link are frames: u32 length, u32 its complement,
 * the bytes of one message of the replication core.
 */

#ifndef PHD_HELLO_H
#define PHD_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHD_HELLO_OFFER 0x314b4c50U	/* "PLK1" */
#define PHD_HELLO_TAKE 0x324b4c50U	/* "PLK2" */
#define PHD_HELLO_VERSION 1
#define PHD_HELLO_LEN 40
#define PHD_HELLO_SECRET 16
#define PHD_FRAME_HDR 8

struct phd_hello {
	uint32_t magic;
	uint8_t from;
	uint16_t port;
	uint64_t cluster;
	uint8_t secret[PHD_HELLO_SECRET];
};

void phd_hello_push(uint8_t buf[PHD_HELLO_LEN], const struct phd_hello *h);

/** @return false: not exactly one hello of this version. */
bool phd_hello_pull(const uint8_t *buf, size_t len, struct phd_hello *h);

void phd_frame_push(uint8_t buf[PHD_FRAME_HDR], uint32_t len);

/** @return false: not a frame's header, or longer than max. */
bool phd_frame_pull(const uint8_t buf[PHD_FRAME_HDR], uint32_t max,
		    uint32_t *len);

/** Whether they are equal, in a time that does not tell where not. */
bool phd_secret_equal(const uint8_t a[PHD_HELLO_SECRET],
		      const uint8_t b[PHD_HELLO_SECRET]);

#endif /* PHD_HELLO_H */

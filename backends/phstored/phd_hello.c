/*
 * phstored: how two daemons agree on a link of their own
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The layout is in phd_hello.h.
 */

#include "phd_hello.h"

#include <string.h>

#include "phstore_bytes.h"
#include "phstore_frame.h"

void phd_hello_push(uint8_t buf[PHD_HELLO_LEN], const struct phd_hello *h)
{
	memset(buf, 0, PHD_HELLO_LEN);
	phstore_push_u32(buf, h->magic);
	buf[4] = PHD_HELLO_VERSION;
	buf[5] = h->from;
	phstore_push_u16(buf + 6, h->port);
	phstore_push_u64(buf + 8, h->cluster);
	memcpy(buf + 16, h->secret, PHD_HELLO_SECRET);
	phstore_push_u32(buf + 36, phstore_crc32(0, buf, 36));
}

bool phd_hello_pull(const uint8_t *buf, size_t len, struct phd_hello *h)
{
	*h = (struct phd_hello) {};
	if (len != PHD_HELLO_LEN || buf[4] != PHD_HELLO_VERSION ||
	    phstore_pull_u32(buf + 32) != 0 ||
	    phstore_pull_u32(buf + 36) != phstore_crc32(0, buf, 36))
	{
		return false;
	}
	h->magic = phstore_pull_u32(buf);
	h->from = buf[5];
	h->port = phstore_pull_u16(buf + 6);
	h->cluster = phstore_pull_u64(buf + 8);
	memcpy(h->secret, buf + 16, PHD_HELLO_SECRET);
	return (h->magic == PHD_HELLO_OFFER && h->port != 0) ||
	       (h->magic == PHD_HELLO_TAKE && h->port == 0);
}

void phd_frame_push(uint8_t buf[PHD_FRAME_HDR], uint32_t len)
{
	phstore_push_u32(buf, len);
	phstore_push_u32(buf + 4, ~len);
}

bool phd_frame_pull(const uint8_t buf[PHD_FRAME_HDR], uint32_t max,
		    uint32_t *len)
{
	*len = phstore_pull_u32(buf);
	return phstore_pull_u32(buf + 4) == ~*len && *len > 0 && *len <= max;
}

bool phd_secret_equal(const uint8_t a[PHD_HELLO_SECRET],
		      const uint8_t b[PHD_HELLO_SECRET])
{
	unsigned int diff = 0;
	size_t i;

	for (i = 0; i < PHD_HELLO_SECRET; i++) {
		diff |= a[i] ^ b[i];
	}
	return diff == 0;
}

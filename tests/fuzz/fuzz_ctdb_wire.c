/*
 * phstore fuzzing: packets of ctdbd
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What a pull function takes lies within the packet, and pushed again gives
 * the same bytes up to the padding. The first byte chooses the structure.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/ctdb/client/ctdb_wire.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(const uint8_t *buf, size_t len, struct phctdb_bytes b)
{
	if (b.len > 0 && (b.data < buf || b.len > len ||
			  b.data + b.len > buf + len)) {
		abort();
	}
}

static void message(const uint8_t *p, size_t len)
{
	struct phctdb_wire_message m;
	struct phctdb_wire_hdr hdr = {};
	struct iovec iov = {};
	uint8_t *again = NULL;
	int ret;

	ret = phctdb_wire_message_pull(p, len, &m);
	if (ret != 0) {
		return;
	}
	inside(p, len, m.data);
	iov.iov_base = (void *)(uintptr_t)m.data.data;
	iov.iov_len = m.data.len;
	again = phctdb_wire_message_push(NULL, &hdr, m.srvid, &iov, 1);
	if (again == NULL || hdr.length > len ||
	    memcmp(again + 32, p + 32, hdr.length - 32) != 0) {
		abort();
	}
	talloc_free(again);
}

static void reply(const uint8_t *p, size_t len)
{
	struct phctdb_wire_reply r;
	struct phctdb_wire_hdr hdr = {};
	uint8_t *again = NULL;
	int ret;

	ret = phctdb_wire_reply_pull(p, len, &r);
	if (ret != 0) {
		return;
	}
	inside(p, len, r.data);
	inside(p, len, r.text);
	again = phctdb_wire_reply_push(NULL, &hdr, get32(p + 16), &r);
	if (again == NULL || hdr.length > len ||
	    memcmp(again + 32, p + 32, hdr.length - 32) != 0) {
		abort();
	}
	talloc_free(again);
}

static void call(const uint8_t *p, size_t len)
{
	struct phctdb_wire_call c;
	struct phctdb_wire_control k;
	int ret;

	ret = phctdb_wire_call_pull(p, len, &c);
	if (ret == 0) {
		inside(p, len, c.key);
		inside(p, len, c.data);
	}
	ret = phctdb_wire_control_pull(p, len, &k);
	if (ret == 0) {
		inside(p, len, k.data);
	}
}

static void maps(const uint8_t *p, size_t len)
{
	struct phctdb_node *nodes = NULL;
	struct phctdb_header header;
	uint32_t *map = NULL;
	uint32_t num = 0;
	uint32_t generation;
	int ret;

	ret = phctdb_nodemap_pull(NULL, p, len, &nodes, &num);
	if (ret == 0 && num > PHCTDB_MAX_NODES) {
		abort();
	}
	talloc_free(nodes);
	ret = phctdb_vnnmap_pull(NULL, p, len, &generation, &map, &num);
	if (ret == 0 && num > PHCTDB_MAX_NODES) {
		abort();
	}
	talloc_free(map);
	phctdb_header_pull(p, len, &header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct phctdb_wire_hdr hdr;
	uint8_t *p = NULL;

	if (size < 1) {
		return 0;
	}
	/* its own allocation: reading beyond the end is noticed */
	p = malloc(size - 1);
	if (p == NULL) {
		return 0;
	}
	memcpy(p, data + 1, size - 1);
	switch (data[0] % 5) {
	case 0:
		phctdb_wire_hdr_pull(p, size - 1, &hdr);
		break;
	case 1:
		message(p, size - 1);
		break;
	case 2:
		reply(p, size - 1);
		break;
	case 3:
		call(p, size - 1);
		break;
	default:
		maps(p, size - 1);
		break;
	}
	free(p);
	return 0;
}

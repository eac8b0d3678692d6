/*
 * phstore fuzzing: messages between nodes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What a pull function takes is the same when pushed again. The first byte
 * chooses the structure. The checksum of a message is made right first: a
 * fuzzer does not guess it.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/ctdb/core/repl_wire.c"
#include "backends/phstored/phd_hello.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void message(const uint8_t *data, size_t size)
{
	uint8_t *buf = malloc(size + REPL_HDR);
	struct repl_hdr hdr = {};
	enum repl_wire_err err;

	if (buf == NULL) {
		return;
	}
	memcpy(buf, data, size);
	memset(buf + size, 0, REPL_HDR);
	err = repl_hdr_pull(buf, size, 7, &hdr);
	if (size >= REPL_HDR) {
		phstore_push_u32(buf, REPL_MAGIC);
		phstore_push_u32(buf + 4, phstore_crc32(0, buf + 8,
							size - 8));
		err = repl_hdr_pull(buf, size, 7, &hdr);
	}
	if (err == REPL_WIRE_OK) {
		uint8_t *again = malloc(size);

		if (again != NULL) {
			memcpy(again, buf, size);
			memset(again, 0xee, REPL_HDR);
			repl_hdr_push(again, &hdr);
			if (memcmp(again, buf, size) != 0) {
				abort();
			}
			free(again);
		}
	}
	free(buf);
}

static void record(const uint8_t *data, size_t size)
{
	struct repl_record rec = {};
	uint8_t *again = NULL;
	size_t n;

	n = repl_record_pull(data, size, &rec);
	if (n == 0) {
		return;
	}
	if (n > size) {
		abort();
	}
	again = malloc(n);
	if (again == NULL) {
		return;
	}
	if (repl_record_push(again, &rec) != n ||
	    memcmp(again, data, n) != 0) {
		abort();
	}
	free(again);
}

/* The first bytes of a link, and a frame's header */
static void hello(const uint8_t *data, size_t size)
{
	uint8_t buf[PHD_HELLO_LEN], again[PHD_HELLO_LEN];
	struct phd_hello h = {};
	uint32_t len = 0;
	bool ok;

	if (size >= PHD_FRAME_HDR) {
		ok = phd_frame_pull(data, REPL_MSG_MAX, &len);
		if (ok && (len == 0 || len > REPL_MSG_MAX)) {
			abort();
		}
	}
	ok = phd_hello_pull(data, size, &h);
	if (size < PHD_HELLO_LEN) {
		if (ok) {
			abort();
		}
		return;
	}
	memcpy(buf, data, sizeof(buf));
	phstore_push_u32(buf + 36, phstore_crc32(0, buf, 36));
	ok = phd_hello_pull(buf, sizeof(buf), &h);
	if (ok) {
		phd_hello_push(again, &h);
		if (memcmp(again, buf, sizeof(buf)) != 0) {
			abort();
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[REPL_META_LEN];
	struct repl_meta meta = {};
	struct repl_plan plan = {};
	bool ok;

	if (size == 0) {
		return 0;
	}
	switch (data[0] & 7) {
	case 0:
		message(data + 1, size - 1);
		break;
	case 1:
		record(data + 1, size - 1);
		break;
	case 4:
		hello(data + 1, size - 1);
		break;
	case 2:
		ok = repl_meta_pull(data + 1, size - 1, &meta);
		if (ok) {
			repl_meta_push(buf, &meta);
			if (memcmp(buf, data + 1, REPL_META_LEN) != 0) {
				abort();
			}
		}
		break;
	default:
		ok = repl_plan_pull(data + 1, size - 1, &plan);
		if (ok) {
			repl_plan_push(buf, &plan);
			if (memcmp(buf, data + 1, REPL_PLAN_LEN) != 0) {
				abort();
			}
		}
		break;
	}
	return 0;
}

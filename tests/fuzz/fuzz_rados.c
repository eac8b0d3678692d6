/*
 * phstore fuzzing: bytes from RADOS, and requests to the object class
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The class parses what any client with write access sends it, inside the
 * OSD. What is accepted must lie within the bytes and make the same bytes
 * when pushed again. The checksum is mended first, or nothing would be.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rados/rados_codec.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok) {
		abort();
	}
}

static void batch(const uint8_t *data, size_t size)
{
	struct phr_batch_hdr h = {};
	uint8_t *buf = malloc(size);
	uint8_t *again = malloc(size);
	size_t used, to;
	uint32_t i;

	check(buf != NULL && again != NULL);
	memcpy(buf, data, size);
	if (size >= PHR_BATCH_HDR) {
		phr_batch_seal(buf, size);
	}
	used = phr_batch_pull(buf, size, &h);
	if (used == 0) {
		goto done;
	}
	to = phr_batch_hdr_push(again, &h);
	for (i = 0; i < h.num_ops; i++) {
		struct phr_batch_op op = {};
		size_t n = phr_batch_op_pull(buf + used, size - used, &op);

		check(n > 0 && n <= size - used);
		check(phr_batch_op_len(&op) == n);
		to += phr_batch_op_push(again + to, &op);
		used += n;
	}
	phr_batch_seal(again, to);
	check(used == size && to == size && memcmp(buf, again, to) == 0);
done:
	free(buf);
	free(again);
}

static void record(const uint8_t *data, size_t size)
{
	struct phr_record r = {};
	uint8_t *buf = malloc(size > 0 ? size : 1);
	uint8_t *again = malloc(size > 0 ? size : 1);
	struct phr_version v = {};
	bool ok;

	check(buf != NULL && again != NULL);
	memcpy(buf, data, size);
	ok = size >= PHR_RECORD_HDR && phr_version_pull(buf, size, &v);
	if (ok) {
		phr_record_set_version(buf, size, (uint8_t *)"k", 1, v);
	}
	ok = phr_record_pull(buf, size, (uint8_t *)"k", 1, &r);
	if (ok) {
		check(phr_record_len(&r) == size);
		phr_record_push(again, (uint8_t *)"k", 1, &r);
		check(memcmp(buf, again, size) == 0);
	}
	free(buf);
	free(again);
}

static void key(const uint8_t *data, size_t size)
{
	static uint8_t k[PHR_KEY_MAX], again[PHR_OMAP_KEY_MAX];
	char table[PHR_TABLE_MAX + 1];
	size_t table_len = 0;
	size_t len = 0;
	bool ok = phr_key_pull(data, size, table, &table_len, k, &len);

	if (ok) {
		check(phr_key_push(again, table, table_len, k, len) == size);
		check(memcmp(again, data, size) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct phr_super s = {};
	struct phr_member m = {};

	if (size == 0) {
		return 0;
	}
	switch (data[0] % 4) {
	case 0:
		batch(data + 1, size - 1);
		break;
	case 1:
		record(data + 1, size - 1);
		break;
	case 2:
		key(data + 1, size - 1);
		break;
	default:
		(void)phr_super_pull(data + 1, size - 1, &s);
		(void)phr_member_pull(data + 1, size - 1, &m);
		break;
	}
	return 0;
}

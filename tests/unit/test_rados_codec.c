/*
 * phstore: what lies in RADOS, there and back
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fears: a record that comes back changed; damage that passes for a
 * record; an order of keys or versions that the OSD sees differently (its
 * comparison of values is of signed chars on some machines, and its paging
 * ends keys at a NUL); a layout that changes without anybody deciding so.
 *
 * Each structure is pushed and pulled with many random contents. Each single
 * changed bit of a batch, a record, a super must be refused. The bytes of a
 * fixed example stand in fixtures/rados_codec.bin, written by the first
 * release: they must be made and read the same for ever.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* the backend needs librados, this file of it does not */
#include "backends/rados/rados_codec.c"

static uint64_t rng = 1;

static uint64_t rnd(void)
{
	uint64_t z = (rng += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static size_t rnd_bytes(uint8_t *buf, size_t max, unsigned kinds)
{
	size_t len = 1 + rnd() % max;
	size_t i;

	for (i = 0; i < len; i++) {
		buf[i] = rnd() % kinds;
	}
	return len;
}

/* As the OSD compares: chars, maybe signed, the longer one is more. */
static int osd_cmp(const uint8_t *a, size_t a_len, const uint8_t *b,
		   size_t b_len, bool is_signed)
{
	size_t i;

	for (i = 0; i < a_len && i < b_len; i++) {
		int x = is_signed ? (int8_t)a[i] : a[i];
		int y = is_signed ? (int8_t)b[i] : b[i];

		if (x != y) {
			return x < y ? -1 : 1;
		}
	}
	return a_len == b_len ? 0 : a_len < b_len ? -1 : 1;
}

static int sign(int v)
{
	return v < 0 ? -1 : v > 0;
}

static struct phr_version rnd_version(void)
{
	struct phr_version v = {};
	unsigned shift = rnd() % 64;

	/* one call a statement: the fixture needs one order */
	v.epoch = rnd();
	v.seq = rnd();
	v.epoch >>= shift;
	v.seq >>= 63 - shift;
	return v;
}

static void test_version_order(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 20000; i++) {
		struct phr_version a = rnd_version();
		struct phr_version b = rnd() % 4 == 0 ? phr_version_next(a) :
					rnd_version();
		struct phr_version back = {};
		uint8_t x[PHR_VERSION_LEN], y[PHR_VERSION_LEN];
		int want = phr_version_cmp(a, b);

		phr_version_push(x, a);
		phr_version_push(y, b);
		assert_true(phr_version_pull(x, sizeof(x), &back));
		assert_int_equal(phr_version_cmp(a, back), 0);
		assert_int_equal(sign(osd_cmp(x, sizeof(x), y, sizeof(y),
					      true)), want);
		assert_int_equal(sign(osd_cmp(x, sizeof(x), y, sizeof(y),
					      false)), want);
	}
}

static void test_key(void **state)
{
	static uint8_t key[2][PHR_KEY_MAX], buf[2][PHR_OMAP_KEY_MAX];
	static uint8_t back[PHR_KEY_MAX];
	int i, j;

	(void)state;
	for (i = 0; i < 5000; i++) {
		char table[PHR_TABLE_MAX + 1];
		size_t len[2], used[2], tlen = 0, klen = 0;
		unsigned kinds = i % 2 == 0 ? 4 : 256;

		for (j = 0; j < 2; j++) {
			len[j] = rnd_bytes(key[j], i % 100 == 0 ?
					   PHR_KEY_MAX : 12, kinds);
			used[j] = phr_key_push(buf[j], "tab", 3, key[j],
					       len[j]);
			assert_true(used[j] <= PHR_OMAP_KEY_MAX);
			assert_int_equal(used[j], phr_key_push(
				NULL, "tab", 3, key[j], len[j]));
			assert_null(memchr(buf[j], 0, used[j]));
			assert_true(phr_key_pull(buf[j], used[j], table,
						 &tlen, back, &klen));
			assert_string_equal(table, "tab");
			assert_int_equal(klen, len[j]);
			assert_memory_equal(back, key[j], klen);
			assert_false(phr_key_pull(buf[j], rnd() % 6, table,
						  &tlen, back, &klen));
		}
		/* the order of keys is kept */
		assert_int_equal(
			sign(osd_cmp(buf[0], used[0], buf[1], used[1],
				     false)),
			sign(osd_cmp(key[0], len[0], key[1], len[1],
				     false)));
	}
	/* what a table's keys begin with is not how another's begin */
	i = phr_key_push(buf[0], "a", 1, NULL, 0);
	j = phr_key_push(buf[1], "ab", 2, NULL, 0);
	assert_true(i < j);
	assert_memory_not_equal(buf[0], buf[1], i);
}

static size_t rnd_record(uint8_t *buf, const uint8_t *key, size_t key_len,
			 struct phr_record *r, uint8_t *value, size_t max)
{
	*r = (struct phr_record) { .value = value };
	r->version = rnd_version();
	r->kind = rnd() % 4 == 0 ? PHR_TOMBSTONE : PHR_PUT;
	r->durability = rnd() % 3;
	if (r->kind == PHR_PUT) {
		r->value_len = rnd_bytes(value, max, 256) - 1;
	}
	phr_record_push(buf, key, key_len, r);
	return phr_record_len(r);
}

static void test_record(void **state)
{
	static uint8_t key[300], value[5000], buf[6000];
	struct phr_record in, out = {};
	int i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		size_t klen = rnd_bytes(key, sizeof(key), 256);
		size_t len = rnd_record(buf, key, klen, &in, value,
					i < 100 ? sizeof(value) : 40);
		size_t bit = rnd() % (len * 8);

		assert_true(phr_record_pull(buf, len, key, klen, &out));
		assert_int_equal(phr_version_cmp(in.version, out.version), 0);
		assert_int_equal(out.kind, in.kind);
		assert_int_equal(out.durability, in.durability);
		assert_int_equal(out.value_len, in.value_len);
		assert_memory_equal(out.value, value, in.value_len);
		assert_false(phr_record_pull(buf, rnd() % len, key, klen,
					     &out));
		/* the value of another key is not this one's */
		key[rnd() % klen] ^= 1 + rnd() % 255;
		assert_false(phr_record_pull(buf, len, key, klen, &out));
		(void)rnd_record(buf, key, klen, &in, value, 40);
		len = phr_record_len(&in);
		bit = rnd() % (len * 8);
		buf[bit / 8] ^= 1 << bit % 8;
		assert_false(phr_record_pull(buf, len, key, klen, &out));
	}
}

static size_t rnd_batch(uint8_t *buf, size_t max, unsigned num)
{
	static uint8_t key[200], omap_key[500], value[400], record[500];
	struct phr_batch_hdr h = {
		.num_ops = num,
		.writer = "node-1.example_A",
		.writer_len = 16,
	};
	size_t used;
	unsigned i;

	h.epoch = rnd();
	h.batch = rnd();
	used = phr_batch_hdr_push(buf, &h);

	for (i = 0; i < num; i++) {
		struct phr_batch_op op = { .kind = 1 + rnd() % 4 };
		struct phr_record r;
		size_t klen = rnd_bytes(key, sizeof(key), 256);

		op.key = omap_key;
		op.key_len = phr_key_push(omap_key, "t", 1, key, klen);
		if (op.kind == PHR_OP_RECORD) {
			op.check = 1 + rnd() % 3;
			op.value = record;
			op.value_len = rnd_record(record, omap_key,
						  op.key_len, &r, value,
						  sizeof(value));
		} else if (op.kind == PHR_OP_PRUNE) {
			op.check = PHR_CHECK_EXACT;
		} else {
			omap_key[0] = '!';
			if (op.kind == PHR_OP_SET) {
				op.value = value;
				op.value_len = rnd() % sizeof(value);
			}
		}
		if (op.check == PHR_CHECK_EXACT) {
			op.expected = rnd_version();
		}
		assert_true(used + phr_batch_op_len(&op) <= max);
		used += phr_batch_op_push(buf + used, &op);
	}
	phr_batch_seal(buf, used);
	return used;
}

static void test_batch(void **state)
{
	static uint8_t buf[40000], again[40000];
	int i;

	(void)state;
	for (i = 0; i < 2000; i++) {
		size_t len = rnd_batch(buf, sizeof(buf), rnd() % 30);
		struct phr_batch_hdr h = {};
		size_t used, to, bit;
		uint32_t n;

		used = phr_batch_pull(buf, len, &h);
		assert_int_not_equal(used, 0);
		/* what was pulled makes the same bytes */
		to = phr_batch_hdr_push(again, &h);
		for (n = 0; n < h.num_ops; n++) {
			struct phr_batch_op op = {};

			used += phr_batch_op_pull(buf + used, len - used,
						  &op);
			to += phr_batch_op_push(again + to, &op);
		}
		phr_batch_seal(again, to);
		assert_int_equal(to, len);
		assert_memory_equal(again, buf, len);
		assert_int_equal(phr_batch_pull(buf, rnd() % len, &h), 0);
		bit = rnd() % (len * 8);
		buf[bit / 8] ^= 1 << bit % 8;
		assert_int_equal(phr_batch_pull(buf, len, &h), 0);
	}
}

static void test_super_and_member(void **state)
{
	struct phr_super s = { .uuid = "sixteen bytes...", .shards = 8 };
	struct phr_super s2 = {};
	struct phr_member m = {
		.epoch = 7, .since = 1234567890, .state = PHR_MEMBER_LIVE,
		.addrs = "127.0.0.1:0/1", .addrs_len = 13,
	};
	struct phr_member m2 = {};
	uint8_t buf[PHR_SUPER_LEN], mb[100];
	size_t len = phr_member_len(&m);
	size_t bit;

	(void)state;
	phr_super_push(buf, &s);
	assert_int_equal(phr_super_pull(buf, sizeof(buf), &s2), 0);
	assert_int_equal(s2.shards, 8);
	assert_memory_equal(s2.uuid, s.uuid, 16);
	for (bit = 0; bit < sizeof(buf) * 8; bit++) {
		buf[bit / 8] ^= 1 << bit % 8;
		assert_int_not_equal(phr_super_pull(buf, sizeof(buf), &s2),
				     0);
		buf[bit / 8] ^= 1 << bit % 8;
	}
	/* a newer one is told from a damaged one */
	buf[8] = 2;
	assert_int_equal(phr_super_pull(buf, sizeof(buf), &s2), 2);
	assert_int_equal(phr_super_pull((uint8_t *)"something else..", 16,
					&s2), 1);

	phr_member_push(mb, &m);
	assert_true(phr_member_pull(mb, len, &m2));
	assert_int_equal(m2.epoch, 7);
	assert_int_equal(m2.addrs_len, 13);
	for (bit = 0; bit < len * 8; bit++) {
		mb[bit / 8] ^= 1 << bit % 8;
		assert_false(phr_member_pull(mb, len, &m2));
		mb[bit / 8] ^= 1 << bit % 8;
	}
}

static void test_shards_are_even(void **state)
{
	unsigned count[16] = {};
	uint32_t i;

	(void)state;
	for (i = 0; i < 16000; i++) {
		/* keys as smbd has them: numbers, mostly zeros */
		uint8_t key[8] = { 0, 0, i >> 8, i & 255 };
		uint8_t buf[64];
		size_t len = phr_key_push(buf, "locking", 7, key, 8);

		count[phr_shard_of(buf, len, 16)] += 1;
	}
	for (i = 0; i < 16; i++) {
		assert_in_range(count[i], 800, 1200);
	}
	/* where a record is must never change */
	assert_int_equal(phr_shard_of((const uint8_t *)"Rt\1\1k", 5, 1024),
			 614);
}

/* Bytes made from a fixed seed, compared with those of the first release. */
static void test_fixture(void **state)
{
	const char *dir = getenv("PHSTORE_FIXTURES");
	static uint8_t made[8000], kept[8001];
	struct phr_super s = { .uuid = "sixteen bytes...", .shards = 8 };
	char name[1000];
	size_t len, n = 0;
	FILE *f = NULL;

	(void)state;
	rng = 42;
	phr_super_push(made, &s);
	len = PHR_SUPER_LEN + rnd_batch(made + PHR_SUPER_LEN,
					sizeof(made) - PHR_SUPER_LEN, 12);
	snprintf(name, sizeof(name), "%s/rados_codec.bin",
		 dir != NULL ? dir : "tests/unit/fixtures");
	if (getenv("PHSTORE_WRITE_FIXTURES") != NULL) {
		f = fopen(name, "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(made, 1, len, f), len);
		fclose(f);
	}
	f = fopen(name, "rb");
	assert_non_null(f);
	n = fread(kept, 1, sizeof(kept), f);
	fclose(f);
	assert_int_equal(n, len);
	assert_memory_equal(kept, made, len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_order),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_super_and_member),
		cmocka_unit_test(test_shards_are_even),
		cmocka_unit_test(test_fixture),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

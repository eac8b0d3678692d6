/*
 * phstore: messages between nodes, there and back
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Each structure is pushed and pulled with many random contents and must
 * come back the same; each single changed bit of a message must be refused.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* the core is not in the library yet: only this file of it is needed */
#include "backends/ctdb/core/repl_wire.c"

static uint64_t rng = 1;

static uint64_t rnd(void)
{
	uint64_t z = (rng += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static void test_record(void **state)
{
	uint8_t key[REPL_KEY_MAX], value[5000], buf[10000];
	size_t i, used, cut;

	(void)state;
	for (i = 0; i < sizeof(key); i++) {
		key[i] = rnd();
	}
	for (i = 0; i < sizeof(value); i++) {
		value[i] = rnd();
	}
	for (i = 0; i < 500; i++) {
		struct repl_record in = {
			.key = {
				.data = key,
				.len = 1 + rnd() % REPL_KEY_MAX,
			},
			.version = { .epoch = rnd(), .seq = rnd() },
			.deleted = rnd() & 1,
		};
		struct repl_record out = {};
		size_t len;

		if (!in.deleted) {
			in.value.data = value;
			in.value.len = rnd() % sizeof(value);
		}
		len = repl_record_len(&in);
		used = repl_record_push(buf, &in);
		assert_int_equal(used, len);
		used = repl_record_pull(buf, len, &out);
		assert_int_equal(used, len);
		assert_int_equal(out.key.len, in.key.len);
		assert_memory_equal(out.key.data, key, in.key.len);
		assert_int_equal(out.value.len, in.value.len);
		assert_memory_equal(out.value.data, value, in.value.len);
		assert_int_equal(out.deleted, in.deleted);
		assert_int_equal(repl_version_cmp(out.version, in.version),
				 0);
		cut = rnd() % len;
		assert_int_equal(repl_record_pull(buf, cut, &out), 0);
	}
}

static void test_record_refused(void **state)
{
	struct repl_record in = {
		.key = { .data = "k", .len = 1 },
		.value = { .data = "v", .len = 1 },
	};
	struct repl_record out = {};
	uint8_t buf[64], bad[64];
	size_t len;

	(void)state;
	len = repl_record_push(buf, &in);
	memcpy(bad, buf, len);
	bad[8] = 2;
	assert_int_equal(repl_record_pull(bad, len, &out), 0);
	bad[8] = 1;		/* a deletion with a value */
	assert_int_equal(repl_record_pull(bad, len, &out), 0);
	memcpy(bad, buf, len);
	memset(bad, 0, 4);	/* no key */
	assert_int_equal(repl_record_pull(bad, len, &out), 0);
	memcpy(bad, buf, len);
	memset(bad, 0xff, 8);
	assert_int_equal(repl_record_pull(bad, len, &out), 0);
}

static void test_meta_plan(void **state)
{
	uint8_t buf[REPL_META_LEN];
	size_t i;
	bool ok;

	(void)state;
	for (i = 0; i < 500; i++) {
		struct repl_meta m = {
			.promised = rnd(),
			.epoch = rnd(),
			.data = rnd(),
			.members = rnd(),
			.voters = rnd(),
			.k = rnd() % (PHSTORE_NODES_MAX + 1),
			.flags = rnd() % 4,
			.birth = rnd(),
		};
		struct repl_meta m2 = {};
		struct repl_plan p = {
			.members = rnd() | 1,
			.voters = rnd(),
			.k = 1 + rnd() % PHSTORE_NODES_MAX,
			.flags = rnd() % 2,
			.generation = rnd(),
			.base = rnd(),
			.birth = rnd(),
		};
		struct repl_plan p2 = {};
		uint8_t plan_buf[REPL_PLAN_LEN];

		p.sources = p.members & rnd();
		repl_meta_push(buf, &m);
		ok = repl_meta_pull(buf, REPL_META_LEN, &m2);
		assert_true(ok);
		assert_memory_equal(&m, &m2, sizeof(m));
		ok = repl_meta_pull(buf, REPL_META_LEN - 1, &m2);
		assert_false(ok);
		repl_plan_push(plan_buf, &p);
		ok = repl_plan_pull(plan_buf, REPL_PLAN_LEN, &p2);
		assert_true(ok);
		assert_memory_equal(&p, &p2, sizeof(p));
		p.sources = ~p.members;
		repl_plan_push(plan_buf, &p);
		ok = p.sources == 0 ||
			!repl_plan_pull(plan_buf, REPL_PLAN_LEN, &p2);
		assert_true(ok);
	}
}

static void test_header(void **state)
{
	uint8_t buf[REPL_HDR + 20] = {};
	struct repl_hdr in = {
		.len = sizeof(buf),
		.version = REPL_PROTOCOL,
		.type = REPL_SHIP,
		.flags = 1,
		.from = 3,
		.to = PHSTORE_NODES_MAX - 1,
		.cluster = rnd(),
		.epoch = rnd(),
		.arg1 = rnd(),
		.arg2 = rnd(),
	};
	struct repl_hdr out = {};
	size_t i;

	(void)state;
	repl_hdr_push(buf, &in);
	assert_int_equal(repl_hdr_pull(buf, sizeof(buf), in.cluster, &out),
			 REPL_WIRE_OK);
	assert_int_equal(out.type, in.type);
	assert_int_equal(out.flags, in.flags);
	assert_int_equal(out.from, in.from);
	assert_int_equal(out.to, in.to);
	assert_true(out.cluster == in.cluster && out.epoch == in.epoch &&
		    out.arg1 == in.arg1 && out.arg2 == in.arg2);
	for (i = 0; i < sizeof(buf) * 8; i++) {
		buf[i / 8] ^= 1 << (i % 8);
		assert_int_not_equal(repl_hdr_pull(buf, sizeof(buf),
						   in.cluster, &out),
				     REPL_WIRE_OK);
		buf[i / 8] ^= 1 << (i % 8);
	}
	for (i = 0; i < sizeof(buf); i++) {
		assert_int_equal(repl_hdr_pull(buf, i, in.cluster, &out),
				 REPL_WIRE_GARBAGE);
	}
	assert_int_equal(repl_hdr_pull(buf, sizeof(buf), in.cluster + 1,
				       &out), REPL_WIRE_CLUSTER);
	in.version++;
	repl_hdr_push(buf, &in);
	assert_int_equal(repl_hdr_pull(buf, sizeof(buf), in.cluster, &out),
			 REPL_WIRE_VERSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_record_refused),
		cmocka_unit_test(test_meta_plan),
		cmocka_unit_test(test_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * phstore: the first bytes of a link between daemons, there and back
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What it fears: a stranger's bytes are taken for a hello, or a length from
 * a link is believed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "backends/phstored/phd_hello.c"

static struct phd_hello example(void)
{
	struct phd_hello h = {
		.magic = PHD_HELLO_OFFER,
		.from = 31,
		.port = 0xabcd,
		.cluster = 0x1122334455667788ULL,
	};
	size_t i;

	for (i = 0; i < sizeof(h.secret); i++) {
		h.secret[i] = (uint8_t)(0xf0 + i);
	}
	return h;
}

static void test_round_trip(void **state)
{
	struct phd_hello in = example();
	struct phd_hello out = {};
	uint8_t buf[PHD_HELLO_LEN];
	/* the layout is a promise between releases */
	static const uint8_t first[] = {
		'P', 'L', 'K', '1', 1, 31, 0xcd, 0xab,
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xf0, 0xf1,
	};

	(void)state;
	phd_hello_push(buf, &in);
	assert_memory_equal(buf, first, sizeof(first));
	assert_true(phd_hello_pull(buf, sizeof(buf), &out));
	assert_int_equal(out.magic, in.magic);
	assert_int_equal(out.from, in.from);
	assert_int_equal(out.port, in.port);
	assert_int_equal(out.cluster, in.cluster);
	assert_memory_equal(out.secret, in.secret, sizeof(in.secret));
	in.magic = PHD_HELLO_TAKE;
	in.port = 0;
	phd_hello_push(buf, &in);
	assert_true(phd_hello_pull(buf, sizeof(buf), &out));
	assert_int_equal(out.magic, PHD_HELLO_TAKE);
}

static void test_refused(void **state)
{
	struct phd_hello in = example();
	struct phd_hello out = {};
	uint8_t buf[PHD_HELLO_LEN + 1] = {};
	size_t i;

	(void)state;
	phd_hello_push(buf, &in);
	for (i = 0; i < PHD_HELLO_LEN * 8; i++) {
		buf[i / 8] ^= 1 << (i % 8);
		assert_false(phd_hello_pull(buf, PHD_HELLO_LEN, &out));
		buf[i / 8] ^= 1 << (i % 8);
	}
	for (i = 0; i < PHD_HELLO_LEN; i++) {
		assert_false(phd_hello_pull(buf, i, &out));
	}
	assert_false(phd_hello_pull(buf, PHD_HELLO_LEN + 1, &out));
	/* an offer of no port, a take of one */
	in.port = 0;
	phd_hello_push(buf, &in);
	assert_false(phd_hello_pull(buf, PHD_HELLO_LEN, &out));
	in.magic = PHD_HELLO_TAKE;
	in.port = 1;
	phd_hello_push(buf, &in);
	assert_false(phd_hello_pull(buf, PHD_HELLO_LEN, &out));
}

static void test_frame(void **state)
{
	uint8_t buf[PHD_FRAME_HDR];
	uint32_t len = 0;
	size_t i;

	(void)state;
	phd_frame_push(buf, 1000);
	assert_true(phd_frame_pull(buf, 1000, &len));
	assert_int_equal(len, 1000);
	assert_false(phd_frame_pull(buf, 999, &len));
	for (i = 0; i < PHD_FRAME_HDR * 8; i++) {
		buf[i / 8] ^= 1 << (i % 8);
		assert_false(phd_frame_pull(buf, UINT32_MAX, &len));
		buf[i / 8] ^= 1 << (i % 8);
	}
	phd_frame_push(buf, 0);
	assert_false(phd_frame_pull(buf, UINT32_MAX, &len));
}

static void test_secret(void **state)
{
	struct phd_hello a = example();
	struct phd_hello b = a;

	(void)state;
	assert_true(phd_secret_equal(a.secret, b.secret));
	b.secret[15] ^= 0x80;
	assert_false(phd_secret_equal(a.secret, b.secret));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_frame),
		cmocka_unit_test(test_secret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

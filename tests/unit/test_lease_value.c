/*
 * phstore: tests of the lease in an open's record
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What is feared: a lease comes back as another one; a record without a lease
 * is taken for one that has it; a byte beyond the value is read.
 */

#include "../../smbd-hooks/samba/phstore_lease_value.c"

#include <stdio.h>
#include <stdlib.h>

static int failed;

#define CHECK(what) do { \
	if (!(what)) { \
		printf("not ok: %s:%d: %s\n", __FILE__, __LINE__, #what); \
		failed += 1; \
	} \
} while (0)

static const struct phstore_lease_value rwh = {
	.key = { 0x0123456789abcdefULL, 0xfedcba9876543210ULL },
	.state = 7,
	.breaking_to_requested = 3,
	.breaking_to_required = 1,
	.epoch = 0xfffe,
	.version = 2,
	.breaking = true,
};

/* As above, as it always was: records of earlier releases are read. */
static const uint8_t rwh_bytes[PHSTORE_LEASE_VALUE_LEN] = {
	0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
	0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe,
	0x07, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
	0x01, 0x00, 0x00, 0x00, 0xfe, 0xff, 0x02, 0x01,
	'P', 'H', 'L', 'E', 'A', 'S', 'E', '1',
};

static bool equal(const struct phstore_lease_value *a,
		  const struct phstore_lease_value *b)
{
	return a->key[0] == b->key[0] && a->key[1] == b->key[1] &&
	       a->state == b->state &&
	       a->breaking_to_requested == b->breaking_to_requested &&
	       a->breaking_to_required == b->breaking_to_required &&
	       a->epoch == b->epoch && a->version == b->version &&
	       a->breaking == b->breaking;
}

/* Exactly as long, so that a sanitizer sees a byte beyond. */
static bool pull(const uint8_t *data, size_t len,
		 struct phstore_lease_value *lease)
{
	uint8_t *tight = malloc(len + (len == 0 ? 1 : 0));
	bool ok;

	if (tight == NULL) {
		abort();
	}
	memcpy(tight, data, len);
	ok = phstore_lease_value_pull(tight, len, lease);
	free(tight);
	return ok;
}

static void test_round_trip(void)
{
	uint8_t buf[500 + PHSTORE_LEASE_VALUE_LEN];
	struct phstore_lease_value lease;
	size_t front;
	bool ok;
	int cmp;

	for (front = 0; front <= 500; front += 100) {
		memset(buf, 0xff, sizeof(buf));
		phstore_lease_value_push(&rwh, buf + front);
		cmp = memcmp(buf + front, rwh_bytes, sizeof(rwh_bytes));
		CHECK(cmp == 0);
		ok = pull(buf, front + PHSTORE_LEASE_VALUE_LEN, &lease);
		CHECK(ok);
		CHECK(equal(&lease, &rwh));
	}
}

static void test_none(void)
{
	struct phstore_lease_value lease;
	uint8_t buf[600];
	size_t len;
	unsigned n;
	bool ok;

	for (len = 0; len < PHSTORE_LEASE_VALUE_LEN; len++) {
		ok = pull(rwh_bytes + PHSTORE_LEASE_VALUE_LEN - len, len,
			  &lease);
		CHECK(!ok);
	}
	/* lock sequence numbers, each the same, and NDR's zeros */
	for (n = 0; n < 17; n++) {
		memset(buf, n < 16 ? n : 0xff, sizeof(buf));
		ok = pull(buf, sizeof(buf), &lease);
		CHECK(!ok);
		memset(buf + sizeof(buf) - 4, 0, 4);
		ok = pull(buf, sizeof(buf), &lease);
		CHECK(!ok);
	}
}

/* Each bit of what says that it is a lease, and of its small numbers */
static void test_flipped(void)
{
	static const struct phstore_lease_value nothing;
	struct phstore_lease_value lease;
	uint8_t buf[PHSTORE_LEASE_VALUE_LEN];
	size_t i;
	bool is_key, is_epoch, is_low;
	bool ok;

	for (i = 0; i < sizeof(buf) * 8; i++) {
		memcpy(buf, rwh_bytes, sizeof(buf));
		buf[i / 8] ^= 1U << (i % 8);
		ok = pull(buf, sizeof(buf), &lease);
		is_key = i / 8 < 16;
		is_epoch = i / 8 == 28 || i / 8 == 29;
		is_low = (i / 8 == 16 || i / 8 == 20 || i / 8 == 24) &&
			 i % 8 < 3;
		if (is_key || is_epoch || is_low ||
		    i == 31 * 8 /* no break is under way */)
		{
			CHECK(ok);
			CHECK(!equal(&lease, &rwh));
		} else if (ok) {
			/* version 2 became 3 or 0, or another magic */
			printf("not ok: bit %zu\n", i);
			failed += 1;
		} else {
			CHECK(equal(&lease, &nothing));
		}
	}
}

int main(void)
{
	test_round_trip();
	test_none();
	test_flipped();
	if (failed != 0) {
		printf("not ok test_lease_value: %d checks failed\n", failed);
		return 1;
	}
	printf("ok test_lease_value\n");
	return 0;
}

/*
 * phstore: the value in a volatile ctdb database, and what is kept of it
 * when the store has another one
 *
 * The fears: a restored record forgets who holds its lock (its unlock then
 * panics) or lets go of a waiter; a deletion's version is forgotten while
 * some node still has the record, or never; garbage is taken for a header.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../backends/ctdb/volatile_value.c"
#define pull_u32 canon_pull_u32
#include "../../smbd-hooks/samba/phstore_canon.c"
#undef pull_u32

static int failed;

#define CHECK(cond) do {						\
	if (!(cond)) {							\
		printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond);	\
		failed += 1;						\
	}								\
} while (0)

/* watchers, holder's byte, epochs' byte, shared holders, data */
static size_t locking(uint8_t *buf, uint32_t w, int holder, int epochs,
		      uint32_t shared, const char *data)
{
	size_t n = 0;

	push_u32(buf, w);
	n = 4;
	memset(buf + n, 0xa0, w * 32);
	n += w * 32;
	memset(buf + n, holder, 24);
	n += 24;
	memset(buf + n, epochs, 16);
	n += 16;
	push_u32(buf + n, shared);
	n += 4;
	memset(buf + n, 0xb0, shared * 24);
	n += shared * 24;
	memcpy(buf + n, data, strlen(data));
	return n + strlen(data);
}

static size_t merge(const uint8_t *old, size_t old_len,
		    const uint8_t *form, size_t form_len,
		    uint64_t stamp, uint8_t *out)
{
	/* as long as promised: a sanitizer sees one byte more */
	uint8_t *tight = malloc(old_len + form_len + 1);
	size_t n;

	if (tight == NULL) {
		abort();
	}
	n = phstore_canon_merge(PHSTORE_CANON_G_LOCK, old, old_len,
				form, form_len, stamp, tight);
	CHECK(n <= old_len + form_len);
	memcpy(out, tight, n);
	free(tight);
	return n;
}

static void test_header_round_trip(void)
{
	struct phvol_hdr h = {
		.flags = PHVOL_STORED | PHVOL_PLAIN,
		.pad = 7,
		.origin = 3,
		.checked = 0x1122334455667788ULL,
		.epoch = 0x8877665544332211ULL,
		.seq = 42,
	};
	struct phvol_hdr back = {};
	uint8_t buf[PHVOL_HDR_LEN + 5 + 7] = {};
	const uint8_t *p = buf;
	size_t len = sizeof(buf);
	bool ok;

	phvol_push(buf, &h);
	ok = phvol_pull(&p, &len, &back);
	CHECK(ok && len == 5 && p == buf + PHVOL_HDR_LEN);
	CHECK(back.flags == h.flags && back.pad == 7 && back.origin == 3);
	CHECK(back.checked == h.checked && back.epoch == h.epoch);
	CHECK(back.seq == 42);

	p = buf;
	len = PHVOL_HDR_LEN + 6;
	ok = phvol_pull(&p, &len, &back);
	CHECK(!ok);	/* more padding than bytes */
	p = buf;
	len = PHVOL_HDR_LEN - 1;
	ok = phvol_pull(&p, &len, &back);
	CHECK(!ok);
	buf[0] = 2;	/* a value of a smbd without phstore */
	p = buf;
	len = sizeof(buf);
	ok = phvol_pull(&p, &len, &back);
	CHECK(!ok);
	p = NULL;
	len = 0;
	ok = phvol_pull(&p, &len, &back);
	CHECK(ok && back.flags == 0 && back.checked == 0);
}

static void test_only_that_deletion_is_forgotten(void)
{
	struct phvol_hdr h = { .flags = PHVOL_TOMB, .epoch = 5, .seq = 9,
			       .checked = 5 };
	uint8_t buf[PHVOL_HDR_LEN + 4] = {};
	uint8_t out[PHVOL_HDR_LEN] = {};
	const uint8_t *p = out;
	size_t len = sizeof(out);
	bool ok;

	phvol_push(buf, &h);
	CHECK(phvol_forget(buf, PHVOL_HDR_LEN, 5, 9, out) == 1);
	CHECK(phvol_forget(buf, PHVOL_HDR_LEN, 5, 8, out) == 0);
	CHECK(phvol_forget(buf, PHVOL_HDR_LEN, 4, 9, out) == 0);
	CHECK(phvol_forget(buf, 0, 5, 9, out) == 0);
	/* a plain open came meanwhile: it stays, its version goes */
	CHECK(phvol_forget(buf, sizeof(buf), 5, 9, out) == 2);
	ok = phvol_pull(&p, &len, &h);
	CHECK(ok && h.flags == 0 && h.epoch == 0 && h.seq == 0);
	CHECK(h.checked == 5);
	/* it is stored again: not a deletion any more */
	h.flags = PHVOL_STORED;
	h.epoch = 5;
	h.seq = 9;
	phvol_push(buf, &h);
	CHECK(phvol_forget(buf, sizeof(buf), 5, 9, out) == 0);
}

static void test_holders_and_waiters_stay(void)
{
	uint8_t old[512], form[512], out[1024], want[1024];
	size_t old_len, form_len, n, m;
	uint32_t w, s;

	form_len = locking(form, 0, 0, 0, 0, "from the store");
	for (w = 0; w < 3; w++) {
		for (s = 0; s < 3; s++) {
			old_len = locking(old, w, 0x77, 0, s, "older");
			n = merge(old, old_len, form, form_len, 0, out);
			m = locking(want, w, 0x77, 0, s, "from the store");
			CHECK(n == m && memcmp(out, want, n) == 0);

			/* deleted in the store: they stay, the data goes */
			n = merge(old, old_len, form, 0, 0, out);
			m = locking(want, w, 0x77, 0, s, "");
			CHECK(n == m && memcmp(out, want, n) == 0);
		}
	}
	/* waiters only, of a record without data */
	push_u32(old, 1);
	memset(old + 4, 0xa0, 32);
	n = merge(old, 36, form, form_len, 0, out);
	m = locking(want, 1, 0, 0, 0, "from the store");
	CHECK(n == m && memcmp(out, want, n) == 0);
	/* nobody there */
	old_len = locking(old, 0, 0, 0x55, 0, "older");
	n = merge(old, old_len, form, form_len, 0, out);
	CHECK(n == form_len && memcmp(out, form, n) == 0);
	CHECK(merge(old, old_len, form, 0, 0, out) == 0);
	/* nothing there, or not understood */
	CHECK(merge(old, 0, form, form_len, 0, out) == form_len);
	push_u32(old, 0xffffffff);
	CHECK(merge(old, old_len, form, form_len, 0, out) == form_len);
	old_len = locking(old, 0, 1, 0, 0, "");
	push_u32(old + 44, 0x10000000);
	CHECK(merge(old, old_len, form, form_len, 0, out) == form_len);
}

static void test_who_remembers_the_data_notices(void)
{
	uint8_t old[512], form[512], a[1024], b[1024];
	size_t old_len, form_len, n;

	form_len = locking(form, 0, 0, 0, 0, "from the store");
	old_len = locking(old, 0, 0x77, 0x55, 0, "older");
	n = merge(old, old_len, form, form_len, 1, a);
	CHECK(n == form_len);
	n = merge(old, old_len, form, form_len, 2, b);
	CHECK(n == form_len);
	CHECK(memcmp(a + 36, b + 36, 8) != 0);	/* data epoch */
	CHECK(memcmp(a, b, 36) == 0);		/* lock epoch: as it was */
	CHECK(memcmp(a, old, 36) == 0);
}

int main(void)
{
	test_header_round_trip();
	test_only_that_deletion_is_forgotten();
	test_holders_and_waiters_stay();
	test_who_remembers_the_data_notices();
	if (failed != 0) {
		printf("not ok test_volatile: %d checks failed\n", failed);
		return 1;
	}
	printf("ok test_volatile\n");
	return 0;
}

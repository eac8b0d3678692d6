/*
 * phstore: tests of the durable form of dbwrap values
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What is feared: a lock holder or waiter of a dead process comes back after
 * a restart; taking the share-mode lock costs a durable write because the
 * form differs; data is lost or read beyond the value's end.
 */

#include "../../smbd-hooks/samba/phstore_canon.c"

#include <stdio.h>
#include <stdlib.h>

static int failed;

#define CHECK(what) do { \
	if (!(what)) { \
		printf("not ok: %s:%d: %s\n", __FILE__, __LINE__, #what); \
		failed += 1; \
	} \
} while (0)

/* A value under construction; malloc'd to size for the sanitizers. */
struct value {
	uint8_t *buf;
	size_t len;
};

static void add(struct value *v, const void *data, size_t len)
{
	v->buf = realloc(v->buf, v->len + len + 1);
	if (v->buf == NULL) {
		abort();
	}
	memcpy(v->buf + v->len, data, len);
	v->len += len;
}

static void add_fill(struct value *v, uint8_t byte, size_t len)
{
	uint8_t tmp[256];

	memset(tmp, byte, sizeof(tmp));
	add(v, tmp, len);
}

static void add_u32(struct value *v, uint32_t x)
{
	uint8_t tmp[4] = { x, x >> 8, x >> 16, x >> 24 };

	add(v, tmp, sizeof(tmp));
}

static struct value locking(uint32_t watchers,
			    uint8_t holder,
			    uint8_t epochs,
			    uint32_t shared,
			    const char *data)
{
	struct value v = {};
	uint32_t i;

	add_u32(&v, watchers);
	for (i = 0; i < watchers; i++) {
		add_fill(&v, 0xa0 + i, 32);
	}
	add_fill(&v, holder, 24);
	add_fill(&v, epochs, 16);
	add_u32(&v, shared);
	for (i = 0; i < shared; i++) {
		add_fill(&v, 0xb0 + i, 24);
	}
	add(&v, data, strlen(data));
	return v;
}

static bool same(const struct value *a, const struct value *b)
{
	return a->len == b->len && memcmp(a->buf, b->buf, a->len) == 0;
}

static bool form(enum phstore_canon_kind kind, struct value *v)
{
	/* exactly as long as the value: a sanitizer sees one byte more */
	uint8_t *tight = malloc(v->len > 0 ? v->len : 1);
	bool ok;

	if (tight == NULL) {
		abort();
	}
	memcpy(tight, v->buf, v->len);
	ok = phstore_canon(kind, tight, &v->len);
	memcpy(v->buf, tight, v->len);
	free(tight);
	return ok;
}

static void test_lock_state_is_not_durable(void)
{
	struct value want = locking(0, 0, 0, 0, "share modes");
	uint32_t watchers, shared;
	int holder;

	for (watchers = 0; watchers < 4; watchers++) {
		for (shared = 0; shared < 4; shared++) {
			for (holder = 0; holder < 2; holder++) {
				struct value v = locking(watchers,
							 holder * 0x77,
							 watchers + shared,
							 shared,
							 "share modes");
				bool ok;

				ok = form(PHSTORE_CANON_G_LOCK, &v);
				CHECK(ok);
				CHECK(same(&v, &want));

				/* and again: it is its own form */
				ok = form(PHSTORE_CANON_G_LOCK, &v);
				CHECK(ok);
				CHECK(same(&v, &want));
				free(v.buf);
			}
		}
	}
	free(want.buf);
}

static void test_data_is_durable(void)
{
	struct value a = locking(1, 1, 1, 1, "share modes");
	struct value b = locking(1, 1, 1, 1, "share modeS");

	(void)form(PHSTORE_CANON_G_LOCK, &a);
	(void)form(PHSTORE_CANON_G_LOCK, &b);
	CHECK(!same(&a, &b));
	CHECK(a.len == 4 + 24 + 16 + 4 + strlen("share modes"));
	CHECK(memcmp(a.buf + 48, "share modes", 11) == 0);
	free(a.buf);
	free(b.buf);
}

static void test_nothing_to_keep(void)
{
	struct value held = locking(2, 0x77, 5, 1, "");
	struct value waited = {};
	struct value empty = {};
	bool ok;

	ok = form(PHSTORE_CANON_G_LOCK, &held);
	CHECK(ok && held.len == 0);

	add_u32(&waited, 1);
	add_fill(&waited, 0xa0, 32);
	ok = form(PHSTORE_CANON_G_LOCK, &waited);
	CHECK(ok && waited.len == 0);

	add(&empty, "", 0);
	ok = form(PHSTORE_CANON_G_LOCK, &empty);
	CHECK(ok && empty.len == 0);

	free(held.buf);
	free(waited.buf);
	free(empty.buf);
}

static void test_watched(void)
{
	struct value v = {};
	bool ok;

	add_u32(&v, 2);
	add_fill(&v, 0xa0, 64);
	add(&v, "data", 4);
	ok = form(PHSTORE_CANON_WATCHED, &v);
	CHECK(ok && v.len == 8);
	CHECK(memcmp(v.buf, "\0\0\0\0data", 8) == 0);
	free(v.buf);
}

static void test_raw(void)
{
	struct value v = locking(2, 0x77, 5, 1, "x");
	struct value w = locking(2, 0x77, 5, 1, "x");
	bool ok;

	ok = form(PHSTORE_CANON_RAW, &v);
	CHECK(ok && same(&v, &w));
	free(v.buf);
	free(w.buf);
}

/* Every prefix, and counts that lie: unchanged, or a shorter valid form. */
static void test_damaged(void)
{
	struct value full = locking(2, 0x77, 5, 2, "share modes");
	size_t cut;
	bool ok;

	for (cut = 0; cut <= full.len; cut++) {
		struct value v = {};

		add(&v, full.buf, cut);
		ok = form(PHSTORE_CANON_G_LOCK, &v);
		CHECK(v.len <= cut);
		if (!ok) {
			CHECK(v.len == cut);
			CHECK(memcmp(v.buf, full.buf, cut) == 0);
		}
		free(v.buf);
	}

	memset(full.buf, 0xff, 4);
	ok = form(PHSTORE_CANON_G_LOCK, &full);
	CHECK(!ok);
	free(full.buf);

	full = locking(0, 0x77, 5, 2, "share modes");
	memset(full.buf + 4 + 24 + 16, 0xff, 4);
	ok = form(PHSTORE_CANON_G_LOCK, &full);
	CHECK(!ok);
	free(full.buf);
}

static void test_tables(void)
{
	CHECK(phstore_canon_kind_of("locking") == PHSTORE_CANON_G_LOCK);
	CHECK(phstore_canon_kind_of("brlock") == PHSTORE_CANON_RAW);
	CHECK(phstore_canon_kind_of("smbXsrv_open_global") ==
	      PHSTORE_CANON_RAW);
	CHECK(phstore_canon_kind_of("something else") == PHSTORE_CANON_RAW);
}

int main(void)
{
	test_lock_state_is_not_durable();
	test_data_is_durable();
	test_nothing_to_keep();
	test_watched();
	test_raw();
	test_damaged();
	test_tables();

	if (failed > 0) {
		printf("not ok test_canon: %d checks failed\n", failed);
		return 1;
	}
	printf("ok test_canon\n");
	return 0;
}

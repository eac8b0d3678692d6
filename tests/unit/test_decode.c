/*
 * phstore: do the tool's decoders read what smbd writes, and survive what
 * nobody should write?
 *
 * The fixtures are values of records that a smbd 4.25 of our own build kept
 * for persistent handles: two clients, leases, byte-range locks, a stream, a
 * file to be deleted on close. Names say what is in them.
 *
 * The damaged forms are made here: every shorter length, every bit of every
 * byte. A decoder may read what it likes then, but must stay within the
 * bytes (run this with -fsanitize=address), come to an end, and put out valid
 * UTF-8 without control characters.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* the tool is no library: its files are taken in as they are */
#include "../../tools/phstore_out.c"
#include "../../tools/phstore_cursor.c"
#include "../../tools/phstore_decode.c"

struct fixture {
	const char *name;
	enum phdump_kind kind;
	uint8_t data[4096];
	size_t len;
	size_t num_entries;		/* of a locking record */
};

static struct fixture fixtures[] = {
	{ .name = "open-live", .kind = PHDUMP_OPEN },
	{ .name = "open-disconnected", .kind = PHDUMP_OPEN },
	{ .name = "open-utf8", .kind = PHDUMP_OPEN },
	{ .name = "open-no-cookie", .kind = PHDUMP_OPEN },
	{ .name = "open-leased", .kind = PHDUMP_OPEN },
	{ .name = "locking-two-opens", .kind = PHDUMP_LOCKING,
	  .num_entries = 3 },
	{ .name = "locking-stream", .kind = PHDUMP_LOCKING,
	  .num_entries = 1 },
	{ .name = "locking-delete-token", .kind = PHDUMP_LOCKING,
	  .num_entries = 1 },
	{ .name = "brlock-three", .kind = PHDUMP_BRLOCK },
	{ .name = "brlock-two-opens", .kind = PHDUMP_BRLOCK },
};

#define LEASED 4
#define LEASED_NDR_LEN 632
#define NUM_FIXTURES (sizeof(fixtures) / sizeof(fixtures[0]))

static void fixture_path(char *buf, size_t len, const char *name)
{
	const char *dir = getenv("PHSTORE_FIXTURES");
	const char *slash = strrchr(__FILE__, '/');

	if (dir != NULL) {
		snprintf(buf, len, "%s/%s.bin", dir, name);
	} else if (slash != NULL) {
		snprintf(buf, len, "%.*s/fixtures/%s.bin",
			 (int)(slash - __FILE__), __FILE__, name);
	} else {
		snprintf(buf, len, "fixtures/%s.bin", name);
	}
}

static int load_fixtures(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < NUM_FIXTURES; i++) {
		char path[1024];
		FILE *f = NULL;

		fixture_path(path, sizeof(path), fixtures[i].name);
		f = fopen(path, "rb");
		if (f == NULL) {
			print_error("%s: cannot open\n", path);
			return -1;
		}
		fixtures[i].len = fread(fixtures[i].data, 1,
					sizeof(fixtures[i].data), f);
		fclose(f);
	}
	return 0;
}

static const struct fixture *get_fixture(const char *name)
{
	size_t i;

	for (i = 0; i < NUM_FIXTURES; i++) {
		int cmp = strcmp(fixtures[i].name, name);

		if (cmp == 0) {
			return &fixtures[i];
		}
	}
	fail_msg("no fixture %s", name);
	return NULL;
}

/* Decode from a copy of exactly that size, so that a sanitizer sees more. */
static bool decode(enum phdump_kind kind, const uint8_t *data, size_t len,
		   bool json, struct phdump_out *out)
{
	uint8_t *copy = malloc(len + (len == 0));
	bool ok;

	assert_non_null(copy);
	memcpy(copy, data, len);
	phdump_init(out, json, true);
	phdump_object(out, NULL);
	ok = phdump_decode_value(kind,
				 (struct phstore_blob) {
					.data = copy,
					.len = len,
				 },
				 out);
	assert_int_equal(out->depth, 1);
	phdump_end(out);
	assert_false(out->failed);
	free(copy);
	return ok;
}

static void check_has(const char *fixture, const char *expected)
{
	const struct fixture *fx = get_fixture(fixture);
	struct phdump_out out;
	const char *found = NULL;
	bool ok;

	ok = decode(fx->kind, fx->data, fx->len, false, &out);
	assert_true(ok);
	found = strstr(out.buf, expected);
	if (found == NULL) {
		fail_msg("%s: \"%s\" is not in\n%s", fixture, expected,
			 out.buf);
	}
	phdump_free(&out);
}

static void test_open(void **state)
{
	(void)state;
	check_has("open-live", "persistent_id     0x0000000042828357\n");
	check_has("open-live", "global_id         0x42828357\n");
	check_has("open-live", "server            26930/25aebbff9e25a8b2\n");
	check_has("open-live", "owner             S-1-5-21-777700297-158256491"
			       "-1119919245-1000\n");
	check_has("open-live", "durable           yes\n");
	check_has("open-live", "persistent        yes\n");
	check_has("open-live", "timeout_ms        60000\n");
	check_has("open-live", "opened            "
			       "2026-11-21T04:27:11.861021Z\n");
	check_has("open-live", "disconnected      -\n");
	check_has("open-live", "create_guid       "
			       "03020100-0504-0706-0809-0a0b0c0d0e0f\n");
	check_has("open-live", "share_path        /srv/ca\n");
	check_has("open-live", "base_name         first.txt\n");
	check_has("open-live", "file_id           fe00:116029:0\n");
	check_has("open-live", "mode              100744\n");
	check_has("open-disconnected", "server            disconnected\n");
	check_has("open-disconnected", "disconnected      "
				       "2026-11-21T04:27:18.726624Z\n");
	check_has("open-utf8", "base_name         "
			       "f\303\274r \344\275\240\345\245\275.dat\n");
	check_has("open-no-cookie", "cookie            -\n");
	check_has("open-no-cookie", "durable           no\n");
	check_has("open-leased", "base_name         leased\n");
	check_has("open-leased", "key               "
				 "6c656173656b65790001020304050607\n");
	check_has("open-leased", "state             0x7 READ,HANDLE,WRITE\n");
	check_has("open-leased", "breaking_to       0x3 READ,HANDLE\n");
	check_has("open-leased", "epoch             2\n");
}

static void test_locking(void **state)
{
	(void)state;
	check_has("locking-two-opens", "num_persistent    2\n");
	check_has("locking-two-opens", "base_name         shared.bin\n");
	check_has("locking-two-opens", "server            "
				       "26931/1fd650284886fda7\n");
	check_has("locking-two-opens", "[2]\n");
	check_has("locking-two-opens", "share_file_id     "
				       "0x0000000090209554\n");
	check_has("locking-two-opens", "share             "
				       "0x7 READ,WRITE,DELETE\n");
	check_has("locking-two-opens", "flags             0x10 PERSISTENT\n");
	check_has("locking-two-opens", "flags             0x2 STREAM_BASE\n");
	check_has("locking-two-opens", "oplock            lease\n");
	check_has("locking-two-opens", "lease_key         "
				       "6c656173656b65794444444444444444\n");
	check_has("locking-stream", "stream_name       :stream one\n");
	check_has("locking-delete-token", "delete_tokens\n");
	check_has("locking-delete-token", "persistent_id     "
					  "0x0000000033b5616a\n");
	check_has("locking-delete-token", "base_name         gone.tmp\n");
}

static void test_brlock(void **state)
{
	(void)state;
	check_has("brlock-three", "start             100\n");
	check_has("brlock-three", "size              50\n");
	check_has("brlock-three", "type              read\n");
	check_has("brlock-three", "start             18446744069414584320\n");
	check_has("brlock-three", "persistent        yes\n");
	check_has("brlock-three", "context           0x0000000042828357\n");
	check_has("brlock-two-opens", "context           "
				      "0x0000000090209554\n");
	check_has("brlock-two-opens", "type              write\n");
}

static void test_keys(void **state)
{
	const uint8_t key[24] = { 0, 0xfe, 0, 0, 0, 0, 0, 0, 0x29, 0x60, 0x11 };
	const uint8_t id[4] = { 0x42, 0x82, 0x83, 0x57 };
	struct phdump_out out;

	(void)state;
	phdump_init(&out, false, false);
	phdump_decode_key(PHDUMP_BRLOCK,
			  (struct phstore_blob) { key, sizeof(key) }, &out);
	assert_string_equal(out.buf, "file              fe00:116029:0\n");
	phdump_free(&out);

	phdump_init(&out, false, false);
	phdump_decode_key(PHDUMP_OPEN,
			  (struct phstore_blob) { id, sizeof(id) }, &out);
	assert_string_equal(out.buf, "open              0x42828357\n");
	phdump_free(&out);

	/* a key of another size says nothing */
	phdump_init(&out, false, false);
	phdump_decode_key(PHDUMP_OPEN,
			  (struct phstore_blob) { key, sizeof(key) }, &out);
	phdump_decode_key(PHDUMP_LOCKING,
			  (struct phstore_blob) { id, sizeof(id) }, &out);
	phdump_decode_key(PHDUMP_LOCKING, (struct phstore_blob) {}, &out);
	assert_null(out.buf);
	phdump_free(&out);

	assert_int_equal(phdump_table_kind("locking"), PHDUMP_LOCKING);
	assert_int_equal(phdump_table_kind("locking.tdb"), PHDUMP_LOCKING);
	assert_int_equal(phdump_table_kind("/a/b/brlock.tdb"), PHDUMP_BRLOCK);
	assert_int_equal(phdump_table_kind("smbXsrv_open_global"),
			 PHDUMP_OPEN);
	assert_int_equal(phdump_table_kind("lockin"), PHDUMP_OTHER);
	assert_int_equal(phdump_table_kind("locking2"), PHDUMP_OTHER);
	assert_int_equal(phdump_table_kind(".tdb"), PHDUMP_OTHER);
	assert_int_equal(phdump_table_kind(""), PHDUMP_OTHER);
}

/* Is it as safe to show as phstore_out.h promises? */
static void check_printable(const char *what, const struct phdump_out *out)
{
	const char *p = out->buf;

	while (*p != '\0') {
		size_t len = strcspn(p, "\n");
		bool ok = phdump_is_text(p, len);

		if (!ok) {
			fail_msg("%s: not printable: %s", what, p);
		}
		p += len;
		p += (*p == '\n');
	}
	assert_int_equal(strlen(out->buf), out->len);
}

static void test_truncated(void **state)
{
	size_t i, len;

	(void)state;
	for (i = 0; i < NUM_FIXTURES; i++) {
		const struct fixture *fx = &fixtures[i];

		for (len = 0; len < fx->len; len++) {
			const char *reason = NULL;
			struct phdump_out out;
			bool ok;
			bool whole = false;

			/* these end between two entries, and are valid */
			if (fx->kind == PHDUMP_BRLOCK && len % 80 == 4) {
				whole = true;
			}
			if (fx->kind == PHDUMP_LOCKING &&
			    (fx->len - len) % SHARE_ENTRY_LEN == 0 &&
			    (fx->len - len) / SHARE_ENTRY_LEN <=
			    fx->num_entries) {
				whole = true;
			}
			/* a replay cache entry; a lock without data */
			if (fx->kind == PHDUMP_OPEN && len == 4) {
				whole = true;
			}
			if (fx->kind == PHDUMP_LOCKING && len == 48) {
				whole = true;
			}
			/* no lease; NDR may round up to 8 */
			if (i == LEASED && len >= LEASED_NDR_LEN &&
			    len < LEASED_NDR_LEN + 8) {
				whole = true;
			}
			ok = decode(fx->kind, fx->data, len, false, &out);
			check_printable(fx->name, &out);
			reason = strstr(out.buf, "not_decoded");
			if (ok != whole || (reason == NULL) != whole) {
				fail_msg("%s cut at %zu:\n%s", fx->name, len,
					 out.buf);
			}
			phdump_free(&out);
		}
	}
}

static void test_longer(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < NUM_FIXTURES; i++) {
		struct fixture fx = fixtures[i];
		struct phdump_out out;
		const char *reason = NULL;
		bool ok;

		memset(fx.data + fx.len, 0x55, 20);
		ok = decode(fx.kind, fx.data, fx.len + 20, false, &out);
		assert_false(ok);
		reason = strstr(out.buf, "5555555555555555");
		assert_non_null(reason);
		phdump_free(&out);
	}
}

/* In a cluster: the same, and whether a handle that survives is in it. */
static void test_marked(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < NUM_FIXTURES; i++) {
		struct fixture fx = fixtures[i];
		struct phdump_out without, with;
		const char *plain = NULL;
		bool ok;

		if (fx.len == 4) {
			continue;
		}
		decode(fx.kind, fx.data, fx.len, true, &without);
		fx.data[fx.len] = 1;
		ok = decode(fx.kind, fx.data, fx.len + 1, true, &with);
		assert_true(ok);
		assert_string_equal(with.buf, without.buf);
		phdump_free(&without);
		phdump_free(&with);
		if (fx.kind == PHDUMP_OPEN) {
			continue;
		}
		fx.data[fx.len] = 0;
		ok = decode(fx.kind, fx.data, fx.len + 1, true, &with);
		assert_true(ok);
		plain = strstr(with.buf, "\"plain\": true");
		assert_non_null(plain);
		phdump_free(&with);
		fx.data[fx.len] = 2;
		ok = decode(fx.kind, fx.data, fx.len + 1, true, &with);
		assert_false(ok);
		phdump_free(&with);
	}
}

static void test_flipped(void **state)
{
	size_t i, bit;

	(void)state;
	for (i = 0; i < NUM_FIXTURES; i++) {
		struct fixture fx = fixtures[i];

		for (bit = 0; bit < fx.len * 8; bit++) {
			struct phdump_out out;

			fx.data[bit / 8] ^= 1 << (bit % 8);
			decode(fx.kind, fx.data, fx.len, bit % 2, &out);
			check_printable(fx.name, &out);
			phdump_free(&out);
			fx.data[bit / 8] ^= 1 << (bit % 8);
		}
	}
}

/* Counts and lengths are where a decoder believes too much. */
static void test_huge_counts(void **state)
{
	static const uint32_t values[] = {
		0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffc, 0x10000,
	};
	size_t i, pos, v;

	(void)state;
	for (i = 0; i < NUM_FIXTURES; i++) {
		for (pos = 0; pos + 4 <= fixtures[i].len; pos++) {
			for (v = 0; v < sizeof(values) / 4; v++) {
				struct fixture fx = fixtures[i];
				struct phdump_out out;

				memcpy(fx.data + pos, &values[v], 4);
				decode(fx.kind, fx.data, fx.len, true, &out);
				check_printable(fx.name, &out);
				assert_true(out.len < 100000);
				phdump_free(&out);
			}
		}
	}
}

static void test_wrong_kind(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < NUM_FIXTURES; i++) {
		const struct fixture *fx = &fixtures[i];
		enum phdump_kind kind;

		for (kind = PHDUMP_OTHER; kind <= PHDUMP_BRLOCK; kind++) {
			struct phdump_out out;
			bool ok;

			ok = decode(kind, fx->data, fx->len, true, &out);
			check_printable(fx->name, &out);
			assert_int_equal(ok, kind == fx->kind ||
					     kind == PHDUMP_OTHER);
			phdump_free(&out);
		}
	}
}

static void check_json(const char *data, size_t len, const char *expected)
{
	struct phdump_out out;

	phdump_init(&out, true, false);
	phdump_bytes(&out, NULL, data, len);
	assert_string_equal(out.buf, expected);
	phdump_free(&out);
}

static void test_escapes(void **state)
{
	struct phdump_out out;

	(void)state;
	check_json("plain", 5, "\"plain\"");
	check_json("", 0, "\"\"");
	check_json("a\"b\\c", 5, "\"a\\\"b\\\\c\"");
	check_json("f\303\274r", 4, "\"f\303\274r\"");
	/* a control character, a NUL, an escape sequence's begin */
	check_json("a\nb", 3, "\"a\\\\x0ab\"");
	check_json("a\0b", 3, "\"a\\\\x00b\"");
	check_json("\033[2J", 4, "\"\\\\x1b[2J\"");
	check_json("\177", 1, "\"\\\\x7f\"");
	/* not UTF-8: a lone byte, cut, overlong, surrogate, too large, C1 */
	check_json("\377", 1, "\"\\\\xff\"");
	check_json("\303", 1, "\"\\\\xc3\"");
	check_json("\300\200", 2, "\"\\\\xc0\\\\x80\"");
	check_json("\355\240\200", 3, "\"\\\\xed\\\\xa0\\\\x80\"");
	check_json("\364\220\200\200", 4,
		   "\"\\\\xf4\\\\x90\\\\x80\\\\x80\"");
	check_json("\302\205", 2, "\"\\\\xc2\\\\x85\"");

	/* what JSON can not hold comes in hex beside it */
	phdump_init(&out, true, false);
	phdump_object(&out, NULL);
	phdump_bytes(&out, "name", "\377", 1);
	phdump_u64(&out, "n", 7);
	phdump_end(&out);
	assert_string_equal(out.buf,
			    "{\n  \"name\": \"\\\\xff\",\n"
			    "  \"name_hex\": \"ff\",\n  \"n\": 7\n}\n");
	phdump_free(&out);

	/* keys go back into a command line */
	phdump_init(&out, false, false);
	phdump_key(&out, NULL, "mykey", 5);
	phdump_key(&out, NULL, "my key", 6);
	phdump_key(&out, NULL, "hex:00", 6);
	phdump_key(&out, NULL, "\001\377", 2);
	assert_string_equal(out.buf, "mykey\nhex:6d79206b6579\n"
				     "hex:6865783a3030\nhex:01ff\n");
	phdump_free(&out);
}

static void test_deep(void **state)
{
	struct phdump_out out;
	unsigned int i;

	(void)state;
	phdump_init(&out, true, false);
	for (i = 0; i < 3 * PHDUMP_DEPTH_MAX; i++) {
		phdump_array(&out, NULL);
	}
	phdump_u64(&out, NULL, 4711);
	for (i = 0; i < 3 * PHDUMP_DEPTH_MAX; i++) {
		phdump_end(&out);
	}
	phdump_end(&out);
	assert_int_equal(out.depth, 0);
	assert_null(strstr(out.buf, "4711"));
	phdump_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_locking),
		cmocka_unit_test(test_brlock),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_longer),
		cmocka_unit_test(test_marked),
		cmocka_unit_test(test_flipped),
		cmocka_unit_test(test_huge_counts),
		cmocka_unit_test(test_wrong_kind),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_deep),
	};

	return cmocka_run_group_tests(tests, load_fixtures, NULL);
}

/*
 * phstore tests: stores that are damaged, foreign, newer or read-only
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * test-timeout: 300
 * tidy: long because each case is short and all share the same helpers
 *
 * A good store has 120 records, each in a transaction of its own and
 * written once, in several segments of 64 KiB. Each case damages a copy and
 * opens it. Always: the error or the damage report names the file and the
 * reason; what was there is not overwritten (checksums of all files before
 * and after); records outside the damage are there, byte for byte; at most
 * the one record that was hit is missing.
 *
 * Seen to fail with each of these changes to the store, one at a time:
 *   a superblock's checksum not compared, the version not looked at
 *   no search for the next valid frame behind damage (all behind it lost)
 *   damage not reported; the damaged segment used again as a spare
 *   a lost last segment not missed
 *   a read-only handle writing the superblock
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "local.h"
#include "phstore_bytes.h"

#define RECORDS 120
#define SEGMENT (64 * 1024)
#define MAX_FILES 64

static char top[512], good[600], bad[600];
static uint32_t lens[RECORDS];
static int num_cases, num_bad;
static bool case_ok;

#define CHECK(cond) check((cond), #cond, __LINE__)

static void check(bool ok, const char *what, int line)
{
	if (!ok && case_ok) {
		printf("# line %d: %s; last error: %s\n", line, what,
		       phstore_last_error());
	}
	case_ok = case_ok && ok;
}

static void begin_case(void)
{
	case_ok = true;
}

static void end_case(const char *name)
{
	num_cases += 1;
	num_bad += !case_ok;
	printf("%s %d - %s\n", case_ok ? "ok" : "not ok", num_cases, name);
}

/* Files. */

static void wipe(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de = NULL;

	while (dir != NULL && (de = readdir(dir)) != NULL) {
		if (de->d_name[0] != '.') {
			(void)unlinkat(dirfd(dir), de->d_name, 0);
		}
	}
	if (dir != NULL) {
		closedir(dir);
	}
	(void)rmdir(path);
	(void)unlink(path);
}

static uint8_t *file_read(const char *dir, const char *name, size_t *len)
{
	char path[1024];
	struct stat st = {};
	uint8_t *buf = NULL;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		return NULL;
	}
	(void)fstat(fd, &st);
	buf = malloc(st.st_size + 1);
	*len = read(fd, buf, st.st_size);
	close(fd);
	return buf;
}

static void file_write(const char *dir, const char *name, const void *buf,
		       size_t len)
{
	char path[1024];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd == -1 || write(fd, buf, len) != (ssize_t)len) {
		printf("# cannot write %s\n", path);
		exit(1);
	}
	close(fd);
}

static void file_flip(const char *name, size_t ofs, uint8_t bits)
{
	size_t len = 0;
	uint8_t *buf = file_read(bad, name, &len);

	buf[ofs] ^= bits;
	file_write(bad, name, buf, len);
	free(buf);
}

/* Is it one that every start makes anew? */
static bool is_temporary(const char *name)
{
	return name[0] == '.' || strcmp(name, "state") == 0 ||
	       strcmp(name, "lock") == 0 || strncmp(name, "index.", 6) == 0;
}

static void make_bad(bool with_state)
{
	DIR *dir = opendir(good);
	struct dirent *de = NULL;

	wipe(bad);
	(void)mkdir(bad, 0700);
	while ((de = readdir(dir)) != NULL) {
		size_t len = 0;
		uint8_t *buf = NULL;

		if (de->d_name[0] == '.' ||
		    (!with_state && is_temporary(de->d_name)))
		{
			continue;
		}
		buf = file_read(good, de->d_name, &len);
		file_write(bad, de->d_name, buf, len);
		free(buf);
	}
	closedir(dir);
}

struct sum {
	char name[64];
	uint32_t crc;
};

struct sums {
	struct sum sums[MAX_FILES];
	size_t num;
};

static void sums_take(const char *path, struct sums *s)
{
	DIR *dir = opendir(path);
	struct dirent *de = NULL;

	s->num = 0;
	while (dir != NULL && (de = readdir(dir)) != NULL) {
		struct sum *sum = &s->sums[s->num];
		size_t len = 0;
		uint8_t *buf = NULL;

		if (is_temporary(de->d_name)) {
			continue;
		}
		buf = file_read(path, de->d_name, &len);
		snprintf(sum->name, sizeof(sum->name), "%.60s", de->d_name);
		sum->crc = phstore_crc32(0, buf, len);
		free(buf);
		s->num += 1;
	}
	if (dir != NULL) {
		closedir(dir);
	}
}

static bool sums_have(const struct sums *s, const char *name, uint32_t crc)
{
	size_t i;

	for (i = 0; i < s->num; i++) {
		if (strcmp(s->sums[i].name, name) == 0) {
			return s->sums[i].crc == crc;
		}
	}
	return false;
}

/* Every file of `before` is there as it was. */
static bool sums_same(const struct sums *before, const struct sums *after)
{
	size_t i;

	for (i = 0; i < before->num; i++) {
		bool ok = sums_have(after, before->sums[i].name,
				    before->sums[i].crc);

		if (!ok) {
			printf("# %s was changed\n", before->sums[i].name);
			return false;
		}
	}
	return before->num == after->num;
}

/* Records. */

static void key_of(uint32_t i, char key[16])
{
	snprintf(key, 16, "key%03u", i);
}

static void value_of(uint32_t i, uint8_t *buf)
{
	uint32_t n;

	for (n = 0; n < lens[i]; n++) {
		buf[n] = (uint8_t)(i * 37 + n * 11 + (n >> 8));
	}
}

static enum phstore_err open_at(const char *path, uint32_t flags,
				struct phstore **store)
{
	struct phstore_open_options opts = {
		.flags = flags | PHSTORE_OPEN_ALLOW_VOLATILE,
		.segment_size = SEGMENT,
	};

	return phstore_open(NULL, path, &opts, store);
}

static enum phstore_err put(struct phstore *store, const char *key,
			    const void *data, size_t len)
{
	struct phstore_txn *txn = phstore_txn_new(NULL, store);
	enum phstore_err err;

	err = phstore_txn_put(txn, "t",
			      (struct phstore_blob) { key, strlen(key) },
			      (struct phstore_blob) { data, len }, NULL);
	if (err == PHSTORE_OK) {
		err = phstore_commit(txn, NULL);
	}
	talloc_free(txn);
	return err;
}

static enum phstore_err del(struct phstore *store, const char *key)
{
	struct phstore_txn *txn = phstore_txn_new(NULL, store);
	enum phstore_err err;

	(void)phstore_txn_delete(txn, "t", (struct phstore_blob) {
					 key, strlen(key) }, NULL);
	err = phstore_commit(txn, NULL);
	talloc_free(txn);
	return err;
}

/* How many records are missing; -1 if one has other bytes. */
static int missing(struct phstore *store, int *which)
{
	static uint8_t want[SEGMENT];
	int num = 0;
	uint32_t i;

	for (i = 0; i < RECORDS; i++) {
		struct phstore_record rec = {};
		enum phstore_err err;
		char key[16];

		key_of(i, key);
		value_of(i, want);
		err = phstore_get(store, store, "t", (struct phstore_blob) {
					  key, strlen(key) }, &rec);
		if (err == PHSTORE_ERR_NOT_FOUND) {
			num += 1;
			if (which != NULL) {
				*which = (int)i;
			}
			continue;
		}
		if (err != PHSTORE_OK || rec.value.len != lens[i] ||
		    memcmp(rec.value.data, want, lens[i]) != 0)
		{
			return -1;
		}
	}
	return num;
}

static uint64_t num_damaged(struct phstore *store)
{
	struct phstore_stat st = {};

	(void)phstore_stat(store, &st);
	return st.num_damaged;
}

static void make_good(void)
{
	static uint8_t buf[SEGMENT];
	struct phstore *store = NULL;
	enum phstore_err err;
	uint32_t i;

	err = open_at(good, PHSTORE_OPEN_CREATE, &store);
	for (i = 0; i < RECORDS && err == PHSTORE_OK; i++) {
		char key[16];

		lens[i] = 100 + (i * 7919) % 4000;
		key_of(i, key);
		value_of(i, buf);
		err = put(store, key, buf, lens[i]);
	}
	if (err != PHSTORE_OK || phstore_close(store) != PHSTORE_OK) {
		printf("# cannot make a store: %s\n", phstore_last_error());
		exit(1);
	}
}

/* Opening must be refused, in every way, and nothing may change. */
static void refused(enum phstore_err want, const char *word)
{
	static const uint32_t flags[] = {
		0, PHSTORE_OPEN_CREATE, PHSTORE_OPEN_RDONLY,
	};
	struct sums before, after;
	size_t i;

	sums_take(bad, &before);
	for (i = 0; i < 3; i++) {
		struct phstore *store = NULL;
		enum phstore_err err = open_at(bad, flags[i], &store);

		CHECK(err == want);
		CHECK(store == NULL);
		CHECK(strstr(phstore_last_error(), bad) != NULL);
		CHECK(strstr(phstore_last_error(), word) != NULL);
		TALLOC_FREE(store);
	}
	sums_take(bad, &after);
	CHECK(sums_same(&before, &after));
}

static void case_foreign(void)
{
	static uint8_t junk[8192];
	struct phstore *store = NULL;
	DIR *dir = NULL;
	int num = 0;
	size_t i;

	begin_case();
	for (i = 0; i < sizeof(junk); i++) {
		junk[i] = (uint8_t)(i * 31);
	}
	wipe(bad);
	CHECK(open_at(bad, 0, &store) == PHSTORE_ERR_NO_STORE);
	CHECK(open_at(bad, PHSTORE_OPEN_RDONLY, &store) ==
	      PHSTORE_ERR_NO_STORE);
	CHECK(access(bad, F_OK) == -1);
	(void)mkdir(bad, 0700);
	CHECK(open_at(bad, 0, &store) == PHSTORE_ERR_NO_STORE);

	file_write(bad, "letter.txt", "dear", 4);
	refused(PHSTORE_ERR_FOREIGN, "letter.txt");
	/* not a byte into a folder that is not ours */
	dir = opendir(bad);
	while (readdir(dir) != NULL) {
		num += 1;
	}
	closedir(dir);
	CHECK(num == 3);

	wipe(bad);
	file_write(top, "bad", "a file", 6);
	CHECK(open_at(bad, PHSTORE_OPEN_CREATE, &store) ==
	      PHSTORE_ERR_FOREIGN);
	wipe(bad);

	make_bad(false);
	file_write(bad, "super", junk, sizeof(junk));
	refused(PHSTORE_ERR_FOREIGN, "super");

	make_bad(false);
	snprintf((char *)junk, sizeof(junk), "%s/super", bad);
	(void)unlink((char *)junk);
	refused(PHSTORE_ERR_CORRUPT, "super");
	end_case("foreign folders and files, a missing superblock");
}

static void case_newer(void)
{
	size_t len = 0;
	uint8_t *buf = NULL;
	int slot;

	begin_case();
	for (slot = 0; slot < 3; slot++) {
		make_bad(true);
		buf = file_read(bad, "super", &len);
		if (slot != 1) {
			phstore_push_u32(buf + 8, LOCAL_FORMAT_SINK + 1);
		}
		if (slot != 0) {
			phstore_push_u32(buf + LOCAL_SUPER_SIZE + 8,
					 LOCAL_FORMAT_SINK + 1);
		}
		file_write(bad, "super", buf, len);
		free(buf);
		refused(PHSTORE_ERR_NEWER, "version");
	}
	end_case("a store of a newer release");
}

static void case_super(void)
{
	static const size_t cuts[] = { 0, 1, 100, 4096, 4100 };
	struct phstore *store = NULL;
	enum phstore_err err;
	uint8_t *buf = NULL;
	size_t ofs, len = 0, i;
	int slot;

	begin_case();
	for (slot = 0; slot < 2; slot++) {
		for (ofs = 0; ofs < LOCAL_SUPER_LEN; ofs += 3) {
			/* the version's upper bytes would be NEWER */
			if (ofs >= 8 && ofs < 12) {
				continue;
			}
			make_bad(false);
			file_flip("super", slot * LOCAL_SUPER_SIZE + ofs,
				  1 << (ofs % 8));
			err = open_at(bad, 0, &store);
			CHECK(err == PHSTORE_OK);
			if (err != PHSTORE_OK) {
				continue;
			}
			CHECK(missing(store, NULL) == 0);
			CHECK(num_damaged(store) == 0);
			TALLOC_FREE(store);
		}
	}
	make_bad(false);
	file_flip("super", 50, 1);
	file_flip("super", LOCAL_SUPER_SIZE + 50, 1);
	refused(PHSTORE_ERR_CORRUPT, "both");

	for (i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		make_bad(false);
		buf = file_read(bad, "super", &len);
		file_write(bad, "super", buf, cuts[i]);
		free(buf);
		err = open_at(bad, 0, &store);
		if (cuts[i] >= LOCAL_SUPER_LEN) {
			CHECK(err == PHSTORE_OK);
			CHECK(missing(store, NULL) == 0);
			TALLOC_FREE(store);
		} else {
			CHECK(err == PHSTORE_ERR_CORRUPT);
			CHECK(strstr(phstore_last_error(), "super") != NULL);
		}
	}
	end_case("superblocks: each byte flipped, both damaged, cut short");
}

/* The names of the good store's segments, in order. */
/* Give both superblocks an epoch nobody can have reached. */
static void set_epoch(uint64_t epoch)
{
	struct local_super super = {};
	uint8_t *buf = NULL;
	size_t len = 0;
	int slot;

	make_bad(false);
	buf = file_read(bad, "super", &len);
	for (slot = 0; slot < 2; slot++) {
		uint8_t *p = buf + slot * LOCAL_SUPER_SIZE;

		CHECK(local_super_pull(p, LOCAL_SUPER_LEN, &super) ==
		      PHSTORE_OK);
		/* as an epoch without a frame yet */
		super.epoch = epoch;
		super.epoch_start = super.durable;
		local_super_push(p, &super);
	}
	file_write(bad, "super", buf, len);
	free(buf);
}

/* What is written can be opened again: counters do not run past the end. */
static void case_worn(void)
{
	uint64_t end = UINT64_MAX / 4;
	struct phstore *store = NULL;

	begin_case();
	set_epoch(end + 1);
	CHECK(open_at(bad, 0, &store) == PHSTORE_ERR_CORRUPT);
	CHECK(strstr(phstore_last_error(), "no log gets that far") != NULL);
	CHECK(open_at(bad, PHSTORE_OPEN_RDONLY, &store) == PHSTORE_OK);
	CHECK(missing(store, NULL) == 0);
	TALLOC_FREE(store);

	set_epoch(end - LOCAL_WORN_APPEND);
	CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
	CHECK(missing(store, NULL) == 0);
	CHECK(put(store, "one", "more", 4) == PHSTORE_ERR_CORRUPT);
	TALLOC_FREE(store);
	CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
	TALLOC_FREE(store);

	set_epoch(end - LOCAL_WORN_APPEND - 1);
	CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
	CHECK(put(store, "one", "more", 4) == PHSTORE_OK);
	TALLOC_FREE(store);
	CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
	CHECK(missing(store, NULL) == 0);
	TALLOC_FREE(store);
	end_case("an epoch that no log gets to");
}

static size_t segments(char names[MAX_FILES][32])
{
	size_t num = 0;
	int i;

	for (i = 0; i < MAX_FILES; i++) {
		char path[1024];

		snprintf(names[num], 32, "seg-%016x", i);
		snprintf(path, sizeof(path), "%s/%s", good, names[num]);
		if (access(path, F_OK) == 0) {
			num += 1;
		}
	}
	return num;
}

/* Where frames end in a segment's bytes: behind the seal or the last. */
static size_t used_bytes(const uint8_t *buf, size_t len)
{
	size_t ofs = LOCAL_SEG_HDR;

	while (ofs + PHSTORE_FRAME_HDR <= len) {
		struct phstore_frame_hdr hdr = {};
		bool ok = phstore_frame_pull_hdr(buf + ofs, len - ofs, &hdr);

		if (!ok) {
			break;
		}
		ofs += hdr.len;
	}
	return ofs;
}

/* After damage at ofs: at most one record is gone, and it is told. */
static void check_damaged(const char *name, size_t used, size_t ofs,
			  int at_most)
{
	struct phstore_damage d = {};
	struct phstore *store = NULL;
	struct sums before, after;
	enum phstore_err err;
	uint64_t told;
	int num;

	sums_take(bad, &before);
	err = open_at(bad, PHSTORE_OPEN_RDONLY, &store);
	CHECK(err == PHSTORE_OK);
	if (err == PHSTORE_OK) {
		num = missing(store, NULL);
		CHECK(num >= 0 && num <= at_most);
		CHECK(num == 0 || num_damaged(store) > 0);
		CHECK(num == 0 ||
		      phstore_verify(store) == PHSTORE_ERR_CORRUPT);
		TALLOC_FREE(store);
	}
	sums_take(bad, &after);
	CHECK(sums_same(&before, &after));

	err = open_at(bad, 0, &store);
	CHECK(err == PHSTORE_OK);
	if (err != PHSTORE_OK) {
		printf("# %s, offset %zu\n", name, ofs);
		return;
	}
	num = missing(store, NULL);
	told = num_damaged(store);
	CHECK(num >= 0 && num <= at_most);
	CHECK(num == 0 || told > 0);
	if (ofs < used) {
		CHECK(told > 0);
		CHECK(phstore_damage_get(store, 0, &d) == PHSTORE_OK);
		CHECK(d.file != NULL && strcmp(d.file, name) == 0);
		CHECK(d.reason != NULL && d.reason[0] != '\0');
		CHECK(d.offset <= ofs && ofs < d.offset + d.len);
	} else {
		CHECK(told == 0);
	}
	/* still a store */
	CHECK(put(store, "new", "value", 5) == PHSTORE_OK);
	CHECK(phstore_close(store) == PHSTORE_OK);
	sums_take(bad, &after);
	if (strcmp(before.sums[0].name, "none") != 0) {
		size_t i;

		for (i = 0; i < before.num; i++) {
			const struct sum *s = &before.sums[i];

			if (strcmp(s->name, name) == 0 && told > 0 &&
			    at_most == 1)
			{
				CHECK(sums_have(&after, name, s->crc));
			}
		}
	}
	err = open_at(bad, 0, &store);
	CHECK(err == PHSTORE_OK);
	if (err == PHSTORE_OK) {
		CHECK(missing(store, NULL) == num);
		TALLOC_FREE(store);
	}
	if (!case_ok) {
		printf("# %s, offset %zu of %zu used\n", name, ofs, used);
	}
}

static void case_flips(void)
{
	char names[MAX_FILES][32];
	size_t num = segments(names);
	size_t i;

	begin_case();
	CHECK(num >= 3);
	/* all but the last: that one is written to */
	for (i = 0; i + 1 < num && case_ok; i++) {
		size_t len = 0, used, ofs;
		uint8_t *buf = file_read(good, names[i], &len);

		used = used_bytes(buf, len);
		free(buf);
		for (ofs = 0; ofs < len && case_ok;
		     ofs += ofs < 200 ? 3 : 2741)
		{
			make_bad(false);
			file_flip(names[i], ofs, 1 << (ofs % 8));
			check_damaged(names[i], used, ofs, 1);
		}
		/* the seal */
		make_bad(false);
		file_flip(names[i], used - 5, 8);
		check_damaged(names[i], used, used - 5, 1);
	}
	end_case("bits flipped all over the segments");
}

static void case_last(void)
{
	char names[MAX_FILES][32];
	size_t num = segments(names);
	const char *name = names[num - 1];
	size_t len = 0, used, ofs;
	uint8_t *buf = file_read(good, name, &len);

	begin_case();
	used = used_bytes(buf, len);
	free(buf);
	for (ofs = 0; ofs < used && case_ok; ofs += ofs < 200 ? 5 : 977) {
		make_bad(false);
		file_flip(name, ofs, 1 << (ofs % 8));
		/* 2: so that its bytes are not compared, it is appended to */
		check_damaged(name, used, ofs, 2);
	}
	end_case("bits flipped in the segment in use");
}

static void case_truncated(void)
{
	char names[MAX_FILES][32];
	size_t num = segments(names);
	size_t i;

	begin_case();
	for (i = 0; i < num; i++) {
		static const size_t percent[] = { 0, 1, 30, 100 };
		size_t j;

		for (j = 0; j < 4; j++) {
			struct phstore *store = NULL;
			struct phstore_damage d = {};
			size_t len = 0;
			uint8_t *buf = file_read(good, names[i], &len);
			size_t used = used_bytes(buf, len);
			size_t cut = used * percent[j] / 100;
			enum phstore_err err;
			char path[1024];
			int lost;

			make_bad(false);
			file_write(bad, names[i], buf, cut);
			free(buf);
			if (percent[j] == 0) {
				snprintf(path, sizeof(path), "%s/%s", bad,
					 names[i]);
				(void)unlink(path);
			}
			err = open_at(bad, 0, &store);
			CHECK(err == PHSTORE_OK);
			if (err != PHSTORE_OK) {
				printf("# %s cut to %zu\n", names[i], cut);
				continue;
			}
			lost = missing(store, NULL);
			if (percent[j] == 100) {
				/* only what was never used */
				CHECK(lost == 0);
			} else {
				CHECK(lost > 0 && lost < RECORDS * 2 / 3);
				CHECK(num_damaged(store) > 0);
				CHECK(phstore_damage_get(store, 0, &d) ==
				      PHSTORE_OK);
				CHECK(strcmp(d.file, names[i]) == 0);
			}
			CHECK(put(store, "new", "value", 5) == PHSTORE_OK);
			CHECK(phstore_close(store) == PHSTORE_OK);
			err = open_at(bad, 0, &store);
			CHECK(err == PHSTORE_OK);
			CHECK(missing(store, NULL) == lost);
			TALLOC_FREE(store);
			if (!case_ok) {
				printf("# %s cut to %zu\n", names[i], cut);
				break;
			}
		}
	}
	end_case("segments cut short and missing");
}

static void case_evidence(void)
{
	char names[MAX_FILES][32];
	char kept[64];
	struct phstore *store = NULL;
	struct sums before, after;
	enum phstore_err err;
	bool found = false;
	uint32_t i;
	size_t j;
	int lost = -1;

	begin_case();
	(void)segments(names);
	make_bad(false);
	file_flip(names[0], 3000, 4);
	sums_take(bad, &before);
	err = open_at(bad, 0, &store);
	CHECK(err == PHSTORE_OK);
	CHECK(missing(store, &lost) == 1);
	for (i = 5; i < RECORDS; i++) {
		char key[16];

		key_of(i, key);
		CHECK(del(store, key) == PHSTORE_OK);
	}
	CHECK(phstore_maintain(store) == PHSTORE_OK);
	CHECK(phstore_close(store) == PHSTORE_OK);
	sums_take(bad, &after);
	snprintf(kept, sizeof(kept), "damaged-%.16s", names[0] + 4);
	for (j = 0; j < before.num; j++) {
		if (strcmp(before.sums[j].name, names[0]) == 0) {
			found = sums_have(&after, kept, before.sums[j].crc);
		}
	}
	CHECK(found);
	err = open_at(bad, 0, &store);
	CHECK(err == PHSTORE_OK);
	CHECK(missing(store, NULL) ==
	      RECORDS - 5 + (lost >= 0 && lost < 5 ? 1 : 0));
	CHECK(num_damaged(store) == 0);
	TALLOC_FREE(store);
	end_case("a damaged segment is kept as evidence");
}

static void case_tail(void)
{
	struct phstore_stat st = {};
	struct phstore *store = NULL;
	enum phstore_err err;
	uint64_t lsn = 0;
	char names[MAX_FILES][32];
	char name[32] = {};
	size_t ofs = 0;
	int i;

	begin_case();
	make_bad(false);
	CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
	for (i = 0; i < 3; i++) {
		struct phstore_txn *txn = phstore_txn_new(store, store);
		char key[16];

		snprintf(key, sizeof(key), "late%d", i);
		(void)phstore_txn_put(txn, "t",
				      (struct phstore_blob) { key, 5 },
				      (struct phstore_blob) { top, 500 },
				      NULL);
		(void)phstore_stat(store, &st);
		CHECK(phstore_stage(txn, &lsn) == PHSTORE_OK);
		if (i == 1) {
			struct local_store *ls = store->backend;
			const struct local_seg *seg = local_seg_last(ls);

			ofs = st.head_lsn - seg->start + 300;
			snprintf(name, sizeof(name), "seg-%016" PRIx64,
				 seg->segno);
		}
	}
	TALLOC_FREE(store);
	(void)segments(names);
	/* a reboot, and the middle one of three unsynced is torn */
	snprintf(names[0], 32, "state");
	file_write(bad, "state", "", 0);
	file_flip(name, ofs, 16);
	err = open_at(bad, 0, &store);
	CHECK(err == PHSTORE_OK);
	CHECK(num_damaged(store) == 0);
	CHECK(missing(store, NULL) == 0);
	(void)phstore_stat(store, &st);
	CHECK(st.num_records == RECORDS + 1);
	CHECK(st.torn_tail_bytes > 0);
	TALLOC_FREE(store);
	end_case("a torn tail is cut, not called damage");
}

static void case_temporary(void)
{
	static uint8_t junk[300000];
	static const size_t sizes[] = { 0, 7, 5000, sizeof(junk) };
	struct phstore *store = NULL;
	size_t i;

	begin_case();
	for (i = 0; i < sizeof(junk); i++) {
		junk[i] = (uint8_t)(i * 17 + 3);
	}
	for (i = 0; i < 4; i++) {
		make_bad(true);
		file_write(bad, "state", junk, sizes[i]);
		file_write(bad, "index.1", junk, sizes[i]);
		file_write(bad, "index.2", junk, sizes[i]);
		CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
		CHECK(missing(store, NULL) == 0);
		TALLOC_FREE(store);
	}
	end_case("rubbish in state and index");
}

static void case_sizes(void)
{
	struct phstore *store = NULL;
	struct phstore_txn *txn = NULL;
	struct phstore_record rec = {};
	static char key[PHSTORE_KEY_MAX + 2], table[80];
	uint8_t *big = calloc(1, PHSTORE_VALUE_MAX + 1);
	struct phstore_blob k = { key, PHSTORE_KEY_MAX };
	struct phstore_blob v = { big, PHSTORE_VALUE_MAX };
	struct phstore_blob small = { "k", 1 };
	enum phstore_err err = PHSTORE_OK;
	int i;

	begin_case();
	memset(key, 'k', PHSTORE_KEY_MAX + 1);
	memset(table, 't', 65);
	make_bad(false);
	CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
	txn = phstore_txn_new(store, store);
	k.len += 1;
	CHECK(phstore_txn_put(txn, "t", k, small, NULL) ==
	      PHSTORE_ERR_TOO_BIG);
	CHECK(phstore_get(store, store, "t", k, &rec) ==
	      PHSTORE_ERR_TOO_BIG);
	k.len -= 1;
	v.len += 1;
	CHECK(phstore_txn_put(txn, "t", k, v, NULL) == PHSTORE_ERR_TOO_BIG);
	v.len -= 1;
	CHECK(phstore_txn_put(txn, table, small, small, NULL) ==
	      PHSTORE_ERR_INVALID);
	CHECK(phstore_txn_put(txn, "", small, small, NULL) ==
	      PHSTORE_ERR_INVALID);
	CHECK(phstore_txn_put(txn, NULL, small, small, NULL) ==
	      PHSTORE_ERR_INVALID);
	k.len = 0;
	CHECK(phstore_txn_put(txn, "t", k, small, NULL) ==
	      PHSTORE_ERR_INVALID);
	CHECK(phstore_commit(txn, NULL) == PHSTORE_ERR_INVALID);
	k.len = PHSTORE_KEY_MAX;
	talloc_free(txn);

	txn = phstore_txn_new(store, store);
	for (i = 0; i < PHSTORE_TXN_OPS_MAX + 1; i++) {
		err = phstore_txn_delete(txn, "t", small, NULL);
		CHECK((err == PHSTORE_OK) == (i < PHSTORE_TXN_OPS_MAX));
	}
	CHECK(err == PHSTORE_ERR_TOO_BIG);
	talloc_free(txn);
	txn = phstore_txn_new(store, store);
	for (i = 0, err = PHSTORE_OK; err == PHSTORE_OK && i < 5; i++) {
		err = phstore_txn_put(txn, "t", small, v, NULL);
	}
	CHECK(err == PHSTORE_ERR_TOO_BIG && i == 4);
	talloc_free(txn);

	/* the largest of each */
	memset(big, 'v', PHSTORE_VALUE_MAX);
	txn = phstore_txn_new(store, store);
	table[64] = '\0';
	CHECK(phstore_txn_put(txn, table, k, v, NULL) == PHSTORE_OK);
	CHECK(phstore_commit(txn, NULL) == PHSTORE_OK);
	CHECK(missing(store, NULL) == 0);
	CHECK(phstore_close(store) == PHSTORE_OK);
	CHECK(open_at(bad, 0, &store) == PHSTORE_OK);
	CHECK(missing(store, NULL) == 0);
	CHECK(phstore_get(store, store, table, k, &rec) == PHSTORE_OK);
	CHECK(rec.value.len == v.len &&
	      memcmp(rec.value.data, big, v.len) == 0);
	CHECK(num_damaged(store) == 0);
	TALLOC_FREE(store);
	free(big);
	end_case("keys, values and transactions: too big, and the largest");
}

static void case_options(void)
{
	static const uint64_t sizes[] = { 1, 65535, 65536 + 1, 1ULL << 31 };
	struct phstore_open_options opts = {
		.flags = PHSTORE_OPEN_CREATE | PHSTORE_OPEN_ALLOW_VOLATILE,
	};
	struct phstore *store = NULL;
	struct statfs fs = {};
	char *path = NULL;
	size_t i;

	begin_case();
	wipe(bad);
	for (i = 0; i < 4; i++) {
		opts.segment_size = sizes[i];
		CHECK(phstore_open(NULL, bad, &opts, &store) ==
		      PHSTORE_ERR_INVALID);
	}
	CHECK(access(bad, F_OK) == -1);
	opts.segment_size = 0;
	opts.backend = "rubber";
	CHECK(phstore_open(NULL, bad, &opts, &store) == PHSTORE_ERR_INVALID);
	opts.backend = "local";
	path = malloc(6000);
	memset(path, '/', 6000);
	path[5999] = '\0';
	CHECK(phstore_open(NULL, path, &opts, &store) ==
	      PHSTORE_ERR_INVALID);
	CHECK(phstore_open(NULL, "", &opts, &store) == PHSTORE_ERR_INVALID);
	CHECK(phstore_open(NULL, NULL, &opts, &store) ==
	      PHSTORE_ERR_INVALID);
	free(path);
	if (statfs(top, &fs) == 0 && fs.f_type == 0x01021994) {
		opts.flags = PHSTORE_OPEN_CREATE;
		CHECK(phstore_open(NULL, bad, &opts, &store) ==
		      PHSTORE_ERR_VOLATILE_FS);
	}
	end_case("options that are not acceptable, tmpfs");
}

static void read_only_ops(void)
{
	struct phstore *store = NULL;
	struct phstore_stat st = {};
	enum phstore_err err;

	err = open_at(bad, PHSTORE_OPEN_RDONLY, &store);
	CHECK(err == PHSTORE_OK);
	if (err != PHSTORE_OK) {
		return;
	}
	CHECK(missing(store, NULL) == 0);
	CHECK(put(store, "x", "y", 1) == PHSTORE_ERR_READ_ONLY);
	CHECK(del(store, "key001") == PHSTORE_ERR_READ_ONLY);
	CHECK(phstore_room(store, 1) == PHSTORE_ERR_READ_ONLY);
	CHECK(phstore_maintain(store) == PHSTORE_OK);
	CHECK(phstore_verify(store) == PHSTORE_OK);
	CHECK(phstore_stat(store, &st) == PHSTORE_OK);
	CHECK(!st.live && st.num_records == RECORDS);
	CHECK(phstore_close(store) == PHSTORE_OK);
}

static void case_read_only(void)
{
	struct sums before, after;
	struct phstore *store = NULL;
	char path[1024];
	char names[MAX_FILES][32];
	size_t num = segments(names);
	size_t i;
	int status = 0;
	pid_t pid;

	begin_case();
	make_bad(false);
	sums_take(bad, &before);
	read_only_ops();
	sums_take(bad, &after);
	CHECK(sums_same(&before, &after));
	snprintf(path, sizeof(path), "%s/state", bad);
	CHECK(access(path, F_OK) == -1);

	/* somebody who may only read */
	(void)chmod(top, 0755);
	(void)chmod(bad, 0555);
	for (i = 0; i < before.num; i++) {
		snprintf(path, sizeof(path), "%s/%s", bad,
			 before.sums[i].name);
		(void)chmod(path, 0444);
	}
	(void)num;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (getuid() == 0 && (setgid(65534) != 0 ||
				      setuid(65534) != 0))
		{
			_exit(2);
		}
		CHECK(open_at(bad, PHSTORE_OPEN_CREATE, &store) ==
		      PHSTORE_ERR_READ_ONLY);
		CHECK(strstr(phstore_last_error(), bad) != NULL);
		read_only_ops();
		fflush(stdout);
		_exit(case_ok ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	CHECK(status == 0);
	sums_take(bad, &after);
	CHECK(sums_same(&before, &after));
	end_case("read-only: by flag, and by permission");

	begin_case();
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int ret = unshare(CLONE_NEWNS);

		if (ret == 0) {
			ret = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE,
				    NULL);
		}
		if (ret == 0) {
			ret = mount(bad, bad, NULL, MS_BIND, NULL);
		}
		if (ret == 0) {
			ret = mount(NULL, bad, NULL, MS_REMOUNT | MS_BIND |
				    MS_RDONLY, NULL);
		}
		if (ret == -1) {
			_exit(77);
		}
		CHECK(open_at(bad, PHSTORE_OPEN_CREATE, &store) ==
		      PHSTORE_ERR_READ_ONLY);
		read_only_ops();
		fflush(stdout);
		_exit(case_ok ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		num_cases += 1;
		printf("ok %d - read-only file system # SKIP no mounts\n",
		       num_cases);
		return;
	}
	CHECK(status == 0);
	sums_take(bad, &after);
	CHECK(sums_same(&before, &after));
	end_case("read-only file system");
}

int main(void)
{
	int ret = access("/dev/shm", W_OK);

	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(top, sizeof(top), "%s/phstore-bad-XXXXXX",
		 ret == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(top) == NULL) {
		printf("cannot make %s\n", top);
		return 1;
	}
	snprintf(good, sizeof(good), "%s/good", top);
	snprintf(bad, sizeof(bad), "%s/bad", top);
	make_good();
	case_foreign();
	case_newer();
	case_super();
	case_worn();
	case_flips();
	case_last();
	case_truncated();
	case_evidence();
	case_tail();
	case_temporary();
	case_sizes();
	case_options();
	case_read_only();
	printf("1..%d\n", num_cases);
	wipe(good);
	wipe(bad);
	wipe(top);
	return num_bad == 0 ? 0 : 1;
}

/*
 * phstore tests: a fixed sequence of transactions
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include "crash_script.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEYS 16
#define MAX_OPS 3

struct op {
	uint32_t key;
	bool del;
	uint32_t len;
};

struct script_state {
	bool there[KEYS];
	uint32_t value[KEYS];	/* transaction that put it */
	uint32_t len[KEYS];
};

static uint32_t mix(uint32_t a, uint32_t b)
{
	uint64_t x = ((uint64_t)a << 32 | b) + 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return (uint32_t)(x >> 32);
}

static uint32_t script_ops(uint32_t i, struct op ops[MAX_OPS])
{
	uint32_t num = 1 + mix(i, 1) % MAX_OPS;
	uint32_t key = mix(i, 2);
	uint32_t j;

	for (j = 0; j < num; j++) {
		uint32_t r = mix(i, 10 + j);

		key = (key + 1 + mix(i, 20 + j) % (KEYS / MAX_OPS)) % KEYS;
		ops[j] = (struct op) {
			.key = key,
			.del = r % 3 == 0,
			.len = 16 + (r >> 8) % 6000,
		};
		if (r % 41 == 0) {
			ops[j].len = 30000;
		}
	}
	return num;
}

static const char *table_of(uint32_t key)
{
	return key % 2 ? "locking" : "open";
}

static struct phstore_blob key_of(uint32_t key, char buf[16])
{
	snprintf(buf, 16, "k%02u", key);
	return (struct phstore_blob) { .data = buf, .len = 3 };
}

static uint8_t byte_of(uint32_t i, uint32_t key, uint32_t ofs)
{
	return (uint8_t)(i * 131 + key * 17 + ofs * 7 + (ofs >> 8));
}

static uid_t script_uid;

/* of this thread, as smbd does it */
static void script_become(uid_t uid)
{
	long ret = syscall(SYS_setresuid, -1, uid, -1);

	if (ret == -1) {
		abort();
	}
}

static void script_as_owner(void *private_data)
{
	(void)private_data;
	if (script_uid != 0) {
		script_become(0);
	}
}

static void script_as_before(void *private_data)
{
	(void)private_data;
	if (script_uid != 0) {
		script_become(script_uid);
	}
}

bool script_as_user(uid_t uid)
{
	if (getuid() != 0) {
		return false;
	}
	script_uid = uid;
	script_become(uid);
	return true;
}

enum phstore_err script_open(const char *path, uint32_t flags,
			     struct phstore **store)
{
	struct phstore_open_options opts = {
		.flags = flags | PHSTORE_OPEN_ALLOW_VOLATILE,
		.segment_size = SCRIPT_SEGMENT,
		.become_owner = script_as_owner,
		.unbecome_owner = script_as_before,
	};

	return phstore_open(NULL, path, &opts, store);
}

static struct phstore_txn *script_build(struct phstore *store, uint32_t i)
{
	struct phstore_txn *txn = phstore_txn_new(NULL, store);
	static uint8_t value[32768];
	struct op ops[MAX_OPS];
	uint32_t num = script_ops(i, ops);
	enum phstore_err err = PHSTORE_OK;
	uint32_t j, n;

	for (j = 0; j < num && err == PHSTORE_OK; j++) {
		struct op *op = &ops[j];
		char buf[16];

		if (op->del) {
			err = phstore_txn_delete(txn, table_of(op->key),
						 key_of(op->key, buf), NULL);
			continue;
		}
		for (n = 0; n < op->len; n++) {
			value[n] = byte_of(i, op->key, n);
		}
		memcpy(value, &i, sizeof(i));
		err = phstore_txn_put(txn, table_of(op->key),
				      key_of(op->key, buf),
				      (struct phstore_blob) {
					      .data = value,
					      .len = op->len,
				      }, NULL);
	}
	if (err != PHSTORE_OK) {
		printf("# building %u: %s\n", i, phstore_last_error());
		abort();
	}
	return txn;
}

enum phstore_err script_stage(struct phstore *store, uint32_t i,
			      uint64_t *lsn)
{
	struct phstore_txn *txn = script_build(store, i);
	enum phstore_err err;

	err = phstore_stage(txn, lsn);
	talloc_free(txn);
	return err;
}

enum phstore_err script_commit(struct phstore *store, uint32_t i)
{
	struct phstore_txn *txn = script_build(store, i);
	enum phstore_err err;

	err = phstore_commit(txn, NULL);
	talloc_free(txn);
	return err;
}

static void state_apply(struct script_state *s, uint32_t i)
{
	struct op ops[MAX_OPS];
	uint32_t num = script_ops(i, ops);
	uint32_t j;

	for (j = 0; j < num; j++) {
		uint32_t key = ops[j].key;

		s->there[key] = !ops[j].del;
		s->value[key] = ops[j].del ? 0 : i;
		s->len[key] = ops[j].del ? 0 : ops[j].len;
	}
}

struct found {
	struct script_state s;
	bool bad;
};

static int scan_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	struct found *f = private_data;
	const uint8_t *p = rec->value.data;
	unsigned int key = KEYS;
	char buf[16] = {};
	uint32_t i, n;

	if (rec->key.len == 3) {
		memcpy(buf, rec->key.data, 3);
		(void)sscanf(buf, "k%u", &key);
	}
	if (key >= KEYS || strcmp(table, table_of(key)) != 0 ||
	    f->s.there[key] || rec->value.len < sizeof(i))
	{
		printf("# a record nobody put, or twice: %s in %s\n", buf,
		       table);
		f->bad = true;
		return 1;
	}
	memcpy(&i, p, sizeof(i));
	for (n = sizeof(i); n < rec->value.len; n++) {
		if (p[n] != byte_of(i, key, n)) {
			printf("# key %u: byte %u is wrong\n", key, n);
			f->bad = true;
			return 1;
		}
	}
	f->s.there[key] = true;
	f->s.value[key] = i;
	f->s.len[key] = (uint32_t)rec->value.len;
	return 0;
}

static void state_tell(const char *what, const struct script_state *s)
{
	uint32_t key;

	printf("# %s:", what);
	for (key = 0; key < KEYS; key++) {
		if (s->there[key]) {
			printf(" %u", s->value[key]);
		} else {
			printf(" -");
		}
	}
	printf("\n");
}

int script_find(struct phstore *store, uint32_t lo, uint32_t hi)
{
	struct script_state s = {};
	struct found f = {};
	enum phstore_err err;
	int found = -1;
	uint32_t k;

	err = phstore_scan(store, NULL, scan_fn, &f, NULL);
	if (err != PHSTORE_OK) {
		printf("# scan: %s: %s\n", phstore_errname(err),
		       phstore_last_error());
		return -1;
	}
	if (f.bad) {
		return -1;
	}
	for (k = 0; k <= hi; k++) {
		if (k > 0) {
			state_apply(&s, k - 1);
		}
		if (k >= lo && memcmp(&s, &f.s, sizeof(s)) == 0) {
			found = (int)k;
		}
	}
	if (found == -1) {
		printf("# not the state after %u to %u transactions\n", lo,
		       hi);
		state_tell("found ", &f.s);
		state_tell("wanted", &s);
	}
	return found;
}

bool script_check_counters(struct phstore *store, uint32_t k)
{
	struct script_state s = {};
	struct phstore_stat st = {};
	uint64_t records = 0, live = 0;
	enum phstore_err err;
	uint32_t key, i;

	for (i = 0; i < k; i++) {
		state_apply(&s, i);
	}
	for (key = 0; key < KEYS; key++) {
		if (!s.there[key]) {
			continue;
		}
		records += 1;
		/* frame and operation header, table, key, value */
		live += 40 + 32 + strlen(table_of(key)) + 3 + s.len[key];
	}
	err = phstore_stat(store, &st);
	if (err != PHSTORE_OK) {
		printf("# stat: %s\n", phstore_last_error());
		return false;
	}
	if (st.num_records != records || st.live_bytes != live ||
	    st.num_tombstones > 1000000 || st.num_damaged != 0)
	{
		printf("# %" PRIu64 " records, %" PRIu64 " live bytes, not %"
		       PRIu64 " and %" PRIu64 "; %" PRIu64 " tombstones, %"
		       PRIu64 " damaged\n", st.num_records, st.live_bytes,
		       records, live, st.num_tombstones, st.num_damaged);
		return false;
	}
	if (st.durable_lsn > st.head_lsn || st.tail_lsn > st.head_lsn ||
	    st.log_bytes != st.head_lsn - st.tail_lsn)
	{
		printf("# tail %" PRIu64 ", durable %" PRIu64 ", head %"
		       PRIu64 "\n", st.tail_lsn, st.durable_lsn,
		       st.head_lsn);
		return false;
	}
	return true;
}

uint64_t script_count_segments(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de = NULL;
	uint64_t num = 0;

	if (dir == NULL) {
		return 0;
	}
	while ((de = readdir(dir)) != NULL) {
		num += strncmp(de->d_name, "seg-", 4) == 0;
	}
	closedir(dir);
	return num;
}

char *script_tmpdir(const char *name)
{
	struct stat st = {};
	char *path = NULL;
	int ret = stat("/dev/shm", &st);

	path = talloc_asprintf(NULL, "%s/phstore-%s-XXXXXX",
			       ret == 0 ? "/dev/shm" : "/tmp", name);
	return mkdtemp(path);
}

void script_rmdir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de = NULL;

	if (dir == NULL) {
		return;
	}
	while ((de = readdir(dir)) != NULL) {
		if (de->d_name[0] != '.') {
			(void)unlinkat(dirfd(dir), de->d_name, 0);
		}
	}
	closedir(dir);
	(void)rmdir(path);
}

static bool copy_file(int from_dir, int to_dir, const char *name)
{
	static char buf[65536];
	bool ok = false;
	ssize_t n = 1;
	int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC);
	int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_TRUNC |
			O_CLOEXEC, 0600);

	while (from != -1 && to != -1 && n > 0) {
		n = read(from, buf, sizeof(buf));
		if (n > 0 && write(to, buf, n) != n) {
			n = -1;
		}
		ok = n == 0;
	}
	if (from != -1) {
		close(from);
	}
	if (to != -1) {
		close(to);
	}
	return ok;
}

bool script_copy(const char *from, const char *to, bool without_state)
{
	DIR *dir = NULL;
	DIR *to_dir = NULL;
	struct dirent *de = NULL;
	bool ok = true;

	script_rmdir(to);
	(void)mkdir(to, 0700);
	dir = opendir(from);
	to_dir = opendir(to);
	if (dir == NULL || to_dir == NULL) {
		return false;
	}
	while (ok && (de = readdir(dir)) != NULL) {
		if (de->d_name[0] == '.' ||
		    (without_state &&
		     (strcmp(de->d_name, "state") == 0 ||
		      strcmp(de->d_name, "lock") == 0 ||
		      strncmp(de->d_name, "index.", 6) == 0)))
		{
			continue;
		}
		ok = copy_file(dirfd(dir), dirfd(to_dir), de->d_name);
	}
	closedir(dir);
	closedir(to_dir);
	return ok;
}

/*
 * phstore tests: what phstore.h promises
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * One test per promise; the names say which. Each begins with an empty
 * store with 64 KiB segments.
 *
 * Seen to fail with each of these changes to the store, one at a time:
 *   expected versions not compared; explicit ones not compared
 *   skip_same not looking at the transaction's own earlier operations
 *   the event loops' sockets made with the umask's mode
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <tevent.h>
#include <unistd.h>

#include "phstore.h"
#include "phstore_io.h"

static char dir[64];
static struct phstore *store;

static struct phstore_blob blob(const char *s)
{
	return (struct phstore_blob) { .data = s, .len = strlen(s) };
}

static enum phstore_err open_it(uint32_t flags, struct phstore **ps)
{
	struct phstore_open_options opts = {
		.flags = flags | PHSTORE_OPEN_ALLOW_VOLATILE,
		.segment_size = 65536,
	};

	return phstore_open(NULL, dir, &opts, ps);
}

static int set_up(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/dev/shm/phstore-store-XXXXXX");
	if (mkdtemp(dir) == NULL) {
		snprintf(dir, sizeof(dir), "/tmp/phstore-store-XXXXXX");
		if (mkdtemp(dir) == NULL) {
			return -1;
		}
	}
	return open_it(PHSTORE_OPEN_CREATE, &store) == PHSTORE_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	DIR *d = NULL;
	struct dirent *de = NULL;

	(void)state;
	TALLOC_FREE(store);
	d = opendir(dir);
	while (d != NULL && (de = readdir(d)) != NULL) {
		if (de->d_name[0] != '.') {
			(void)unlinkat(dirfd(d), de->d_name, 0);
		}
	}
	if (d != NULL) {
		closedir(d);
	}
	return rmdir(dir);
}

static enum phstore_err put(const char *table, const char *key,
			    const char *value,
			    const struct phstore_op_options *opts,
			    uint64_t *lsn)
{
	struct phstore_txn *txn = phstore_txn_new(store, store);
	enum phstore_err err;
	uint64_t dummy = 0;

	err = value != NULL ?
	      phstore_txn_put(txn, table, blob(key), blob(value), opts) :
	      phstore_txn_delete(txn, table, blob(key), opts);
	if (err == PHSTORE_OK) {
		err = phstore_stage(txn, lsn != NULL ? lsn : &dummy);
	}
	talloc_free(txn);
	return err;
}

static struct phstore_version get(const char *table, const char *key,
				  const char *value)
{
	struct phstore_record rec = {};
	enum phstore_err err;

	err = phstore_get(store, store, table, blob(key), &rec);
	if (value == NULL) {
		assert_int_equal(err, PHSTORE_ERR_NOT_FOUND);
		return (struct phstore_version) {};
	}
	assert_int_equal(err, PHSTORE_OK);
	assert_int_equal(rec.value.len, strlen(value));
	assert_memory_equal(rec.value.data, value, rec.value.len);
	assert_int_equal(rec.key.len, strlen(key));
	assert_memory_equal(rec.key.data, key, rec.key.len);
	return rec.version;
}

static bool above(struct phstore_version a, struct phstore_version b)
{
	return a.epoch != b.epoch ? a.epoch > b.epoch : a.seq > b.seq;
}

static void test_versions_grow(void **state)
{
	struct phstore_version v[5];
	int i;

	(void)state;
	for (i = 0; i < 5; i++) {
		if (i == 2) {
			/* also over a deletion and a restart */
			assert_int_equal(put("t", "k", NULL, NULL, NULL),
					 PHSTORE_OK);
			get("t", "k", NULL);
		}
		if (i == 3) {
			assert_int_equal(phstore_close(store), PHSTORE_OK);
			assert_int_equal(open_it(0, &store), PHSTORE_OK);
		}
		assert_int_equal(put("t", "k", "value", NULL, NULL),
				 PHSTORE_OK);
		v[i] = get("t", "k", "value");
		assert_true(i == 0 || above(v[i], v[i - 1]));
	}
}

static void test_expected_version(void **state)
{
	struct phstore_op_options opts = { .check_version = true };

	(void)state;
	/* {0, 0}: must not be there */
	assert_int_equal(put("t", "k", "one", &opts, NULL), PHSTORE_OK);
	assert_int_equal(put("t", "k", "two", &opts, NULL),
			 PHSTORE_ERR_CONFLICT);
	opts.expected = get("t", "k", "one");
	assert_int_equal(put("t", "k", "two", &opts, NULL), PHSTORE_OK);
	assert_int_equal(put("t", "k", "three", &opts, NULL),
			 PHSTORE_ERR_CONFLICT);
	assert_int_equal(put("t", "k", NULL, &opts, NULL),
			 PHSTORE_ERR_CONFLICT);
	opts.expected = get("t", "k", "two");
	assert_int_equal(put("t", "k", NULL, &opts, NULL), PHSTORE_OK);
	/* a deleted record is not there */
	opts.expected = (struct phstore_version) {};
	assert_int_equal(put("t", "k", "four", &opts, NULL), PHSTORE_OK);
	get("t", "k", "four");
}

static void test_explicit_version(void **state)
{
	struct phstore_op_options opts = { .version = { 100, 5 } };
	struct phstore_version v;

	(void)state;
	assert_int_equal(put("t", "k", "a", &opts, NULL), PHSTORE_OK);
	v = get("t", "k", "a");
	assert_int_equal(v.epoch, 100);
	assert_int_equal(v.seq, 5);
	opts.version.seq = 4;
	assert_int_equal(put("t", "k", "b", &opts, NULL), PHSTORE_ERR_STALE);
	opts.version = (struct phstore_version) { 99, 1000 };
	assert_int_equal(put("t", "k", NULL, &opts, NULL),
			 PHSTORE_ERR_STALE);
	get("t", "k", "a");
	/* a replay is accepted */
	opts.version = (struct phstore_version) { 100, 5 };
	assert_int_equal(put("t", "k", "a", &opts, NULL), PHSTORE_OK);
	/* one of the store's own making goes above it */
	assert_int_equal(put("t", "k", "c", NULL, NULL), PHSTORE_OK);
	assert_true(above(get("t", "k", "c"), v));
	/* a tombstone keeps its version, too */
	opts.version = (struct phstore_version) { 200, 0 };
	assert_int_equal(put("t", "k", NULL, &opts, NULL), PHSTORE_OK);
	opts.version = (struct phstore_version) { 150, 0 };
	assert_int_equal(put("t", "k", "z", &opts, NULL), PHSTORE_ERR_STALE);
	get("t", "k", NULL);
}

static void test_all_or_nothing(void **state)
{
	struct phstore_op_options wrong = {
		.check_version = true, .expected = { 7, 7 },
	};
	struct phstore_txn *txn = phstore_txn_new(store, store);
	struct phstore_stat before = {}, after = {};
	uint64_t lsn = 0;
	int i;

	(void)state;
	assert_int_equal(put("t", "b", "old", NULL, NULL), PHSTORE_OK);
	phstore_stat(store, &before);
	phstore_txn_put(txn, "t", blob("a"), blob("1"), NULL);
	phstore_txn_delete(txn, "t", blob("b"), NULL);
	phstore_txn_put(txn, "u", blob("c"), blob("3"), &wrong);
	assert_int_equal(phstore_stage(txn, &lsn), PHSTORE_ERR_CONFLICT);
	assert_int_equal(phstore_stage(txn, &lsn), PHSTORE_ERR_INVALID);
	assert_int_equal(phstore_txn_put(txn, "t", blob("d"), blob("4"),
					 NULL), PHSTORE_ERR_INVALID);
	get("t", "a", NULL);
	get("t", "b", "old");
	phstore_stat(store, &after);
	assert_int_equal(before.head_lsn, after.head_lsn);

	txn = phstore_txn_new(store, store);
	for (i = 0; i < PHSTORE_TXN_OPS_MAX; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%d", i);
		phstore_txn_put(txn, "many", blob(key), blob(key), NULL);
	}
	assert_int_equal(phstore_commit(txn, &lsn), PHSTORE_OK);
	assert_true(phstore_is_durable(store, lsn));
	get("many", "0", "0");
	get("many", "1023", "1023");
	phstore_stat(store, &after);
	assert_int_equal(after.num_records, 1 + PHSTORE_TXN_OPS_MAX);
}

static void test_same_key_twice(void **state)
{
	struct phstore_op_options same = { .skip_same = true };
	struct phstore_txn *txn = NULL;
	uint64_t lsn = 0;

	(void)state;
	assert_int_equal(put("t", "k", "A", NULL, NULL), PHSTORE_OK);
	txn = phstore_txn_new(store, store);
	phstore_txn_put(txn, "t", blob("k"), blob("B"), NULL);
	phstore_txn_put(txn, "t", blob("k"), blob("A"), &same);
	assert_int_equal(phstore_stage(txn, &lsn), PHSTORE_OK);
	/* the last one counts, though the store had it before */
	get("t", "k", "A");
	txn = phstore_txn_new(store, store);
	phstore_txn_delete(txn, "t", blob("k"), NULL);
	phstore_txn_put(txn, "t", blob("k"), blob("C"), NULL);
	assert_int_equal(phstore_stage(txn, &lsn), PHSTORE_OK);
	get("t", "k", "C");
}

static void test_skip_same(void **state)
{
	struct phstore_op_options same = {
		.durability = PHSTORE_CLASS_LOCAL,
		.skip_same = true,
	};
	struct phstore_stat st = {};
	uint64_t first = 0, lsn = 0, head;

	(void)state;
	assert_int_equal(put("t", "k", "value", &same, &first), PHSTORE_OK);
	assert_int_equal(put("t", "other", "x", NULL, NULL), PHSTORE_OK);
	phstore_stat(store, &st);
	head = st.head_lsn;
	assert_int_equal(put("t", "k", "value", &same, &lsn), PHSTORE_OK);
	/* the LSN covers what is stored, which is not durable yet */
	assert_int_equal(lsn, first);
	assert_false(phstore_is_durable(store, lsn));
	assert_int_equal(put("t", "gone", NULL, &same, &lsn), PHSTORE_OK);
	phstore_stat(store, &st);
	assert_int_equal(st.head_lsn, head);
	assert_int_equal(st.num_elided, 2);
	/* as long, but not the same; and the same in a stronger class */
	assert_int_equal(put("t", "k", "valuE", &same, &lsn), PHSTORE_OK);
	assert_true(lsn > head);
	same.durability = PHSTORE_CLASS_SYNC;
	head = lsn;
	assert_int_equal(put("t", "k", "valuE", &same, &lsn), PHSTORE_OK);
	assert_true(lsn > head);
	get("t", "k", "valuE");
}

static void test_classes(void **state)
{
	struct phstore_op_options opts = {
		.durability = PHSTORE_CLASS_LOCAL,
	};
	struct phstore_record rec = {};
	struct phstore_txn *txn = phstore_txn_new(store, store);
	uint64_t lsn = 0;

	(void)state;
	phstore_txn_put(txn, "t", blob("l"), blob("v"), &opts);
	assert_int_equal(phstore_commit(txn, &lsn), PHSTORE_OK);
	assert_false(phstore_is_durable(store, lsn));
	phstore_get(store, store, "t", blob("l"), &rec);
	assert_int_equal(rec.durability, PHSTORE_CLASS_LOCAL);
	assert_int_equal(rec.lsn, lsn);
	/* one sync operation makes the whole transaction wait */
	txn = phstore_txn_new(store, store);
	phstore_txn_put(txn, "t", blob("m"), blob("v"), &opts);
	opts.durability = PHSTORE_CLASS_SYNC;
	phstore_txn_put(txn, "t", blob("n"), blob("v"), &opts);
	assert_int_equal(phstore_commit(txn, &lsn), PHSTORE_OK);
	assert_true(phstore_is_durable(store, lsn));
	opts.durability = (enum phstore_class)3;
	txn = phstore_txn_new(store, store);
	assert_int_equal(phstore_txn_put(txn, "t", blob("o"), blob("v"),
					 &opts), PHSTORE_ERR_INVALID);
}

struct scan_state {
	int num;
	int stop_at;
	int num_new;
};

static int scan_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	struct scan_state *s = private_data;
	char key[32];

	assert_string_equal(table, "t");
	s->num += 1;
	if (memcmp(rec->key.data, "new", 3) == 0) {
		s->num_new += 1;
	}
	/* staging inside is allowed and not part of the snapshot */
	snprintf(key, sizeof(key), "new%d", s->num);
	assert_int_equal(put("t", key, "x", NULL, NULL), PHSTORE_OK);
	return s->num == s->stop_at;
}

static void test_scan(void **state)
{
	struct scan_state s = { .stop_at = -1 };
	const char **names = NULL;
	size_t num_names = 0;
	uint64_t count = 0;
	int i;

	(void)state;
	assert_int_equal(phstore_scan(store, NULL, scan_fn, &s, &count),
			 PHSTORE_OK);
	assert_int_equal(count, 0);
	for (i = 0; i < 100; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		put("t", key, "v", NULL, NULL);
		/* a name that begins with the other's */
		put("tt", key, "v", NULL, NULL);
	}
	put("t", "k50", NULL, NULL, NULL);
	put("a", "x", "v", NULL, NULL);
	put("b", "x", "v", NULL, NULL);
	put("b", "x", NULL, NULL, NULL);
	assert_int_equal(phstore_scan(store, "t", scan_fn, &s, &count),
			 PHSTORE_OK);
	assert_int_equal(count, 99);
	assert_int_equal(s.num_new, 0);
	s = (struct scan_state) { .stop_at = 7 };
	assert_int_equal(phstore_scan(store, "t", scan_fn, &s, &count),
			 PHSTORE_OK);
	assert_int_equal(count, 7);
	assert_int_equal(phstore_tables(store, store, &names, &num_names),
			 PHSTORE_OK);
	assert_int_equal(num_names, 3);
	assert_string_equal(names[0], "a");
	assert_string_equal(names[1], "t");
	assert_string_equal(names[2], "tt");
}

static void test_barrier(void **state)
{
	struct phstore_stat st = {};
	uint64_t lsn = 0;

	(void)state;
	assert_int_equal(put("t", "k", "v", NULL, &lsn), PHSTORE_OK);
	assert_false(phstore_is_durable(store, lsn));
	assert_int_equal(phstore_barrier(store, lsn + 8, 0),
			 PHSTORE_ERR_INVALID);
	assert_int_equal(phstore_barrier(store, lsn, 0), PHSTORE_OK);
	assert_true(phstore_is_durable(store, lsn));
	phstore_stat(store, &st);
	assert_int_equal(st.durable_lsn, lsn);
	assert_int_equal(phstore_barrier(store, 0, 0), PHSTORE_OK);
}

static void count_done(struct tevent_req *req)
{
	int *num = tevent_req_callback_data_void(req);

	assert_int_equal(phstore_barrier_recv(req), PHSTORE_OK);
	*num += 1;
}

static void test_async(void **state)
{
	struct tevent_context *ev = tevent_context_init(NULL);
	struct tevent_req *req = NULL, *early = NULL;
	uint64_t lsn = 0;
	int num = 0;
	int i;

	(void)state;
	for (i = 0; i < 200; i++) {
		assert_int_equal(put("t", "k", "v", NULL, &lsn),
				 PHSTORE_OK);
		req = phstore_barrier_send(ev, ev, store, lsn);
		assert_non_null(req);
		tevent_req_set_callback(req, count_done, &num);
	}
	while (num < 200) {
		assert_int_equal(tevent_loop_once(ev), 0);
	}
	assert_true(phstore_is_durable(store, lsn));
	/* already there */
	req = phstore_barrier_send(ev, ev, store, lsn);
	assert_true(tevent_req_poll(req, ev));
	assert_int_equal(phstore_barrier_recv(req), PHSTORE_OK);
	/* nonsense does not harm those after it */
	req = phstore_barrier_send(ev, ev, store, lsn + (1ULL << 40));
	assert_true(tevent_req_poll(req, ev));
	assert_int_equal(phstore_barrier_recv(req), PHSTORE_ERR_INVALID);
	/* freed while pending: first, last, all */
	for (i = 0; i < 50; i++) {
		put("t", "k", "v", NULL, &lsn);
		early = phstore_barrier_send(ev, ev, store, lsn);
		put("t", "k", "v", NULL, &lsn);
		req = phstore_barrier_send(ev, ev, store, lsn);
		if (i % 3 != 1) {
			TALLOC_FREE(early);
		}
		if (i % 3 != 0) {
			TALLOC_FREE(req);
		}
		if (req != NULL) {
			assert_true(tevent_req_poll(req, ev));
			assert_int_equal(phstore_barrier_recv(req),
					 PHSTORE_OK);
		}
	}
	put("t", "k", "v", NULL, &lsn);
	req = phstore_barrier_send(ev, ev, store, lsn);
	assert_true(tevent_req_poll(req, ev));
	assert_int_equal(phstore_barrier_recv(req), PHSTORE_OK);
	talloc_free(ev);
}

static struct tevent_req *victim;

static void free_victim(struct tevent_req *req)
{
	int *num = tevent_req_callback_data_void(req);

	*num += 1;
	TALLOC_FREE(victim);
}

static void test_async_free_in_callback(void **state)
{
	struct tevent_context *ev = tevent_context_init(NULL);
	struct tevent_req *req = NULL;
	uint64_t lsn = 0;
	int num = 0;
	int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		int before = num;

		put("t", "k", "v", NULL, &lsn);
		if (i % 2) {
			victim = phstore_barrier_send(ev, ev, store, lsn);
		}
		req = phstore_barrier_send(ev, ev, store, lsn);
		tevent_req_set_callback(req, free_victim, &num);
		if (i % 2 == 0) {
			victim = phstore_barrier_send(ev, ev, store, lsn);
		}
		while (num == before) {
			assert_int_equal(tevent_loop_once(ev), 0);
		}
		assert_null(victim);
	}
	talloc_free(ev);
}

static void test_async_commit(void **state)
{
	struct phstore_op_options wrong = {
		.check_version = true, .expected = { 7, 7 },
	};
	struct tevent_context *ev = tevent_context_init(NULL);
	struct phstore_txn *txn = phstore_txn_new(store, store);
	struct tevent_req *req = NULL;
	uint64_t lsn = 0;
	int i;

	(void)state;
	phstore_txn_put(txn, "t", blob("k"), blob("v"), NULL);
	req = phstore_commit_send(ev, ev, txn);
	assert_true(tevent_req_poll(req, ev));
	assert_int_equal(phstore_commit_recv(req, &lsn), PHSTORE_OK);
	assert_true(lsn > 0 && phstore_is_durable(store, lsn));
	txn = phstore_txn_new(store, store);
	phstore_txn_put(txn, "t", blob("k"), blob("w"), &wrong);
	req = phstore_commit_send(ev, ev, txn);
	assert_true(tevent_req_poll(req, ev));
	assert_int_equal(phstore_commit_recv(req, &lsn),
			 PHSTORE_ERR_CONFLICT);
	get("t", "k", "v");
	/* enough for the keeper to compact, in its thread, meanwhile */
	for (i = 0; i < 300; i++) {
		static char big[4000];

		memset(big, 'a' + i % 26, sizeof(big) - 1);
		txn = phstore_txn_new(store, store);
		phstore_txn_put(txn, "t", blob("big"), blob(big), NULL);
		req = phstore_commit_send(ev, ev, txn);
		assert_true(tevent_req_poll(req, ev));
		assert_int_equal(phstore_commit_recv(req, &lsn),
				 PHSTORE_OK);
		talloc_free(req);
		talloc_free(txn);
		get("t", "big", big);
	}
	/* the event context may go before the store */
	put("t", "k", "v", NULL, &lsn);
	req = phstore_barrier_send(store, ev, store, lsn);
	talloc_free(ev);
	talloc_free(req);
	assert_int_equal(phstore_verify(store), PHSTORE_OK);
}

/* What is in a store is for its owner, whatever the umask is. */
static void test_modes(void **state)
{
	struct tevent_context *ev = tevent_context_init(NULL);
	struct tevent_req *req = NULL;
	struct dirent *de = NULL;
	mode_t saved;
	unsigned sockets = 0;
	uint64_t lsn = 0;
	DIR *d = NULL;

	(void)state;
	saved = umask(0);
	put("t", "k", "v", NULL, &lsn);
	req = phstore_barrier_send(ev, ev, store, lsn);
	assert_true(tevent_req_poll(req, ev));
	umask(saved);
	d = opendir(dir);
	assert_non_null(d);
	while ((de = readdir(d)) != NULL) {
		struct stat st = {};

		if (de->d_name[0] == '.') {
			continue;
		}
		assert_int_equal(fstatat(dirfd(d), de->d_name, &st, 0), 0);
		assert_int_equal(st.st_mode & 0177, 0);
		sockets += S_ISSOCK(st.st_mode) ? 1 : 0;
	}
	closedir(d);
	assert_true(sockets > 0);
	talloc_free(ev);
}

/* One that has ended sleeps. */
static bool thread_sleeps(const char *tid)
{
	char path[sizeof("/proc/self/task//stat") + NAME_MAX];
	char line[256] = "";
	const char *end = NULL;
	FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/self/task/%s/stat", tid);
	f = fopen(path, "r");
	if (f == NULL) {
		return true;
	}
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	end = strrchr(line, ')');
	assert_non_null(end);
	return strncmp(end, ") S", 3) == 0;
}

/*
 * Until all other threads of this process sleep. One that begins may be in
 * malloc(), whose lock, in the address sanitizer, is not given up in a child.
 */
static void wait_threads_asleep(void)
{
	unsigned tries;

	for (tries = 0; tries < 10000; tries++) {
		DIR *d = opendir("/proc/self/task");
		struct dirent *de = NULL;
		bool asleep = true;

		assert_non_null(d);
		while ((de = readdir(d)) != NULL) {
			int tid = atoi(de->d_name);

			if (tid > 0 && tid != getpid()) {
				asleep = asleep && thread_sleeps(de->d_name);
			}
		}
		closedir(d);
		if (asleep) {
			return;
		}
		poll(NULL, 0, 1);
	}
	fail_msg("a thread does not fall asleep");
}

static void test_fork(void **state)
{
	struct tevent_context *ev = tevent_context_init(NULL);
	struct tevent_req *req = NULL;
	uint64_t lsn = 0;
	int status = 0;
	pid_t pid;

	(void)state;
	put("t", "parent", "1", NULL, &lsn);
	req = phstore_barrier_send(ev, ev, store, lsn);
	assert_true(tevent_req_poll(req, ev));
	talloc_free(req);
	wait_threads_asleep();
	pid = fork();
	if (pid == 0) {
		struct tevent_context *ev2 = tevent_context_init(NULL);
		bool ok;

		alarm(30);
		ok = put("t", "child", "2", NULL, &lsn) == PHSTORE_OK;
		req = phstore_barrier_send(ev2, ev2, store, lsn);
		ok = ok && tevent_req_poll(req, ev2) &&
		     phstore_barrier_recv(req) == PHSTORE_OK;
		ok = ok && phstore_is_durable(store, lsn);
		ok = ok && phstore_close(store) == PHSTORE_OK;
		_exit(ok ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	/* the child's close is not ours */
	get("t", "child", "2");
	assert_int_equal(put("t", "after", "3", NULL, &lsn), PHSTORE_OK);
	req = phstore_barrier_send(ev, ev, store, lsn);
	assert_true(tevent_req_poll(req, ev));
	assert_int_equal(phstore_barrier_recv(req), PHSTORE_OK);
	talloc_free(ev);
}

static void test_close(void **state)
{
	struct phstore *second = NULL;
	struct phstore_stat st = {};
	uint64_t lsn = 0;

	(void)state;
	/* a second handle of the process; a read-only one does not count */
	assert_int_equal(open_it(0, &second), PHSTORE_ERR_BUSY);
	assert_null(second);
	assert_int_equal(put("t", "k", "v", NULL, &lsn), PHSTORE_OK);
	assert_int_equal(open_it(PHSTORE_OPEN_RDONLY, &second), PHSTORE_OK);
	assert_int_equal(phstore_close(second), PHSTORE_OK);
	get("t", "k", "v");
	/* close makes durable what was staged */
	assert_int_equal(phstore_close(store), PHSTORE_OK);
	assert_int_equal(open_it(PHSTORE_OPEN_RDONLY, &second), PHSTORE_OK);
	phstore_stat(second, &st);
	assert_int_equal(st.num_records, 1);
	assert_int_equal(st.durable_lsn, lsn);
	assert_int_equal(phstore_close(second), PHSTORE_OK);
	assert_int_equal(open_it(0, &store), PHSTORE_OK);
	get("t", "k", "v");
	/* freed without closing, with a thread running */
	phstore_barrier_start(store, lsn);
	put("t", "k2", "v", NULL, &lsn);
	phstore_barrier_start(store, lsn);
	TALLOC_FREE(store);
	assert_int_equal(open_it(0, &store), PHSTORE_OK);
	get("t", "k2", "v");
}

static void test_errors_have_names(void **state)
{
	int e;

	(void)state;
	for (e = PHSTORE_OK; e <= PHSTORE_ERR_FENCED; e++) {
		const char *name = phstore_errname((enum phstore_err)e);

		assert_memory_equal(name, "PHSTORE_", 8);
		assert_true(strlen(phstore_strerror(e)) > 3);
		assert_string_not_equal(name, "PHSTORE_ERR_UNKNOWN");
	}
	assert_string_equal(phstore_errname((enum phstore_err)1000),
			    "PHSTORE_ERR_UNKNOWN");
	assert_non_null(phstore_strerror((enum phstore_err)-1));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_versions_grow),
		TEST(test_expected_version),
		TEST(test_explicit_version),
		TEST(test_all_or_nothing),
		TEST(test_same_key_twice),
		TEST(test_skip_same),
		TEST(test_classes),
		TEST(test_scan),
		TEST(test_barrier),
		TEST(test_async),
		TEST(test_async_free_in_callback),
		TEST(test_async_commit),
		TEST(test_modes),
		TEST(test_fork),
		TEST(test_close),
		TEST(test_errors_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * phstore tests: many processes, killed at random instructions
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * test-timeout: 300
 *
 * WORKERS processes have one store open for SECONDS (PHSTORE_KILL_SECONDS).
 * Each owns KEYS keys and two accounts, and a journal in shared memory: what
 * it is about to do to each key, and what was acknowledged. Every few
 * milliseconds one of them gets SIGKILL at whatever instruction it is, in
 * tdb, in a system call, holding any lock; a new process takes its place
 * and its journal. While that goes on:
 *
 *   own keys     read as the last acknowledged value, or as the one in
 *                flight when the last owner was killed (then that is it)
 *   transfers    one transaction moves an amount between an own account and
 *                one of the common ones with expected versions: the sum over
 *                all accounts never changes (no transaction by halves)
 *   scans        show each key once
 *
 * At the end all are killed at once, the store is recovered and all of that
 * is checked again, by the index, by a read-only handle, and by verify.
 *
 * Apart from that: 1,000 processes open one store, write, and close.
 *
 * Seen to fail with each of these changes to the store, one at a time:
 *   expected versions not compared
 *   head moved before the frame is written
 * (Deaths in the few instructions of an index change are too rare here:
 * test_die_everywhere has those.)
 */

#include "crash_script.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 16
#define KEYS 12
#define COMMON 4
#define START_AMOUNT 1000
#define CROWD 1000

/* Numbers of values; 0 is "deleted". */
struct journal {
	volatile uint64_t acked[KEYS];
	volatile uint64_t tried[KEYS];
	volatile uint64_t count;
	volatile uint64_t transfers;
	volatile uint64_t lives;
};

struct shared {
	struct journal journals[WORKERS];
	volatile uint32_t bad;
	volatile bool stop;
};

static struct shared *shared;
static char *dir;
static struct phstore *store;
static uint64_t rnd_state;

static uint32_t rnd(uint32_t n)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (uint32_t)(rnd_state >> 20) % n;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void bad(const char *what, int worker, int key, uint64_t found)
{
	if (__sync_fetch_and_add(&shared->bad, 1) < 10) {
		printf("# %s: worker %d key %d, found %" PRIu64 ": %s\n",
		       what, worker, key, found, phstore_last_error());
		fflush(stdout);
	}
}

static struct phstore_blob blob(const void *data, size_t len)
{
	return (struct phstore_blob) { .data = data, .len = len };
}

static struct phstore_blob own_key(int worker, int key, char buf[32])
{
	snprintf(buf, 32, "w%02d-k%02d", worker, key);
	return blob(buf, strlen(buf));
}

static struct phstore_blob account(int i, char buf[32])
{
	snprintf(buf, 32, "account-%02d", i);
	return blob(buf, strlen(buf));
}

static uint32_t value_len(uint64_t n)
{
	return 8 + (uint32_t)((n * 2654435761u) >> 7) % 700;
}

static uint32_t value_make(uint64_t n, uint8_t *buf)
{
	uint32_t len = value_len(n);
	uint32_t i;

	memcpy(buf, &n, 8);
	for (i = 8; i < len; i++) {
		buf[i] = (uint8_t)(n + i * 3);
	}
	return len;
}

/* UINT64_MAX: bytes that nobody wrote */
static uint64_t value_read(const struct phstore_blob *b)
{
	const uint8_t *p = b->data;
	uint64_t n;
	uint32_t i;

	if (b->len < 8) {
		return UINT64_MAX;
	}
	memcpy(&n, p, 8);
	if (b->len != value_len(n)) {
		return UINT64_MAX;
	}
	for (i = 8; i < b->len; i++) {
		if (p[i] != (uint8_t)(n + i * 3)) {
			return UINT64_MAX;
		}
	}
	return n;
}

static uint64_t get_own(int worker, int key)
{
	struct phstore_record rec = {};
	TALLOC_CTX *frame = talloc_new(NULL);
	enum phstore_err err;
	uint64_t n = 0;
	char buf[32];

	err = phstore_get(frame, store, "own", own_key(worker, key, buf),
			  &rec);
	if (err == PHSTORE_OK) {
		n = value_read(&rec.value);
	} else if (err != PHSTORE_ERR_NOT_FOUND) {
		n = UINT64_MAX;
	}
	talloc_free(frame);
	return n;
}

static void check_own(int worker, bool settle)
{
	struct journal *j = &shared->journals[worker];
	int key;

	for (key = 0; key < KEYS; key++) {
		uint64_t n = get_own(worker, key);

		if (n != j->acked[key] && n != j->tried[key]) {
			bad("neither the last nor the one in flight", worker,
			    key, n);
		}
		if (settle) {
			j->acked[key] = n;
			j->tried[key] = n;
		}
	}
}

static void change_own(int worker)
{
	struct journal *j = &shared->journals[worker];
	struct phstore_txn *txn = phstore_txn_new(NULL, store);
	uint32_t num = 1 + rnd(3);
	uint32_t first = rnd(KEYS);
	uint8_t value[1024];
	enum phstore_err err;
	uint32_t i;
	char buf[32];

	for (i = 0; i < num; i++) {
		int key = (first + i) % KEYS;
		uint64_t n = 0;

		if (rnd(4) != 0) {
			j->count += 1;
			n = (uint64_t)(worker + 1) << 40 | j->count;
			(void)phstore_txn_put(txn, "own",
					      own_key(worker, key, buf),
					      blob(value,
						   value_make(n, value)),
					      NULL);
		} else {
			(void)phstore_txn_delete(txn, "own",
						 own_key(worker, key, buf),
						 NULL);
		}
		j->tried[key] = n;
	}
	err = phstore_commit(txn, NULL);
	talloc_free(txn);
	if (err != PHSTORE_OK) {
		bad("commit", worker, first, err);
		return;
	}
	for (i = 0; i < num; i++) {
		int key = (first + i) % KEYS;

		j->acked[key] = j->tried[key];
	}
}

static bool get_account(TALLOC_CTX *mem_ctx, int i, int64_t *amount,
			struct phstore_version *version)
{
	struct phstore_record rec = {};
	enum phstore_err err;
	char buf[32];

	err = phstore_get(mem_ctx, store, "accounts", account(i, buf), &rec);
	if (err != PHSTORE_OK || rec.value.len != sizeof(*amount)) {
		bad("account", i, 0, err);
		return false;
	}
	memcpy(amount, rec.value.data, sizeof(*amount));
	*version = rec.version;
	return true;
}

static void transfer(int worker)
{
	TALLOC_CTX *frame = talloc_new(NULL);
	int ids[2] = { COMMON + worker, (int)rnd(COMMON) };
	struct phstore_txn *txn = phstore_txn_new(frame, store);
	int64_t moved = (int64_t)rnd(100) - 50;
	uint64_t lsn = 0;
	enum phstore_err err = PHSTORE_OK;
	int i;

	for (i = 0; i < 2; i++) {
		struct phstore_op_options opts = {
			.durability = PHSTORE_CLASS_SYNC,
			.check_version = true,
		};
		int64_t amount = 0;
		char buf[32];
		bool ok = get_account(frame, ids[i], &amount,
				      &opts.expected);

		if (!ok) {
			goto done;
		}
		amount += i == 0 ? moved : -moved;
		(void)phstore_txn_put(txn, "accounts", account(ids[i], buf),
				      blob(&amount, sizeof(amount)), &opts);
	}
	err = phstore_stage(txn, &lsn);
	if (err == PHSTORE_OK) {
		shared->journals[worker].transfers += 1;
	} else if (err != PHSTORE_ERR_CONFLICT) {
		bad("transfer", worker, 0, err);
	}
done:
	talloc_free(frame);
}

struct seen {
	uint8_t own[WORKERS][KEYS];
	uint8_t accounts[COMMON + WORKERS];
	int64_t sum;
};

static int scan_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	struct seen *s = private_data;
	char buf[32] = {};
	int64_t amount;
	int w = -1, k = -1;

	memcpy(buf, rec->key.data, rec->key.len < 31 ? rec->key.len : 31);
	if (strcmp(table, "own") == 0) {
		(void)sscanf(buf, "w%d-k%d", &w, &k);
		if (w < 0 || w >= WORKERS || k < 0 || k >= KEYS ||
		    s->own[w][k]++ != 0)
		{
			bad("scan: unknown or twice", w, k, 0);
		}
		return 0;
	}
	(void)sscanf(buf, "account-%d", &w);
	if (w < 0 || w >= COMMON + WORKERS || s->accounts[w]++ != 0) {
		bad("scan: unknown or twice", w, 0, 0);
	}
	memcpy(&amount, rec->value.data, sizeof(amount));
	s->sum += amount;
	return 0;
}

static void scan_all(bool still)
{
	struct seen seen = {};
	enum phstore_err err;
	int i;

	err = phstore_scan(store, NULL, scan_fn, &seen, NULL);
	if (err != PHSTORE_OK) {
		bad("scan", 0, 0, err);
	}
	for (i = 0; i < COMMON + WORKERS; i++) {
		if (seen.accounts[i] != 1) {
			bad("account not in the scan", i, 0, 0);
		}
	}
	/* values are as of when each is shown: a sum only at rest */
	if (still && seen.sum != (COMMON + WORKERS) * START_AMOUNT) {
		bad("money was made or lost", 0, 0, (uint64_t)seen.sum);
	}
}

static void open_it(uint32_t flags)
{
	enum phstore_err err = script_open(dir, flags, &store);

	if (err != PHSTORE_OK) {
		bad("open", 0, 0, err);
		_exit(1);
	}
}

static void worker_main(int worker)
{
	open_it(0);
	rnd_state = (uint64_t)getpid() * 2654435761u + now_ms();
	shared->journals[worker].lives += 1;
	check_own(worker, true);
	while (!shared->stop) {
		uint32_t what = rnd(100);

		if (what < 60) {
			change_own(worker);
		} else if (what < 80) {
			transfer(worker);
		} else if (what < 97) {
			check_own(worker, false);
		} else if (what < 99) {
			scan_all(false);
		} else {
			(void)phstore_maintain(store);
		}
	}
	_exit(0);
}

static pid_t start_worker(int worker)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(120);
		worker_main(worker);
	}
	return pid;
}

static void make_accounts(void)
{
	int64_t amount = START_AMOUNT;
	int i;

	open_it(PHSTORE_OPEN_CREATE);
	for (i = 0; i < COMMON + WORKERS; i++) {
		struct phstore_txn *txn = phstore_txn_new(NULL, store);
		enum phstore_err err;
		char buf[32];

		(void)phstore_txn_put(txn, "accounts", account(i, buf),
				      blob(&amount, sizeof(amount)), NULL);
		err = phstore_commit(txn, NULL);
		if (err != PHSTORE_OK) {
			bad("commit", i, 0, err);
		}
		talloc_free(txn);
	}
	if (phstore_close(store) != PHSTORE_OK) {
		bad("close", 0, 0, 0);
	}
	store = NULL;
}

static void check_all(const char *what)
{
	struct phstore_stat st = {};
	uint64_t records = COMMON + WORKERS;
	int i, k;

	for (i = 0; i < WORKERS; i++) {
		check_own(i, true);
		for (k = 0; k < KEYS; k++) {
			records += shared->journals[i].acked[k] != 0;
		}
	}
	scan_all(true);
	(void)phstore_stat(store, &st);
	if (st.num_records != records || st.num_damaged != 0) {
		bad(what, 0, 0, st.num_records);
	}
	if (phstore_verify(store) != PHSTORE_OK) {
		bad("verify", 0, 0, 0);
	}
}

static bool case_killed(uint64_t seconds)
{
	pid_t pids[WORKERS];
	struct phstore_stat st = {};
	uint64_t kills = 0, lives = 0, changes = 0, transfers = 0;
	uint64_t end = now_ms() + seconds * 1000;
	int i;

	make_accounts();
	rnd_state = now_ms() | 1;
	for (i = 0; i < WORKERS; i++) {
		pids[i] = start_worker(i);
	}
	while (now_ms() < end && shared->bad == 0) {
		usleep(1000 + rnd(15000));
		i = (int)rnd(WORKERS);
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
		kills += 1;
		pids[i] = start_worker(i);
	}
	if (shared->bad == 0) {
		/* those who live see it all right, after so many deaths */
		open_it(0);
		shared->stop = true;
		for (i = 0; i < WORKERS; i++) {
			int status = 0;

			waitpid(pids[i], &status, 0);
			if (status != 0) {
				bad("a worker failed", i, 0, status);
			}
			pids[i] = 0;
		}
		check_all("counters of the survivors");
		(void)phstore_stat(store, &st);
		TALLOC_FREE(store);
		shared->stop = false;
		for (i = 0; i < WORKERS; i++) {
			pids[i] = start_worker(i);
		}
		usleep(300000);
	}
	for (i = 0; i < WORKERS; i++) {
		if (pids[i] != 0) {
			kill(pids[i], SIGKILL);
			waitpid(pids[i], NULL, 0);
		}
		lives += shared->journals[i].lives;
		changes += shared->journals[i].count;
		transfers += shared->journals[i].transfers;
	}
	/* all at once, and a new start */
	open_it(PHSTORE_OPEN_RDONLY);
	scan_all(true);
	TALLOC_FREE(store);
	open_it(0);
	check_all("counters after recovery");
	TALLOC_FREE(store);
	printf("# %" PRIu64 " kills, %" PRIu64 " lives, %" PRIu64 " puts, %"
	       PRIu64 " transfers, %" PRIu64 " lock owners found dead\n",
	       kills, lives, changes, transfers, st.num_owner_deaths);
	return shared->bad == 0;
}

static bool case_crowd(void)
{
	struct rlimit limit = {};
	static pid_t pids[CROWD];
	int go[2], ready[2];
	uint64_t start = now_ms();
	int i, failed = 0, num = 0;
	struct phstore_stat st = {};
	char c = 0;

	if (getrlimit(RLIMIT_NPROC, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < 2 * CROWD)
	{
		printf("ok 2 - 1,000 processes # SKIP RLIMIT_NPROC\n");
		return true;
	}
	if (pipe(go) == -1 || pipe(ready) == -1) {
		return false;
	}
	script_rmdir(dir);
	fflush(stdout);
	for (i = 0; i < CROWD; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			uint64_t lsn = 0;
			enum phstore_err err;

			alarm(200);
			close(ready[0]);
			open_it(PHSTORE_OPEN_CREATE);
			/* all of them have it open at the same time */
			err = script_stage(store, i, &lsn);
			if (err != PHSTORE_OK || write(ready[1], "r", 1) != 1)
			{
				bad("stage", i, 0, err);
				_exit(1);
			}
			close(go[1]);
			if (read(go[0], &c, 1) != 0) {
				_exit(1);
			}
			err = phstore_barrier(store, lsn, 0);
			_exit(err != PHSTORE_OK);
		}
		num += pids[i] > 0;
	}
	close(ready[1]);
	close(go[0]);
	for (i = 0; i < num; i++) {
		if (read(ready[0], &c, 1) != 1) {
			failed += 1;
			break;
		}
	}
	close(go[1]);
	for (i = 0; i < CROWD; i++) {
		int status = 0;

		if (pids[i] > 0) {
			waitpid(pids[i], &status, 0);
			failed += status != 0;
		}
	}
	close(ready[0]);
	open_it(0);
	(void)phstore_stat(store, &st);
	TALLOC_FREE(store);
	printf("# %d processes in %" PRIu64 " ms, %d failed, epoch %" PRIu64
	       "\n", num, now_ms() - start, failed, st.epoch);
	return failed == 0 && num == CROWD;
}

int main(void)
{
	const char *s = getenv("PHSTORE_KILL_SECONDS");
	bool ok, crowd_ok;

	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dir = script_tmpdir("kill");
	if (shared == MAP_FAILED || dir == NULL) {
		printf("cannot begin\n");
		return 1;
	}
	ok = case_killed(s != NULL ? strtoull(s, NULL, 10) : 20);
	printf("%s 1 - processes killed at random\n", ok ? "ok" : "not ok");
	crowd_ok = case_crowd();
	printf("%s 2 - 1,000 processes have one store open\n1..2\n",
	       crowd_ok ? "ok" : "not ok");
	script_rmdir(dir);
	return ok && crowd_ok ? 0 : 1;
}

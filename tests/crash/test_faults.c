/*
 * phstore tests: full, failing and slow disks; bounds
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * test-timeout: 600
 *
 * Faults are made in the table below the store (phstore_io.h), by switches
 * in shared memory, so that they hold for all processes at once:
 *
 *   full   allocate, and writes beyond a file's end, fail with ENOSPC. A
 *          put gets FULL, a delete still succeeds, space makes it all work
 *   write  each n-th pwrite fails with EIO, some after half the bytes:
 *          nobody is told it worked, the store goes on
 *   short  pwrite and pread do a part, or are interrupted: nobody notices
 *   sync   an fdatasync fails: every process gets LATCHED, nobody is
 *          acknowledged; reopened, all acknowledged records are there
 *   slow   each sync takes 1500 ms: a barrier's timeout is kept
 *   bound  P5: log <= 4 x live + one segment at rest, whatever the sizes;
 *          a start reads the log, not the history
 *
 * Seen to fail with each of these changes to the store, one at a time:
 *   the reserve not used by deletes; a put allowed to use it
 *   a failed sync answered as a good one, or not latched
 *   a short pwrite taken for a whole one; EINTR taken for an error
 *   a failed pwrite taken for a good one; timeouts ignored
 *   a huge frame alone in the log never compacted
 */

#include "crash_script.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "phstore_io.h"

struct faults {
	volatile bool full;
	volatile uint32_t write_eio_each;	/* 0: never */
	volatile bool short_io;
	volatile uint32_t sync_eio_after;	/* calls; 0: never */
	volatile uint32_t sync_ms;
	volatile uint32_t num_slow;		/* syncs that have begun */
	volatile uint32_t calls;
	volatile uint32_t num_failed;
};

static struct faults *faults;
static struct phstore *store;
static char *dir;
static int num_cases, num_bad;

/* what is a segment: only its syncs, and the folder's, shall fail */
static bool is_log[1024];

static int fault_open(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags, mode);

	if (fd >= 0 && fd < 1024) {
		is_log[fd] = strstr(path, "/seg-") != NULL;
	}
	return fd;
}

static ssize_t fault_pread(int fd, void *buf, size_t len, off_t ofs)
{
	uint32_t n = faults->calls++;

	if (faults->short_io && n % 3 == 0) {
		errno = EINTR;
		return -1;
	}
	if (faults->short_io && len > 1) {
		len = 1 + n % (len - 1);
	}
	return pread(fd, buf, len, ofs);
}

static ssize_t fault_pwrite(int fd, const void *buf, size_t len, off_t ofs)
{
	uint32_t n = faults->calls++;
	struct stat st = {};

	if (faults->full) {
		(void)fstat(fd, &st);
		if (ofs + (off_t)len > st.st_size) {
			faults->num_failed += 1;
			errno = ENOSPC;
			return -1;
		}
	}
	if (faults->write_eio_each != 0 && n % faults->write_eio_each == 0) {
		faults->num_failed += 1;
		if (n % 2 == 0) {
			(void)pwrite(fd, buf, len / 2, ofs);
		}
		errno = EIO;
		return -1;
	}
	if (faults->short_io && n % 3 == 0) {
		errno = EINTR;
		return -1;
	}
	if (faults->short_io && len > 1) {
		len = 1 + n % (len - 1);
	}
	return pwrite(fd, buf, len, ofs);
}

static int fault_allocate(int fd, off_t len)
{
	if (faults->full) {
		faults->num_failed += 1;
		errno = ENOSPC;
		return -1;
	}
	return phstore_io_posix.allocate(fd, len);
}

static int fault_sync_log(int fd)
{
	uint32_t ms = faults->sync_ms;

	if (ms != 0) {
		faults->num_slow += 1;
		usleep(ms * 1000);
	}
	if (faults->sync_eio_after != 0) {
		faults->sync_eio_after -= 1;
		if (faults->sync_eio_after == 0) {
			faults->num_failed += 1;
			errno = EIO;
			return -1;
		}
	}
	return fdatasync(fd);
}

static int fault_sync(int fd)
{
	if (fd >= 0 && fd < 1024 && is_log[fd]) {
		return fault_sync_log(fd);
	}
	return fdatasync(fd);
}

static const struct phstore_io_ops fault_io = {
	.open = fault_open,
	.close = close,
	.pread = fault_pread,
	.pwrite = fault_pwrite,
	.allocate = fault_allocate,
	.fdatasync = fault_sync,
	.fsync_dir = fault_sync_log,
	.rename = rename,
	.unlink = unlink,
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void no_faults(void)
{
	memset((void *)faults, 0, sizeof(*faults));
}

#define CHECK(cond) check((cond), #cond, __LINE__)

static bool case_ok;

static void check(bool ok, const char *what, int line)
{
	if (!ok && case_ok) {
		printf("# line %d: %s (%s)\n", line, what,
		       phstore_last_error());
	}
	case_ok = case_ok && ok;
}

static void end_case(const char *name)
{
	TALLOC_FREE(store);
	no_faults();
	num_cases += 1;
	num_bad += !case_ok;
	printf("%s %d - %s\n", case_ok ? "ok" : "not ok", num_cases, name);
}

static void begin_case(void)
{
	enum phstore_err err;

	case_ok = true;
	script_rmdir(dir);
	(void)mkdir(dir, 0700);
	no_faults();
	err = script_open(dir, PHSTORE_OPEN_CREATE, &store);
	if (err != PHSTORE_OK) {
		printf("# open: %s\n", phstore_last_error());
		exit(1);
	}
}

static void reopen(void)
{
	enum phstore_err err;

	TALLOC_FREE(store);
	err = script_open(dir, PHSTORE_OPEN_CREATE, &store);
	CHECK(err == PHSTORE_OK);
	if (err != PHSTORE_OK) {
		printf("# cannot go on\n");
		exit(1);
	}
}

static enum phstore_err put(const char *key, uint32_t len, bool commit,
			    uint64_t *lsn)
{
	TALLOC_CTX *frame = talloc_new(NULL);
	struct phstore_txn *txn = phstore_txn_new(frame, store);
	uint8_t *value = talloc_zero_array(frame, uint8_t, len + 1);
	struct phstore_blob k = { .data = key, .len = strlen(key) };
	struct phstore_blob v = { .data = value, .len = len };
	static uint32_t number;
	uint64_t dummy = 0;
	enum phstore_err err;

	/* no two alike */
	number += 1;
	memcpy(value, &number, len < 4 ? len : 4);
	(void)phstore_txn_put(txn, "t", k, v, NULL);
	err = commit ? phstore_commit(txn, lsn != NULL ? lsn : &dummy) :
	      phstore_stage(txn, lsn != NULL ? lsn : &dummy);
	talloc_free(frame);
	return err;
}

static enum phstore_err del(const char *key)
{
	struct phstore_txn *txn = phstore_txn_new(NULL, store);
	struct phstore_blob k = { .data = key, .len = strlen(key) };
	enum phstore_err err;

	(void)phstore_txn_delete(txn, "t", k, NULL);
	err = phstore_commit(txn, NULL);
	talloc_free(txn);
	return err;
}

static bool is_there(const char *key)
{
	struct phstore_blob k = { .data = key, .len = strlen(key) };
	struct phstore_record rec = {};
	TALLOC_CTX *frame = talloc_new(NULL);
	enum phstore_err err;

	err = phstore_get(frame, store, "t", k, &rec);
	talloc_free(frame);
	return err == PHSTORE_OK;
}

static struct phstore_stat stat_now(void)
{
	struct phstore_stat st = {};
	enum phstore_err err = phstore_stat(store, &st);

	CHECK(err == PHSTORE_OK);
	return st;
}

static void case_full(void)
{
	enum phstore_err err = PHSTORE_OK;
	char key[16];
	int num = 0, deleted = 0, i;

	begin_case();
	faults->full = true;
	while (err == PHSTORE_OK && num < 1000) {
		snprintf(key, sizeof(key), "k%d", num);
		err = put(key, 2000, true, NULL);
		num += err == PHSTORE_OK;
	}
	CHECK(err == PHSTORE_ERR_FULL);
	CHECK(num > 20 && num < 1000);
	CHECK(strstr(phstore_last_error(), dir) != NULL);
	CHECK(phstore_room(store, 2000) == PHSTORE_ERR_FULL);
	snprintf(key, sizeof(key), "k%d", num);
	CHECK(!is_there(key));
	for (i = 0; i < num; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		CHECK(is_there(key));
	}
	/* puts stay refused, deletes pass, and make room for puts */
	for (i = 0; i < num; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		err = del(key);
		deleted += err == PHSTORE_OK;
		CHECK(err == PHSTORE_OK);
	}
	CHECK(deleted == num);
	faults->full = false;
	CHECK(phstore_room(store, 2000) == PHSTORE_OK);
	CHECK(put("again", 2000, true, NULL) == PHSTORE_OK);
	reopen();
	CHECK(is_there("again"));
	CHECK(!is_there("k0"));
	CHECK(stat_now().num_records == 1);
	CHECK(stat_now().num_damaged == 0);
	end_case("disk full: puts refused, deletes pass, space helps");
}

static void case_write_eio(void)
{
	enum phstore_err err;
	uint32_t k = 0, failed = 0, each;
	int found;

	begin_case();
	for (each = 2; each < 12; each++) {
		int i;

		faults->write_eio_each = each;
		for (i = 0; i < 40; i++) {
			err = script_commit(store, k);
			if (err == PHSTORE_OK) {
				k += 1;
			} else {
				failed += 1;
				CHECK(err == PHSTORE_ERR_IO);
			}
		}
		faults->write_eio_each = 0;
		found = script_find(store, k, k);
		CHECK(found != -1);
		CHECK(script_check_counters(store, k));
		reopen();
		found = script_find(store, k, k);
		CHECK(found != -1);
	}
	CHECK(failed > 20);
	CHECK(k > 100);
	CHECK(phstore_verify(store) == PHSTORE_OK);
	end_case("EIO on write: no false answer, the store goes on");
}

static void case_short(void)
{
	uint32_t k;

	begin_case();
	faults->short_io = true;
	for (k = 0; k < 120; k++) {
		CHECK(script_commit(store, k) == PHSTORE_OK);
	}
	CHECK(script_find(store, k, k) != -1);
	reopen();
	CHECK(script_find(store, k, k) != -1);
	CHECK(script_check_counters(store, k));
	end_case("short and interrupted reads and writes");
}

/* Another process, for what must hold in all of them. */
static int in_child(int (*fn)(void))
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int child_latched(void)
{
	enum phstore_err err;
	uint64_t lsn = 0;

	err = put("other", 100, false, &lsn);
	if (err != PHSTORE_ERR_LATCHED) {
		return 1;
	}
	if (phstore_stat(store, &(struct phstore_stat) {}) != PHSTORE_OK) {
		return 2;
	}
	return phstore_room(store, 10) == PHSTORE_ERR_LATCHED ? 0 : 3;
}

static void case_sync_eio(void)
{
	enum phstore_err err = PHSTORE_OK;
	struct phstore_stat st;
	uint64_t lsn = 0;
	uint32_t round, k = 0, staged = 0;
	bool ok;

	begin_case();
	for (round = 1; round <= 12; round++) {
		faults->sync_eio_after = round;
		err = PHSTORE_OK;
		while (err == PHSTORE_OK && k < staged + 200) {
			err = script_commit(store, k);
			k += err == PHSTORE_OK;
		}
		staged = k;
		st = stat_now();
		CHECK(faults->num_failed == round);
		CHECK(st.latched != PHSTORE_OK);
		CHECK(err == PHSTORE_ERR_LATCHED);
		CHECK(st.latched_errno == EIO);
		CHECK(strstr(phstore_last_error(), dir) != NULL);
		/* no false promise, here or elsewhere, also not later */
		CHECK(script_commit(store, k) == PHSTORE_ERR_LATCHED);
		CHECK(phstore_stage(phstore_txn_new(store, store), &lsn) !=
		      PHSTORE_OK);
		CHECK(phstore_barrier(store, st.head_lsn, 0) ==
		      PHSTORE_ERR_LATCHED);
		ok = phstore_is_durable(store, st.head_lsn);
		CHECK(!ok);
		CHECK(in_child(child_latched) == 0);
		CHECK(phstore_close(store) != PHSTORE_OK);
		store = NULL;
		reopen();
		/* the failed one may be there or not */
		ok = script_find(store, k, k + 1) != -1;
		CHECK(ok);
		k = (uint32_t)script_find(store, k, k + 1);
		staged = k;
		CHECK(script_check_counters(store, k));
	}
	CHECK(script_commit(store, k) == PHSTORE_OK);
	end_case("EIO on fdatasync: latched everywhere, reopened, all there");
}

#define SLOW_MS 1500
static uint64_t slow_lsn;

static int child_syncs(void)
{
	return phstore_barrier(store, slow_lsn, 0) == PHSTORE_OK ? 0 : 1;
}

static void case_slow(void)
{
	uint64_t start, took;
	enum phstore_err err;
	uint32_t before;
	pid_t pid;
	int status = 0;

	begin_case();
	faults->sync_ms = SLOW_MS;
	before = faults->num_slow;
	CHECK(put("a", 100, false, &slow_lsn) == PHSTORE_OK);
	/* another process leads: a timeout ends the wait for it */
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		_exit(child_syncs());
	}
	start = now_ms();
	while (faults->num_slow == before && now_ms() - start < 60000) {
		usleep(1000);
	}
	start = now_ms();
	err = phstore_barrier(store, slow_lsn, 20);
	took = now_ms() - start;
	CHECK(err == PHSTORE_ERR_TIMEOUT);
	CHECK(took >= 20 && took < SLOW_MS / 2);
	CHECK(!phstore_is_durable(store, slow_lsn));
	/* staging and reading wait for nobody */
	start = now_ms();
	CHECK(put("b", 100, false, NULL) == PHSTORE_OK);
	CHECK(is_there("a") && is_there("b"));
	took = now_ms() - start;
	CHECK(took < SLOW_MS / 2);
	waitpid(pid, &status, 0);
	CHECK(status == 0);
	CHECK(phstore_is_durable(store, slow_lsn));
	CHECK(phstore_barrier(store, slow_lsn, 1) == PHSTORE_OK);
	end_case("slow syncs: a barrier's timeout, nobody else waits");
}

/* At rest: log <= 4 x live + one segment. */
static void check_bound(const char *what)
{
	struct phstore_stat st;

	CHECK(phstore_maintain(store) == PHSTORE_OK);
	st = stat_now();
	if (st.log_bytes > 4 * st.live_bytes + SCRIPT_SEGMENT) {
		printf("# %s: %" PRIu64 " bytes of log, %" PRIu64 " live\n",
		       what, st.log_bytes, st.live_bytes);
		case_ok = false;
	}
	if (script_count_segments(dir) > st.num_segments) {
		printf("# %s: files of no use\n", what);
		case_ok = false;
	}
}

static void case_bound(void)
{
	static const uint32_t sizes[] = {
		16, 500, 5000, 30000, 50000, 58000, 70000, 300000, 5000000,
	};
	char key[16], what[64];
	uint64_t ms[2] = {};
	uint32_t i, j, s;

	begin_case();
	for (s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint32_t rounds = sizes[s] < 100000 ? 600 : 12;

		for (i = 0; i < rounds; i++) {
			snprintf(key, sizeof(key), "k%u", i % 7);
			CHECK(put(key, sizes[s], i % 5 == 0, NULL) ==
			      PHSTORE_OK);
		}
		snprintf(what, sizeof(what), "%u bytes, put", sizes[s]);
		check_bound(what);
		for (i = 0; i < 6; i++) {
			snprintf(key, sizeof(key), "k%u", i);
			CHECK(del(key) == PHSTORE_OK);
		}
		snprintf(what, sizeof(what), "%u bytes, deleted", sizes[s]);
		check_bound(what);
	}
	CHECK(del("k6") == PHSTORE_OK);
	check_bound("nothing left");
	reopen();
	check_bound("nothing left, reopened");

	/* the start of a store with much history, and with very much */
	for (j = 0; j < 2; j++) {
		for (i = 0; i < 4000u * (1 + 9 * j); i++) {
			snprintf(key, sizeof(key), "k%u", i % 50);
			CHECK(put(key, 500, i % 100 == 0, NULL) ==
			      PHSTORE_OK);
		}
		check_bound("history");
		ms[j] = UINT64_MAX;
		for (i = 0; i < 5; i++) {
			uint64_t start = now_ms();

			reopen();
			if (now_ms() - start < ms[j]) {
				ms[j] = now_ms() - start;
			}
		}
	}
	printf("# a start took %" PRIu64 " ms, with 10 times the history %"
	       PRIu64 " ms\n", ms[0], ms[1]);
	CHECK(ms[1] <= 3 * ms[0] + 30);
	CHECK(stat_now().num_records == 50);
	end_case("bounds: the log's size and the time to start");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	faults = mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dir = script_tmpdir("faults");
	if (faults == MAP_FAILED || dir == NULL) {
		printf("cannot begin\n");
		return 1;
	}
	phstore_io = &fault_io;
	case_full();
	case_write_eio();
	case_short();
	case_sync_eio();
	case_slow();
	case_bound();
	printf("1..%d\n", num_cases);
	script_rmdir(dir);
	return num_bad == 0 ? 0 : 1;
}

/*
 * storebench: the store alone, beside its peers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * One mode per run, one JSON object as the answer, so that bench/run can
 * alternate between us and a peer and compare runs that were minutes apart
 * on a machine whose speed changes:
 *
 *   raw    the physical limit: pwrite + fdatasync, round and round in a
 *          file that was written before (no metadata to sync)
 *   tdb    what upstream does: one synced tdb transaction per record
 *   lmdb, sqlite, rocksdb
 *          peers, if their packages were there (peers/; --list tells)
 *   store  phstore_commit() of one record
 *   stage  phstore_stage() without a barrier: the CPU one put costs
 *   scan   time from phstore_open() to the last of --records records
 *          (both also --of tdb)
 *   group, nothing
 *          no stores: what syncs and waiting cost, storebench_bare.c
 *
 * Writers are processes, as smbds are. Each overwrites its own --keys
 * records with a value that is never the same twice. All start together
 * and stop by time; a commit counts if it ended in that time. The time of
 * each writer's last one is recorded all the same: who waits for a lock to
 * the very end is the slowest of all.
 *
 * Exit codes: 0 measured, 1 failed.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <talloc.h>

#include "phstore.h"
#include "phbench/hist.h"
#include "storebench.h"

#define RAW_FILE_SIZE (8U * 1024 * 1024)
#define TABLE "bench"

/* One writer's part of the memory shared with the parent. */
struct writer {
	uint64_t commits;
	bool failed;
	char error[256];
	struct hist hist;
};

struct shared {
	unsigned int ready;
	uint64_t start_ns;	/* 0: not yet */
	uint64_t end_ns;
	struct writer writers[];
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* ---- raw */

struct raw {
	int fd;
	uint32_t pos;
	struct put put;
};

static int raw_open(const struct options *o, unsigned int writer,
		    void **state, char *error, size_t len)
{
	struct raw *raw = talloc_zero(NULL, struct raw);
	char path[4096];

	put_init(&raw->put, o, writer);
	snprintf(path, sizeof(path), "%s/raw-%u", o->dir, writer);
	raw->fd = log_file_make(path, RAW_FILE_SIZE);
	if (raw->fd == -1) {
		snprintf(error, len, "%s: %s", path, strerror(errno));
		return -1;
	}
	*state = raw;
	return 0;
}

static int raw_commit(void *state, uint64_t n, char *error, size_t len)
{
	struct raw *raw = state;
	ssize_t written;
	int ret;

	put_make(&raw->put, n);
	if (raw->pos + raw->put.len > RAW_FILE_SIZE) {
		raw->pos = 0;
	}
	written = pwrite(raw->fd, raw->put.value, raw->put.len, raw->pos);
	if (written != (ssize_t)raw->put.len) {
		snprintf(error, len, "pwrite: %s", strerror(errno));
		return -1;
	}
	raw->pos += (uint32_t)raw->put.len;
	ret = fdatasync(raw->fd);
	if (ret == -1) {
		snprintf(error, len, "fdatasync: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static void raw_close(void *state)
{
	struct raw *raw = state;

	close(raw->fd);
	talloc_free(raw);
}

/* ---- store */

struct store_state {
	struct phstore *store;
	bool replicated;
	struct put put;
};

static void store_error(char *error, size_t len, const char *what,
			enum phstore_err err)
{
	snprintf(error, len, "%s: %s (%s)", what, phstore_strerror(err),
		 phstore_last_error());
}

static int store_open(const struct options *o, unsigned int writer,
		      void **state, char *error, size_t len)
{
	struct store_state *ss = talloc_zero(NULL, struct store_state);
	struct phstore_open_options opts = {
		.flags = PHSTORE_OPEN_CREATE,
		.backend = o->backend,
	};
	char path[4096];
	enum phstore_err err;

	ss->replicated = o->replicated;
	put_init(&ss->put, o, writer);
	snprintf(path, sizeof(path), "%s/store", o->dir);
	err = phstore_open(ss, path, &opts, &ss->store);
	if (err != PHSTORE_OK) {
		store_error(error, len, "open", err);
		return -1;
	}
	*state = ss;
	return 0;
}

static enum phstore_err store_put(struct store_state *ss, uint64_t n,
				  struct phstore_txn **txn)
{
	struct phstore_blob key = { .data = ss->put.key, .len = KEY_LEN };
	struct phstore_blob value = { .data = ss->put.value };
	struct phstore_op_options opts = {
		.durability = ss->replicated ? PHSTORE_CLASS_REPLICATED :
					       PHSTORE_CLASS_SYNC,
	};

	put_make(&ss->put, n);
	value.len = ss->put.len;
	*txn = phstore_txn_new(ss, ss->store);
	if (*txn == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	return phstore_txn_put(*txn, TABLE, key, value, &opts);
}

static int store_commit(void *state, uint64_t n, char *error, size_t len)
{
	struct store_state *ss = state;
	struct phstore_txn *txn = NULL;
	enum phstore_err err;
	uint64_t lsn = 0;

	err = store_put(ss, n, &txn);
	if (err == PHSTORE_OK) {
		err = phstore_commit(txn, &lsn);
	}
	talloc_free(txn);
	if (err != PHSTORE_OK) {
		store_error(error, len, "commit", err);
		return -1;
	}
	return 0;
}

static int store_stage(void *state, uint64_t n, char *error, size_t len)
{
	struct store_state *ss = state;
	struct phstore_txn *txn = NULL;
	enum phstore_err err;
	uint64_t lsn = 0;

	err = store_put(ss, n, &txn);
	if (err == PHSTORE_OK) {
		err = phstore_stage(txn, &lsn);
	}
	talloc_free(txn);
	if (err != PHSTORE_OK) {
		store_error(error, len, "stage", err);
		return -1;
	}
	return 0;
}

static int store_scan_one(const char *table,
			  const struct phstore_record *rec,
			  void *private_data)
{
	(void)table;
	scan_add(private_data, rec->value.data, rec->value.len);
	return 0;
}

static int store_scan(void *state, struct scan *scan, char *error, size_t len)
{
	struct store_state *ss = state;
	enum phstore_err err;

	err = phstore_scan(ss->store, TABLE, store_scan_one, scan, NULL);
	if (err != PHSTORE_OK) {
		store_error(error, len, "scan", err);
		return -1;
	}
	return 0;
}

static void store_close(void *state)
{
	struct store_state *ss = state;

	phstore_close(ss->store);
	talloc_free(ss);
}

static const struct mode mode_raw = {
	.name = "raw", .open = raw_open,
	.commit = raw_commit, .close = raw_close,
};
static const struct mode mode_store = {
	.name = "store", .open = store_open,
	.commit = store_commit, .close = store_close,
	.stage = store_stage, .fill = store_stage, .scan = store_scan,
};

static const struct mode *const modes[] = {
	&mode_raw, &mode_store, &peer_tdb,
	&peer_lmdb, &peer_sqlite, &peer_rocksdb,
	&bare_group, &bare_nothing,
};

static int list_modes(void)
{
	const char *sep = "";
	size_t i;

	printf("{\"modes\": [");
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (modes[i]->open != NULL && !modes[i]->unlisted) {
			printf("%s\"%s\"", sep, modes[i]->name);
			sep = ", ";
		}
	}
	printf("], \"missing\": {");
	sep = "";
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (modes[i]->open == NULL) {
			printf("%s\"%s\": \"its package was not there when "
			       "this was built\"", sep, modes[i]->name);
			sep = ", ";
		}
	}
	printf("}}\n");
	return 0;
}

/* ---- writers */

/* What a server does for a request besides storing: processor time. */
static void compute(unsigned int us)
{
	uint64_t x = 1;
	uint64_t end;
	int i;

	if (us == 0) {
		return;
	}
	end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + us * UINT64_C(1000);
	while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end) {
		for (i = 0; i < 500; i++) {
			x = x * UINT64_C(6364136223846793005) + 1;
			__asm__ volatile("" : "+r"(x));
		}
	}
}

static void writer_run(const struct mode *mode, const struct options *o,
		       struct shared *shared, unsigned int writer)
{
	struct writer *w = &shared->writers[writer];
	void *state = NULL;
	uint64_t n = 0;
	uint64_t begin, end;
	int ret;

	hist_clear(&w->hist);
	ret = mode->open(o, writer, &state, w->error, sizeof(w->error));
	if (ret != 0) {
		w->failed = true;
	}
	__atomic_add_fetch(&shared->ready, 1, __ATOMIC_SEQ_CST);
	if (w->failed) {
		return;
	}
	while (__atomic_load_n(&shared->start_ns, __ATOMIC_SEQ_CST) == 0) {
		usleep(1000);
	}

	begin = now_ns();
	while (begin < shared->end_ns) {
		compute(o->compute_us);
		ret = mode->commit(state, n, w->error, sizeof(w->error));
		if (ret != 0) {
			w->failed = true;
			return;
		}
		n++;
		end = now_ns();
		if (begin >= shared->start_ns) {
			hist_add(&w->hist, end - begin);
			w->commits += end <= shared->end_ns ? 1 : 0;
		}
		begin = end;
	}
	mode->close(state);
}

/* Make the files before the writers come: that is not what is measured. */
static int prepare(const struct mode *mode, const struct options *o)
{
	char error[256] = "";
	void *state = NULL;
	int status;
	int ret;
	pid_t pid;

	pid = fork();
	if (pid == 0) {
		ret = mode->open(o, 0, &state, error, sizeof(error));
		if (ret != 0) {
			fprintf(stderr, "storebench: %s\n", error);
			_exit(1);
		}
		mode->close(state);
		_exit(0);
	}
	if (pid == -1) {
		return -1;
	}
	waitpid(pid, &status, 0);
	return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ? 0 : -1;
}

static int run_writers(const struct mode *mode, const struct options *o)
{
	size_t size = sizeof(struct shared) +
		      o->writers * sizeof(struct writer);
	struct shared *shared = NULL;
	struct hist *total = NULL;
	pid_t *pids = NULL;
	uint64_t commits = 0;
	uint64_t start;
	unsigned int i;
	int status;
	int rc = 0;

	shared = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pids = calloc(o->writers, sizeof(*pids));
	total = calloc(1, sizeof(*total));
	if (shared == MAP_FAILED || pids == NULL || total == NULL) {
		fprintf(stderr, "storebench: out of memory\n");
		return 1;
	}
	hist_clear(total);
	rc = prepare(mode, o);
	if (rc != 0) {
		return 1;
	}

	for (i = 0; i < o->writers; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			writer_run(mode, o, shared, i);
			_exit(shared->writers[i].failed ? 1 : 0);
		}
		if (pids[i] == -1) {
			fprintf(stderr, "storebench: fork: %s\n",
				strerror(errno));
			rc = 1;
			break;
		}
	}
	while (rc == 0 &&
	       __atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST) < o->writers)
	{
		usleep(1000);
	}
	start = now_ns() + (uint64_t)(o->warmup * 1e9) + 1;
	shared->end_ns = start + (uint64_t)(o->seconds * 1e9);
	__atomic_store_n(&shared->start_ns, start, __ATOMIC_SEQ_CST);

	for (i = 0; i < o->writers && pids[i] > 0; i++) {
		waitpid(pids[i], &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
			fprintf(stderr, "storebench: writer %u: %s\n", i,
				shared->writers[i].failed ?
				shared->writers[i].error : "died");
			rc = 1;
			continue;
		}
		commits += shared->writers[i].commits;
		hist_merge(total, &shared->writers[i].hist);
	}
	if (rc == 0) {
		printf("{\"mode\": \"%s\", \"writers\": %u, \"size\": %u, "
		       "\"seconds\": %.3f, \"commits\": %"PRIu64", "
		       "\"commits_per_s\": %.1f, \"mean_us\": %.2f, "
		       "\"p50_us\": %.2f, \"p90_us\": %.2f, "
		       "\"p99_us\": %.2f, \"p999_us\": %.2f, "
		       "\"max_us\": %.2f}\n",
		       mode->name, o->writers, o->size, o->seconds, commits,
		       (double)commits / o->seconds, hist_mean(total) / 1e3,
		       (double)hist_quantile(total, 0.5) / 1e3,
		       (double)hist_quantile(total, 0.9) / 1e3,
		       (double)hist_quantile(total, 0.99) / 1e3,
		       (double)hist_quantile(total, 0.999) / 1e3,
		       (double)total->max / 1e3);
	}
	free(pids);
	free(total);
	munmap(shared, size);
	return rc;
}

/* ---- stage and scan */

static double cpu_us(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ((double)ru.ru_utime.tv_sec + (double)ru.ru_stime.tv_sec) *
	       1e6 + (double)ru.ru_utime.tv_usec + (double)ru.ru_stime.tv_usec;
}

/*
 * CPU per put: user and system time of the whole process, threads of the
 * store included, without the final sync. What making the value costs is
 * measured by itself and taken off.
 */
static int run_stage(const struct mode *mode, const struct options *o)
{
	struct put *put = talloc(NULL, struct put);
	void *state = NULL;
	char error[256] = "";
	double begin, end, own;
	uint64_t n;
	int ret;

	put_init(put, o, 0);
	begin = cpu_us();
	for (n = 0; n < o->records; n++) {
		put_make(put, n);
	}
	own = cpu_us() - begin;
	talloc_free(put);

	ret = mode->open(o, 0, &state, error, sizeof(error));
	for (n = 0; ret == 0 && n < o->keys; n++) {
		ret = mode->stage(state, n, error, sizeof(error));
	}
	begin = cpu_us();
	for (n = 0; ret == 0 && n < o->records; n++) {
		ret = mode->stage(state, o->keys + n, error, sizeof(error));
	}
	end = cpu_us();
	if (ret != 0) {
		fprintf(stderr, "storebench: %s\n", error);
		return 1;
	}
	printf("{\"mode\": \"stage\", \"of\": \"%s\", \"puts\": %u, "
	       "\"size\": %u, \"cpu_us_per_put\": %.3f, "
	       "\"cpu_us_of_the_loop\": %.3f}\n",
	       mode->name, o->records, o->size,
	       (end - begin - own) / o->records, own / o->records);
	mode->close(state);
	return 0;
}

/* A store of so many records, closed. */
static int scan_fill(const struct mode *mode, const struct options *o)
{
	struct options fill = *o;
	void *state = NULL;
	char error[256] = "";
	uint64_t n;
	int ret;

	fill.keys = o->records;
	ret = mode->open(&fill, 0, &state, error, sizeof(error));
	for (n = 0; ret == 0 && n < o->records; n++) {
		ret = mode->fill(state, n, error, sizeof(error));
	}
	if (ret != 0) {
		fprintf(stderr, "storebench: %s\n", error);
		return 1;
	}
	mode->close(state);
	return 0;
}

static int scan_time(const struct mode *mode, const struct options *o)
{
	struct scan s = { .records = 0 };
	void *state = NULL;
	char error[256] = "";
	uint64_t begin, opened, end;
	int ret;

	begin = now_ns();
	ret = mode->open(o, 0, &state, error, sizeof(error));
	opened = now_ns();
	if (ret == 0) {
		ret = mode->scan(state, &s, error, sizeof(error));
	}
	end = now_ns();
	if (ret != 0 || s.records != o->records ||
	    s.bytes != (uint64_t)o->records * o->size)
	{
		fprintf(stderr, "storebench: %s: %s: %"PRIu64" of %u "
			"records\n", mode->name, error, s.records,
			o->records);
		return 1;
	}
	printf("{\"mode\": \"scan\", \"of\": \"%s\", \"records\": %u, "
	       "\"size\": %u, \"seconds\": %.4f, "
	       "\"open_seconds\": %.4f, \"scan_seconds\": %.4f, "
	       "\"sum\": %"PRIu64"}\n",
	       mode->name, o->records, o->size, (double)(end - begin) / 1e9,
	       (double)(opened - begin) / 1e9, (double)(end - opened) / 1e9,
	       s.sum);
	fflush(stdout);
	mode->close(state);
	return 0;
}

/* In processes of their own, so that nothing is left in memory. */
static int run_scan(const struct mode *mode, const struct options *o)
{
	int (*steps[])(const struct mode *, const struct options *) = {
		scan_fill, scan_time };
	size_t i;
	int status;

	for (i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			_exit(steps[i](mode, o));
		}
		if (pid == -1) {
			return 1;
		}
		waitpid(pid, &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
			return 1;
		}
	}
	return 0;
}

static void usage(FILE *f)
{
	fprintf(f, "usage: storebench MODE --dir DIR [OPTIONS]\n"
		"       storebench --list\n"
		"modes: raw, tdb, store, lmdb, sqlite, rocksdb, stage, "
		"scan,\n"
		"       group, nothing\n"
		"  --dir DIR      an empty folder; files are left in it\n"
		"  --seconds S    how long to measure (2)\n"
		"  --warmup S     before that (0.3)\n"
		"  --writers N    processes (1)\n"
		"  --size N       bytes of a value, of a write in raw (500);\n"
		"                 smbd: as those smbd writes\n"
		"  --list         what there is of these and what is missing\n"
		"  --compute US   processor time before each commit (0)\n"
		"  --backend B    of store: ctdb, with a phstored running\n"
		"  --replicated   of store: class replicated, not sync\n"
		"  --keys N       records per writer (100)\n"
		"  --records N    of stage and scan (100000)\n"
		"  --of MODE      what they look at: store (default) or tdb\n");
}

int main(int argc, char **argv)
{
	struct options o = {
		.of = "store", .seconds = 2, .warmup = 0.3, .writers = 1,
		.size = 500, .keys = 100, .records = 100000,
	};
	static const struct option longopts[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "seconds", required_argument, NULL, 's' },
		{ "warmup", required_argument, NULL, 'u' },
		{ "writers", required_argument, NULL, 'w' },
		{ "size", required_argument, NULL, 'b' },
		{ "keys", required_argument, NULL, 'k' },
		{ "records", required_argument, NULL, 'r' },
		{ "backend", required_argument, NULL, 'B' },
		{ "replicated", no_argument, NULL, 'R' },
		{ "of", required_argument, NULL, 'o' },
		{ "compute", required_argument, NULL, 'c' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool smbd_size = false;
	bool is_stage, is_scan;
	const char *name = NULL;
	size_t i;
	int c;
	int cmp;

	while ((c = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
		switch (c) {
		case 'd':
			o.dir = optarg;
			break;
		case 's':
			o.seconds = atof(optarg);
			break;
		case 'u':
			o.warmup = atof(optarg);
			break;
		case 'w':
			o.writers = (unsigned int)atoi(optarg);
			break;
		case 'b':
			o.size = (unsigned int)atoi(optarg);
			smbd_size = strcmp(optarg, "smbd") == 0;
			break;
		case 'l':
			return list_modes();
		case 'k':
			o.keys = (unsigned int)atoi(optarg);
			break;
		case 'r':
			o.records = (unsigned int)atoi(optarg);
			break;
		case 'B':
			o.backend = optarg;
			break;
		case 'R':
			o.replicated = true;
			break;
		case 'o':
			o.of = optarg;
			break;
		case 'c':
			o.compute_us = (unsigned int)atoi(optarg);
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 1;
		}
	}
	if (optind + 1 != argc || o.dir == NULL || o.seconds <= 0 ||
	    o.writers == 0 || o.writers > 4096 ||
	    (o.size == 0 && !smbd_size) ||
	    o.compute_us > 1000000 ||
	    o.size > SIZE_MAX_VALUE || o.keys == 0 || o.records == 0)
	{
		usage(stderr);
		return 1;
	}
	o.mode = argv[optind];

	is_stage = strcmp(o.mode, "stage") == 0;
	is_scan = strcmp(o.mode, "scan") == 0 && !smbd_size;
	name = (is_stage || is_scan) ? o.of : o.mode;
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		const struct mode *mode = modes[i];

		cmp = strcmp(name, mode->name);
		if (cmp != 0) {
			continue;
		}
		if (mode->open == NULL) {
			fprintf(stderr, "storebench: %s was not there when "
				"this was built\n", name);
			return 1;
		}
		if (is_stage && mode->stage != NULL) {
			return run_stage(mode, &o);
		}
		if (is_scan && mode->scan != NULL) {
			return run_scan(mode, &o);
		}
		if (!is_stage && !is_scan) {
			return run_writers(mode, &o);
		}
	}
	usage(stderr);
	return 1;
}

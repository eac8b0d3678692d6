/*
 * phstore tests: a process killed between any two steps
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * test-timeout: 600
 *
 * A victim opens the store, commits transactions of the script (with
 * rotation, spares, compaction) and closes. It is killed at its event 0,
 * then everything starts over and it is killed at event 1, 2, ... until it
 * gets through. An event is each call that changes the disk (a pwrite
 * twice: before it, and half way through) and each PHSTORE_TEST_POINT.
 *
 *   with a witness   another process has the store open all the time and
 *                    goes on: robust mutexes, repair of log and index; as a
 *                    user who can not open the store's files, at first
 *   alone            the next one to open recovers; as after kill -9, and
 *                    as after a reboot (without the `state` file)
 *   twice            the victim dies inside a change of the index; who
 *                    repairs that is killed at each event, too
 *
 * Then is checked: what had been staged is there completely, what had not
 * returned is there completely or not at all (P1, P2; the page cache
 * survives a process); counters; a read-only handle that reads the log by
 * itself sees the same as the index; transactions, maintenance, close and
 * recovery work again.
 *
 * Seen to fail with each of these changes to the store, one at a time:
 *   a dead owner's half-made index change not noticed
 *   a frame that was appended but not indexed not replayed
 *   a new index counts as complete while it is empty
 *   head moved before the frame is written
 *   nothing repaired after the death of a maintainer
 *   who repairs the index does not become the store's owner for it
 */

#include "crash_script.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "phstore_io.h"

/* in the store before the victim comes; and what it does */
#define BEFORE 150
#define PASS 36
/* what who comes after does */
#define AFTER 6
/* nobody */
#define USER 65534

struct shared {
	volatile uint32_t tried;	/* transactions begun */
	volatile uint32_t done;		/* and come back from */
	volatile uint64_t events;
	char last[64];			/* the victim's last event */
	volatile int witness_k;
};

static struct shared *shared;
static char *dir, *template;
static uint64_t die_at;
static bool dying_in_index;

/* The victim's side. */

static bool event_is_last(const char *name)
{
	uint64_t n = shared->events;

	if (dying_in_index) {
		/* only inside the index, the n-th time */
		if (strncmp(name, "index:", 6) != 0) {
			return false;
		}
	}
	shared->events = n + 1;
	if (n < die_at) {
		return false;
	}
	snprintf(shared->last, sizeof(shared->last), "%s", name);
	return true;
}

static void event(const char *name)
{
	bool last = event_is_last(name);

	if (last) {
		kill(getpid(), SIGKILL);
	}
}

static int die_open(const char *path, int flags, mode_t mode)
{
	event("open");
	return phstore_io_posix.open(path, flags, mode);
}

static ssize_t die_pwrite(int fd, const void *buf, size_t len, off_t ofs)
{
	bool last;

	event("pwrite");
	last = event_is_last("half a pwrite");
	if (last) {
		(void)phstore_io_posix.pwrite(fd, buf, len / 2, ofs);
		kill(getpid(), SIGKILL);
	}
	return phstore_io_posix.pwrite(fd, buf, len, ofs);
}

static int die_allocate(int fd, off_t len)
{
	event("allocate");
	return phstore_io_posix.allocate(fd, len);
}

static int die_fdatasync(int fd)
{
	(void)fd;
	event("fdatasync");
	return 0;
}

static int die_fsync_dir(int fd)
{
	(void)fd;
	event("fsync_dir");
	return 0;
}

static int die_rename(const char *from, const char *to)
{
	event("rename");
	return phstore_io_posix.rename(from, to);
}

static int die_unlink(const char *path)
{
	event("unlink");
	return phstore_io_posix.unlink(path);
}

static const struct phstore_io_ops die_io = {
	.open = die_open,
	.close = close,
	.pread = pread,
	.pwrite = die_pwrite,
	.allocate = die_allocate,
	.fdatasync = die_fdatasync,
	.fsync_dir = die_fsync_dir,
	.rename = die_rename,
	.unlink = die_unlink,
};

static void must(enum phstore_err err, const char *what)
{
	if (err != PHSTORE_OK) {
		printf("# %s: %s: %s\n", what, phstore_errname(err),
		       phstore_last_error());
		fflush(stdout);
		_exit(1);
	}
}

static void victim(void)
{
	struct phstore *store = NULL;
	uint32_t from, i;

	phstore_io = &die_io;
	phstore_test_point_fn = event;
	must(script_open(dir, PHSTORE_OPEN_CREATE, &store), "victim: open");
	from = shared->done;
	for (i = from; i < BEFORE + PASS; i++) {
		uint64_t lsn = 0;

		shared->tried = i + 1;
		if (i % 3 == 0) {
			must(script_stage(store, i, &lsn), "victim: stage");
		} else {
			must(script_commit(store, i), "victim: commit");
		}
		shared->done = i + 1;
	}
	must(phstore_close(store), "victim: close");
	_exit(0);
}

/* Whoever comes after. */
static int look_and_go_on(struct phstore *store)
{
	struct phstore_stat st = {};
	struct phstore *offline = NULL;
	bool ok;
	int k, k2, i;

	k = script_find(store, shared->done, shared->tried);
	if (k == -1) {
		return -1;
	}
	ok = script_check_counters(store, k);
	if (!ok) {
		return -1;
	}
	for (i = 0; i < AFTER; i++) {
		must(script_commit(store, k), "afterwards: commit");
		k += 1;
	}
	k2 = script_find(store, k, k);
	ok = script_check_counters(store, k);
	if (k2 == -1 || !ok) {
		return -1;
	}
	must(phstore_maintain(store), "afterwards: maintain");
	must(phstore_verify(store), "afterwards: verify");
	k2 = script_find(store, k, k);
	ok = script_check_counters(store, k);
	if (k2 == -1 || !ok) {
		return -1;
	}
	must(phstore_stat(store, &st), "afterwards: stat");
	if (st.log_bytes > 4 * st.live_bytes + SCRIPT_SEGMENT) {
		printf("# %" PRIu64 " bytes of log for %" PRIu64 "\n",
		       st.log_bytes, st.live_bytes);
		return -1;
	}
	if (script_count_segments(dir) != st.num_segments) {
		printf("# %" PRIu64 " segments, but %" PRIu64 " files\n",
		       st.num_segments, script_count_segments(dir));
		return -1;
	}
	/* the log's own word, without the index */
	must(script_open(dir, PHSTORE_OPEN_RDONLY, &offline), "read-only");
	k2 = script_find(offline, k, k);
	talloc_free(offline);
	return k2;
}

/* A smbd is its client's user most of the time. */
static bool stage_as_user(struct phstore *store)
{
	uint64_t lsn = 0;
	bool ok;
	int k;

	ok = script_as_user(USER);
	if (!ok) {
		return true;
	}
	k = script_find(store, shared->done, shared->tried);
	if (k != -1) {
		must(script_stage(store, k, &lsn), "as its user: stage");
		shared->done = shared->tried = k + 1;
	}
	(void)script_as_user(0);
	return k != -1;
}

static void witness(int in, int out)
{
	struct phstore *store = NULL;
	char c = 'r';
	ssize_t n;
	bool ok;

	must(script_open(dir, PHSTORE_OPEN_CREATE, &store), "witness: open");
	n = write(out, &c, 1);
	n = read(in, &c, 1);
	(void)n;
	ok = stage_as_user(store);
	shared->witness_k = ok ? look_and_go_on(store) : -1;
	must(phstore_close(store), "witness: close");
	fflush(stdout);
	_exit(shared->witness_k == -1);
}

struct child {
	pid_t pid;
	int to;
	int from;
};

static struct child start_witness(void)
{
	struct child c = {};
	int to[2] = { -1, -1 };
	int from[2] = { -1, -1 };
	char byte;
	ssize_t n;

	if (pipe(to) == -1 || pipe(from) == -1) {
		abort();
	}
	fflush(stdout);
	c.pid = fork();
	if (c.pid == 0) {
		close(to[1]);
		close(from[0]);
		witness(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	c.to = to[1];
	c.from = from[0];
	n = read(c.from, &byte, 1);
	(void)n;
	return c;
}

static bool end_witness(struct child *c)
{
	int status = 0;
	ssize_t n = write(c->to, "g", 1);

	(void)n;
	waitpid(c->pid, &status, 0);
	close(c->to);
	close(c->from);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* @return 1 it was killed, 0 it got through, -1 it failed */
static int run_victim(uint64_t n, bool in_index)
{
	int status = 0;
	pid_t pid;

	die_at = n;
	dying_in_index = in_index;
	shared->events = 0;
	snprintf(shared->last, sizeof(shared->last), "none");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		/* never to outlive a hang in the store */
		alarm(60);
		victim();
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		return 1;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* Afterwards without anybody: a recovery. */
static bool check_alone(uint32_t lo, uint32_t hi, bool go_on)
{
	struct phstore *store = NULL;
	bool ok = false;
	int status = 0;
	pid_t pid;
	int k;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		must(script_open(dir, PHSTORE_OPEN_CREATE, &store), "open");
		if (go_on) {
			k = look_and_go_on(store);
		} else {
			k = script_find(store, lo, hi);
			ok = k != -1 && script_check_counters(store, k);
			k = ok ? k : -1;
		}
		must(phstore_close(store), "close");
		fflush(stdout);
		_exit(k == -1);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void begin(bool without_state)
{
	bool ok = script_copy(template, dir, without_state);

	if (!ok) {
		abort();
	}
	shared->tried = shared->done = BEFORE;
	shared->witness_k = -1;
}

static bool with_witness(uint64_t n, int *ret)
{
	struct child c = {};
	uint32_t k;
	bool ok;

	begin(false);
	c = start_witness();
	*ret = run_victim(n, false);
	ok = end_witness(&c);
	if (!ok || *ret == -1) {
		return false;
	}
	k = (uint32_t)shared->witness_k;
	return check_alone(k, k, false);
}

static bool alone(uint64_t n, bool reboot, int *ret)
{
	begin(reboot);
	*ret = run_victim(n, false);
	return *ret != -1 && check_alone(0, 0, true);
}

/* The first dies in the index, the second while it repairs that. */
static bool twice(uint64_t n, int *ret)
{
	struct child c = {};
	uint32_t k;
	bool ok;

	begin(false);
	c = start_witness();
	*ret = run_victim(20 + n % 3, true);
	if (*ret == 1) {
		*ret = run_victim(n, false);
	}
	ok = end_witness(&c);
	if (!ok || *ret == -1) {
		return false;
	}
	k = (uint32_t)shared->witness_k;
	return check_alone(k, k, false);
}

enum mode { WITNESS, KILLED, REBOOT, TWICE, NUM_MODES };

static const char *mode_names[NUM_MODES] = {
	"another process goes on",
	"the next one recovers",
	"the next one recovers after a reboot",
	"the one that repairs is killed, too",
};

static bool run_mode(enum mode mode)
{
	uint64_t n = 0;
	int ret = 1;
	bool ok = true;

	while (ret == 1 && ok) {
		switch (mode) {
		case WITNESS:
			ok = with_witness(n, &ret);
			break;
		case TWICE:
			ok = twice(n, &ret);
			/* what comes after the repair is the same again */
			if (n == 150) {
				ret = 0;
			}
			break;
		default:
			ok = alone(n, mode == REBOOT, &ret);
			break;
		}
		if (!ok) {
			printf("# killed at event %" PRIu64 " (%s), %u of %u "
			       "transactions done\n", n, shared->last,
			       shared->done, shared->tried);
		}
		n += 1;
	}
	printf("%s %d - killed at each of %" PRIu64 " events: %s\n",
	       ok ? "ok" : "not ok", mode + 1, n, mode_names[mode]);
	return ok;
}

static void make_template(void)
{
	struct phstore *store = NULL;
	uint64_t lsn = 0;
	pid_t pid;
	uint32_t i;
	int status = 0;

	fflush(stdout);
	pid = fork();
	if (pid != 0) {
		waitpid(pid, &status, 0);
		if (status != 0) {
			exit(1);
		}
		return;
	}
	must(script_open(template, PHSTORE_OPEN_CREATE, &store), "open");
	for (i = 0; i < BEFORE; i++) {
		if (i < BEFORE - 10) {
			must(script_commit(store, i), "commit");
		} else {
			/* enough garbage for the victim to compact */
			must(script_stage(store, i, &lsn), "stage");
		}
	}
	/* no close: like a process that was killed */
	_exit(0);
}

int main(void)
{
	bool ok = true;
	enum mode mode;

	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dir = script_tmpdir("die");
	template = script_tmpdir("die-template");
	if (shared == MAP_FAILED || dir == NULL || template == NULL) {
		printf("cannot begin\n");
		return 1;
	}
	make_template();
	for (mode = WITNESS; mode < NUM_MODES; mode++) {
		bool mode_ok = run_mode(mode);

		ok = ok && mode_ok;
	}
	printf("1..%d\n", NUM_MODES);
	script_rmdir(dir);
	script_rmdir(template);
	return ok ? 0 : 1;
}

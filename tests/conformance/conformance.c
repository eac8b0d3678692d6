/*
 * phstore tests: what every backend has to do, P1 to P7
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fear: a backend that passes its own tests, and promises something a
 * little different from what smbd was written against. So the same cases
 * run on all of them, through phstore.h alone; what they need beyond it
 * (damage a record, stop the storage) is a function in the backend's entry
 * (conformance.h). A backend of its own is one more entry.
 *
 * usage: conformance [BACKEND[:CASE]]...    all that can be tested here
 *        conformance --child WHAT ...    the process that is going to be
 *                                        killed; not for people
 *
 * Each case begins with an empty store. Who is killed is another process
 * (this program again); what it had acknowledged stands in a pipe, not in
 * the store.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <tevent.h>
#include <time.h>
#include <unistd.h>

#include "conformance.h"

static const struct conf_backend *be;
static char path[CONF_PATH_MAX];
static struct phstore *store;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static struct phstore_blob blob(const char *s)
{
	return (struct phstore_blob) { .data = s, .len = strlen(s) };
}

static enum phstore_err open_as(const char *p, uint32_t flags,
				struct phstore **ps)
{
	struct phstore_open_options opts = be->opts;

	opts.flags |= flags;
	return phstore_open(NULL, p, &opts, ps);
}

static void must(enum phstore_err err, enum phstore_err want)
{
	if (err != want) {
		print_message("# %s, not %s: %s\n", phstore_errname(err),
			      phstore_errname(want), phstore_last_error());
	}
	assert_int_equal(err, want);
}

static void open_store(uint32_t flags)
{
	must(open_as(path, flags, &store), PHSTORE_OK);
}

static void close_store(void)
{
	struct phstore *s = store;

	store = NULL;
	must(phstore_close(s), PHSTORE_OK);
}

static void reopen(void)
{
	close_store();
	open_store(0);
}

static int set_up(void **state)
{
	be = *state;
	be->fresh(path);
	store = NULL;
	if (be->start != NULL && !be->start(path)) {
		print_message("# %s: what serves it does not start\n", path);
		return -1;
	}
	if (open_as(path, PHSTORE_OPEN_CREATE, &store) != PHSTORE_OK) {
		print_message("# open: %s\n", phstore_last_error());
		return -1;
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (be->stall != NULL) {
		(void)be->stall(false);
	}
	TALLOC_FREE(store);
	be->remove(path);
	return 0;
}

static enum phstore_err change_in(struct phstore *s, const char *table,
				  const char *key, const char *value,
				  const struct phstore_op_options *opts,
				  bool wait, uint64_t *lsn)
{
	struct phstore_txn *txn = phstore_txn_new(s, s);
	uint64_t dummy = 0;
	enum phstore_err err;

	err = value != NULL ?
	      phstore_txn_put(txn, table, blob(key), blob(value), opts) :
	      phstore_txn_delete(txn, table, blob(key), opts);
	if (err == PHSTORE_OK) {
		lsn = lsn != NULL ? lsn : &dummy;
		err = wait ? phstore_commit(txn, lsn) :
			     phstore_stage(txn, lsn);
	}
	talloc_free(txn);
	return err;
}

static enum phstore_err put(const char *table, const char *key,
			    const char *value)
{
	return change_in(store, table, key, value, NULL, true, NULL);
}

static enum phstore_err del(const char *table, const char *key)
{
	return change_in(store, table, key, NULL, NULL, true, NULL);
}

static struct phstore_version get_in(struct phstore *s, const char *table,
				     const char *key, const char *value)
{
	struct phstore_record rec = {};
	enum phstore_err err = phstore_get(s, s, table, blob(key), &rec);

	if (value == NULL) {
		must(err, PHSTORE_ERR_NOT_FOUND);
		return (struct phstore_version) {};
	}
	must(err, PHSTORE_OK);
	assert_int_equal(rec.value.len, strlen(value));
	assert_memory_equal(rec.value.data, value, rec.value.len);
	return rec.version;
}

static struct phstore_version get(const char *table, const char *key,
				  const char *value)
{
	return get_in(store, table, key, value);
}

/* The storage stops; on: 0 when it can not be made to here. */
static bool stall(bool on)
{
	if (be->stall != NULL) {
		return be->stall(on);
	}
	return false;
}

static bool above(struct phstore_version a, struct phstore_version b)
{
	return a.epoch != b.epoch ? a.epoch > b.epoch : a.seq > b.seq;
}

/* Children: started anew, not forked off the state of this process. */

struct child {
	pid_t pid;
	FILE *out;
};

static struct child child_start(const char *what, const char *p,
				const char *arg)
{
	struct child c = {};
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	c.pid = fork();
	if (c.pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		execl("/proc/self/exe", "conformance", "--child", be->name,
		      what, p, arg, NULL);
		_exit(99);
	}
	close(fds[1]);
	c.out = fdopen(fds[0], "r");
	assert_non_null(c.out);
	return c;
}

/* The number in the next line; -1 at the end. */
static long child_line(struct child *c)
{
	char line[64];

	if (fgets(line, sizeof(line), c->out) == NULL) {
		return -1;
	}
	return atol(line);
}

static int child_end(struct child *c, int sig)
{
	int status = 0;

	if (sig != 0) {
		kill(c->pid, sig);
	}
	fclose(c->out);
	waitpid(c->pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Commits one record after the other, says each that was acknowledged. */
static int child_commits(struct phstore *s, const char *arg)
{
	long i;

	for (i = 1; i <= atol(arg); i++) {
		char key[32], value[64];
		enum phstore_err err;

		snprintf(key, sizeof(key), "k%ld", i % 50);
		snprintf(value, sizeof(value), "%ld of the child", i);
		err = change_in(s, "t", key, value, NULL, true, NULL);
		if (err != PHSTORE_OK) {
			return (int)err;
		}
		printf("%ld\n", i);
		fflush(stdout);
	}
	return 0;
}

/* Transactions of three records with the same number in each. */
static int child_triples(struct phstore *s, const char *arg)
{
	long i;

	for (i = atol(arg); ; i++) {
		struct phstore_txn *txn = phstore_txn_new(s, s);
		static const char *const keys[] = { "a", "b", "c" };
		char value[32];
		enum phstore_err err = PHSTORE_OK;
		size_t k;

		snprintf(value, sizeof(value), "%ld", i);
		for (k = 0; k < 3 && err == PHSTORE_OK; k++) {
			err = phstore_txn_put(txn, keys[k], blob(keys[k]),
					      blob(value), NULL);
		}
		if (err == PHSTORE_OK) {
			err = phstore_commit(txn, NULL);
		}
		if (err != PHSTORE_OK) {
			return (int)err;
		}
		talloc_free(txn);
		printf("%ld\n", i);
		fflush(stdout);
	}
}

/* Adds 1 to a counter by compare-and-set, as often as told. */
static int child_counts(struct phstore *s, const char *arg)
{
	long left = atol(arg);

	while (left > 0) {
		struct phstore_record rec = {};
		struct phstore_op_options opts = {
			.durability = PHSTORE_CLASS_SYNC,
			.check_version = true,
		};
		TALLOC_CTX *mem = talloc_new(s);
		char value[32] = "0";
		enum phstore_err err;

		err = phstore_get(mem, s, "t", blob("counter"), &rec);
		if (err != PHSTORE_OK && err != PHSTORE_ERR_NOT_FOUND) {
			return (int)err;
		}
		if (err == PHSTORE_OK) {
			snprintf(value, sizeof(value), "%.*s",
				 (int)rec.value.len,
				 (const char *)rec.value.data);
			opts.expected = rec.version;
		}
		snprintf(value, sizeof(value), "%ld", atol(value) + 1);
		err = change_in(s, "t", "counter", value, &opts, true, NULL);
		talloc_free(mem);
		if (err == PHSTORE_OK) {
			left -= 1;
		} else if (err != PHSTORE_ERR_CONFLICT) {
			return (int)err;
		}
	}
	return 0;
}

#define NUM_SHARED 8

/* Commits until it is told that it may not any more. */
static int child_fenced(struct phstore *s, const char *arg)
{
	long i;

	for (i = 1; i < 100000; i++) {
		char key[16], value[64];
		enum phstore_err err;

		/* more than one, or a hole in the fence is not met */
		snprintf(key, sizeof(key), "shared%ld", i % NUM_SHARED);
		snprintf(value, sizeof(value), "%s %ld", arg, i);
		err = change_in(s, "t", key, value, NULL, true, NULL);
		if (err != PHSTORE_OK) {
			return (int)err;
		}
		printf("%ld\n", i);
		fflush(stdout);
	}
	return 0;
}

static int child_main(const char *backend, const char *what, const char *p,
		      const char *arg)
{
	struct phstore *s = NULL;
	enum phstore_err err;
	size_t i;
	int ret = 98;

	for (i = 0; conf_backends[i] != NULL; i++) {
		if (strcmp(conf_backends[i]->name, backend) == 0) {
			be = conf_backends[i];
		}
	}
	err = be != NULL ? open_as(p, 0, &s) : PHSTORE_ERR_INVALID;
	if (err != PHSTORE_OK) {
		fprintf(stderr, "# child: %s\n", phstore_last_error());
		return 97;
	}
	if (strcmp(what, "commits") == 0) {
		ret = child_commits(s, arg);
	} else if (strcmp(what, "triples") == 0) {
		ret = child_triples(s, arg);
	} else if (strcmp(what, "counts") == 0) {
		ret = child_counts(s, arg);
	} else if (strcmp(what, "fenced") == 0) {
		ret = child_fenced(s, arg);
	}
	/* an error a case is after leaves nothing to sync */
	err = phstore_close(s);
	return ret != 0 ? ret : (int)err;
}

#include "conformance_cases.h"

struct named_case {
	const char *name;
	CMUnitTestFunction fn;
};

#define CASE(fn) { #fn, fn }

static const struct named_case cases[] = {
	CASE(put_get_delete),
	CASE(keys_and_values_of_all_kinds),
	CASE(scan_shows_each_live_record_once),
	CASE(read_only_sees_and_changes_nothing),
	CASE(no_store_is_not_an_empty_store),
	CASE(p1_acked_survives_kill),
	CASE(p1_acked_in_the_background_survives_kill),
	CASE(p2_unacked_is_whole_or_absent),
	CASE(p2_refused_leaves_nothing),
	CASE(p2_damage_is_told_and_survived),
	CASE(p3_versions_only_grow),
	CASE(p3_deleted_stays_deleted),
	CASE(p3_compare_and_set_counts_right),
	CASE(p3_fenced_writer_is_refused),
	CASE(p3_takeover_by_name_fences),
	CASE(p4_cold_start),
	CASE(p5_bounded),
	CASE(p6_staging_does_not_wait),
	CASE(p6_event_loop_goes_on),
	CASE(p7_no_answer_is_a_timeout),
	CASE(many_waiters_in_order),
	CASE(skip_same_sends_nothing),
};

#define NUM_CASES (sizeof(cases) / sizeof(cases[0]))

/* Is it asked for: "BACKEND", or "BACKEND:CASE"? */
static bool is_wanted(int argc, char **argv, const char *backend,
		      const char *name)
{
	size_t len = strlen(backend);
	int a;

	for (a = 1; a < argc; a++) {
		if (strncmp(argv[a], backend, len) == 0 &&
		    (argv[a][len] == '\0' ||
		     (argv[a][len] == ':' &&
		      strcmp(argv[a] + len + 1, name) == 0)))
		{
			return true;
		}
	}
	return argc == 1;
}

int main(int argc, char **argv)
{
	char names[NUM_CASES][128];
	struct CMUnitTest tests[NUM_CASES] = {};
	int failed = 0;
	size_t b, i;

	if (argc == 6 && strcmp(argv[1], "--child") == 0) {
		return child_main(argv[2], argv[3], argv[4], argv[5]);
	}
	signal(SIGPIPE, SIG_IGN);
	for (b = 0; conf_backends[b] != NULL; b++) {
		const struct conf_backend *k = conf_backends[b];
		const char *why = k->missing();
		size_t num = 0;

		for (i = 0; i < NUM_CASES; i++) {
			if (!is_wanted(argc, argv, k->name, cases[i].name)) {
				continue;
			}
			snprintf(names[num], sizeof(names[num]), "%s: %s",
				 k->name, cases[i].name);
			tests[num] = (struct CMUnitTest) {
				.name = names[num],
				.test_func = cases[i].fn,
				.setup_func = set_up,
				.teardown_func = tear_down,
				.initial_state = (void *)(uintptr_t)k,
			};
			num += 1;
		}
		if (num > 0 && why != NULL) {
			printf("ok - %s # SKIP %s\n", k->name, why);
		} else if (num > 0) {
			failed += _cmocka_run_group_tests(k->name, tests, num,
							  NULL, NULL);
		}
	}
	return failed != 0;
}

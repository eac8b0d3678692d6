/*
 * phstore: a store with a sink: writers and the daemon
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fears: a waiter is told "safe" before both the disk and the sink have
 * it, or what was undone is told "safe"; a change slips through a closed
 * gate; the daemon misses a transaction, or ships what is not this node's;
 * a daemon killed at any time leads to any of these; a tombstone is lost by
 * compaction or what is not shipped yet is; a store of a cluster is opened
 * as if it was alone; a store that is full to the brim cannot be emptied.
 *
 * The writer and the daemon are two processes; the test is a third.
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
#include <time.h>
#include <unistd.h>

#include "phstore_io.h"
#include "phstore_ship.h"

static char path[512];
static int num_stores;

static void new_path(void)
{
	const char *tmp = getenv("TEST_TMP");

	snprintf(path, sizeof(path), "%s/ship-%d-%d",
		 tmp != NULL ? tmp : "/var/tmp", (int)getpid(), num_stores++);
}

static struct phstore *open_store(const char *backend, uint32_t flags)
{
	struct phstore_open_options opts = {
		.flags = PHSTORE_OPEN_CREATE | PHSTORE_OPEN_ALLOW_VOLATILE |
			 flags,
		.backend = backend,
		.segment_size = 64 * 1024,
	};
	struct phstore *store = NULL;
	enum phstore_err err;

	err = phstore_open(NULL, path, &opts, &store);
	if (err != PHSTORE_OK) {
		fprintf(stderr, "open: %s\n", phstore_last_error());
	}
	assert_int_equal(err, PHSTORE_OK);
	return store;
}

static struct phstore_ship *attach(struct phstore *store)
{
	struct phstore_ship_options opts = { .kind = "ctdb", .name = "one" };
	struct phstore_ship *ship = NULL;
	enum phstore_err err;

	err = phstore_ship_attach(store, store, &opts, &ship);
	if (err != PHSTORE_OK) {
		fprintf(stderr, "attach: %s\n", phstore_last_error());
	}
	assert_int_equal(err, PHSTORE_OK);
	return ship;
}

static enum phstore_err gate(struct phstore_ship *ship, uint64_t epoch,
			     bool open)
{
	struct phstore_ship_state st = {
		.epoch = epoch,
		.generation = 4711,
		.node = 2,
		.writable = open,
	};

	snprintf(st.reason, sizeof(st.reason), "%s", open ? "" : "a test");
	return phstore_ship_publish(ship, &st);
}

static enum phstore_err change(struct phstore *store, const char *key,
			       const char *value, uint64_t *lsn)
{
	struct phstore_txn *txn = phstore_txn_new(NULL, store);
	struct phstore_blob k = { key, strlen(key) };
	enum phstore_err err;

	if (value != NULL) {
		struct phstore_blob v = { value, strlen(value) };

		err = phstore_txn_put(txn, "t", k, v, NULL);
	} else {
		err = phstore_txn_delete(txn, "t", k, NULL);
	}
	assert_int_equal(err, PHSTORE_OK);
	err = phstore_stage(txn, lsn);
	talloc_free(txn);
	return err;
}

static void wait_ms(int ms)
{
	struct timespec ts = {
		.tv_sec = ms / 1000,
		.tv_nsec = (ms % 1000) * 1000000L,
	};

	nanosleep(&ts, NULL);
}

/*
 * This program again, as a writer or a daemon; its exit status by await().
 * (Not a mere fork: tdb lets a process open a file once.)
 */
static pid_t process(const char *what, int a, int b)
{
	char arg[2][16];
	pid_t pid;

	snprintf(arg[0], sizeof(arg[0]), "%d", a);
	snprintf(arg[1], sizeof(arg[1]), "%d", b);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_ship", what, path, arg[0],
		      arg[1], NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

static int await(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) :
				   128 + WTERMSIG(status);
}

static int commit_one(enum phstore_class durability, bool async)
{
	struct phstore_op_options opts = { .durability = durability };
	struct phstore *store = open_store("ctdb", 0);
	struct phstore_txn *txn = phstore_txn_new(store, store);
	struct phstore_blob k = { "k", 1 };
	struct phstore_blob v = { "value", 5 };
	struct tevent_context *ev = tevent_context_init(store);
	struct tevent_req *req = NULL;
	enum phstore_err err;

	err = phstore_txn_put(txn, "t", k, v, &opts);
	if (err != PHSTORE_OK) {
		return 100;
	}
	if (!async) {
		return phstore_commit(txn, NULL);
	}
	req = phstore_commit_send(store, ev, txn);
	while (tevent_req_is_in_progress(req)) {
		if (tevent_loop_once(ev) != 0) {
			return 101;
		}
	}
	return phstore_commit_recv(req, NULL);
}

static void still_waits(pid_t pid)
{
	wait_ms(150);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
}

/* Both ways to wait, both classes: not before the watermark, and then. */
static void test_watermarks(void **state)
{
	static const enum phstore_class classes[] = {
		PHSTORE_CLASS_SYNC, PHSTORE_CLASS_REPLICATED,
	};
	struct phstore *store = NULL;
	struct phstore_ship *ship = NULL;
	size_t i;

	(void)state;
	new_path();
	store = open_store("ctdb", 0);
	ship = attach(store);
	assert_int_equal(gate(ship, 256, true), PHSTORE_OK);
	for (i = 0; i < 4; i++) {
		struct phstore_ship_txn *txn = NULL;
		uint64_t from = phstore_ship_tell(ship);
		pid_t pid = process("commit", classes[i % 2], i / 2);
		bool sync = classes[i % 2] == PHSTORE_CLASS_SYNC;
		enum phstore_err err = PHSTORE_ERR_NOT_FOUND;
		int tries;

		for (tries = 0; tries < 200 && err != PHSTORE_OK; tries++) {
			err = phstore_ship_read(ship, &txn);
			wait_ms(5);
		}
		assert_int_equal(err, PHSTORE_OK);
		assert_true(txn->lsn >= from);
		assert_int_equal(txn->num_ops, 1);
		assert_string_equal(txn->ops[0].table, "t");
		assert_int_equal(txn->ops[0].version.epoch, 256);
		assert_int_equal(txn->ops[0].version.seq, i + 1);
		assert_int_equal(txn->durability, classes[i % 2]);
		still_waits(pid);
		/* the other class's watermark does not serve */
		phstore_ship_reached(ship, sync ? txn->end_lsn : 0,
				     sync ? 0 : txn->end_lsn);
		if (sync) {
			phstore_ship_reached(ship, 0, txn->end_lsn - 1);
		}
		still_waits(pid);
		phstore_ship_reached(ship, txn->end_lsn, txn->end_lsn);
		assert_int_equal(await(pid), 0);
	}
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);
}

static void test_fence(void **state)
{
	struct phstore *store = NULL;
	struct phstore_ship *ship = NULL;
	uint64_t lsn[4] = {};
	size_t i;

	(void)state;
	new_path();
	store = open_store("ctdb", 0);
	ship = attach(store);
	assert_int_equal(gate(ship, 256, true), PHSTORE_OK);
	for (i = 0; i < 4; i++) {
		pid_t pid = 0;
		uint64_t safe = 0;
		struct phstore_record rec = {};
		struct phstore_blob k = { "k", 1 };

		assert_int_equal(change(store, "a", i % 2 ? "1" : "2", &safe),
				 PHSTORE_OK);
		phstore_ship_reached(ship, safe, safe);
		assert_int_equal(phstore_barrier(store, safe, 1000),
				 PHSTORE_OK);
		pid = process("commit", i < 2 ? PHSTORE_CLASS_SYNC :
			      PHSTORE_CLASS_REPLICATED, i % 2);
		wait_ms(150);
		lsn[i] = phstore_ship_head(ship);
		assert_int_equal(phstore_ship_clear(ship), PHSTORE_OK);
		phstore_ship_fence(ship, phstore_ship_head(ship));
		assert_int_equal(await(pid), PHSTORE_ERR_FENCED);
		/* emptied: for other processes' handles as well */
		assert_int_equal(phstore_get(store, store, "t", k, &rec),
				 PHSTORE_ERR_NOT_FOUND);
		/* what was safe before stays so */
		assert_true(phstore_is_durable(store, safe));
	}
	for (i = 0; i < 4; i++) {
		assert_false(phstore_is_durable(store, lsn[i]));
		assert_int_equal(phstore_barrier(store, lsn[i], 1000),
				 PHSTORE_ERR_FENCED);
	}
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);
	/* and after a recovery it is still empty */
	store = open_store("ctdb", 0);
	{
		struct phstore_stat st;

		assert_int_equal(phstore_stat(store, &st), PHSTORE_OK);
		assert_int_equal(st.num_records, 0);
		assert_int_equal(st.num_damaged, 0);
	}
	assert_int_equal(phstore_close(store), PHSTORE_OK);
}

static int stage_until_refused(void)
{
	struct phstore *store = open_store("ctdb", 0);
	uint64_t lsn = 0;
	enum phstore_err err = PHSTORE_OK;
	int i;

	for (i = 0; err == PHSTORE_OK; i++) {
		char key[32];

		snprintf(key, sizeof(key), "k%d", i % 10);
		err = change(store, key, i % 3 ? "x" : NULL, &lsn);
	}
	return err;
}

static int enter_and_die(void)
{
	struct phstore *store = open_store("ctdb", 0);

	if (phstore_gate_enter(store) != PHSTORE_OK) {
		return 1;
	}
	kill(getpid(), SIGKILL);
	return 2;
}

/* Once publish has returned, nothing is appended any more. */
static void test_gate(void **state)
{
	struct phstore *store = NULL;
	struct phstore_ship *ship = NULL;
	struct phstore_gate g = {};
	uint64_t head, lsn = 0, bar;
	pid_t pid[2];
	int i;

	(void)state;
	new_path();
	store = open_store("ctdb", 0);
	assert_int_equal(change(store, "a", "1", &lsn),
			 PHSTORE_ERR_NOT_READY);
	assert_int_equal(phstore_room(store, 100), PHSTORE_ERR_NOT_READY);
	ship = attach(store);
	assert_int_equal(change(store, "a", "1", &lsn),
			 PHSTORE_ERR_NOT_READY);
	for (i = 0; i < 10; i++) {
		assert_int_equal(gate(ship, 256 + i, true), PHSTORE_OK);
		assert_true(phstore_gate_get(store, &g));
		assert_true(g.open);
		assert_int_equal(g.epoch, 256 + i);
		assert_int_equal(g.generation, 4711);
		assert_int_equal(g.node, 2);
		pid[0] = process("stage", 0, 0);
		pid[1] = process("stage", 0, 0);
		wait_ms(20);
		if (i % 2) {
			assert_int_equal(gate(ship, 0, false), PHSTORE_OK);
		} else {
			assert_int_equal(phstore_gate_close(store, "test"),
					 PHSTORE_OK);
		}
		head = phstore_ship_head(ship);
		assert_int_equal(await(pid[0]), PHSTORE_ERR_NOT_READY);
		assert_int_equal(await(pid[1]), PHSTORE_ERR_NOT_READY);
		assert_int_equal(phstore_ship_head(ship), head);
		phstore_ship_unbar(ship, phstore_ship_bar(ship));
	}
	/* closed from outside: the daemon's word alone does not open it */
	bar = phstore_ship_bar(ship);
	assert_int_equal(phstore_gate_close(store, "recovery"), PHSTORE_OK);
	assert_int_equal(gate(ship, 300, true), PHSTORE_ERR_NOT_READY);
	phstore_ship_unbar(ship, bar);
	assert_int_equal(gate(ship, 300, true), PHSTORE_ERR_NOT_READY);
	assert_int_equal(phstore_gate_wait(store, 30), PHSTORE_ERR_NOT_READY);
	phstore_ship_unbar(ship, phstore_ship_bar(ship));
	assert_int_equal(gate(ship, 300, true), PHSTORE_OK);
	assert_int_equal(phstore_gate_wait(store, 1000), PHSTORE_OK);

	/* one who entered and was killed does not hold it open */
	pid[0] = process("enter", 0, 0);
	assert_int_equal(await(pid[0]), 128 + SIGKILL);
	assert_int_equal(gate(ship, 0, false), PHSTORE_OK);
	assert_int_equal(phstore_gate_enter(store), PHSTORE_ERR_NOT_READY);
	assert_int_equal(gate(ship, 301, true), PHSTORE_OK);
	assert_int_equal(phstore_gate_enter(store), PHSTORE_OK);
	phstore_gate_leave(store);

	/* a version of another epoch */
	{
		struct phstore_txn *txn = phstore_txn_new(store, store);
		struct phstore_blob k = { "e", 1 };
		struct phstore_op_options o = { .version = { 300, 1000 } };

		phstore_txn_put(txn, "t", k, k, &o);
		assert_int_equal(phstore_stage(txn, &lsn),
				 PHSTORE_ERR_FENCED);
	}
	phstore_ship_detach(ship);
	assert_int_equal(change(store, "a", "1", &lsn),
			 PHSTORE_ERR_NOT_READY);
	assert_int_equal(phstore_close(store), PHSTORE_OK);
}

/* All that was staged, in order, once; nothing applied or copied. */
static void test_read(void **state)
{
	struct phstore *store = NULL;
	struct phstore_ship *ship = NULL;
	struct phstore_ship_txn *txn = NULL;
	struct phstore_stat st;
	uint64_t lsns[3000] = {};
	uint64_t lsn = 0;
	char value[200];
	int round, i, n = 0;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	new_path();
	store = open_store("ctdb", 0);
	ship = attach(store);
	assert_int_equal(gate(ship, 256, true), PHSTORE_OK);
	for (round = 0; round < 30; round++) {
		int first = n;

		for (i = 0; i < 100; i++) {
			struct phstore_ship_op op = {
				.table = "other",
				.key = { "x", 1 },
				.value = { value, 100 },
				.version = { 256, n + 1 },
			};
			char key[16];

			snprintf(key, sizeof(key), "%d", n % 50);
			assert_int_equal(change(store, key,
						n % 7 ? value : NULL,
						&lsns[n]), PHSTORE_OK);
			n++;
			assert_int_equal(phstore_ship_apply(ship, &op, 1,
							    &lsn),
					 PHSTORE_OK);
			assert_true(lsn > lsns[n - 1]);
			/* again: nothing newer */
			assert_int_equal(phstore_ship_apply(ship, &op, 1,
							    &lsn),
					 PHSTORE_OK);
			assert_int_equal(lsn, 0);
		}
		for (i = first; i < n; i++) {
			assert_int_equal(phstore_ship_read(ship, &txn),
					 PHSTORE_OK);
			assert_int_equal(txn->end_lsn, lsns[i]);
			assert_int_equal(txn->ops[0].deleted, i % 7 == 0);
		}
		assert_int_equal(phstore_ship_read(ship, &txn),
				 PHSTORE_ERR_NOT_FOUND);
		assert_int_equal(phstore_maintain(store), PHSTORE_OK);
		if (round == 9) {
			/* held back: nothing released */
			assert_int_equal(phstore_stat(store, &st),
					 PHSTORE_OK);
			assert_int_equal(st.tail_lsn, 4096);
			phstore_ship_seek(ship, phstore_ship_released(ship));
			for (i = 0; i < n; i++) {
				assert_int_equal(
					phstore_ship_read(ship, &txn),
					PHSTORE_OK);
				assert_int_equal(txn->end_lsn, lsns[i]);
			}
		}
		if (round >= 9) {
			phstore_ship_release(ship, phstore_ship_tell(ship));
			assert_int_equal(phstore_maintain(store),
					 PHSTORE_OK);
		}
	}
	assert_int_equal(phstore_stat(store, &st), PHSTORE_OK);
	assert_true(st.tail_lsn > 4096);
	assert_true(st.log_bytes <= 4 * st.live_bytes + 64 * 1024);
	/* deleted in its last change, never forgotten: all are there */
	assert_true(st.num_tombstones > 0);
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);

	store = open_store("ctdb", 0);
	ship = attach(store);
	{
		struct phstore_stat st2;

		assert_int_equal(phstore_stat(store, &st2), PHSTORE_OK);
		assert_int_equal(st2.num_tombstones, st.num_tombstones);
		assert_int_equal(st2.num_records, st.num_records);
	}
	assert_int_equal(phstore_ship_forget_all(ship), PHSTORE_OK);
	assert_int_equal(phstore_stat(store, &st), PHSTORE_OK);
	assert_int_equal(st.num_tombstones, 0);
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);
}

static void test_snapshot(void **state)
{
	struct phstore *store = NULL;
	struct phstore_ship *ship = NULL;
	struct phstore_ship_snapshot *snap = NULL;
	struct phstore_ship_op op;
	struct phstore_blob last = {};
	char prev[64] = "";
	uint64_t lsn = 0;
	size_t i;

	(void)state;
	new_path();
	store = open_store("ctdb", 0);
	ship = attach(store);
	assert_int_equal(gate(ship, 256, true), PHSTORE_OK);
	for (i = 0; i < 300; i++) {
		char key[32];

		snprintf(key, sizeof(key), "%zu", (i * 7919) % 300);
		assert_int_equal(change(store, key, i % 5 ? key : NULL, &lsn),
				 PHSTORE_OK);
	}
	assert_int_equal(phstore_ship_snapshot(store, ship, 0, &snap),
			 PHSTORE_OK);
	assert_int_equal(phstore_ship_snapshot_len(snap), 300);
	for (i = 0; i < 300; i++) {
		char full[64];

		assert_int_equal(phstore_ship_snapshot_get(snap, i, &op),
				 PHSTORE_OK);
		snprintf(full, sizeof(full), "t/%.*s", (int)op.key.len,
			 (const char *)op.key.data);
		assert_true(strcmp(full, prev) > 0);
		strcpy(prev, full);
		if (op.deleted) {
			assert_int_equal(op.value.len, 0);
		} else {
			assert_memory_equal(op.value.data, op.key.data,
					    op.key.len);
		}
		full[1] = '\0';
		last = (struct phstore_blob) { full, strlen(prev) };
		assert_int_equal(phstore_ship_snapshot_above(snap, last),
				 i + 1);
	}
	/* exactly that version, or it stays */
	for (i = 0; i < 300; i++) {
		assert_int_equal(phstore_ship_snapshot_get(snap, i, &op),
				 PHSTORE_OK);
		if (op.deleted) {
			break;
		}
	}
	op.version.seq++;
	assert_int_equal(phstore_ship_forget(ship, "t", op.key, op.version),
			 PHSTORE_OK);
	assert_int_equal(phstore_ship_snapshot_get(snap, i, &op), PHSTORE_OK);
	assert_int_equal(phstore_ship_forget(ship, "t", op.key, op.version),
			 PHSTORE_OK);
	assert_int_equal(phstore_ship_snapshot_get(snap, i, &op),
			 PHSTORE_ERR_NOT_FOUND);
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);
}

static int hold_attached(void)
{
	struct phstore *store = open_store("ctdb", 0);
	struct phstore_ship *ship = attach(store);

	(void)gate(ship, 256, true);
	pause();
	return 0;
}

static void test_owner(void **state)
{
	struct phstore_ship_options opts = { .kind = "ctdb", .name = "one" };
	struct phstore_open_options oo = {};
	struct phstore_ship_state st;
	struct phstore_ship *ship = NULL;
	struct phstore *store = NULL, *other = NULL;
	pid_t pid;
	int i;

	(void)state;
	new_path();
	store = open_store("ctdb", 0);
	assert_int_equal(phstore_ship_get_state(store, &st),
			 PHSTORE_ERR_NOT_SUPPORTED);
	pid = process("hold", 0, 0);
	for (i = 0; i < 200; i++) {
		(void)phstore_ship_get_state(store, &st);
		if (st.writable) {
			break;
		}
		wait_ms(10);
	}
	assert_true(st.attached);
	assert_true(st.writable);
	assert_int_equal(st.pid, pid);
	assert_string_equal(st.name, "one");
	assert_string_equal(st.kind, "ctdb");
	assert_int_equal(phstore_ship_attach(store, store, &opts, &ship),
			 PHSTORE_ERR_BUSY);
	kill(pid, SIGKILL);
	await(pid);
	assert_int_equal(phstore_ship_get_state(store, &st), PHSTORE_OK);
	assert_false(st.attached);
	/* the gate stays as it was: staging goes on, nothing is told safe */
	assert_true(st.writable);
	/* of another name, or kind: no */
	opts.name = "two";
	assert_int_equal(phstore_ship_attach(store, store, &opts, &ship),
			 PHSTORE_ERR_SINK);
	ship = attach(store);
	assert_false(phstore_gate_is_open(store));
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);

	/* not without its cluster, and not as rados */
	assert_int_equal(phstore_open(NULL, path, &oo, &other),
			 PHSTORE_ERR_SINK);
	oo.backend = "rados";
	assert_int_equal(phstore_open(NULL, path, &oo, &other),
			 PHSTORE_ERR_SINK);
	oo.backend = NULL;
	oo.flags = PHSTORE_OPEN_ANY_SINK | PHSTORE_OPEN_ALLOW_VOLATILE;
	assert_int_equal(phstore_open(NULL, path, &oo, &other), PHSTORE_OK);
	assert_int_equal(phstore_close(other), PHSTORE_OK);
	oo.flags = PHSTORE_OPEN_RDONLY;
	assert_int_equal(phstore_open(NULL, path, &oo, &other), PHSTORE_OK);
	assert_int_equal(phstore_ship_get_state(other, &st), PHSTORE_OK);
	assert_string_equal(st.name, "one");
	assert_int_equal(phstore_close(other), PHSTORE_OK);

	/* a store that was used alone is not taken silently */
	new_path();
	store = open_store(NULL, 0);
	{
		uint64_t lsn = 0;

		assert_int_equal(change(store, "a", "1", &lsn), PHSTORE_OK);
	}
	assert_int_equal(phstore_close(store), PHSTORE_OK);
	store = open_store("ctdb", 0);
	opts.name = "one";
	assert_int_equal(phstore_ship_attach(store, store, &opts, &ship),
			 PHSTORE_ERR_INVALID);
	opts.adopt = true;
	assert_int_equal(phstore_ship_attach(store, store, &opts, &ship),
			 PHSTORE_OK);
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);
}

/* What is not shipped is bounded: a clear error, not a full disk. */
static void test_backlog(void **state)
{
	struct phstore_ship_options opts = {
		.kind = "ctdb", .name = "one", .backlog_max = 100000,
	};
	struct phstore *store = NULL;
	struct phstore_ship *ship = NULL;
	char value[1000];
	uint64_t lsn = 0;
	int i;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	new_path();
	store = open_store("ctdb", 0);
	assert_int_equal(phstore_ship_attach(store, store, &opts, &ship),
			 PHSTORE_OK);
	assert_int_equal(gate(ship, 256, true), PHSTORE_OK);
	for (i = 0; i < 1000; i++) {
		if (change(store, "a", value, &lsn) != PHSTORE_OK) {
			break;
		}
	}
	assert_in_range(i, 150, 250);
	assert_int_equal(phstore_room(store, 10), PHSTORE_ERR_NOT_READY);
	/* what lets go of something has a reserve */
	assert_int_equal(change(store, "a", NULL, &lsn), PHSTORE_OK);
	phstore_ship_release(ship, phstore_ship_head(ship));
	assert_int_equal(change(store, "a", value, &lsn), PHSTORE_OK);
	assert_int_equal(phstore_room(store, 10), PHSTORE_OK);
	phstore_ship_detach(ship);
	assert_int_equal(phstore_close(store), PHSTORE_OK);
}

static int allocate_full(int fd, off_t len)
{
	(void)fd;
	(void)len;
	errno = ENOSPC;
	return -1;
}

/* Copies of others' records, until there is no room for one more. */
static void fill_up(struct phstore_ship *ship, uint64_t epoch, size_t len)
{
	char value[5000] = "";
	enum phstore_err err;
	uint64_t lsn = 0;
	unsigned int i;

	for (i = 1, err = PHSTORE_OK; err == PHSTORE_OK; i++) {
		struct phstore_ship_op op = {
			.table = "t",
			.key = { "a", 1 },
			.value = { value, len },
			.version = { .epoch = epoch, .seq = i },
			.durability = PHSTORE_CLASS_SYNC,
		};

		err = phstore_ship_apply(ship, &op, 1, &lsn);
	}
	assert_int_equal(err, PHSTORE_ERR_FULL);
}

/* Seen to fail with copies that may use the log up to its end. */
static void test_clear_full(void **state)
{
	struct phstore_io_ops full = phstore_io_posix;
	struct phstore_record rec = {};
	struct phstore_blob key = { "a", 1 };
	size_t i;

	(void)state;
	full.allocate = allocate_full;
	/* so that each number of bytes is left at the end */
	for (i = 0; i < 32; i++) {
		struct phstore *store = NULL;
		struct phstore_ship *ship = NULL;

		new_path();
		store = open_store("ctdb", 0);
		ship = attach(store);
		phstore_io = &full;
		fill_up(ship, 256, 4000 + 8 * i);
		fill_up(ship, 512, 80);
		fill_up(ship, 768, 1);
		assert_int_equal(phstore_get(store, store, "t", key, &rec),
				 PHSTORE_OK);
		assert_int_equal(phstore_ship_clear(ship), PHSTORE_OK);
		assert_int_equal(phstore_get(store, store, "t", key, &rec),
				 PHSTORE_ERR_NOT_FOUND);
		phstore_io = &phstore_io_posix;
		phstore_ship_detach(ship);
		assert_int_equal(phstore_close(store), PHSTORE_OK);
		/* nothing comes back */
		store = open_store("ctdb", 0);
		assert_int_equal(phstore_get(store, store, "t", key, &rec),
				 PHSTORE_ERR_NOT_FOUND);
		assert_int_equal(phstore_close(store), PHSTORE_OK);
	}
}

static int child(char *argv[])
{
	snprintf(path, sizeof(path), "%s", argv[2]);
	if (strcmp(argv[1], "commit") == 0) {
		return commit_one((enum phstore_class)atoi(argv[3]),
				  atoi(argv[4]) != 0);
	}
	if (strcmp(argv[1], "stage") == 0) {
		return stage_until_refused();
	}
	if (strcmp(argv[1], "enter") == 0) {
		return enter_and_die();
	}
	return hold_attached();
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_watermarks),
		cmocka_unit_test(test_fence),
		cmocka_unit_test(test_gate),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_clear_full),
	};

	if (argc == 5) {
		/* the store stays open: no look for leaks */
		_exit(child(argv));
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Event loops that wait for barriers, while their leaders are killed
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fear: a wake-up that gets lost leaves a client without an answer for
 * ever; one that comes too early acknowledges what is not durable. Some
 * processes keep several barriers of one event loop in flight, some use
 * blocking commits; all the time one of most is killed and replaced. Every
 * request must complete within a bound that has nothing to do with luck,
 * every completed one must be durable.
 *
 * Seen to fail with: notify_send() doing nothing and no fallback timer (a
 * client hangs).
 */

#include <phstore.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NUM_PROCS 12
#define DEPTH 3
#define RUN_SECONDS 8
/* a killed leader costs 20 ms each; this is a hang */
#define HANG_NS 5000000000ULL

struct shared {
	_Atomic uint64_t completed[NUM_PROCS];
	_Atomic uint64_t slowest_ns;
	_Atomic uint32_t failures;
};

struct client {
	struct phstore *store;
	struct tevent_context *ev;
	struct shared *sh;
	int id;
	unsigned int counter;
};

struct one {
	struct client *client;
	struct phstore_txn *txn;
	uint64_t start_ns;
	uint64_t lsn;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void fail(struct shared *sh, const char *what)
{
	printf("not ok - %s: %s\n", what, phstore_last_error());
	fflush(stdout);
	atomic_fetch_add(&sh->failures, 1);
	_exit(1);
}

static void client_begin(struct one *one);

static void client_done(struct tevent_req *req)
{
	struct one *one = tevent_req_callback_data_void(req);
	struct client *c = one->client;
	uint64_t ns = now_ns() - one->start_ns;
	enum phstore_err err;

	err = phstore_barrier_recv(req);
	talloc_free(req);
	if (err != PHSTORE_OK) {
		fail(c->sh, phstore_errname(err));
	}
	if (!phstore_is_durable(c->store, one->lsn)) {
		fail(c->sh, "answered, not durable");
	}
	if (ns > atomic_load(&c->sh->slowest_ns)) {
		atomic_store(&c->sh->slowest_ns, ns);
	}
	atomic_fetch_add(&c->sh->completed[c->id], 1);
	talloc_free(one->txn);
	client_begin(one);
}

static void client_begin(struct one *one)
{
	struct client *c = one->client;
	struct tevent_req *req = NULL;
	enum phstore_err err;
	char key[32];

	snprintf(key, sizeof(key), "%d.%u", c->id, c->counter++ % 20);
	one->start_ns = now_ns();
	one->txn = phstore_txn_new(c->store, c->store);
	err = phstore_txn_put(one->txn, "t",
			      (struct phstore_blob) { key, strlen(key) },
			      (struct phstore_blob) { &one->start_ns, 8 },
			      NULL);
	if (err == PHSTORE_OK) {
		err = phstore_stage(one->txn, &one->lsn);
	}
	if (err != PHSTORE_OK) {
		fail(c->sh, phstore_errname(err));
	}
	if (c->counter % 3 == 0) {
		phstore_barrier_start(c->store, one->lsn);
	}
	req = phstore_barrier_send(c->store, c->ev, c->store, one->lsn);
	if (req == NULL) {
		fail(c->sh, "no memory");
	}
	tevent_req_set_callback(req, client_done, one);
}

static void client_main(struct phstore *store, struct shared *sh, int id)
{
	struct client c = { .store = store, .sh = sh, .id = id };
	struct one ones[DEPTH] = {};
	int i;

	if (id % 4 == 3) {
		/* blocking committers among them */
		while (true) {
			struct phstore_txn *txn = phstore_txn_new(store, store);
			enum phstore_err err;

			err = phstore_txn_put(
				txn, "t", (struct phstore_blob) { &id, 4 },
				(struct phstore_blob) { &c.counter, 4 }, NULL);
			if (err == PHSTORE_OK) {
				err = phstore_commit(txn, NULL);
			}
			if (err != PHSTORE_OK) {
				fail(sh, phstore_errname(err));
			}
			c.counter += 1;
			atomic_fetch_add(&sh->completed[id], 1);
			talloc_free(txn);
		}
	}
	c.ev = tevent_context_init(NULL);
	for (i = 0; i < DEPTH; i++) {
		ones[i].client = &c;
		client_begin(&ones[i]);
	}
	while (true) {
		tevent_loop_once(c.ev);
	}
}

static pid_t client_fork(struct phstore *store, struct shared *sh, int id)
{
	pid_t pid = fork();

	if (pid == 0) {
		client_main(store, sh, id);
		_exit(1);
	}
	return pid;
}

int main(void)
{
	const char *tmp = getenv("TEST_TMP");
	struct phstore_open_options opts = { .flags = PHSTORE_OPEN_CREATE };
	struct phstore *store = NULL;
	struct shared *sh = NULL;
	uint64_t before[NUM_PROCS] = {};
	uint64_t began[NUM_PROCS] = {};
	pid_t pids[NUM_PROCS];
	uint64_t total = 0;
	enum phstore_err err;
	unsigned int kills = 0;
	uint64_t end;
	char path[512];
	int i;

	snprintf(path, sizeof(path), "%s/notify.%d",
		 tmp != NULL ? tmp : "/var/tmp", (int)getpid());
	err = phstore_open(NULL, path, &opts, &store);
	if (err != PHSTORE_OK) {
		printf("not ok - open: %s\n", phstore_last_error());
		return 1;
	}
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED) {
		return 1;
	}
	for (i = 0; i < NUM_PROCS; i++) {
		pids[i] = client_fork(store, sh, i);
		began[i] = now_ns();
	}
	srandom(1);
	end = now_ns() + RUN_SECONDS * 1000000000ULL;
	while (now_ns() < end && atomic_load(&sh->failures) == 0) {
		struct timespec nap = { .tv_nsec = 10000000 };

		nanosleep(&nap, NULL);
		/* the first four live on: what hangs in them shows */
		i = 4 + random() % (NUM_PROCS - 4);
		if (random() % 2 == 0) {
			kill(pids[i], SIGKILL);
			waitpid(pids[i], NULL, 0);
			pids[i] = client_fork(store, sh, i);
			began[i] = now_ns();
			kills += 1;
		}
		for (i = 0; i < NUM_PROCS; i++) {
			uint64_t n = atomic_load(&sh->completed[i]);
			int status = 0;

			if (waitpid(pids[i], &status, WNOHANG) != 0) {
				printf("not ok - client %d ended (%d)\n",
				       i, status);
				atomic_fetch_add(&sh->failures, 1);
				break;
			}

			if (n != before[i]) {
				before[i] = n;
				began[i] = now_ns();
			} else if (now_ns() - began[i] > HANG_NS) {
				printf("not ok - client %d hangs\n", i);
				atomic_fetch_add(&sh->failures, 1);
				break;
			}
		}
	}
	for (i = 0; i < NUM_PROCS; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
		total += atomic_load(&sh->completed[i]);
	}
	err = phstore_verify(store);
	if (err != PHSTORE_OK) {
		printf("not ok - verify: %s\n", phstore_last_error());
		atomic_fetch_add(&sh->failures, 1);
	}
	err = phstore_close(store);
	if (err != PHSTORE_OK) {
		printf("not ok - close: %s\n", phstore_last_error());
		atomic_fetch_add(&sh->failures, 1);
	}
	if (atomic_load(&sh->failures) != 0) {
		return 1;
	}
	printf("ok - %llu barriers, %u processes killed, slowest answer "
	       "%llu us\n", (unsigned long long)total, kills,
	       (unsigned long long)(atomic_load(&sh->slowest_ns) / 1000));
	return total > 1000 ? 0 : 1;
}

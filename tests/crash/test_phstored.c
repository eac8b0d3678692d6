/*
 * phstored: three daemons, writers beside them, and what may happen
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * test-timeout: 400
 *
 * The fears: something a writer was told is safe is gone after daemons,
 * nodes or a disk were lost (P1); something deleted or older is back (P3);
 * after all nodes were down nothing comes, or the wrong thing (P4); a node
 * alone goes on, or does not say whom it waits for.
 *
 * The daemons are real processes with real stores; ctdb's view is a file
 * (phd_net_dir.c). Writers journal what they try and what was acknowledged.
 * After each round all nodes must hold the same, and that must be, per key,
 * the last acknowledged operation or one tried after it.
 *
 * SEED repeats a run's choices, ROUNDS sets their number. For tests on real
 * ctdbds (tests/cluster): `writer STORE JOURNAL NODE` is a writer, `check WHEN
 * (STORE JOURNAL)...` compares three nodes.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "phstore_ship.h"

#define NODES 3
#define KEYS 25
#define WAIT_MS 60000

static char dir[400];
static char stores[NODES][450];
static char journals[NODES][450];
static char daemon_path[400];
static pid_t daemons[NODES];
static pid_t writers[NODES];
static unsigned int generation;
static uint64_t rng;
static int num_checks;

static uint64_t pick(uint64_t below)
{
	uint64_t z = (rng += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) % below;
}

static void fail(const char *fmt, ...)
{
	va_list ap;
	int i;

	printf("not ok %d - ", ++num_checks);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n# kept: %s\n", dir);
	for (i = 0; i < NODES; i++) {
		if (daemons[i] > 0) {
			kill(daemons[i], SIGKILL);
		}
		if (writers[i] > 0) {
			kill(writers[i], SIGKILL);
		}
	}
	exit(1);
}

static void ok(const char *fmt, ...)
{
	va_list ap;

	printf("ok %d - ", ++num_checks);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

static void nap(int ms)
{
	struct timespec ts = { ms / 1000, (ms % 1000) * 1000000L };

	nanosleep(&ts, NULL);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- ctdb's view ---- */

static void view(unsigned int up, bool new_generation, const char *word)
{
	char tmp[450], path[450];
	FILE *f = NULL;

	generation += new_generation ? 1 : 0;
	snprintf(tmp, sizeof(tmp), "%s/net/view.tmp", dir);
	snprintf(path, sizeof(path), "%s/net/view", dir);
	f = fopen(tmp, "w");
	fprintf(f, "%x %x %x %s\n", generation, (1 << NODES) - 1, up, word);
	fclose(f);
	rename(tmp, path);
}

/* ---- processes ---- */

static void start_daemon(int i)
{
	char net[450], log[450], node[8];
	pid_t pid;

	snprintf(net, sizeof(net), "%s/net", dir);
	snprintf(log, sizeof(log), "%s/log%d", dir, i);
	snprintf(node, sizeof(node), "%d", i);
	pid = fork();
	if (pid == 0) {
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

		dup2(fd, 2);
		execl(daemon_path, "phstored", "--store", stores[i],
		      "--peers-dir", net, "--node", node, "--copies", "2",
		      "--segment-size", "65536", "--debug-level", "5",
		      "--allow-volatile", NULL);
		_exit(127);
	}
	daemons[i] = pid;
}

static void start_writer(int i)
{
	char node[8];
	pid_t pid;

	snprintf(node, sizeof(node), "%d", i);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_phstored", "writer", stores[i],
		      journals[i], node, NULL);
		_exit(127);
	}
	writers[i] = pid;
}

static void end(pid_t *pid, int sig)
{
	if (*pid > 0) {
		kill(*pid, sig);
		kill(*pid, SIGCONT);
		waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}

static bool ask(int i, const char *command, char *answer, size_t size)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = 3 };
	size_t len = 0;
	ssize_t n = 0;
	int fd, ret;

	snprintf(addr.sun_path, sizeof(addr.sun_path),
		 "%.80s/n%d/phstored.sock", dir, i);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	ret = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret == 0) {
		n = send(fd, command, strlen(command), MSG_NOSIGNAL);
	}
	while (ret == 0 && n > 0 && len + 1 < size) {
		n = recv(fd, answer + len, size - 1 - len, 0);
		len += n > 0 ? (size_t)n : 0;
	}
	answer[len] = '\0';
	close(fd);
	return len > 0;
}

static bool is_ready(int i)
{
	char answer[16384], want[64];
	bool got = ask(i, "status\n", answer, sizeof(answer));

	snprintf(want, sizeof(want), "\"generation\":%u,", generation);
	return got && strstr(answer, "\"ca_ready\":true") != NULL &&
	       strstr(answer, want) != NULL;
}

static uint64_t wait_ready(unsigned int set, const char *what)
{
	uint64_t start = now_ms();
	int i;

	for (i = 0; i < NODES; i++) {
		while ((set & (1U << i)) && !is_ready(i)) {
			if (now_ms() - start > WAIT_MS) {
				fail("%s: node %d is not ready", what, i);
			}
			nap(10);
		}
	}
	return now_ms() - start;
}

/* ---- the writer ---- */

static struct phstore *open_store(int node, bool create)
{
	struct phstore_open_options oo = {
		.flags = PHSTORE_OPEN_ALLOW_VOLATILE |
			 (create ? PHSTORE_OPEN_CREATE : 0),
		.backend = "ctdb",
		.segment_size = 65536,
	};
	struct phstore *store = NULL;
	enum phstore_err err;

	err = phstore_open(NULL, stores[node], &oo, &store);
	if (err != PHSTORE_OK) {
		fprintf(stderr, "open: %s\n", phstore_last_error());
		return NULL;
	}
	return store;
}

static void journal(int fd, char what, int key, unsigned int n, bool del)
{
	char line[64];
	int len = snprintf(line, sizeof(line), "%c %d %u %d\n", what, key, n,
			   (int)del);

	if (write(fd, line, len) != len) {
		_exit(3);
	}
}

static unsigned int last_number(const char *path)
{
	unsigned int n = 0, max = 0;
	int key, del;
	char what;
	FILE *f = fopen(path, "r");

	while (f != NULL &&
	       fscanf(f, " %c %d %u %d", &what, &key, &n, &del) == 4)
	{
		max = n > max ? n : max;
	}
	if (f != NULL) {
		fclose(f);
	}
	return max;
}

/*
 * Acknowledged: then it is in this node's store whenever the gate is open
 * (nobody else writes this key). What was undone in between is not.
 */
static bool is_there(struct phstore *store, struct phstore_blob key,
		     unsigned int n, bool del)
{
	struct phstore_gate a = {}, b = {};
	struct phstore_record rec = {};
	enum phstore_err err = PHSTORE_OK;
	unsigned int found = 0;
	TALLOC_CTX *mem = talloc_new(NULL);

	while (!a.open || !b.open || a.epoch != b.epoch) {
		err = phstore_gate_wait(store, 100);
		if (err != PHSTORE_OK) {
			continue;
		}
		phstore_gate_get(store, &a);
		err = phstore_get(mem, store, "t", key, &rec);
		phstore_gate_get(store, &b);
	}
	if (err == PHSTORE_OK) {
		found = (unsigned int)atoi(rec.value.data);
	}
	talloc_free(mem);
	return del ? err == PHSTORE_ERR_NOT_FOUND : found == n;
}

static int writer(int node)
{
	struct phstore_version seen[KEYS] = {};
	struct phstore *store = open_store(node, true);
	const char *path = journals[node];
	unsigned int n;
	int fd;

	if (store == NULL) {
		return 1;
	}
	n = last_number(path);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	rng = n * 77777 + node + (uint64_t)getpid();
	while (getppid() != 1) {
		struct phstore_op_options opts = {};
		struct phstore_txn *txn = NULL;
		int key = (int)pick(KEYS);
		bool del = pick(3) == 0;
		char k[32], v[300];
		struct phstore_blob kb, vb = { v, sizeof(v) };
		enum phstore_err err;

		err = phstore_gate_wait(store, 100);
		if (err != PHSTORE_OK) {
			continue;
		}
		n++;
		memset(v, 'v', sizeof(v));
		snprintf(v, sizeof(v), "%u", n);
		snprintf(k, sizeof(k), "w%d-%d", node, key);
		kb = (struct phstore_blob) { k, strlen(k) };
		opts.durability = PHSTORE_CLASS_SYNC;
		opts.seen = seen[key];
		txn = phstore_txn_new(NULL, store);
		if (del) {
			phstore_txn_delete(txn, "t", kb, &opts);
		} else {
			phstore_txn_put(txn, "t", kb, vb, &opts);
		}
		journal(fd, 'T', key, n, del);
		err = phstore_commit(txn, NULL);
		if (phstore_txn_version(txn, 0).epoch != 0 &&
		    err != PHSTORE_ERR_NOT_READY)
		{
			seen[key] = phstore_txn_version(txn, 0);
		}
		talloc_free(txn);
		if (err == PHSTORE_OK) {
			journal(fd, 'A', key, n, del);
			if (!is_there(store, kb, n, del)) {
				fprintf(stderr, "writer %d: %s %u was "
					"acknowledged and is not there\n",
					node, k, n);
				return 4;
			}
		} else if (err != PHSTORE_ERR_FENCED &&
			   err != PHSTORE_ERR_NOT_READY)
		{
			fprintf(stderr, "writer %d: %s\n", node,
				phstore_last_error());
			return 2;
		}
	}
	return 0;
}

/* ---- checking ---- */

#define OPS_MAX 200000
struct tried {
	int key;
	unsigned int n;
	bool del, acked;
};

struct found {
	unsigned int n[NODES * KEYS];	/* 0: absent */
	int unexpected;
};

static int found_fn(const char *table, const struct phstore_record *rec,
		    void *private_data)
{
	struct found *f = private_data;
	char key[32] = "";
	int w, k;

	if (rec->key.len < sizeof(key)) {
		memcpy(key, rec->key.data, rec->key.len);
	}
	if (strcmp(table, "t") != 0 || sscanf(key, "w%d-%d", &w, &k) != 2) {
		f->unexpected++;
		return 0;
	}
	f->n[w * KEYS + k] = (unsigned int)atoi(rec->value.data);
	return 0;
}

static size_t read_journal(int w, struct tried *ops)
{
	struct tried t;
	char what;
	size_t num = 0;
	int del;
	FILE *f = NULL;

	f = fopen(journals[w], "r");
	while (f != NULL && num < OPS_MAX &&
	       fscanf(f, " %c %d %u %d", &what, &t.key, &t.n, &del) == 4)
	{
		t.del = del;
		t.acked = false;
		if (what == 'T') {
			ops[num++] = t;
		} else if (num > 0) {
			ops[num - 1].acked = true;
		}
	}
	if (f != NULL) {
		fclose(f);
	}
	return num;
}

/* Is what is there the last acked operation, or one tried after it? */
static uint64_t check_journal(int w, const struct found *f, const char *when)
{
	static struct tried ops[OPS_MAX];
	size_t num = read_journal(w, ops);
	uint64_t acked = 0;
	size_t i;
	int key;

	for (key = 0; key < KEYS; key++) {
		unsigned int is = f->n[w * KEYS + key];
		unsigned int last_acked = 0;
		bool fits = is == 0;

		for (i = 0; i < num; i++) {
			if (ops[i].key != key) {
				continue;
			}
			if (ops[i].acked) {
				last_acked = ops[i].n;
				fits = ops[i].del ? is == 0 :
						    is == ops[i].n;
				acked++;
			} else if (ops[i].del ? is == 0 : is == ops[i].n) {
				fits = true;
			}
		}
		if (!fits) {
			fail("%s: w%d-%d is %u, last acknowledged %u", when,
			     w, key, is, last_acked);
		}
	}
	return acked;
}

static uint64_t check(const char *when)
{
	struct found f[NODES] = {};
	uint64_t acked = 0;
	int i, key;

	for (i = 0; i < NODES; i++) {
		struct phstore *store = open_store(i, false);
		enum phstore_err err;

		if (store == NULL) {
			fail("%s: store %d", when, i);
		}
		err = phstore_scan(store, NULL, found_fn, &f[i], NULL);
		if (err != PHSTORE_OK || f[i].unexpected != 0) {
			fail("%s: scan of node %d: %s", when, i,
			     phstore_last_error());
		}
		phstore_close(store);
		for (key = 0; key < NODES * KEYS; key++) {
			if (f[i].n[key] != f[0].n[key]) {
				fail("%s: w%d-%d is %u on node 0, %u on %d",
				     when, key / KEYS, key % KEYS,
				     f[0].n[key], f[i].n[key], i);
			}
		}
	}
	for (i = 0; i < NODES; i++) {
		acked += check_journal(i, &f[0], when);
	}
	return acked;
}

/* ---- what may happen ---- */

static void kill_node(int i)
{
	end(&daemons[i], SIGKILL);
	end(&writers[i], SIGKILL);
}

static void run_node(int i)
{
	start_daemon(i);
	start_writer(i);
}

static void remove_store(int i)
{
	const char *path = stores[i];
	struct dirent *de = NULL;
	char name[720];
	DIR *d = NULL;

	d = opendir(path);
	while (d != NULL && (de = readdir(d)) != NULL) {
		snprintf(name, sizeof(name), "%s/%s", path, de->d_name);
		(void)unlink(name);
	}
	if (d != NULL) {
		closedir(d);
	}
	(void)rmdir(path);
}

static void cold_start(void)
{
	int first = (int)pick(NODES), second = (first + 1) % NODES;
	int last = (first + 2) % NODES;
	char answer[16384] = "";
	uint64_t start;
	int i;

	for (i = 0; i < NODES; i++) {
		kill_node(i);
	}
	/* alone: it waits, and says for whom */
	view(1U << first, true, "");
	run_node(first);
	start = now_ms();
	while (strstr(answer, "waits for 1 of the nodes") == NULL) {
		(void)ask(first, "status\n", answer, sizeof(answer));
		if (strstr(answer, "\"ca_ready\":true") != NULL ||
		    now_ms() - start > WAIT_MS)
		{
			fail("a node alone: %s", answer);
		}
		nap(20);
	}
	/* two are enough */
	run_node(second);
	view((1U << first) | (1U << second), true, "");
	wait_ready((1U << first) | (1U << second), "two of three");
	nap(300);
	run_node(last);
	view(7, true, "");
}

/* Both others acknowledge again, without a new view. */
static void wait_acks(int gone, unsigned int others)
{
	uint64_t start = now_ms();
	off_t was[NODES] = {};
	struct stat st;
	int i;

	/* what was under way before is over by then */
	nap(300);
	for (i = 0; i < NODES; i++) {
		was[i] = stat(journals[i], &st) == 0 ? st.st_size : 0;
	}
	for (i = 0; i < NODES; i++) {
		while ((others & (1U << i)) &&
		       (stat(journals[i], &st) != 0 ||
			st.st_size < was[i] + 500))
		{
			if (now_ms() - start > WAIT_MS) {
				fail("daemon %d is gone, node %d gets no "
				     "acknowledgement", gone, i);
			}
			nap(20);
		}
	}
}

static const char *disturb(void)
{
	int i = (int)pick(NODES);
	unsigned int others = 7 & ~(1U << i);

	switch (pick(9)) {
	case 0:
		end(&daemons[i], SIGKILL);
		nap((int)pick(400));
		start_daemon(i);
		return "a daemon is killed and comes back";
	case 1:
		kill_node(i);
		nap((int)pick(200));
		view(others, true, "");
		nap((int)pick(1000));
		run_node(i);
		nap((int)pick(300));
		view(7, true, "");
		return "a node is killed and comes back";
	case 2:
		kill_node(i);
		remove_store(i);
		view(others, true, "");
		wait_ready(others, "after the loss of a disk");
		nap((int)pick(300));
		run_node(i);
		view(7, true, "");
		return "a node comes back with an empty disk";
	case 3:
		cold_start();
		return "all are killed, one waits, two begin";
	case 4:
		view(7, false, "recovering");
		nap((int)pick(300));
		view(7, true, "");
		return "ctdb recovers";
	case 5:
		kill(daemons[i], SIGSTOP);
		nap((int)pick(1500));
		kill(daemons[i], SIGCONT);
		return "a daemon is stopped for a while";
	case 6:
		/* cut off, but alive; the others go on without it */
		view(others, true, "");
		nap((int)pick(1500));
		view(7, true, "");
		return "a node is cut off and comes back";
	case 7:
		/* ctdb goes on without noticing: so must the others */
		end(&daemons[i], SIGKILL);
		wait_acks(i, others);
		start_daemon(i);
		return "a daemon is gone while ctdb calls its node active";
	default:
		end(&writers[i], SIGKILL);
		end(&daemons[(i + 1) % NODES], SIGKILL);
		end(&daemons[(i + 2) % NODES], SIGKILL);
		nap((int)pick(300));
		start_daemon((i + 1) % NODES);
		start_daemon((i + 2) % NODES);
		start_writer(i);
		return "a writer and two daemons are killed and come back";
	}
}

static void round_of(int number)
{
	const char *what = NULL;
	uint64_t acked, ms;
	int i;

	for (i = 0; i < NODES; i++) {
		if (writers[i] == 0) {
			start_writer(i);
		}
	}
	nap(100 + (int)pick(300));
	what = disturb();
	wait_ready(7, what);
	nap((int)pick(200));
	for (i = 0; i < NODES; i++) {
		int status = 0;

		if (waitpid(writers[i], &status, WNOHANG) != 0) {
			writers[i] = 0;
			fail("%s: writer %d ended by itself", what, i);
		}
		end(&writers[i], SIGKILL);
		if (waitpid(daemons[i], &status, WNOHANG) != 0) {
			daemons[i] = 0;
			fail("%s: daemon %d ended by itself", what, i);
		}
	}
	view(7, true, "");
	ms = wait_ready(7, what);
	acked = check(what);
	ok("round %d: %s (%" PRIu64 " acknowledged in all, epoch after %"
	   PRIu64 " ms)", number, what, acked, ms);
}

int main(int argc, char *argv[])
{
	const char *tmp = getenv("TEST_TMP");
	const char *build = getenv("PHSTORE_BUILD");
	const char *seed = getenv("SEED");
	const char *rounds = getenv("ROUNDS");
	int num = rounds != NULL ? atoi(rounds) : 16;
	char path[450];
	int i;

	if (argc == 5 && strcmp(argv[1], "writer") == 0) {
		i = atoi(argv[4]) % NODES;
		snprintf(stores[i], sizeof(stores[i]), "%s", argv[2]);
		snprintf(journals[i], sizeof(journals[i]), "%s", argv[3]);
		return writer(i);
	}
	if (argc == 3 + 2 * NODES && strcmp(argv[1], "check") == 0) {
		for (i = 0; i < NODES; i++) {
			snprintf(stores[i], sizeof(stores[i]), "%s",
				 argv[3 + 2 * i]);
			snprintf(journals[i], sizeof(journals[i]), "%s",
				 argv[4 + 2 * i]);
		}
		printf("acknowledged %" PRIu64 "\n", check(argv[2]));
		return 0;
	}
	snprintf(dir, sizeof(dir), "%s", tmp != NULL ? tmp : "/var/tmp/phd");
	snprintf(daemon_path, sizeof(daemon_path), "%s/phstored",
		 build != NULL ? build : "build");
	rng = seed != NULL ? strtoull(seed, NULL, 0) : 41;
	printf("# SEED=%" PRIu64 "\n", rng);
	mkdir(dir, 0700);
	for (i = 0; i < NODES; i++) {
		snprintf(stores[i], sizeof(stores[i]), "%s/n%d", dir, i);
		snprintf(journals[i], sizeof(journals[i]), "%s/journal%d",
			 dir, i);
	}
	snprintf(path, sizeof(path), "%s/net", dir);
	mkdir(path, 0700);
	view(7, true, "");
	for (i = 0; i < NODES; i++) {
		run_node(i);
	}
	wait_ready(7, "the first epoch");
	ok("a new cluster begins");
	for (i = 0; i < num; i++) {
		round_of(i);
	}
	for (i = 0; i < NODES; i++) {
		end(&writers[i], SIGKILL);
		end(&daemons[i], SIGTERM);
	}
	printf("1..%d\n", num_checks);
	return 0;
}

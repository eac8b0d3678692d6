/*
 * phstore: simulator: a cluster under load, in virtual time
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The core's own code on N nodes, nothing fails: what a commit costs in
 * messages, bytes and syncs, and how long it takes when disk, network and
 * processors take the times they are given. bench/model predicts these and is
 * checked against them.
 *
 * A node is: M processors for its smbds, one for its phstored (what arrives
 * meanwhile waits, and is then one batch), a disk that does one sync at a
 * time (who comes meanwhile shares the next one) and a network card. A client
 * thinks, costs its smbd some time, stages the records of an open (or their
 * deletion, of a close) and waits for its barrier.
 *
 * Counts are the core's; times are as good as the constants.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl_private.h"
#include "sim.h"
#include "sim_events.h"

#define TICK_NS 50000000ULL
#define SWEEP_TICKS 40		/* these two as phstored has them */
#define SWEEP_PIECE 32
#define SWEEP_NS (SWEEP_TICKS * TICK_NS)
#define GENERATION 7
#define NONE UINT32_MAX
#define MAX_CORES 256

enum { EV_JOB, EV_CPU, EV_WORK, EV_STAGE, EV_SYNC, EV_DISK };
enum { Q_CORE, Q_DISK, Q_NUM };
enum { JOB_RECEIVE, JOB_TAIL, JOB_SYNCED, JOB_TICK, JOB_TURN };

struct client {
	uint8_t node;
	bool closing;
	bool local;			/* its node's disk has it */
	bool remote;			/* the core has told so */
	unsigned int left;		/* records not handed in */
	uint64_t pos;
	uint64_t seq;
	uint64_t began;
	uint64_t staged;
	uint32_t next[Q_NUM];
};

struct queue {
	uint32_t first;
	uint32_t last;
};

struct job {
	struct job *next;
	struct event ev;
};

struct node {
	struct repl_core *core;
	uint64_t epoch;
	struct job *jobs, **jobs_end;
	bool running;
	uint64_t cpu_busy;
	uint64_t smbd_free[MAX_CORES];
	uint64_t smbd_busy;
	uint64_t card_free;
	uint64_t disk_busy;
	bool syncing;
	bool core_now, core_next;	/* phstored waits for the sync */
	struct queue sync_now, sync_next;
	bool any_next;
	struct queue log;		/* staged, not handed in */
	struct queue wait;		/* handed in */
	bool tail_set;
	bool turn_set;
};

static struct {
	unsigned int nodes, copies, clients, cores, records;
	bool replicated;
	uint64_t think, sync, latency, wake, msg, item, swept, told, smbd;
	double ns_per_byte;
	uint64_t bytes, warmup, length, seed;
} conf = {
	.nodes = 3, .copies = 2, .clients = 8, .cores = 2, .records = 2,
	.sync = 120000, .latency = 50000, .wake = 20000, .msg = 15000,
	.item = 4000, .swept = 2000, .told = 10000, .smbd = 270000,
	.ns_per_byte = 8, .bytes = 400,
	.warmup = 600000000, .length = 2000000000, .seed = 1,
};

static struct sim rng;
static struct node nodes[PHSTORE_NODES_MAX];
static struct client *clients;
static uint64_t now;
static uint64_t job_cost;		/* of the job under way */
static bool in_turn;			/* it is a piece of a sweep */
static uint64_t *latencies, *waits;
static size_t num_lat, size_lat;
static bool measuring;
static struct { uint64_t ship, ack, sweep, bytes, syncs; } did;

/* ---- queues of clients ---- */

static void enqueue(struct queue *q, int which, uint32_t c)
{
	clients[c].next[which] = NONE;
	if (q->first == NONE) {
		q->first = c;
	} else {
		clients[q->last].next[which] = c;
	}
	q->last = c;
}

static uint32_t dequeue(struct queue *q, int which)
{
	uint32_t c = q->first;

	q->first = clients[c].next[which];
	return c;
}

/* ---- the client ---- */

static double uniform(void)
{
	return (sim_random(&rng, 1ULL << 40) + 0.5) / (double)(1ULL << 40);
}

static void client_next(uint32_t c)
{
	uint64_t from = now + job_cost;

	if (conf.think != 0) {
		from += (uint64_t)(-log(uniform()) * (double)conf.think);
	}
	events_at(from, (struct event) { .what = EV_WORK, .client = c });
}

/* The request has come: its smbd works, and then stages. */
static void work(uint32_t c)
{
	struct node *nd = &nodes[clients[c].node];
	uint64_t from = now, *core = &nd->smbd_free[0];
	unsigned int i;

	for (i = 1; i < conf.cores; i++) {
		if (nd->smbd_free[i] < *core) {
			core = &nd->smbd_free[i];
		}
	}
	if (*core > from) {
		from = *core;
	}
	clients[c].began = now;
	*core = from + conf.smbd;
	nd->smbd_busy += measuring ? conf.smbd : 0;
	events_at(*core, (struct event) { .what = EV_STAGE, .client = c });
}

static void client_done(uint32_t c)
{
	struct client *cl = &clients[c];

	if (!cl->remote || !(cl->local || conf.replicated)) {
		return;
	}
	if (measuring && num_lat < size_lat) {
		waits[num_lat] = now + job_cost - cl->staged;
		latencies[num_lat++] = now + job_cost - cl->began;
	}
	cl->closing = !cl->closing;
	client_next(c);
}

/* ---- the disk ---- */

static void disk_begin(uint8_t n)
{
	struct node *nd = &nodes[n];
	uint64_t t = conf.sync * 9 / 10 + sim_random(&rng, conf.sync / 5 + 1);

	nd->syncing = true;
	nd->core_now = nd->core_next;
	nd->sync_now = nd->sync_next;
	nd->sync_next = (struct queue) { NONE, NONE };
	nd->core_next = false;
	nd->any_next = false;
	if (measuring) {
		nd->disk_busy += t;
		did.syncs++;
	}
	events_at(now + t, (struct event) { .what = EV_DISK, .node = n });
}

static void disk_want(uint8_t n, uint32_t c)
{
	struct node *nd = &nodes[n];

	if (c == NONE) {
		nd->core_next = true;
	} else {
		enqueue(&nd->sync_next, Q_DISK, c);
	}
	nd->any_next = true;
	if (!nd->syncing) {
		disk_begin(n);
	}
}

static void disk_done(uint8_t n)
{
	struct node *nd = &nodes[n];
	struct queue q = nd->sync_now;

	nd->syncing = false;
	if (nd->core_now) {
		events_at(now, (struct event) {
			.what = EV_JOB, .job = JOB_SYNCED, .node = n,
		});
	}
	if (nd->any_next) {
		disk_begin(n);
	}
	while (q.first != NONE) {
		uint32_t c = dequeue(&q, Q_DISK);

		clients[c].local = true;
		client_done(c);
	}
}

/* ---- what the core asks for ---- */

static uint8_t node_of(void *p)
{
	return (struct node *)p - nodes;
}

static void op_send(void *p, uint8_t to, const uint8_t *buf, size_t len)
{
	struct node *nd = p;
	uint64_t when;
	uint8_t type = buf[14];
	uint8_t *copy = malloc(len);

	if (copy == NULL) {
		abort();
	}
	memcpy(copy, buf, len);
	job_cost += to == node_of(p) ? 0 : conf.msg;
	when = now + job_cost;
	if (to != node_of(p)) {
		if (nd->card_free > when) {
			when = nd->card_free;
		}
		when += (uint64_t)((double)len * conf.ns_per_byte);
		nd->card_free = when;
		when += conf.latency;
		if (measuring) {
			did.bytes += len;
			did.ship += type == REPL_SHIP;
			did.ack += type == REPL_ACK;
			did.sweep += type >= REPL_PURGE;
		}
	}
	events_at(when, (struct event) {
		.what = EV_JOB, .job = JOB_RECEIVE, .node = to, .buf = copy,
		.len = len,
	});
}

static void op_meta(void *p, const struct repl_meta *meta)
{
	(void)p, (void)meta;
}

static void op_apply(void *p, const struct repl_record *recs, size_t n)
{
	(void)p, (void)recs;
	job_cost += n * (in_turn ? conf.swept : conf.item);
}

static void op_nothing(void *p)
{
	(void)p;
}

static void op_drop(void *p, const struct repl_record *rec)
{
	(void)p, (void)rec;
	job_cost += conf.swept;
}

static bool op_forgotten(void *p, const struct repl_record *rec)
{
	(void)p, (void)rec;
	job_cost += conf.told;
	return true;
}

/* After all that waits already. */
static void op_turn(void *p)
{
	struct node *nd = p;

	if (!nd->turn_set) {
		nd->turn_set = true;
		events_at(now + job_cost, (struct event) {
			.what = EV_JOB, .job = JOB_TURN, .node = node_of(p),
		});
	}
}

/* No records are kept: the stores are empty when the epoch begins. */
static bool op_next(void *p, uint64_t min_epoch, struct phstore_blob after,
		    struct repl_record *rec)
{
	(void)p, (void)min_epoch, (void)after, (void)rec;
	return false;
}

static void op_sync(void *p)
{
	events_at(now + job_cost, (struct event) {
		.what = EV_SYNC, .node = node_of(p),
	});
}

static void op_reached(void *p, enum phstore_class durability, uint64_t pos)
{
	struct node *nd = p;
	enum phstore_class wanted = conf.replicated ?
		PHSTORE_CLASS_REPLICATED : PHSTORE_CLASS_SYNC;

	if (durability != wanted) {
		return;
	}
	while (nd->wait.first != NONE &&
	       clients[nd->wait.first].pos <= pos) {
		uint32_t c = dequeue(&nd->wait, Q_CORE);

		clients[c].remote = true;
		client_done(c);
	}
}

static void op_fenced(void *p, uint64_t pos)
{
	(void)p, (void)pos;
}

static void op_state(void *p, enum repl_state state, uint64_t epoch)
{
	struct node *nd = p;

	nd->epoch = state == REPL_ACTIVE ? epoch : 0;
}

static void op_stranger(void *p, uint64_t birth)
{
	(void)p;
	(void)birth;
}

static const struct repl_ops ops = {
	.send = op_send,
	.meta = op_meta,
	.apply = op_apply,
	.clear = op_nothing,
	.drop = op_drop,
	.drop_all = op_nothing,
	.next = op_next,
	.sync = op_sync,
	.reached = op_reached,
	.fenced = op_fenced,
	.forgotten = op_forgotten,
	.turn = op_turn,
	.state = op_state,
	.stranger = op_stranger,
};

/* ---- phstored ---- */

/* One record of a client; false: the core takes no more now. */
static bool hand_in(struct node *nd, uint32_t c)
{
	static uint8_t value[1 << 20];
	struct client *cl = &clients[c];
	uint8_t key[24] = {};
	struct repl_record rec = {
		.key = { .data = key, .len = sizeof(key) },
		.value = { .data = value, .len = conf.bytes },
		.version = { .epoch = nd->epoch, .seq = cl->seq + 1 },
		.deleted = cl->closing,
	};
	enum phstore_err err;

	memcpy(key, &c, sizeof(c));
	key[8] = cl->left;
	if (rec.deleted) {
		rec.value = (struct phstore_blob) {};
	}
	err = repl_write(nd->core, &rec, 1, &cl->pos);
	if (err != PHSTORE_OK) {
		return false;
	}
	cl->left--;
	cl->seq += cl->left == 0;
	return true;
}

static void pump(struct node *nd)
{
	bool any = false, ok = true;

	while (ok && nd->log.first != NONE) {
		uint32_t c = nd->log.first;

		while (ok && clients[c].left > 0) {
			ok = hand_in(nd, c);
			any = any || ok;
		}
		if (clients[c].left == 0) {
			enqueue(&nd->wait, Q_CORE,
				dequeue(&nd->log, Q_CORE));
		}
	}
	if (any) {
		repl_flush(nd->core, conf.replicated, !conf.replicated);
	}
}

static void run(struct node *nd)
{
	struct job *j = nd->jobs;
	struct event *ev = &j->ev;
	bool more;

	nd->jobs = j->next;
	if (nd->jobs == NULL) {
		nd->jobs_end = &nd->jobs;
	}
	job_cost = conf.wake;
	switch (ev->job) {
	case JOB_RECEIVE:
		job_cost += conf.msg;
		repl_receive(nd->core, ev->buf, ev->len);
		free(ev->buf);
		break;
	case JOB_SYNCED:
		repl_synced(nd->core);
		break;
	case JOB_TICK:
		repl_tick(nd->core);
		events_at(now + TICK_NS, (struct event) {
			.what = EV_JOB, .job = JOB_TICK, .node = ev->node,
		});
		break;
	case JOB_TAIL:
		nd->tail_set = false;
		break;
	case JOB_TURN:
		nd->turn_set = false;
		in_turn = true;
		more = repl_turn(nd->core);
		in_turn = false;
		if (more) {
			op_turn(nd);
		}
		break;
	}
	pump(nd);
	nd->running = true;
	nd->cpu_busy += measuring ? job_cost : 0;
	events_at(now + job_cost, (struct event) {
		.what = EV_CPU, .node = ev->node,
	});
	job_cost = 0;
	free(j);
}

/* phstored does one thing at a time, in the order of arrival. */
static void job(const struct event *ev)
{
	struct node *nd = &nodes[ev->node];
	struct job *j = malloc(sizeof(*j));

	if (j == NULL) {
		abort();
	}
	*j = (struct job) { .ev = *ev };
	*nd->jobs_end = j;
	nd->jobs_end = &j->next;
	if (!nd->running) {
		run(nd);
	}
}

static void stage(uint32_t c)
{
	struct client *cl = &clients[c];
	struct node *nd = &nodes[cl->node];

	cl->staged = now;
	cl->local = false;
	cl->remote = false;
	cl->left = conf.records;
	cl->pos = UINT64_MAX;
	enqueue(&nd->log, Q_CORE, c);
	if (!nd->tail_set) {
		nd->tail_set = true;
		events_at(now, (struct event) {
			.what = EV_JOB, .job = JOB_TAIL, .node = cl->node,
		});
	}
	if (!conf.replicated) {
		disk_want(cl->node, c);
	}
}

/* ---- a run ---- */

static void step(void)
{
	struct event ev = events_pop();

	now = ev.at;
	switch (ev.what) {
	case EV_JOB:
		job(&ev);
		break;
	case EV_CPU:
		nodes[ev.node].running = false;
		if (nodes[ev.node].jobs != NULL) {
			run(&nodes[ev.node]);
		}
		break;
	case EV_WORK:
		work(ev.client);
		break;
	case EV_STAGE:
		stage(ev.client);
		break;
	case EV_SYNC:
		disk_want(ev.node, NONE);
		break;
	case EV_DISK:
		disk_done(ev.node);
		break;
	}
}

static void run_until(uint64_t when)
{
	while (events_next() <= when) {
		step();
	}
	now = when;
}

static bool start(void)
{
	uint64_t all = UINT64_MAX >> (PHSTORE_NODES_MAX - conf.nodes);
	unsigned int i;

	for (i = 0; i < conf.nodes; i++) {
		struct node *nd = &nodes[i];
		struct repl_meta meta = {};
		struct repl_config c = {
			.node = i,
			.nodes = all,
			.copies = conf.copies,
			.cluster = 7,
			.beside = true,
			.sweep_ticks = SWEEP_TICKS,
			.sweep_piece = SWEEP_PIECE,
			.ops = &ops,
			.private_data = nd,
		};

		nd->sync_now = nd->sync_next = (struct queue) { NONE, NONE };
		nd->log = nd->wait = (struct queue) { NONE, NONE };
		nd->jobs_end = &nd->jobs;
		nd->core = repl_core_new(NULL, &c, &meta);
		if (nd->core == NULL) {
			return false;
		}
		repl_membership(nd->core, all, GENERATION);
		events_at(now + sim_random(&rng, TICK_NS), (struct event) {
			.what = EV_JOB, .job = JOB_TICK, .node = i,
		});
	}
	run_until(3000000000ULL);
	for (i = 0; i < conf.nodes; i++) {
		if (nodes[i].epoch == 0) {
			return false;
		}
	}
	for (i = 0; i < conf.clients; i++) {
		uint64_t ramp = conf.think > 1000000 ? conf.think : 1000000;

		clients[i].node = i % conf.nodes;
		/* nodes do not begin, and so do not sweep, together */
		ramp = sim_random(&rng, ramp) +
			clients[i].node * SWEEP_NS / conf.nodes;
		clients[i].closing = sim_random(&rng, 2) == 0;
		events_at(now + ramp, (struct event) {
			.what = EV_WORK, .client = i,
		});
	}
	return true;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double quantile_us(uint64_t *values, double q)
{
	size_t i = (size_t)(q * (double)num_lat);

	return num_lat == 0 ? 0 : (double)values[i] / 1000;
}

static void tell(void)
{
	double commits = num_lat > 0 ? (double)num_lat : 1;
	double t = (double)conf.length, cpu = 0, smbd = 0, disk = 0, mean = 0;
	unsigned int i;
	size_t l;

	for (l = 0; l < num_lat; l++) {
		mean += (double)latencies[l] / commits / 1000;
	}
	for (i = 0; i < conf.nodes; i++) {
		cpu += (double)nodes[i].cpu_busy / t / conf.nodes;
		smbd += (double)nodes[i].smbd_busy / t / conf.nodes /
			conf.cores;
		disk += (double)nodes[i].disk_busy / t / conf.nodes;
	}
	qsort(latencies, num_lat, sizeof(*latencies), by_value);
	qsort(waits, num_lat, sizeof(*waits), by_value);
	printf("{\"nodes\": %u, \"copies\": %u, \"class\": \"%s\", "
	       "\"clients\": %u, \"commits\": %zu, "
	       "\"commits_per_s\": %.1f,\n \"ship\": %.4f, \"ack\": %.4f, "
	       "\"sweep\": %.4f, \"bytes\": %.1f, "
	       "\"syncs\": %.4f,\n \"wait_p50_us\": %.1f, "
	       "\"wait_p99_us\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
	       "\"mean_us\": %.1f,\n \"phstored\": %.4f, \"smbd\": %.4f, "
	       "\"disk\": %.4f}\n",
	       conf.nodes, conf.copies,
	       conf.replicated ? "replicated" : "sync", conf.clients, num_lat,
	       commits / t * 1e9, did.ship / commits, did.ack / commits,
	       did.sweep / commits, did.bytes / commits,
	       did.syncs / commits, quantile_us(waits, 0.5),
	       quantile_us(waits, 0.99), quantile_us(latencies, 0.5),
	       quantile_us(latencies, 0.99), mean, cpu, smbd, disk);
}

static const struct {
	const char *name;
	uint64_t *value;
} options[] = {
	{ "--think-ns", &conf.think }, { "--sync-ns", &conf.sync },
	{ "--latency-ns", &conf.latency }, { "--wake-ns", &conf.wake },
	{ "--msg-ns", &conf.msg }, { "--item-ns", &conf.item },
	{ "--swept-ns", &conf.swept }, { "--told-ns", &conf.told },
	{ "--smbd-ns", &conf.smbd }, { "--bytes", &conf.bytes },
	{ "--warmup-ns", &conf.warmup }, { "--length-ns", &conf.length },
	{ "--seed", &conf.seed },
};

static const struct {
	const char *name;
	unsigned int *value;
	unsigned int max;
} counts[] = {
	{ "--nodes", &conf.nodes, PHSTORE_NODES_MAX },
	{ "--copies", &conf.copies, PHSTORE_NODES_MAX },
	{ "--clients", &conf.clients, 10000000 },
	{ "--cores", &conf.cores, MAX_CORES },
	{ "--records", &conf.records, 16 },
};

static bool option(const char *name, const char *value)
{
	uint64_t v = strtoull(value, NULL, 10);
	size_t i;

	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (strcmp(name, options[i].name) == 0) {
			*options[i].value = v;
			return true;
		}
	}
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if (strcmp(name, counts[i].name) == 0) {
			*counts[i].value = v;
			return v >= 1 && v <= counts[i].max;
		}
	}
	if (strcmp(name, "--replicated") == 0) {
		conf.replicated = v != 0;
		return true;
	}
	if (strcmp(name, "--ns-per-byte") == 0) {
		conf.ns_per_byte = strtod(value, NULL);
		return true;
	}
	return false;
}

int sim_load(int argc, char **argv)
{
	unsigned int i;
	bool ok;

	for (; argc > 0; argc -= 2, argv += 2) {
		ok = option(argv[0], argc > 1 ? argv[1] : "");
		if (!ok) {
			fprintf(stderr, "sim: %s: no such option, or not "
				"possible (nodes: at most %u)\n", argv[0],
				PHSTORE_NODES_MAX);
			return 2;
		}
	}
	if (conf.copies > conf.nodes || conf.bytes > 65536) {
		fprintf(stderr, "sim: too many copies or bytes\n");
		return 2;
	}
	rng.rng = conf.seed;
	size_lat = 4000000;
	clients = calloc(conf.clients, sizeof(*clients));
	latencies = calloc(size_lat, sizeof(*latencies));
	waits = calloc(size_lat, sizeof(*waits));
	if (clients == NULL || latencies == NULL || waits == NULL) {
		return 1;
	}
	ok = start();
	if (!ok) {
		fprintf(stderr, "sim: no epoch begins\n");
		return 1;
	}
	run_until(now + SWEEP_NS + conf.warmup);
	measuring = true;
	run_until(now + conf.length);
	measuring = false;
	tell();
	while (events_next() != UINT64_MAX) {
		free(events_pop().buf);
	}
	events_end();
	for (i = 0; i < conf.nodes; i++) {
		while (nodes[i].jobs != NULL) {
			struct job *j = nodes[i].jobs;

			nodes[i].jobs = j->next;
			free(j->ev.buf);
			free(j);
		}
		talloc_free(nodes[i].core);
	}
	free(clients);
	free(latencies);
	free(waits);
	return 0;
}

/*
 * phstore: measuring the RADOS backend beside bare librados
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * usage: radosbench PATH commit SECONDS   one commit after the other, each
 *                                         beside one omap_set of the same
 *                                         bytes, taking turns
 *        radosbench PATH writers N SECS   N waiting writers, then N
 *                                         outstanding compare-and-sets of
 *                                         one record each
 *        radosbench PATH scan RECORDS     fill, then scan
 *        radosbench PATH load SECONDS     16 waiting writers; the longest
 *                                         wait of each second; errors
 *
 * PATH as for phstore_open(); the bare operations go to objects "bare.N" in
 * the same pool and namespace, over as many objects as the store has shards
 * (compare-and-set: also over 64, where it is fastest), through a connection of
 * the same configuration. Prints "name value" lines;
 * bench/ceph/run knows the bounds.
 */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tevent.h>
#include <time.h>
#include <unistd.h>

#include "rados_private.h"

#define VALUE_LEN 500
#define NUM_KEYS 8192
/* One record per operation is fastest over many objects. */
#define CAS_OBJECTS 64

static struct phstore *store;
static struct phr_conn bare;
static char value[VALUE_LEN];

static uint64_t now_ns(void)
{
	return phstore_now_ns();
}

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "radosbench: %s: %s\n", what,
			phstore_last_error());
		exit(1);
	}
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void percentiles(const char *name, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(ns[0]), cmp_u64);
	printf("%s_num %zu\n", name, n);
	printf("%s_p50_us %.1f\n", name, ns[n / 2] / 1e3);
	printf("%s_p99_us %.1f\n", name, ns[n * 99 / 100] / 1e3);
	printf("%s_max_us %.1f\n", name, ns[n - 1] / 1e3);
}

static void key_of(unsigned i, char key[24])
{
	snprintf(key, 24, "k%07u", i % NUM_KEYS);
}

static void fill(char *v, unsigned i)
{
	memset(v, 'a' + i % 26, VALUE_LEN);
	memcpy(v, &i, sizeof(i));
}

static void commit_one(unsigned i)
{
	struct phstore_txn *txn = phstore_txn_new(store, store);
	struct phstore_blob k, v = { value, VALUE_LEN };
	enum phstore_err err;
	char key[24];

	key_of(i, key);
	k = (struct phstore_blob) { key, strlen(key) };
	fill(value, i);
	err = phstore_txn_put(txn, "bench", k, v, NULL);
	must(err == PHSTORE_OK, "put");
	err = phstore_commit(txn, NULL);
	must(err == PHSTORE_OK, "commit");
	talloc_free(txn);
}

/* What the record is in omap, bare: the same key and value bytes. */
static size_t bare_record(unsigned i, uint8_t *k, size_t *k_len, uint8_t *v)
{
	struct phr_record r = {
		.version = { 1, i + 1 },
		.kind = PHR_PUT,
		.value = (uint8_t *)value,
		.value_len = VALUE_LEN,
	};
	char key[24];

	key_of(i, key);
	fill(value, i);
	*k_len = phr_key_push(k, "bench", 5, (uint8_t *)key, strlen(key));
	phr_record_push(v, k, *k_len, &r);
	return phr_record_len(&r);
}

static void bare_one(unsigned i)
{
	rados_write_op_t op = rados_create_write_op();
	uint8_t k[64], v[VALUE_LEN + PHR_RECORD_HDR];
	const char *kp = (char *)k;
	const char *vp = (char *)v;
	char oid[32];
	size_t k_len, v_len;

	v_len = bare_record(i, k, &k_len, v);
	snprintf(oid, sizeof(oid), "bare.%u",
		 phr_shard_of(k, k_len, bare.super.shards));
	rados_write_op_omap_set2(op, &kp, &vp, &k_len, &v_len, 1);
	must(phr_write(&bare, op, oid, 0) == 0, "omap_set");
	rados_release_write_op(op);
}

static void bench_commit(double secs)
{
	size_t max = 200000;
	uint64_t *a = calloc(max, sizeof(a[0]));
	uint64_t *b = calloc(max, sizeof(b[0]));
	uint64_t end = now_ns() + (uint64_t)(secs * 1e9);
	unsigned i;
	size_t n = 0;

	must(a != NULL && b != NULL, "memory");
	for (i = 0; i < 200; i++) {
		bare_one(i);
		commit_one(i);
	}
	for (i = 0; now_ns() < end && n < max; i++) {
		uint64_t t0 = now_ns();
		uint64_t t1;

		bare_one(rand());
		t1 = now_ns();
		commit_one(rand());
		a[n] = t1 - t0;
		b[n] = now_ns() - t1;
		n += 1;
	}
	percentiles("bare", a, n);
	percentiles("commit", b, n);
	printf("commit_ratio %.3f\n", (double)b[n / 2] / a[n / 2]);
	free(a);
	free(b);
}

/* Writers: each stages its next when the last is durable. */

struct writers {
	struct tevent_context *ev;
	uint64_t end;
	uint64_t done;
	uint64_t failed;
	unsigned pending;
	uint64_t longest_ns;
	uint64_t second;
	bool per_second;
};

struct writer {
	struct writers *all;
	struct phstore_txn *txn;
	uint64_t start;
};

static void writer_next(struct writer *w);

static void writer_done(struct tevent_req *req)
{
	struct writer *w = tevent_req_callback_data(req, struct writer);
	struct writers *all = w->all;
	uint64_t now = now_ns();
	enum phstore_err err = phstore_commit_recv(req, NULL);

	talloc_free(req);
	TALLOC_FREE(w->txn);
	all->pending -= 1;
	if (err == PHSTORE_OK) {
		all->done += 1;
	} else {
		all->failed += 1;
		fprintf(stderr, "radosbench: %s\n", phstore_errname(err));
	}
	if (now - w->start > all->longest_ns) {
		all->longest_ns = now - w->start;
	}
	if (all->per_second && now / 1000000000ULL != all->second) {
		printf("second_longest_ms %.1f\n", all->longest_ns / 1e6);
		fflush(stdout);
		all->second = now / 1000000000ULL;
	}
	if (now < all->end && err == PHSTORE_OK) {
		writer_next(w);
	}
}

static void writer_next(struct writer *w)
{
	struct phstore_blob k, v = { value, VALUE_LEN };
	struct tevent_req *req = NULL;
	unsigned i = rand();
	char key[24];

	key_of(i, key);
	k = (struct phstore_blob) { key, strlen(key) };
	fill(value, i);
	w->txn = phstore_txn_new(w, store);
	must(phstore_txn_put(w->txn, "bench", k, v, NULL) == PHSTORE_OK,
	     "put");
	w->start = now_ns();
	req = phstore_commit_send(w, w->all->ev, w->txn);
	must(req != NULL, "commit_send");
	tevent_req_set_callback(req, writer_done, w);
	w->all->pending += 1;
}

static double run_writers(unsigned num, double secs, bool per_second)
{
	struct writers all = {
		.ev = tevent_context_init(NULL),
		.per_second = per_second,
	};
	uint64_t began = now_ns();
	struct phstore_rados_stat st = {};
	unsigned i;
	double took;

	all.end = began + (uint64_t)(secs * 1e9);
	for (i = 0; i < num; i++) {
		struct writer *w = talloc_zero(all.ev, struct writer);

		w->all = &all;
		writer_next(w);
	}
	while (all.pending > 0) {
		must(tevent_loop_once(all.ev) == 0, "event loop");
	}
	took = (now_ns() - began) / 1e9;
	(void)phstore_rados_stat(store, &st);
	printf("writers_records_per_s %.0f\n", all.done / took);
	printf("writers_failed %llu\n", (unsigned long long)all.failed);
	printf("writers_longest_ms %.1f\n", all.longest_ns / 1e6);
	printf("writers_records_per_batch %.1f\n",
	       st.num_batches == 0 ? 0.0 :
	       (double)st.num_batched / st.num_batches);
	printf("writers_class %d\n", st.has_class);
	talloc_free(all.ev);
	return all.done / took;
}

/* One record per operation, by compare-and-set, num outstanding. */

struct cas_slot {
	rados_write_op_t op;
	rados_completion_t comp;
	unsigned key;
	uint64_t seq;
};

static pthread_mutex_t cas_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cas_cond = PTHREAD_COND_INITIALIZER;
static unsigned cas_ready[1024];
static unsigned cas_head, cas_tail;
static uint32_t cas_objects;

static void cas_done(rados_completion_t c, void *arg)
{
	(void)c;
	pthread_mutex_lock(&cas_mutex);
	cas_ready[cas_tail % 1024] = (unsigned)(uintptr_t)arg;
	cas_tail += 1;
	pthread_cond_signal(&cas_cond);
	pthread_mutex_unlock(&cas_mutex);
}

static void cas_send(struct cas_slot *s, unsigned index)
{
	uint8_t k[64], v[VALUE_LEN + PHR_RECORD_HDR];
	uint8_t expect[PHR_VERSION_LEN];
	const char *kp = (char *)k;
	const char *vp = (char *)v;
	struct phr_version ver = {};
	char oid[32];
	size_t k_len, v_len;

	s->seq += 1;
	v_len = bare_record(s->key, k, &k_len, v);
	ver = (struct phr_version) { 1, s->seq };
	phr_record_set_version(v, v_len, k, k_len, ver);
	phr_version_push(expect, ver);
	snprintf(oid, sizeof(oid), "cas.%u",
		 phr_shard_of(k, k_len, cas_objects));
	s->op = rados_create_write_op();
	rados_write_op_create(s->op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
	rados_write_op_omap_cmp2(s->op, kp, LIBRADOS_CMPXATTR_OP_LT,
				 (char *)expect, k_len, sizeof(expect), NULL);
	rados_write_op_omap_set2(s->op, &kp, &vp, &k_len, &v_len, 1);
	must(rados_aio_create_completion2((void *)(uintptr_t)index, cas_done,
					  &s->comp) == 0, "completion");
	must(rados_aio_write_op_operate(s->op, bare.io, s->comp, oid, NULL,
					0) == 0, "operate");
}

static double run_cas(unsigned num, double secs)
{
	struct cas_slot *slots = calloc(num, sizeof(slots[0]));
	uint64_t began = now_ns();
	uint64_t end = began + (uint64_t)(secs * 1e9);
	uint64_t done = 0;
	unsigned out = num;
	struct timespec ts;
	uint64_t base;
	unsigned i;

	clock_gettime(CLOCK_REALTIME, &ts);
	base = ts.tv_sec * 1000000000ULL + ts.tv_nsec;
	for (i = 0; i < num; i++) {
		slots[i].key = i;
		/* above what an earlier run left */
		slots[i].seq = base;
		cas_send(&slots[i], i);
	}
	while (out > 0) {
		struct cas_slot *s = NULL;

		pthread_mutex_lock(&cas_mutex);
		while (cas_head == cas_tail) {
			pthread_cond_wait(&cas_cond, &cas_mutex);
		}
		i = cas_ready[cas_head % 1024];
		cas_head += 1;
		pthread_mutex_unlock(&cas_mutex);
		s = &slots[i];
		must(rados_aio_get_return_value(s->comp) == 0, "cas");
		rados_aio_release(s->comp);
		rados_release_write_op(s->op);
		done += 1;
		out -= 1;
		if (now_ns() < end) {
			/* another record each time, as the writers do */
			s->key = (s->key + num) % NUM_KEYS;
			cas_send(s, i);
			out += 1;
		}
	}
	free(slots);
	return done / ((now_ns() - began) / 1e9);
}

static void bench_writers(unsigned num, double secs)
{
	double same[2], wide[2], own[2];
	int i;

	/* taking turns: the machine is not the same all the time */
	for (i = 0; i < 2; i++) {
		cas_objects = bare.super.shards;
		same[i] = run_cas(num, secs / 6);
		own[i] = run_writers(num, secs / 6, false);
		cas_objects = CAS_OBJECTS;
		wide[i] = run_cas(num, secs / 6);
	}
	printf("cas_records_per_s %.0f\n", (same[0] + same[1]) / 2);
	printf("cas64_records_per_s %.0f\n", (wide[0] + wide[1]) / 2);
	printf("writers_all_records_per_s %.0f\n", (own[0] + own[1]) / 2);
	printf("writers_ratio %.2f\n",
	       (own[0] + own[1]) / (same[0] + same[1]));
	printf("writers_ratio64 %.2f\n",
	       (own[0] + own[1]) / (wide[0] + wide[1]));
}

static int count_fn(const char *table, const struct phstore_record *rec,
		    void *private_data)
{
	uint64_t *bytes = private_data;

	(void)table;
	*bytes += rec->value.len;
	return 0;
}

static void bench_scan(unsigned num)
{
	uint64_t bytes = 0;
	uint64_t count = 0;
	uint64_t lsn = 0;
	uint64_t t0 = now_ns();
	unsigned i;

	for (i = 0; i < num; i++) {
		struct phstore_txn *txn = phstore_txn_new(store, store);
		struct phstore_blob k, v = { value, VALUE_LEN };
		char key[24];

		snprintf(key, sizeof(key), "s%08u", i);
		k = (struct phstore_blob) { key, strlen(key) };
		fill(value, i);
		must(phstore_txn_put(txn, "scan", k, v, NULL) == PHSTORE_OK,
		     "put");
		must(phstore_stage(txn, &lsn) == PHSTORE_OK, "stage");
		talloc_free(txn);
	}
	must(phstore_barrier(store, lsn, 0) == PHSTORE_OK, "barrier");
	printf("fill_records_per_s %.0f\n", num / ((now_ns() - t0) / 1e9));
	for (i = 0; i < 3; i++) {
		bytes = 0;
		t0 = now_ns();
		must(phstore_scan(store, "scan", count_fn, &bytes,
				  &count) == PHSTORE_OK, "scan");
		must(count == num, "count");
		printf("scan_s %.3f\n", (now_ns() - t0) / 1e9);
	}
	printf("scan_records %llu\n", (unsigned long long)count);
}

int main(int argc, char **argv)
{
	struct phstore_open_options opts = { .flags = PHSTORE_OPEN_CREATE };
	TALLOC_CTX *mem = talloc_new(NULL);
	enum phstore_err err;

	if (argc < 4) {
		fprintf(stderr, "usage: radosbench PATH WHAT NUMBER...\n");
		return 2;
	}
	err = phstore_open(NULL, argv[1], &opts, &store);
	must(err == PHSTORE_OK, "open");
	must(phr_conf_parse(mem, argv[1], &bare.conf) == PHSTORE_OK, "name");
	must(phr_conn_open(&bare, false) == PHSTORE_OK, "connect");
	if (strcmp(argv[2], "commit") == 0) {
		bench_commit(atof(argv[3]));
	} else if (strcmp(argv[2], "writers") == 0 && argc == 5) {
		bench_writers(atoi(argv[3]), atof(argv[4]));
	} else if (strcmp(argv[2], "scan") == 0) {
		bench_scan(atoi(argv[3]));
	} else if (strcmp(argv[2], "load") == 0) {
		(void)run_writers(16, atof(argv[3]), true);
	} else {
		fprintf(stderr, "radosbench: what is \"%s\"?\n", argv[2]);
		return 2;
	}
	phr_conn_close(&bare);
	must(phstore_close(store) == PHSTORE_OK, "close");
	talloc_free(mem);
	return 0;
}

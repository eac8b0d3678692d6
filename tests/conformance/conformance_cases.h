/*
 * phstore tests: the cases of the conformance suite
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Included by conformance.c and nothing else: functions of one program, in a
 * file of their own for length. The names say what must hold; p1 to p7 are
 * the properties of docs/DESIGN.md.
 */

static void put_get_delete(void **state)
{
	(void)state;
	get("t", "k", NULL);
	must(put("t", "k", "one"), PHSTORE_OK);
	get("t", "k", "one");
	must(put("t", "k", ""), PHSTORE_OK);
	get("t", "k", "");
	get("u", "k", NULL);
	must(del("t", "k"), PHSTORE_OK);
	get("t", "k", NULL);
	must(del("t", "k"), PHSTORE_OK);
	must(del("t", "never there"), PHSTORE_OK);
	reopen();
	get("t", "k", NULL);
}

/* A key with every byte in it, the longest key, a value of 8 MiB. */
static void keys_and_values_of_all_kinds(void **state)
{
	size_t big = be->value_max != 0 ? be->value_max : 8 * 1024 * 1024;
	uint8_t all[256], longest[PHSTORE_KEY_MAX];
	struct phstore_blob keys[] = {
		{ all, sizeof(all) }, { longest, sizeof(longest) },
		{ "\0", 1 }, { "\1", 1 }, { "\1\1", 2 }, { "\0\1\1\0", 4 },
		{ "\377", 1 }, { "a\0b", 3 }, { "a", 1 },
	};
	char *value = malloc(big);
	size_t i, round;

	(void)state;
	for (i = 0; i < sizeof(all); i++) {
		all[i] = (uint8_t)i;
	}
	for (i = 0; i < sizeof(longest); i++) {
		longest[i] = (uint8_t)(i * 7 % 3);
	}
	assert_non_null(value);
	for (i = 0; i < big; i++) {
		value[i] = (char)(i * 31 % 251);
	}
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct phstore_txn *txn = phstore_txn_new(store, store);
		struct phstore_blob v = { value + i, i == 0 ? big - 1 : i };

		must(phstore_txn_put(txn, "table.with-all", keys[i], v,
				     NULL), PHSTORE_OK);
		must(phstore_commit(txn, NULL), PHSTORE_OK);
		talloc_free(txn);
	}
	for (round = 0; round < 2; round++) {
		for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
			struct phstore_record rec = {};
			TALLOC_CTX *mem = talloc_new(store);
			size_t len = i == 0 ? big - 1 : i;

			must(phstore_get(mem, store, "table.with-all",
					 keys[i], &rec), PHSTORE_OK);
			assert_int_equal(rec.value.len, len);
			assert_memory_equal(rec.value.data, value + i, len);
			assert_int_equal(rec.key.len, keys[i].len);
			assert_memory_equal(rec.key.data, keys[i].data,
					    rec.key.len);
			talloc_free(mem);
		}
		if (round == 0) {
			reopen();
		}
	}
	free(value);
}

struct seen_state {
	unsigned count[64];
	unsigned others;
	const char *table;
};

static int seen_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	struct seen_state *s = private_data;
	char key[16] = {};
	int i;

	if (rec->key.len >= sizeof(key) || strcmp(table, s->table) != 0) {
		s->others += 1;
		return 0;
	}
	memcpy(key, rec->key.data, rec->key.len);
	i = atoi(key + 1);
	if (key[0] == 'k' && i >= 0 && i < 64) {
		s->count[i] += 1;
	} else {
		s->others += 1;
	}
	return 0;
}

static int nothing_fn(const char *table, const struct phstore_record *rec,
		      void *private_data)
{
	(void)table;
	(void)rec;
	(void)private_data;
	return 0;
}

static void scan_shows_each_live_record_once(void **state)
{
	struct seen_state s = { .table = "scanned" };
	const char **names = NULL;
	size_t num = 0;
	uint64_t count = 0;
	int i;

	(void)state;
	for (i = 0; i < 60; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		must(change_in(store, "scanned", key, "v", NULL, false, NULL),
		     PHSTORE_OK);
	}
	must(put("scanned.", "k1", "a neighbour"), PHSTORE_OK);
	must(put("scanne", "k1", "a neighbour"), PHSTORE_OK);
	must(del("scanned", "k7"), PHSTORE_OK);
	must(phstore_scan(store, "scanned", seen_fn, &s, &count),
	     PHSTORE_OK);
	assert_int_equal(count, 59);
	assert_int_equal(s.others, 0);
	for (i = 0; i < 60; i++) {
		assert_int_equal(s.count[i], i != 7);
	}
	must(phstore_tables(store, store, &names, &num), PHSTORE_OK);
	assert_int_equal(num, 3);
	assert_string_equal(names[0], "scanne");
	assert_string_equal(names[1], "scanned");
	assert_string_equal(names[2], "scanned.");
}

static void read_only_sees_and_changes_nothing(void **state)
{
	struct phstore *ro = NULL;

	(void)state;
	must(put("t", "k", "v"), PHSTORE_OK);
	must(open_as(path, PHSTORE_OPEN_RDONLY, &ro), PHSTORE_OK);
	get_in(ro, "t", "k", "v");
	must(change_in(ro, "t", "k", "w", NULL, true, NULL),
	     PHSTORE_ERR_READ_ONLY);
	must(phstore_close(ro), PHSTORE_OK);
	get("t", "k", "v");
}

static void no_store_is_not_an_empty_store(void **state)
{
	char other[CONF_PATH_MAX];
	struct phstore *s = NULL;

	(void)state;
	be->fresh(other);
	must(open_as(other, 0, &s), PHSTORE_ERR_NO_STORE);
	must(open_as(other, PHSTORE_OPEN_RDONLY, &s), PHSTORE_ERR_NO_STORE);
	be->remove(other);
}

/* Killed at some moment: everything acknowledged is there. */
static void p1_acked_survives_kill(void **state)
{
	int round;

	(void)state;
	for (round = 0; round < 4; round++) {
		struct child c;
		long acked[50] = {};
		long i, n = 0;

		close_store();
		c = child_start("commits", path, "100000");
		while (n < 40 + 23 * round) {
			i = child_line(&c);
			assert_true(i > 0);
			acked[i % 50] = i;
			n += 1;
		}
		kill(c.pid, SIGKILL);
		while ((i = child_line(&c)) > 0) {
			acked[i % 50] = i;
		}
		child_end(&c, 0);
		open_store(0);
		for (i = 0; i < 50; i++) {
			struct phstore_record rec = {};
			char key[32];

			if (acked[i] == 0) {
				continue;
			}
			snprintf(key, sizeof(key), "k%ld", i);
			must(phstore_get(store, store, "t", blob(key), &rec),
			     PHSTORE_OK);
			/* or the one after it, not acknowledged */
			assert_true(atol(rec.value.data) >= acked[i]);
		}
	}
}

struct async_state {
	unsigned pending;
	unsigned done;
	uint64_t last;
};

static void async_done(struct tevent_req *req)
{
	struct async_state *s = tevent_req_callback_data_void(req);
	uint64_t lsn = 0;

	must(phstore_commit_recv(req, &lsn), PHSTORE_OK);
	talloc_free(req);
	s->pending -= 1;
	s->done += 1;
	s->last = lsn > s->last ? lsn : s->last;
}

static void async_put(struct tevent_context *ev, struct async_state *s,
		      const char *key, const char *value)
{
	struct phstore_txn *txn = phstore_txn_new(ev, store);
	struct tevent_req *req = NULL;

	must(phstore_txn_put(txn, "async", blob(key), blob(value), NULL),
	     PHSTORE_OK);
	req = phstore_commit_send(ev, ev, txn);
	assert_non_null(req);
	tevent_req_set_callback(req, async_done, s);
	s->pending += 1;
}

static void async_wait(struct tevent_context *ev, struct async_state *s,
		       uint64_t ms)
{
	uint64_t end = now_ms() + ms;

	while (s->pending > 0 && now_ms() < end) {
		assert_int_equal(tevent_loop_once(ev), 0);
	}
	assert_int_equal(s->pending, 0);
}

/* What barrier_send answered is as durable as what barrier answered. */
static void p1_acked_in_the_background_survives_kill(void **state)
{
	struct tevent_context *ev = tevent_context_init(NULL);
	struct async_state s = {};
	int i;

	(void)state;
	for (i = 0; i < 64; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		async_put(ev, &s, key, "background");
	}
	async_wait(ev, &s, 30000);
	assert_int_equal(s.done, 64);
	assert_true(phstore_is_durable(store, s.last));
	/* nothing is synced or said good-bye to */
	talloc_free(ev);
	TALLOC_FREE(store);
	open_store(0);
	for (i = 0; i < 64; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		get("async", key, "background");
	}
}

static long value_of(const char *key)
{
	struct phstore_record rec = {};
	enum phstore_err err;
	char value[32];

	err = phstore_get(store, store, key, blob(key), &rec);
	if (err == PHSTORE_ERR_NOT_FOUND) {
		return 0;
	}
	must(err, PHSTORE_OK);
	snprintf(value, sizeof(value), "%.*s", (int)rec.value.len,
		 (const char *)rec.value.data);
	return atol(value);
}

static int triple_fn(const char *table, const struct phstore_record *rec,
		     void *private_data)
{
	long *values = private_data;
	char value[32];

	snprintf(value, sizeof(value), "%.*s", (int)rec->value.len,
		 (const char *)rec->value.data);
	values[table[0] - 'a'] = atol(value);
	return 0;
}

/* Killed between the records of one transaction. */
static void p2_unacked_is_whole_or_absent(void **state)
{
	long last = 0;
	int round;

	(void)state;
	for (round = 0; round < 8; round++) {
		struct timespec ts = { .tv_nsec = 200000L * round };
		struct phstore *ro = NULL;
		long values[3] = {};
		struct child c;
		char from[32];
		long i;

		close_store();
		snprintf(from, sizeof(from), "%ld", last + 1);
		c = child_start("triples", path, from);
		for (i = 0; i < 5 + round; i++) {
			last = child_line(&c);
			assert_true(last > 0);
		}
		nanosleep(&ts, NULL);
		kill(c.pid, SIGKILL);
		while ((i = child_line(&c)) > 0) {
			last = i;
		}
		child_end(&c, 0);
		/* also for one who only looks, before anyone repairs */
		must(open_as(path, PHSTORE_OPEN_RDONLY, &ro), PHSTORE_OK);
		must(phstore_scan(ro, NULL, triple_fn, values, NULL),
		     PHSTORE_OK);
		must(phstore_close(ro), PHSTORE_OK);
		assert_true(values[0] >= last);
		assert_int_equal(values[1], values[0]);
		assert_int_equal(values[2], values[0]);
		open_store(0);
		must(phstore_maintain(store), PHSTORE_OK);
		values[0] = value_of("a");
		assert_true(values[0] >= last);
		assert_int_equal(value_of("b"), values[0]);
		assert_int_equal(value_of("c"), values[0]);
		last = values[0];
	}
}

/* One wrong expectation: no record of the transaction is changed. */
static void p2_refused_leaves_nothing(void **state)
{
	struct phstore_op_options wrong = {
		.durability = PHSTORE_CLASS_SYNC,
		.check_version = true,
		.expected = { .epoch = 77, .seq = 77 },
	};
	struct phstore_txn *txn = NULL;
	int i;

	(void)state;
	must(put("t", "there", "old"), PHSTORE_OK);
	for (i = 0; i < 8; i++) {
		char key[16];

		snprintf(key, sizeof(key), "new%d", i);
		txn = phstore_txn_new(store, store);
		must(phstore_txn_put(txn, "t", blob(key), blob("x"), NULL),
		     PHSTORE_OK);
		must(phstore_txn_delete(txn, "t", blob("there"), &wrong),
		     PHSTORE_OK);
		must(phstore_commit(txn, NULL), PHSTORE_ERR_CONFLICT);
		talloc_free(txn);
		get("t", key, NULL);
	}
	get("t", "there", "old");
	reopen();
	get("t", "there", "old");
	get("t", "new0", NULL);
}

static void p2_damage_is_told_and_survived(void **state)
{
	struct phstore_record rec = {};
	enum phstore_err err;
	uint64_t count = 0;
	bool ok;

	(void)state;
	must(put("t", "before", "whole"), PHSTORE_OK);
	must(put("t", "hit", "GOING TO BE DAMAGED"), PHSTORE_OK);
	must(put("t", "after", "whole"), PHSTORE_OK);
	must(phstore_verify(store), PHSTORE_OK);
	close_store();
	if (be->damage == NULL) {
		skip();
	}
	ok = be->damage(path, "t", "hit", "GOING TO BE DAMAGED");
	assert_true(ok);
	open_store(0);
	get("t", "before", "whole");
	get("t", "after", "whole");
	err = phstore_get(store, store, "t", blob("hit"), &rec);
	assert_true(err == PHSTORE_ERR_CORRUPT ||
		    err == PHSTORE_ERR_NOT_FOUND);
	must(phstore_scan(store, "t", nothing_fn, NULL, &count), PHSTORE_OK);
	assert_int_equal(count, 2);
	must(phstore_verify(store), PHSTORE_ERR_CORRUPT);
	/* and the others can be changed */
	must(put("t", "after", "changed"), PHSTORE_OK);
	get("t", "after", "changed");
}

static void p3_versions_only_grow(void **state)
{
	struct phstore_op_options opts = { .durability = PHSTORE_CLASS_SYNC };
	struct phstore_version v, w;

	(void)state;
	must(put("t", "k", "1"), PHSTORE_OK);
	v = get("t", "k", "1");
	must(put("t", "k", "2"), PHSTORE_OK);
	w = get("t", "k", "2");
	assert_true(above(w, v));
	/* an old copy comes along */
	opts.version = v;
	must(change_in(store, "t", "k", "old", &opts, true, NULL),
	     PHSTORE_ERR_STALE);
	get("t", "k", "2");
	/* the same again is no harm */
	opts.version = w;
	must(change_in(store, "t", "k", "2", &opts, true, NULL), PHSTORE_OK);
	/* far above: what is not told a version follows */
	opts.version.epoch = w.epoch + 1000;
	if (be->epochs_given) {
		must(change_in(store, "t", "k", "late", &opts, true, NULL),
		     PHSTORE_ERR_FENCED);
		opts.version.epoch = w.epoch;
		opts.version.seq = w.seq + 1000;
	}
	must(change_in(store, "t", "k", "3", &opts, true, NULL), PHSTORE_OK);
	reopen();
	v = get("t", "k", "3");
	assert_true(v.epoch == opts.version.epoch);
	must(put("t", "k", "4"), PHSTORE_OK);
	w = get("t", "k", "4");
	assert_true(above(w, v));
	/* deleted and made anew it is above what it was */
	must(del("t", "k"), PHSTORE_OK);
	must(put("t", "k", "5"), PHSTORE_OK);
	assert_true(above(get("t", "k", "5"), w));
}

static void p3_deleted_stays_deleted(void **state)
{
	struct phstore_op_options opts = { .durability = PHSTORE_CLASS_SYNC };
	int round;

	(void)state;
	must(put("t", "k", "1"), PHSTORE_OK);
	opts.version = get("t", "k", "1");
	must(put("t", "k", "2"), PHSTORE_OK);
	must(del("t", "k"), PHSTORE_OK);
	for (round = 0; round < 3; round++) {
		must(change_in(store, "t", "k", "zombie", &opts, true, NULL),
		     PHSTORE_ERR_STALE);
		get("t", "k", NULL);
		if (round == 0) {
			reopen();
		}
		if (round == 1 && be->fence != NULL) {
			/* with the tombstone gone its memory is not */
			must(phstore_maintain(store), PHSTORE_OK);
		}
	}
}

/* Lost updates, by two processes that both check versions. */
static void p3_compare_and_set_counts_right(void **state)
{
	struct child a, b;

	(void)state;
	if (!be->many_writers) {
		skip();
	}
	close_store();
	a = child_start("counts", path, "60");
	b = child_start("counts", path, "60");
	assert_int_equal(child_end(&a, 0), 0);
	assert_int_equal(child_end(&b, 0), 0);
	open_store(0);
	get("t", "counter", "120");
}

static void put_shared(struct phstore *s, const char *value)
{
	int i;

	for (i = 0; i < NUM_SHARED; i++) {
		char key[16];

		snprintf(key, sizeof(key), "shared%d", i);
		must(change_in(s, "t", key, value, NULL, true, NULL),
		     PHSTORE_OK);
	}
}

static void get_shared(struct phstore *s, const char *value)
{
	int i;

	for (i = 0; i < NUM_SHARED; i++) {
		char key[16];

		snprintf(key, sizeof(key), "shared%d", i);
		get_in(s, "t", key, value);
	}
}

/* A writer is stopped, declared dead, and wakes up with a write in hand. */
static void p3_fenced_writer_is_refused(void **state)
{
	char as[CONF_PATH_MAX];
	struct child c;
	uint64_t end;
	int i;

	(void)state;
	if (be->fence == NULL) {
		skip();
	}
	be->as_writer(path, "node-a", as);
	for (i = 0; i < 5; i++) {
		int j;

		c = child_start("fenced", as, "from a");
		for (j = 0; j < 10 + 3 * i; j++) {
			assert_true(child_line(&c) > 0);
		}
		kill(c.pid, SIGSTOP);
		must(be->fence(store, "node-a"), PHSTORE_OK);
		put_shared(store, "taken over");
		kill(c.pid, SIGCONT);
		assert_int_equal(child_end(&c, 0), PHSTORE_ERR_FENCED);
		/* nor does anything trickle in */
		end = now_ms() + 200;
		while (now_ms() < end) {
			struct phstore *ro = NULL;

			must(open_as(path, PHSTORE_OPEN_RDONLY, &ro),
			     PHSTORE_OK);
			get_shared(ro, "taken over");
			must(phstore_close(ro), PHSTORE_OK);
		}
	}
}

/* The same name again: the one before is fenced, without being asked. */
static void p3_takeover_by_name_fences(void **state)
{
	char as[CONF_PATH_MAX];
	struct phstore *second = NULL;
	struct child c;

	(void)state;
	if (be->fence == NULL) {
		skip();
	}
	be->as_writer(path, "node-b", as);
	c = child_start("fenced", as, "first");
	assert_true(child_line(&c) > 0);
	must(open_as(as, 0, &second), PHSTORE_OK);
	put_shared(second, "second");
	assert_int_equal(child_end(&c, 0), PHSTORE_ERR_FENCED);
	get_shared(second, "second");
	must(phstore_close(second), PHSTORE_OK);
}

/* Nobody is left; who comes first finds the newest of each record. */
static void p4_cold_start(void **state)
{
	uint64_t count = 0;
	struct child c;
	int i;

	(void)state;
	for (i = 0; i < 200; i++) {
		char key[16], value[16];

		snprintf(key, sizeof(key), "c%d", i % 40);
		snprintf(value, sizeof(value), "%d", i);
		must(change_in(store, "cold", key, value, NULL, false, NULL),
		     PHSTORE_OK);
	}
	must(del("cold", "c3"), PHSTORE_OK);
	close_store();
	c = child_start("commits", path, "100000");
	for (i = 0; i < 30; i++) {
		assert_true(child_line(&c) > 0);
	}
	child_end(&c, SIGKILL);
	open_store(0);
	for (i = 160; i < 200; i++) {
		char key[16], value[16];

		snprintf(key, sizeof(key), "c%d", i % 40);
		snprintf(value, sizeof(value), "%d", i);
		get("cold", key, i % 40 == 3 ? NULL : value);
	}
	must(phstore_scan(store, "cold", nothing_fn, NULL,
			  &count), PHSTORE_OK);
	assert_int_equal(count, 39);
}

static void p5_bounded(void **state)
{
	struct phstore_stat st = {};
	int i;

	(void)state;
	for (i = 0; i < 6000; i++) {
		char key[16];
		uint64_t lsn = 0;

		snprintf(key, sizeof(key), "k%d", i % 300);
		must(change_in(store, "t", key, i % 3 == 2 ? NULL : "value",
			       NULL, false, &lsn), PHSTORE_OK);
		if (i % 500 == 499) {
			must(phstore_barrier(store, lsn, 0), PHSTORE_OK);
		}
	}
	must(phstore_maintain(store), PHSTORE_OK);
	must(phstore_stat(store, &st), PHSTORE_OK);
	assert_int_equal(st.num_records, 200);
	if (be->unbounded(&st)) {
		print_message("# %llu live bytes, %llu in the log, "
			      "%llu tombstones\n",
			      (unsigned long long)st.live_bytes,
			      (unsigned long long)st.log_bytes,
			      (unsigned long long)st.num_tombstones);
		fail();
	}
	reopen();
	must(phstore_stat(store, &st), PHSTORE_OK);
	assert_int_equal(st.num_records, 200);
}

static void p6_staging_does_not_wait(void **state)
{
	uint64_t began, lsn = 0;
	int i;

	(void)state;
	must(put("t", "first", "v"), PHSTORE_OK);
	if (!stall(true)) {
		skip();
	}
	began = now_ms();
	for (i = 0; i < 100; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		must(change_in(store, "t", key, "v", NULL, false, &lsn),
		     PHSTORE_OK);
	}
	/* the storage would not answer for much longer */
	assert_true(now_ms() - began < 5000);
	assert_false(phstore_is_durable(store, lsn));
	/* what was staged is seen, by the one who did */
	get("t", "k99", "v");
	assert_true(stall(false));
	must(phstore_barrier(store, lsn, 0), PHSTORE_OK);
}

static void count_ticks(struct tevent_context *ev, struct tevent_timer *te,
			struct timeval t, void *private_data)
{
	unsigned *ticks = private_data;

	(void)te;
	(void)t;
	*ticks += 1;
	tevent_add_timer(ev, ev, tevent_timeval_current_ofs(0, 5000),
			 count_ticks, ticks);
}

static void p6_event_loop_goes_on(void **state)
{
	struct tevent_context *ev = tevent_context_init(NULL);
	struct async_state s = {};
	unsigned ticks = 0;
	uint64_t end;

	(void)state;
	must(put("t", "first", "v"), PHSTORE_OK);
	if (!stall(true)) {
		talloc_free(ev);
		skip();
	}
	async_put(ev, &s, "k", "waits");
	tevent_add_timer(ev, ev, tevent_timeval_current_ofs(0, 5000),
			 count_ticks, &ticks);
	end = now_ms() + 500;
	while (now_ms() < end) {
		assert_int_equal(tevent_loop_once(ev), 0);
	}
	assert_int_equal(s.done, 0);
	assert_true(ticks > 5);
	assert_true(stall(false));
	async_wait(ev, &s, 30000);
	talloc_free(ev);
}

static void p7_no_answer_is_a_timeout(void **state)
{
	uint64_t began, lsn = 0;

	(void)state;
	must(put("t", "first", "v"), PHSTORE_OK);
	if (be->waits_in_syscall || !stall(true)) {
		skip();
	}
	must(change_in(store, "t", "k", "late", NULL, false, &lsn),
	     PHSTORE_OK);
	began = now_ms();
	must(phstore_barrier(store, lsn, 300), PHSTORE_ERR_TIMEOUT);
	assert_true(now_ms() - began < 10000);
	assert_true(stall(false));
	must(phstore_barrier(store, lsn, 0), PHSTORE_OK);
	reopen();
	get("t", "k", "late");
}

static void many_waiters_in_order(void **state)
{
	struct tevent_context *ev = tevent_context_init(NULL);
	struct async_state s = {};
	int i;

	(void)state;
	for (i = 0; i < 1000; i++) {
		char key[16], value[16];

		snprintf(key, sizeof(key), "k%d", i % 7);
		snprintf(value, sizeof(value), "%d", i);
		async_put(ev, &s, key, value);
	}
	async_wait(ev, &s, 60000);
	assert_int_equal(s.done, 1000);
	talloc_free(ev);
	reopen();
	for (i = 993; i < 1000; i++) {
		char key[16], value[16];

		snprintf(key, sizeof(key), "k%d", i % 7);
		snprintf(value, sizeof(value), "%d", i);
		get("async", key, value);
	}
}

static void skip_same_sends_nothing(void **state)
{
	struct phstore_op_options same = {
		.durability = PHSTORE_CLASS_SYNC,
		.skip_same = true,
	};
	struct phstore_version v;

	(void)state;
	must(put("t", "k", "v"), PHSTORE_OK);
	v = get("t", "k", "v");
	must(change_in(store, "t", "k", "v", &same, true, NULL), PHSTORE_OK);
	assert_false(above(get("t", "k", "v"), v));
	must(change_in(store, "t", "none", NULL, &same, true, NULL),
	     PHSTORE_OK);
	must(change_in(store, "t", "k", "w", &same, true, NULL), PHSTORE_OK);
	assert_true(above(get("t", "k", "w"), v));
}

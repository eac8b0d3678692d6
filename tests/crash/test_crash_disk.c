/*
 * phstore tests: nothing acknowledged is lost when the power is cut
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * test-timeout: 600
 * tidy: long because the history and the oracle that judges it are one
 *
 * A seed makes a history: transactions over a few keys, barriers, big and
 * huge values, maintenance, clean and unclean restarts, other writers that
 * append in the middle of a sync or of a compaction. At a random call the
 * power is cut (crash_disk.h), also in the middle of recovery, and the
 * folder is what the disk may have kept. Then the store is opened from
 * that, checked, and the history goes on there: GENERATIONS cuts per seed,
 * because bytes of before one cut must not come alive after the next.
 *
 * The check: the state after recovery is exactly the state after the first
 * k transactions in the order they were staged, where k is not below the
 * last acknowledged one. That one sentence is P1 (what was acknowledged is
 * there), P2 (each transaction wholly or not at all, and none without those
 * before it) and P3 (nothing deleted comes back, no version goes down:
 * versions are compared as well). Values are made from the transaction's
 * number, every byte is compared. A power cut is no damage: the number of
 * damaged regions must stay 0.
 *
 * Values of the environment (the program takes no arguments):
 *   PHSTORE_CRASH_SEED=n   only that seed, to repeat a failure
 *   PHSTORE_CRASH_CUTS=n   how many cuts, 10000
 *   PHSTORE_CRASH_TRACE=1  tell every step
 *
 * Seen to fail with each of these changes to the store, one at a time:
 *   recovery without a new epoch; or the epoch rule not applied behind
 *     epoch_start
 *   durable moved before the sync; or to the head of after it
 *   only the last segment synced; the folder not synced
 *   the superblock not synced; always written to the same slot
 *   recovery not syncing what it found
 *   compaction without its barrier before, or after the copies; segment
 *     retired before the superblock; old versions copied as well
 *   tombstones ignored by recovery
 *   values' checksums not checked; valid frames behind a torn one kept
 *   a last segment without a header left as it is
 */

#include "crash_disk.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "phstore.h"

#define GENERATIONS 10
#define KEYS 24
#define MAX_TXNS 4096
#define MAX_OPS 4
#define SEGMENT (64 * 1024)

/* A value's number: 0 is "not there", EMPTY has no bytes. */
#define EMPTY 1

struct op {
	uint32_t key;
	uint32_t value;
	uint32_t len;
	bool skipped;		/* skip_same, and it is the same */
};

struct txn {
	struct op ops[MAX_OPS];
	uint32_t num_ops;
	uint64_t lsn;
	/*
	 * Every operation was skipped: nothing is appended, and to
	 * acknowledge it is to acknowledge the first `covers` transactions.
	 */
	bool elided;
	uint32_t covers;
};

struct record {
	uint32_t value;
	uint32_t len;
	struct phstore_version version;	/* {0, 0}: not known */
};

struct state {
	struct record recs[KEYS];
};

static struct crash_rnd rnd;
static struct phstore *store;
static char dir[512];
static uint64_t seed, generation, cuts;
static bool failed;

/* what was true at the start of this generation, and came after */
static struct state base;
static struct txn txns[MAX_TXNS];
static uint32_t num_txns, num_acked;
/* with all of txns */
static struct state newest;
static struct phstore_version max_version[KEYS];
static uint32_t next_value = 2;
static uint64_t num_damaged_seen, num_opens_cut, num_with_unacked;

static void fail(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

static void fail(const char *fmt, ...)
{
	va_list ap;

	if (failed) {
		return;
	}
	failed = true;
	printf("# seed %" PRIu64 " generation %" PRIu64 " (%s): ", seed,
	       generation, crash_disk_how());
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n# repeat: PHSTORE_CRASH_SEED=%" PRIu64
	       " build/tests/crash/test_crash_disk\n", seed);
}

static bool tracing;

static void trace(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));

static void trace(const char *fmt, ...)
{
	va_list ap;

	if (!tracing) {
		return;
	}
	printf("# %4" PRIu64 "%s ", crash_disk_calls(),
	       crash_disk_is_dead() ? " dead" : "");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

static const char *table_of(uint32_t key)
{
	static const char *tables[] = { "open", "locking", "brlock" };

	return tables[key % 3];
}

static struct phstore_blob key_blob(uint32_t key, char buf[32])
{
	snprintf(buf, 32, "key-%02u", key);
	return (struct phstore_blob) { .data = buf, .len = strlen(buf) };
}

static uint8_t value_byte(uint32_t value, uint32_t i)
{
	return (uint8_t)(value * 2654435761u + i * 40503u + (i >> 8) * 7);
}

static uint8_t *value_make(TALLOC_CTX *mem_ctx, uint32_t value, uint32_t len)
{
	uint8_t *buf = talloc_array(mem_ctx, uint8_t, len + 1);
	uint32_t i;

	for (i = 0; i < len; i++) {
		buf[i] = value_byte(value, i);
	}
	if (len >= 4) {
		memcpy(buf, &value, 4);
	}
	return buf;
}

/* The number of a value that was read; UINT32_MAX if a byte is wrong. */
static uint32_t value_read(const struct phstore_blob *b)
{
	const uint8_t *p = b->data;
	uint32_t value, i;

	if (b->len == 0) {
		return EMPTY;
	}
	if (b->len < 4) {
		return UINT32_MAX;
	}
	memcpy(&value, p, 4);
	for (i = 4; i < b->len; i++) {
		if (p[i] != value_byte(value, i)) {
			return UINT32_MAX;
		}
	}
	return value;
}

static void state_apply(struct state *s, const struct txn *t)
{
	uint32_t i;

	for (i = 0; i < t->num_ops; i++) {
		if (t->ops[i].skipped) {
			continue;
		}
		s->recs[t->ops[i].key] = (struct record) {
			.value = t->ops[i].value,
			.len = t->ops[i].len,
		};
	}
}

static int version_cmp(struct phstore_version a, struct phstore_version b)
{
	if (a.epoch != b.epoch) {
		return a.epoch < b.epoch ? -1 : 1;
	}
	return a.seq < b.seq ? -1 : a.seq > b.seq;
}

static uint32_t random_len(void)
{
	uint32_t kind = crash_rnd_below(&rnd, 100);

	if (kind < 80) {
		return 4 + crash_rnd_below(&rnd, 600);
	}
	if (kind < 95) {
		return 4 + crash_rnd_below(&rnd, 8000);
	}
	if (kind < 99) {
		return 4 + crash_rnd_below(&rnd, 60000);
	}
	return 60000 + crash_rnd_below(&rnd, 100000);
}

/* Read a key back and remember the version it was given. */
static void check_key(uint32_t key)
{
	struct record *r = &newest.recs[key];
	struct phstore_record rec = {};
	TALLOC_CTX *frame = talloc_new(NULL);
	char buf[32];
	enum phstore_err err;
	uint32_t value;

	err = phstore_get(frame, store, table_of(key), key_blob(key, buf),
			  &rec);
	if (crash_disk_is_dead()) {
		goto done;
	}
	if (err == PHSTORE_ERR_NOT_FOUND && r->value == 0) {
		goto done;
	}
	if (err != PHSTORE_OK) {
		fail("get of key %u: %s: %s", key, phstore_errname(err),
		     phstore_last_error());
		goto done;
	}
	value = value_read(&rec.value);
	if (value != r->value || rec.value.len != r->len) {
		fail("key %u reads as %u, not %u", key, value, r->value);
		goto done;
	}
	if (r->version.epoch != 0 &&
	    version_cmp(r->version, rec.version) != 0)
	{
		fail("key %u changed its version", key);
	}
	if (r->version.epoch == 0 &&
	    version_cmp(rec.version, max_version[key]) <= 0)
	{
		/* also not below one that a cut took away */
		fail("key %u: a new value without a new version", key);
	}
	r->version = rec.version;
	if (version_cmp(rec.version, max_version[key]) > 0) {
		max_version[key] = rec.version;
	}
done:
	talloc_free(frame);
}

/* Build one transaction; the last of txns is what it will do. */
static struct phstore_txn *txn_build(TALLOC_CTX *mem_ctx)
{
	struct phstore_txn *txn = phstore_txn_new(mem_ctx, store);
	struct txn *t = &txns[num_txns];
	uint32_t n = 1 + crash_rnd_below(&rnd, MAX_OPS);
	uint32_t key = crash_rnd_below(&rnd, KEYS);
	uint32_t i;

	*t = (struct txn) { .num_ops = n };
	for (i = 0; i < n; i++) {
		struct phstore_op_options opts = {
			.durability = PHSTORE_CLASS_SYNC,
		};
		struct phstore_blob value = {};
		struct op *op = &t->ops[i];
		const struct record *old = NULL;
		enum phstore_err err;
		char buf[32];

		/* all different */
		key = (key + 1 + crash_rnd_below(&rnd, KEYS / MAX_OPS)) %
		      KEYS;
		old = &newest.recs[key];
		op->key = key;
		if (crash_rnd_percent(&rnd, 10)) {
			/* the same again, or the same absence */
			opts.skip_same = true;
			op->value = old->value;
			op->len = old->len;
		} else if (crash_rnd_percent(&rnd, 35)) {
			op->value = 0;
			opts.skip_same = crash_rnd_percent(&rnd, 50);
		} else if (crash_rnd_percent(&rnd, 3)) {
			op->value = EMPTY;
		} else {
			op->value = next_value++;
			op->len = random_len();
		}
		op->skipped = opts.skip_same && op->value == old->value;
		if (op->value == 0) {
			err = phstore_txn_delete(txn, table_of(key),
						 key_blob(key, buf), &opts);
		} else {
			value.data = value_make(txn, op->value, op->len);
			value.len = op->len;
			err = phstore_txn_put(txn, table_of(key),
					      key_blob(key, buf), value,
					      &opts);
		}
		if (err != PHSTORE_OK) {
			fail("building: %s", phstore_last_error());
		}
	}
	return txn;
}

/* Before it is staged: whatever the answer, it may be in the log now. */
static struct txn *txn_register(void)
{
	struct txn *t = &txns[num_txns++];
	uint32_t i, j, k;

	t->elided = true;
	for (i = 0; i < t->num_ops; i++) {
		const struct op *op = &t->ops[i];

		t->elided = t->elided && op->skipped;
		trace("%u: key %u = %u%s", num_txns, op->key, op->value,
		      op->skipped ? " skipped" : "");
	}
	for (i = 0; t->elided && i < num_txns - 1; i++) {
		for (j = 0; j < txns[i].num_ops; j++) {
			for (k = 0; k < t->num_ops; k++) {
				if (!txns[i].ops[j].skipped &&
				    txns[i].ops[j].key == t->ops[k].key)
				{
					t->covers = i + 1;
				}
			}
		}
	}
	state_apply(&newest, t);
	return t;
}

static void stage_one(void)
{
	TALLOC_CTX *frame = talloc_new(NULL);
	struct phstore_txn *txn = NULL;
	struct txn *t = NULL;
	enum phstore_err err;
	bool dead;

	if (num_txns == MAX_TXNS) {
		talloc_free(frame);
		return;
	}
	txn = txn_build(frame);
	t = txn_register();
	err = phstore_stage(txn, &t->lsn);
	dead = crash_disk_is_dead();
	if (err != PHSTORE_OK && !dead) {
		fail("stage: %s: %s", phstore_errname(err),
		     phstore_last_error());
	}
	if (err != PHSTORE_OK) {
		t->lsn = UINT64_MAX;
	}
	trace("%u staged, LSN %" PRId64 "%s", num_txns, (int64_t)t->lsn,
	      t->elided ? " elided" : "");
	talloc_free(frame);
}

static void acked(const struct txn *t)
{
	uint32_t n = t->elided ? t->covers : (uint32_t)(t - txns) + 1;

	if (n > num_acked) {
		num_acked = n;
		trace("%u acknowledged", n);
	}
}

static void commit_one(void)
{
	TALLOC_CTX *frame = talloc_new(NULL);
	struct phstore_txn *txn = NULL;
	struct txn *t = NULL;
	enum phstore_err err;
	bool dead;

	if (num_txns == MAX_TXNS) {
		talloc_free(frame);
		return;
	}
	txn = txn_build(frame);
	t = txn_register();
	trace("%u committing%s", num_txns, t->elided ? " elided" : "");
	err = phstore_commit(txn, &t->lsn);
	dead = crash_disk_is_dead();
	if (err == PHSTORE_OK) {
		acked(t);
	} else if (!dead) {
		fail("commit: %s: %s", phstore_errname(err),
		     phstore_last_error());
	}
	talloc_free(frame);
}

static void barrier_one(void)
{
	uint32_t back = crash_rnd_below(&rnd, 4);
	const struct txn *t = NULL;
	enum phstore_err err;
	bool dead;

	if (num_txns <= back) {
		return;
	}
	t = &txns[num_txns - 1 - back];
	if (t->lsn == UINT64_MAX) {
		return;
	}
	err = phstore_barrier(store, t->lsn, 0);
	dead = crash_disk_is_dead();
	if (err == PHSTORE_OK) {
		acked(t);
	} else if (!dead) {
		fail("barrier: %s: %s", phstore_errname(err),
		     phstore_last_error());
	}
}

static void look_durable(void)
{
	uint32_t i;

	for (i = num_acked; i < num_txns; i++) {
		bool ok = txns[i].lsn != UINT64_MAX &&
			  phstore_is_durable(store, txns[i].lsn);

		if (ok) {
			acked(&txns[i]);
		}
	}
}

/*
 * Other processes append while this one syncs or compacts; not where this
 * thread holds the log's lock.
 */
static bool others_run;

static void others(uint32_t percent)
{
	if (store == NULL || others_run) {
		return;
	}
	others_run = true;
	while (!crash_disk_is_dead() && crash_rnd_percent(&rnd, percent)) {
		stage_one();
	}
	look_durable();
	others_run = false;
}

static void on_sync(void)
{
	others(35);
}

static void on_test_point(const char *name)
{
	static const char *unlocked[] = {
		"compact: op", "compact: copied", "compact: superblock",
		"compact: tail moved", "spare: made", "sync: synced",
		"sync: durable moved", "sync: unlocked",
	};
	size_t i;

	trace("%s", name);
	for (i = 0; i < sizeof(unlocked) / sizeof(unlocked[0]); i++) {
		if (strcmp(name, unlocked[i]) == 0) {
			others(25);
		}
	}
}

static int scan_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	struct state *s = private_data;
	unsigned int key = KEYS;
	char buf[32] = {};

	if (rec->key.len == 6) {
		memcpy(buf, rec->key.data, 6);
		(void)sscanf(buf, "key-%u", &key);
	}
	if (key >= KEYS || strcmp(table, table_of(key)) != 0) {
		fail("unknown record");
		return 1;
	}
	s->recs[key] = (struct record) {
		.value = value_read(&rec->value),
		.len = (uint32_t)rec->value.len,
		.version = rec->version,
	};
	return 0;
}

static bool state_same(const struct state *want, const struct state *got)
{
	uint32_t i;

	for (i = 0; i < KEYS; i++) {
		const struct record *w = &want->recs[i];
		const struct record *g = &got->recs[i];

		if (w->value != g->value ||
		    (w->value != 0 && w->len != g->len))
		{
			return false;
		}
	}
	return true;
}

static void state_tell(const char *what, const struct state *s)
{
	uint32_t i;

	printf("# %s:", what);
	for (i = 0; i < KEYS; i++) {
		printf(" %u", s->recs[i].value);
	}
	printf("\n");
}

/* Which prefix is it? The longest that fits; UINT32_MAX: none. */
static uint32_t state_find(const struct state *got, uint32_t from)
{
	struct state s = base;
	uint32_t found = UINT32_MAX;
	uint32_t k;

	for (k = 0; k <= num_txns; k++) {
		if (k > 0) {
			state_apply(&s, &txns[k - 1]);
		}
		if (k >= from && state_same(&s, got)) {
			found = k;
		}
	}
	return found;
}

static void check_versions(const struct state *got, uint32_t k)
{
	struct state s = base;
	uint32_t i;

	for (i = 0; i < k; i++) {
		state_apply(&s, &txns[i]);
	}
	for (i = 0; i < KEYS; i++) {
		const struct record *g = &got->recs[i];
		const struct record *w = &s.recs[i];
		const struct record *n = &newest.recs[i];

		if (g->value == 0) {
			continue;
		}
		if (w->version.epoch == 0 && w->value == n->value) {
			w = n;
		}
		if (w->version.epoch != 0 &&
		    version_cmp(w->version, g->version) != 0)
		{
			fail("key %u came back as version %" PRIu64 ".%"
			     PRIu64 ", was %" PRIu64 ".%" PRIu64, i,
			     g->version.epoch, g->version.seq,
			     w->version.epoch, w->version.seq);
		}
	}
}

static enum phstore_err open_it(uint32_t flags)
{
	struct phstore_open_options opts = {
		.flags = flags | PHSTORE_OPEN_ALLOW_VOLATILE,
		.segment_size = SEGMENT,
	};

	return phstore_open(NULL, dir, &opts, &store);
}

static void read_state(struct state *got)
{
	enum phstore_err err;
	bool dead;

	*got = (struct state) {};
	err = phstore_scan(store, NULL, scan_fn, got, NULL);
	dead = crash_disk_is_dead();
	if (err != PHSTORE_OK && !dead) {
		fail("scan: %s: %s", phstore_errname(err),
		     phstore_last_error());
	}
}

/* Open what is there and see that it is one of the allowed states. */
static void open_and_check(uint32_t from)
{
	struct phstore_stat st = {};
	struct state got, offline;
	bool look_first = crash_rnd_percent(&rnd, 20);
	enum phstore_err err;
	uint32_t k;
	bool dead;

	if (look_first) {
		err = open_it(PHSTORE_OPEN_RDONLY);
		dead = crash_disk_is_dead();
		if (err == PHSTORE_ERR_NO_STORE && num_acked == 0) {
			look_first = false;
		} else if (err != PHSTORE_OK && !dead) {
			fail("read-only open: %s: %s", phstore_errname(err),
			     phstore_last_error());
		}
		if (err == PHSTORE_OK) {
			read_state(&offline);
		} else {
			look_first = false;
		}
		TALLOC_FREE(store);
	}
	err = open_it(PHSTORE_OPEN_CREATE);
	dead = crash_disk_is_dead();
	if (err != PHSTORE_OK) {
		store = NULL;
		num_opens_cut += dead;
		if (!dead) {
			fail("open: %s: %s", phstore_errname(err),
			     phstore_last_error());
		}
		return;
	}
	read_state(&got);
	dead = crash_disk_is_dead();
	if (dead || failed) {
		return;
	}
	if (look_first && !state_same(&offline, &got)) {
		state_tell("offline", &offline);
		state_tell("opened", &got);
		fail("a read-only handle saw another state");
	}
	k = state_find(&got, from);
	if (k == UINT32_MAX) {
		uint32_t any = state_find(&got, 0);

		state_tell("found", &got);
		state_tell("newest", &newest);
		if (any != UINT32_MAX) {
			fail("only %u of %u acknowledged transactions are "
			     "there", any, from);
		} else {
			fail("not the state after any %u to %u transactions",
			     from, num_txns);
		}
		return;
	}
	check_versions(&got, k);
	err = phstore_stat(store, &st);
	if (err == PHSTORE_OK && st.num_damaged != 0) {
		struct phstore_damage d = {};

		(void)phstore_damage_get(store, 0, &d);
		num_damaged_seen += 1;
		fail("a power cut was taken for damage: %s at %" PRIu64
		     ", %" PRIu64 " bytes, %s", d.file, d.offset, d.len,
		     d.reason);
	}
	trace("opened: %u of %u transactions, %u acknowledged", k, num_txns,
	      from);
	if (k > from) {
		num_with_unacked += 1;
	}
	base = got;
	newest = got;
	num_txns = num_acked = 0;
}

/* The process ends, with or without a word; the power stays on. */
static void restart(bool clean)
{
	/* what others append while it closes is theirs to wait for */
	uint32_t before = num_txns;
	enum phstore_err err;
	bool dead;

	trace("restart%s", clean ? " clean" : "");
	if (clean) {
		err = phstore_close(store);
		store = NULL;
		dead = crash_disk_is_dead();
		if (err != PHSTORE_OK && !dead) {
			fail("close: %s: %s", phstore_errname(err),
			     phstore_last_error());
		}
		if (dead) {
			return;
		}
		num_acked = before;
	} else {
		TALLOC_FREE(store);
	}
	/* nothing at all may be missing */
	open_and_check(num_txns);
}

static void one_step(void)
{
	uint32_t kind = crash_rnd_below(&rnd, 100);
	enum phstore_err err;

	if (kind < 50) {
		stage_one();
	} else if (kind < 68) {
		barrier_one();
	} else if (kind < 84) {
		commit_one();
	} else if (kind < 87) {
		look_durable();
	} else if (kind < 95) {
		check_key(crash_rnd_below(&rnd, KEYS));
	} else if (kind < 98) {
		uint32_t more = crash_rnd_below(&rnd, 24);

		/* with and without much that is not synced yet */
		while (more > 0 && !crash_disk_is_dead()) {
			stage_one();
			more -= 1;
		}
		trace("maintain");
		(void)phstore_maintain(store);
	} else if (kind < 99) {
		err = phstore_verify(store);
		if (err != PHSTORE_OK && !crash_disk_is_dead()) {
			fail("verify: %s", phstore_last_error());
		}
	} else {
		restart(crash_rnd_percent(&rnd, 50));
	}
}

static void one_generation(void)
{
	uint32_t steps = 4 + crash_rnd_below(&rnd, 60);
	uint64_t most = 8 + crash_rnd_below(&rnd, 250);
	bool dead;

	crash_disk_arm(crash_rnd_below(&rnd, (uint32_t)most));
	open_and_check(num_acked);
	dead = crash_disk_is_dead();
	while (!dead && !failed && steps > 0) {
		one_step();
		dead = crash_disk_is_dead();
		steps -= 1;
	}
	TALLOC_FREE(store);
	cuts += 1;
	if (!failed) {
		crash_disk_image(&rnd);
		trace("generation %" PRIu64 " cut, %s", generation,
		      crash_disk_how());
	}
}

static bool one_seed(uint64_t s)
{
	seed = s;
	rnd.state = s * 0x9e3779b97f4a7c15ULL + 1;
	(void)crash_rnd_u64(&rnd);
	base = newest = (struct state) {};
	memset(max_version, 0, sizeof(max_version));
	num_txns = num_acked = 0;
	next_value = 2;
	failed = false;
	crash_disk_begin(dir);
	for (generation = 0; generation < GENERATIONS; generation++) {
		one_generation();
		if (failed) {
			return false;
		}
	}
	/* and at last without a cut */
	open_and_check(num_acked);
	if (store != NULL) {
		restart(true);
	}
	TALLOC_FREE(store);
	return !failed;
}

/*
 * Too rare for chance: a tombstone that is not synced yet is dropped by the
 * compaction, someone deletes the key again, is told that nothing is left
 * to wait for, and the power goes.
 */
static bool twice_deleted, twice_acked;

static void delete_again(const char *name)
{
	TALLOC_CTX *frame = NULL;
	struct phstore_op_options opts = {
		.durability = PHSTORE_CLASS_SYNC,
		.skip_same = true,
	};
	struct phstore_txn *txn = NULL;
	enum phstore_err err;
	uint64_t lsn = 0;
	char buf[32];

	if (twice_deleted || strcmp(name, "compact: copied") != 0) {
		return;
	}
	twice_deleted = true;
	frame = talloc_new(NULL);
	txn = phstore_txn_new(frame, store);
	(void)phstore_txn_delete(txn, "open", key_blob(0, buf), &opts);
	err = phstore_stage(txn, &lsn);
	twice_acked = err == PHSTORE_OK && phstore_is_durable(store, lsn);
	crash_disk_arm(0);
	talloc_free(frame);
}

static bool simple_txn(uint32_t key, uint32_t len, bool commit)
{
	TALLOC_CTX *frame = talloc_new(NULL);
	struct phstore_txn *txn = phstore_txn_new(frame, store);
	struct phstore_blob value = {
		.data = value_make(frame, 99, len),
		.len = len,
	};
	enum phstore_err err;
	uint64_t lsn = 0;
	char buf[32];

	if (len == 0) {
		(void)phstore_txn_delete(txn, "open", key_blob(key, buf),
					 NULL);
	} else {
		(void)phstore_txn_put(txn, "open", key_blob(key, buf), value,
				      NULL);
	}
	err = commit ? phstore_commit(txn, &lsn) : phstore_stage(txn, &lsn);
	talloc_free(frame);
	return err == PHSTORE_OK;
}

static bool deleted_twice(uint64_t s)
{
	struct phstore_record rec = {};
	enum phstore_err err;
	bool ok;
	char buf[32];
	int i;

	rnd.state = s;
	twice_deleted = twice_acked = false;
	crash_disk_begin(dir);
	phstore_test_point_fn = NULL;
	crash_disk_sync_fn = NULL;
	err = open_it(PHSTORE_OPEN_CREATE);
	ok = err == PHSTORE_OK && simple_txn(0, 100, true) &&
	     simple_txn(0, 0, false);
	for (i = 0; ok && i < 12; i++) {
		ok = simple_txn(3, 20000, false);
	}
	phstore_test_point_fn = delete_again;
	(void)phstore_maintain(store);
	TALLOC_FREE(store);
	if (!ok || !twice_deleted) {
		printf("# the second delete was not reached: %s\n",
		       phstore_last_error());
		return false;
	}
	crash_disk_image(&rnd);
	err = open_it(PHSTORE_OPEN_CREATE);
	if (err != PHSTORE_OK) {
		return false;
	}
	err = phstore_get(store, store, "open", key_blob(0, buf), &rec);
	TALLOC_FREE(store);
	if (twice_acked && err != PHSTORE_ERR_NOT_FOUND) {
		printf("# deleted twice, acknowledged, and it is back\n");
		return false;
	}
	return true;
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s != NULL ? strtoull(s, NULL, 10) : otherwise;
}

int main(void)
{
	uint64_t only = env_number("PHSTORE_CRASH_SEED", 0);
	uint64_t want = env_number("PHSTORE_CRASH_CUTS", 10000);
	struct stat st = {};
	time_t start = time(NULL);
	uint64_t num_failed = 0;
	bool twice_ok = true;
	uint64_t s;
	int ret;

	ret = stat("/dev/shm", &st);
	snprintf(dir, sizeof(dir), "%s/phstore-crash-XXXXXX",
		 ret == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(dir) == NULL) {
		printf("cannot make %s\n", dir);
		return 1;
	}
	tracing = env_number("PHSTORE_CRASH_TRACE", 0) != 0;
	phstore_io = &crash_disk_io;
	phstore_test_point_fn = on_test_point;
	crash_disk_sync_fn = on_sync;

	if (only != 0) {
		num_failed += !one_seed(only);
	}
	for (s = 1; only == 0 && cuts < want && num_failed < 5; s++) {
		num_failed += !one_seed(s);
	}
	printf("# %" PRIu64 " cuts in %ld s; %" PRIu64 " in the middle of "
	       "recovery; %" PRIu64 " kept unacknowledged transactions\n",
	       cuts, (long)(time(NULL) - start), num_opens_cut,
	       num_with_unacked);
	printf("%s 1 - power cuts: nothing acknowledged lost, no halves, "
	       "nothing came back\n", num_failed == 0 ? "ok" : "not ok");
	for (s = 1; twice_ok && s <= 50; s++) {
		twice_ok = deleted_twice(s);
	}
	printf("%s 2 - deleted twice while the log is compacted\n1..2\n",
	       twice_ok ? "ok" : "not ok");
	num_failed += !twice_ok;
	crash_disk_begin(dir);
	rmdir(dir);
	return num_failed == 0 ? 0 : 1;
}

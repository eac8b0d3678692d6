/*
 * phstore: replication core: what a member says of itself, and its disk
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fears: a node says after a restart that its epoch has begun, although it
 * only committed to it; what it said of the epoch before stays with the next;
 * changes are taken, or acks given, before it is remembered; it is forgotten
 * by a restart, and after a cold start all is read for nothing; or less is
 * read although nobody knows that the epoch has begun. And: a node says that it
 * is complete when a sync ends that began before it had read the others; and
 * one that was emptied takes what a damaged store has for all there is. Or late
 * words of another cluster make a node leave its own, or it is emptied for one.
 *
 * One core; the test is the other two nodes, and its disk.
 *
 * Seen to fail with BEGAN in memory only, written with COMMIT, not taken away
 * by it, written after the node is active, and with a coordinator that asks
 * for changes only, whatever it was told; and with a sync that counts for
 * whatever attempt there is when it ends; and with a damaged store that does
 * not say so, or is not understood, or finds out later and does not.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "backends/ctdb/core/repl_wire.c"
#include "backends/ctdb/core/repl_core.c"
#include "backends/ctdb/core/repl_epoch.c"
#include "backends/ctdb/core/repl_lead.c"
#include "backends/ctdb/core/repl_stream.c"
#include "backends/ctdb/core/repl_sweep.c"

#define ALL 7
#define SENT_MAX 64
#define FIRST_EPOCH (5 << 8)

struct node {
	struct repl_core *core;
	struct repl_meta disk;
	struct {
		struct repl_hdr hdr;
		uint8_t body[REPL_PLAN_LEN];
	} sent[SENT_MAX];
	size_t num_sent;
	bool want_synced;
	bool slow;		/* its syncs do not end by themselves */
	bool damaged;		/* its store */
	bool unreadable;	/* a record, as is found when it is read */
	uint64_t reached;
	uint64_t active;
	uint64_t stranger;	/* it was told so */
	bool began_first;	/* it was on disk when changes were taken */
};

static void op_send(void *p, uint8_t to, const uint8_t *buf, size_t len)
{
	struct node *nd = p;
	enum repl_wire_err err;

	(void)to;
	assert_in_range(nd->num_sent, 0, SENT_MAX - 1);
	err = repl_hdr_pull(buf, len, 1, &nd->sent[nd->num_sent].hdr);
	assert_int_equal(err, REPL_WIRE_OK);
	len -= REPL_HDR;
	if (len <= REPL_PLAN_LEN) {
		memcpy(nd->sent[nd->num_sent].body, buf + REPL_HDR, len);
	}
	nd->num_sent++;
}

static void op_meta(void *p, const struct repl_meta *meta)
{
	struct node *nd = p;

	nd->disk = *meta;
}

static void op_apply(void *p, const struct repl_record *recs, size_t n)
{
	(void)p;
	(void)recs;
	(void)n;
}

static void op_record(void *p, const struct repl_record *rec)
{
	(void)p;
	(void)rec;
}

static void op_nothing(void *p)
{
	(void)p;
}

static bool op_next(void *p, uint64_t min_epoch, struct phstore_blob after,
		    struct repl_record *rec)
{
	struct node *nd = p;

	(void)min_epoch;
	(void)after;
	(void)rec;
	if (nd->unreadable) {
		repl_damaged(nd->core);
	}
	return false;
}

static void op_sync(void *p)
{
	struct node *nd = p;

	nd->want_synced = true;
}

static bool on_disk(const struct node *nd)
{
	return (nd->disk.flags & REPL_META_BEGAN) != 0;
}

static void op_reached(void *p, enum phstore_class durability, uint64_t pos)
{
	struct node *nd = p;

	(void)durability;
	nd->reached = pos;
	nd->began_first = nd->began_first && on_disk(nd);
}

static void op_fenced(void *p, uint64_t pos)
{
	(void)p;
	(void)pos;
}

static bool op_forgotten(void *p, const struct repl_record *rec)
{
	(void)p;
	(void)rec;
	return true;
}

static void op_state(void *p, enum repl_state state, uint64_t epoch)
{
	struct node *nd = p;

	nd->active = state == REPL_ACTIVE ? epoch : 0;
	if (nd->active != 0) {
		nd->began_first = nd->began_first && on_disk(nd) &&
			nd->disk.epoch == epoch;
	}
}

static void op_stranger(void *p, uint64_t birth)
{
	struct node *nd = p;

	nd->stranger = birth;
}

static const struct repl_ops test_ops = {
	.send = op_send,
	.meta = op_meta,
	.apply = op_apply,
	.clear = op_nothing,
	.drop = op_record,
	.drop_all = op_nothing,
	.next = op_next,
	.sync = op_sync,
	.reached = op_reached,
	.fenced = op_fenced,
	.forgotten = op_forgotten,
	.turn = op_nothing,
	.state = op_state,
	.stranger = op_stranger,
};

/* A process that begins with what is on disk. */
static void begin(struct node *nd, uint8_t self)
{
	struct repl_config conf = {
		.node = self,
		.nodes = ALL,
		.copies = 2,
		.cluster = 1,
		.sweep_ticks = 10,
		.sweep_piece = 1,
		.pull_all = nd->damaged,
		.ops = &test_ops,
		.private_data = nd,
	};

	TALLOC_FREE(nd->core);
	nd->core = repl_core_new(NULL, &conf, &nd->disk);
	assert_non_null(nd->core);
	nd->num_sent = 0;
	nd->want_synced = false;
	nd->active = 0;
	repl_membership(nd->core, ALL, 4711);
}

static void hear_flags(struct node *nd, uint8_t from, uint8_t to,
		       enum repl_type type, uint64_t epoch,
		       const uint8_t *body, size_t body_len, uint8_t flags)
{
	uint8_t buf[REPL_HDR + REPL_PLAN_LEN];
	struct repl_hdr hdr = {
		.len = REPL_HDR + body_len,
		.version = REPL_PROTOCOL,
		.type = type,
		.flags = flags,
		.from = from,
		.to = to,
		.cluster = 1,
		.epoch = epoch,
	};

	if (body_len > 0) {
		memcpy(buf + REPL_HDR, body, body_len);
	}
	repl_hdr_push(buf, &hdr);
	repl_receive(nd->core, buf, hdr.len);
	if (nd->want_synced && !nd->slow) {
		nd->want_synced = false;
		repl_synced(nd->core);
	}
}

static void hear(struct node *nd, uint8_t from, uint8_t to,
		 enum repl_type type, uint64_t epoch, const uint8_t *body,
		 size_t body_len)
{
	/* PULLED: that was all */
	hear_flags(nd, from, to, type, epoch, body, body_len,
		   type == REPL_PULLED ? 1 : 0);
}

/* Number of messages of this type; the last one's body. */
static unsigned int said(struct node *nd, enum repl_type type,
			 const uint8_t **body)
{
	unsigned int n = 0;
	size_t i;

	for (i = 0; i < nd->num_sent; i++) {
		if (nd->sent[i].hdr.type == type) {
			*body = nd->sent[i].body;
			n++;
		}
	}
	return n;
}

/* What node 1 answers when node 0 asks for a promise. */
static bool says_began(struct node *nd, uint64_t epoch)
{
	const uint8_t *body = NULL;
	struct repl_meta meta = {};
	unsigned int n;
	bool ok;

	nd->num_sent = 0;
	hear(nd, 0, 1, REPL_PREPARE, epoch, NULL, 0);
	n = said(nd, REPL_PROMISE, &body);
	assert_int_equal(n, 1);
	ok = repl_meta_pull(body, REPL_META_LEN, &meta);
	assert_true(ok);
	return (meta.flags & REPL_META_BEGAN) != 0;
}

static const struct repl_plan all_read_all = {
	.members = ALL,
	.sources = ALL,
	.voters = ALL,
	.k = 2,
	.generation = 4711,
	.birth = 4712,
};

/* Node 1 in an attempt of node 0, from START to its sync. */
static void reads(struct node *nd, uint64_t epoch)
{
	uint8_t body[REPL_PLAN_LEN];
	uint8_t empty[4] = {};

	repl_plan_push(body, &all_read_all);
	hear(nd, 0, 1, REPL_START, epoch, body, sizeof(body));
	hear(nd, 0, 1, REPL_PULLED, epoch, empty, sizeof(empty));
	hear(nd, 2, 1, REPL_PULLED, epoch, empty, sizeof(empty));
}

/* And to COMMITTED. */
static void commits(struct node *nd, uint64_t epoch)
{
	const uint8_t *ignored = NULL;
	uint8_t body[REPL_PLAN_LEN];
	unsigned int n;

	reads(nd, epoch);
	n = said(nd, REPL_READY, &ignored);
	assert_int_equal(n, 1);
	repl_plan_push(body, &all_read_all);
	hear(nd, 0, 1, REPL_COMMIT, epoch, body, sizeof(body));
	n = said(nd, REPL_COMMITTED, &ignored);
	assert_int_equal(n, 1);
	assert_int_equal(nd->disk.epoch, epoch);
}

static void test_member(void **state)
{
	struct node nd = {};
	uint64_t e = FIRST_EPOCH;
	bool began;

	(void)state;
	begin(&nd, 1);
	began = says_began(&nd, e);
	assert_false(began);
	commits(&nd, e);
	assert_false(on_disk(&nd));
	/* and it never hears that it began */
	begin(&nd, 1);
	began = says_began(&nd, e + 256);
	assert_false(began);
	commits(&nd, e + 256);
	nd.began_first = true;
	hear(&nd, 0, 1, REPL_ACTIVATE, e + 256, NULL, 0);
	assert_int_equal(nd.active, e + 256);
	assert_true(nd.began_first);
	assert_true(on_disk(&nd));
	/* not restarted, restarted, and promised more meanwhile */
	began = says_began(&nd, e + 512);
	assert_true(began);
	begin(&nd, 1);
	began = says_began(&nd, e + 768);
	assert_true(began);
	assert_int_equal(nd.disk.epoch, e + 256);
	/* of the next one it knows nothing yet */
	commits(&nd, e + 768);
	assert_false(on_disk(&nd));
	began = says_began(&nd, e + 1024);
	assert_false(began);
	begin(&nd, 1);
	began = says_began(&nd, e + 1280);
	assert_false(began);
	TALLOC_FREE(nd.core);
}

/* A change of a member that has begun tells it as well. */
static void test_item(void **state)
{
	struct node nd = {};
	struct repl_record rec = {
		.key = { "k", 1 },
		.value = { "v", 1 },
		.version = { .epoch = FIRST_EPOCH, .seq = 1 },
	};
	enum phstore_err err;
	uint64_t pos = 0;
	bool began;

	(void)state;
	begin(&nd, 1);
	began = says_began(&nd, FIRST_EPOCH);
	assert_false(began);
	commits(&nd, FIRST_EPOCH);
	nd.began_first = true;
	hear(&nd, 0, 1, REPL_SHIP, FIRST_EPOCH, NULL, 0);
	assert_int_equal(nd.active, FIRST_EPOCH);
	assert_true(nd.began_first);
	/* what nobody acks in this epoch is acked by the next one */
	err = repl_write(nd.core, &rec, 1, &pos);
	assert_int_equal(err, PHSTORE_OK);
	began = says_began(&nd, FIRST_EPOCH + 256);
	assert_true(began);
	commits(&nd, FIRST_EPOCH + 256);
	assert_int_equal(nd.reached, 0);
	hear(&nd, 0, 1, REPL_ACTIVATE, FIRST_EPOCH + 256, NULL, 0);
	assert_int_equal(nd.reached, pos);
	assert_true(nd.began_first);
	begin(&nd, 1);
	began = says_began(&nd, FIRST_EPOCH + 512);
	assert_true(began);
	TALLOC_FREE(nd.core);
}

/* Its disk is slow, and the coordinator begins again meanwhile. */
static void test_sync_before(void **state)
{
	struct node nd = {};
	const uint8_t *ignored = NULL;
	unsigned int n;

	(void)state;
	begin(&nd, 1);
	nd.slow = true;
	(void)says_began(&nd, FIRST_EPOCH);
	reads(&nd, FIRST_EPOCH);
	assert_true(nd.want_synced);
	(void)says_began(&nd, FIRST_EPOCH + 256);
	reads(&nd, FIRST_EPOCH + 256);
	/* that one was begun before the others were read again */
	nd.want_synced = false;
	repl_synced(nd.core);
	n = said(&nd, REPL_READY, &ignored);
	assert_int_equal(n, 0);
	assert_int_equal(nd.disk.data, 0);
	assert_true(nd.want_synced);
	nd.want_synced = false;
	repl_synced(nd.core);
	n = said(&nd, REPL_READY, &ignored);
	assert_int_equal(n, 1);
	assert_int_equal(nd.disk.data, FIRST_EPOCH + 256);
	TALLOC_FREE(nd.core);
}

/* From which epoch on node 1, emptied, reads the second of its sources. */
static uint64_t second_read(uint8_t first_flags)
{
	struct node nd = {};
	struct repl_plan plan = all_read_all;
	uint8_t body[REPL_PLAN_LEN];
	uint8_t empty[4] = {};
	const struct repl_hdr *last = NULL;

	begin(&nd, 1);
	(void)says_began(&nd, FIRST_EPOCH);
	plan.sources = 5;
	plan.base = FIRST_EPOCH - 256;
	repl_plan_push(body, &plan);
	hear(&nd, 0, 1, REPL_START, FIRST_EPOCH, body, sizeof(body));
	last = &nd.sent[nd.num_sent - 1].hdr;
	assert_int_equal(last->type, REPL_PULL);
	assert_int_equal(last->to, 0);
	assert_int_equal(last->arg1, 0);
	hear_flags(&nd, 0, 1, REPL_PULLED, FIRST_EPOCH, empty, sizeof(empty),
		   first_flags);
	last = &nd.sent[nd.num_sent - 1].hdr;
	assert_int_equal(last->type, REPL_PULL);
	assert_int_equal(last->to, 2);
	TALLOC_FREE(nd.core);
	return last->arg1;
}

static void test_damaged(void **state)
{
	struct node nd = { .damaged = true };
	const struct repl_hdr *last = NULL;
	uint64_t from;

	(void)state;
	from = second_read(1);
	assert_int_equal(from, FIRST_EPOCH - 256);
	from = second_read(1 | 2);
	assert_int_equal(from, 0);
	begin(&nd, 1);
	(void)says_began(&nd, FIRST_EPOCH);
	hear(&nd, 2, 1, REPL_PULL, FIRST_EPOCH, NULL, 0);
	last = &nd.sent[nd.num_sent - 1].hdr;
	assert_int_equal(last->type, REPL_PULLED);
	assert_int_equal(last->flags, 1 | 2);
	nd.damaged = false;
	begin(&nd, 1);
	(void)says_began(&nd, FIRST_EPOCH + 256);
	hear(&nd, 2, 1, REPL_PULL, FIRST_EPOCH + 256, NULL, 0);
	last = &nd.sent[nd.num_sent - 1].hdr;
	assert_int_equal(last->flags, 1);
	TALLOC_FREE(nd.core);
}

/* It finds out when it is read, by node 2: that reads all, and so does it. */
static void test_damaged_later(void **state)
{
	struct node nd = { .unreadable = true };
	struct repl_plan plan = all_read_all;
	uint8_t body[REPL_PLAN_LEN];
	const struct repl_hdr *last = NULL;
	uint64_t epoch = FIRST_EPOCH;
	int i;

	(void)state;
	begin(&nd, 1);
	plan.base = FIRST_EPOCH - 256;
	repl_plan_push(body, &plan);
	for (i = 0; i < 2; i++) {
		(void)says_began(&nd, epoch);
		hear(&nd, 0, 1, REPL_START, epoch, body, sizeof(body));
		last = &nd.sent[nd.num_sent - 1].hdr;
		assert_int_equal(last->type, REPL_PULL);
		assert_int_equal(last->to, 0);
		assert_int_equal(last->arg1, i == 0 ? plan.base : 0);
		hear(&nd, 2, 1, REPL_PULL, epoch, NULL, 0);
		last = &nd.sent[nd.num_sent - 1].hdr;
		assert_int_equal(last->type, REPL_PULLED);
		assert_int_equal(last->flags, 1 | 2);
		epoch += 256;
	}
	TALLOC_FREE(nd.core);
}

/* The base that node 0 chooses when these have the last epoch, and BEGAN. */
static uint64_t base_for(uint64_t epoch_on, uint64_t began_on)
{
	struct node nd = {};
	struct repl_plan plan = {};
	const uint8_t *body = NULL;
	uint64_t epoch = 0;
	unsigned int i, n;
	bool ok;

	nd.disk = (struct repl_meta) {
		.promised = FIRST_EPOCH,
		.epoch = FIRST_EPOCH,
		.data = FIRST_EPOCH,
		.members = ALL,
		.voters = ALL,
		.k = 2,
	};
	begin(&nd, 0);
	repl_tick(nd.core);
	n = said(&nd, REPL_PREPARE, &body);
	assert_int_equal(n, 3);
	epoch = nd.core->lead.epoch;
	for (i = 0; i < 3; i++) {
		uint8_t answer[REPL_META_LEN];
		struct repl_meta meta = nd.disk;

		if (!(epoch_on & BIT(i))) {
			/* ready for it, and not yet told to commit */
			meta.epoch = FIRST_EPOCH - 256;
		}
		meta.flags = (began_on & BIT(i)) ? REPL_META_BEGAN : 0;
		repl_meta_push(answer, &meta);
		hear(&nd, i, 0, REPL_PROMISE, epoch, answer, sizeof(answer));
	}
	n = said(&nd, REPL_START, &body);
	assert_int_equal(n, 3);
	ok = repl_plan_pull(body, REPL_PLAN_LEN, &plan);
	assert_true(ok);
	assert_int_equal(plan.sources, ALL);
	TALLOC_FREE(nd.core);
	return plan.base;
}

static void test_coordinator(void **state)
{
	uint64_t base;

	(void)state;
	base = base_for(7, 7);
	assert_int_equal(base, FIRST_EPOCH);
	/* one is enough, and need not be the coordinator */
	base = base_for(7, 4);
	assert_int_equal(base, FIRST_EPOCH);
	/* releases before, or an epoch that never began */
	base = base_for(7, 0);
	assert_int_equal(base, 0);
	/* what others say is said of the epoch before */
	base = base_for(1, 6);
	assert_int_equal(base, 0);
}

static bool told(struct node *nd, uint64_t epoch, uint64_t birth)
{
	uint8_t buf[REPL_HDR];
	struct repl_hdr hdr = {
		.len = sizeof(buf),
		.version = REPL_PROTOCOL,
		.type = REPL_REFUSE,
		.flags = REPL_STRANGER,
		.to = 1,
		.cluster = 1,
		.epoch = epoch,
		.arg1 = epoch,
		.arg2 = birth,
	};

	nd->stranger = 0;
	repl_hdr_push(buf, &hdr);
	repl_receive(nd->core, buf, sizeof(buf));
	return nd->stranger != 0;
}

/* "You are a stranger" counts as an answer to its last promise only. */
static void test_stranger(void **state)
{
	struct repl_plan plan = all_read_all;
	const uint8_t *ignored = NULL;
	uint8_t body[REPL_PLAN_LEN];
	struct node nd = {};
	bool is;

	(void)state;
	begin(&nd, 1);
	(void)says_began(&nd, FIRST_EPOCH);
	is = told(&nd, FIRST_EPOCH, 77);
	assert_false(is);		/* it is in no cluster yet */
	commits(&nd, FIRST_EPOCH);
	is = told(&nd, FIRST_EPOCH, 77);
	assert_false(is);
	(void)says_began(&nd, FIRST_EPOCH + 256);
	is = told(&nd, FIRST_EPOCH, 77);
	assert_false(is);		/* late */
	is = told(&nd, FIRST_EPOCH + 256, all_read_all.birth);
	assert_false(is);		/* its own */
	is = told(&nd, FIRST_EPOCH + 256, 77);
	assert_true(is);
	assert_int_equal(nd.stranger, 77);

	/* nor does it follow another cluster */
	nd.num_sent = 0;
	plan.birth = 77;
	plan.sources = 1;
	repl_plan_push(body, &plan);
	hear(&nd, 0, 1, REPL_START, FIRST_EPOCH + 256, body, sizeof(body));
	assert_int_equal(said(&nd, REPL_PULL, &ignored), 0);
	assert_int_equal(nd.disk.data, FIRST_EPOCH);
	TALLOC_FREE(nd.core);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_member),
		cmocka_unit_test(test_item),
		cmocka_unit_test(test_sync_before),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_stranger),
		cmocka_unit_test(test_damaged_later),
		cmocka_unit_test(test_coordinator),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

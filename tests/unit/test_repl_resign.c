/*
 * phstore: replication core: a node that resigns holds up nobody
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fears: a node whose disk is full asks to join, cannot take its copy, and
 * all others wait two seconds for it; or they wait for one that says that it
 * leaves, or that it led; or such a word of before, come late, puts out a
 * member; or one that is put out by mistake goes on as a member of the epoch
 * before; or all wait for ever when it gets lost.
 *
 * Three cores, messages that arrive at once, time in ticks.
 *
 * Seen to fail with cores that say nothing, with ones that believe what is
 * old, and with ones that do not tell those they believe gone.
 */

#include <inttypes.h>
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

#define NODES 3
#define KEYS 20
#define ALL 7
/* Who was told does not wait; who was not waits longer than that. */
#define SOON 4
#define LATE 30
#define NEVER 1000

struct message {
	struct message *next;
	uint8_t to;
	size_t len;
	uint8_t buf[];
};

struct node {
	struct cluster *cl;
	uint8_t self;
	struct repl_core *core;
	struct repl_meta meta;
	struct phstore_version have[KEYS];
	uint64_t epoch;
	unsigned int room;		/* records, then its disk is full */
	bool resigned;
	bool want_synced;
};

struct cluster {
	struct node node[NODES];
	struct message *first, **end;
	bool lose_gone;
	struct message *last_gone;	/* to node 0 */
	uint32_t copies;
};

static void op_send(void *p, uint8_t to, const uint8_t *buf, size_t len)
{
	struct node *nd = p;
	struct cluster *cl = nd->cl;
	struct message *m = NULL;
	bool gone = buf[14] == REPL_REFUSE && buf[15] == 1;

	if ((nd->resigned && !gone) || (gone && cl->lose_gone)) {
		return;
	}
	m = talloc_size(cl, sizeof(*m) + len);
	m->next = NULL;
	m->to = to;
	m->len = len;
	memcpy(m->buf, buf, len);
	if (gone && to == 0) {
		talloc_free(cl->last_gone);
		cl->last_gone = talloc_memdup(cl, m, sizeof(*m) + len);
	}
	*cl->end = m;
	cl->end = &m->next;
}

static void op_meta(void *p, const struct repl_meta *meta)
{
	struct node *nd = p;

	if (!nd->resigned) {
		nd->meta = *meta;
	}
}

static void op_apply(void *p, const struct repl_record *recs, size_t n)
{
	struct node *nd = p;
	size_t i;

	for (i = 0; i < n && !nd->resigned; i++) {
		const uint8_t *key = recs[i].key.data;

		if (nd->room == 0) {
			nd->resigned = true;
			return;
		}
		nd->room -= 1;
		nd->have[key[0] - 1] = recs[i].version;
	}
}

static void op_clear(void *p)
{
	struct node *nd = p;

	memset(nd->have, 0, sizeof(nd->have));
}

static void op_drop(void *p, const struct repl_record *rec)
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
	static uint8_t key;
	struct node *nd = p;
	unsigned int k = after.len > 0 ? *(const uint8_t *)after.data : 0;

	while (k < KEYS && (nd->have[k].epoch == 0 ||
			    nd->have[k].epoch < min_epoch)) {
		k++;
	}
	if (k == KEYS) {
		return false;
	}
	key = k + 1;
	*rec = (struct repl_record) {
		.key = { &key, 1 },
		.value = { "v", 1 },
		.version = nd->have[k],
	};
	return true;
}

static void op_sync(void *p)
{
	struct node *nd = p;

	nd->want_synced = true;
}

static void op_reached(void *p, enum phstore_class durability, uint64_t pos)
{
	(void)p;
	(void)durability;
	(void)pos;
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

	nd->epoch = state == REPL_ACTIVE ? epoch : 0;
}

static void op_stranger(void *p, uint64_t birth)
{
	(void)p;
	fail_msg("refused as of another cluster, not %" PRIx64, birth);
}

static const struct repl_ops test_ops = {
	.send = op_send,
	.meta = op_meta,
	.apply = op_apply,
	.clear = op_clear,
	.drop = op_drop,
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

static void begin(struct node *nd, unsigned int room)
{
	struct repl_config conf = {
		.node = nd->self,
		.nodes = ALL,
		.copies = nd->cl->copies,
		.cluster = 1,
		.sweep_ticks = 10,
		.sweep_piece = 1,
		.ops = &test_ops,
		.private_data = nd,
	};

	nd->room = room;
	nd->resigned = false;
	nd->want_synced = false;
	nd->core = repl_core_new(nd->cl, &conf, &nd->meta);
	assert_non_null(nd->core);
	repl_membership(nd->core, ALL, 4711);
}

/* As phstored does, not from a callback. */
static void leave(struct node *nd)
{
	nd->resigned = true;
	nd->epoch = 0;
	repl_resign(nd->core);
	TALLOC_FREE(nd->core);
}

static void deliver(struct cluster *cl)
{
	struct message *m = NULL;
	bool again = true;
	unsigned int i;

	while (again) {
		again = false;
		while ((m = cl->first) != NULL) {
			struct node *nd = &cl->node[m->to];

			cl->first = m->next;
			if (cl->first == NULL) {
				cl->end = &cl->first;
			}
			if (nd->core != NULL) {
				repl_receive(nd->core, m->buf, m->len);
			}
			if (nd->core != NULL && nd->resigned) {
				leave(nd);
			}
			talloc_free(m);
		}
		for (i = 0; i < NODES; i++) {
			struct node *nd = &cl->node[i];

			if (nd->core != NULL && nd->want_synced) {
				nd->want_synced = false;
				repl_synced(nd->core);
				again = true;
			}
		}
	}
}

static void tick(struct cluster *cl)
{
	unsigned int i;

	for (i = 0; i < NODES; i++) {
		if (cl->node[i].core != NULL) {
			repl_tick(cl->node[i].core);
		}
	}
	deliver(cl);
}

static bool together(const struct cluster *cl, uint64_t members,
		     uint64_t not_epoch)
{
	uint64_t epoch = 0;
	unsigned int i;

	for (i = 0; i < NODES; i++) {
		const struct node *nd = &cl->node[i];

		if (!(members & BIT(i))) {
			continue;
		}
		if (nd->epoch == 0 || nd->epoch == not_epoch ||
		    (epoch != 0 && nd->epoch != epoch) ||
		    nd->meta.members != members)
		{
			return false;
		}
		epoch = nd->epoch;
	}
	return true;
}

/* Ticks until these are the members of a new epoch. */
static unsigned int ticks_to(struct cluster *cl, uint64_t members,
			     uint64_t not_epoch)
{
	unsigned int n = 0;

	while (!together(cl, members, not_epoch)) {
		if (++n == NEVER) {
			fail_msg("no epoch of the nodes %x", (int)members);
		}
		tick(cl);
	}
	return n;
}

static void write_all(struct cluster *cl, unsigned int by)
{
	struct node *nd = &cl->node[by];
	uint8_t key;

	for (key = 1; key <= KEYS; key++) {
		struct repl_record rec = {
			.key = { &key, 1 },
			.value = { "v", 1 },
			.version = { .epoch = nd->epoch, .seq = 1 },
		};
		enum phstore_err err;
		uint64_t pos = 0;

		err = repl_write(nd->core, &rec, 1, &pos);
		assert_int_equal(err, PHSTORE_OK);
	}
	deliver(cl);
}

static struct cluster *cluster_of_three(uint32_t copies)
{
	struct cluster *cl = talloc_zero(NULL, struct cluster);
	unsigned int i;

	cl->copies = copies;
	cl->end = &cl->first;
	for (i = 0; i < NODES; i++) {
		cl->node[i].cl = cl;
		cl->node[i].self = (uint8_t)i;
		begin(&cl->node[i], NEVER);
	}
	(void)ticks_to(cl, ALL, 0);
	write_all(cl, 0);
	return cl;
}

/* It joins, has room for half of the records, and that again and again. */
static void test_no_room(void **state)
{
	struct cluster *cl = cluster_of_three(2);
	uint64_t before = cl->node[0].epoch;
	unsigned int i, n;

	(void)state;
	leave(&cl->node[2]);
	n = ticks_to(cl, 3, before);
	assert_in_range(n, 0, SOON);
	for (i = 0; i < 3; i++) {
		before = cl->node[0].epoch;
		begin(&cl->node[2], KEYS / 2);
		while (cl->node[2].core != NULL) {
			tick(cl);
		}
		n = ticks_to(cl, 3, before);
		assert_in_range(n, 0, SOON);
		/* they do not begin one after the other meanwhile */
		before = cl->node[0].epoch;
		for (n = 0; n < 100; n++) {
			tick(cl);
		}
		assert_true(together(cl, 3, 0));
		assert_int_equal(cl->node[0].epoch, before);
	}
	/* with room it is a member */
	begin(&cl->node[2], NEVER);
	n = ticks_to(cl, ALL, before);
	assert_in_range(n, 0, SOON);
	assert_memory_equal(cl->node[2].have, cl->node[0].have,
			    sizeof(cl->node[0].have));
	talloc_free(cl);
}

static void test_leader(void **state)
{
	struct cluster *cl = cluster_of_three(2);
	uint64_t before = cl->node[1].epoch;
	unsigned int n;

	(void)state;
	leave(&cl->node[0]);
	n = ticks_to(cl, 6, before);
	assert_in_range(n, 0, SOON);
	/* and it leads again when it is back, with room or without */
	before = cl->node[1].epoch;
	begin(&cl->node[0], KEYS / 2);
	while (cl->node[0].core != NULL) {
		tick(cl);
	}
	n = ticks_to(cl, 6, before);
	assert_in_range(n, 0, SOON);
	before = cl->node[1].epoch;
	begin(&cl->node[0], NEVER);
	(void)ticks_to(cl, ALL, before);
	talloc_free(cl);
}

/* Its last word comes again when it is a member again. */
static void test_late(void **state)
{
	struct cluster *cl = cluster_of_three(2);
	uint64_t before = cl->node[0].epoch;
	struct message *m = NULL;
	unsigned int i;

	(void)state;
	leave(&cl->node[2]);
	(void)ticks_to(cl, 3, before);
	m = cl->last_gone;
	assert_non_null(m);
	before = cl->node[0].epoch;
	begin(&cl->node[2], NEVER);
	(void)ticks_to(cl, ALL, before);
	before = cl->node[0].epoch;
	repl_receive(cl->node[0].core, m->buf, m->len);
	for (i = 0; i < 100; i++) {
		tick(cl);
		assert_true(together(cl, ALL, 0));
		assert_int_equal(cl->node[0].epoch, before);
	}
	talloc_free(cl);
}

/* A word that is new and wrong: it is a member, and nobody writes. */
static void test_mistaken(void **state)
{
	struct cluster *cl = cluster_of_three(2);
	uint64_t before = cl->node[0].epoch;
	uint8_t buf[REPL_HDR];
	struct repl_hdr hdr = {
		.len = sizeof(buf),
		.version = REPL_PROTOCOL,
		.type = REPL_REFUSE,
		.flags = 1,
		.from = 2,
		.cluster = 1,
		.epoch = before,
		.arg1 = before,
	};
	unsigned int n;

	(void)state;
	repl_hdr_push(buf, &hdr);
	repl_receive(cl->node[0].core, buf, sizeof(buf));
	n = ticks_to(cl, ALL, before);
	assert_in_range(n, 1, 2 * SOON);
	talloc_free(cl);
}

/* It gets lost: as if the node had died. */
static void test_lost(void **state)
{
	struct cluster *cl = cluster_of_three(2);
	uint64_t before = cl->node[0].epoch;
	unsigned int n;

	(void)state;
	cl->lose_gone = true;
	leave(&cl->node[2]);
	/* the one that ships to it notices */
	write_all(cl, 1);
	n = ticks_to(cl, 3, before);
	assert_in_range(n, LATE, 2 * LATE);
	before = cl->node[0].epoch;
	begin(&cl->node[2], KEYS / 2);
	while (cl->node[2].core != NULL) {
		tick(cl);
	}
	n = ticks_to(cl, 3, before);
	assert_in_range(n, LATE, 2 * LATE);
	talloc_free(cl);
}

/* One copy of each record: no epoch can begin without that node. */
static void test_one_copy(void **state)
{
	struct cluster *cl = cluster_of_three(1);
	uint64_t before = cl->node[0].epoch;
	unsigned int i;

	(void)state;
	leave(&cl->node[2]);
	deliver(cl);
	for (i = 0; i < 100; i++) {
		tick(cl);
		assert_int_equal(cl->node[0].epoch, before);
		assert_int_equal(cl->node[1].epoch, before);
	}
	begin(&cl->node[2], NEVER);
	(void)ticks_to(cl, ALL, before);
	talloc_free(cl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_leader),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_mistaken),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_one_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

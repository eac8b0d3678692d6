/*
 * phstore: simulator: network, disks, nodes, and what may happen to them
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Time goes in steps of about a millisecond. A node that dies keeps what was
 * synced and, by the throw of a coin per key, some of what was not; it may
 * die inside any callback of the core. Links are cut in one direction each.
 * CTDB is a list of nodes that can reach each other, told to each of them
 * some time later, under a new generation. Every fifth seed is harsh: nodes
 * seldom come to do more than to begin an epoch, and all lose power often.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct handle {
	struct sim *sim;
	uint8_t node;
};
static struct handle handles[SIM_NODES];

uint64_t sim_random(struct sim *s, uint64_t below)
{
	/* splitmix64 */
	uint64_t z = (s->rng += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	z ^= z >> 31;
	return below == 0 ? 0 : z % below;
}

void sim_fail(struct sim *s, const char *property, const char *fmt, ...)
{
	va_list ap;

	if (s->failed != NULL) {
		return;
	}
	s->failed = property;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
	sim_trace(s, "FAILED %s: %s", property, s->why);
}

void sim_trace(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->trace) {
		return;
	}
	printf("%6llu  ", (unsigned long long)s->now);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* Each callback is one more place to die at. */
static struct sim_node *alive(void *private_data)
{
	struct handle *h = private_data;
	struct sim_node *nd = &h->sim->node[h->node];

	if (nd->up && nd->die_in > 0) {
		nd->die_in--;
		if (nd->die_in == 0) {
			nd->up = false;
		}
	}
	return nd->up ? nd : NULL;
}

static void post(struct sim *s, uint8_t to, const uint8_t *buf, size_t len)
{
	if (s->num_msgs == SIM_MSGS) {
		return;
	}
	s->msg[s->num_msgs].at = s->now + 1 + sim_random(s, s->max_delay);
	if (!s->calm && sim_random(s, 100) == 0) {
		/* some come very late, in another epoch even */
		s->msg[s->num_msgs].at += sim_random(s, 1500);
	}
	s->msg[s->num_msgs].to = to;
	s->msg[s->num_msgs].buf = malloc(len);
	memcpy(s->msg[s->num_msgs].buf, buf, len);
	s->msg[s->num_msgs].len = len;
	s->num_msgs++;
}

static void op_send(void *p, uint8_t to, const uint8_t *buf, size_t len)
{
	struct handle *h = p;
	struct sim *s = h->sim;
	struct sim_node *nd = alive(p);

	if (nd == NULL || s->cut[h->node][to]) {
		return;
	}
	if (to != h->node && sim_random(s, 1000) < s->loss) {
		return;
	}
	post(s, to, buf, len);
	if (sim_random(s, 1000) < s->dup) {
		post(s, to, buf, len);
	}
}

static void op_meta(void *p, const struct repl_meta *meta)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);

	if (nd == NULL) {
		return;
	}
	sim_trace(h->sim, "n%u meta promised %llu epoch %llu data %llu "
		  "members %llx", h->node,
		  (unsigned long long)meta->promised,
		  (unsigned long long)meta->epoch,
		  (unsigned long long)meta->data,
		  (unsigned long long)meta->members);
	sim_stranger_meta(h->sim, h->node, meta);
	nd->disk.meta = *meta;
}

static void op_apply(void *p, const struct repl_record *recs, size_t n)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);
	size_t i;

	for (i = 0; nd != NULL && i < n; i++) {
		const struct repl_record *r = &recs[i];
		unsigned int key = *(const uint8_t *)r->key.data - 1;
		struct sim_copy *c = &nd->mem[key];
		char value[24] = "";

		if (c->there &&
		    repl_version_cmp(c->version, r->version) >= 0) {
			continue;
		}
		if (r->value.len > 0) {
			memcpy(value, r->value.data, r->value.len);
		}
		sim_stranger_stores(h->sim, h->node, strtoull(value, NULL, 10));
		sim_trace(h->sim, "n%u stores k%u (%llu,%llu) v%s", h->node,
			  key, (unsigned long long)r->version.epoch,
			  (unsigned long long)r->version.seq, value);
		*c = (struct sim_copy) {
			.there = true,
			.deleted = r->deleted,
			.value = strtoull(value, NULL, 10),
			.version = r->version,
		};
	}
}

static void op_clear(void *p)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);

	if (nd != NULL) {
		sim_trace(h->sim, "n%u is emptied", h->node);
		nd->was_emptied = true;
		sim_stranger_stores(h->sim, h->node, 0);
		memset(nd->mem, 0, sizeof(nd->mem));
	}
}

static void op_drop(void *p, const struct repl_record *rec)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);
	unsigned int key = *(const uint8_t *)rec->key.data - 1;

	if (nd == NULL) {
		return;
	}
	if (nd->mem[key].there && nd->mem[key].deleted &&
	    repl_version_cmp(nd->mem[key].version, rec->version) == 0) {
		sim_trace(h->sim, "n%u forgets k%u", h->node, key);
		nd->mem[key] = (struct sim_copy) {};
	}
}

static void op_drop_all(void *p)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);
	struct repl_status st;
	unsigned int k;

	if (nd == NULL) {
		return;
	}
	repl_get_status(nd->core, &st);
	sim_trace(h->sim, "n%u begins epoch %llu, members %llx", h->node,
		  (unsigned long long)st.epoch,
		  (unsigned long long)st.meta.members);
	oracle_begins(h->sim, h->node, st.epoch);
	for (k = 0; k < SIM_KEYS; k++) {
		if (nd->mem[k].deleted) {
			nd->mem[k] = (struct sim_copy) {};
		}
	}
}

static bool op_next(void *p,
		    uint64_t min_epoch,
		    struct phstore_blob after,
		    struct repl_record *rec)
{
	static char key, value[24];
	struct sim_node *nd = alive(p);
	unsigned int k = 0;

	if (nd == NULL) {
		return false;
	}
	if (after.len > 0) {
		k = *(const uint8_t *)after.data;
	}
	while (k < SIM_KEYS &&
	       (!nd->mem[k].there || nd->mem[k].version.epoch < min_epoch)) {
		k++;
	}
	if (k == SIM_KEYS) {
		return false;
	}
	key = k + 1;
	snprintf(value, sizeof(value), "%llu",
		 (unsigned long long)nd->mem[k].value);
	*rec = (struct repl_record) {
		.key = { .data = &key, .len = 1 },
		.version = nd->mem[k].version,
		.deleted = nd->mem[k].deleted,
	};
	if (!rec->deleted) {
		rec->value.data = value;
		rec->value.len = strlen(value);
	}
	return true;
}

static void op_sync(void *p)
{
	struct handle *h = p;
	struct sim *s = h->sim;
	struct sim_node *nd = alive(p);

	if (nd == NULL) {
		return;
	}
	memcpy(nd->syncing, nd->mem, sizeof(nd->mem));
	nd->sync_no = ++nd->num_syncs;
	nd->sync_pos = nd->own_head;
	nd->sync_done = sim_sync_end(s, nd);
}

static void op_reached(void *p, enum phstore_class durability, uint64_t pos)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);

	if (nd != NULL && durability == PHSTORE_CLASS_SYNC) {
		sim_trace(h->sim, "n%u acks up to %llu", h->node,
			  (unsigned long long)pos);
		nd->reached = pos;
		if (!h->sim->beside) {
			oracle_reached(h->sim, h->node, pos);
			return;
		}
		sim_smbd_acks(h->sim, h->node);
	}
}

static void op_fenced(void *p, uint64_t pos)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);

	if (nd != NULL) {
		oracle_fenced(h->sim, h->node, pos);
	}
}

static bool op_forgotten(void *p, const struct repl_record *rec)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);

	if (nd != NULL) {
		oracle_forgotten(h->sim, rec);
	}
	return nd != NULL;
}

static void op_turn(void *p)
{
	struct sim_node *nd = alive(p);

	if (nd != NULL) {
		nd->turn = true;
	}
}

static void op_state(void *p, enum repl_state state, uint64_t epoch)
{
	struct sim_node *nd = alive(p);

	if (nd != NULL) {
		nd->epoch = state == REPL_ACTIVE ? epoch : 0;
	}
}

static void op_stranger(void *p, uint64_t birth)
{
	struct handle *h = p;
	struct sim_node *nd = alive(p);

	(void)birth;
	if (nd != NULL) {
		sim_stranger_told(h->sim, h->node);
	}
}

static const struct repl_ops ops = {
	.send = op_send,
	.meta = op_meta,
	.apply = op_apply,
	.clear = op_clear,
	.drop = op_drop,
	.drop_all = op_drop_all,
	.next = op_next,
	.sync = op_sync,
	.reached = op_reached,
	.fenced = op_fenced,
	.forgotten = op_forgotten,
	.turn = op_turn,
	.state = op_state,
	.stranger = op_stranger,
};

static void reconfigure_soon(struct sim *s)
{
	uint64_t at = s->now + 5 + sim_random(s, 80);

	if (s->reconfigure_at == 0 || s->calm) {
		s->reconfigure_at = at;
	}
}

static void stop(struct sim *s, uint8_t i);

static void start(struct sim *s, uint8_t i)
{
	struct sim_node *nd = &s->node[i];
	struct repl_config conf = {
		.node = i,
		.nodes = (1ULL << s->n) - 1,
		.copies = s->k,
		.cluster = 7,
		.birth = sim_birth(s, i),
		.lazy = (s->seed & 3) == 3,
		.beside = s->beside,
		.sweep_ticks = 10,
		.sweep_piece = 1,
		.ops = &ops,
		.private_data = &handles[i],
	};

	if (nd->up || nd->lost) {
		return;
	}
	memcpy(conf.zone, s->zone, sizeof(s->zone));
	if (nd->core != NULL) {
		/* died inside a callback, in this very step */
		stop(s, i);
	}
	sim_trace(s, "n%u starts", i);
	nd->up = true;
	nd->die_in = 0;
	nd->life++;
	nd->epoch = 0;
	nd->view = 0;
	nd->told_at = 0;
	nd->sync_done = 0;
	nd->own_sync_done = 0;
	nd->own_head = 0;
	nd->own_disk = 0;
	nd->reached = 0;
	nd->unflushed = false;
	nd->turn = false;
	nd->next_tick = s->now + 1;
	nd->tick_len = 10;
	nd->core = repl_core_new(NULL, &conf, &nd->disk.meta);
	reconfigure_soon(s);
}

/* Also after it died by itself, inside a callback. */
static void stop(struct sim *s, uint8_t i)
{
	struct sim_node *nd = &s->node[i];
	unsigned int k;

	if (nd->core == NULL) {
		return;
	}
	sim_trace(s, "n%u dies", i);
	nd->up = false;
	nd->epoch = 0;
	talloc_free(nd->core);
	nd->core = NULL;
	for (k = 0; k < SIM_KEYS; k++) {
		uint64_t coin = sim_random(s, 3);

		if (coin == 0) {
			nd->disk.copy[k] = nd->mem[k];
		} else if (coin == 1 && nd->sync_done != 0 &&
			   nd->sync_no > nd->disk.no)
		{
			nd->disk.copy[k] = nd->syncing[k];
		}
		nd->mem[k] = nd->disk.copy[k];
	}
	oracle_died(s, i);
	reconfigure_soon(s);
}

/* CTDB: a set of nodes that all reach each other becomes a generation. */
static void reconfigure(struct sim *s)
{
	uint64_t set = 0;
	unsigned int first = s->calm ? 0 : sim_random(s, s->n);
	unsigned int i, j, x;

	s->reconfigure_at = 0;
	for (x = 0; x < s->n; x++) {
		i = (first + x) % s->n;
		for (j = 0; j < s->n; j++) {
			if ((set & (1ULL << j)) &&
			    (s->cut[i][j] || s->cut[j][i])) {
				break;
			}
		}
		if (s->node[i].up && j == s->n) {
			set |= 1ULL << i;
		}
	}
	s->generation = 1 + sim_random(s, UINT64_MAX - 1);
	sim_trace(s, "CTDB: nodes %llx are active", (unsigned long long)set);
	for (i = 0; i < s->n; i++) {
		if (set & (1ULL << i)) {
			s->node[i].next_view = set;
			s->node[i].next_generation = s->generation;
			s->node[i].told_at = s->now + 1 + sim_random(s, 40);
		}
	}
}

static void cut_links(struct sim *s)
{
	uint32_t side = sim_random(s, 1ULL << s->n);
	bool one_way = sim_random(s, 4) == 0;
	unsigned int i, j;

	for (i = 0; i < s->n; i++) {
		for (j = 0; j < s->n; j++) {
			bool a = (side >> i) & 1, b = (side >> j) & 1;

			s->cut[i][j] = one_way ? a && !b : a != b;
		}
	}
	sim_trace(s, "links between %x and the rest are cut%s", side,
		  one_way ? " one way" : "");
	if (sim_random(s, 3) > 0) {
		reconfigure_soon(s);
	}
}

static void disturb(struct sim *s)
{
	uint8_t i = sim_random(s, s->n);
	struct sim_node *nd = &s->node[i];
	unsigned int max_lost = s->k - 1;

	if (max_lost > (s->n - 1) / 2) {
		max_lost = (s->n - 1) / 2;
	}
	switch (sim_random(s, 16)) {
	case 0:
	case 1:
		stop(s, i);
		break;
	case 2:
		nd->die_in = 1 + sim_random(s, 40);
		break;
	case 3:
	case 4:
	case 5:
		start(s, i);
		if (s->harsh) {
			start(s, (i + 1) % s->n);
		}
		break;
	case 6:
		if (s->harsh ? sim_random(s, 8) != 0 :
			       sim_random(s, 3) == 0) {
			sim_trace(s, "power is lost everywhere");
			for (i = 0; i < s->n; i++) {
				stop(s, i);
			}
		}
		break;
	case 7:
		/* a crash and restart in no time, or it resigned */
		if (nd->up && sim_random(s, 2) == 0) {
			sim_trace(s, "n%u resigns", i);
			repl_resign(nd->core);
		}
		stop(s, i);
		start(s, i);
		break;
	case 8:
		cut_links(s);
		break;
	case 9:
	case 10:
		memset(s->cut, 0, sizeof(s->cut));
		sim_trace(s, "links are whole");
		reconfigure_soon(s);
		break;
	case 11:
		nd->slow_until = s->now + sim_random(s, 500);
		break;
	case 12:
		/* clocks: another pace, or a jump */
		nd->tick_len = 1 + sim_random(s, 40);
		nd->next_tick += sim_random(s, 200);
		break;
	case 13:
		s->loss = sim_random(s, 2) * sim_random(s, 300);
		s->dup = sim_random(s, 200);
		s->max_delay = 1 + sim_random(s, 60);
		break;
	case 14:
		if (s->num_lost < max_lost && s->begun != 0 &&
		    sim_random(s, 3) == 0) {
			s->num_lost++;
			stop(s, i);
			nd->was_lost = true;
			memset(&nd->disk, 0, sizeof(nd->disk));
			memset(nd->mem, 0, sizeof(nd->mem));
			nd->lost = sim_random(s, 2) == 0;
			sim_trace(s, "n%u is lost%s", i, nd->lost ?
				  " for ever" : ", comes back empty");
			if (!nd->lost && sim_stranger_seed(s)) {
				sim_stranger_begin(s, i);
			}
		}
		break;
	case 15:
		reconfigure_soon(s);
		break;
	}
}

static void deliver(struct sim *s)
{
	size_t i = 0;

	while (i < s->num_msgs) {
		struct sim_node *nd = &s->node[s->msg[i].to];
		uint8_t *buf = s->msg[i].buf;
		size_t len = s->msg[i].len;

		if (s->msg[i].at > s->now) {
			i++;
			continue;
		}
		s->msg[i] = s->msg[--s->num_msgs];
		if (nd->up && sim_random(s, 1000) == 0) {
			/* the checksum's case */
			buf[sim_random(s, len)] ^= 1 << sim_random(s, 8);
		}
		if (nd->up) {
			repl_receive(nd->core, buf, len);
		}
		free(buf);
	}
}

void sim_step(struct sim *s)
{
	unsigned int i;

	s->now++;
	deliver(s);
	for (i = 0; i < s->n; i++) {
		struct sim_node *nd = &s->node[i];

		if (nd->core != NULL && !nd->up) {
			stop(s, i);
		}
		if (nd->up && nd->sync_done != 0 && nd->sync_done <= s->now) {
			nd->sync_done = 0;
			sim_synced(nd, nd->sync_no, nd->sync_pos, nd->syncing);
			if (s->beside) {
				sim_smbd_acks(s, i);
			}
			repl_synced(nd->core);
		}
		if (nd->up && s->beside) {
			sim_smbd_step(s, i);
		}
		if (nd->up && nd->told_at != 0 && nd->told_at <= s->now) {
			nd->told_at = 0;
			nd->view = nd->next_view;
			nd->generation = nd->next_generation;
			repl_membership(nd->core, nd->view, nd->generation);
		}
		if (nd->up && nd->next_tick <= s->now) {
			nd->next_tick = s->now + nd->tick_len;
			repl_tick(nd->core);
		}
		if (nd->up && nd->turn && (s->now + i) % 3 == 0) {
			nd->turn = repl_turn(nd->core);
		}
		if (nd->up && nd->epoch != 0 && !s->calm &&
		    sim_random(s, 12) == 0) {
			oracle_write(s, i);
		}
	}
	if (s->reconfigure_at != 0 && s->reconfigure_at <= s->now) {
		reconfigure(s);
	}
	if (!s->calm && sim_random(s, s->trouble) == 0) {
		disturb(s);
	}
}

void sim_init(struct sim *s, uint64_t seed)
{
	unsigned int i;

	memset(s, 0, sizeof(*s));
	s->seed = seed;
	s->rng = seed * 2654435761ULL + 12345;
	s->n = 3 + sim_random(s, 3);
	s->k = 2 + (s->n >= 5 ? sim_random(s, 2) : 0);
	s->max_delay = 1 + sim_random(s, 20);
	s->harsh = seed % 5 == 0;
	s->beside = seed % 3 != 0;
	s->trouble = s->harsh ? 5 + sim_random(s, 60) :
				20 + sim_random(s, 300);
	for (i = 0; seed % 4 == 1 && i < s->n; i++) {
		s->zone[i] = 1 + i / 2;
	}
	for (i = 0; i < s->n; i++) {
		handles[i] = (struct handle) { .sim = s, .node = i };
		start(s, i);
	}
}

/* From here on nothing bad happens: what is not lost must come together. */
void sim_heal(struct sim *s)
{
	unsigned int i;

	sim_trace(s, "calm");
	s->calm = true;
	s->loss = 0;
	s->dup = 0;
	s->max_delay = 5;
	memset(s->cut, 0, sizeof(s->cut));
	for (i = 0; i < s->n; i++) {
		struct sim_node *nd = &s->node[i];

		nd->die_in = 0;
		nd->slow_until = 0;
		nd->tick_len = 10;
		nd->next_tick = s->now + 1;
		if (nd->core != NULL && !nd->up) {
			stop(s, i);
		}
		start(s, i);
	}
	reconfigure_soon(s);
}

bool sim_quiet(struct sim *s)
{
	struct repl_status st;
	uint64_t epoch = 0;
	unsigned int i;

	if (s->num_writes != 0 || s->reconfigure_at != 0) {
		return false;
	}
	for (i = 0; i < s->n; i++) {
		struct sim_node *nd = &s->node[i];

		if (!nd->up) {
			continue;
		}
		repl_get_status(nd->core, &st);
		if (nd->epoch == 0 || st.closed || nd->told_at != 0 ||
		    st.num_tombstones != 0 || nd->sync_done != 0 ||
		    nd->generation != s->generation ||
		    (epoch != 0 && epoch != nd->epoch)) {
			return false;
		}
		epoch = nd->epoch;
	}
	return true;
}

/*
 * All that is not lost is up, and waits for nodes that are lost: the operator
 * says so. False: nobody waits, or for others.
 */
bool sim_force(struct sim *s)
{
	struct repl_status st;
	uint64_t lost = 0;
	unsigned int i;

	for (i = 0; i < s->n; i++) {
		lost |= s->node[i].was_lost || s->node[i].was_emptied ?
			1ULL << i : 0;
	}
	i = 0;
	while (i < s->n && !s->node[i].up) {
		i++;
	}
	if (i == s->n || s->num_lost == 0) {
		return false;
	}
	repl_get_status(s->node[i].core, &st);
	if (st.epoch != 0 || st.missing == 0 || (st.missing & ~lost) != 0) {
		return false;
	}
	sim_trace(s, "the operator goes on without %llx",
		  (unsigned long long)st.missing);
	repl_force(s->node[i].core, st.missing);
	return true;
}

void sim_end(struct sim *s)
{
	unsigned int i;

	for (i = 0; i < s->n; i++) {
		talloc_free(s->node[i].core);
	}
	while (s->num_msgs > 0) {
		free(s->msg[--s->num_msgs].buf);
	}
	free(s->writes);
}

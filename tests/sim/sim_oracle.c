/*
 * phstore: simulator: what clients were promised, and whether it holds
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Plays the SMB servers and the volatile database of CTDB as well: it knows
 * each key's newest version, gives out the next one as rules W1 and W2 say,
 * and lets a node that CTDB has left behind write on to what it owned.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* sim.vol: .there also for a deletion whose version is remembered */
static int owner[SIM_KEYS];

static bool newer(const struct sim_copy *a, const struct sim_copy *b)
{
	return a->there && (!b->there ||
			    repl_version_cmp(a->version, b->version) > 0);
}

static bool live(const struct sim_copy *c)
{
	return c->there && !c->deleted;
}

/* Its copies go to another zone, if a member is in one. */
static void look_at_zones(struct sim *s, uint8_t node)
{
	uint8_t zone = s->zone[node];
	struct repl_status st;
	uint64_t same = 0;
	unsigned int i;

	repl_get_status(s->node[node].core, &st);
	for (i = 0; i < s->n; i++) {
		same |= s->zone[i] == zone ? 1ULL << i : 0;
	}
	if (zone != 0 && (st.meta.members & ~same) != 0 &&
	    (st.successors & ~same) == 0)
	{
		sim_fail(s, "zones", "n%u has its copies on %llx", node,
			 (unsigned long long)st.successors);
	}
}

void oracle_write(struct sim *s, uint8_t node)
{
	struct sim_node *nd = &s->node[node];
	struct sim_write w = { .node = node, .life = nd->life };
	struct repl_record rec[2];
	char keys[2], values[2][24];
	enum phstore_err err;
	bool same_epoch = nd->epoch == s->vol_epoch;
	bool current = same_epoch && nd->generation == s->generation;
	uint64_t floor = repl_floor(nd->core);
	unsigned int i;

	w.num = 1 + sim_random(s, 4) / 3;
	w.key[0] = sim_random(s, SIM_KEYS - 1);
	w.key[1] = w.key[0] + 1;
	for (i = 0; i < w.num; i++) {
		unsigned int key = w.key[i];
		struct sim_copy *v = same_epoch ? &s->vol[key] : &nd->mem[key];

		if (!current && owner[key] != node) {
			return;
		}
		w.deleted[i] = live(v) && sim_random(s, 3) == 0;
		w.value[i] = ++s->next_value;
		w.version[i].epoch = nd->epoch;
		if (v->there && v->version.epoch == nd->epoch) {
			w.version[i].seq = v->version.seq + 1;
		} else if (v->there) {
			w.version[i].seq = 1;
		} else {
			w.version[i].seq = floor + 1;
		}
		if (!same_epoch && w.version[i].seq <= floor) {
			/* its store is not the volatile database */
			w.version[i].seq = floor + 1;
		}
		keys[i] = key + 1;
		snprintf(values[i], sizeof(values[i]), "%llu",
			 (unsigned long long)w.value[i]);
		rec[i] = (struct repl_record) {
			.key = { .data = &keys[i], .len = 1 },
			.version = w.version[i],
			.deleted = w.deleted[i],
		};
		if (!w.deleted[i]) {
			rec[i].value.data = values[i];
			rec[i].value.len = strlen(values[i]);
		}
	}
	err = repl_write(nd->core, rec, w.num, &w.pos);
	if (err != PHSTORE_OK) {
		return;
	}
	s->num_writes_total++;
	look_at_zones(s, node);
	for (i = 0; i < w.num; i++) {
		sim_trace(s, "n%u writes k%u v%llu (%llu,%llu)%s%s", node,
			  w.key[i], (unsigned long long)w.value[i],
			  (unsigned long long)w.version[i].epoch,
			  (unsigned long long)w.version[i].seq,
			  w.deleted[i] ? " deletion" : "",
			  current ? "" : " behind CTDB's back");
		if (same_epoch) {
			owner[w.key[i]] = node;
			s->vol[w.key[i]] = (struct sim_copy) {
				.there = true,
				.deleted = w.deleted[i],
				.value = w.value[i],
				.version = w.version[i],
			};
		}
	}
	s->writes = realloc(s->writes, (s->num_writes + 1) * sizeof(w));
	s->writes[s->num_writes++] = w;
	sim_wrote(s, node, w.pos);
	if (s->early[node] >= w.pos && s->early_life[node] == nd->life) {
		oracle_reached(s, node, w.pos);
	}
}

static void acked(struct sim *s, const struct sim_write *w)
{
	unsigned int i;

	for (i = 0; i < w->num; i++) {
		struct sim_copy c = {
			.there = true,
			.deleted = w->deleted[i],
			.value = w->value[i],
			.version = w->version[i],
		};
		unsigned int key = w->key[i];

		if (c.version.epoch < s->begun &&
		    newer(&c, &s->begun_with[key]) &&
		    newer(&c, &s->forgotten[key])) {
			sim_fail(s, "P3", "n%u: v%llu of k%u acked after "
				 "epoch %llu began without it", w->node,
				 (unsigned long long)c.value, key,
				 (unsigned long long)s->begun);
		}
		if (newer(&c, &s->newest[key])) {
			s->newest[key] = c;
		}
	}
	s->num_acked++;
}

void oracle_reached(struct sim *s, uint8_t node, uint64_t pos)
{
	size_t i, kept = 0;

	s->early[node] = pos;
	s->early_life[node] = s->node[node].life;
	for (i = 0; i < s->num_writes; i++) {
		struct sim_write *w = &s->writes[i];

		if (w->node == node && w->pos <= pos) {
			acked(s, w);
			continue;
		}
		s->writes[kept++] = *w;
	}
	s->num_writes = kept;
}

static void forget_writes(struct sim *s, uint8_t node, uint64_t pos)
{
	size_t i, kept = 0;

	for (i = 0; i < s->num_writes; i++) {
		if (s->writes[i].node == node && s->writes[i].pos <= pos) {
			s->num_fenced++;
			continue;
		}
		s->writes[kept++] = s->writes[i];
	}
	s->num_writes = kept;
}

void oracle_fenced(struct sim *s, uint8_t node, uint64_t pos)
{
	forget_writes(s, node, pos);
}

void oracle_died(struct sim *s, uint8_t node)
{
	forget_writes(s, node, UINT64_MAX);
}

/* node goes from merged state to service: its store, tombstones included */
void oracle_begins(struct sim *s, uint8_t node, uint64_t epoch)
{
	struct sim_copy *m = s->node[node].mem;
	unsigned int k;

	if (epoch < s->begun) {
		return;		/* left behind; it can ack nothing */
	}
	for (k = 0; k < SIM_KEYS; k++) {
		struct sim_copy *want = &s->newest[k];

		if (epoch == s->begun) {
			want = &s->begun_with[k];
		}
		if (live(want) &&
		    (!m[k].there || newer(want, &m[k]))) {
			sim_fail(s, "P1", "epoch %llu begins on n%u without "
				 "v%llu of k%u", (unsigned long long)epoch,
				 node, (unsigned long long)want->value, k);
		}
		if (want->there && live(&m[k]) && newer(want, &m[k])) {
			sim_fail(s, "P3", "epoch %llu begins on n%u with "
				 "v%llu of k%u, older than v%llu",
				 (unsigned long long)epoch, node,
				 (unsigned long long)m[k].value, k,
				 (unsigned long long)want->value);
		}
		if (live(want) && live(&m[k]) &&
		    repl_version_cmp(want->version, m[k].version) == 0 &&
		    want->value != m[k].value) {
			sim_fail(s, "P3", "epoch %llu: n%u has v%llu of k%u, "
				 "v%llu was promised with the same version",
				 (unsigned long long)epoch, node,
				 (unsigned long long)m[k].value, k,
				 (unsigned long long)want->value);
		}
		if (epoch == s->begun && live(&m[k]) && !live(want)) {
			sim_fail(s, "P3", "epoch %llu: n%u has k%u, others "
				 "do not", (unsigned long long)epoch, node, k);
		}
	}
	if (epoch == s->begun) {
		return;
	}
	s->begun = epoch;
	s->vol_epoch = epoch;
	s->num_epochs++;
	for (k = 0; k < SIM_KEYS; k++) {
		s->begun_with[k] = m[k];
		if (newer(&m[k], &s->newest[k])) {
			s->newest[k] = m[k];
		}
		if (m[k].deleted && newer(&m[k], &s->forgotten[k])) {
			s->forgotten[k] = m[k];
		}
		s->vol[k] = live(&m[k]) ? m[k] : (struct sim_copy) {};
		owner[k] = -1;
	}
}

void oracle_forgotten(struct sim *s, const struct repl_record *rec)
{
	unsigned int key = *(const uint8_t *)rec->key.data - 1;
	struct sim_copy *v = &s->vol[key];
	struct sim_copy c = {
		.there = true,
		.deleted = true,
		.version = rec->version,
	};

	s->num_forgotten++;
	if (newer(&c, &s->forgotten[key])) {
		s->forgotten[key] = c;
	}
	if (v->there && v->deleted &&
	    repl_version_cmp(v->version, rec->version) == 0) {
		*v = (struct sim_copy) {};
	}
}

/* All nodes are up and quiet: they must be one cluster and agree. */
void oracle_final(struct sim *s)
{
	uint64_t epoch = 0;
	unsigned int i, k;

	for (i = 0; i < s->n; i++) {
		struct sim_node *nd = &s->node[i];

		if (!nd->up) {
			continue;
		}
		if (nd->epoch == 0 || (epoch != 0 && nd->epoch != epoch)) {
			sim_fail(s, "liveness", "n%u is in epoch %llu, "
				 "not %llu", i,
				 (unsigned long long)nd->epoch,
				 (unsigned long long)epoch);
			return;
		}
		epoch = nd->epoch;
	}
	if (s->num_writes != 0) {
		sim_fail(s, "liveness", "%zu writes are not acked, the first "
			 "on n%u", s->num_writes, s->writes[0].node);
	}
	/* the volatile database's state must be on k nodes */
	for (k = 0; k < SIM_KEYS; k++) {
		unsigned int copies = 0;

		for (i = 0; i < s->n; i++) {
			struct sim_copy *c = &s->node[i].disk.copy[k];

			if (s->node[i].up && c->there &&
			    c->value == s->vol[k].value &&
			    repl_version_cmp(c->version,
					     s->vol[k].version) == 0) {
				copies++;
			}
		}
		if (live(&s->vol[k]) && copies < s->k) {
			sim_fail(s, "P1", "k%u v%llu is on %u disks", k,
				 (unsigned long long)s->vol[k].value, copies);
		}
	}
}

/*
 * phstore: simulator: a node gets the disk of another cluster
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * In every seventh seed a node that is lost may come back with the store of a
 * node of the same number, of a cluster of the same name. It must be told that
 * it is a stranger; none of its records may change, or come to another node.
 * And no node may ever be called one by mistake. Every third of these disks was
 * READY over there and never committed: that one is as good as empty.
 */

#include <string.h>

#include "sim.h"

#define FOREIGN_VALUE (1ULL << 40)

/* No number of the seed's sequence is used: other seeds stay as they are. */
uint64_t sim_birth(const struct sim *s, uint8_t node)
{
	return (s->seed << 16) + (node << 12) + s->node[node].life;
}

bool sim_stranger_seed(const struct sim *s)
{
	return s->seed % 7 == 2;
}

/* Its epoch is from long before to long after those here. */
void sim_stranger_begin(struct sim *s, uint8_t node)
{
	struct sim_node *nd = &s->node[node];
	uint64_t epoch = ((1 + sim_random(s, 2 * (s->begun >> 8))) << 8) | node;
	uint64_t all = (1ULL << s->n) - 1;
	unsigned int k;

	nd->stranger = sim_random(s, 3) != 0;
	nd->disk.meta = (struct repl_meta) {
		.promised = epoch,
		.epoch = nd->stranger ? epoch : 0,
		.data = epoch,
		.members = nd->stranger ? all : 0,
		.voters = all,
		.k = s->k,
		.birth = UINT64_MAX,
	};
	if (nd->stranger) {
		nd->disk.meta.flags = REPL_META_FIRST |
			sim_random(s, 2) * REPL_META_BEGAN;
	} else {
		nd->disk.meta.flags = sim_random(s, 2) * REPL_META_FIRST;
	}
	for (k = 0; k < SIM_KEYS; k += 1 + sim_random(s, 3)) {
		nd->disk.copy[k] = (struct sim_copy) {
			.there = true,
			.value = FOREIGN_VALUE + k,
			.version = { .epoch = epoch, .seq = 1 + k },
		};
	}
	memcpy(nd->mem, nd->disk.copy, sizeof(nd->mem));
	sim_trace(s, "n%u has the disk of another cluster, epoch %llu", node,
		  (unsigned long long)epoch);
}

void sim_stranger_meta(struct sim *s, uint8_t node,
		       const struct repl_meta *meta)
{
	const struct repl_meta *was = &s->node[node].disk.meta;

	if (s->node[node].stranger &&
	    (meta->epoch != was->epoch || meta->data != was->data ||
	     meta->birth != was->birth))
	{
		sim_fail(s, "strangers", "n%u is taken for one of ours", node);
	}
}

/* value 0: it is emptied */
void sim_stranger_stores(struct sim *s, uint8_t node, uint64_t value)
{
	if (s->node[node].stranger) {
		sim_fail(s, "strangers", "n%u, of another cluster, is changed",
			 node);
	}
	if (value >= FOREIGN_VALUE) {
		sim_fail(s, "strangers", "n%u gets a record of another "
			 "cluster", node);
	}
}

void sim_stranger_told(struct sim *s, uint8_t node)
{
	struct sim_node *nd = &s->node[node];

	sim_trace(s, "n%u is told that it is a stranger", node);
	if (!nd->stranger) {
		sim_fail(s, "strangers", "n%u is one of ours", node);
	}
	nd->up = false;
	nd->lost = true;
}

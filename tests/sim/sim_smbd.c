/*
 * phstore: simulator: the smbds of a node, seeds with repl_config.beside
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Two seeds of three do as phstored does: what was written is sent some time
 * later, by a flush that says who waits, and who waits does so for a sync of
 * the node's log that the core knows nothing of.
 */

#include <string.h>

#include "sim.h"

uint64_t sim_sync_end(struct sim *s, const struct sim_node *nd)
{
	uint64_t end = s->now + 1 + sim_random(s, 6);

	if (nd->slow_until > s->now) {
		end += sim_random(s, 300);
	}
	return end;
}

/* Two syncs may run; the one that began later has more. */
void sim_synced(struct sim_node *nd, uint64_t no, uint64_t pos,
		const struct sim_copy *copy)
{
	if (no > nd->disk.no) {
		nd->disk.no = no;
		memcpy(nd->disk.copy, copy, sizeof(nd->disk.copy));
	}
	if (pos > nd->own_disk) {
		nd->own_disk = pos;
	}
}

void sim_smbd_acks(struct sim *s, uint8_t i)
{
	struct sim_node *nd = &s->node[i];

	oracle_reached(s, i, nd->reached < nd->own_disk ?
			     nd->reached : nd->own_disk);
}

void sim_wrote(struct sim *s, uint8_t node, uint64_t pos)
{
	if (s->beside) {
		s->node[node].own_head = pos;
		s->node[node].unflushed = true;
	}
}

/* What phstored and the smbds of this node do, seeds with beside */
void sim_smbd_step(struct sim *s, uint8_t i)
{
	struct sim_node *nd = &s->node[i];

	if (nd->own_sync_done != 0 && nd->own_sync_done <= s->now) {
		nd->own_sync_done = 0;
		sim_synced(nd, nd->own_sync_no, nd->own_sync_pos,
			   nd->own_syncing);
		sim_smbd_acks(s, i);
	}
	if (nd->own_sync_done == 0 && nd->own_disk < nd->own_head &&
	    (s->calm || sim_random(s, 3) == 0))
	{
		memcpy(nd->own_syncing, nd->mem, sizeof(nd->mem));
		nd->own_sync_no = ++nd->num_syncs;
		nd->own_sync_pos = nd->own_head;
		nd->own_sync_done = sim_sync_end(s, nd);
	}
	if (nd->unflushed && (s->calm || sim_random(s, 4) == 0)) {
		bool mem = sim_random(s, 2) == 0;
		bool disk = sim_random(s, 2) == 0;

		nd->unflushed = false;
		repl_flush(nd->core, mem, disk);
	}
}

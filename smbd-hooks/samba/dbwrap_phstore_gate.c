/*
 * phstore: one machine's smbd and a store that phstored ships (rados)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * phstored closes the gate now and then: while it (re)starts, before it
 * prunes, when it was fenced. What is staged then is refused, so a record is
 * handed out for changing only inside the gate. Closed: the record is let
 * go, we wait with no lock held, and try again. (Cluster: the same, with
 * more to it, in dbwrap_phstore_ctdb_rec.c.)
 *
 * The volatile database is the truth here, and was filled from the store
 * once. If somebody has declared this node dead meanwhile, its records may
 * be another node's by now, and what it has in memory counts no more:
 * phstored then publishes another generation, and every smbd that was
 * started before ends as soon as it wants to change something. smbd must be
 * started again.
 */

#include "includes.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "lib/phstore/phstore_ship.h"

/*
 * A process may hold several records. While it holds one it has entered,
 * and who closes the gate waits for it, a moment.
 */
static unsigned int gate_held;

static bool gate_same_life(struct db_phstore_ctx *ctx, struct phstore *store)
{
	struct phstore_gate gate = {};
	uint64_t generation = dbwrap_phstore_generation();
	bool has_sink;

	has_sink = phstore_gate_get(store, &gate);
	if (!has_sink || generation == 0 || gate.generation == generation) {
		return true;
	}
	DBG_ERR("phstore: this node was declared dead, its records are "
		"another's now. smbd must be started again.\n");
	dbwrap_phstore_failed(ctx, "access", PHSTORE_ERR_FENCED, true);
	return false;
}

enum dbwrap_phstore_gate dbwrap_phstore_gate_enter(struct db_phstore_ctx *ctx)
{
	struct phstore *store = dbwrap_phstore_progress()->store;
	enum phstore_err err;
	bool ok;

	if (store == NULL || dbwrap_phstore_is_rdonly()) {
		return DBWRAP_PHSTORE_GATE_NONE;
	}
	if (gate_held == 0) {
		err = phstore_gate_enter(store);
		if (err != PHSTORE_OK) {
			return DBWRAP_PHSTORE_GATE_CLOSED;
		}
		ok = gate_same_life(ctx, store);
		if (!ok) {
			phstore_gate_leave(store);
			return DBWRAP_PHSTORE_GATE_FENCED;
		}
	}
	gate_held += 1;
	return DBWRAP_PHSTORE_GATE_ENTERED;
}

void dbwrap_phstore_gate_leave(void)
{
	gate_held -= 1;
	if (gate_held == 0) {
		phstore_gate_leave(dbwrap_phstore_progress()->store);
	}
}

static bool gate_exiting;

void dbwrap_phstore_exiting(void)
{
	gate_exiting = true;
}

bool dbwrap_phstore_is_exiting(void)
{
	return gate_exiting;
}

bool dbwrap_phstore_gate_wait(struct db_phstore_ctx *ctx)
{
	struct phstore *store = dbwrap_phstore_progress()->store;
	bool patient = dbwrap_phstore_is_helper();
	struct phstore_gate gate = {};
	enum phstore_err err;

	(void)phstore_gate_get(store, &gate);
	if (gate_exiting && !patient && gate.full && !gate.open) {
		/*
		 * The disk is full and the node is out of the cluster. Its
		 * clients have gone elsewhere, and wait for this end.
		 */
		dbwrap_phstore_failed(ctx, "access", PHSTORE_ERR_FULL, true);
		return false;
	}
	do {
		err = phstore_gate_wait(
			store, dbwrap_phstore_gate_timeout() * 1000);
		if (err == PHSTORE_OK) {
			return true;
		}
		dbwrap_phstore_failed(ctx, "access", err, !patient);
		/* the scavenger would give a handle up for ever */
	} while (patient);
	return false;
}

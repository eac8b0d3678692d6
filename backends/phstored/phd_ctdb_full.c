/*
 * phstored: a node whose disk is full
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The store cannot take what came from others: this node is as good as dead to
 * them, and they go on without it. It asks to join when there is room again,
 * and after `full retry` in any case: what it is told first, to be empty, may
 * make the room. Once it is empty that is over. Each attempt that fails holds
 * up all nodes until its disk is full again, and for two seconds those that do
 * not hear that it has left; so the next one waits twice as long.
 */

#include "phd_ctdb.h"

#include <stdio.h>
#include <sys/statvfs.h>

#include "phstore_private.h"

/* A full disk: free segments to come back, how long to be away. */
#define FULL_SEGMENTS 3
#define FULL_PAUSE_NS 3000000000ULL
/* Twice as long after each try, so often. */
#define FULL_DOUBLED 5
#define FULL_MAINTAIN_TICKS 20

static uint64_t full_retry_ns(const struct phd_ctdb *d)
{
	return d->phd->conf->full_retry * 1000000000ULL;
}

/* Called from the core's callbacks, so the core ends later. */
void phd_ctdb_resign(struct phd_ctdb *d, const char *what)
{
	if (d->resigned) {
		return;
	}
	snprintf(d->resigned_reason, sizeof(d->resigned_reason),
		 "this node's disk is full, it is no member until there is "
		 "room");
	phd_log(0, "%s: %s; this node leaves the cluster's members until "
		"there is room", what, phstore_last_error());
	phstore_ship_set_full(d->phd->ship, true);
	d->resigned = true;
	d->resigned_ns = phstore_now_ns();
	if (d->joined_ns != 0 &&
	    d->resigned_ns - d->joined_ns >= full_retry_ns(d))
	{
		d->full_tries = 0;
	}
	d->full_tries += d->full_tries < FULL_DOUBLED;
	phd_ctdb_gate(d);
	phd_ctdb_later(d);
}

/* Is it time to ask to join? */
bool phd_ctdb_full_over(struct phd_ctdb *d)
{
	uint64_t gone = phstore_now_ns() - d->resigned_ns;
	unsigned int doubled = d->full_tries - 1;
	struct phstore_stat st = {};
	struct statvfs fs = {};
	enum phstore_err err;
	bool ok, room;
	int ret;

	if (d->core != NULL) {
		return false;
	}
	err = phstore_stat(d->phd->store, &st);
	ret = statvfs(d->phd->conf->store, &fs);
	room = err == PHSTORE_OK && ret == 0 &&
	       fs.f_bavail * fs.f_frsize >= FULL_SEGMENTS * st.segment_size;
	d->ticks++;
	if (!room && d->ticks % FULL_MAINTAIN_TICKS == 0) {
		/* nobody else does: what is dead in the log makes room */
		(void)phstore_maintain(d->phd->store);
	}
	if (room) {
		ok = gone >= FULL_PAUSE_NS << doubled;
	} else {
		ok = !d->full_emptied && gone >= full_retry_ns(d) << doubled;
	}
	if (!ok) {
		return false;
	}
	phd_log(1, "asks to join again, with%s room", room ? "" : "out");
	/* without, it is called full until it is a member */
	d->full_try = !room;
	phstore_ship_set_full(d->phd->ship, !room);
	d->joined_ns = 0;
	return true;
}

/* An epoch with this node has begun. */
void phd_ctdb_full_joined(struct phd_ctdb *d)
{
	phstore_ship_set_full(d->phd->ship, false);
	d->full_try = false;
	d->full_emptied = false;
	d->joined_ns = phstore_now_ns();
}

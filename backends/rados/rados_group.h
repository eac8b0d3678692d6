/*
 * phstore: several nodes on one store, see rados_group.c
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_RADOS_GROUP_H
#define PHSTORE_RADOS_GROUP_H

#include "phstore_nodes.h"
#include "rados_private.h"

#define PHR_VIEW_LEN 40

enum phr_view_state {
	PHR_VIEW_NONE = 0,
	PHR_VIEW_PREPARING = 1,	/* members stop, and say so */
	PHR_VIEW_ACTIVE = 2,	/* they may load, and go on */
};

struct phr_view {
	uint64_t epoch;		/* 0: there never was one */
	uint64_t prev;		/* the last that was active before */
	uint64_t generation;	/* of ctdb */
	uint64_t members;	/* bit per node */
	uint8_t leader;
	uint8_t state;		/* enum phr_view_state */
};

enum phr_join_phase {
	PHR_JOIN_NONE = 0,
	PHR_JOIN_WANTS = 1,	/* a new epoch, please */
	PHR_JOIN_DRAINED = 2,	/* has stopped, all it had is applied */
	PHR_JOIN_LOADED = 3,	/* has what the epoch began with */
};

struct phr_join {
	uint64_t epoch;
	uint64_t beat;		/* it moves while the node lives */
	uint8_t phase;
};

/* As read in one operation. */
struct phr_group {
	struct phr_view view;
	uint8_t raw[PHR_VIEW_LEN];
	size_t raw_len;
	struct phr_join joins[PHSTORE_NODES_MAX];
};

struct phr_group_read;

/*
 * Without waiting: ask, look whether it is there, take it. NULL: failed. The
 * eventfd is written to when it is there.
 */
struct phr_group_read *phr_group_ask(struct phr_conn *c, int efd);
bool phr_group_is_there(struct phr_group_read *g);
enum phstore_err phr_group_take(struct phr_conn *c, struct phr_group_read *g,
				struct phr_group *group);
void phr_group_forget(struct phr_conn *c, struct phr_group_read *g);

enum phstore_err phr_group_join(struct phr_conn *c, uint8_t node,
				const struct phr_join *j);
/* The same without waiting, and without being told. */
void phr_group_beat(struct phr_conn *c, uint8_t node,
		    const struct phr_join *j);
/* Nodes that are no members and not fenced. */
enum phstore_err phr_group_others(struct phr_conn *c, uint64_t members,
				  uint64_t *alive);
/* Fence them. PHSTORE_ERR_FENCED: one has come back beside us, again. */
enum phstore_err phr_group_fence(struct phr_conn *c, struct phr_engine *e,
				 uint64_t members, bool block);
/*
 * Change the view if it is still the old one and, for an epoch to begin, if
 * every other node is still fenced. lost: it is not so, look again.
 */
enum phstore_err phr_group_set(struct phr_conn *c,
			       const struct phr_group *old,
			       const struct phr_view *v, bool *lost);

#endif /* PHSTORE_RADOS_GROUP_H */

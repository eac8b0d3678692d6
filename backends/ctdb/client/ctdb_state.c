/*
 * phstore ctdb backend: what is known of the cluster
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A look asks ctdbd five things at once (number, runstate, node map, vnn map,
 * recovery mode); they are answered in order, by one process, between two of
 * its events, so they belong together. When the last answer is there it is
 * compared with the last look, and differences become events. A look is made
 * after connecting, each poll_ms, and when a message says that something
 * happened; a message during a look causes another look after it.
 */

#include "ctdb_private.h"

#include <errno.h>
#include <string.h>

enum look_at {
	LOOK_PNN,
	LOOK_RUNSTATE,
	LOOK_NODEMAP,
	LOOK_VNNMAP,
	LOOK_RECMODE,
	LOOK_NUM
};

struct phctdb_look {
	struct phctdb *c;
	struct tevent_req *req[LOOK_NUM];
	int left;
	bool bad;
	struct phctdb_state found;
	struct phctdb_node *nodes;
	uint32_t *active;
};

static void look_start(struct phctdb *c);
static void look_answer(struct tevent_req *req);
static void look_done(struct phctdb_look *look);

/* false: a callback freed c */
static bool state_event(struct phctdb *c, enum phctdb_event ev)
{
	bool gone = false;
	bool *outer = c->gone;

	if (c->opt.event_fn == NULL) {
		return true;
	}
	c->gone = &gone;
	c->opt.event_fn(c, ev, &c->state, c->opt.private_data);
	if (gone) {
		if (outer != NULL) {
			*outer = true;
		}
		return false;
	}
	c->gone = outer;
	return true;
}

static void state_poll(struct tevent_context *ev, struct tevent_timer *te,
		       struct timeval now, void *private_data)
{
	struct phctdb *c = talloc_get_type_abort(private_data, struct phctdb);

	(void)ev;
	(void)te;
	(void)now;
	c->poll = NULL;
	look_start(c);
}

static void poll_plan(struct phctdb *c)
{
	TALLOC_FREE(c->poll);
	c->poll = tevent_add_timer(c->ev, c,
				   tevent_timeval_current_ofs(
					   c->opt.poll_ms / 1000,
					   c->opt.poll_ms % 1000 * 1000),
				   state_poll, c);
	if (c->poll == NULL) {
		phctdb_broken(c, "no memory");
	}
}

static void look_start(struct phctdb *c)
{
	static const uint32_t opcode[LOOK_NUM] = {
		[LOOK_PNN] = PHCTDB_CONTROL_GET_PNN,
		[LOOK_RUNSTATE] = PHCTDB_CONTROL_GET_RUNSTATE,
		[LOOK_NODEMAP] = PHCTDB_CONTROL_GET_NODEMAP,
		[LOOK_VNNMAP] = PHCTDB_CONTROL_GETVNNMAP,
		[LOOK_RECMODE] = PHCTDB_CONTROL_GET_RECMODE,
	};
	struct phctdb_look *look = NULL;
	int i;

	if (c->fd == -1) {
		return;
	}
	if (c->look != NULL) {
		c->look_again = true;
		return;
	}
	TALLOC_FREE(c->poll);
	look = talloc_zero(c, struct phctdb_look);
	if (look == NULL) {
		phctdb_broken(c, "no memory");
		return;
	}
	look->c = c;
	c->look = look;
	for (i = 0; i < LOOK_NUM; i++) {
		look->req[i] = phctdb_control_send(look, c->ev, c,
						   PHCTDB_THIS_NODE, opcode[i],
						   0, 0, NULL, 0);
		if (look->req[i] == NULL) {
			phctdb_broken(c, "no memory");
			return;
		}
		tevent_req_set_callback(look->req[i], look_answer, look);
		look->left++;
	}
}

static void look_answer(struct tevent_req *req)
{
	struct phctdb_look *look = tevent_req_callback_data(
		req, struct phctdb_look);
	struct phctdb_state *found = &look->found;
	uint8_t *data = NULL;
	size_t len = 0;
	int32_t status = -1;
	int ret;

	ret = phctdb_control_recv(req, look, &status, &data, &len, NULL);
	if (ret == 0 && status < 0) {
		ret = EIO;
	}
	if (ret != 0) {
		look->bad = true;
	} else if (req == look->req[LOOK_PNN]) {
		found->pnn = (uint32_t)status;
	} else if (req == look->req[LOOK_RUNSTATE]) {
		ret = phctdb_u32_pull(data, len, &found->runstate);
	} else if (req == look->req[LOOK_NODEMAP]) {
		ret = phctdb_nodemap_pull(look, data, len, &look->nodes,
					  &found->num_nodes);
	} else if (req == look->req[LOOK_VNNMAP]) {
		ret = phctdb_vnnmap_pull(look, data, len, &found->generation,
					 &look->active, &found->num_active);
	} else {
		found->recovering = (status != 0);
	}
	if (ret != 0) {
		look->bad = true;
	}
	talloc_free(data);
	talloc_free(req);
	look->left--;
	if (look->left == 0) {
		look_done(look);
	}
}

static bool same_nodes(const struct phctdb_state *a,
		       const struct phctdb_state *b)
{
	uint32_t i;

	if (a->runstate != b->runstate || a->pnn != b->pnn ||
	    a->num_nodes != b->num_nodes || a->num_active != b->num_active) {
		return false;
	}
	for (i = 0; i < a->num_nodes; i++) {
		if (a->nodes[i].pnn != b->nodes[i].pnn ||
		    a->nodes[i].flags != b->nodes[i].flags) {
			return false;
		}
	}
	for (i = 0; i < a->num_active; i++) {
		if (a->active[i] != b->active[i]) {
			return false;
		}
	}
	return true;
}

static void look_done(struct phctdb_look *look)
{
	struct phctdb *c = look->c;
	struct phctdb_state was = c->state;
	struct phctdb_state *now = &look->found;
	bool again = c->look_again;
	bool poked = c->poked;
	bool ok = true;

	c->look = NULL;
	c->look_again = false;
	if (look->bad) {
		talloc_free(look);
		/* also when the connection is lost: nothing to do then */
		phctdb_broken(c, "ctdbd does not tell its state");
		return;
	}
	c->poked = false;
	now->up = true;
	now->nodes = look->nodes;
	now->active = look->active;
	/* what callbacks were shown stays until they are done */
	talloc_steal(c, look->nodes);
	talloc_steal(c, look->active);
	c->state = *now;
	talloc_free(look);
	now = NULL;

	if (!was.up) {
		ok = state_event(c, PHCTDB_EV_UP);
	} else {
		bool moved = (was.generation != c->state.generation);

		if (!was.recovering && (c->state.recovering || moved)) {
			ok = state_event(c, PHCTDB_EV_RECOVERY);
		} else if (was.recovering && c->state.recovering && moved) {
			/* the next one began before the last was seen end */
			ok = state_event(c, PHCTDB_EV_RECOVERY);
		}
		if (ok && !same_nodes(&was, &c->state)) {
			ok = state_event(c, PHCTDB_EV_NODES);
		}
		if (ok && !c->state.recovering && (was.recovering || moved)) {
			ok = state_event(c, PHCTDB_EV_GENERATION);
		}
	}
	if (ok && poked) {
		ok = state_event(c, PHCTDB_EV_POKE);
	}
	if (!ok) {
		return;
	}
	talloc_free((void *)(uintptr_t)was.nodes);
	talloc_free((void *)(uintptr_t)was.active);
	if (c->fd == -1) {
		return;
	}
	if (again) {
		look_start(c);
	} else {
		poll_plan(c);
	}
}

bool phctdb_state_connected(struct phctdb *c)
{
	c->look_again = false;
	c->poked = false;
	look_start(c);
	return true;
}

bool phctdb_state_down(struct phctdb *c)
{
	bool was_up = c->state.up;

	TALLOC_FREE(c->look);
	TALLOC_FREE(c->poll);
	c->look_again = false;
	c->state.up = false;
	if (!was_up) {
		return true;
	}
	return state_event(c, PHCTDB_EV_DOWN);
}

bool phctdb_state_message(struct phctdb *c, uint64_t srvid)
{
	if (srvid == PHCTDB_SRVID_POKE) {
		c->poked = true;
	}
	look_start(c);
	if (srvid == PHCTDB_SRVID_IPREALLOCATED && c->state.up) {
		return state_event(c, PHCTDB_EV_ADDRESSES);
	}
	return true;
}

void phctdb_poke(struct phctdb *c)
{
	look_start(c);
}

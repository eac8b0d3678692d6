/*
 * phstore ctdb backend: requests to ctdbd and their answers
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A request has a slot in a table that grows up to a limit. Its id is the
 * slot's number and, above it, a serial number, so that the late answer to a
 * request given up is never taken for another one's: it is dropped.
 *
 * Loss of the connection ends all of them with ENOTCONN, each after its own
 * time with ETIMEDOUT. A freed request gives its slot back.
 */

#include "ctdb_private.h"

#include <errno.h>
#include <string.h>

#define SLOT_BITS	16
#define SLOT_MASK	((1U << SLOT_BITS) - 1)
#define NO_SLOT		UINT32_MAX
#define FIRST_SLOTS	64

struct request_state {
	struct phctdb *c;
	uint32_t slot;
	int32_t status;
	uint8_t *data;
	size_t len;
	char *errmsg;
};

static void slot_release(struct request_state *state)
{
	struct phctdb *c = state->c;

	if (c == NULL || state->slot == NO_SLOT) {
		return;
	}
	c->slots[state->slot].req = NULL;
	c->slots[state->slot].next_free = c->first_free;
	c->first_free = state->slot;
	c->num_requests--;
	state->slot = NO_SLOT;
}

static void request_cleanup(struct tevent_req *req,
			    enum tevent_req_state req_state)
{
	struct request_state *state = tevent_req_data(
		req, struct request_state);

	if (req_state == TEVENT_REQ_TIMED_OUT && state->c != NULL) {
		state->c->count.timeouts++;
	}
	slot_release(state);
}

static int slot_take(struct phctdb *c, struct tevent_req *req, uint32_t *reqid)
{
	struct request_state *state = tevent_req_data(
		req, struct request_state);
	struct phctdb_slot *slot = NULL;
	uint32_t i;

	if (c->num_requests >= c->opt.max_requests) {
		c->count.refused_out++;
		return ENOBUFS;
	}
	if (c->num_requests == c->num_slots) {
		uint32_t num = c->num_slots ? 2 * c->num_slots : FIRST_SLOTS;
		struct phctdb_slot *slots = NULL;

		if (num > SLOT_MASK + 1) {
			c->count.refused_out++;
			return ENOBUFS;
		}
		slots = talloc_realloc(c, c->slots, struct phctdb_slot, num);
		if (slots == NULL) {
			return ENOMEM;
		}
		/* all old ones are in use, so the free ones are the new */
		for (i = c->num_slots; i < num; i++) {
			slots[i] = (struct phctdb_slot) { .next_free = i + 1 };
		}
		c->first_free = c->num_slots;
		c->slots = slots;
		c->num_slots = num;
	}
	state->slot = c->first_free;
	slot = &c->slots[state->slot];
	c->first_free = slot->next_free;
	c->num_requests++;
	c->serial++;
	slot->req = req;
	slot->reqid = (c->serial << SLOT_BITS) | state->slot;
	*reqid = slot->reqid;
	return 0;
}

static struct tevent_req *request_create(TALLOC_CTX *mem_ctx, struct phctdb *c)
{
	struct tevent_req *req = NULL;
	struct request_state *state = NULL;

	req = tevent_req_create(mem_ctx, &state, struct request_state);
	if (req != NULL) {
		state->c = c;
		state->slot = NO_SLOT;
	}
	return req;
}

/* Send the packet, plan the end */
static struct tevent_req *request_start(struct tevent_req *req,
					struct tevent_context *ev,
					struct phctdb *c, uint8_t *packet)
{
	bool ok;
	int ret;

	tevent_req_set_cleanup_fn(req, request_cleanup);
	ret = phctdb_queue(c, packet);
	if (ret != 0) {
		tevent_req_error(req, ret);
		return tevent_req_post(req, ev);
	}
	ok = tevent_req_set_endtime(req, ev, tevent_timeval_current_ofs(
					    c->opt.request_ms / 1000,
					    c->opt.request_ms % 1000 * 1000));
	if (!ok) {
		return tevent_req_post(req, ev);
	}
	return req;
}

int phctdb_request_result(struct tevent_req *req)
{
	enum tevent_req_state req_state;
	uint64_t err;

	if (!tevent_req_is_error(req, &req_state, &err)) {
		return 0;
	}
	switch (req_state) {
	case TEVENT_REQ_TIMED_OUT:
		return ETIMEDOUT;
	case TEVENT_REQ_NO_MEMORY:
		return ENOMEM;
	case TEVENT_REQ_USER_ERROR:
		return (int)err;
	default:
		return EIO;
	}
}

struct tevent_req *phctdb_control_send(TALLOC_CTX *mem_ctx,
				       struct tevent_context *ev,
				       struct phctdb *c, uint32_t dest,
				       uint32_t opcode, uint64_t srvid,
				       uint32_t flags, const void *data,
				       size_t len)
{
	struct phctdb_wire_hdr hdr = { .dest = dest };
	struct phctdb_wire_control in = {
		.opcode = opcode,
		.srvid = srvid,
		.flags = flags,
		.data = { .data = data, .len = len },
	};
	struct tevent_req *req = request_create(mem_ctx, c);
	int ret;

	if (req == NULL) {
		return NULL;
	}
	if (flags & PHCTDB_CONTROL_NOREPLY) {
		ret = phctdb_queue(c, phctdb_wire_control_push(c, &hdr, &in));
		if (ret != 0) {
			tevent_req_error(req, ret);
		} else {
			tevent_req_done(req);
		}
		return tevent_req_post(req, ev);
	}
	ret = slot_take(c, req, &hdr.reqid);
	if (ret != 0) {
		tevent_req_error(req, ret);
		return tevent_req_post(req, ev);
	}
	return request_start(req, ev, c,
			     phctdb_wire_control_push(c, &hdr, &in));
}

int phctdb_control_recv(struct tevent_req *req, TALLOC_CTX *mem_ctx,
			int32_t *status, uint8_t **data, size_t *len,
			char **errmsg)
{
	struct request_state *state = tevent_req_data(
		req, struct request_state);
	int ret = phctdb_request_result(req);

	if (ret == 0) {
		*status = state->status;
		if (data != NULL) {
			*data = talloc_move(mem_ctx, &state->data);
			*len = state->len;
		}
		if (errmsg != NULL) {
			*errmsg = talloc_move(mem_ctx, &state->errmsg);
		}
	}
	tevent_req_received(req);
	return ret;
}

struct tevent_req *phctdb_call_send(TALLOC_CTX *mem_ctx,
				    struct tevent_context *ev,
				    struct phctdb *c,
				    const struct phctdb_wire_call *call)
{
	struct phctdb_wire_hdr hdr = { .dest = PHCTDB_THIS_NODE };
	struct tevent_req *req = request_create(mem_ctx, c);
	int ret;

	if (req == NULL) {
		return NULL;
	}
	ret = slot_take(c, req, &hdr.reqid);
	if (ret != 0) {
		tevent_req_error(req, ret);
		return tevent_req_post(req, ev);
	}
	return request_start(req, ev, c, phctdb_wire_call_push(c, &hdr, call));
}

int phctdb_call_recv(struct tevent_req *req, int32_t *status)
{
	return phctdb_control_recv(req, NULL, status, NULL, NULL, NULL);
}

bool phctdb_request_answer(struct phctdb *c, const struct phctdb_wire_hdr *hdr,
			   const uint8_t *packet)
{
	uint32_t i = hdr->reqid & SLOT_MASK;
	struct phctdb_wire_reply reply;
	struct request_state *state = NULL;
	struct tevent_req *req = NULL;
	int ret;

	ret = phctdb_wire_reply_pull(packet, hdr->length, &reply);
	if (ret != 0) {
		phctdb_broken(c, "an answer of bad length");
		return false;
	}
	if (i >= c->num_slots || c->slots[i].req == NULL ||
	    c->slots[i].reqid != hdr->reqid) {
		c->count.dropped_in++;
		return true;
	}
	req = c->slots[i].req;
	state = tevent_req_data(req, struct request_state);
	state->status = reply.status;
	if (hdr->operation == PHCTDB_OP_REPLY_ERROR && reply.status >= 0) {
		state->status = -1;
	}
	state->len = reply.data.len;
	if (reply.data.len > 0) {
		state->data = talloc_memdup(state, reply.data.data,
					    reply.data.len);
	}
	if (reply.text.len > 0) {
		state->errmsg = talloc_strndup(state,
					       (const char *)reply.text.data,
					       reply.text.len);
	}
	if ((reply.data.len > 0 && state->data == NULL) ||
	    (reply.text.len > 0 && state->errmsg == NULL)) {
		tevent_req_oom(req);
	} else {
		tevent_req_done(req);
	}
	/* client_read() looks whether that freed us */
	return true;
}

bool phctdb_request_fail_all(struct phctdb *c)
{
	bool gone = false;
	bool *outer = c->gone;
	uint32_t i;

	c->gone = &gone;
	for (i = 0; i < c->num_slots; i++) {
		if (c->slots[i].req == NULL) {
			continue;
		}
		tevent_req_error(c->slots[i].req, ENOTCONN);
		if (gone) {
			if (outer != NULL) {
				*outer = true;
			}
			return false;
		}
	}
	c->gone = outer;
	return true;
}

void phctdb_request_forget_all(struct phctdb *c)
{
	uint32_t i;

	for (i = 0; i < c->num_slots; i++) {
		struct tevent_req *req = c->slots[i].req;
		struct request_state *state = NULL;

		if (req != NULL) {
			state = tevent_req_data(req, struct request_state);
			state->c = NULL;
		}
	}
}

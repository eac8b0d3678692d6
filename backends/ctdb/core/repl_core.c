/*
 * phstore: replication core: events, dispatch, sending, syncs
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * One sync runs at a time and is followed by another if something was
 * applied meanwhile: group commit. What was applied before it began is
 * remembered as "syncing" by those concerned and is durable when it ends.
 */

#include <string.h>

#include "repl_private.h"

#ifdef PHSTORE_REPL_MUTANTS
int repl_mutant;
#endif

struct repl_core *repl_core_new(TALLOC_CTX *mem_ctx,
				const struct repl_config *config,
				const struct repl_meta *meta)
{
	struct repl_core *c = NULL;

	if (config->node >= PHSTORE_NODES_MAX ||
	    !(config->nodes & BIT(config->node)) ||
	    config->copies < 1 || config->sweep_piece < 1 ||
	    config->copies > phstore_nodes_count(config->nodes)) {
		return NULL;
	}
	c = talloc_zero(mem_ctx, struct repl_core);
	if (c == NULL) {
		return NULL;
	}
	c->items = talloc_zero_array(c, struct item, REPL_WINDOW);
	if (c->items == NULL) {
		talloc_free(c);
		return NULL;
	}
	c->conf = *config;
	c->meta = *meta;
	if (c->meta.voters == 0) {
		c->meta.voters = config->nodes;
	}
	c->first_item = 1;
	c->tombs_end = &c->tombs;
	c->lead.highest = c->meta.promised;
	return c;
}

void repl_send(struct repl_core *c,
	       enum repl_type type,
	       uint8_t to,
	       uint64_t epoch,
	       uint64_t arg1,
	       uint64_t arg2,
	       const uint8_t *body,
	       size_t body_len,
	       uint8_t flags)
{
	struct repl_hdr hdr = {
		.len = REPL_HDR + body_len,
		.version = REPL_PROTOCOL,
		.type = type,
		.flags = flags,
		.from = c->conf.node,
		.to = to,
		.cluster = c->conf.cluster,
		.epoch = epoch,
		.arg1 = arg1,
		.arg2 = arg2,
	};
	uint8_t *buf = talloc_array(c, uint8_t, hdr.len);

	if (buf == NULL) {
		return;		/* as if lost: it will be sent again */
	}
	if (body_len > 0) {
		memcpy(buf + REPL_HDR, body, body_len);
	}
	repl_hdr_push(buf, &hdr);
	c->conf.ops->send(c->conf.private_data, to, buf, hdr.len);
	talloc_free(buf);
}

void repl_save_meta(struct repl_core *c)
{
	c->conf.ops->meta(c->conf.private_data, &c->meta);
}

void repl_want_sync(struct repl_core *c)
{
	uint8_t i;

	if (c->syncing) {
		c->want_sync = true;
		return;
	}
	c->syncing = true;
	c->want_sync = false;
	c->own_syncing = c->head;
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		c->in[i].syncing = c->in[i].mem;
		if (c->in[i].purge_sync == 1) {
			c->in[i].purge_sync = 2;
		}
	}
	c->sync_for = c->att.phase == ATT_SYNCING ? c->att.epoch : 0;
	c->conf.ops->sync(c->conf.private_data);
}

void repl_synced(struct repl_core *c)
{
	/* one that was begun in an attempt before says nothing of this one */
	bool for_attempt = c->sync_for != 0 &&
		(c->sync_for == c->att.epoch || MUTANT(MUT_SYNC_BEFORE));

	if (!c->syncing) {
		return;
	}
	c->syncing = false;
	c->sync_for = 0;
	repl_stream_synced(c);
	if (for_attempt) {
		repl_epoch_synced(c);
	}
	repl_sweep_flushed(c);
	if (c->want_sync) {
		repl_want_sync(c);
	}
}

void repl_membership(struct repl_core *c, uint64_t up, uint64_t generation)
{
	c->up = up & c->conf.nodes;
	if (generation != c->generation && !MUTANT(MUT_NO_GATE)) {
		c->closed = true;
	}
	c->generation = generation;
	c->lead.pause = 0;
	c->mute = 0;
	c->gone &= c->up;
	c->asking = 0;
}

void repl_resign(struct repl_core *c)
{
	uint64_t others = c->up & ~BIT(c->conf.node);
	uint8_t i;

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (others & BIT(i)) {
			repl_send(c, REPL_REFUSE, i, c->meta.promised,
				  c->meta.promised, 0, NULL, 0, REPL_GONE);
		}
	}
}

void repl_damaged(struct repl_core *c)
{
	c->conf.pull_all = true;
}

void repl_force(struct repl_core *c, uint64_t lost)
{
	/* an attempt under way was not numbered for it */
	c->lead.phase = LEAD_NONE;
	c->lead.force = true;
	c->lead.lost = lost & ~BIT(c->conf.node);
	c->lead.wanted = true;
	c->lead.pause = 0;
}

void repl_tick(struct repl_core *c)
{
	repl_epoch_tick(c);
	repl_lead_tick(c);
	if (c->active != 0) {
		repl_stream_tick(c);
		repl_sweep_tick(c);
	}
}

void repl_receive(struct repl_core *c, const uint8_t *buf, size_t len)
{
	struct repl_hdr h = {};
	struct repl_plan plan = {};
	const uint8_t *body = buf + REPL_HDR;
	enum repl_wire_err err;
	size_t body_len;
	bool ok;

	err = repl_hdr_pull(buf, len, c->conf.cluster, &h);
	switch (err) {
	case REPL_WIRE_OK:
		break;
	case REPL_WIRE_VERSION:
		c->num_other_version++;
		return;
	case REPL_WIRE_CLUSTER:
		c->num_other_cluster++;
		return;
	default:
		c->num_garbage++;
		return;
	}
	if (h.to != c->conf.node || !(BIT(h.from) & c->conf.nodes)) {
		c->num_garbage++;
		return;
	}
	body_len = len - REPL_HDR;
	c->mute &= ~BIT(h.from);
	c->gone &= ~BIT(h.from);
	if (h.from == repl_leader(c)) {
		c->asking = 0;
	}

	switch ((enum repl_type)h.type) {
	case REPL_PREPARE:
		repl_on_prepare(c, &h);
		break;
	case REPL_START:
	case REPL_COMMIT:
		ok = repl_plan_pull(body, body_len, &plan);
		if (!ok) {
			c->num_garbage++;
			break;
		}
		if (h.type == REPL_START) {
			repl_on_start(c, &h, &plan);
		} else {
			repl_on_commit(c, &h, &plan);
		}
		break;
	case REPL_PULL:
		if (body_len > REPL_KEY_MAX) {
			c->num_garbage++;
			break;
		}
		repl_on_pull(c,
			     &h,
			     (struct phstore_blob) {
				     .data = body,
				     .len = body_len,
			     });
		break;
	case REPL_PULLED:
		repl_on_pulled(c, &h, body, body_len);
		break;
	case REPL_ACTIVATE:
		repl_on_activate(c, &h);
		break;
	case REPL_PROMISE:
		if (body_len != REPL_META_LEN) {
			c->num_garbage++;
			break;
		}
		repl_lead_message(c, &h, body);
		break;
	case REPL_HELLO:
	case REPL_REFUSE:
	case REPL_READY:
	case REPL_COMMITTED:
	case REPL_ACTIVATED:
		repl_lead_message(c, &h, NULL);
		break;
	case REPL_SHIP:
		repl_on_ship(c, &h, body, body_len);
		break;
	case REPL_ACK:
		repl_on_ack(c, &h);
		break;
	case REPL_PURGE:
		repl_on_purge(c, &h, body, body_len);
		break;
	case REPL_FORGET:
		repl_on_forget(c, &h, body, body_len);
		break;
	case REPL_PURGED:
	case REPL_FORGOTTEN:
		repl_on_swept(c, &h);
		break;
	case REPL_TYPE_END:
		break;
	}
}

uint64_t repl_floor(struct repl_core *c)
{
	return c->floor;
}

void repl_get_status(struct repl_core *c, struct repl_status *st)
{
	size_t i;

	*st = (struct repl_status) {
		.state = c->active != 0 ? REPL_ACTIVE : REPL_JOINING,
		.closed = c->closed,
		.meta = c->meta,
		.epoch = c->active,
		.up = c->up,
		.leader = repl_leader(c),
		.missing = c->missing,
		.missing_needed = c->missing_needed,
		.strangers = c->strangers,
		.split = c->split,
		.head = c->head,
		.replicated = c->reached_mem,
		.durable = c->reached_disk,
		.num_attempts = c->num_attempts,
		.num_garbage = c->num_garbage,
		.num_other_version = c->num_other_version,
		.num_other_cluster = c->num_other_cluster,
		.num_tombstones = c->num_tombs,
	};
	for (i = 0; i < c->num_peers; i++) {
		st->acked[c->peers[i].node] = c->peers[i].disk;
		st->successors |= BIT(c->peers[i].node);
	}
}

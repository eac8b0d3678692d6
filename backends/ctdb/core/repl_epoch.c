/*
 * phstore: replication core: a new epoch, the member's part
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * promise -> (emptied unless a source) -> read all sources -> sync -> ready
 * -> commit -> active. Each step answers again when asked again. A restart
 * leaves the attempt: only meta survives, and the next attempt decides by it.
 */

#include <string.h>

#include "phstore_bytes.h"
#include "repl_private.h"

/* flags of REPL_PULLED */
#define PULLED_LAST 1
#define PULLED_DAMAGED 2	/* who reads it is not complete by that */

static void answer(struct repl_core *c, enum repl_type type)
{
	repl_send(c, type, c->att.leader, c->att.epoch, 0, 0, NULL, 0, 0);
}

static void deactivate(struct repl_core *c)
{
	if (c->active == 0) {
		return;
	}
	c->active = 0;
	repl_sweep_stop(c);
	repl_stream_stop(c);
	c->conf.ops->state(c->conf.private_data, REPL_JOINING, 0);
}

void repl_on_prepare(struct repl_core *c, const struct repl_hdr *h)
{
	uint8_t body[REPL_META_LEN];

	if (h->epoch < c->meta.promised) {
		repl_send(c, REPL_REFUSE, h->from, h->epoch,
			  c->meta.promised, 0, NULL, 0, 0);
		return;
	}
	if (h->epoch == c->meta.promised) {
		/* the answer was lost; after a restart it may not be given */
		if (c->att.epoch != h->epoch ||
		    c->att.phase != ATT_PROMISED) {
			return;
		}
	}
	if (!(c->up & BIT(h->from))) {
		return;
	}
	if (h->epoch > c->meta.promised) {
		c->meta.promised = h->epoch;
		if (!MUTANT(MUT_PROMISE_VOLATILE)) {
			repl_save_meta(c);
		}
		c->att = (struct attempt) {
			.epoch = h->epoch,
			.phase = ATT_PROMISED,
			.leader = h->from,
		};
		if (!MUTANT(MUT_NO_FREEZE)) {
			deactivate(c);
		}
	}
	repl_meta_push(body, &c->meta);
	repl_send(c, REPL_PROMISE, h->from, h->epoch, 0, 0,
		  body, sizeof(body), 0);
}

static void pull(struct repl_core *c)
{
	struct attempt *a = &c->att;
	uint64_t from = 0;

	/* who was complete for base has everything older */
	if ((a->complete && !c->conf.pull_all) || MUTANT(MUT_DELTA_ALWAYS)) {
		from = a->plan.base;
	}
	repl_send(c, REPL_PULL, a->source, a->epoch, from, 0,
		  a->cursor, a->cursor_len, 0);
	a->ticks = 0;
}

/* The next source, or all have been read. */
static void pull_next(struct repl_core *c)
{
	struct attempt *a = &c->att;
	uint64_t left = a->plan.sources & ~a->pulled;

	if (left != 0 && !(MUTANT(MUT_PULL_ONE) &&
			   (a->pulled & a->plan.sources) != 0)) {
		a->source = phstore_nodes_lowest(left);
		a->cursor_len = 0;
		pull(c);
		return;
	}
	a->phase = ATT_SYNCING;
	repl_want_sync(c);
	if (MUTANT(MUT_READY_UNSYNCED)) {
		repl_epoch_synced(c);
	}
}

void repl_on_start(struct repl_core *c,
		   const struct repl_hdr *h,
		   const struct repl_plan *plan)
{
	struct attempt *a = &c->att;
	uint64_t self = BIT(c->conf.node);

	if (h->epoch != a->epoch || !(plan->members & self)) {
		return;
	}
	if (c->meta.epoch != 0 && plan->birth != c->meta.birth &&
	    !MUTANT(MUT_STRANGER_TAKEN))
	{
		/* a store is never emptied for another cluster */
		return;
	}
	if (a->phase == ATT_READY) {
		answer(c, REPL_READY);
		return;
	}
	if (a->phase == ATT_SYNCING && a->sync_asks < REPL_SYNC_ASKS) {
		/* a slow disk is no dead node */
		a->sync_asks++;
		a->progress++;
	}
	if (a->phase == ATT_PULLING || a->phase == ATT_SYNCING) {
		/* it takes its time: so that the coordinator waits */
		repl_send(c, REPL_READY, a->leader, a->epoch, a->progress, 0,
			  NULL, 0, 1);
		return;
	}
	if (a->phase != ATT_PROMISED) {
		return;
	}
	a->plan = *plan;
	a->phase = ATT_PULLING;
	if (plan->sources & self) {
		a->pulled = self;
		a->complete = true;
	} else {
		if (!MUTANT(MUT_EMPTIED_COUNTS)) {
			c->meta.data = 0;
			repl_save_meta(c);
		}
		if (!MUTANT(MUT_REJOIN_UNEMPTIED)) {
			c->conf.ops->clear(c->conf.private_data);
		}
		repl_stream_undone(c);
	}
	pull_next(c);
}

void repl_on_pull(struct repl_core *c,
		  const struct repl_hdr *h,
		  struct phstore_blob after)
{
	struct repl_record rec = {};
	uint8_t *body = NULL;
	size_t len = 4 + after.len;
	size_t size = REPL_PULL_BYTES + 4 + REPL_KEY_MAX;
	uint8_t flags;
	bool more;

	if (h->epoch != c->att.epoch || c->att.phase == ATT_NONE) {
		return;
	}
	body = talloc_array(c, uint8_t, size);
	if (body == NULL) {
		return;
	}
	phstore_push_u32(body, after.len);
	memcpy(body + 4, after.data, after.len);
	for (;;) {
		size_t add;
		uint8_t *grown = NULL;

		more = c->conf.ops->next(c->conf.private_data, h->arg1,
					 after, &rec);
		if (!more) {
			break;
		}
		add = repl_record_len(&rec);
		if (len > 4 + REPL_KEY_MAX && len + add > REPL_PULL_BYTES) {
			break;
		}
		if (len + add > size) {
			size = len + add;
			grown = talloc_realloc(c, body, uint8_t, size);
			if (grown == NULL) {
				talloc_free(body);
				return;
			}
			body = grown;
		}
		repl_record_push(body + len, &rec);
		after = (struct phstore_blob) {
			.data = body + len + REPL_RECORD_HDR,
			.len = rec.key.len,
		};
		len += add;
	}
	flags = more ? 0 : PULLED_LAST;
	if (c->conf.pull_all) {
		/* known from the start, or since a record could not be read */
		flags |= PULLED_DAMAGED;
	}
	repl_send(c, REPL_PULLED, h->from, h->epoch, 0, 0, body, len, flags);
	talloc_free(body);
}

void repl_on_pulled(struct repl_core *c,
		    const struct repl_hdr *h,
		    const uint8_t *body,
		    size_t len)
{
	struct attempt *a = &c->att;
	struct repl_record rec = {};
	size_t cursor_len, ofs, n;
	bool last;

	if (h->epoch != a->epoch || a->phase != ATT_PULLING ||
	    h->from != a->source) {
		return;
	}
	if (len < 4) {
		c->num_garbage++;
		return;
	}
	/* the answer to an earlier question? */
	cursor_len = phstore_pull_u32(body);
	if (cursor_len != a->cursor_len || len - 4 < cursor_len ||
	    memcmp(body + 4, a->cursor, cursor_len) != 0) {
		return;
	}
	for (ofs = 4 + cursor_len; ofs < len; ofs += n) {
		n = repl_record_pull(body + ofs, len - ofs, &rec);
		if (n == 0) {
			c->num_garbage++;
			return;
		}
		memcpy(a->cursor, rec.key.data, rec.key.len);
		a->cursor_len = rec.key.len;
	}
	a->progress++;
	last = (h->flags & PULLED_LAST) != 0;
	if (!last) {
		/* the source reads on while this is stored */
		pull(c);
	}
	for (ofs = 4 + cursor_len; ofs < len; ofs += n) {
		n = repl_record_pull(body + ofs, len - ofs, &rec);
		if (n == 0) {
			/* it was whole above: the buffer is not ours now */
			return;
		}
		c->conf.ops->apply(c->conf.private_data, &rec, 1);
	}
	if (last) {
		a->pulled |= BIT(a->source);
		if (!(h->flags & PULLED_DAMAGED)) {
			a->complete = true;
		}
		pull_next(c);
	}
}

/* The sync begun after the last source was read is done. */
void repl_epoch_synced(struct repl_core *c)
{
	if (c->att.phase != ATT_SYNCING) {
		return;
	}
	c->meta.data = c->att.epoch;
	c->meta.flags |= c->att.plan.flags & REPL_META_FIRST;
	if (c->meta.epoch == 0) {
		c->meta.birth = c->att.plan.birth;
	}
	repl_save_meta(c);
	c->att.phase = ATT_READY;
	answer(c, REPL_READY);
}

void repl_on_commit(struct repl_core *c,
		    const struct repl_hdr *h,
		    const struct repl_plan *plan)
{
	if (h->epoch != c->att.epoch) {
		return;
	}
	if (c->att.phase == ATT_READY) {
		c->meta.epoch = h->epoch;
		c->meta.members = plan->members;
		c->meta.voters = plan->voters;
		c->meta.k = plan->k;
		c->meta.birth = plan->birth;
		if (!MUTANT(MUT_BEGAN_KEPT)) {
			c->meta.flags &= ~REPL_META_BEGAN;
		}
		if (MUTANT(MUT_BEGAN_EARLY)) {
			c->meta.flags |= REPL_META_BEGAN;
		}
		if (!MUTANT(MUT_MEMBERS_VOLATILE)) {
			repl_save_meta(c);
		}
		c->att.phase = ATT_COMMITTED;
	}
	if (c->att.phase == ATT_COMMITTED) {
		answer(c, REPL_COMMITTED);
	}
}

void repl_on_activate(struct repl_core *c, const struct repl_hdr *h)
{
	if (h->epoch == c->att.epoch && c->att.phase == ATT_COMMITTED) {
		repl_begin(c);
	}
	if (h->epoch == c->active && c->active != 0) {
		repl_send(c, REPL_ACTIVATED, h->from, h->epoch, 0, 0,
			  NULL, 0, 0);
	}
}

/* Who has what we promised says that we have no part in it. */
void repl_on_stranger(struct repl_core *c, const struct repl_hdr *h)
{
	if (h->epoch == c->att.epoch && c->att.phase == ATT_PROMISED &&
	    c->meta.epoch != 0 && h->arg2 != c->meta.birth)
	{
		c->conf.ops->stranger(c->conf.private_data, h->arg2);
	}
}

/*
 * The epoch committed to has begun. That is remembered, for a cold start, and
 * before anything is written: the driver takes no changes while it saves meta.
 */
void repl_begin(struct repl_core *c)
{
	c->meta.flags |= REPL_META_BEGAN;
	if (!MUTANT(MUT_MEMBERS_VOLATILE)) {
		repl_save_meta(c);
	}
	c->active = c->att.epoch;
	c->closed = c->att.plan.generation != c->generation &&
		!MUTANT(MUT_NO_GATE);
	c->att = (struct attempt) {};
	c->stuck = false;
	c->conf.ops->drop_all(c->conf.private_data);
	repl_stream_begin(c);
	c->conf.ops->state(c->conf.private_data, REPL_ACTIVE, c->active);
}

uint8_t repl_leader(const struct repl_core *c)
{
	uint64_t set = c->up & ~c->mute & ~c->gone;

	if (set == 0) {
		return c->conf.node;
	}
	return phstore_nodes_lowest(set);
}

void repl_epoch_tick(struct repl_core *c)
{
	if ((c->active == 0 || c->closed || c->stuck) && c->up != 0) {
		uint8_t leader = repl_leader(c);

		c->asking++;
		if (leader != c->conf.node &&
		    c->asking >= REPL_SILENT_TICKS) {
			/* CTDB calls it active, but it says nothing */
			c->mute |= BIT(leader);
			c->asking = 0;
			leader = repl_leader(c);
		}
		repl_send(c, REPL_HELLO, leader, c->meta.epoch,
			  c->meta.promised, 0, NULL, 0, 0);
	} else {
		c->asking = 0;
	}
	if (c->att.phase == ATT_PULLING) {
		c->att.ticks++;
		if (c->att.ticks >= REPL_PULL_TICKS) {
			pull(c);
		}
	}
}

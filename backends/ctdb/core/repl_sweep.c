/*
 * phstore: replication core: forgetting tombstones within an epoch
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A node's acked deletions are swept in batches, one at a time: PURGE to
 * all members until all have answered, then FORGET until all have answered.
 * A member answers PURGE when it has the tombstones on disk and its own
 * stream, as it was when PURGE came, is acked: then nothing older of these
 * keys is on its way anywhere. Who writes such a key again begins above the
 * floor, the highest seq forgotten: a PURGE of an older deletion of that key,
 * by another node, may still come and must not win. With a new epoch
 * all tombstones are gone and whatever was under way is dropped.
 *
 * A batch is up to 2,048 deletions, of which each costs microseconds, on each
 * member: too long for others to wait. So all of it is done in pieces, one
 * per repl_turn(), between which the driver does what else there is. The sync
 * comes after the last piece.
 */

#include "repl_private.h"

void repl_sweep_add(struct repl_core *c, const struct repl_record *rec)
{
	struct tombstone *t = talloc_zero(c, struct tombstone);

	if (t == NULL) {
		return;		/* it stays until the next epoch */
	}
	t->pos = c->head;
	t->rec = (struct repl_record) {
		.key = {
			.data = talloc_memdup(t, rec->key.data, rec->key.len),
			.len = rec->key.len,
		},
		.version = rec->version,
		.deleted = true,
	};
	if (t->rec.key.data == NULL) {
		talloc_free(t);
		return;
	}
	*c->tombs_end = t;
	c->tombs_end = &t->next;
	c->num_tombs++;
}

static void drop_first(struct repl_core *c)
{
	struct tombstone *t = c->tombs;

	c->tombs = t->next;
	if (c->tombs == NULL) {
		c->tombs_end = &c->tombs;
	}
	c->num_tombs--;
	talloc_free(t);
}

void repl_sweep_stop(struct repl_core *c)
{
	while (c->tombs != NULL) {
		drop_first(c);
	}
	c->batch = 0;
	c->batch_len = 0;
	c->batch_unsent = 0;
	c->batch_done = false;
	TALLOC_FREE(c->batch_body);
	c->floor = 0;
}

static void want_turn(struct repl_core *c)
{
	c->conf.ops->turn(c->conf.private_data);
}

/* Who may hold an older version: any member, see docs/REPLICATION.md. */
static uint64_t holders(const struct repl_core *c)
{
	uint64_t set = BIT(c->conf.node);
	size_t i;

	if (!MUTANT(MUT_SWEEP_COPIES)) {
		return c->meta.members;
	}
	for (i = 0; i < c->num_peers; i++) {
		set |= BIT(c->peers[i].node);
	}
	return set;
}

/* To all members that have not answered, one with each turn. */
static void sweep_send(struct repl_core *c)
{
	c->batch_unsent = holders(c) & ~c->batch_answered;
	c->batch_idle = 0;
	want_turn(c);
}

static bool make_body(struct repl_core *c)
{
	struct tombstone *t = c->tombs;
	size_t len = 0, i;

	for (i = 0; i < c->batch_len; i++) {
		len += repl_record_len(&t->rec);
		t = t->next;
	}
	c->batch_body = talloc_array(c, uint8_t, len);
	if (c->batch_body == NULL) {
		return false;
	}
	c->batch_body_len = len;
	t = c->tombs;
	len = 0;
	for (i = 0; i < c->batch_len; i++) {
		len += repl_record_push(c->batch_body + len, &t->rec);
		t = t->next;
	}
	return true;
}

static void send_one(struct repl_core *c)
{
	uint8_t i = phstore_nodes_lowest(c->batch_unsent);

	c->batch_unsent &= ~BIT(i);
	repl_send(c, c->batch_forget ? REPL_FORGET : REPL_PURGE, i, c->active,
		  c->batch, 0, c->batch_body, c->batch_body_len, 0);
}

static void next_batch(struct repl_core *c)
{
	struct tombstone *t = c->tombs;
	bool ok;

	while (t != NULL && c->batch_len < REPL_SWEEP_BATCH &&
	       t->pos <= c->reached_disk) {
		c->batch_len++;
		t = t->next;
	}
	if (c->batch_len == 0) {
		return;
	}
	ok = make_body(c);
	if (!ok) {
		c->batch_len = 0;	/* again with the next tick */
		return;
	}
	c->batch++;
	c->batch_forget = MUTANT(MUT_FORGET_EARLY);
	c->batch_answered = 0;
	sweep_send(c);
}

void repl_sweep_tick(struct repl_core *c)
{
	uint8_t i;

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (c->in[i].sweep != NULL) {
			/* the driver may have been away */
			want_turn(c);
		}
	}
	if (c->batch_done || c->batch_unsent != 0) {
		c->batch_wait = false;
		want_turn(c);
		return;
	}
	if (c->batch_len > 0) {
		c->batch_idle++;
		if (c->batch_idle >= REPL_SWEEP_RESEND_TICKS) {
			sweep_send(c);
		}
		return;
	}
	c->batch_idle++;
	if (c->num_tombs < REPL_SWEEP_BATCH &&
	    c->batch_idle < c->conf.sweep_ticks) {
		/* each batch costs every member a sync: let it grow */
		return;
	}
	next_batch(c);
}

void repl_on_swept(struct repl_core *c, const struct repl_hdr *h)
{
	enum repl_type expected = c->batch_forget ? REPL_FORGOTTEN :
		REPL_PURGED;

	if (c->active == 0 || h->epoch != c->active || c->batch_len == 0 ||
	    h->arg1 != c->batch || h->type != expected || c->batch_done) {
		return;
	}
	c->batch_answered |= BIT(h->from) & c->meta.members;
	if (c->batch_answered != holders(c)) {
		return;
	}
	c->batch_answered = 0;
	if (!c->batch_forget) {
		c->batch_forget = true;
		sweep_send(c);
		return;
	}
	c->batch_done = true;
	c->batch_wait = false;
	c->batch_unsent = 0;
	TALLOC_FREE(c->batch_body);
	want_turn(c);
}

/* Own batch: one more node gets it, or a piece is done with. */
static bool own_turn(struct repl_core *c)
{
	uint32_t n;
	bool ok;

	if (c->batch_unsent != 0) {
		send_one(c);
		return true;
	}
	if (!c->batch_done || c->batch_wait) {
		return false;
	}
	for (n = 0; n < c->conf.sweep_piece && c->batch_len > 0; n++) {
		ok = c->conf.ops->forgotten(c->conf.private_data,
					    &c->tombs->rec);
		if (!ok) {
			c->batch_wait = true;	/* for the next tick */
			return true;
		}
		drop_first(c);
		c->batch_len--;
	}
	if (c->batch_len == 0) {
		c->batch_done = false;
		if (c->num_tombs >= REPL_SWEEP_BATCH) {
			next_batch(c);
		}
	}
	return true;
}

/* Take a body in pieces. It is the message's, so it is copied. */
static void take_body(struct repl_core *c,
		      const struct repl_hdr *h,
		      const uint8_t *body,
		      size_t len,
		      bool forget)
{
	struct inbound *in = &c->in[h->from];

	in->sweep = talloc_memdup(c, body, len);
	if (in->sweep == NULL) {
		return;		/* as if lost */
	}
	in->sweep_len = len;
	in->sweep_ofs = 0;
	in->sweep_batch = h->arg1;
	in->sweep_forget = forget;
	want_turn(c);
}

static void taken(struct repl_core *c, uint8_t from)
{
	struct inbound *in = &c->in[from];

	TALLOC_FREE(in->sweep);
	if (in->sweep_forget) {
		in->forget_done = in->sweep_batch;
		repl_send(c, REPL_FORGOTTEN, from, c->active, in->sweep_batch,
			  0, NULL, 0, 0);
		return;
	}
	in->purge = in->sweep_batch;
	in->purge_pos = c->head;
	in->purge_sync = 1;
	repl_want_sync(c);
}

/* Apply (or drop) a piece of what came from a node. */
static bool piece(struct repl_core *c, uint8_t from)
{
	struct inbound *in = &c->in[from];
	struct repl_record rec = {};
	uint32_t i;
	size_t n;

	if (in->sweep == NULL) {
		return false;
	}
	if (in->sweep_ofs >= in->sweep_len) {
		/* in a turn of its own: see repl_turn() */
		taken(c, from);
		return true;
	}
	for (i = 0; i < c->conf.sweep_piece && in->sweep_ofs < in->sweep_len;
	     i++) {
		n = repl_record_pull(in->sweep + in->sweep_ofs,
				     in->sweep_len - in->sweep_ofs, &rec);
		if (n == 0 || !rec.deleted) {
			c->num_garbage++;
			TALLOC_FREE(in->sweep);
			return true;
		}
		in->sweep_ofs += n;
		if (!in->sweep_forget) {
			c->conf.ops->apply(c->conf.private_data, &rec, 1);
			continue;
		}
		if (rec.version.epoch == c->active &&
		    rec.version.seq > c->floor && !MUTANT(MUT_NO_FLOOR)) {
			c->floor = rec.version.seq;
		}
		c->conf.ops->drop(c->conf.private_data, &rec);
	}
	if (MUTANT(MUT_SWEEP_PIECE)) {
		taken(c, from);
	}
	return true;
}

/* How many nodes' bodies wait, this node's own work included. */
static unsigned int waiting(const struct repl_core *c)
{
	unsigned int n = 0;
	uint8_t i;

	if (c->batch_unsent != 0 || (c->batch_done && !c->batch_wait)) {
		n++;
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		n += c->in[i].sweep != NULL;
	}
	return n;
}

/*
 * The members in turn, then what is this node's own. When many wait several
 * of them at once: else a node under full load would never come to the end.
 */
bool repl_turn(struct repl_core *c)
{
	unsigned int i, pieces;
	bool did;

	if (c->active == 0) {
		return false;
	}
	pieces = 1 + waiting(c) / REPL_SWEEP_CROWD;
	for (i = 0; i <= PHSTORE_NODES_MAX && pieces > 0; i++) {
		c->turn = (c->turn + 1) % (PHSTORE_NODES_MAX + 1);
		did = c->turn == PHSTORE_NODES_MAX ? own_turn(c) :
		      piece(c, c->turn);
		pieces -= did;
	}
	return waiting(c) > 0;
}

static bool of_this_epoch(struct repl_core *c, const struct repl_hdr *h)
{
	return c->active != 0 && h->epoch == c->active &&
		(c->meta.members & BIT(h->from));
}

void repl_on_purge(struct repl_core *c,
		   const struct repl_hdr *h,
		   const uint8_t *body,
		   size_t len)
{
	struct inbound *in = &c->in[h->from];
	bool ok;

	ok = of_this_epoch(c, h);
	if (!ok) {
		return;
	}
	if (h->arg1 <= in->purge_done) {
		if (h->arg1 == in->purge_done) {
			repl_send(c, REPL_PURGED, h->from, c->active,
				  h->arg1, 0, NULL, 0, 0);
		}
		return;
	}
	if (in->purge != 0 || in->sweep != NULL) {
		return;		/* answered when it is flushed */
	}
	take_body(c, h, body, len, false);
}

/* Something was synced or acked: which PURGE can be answered? */
void repl_sweep_flushed(struct repl_core *c)
{
	uint8_t i;

	if (c->active == 0) {
		return;
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		struct inbound *in = &c->in[i];

		if (in->purge_sync == 2 && !c->syncing) {
			in->purge_sync = 3;
		}
		if (in->purge == 0 || in->purge_sync != 3) {
			continue;
		}
		if (in->purge_pos > c->reached_disk &&
		    !MUTANT(MUT_SWEEP_NO_FLUSH)) {
			continue;
		}
		in->purge_done = in->purge;
		in->purge = 0;
		in->purge_sync = 0;
		repl_send(c, REPL_PURGED, i, c->active, in->purge_done, 0,
			  NULL, 0, 0);
	}
}

void repl_on_forget(struct repl_core *c,
		    const struct repl_hdr *h,
		    const uint8_t *body,
		    size_t len)
{
	struct inbound *in = &c->in[h->from];
	bool ok;

	ok = of_this_epoch(c, h);
	if (!ok) {
		return;
	}
	if (h->arg1 == in->forget_done) {
		repl_send(c, REPL_FORGOTTEN, h->from, c->active, h->arg1, 0,
			  NULL, 0, 0);
		return;
	}
	if (h->arg1 < in->forget_done || in->sweep != NULL) {
		return;		/* answered when all of it is dropped */
	}
	if (h->arg1 != in->purge_done && !MUTANT(MUT_FORGET_EARLY)) {
		return;
	}
	take_body(c, h, body, len, true);
}

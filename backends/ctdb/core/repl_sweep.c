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
	c->floor = 0;
}

static void sweep_send(struct repl_core *c)
{
	struct tombstone *t = c->tombs;
	uint64_t left = c->meta.members & ~c->batch_answered;
	uint8_t *body = NULL;
	size_t len = 0, i;

	for (i = 0; i < c->batch_len; i++) {
		len += repl_record_len(&t->rec);
		t = t->next;
	}
	body = talloc_array(c, uint8_t, len);
	if (body == NULL) {
		return;
	}
	t = c->tombs;
	len = 0;
	for (i = 0; i < c->batch_len; i++) {
		len += repl_record_push(body + len, &t->rec);
		t = t->next;
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (left & BIT(i)) {
			repl_send(c, c->batch_forget ? REPL_FORGET :
				  REPL_PURGE, i, c->active, c->batch, 0,
				  body, len, 0);
		}
	}
	talloc_free(body);
	c->batch_idle = 0;
}

static void next_batch(struct repl_core *c)
{
	struct tombstone *t = c->tombs;

	while (t != NULL && c->batch_len < REPL_SWEEP_BATCH &&
	       t->pos <= c->reached_disk) {
		c->batch_len++;
		t = t->next;
	}
	if (c->batch_len == 0) {
		return;
	}
	c->batch++;
	c->batch_forget = MUTANT(MUT_FORGET_EARLY);
	c->batch_answered = 0;
	sweep_send(c);
}

void repl_sweep_tick(struct repl_core *c)
{
	if (c->batch_len > 0) {
		c->batch_idle++;
		if (c->batch_idle >= REPL_RESEND_TICKS) {
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
	    h->arg1 != c->batch || h->type != expected) {
		return;
	}
	c->batch_answered |= BIT(h->from) & c->meta.members;
	if (c->batch_answered != c->meta.members) {
		return;
	}
	c->batch_answered = 0;
	if (!c->batch_forget) {
		c->batch_forget = true;
		sweep_send(c);
		return;
	}
	while (c->batch_len > 0) {
		c->conf.ops->forgotten(c->conf.private_data, &c->tombs->rec);
		drop_first(c);
		c->batch_len--;
	}
	if (c->num_tombs >= REPL_SWEEP_BATCH) {
		next_batch(c);
	}
}

/* Apply (or drop) all records of a body; false when it is malformed. */
static bool each(struct repl_core *c,
		 const uint8_t *body,
		 size_t len,
		 bool forget)
{
	struct repl_record rec = {};
	size_t ofs, n;

	for (ofs = 0; ofs < len; ofs += n) {
		n = repl_record_pull(body + ofs, len - ofs, &rec);
		if (n == 0 || !rec.deleted) {
			c->num_garbage++;
			return false;
		}
		if (forget) {
			if (rec.version.epoch == c->active &&
			    rec.version.seq > c->floor &&
			    !MUTANT(MUT_NO_FLOOR)) {
				c->floor = rec.version.seq;
			}
			c->conf.ops->drop(c->conf.private_data, &rec);
		} else {
			c->conf.ops->apply(c->conf.private_data, &rec, 1);
		}
	}
	return true;
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
	if (in->purge != 0) {
		return;		/* answered when it is flushed */
	}
	ok = each(c, body, len, false);
	if (!ok) {
		return;
	}
	in->purge = h->arg1;
	in->purge_pos = c->head;
	in->purge_sync = 1;
	repl_want_sync(c);
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
	if (h->arg1 > in->forget_done) {
		if (h->arg1 != in->purge_done && !MUTANT(MUT_FORGET_EARLY)) {
			return;
		}
		ok = each(c, body, len, true);
		if (!ok) {
			return;
		}
		in->forget_done = h->arg1;
	}
	if (h->arg1 == in->forget_done) {
		repl_send(c, REPL_FORGOTTEN, h->from, c->active, h->arg1, 0,
			  NULL, 0, 0);
	}
}

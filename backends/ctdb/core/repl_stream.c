/*
 * phstore: replication core: writing, shipping, acknowledging
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Own transactions are numbered from 1 in the life of the process (head).
 * On the wire they are numbered from 1 in each epoch: base is the head at
 * its beginning. Items stay in memory until all successors have them on
 * disk. Whatever goes wrong on the way ends in sending again from there.
 */

#include <string.h>

#include "phstore_bytes.h"
#include "phstore_frame.h"
#include "repl_private.h"

/* flags of REPL_SHIP */
#define SHIP_QUIET 1	/* nobody waits for the memory of others */
#define SHIP_LAZY 2	/* nor for their disks: sync with the next tick */

static struct item *item_at(struct repl_core *c, uint64_t pos)
{
	return &c->items[pos % REPL_WINDOW];
}

static void free_items(struct repl_core *c, uint64_t upto)
{
	while (c->first_item <= upto) {
		TALLOC_FREE(item_at(c, c->first_item)->buf);
		c->first_item++;
	}
}

/* The epoch is over: nothing of it is sent or answered any more. */
void repl_stream_stop(struct repl_core *c)
{
	uint8_t i;

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		talloc_free(c->in[i].sweep);
		c->in[i] = (struct inbound) {};
	}
	c->num_peers = 0;
}

static void reached_all(struct repl_core *c)
{
	free_items(c, c->head);
	c->reached_mem = c->head;
	c->reached_disk = c->head;
}

/*
 * The node's store is emptied: what it had staged is undone. To be said now,
 * not when the epoch begins: this attempt may fail, and in the next one the
 * node may be a source, of a store without them.
 */
void repl_stream_undone(struct repl_core *c)
{
	if (c->reached_disk < c->head && !MUTANT(MUT_UNDONE_LATE)) {
		reached_all(c);
		c->conf.ops->fenced(c->conf.private_data, c->head);
	}
}

static bool shares_zone(const struct repl_core *c, uint8_t node, uint64_t with)
{
	uint8_t zone = c->conf.zone[node];
	uint8_t i;

	for (i = 0; zone != 0 && i < PHSTORE_NODES_MAX; i++) {
		if ((with & BIT(i)) && c->conf.zone[i] == zone) {
			return true;
		}
	}
	return false;
}

/*
 * Of these, the next on the ring in a zone that none of the others is in; if
 * there is none, the next. No node has to know how another one chooses.
 */
static uint8_t next_peer(const struct repl_core *c,
			 uint64_t of,
			 uint64_t others)
{
	uint8_t first = PHSTORE_NODES_MAX;
	uint8_t i;

	for (i = 1; i < PHSTORE_NODES_MAX; i++) {
		uint8_t node = (c->conf.node + i) % PHSTORE_NODES_MAX;

		if (!(of & BIT(node))) {
			continue;
		}
		if (!shares_zone(c, node, others)) {
			return node;
		}
		if (first == PHSTORE_NODES_MAX) {
			first = node;
		}
	}
	return first;
}

/* What was staged before and was not undone is on all members now. */
void repl_stream_begin(struct repl_core *c)
{
	uint64_t others = BIT(c->conf.node);
	uint64_t left = c->meta.members & ~others;
	uint32_t want = c->meta.k - 1;

	repl_stream_stop(c);
	c->base = c->head;
	c->own_disk = c->head;
	if (c->reached_disk < c->head) {
		reached_all(c);
		c->conf.ops->reached(c->conf.private_data,
				     PHSTORE_CLASS_REPLICATED, c->head);
		c->conf.ops->reached(c->conf.private_data,
				     PHSTORE_CLASS_SYNC, c->head);
	}
	free_items(c, c->head);
	while (want > 0 && left != 0) {
		uint8_t node = next_peer(c, left, others);

		left &= ~BIT(node);
		others |= BIT(node);
		c->peers[c->num_peers] = (struct peer) {
			.node = node,
			.sent = c->base,
			.mem = c->base,
			.disk = c->base,
		};
		c->num_peers++;
		want--;
	}
}

static void ship(struct repl_core *c, struct peer *p, uint8_t flags)
{
	while (p->sent < c->head) {
		uint64_t prev = p->sent;
		uint8_t *body = NULL;
		size_t len = 0;

		while (p->sent < c->head) {
			struct item *it = item_at(c, p->sent + 1);
			uint8_t *grown = NULL;

			if (len > 0 && len + it->len > REPL_SHIP_BYTES) {
				break;
			}
			grown = talloc_realloc(c, body, uint8_t,
					       len + it->len);
			if (grown == NULL) {
				talloc_free(body);
				p->sent = prev;
				return;
			}
			body = grown;
			memcpy(body + len, it->buf, it->len);
			len += it->len;
			p->sent++;
		}
		repl_send(c, REPL_SHIP, p->node, c->active, prev - c->base, 0,
			  body, len, flags);
		talloc_free(body);
	}
}

enum phstore_err repl_write(struct repl_core *c,
			    const struct repl_record *recs,
			    size_t n,
			    uint64_t *pos)
{
	struct item *it = NULL;
	size_t len = 4, ofs = 4, i;

	if (c->active == 0 || c->closed ||
	    c->head + 1 - c->first_item >= REPL_WINDOW) {
		return PHSTORE_ERR_BUSY;
	}
	if (n == 0 || n > PHSTORE_TXN_OPS_MAX) {
		return PHSTORE_ERR_INVALID;
	}
	for (i = 0; i < n; i++) {
		if (recs[i].key.len == 0 ||
		    recs[i].key.len > REPL_KEY_MAX ||
		    recs[i].value.len > PHSTORE_VALUE_MAX ||
		    recs[i].version.epoch != c->active) {
			return PHSTORE_ERR_INVALID;
		}
		len += repl_record_len(&recs[i]);
	}
	if (len > PHSTORE_FRAME_MAX) {
		return PHSTORE_ERR_TOO_BIG;
	}
	it = item_at(c, c->head + 1);
	it->buf = talloc_array(c->items, uint8_t, len);
	if (it->buf == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	phstore_push_u32(it->buf, n);
	for (i = 0; i < n; i++) {
		ofs += repl_record_push(it->buf + ofs, &recs[i]);
	}
	it->len = len;
	c->head++;
	it->pos = c->head;
	*pos = c->head;

	c->conf.ops->apply(c->conf.private_data, recs, n);
	if (c->conf.beside) {
		c->own_disk = c->head;
	} else {
		repl_flush(c, true, !c->conf.lazy);
		repl_want_sync(c);
	}
	for (i = 0; i < n; i++) {
		if (recs[i].deleted) {
			repl_sweep_add(c, &recs[i]);
		}
	}
	if ((c->num_peers == 0 && !c->conf.beside) || MUTANT(MUT_ACK_EARLY)) {
		repl_advance(c);
	}
	return PHSTORE_OK;
}

void repl_flush(struct repl_core *c, bool mem, bool disk)
{
	uint8_t flags = (mem ? 0 : SHIP_QUIET) | (disk ? 0 : SHIP_LAZY);
	size_t i;

	for (i = 0; i < c->num_peers; i++) {
		ship(c, &c->peers[i], flags);
	}
	if (c->num_peers == 0 && c->conf.beside && c->active != 0) {
		repl_advance(c);
	}
}

/* One item: a transaction. Returns the bytes it took, 0: malformed. */
static size_t take_item(struct repl_core *c, const uint8_t *buf, size_t len)
{
	struct repl_record *recs = NULL;
	size_t ofs = 4, n, i, got = 0;

	if (len < 4) {
		return 0;
	}
	n = phstore_pull_u32(buf);
	if (n == 0 || n > PHSTORE_TXN_OPS_MAX) {
		return 0;
	}
	recs = talloc_array(c, struct repl_record, n);
	if (recs == NULL) {
		return 0;
	}
	for (i = 0; i < n; i++) {
		size_t used = repl_record_pull(buf + ofs, len - ofs, &recs[i]);

		if (used == 0) {
			goto done;
		}
		ofs += used;
	}
	c->conf.ops->apply(c->conf.private_data, recs, n);
	got = ofs;
done:
	talloc_free(recs);
	return got;
}

/* The length of an item without taking it; 0: malformed. */
static size_t skip_item(const uint8_t *buf, size_t len)
{
	struct repl_record rec = {};
	size_t ofs = 4, n, i;

	if (len < 4) {
		return 0;
	}
	n = phstore_pull_u32(buf);
	for (i = 0; i < n; i++) {
		size_t used = repl_record_pull(buf + ofs, len - ofs, &rec);

		if (used == 0) {
			return 0;
		}
		ofs += used;
	}
	return n == 0 ? 0 : ofs;
}

static void send_ack(struct repl_core *c, uint8_t to, uint64_t epoch)
{
	struct inbound *in = &c->in[to];

	repl_send(c, REPL_ACK, to, epoch, in->mem,
		  MUTANT(MUT_ACK_UNSYNCED) ? in->mem : in->disk, NULL, 0, 0);
}

void repl_on_ship(struct repl_core *c,
		  const struct repl_hdr *h,
		  const uint8_t *body,
		  size_t len)
{
	struct inbound *in = &c->in[h->from];
	uint64_t pos = h->arg1;
	size_t ofs = 0, n;
	bool applied = false;

	if (c->att.phase == ATT_COMMITTED && h->epoch == c->att.epoch) {
		repl_begin(c);
	}
	if (c->active == 0) {
		return;
	}
	if (h->epoch != c->active && !MUTANT(MUT_NO_EPOCH_CHECK)) {
		return;
	}
	if (!(c->meta.members & BIT(h->from)) || h->from == c->conf.node) {
		return;
	}
	if (MUTANT(MUT_NO_GAP_CHECK) && pos > in->mem) {
		in->mem = pos;
	}
	while (ofs < len && pos <= in->mem) {
		if (pos < in->mem) {
			n = skip_item(body + ofs, len - ofs);
		} else {
			n = take_item(c, body + ofs, len - ofs);
		}
		if (n == 0) {
			c->num_garbage++;
			break;
		}
		if (pos == in->mem) {
			in->mem++;
			applied = true;
		}
		pos++;
		ofs += n;
	}
	if (!applied || !(h->flags & SHIP_QUIET)) {
		send_ack(c, h->from, h->epoch);
	}
	if (applied) {
		in->ack = true;
	}
	if (applied && (!(h->flags & SHIP_LAZY) ||
			in->mem - in->disk > REPL_LAZY_MAX)) {
		repl_want_sync(c);
	}
}

void repl_on_ack(struct repl_core *c, const struct repl_hdr *h)
{
	struct peer *p = NULL;
	uint64_t mem = c->base + h->arg1, disk = c->base + h->arg2;
	size_t i;

	if (c->active == 0 || h->epoch != c->active) {
		return;
	}
	for (i = 0; i < c->num_peers; i++) {
		if (c->peers[i].node == h->from) {
			p = &c->peers[i];
		}
	}
	if (p == NULL || h->arg2 > h->arg1 || mem > c->head) {
		return;
	}
	if (mem > p->mem) {
		p->mem = mem;
		p->idle = 0;
		p->silent = 0;
	}
	if (disk > p->disk) {
		p->disk = disk;
		p->idle = 0;
		p->silent = 0;
	}
	if (p->sent < p->mem) {
		p->sent = p->mem;
	}
	if (p->silent == 0) {
		c->stuck = false;
	}
	repl_advance(c);
}

/* Tell what is safe now. */
void repl_advance(struct repl_core *c)
{
	uint64_t mem = c->head, all = c->head, disk;
	size_t i;

	for (i = 0; i < c->num_peers; i++) {
		if (c->peers[i].mem < mem) {
			mem = c->peers[i].mem;
		}
		if (c->peers[i].disk < all) {
			all = c->peers[i].disk;
		}
	}
	disk = MUTANT(MUT_ACK_EARLY) ? c->head : all;
	if (disk > c->own_disk && !MUTANT(MUT_NO_LOCAL_SYNC)) {
		disk = c->own_disk;
	}
	if (mem > c->reached_mem) {
		c->reached_mem = mem;
		c->conf.ops->reached(c->conf.private_data,
				     PHSTORE_CLASS_REPLICATED, mem);
	}
	if (disk > c->reached_disk) {
		c->reached_disk = disk;
		c->conf.ops->reached(c->conf.private_data,
				     PHSTORE_CLASS_SYNC, disk);
		repl_sweep_flushed(c);
	}
	free_items(c, all);
}

void repl_stream_synced(struct repl_core *c)
{
	uint8_t i;

	if (c->active == 0) {
		return;
	}
	if (c->own_syncing > c->own_disk) {
		c->own_disk = c->own_syncing;
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		struct inbound *in = &c->in[i];

		if (in->syncing > in->disk) {
			in->disk = in->syncing;
		}
		if (in->ack) {
			in->ack = in->disk < in->mem;
			send_ack(c, i, c->active);
		}
	}
	repl_advance(c);
}

void repl_stream_tick(struct repl_core *c)
{
	size_t i;

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (c->in[i].syncing < c->in[i].mem && !c->syncing) {
			repl_want_sync(c);
		}
	}
	for (i = 0; i < c->num_peers; i++) {
		struct peer *p = &c->peers[i];

		if (p->disk >= c->head) {
			p->idle = 0;
			p->silent = 0;
			continue;
		}
		p->idle++;
		p->silent++;
		if (p->silent >= REPL_SILENT_TICKS) {
			/* ask for an epoch, without it if it is gone */
			c->stuck = true;
		}
		if (p->idle >= REPL_RESEND_TICKS) {
			p->idle = 0;
			p->sent = p->disk;
			ship(c, p, 0);
		}
	}
}

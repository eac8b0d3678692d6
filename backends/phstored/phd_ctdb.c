/*
 * phstored: the ctdb sink
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The driver of docs/REPLICATION.md: gives the core (backends/ctdb/core) a
 * store, a network, membership and time, and hands it what this node's
 * processes stage, in log order.
 *
 * The gate is open when an epoch is active that was formed in CTDB's current
 * generation, and CTDB is not recovering. It is closed before a promise is
 * given: so nothing is staged between a promise and the next epoch, and what
 * is in the log when that begins is part of what all members hold (or was
 * emptied and fenced).
 *
 * After a restart nothing of the log before is read again: the next epoch
 * takes the whole store in.
 */

#include "phd_ctdb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "phstore_frame.h"
#include "phstore_private.h"

/* Own status goes to the others every so many ticks. */
#define STATUS_TICKS 10
/* Deletions wait two seconds to be swept, or for a batch of them. */
#define SWEEP_TICKS 40
/* Deletions done in one go while others wait: some 0.1 ms. */
#define SWEEP_PIECE 32

static uint64_t cluster_id(const struct phd_config *conf)
{
	uint64_t h = 0xcbf29ce484222325ULL;
	const char *s = NULL;

	if (conf->cluster_id != 0) {
		return conf->cluster_id;
	}
	for (s = conf->cluster; *s != '\0'; s++) {
		h = (h ^ (uint8_t)*s) * 0x100000001b3ULL;
	}
	return h != 0 ? h : 1;
}

/* ---- the gate ---- */

static void publish(struct phd_ctdb *d, bool open, uint64_t epoch,
		    const char *reason)
{
	char was[PHSTORE_SHIP_REASON_MAX];
	enum phstore_err err;
	bool was_open;

	if (!open && d->full_try) {
		reason = d->resigned_reason;
	}
	if (open == d->gate_open && epoch == d->gate_epoch &&
	    strcmp(reason, d->gate_reason) == 0)
	{
		return;
	}
	was_open = d->gate_open;
	snprintf(was, sizeof(was), "%s", d->gate_reason);
	err = phd_publish(d->phd, epoch,
			  d->core != NULL ? repl_floor(d->core) : 0,
			  d->view.generation, d->view.self,
			  open ? NULL : reason);
	d->gate_epoch = epoch;
	d->gate_open = open && phstore_gate_is_open(d->phd->store);
	if (!d->gate_open && open) {
		/* barred from outside: tried again */
		reason = "a recovery of ctdb was announced";
	}
	snprintf(d->gate_reason, sizeof(d->gate_reason), "%s", reason);
	if (was_open != d->gate_open || strcmp(was, d->gate_reason) != 0) {
		phd_log(2, "changes are %s%s", d->gate_open ? "taken" :
			"not taken: ", d->gate_reason);
	}
	if (err == PHSTORE_ERR_FULL) {
		phd_ctdb_resign(d, "cannot say whether changes are taken");
	}
}

void phd_ctdb_close(struct phd_ctdb *d, const char *reason)
{
	if (d->gate_open) {
		publish(d, false, 0, reason);
	}
}

/* Open it, or say why not. */
void phd_ctdb_gate(struct phd_ctdb *d)
{
	struct repl_status st = {};
	char reason[PHSTORE_SHIP_REASON_MAX];

	if (d->phd->ended) {
		return;
	}
	if (d->resigned) {
		publish(d, false, 0, d->resigned_reason);
		return;
	}
	if (d->down || d->core == NULL) {
		publish(d, false, 0, d->down_reason);
		return;
	}
	if (d->phd->stopping) {
		publish(d, false, 0, "phstored is ending");
		return;
	}
	repl_get_status(d->core, &st);
	if (st.state == REPL_ACTIVE && !st.closed) {
		publish(d, true, st.epoch, "");
		return;
	}
	phd_ctdb_waits_for(&st, reason, sizeof(reason));
	publish(d, false, 0, reason);
}

/* ops->state(ACTIVE): what is in the log is on all members. */
void phd_ctdb_began(struct phd_ctdb *d)
{
	uint64_t head = phstore_ship_head(d->phd->ship);

	phstore_ship_seek(d->phd->ship, head);
	phstore_ship_reached(d->phd->ship, head, head);
	phstore_ship_release(d->phd->ship, head);
	phd_ctdb_full_joined(d);
	phd_ctdb_gate(d);
}

/* ---- the log ---- */

/* Nobody is to be told anything now. */
static bool idle(const struct phd_ctdb *d)
{
	return d->core == NULL || d->down || d->resigned || d->phd->ended;
}

static enum phstore_err hand_in(struct phd_ctdb *d,
				const struct phstore_ship_txn *txn)
{
	struct repl_record *recs = NULL;
	enum phstore_err err;
	uint64_t pos = 0;
	uint8_t *key = NULL;
	size_t i;

	recs = talloc_array(d, struct repl_record, txn->num_ops);
	key = talloc_array(recs, uint8_t, txn->num_ops * REPL_KEY_MAX);
	if (recs == NULL || key == NULL) {
		talloc_free(recs);
		return PHSTORE_ERR_NO_MEMORY;
	}
	for (i = 0; i < txn->num_ops; i++) {
		const struct phstore_ship_op *op = &txn->ops[i];

		recs[i] = (struct repl_record) {
			.key.data = key,
			.key.len = phd_full_key(key, op->table, op->key),
			.value = op->value,
			.version = op->version,
			.deleted = op->deleted,
		};
		key += REPL_KEY_MAX;
	}
	d->writing = true;
	err = repl_write(d->core, recs, txn->num_ops, &pos);
	d->writing = false;
	if (err == PHSTORE_OK) {
		d->lsn_of[pos % PHD_POSITIONS] = txn->end_lsn;
		d->last_pos = pos;
	}
	talloc_free(recs);
	return err;
}

/* What was staged when the core's turn came is handed in. */
static bool turn_is_due(struct phd_ctdb *d)
{
	return !d->behind || phstore_ship_tell(d->phd->ship) >= d->turn_lsn;
}

/* Everything staged so far goes to the core, as far as it takes it. */
static void pump(struct phd_ctdb *d)
{
	struct phstore_ship_txn *txn = NULL;
	struct repl_status st = {};
	enum phstore_err err = PHSTORE_OK;
	bool any = false;
	bool mem = false;
	bool disk = false;

	if (idle(d)) {
		return;
	}
	repl_get_status(d->core, &st);
	while (st.state == REPL_ACTIVE) {
		err = phstore_ship_read(d->phd->ship, &txn);
		if (err == PHSTORE_ERR_NOT_FOUND) {
			break;
		}
		if (err != PHSTORE_OK) {
			phd_fail(d->phd, PHD_EXIT_FAILED, "%s",
				 phstore_last_error());
			return;
		}
		err = hand_in(d, txn);
		if (d->resigned) {
			return;
		}
		if (err == PHSTORE_ERR_BUSY || err == PHSTORE_ERR_NO_MEMORY) {
			/* again when something was acked, or with a tick */
			phstore_ship_seek(d->phd->ship, txn->lsn);
			break;
		}
		if (err != PHSTORE_OK) {
			phd_fail(d->phd, PHD_EXIT_FAILED,
				 "transaction at %" PRIu64 " is not taken: %s",
				 txn->lsn, phstore_strerror(err));
			return;
		}
		any = true;
		mem = mem || txn->durability == PHSTORE_CLASS_REPLICATED;
		disk = disk || txn->durability == PHSTORE_CLASS_SYNC;
	}
	if (any) {
		repl_flush(d->core, mem, disk);
	}
	d->behind = err == PHSTORE_ERR_BUSY || err == PHSTORE_ERR_NO_MEMORY;
	if (d->turn_owed && turn_is_due(d)) {
		phd_ctdb_turn(d);
	}
	/*
	 * Nothing of this node is on its way: what follows in the log came
	 * from others, and is not waited for by anybody.
	 */
	repl_get_status(d->core, &st);
	if (st.state == REPL_ACTIVE && st.durable == st.head &&
	    err == PHSTORE_ERR_NOT_FOUND)
	{
		uint64_t lsn = phstore_ship_tell(d->phd->ship);

		phstore_ship_reached(d->phd->ship, lsn, lsn);
		phstore_ship_release(d->phd->ship, lsn);
	}
}

/* ---- what the core asked for and gets later ---- */

static void end_core(struct phd_ctdb *d)
{
	struct phd_message *m = NULL;

	TALLOC_FREE(d->core);
	phd_ctdb_snaps_free(d);
	d->want_synced = false;
	d->sync_stale = d->sync != NULL && phd_sync_running(d->sync);
	d->batch_num = 0;
	d->batch_bytes = 0;
	TALLOC_FREE(d->batch_mem);
	while ((m = d->self_first) != NULL) {
		d->self_first = m->next;
		talloc_free(m);
	}
	d->self_end = &d->self_first;
}

/* The last word of a node that has resigned. */
static void leave(struct phd_ctdb *d)
{
	d->batch_num = 0;
	d->leaving = true;
	repl_resign(d->core);
	d->leaving = false;
	end_core(d);
}

static void later_handler(struct tevent_context *ev,
			  struct tevent_immediate *im, void *private_data)
{
	struct phd_ctdb *d = private_data;
	struct phd_message *m = NULL;

	(void)ev;
	(void)im;
	d->later_set = false;
	if (d->resigned && d->core != NULL) {
		leave(d);
	}
	if (d->core == NULL || d->phd->ended) {
		return;
	}
	if (d->want_synced && !phd_sync_running(d->sync)) {
		d->want_synced = false;
		phd_sync_begin(d->sync);
	}
	while ((m = d->self_first) != NULL && !d->resigned) {
		d->self_first = m->next;
		if (d->self_first == NULL) {
			d->self_end = &d->self_first;
		}
		repl_receive(d->core, m->buf, m->len);
		talloc_free(m);
	}
	phd_ctdb_flush_batch(d);
	pump(d);
}

/* The sync has ended that was begun last. */
void phd_ctdb_synced(struct phd_ctdb *d, enum phstore_err err,
		     const char *text)
{
	bool stale = d->sync_stale;

	if (d->phd->ended) {
		return;
	}
	if (err != PHSTORE_OK) {
		phd_fail(d->phd, PHD_EXIT_FAILED, "%s; this node leaves the "
			 "cluster's members", text);
		return;
	}
	d->sync_stale = false;
	if (d->core != NULL && !stale && !d->resigned) {
		repl_synced(d->core);
		phd_ctdb_flush_batch(d);
		pump(d);
	}
	if (d->want_synced) {
		phd_ctdb_later(d);
	}
}

void phd_ctdb_later(struct phd_ctdb *d)
{
	if (d->later_set) {
		return;
	}
	d->later_set = true;
	tevent_schedule_immediate(d->later, d->phd->ev, later_handler, d);
}

/*
 * The core's pieces of long work. A descriptor that stays readable as long as
 * there are more: it gets its turn among the others, where an immediate event
 * or a timer would be before all of them.
 */
static void turn_handler(struct tevent_context *ev, struct tevent_fd *fde,
			 uint16_t flags, void *private_data)
{
	struct phd_ctdb *d = private_data;
	bool more = false;
	uint64_t count = 0;
	ssize_t n;

	(void)ev;
	(void)fde;
	(void)flags;
	pump(d);
	if (!idle(d) && d->behind && !d->turn_owed) {
		d->turn_owed = true;
		d->turn_lsn = phstore_ship_head(d->phd->ship);
	}
	if (!idle(d) && (!d->turn_owed || turn_is_due(d))) {
		d->turn_owed = false;
		more = repl_turn(d->core);
		phd_ctdb_flush_batch(d);
	}
	if (!more) {
		n = read(d->turn_fd, &count, sizeof(count));
		(void)n;
	}
}

void phd_ctdb_turn(struct phd_ctdb *d)
{
	uint64_t one = 1;
	ssize_t n;

	n = write(d->turn_fd, &one, sizeof(one));
	(void)n;	/* full is readable, too */
}

static bool turn_start(struct phd_ctdb *d)
{
	struct tevent_fd *fde = NULL;

	d->turn_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->turn_fd == -1) {
		return false;
	}
	fde = tevent_add_fd(d->phd->ev, d, d->turn_fd, TEVENT_FD_READ,
			    turn_handler, d);
	if (fde == NULL) {
		close(d->turn_fd);
		return false;
	}
	tevent_fd_set_auto_close(fde);
	return true;
}

/* ---- what a network tells ---- */

/*
 * A store with damage holds less than it says: it is filled up again. One
 * that can not be asked is `otherwise`.
 */
static bool damaged(struct phd_ctdb *d, bool otherwise)
{
	struct phstore_stat st = {};
	enum phstore_err err;

	err = phstore_stat(d->phd->store, &st);
	return err == PHSTORE_OK ? st.num_damaged != 0 : otherwise;
}

void phd_ctdb_damaged(struct phd_ctdb *d)
{
	if (d->pull_all) {
		return;
	}
	d->pull_all = true;
	phd_log(0, "the store is damaged: this node reads all records of the "
		"others when the next epoch begins");
	phstore_ship_repair(d->phd->ship);
	repl_damaged(d->core);
}

static bool begin_core(struct phd_ctdb *d, const struct phd_view *view)
{
	const struct phd_config *conf = d->phd->conf;
	uint32_t num = phstore_nodes_count(view->nodes);
	struct repl_config rc = {
		.node = view->self,
		.nodes = view->nodes,
		.copies = conf->copies,
		.cluster = d->cluster,
		.birth = phd_ctdb_birth(),
		.beside = true,
		.pull_all = d->pull_all || damaged(d, true),
		.sweep_ticks = SWEEP_TICKS,
		.sweep_piece = SWEEP_PIECE,
		.ops = &phd_repl_ops,
		.private_data = d,
	};
	enum phd_exit code;

	memcpy(rc.zone, conf->zone, sizeof(rc.zone));
	if (conf->copies > num) {
		phd_fail(d->phd, PHD_EXIT_REFUSED, "copies = %" PRIu32
			 ", but the cluster has %" PRIu32 " nodes",
			 conf->copies, num);
		return false;
	}
	if (d->meta_fd == -1) {
		d->view = *view;
		code = phd_meta_open(d, view->self);
		if (code != PHD_EXIT_OK) {
			phd_fail(d->phd, code, "cannot begin");
			return false;
		}
	}
	d->pull_all = rc.pull_all;
	if (d->pull_all) {
		phstore_ship_repair(d->phd->ship);
	}
	d->core = repl_core_new(d, &rc, &d->meta);
	if (d->core == NULL) {
		phd_fail(d->phd, PHD_EXIT_REFUSED, "node %u of the nodes %"
			 PRIx64 " with %" PRIu32 " copies makes no sense",
			 view->self, view->nodes, conf->copies);
		return false;
	}
	return true;
}

static void on_view(void *user_data, const struct phd_view *view)
{
	struct phd_ctdb *d = user_data;
	bool same = d->core != NULL && d->have_view &&
		    view->up == d->view.up &&
		    view->nodes == d->view.nodes &&
		    view->generation == d->view.generation;
	bool ok;

	d->down = false;
	if (d->phd->ended) {
		return;
	}
	if (d->have_view && view->self != d->view.self) {
		phd_fail(d->phd, PHD_EXIT_REFUSED, "this was node %u and is "
			 "node %u now", d->view.self, view->self);
		return;
	}
	if (d->core != NULL && view->nodes != d->view.nodes) {
		phd_log(1, "the cluster's nodes are %" PRIx64 " now",
			view->nodes);
		phd_ctdb_close(d, "the nodes of the cluster have changed");
		end_core(d);
	}
	if (d->core == NULL && !d->resigned) {
		ok = begin_core(d, view);
		if (!ok) {
			return;
		}
	}
	if (d->have_view && view->generation != d->view.generation) {
		phd_ctdb_close(d, "ctdb has recovered, a new epoch follows");
	}
	d->view = *view;
	d->have_view = true;
	if (!same && !d->resigned) {
		phd_log(2, "ctdb: nodes %" PRIx64 " are active, generation %"
			PRIx64,
			view->up, view->generation);
		repl_membership(d->core, view->up, view->generation);
	}
	phd_ctdb_gate(d);
}

/* ---- a full disk ---- */

static void come_back(struct phd_ctdb *d)
{
	bool ok = !d->stranger && phd_ctdb_full_over(d);

	if (!ok) {
		return;
	}
	d->resigned = false;
	ok = begin_core(d, &d->view);
	if (ok) {
		repl_membership(d->core, d->view.up, d->view.generation);
	}
}

static void on_down(void *user_data, const char *reason)
{
	struct phd_ctdb *d = user_data;

	d->down = true;
	snprintf(d->down_reason, sizeof(d->down_reason), "%s", reason);
	phd_ctdb_gate(d);
}

static void on_message(void *user_data, const uint8_t *buf, size_t len)
{
	struct phd_ctdb *d = user_data;
	bool ours;

	d->num_received += 1;
	if (idle(d)) {
		return;
	}
	ours = phd_ctdb_hear_status(d, buf, len);
	if (!ours) {
		repl_receive(d->core, buf, len);
		phd_ctdb_flush_batch(d);
	}
	pump(d);
}

static void on_close(void *user_data, const char *reason)
{
	phd_ctdb_close(user_data, reason);
}

static const struct phd_net_user net_user = {
	.view = on_view,
	.down = on_down,
	.message = on_message,
	.close = on_close,
};

/* ---- the sink ---- */

static struct phd_ctdb *of(struct phd *phd)
{
	return phd->sink;
}

static enum phd_exit sink_start(struct phd *phd)
{
	struct phd_ctdb *d = talloc_zero(phd, struct phd_ctdb);
	bool ok;

	if (d == NULL) {
		return PHD_EXIT_FAILED;
	}
	phd->sink = d;
	d->phd = phd;
	d->meta_fd = -1;
	d->down = true;
	snprintf(d->down_reason, sizeof(d->down_reason), "waits for ctdbd");
	d->cluster = cluster_id(phd->conf);
	d->self_end = &d->self_first;
	d->later = tevent_create_immediate(d);
	d->next_key = talloc_array(d, uint8_t, REPL_KEY_MAX);
	d->sync = phd_sync_start(d);
	ok = turn_start(d);
	if (!ok || d->later == NULL || d->next_key == NULL || d->sync == NULL) {
		phd_log(0, "out of memory");
		return PHD_EXIT_FAILED;
	}
	d->net = (struct phd_net) {
		.phd = phd,
		.ops = phd->conf->peers_dir != NULL ? &phd_net_dir :
						      &phd_net_ctdb,
		.user = &net_user,
		.user_data = d,
		.cluster = d->cluster,
	};
	return d->net.ops->start(&d->net);
}

static void sink_readable(struct phd *phd)
{
	pump(of(phd));
}

static void sink_tick(struct phd *phd)
{
	struct phd_ctdb *d = of(phd);
	struct repl_status st = {};
	bool found;

	if (phd->ended) {
		return;
	}
	d->net.ops->tick(&d->net);
	if (d->resigned && d->have_view && !phd->ended) {
		come_back(d);
	}
	if (d->core == NULL || d->resigned || phd->ended) {
		return;
	}
	d->ticks += 1;
	if (!d->down) {
		repl_tick(d->core);
		phd_ctdb_flush_batch(d);
		phd_ctdb_gate(d);
		pump(d);
	}
	/* class replicated: on disk soon after, if nobody else syncs */
	if (phstore_ship_durable(phd->ship) < d->last_head) {
		phstore_barrier_start(phd->store, d->last_head);
	}
	d->last_head = phstore_ship_head(phd->ship);
	if (d->ticks % STATUS_TICKS != 0) {
		return;
	}
	/* a `phstore verify` may have found some */
	found = damaged(d, false);
	if (found) {
		phd_ctdb_damaged(d);
	}
	if (!d->down) {
		repl_get_status(d->core, &st);
		phd_ctdb_tell_strangers(d, &st);
		phd_ctdb_tell_status(d);
	}
}

static bool sink_flushed(struct phd *phd)
{
	struct phd_ctdb *d = of(phd);
	struct repl_status st = {};

	phd_ctdb_gate(d);
	if (idle(d)) {
		return true;
	}
	repl_get_status(d->core, &st);
	if (st.state != REPL_ACTIVE) {
		return true;
	}
	pump(d);
	repl_get_status(d->core, &st);
	return st.durable == st.head &&
	       phstore_ship_tell(phd->ship) >= phstore_ship_head(phd->ship);
}

static char *force(struct phd_ctdb *d, TALLOC_CTX *mem_ctx, const char *arg)
{
	struct repl_status st = {};
	uint64_t lost = 0;
	char *end = NULL;
	char list[PHD_LIST_LEN];

	while (*arg != '\0') {
		unsigned long n = strtoul(arg, &end, 10);

		if (end == arg || n >= PHSTORE_NODES_MAX ||
		    (*end != '\0' && *end != ','))
		{
			return talloc_strdup(mem_ctx, "error: not a list of "
					     "node numbers\n");
		}
		lost |= phstore_node_bit(n);
		arg = *end == ',' ? end + 1 : end;
	}
	if (d->resigned) {
		return talloc_asprintf(mem_ctx, "error: %s\n",
				       d->resigned_reason);
	}
	if (d->core == NULL || d->down) {
		return talloc_strdup(mem_ctx, "error: ctdbd is not there\n");
	}
	if (lost == 0 || (lost & ~d->view.nodes) != 0) {
		return talloc_strdup(mem_ctx, "error: name nodes of the "
				     "cluster, as 1,2\n");
	}
	if ((lost & d->view.up) != 0) {
		phd_ctdb_list(lost & d->view.up, list, sizeof(list));
		return talloc_asprintf(mem_ctx, "error: active: node %s. Only "
				       "nodes that are gone can be left "
				       "behind\n", list);
	}
	repl_get_status(d->core, &st);
	if (st.leader != d->view.self) {
		return talloc_asprintf(mem_ctx, "error: ask node %u, which "
				       "leads\n", st.leader);
	}
	if (st.split) {
		phd_ctdb_list(st.strangers, list, sizeof(list));
		return talloc_asprintf(mem_ctx, "error: the stores of the "
				       "nodes %s are of different clusters. "
				       "Move away those that do not belong "
				       "here\n", list);
	}
	phd_ctdb_list(lost, list, sizeof(list));
	phd_log(0, "operator: go on without the nodes %s for ever", list);
	repl_force(d->core, lost);
	return talloc_strdup(mem_ctx, "ok\n");
}

static char *sink_command(struct phd *phd, TALLOC_CTX *mem_ctx,
			  const char *line)
{
	if (strncmp(line, "force ", 6) == 0) {
		return force(of(phd), mem_ctx, line + 6);
	}
	return NULL;
}

static void sink_stop(struct phd *phd)
{
	struct phd_ctdb *d = of(phd);

	if (!phd->ended || phd->exit_code == PHD_EXIT_OK) {
		phd_ctdb_close(d, "phstored was stopped");
	}
	if (d->core != NULL && phd->exit_code == PHD_EXIT_FAILED) {
		/* nobody is to wait for it */
		leave(d);
	}
	d->net.ops->stop(&d->net);
	end_core(d);
	TALLOC_FREE(d->sync);
	if (d->meta_fd != -1) {
		close(d->meta_fd);
	}
}

const struct phd_sink_ops phd_sink_ctdb = {
	.name = "ctdb",
	.start = sink_start,
	.readable = sink_readable,
	.tick = sink_tick,
	.flushed = sink_flushed,
	.status = phd_ctdb_status,
	.command = sink_command,
	.stop = sink_stop,
};

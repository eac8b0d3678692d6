/*
 * phstored: the sink "rados": a node's log goes into shards in RADOS
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Only in a build with librados. Configuration: "rados store" is the name of
 * the store as phstore_open() takes it ("rados:POOL/NAMESPACE?..."). The
 * node is known there as node-N.
 *
 * RADOS is the truth, the log a buffer in front of it. Each transaction of
 * the log becomes one of the engine's, its records "newer or left out":
 * shipping anything twice does no harm. The watermark is the LSN below which
 * all is applied; both classes, as RADOS answers when it is on disks. The
 * log may drop what is below.
 *
 * What the log has of an epoch that is over is not shipped: either it is in
 * RADOS, or somebody has declared this node dead meanwhile, and then its
 * records may be another's by now, and nothing of it was acknowledged.
 *
 * A transaction over several shards has no intent here: the log has it until
 * all of it is applied, and ships it again after a crash. If the node is
 * lost for good in between, a part of it stays; none of it was acknowledged
 * (smbd's transactions have one record).
 *
 * When it may write, and from when on: phd_rados_group.c.
 *
 * A full pool: what is in the log is written all the same, into what Ceph
 * keeps free; it is asked for once a second, and while it is so, everybody who
 * stages more than a release is refused.
 */

#ifdef PHSTORE_WITH_RADOS

#include "phd_rados.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Stop reading the log when so much is on its way. */
#define SHIP_BYTES_MAX (16 * 1024 * 1024)
/* How long status waits for the shards' own counts. */
#define STATS_MS 1000
/* Deletions after which a new epoch begins, so that tombstones can go. */
#define PRUNE_AFTER 10000

static struct phd_rados *rados_of(struct phd *phd)
{
	return talloc_get_type_abort(phd->sink, struct phd_rados);
}

/* A librados thread, under the engine's mutex. */
static void flight_done(struct phr_txn *txn, void *private_data)
{
	struct phd_flight *f = private_data;
	uint64_t one = 1;
	ssize_t n;

	f->err = txn->err;
	f->done = true;
	n = write(f->r->efd, &one, sizeof(one));
	(void)n;
}

/* Open it in the active epoch, or say why not. */
void phd_rados_gate(struct phd_rados *r, const char *reason)
{
	bool open = reason == NULL;
	bool is_open = phstore_gate_is_open(r->phd->store);

	if (open == r->gate_open && open == is_open &&
	    (open || strcmp(reason, r->gate_reason) == 0))
	{
		return;
	}
	if (strcmp(open ? "" : reason, r->gate_reason) != 0 ||
	    open != r->gate_open)
	{
		phd_log(2, "changes are %s%s", open ? "taken" : "not taken: ",
			open ? "" : reason);
	}
	r->gate_open = open;
	snprintf(r->gate_reason, sizeof(r->gate_reason), "%s",
		 open ? "" : reason);
	phd_publish(r->phd, r->epoch, 0,
		    r->clustered ? r->view.generation : r->life,
		    r->phd->conf->node, reason);
}

static void sink_failed(struct phd_rados *r)
{
	struct phd *phd = r->phd;
	enum phstore_err err;
	char text[256];

	if (r->failed || r->engine == NULL || r->reborn_due) {
		return;
	}
	pthread_mutex_lock(&r->engine->mutex);
	err = r->engine->latched;
	snprintf(text, sizeof(text), "%s", r->engine->latched_text);
	pthread_mutex_unlock(&r->engine->mutex);
	if (err == PHSTORE_OK) {
		return;
	}
	if (err == PHSTORE_ERR_FENCED) {
		phd_log(0, "%s", text);
		phd_rados_reborn(r);
		return;
	}
	r->failed = true;
	phd_rados_gate(r, text);
	phd_fail(phd, PHD_EXIT_FAILED, "%s", text);
}

/* Move the watermark over what is done from the front. */
void phd_rados_advance(struct phd_rados *r)
{
	struct phd *phd = r->phd;
	uint64_t lsn = r->reached;
	enum phstore_err err = PHSTORE_OK;

	pthread_mutex_lock(&r->engine->mutex);
	while (r->first != NULL && r->first->done) {
		struct phd_flight *f = r->first;

		if (f->err != PHSTORE_OK) {
			/* it and all behind it are not there */
			err = f->err;
			break;
		}
		r->first = f->next;
		if (r->first == NULL) {
			r->end = &r->first;
		}
		lsn = f->end_lsn;
		free(f);
	}
	pthread_mutex_unlock(&r->engine->mutex);
	if (lsn > r->reached) {
		r->reached = lsn;
		phstore_ship_reached(phd->ship, lsn, lsn);
		phstore_ship_release(phd->ship, lsn);
	}
	if (err == PHSTORE_ERR_FENCED || err == PHSTORE_ERR_LATCHED) {
		sink_failed(r);
		return;
	}
	if (err != PHSTORE_OK) {
		phd_rados_gate(r, "a record in RADOS is damaged");
		phd_fail(phd, PHD_EXIT_FAILED,
			 "shipping failed: %s", phstore_strerror(err));
		return;
	}
	if (r->first == NULL) {
		/* what was passed over is nothing to wait for */
		lsn = phstore_ship_tell(phd->ship);
		if (lsn > r->reached) {
			r->reached = lsn;
			phstore_ship_reached(phd->ship, lsn, lsn);
			phstore_ship_release(phd->ship, lsn);
		}
	}
}

static bool note_deletion(struct phd_rados *r,
			  const struct phstore_ship_op *o)
{
	struct phd_gone *g = NULL;

	r->num_deleted += 1;
	if (!r->clustered) {
		return true;
	}
	g = malloc(sizeof(*g) + o->key.len);
	if (g == NULL) {
		return false;
	}
	*g = (struct phd_gone) {
		.version = o->version,
		.key_len = o->key.len,
	};
	snprintf(g->table, sizeof(g->table), "%s", o->table);
	memcpy(g->key, o->key.data, o->key.len);
	*r->gone_end = g;
	r->gone_end = &g->next;
	return true;
}

static bool ship_op(struct phd_rados *r, struct phr_txn *t,
		    const struct phstore_ship_op *o)
{
	struct phr_record rec = {
		.version = { o->version.epoch, o->version.seq },
		.kind = o->deleted ? PHR_TOMBSTONE : PHR_PUT,
		.durability = o->durability,
		.value = o->value.data,
		.value_len = o->deleted ? 0 : o->value.len,
	};
	size_t table_len = strlen(o->table);
	uint8_t *key = NULL;
	struct phr_op *op = NULL;
	size_t len;

	len = phr_key_push(NULL, o->table, table_len, o->key.data,
			   o->key.len);
	key = malloc(len);
	if (key == NULL) {
		return false;
	}
	(void)phr_key_push(key, o->table, table_len, o->key.data,
			   o->key.len);
	op = phr_txn_op(t, phr_shard_of(key, len, r->conn.super.shards),
			PHR_OP_RECORD, key, len, phr_record_len(&rec));
	free(key);
	if (op == NULL) {
		return false;
	}
	op->check = PHR_CHECK_LENIENT;
	op->record_kind = rec.kind;
	op->version = rec.version;
	/* it was taken: whether there is room is asked before, by smbd */
	op->use_reserve = true;
	phr_record_push(op->value, op->key, op->key_len, &rec);
	return !o->deleted || note_deletion(r, o);
}

static enum phstore_err ship_txn(struct phd_rados *r,
				 const struct phstore_ship_txn *txn)
{
	struct phr_txn *t = phr_txn_make(r->engine);
	struct phd_flight *f = calloc(1, sizeof(*f));
	enum phstore_err err = PHSTORE_ERR_NO_MEMORY;
	bool ok = t != NULL && f != NULL;
	size_t i;

	for (i = 0; i < txn->num_ops && ok; i++) {
		ok = ship_op(r, t, &txn->ops[i]);
	}
	if (ok) {
		f->r = r;
		f->end_lsn = txn->end_lsn;
		t->done_fn = flight_done;
		t->private_data = f;
		/* in the list first: it may be done before submit returns */
		pthread_mutex_lock(&r->engine->mutex);
		*r->end = f;
		pthread_mutex_unlock(&r->engine->mutex);
		err = phr_engine_submit(r->engine, t, true, NULL);
		if (err != PHSTORE_OK) {
			*r->end = NULL;
		}
	}
	if (err != PHSTORE_OK) {
		free(f);
		if (t != NULL) {
			phr_txn_free(t);
		}
		return err;
	}
	pthread_mutex_lock(&r->engine->mutex);
	r->end = &f->next;
	pthread_mutex_unlock(&r->engine->mutex);
	r->shipped += 1;
	return PHSTORE_OK;
}

/* What was passed over is undone: whoever waits for it is told. */
static void tell_dropped(struct phd_rados *r)
{
	if (r->dropped_to == 0) {
		return;
	}
	phd_log(0, "transactions of an earlier epoch in the log are dropped: "
		"they are in RADOS, or were never acknowledged");
	phstore_ship_fence(r->phd->ship, r->dropped_to);
	r->dropped_to = 0;
}

/* Whatever the log has, as far as the engine takes it. */
void phd_rados_ship(struct phd_rados *r)
{
	struct phd *phd = r->phd;
	size_t queued;

	while (r->may_ship && r->engine != NULL && !r->failed &&
	       !phd->ended)
	{
		struct phstore_ship_txn *txn = NULL;
		uint64_t at = phstore_ship_tell(phd->ship);
		enum phstore_err err;

		pthread_mutex_lock(&r->engine->mutex);
		queued = r->engine->queued_bytes;
		pthread_mutex_unlock(&r->engine->mutex);
		if (queued > SHIP_BYTES_MAX) {
			return;		/* go on when some are done */
		}
		err = phstore_ship_read(phd->ship, &txn);
		if (err == PHSTORE_ERR_NOT_FOUND) {
			tell_dropped(r);
			return;
		}
		if (err != PHSTORE_OK) {
			phd_fail(phd, PHD_EXIT_FAILED, "%s",
				 phstore_last_error());
			return;
		}
		if (txn->num_ops > 0 &&
		    txn->ops[0].version.epoch < r->min_epoch)
		{
			r->dropped += 1;
			r->dropped_to = txn->end_lsn;
			continue;
		}
		tell_dropped(r);
		err = ship_txn(r, txn);
		if (err != PHSTORE_OK) {
			/* full, or latched: the tick looks into it */
			phstore_ship_seek(phd->ship, at);
			return;
		}
	}
}

bool phd_rados_is_drained(struct phd_rados *r)
{
	phd_rados_advance(r);
	phd_rados_ship(r);
	return r->engine != NULL && r->may_ship && r->first == NULL &&
	       phstore_ship_tell(r->phd->ship) >=
	       phstore_ship_head(r->phd->ship);
}

void phd_rados_drop_log(struct phd_rados *r)
{
	struct phstore_ship *ship = r->phd->ship;
	uint64_t head = phstore_ship_head(ship);

	phstore_ship_fence(ship, head);
	phstore_ship_seek(ship, head);
	phstore_ship_release(ship, head);
	r->reached = head;
}

static void on_done(struct tevent_context *ev, struct tevent_fd *fde,
		    uint16_t flags, void *private_data)
{
	struct phd_rados *r = private_data;
	uint64_t count;
	ssize_t n;

	(void)ev;
	(void)fde;
	(void)flags;
	n = read(r->efd, &count, sizeof(count));
	(void)n;
	if (r->engine != NULL) {
		phd_rados_advance(r);
		phd_rados_ship(r);
	}
	phd_rados_group_event(r);
}

static void free_gone(struct phd_gone *g)
{
	while (g != NULL) {
		struct phd_gone *next = g->next;

		free(g);
		g = next;
	}
}

void phd_rados_disconnect(struct phd_rados *r)
{
	phd_rados_job_stop(r);
	if (r->has_pruner) {
		pthread_join(r->pruner, NULL);
		r->has_pruner = false;
	}
	if (r->ask != NULL) {
		phr_group_forget(&r->conn, r->ask);
		r->ask = NULL;
	}
	if (r->engine != NULL) {
		phr_engine_free(r->engine);
		r->engine = NULL;
	}
	phr_conn_close(&r->conn);
	while (r->first != NULL) {
		struct phd_flight *f = r->first;

		r->first = f->next;
		free(f);
	}
	r->end = &r->first;
}

static int rados_destructor(struct phd_rados *r)
{
	phd_rados_disconnect(r);
	phd_rados_load_drop(r);
	free_gone(r->gone);
	free_gone(r->forget);
	if (r->efd != -1) {
		close(r->efd);
	}
	return 0;
}

static bool connect_begin(struct phd_rados *r)
{
	enum phstore_err err;

	r->conn = (struct phr_conn) {};
	TALLOC_FREE(r->conf_mem);
	r->conf_mem = talloc_new(r);
	err = phr_conf_parse(r->conf_mem, r->name, &r->conn.conf);
	if (err != PHSTORE_OK) {
		phd_log(0, "%s", phstore_last_error());
		return false;
	}
	/* others know the node by it */
	r->conn.conf.writer = talloc_asprintf(
		r->conf_mem, "node-%u", (unsigned)r->phd->conf->node);
	return true;
}

static enum phstore_err connect_and_claim(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;
	enum phstore_err err;

	job->engine = NULL;
	job->was_fenced = false;
	err = phr_conn_open(&r->conn, true);
	if (err == PHSTORE_OK && r->conn.super.shards != 1) {
		/* smbd relies on the order of its changes */
		err = phstore_fail(PHSTORE_ERR_NOT_SUPPORTED,
				   "%s has %u shards: what a node leaves "
				   "behind would be in no order; make one with "
				   "shards=1", r->name,
				   (unsigned)r->conn.super.shards);
	}
	if (err == PHSTORE_OK) {
		err = phr_conn_writer_claim(&r->conn, &job->was_fenced);
	}
	if (err != PHSTORE_OK) {
		return err;
	}
	if (phr_engine_new(&r->conn, &job->engine) < 0) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	job->engine->watch_full = true;
	return phr_roll_forward(job->engine, r->conn.writer);
}

static bool connected(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;

	/* also if it is of no use: it is freed with the rest */
	r->engine = job->engine;
	if (job->err != PHSTORE_OK) {
		phd_log(0, "%s: %s", phstore_strerror(job->err), job->text);
		return false;
	}
	if (job->was_fenced) {
		phd_log(0, "this node was declared dead meanwhile: what its "
			"log has that was not shipped is dropped");
		phd_rados_drop_log(r);
		r->life = 0;
	}
	return true;
}

static void was_reborn(struct phd_rados *r)
{
	bool ok;

	ok = connected(r);
	if (!ok) {
		phd_fail(r->phd, PHD_EXIT_FAILED, "cannot begin anew");
	}
}

void phd_rados_reborn(struct phd_rados *r)
{
	bool ok;

	if (r->reborn_due) {
		return;
	}
	phd_rados_gate(r, "others have declared this node dead");
	r->phase = PHD_RADOS_IDLE;
	if (r->job.running) {
		/* it has the connection; it will fail soon */
		atomic_store(&r->job.cancel, true);
		r->reborn_due = true;
		return;
	}
	r->times_fenced += 1;
	if (!r->clustered) {
		/* to come back would be to fence who has taken over */
		phstore_ship_fence(r->phd->ship,
				   phstore_ship_head(r->phd->ship));
		r->failed = true;
		phd_fail(r->phd, PHD_EXIT_REFUSED, "another node has taken "
			 "this store over");
		return;
	}
	phd_rados_disconnect(r);
	phd_rados_drop_log(r);
	r->may_ship = false;
	r->loaded_epoch = 0;
	r->attempt = 0;
	r->wanted = 0;
	ok = connect_begin(r);
	if (!ok) {
		phd_fail(r->phd, PHD_EXIT_FAILED, "cannot begin anew");
		return;
	}
	phd_rados_job_begin(r, connect_and_claim, was_reborn);
}

/* Nothing is guessed: what is not understood ends the daemon. */
static bool read_config(struct phd_rados *r, const struct phd_config *conf)
{
	size_t n;

	r->prune_after = PRUNE_AFTER;
	for (n = 0; conf->other != NULL && conf->other[n] != NULL; n += 2) {
		const char *key = conf->other[n];
		const char *value = conf->other[n + 1];
		bool yes = strcmp(value, "yes") == 0;
		bool is_flag = yes || strcmp(value, "no") == 0;
		char *end = NULL;
		bool ok = false;

		if (strcmp(key, "rados store") == 0) {
			r->name = value;
			ok = value[0] != '\0';
		} else if (strcmp(key, "rados takeover") == 0) {
			r->takeover = yes;
			ok = is_flag;
		} else if (strcmp(key, "rados blocklist") == 0) {
			r->blocklist = yes;
			ok = is_flag;
		} else if (strcmp(key, "rados prune after") == 0) {
			r->prune_after = strtoull(value, &end, 10);
			ok = end != value && *end == '\0';
		}
		if (!ok) {
			phd_log(0, "\"%s = %s\" is not understood", key,
				value);
			return false;
		}
	}
	if (r->name == NULL) {
		phd_log(0, "\"rados store\" is not set");
	}
	return r->name != NULL;
}

static enum phd_exit rados_start(struct phd *phd)
{
	struct phd_rados *r = talloc_zero(phd, struct phd_rados);
	struct phstore_ship_state st = {};
	bool ok;

	if (r == NULL) {
		return PHD_EXIT_FAILED;
	}
	r->efd = -1;
	ok = read_config(r, phd->conf);
	if (!ok) {
		return PHD_EXIT_USAGE;
	}
	r->phd = phd;
	r->end = &r->first;
	r->gone_end = &r->gone;
	r->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	phd->sink = r;
	talloc_set_destructor(r, rados_destructor);
	(void)phstore_ship_get_state(phd->store, &st);
	r->life = st.generation;
	r->reached = phstore_ship_tell(phd->ship);
	pthread_mutex_init(&r->job.mutex, NULL);
	pthread_cond_init(&r->job.cond, NULL);
	r->job.end = &r->job.first;
	ok = connect_begin(r);
	if (ok) {
		r->job.err = connect_and_claim(r);
		snprintf(r->job.text, sizeof(r->job.text), "%s",
			 phstore_last_error());
		ok = connected(r);
	}
	if (!ok) {
		return PHD_EXIT_REFUSED;
	}
	if (r->efd == -1 ||
	    tevent_add_fd(phd->ev, r, r->efd, TEVENT_FD_READ, on_done,
			  r) == NULL)
	{
		return PHD_EXIT_FAILED;
	}
	ok = phd_rados_group_start(r);
	return ok ? PHD_EXIT_OK : PHD_EXIT_REFUSED;
}

static void rados_readable(struct phd *phd)
{
	phd_rados_ship(rados_of(phd));
}

static void rados_tick(struct phd *phd)
{
	struct phd_rados *r = rados_of(phd);

	sink_failed(r);
	if (r->failed || phd->ended || r->engine == NULL) {
		return;
	}
	phd_rados_group_tick(r);
	if (r->engine != NULL && !phd->ended) {
		phd_rados_advance(r);
		phd_rados_ship(r);
	}
}

static bool rados_flushed(struct phd *phd)
{
	struct phd_rados *r = rados_of(phd);

	phd_rados_gate(r, "phstored is ending");
	return r->phase != PHD_RADOS_ACTIVE || phd_rados_is_drained(r);
}

static void rados_status(struct phd *phd, struct phd_json *json)
{
	struct phd_rados *r = rados_of(phd);
	struct phstore_rados_stat st = {};
	struct phr_class_stats in_pool = {};
	enum phstore_err err = PHSTORE_ERR_NOT_SUPPORTED;

	if (r->engine != NULL) {
		pthread_mutex_lock(&r->engine->mutex);
		st = r->engine->stat;
		pthread_mutex_unlock(&r->engine->mutex);
	}
	phd_json_str(json, "pool", r->conn.conf.pool);
	phd_json_str(json, "namespace", r->conn.conf.ns);
	phd_json_str(json, "writer", r->conn.writer);
	phd_json_bool(json, "class", st.has_class);
	phd_json_bool(json, "full", st.full);
	phd_json_u64(json, "writer_epoch", r->conn.epoch);
	phd_json_u64(json, "loaded", r->loaded);
	phd_json_u64(json, "shipped", r->shipped);
	phd_json_u64(json, "dropped", r->dropped);
	phd_json_u64(json, "batches", st.num_batches);
	phd_json_u64(json, "batched", st.num_batched);
	phd_json_u64(json, "refused", st.num_refused);
	phd_json_u64(json, "resent", st.num_resent);
	phd_json_u64(json, "pruned", st.num_pruned);
	phd_rados_group_status(r, json);
	if (r->engine != NULL) {
		err = phr_class_stats(&r->conn, STATS_MS, &in_pool);
	}
	if (err != PHSTORE_OK) {
		return;
	}
	phd_json_begin(json, "in_pool", '{');
	phd_json_u64(json, "records", in_pool.records);
	phd_json_u64(json, "tombstones", in_pool.tombstones);
	phd_json_u64(json, "bytes", in_pool.bytes);
	phd_json_u64(json, "intents", in_pool.intents);
	phd_json_u64(json, "writer_entries", in_pool.writers);
	phd_json_end(json, '}');
}

static char *rados_command(struct phd *phd, TALLOC_CTX *mem_ctx,
			   const char *line)
{
	(void)phd;
	(void)mem_ctx;
	(void)line;
	return NULL;
}

static void rados_stop(struct phd *phd)
{
	struct phd_rados *r = rados_of(phd);

	if (phd->exit_code == PHD_EXIT_OK) {
		phd_rados_gate(r, "phstored was stopped");
	}
	phd_rados_group_stop(r);
	TALLOC_FREE(r);
	phd->sink = NULL;
}

const struct phd_sink_ops phd_sink_rados = {
	.name = "rados",
	.start = rados_start,
	.readable = rados_readable,
	.tick = rados_tick,
	.flushed = rados_flushed,
	.status = rados_status,
	.command = rados_command,
	.stop = rados_stop,
};

#endif /* PHSTORE_WITH_RADOS */

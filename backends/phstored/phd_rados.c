/*
 * phstored: the sink "rados": a node's log goes into shards in RADOS
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Only in a build with librados. Configuration: "rados store" is the name of
 * the store as phstore_open() takes it ("rados:POOL/NAMESPACE?..."); the
 * writer's name is "rados writer", or node- and the node's number.
 *
 * RADOS is the truth, the log a buffer in front of it. So at start:
 *
 *   1. register as the writer: an earlier life of this node is fenced
 *   2. ship what the log still has that was not released; but not if
 *      somebody has declared this node dead meanwhile: its records may have
 *      been taken over, and what was not shipped was not acknowledged
 *   3. empty the local store and fill it with what RADOS has
 *   4. open the gate
 *
 * Then each transaction of the log becomes one of the engine's, its records
 * "newer or left out": shipping anything twice does no harm. The watermark is
 * the LSN below which all is applied; both classes, as RADOS answers when it
 * is on disks. The log may drop what is below.
 *
 * A transaction over several shards has no intent here: the log has it until
 * all of it is applied, and ships it again after a crash. If the node is
 * lost for good in between, a part of it stays; none of it was acknowledged
 * (smbd's transactions have one record).
 *
 * Fenced: the gate is closed, the waiters are told, the daemon ends. A full
 * pool closes the gate, with the reason, until there is room.
 *
 * Limits: a start blocks while it reads all records; tombstones are pruned
 * at start and at a clean end only.
 */

#ifdef PHSTORE_WITH_RADOS

#include "phstored.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rados_private.h"

/* Stop reading the log when so much is on its way. */
#define SHIP_BYTES_MAX (16 * 1024 * 1024)
/* Records applied to the local store at once, at start. */
#define LOAD_OPS 256

struct phd_rados;

/* A transaction on its way, in the order of the log. */
struct flight {
	struct flight *next;
	struct phd_rados *r;
	uint64_t end_lsn;
	bool done;		/* under the engine's mutex */
	enum phstore_err err;
};

struct phd_rados {
	struct phd *phd;
	struct phr_conn conn;
	struct phr_engine *engine;
	int efd;
	struct flight *first, **end;
	uint64_t reached;
	uint64_t shipped;	/* transactions */
	uint64_t loaded;	/* records at start */
	bool gate_open;
	bool failed;
};

static struct phd_rados *rados_of(struct phd *phd)
{
	return talloc_get_type_abort(phd->sink, struct phd_rados);
}

/* A librados thread, under the engine's mutex. */
static void flight_done(struct phr_txn *txn, void *private_data)
{
	struct flight *f = private_data;
	uint64_t one = 1;
	ssize_t n;

	f->err = txn->err;
	f->done = true;
	n = write(f->r->efd, &one, sizeof(one));
	(void)n;
}

static void gate(struct phd_rados *r, const char *reason)
{
	r->gate_open = reason == NULL;
	phd_publish(r->phd, r->conn.epoch, 0, 1, r->phd->conf->node, reason);
}

static void sink_failed(struct phd_rados *r)
{
	struct phd *phd = r->phd;
	enum phstore_err err;
	char text[256];

	if (r->failed) {
		return;
	}
	pthread_mutex_lock(&r->engine->mutex);
	err = r->engine->latched;
	snprintf(text, sizeof(text), "%s", r->engine->latched_text);
	pthread_mutex_unlock(&r->engine->mutex);
	if (err == PHSTORE_OK) {
		return;
	}
	r->failed = true;
	gate(r, text);
	if (err == PHSTORE_ERR_FENCED) {
		phstore_ship_fence(phd->ship, phstore_ship_head(phd->ship));
	}
	phd_fail(phd, err == PHSTORE_ERR_FENCED ? PHD_EXIT_REFUSED :
						  PHD_EXIT_FAILED,
		 "%s", text);
}

/* Move the watermark over what is done from the front. */
static void advance(struct phd_rados *r)
{
	struct phd *phd = r->phd;
	uint64_t lsn = r->reached;
	enum phstore_err err = PHSTORE_OK;

	pthread_mutex_lock(&r->engine->mutex);
	while (r->first != NULL && r->first->done) {
		struct flight *f = r->first;

		r->first = f->next;
		if (r->first == NULL) {
			r->end = &r->first;
		}
		err = err == PHSTORE_OK ? f->err : err;
		lsn = f->end_lsn;
		free(f);
	}
	pthread_mutex_unlock(&r->engine->mutex);
	if (err != PHSTORE_OK) {
		gate(r, "a record in RADOS is damaged");
		phd_fail(phd, PHD_EXIT_FAILED,
			 "shipping failed: %s", phstore_strerror(err));
		return;
	}
	if (r->first == NULL) {
		/* what was passed over is nothing to wait for */
		lsn = phstore_ship_tell(phd->ship);
	}
	if (lsn > r->reached) {
		r->reached = lsn;
		phstore_ship_reached(phd->ship, lsn, lsn);
		phstore_ship_release(phd->ship, lsn);
	}
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
	op->use_reserve = o->deleted;
	phr_record_push(op->value, op->key, op->key_len, &rec);
	return true;
}

static enum phstore_err ship_txn(struct phd_rados *r,
				 const struct phstore_ship_txn *txn)
{
	struct phr_txn *t = phr_txn_make(r->engine);
	struct flight *f = calloc(1, sizeof(*f));
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

/* Whatever the log has, as far as the engine takes it. */
static void ship_more(struct phd_rados *r)
{
	struct phd *phd = r->phd;
	size_t queued;

	while (!r->failed && !phd->ended) {
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
			return;
		}
		if (err != PHSTORE_OK) {
			phd_fail(phd, PHD_EXIT_FAILED, "%s",
				 phstore_last_error());
			return;
		}
		err = ship_txn(r, txn);
		if (err != PHSTORE_OK) {
			/* full, or latched: the tick looks into it */
			phstore_ship_seek(phd->ship, at);
			return;
		}
	}
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
	advance(r);
	ship_more(r);
}

/* What RADOS has, into the local store. */
struct load_state {
	struct phd_rados *r;
	TALLOC_CTX *mem;
	struct phstore_ship_op ops[LOAD_OPS];
	size_t num;
	enum phstore_err err;
	uint64_t damaged;
};

static void load_flush(struct load_state *state)
{
	uint64_t lsn = 0;

	if (state->num > 0 && state->err == PHSTORE_OK) {
		state->err = phstore_ship_apply(state->r->phd->ship,
						state->ops, state->num,
						&lsn);
		state->r->loaded += state->num;
	}
	state->num = 0;
	talloc_free_children(state->mem);
}

static int load_entry(const uint8_t *key, size_t key_len,
		      const uint8_t *value, size_t value_len, uint32_t shard,
		      void *private_data)
{
	struct load_state *state = private_data;
	struct phstore_ship_op *op = &state->ops[state->num];
	char table[PHR_TABLE_MAX + 1];
	static uint8_t plain[PHR_KEY_MAX];
	size_t table_len = 0;
	size_t plain_len = 0;
	struct phr_record rec = {};
	bool ok;

	(void)shard;
	ok = phr_key_pull(key, key_len, table, &table_len, plain,
			  &plain_len) &&
	     phr_record_pull(value, value_len, key, key_len, &rec);
	if (!ok) {
		state->damaged += 1;
		return 0;
	}
	*op = (struct phstore_ship_op) {
		.table = talloc_strdup(state->mem, table),
		.key.data = talloc_memdup(state->mem, plain, plain_len),
		.key.len = plain_len,
		.value.data = phr_dup(state->mem, rec.value, rec.value_len),
		.value.len = rec.value_len,
		.version.epoch = rec.version.epoch,
		.version.seq = rec.version.seq,
		.durability = rec.durability,
		.deleted = rec.kind == PHR_TOMBSTONE,
	};
	if (op->table == NULL || op->key.data == NULL ||
	    op->value.data == NULL)
	{
		state->err = PHSTORE_ERR_NO_MEMORY;
		return 1;
	}
	state->num += 1;
	if (state->num == LOAD_OPS) {
		load_flush(state);
	}
	return state->err != PHSTORE_OK;
}

static enum phstore_err load_all(struct phd_rados *r)
{
	struct load_state *state = talloc_zero(r, struct load_state);
	enum phstore_err err;

	if (state == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	state->r = r;
	state->mem = talloc_new(state);
	err = phstore_ship_clear(r->phd->ship);
	if (err == PHSTORE_OK) {
		err = phr_scan(&r->conn, (const uint8_t *)"R", 1, true,
			       load_entry, state);
	}
	if (err == PHSTORE_OK) {
		load_flush(state);
		err = state->err;
	}
	if (state->damaged > 0) {
		phd_log(0, "%" PRIu64 " records in RADOS are damaged",
			state->damaged);
	}
	talloc_free(state);
	return err;
}

static enum phstore_err ship_rest(struct phd_rados *r, bool was_fenced)
{
	struct phd *phd = r->phd;
	enum phstore_err err;

	if (was_fenced) {
		phd_log(0, "this node was declared dead meanwhile: what its "
			"log has that was not shipped is dropped");
		return PHSTORE_OK;
	}
	do {
		ship_more(r);
		err = phr_engine_drain(r->engine);
		advance(r);
	} while (err == PHSTORE_OK && !phd->ended &&
		 phstore_ship_tell(phd->ship) < phstore_ship_head(phd->ship));
	return err;
}

static int conn_destructor(struct phd_rados *r)
{
	if (r->engine != NULL) {
		phr_engine_free(r->engine);
		r->engine = NULL;
	}
	phr_conn_close(&r->conn);
	if (r->efd != -1) {
		close(r->efd);
	}
	while (r->first != NULL) {
		struct flight *f = r->first;

		r->first = f->next;
		free(f);
	}
	return 0;
}

static enum phstore_err rados_begin(struct phd_rados *r, const char *name)
{
	struct phd *phd = r->phd;
	bool was_fenced = false;
	enum phstore_err err;

	err = phr_conf_parse(r, name, &r->conn.conf);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (r->conn.conf.writer == NULL) {
		r->conn.conf.writer = talloc_asprintf(
			r, "node-%u", (unsigned)phd->conf->node);
	}
	err = phr_conn_open(&r->conn, true);
	if (err == PHSTORE_OK) {
		err = phr_conn_was_fenced(&r->conn, &was_fenced);
	}
	if (err == PHSTORE_OK) {
		err = phr_conn_writer_begin(&r->conn);
	}
	if (err != PHSTORE_OK) {
		return err;
	}
	if (phr_engine_new(&r->conn, &r->engine) < 0) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	err = phr_roll_forward(r->engine, r->conn.writer);
	if (err == PHSTORE_OK) {
		err = ship_rest(r, was_fenced);
	}
	if (err == PHSTORE_OK) {
		err = phr_prune(&r->conn, r->engine);
	}
	return err == PHSTORE_OK ? load_all(r) : err;
}

static enum phd_exit rados_start(struct phd *phd)
{
	const char *name = phd_config_other(phd->conf, "rados store");
	struct phd_rados *r = talloc_zero(phd, struct phd_rados);
	enum phstore_err err;
	uint64_t bar;

	if (r == NULL) {
		return PHD_EXIT_FAILED;
	}
	if (name == NULL) {
		phd_log(0, "\"rados store\" is not set");
		return PHD_EXIT_USAGE;
	}
	r->phd = phd;
	r->end = &r->first;
	r->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	phd->sink = r;
	talloc_set_destructor(r, conn_destructor);
	bar = phstore_ship_bar(phd->ship);
	err = rados_begin(r, name);
	if (err != PHSTORE_OK) {
		phd_log(0, "%s: %s", phstore_strerror(err),
			phstore_last_error());
		return PHD_EXIT_REFUSED;
	}
	if (r->efd == -1 ||
	    tevent_add_fd(phd->ev, r, r->efd, TEVENT_FD_READ, on_done,
			  r) == NULL)
	{
		return PHD_EXIT_FAILED;
	}
	/* nothing that was loaded is to be shipped */
	phstore_ship_seek(phd->ship, phstore_ship_head(phd->ship));
	advance(r);
	phstore_ship_unbar(phd->ship, bar);
	gate(r, NULL);
	phd_log(1, "%" PRIu64 " records from %s, epoch %" PRIu64,
		r->loaded, name, r->conn.epoch);
	return PHD_EXIT_OK;
}

static void rados_readable(struct phd *phd)
{
	ship_more(rados_of(phd));
}

static void rados_tick(struct phd *phd)
{
	struct phd_rados *r = rados_of(phd);
	uint64_t bar = phstore_ship_bar(phd->ship);
	bool full;

	sink_failed(r);
	if (r->failed || phd->ended) {
		return;
	}
	pthread_mutex_lock(&r->engine->mutex);
	full = r->engine->full;
	pthread_mutex_unlock(&r->engine->mutex);
	phstore_ship_unbar(phd->ship, bar);
	if (full == r->gate_open) {
		gate(r, full ? "the pool or the cluster is full" : NULL);
	}
	advance(r);
	ship_more(r);
}

static bool rados_flushed(struct phd *phd)
{
	struct phd_rados *r = rados_of(phd);

	return r->first == NULL &&
	       phstore_ship_tell(phd->ship) >= phstore_ship_head(phd->ship);
}

static void rados_status(struct phd *phd, struct phd_json *json)
{
	struct phd_rados *r = rados_of(phd);
	struct phstore_rados_stat st;

	pthread_mutex_lock(&r->engine->mutex);
	st = r->engine->stat;
	pthread_mutex_unlock(&r->engine->mutex);
	phd_json_str(json, "pool", r->conn.conf.pool);
	phd_json_str(json, "namespace", r->conn.conf.ns);
	phd_json_str(json, "writer", r->conn.writer);
	phd_json_bool(json, "class", st.has_class);
	phd_json_bool(json, "full", st.full);
	phd_json_u64(json, "epoch", r->conn.epoch);
	phd_json_u64(json, "loaded", r->loaded);
	phd_json_u64(json, "shipped", r->shipped);
	phd_json_u64(json, "batches", st.num_batches);
	phd_json_u64(json, "batched", st.num_batched);
	phd_json_u64(json, "refused", st.num_refused);
	phd_json_u64(json, "resent", st.num_resent);
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

	if (!r->failed && phr_engine_drain(r->engine) == PHSTORE_OK) {
		advance(r);
		(void)phr_prune(&r->conn, r->engine);
	}
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

/*
 * phstore: RADOS as a store's backend, without a daemon
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * One handle is one client of the cluster and one writer.
 *
 * The notification of waiting event loops is an eventfd the engine writes
 * to; nobody has to lead anything, so the library's helper thread has
 * nothing to do but to look when a notification should have got lost.
 */

#include "rados_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rados_store {
	struct phstore *store;
	struct phr_conn conn;
	struct phr_engine *engine;	/* NULL: read-only */
	bool forked;
	uint64_t num_damaged;
};

static struct rados_store *rs_of(struct phstore *store)
{
	return talloc_get_type_abort(store->backend, struct rados_store);
}

static enum phstore_err usable(struct rados_store *rs)
{
	if (rs->forked) {
		return phstore_fail(PHSTORE_ERR_NOT_SUPPORTED,
				    "rados: a handle can not be used after "
				    "fork");
	}
	return PHSTORE_OK;
}

static int rs_destructor(struct rados_store *rs)
{
	if (rs->forked || rs->store->pid != getpid()) {
		return 0;	/* its threads are the parent's */
	}
	if (rs->engine != NULL) {
		phr_engine_free(rs->engine);
	}
	phr_conn_close(&rs->conn);
	return 0;
}

static enum phstore_err be_open(struct phstore *store,
				   const struct phstore_open_options *opts)
{
	struct rados_store *rs = talloc_zero(store, struct rados_store);
	enum phstore_err err;
	int ret;

	if (rs == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	rs->store = store;
	store->backend = rs;
	talloc_set_destructor(rs, rs_destructor);
	err = phr_conf_parse(rs, store->path, &rs->conn.conf);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = phr_conn_open(&rs->conn, (opts->flags & PHSTORE_OPEN_CREATE) &&
				       !store->read_only);
	if (err != PHSTORE_OK || store->read_only) {
		return err;
	}
	err = phr_conn_writer_begin(&rs->conn);
	if (err != PHSTORE_OK) {
		return err;
	}
	ret = phr_engine_new(&rs->conn, &rs->engine);
	if (ret < 0) {
		return phr_fail(ret, "start", NULL);
	}
	return phr_roll_forward(rs->engine, rs->conn.writer);
}

static enum phstore_err be_close(struct phstore *store)
{
	struct rados_store *rs = rs_of(store);
	enum phstore_err err = PHSTORE_OK;

	if (rs->forked || rs->engine == NULL) {
		return PHSTORE_OK;
	}
	err = phr_engine_drain(rs->engine);
	if (err == PHSTORE_OK) {
		phr_conn_writer_end(&rs->conn);
	}
	return err;
}

static void be_after_fork(struct phstore *store)
{
	rs_of(store)->forked = true;
}

static enum phstore_err be_stage(struct phstore *store,
				    struct phstore_txn *txn, uint64_t *lsn)
{
	struct rados_store *rs = rs_of(store);
	enum phstore_err err = usable(rs);

	return err == PHSTORE_OK ? phr_stage(rs->engine, txn, lsn) : err;
}

static enum phstore_err be_room(struct phstore *store, size_t bytes)
{
	struct rados_store *rs = rs_of(store);
	struct phr_engine *e = rs->engine;
	enum phstore_err err = usable(rs);

	(void)bytes;
	if (err != PHSTORE_OK) {
		return err;
	}
	pthread_mutex_lock(&e->mutex);
	if (e->latched != PHSTORE_OK) {
		err = phstore_fail(e->latched, "rados: %s", e->latched_text);
	} else if (e->full) {
		err = phstore_fail(PHSTORE_ERR_FULL,
				   "rados:%s: the pool or the cluster is "
				   "full", rs->conn.conf.pool);
	}
	pthread_mutex_unlock(&e->mutex);
	return err;
}

static bool be_is_durable(struct phstore *store, uint64_t lsn,
			  enum phstore_class durability)
{
	struct rados_store *rs = rs_of(store);

	if (durability == PHSTORE_CLASS_LOCAL) {
		return true;
	}
	if (rs->engine == NULL || rs->forked) {
		return rs->engine == NULL;
	}
	return phr_engine_is_durable(rs->engine, lsn);
}

static bool be_is_synced(struct phstore *store, uint64_t lsn)
{
	return be_is_durable(store, lsn, PHSTORE_CLASS_SYNC);
}

static enum phstore_err be_barrier(struct phstore *store, uint64_t lsn,
				   enum phstore_class durability,
				   uint32_t timeout_ms)
{
	struct rados_store *rs = rs_of(store);
	enum phstore_err err = usable(rs);

	if (durability == PHSTORE_CLASS_LOCAL) {
		return err;
	}
	if (err != PHSTORE_OK || rs->engine == NULL) {
		return err;
	}
	return phr_engine_wait(rs->engine, lsn, timeout_ms);
}

static enum phstore_err be_barrier_check(struct phstore *store,
					    uint64_t lsn)
{
	struct rados_store *rs = rs_of(store);
	enum phstore_err err = usable(rs);

	if (err != PHSTORE_OK || rs->engine == NULL) {
		return err;
	}
	return phr_engine_check(rs->engine, lsn);
}

static enum phstore_err be_lead(struct phstore *store, uint64_t lsn)
{
	(void)store;
	(void)lsn;
	/* asked when a notification may have got lost: have it look */
	return PHSTORE_OK;
}

static void be_served(struct phstore *store, uint64_t wait_ns)
{
	struct phr_engine *e = rs_of(store)->engine;
	unsigned i = 0;

	wait_ns /= 1000;
	while (wait_ns > 1 && i + 1 < PHSTORE_LATENCY_BUCKETS) {
		wait_ns /= 2;
		i += 1;
	}
	pthread_mutex_lock(&e->mutex);
	e->barrier_us[i] += 1;
	pthread_mutex_unlock(&e->mutex);
}

static int be_notify_fd(struct phstore *store)
{
	struct rados_store *rs = rs_of(store);

	return rs->engine != NULL ? rs->engine->notify_fd : -1;
}

static void be_notify_drain(struct phstore *store)
{
	uint64_t count;
	ssize_t n;

	n = read(rs_of(store)->engine->notify_fd, &count, sizeof(count));
	(void)n;
}

static enum phstore_notify be_notify_wait(struct phstore *store,
					  uint64_t lsn, uint64_t mem_lsn)
{
	struct rados_store *rs = rs_of(store);

	/* RADOS knows no class between: what it answers is on disks */
	if (lsn == 0 || (mem_lsn != 0 && mem_lsn < lsn)) {
		lsn = mem_lsn;
	}
	return phr_engine_is_durable(rs->engine, lsn) ?
	       PHSTORE_NOTIFY_DURABLE : PHSTORE_NOTIFY_COMING;
}

static void be_kick(struct phstore *store)
{
	(void)store;	/* nothing waits to be sent */
}

static bool be_leading(struct phstore *store)
{
	(void)store;
	return true;
}

static void be_hint(struct phstore *store, uint64_t lsn)
{
	(void)store;
	(void)lsn;
}

static bool be_class_waits(struct phstore *store,
			      enum phstore_class durability)
{
	(void)store;
	return durability != PHSTORE_CLASS_LOCAL;
}

static enum phstore_err be_get(TALLOC_CTX *mem_ctx, struct phstore *store,
				  const char *table, struct phstore_blob key,
				  struct phstore_record *rec)
{
	struct rados_store *rs = rs_of(store);
	struct phr_record r = {};
	struct phr_seen seen = {};
	enum phstore_err err = usable(rs);
	uint8_t *k = NULL;
	size_t k_len;

	if (err != PHSTORE_OK) {
		return err;
	}
	k_len = phr_key_push(NULL, table, strlen(table), key.data, key.len);
	k = talloc_size(mem_ctx, k_len);
	if (k == NULL) {
		return phr_fail(-ENOMEM, "get", NULL);
	}
	(void)phr_key_push(k, table, strlen(table), key.data, key.len);
	if (rs->engine != NULL) {
		err = phr_look(&rs->conn, rs->engine, mem_ctx, k, k_len,
			       false, &seen);
	} else {
		err = phr_get(&rs->conn, k, k_len, mem_ctx, &r);
		if (err == PHSTORE_OK) {
			seen = (struct phr_seen) {
				.there = true,
				.kind = r.kind,
				.durability = r.durability,
				.version = r.version,
				.value = r.value,
				.value_len = r.value_len,
			};
		}
	}
	TALLOC_FREE(k);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (!seen.there || seen.kind != PHR_PUT) {
		return PHSTORE_ERR_NOT_FOUND;
	}
	*rec = (struct phstore_record) {
		.value.data = seen.value,
		.value.len = seen.value_len,
		.version.epoch = seen.version.epoch,
		.version.seq = seen.version.seq,
		.durability = seen.durability,
		.lsn = seen.lsn,
	};
	rec->key.data = talloc_memdup(mem_ctx, key.data, key.len);
	rec->key.len = key.len;
	if (rec->key.data == NULL) {
		return phr_fail(-ENOMEM, "get", NULL);
	}
	return PHSTORE_OK;
}

/* A record of an intent: counts like a stored one. */
struct pending {
	struct pending *next;
	bool shown;
	size_t key_len, value_len;
	uint8_t bytes[];
};

struct scan_state {
	struct rados_store *rs;
	phstore_scan_fn fn;
	void *private_data;
	uint64_t count;
	uint64_t tombstones;
	uint64_t bytes;
	uint64_t damaged;
	struct pending *pending;
};

static int add_intent(const uint8_t *key, size_t key_len,
		      const uint8_t *value, size_t value_len, uint32_t shard,
		      void *private_data)
{
	struct scan_state *state = private_data;
	struct phr_batch_hdr h = {};
	size_t used = phr_batch_pull(value, value_len, &h);
	uint32_t i;

	(void)key;
	(void)key_len;
	(void)shard;
	state->damaged += used == 0 ? 1 : 0;
	for (i = 0; used != 0 && i < h.num_ops; i++) {
		struct phr_batch_op o = {};
		struct pending *p = NULL;

		used += phr_batch_op_pull(value + used, value_len - used,
					  &o);
		p = o.kind != PHR_OP_RECORD ? NULL :
		    malloc(sizeof(*p) + o.key_len + o.value_len);
		if (p == NULL) {
			continue;
		}
		*p = (struct pending) {
			.next = state->pending,
			.key_len = o.key_len,
			.value_len = o.value_len,
		};
		memcpy(p->bytes, o.key, o.key_len);
		memcpy(p->bytes + o.key_len, o.value, o.value_len);
		state->pending = p;
	}
	return 0;
}

static int show(struct scan_state *state, const uint8_t *key, size_t key_len,
		const uint8_t *value, size_t value_len)
{
	char table[PHR_TABLE_MAX + 1];
	uint8_t plain[PHR_KEY_MAX];
	struct phr_record r = {};
	struct phstore_record rec = {};
	size_t table_len = 0;
	bool ok;

	ok = phr_key_pull(key, key_len, table, &table_len, plain,
			  &rec.key.len) &&
	     phr_record_pull(value, value_len, key, key_len, &r);
	if (!ok) {
		state->damaged += 1;
		return 0;
	}
	if (r.kind == PHR_TOMBSTONE) {
		state->tombstones += 1;
		return 0;
	}
	state->count += 1;
	state->bytes += value_len;
	if (state->fn == NULL) {
		return 0;
	}
	rec.key.data = plain;
	rec.value.data = r.value;
	rec.value.len = r.value_len;
	rec.version.epoch = r.version.epoch;
	rec.version.seq = r.version.seq;
	rec.durability = r.durability;
	return state->fn(table, &rec, state->private_data);
}

static int scan_entry(const uint8_t *key, size_t key_len,
		      const uint8_t *value, size_t value_len, uint32_t shard,
		      void *private_data)
{
	struct scan_state *state = private_data;
	struct pending *p = NULL;
	struct phr_version stored = {}, mine = {};

	(void)shard;
	for (p = state->pending; p != NULL; p = p->next) {
		if (p->key_len != key_len ||
		    memcmp(p->bytes, key, key_len) != 0)
		{
			continue;
		}
		(void)phr_version_pull(p->bytes + key_len, p->value_len,
				       &mine);
		(void)phr_version_pull(value, value_len, &stored);
		p->shown = true;
		if (phr_version_cmp(mine, stored) > 0) {
			value = p->bytes + key_len;
			value_len = p->value_len;
		}
	}
	return show(state, key, key_len, value, value_len);
}

static enum phstore_err scan_all(struct rados_store *rs, const char *table,
				 bool tombstones, struct scan_state *state)
{
	uint8_t prefix[PHR_OMAP_KEY_MAX];
	size_t prefix_len = 1;
	struct pending *p = NULL;
	enum phstore_err err = usable(rs);
	int ret = 0;

	prefix[0] = 'R';
	if (err == PHSTORE_OK && table != NULL) {
		if (strlen(table) > PHR_TABLE_MAX) {
			return phstore_fail(PHSTORE_ERR_INVALID,
					    "bad table name");
		}
		prefix_len = phr_key_push(prefix, table, strlen(table), NULL,
					  0);
	}
	if (err == PHSTORE_OK && rs->engine != NULL) {
		/* what this handle has staged belongs to it */
		err = phr_engine_drain(rs->engine);
	}
	if (err == PHSTORE_OK) {
		err = phr_scan(&rs->conn, (const uint8_t *)"!T", 2, true,
			       add_intent, state);
	}
	if (err == PHSTORE_OK) {
		/* a tombstone must hide the record of an intent */
		err = phr_scan(&rs->conn, prefix, prefix_len,
			       tombstones || state->pending != NULL,
			       scan_entry, state);
	}
	while (state->pending != NULL) {
		p = state->pending;
		state->pending = p->next;
		if (err == PHSTORE_OK && !p->shown && ret == 0 &&
		    p->key_len >= prefix_len &&
		    memcmp(p->bytes, prefix, prefix_len) == 0)
		{
			ret = show(state, p->bytes, p->key_len,
				   p->bytes + p->key_len, p->value_len);
		}
		free(p);
	}
	rs->num_damaged = state->damaged;
	return err;
}

static enum phstore_err be_scan(struct phstore *store, const char *table,
				   phstore_scan_fn fn, void *private_data,
				   uint64_t *count)
{
	struct rados_store *rs = rs_of(store);
	struct scan_state state = {
		.rs = rs,
		.fn = fn,
		.private_data = private_data,
	};
	enum phstore_err err;

	err = scan_all(rs, table, false, &state);
	*count = state.count;
	return err;
}

static enum phstore_err be_stat(struct phstore *store,
				   struct phstore_stat *st)
{
	struct rados_store *rs = rs_of(store);
	struct phr_engine *e = rs->engine;
	struct scan_state state = { .rs = rs };
	enum phstore_err err;

	memcpy(st->uuid, rs->conn.super.uuid, sizeof(st->uuid));
	st->format_version = PHR_SUPER_VERSION;
	st->epoch = rs->conn.epoch;
	st->num_segments = rs->conn.super.shards;
	st->live = e != NULL;
	if (e != NULL) {
		pthread_mutex_lock(&e->mutex);
		st->head_lsn = e->head;
		st->durable_lsn = e->durable;
		st->num_appends = e->head;
		st->num_elided = e->stat.num_elided;
		st->num_syncs = e->stat.num_batches;
		st->sync_ns_total = e->stat.op_ns_total;
		st->sync_ns_max = e->stat.op_ns_max;
		st->sync_ns_avg = e->stat.num_batches == 0 ? 0 :
			e->stat.op_ns_total / e->stat.num_batches;
		st->latched = e->latched;
		st->latched_errno = e->latched_errno;
		memcpy(st->barrier_us, e->barrier_us, sizeof(st->barrier_us));
		pthread_mutex_unlock(&e->mutex);
		if (st->latched != PHSTORE_OK || e->full) {
			/* tell what there is to tell without asking */
			return PHSTORE_OK;
		}
	}
	err = scan_all(rs, NULL, true, &state);
	st->num_records = state.count;
	st->num_tombstones = state.tombstones;
	st->live_bytes = state.bytes;
	st->num_damaged = state.damaged;
	return err;
}

static enum phstore_err be_damage_get(struct phstore *store, uint64_t i,
					 struct phstore_damage *damage)
{
	struct rados_store *rs = rs_of(store);

	if (i >= rs->num_damaged) {
		return PHSTORE_ERR_NOT_FOUND;
	}
	*damage = (struct phstore_damage) {
		.file = store->path,
		.reason = "a record or intent does not match its checksum",
	};
	return PHSTORE_OK;
}

static enum phstore_err be_verify(struct phstore *store)
{
	struct rados_store *rs = rs_of(store);
	struct scan_state state = { .rs = rs };
	enum phstore_err err;

	err = scan_all(rs, NULL, true, &state);
	if (err == PHSTORE_OK && state.damaged > 0) {
		err = phstore_fail(PHSTORE_ERR_CORRUPT,
				   "%s: %" PRIu64 " records damaged",
				   store->path, state.damaged);
	}
	return err;
}

static bool be_wants_maintenance(struct phstore *store)
{
	(void)store;
	return false;
}

static enum phstore_err be_maintain(struct phstore *store,
				       bool until_done)
{
	struct rados_store *rs = rs_of(store);
	enum phstore_err err = usable(rs);

	if (err != PHSTORE_OK || rs->engine == NULL || !until_done) {
		return err;
	}
	return phr_prune(&rs->conn, rs->engine);
}

enum phstore_err phstore_rados_stat(struct phstore *store,
				    struct phstore_rados_stat *st)
{
	struct rados_store *rs = NULL;

	if (store->ops != &phstore_backend_rados) {
		return phstore_fail(PHSTORE_ERR_NOT_SUPPORTED, "not rados");
	}
	rs = rs_of(store);
	*st = (struct phstore_rados_stat) {
		.has_class = rs->conn.has_class,
		.shards = rs->conn.super.shards,
	};
	if (rs->engine != NULL) {
		pthread_mutex_lock(&rs->engine->mutex);
		*st = rs->engine->stat;
		pthread_mutex_unlock(&rs->engine->mutex);
	}
	return PHSTORE_OK;
}

enum phstore_err phstore_rados_fence(struct phstore *store,
				     const char *writer, bool block)
{
	struct rados_store *rs = NULL;
	enum phstore_err err;

	if (store->ops != &phstore_backend_rados) {
		return phstore_fail(PHSTORE_ERR_NOT_SUPPORTED, "not rados");
	}
	rs = rs_of(store);
	err = usable(rs);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (rs->engine == NULL) {
		return phstore_fail(PHSTORE_ERR_READ_ONLY,
				    "%s: opened read-only", store->path);
	}
	if (!phr_writer_ok(writer, strlen(writer))) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "\"%s\" is no writer's name", writer);
	}
	err = phr_conn_fence(&rs->conn, writer, block);
	if (err != PHSTORE_OK) {
		return err;
	}
	return phr_roll_forward(rs->engine, writer);
}

const char *phstore_rados_writer(struct phstore *store)
{
	return store->ops == &phstore_backend_rados ?
	       rs_of(store)->conn.writer : "";
}

const struct phstore_backend_ops phstore_backend_rados = {
	.name = "rados",
	.path_is_name = true,
	.open = be_open,
	.close = be_close,
	.after_fork = be_after_fork,
	.stage = be_stage,
	.room = be_room,
	.is_durable = be_is_durable,
	.is_synced = be_is_synced,
	.barrier = be_barrier,
	.barrier_check = be_barrier_check,
	.lead = be_lead,
	.served = be_served,
	.notify_fd = be_notify_fd,
	.notify_drain = be_notify_drain,
	.notify_wait = be_notify_wait,
	.leading = be_leading,
	.hint = be_hint,
	.kick = be_kick,
	.class_waits = be_class_waits,
	.get = be_get,
	.scan = be_scan,
	.stat = be_stat,
	.damage_get = be_damage_get,
	.verify = be_verify,
	.wants_maintenance = be_wants_maintenance,
	.maintain = be_maintain,
};

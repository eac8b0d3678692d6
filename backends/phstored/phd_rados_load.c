/*
 * phstored: the sink "rados": what RADOS has, into the local store
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * While the gate is closed. A thread reads RADOS (phd_rados_job.c) and hands
 * the loop batches of records, a few at a time, which it applies to the local
 * store. What is applied is in the log as well, so nothing is shipped until
 * all of it is passed over.
 */

#ifdef PHSTORE_WITH_RADOS

#include "phd_rados.h"

#include <inttypes.h>
#include <string.h>

#include "phstore_private.h"

/* Records applied to the local store at once, and batches that wait for it. */
#define LOAD_OPS 256
#define LOAD_BATCHES 8

struct phd_loaded {
	struct phd_loaded *next;
	struct phstore_ship_op ops[LOAD_OPS];
	size_t num;
};

/* ---- the thread ---- */

struct load_state {
	struct phd_rados *r;
	struct phd_loaded *batch;
	enum phstore_err err;
};

/* Waits while the loop has enough of them. */
static void hand_over(struct load_state *state)
{
	struct phd_rados_job *job = &state->r->job;

	pthread_mutex_lock(&job->mutex);
	while (job->num >= LOAD_BATCHES && !atomic_load(&job->cancel)) {
		pthread_cond_wait(&job->cond, &job->mutex);
	}
	*job->end = state->batch;
	job->end = &state->batch->next;
	job->num += 1;
	pthread_mutex_unlock(&job->mutex);
	state->batch = NULL;
	phd_rados_job_wake(state->r);
}

static int load_entry(const uint8_t *key, size_t key_len,
		      const uint8_t *value, size_t value_len, uint32_t shard,
		      void *private_data)
{
	struct load_state *state = private_data;
	struct phd_rados_job *job = &state->r->job;
	struct phd_loaded *batch = NULL;
	struct phstore_ship_op *op = NULL;
	char table[PHR_TABLE_MAX + 1];
	static uint8_t plain[PHR_KEY_MAX];
	size_t table_len = 0;
	size_t plain_len = 0;
	struct phr_record rec = {};
	bool ok;

	(void)shard;
	if (atomic_load(&job->cancel)) {
		return 1;
	}
	ok = phr_key_pull(key, key_len, table, &table_len, plain,
			  &plain_len) &&
	     phr_record_pull(value, value_len, key, key_len, &rec);
	if (!ok) {
		job->damaged += 1;
		return 0;
	}
	if (rec.version.epoch < job->prev) {
		/* was there when the last epoch began */
		return 0;
	}
	if (state->batch == NULL) {
		/* a root: the loop's memory is the loop's */
		state->batch = talloc_zero(NULL, struct phd_loaded);
	}
	batch = state->batch;
	if (batch == NULL) {
		state->err = PHSTORE_ERR_NO_MEMORY;
		return 1;
	}
	op = &batch->ops[batch->num];
	*op = (struct phstore_ship_op) {
		.table = talloc_strdup(batch, table),
		.key.data = talloc_memdup(batch, plain, plain_len),
		.key.len = plain_len,
		.value.data = phr_dup(batch, rec.value, rec.value_len),
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
	batch->num += 1;
	if (batch->num == LOAD_OPS) {
		hand_over(state);
	}
	return 0;
}

static enum phstore_err load_work(struct phd_rados *r)
{
	struct load_state state = { .r = r };
	enum phstore_err err;

	err = phr_scan(&r->conn, (const uint8_t *)"R", 1, true, load_entry,
		       &state);
	if (state.batch != NULL && state.batch->num > 0) {
		hand_over(&state);
	}
	TALLOC_FREE(state.batch);
	return err != PHSTORE_OK ? err : state.err;
}

/* ---- the loop ---- */

static struct phd_loaded *next_batch(struct phd_rados_job *job)
{
	struct phd_loaded *batch = NULL;

	pthread_mutex_lock(&job->mutex);
	batch = job->first;
	if (batch != NULL) {
		job->first = batch->next;
		if (job->first == NULL) {
			job->end = &job->first;
		}
		job->num -= 1;
	}
	pthread_mutex_unlock(&job->mutex);
	pthread_cond_signal(&job->cond);
	return batch;
}

/* As many as there were: then others have a turn. */
static void load_turn(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;
	unsigned i;

	for (i = 0; i < LOAD_BATCHES; i++) {
		struct phd_loaded *batch = next_batch(job);
		uint64_t lsn = 0;

		if (batch == NULL) {
			return;
		}
		if (r->load_err == PHSTORE_OK &&
		    !atomic_load(&job->cancel))
		{
			r->load_err = phstore_ship_apply(
				r->phd->ship, batch->ops, batch->num, &lsn);
			r->loaded += batch->num;
		}
		talloc_free(batch);
	}
}

/*
 * prev: the epoch that ended. Who has what that began with needs what was
 * written in it only, the deletions among it, as these are pruned when all
 * members have read them. Everybody else begins with nothing.
 */
void phd_rados_load_begin(struct phd_rados *r, uint64_t prev,
			  void (*done)(struct phd_rados *r))
{
	struct phd_rados_job *job = &r->job;

	r->loaded = 0;
	r->load_err = PHSTORE_OK;
	job->prev = 0;
	job->damaged = 0;
	if (prev != 0 && r->loaded_epoch == prev) {
		job->prev = prev;
	} else {
		r->load_err = phstore_ship_clear(r->phd->ship);
	}
	/* half a store is none */
	r->loaded_epoch = 0;
	r->may_ship = false;
	phd_rados_job_begin(r, load_work, done);
	job->turn = load_turn;
}

/* The job has ended: the rest of it. Not OK: the local store is not whole. */
enum phstore_err phd_rados_loaded(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;
	struct phstore_ship *ship = r->phd->ship;
	enum phstore_err err = job->err;
	uint64_t head;

	if (err != PHSTORE_OK) {
		(void)phstore_fail(err, "%s", job->text);
	}
	while (job->first != NULL) {
		load_turn(r);
	}
	if (job->damaged > 0) {
		phd_log(0, "%" PRIu64 " records in RADOS are damaged",
			job->damaged);
	}
	if (err == PHSTORE_OK) {
		err = r->load_err;
	}
	if (err == PHSTORE_OK) {
		/* nothing older can come: all versions are of this epoch */
		err = phstore_ship_forget_all(ship);
	}
	/* nothing that was loaded is to be shipped */
	head = phstore_ship_head(ship);
	phstore_ship_seek(ship, head);
	r->may_ship = true;
	phd_rados_advance(r);
	return err;
}

void phd_rados_load_drop(struct phd_rados *r)
{
	struct phd_loaded *batch = next_batch(&r->job);

	while (batch != NULL) {
		talloc_free(batch);
		batch = next_batch(&r->job);
	}
}

#endif /* PHSTORE_WITH_RADOS */

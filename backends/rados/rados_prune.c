/*
 * phstore: tombstones that may go
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A deletion leaves a tombstone, because an older version of the record may
 * still be on its way: from a writer that is slow, or that sends its log
 * again. It may go when every living writer has an epoch above that of the
 * tombstone, and nothing older under way: then a lower version can come from
 * a fenced writer only, and that is refused.
 *
 * So a round of pruning is:
 *   1. wait until nothing of this writer is on its way
 *   2. take a new epoch, put it into every shard (this fences what the
 *      writer itself was before; what is sent from now on has the new one)
 *   3. the lowest epoch of the living writers makes the *floor*: (epoch, 0)
 *   4. in each shard set the floor and remove the tombstones below it, each
 *      only if it is still that tombstone
 * The floor stays in the shard: a record that is not there may be made only
 * with a version above it. So even a version from before the pruning that
 * turned up later is STALE, as it would have been with the tombstone there.
 *
 * Every writer does this now and then; the floor follows the slowest. A
 * writer that died and has no one to fence it holds the floor back; those of
 * this host that have a name of their own (host.pid.random) and no process
 * any more are fenced and struck off here.
 */

#include "rados_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PRUNE_OPS 400
/* beside the traffic: one that was replaced keeps so many from going */
#define PRUNE_OPS_LIVE 50

enum phstore_err phr_members(struct phr_conn *c, TALLOC_CTX *mem_ctx,
			     struct phr_member_list **plist, size_t *pnum)
{
	rados_read_op_t op = rados_create_read_op();
	rados_omap_iter_t iter = NULL;
	struct phr_member_list *list = NULL;
	unsigned char more = 0;
	size_t num = 0;
	int ret, rval = 0;

	rados_read_op_omap_get_vals2(op, "", "w/", 1000, &iter, &more, &rval);
	ret = phr_read(c, op, PHR_META_OID);
	if (ret == 0) {
		ret = rval;
	}
	while (ret == 0) {
		char *k = NULL;
		char *v = NULL;
		size_t k_len = 0;
		size_t v_len = 0;
		struct phr_member m = {};
		bool ok;

		ret = rados_omap_get_next2(iter, &k, &v, &k_len, &v_len);
		if (ret != 0 || k == NULL) {
			break;
		}
		ok = phr_member_pull((uint8_t *)v, v_len, &m);
		if (!ok || k_len <= 2 || k_len - 2 > PHR_WRITER_MAX) {
			continue;
		}
		list = talloc_realloc(mem_ctx, list, struct phr_member_list,
				      num + 1);
		if (list == NULL) {
			ret = -ENOMEM;
			break;
		}
		list[num] = (struct phr_member_list) {
			.epoch = m.epoch,
			.state = m.state,
			.raw = talloc_memdup(list, v, v_len),
			.raw_len = v_len,
		};
		if (list[num].raw == NULL) {
			ret = -ENOMEM;
			break;
		}
		memcpy(list[num].name, k + 2, k_len - 2);
		num += 1;
	}
	if (ret == 0 && more) {
		/* then nobody is pruned: too many to know the slowest */
		ret = -EOVERFLOW;
	}
	if (iter != NULL) {
		rados_omap_get_end(iter);
	}
	rados_release_read_op(op);
	*plist = list;
	*pnum = num;
	return ret < 0 ? phr_fail(ret, "list the writers", NULL) : PHSTORE_OK;
}

/* A name of this host's own making whose process is gone. */
static bool is_dead(const char *name)
{
	char host[40] = {};
	char own[PHR_WRITER_MAX + 1];
	size_t len, i;
	long pid;

	(void)gethostname(host, sizeof(host) - 1);
	for (i = 0; host[i] != '\0'; i++) {
		if (!phr_writer_ok(&host[i], 1)) {
			host[i] = '_';
		}
	}
	snprintf(own, sizeof(own), "%.30s.",
		 host[0] != '\0' ? host : "host");
	len = strlen(own);
	if (strncmp(name, own, len) != 0) {
		return false;
	}
	pid = strtol(name + len, NULL, 10);
	return pid > 0 && kill((pid_t)pid, 0) == -1 && errno == ESRCH;
}

static void strike_off(struct phr_conn *c, const char *name)
{
	rados_write_op_t op = rados_create_write_op();
	char key[PHR_WRITER_MAX + 3];
	const char *k = key;
	size_t len;

	snprintf(key, sizeof(key), "w/%s", name);
	len = strlen(key);
	rados_write_op_omap_rm_keys2(op, &k, &len, 1);
	(void)phr_write(c, op, PHR_META_OID, LIBRADOS_OPERATION_FULL_FORCE);
	rados_release_write_op(op);
}

struct prune_state {
	struct phr_engine *e;
	struct phr_version floor;
	struct phr_txn **txns;		/* one being filled per shard */
	unsigned max_ops;
	enum phstore_err err;
	uint64_t num;
};

static struct phr_txn *prune_begin(struct prune_state *state, uint32_t shard)
{
	struct phr_txn *t = phr_txn_make(state->e);
	struct phr_op *op = NULL;

	if (t == NULL) {
		return NULL;
	}
	op = phr_txn_op(t, shard, PHR_OP_SET, (const uint8_t *)"!F", 2,
			PHR_VERSION_LEN);
	if (op == NULL) {
		phr_txn_free(t);
		return NULL;
	}
	op->use_reserve = true;
	phr_version_push(op->value, state->floor);
	return t;
}

static enum phstore_err prune_send(struct prune_state *state, uint32_t shard)
{
	struct phr_txn *t = state->txns[shard];
	enum phstore_err err;

	state->txns[shard] = NULL;
	err = phr_engine_submit(state->e, t, true, NULL);
	if (err != PHSTORE_OK) {
		phr_txn_free(t);
	}
	return err;
}

static int prune_entry(const uint8_t *key, size_t key_len,
		       const uint8_t *value, size_t value_len,
		       uint32_t shard, void *private_data)
{
	struct prune_state *state = private_data;
	struct phr_record r = {};
	struct phr_op *op = NULL;
	bool ok;

	ok = phr_record_pull(value, value_len, key, key_len, &r);
	if (!ok || r.kind != PHR_TOMBSTONE ||
	    phr_version_cmp(r.version, state->floor) > 0)
	{
		return 0;
	}
	if (state->txns[shard] == NULL) {
		state->txns[shard] = prune_begin(state, shard);
	}
	if (state->txns[shard] != NULL) {
		op = phr_txn_op(state->txns[shard], shard, PHR_OP_PRUNE, key,
				key_len, 0);
	}
	if (op == NULL) {
		state->err = phr_fail(-ENOMEM, "prune", NULL);
		return 1;
	}
	op->use_reserve = true;
	op->check = PHR_CHECK_EXACT;
	op->expected = r.version;
	state->num += 1;
	if (state->txns[shard]->units->num_ops >= state->max_ops) {
		state->err = prune_send(state, shard);
	}
	return state->err != PHSTORE_OK;
}

static enum phstore_err floor_find(struct phr_conn *c, struct phr_engine *e,
				   struct phr_version *floor)
{
	struct phr_member_list *list = NULL;
	enum phstore_err err;
	size_t num = 0;
	size_t i;

	err = phr_members(c, NULL, &list, &num);
	floor->epoch = c->epoch;
	for (i = 0; i < num && err == PHSTORE_OK; i++) {
		bool dead = is_dead(list[i].name);

		if (dead && list[i].state == PHR_MEMBER_LIVE) {
			err = phr_conn_fence(c, list[i].name, false);
			if (err == PHSTORE_OK) {
				err = phr_roll_forward(e, list[i].name);
			}
		}
		if (dead && err == PHSTORE_OK) {
			strike_off(c, list[i].name);
			continue;
		}
		if (list[i].state == PHR_MEMBER_LIVE &&
		    list[i].epoch < floor->epoch)
		{
			floor->epoch = list[i].epoch;
		}
	}
	TALLOC_FREE(list);
	return err;
}

static enum phstore_err prune_all(struct phr_conn *c,
				  struct prune_state *state)
{
	struct phr_engine *e = state->e;
	enum phstore_err err;
	uint32_t i;

	state->txns = calloc(c->super.shards, sizeof(state->txns[0]));
	if (state->txns == NULL) {
		return phr_fail(-ENOMEM, "prune", NULL);
	}
	err = phr_scan(c, (const uint8_t *)"R", 1, true, prune_entry, state);
	if (err == PHSTORE_OK) {
		err = state->err;
	}
	for (i = 0; i < c->super.shards; i++) {
		if (state->txns[i] == NULL) {
			continue;
		}
		if (err == PHSTORE_OK) {
			err = prune_send(state, i);
		} else {
			phr_txn_free(state->txns[i]);
		}
	}
	free(state->txns);
	pthread_mutex_lock(&e->mutex);
	e->stat.epoch = c->epoch;
	e->stat.num_pruned += state->num;
	pthread_mutex_unlock(&e->mutex);
	return err;
}

enum phstore_err phr_prune(struct phr_conn *c, struct phr_engine *e)
{
	struct prune_state state = { .e = e, .max_ops = PRUNE_OPS };
	enum phstore_err err;

	err = phr_engine_drain(e);
	if (err == PHSTORE_OK) {
		err = phr_conn_renew(c, &e->mutex);
	}
	if (err == PHSTORE_OK) {
		err = floor_find(c, e, &state.floor);
	}
	if (err == PHSTORE_OK) {
		err = prune_all(c, &state);
	}
	return err == PHSTORE_OK ? phr_engine_drain(e) : err;
}

enum phstore_err phr_prune_below(struct phr_conn *c, struct phr_engine *e,
				 uint64_t epoch)
{
	struct prune_state state = {
		.e = e,
		.max_ops = PRUNE_OPS_LIVE,
		.floor.epoch = epoch,
	};

	return prune_all(c, &state);
}

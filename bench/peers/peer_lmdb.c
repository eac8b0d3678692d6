/*
 * storebench's peer: LMDB, one write transaction for each put
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Its defaults are what we promise, too: a commit returns when it is on the
 * disk. Writers take turns by its lock.
 */

#include <stdio.h>

#include "storebench.h"

#ifdef HAVE_LMDB

#include <stdlib.h>
#include <sys/stat.h>

#include <lmdb.h>

struct lmdb {
	MDB_env *env;
	MDB_dbi dbi;
	struct put put;
};

static int lmdb_done(int ret, char *error, size_t len)
{
	if (ret == 0) {
		return 0;
	}
	snprintf(error, len, "lmdb: %s", mdb_strerror(ret));
	return -1;
}

static int lmdb_open(const struct options *o, unsigned int writer,
		     void **state, char *error, size_t len)
{
	struct lmdb *l = calloc(1, sizeof(*l));
	MDB_txn *txn = NULL;
	char path[4096];
	int ret;

	if (l == NULL) {
		return -1;
	}
	put_init(&l->put, o, writer);
	snprintf(path, sizeof(path), "%s/peer.lmdb", o->dir);
	mkdir(path, 0700);
	ret = mdb_env_create(&l->env);
	if (ret == 0) {
		ret = mdb_env_set_mapsize(l->env, (size_t)256 << 20);
	}
	if (ret == 0) {
		ret = mdb_env_open(l->env, path, 0, 0600);
	}
	if (ret == 0) {
		ret = mdb_txn_begin(l->env, NULL, 0, &txn);
	}
	if (ret == 0) {
		ret = mdb_dbi_open(txn, NULL, 0, &l->dbi);
	}
	if (ret == 0) {
		ret = mdb_txn_commit(txn);
	}
	if (ret == 0) {
		*state = l;
	}
	return lmdb_done(ret, error, len);
}

static int lmdb_commit(void *state, uint64_t n, char *error, size_t len)
{
	struct lmdb *l = state;
	MDB_txn *txn = NULL;
	MDB_val key, value;
	int ret;

	put_make(&l->put, n);
	key = (MDB_val) { .mv_data = l->put.key, .mv_size = KEY_LEN };
	value = (MDB_val) { .mv_data = l->put.value,
			    .mv_size = l->put.len };
	ret = mdb_txn_begin(l->env, NULL, 0, &txn);
	if (ret == 0) {
		ret = mdb_put(txn, l->dbi, &key, &value, 0);
		if (ret != 0) {
			mdb_txn_abort(txn);
		}
	}
	if (ret == 0) {
		ret = mdb_txn_commit(txn);
	}
	return lmdb_done(ret, error, len);
}

static void lmdb_close(void *state)
{
	struct lmdb *l = state;

	mdb_env_close(l->env);
	free(l);
}

const struct mode peer_lmdb = {
	.name = "lmdb", .open = lmdb_open,
	.commit = lmdb_commit, .close = lmdb_close,
};

#else

const struct mode peer_lmdb = { .name = "lmdb" };

#endif

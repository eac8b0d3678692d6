/*
 * storebench's peer: RocksDB, each put a write with sync
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * One process may write to a RocksDB at a time, so each writer has a
 * database of its own: with more than one writer it shares no group commit,
 * and no lock either.
 */

#include <stdio.h>

#include "storebench.h"

#ifdef HAVE_ROCKSDB

#include <stdlib.h>

#include <rocksdb/c.h>

struct rocks {
	rocksdb_options_t *options;
	rocksdb_writeoptions_t *sync;
	rocksdb_t *db;
	struct put put;
};

static int rocks_open(const struct options *o, unsigned int writer,
		      void **state, char *error, size_t len)
{
	struct rocks *r = calloc(1, sizeof(*r));
	char path[4096];
	char *why = NULL;

	if (r == NULL) {
		return -1;
	}
	put_init(&r->put, o, writer);
	snprintf(path, sizeof(path), "%s/peer-%u.rocksdb", o->dir, writer);
	r->options = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(r->options, 1);
	r->sync = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(r->sync, 1);
	r->db = rocksdb_open(r->options, path, &why);
	if (why != NULL) {
		snprintf(error, len, "rocksdb: %s", why);
		rocksdb_free(why);
		return -1;
	}
	*state = r;
	return 0;
}

static int rocks_commit(void *state, uint64_t n, char *error, size_t len)
{
	struct rocks *r = state;
	char *why = NULL;

	put_make(&r->put, n);
	rocksdb_put(r->db, r->sync, r->put.key, KEY_LEN,
		    (const char *)r->put.value, r->put.len, &why);
	if (why != NULL) {
		snprintf(error, len, "rocksdb: %s", why);
		rocksdb_free(why);
		return -1;
	}
	return 0;
}

static void rocks_close(void *state)
{
	struct rocks *r = state;

	rocksdb_close(r->db);
	rocksdb_writeoptions_destroy(r->sync);
	rocksdb_options_destroy(r->options);
	free(r);
}

const struct mode peer_rocksdb = {
	.name = "rocksdb", .open = rocks_open,
	.commit = rocks_commit, .close = rocks_close,
};

#else

const struct mode peer_rocksdb = { .name = "rocksdb" };

#endif

/*
 * storebench's peer: tdb, one synced transaction for each put
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What Samba's own storage does, with the hash that smbd's tables have. Its
 * stage is the same transaction without its syncs.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <talloc.h>
#include <tdb.h>

#include "storebench.h"

#define HASH_SIZE 10007

struct tdb_state {
	struct tdb_context *tdb;
	struct put put;
};

static int tdbs_open(const struct options *o, unsigned int writer,
		     void **state, char *error, size_t len)
{
	struct tdb_state *ts = talloc_zero(NULL, struct tdb_state);
	char path[4096];

	put_init(&ts->put, o, writer);
	snprintf(path, sizeof(path), "%s/peer.tdb", o->dir);
	ts->tdb = tdb_open(path, HASH_SIZE, TDB_INCOMPATIBLE_HASH,
			   O_RDWR | O_CREAT, 0600);
	if (ts->tdb == NULL) {
		snprintf(error, len, "%s: %s", path, strerror(errno));
		return -1;
	}
	*state = ts;
	return 0;
}

/* Outside of a transaction it is there at once, and never synced. */
static int tdbs_put(struct tdb_state *ts, uint64_t n)
{
	TDB_DATA key = { .dptr = (uint8_t *)ts->put.key,
			 .dsize = KEY_LEN };
	TDB_DATA value = { .dptr = ts->put.value };

	put_make(&ts->put, n);
	value.dsize = ts->put.len;
	return tdb_store(ts->tdb, key, value, 0);
}

static int tdbs_told(struct tdb_state *ts, int ret, char *error, size_t len)
{
	if (ret != 0) {
		snprintf(error, len, "tdb: %s", tdb_errorstr(ts->tdb));
	}
	return ret;
}

static int tdbs_commit(void *state, uint64_t n, char *error, size_t len)
{
	struct tdb_state *ts = state;
	int ret;

	ret = tdb_transaction_start(ts->tdb);
	if (ret == 0) {
		ret = tdbs_put(ts, n);
	}
	if (ret == 0) {
		ret = tdb_transaction_commit(ts->tdb);
	}
	return tdbs_told(ts, ret, error, len);
}

static int tdbs_stage(void *state, uint64_t n, char *error, size_t len)
{
	struct tdb_state *ts = state;

	tdb_add_flags(ts->tdb, TDB_NOSYNC);
	return tdbs_commit(state, n, error, len);
}

static int tdbs_fill(void *state, uint64_t n, char *error, size_t len)
{
	struct tdb_state *ts = state;

	return tdbs_told(ts, tdbs_put(ts, n), error, len);
}

static int tdbs_one(struct tdb_context *tdb, TDB_DATA key, TDB_DATA value,
		    void *private_data)
{
	(void)tdb;
	(void)key;
	scan_add(private_data, value.dptr, value.dsize);
	return 0;
}

static int tdbs_scan(void *state, struct scan *scan, char *error, size_t len)
{
	struct tdb_state *ts = state;
	int ret;

	ret = tdb_traverse_read(ts->tdb, tdbs_one, scan);
	return tdbs_told(ts, ret < 0 ? -1 : 0, error, len);
}

static void tdbs_close(void *state)
{
	struct tdb_state *ts = state;

	tdb_close(ts->tdb);
	talloc_free(ts);
}

const struct mode peer_tdb = {
	.name = "tdb", .open = tdbs_open,
	.commit = tdbs_commit, .close = tdbs_close,
	.stage = tdbs_stage, .fill = tdbs_fill, .scan = tdbs_scan,
};

/*
 * storebench's peer: SQLite, WAL, synchronous=FULL, a transaction per put
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * FULL syncs the WAL at each commit; NORMAL would not, and could lose the
 * last ones. Who finds the database locked tries again, by its own busy
 * handler.
 */

#include <stdio.h>

#include "storebench.h"

#ifdef HAVE_SQLITE3

#include <stdlib.h>

#include <sqlite3.h>

struct sqlite {
	sqlite3 *db;
	sqlite3_stmt *stmt;
	struct put put;
};

static int sqlite_open(const struct options *o, unsigned int writer,
		       void **state, char *error, size_t len)
{
	struct sqlite *s = calloc(1, sizeof(*s));
	char path[4096];
	int ret;

	if (s == NULL) {
		return -1;
	}
	put_init(&s->put, o, writer);
	snprintf(path, sizeof(path), "%s/peer.sqlite", o->dir);
	ret = sqlite3_open(path, &s->db);
	if (ret == SQLITE_OK) {
		ret = sqlite3_busy_timeout(s->db, 60000);
	}
	if (ret == SQLITE_OK) {
		ret = sqlite3_exec(s->db, "pragma journal_mode=wal;"
				   "pragma synchronous=full;"
				   "create table if not exists t "
				   "(k blob primary key, v blob)"
				   " without rowid", NULL, NULL, NULL);
	}
	if (ret == SQLITE_OK) {
		ret = sqlite3_prepare_v2(s->db, "insert or replace into t "
					 "values (?, ?)", -1, &s->stmt, NULL);
	}
	if (ret != SQLITE_OK) {
		snprintf(error, len, "sqlite: %s", sqlite3_errmsg(s->db));
		return -1;
	}
	*state = s;
	return 0;
}

static int sqlite_commit(void *state, uint64_t n, char *error, size_t len)
{
	struct sqlite *s = state;
	int ret;

	put_make(&s->put, n);
	sqlite3_bind_blob(s->stmt, 1, s->put.key, KEY_LEN, SQLITE_STATIC);
	sqlite3_bind_blob(s->stmt, 2, s->put.value, (int)s->put.len,
			  SQLITE_STATIC);
	ret = sqlite3_step(s->stmt);
	sqlite3_reset(s->stmt);
	if (ret != SQLITE_DONE) {
		snprintf(error, len, "sqlite: %s", sqlite3_errmsg(s->db));
		return -1;
	}
	return 0;
}

static void sqlite_close(void *state)
{
	struct sqlite *s = state;

	sqlite3_finalize(s->stmt);
	sqlite3_close(s->db);
	free(s);
}

const struct mode peer_sqlite = {
	.name = "sqlite", .open = sqlite_open,
	.commit = sqlite_commit, .close = sqlite_close,
};

#else

const struct mode peer_sqlite = { .name = "sqlite" };

#endif

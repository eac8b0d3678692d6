/*
 * phstore ctdb backend: volatile databases and their records
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A volatile ctdb database is a tdb on each node. The newest value of a
 * record is with its *dmaster*; other nodes may have older copies. When nodes
 * are lost, a recovery locks the whole database on each node ("freezes" it),
 * takes the copy with the highest RSN and gives it to all. Clients on a node
 * read and write its tdb themselves: the chain's lock is what excludes ctdbd
 * and each other.
 *
 * Locks are only ever tried: a frozen database stays locked for as long as
 * the recovery lasts, and this process has other things to do.
 */

#include "ctdb_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <tdb.h>

#define UPDATE_TRIES	200
#define UPDATE_PAUSE_MS	5

struct phctdb_db {
	struct phctdb *c;
	char *name;
	char *path;
	uint32_t id;
	int flags;
	struct tdb_context *tdb;
};

static TDB_DATA to_tdb(struct phctdb_bytes b)
{
	return (TDB_DATA) {
		.dptr = (unsigned char *)(uintptr_t)b.data,
		.dsize = b.len,
	};
}

/* -- attach ------------------------------------------------------------ */

struct attach_state {
	struct tevent_context *ev;
	struct phctdb *c;
	struct phctdb_db *db;
};

static void attach_id(struct tevent_req *subreq);
static void attach_flags(struct tevent_req *subreq);
static void attach_path(struct tevent_req *subreq);

static int db_destructor(struct phctdb_db *db)
{
	if (db->tdb != NULL) {
		tdb_close(db->tdb);
	}
	return 0;
}

struct tevent_req *phctdb_attach_send(TALLOC_CTX *mem_ctx,
				      struct tevent_context *ev,
				      struct phctdb *c, const char *name)
{
	struct tevent_req *req = NULL;
	struct tevent_req *subreq = NULL;
	struct attach_state *state = NULL;

	req = tevent_req_create(mem_ctx, &state, struct attach_state);
	if (req == NULL) {
		return NULL;
	}
	state->ev = ev;
	state->c = c;
	state->db = talloc_zero(state, struct phctdb_db);
	if (tevent_req_nomem(state->db, req)) {
		return tevent_req_post(req, ev);
	}
	talloc_set_destructor(state->db, db_destructor);
	state->db->c = c;
	state->db->name = talloc_strdup(state->db, name);
	if (tevent_req_nomem(state->db->name, req)) {
		return tevent_req_post(req, ev);
	}
	subreq = phctdb_control_send(state, ev, c, PHCTDB_THIS_NODE,
				     PHCTDB_CONTROL_DB_ATTACH, 0, 0, name,
				     strlen(name) + 1);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, attach_id, req);
	return req;
}

/* The answer of one step; false when it ended the request */
static bool attach_answer(struct tevent_req *req, struct tevent_req *subreq,
			  uint8_t **data, size_t *len)
{
	struct attach_state *state = tevent_req_data(req, struct attach_state);
	int32_t status = -1;
	int ret;

	ret = phctdb_control_recv(subreq, state, &status, data, len, NULL);
	TALLOC_FREE(subreq);
	if (ret == 0 && status != 0) {
		ret = EAGAIN;
	}
	if (ret != 0) {
		tevent_req_error(req, ret);
		return false;
	}
	return true;
}

static void attach_next(struct tevent_req *req, uint32_t opcode,
			tevent_req_fn fn)
{
	struct attach_state *state = tevent_req_data(req, struct attach_state);
	struct tevent_req *subreq = NULL;

	subreq = phctdb_control_send(state, state->ev, state->c,
				     PHCTDB_THIS_NODE, opcode, 0, 0,
				     &state->db->id, sizeof(state->db->id));
	if (tevent_req_nomem(subreq, req)) {
		return;
	}
	tevent_req_set_callback(subreq, fn, req);
}

static void attach_id(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	struct attach_state *state = tevent_req_data(req, struct attach_state);
	uint8_t *data = NULL;
	size_t len = 0;
	int ret;
	bool ok;

	ok = attach_answer(req, subreq, &data, &len);
	if (!ok) {
		return;
	}
	ret = phctdb_u32_pull(data, len, &state->db->id);
	if (tevent_req_error(req, ret)) {
		return;
	}
	attach_next(req, PHCTDB_CONTROL_DB_OPEN_FLAGS, attach_flags);
}

static void attach_flags(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	struct attach_state *state = tevent_req_data(req, struct attach_state);
	uint8_t *data = NULL;
	size_t len = 0;
	uint32_t flags;
	int ret;
	bool ok;

	ok = attach_answer(req, subreq, &data, &len);
	if (!ok) {
		return;
	}
	ret = phctdb_u32_pull(data, len, &flags);
	if (tevent_req_error(req, ret)) {
		return;
	}
	state->db->flags = (int)flags;
	attach_next(req, PHCTDB_CONTROL_GETDBPATH, attach_path);
}

static void attach_path(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	struct attach_state *state = tevent_req_data(req, struct attach_state);
	struct phctdb_db *db = state->db;
	uint8_t *data = NULL;
	size_t len = 0;
	bool ok;

	ok = attach_answer(req, subreq, &data, &len);
	if (!ok) {
		return;
	}
	db->path = talloc_strndup(db, (const char *)data, len);
	if (tevent_req_nomem(db->path, req)) {
		return;
	}
	/* ctdbd has it open, so CLEAR_IF_FIRST among its flags does nothing */
	db->tdb = tdb_open(db->path, 0, db->flags, O_RDWR | O_CLOEXEC, 0);
	if (db->tdb == NULL) {
		phctdb_log(state->c, 3, "ctdb: cannot open %s: %s", db->path,
			   strerror(errno));
		tevent_req_error(req, errno ? errno : EIO);
		return;
	}
	tevent_req_done(req);
}

int phctdb_attach_recv(struct tevent_req *req, TALLOC_CTX *mem_ctx,
		       struct phctdb_db **db)
{
	struct attach_state *state = tevent_req_data(req, struct attach_state);
	int ret = phctdb_request_result(req);

	if (ret == 0) {
		*db = talloc_move(mem_ctx, &state->db);
	}
	tevent_req_received(req);
	return ret;
}

uint32_t phctdb_db_id(const struct phctdb_db *db)
{
	return db->id;
}

const char *phctdb_db_path(const struct phctdb_db *db)
{
	return db->path;
}

/* -- the local copy ---------------------------------------------------- */

struct record_copy {
	TALLOC_CTX *mem_ctx;
	struct phctdb_header header;
	uint8_t *value;
	size_t len;
	int ret;
};

static int record_parse(TDB_DATA key, TDB_DATA data, void *private_data)
{
	struct record_copy *copy = private_data;

	(void)key;
	copy->ret = phctdb_header_pull(data.dptr, data.dsize, &copy->header);
	if (copy->ret != 0) {
		copy->ret = EIO;
		return 0;
	}
	copy->len = data.dsize - PHCTDB_HEADER_SIZE;
	if (copy->mem_ctx != NULL) {
		/* one byte more: never NULL for an empty value */
		copy->value = talloc_size(copy->mem_ctx, copy->len + 1);
		if (copy->value == NULL) {
			copy->ret = ENOMEM;
			return 0;
		}
		memcpy(copy->value, data.dptr + PHCTDB_HEADER_SIZE, copy->len);
	}
	return 0;
}

static int record_get(struct phctdb_db *db, struct phctdb_bytes key,
		      struct record_copy *copy)
{
	int ret = tdb_parse_record(db->tdb, to_tdb(key), record_parse, copy);

	if (ret != 0) {
		return tdb_error(db->tdb) == TDB_ERR_NOEXIST ? ENOENT : EIO;
	}
	return copy->ret;
}

int phctdb_record_read(TALLOC_CTX *mem_ctx, struct phctdb_db *db,
		       struct phctdb_bytes key, struct phctdb_header *header,
		       uint8_t **value, size_t *len)
{
	struct record_copy copy = { .mem_ctx = mem_ctx };
	int ret;

	/* tdb_parse_record() would wait for a frozen chain */
	ret = tdb_chainlock_nonblock(db->tdb, to_tdb(key));
	if (ret != 0) {
		return EAGAIN;
	}
	ret = record_get(db, key, &copy);
	tdb_chainunlock(db->tdb, to_tdb(key));
	if (ret == 0) {
		*header = copy.header;
		*value = copy.value;
		*len = copy.len;
	}
	return ret;
}

static int record_put(struct phctdb_db *db, struct phctdb_bytes key,
		      const struct phctdb_header *header,
		      struct phctdb_bytes value)
{
	uint8_t head[PHCTDB_HEADER_SIZE];
	TDB_DATA parts[2] = {
		{ .dptr = head, .dsize = sizeof(head) },
		to_tdb(value),
	};
	int ret;

	phctdb_header_push(header, head);
	ret = tdb_storev(db->tdb, to_tdb(key), parts, 2, TDB_REPLACE);
	return ret == 0 ? 0 : EIO;
}

/* -- changing a record ------------------------------------------------- */

struct update_state {
	struct tevent_context *ev;
	struct phctdb *c;
	struct phctdb_db *db;
	uint8_t *key;
	size_t keylen;
	phctdb_update_fn fn;
	void *private_data;
	int tries;
	bool changed;
};

static void update_try(struct tevent_req *req);
static void update_migrated(struct tevent_req *subreq);
static void update_paused(struct tevent_req *subreq);
static int update_locked(struct update_state *state, bool *again);

struct tevent_req *phctdb_update_send(TALLOC_CTX *mem_ctx,
				      struct tevent_context *ev,
				      struct phctdb *c, struct phctdb_db *db,
				      struct phctdb_bytes key,
				      phctdb_update_fn fn,
				      void *private_data)
{
	struct tevent_req *req = NULL;
	struct update_state *state = NULL;

	req = tevent_req_create(mem_ctx, &state, struct update_state);
	if (req == NULL) {
		return NULL;
	}
	state->ev = ev;
	state->c = c;
	state->db = db;
	state->fn = fn;
	state->private_data = private_data;
	state->keylen = key.len;
	state->key = talloc_memdup(state, key.data, key.len);
	if (tevent_req_nomem(state->key, req)) {
		return tevent_req_post(req, ev);
	}
	update_try(req);
	if (!tevent_req_is_in_progress(req)) {
		return tevent_req_post(req, ev);
	}
	return req;
}

static void update_try(struct tevent_req *req)
{
	struct update_state *state = tevent_req_data(req, struct update_state);
	struct phctdb_bytes key = { .data = state->key, .len = state->keylen };
	struct phctdb_wire_call call = {
		.flags = PHCTDB_CALL_MIGRATE,
		.db_id = state->db->id,
		.function = PHCTDB_CALL_NULL,
		.key = key,
	};
	struct tevent_req *subreq = NULL;
	bool again = false;
	int ret;

	state->tries++;
	if (state->tries > UPDATE_TRIES) {
		tevent_req_error(req, EAGAIN);
		return;
	}
	ret = tdb_chainlock_nonblock(state->db->tdb, to_tdb(key));
	if (ret != 0) {
		subreq = tevent_wakeup_send(
			state, state->ev,
			tevent_timeval_current_ofs(0,
						   UPDATE_PAUSE_MS * 1000));
		if (tevent_req_nomem(subreq, req)) {
			return;
		}
		tevent_req_set_callback(subreq, update_paused, req);
		return;
	}
	ret = update_locked(state, &again);
	tdb_chainunlock(state->db->tdb, to_tdb(key));
	if (tevent_req_error(req, ret)) {
		return;
	}
	if (!again) {
		tevent_req_done(req);
		return;
	}
	subreq = phctdb_call_send(state, state->ev, state->c, &call);
	if (tevent_req_nomem(subreq, req)) {
		return;
	}
	tevent_req_set_callback(subreq, update_migrated, req);
}

static void update_paused(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);

	tevent_wakeup_recv(subreq);
	TALLOC_FREE(subreq);
	update_try(req);
}

static void update_migrated(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	int32_t status = -1;
	int ret;

	ret = phctdb_call_recv(subreq, &status);
	TALLOC_FREE(subreq);
	if (ret == 0 && status < 0) {
		ret = EIO;
	}
	if (tevent_req_error(req, ret)) {
		return;
	}
	update_try(req);
}

/* again: the record is not ours, ask ctdbd for it */
static int update_locked(struct update_state *state, bool *again)
{
	struct phctdb_bytes key = { .data = state->key, .len = state->keylen };
	struct record_copy copy = { .mem_ctx = state };
	struct phctdb_bytes value = {};
	struct phctdb_header header;
	int ret;

	ret = record_get(state->db, key, &copy);
	if (ret == ENOENT || ret == EIO) {
		*again = (ret == ENOENT);
		return ret == ENOENT ? 0 : ret;
	}
	if (ret != 0) {
		return ret;
	}
	if (copy.header.dmaster != state->c->state.pnn ||
	    (copy.header.flags & PHCTDB_REC_READONLY_MASK)) {
		talloc_free(copy.value);
		*again = true;
		return 0;
	}
	header = copy.header;
	state->changed = state->fn(&header, (struct phctdb_bytes) {
					   .data = copy.value,
					   .len = copy.len },
				   &value, state->private_data);
	if (state->changed) {
		copy.header.flags = header.flags;
		copy.header.rsn++;
		ret = record_put(state->db, key, &copy.header, value);
	}
	talloc_free(copy.value);
	return ret;
}

int phctdb_update_recv(struct tevent_req *req, bool *changed)
{
	struct update_state *state = tevent_req_data(req, struct update_state);
	int ret = phctdb_request_result(req);

	if (ret == 0 && changed != NULL) {
		*changed = state->changed;
	}
	tevent_req_received(req);
	return ret == ETIMEDOUT ? EAGAIN : ret;
}

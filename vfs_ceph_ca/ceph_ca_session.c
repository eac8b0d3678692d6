/*
 * vfs_ceph_ca: the table of CephFS sessions
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * One record for each CephFS session of any smbd, key: its uuid. It is
 * written, durably, before the session begins and deleted after it has ended;
 * so every session that can hold something is in the table, while a record
 * may outlive its session (reclaiming it then finds nothing, and it is
 * deleted).
 *
 * The table is a database as locking.tdb is: volatile, with the marked
 * records, here all of them, in phstore. In a cluster every node sees it.
 *
 * The value is text, a line each: format, owner, claim, SMB client, and the
 * three strings that say which CephFS.
 *
 * The claim keeps a hundred smbds that come up together from all reclaiming
 * the same hundred sessions; it means nothing once the claimer is gone.
 */

#include "includes.h"
#include "system/filesys.h"
#include "lib/util/server_id.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_open.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "librpc/gen_ndr/ndr_misc.h"
#include "locking/proto.h"
#include "serverid.h"
#include "util_tdb.h"
#include "ceph_ca_private.h"

#define CEPH_CA_FORMAT "1"
#define CEPH_CA_LINES 7

static struct db_context *ceph_ca_db;

static NTSTATUS ceph_ca_open(void)
{
	char *path = NULL;

	if (ceph_ca_db != NULL) {
		return NT_STATUS_OK;
	}
	path = lock_path(talloc_tos(), "cephfs_session.tdb");
	if (path == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	become_root();
	ceph_ca_db = db_open(NULL,
			     path,
			     SMBD_VOLATILE_TDB_HASH_SIZE,
			     SMBD_VOLATILE_TDB_FLAGS,
			     O_RDWR | O_CREAT,
			     0600,
			     DBWRAP_LOCK_ORDER_1,
			     DBWRAP_FLAG_PER_REC_PERSISTENT);
	unbecome_root();
	if (ceph_ca_db == NULL) {
		DBG_ERR("can not open %s: %s\n", path, strerror(errno));
		TALLOC_FREE(path);
		return NT_STATUS_INTERNAL_DB_ERROR;
	}
	TALLOC_FREE(path);
	return NT_STATUS_OK;
}

static char *ceph_ca_push(TALLOC_CTX *mem_ctx,
			  const struct ceph_ca_record *rec)
{
	struct server_id_buf owner, claim;
	struct GUID_txt_buf client;

	return talloc_asprintf(mem_ctx,
			       CEPH_CA_FORMAT "\n%s\n%s\n%s\n%s\n%s\n%s\n",
			       server_id_str_buf_unique(rec->owner, &owner),
			       server_id_str_buf_unique(rec->claim, &claim),
			       GUID_buf_string(&rec->client, &client),
			       rec->target.conf_file,
			       rec->target.user_id,
			       rec->target.fsname);
}

static bool ceph_ca_pull(TALLOC_CTX *mem_ctx,
			 TDB_DATA key,
			 TDB_DATA value,
			 struct ceph_ca_record *rec)
{
	char *line[CEPH_CA_LINES];
	char *text = NULL;
	char *end = NULL;
	NTSTATUS status;
	size_t i;

	if (key.dsize == 0 || value.dsize == 0) {
		return false;
	}
	text = talloc_strndup(mem_ctx, (char *)value.dptr, value.dsize);
	if (text == NULL) {
		return false;
	}
	for (i = 0; i < CEPH_CA_LINES; i++) {
		line[i] = (i == 0) ? text : end + 1;
		end = strchr(line[i], '\n');
		if (end == NULL) {
			return false;
		}
		*end = '\0';
	}
	if (strcmp(line[0], CEPH_CA_FORMAT) != 0) {
		return false;
	}
	*rec = (struct ceph_ca_record) {
		.uuid = talloc_strndup(mem_ctx,
				       (char *)key.dptr, key.dsize),
		.owner = server_id_from_string(NONCLUSTER_VNN, line[1]),
		.claim = server_id_from_string(NONCLUSTER_VNN, line[2]),
		.target = {
			.conf_file = line[4],
			.user_id = line[5],
			.fsname = line[6],
		},
	};
	if (rec->uuid == NULL) {
		return false;
	}
	status = GUID_from_string(line[3], &rec->client);
	return NT_STATUS_IS_OK(status);
}

static NTSTATUS ceph_ca_store(struct db_record *db_rec,
			      const struct ceph_ca_record *rec)
{
	char *text = ceph_ca_push(talloc_tos(), rec);
	NTSTATUS status;

	if (text == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	status = dbwrap_record_store(
		db_rec,
		make_tdb_data((uint8_t *)text, strlen(text)),
		DBWRAP_STORE_PERSISTENT);
	TALLOC_FREE(text);
	return status;
}

/* Until what this process changed is durable. */
static NTSTATUS ceph_ca_barrier(void)
{
	const struct dbwrap_phstore_progress *p = dbwrap_phstore_progress();
	enum phstore_err err;

	if (p->store == NULL) {
		/* another storage, which syncs within the change */
		return NT_STATUS_OK;
	}
	err = phstore_barrier(p->store, p->lsn, p->barrier_timeout_sec * 1000);
	if (err != PHSTORE_OK) {
		DBG_ERR("the record of a CephFS session is not durable: %s\n",
			phstore_strerror(err));
		return NT_STATUS_IO_TIMEOUT;
	}
	return NT_STATUS_OK;
}

NTSTATUS ceph_ca_record_add(const struct ceph_ca_record *rec)
{
	struct db_record *db_rec = NULL;
	NTSTATUS status;

	status = dbwrap_phstore_ready();
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	status = ceph_ca_open();
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	status = dbwrap_phstore_room();
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	db_rec = dbwrap_fetch_locked(
		ceph_ca_db, talloc_tos(), string_tdb_data(rec->uuid));
	if (db_rec == NULL) {
		return NT_STATUS_INTERNAL_DB_ERROR;
	}
	status = ceph_ca_store(db_rec, rec);
	TALLOC_FREE(db_rec);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	return ceph_ca_barrier();
}

void ceph_ca_record_delete(const char *uuid)
{
	struct db_record *db_rec = NULL;
	NTSTATUS status;

	status = dbwrap_phstore_ready();
	if (NT_STATUS_IS_OK(status)) {
		status = ceph_ca_open();
	}
	if (NT_STATUS_IS_OK(status)) {
		db_rec = dbwrap_fetch_locked(
			ceph_ca_db, talloc_tos(), string_tdb_data(uuid));
		status = (db_rec != NULL) ? dbwrap_record_delete(db_rec)
					  : NT_STATUS_INTERNAL_DB_ERROR;
		TALLOC_FREE(db_rec);
	}
	if (!NT_STATUS_IS_OK(status) &&
	    !NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND))
	{
		DBG_WARNING("record of CephFS session %s stays: %s\n",
			    uuid, nt_errstr(status));
	}
}

static bool ceph_ca_is_dead(const struct ceph_ca_record *rec)
{
	struct server_id owner = rec->owner;

	return !serverid_exists(&owner);
}

struct ceph_ca_dead_state {
	TALLOC_CTX *mem_ctx;
	const struct GUID *client;
	const struct GUID *not_client;
	struct ceph_ca_record *recs;
	size_t num_recs;
	NTSTATUS status;
};

static int ceph_ca_dead_fn(struct db_record *db_rec, void *private_data)
{
	struct ceph_ca_dead_state *state = private_data;
	struct ceph_ca_record rec = {};
	struct ceph_ca_record *recs = NULL;
	bool ok;

	ok = ceph_ca_pull(state->mem_ctx,
			  dbwrap_record_get_key(db_rec),
			  dbwrap_record_get_value(db_rec),
			  &rec);
	if (!ok) {
		DBG_WARNING("a record of cephfs_session is not readable\n");
		return 0;
	}
	if (state->client != NULL && !GUID_equal(state->client, &rec.client)) {
		return 0;
	}
	if (state->not_client != NULL &&
	    GUID_equal(state->not_client, &rec.client))
	{
		return 0;
	}
	recs = talloc_realloc(state->mem_ctx,
			      state->recs,
			      struct ceph_ca_record,
			      state->num_recs + 1);
	if (recs == NULL) {
		state->status = NT_STATUS_NO_MEMORY;
		return -1;
	}
	state->recs = recs;
	state->recs[state->num_recs++] = rec;
	return 0;
}

NTSTATUS ceph_ca_record_dead(TALLOC_CTX *mem_ctx,
			     const struct GUID *client,
			     const struct GUID *not_client,
			     struct ceph_ca_record **recs,
			     size_t *num_recs)
{
	struct ceph_ca_dead_state state = {
		.mem_ctx = mem_ctx,
		.client = client,
		.not_client = not_client,
	};
	NTSTATUS status;
	size_t i, num = 0;

	status = ceph_ca_open();
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	status = dbwrap_traverse_read(
		ceph_ca_db, ceph_ca_dead_fn, &state, NULL);
	if (NT_STATUS_IS_OK(status)) {
		status = state.status;
	}
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	/* not under a lock of the traverse: this may ask another node */
	for (i = 0; i < state.num_recs; i++) {
		if (ceph_ca_is_dead(&state.recs[i])) {
			state.recs[num++] = state.recs[i];
		}
	}
	*recs = state.recs;
	*num_recs = num;
	return NT_STATUS_OK;
}

struct ceph_ca_parse_state {
	TALLOC_CTX *mem_ctx;
	struct ceph_ca_record *rec;
	bool ok;
};

static void ceph_ca_parse_fn(TDB_DATA key, TDB_DATA value, void *private_data)
{
	struct ceph_ca_parse_state *state = private_data;

	state->ok = ceph_ca_pull(state->mem_ctx, key, value, state->rec);
}

bool ceph_ca_record_is_dead(TALLOC_CTX *mem_ctx,
			    const char *uuid,
			    struct ceph_ca_record *rec)
{
	struct ceph_ca_parse_state state = {
		.mem_ctx = mem_ctx,
		.rec = rec,
	};
	NTSTATUS status;

	status = ceph_ca_open();
	if (!NT_STATUS_IS_OK(status)) {
		return false;
	}
	status = dbwrap_parse_record(
		ceph_ca_db, string_tdb_data(uuid), ceph_ca_parse_fn, &state);
	if (!NT_STATUS_IS_OK(status) || !state.ok) {
		return false;
	}
	return ceph_ca_is_dead(rec);
}

bool ceph_ca_record_claim(const char *uuid, struct server_id self)
{
	struct ceph_ca_record rec = {};
	struct db_record *db_rec = NULL;
	bool claimed = false;
	NTSTATUS status;
	bool ok;

	db_rec = dbwrap_fetch_locked(
		ceph_ca_db, talloc_tos(), string_tdb_data(uuid));
	if (db_rec == NULL) {
		return false;
	}
	ok = ceph_ca_pull(db_rec,
			  dbwrap_record_get_key(db_rec),
			  dbwrap_record_get_value(db_rec),
			  &rec);
	if (!ok) {
		goto done;
	}
	if (rec.claim.pid != 0 && serverid_exists(&rec.claim)) {
		goto done;
	}
	rec.claim = self;
	status = ceph_ca_store(db_rec, &rec);
	claimed = NT_STATUS_IS_OK(status);
done:
	TALLOC_FREE(db_rec);
	return claimed;
}

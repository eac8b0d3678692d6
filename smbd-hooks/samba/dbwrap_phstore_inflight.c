/*
 * phstore: what a killed smbd was in the middle of
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A change of a record is made in two places, the log and the volatile
 * database, under the record's lock. A process killed in between leaves them
 * different. The next change of the record stages all of it again, but there
 * may be none: a client asks for a lock, its smbd dies, the client comes
 * back, finds its handle without the lock and closes it, and nobody touches
 * the file's locks any more. While the node is up the volatile database is
 * the truth; after all smbds died the log is, with a lock of nobody in it.
 *
 * So each process notes the record it is about to change in a slot of memory
 * it shares with smbd's parent, and when the parent reaps a killed child it
 * stages what the volatile database has of that record.
 *
 * The memory is mapped by who opens the first database, which is the parent,
 * before it forks. A slot is claimed at a process's first change and free
 * again when the process was reaped. Children of a dead parent have nobody
 * who looks; they end soon after it.
 */

#include "includes.h"
#include "system/filesys.h"
#include <sys/mman.h>
#include <stdatomic.h>
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "librpc/gen_ndr/file_id.h"

#define INFLIGHT_SLOTS 4096
#define INFLIGHT_KEY_MAX 104
#define INFLIGHT_DBS 4

struct inflight_slot {
	_Atomic uint32_t db;	/* 0: nothing, else 1 + index in dbs */
	uint32_t key_len;
	uint8_t key[INFLIGHT_KEY_MAX];
	/* a lock's sequence number; open_id 0: it has none */
	uint64_t number_locks;
	uint32_t number_open_id;
	uint8_t number_bucket;
	uint8_t number_value;
	/* a CLOSE holds back; held_dbs 0: nothing, else bits of 1 << index */
	_Atomic uint32_t held_dbs;
	uint32_t held_open_id;
	uint32_t held_key_len;
	uint8_t held_key[INFLIGHT_KEY_MAX];
	/* a CREATE; open_id 0: none */
	_Atomic uint32_t create_open_id;
	uint32_t create_name_hash;
	struct file_id create_file;
	/* a CLOSE removes it with its entry, in one transaction; 0: none */
	_Atomic uint32_t closing_open_id;
	struct file_id closing_file;
};

struct inflight_map {
	_Atomic uint32_t pids[INFLIGHT_SLOTS];	/* 0: free */
	struct inflight_slot slots[INFLIGHT_SLOTS];
};

static struct {
	struct inflight_map *map;
	struct db_context *dbs[INFLIGHT_DBS];
	struct inflight_slot *mine;
	pid_t mine_pid;
} inflight;

unsigned dbwrap_phstore_inflight_add(struct db_context *db)
{
	unsigned i;

	if (inflight.map == NULL) {
		void *p = mmap(NULL,
			       sizeof(struct inflight_map),
			       PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS,
			       -1,
			       0);
		if (p == MAP_FAILED) {
			DBG_ERR("phstore: no memory for the changes in "
				"flight: %s\n", strerror(errno));
			return 0;
		}
		inflight.map = p;
	}
	for (i = 0; i < INFLIGHT_DBS; i++) {
		if (inflight.dbs[i] == NULL) {
			inflight.dbs[i] = db;
			return i + 1;
		}
	}
	return 0;
}

void dbwrap_phstore_inflight_remove(unsigned idx)
{
	if (idx != 0) {
		inflight.dbs[idx - 1] = NULL;
	}
}

struct db_context *dbwrap_phstore_inflight_db(unsigned idx)
{
	return (idx != 0) ? inflight.dbs[idx - 1] : NULL;
}

static void inflight_claim(pid_t pid)
{
	unsigned i;

	inflight.mine = NULL;
	inflight.mine_pid = pid;

	for (i = 0; i < INFLIGHT_SLOTS; i++) {
		unsigned n = ((unsigned)pid + i) % INFLIGHT_SLOTS;
		uint32_t none = 0;
		bool ok;

		ok = atomic_compare_exchange_strong(
			&inflight.map->pids[n], &none, (uint32_t)pid);
		if (ok) {
			inflight.mine = &inflight.map->slots[n];
			return;
		}
	}
	DBG_NOTICE("phstore: more than %d processes change records\n",
		   INFLIGHT_SLOTS);
}

static struct inflight_slot *inflight_mine(void)
{
	pid_t pid = tevent_cached_getpid();

	if (inflight.map == NULL) {
		return NULL;
	}
	if (inflight.mine_pid != pid) {
		inflight_claim(pid);
	}
	return inflight.mine;
}

void dbwrap_phstore_inflight_number(uint32_t open_id,
				    uint8_t bucket,
				    uint8_t value,
				    uint64_t locks)
{
	struct inflight_slot *s = inflight_mine();

	if (s == NULL) {
		return;
	}
	s->number_locks = locks;
	s->number_bucket = bucket;
	s->number_value = value;
	s->number_open_id = open_id;
}

void dbwrap_phstore_inflight_held(unsigned idx, TDB_DATA key, uint32_t open_id)
{
	struct inflight_slot *s = inflight_mine();

	if (s == NULL || key.dsize > sizeof(s->held_key)) {
		return;
	}
	if (idx == 0) {
		atomic_store(&s->held_dbs, 0);
		return;
	}
	memcpy(s->held_key, key.dptr, key.dsize);
	s->held_key_len = key.dsize;
	s->held_open_id = open_id;
	atomic_fetch_or(&s->held_dbs, 1U << (idx - 1));
}

void dbwrap_phstore_inflight_creating(uint32_t open_id,
				      const struct file_id *file,
				      uint32_t name_hash)
{
	struct inflight_slot *s = inflight_mine();

	if (s == NULL) {
		return;
	}
	if (open_id != 0) {
		s->create_file = *file;
		s->create_name_hash = name_hash;
	}
	atomic_store(&s->create_open_id, open_id);
}

void dbwrap_phstore_inflight_closing(uint32_t open_id,
				     const struct file_id *file)
{
	struct inflight_slot *s = inflight_mine();

	if (s == NULL) {
		return;
	}
	if (open_id != 0) {
		s->closing_file = *file;
	}
	atomic_store(&s->closing_open_id, open_id);
}

void dbwrap_phstore_inflight_begin(unsigned idx, TDB_DATA key)
{
	struct inflight_slot *s = NULL;

	if (idx == 0) {
		return;
	}
	s = inflight_mine();
	if (s == NULL || key.dsize > sizeof(s->key)) {
		return;
	}
	memcpy(s->key, key.dptr, key.dsize);
	s->key_len = key.dsize;
	atomic_store(&s->db, idx);
}

void dbwrap_phstore_inflight_end(void)
{
	bool is_held = dbwrap_phstore_number_is_held();

	if (is_held) {
		/* it goes on */
		return;
	}
	if (inflight.mine != NULL &&
	    inflight.mine_pid == tevent_cached_getpid())
	{
		atomic_store(&inflight.mine->db, 0);
		inflight.mine->number_open_id = 0;
	}
}

/* Stage what the volatile database has of this record, if it differs. */
static bool inflight_restage(struct db_context *db, TDB_DATA key)
{
	struct db_phstore_ctx *ctx = talloc_get_type_abort(
		db->private_data, struct db_phstore_ctx);
	TALLOC_CTX *frame = talloc_stackframe();
	struct db_phstore_rec *prec = NULL;
	struct db_record *rec = NULL;
	TDB_DATA form = {};
	enum phstore_err err;
	size_t len = 0;
	NTSTATUS status;
	bool done = false;

	if (ctx->restage != NULL) {
		ctx->restage(db, key);
		done = true;
		goto done;
	}
	rec = dbwrap_fetch_locked(db, frame, key);
	if (rec == NULL) {
		DBG_ERR("%s: no lock on a killed smbd's record\n",
			ctx->table);
		goto done;
	}
	if (rec->flags.persistent) {
		TDB_DATA value = dbwrap_record_get_value(rec);

		status = dbwrap_phstore_form(ctx, &value, 1, &form, &len);
		if (!NT_STATUS_IS_OK(status)) {
			DBG_ERR("%s: %s\n", ctx->table, nt_errstr(status));
			goto done;
		}
	}
	prec = rec->private_data;
	if (prec->kept && form.dsize != 0) {
		err = dbwrap_phstore_stage_kept(ctx, key, &form);
	} else {
		err = dbwrap_phstore_stage(
			ctx, key, form.dsize != 0 ? &form : NULL, true);
	}
	if (err != PHSTORE_OK) {
		dbwrap_phstore_failed(ctx, "restage", err, false);
		goto done;
	}
	done = true;
done:
	TALLOC_FREE(frame);
	return done;
}

/* The database of opens, NULL: it is gone */
static struct db_context *inflight_opens(void)
{
	unsigned i;

	for (i = 0; i < INFLIGHT_DBS; i++) {
		struct db_phstore_ctx *ctx = NULL;

		if (inflight.dbs[i] == NULL) {
			continue;
		}
		ctx = talloc_get_type_abort(inflight.dbs[i]->private_data,
					    struct db_phstore_ctx);
		if (ctx->is_opens) {
			return inflight.dbs[i];
		}
	}
	return NULL;
}

static bool inflight_restage_open(uint32_t open_id)
{
	uint8_t keybuf[sizeof(uint32_t)];
	TDB_DATA key = make_tdb_data(keybuf, sizeof(keybuf));
	struct db_context *db = inflight_opens();

	RSIVAL(keybuf, 0, open_id);
	return db != NULL && inflight_restage(db, key);
}

void dbwrap_phstore_restage_open(uint32_t open_id)
{
	(void)inflight_restage_open(open_id);
}

/* Are the locks those it was about to store? */
static bool inflight_locks_are_stored(const struct inflight_slot *s,
				      struct db_context *db,
				      TDB_DATA key)
{
	struct db_record *rec = NULL;
	TDB_DATA value = {};
	uint64_t locks;

	rec = dbwrap_fetch_locked(db, talloc_tos(), key);
	if (rec == NULL) {
		return false;
	}
	value = dbwrap_record_get_value(rec);
	locks = dbwrap_phstore_number_hash(&value, 1);
	TALLOC_FREE(rec);
	return locks == s->number_locks;
}

/*
 * The store has the lock and the number, or none. The volatile database has
 * none, or the lock, or both; in a cluster the store has none if that has not
 * both. The number is to be where the lock is.
 */
static void inflight_restage_numbered(const struct inflight_slot *s,
				      struct db_context *db,
				      TDB_DATA key,
				      const struct dbwrap_phstore_gone_fns *fns)
{
	bool closes = s->number_bucket == PHSTORE_NUMBER_CLOSED;
	TALLOC_CTX *frame = talloc_stackframe();
	bool is_stored;

	if (lp_clustering() && dbwrap_phstore_epoch() == 0) {
		/* the next epoch drops it: nothing of it was acknowledged */
		goto done;
	}
	is_stored = inflight_locks_are_stored(s, db, key);
	if (is_stored && !closes) {
		(void)inflight_restage(db, key);
	}
	if (is_stored) {
		fns->set_number(s->number_open_id,
				s->number_bucket,
				s->number_value);
	}
	/* never a number whose lock is not there: the open goes first */
	dbwrap_phstore_restage_open(s->number_open_id);
	if (!is_stored || closes) {
		/* never a handle without its locks: it is closed first */
		(void)inflight_restage(db, key);
	}
done:
	TALLOC_FREE(frame);
}

/* False: it has, or who knows. */
static bool inflight_store_lacks_open(uint32_t open_id)
{
	uint8_t keybuf[sizeof(uint32_t)];
	struct phstore_blob key = { .data = keybuf, .len = sizeof(keybuf) };
	struct phstore *store = dbwrap_phstore_store(false);
	struct db_context *db = inflight_opens();
	struct db_phstore_ctx *ctx = NULL;
	TALLOC_CTX *frame = NULL;
	struct phstore_record rec = {};
	enum phstore_err err;

	if (store == NULL || db == NULL) {
		return false;
	}
	frame = talloc_stackframe();
	ctx = talloc_get_type_abort(db->private_data, struct db_phstore_ctx);
	RSIVAL(keybuf, 0, open_id);
	err = phstore_get(frame, store, ctx->table, key, &rec);
	TALLOC_FREE(frame);
	if (err != PHSTORE_OK && err != PHSTORE_ERR_NOT_FOUND) {
		dbwrap_phstore_failed(ctx, "read", err, false);
	}
	return err == PHSTORE_ERR_NOT_FOUND;
}

/*
 * It was in the middle of a CLOSE that removes a share mode entry and its open
 * in one transaction, which was staged. The volatile databases have the entry:
 * both are staged again, as they are there. Or they have it no more: the open
 * goes there, too. False: the entry must not be staged.
 */
static bool inflight_restage_closing(const struct inflight_slot *s,
				     const struct dbwrap_phstore_gone_fns *fns)
{
	uint32_t open_id = atomic_load(&s->closing_open_id);
	bool ok;

	ok = open_id != 0 && inflight_store_lacks_open(open_id);
	if (!ok) {
		return true;
	}
	ok = fns->has_entry(open_id, &s->closing_file);
	if (!ok) {
		fns->remove(open_id);
		return true;
	}
	/* first: no entry must be there whose open is missing */
	return inflight_restage_open(open_id);
}

static bool inflight_is_entry(const struct db_context *db,
			      TDB_DATA key,
			      const struct file_id *file)
{
	TDB_DATA file_key = make_tdb_data((const uint8_t *)file,
					  sizeof(*file));
	struct db_phstore_ctx *ctx = NULL;

	if (db == NULL) {
		return false;
	}
	ctx = talloc_get_type_abort(db->private_data, struct db_phstore_ctx);
	return ctx->is_shares && tdb_data_equal(key, file_key);
}

/*
 * It was in the middle of a CLOSE: the volatile databases lack what it had
 * removed, the store has it all.
 */
static void inflight_restage_held(const struct inflight_slot *s)
{
	uint32_t dbs = atomic_load(&s->held_dbs);
	TDB_DATA key = {
		.dptr = discard_const_p(uint8_t, s->held_key),
		.dsize = s->held_key_len,
	};
	unsigned i;

	if (dbs == 0 || s->held_key_len > sizeof(s->held_key)) {
		return;
	}
	/* the open first: it must not be there without its locks */
	dbwrap_phstore_restage_open(s->held_open_id);
	for (i = 0; i < INFLIGHT_DBS; i++) {
		if (inflight.dbs[i] != NULL && (dbs & (1U << i))) {
			(void)inflight_restage(inflight.dbs[i], key);
		}
	}
}

void dbwrap_phstore_child_gone(pid_t pid,
			       const struct dbwrap_phstore_gone_fns *fns)
{
	unsigned i;

	if (inflight.map == NULL) {
		return;
	}
	for (i = 0; i < INFLIGHT_SLOTS; i++) {
		unsigned n = ((unsigned)pid + i) % INFLIGHT_SLOTS;
		struct inflight_slot *s = &inflight.map->slots[n];
		uint32_t owner = atomic_load(&inflight.map->pids[n]);
		TDB_DATA key = { .dptr = s->key };
		struct db_context *db = NULL;
		uint32_t open_id;
		uint32_t idx;
		bool ok;

		if (owner != (uint32_t)pid) {
			continue;
		}
		idx = atomic_load(&s->db);
		if (idx > 0 && idx <= INFLIGHT_DBS &&
		    inflight.dbs[idx - 1] != NULL &&
		    s->key_len <= sizeof(s->key))
		{
			db = inflight.dbs[idx - 1];
			key.dsize = s->key_len;
		}
		ok = inflight_restage_closing(s, fns);
		if (!ok && inflight_is_entry(db, key, &s->closing_file)) {
			db = NULL;
		}
		if (db != NULL && s->number_open_id != 0) {
			inflight_restage_numbered(s, db, key, fns);
		} else if (db != NULL) {
			(void)inflight_restage(db, key);
		}
		inflight_restage_held(s);
		open_id = atomic_load(&s->create_open_id);
		if (open_id != 0) {
			fns->scavenge(open_id,
				      &s->create_file,
				      s->create_name_hash);
		}
		s->number_open_id = 0;
		atomic_store(&s->db, 0);
		atomic_store(&s->held_dbs, 0);
		atomic_store(&s->create_open_id, 0);
		atomic_store(&s->closing_open_id, 0);
		atomic_store(&inflight.map->pids[n], 0);
		return;
	}
}

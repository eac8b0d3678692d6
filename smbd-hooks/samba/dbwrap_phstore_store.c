/*
 * phstore: the one store of this process, and what smb.conf says about it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * All databases of a process share one store handle: their changes are one
 * sequence in one log, so one barrier covers what a request changed in all
 * three. The handle is opened by the first database that needs it (in smbd
 * the parent, before it forks) and is inherited by the children.
 *
 * smb.conf, all in [global]; a value that is not understood is refused,
 * never replaced by a default:
 *
 *   phstore:backend             local | rados | none (none: upstream's own
 *                               storage); in a cluster ctdb | rados | none,
 *                               and none if not set
 *   phstore:path                <state directory>/phstore
 *   phstore:durability          sync | local, in a cluster also replicated;
 *                               with rados sync and replicated are the same
 *   phstore:durability.<table>  the same, for one table
 *   phstore:segment size        bytes, K and M are understood
 *   phstore:allow volatile      no | yes: the store may lie on a tmpfs
 *   phstore:durable v2          yes | no, see dbwrap_phstore_kept.c
 *   phstore:barrier timeout     seconds, 60
 *   phstore:gate timeout        seconds, 20, with phstored
 */

#include "includes.h"
#include "system/filesys.h"
#include "smbd_shim.h"
#include "lib/param/param.h"
#include "lib/phstore/phstore_ship.h"
#include "lib/util_path.h"
#include "lib/util/smb_strtox.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"

#define DB_PHSTORE_SEGMENT_MIN (64 * 1024)
#define DB_PHSTORE_SEGMENT_MAX (1024 * 1024 * 1024)
#define DB_PHSTORE_BARRIER_TIMEOUT 60
/* more than the records of one request take */
#define DB_PHSTORE_ROOM (16 * 1024)
/* how often the gate may close between two looks at it */
#define DB_PHSTORE_ROOM_TRIES 100
#define DB_PHSTORE_TIMEOUT_MAX 3600
#define DB_PHSTORE_GATE_TIMEOUT 20

static struct {
	struct dbwrap_phstore_progress progress;
	uint32_t gate_timeout_sec;
	bool rdonly;
	/* not in a cluster: what the volatile databases were filled in */
	uint64_t generation;
	pid_t opener;
	void (*fatal_fn)(const char *reason);
	pid_t fatal_pid;
	time_t last_complaint;
	bool more;
} global;

static const char *db_phstore_param(const char *option, const char *def)
{
	return lp_parm_const_string(
		GLOBAL_SECTION_SNUM, "phstore", option, def);
}

static const char *db_phstore_backend(void)
{
	return db_phstore_param("backend", lp_clustering() ? "none" : "local");
}

/* Its log is shipped by phstored, which opens and closes the gate. */
bool dbwrap_phstore_has_sink(void)
{
	return !strequal(db_phstore_backend(), "local");
}

static bool db_phstore_is_rados(void)
{
	return strequal(db_phstore_backend(), "rados");
}

bool dbwrap_phstore_wanted_ctdb(uint64_t dbwrap_flags)
{
	if (!(dbwrap_flags & DBWRAP_FLAG_PER_REC_PERSISTENT)) {
		return false;
	}
	return !strequal(db_phstore_backend(), "none");
}

bool dbwrap_phstore_wanted(uint64_t dbwrap_flags)
{
	const char *backend = NULL;

	if (!(dbwrap_flags & DBWRAP_FLAG_PER_REC_PERSISTENT)) {
		return false;
	}
	if (lp_clustering()) {
		return false;
	}
	backend = db_phstore_backend();
	return !strequal(backend, "none");
}

static bool db_phstore_durability(const char *option,
				  const char *def,
				  enum phstore_class *durability)
{
	const char *val = db_phstore_param(option, def);

	if (val == NULL) {
		return true;
	}
	if (strequal(val, "sync")) {
		/* RADOS answers when it is on disks, others' than ours */
		*durability = db_phstore_is_rados() ?
			      PHSTORE_CLASS_REPLICATED : PHSTORE_CLASS_SYNC;
		return true;
	}
	if (strequal(val, "local")) {
		*durability = PHSTORE_CLASS_LOCAL;
		return true;
	}
	if (strequal(val, "replicated") && dbwrap_phstore_has_sink()) {
		*durability = PHSTORE_CLASS_REPLICATED;
		return true;
	}
	DBG_ERR("smb.conf: phstore:%s = %s is not understood, "
		"use sync%s or local\n", option, val,
		dbwrap_phstore_has_sink() ? ", replicated" : "");
	return false;
}

bool dbwrap_phstore_table_config(struct db_phstore_ctx *ctx)
{
	const char *backend = db_phstore_backend();
	const char *want = lp_clustering() ? "ctdb" : "local";
	char *option = NULL;
	bool ok;

	ok = strequal(backend, want) || db_phstore_is_rados();
	if (!ok) {
		DBG_ERR("smb.conf: phstore:backend = %s is not understood "
			"with clustering = %s, use %s, rados or none. "
			"Persistent handles can not be served.\n",
			backend, lp_clustering() ? "yes" : "no", want);
		return false;
	}

	ok = db_phstore_durability("durability", "sync", &ctx->durability);
	if (!ok) {
		return false;
	}
	option = talloc_asprintf(ctx, "durability.%s", ctx->table);
	if (option == NULL) {
		return false;
	}
	ok = db_phstore_durability(option, NULL, &ctx->durability);
	TALLOC_FREE(option);
	if (ctx->durability > global.progress.durability) {
		global.progress.durability = ctx->durability;
	}
	return ok;
}

/* "/lock/locking.tdb" is table "locking" */
static const char *db_phstore_table_name(TALLOC_CTX *mem_ctx,
					 const char *name)
{
	const char *base = strrchr_m(name, '/');
	const char *dot = NULL;
	size_t len;

	base = (base != NULL) ? base + 1 : name;
	len = strlen(base);
	dot = strrchr_m(base, '.');
	if (dot != NULL && dot != base) {
		len = dot - base;
	}
	return talloc_strndup(mem_ctx, base, MIN(len, PHSTORE_TABLE_MAX));
}

static int db_phstore_ctx_destructor(struct db_phstore_ctx *ctx)
{
	dbwrap_phstore_inflight_remove(ctx->inflight_idx);
	if (ctx->is_opens) {
		dbwrap_phstore_number_opens(NULL);
		dbwrap_phstore_closing_opens(NULL);
		dbwrap_phstore_creating_opens(NULL);
	}
	return 0;
}

struct db_phstore_ctx *db_phstore_ctx_new(TALLOC_CTX *mem_ctx,
					  const char *name)
{
	struct db_phstore_ctx *ctx = NULL;

	ctx = talloc_zero(mem_ctx, struct db_phstore_ctx);
	if (ctx == NULL) {
		return NULL;
	}
	ctx->path = talloc_strdup(ctx, name);
	ctx->table = db_phstore_table_name(ctx, name);
	if (ctx->path == NULL || ctx->table == NULL) {
		TALLOC_FREE(ctx);
		return NULL;
	}
	ctx->kind = phstore_canon_kind_of(ctx->table);
	/*
	 * brlock.c panics when a store fails, the share mode code loses
	 * count of its own locks and panics later.
	 */
	ctx->is_locks = strequal(ctx->table, "brlock");
	ctx->is_shares = strequal(ctx->table, "locking");
	ctx->put_must_work = ctx->is_locks || ctx->is_shares;
	ctx->is_opens = strequal(ctx->table, "smbXsrv_open_global");
	ctx->is_last = ctx->is_opens || ctx->is_locks;
	ctx->pad = ctx->is_opens ? DB_PHSTORE_PAD_OPEN : DB_PHSTORE_PAD;
	if (ctx->is_opens) {
		dbwrap_phstore_number_opens(ctx);
		dbwrap_phstore_closing_opens(ctx);
		dbwrap_phstore_creating_opens(ctx);
	}
	talloc_set_destructor(ctx, db_phstore_ctx_destructor);
	return ctx;
}

static bool db_phstore_timeout(const char *option,
			       uint32_t def,
			       uint32_t *timeout_sec)
{
	const char *val = db_phstore_param(option, NULL);
	unsigned long sec;
	int err = 0;

	*timeout_sec = def;
	if (val == NULL) {
		return true;
	}
	sec = smb_strtoul(val, NULL, 10, &err, SMB_STR_FULL_STR_CONV);
	if (err != 0 || sec < 1 || sec > DB_PHSTORE_TIMEOUT_MAX) {
		DBG_ERR("smb.conf: phstore:%s = %s is not "
			"understood, use 1 to %d seconds\n",
			option, val, DB_PHSTORE_TIMEOUT_MAX);
		return false;
	}
	*timeout_sec = sec;
	return true;
}

static bool db_phstore_open_options(struct phstore_open_options *opts)
{
	const char *val = NULL;
	bool allow_volatile = false;
	bool ok;

	val = db_phstore_param("segment size", NULL);
	if (val != NULL) {
		ok = conv_str_size_error(val, &opts->segment_size);
		if (!ok || opts->segment_size < DB_PHSTORE_SEGMENT_MIN ||
		    opts->segment_size > DB_PHSTORE_SEGMENT_MAX)
		{
			DBG_ERR("smb.conf: phstore:segment size = %s is not "
				"understood, use 64K to 1G\n", val);
			return false;
		}
	}

	val = db_phstore_param("allow volatile", NULL);
	if (val != NULL) {
		ok = set_boolean(val, &allow_volatile);
		if (!ok) {
			DBG_ERR("smb.conf: phstore:allow volatile = %s is "
				"not understood, use yes or no\n", val);
			return false;
		}
	}
	if (allow_volatile) {
		opts->flags |= PHSTORE_OPEN_ALLOW_VOLATILE;
	}

	ok = dbwrap_phstore_keeps_config();
	if (!ok) {
		return false;
	}
	ok = db_phstore_timeout("gate timeout",
				DB_PHSTORE_GATE_TIMEOUT,
				&global.gate_timeout_sec);
	if (!ok) {
		return false;
	}
	return db_phstore_timeout("barrier timeout",
				  DB_PHSTORE_BARRIER_TIMEOUT,
				  &global.progress.barrier_timeout_sec);
}

static void db_phstore_become_owner(void *private_data)
{
	become_root();
}

static void db_phstore_unbecome_owner(void *private_data)
{
	unbecome_root();
}

static void db_phstore_log(void *private_data, int level, const char *msg)
{
	int dbglvl = DBGLVL_DEBUG;

	if (level <= 3) {
		dbglvl = DBGLVL_ERR;
	} else if (level == 4) {
		dbglvl = DBGLVL_WARNING;
	} else if (level <= 6) {
		dbglvl = DBGLVL_NOTICE;
	}
	DBG_PREFIX(dbglvl, ("phstore: %s\n", msg));
}

/*
 * The last sync of what nobody waited for (disconnects, the scavenger's
 * removals). Children leave it to the others: the log is one.
 */
static void db_phstore_at_exit(void)
{
	struct phstore *store = global.progress.store;

	if (store == NULL || global.opener != tevent_cached_getpid()) {
		return;
	}
	global.progress.store = NULL;
	(void)phstore_close(store);
}

static void db_phstore_report(struct phstore *store, const char *path)
{
	struct phstore_stat st = {};
	enum phstore_err err;
	uint64_t i;

	err = phstore_stat(store, &st);
	if (err != PHSTORE_OK) {
		return;
	}
	DBG_NOTICE("phstore: %s is open, %"PRIu64" records, epoch "
		   "%"PRIu64", recovery took %"PRIu64" us\n",
		   path, st.num_records, st.epoch, st.recovery_us);

	for (i = 0; i < st.num_damaged; i++) {
		struct phstore_damage damage = {};

		err = phstore_damage_get(store, i, &damage);
		if (err != PHSTORE_OK) {
			break;
		}
		DBG_ERR("phstore: %s/%s is damaged at byte %"PRIu64" "
			"(%"PRIu64" bytes): %s. Records there are lost, "
			"all others are served.\n",
			path, damage.file, damage.offset, damage.len,
			damage.reason);
	}
}

struct phstore *dbwrap_phstore_store(bool rdonly)
{
	struct phstore_open_options opts = {
		.become_owner = db_phstore_become_owner,
		.unbecome_owner = db_phstore_unbecome_owner,
		.log_fn = db_phstore_log,
	};
	struct phstore *store = NULL;
	const char *path = NULL;
	char *def_path = NULL;
	enum phstore_err err;
	int ret;
	bool ok;

	if (global.progress.store != NULL) {
		if (rdonly || !global.rdonly) {
			return global.progress.store;
		}
		/* first only looked at, now to be written */
		(void)phstore_close(global.progress.store);
		global.progress.store = NULL;
	}

	ok = db_phstore_open_options(&opts);
	if (!ok) {
		return NULL;
	}
	def_path = state_path(talloc_tos(), "phstore");
	if (def_path == NULL) {
		return NULL;
	}
	path = db_phstore_param("path", def_path);
	opts.backend = db_phstore_is_rados() ? "rados" :
		       dbwrap_phstore_has_sink() ? "ctdb" : "local";

	become_root();
	if (rdonly) {
		opts.flags |= PHSTORE_OPEN_RDONLY;
	} else if (!dbwrap_phstore_has_sink()) {
		opts.flags |= PHSTORE_OPEN_CREATE;
		ret = mkdir(path, 0700);
		if (ret != 0 && errno != EEXIST) {
			DBG_ERR("phstore: can not make %s: %s\n",
				path, strerror(errno));
		}
	}
	err = phstore_open(NULL, path, &opts, &store);
	unbecome_root();

	if (err != PHSTORE_OK) {
		DBG_ERR("phstore: can not open %s: %s (%s). Persistent "
			"handles can not be served.%s\n",
			path, phstore_strerror(err), phstore_last_error(),
			(dbwrap_phstore_has_sink() &&
			 err == PHSTORE_ERR_NO_STORE) ?
			" phstored makes this store: start it first, with "
			"the same path." : "");
		TALLOC_FREE(def_path);
		return NULL;
	}

	global.progress.store = store;
	global.rdonly = rdonly;
	if (!rdonly) {
		db_phstore_report(store, path);
		if (global.opener == 0) {
			atexit(db_phstore_at_exit);
		}
	}
	global.opener = tevent_cached_getpid();
	TALLOC_FREE(def_path);
	return store;
}

const struct dbwrap_phstore_progress *dbwrap_phstore_progress(void)
{
	return &global.progress;
}

void dbwrap_phstore_more(bool more)
{
	global.more = more;
}

void dbwrap_phstore_set_fatal(void (*fn)(const char *reason))
{
	global.fatal_fn = fn;
	global.fatal_pid = tevent_cached_getpid();
}

/* Is this one client's smbd, not the scavenger, the parent or a tool? */
bool dbwrap_phstore_serves_client(void)
{
	return global.fatal_fn != NULL &&
	       global.fatal_pid == tevent_cached_getpid();
}

bool dbwrap_phstore_is_rdonly(void)
{
	return global.progress.store != NULL && global.rdonly;
}

bool dbwrap_phstore_is_helper(void)
{
	bool serves = dbwrap_phstore_serves_client();

	return !serves && global.opener != 0 &&
	       global.opener != tevent_cached_getpid();
}

NTSTATUS dbwrap_phstore_map_err(enum phstore_err err)
{
	switch (err) {
	case PHSTORE_OK:
		return NT_STATUS_OK;
	case PHSTORE_ERR_NOT_FOUND:
		return NT_STATUS_NOT_FOUND;
	case PHSTORE_ERR_INVALID:
		return NT_STATUS_INVALID_PARAMETER;
	case PHSTORE_ERR_TOO_BIG:
		return NT_STATUS_INSUFFICIENT_RESOURCES;
	case PHSTORE_ERR_NO_MEMORY:
		return NT_STATUS_NO_MEMORY;
	case PHSTORE_ERR_FULL:
		return NT_STATUS_DISK_FULL;
	case PHSTORE_ERR_READ_ONLY:
		return NT_STATUS_MEDIA_WRITE_PROTECTED;
	case PHSTORE_ERR_CORRUPT:
		return NT_STATUS_INTERNAL_DB_CORRUPTION;
	case PHSTORE_ERR_TIMEOUT:
		return NT_STATUS_IO_TIMEOUT;
	case PHSTORE_ERR_NOT_READY:
	case PHSTORE_ERR_FENCED:
		return NT_STATUS_FILE_NOT_AVAILABLE;
	default:
		return NT_STATUS_UNEXPECTED_IO_ERROR;
	}
}

/*
 * The store refused. Nothing was changed, here or there, and the caller is
 * told; a reply that would acknowledge the change is not sent
 * (phstore_smbd.c looks at progress.failures).
 *
 * is_fatal: the caller would ignore the error or panic. The process then
 * ends at once, as if it had been killed: its client reconnects, finds its
 * handles as they were before the change, and asks again.
 */
void dbwrap_phstore_failed(const struct db_phstore_ctx *ctx,
			   const char *what,
			   enum phstore_err err,
			   bool is_fatal)
{
	bool can_end = dbwrap_phstore_serves_client();
	time_t now = time_mono(NULL);

	global.progress.failures += 1;

	if (now != global.last_complaint || (is_fatal && can_end)) {
		global.last_complaint = now;
		DBG_ERR("phstore: %s in table %s refused: %s (%s)\n",
			what, ctx->table, phstore_strerror(err),
			phstore_last_error());
	}
	if (is_fatal && can_end) {
		global.fatal_fn(phstore_strerror(err));
	}
}

void dbwrap_phstore_too_late(const char *what)
{
	global.progress.failures += 1;
	if (dbwrap_phstore_serves_client()) {
		global.fatal_fn(what);
	}
	smb_panic(what);
}

NTSTATUS dbwrap_phstore_room(void)
{
	enum phstore_err err = PHSTORE_OK;
	NTSTATUS status;
	unsigned i;

	if (global.progress.store == NULL) {
		return NT_STATUS_OK;
	}
	for (i = 0; i < DB_PHSTORE_ROOM_TRIES; i++) {
		/* a new epoch takes a moment, a client should not hear of it */
		status = dbwrap_phstore_ready();
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
#ifdef PHSTORE_HAVE_ROOM
		err = phstore_room(global.progress.store, DB_PHSTORE_ROOM);
#endif
		if (err != PHSTORE_ERR_NOT_READY) {
			break;
		}
		/* closed again since */
	}
	return dbwrap_phstore_map_err(err);
}

/*
 * Which life of this node the volatile databases belong to. 0: a store that
 * is this machine's only, or a cluster, where each record knows.
 */
uint64_t dbwrap_phstore_generation(void)
{
	return lp_clustering() ? 0 : global.generation;
}

/* Before the volatile databases are filled: the store must be complete. */
bool dbwrap_phstore_complete(struct phstore *store, uint64_t *epoch)
{
	struct phstore_gate gate = {};
	NTSTATUS status;
	bool has_sink;

	*epoch = 0;
	status = dbwrap_phstore_ready();
	if (!NT_STATUS_IS_OK(status)) {
		return false;
	}
	has_sink = phstore_gate_get(store, &gate);
	if (!has_sink) {
		return true;
	}
	*epoch = gate.epoch;
	if (global.generation == 0) {
		global.generation = gate.generation;
	}
	return gate.open && global.generation == gate.generation;
}

uint32_t dbwrap_phstore_gate_timeout(void)
{
	return global.gate_timeout_sec;
}

NTSTATUS dbwrap_phstore_ready(void)
{
	struct phstore *store = global.progress.store;
	struct phstore_ship_state st = {};
	enum phstore_err err;

	if (store == NULL || phstore_gate_is_open(store)) {
		return NT_STATUS_OK;
	}
	err = phstore_gate_wait(store, global.gate_timeout_sec * 1000);
	if (err == PHSTORE_OK) {
		return NT_STATUS_OK;
	}
	err = phstore_ship_get_state(store, &st);
	DBG_ERR("phstore: this node takes no part in its store: %s. Files "
		"can not be opened or locked.\n",
		(err != PHSTORE_OK) ? "phstored was never started with it" :
		!st.attached ? "phstored does not run" : st.reason);
	return NT_STATUS_FILE_NOT_AVAILABLE;
}

uint64_t dbwrap_phstore_epoch(void)
{
	struct phstore_gate gate = {};
	bool ok;

	if (global.progress.store == NULL || !lp_clustering()) {
		return 0;
	}
	ok = phstore_gate_get(global.progress.store, &gate);
	if (!ok || !gate.open) {
		return 0;
	}
	return gate.epoch;
}

void dbwrap_phstore_covered(const struct db_phstore_ctx *ctx, uint64_t lsn)
{
	if (ctx->durability == PHSTORE_CLASS_LOCAL) {
		return;
	}
	global.progress.stages += 1;
	global.progress.lsn = MAX(global.progress.lsn, lsn);
}

void dbwrap_phstore_staged(const struct db_phstore_ctx *ctx, uint64_t lsn)
{
	struct phstore *store = global.progress.store;

	/*
	 * Also when nothing was appended: what was there already may be
	 * another process's change that is not durable yet.
	 */
	dbwrap_phstore_covered(ctx, lsn);
	if (ctx->is_last && !global.more &&
	    ctx->durability == PHSTORE_CLASS_SYNC)
	{
		/* while the response is built */
		phstore_barrier_start(store, global.progress.lsn);
	}
	if (ctx->is_last && ctx->durability == PHSTORE_CLASS_LOCAL) {
		/* a handle is there or not there: others should know soon */
		phstore_kick(store);
	}
}

enum phstore_err dbwrap_phstore_stage(const struct db_phstore_ctx *ctx,
				      TDB_DATA key,
				      const TDB_DATA *value,
				      bool releases)
{
	return dbwrap_phstore_stage_version(ctx, key, value, releases, NULL);
}

enum phstore_err dbwrap_phstore_stage_version(
	const struct db_phstore_ctx *ctx,
	TDB_DATA key,
	const TDB_DATA *value,
	bool releases,
	const struct phstore_version *version)
{
	struct phstore *store = NULL;
	struct phstore_txn *txn = NULL;
	struct phstore_op_options opts = {
		.durability = ctx->durability,
		.skip_same = true,
#ifdef PHSTORE_HAVE_USE_RESERVE
		.use_reserve = releases,
#endif
	};
	struct phstore_blob pkey = { .data = key.dptr, .len = key.dsize };
	enum phstore_err err;
	uint64_t lsn = 0;

	bool again;

	dbwrap_phstore_closing_changed(ctx);
	if (version != NULL) {
		bool is_held;

		is_held = dbwrap_phstore_number_hold(
			ctx, key, value, releases, version);
		if (is_held) {
			return PHSTORE_OK;
		}
		opts.version = *version;
		opts.skip_same = false;
	}
	if (version != NULL || ctx->is_locks || ctx->is_opens) {
		bool is_held;

		is_held = dbwrap_phstore_held_take(
			ctx, key, value, releases, version);
		if (is_held) {
			dbwrap_phstore_number_taken();
			return PHSTORE_OK;
		}
	}
	store = dbwrap_phstore_store(false);
	if (store == NULL) {
		return PHSTORE_ERR_IO;
	}
again:
	txn = phstore_txn_new(NULL, store);
	if (txn == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	if (value != NULL) {
		struct phstore_blob pval = {
			.data = value->dptr,
			.len = value->dsize,
		};

		err = phstore_txn_put(txn, ctx->table, pkey, pval, &opts);
	} else {
		err = phstore_txn_delete(txn, ctx->table, pkey, &opts);
	}
	if (err != PHSTORE_OK) {
		goto done;
	}
	err = dbwrap_phstore_number_join(ctx, txn, releases);
	if (err != PHSTORE_OK) {
		goto done;
	}
	err = dbwrap_phstore_closing_join(ctx, key, txn);
	if (err != PHSTORE_OK) {
		goto done;
	}
	err = dbwrap_phstore_creating_join(ctx, key, txn);
	if (err != PHSTORE_OK) {
		goto done;
	}
	err = dbwrap_phstore_held_join(ctx, key, txn);
	if (err != PHSTORE_OK) {
		goto done;
	}
	err = phstore_stage(txn, &lsn);
	again = dbwrap_phstore_held_staged(err, lsn);
	if (again) {
		talloc_free(txn);
		goto again;
	}
	dbwrap_phstore_number_staged(err, lsn);
	dbwrap_phstore_creating_staged(err, lsn);
	if (err == PHSTORE_OK) {
		dbwrap_phstore_staged(ctx, lsn);
	}
	dbwrap_phstore_closing_staged(err, lsn);
done:
	talloc_free(txn);
	return err;
}

/* Blocks: only for start-up and tools. */
enum phstore_err dbwrap_phstore_sync(void)
{
	struct phstore *store = global.progress.store;
	uint32_t timeout_ms = global.progress.barrier_timeout_sec * 1000;

	return phstore_barrier(store, global.progress.lsn, timeout_ms);
}

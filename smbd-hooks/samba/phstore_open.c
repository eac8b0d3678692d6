/*
 * phstore: what becomes of an open whose server died
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The open's record has a disconnect time. Samba sets it when a client goes;
 * when a smbd dies nobody does, and the handle's timeout began anew with
 * each look at it. Here the first look writes down the time. A reconnect
 * sets it back to 0.
 *
 * The time in the record decides, not the timer that brought one here: a
 * timer may be older than the last reconnect.
 */

#include "includes.h"
#include "system/filesys.h"
#include "lib/util/server_id.h"
#include "lib/util/time_basic.h"
#include "serverid.h"
#include "messages.h"
#include "lib/global_contexts.h"
#include "locking/share_mode_lock.h"
#include "librpc/gen_ndr/open_files.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "smbd/smbXsrv_open.h"
#include "dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "librpc/gen_ndr/ndr_smbXsrv.h"
#include "smbd/phstore_open.h"

bool phstore_open_is_kept(const struct smbXsrv_open_global *global)
{
	return dbwrap_phstore_keeps() &&
	       global->durable &&
	       !global->persistent &&
	       global->backend_cookie.length != 0 &&
	       !GUID_all_zero(&global->create_guid);
}

int phstore_open_store_flags(const struct smbXsrv_open_global *global)
{
	bool is_kept;

	if (global->persistent) {
		return DBWRAP_STORE_PERSISTENT | DBWRAP_STORE_PHSTORE_SURE;
	}
	is_kept = phstore_open_is_kept(global);
	if (is_kept) {
		return DBWRAP_STORE_PERSISTENT | DBWRAP_STORE_PHSTORE_KEPT;
	}
	return 0;
}

bool phstore_open_outlives(const struct smbXsrv_open_global *global)
{
	return global->persistent || phstore_open_is_kept(global);
}

bool phstore_open_is_left(const struct smbXsrv_open_global *global)
{
	return phstore_open_is_kept(global) &&
	       !server_id_is_disconnected(&global->server_id) &&
	       !serverid_exists(&global->server_id);
}

/* A lock is not stored: what is not complete must not come back. */
void phstore_open_unkeep(struct smbXsrv_open *op)
{
	NTSTATUS status;

	data_blob_free(&op->global->backend_cookie);
	status = smbXsrv_open_update(op);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_ERR("phstore: a durable handle is left in the store: "
			"%s\n", nt_errstr(status));
	}
}

void phstore_open_give_up(struct files_struct *fsp)
{
	struct server_id self = messaging_server_id(fsp->conn->sconn->msg_ctx);
	struct server_id dead = self;
	struct share_mode_lock *lck = NULL;
	bool is_kept = dbwrap_phstore_progress()->store != NULL;
	bool ok = fsp->op->global->persistent &&
		  (!is_kept || phstore_open_is_sure(fsp->op)) &&
		  !dbwrap_phstore_is_exiting();

	if (!ok) {
		return;
	}
	lck = get_existing_share_mode_lock(talloc_tos(), fsp->file_id);
	if (lck == NULL) {
		return;
	}
	/* an earlier process of that number, which nobody finds alive */
	dead.unique_id = (self.unique_id > 1) ? self.unique_id - 1 : 2;
	ok = reset_share_mode_entry(
		lck,
		self,
		fsp->op->global->open_persistent_id,
		dead,
		UINT64_MAX);
	/* who waits for a break, which nobody answers now, is woken by it */
	TALLOC_FREE(lck);
	if (!ok) {
		/* the handle was taken up on another node, or closed there */
		DBG_NOTICE("phstore: open %08"PRIx32" has no share mode of "
			   "this smbd\n", fsp->op->global->open_global_id);
	}
}

bool phstore_open_is_served(const struct smbXsrv_open_global *global)
{
	static struct server_id last;
	static time_t looked;
	static bool lives;
	time_t now = time_mono(NULL);

	if (server_id_is_disconnected(&global->server_id)) {
		return false;
	}
	if (looked != now || !server_id_equal(&last, &global->server_id)) {
		last = global->server_id;
		looked = now;
		lives = serverid_exists(&last);
	}
	return lives;
}

bool phstore_open_expired(const struct smbXsrv_open_global *global)
{
	struct timeval disconnected = {};
	struct timeval now = timeval_current();
	int64_t passed;

	if (global->disconnect_time == 0) {
		/* it came back since, and its server died again */
		return false;
	}
	nttime_to_timeval(&disconnected, global->disconnect_time);
	passed = usec_time_diff(&now, &disconnected);
	return passed >= (int64_t)global->durable_timeout_msec * 1000;
}

struct smbXsrv_open_global *phstore_open_parse(TDB_DATA key, TDB_DATA value)
{
	struct smbXsrv_open_global *global = NULL;
	NTSTATUS status;

	if (value.dsize == 0) {
		return NULL;
	}
	status = smbXsrv_open_global_parse_record(
		talloc_tos(), key, value, &global);
	return NT_STATUS_IS_OK(status) ? global : NULL;
}

/* What the last reconnect has found in the record: who had it before */
static struct {
	uint32_t id;
	struct server_id server_id;
	NTTIME disconnect_time;
} phstore_open_taken_from;

void phstore_open_taken(const struct smbXsrv_open_global *global)
{
	phstore_open_taken_from.id = global->open_global_id;
	phstore_open_taken_from.server_id = global->server_id;
	phstore_open_taken_from.disconnect_time = global->disconnect_time;
}

/*
 * A reconnect stores its first change in the volatile database only. If an
 * epoch begins before the last one, the record is what it was: nobody else's.
 */
static bool phstore_open_is_taken(const struct smbXsrv_open_global *global)
{
	bool nobody = server_id_is_disconnected(&global->server_id);

	/* of a dead smbd's the scavenger may note the time in between */
	return global->open_global_id == phstore_open_taken_from.id &&
	       server_id_equal(&global->server_id,
			       &phstore_open_taken_from.server_id) &&
	       (!nobody || global->disconnect_time ==
			   phstore_open_taken_from.disconnect_time);
}

bool phstore_open_is_sure(const struct smbXsrv_open *op)
{
	uint64_t epoch;

	if (!lp_clustering()) {
		return true;
	}
	epoch = dbwrap_phstore_epoch();
	return epoch != 0 && op->phstore_epoch == epoch;
}

bool phstore_open_is_ours(struct smbXsrv_open *op,
			  TDB_DATA key,
			  TDB_DATA value)
{
	struct server_id self = messaging_server_id(global_messaging_context());
	uint64_t epoch = dbwrap_phstore_epoch();
	struct smbXsrv_open_global *global = NULL;
	bool is_ours = phstore_open_is_sure(op);

	if (is_ours) {
		return true;
	}
	if (value.dsize == 0) {
		/* else it may have been on this node only, and is lost */
		return !phstore_open_outlives(op->global);
	}
	global = phstore_open_parse(key, value);
	is_ours = global != NULL &&
		  ((server_id_equal(&global->server_id, &self) &&
		    global->open_volatile_id ==
		    op->global->open_volatile_id) ||
		   phstore_open_is_taken(global));
	TALLOC_FREE(global);
	if (is_ours) {
		op->phstore_epoch = epoch;
	} else {
		DBG_NOTICE("phstore: open %08"PRIx32" is not this smbd's any "
			   "more\n", op->global->open_global_id);
	}
	return is_ours;
}

struct phstore_open_ours {
	struct smbXsrv_open *op;
	bool is_ours;
};

static void phstore_open_ours_fn(struct db_record *rec,
				 TDB_DATA value,
				 void *private_data)
{
	struct phstore_open_ours *look = private_data;

	look->is_ours = phstore_open_is_ours(
		look->op, dbwrap_record_get_key(rec), value);
}

NTSTATUS phstore_open_check_ours(struct smbXsrv_open *op)
{
	struct phstore_open_ours look = { .op = op };
	bool is_sure = phstore_open_is_sure(op);
	NTSTATUS status;

	if (is_sure) {
		return NT_STATUS_OK;
	}
	status = phstore_open_do_locked(
		op->global->open_global_id, phstore_open_ours_fn, &look);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	return look.is_ours ? NT_STATUS_OK : NT_STATUS_FILE_CLOSED;
}

static void phstore_open_crashed_fn(struct db_record *rec,
				    TDB_DATA value,
				    void *private_data)
{
	NTTIME *when = private_data;
	struct smbXsrv_open_global *global = NULL;
	struct timeval now = timeval_current();
	NTSTATUS status;
	bool lives;

	global = phstore_open_parse(dbwrap_record_get_key(rec), value);
	if (global == NULL) {
		return;
	}
	if (!phstore_open_outlives(global)) {
		goto done;
	}
	if (global->disconnect_time == 0) {
		lives = server_id_is_disconnected(&global->server_id) ||
			serverid_exists(&global->server_id);
		if (lives) {
			goto done;
		}
		global->disconnect_time = timeval_to_nttime(&now);
		status = phstore_open_store(rec, value, global);
		if (!NT_STATUS_IS_OK(status)) {
			/* it counts anew next time */
			DBG_WARNING("phstore: the time a handle was lost is "
				    "not stored: %s\n", nt_errstr(status));
		}
	}
	*when = global->disconnect_time;
done:
	TALLOC_FREE(global);
}

NTTIME phstore_open_crashed(uint32_t open_global_id, struct file_id file_id)
{
	NTTIME when = 0;

	(void)phstore_open_do_locked(
		open_global_id, phstore_open_crashed_fn, &when);
	/*
	 * The dead server had the timer of the break it was told to send: who
	 * waits for that looks again.
	 */
	share_mode_wakeup_waiters(file_id);
	return when;
}

void phstore_open_create_begin(const struct files_struct *fsp, bool keep)
{
	bool outlives = fsp->op != NULL &&
		(fsp->op->global->persistent ||
		 (keep && dbwrap_phstore_keeps()));

	if (!outlives) {
		return;
	}
	dbwrap_phstore_creating_begin(fsp->op->global->open_global_id,
				      &fsp->file_id,
				      fsp->name_hash);
}

/* The value of an open's record that has the number */
static NTSTATUS phstore_open_numbered(
	struct db_record *rec,
	TDB_DATA old,
	const struct dbwrap_phstore_number *number)
{
	struct smbXsrv_open *op = number->private_data;
	uint8_t *element = &op->global->lock_sequence_array[number->bucket];
	uint8_t was = *element;
	NTSTATUS status;
	bool is_ours;

	is_ours = phstore_open_is_ours(op, dbwrap_record_get_key(rec), old);
	if (!is_ours) {
		return NT_STATUS_FILE_CLOSED;
	}
	*element = number->value;
	status = phstore_open_store(rec, old, op->global);
	*element = was;
	return status;
}

void phstore_open_lock_begin(struct smbXsrv_open *op,
			     const uint8_t *element,
			     uint8_t value)
{
	static struct dbwrap_phstore_number number;

	if (op == NULL || element == NULL ||
	    !phstore_open_outlives(op->global))
	{
		return;
	}
	number = (struct dbwrap_phstore_number) {
		.open_id = op->global->open_global_id,
		.bucket = element - op->global->lock_sequence_array,
		.value = value,
		.is_persistent = op->global->persistent,
		.store = phstore_open_numbered,
		.private_data = op,
	};
	dbwrap_phstore_number_begin(&number);
}

bool phstore_open_lock_end(void)
{
	return dbwrap_phstore_number_end();
}

/*
 * The value of an open's record whose CLOSE is under way: its time is over. A
 * client that comes back is refused, the scavenger does the rest.
 */
static void phstore_open_set_closed(struct smbXsrv_open_global *global)
{
	struct timeval now = timeval_current();

	global->disconnect_time = timeval_to_nttime(&now);
	global->durable_timeout_msec = 0;
}

bool phstore_open_is_closed(const struct smbXsrv_open_global *global)
{
	/* a handle that is granted has a timeout */
	return phstore_open_outlives(global) &&
	       global->disconnect_time != 0 &&
	       global->durable_timeout_msec == 0;
}

/* What CLOSE has taken from the open before it removes its locks */
static struct {
	const struct smbXsrv_open *op;
	bool durable;
	bool persistent;
	bool outlives;
} phstore_open_closing;

static NTSTATUS phstore_open_closed(struct db_record *rec,
				    TDB_DATA old,
				    const struct dbwrap_phstore_number *number)
{
	struct smbXsrv_open *op = number->private_data;
	struct smbXsrv_open_global *global = op->global;
	struct smbXsrv_open_global was = *global;
	NTSTATUS status;
	bool is_ours;

	is_ours = phstore_open_is_ours(op, dbwrap_record_get_key(rec), old);
	if (!is_ours) {
		return NT_STATUS_FILE_CLOSED;
	}
	global->durable = phstore_open_closing.durable;
	global->persistent = phstore_open_closing.persistent;
	phstore_open_set_closed(global);
	status = phstore_open_store(rec, old, global);
	*global = was;
	return status;
}

/*
 * In a cluster the record of a new open belongs to another node, two times of
 * three, and is fetched from there; and the deletion of one that was stored is
 * told to all nodes. On one machine its place in tdb, and in the store's index,
 * is one that was not used for long, or never. So an id of this client's that
 * was closed is used again. No request for the closed handle reaches the new
 * one: it names another volatile id, or when it reconnects another create
 * GUID. And a smbd that still has the closed handle, as it was cut off, finds
 * that the record is not its own: phstore_open_is_ours().
 */
#define PHSTORE_OPEN_IDS 32

static struct {
	uint32_t ids[PHSTORE_OPEN_IDS];
	unsigned num;
} phstore_open_closed_ids;

uint32_t phstore_open_id_again(void)
{
	if (phstore_open_closed_ids.num == 0) {
		return 0;
	}
	phstore_open_closed_ids.num -= 1;
	return phstore_open_closed_ids.ids[phstore_open_closed_ids.num];
}

void phstore_open_close_was(const struct smbXsrv_open *op)
{
	unsigned num = phstore_open_closed_ids.num;

	phstore_open_closing.op = op;
	phstore_open_closing.durable = op->global->durable;
	phstore_open_closing.persistent = op->global->persistent;
	phstore_open_closing.outlives = phstore_open_outlives(op->global);

	/* if it is not gone before it is asked for: a collision, as any */
	if (num < PHSTORE_OPEN_IDS && phstore_open_closing.outlives) {
		phstore_open_closed_ids.ids[num] = op->global->open_global_id;
		phstore_open_closed_ids.num += 1;
	}
}

void phstore_open_close_begin(struct files_struct *fsp)
{
	static struct dbwrap_phstore_number number;
	struct smbXsrv_open *op = fsp->op;

	if (op == NULL || op != phstore_open_closing.op ||
	    !phstore_open_closing.durable || !phstore_open_closing.outlives ||
	    fsp->current_lock_count == 0 || fh_get_refcount(fsp->fh) > 1)
	{
		return;
	}
	number = (struct dbwrap_phstore_number) {
		.open_id = op->global->open_global_id,
		.bucket = PHSTORE_NUMBER_CLOSED,
		.is_persistent = phstore_open_closing.persistent,
		.store = phstore_open_closed,
		.private_data = op,
	};
	dbwrap_phstore_number_begin(&number);
	dbwrap_phstore_number_granted();
	dbwrap_phstore_close_begin(op->global->open_global_id, &fsp->file_id);
}

void phstore_open_close_end(void)
{
	(void)dbwrap_phstore_number_end();
}

void phstore_open_close_entry(struct files_struct *fsp)
{
	struct smbXsrv_open *op = fsp->op;

	/* durable: taken from it before, or this is no CLOSE of a file */
	if (op == NULL || op != phstore_open_closing.op ||
	    op->global->durable || !phstore_open_closing.outlives)
	{
		return;
	}
	phstore_open_closing.op = NULL;
	if (lp_clustering()) {
		dbwrap_phstore_close_begin(
			op->global->open_global_id, &fsp->file_id);
		return;
	}
	dbwrap_phstore_closing_begin(op->global->open_global_id,
				     &fsp->file_id,
				     phstore_open_closing.persistent);
}

static void phstore_open_set_number_fn(struct db_record *rec,
				       TDB_DATA value,
				       void *private_data)
{
	const struct dbwrap_phstore_number *number = private_data;
	struct smbXsrv_open_global *global = NULL;
	uint8_t *element = NULL;
	NTSTATUS status;
	bool lives;

	global = phstore_open_parse(dbwrap_record_get_key(rec), value);
	if (global == NULL) {
		return;
	}
	lives = server_id_is_disconnected(&global->server_id) ||
		serverid_exists(&global->server_id);
	if (lives || !phstore_open_outlives(global)) {
		goto done;
	}
	if (number->bucket == PHSTORE_NUMBER_CLOSED) {
		if (phstore_open_is_closed(global)) {
			goto done;
		}
		phstore_open_set_closed(global);
	} else {
		element = &global->lock_sequence_array[number->bucket];
		if (*element == number->value) {
			goto done;
		}
		*element = number->value;
	}
	status = phstore_open_store(rec, value, global);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("phstore: a lock has lost its sequence number, "
			    "or a CLOSE is half done: %s\n",
			    nt_errstr(status));
	}
done:
	TALLOC_FREE(global);
}

static void phstore_open_set_number(uint32_t id, uint8_t bucket, uint8_t value)
{
	struct dbwrap_phstore_number number = {
		.bucket = bucket,
		.value = value,
	};

	(void)phstore_open_do_locked(
		id, phstore_open_set_number_fn, &number);
}

struct phstore_open_entry {
	uint64_t share_file_id;
	bool found;
};

static bool phstore_open_entry_fn(struct share_mode_entry *e,
				  bool *modified,
				  void *private_data)
{
	struct phstore_open_entry *look = private_data;

	look->found = (e->share_file_id == look->share_file_id);
	return look->found;
}

static bool phstore_open_has_entry(uint32_t id, const struct file_id *file)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct phstore_open_entry look = { .share_file_id = id };
	struct share_mode_lock *lck = NULL;

	lck = fetch_share_mode_unlocked(frame, *file);
	if (lck != NULL) {
		(void)share_mode_forall_entries(
			lck, phstore_open_entry_fn, &look);
	}
	TALLOC_FREE(frame);
	return look.found;
}

static void phstore_open_remove_fn(struct db_record *rec,
				   TDB_DATA value,
				   void *private_data)
{
	struct smbXsrv_open_global *global = NULL;
	NTSTATUS status = NT_STATUS_OK;
	bool lives;

	global = phstore_open_parse(dbwrap_record_get_key(rec), value);
	if (global == NULL) {
		return;
	}
	/* another smbd may be taking it up */
	lives = serverid_exists(&global->server_id);
	if (!lives) {
		status = dbwrap_record_delete(rec);
	}
	if (!NT_STATUS_IS_OK(status)) {
		DBG_NOTICE("phstore: what a CLOSE left stays for a while: "
			   "%s\n", nt_errstr(status));
	}
	TALLOC_FREE(global);
}

static void phstore_open_remove(uint32_t id)
{
	(void)phstore_open_do_locked(id, phstore_open_remove_fn, NULL);
}

void phstore_open_child_gone(pid_t pid, bool unclean)
{
	static const struct dbwrap_phstore_gone_fns fns = {
		.set_number = phstore_open_set_number,
		.has_entry = phstore_open_has_entry,
		.remove = phstore_open_remove,
		.scavenge = phstore_scavenge,
	};

	dbwrap_phstore_child_gone(pid, &fns);
	if (unclean) {
		phstore_open_replay_left_by(pid);
	}
}

void phstore_open_locked(struct smbXsrv_open *op)
{
	NTSTATUS status;

	if (!phstore_open_outlives(op->global)) {
		return;
	}
	dbwrap_phstore_more(false);
	dbwrap_phstore_kept_acks();
	status = smbXsrv_open_update(op);
	if (!NT_STATUS_IS_OK(status)) {
		/* the response is not sent, see phstore_smb2_hold() */
		DBG_ERR("phstore: a lock sequence number is not stored: %s\n",
			nt_errstr(status));
	}
}

void phstore_open_renamed(TALLOC_CTX *mem_ctx,
			  struct file_id id,
			  const char *servicepath,
			  const char **base_name)
{
	struct share_mode_lock *lck = NULL;
	const char *name = NULL;

	lck = fetch_share_mode_unlocked(mem_ctx, id);
	if (lck == NULL) {
		return;
	}
	if (strcmp(share_mode_servicepath(lck), servicepath) == 0) {
		name = share_mode_filename(mem_ctx, lck);
	}
	TALLOC_FREE(lck);
	if (name != NULL) {
		/* whether it is that file is looked at by the caller */
		*base_name = name;
	}
}

bool phstore_lease_is_held(struct files_struct *fsp,
			   const struct smb2_lease_key *key)
{
	struct files_struct *other = NULL;

	other = file_find_one_fsp_from_lease_key(fsp->conn->sconn, key);
	return other != NULL && other != fsp;
}

bool phstore_lease_is_old(struct files_struct *fsp,
			  const struct smb2_lease_key *key,
			  bool is_left,
			  const struct smb2_lease *claimed,
			  uint16_t version,
			  uint16_t epoch)
{
	int16_t ahead = (int16_t)(claimed->lease_epoch - epoch);

	if (!lp_clustering() || phstore_lease_is_held(fsp, key)) {
		return false;
	}
	return is_left || (version > 1 && ahead > 0);
}

bool phstore_lease_all(const struct smbXsrv_tcon *tcon)
{
	const char *mask = NULL;
	bool is_ours;

	if (!(tcon->capabilities & SMB2_SHARE_CAP_CONTINUOUS_AVAILABILITY) ||
	    (tcon->capabilities & SMB2_SHARE_CAP_SCALEOUT))
	{
		return false;
	}
	is_ours = lp_clustering() ?
		dbwrap_phstore_wanted_ctdb(DBWRAP_FLAG_PER_REC_PERSISTENT) :
		dbwrap_phstore_wanted(DBWRAP_FLAG_PER_REC_PERSISTENT);
	if (!is_ours) {
		return false;
	}
	mask = lp_parm_const_string(
		SNUM(tcon->compat), "smb3 ca", "max lease mask", NULL);
	return mask == NULL;
}

/*
 * phstore: the lease of an open is kept with it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * leases.tdb is in no store. So an open that outlives its smbd has a copy of
 * its lease in its own record (phstore_lease_value.c): it is staged with the
 * open, in one transaction, and costs no change of its own.
 *
 * Rules
 *
 * - All changes of a lease that is in use are made by the smbd of its client:
 *   granted or raised by a CREATE, broken, acknowledged, timed out. It stages
 *   the open's record again, with the lease as it is in leases.tdb; with
 *   several opens, all of them in one transaction. Behind the share mode
 *   lock: no two records are locked at once. So who waited for the break may
 *   be granted what he asked for, and the lease that was kept is still the one
 *   before. Mostly it says that a break was under way; and its client says
 *   what it let go.
 * - What is acknowledged, a CREATE or a break's acknowledgment, waits for it
 *   as for all it changed.
 * - Telling the client of a break waits for nothing, and a break that somebody
 *   waits for is staged only when it was told: one open may break several
 *   leases, and the others would be told of it later by what staging takes.
 *   If its smbd dies before, all that is lost is that somebody wants the
 *   file: he was not answered, and asks again. A break that nobody waits
 *   for (RH or R lost to a write) is staged before it is told. A handle whose
 *   client goes has its lease as it is then, too.
 * - Where leases.tdb does not know the lease when the client comes back, it
 *   is put back from here, but for what the client says it has not: it may
 *   have acknowledged a break when this smbd was not there any more, or the
 *   node died before others had that. A client that claims more than what was
 *   kept does not get it.
 * - A raise is in leases.tdb before it is in the opens' records, and only then
 *   acknowledged. If the smbd dies in between leases.tdb knows more than any
 *   open of that lease: who comes back first gets what its record says, and
 *   leases.tdb does. Unless its client knows of the raise: there may have been
 *   a handle since that was closed, or is elsewhere.
 * - A break that was under way goes on, if the client has not come down to
 *   what was asked. Not with a durable handle that is not persistent if
 *   leases.tdb does not know of it: whoever wanted the break has taken the
 *   file by now.
 * - The later epoch of the two counts ([MS-SMB2] 3.3.5.9.11: the epoch tells
 *   a client which of two answers is the newer).
 * - A saved break of a client that is away is in leases.tdb only, see
 *   delay_for_oplock_fn(): who caused it was not answered, and asks again.
 * - A break of R by a write is told to nobody if the client is away, or lost
 *   with the smbd that was to tell it, and the write goes on. So a lease with R
 *   and without W, of a file that has changed since the handle was opened (or
 *   came back), is acquired anew: it gets the next epoch, as R alone does
 *   always. Who has the same lease of a later epoch drops what he read; a
 *   change of his own costs him that, too. A lease without epochs is taken
 *   away. The H of that lease is not concerned. But while a break that he was
 *   told of is not acknowledged, a later epoch with the state from before it
 *   would undo it: then the break goes on to none.
 * - Who opens or writes the file meanwhile leaves leases of those who are away
 *   out of the share modes' summary of all leases, by which a write knows that
 *   there is somebody to tell. Who comes back is in it again.
 * - Samba tells the first entry of a lease of a break. If that one's smbd is
 *   gone, another handle of the lease may be back: of a write all smbds that
 *   have the lease are told, as asking who lives may take long; for a rename,
 *   which asks anyway, one that lives.
 */

#include "includes.h"
#include "system/filesys.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "smbd/smbXsrv_open.h"
#include "serverid.h"
#include "lib/util/server_id.h"
#include "libcli/smb/smb2_lease.h"
#include "locking/leases_db.h"
#include "locking/share_mode_lock.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "librpc/gen_ndr/ndr_smbXsrv.h"
#include "librpc/gen_ndr/open_files.h"
#include "smbd/phstore_open.h"
#include "smbd/phstore_open_lease.h"

void phstore_open_lease_read(struct smbXsrv_open_global *global,
			     const uint8_t *buf,
			     size_t len)
{
	struct phstore_lease_value lease;
	bool ok;

	global->phstore_lease = NULL;
	ok = phstore_lease_value_pull(buf, len, &lease);
	if (!ok) {
		return;
	}
	global->phstore_lease = talloc_memdup(global, &lease, sizeof(lease));
}

bool phstore_open_lease_append(TALLOC_CTX *mem_ctx,
			       const struct smbXsrv_open_global *global,
			       DATA_BLOB *blob)
{
	uint8_t buf[PHSTORE_LEASE_VALUE_LEN];

	if (global->phstore_lease == NULL) {
		return true;
	}
	phstore_lease_value_push(global->phstore_lease, buf);
	return data_blob_append(mem_ctx, blob, buf, sizeof(buf));
}

/* The lease that was granted last, and is new in leases.tdb. */
static struct {
	const struct files_struct *fsp;
	struct smb2_lease lease;
} phstore_open_lease_new;

void phstore_open_lease_granted(const struct files_struct *fsp)
{
	phstore_open_lease_new.fsp = fsp;
	phstore_open_lease_new.lease = fsp->lease->lease;
}

/*
 * Is it that one, with nothing that happened to it since? Then leases.tdb has
 * what is in memory. Asked once.
 */
static bool phstore_open_lease_is_new(const struct files_struct *fsp)
{
	const struct smb2_lease *was = &phstore_open_lease_new.lease;
	const struct smb2_lease *is = &fsp->lease->lease;
	bool same_fsp = fsp == phstore_open_lease_new.fsp;

	phstore_open_lease_new.fsp = NULL;
	return same_fsp && fsp->lease->ref_count == 1 &&
	       smb2_lease_key_equal(&was->lease_key, &is->lease_key) &&
	       (is->lease_flags & SMB2_LEASE_FLAG_BREAK_IN_PROGRESS) == 0 &&
	       was->lease_state == is->lease_state &&
	       was->lease_epoch == is->lease_epoch;
}

static bool phstore_open_lease_of(struct files_struct *fsp,
				  struct phstore_lease_value *lease)
{
	NTSTATUS status;
	bool is_new;

	*lease = (struct phstore_lease_value) {};
	if (fsp->oplock_type != LEASE_OPLOCK || fsp->lease == NULL) {
		return false;
	}
	lease->key[0] = fsp->lease->lease.lease_key.data[0];
	lease->key[1] = fsp->lease->lease.lease_key.data[1];
	lease->version = fsp->lease->lease.lease_version;
	is_new = phstore_open_lease_is_new(fsp);
	if (is_new) {
		lease->state = fsp->lease->lease.lease_state;
		lease->epoch = fsp->lease->lease.lease_epoch;
		return true;
	}
	status = leases_db_get(fsp_client_guid(fsp),
			       &fsp->lease->lease.lease_key,
			       &fsp->file_id,
			       &lease->state,
			       &lease->breaking,
			       &lease->breaking_to_requested,
			       &lease->breaking_to_required,
			       NULL,
			       &lease->epoch);
	return NT_STATUS_IS_OK(status);
}

static bool phstore_open_lease_equal(const struct phstore_lease_value *a,
				     const struct phstore_lease_value *b)
{
	uint8_t abuf[PHSTORE_LEASE_VALUE_LEN];
	uint8_t bbuf[PHSTORE_LEASE_VALUE_LEN];

	phstore_lease_value_push(a, abuf);
	phstore_lease_value_push(b, bbuf);
	return memcmp(abuf, bbuf, sizeof(abuf)) == 0;
}

void phstore_open_lease_note(struct smbXsrv_open *op, struct files_struct *fsp)
{
	struct phstore_lease_value lease;
	bool ok;

	TALLOC_FREE(op->global->phstore_lease);
	if (!phstore_open_outlives(op->global)) {
		return;
	}
	ok = phstore_open_lease_of(fsp, &lease);
	if (ok) {
		op->global->phstore_lease = talloc_memdup(
			op->global, &lease, sizeof(lease));
	}
}

static void phstore_open_lease_update(struct files_struct *fsp)
{
	struct smbXsrv_open *op = fsp->op;
	struct phstore_lease_value lease;
	NTSTATUS status;
	bool ok;

	if (op == NULL || op->global->phstore_lease == NULL ||
	    !phstore_open_outlives(op->global))
	{
		return;
	}
	ok = phstore_open_lease_of(fsp, &lease) &&
	     !phstore_open_lease_equal(&lease, op->global->phstore_lease);
	if (!ok) {
		return;
	}
	*op->global->phstore_lease = lease;
	/* in a cluster: a handle that comes back has it */
	dbwrap_phstore_kept_acks();
	status = smbXsrv_open_update(op);
	if (!NT_STATUS_IS_OK(status)) {
		/* a response is not sent, see phstore_smb2_hold() */
		DBG_ERR("phstore: a lease is not stored: %s\n",
			nt_errstr(status));
	}
}

/* next: its open is stored next, with its lease; NULL: none is */
static void phstore_open_lease_all(struct smbd_server_connection *sconn,
				   const struct file_id *id,
				   const struct smb2_lease_key *key,
				   const struct files_struct *next)
{
	struct files_struct *fsp = NULL;
	uint32_t open_id = 0;

	if (next != NULL) {
		open_id = next->op->global->open_global_id;
	}

	/*
	 * Where the search begins was noted, maybe, when the newest of them
	 * was not one of this file yet: then it would be passed over.
	 */
	ZERO_STRUCT(sconn->fsp_fi_cache);
	dbwrap_phstore_leases_begin(open_id);
	for (fsp = file_find_di_first(sconn, *id, true);
	     fsp != NULL;
	     fsp = file_find_di_next(fsp, true))
	{
		if (fsp != next && fsp->oplock_type == LEASE_OPLOCK &&
		    fsp->lease != NULL &&
		    smb2_lease_key_equal(&fsp->lease->lease.lease_key, key))
		{
			phstore_open_lease_update(fsp);
		}
	}
	dbwrap_phstore_leases_end();
}

void phstore_open_lease_changed(struct smbd_server_connection *sconn,
				const struct file_id *id,
				const struct smb2_lease_key *key)
{
	phstore_open_lease_all(sconn, id, key, NULL);
}

/* All breaks of one open were told after it; see the rules above. */
#define PHSTORE_OPEN_LEASE_BREAK_USEC 1000

struct phstore_open_lease_break {
	struct smbd_server_connection *sconn;
	struct file_id id;
	struct smb2_lease_key key;
};

static void phstore_open_lease_break_told(struct tevent_context *ev,
					  struct tevent_timer *te,
					  struct timeval now,
					  void *private_data)
{
	struct phstore_open_lease_break *state = talloc_get_type_abort(
		private_data, struct phstore_open_lease_break);

	phstore_open_lease_changed(state->sconn, &state->id, &state->key);
	TALLOC_FREE(state);
}

void phstore_open_lease_broken(struct files_struct *fsp,
			       uint32_t break_from,
			       uint32_t break_to)
{
	/* for W who wants it waits; for H alone, too: the rest is kept */
	bool waits = (break_from & SMB2_LEASE_WRITE) != 0 ||
		     (break_to & SMB2_LEASE_READ) != 0;
	struct smbd_server_connection *sconn = fsp->conn->sconn;
	struct phstore_open_lease_break *state = NULL;
	struct tevent_timer *te = NULL;

	if (fsp->oplock_type != LEASE_OPLOCK) {
		return;
	}
	if (waits) {
		state = talloc(sconn, struct phstore_open_lease_break);
	}
	if (state != NULL) {
		*state = (struct phstore_open_lease_break) {
			.sconn = sconn,
			.id = fsp->file_id,
			.key = fsp->lease->lease.lease_key,
		};
		te = tevent_add_timer(
			sconn->ev_ctx,
			state,
			timeval_current_ofs_usec(
				PHSTORE_OPEN_LEASE_BREAK_USEC),
			phstore_open_lease_break_told,
			state);
	}
	if (te == NULL) {
		TALLOC_FREE(state);
		phstore_open_lease_changed(sconn,
					   &fsp->file_id,
					   &fsp->lease->lease.lease_key);
	}
}

void phstore_open_lease_gone(struct files_struct *fsp)
{
	struct smbXsrv_open_global *global = fsp->op->global;
	struct phstore_lease_value lease;
	bool ok;

	if (global->phstore_lease == NULL) {
		return;
	}
	ok = phstore_open_lease_of(fsp, &lease);
	if (ok) {
		*global->phstore_lease = lease;
	}
}

void phstore_open_lease_shared(struct files_struct *fsp, bool is_stored)
{
	bool is_next = is_stored && fsp->op != NULL;

	if (fsp->oplock_type != LEASE_OPLOCK || fsp->lease == NULL ||
	    fsp->lease->ref_count < 2)
	{
		return;
	}
	phstore_open_lease_all(fsp->conn->sconn,
			       &fsp->file_id,
			       &fsp->lease->lease.lease_key,
			       is_next ? fsp : NULL);
}

/* What was kept of this lease with the open, NULL: nothing */
static const struct phstore_lease_value *phstore_open_lease_kept(
	const struct smbXsrv_open *op,
	const struct smb2_lease_key *key)
{
	const struct phstore_lease_value *kept = op->global->phstore_lease;

	if (kept == NULL || kept->key[0] != key->data[0] ||
	    kept->key[1] != key->data[1])
	{
		return NULL;
	}
	return kept;
}

bool phstore_open_lease_is_half(struct files_struct *fsp,
				const struct smbXsrv_open *op,
				const struct smb2_lease_key *key,
				const struct smb2_lease *claimed,
				uint32_t *state)
{
	const struct phstore_lease_value *kept =
		phstore_open_lease_kept(op, key);
	uint32_t was = *state;

	if (kept == NULL || phstore_lease_is_held(fsp, key)) {
		return false;
	}
	*state &= kept->state | claimed->lease_state;
	return *state != was;
}

bool phstore_open_lease_back(const struct smbXsrv_open *op,
			     const struct smb2_lease_key *key,
			     const struct smb2_lease *claimed,
			     uint32_t mask,
			     struct phstore_lease_value *lease)
{
	const struct phstore_lease_value *kept =
		phstore_open_lease_kept(op, key);

	*lease = (struct phstore_lease_value) {
		.key = { key->data[0], key->data[1] },
		.state = claimed->lease_state & mask,
		.epoch = claimed->lease_epoch,
		.version = claimed->lease_version,
	};
	if (kept == NULL) {
		return false;
	}
	lease->state &= kept->state;
	if (claimed->lease_version < 2) {
		lease->epoch = kept->epoch;
	} else {
		lease->epoch = phstore_lease_later(claimed->lease_epoch,
						   kept->epoch);
	}
	if (kept->breaking && op->global->persistent &&
	    (lease->state & ~kept->breaking_to_required) != 0)
	{
		lease->breaking = true;
		lease->breaking_to_requested = kept->breaking_to_requested;
		lease->breaking_to_required =
			kept->breaking_to_required & lease->state;
	}
	return true;
}

void phstore_open_lease_stat(struct files_struct *fsp,
			     struct vfs_default_durable_stat *is)
{
	const struct smbXsrv_open_global *global = fsp->op->global;
	SMB_STRUCT_STAT st;
	int ret;

	if (fsp->oplock_type != LEASE_OPLOCK || fsp->lease == NULL) {
		return;
	}
	/*
	 * Of a file that was there, or a handle that has come back, the stat
	 * from before others could break the lease: a change since, and its
	 * break, may be lost later.
	 */
	if (global->create_action != FILE_WAS_CREATED ||
	    global->backend_cookie.length != 0)
	{
		return;
	}
	ret = SMB_VFS_FSTAT(fsp, &st);
	if (ret == -1) {
		/* it will be taken for changed */
		return;
	}
	is->st_ex_size = st.st_ex_size;
	is->st_ex_mtime = st.st_ex_mtime;
	is->st_ex_ctime = st.st_ex_ctime;
}

uint16_t phstore_lease_later(uint16_t a, uint16_t b)
{
	int16_t ahead = (int16_t)(a - b);

	return (ahead > 0) ? a : b;
}

static bool phstore_open_lease_same(const struct share_mode_entry *a,
				    const struct share_mode_entry *b)
{
	return a->op_type == LEASE_OPLOCK && b->op_type == LEASE_OPLOCK &&
	       smb2_lease_equal(&a->client_guid,
				&a->lease_key,
				&b->client_guid,
				&b->lease_key);
}

void phstore_leases_told_add(struct share_mode_entry **told,
			     const struct share_mode_entry *e)
{
	size_t num = talloc_array_length(*told);
	struct share_mode_entry *entries = NULL;

	entries = talloc_realloc(talloc_tos(), *told, struct share_mode_entry,
				 num + 1);
	if (entries == NULL) {
		DBG_ERR("phstore: out of memory\n");
		return;
	}
	entries[num] = *e;
	*told = entries;
}

bool phstore_leases_told_is_other(struct share_mode_entry **told,
				  const struct share_mode_entry *e)
{
	size_t num = talloc_array_length(*told);
	bool is_told = false;
	size_t i;

	for (i = 0; i < num; i++) {
		const struct share_mode_entry *t = &(*told)[i];

		if (!phstore_open_lease_same(t, e)) {
			continue;
		}
		if (server_id_equal(&t->pid, &e->pid)) {
			return false;
		}
		is_told = true;
	}
	if (is_told) {
		phstore_leases_told_add(told, e);
	}
	return is_told;
}

struct phstore_open_lease_find {
	const struct share_mode_entry *of;
	struct share_mode_entry found;
	bool is_asked;
	bool lives;
};

static bool phstore_open_lease_find_fn(struct share_mode_entry *e,
				       bool *modified,
				       void *private_data)
{
	struct phstore_open_lease_find *find = private_data;

	if (!phstore_open_lease_same(e, find->of) ||
	    server_id_equal(&e->pid, &find->of->pid))
	{
		return false;
	}
	if (!find->is_asked) {
		find->is_asked = true;
		find->found = *find->of;
		find->lives = serverid_exists(&find->of->pid);
	}
	if (!find->lives) {
		find->found = *e;
		find->lives = serverid_exists(&e->pid);
	}
	return find->lives;
}

void phstore_open_lease_living(struct share_mode_lock *lck,
			       struct share_mode_entry *e)
{
	struct phstore_open_lease_find find = { .of = e };
	bool ok;

	ok = share_mode_forall_entries(
		lck, phstore_open_lease_find_fn, &find);
	if (ok && find.lives) {
		*e = find.found;
	}
}

static bool phstore_open_is_changed(const SMB_STRUCT_STAT *is,
				    const struct vfs_default_durable_stat *was)
{
	return (uint64_t)is->st_ex_size != was->st_ex_size ||
	       !timespec_equal(&is->st_ex_mtime, &was->st_ex_mtime) ||
	       !timespec_equal(&is->st_ex_ctime, &was->st_ex_ctime);
}

static void phstore_open_lease_summed(struct files_struct *fsp,
				      struct share_mode_lock *lck)
{
	uint32_t access_mask;
	uint32_t share_access;
	uint32_t leases;

	share_mode_flags_get(lck, &access_mask, &share_access, &leases);
	leases |= fsp_lease_type(fsp);
	share_mode_flags_set(lck, access_mask, share_access, leases, NULL);
}

NTSTATUS phstore_open_lease_renew(struct files_struct *fsp,
				  struct share_mode_lock *lck,
				  const struct share_mode_entry *e,
				  const struct vfs_default_durable_stat *was)
{
	uint32_t state = 0;
	uint32_t requested = 0;
	uint32_t required = 0;
	uint16_t version = 0;
	uint16_t epoch = 0;
	bool breaking = false;
	bool may_read;
	bool is_told;
	bool ok;
	NTSTATUS status;

	if (fsp->oplock_type != LEASE_OPLOCK || fsp->lease == NULL) {
		return NT_STATUS_OK;
	}
	phstore_open_lease_summed(fsp, lck);
	if (!fsp->op->global->persistent && was->st_ex_mode != 0) {
		/* upstream's: it does not come back to a changed file */
		return NT_STATUS_OK;
	}
	ok = phstore_open_is_changed(&fsp->fsp_name->st, was);
	if (!ok) {
		return NT_STATUS_OK;
	}
	status = leases_db_get(fsp_client_guid(fsp),
			       &fsp->lease->lease.lease_key,
			       &fsp->file_id,
			       &state,
			       &breaking,
			       &requested,
			       &required,
			       &version,
			       &epoch);
	if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND)) {
		/* in a cluster: not known to be the newest; R by none */
		return NT_STATUS_OK;
	}
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	may_read = (state & (SMB2_LEASE_READ | SMB2_LEASE_WRITE)) ==
		   SMB2_LEASE_READ;
	if (!may_read) {
		return NT_STATUS_OK;
	}
	/* by another handle of the lease that is served here */
	is_told = breaking && requested != state &&
		  fsp->lease->ref_count > 1;
	if (is_told) {
		if (required & SMB2_LEASE_READ) {
			send_break_message(fsp->conn->sconn->msg_ctx,
					   &fsp->file_id,
					   e,
					   SMB2_LEASE_NONE);
		}
		return NT_STATUS_OK;
	}
	if (version >= 2 && state == SMB2_LEASE_READ && !breaking &&
	    fsp->op->global->persistent)
	{
		/* upstream's: leases.tdb has the next epoch */
		(void)fsp_lease_update(fsp);
		return NT_STATUS_OK;
	}
	if (version >= 2) {
		epoch += 1;
	} else {
		/* of a break that is saved nobody was told */
		state = SMB2_LEASE_NONE;
		breaking = false;
		requested = 0;
		required = 0;
	}
	status = leases_db_set(fsp_client_guid(fsp),
			       &fsp->lease->lease.lease_key,
			       state,
			       breaking,
			       requested,
			       required,
			       version,
			       epoch);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	(void)fsp_lease_update(fsp);
	return NT_STATUS_OK;
}

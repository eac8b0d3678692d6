/*
 * phstore: a change of a file's locks, and an epoch that begins in the middle
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * share_mode_do_locked_brl() reads a copy of the locks, has it changed, locks
 * their record and stores the copy. What keeps others out is the file's g_lock.
 * In a cluster both may take as long as a recovery of ctdb, and a node that
 * stood still goes on in the middle: the others have thought it dead, let go
 * its g_lock, and taken its handles up. So with the record locked, before the
 * copy is stored:
 *
 * - A handle that outlives its server has to be this smbd's own in this epoch:
 *   phstore_open_is_ours(). That waits for ctdb, so the record is let go
 *   first, and locked again.
 * - If an epoch has begun since the copy was read, the record has to be what it
 *   was then. While a g_lock is held nobody changes it, so either it was held
 *   all the time, or nothing is lost by storing the copy.
 *
 * If not, nothing is stored, and the smbd ends, as Samba does that finds its
 * g_lock gone: half of the change is done already, in memory or in the answer.
 */

#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "librpc/gen_ndr/ndr_smbXsrv.h"
#include "smbd/phstore_open.h"

/* The value begins with a version, which the copy has not: brlock.c */
#define PHSTORE_LOCKS_VERSION_LEN 4

/* Epochs that may begin, one after the other, in one change */
#define PHSTORE_LOCKS_TRIES 8

/* Not on one machine, and not with Samba's own storage */
static bool phstore_open_locks_have_epochs(void)
{
	return lp_clustering() && dbwrap_phstore_progress()->store != NULL;
}

static bool phstore_open_locks_outlive(const struct files_struct *fsp)
{
	return fsp->op != NULL && phstore_open_outlives(fsp->op->global);
}

struct phstore_open_locks_owner {
	struct smbXsrv_open *op;
	bool is_ours;
};

static void phstore_open_locks_owner_fn(TDB_DATA key,
					TDB_DATA value,
					void *private_data)
{
	struct phstore_open_locks_owner *owner = private_data;

	owner->is_ours = phstore_open_is_ours(owner->op, key, value);
}

/*
 * Without the open's record locked: that comes before the file's. What is ours
 * in an epoch stays so until it ends.
 */
static bool phstore_open_locks_are_ours(struct smbXsrv_open *op)
{
	struct phstore_open_locks_owner owner = { .op = op };
	uint64_t epoch;
	NTSTATUS status;

	status = dbwrap_phstore_ready();
	if (!NT_STATUS_IS_OK(status)) {
		return false;
	}
	epoch = dbwrap_phstore_epoch();
	if (phstore_open_is_sure(op)) {
		return true;
	}
	status = phstore_open_read(op->global->open_global_id,
				   phstore_open_locks_owner_fn,
				   &owner);
	if (!NT_STATUS_IS_OK(status)) {
		return false;
	}
	if (epoch == 0 || dbwrap_phstore_epoch() != epoch) {
		/* read in the one, noted for the other: looked at again */
		op->phstore_epoch = 0;
	}
	return owner.is_ours;
}

void phstore_open_locks_begin(struct phstore_open_locks *copy)
{
	*copy = (struct phstore_open_locks) {};

	if (phstore_open_locks_have_epochs()) {
		copy->epoch = dbwrap_phstore_epoch();
	}
}

void phstore_open_locks_read(struct phstore_open_locks *copy,
			     const void *data,
			     size_t len)
{
	if (phstore_open_locks_have_epochs()) {
		copy->hash = dbwrap_phstore_hash(data, len);
	}
}

bool phstore_open_locks_look(const struct files_struct *fsp,
			     struct phstore_open_locks *copy)
{
	if (!phstore_open_locks_have_epochs()) {
		return true;
	}
	copy->tries += 1;
	if (copy->changed || copy->tries > PHSTORE_LOCKS_TRIES) {
		return false;
	}
	return !phstore_open_locks_outlive(fsp) ||
	       phstore_open_locks_are_ours(fsp->op);
}

bool phstore_open_locks_stay(const struct files_struct *fsp,
			     struct phstore_open_locks *copy,
			     TDB_DATA value)
{
	uint64_t epoch, hash;

	if (!phstore_open_locks_have_epochs()) {
		return true;
	}
	epoch = dbwrap_phstore_epoch();
	if (epoch == 0 || epoch != copy->epoch) {
		if (value.dsize >= PHSTORE_LOCKS_VERSION_LEN) {
			value.dptr += PHSTORE_LOCKS_VERSION_LEN;
			value.dsize -= PHSTORE_LOCKS_VERSION_LEN;
		}
		hash = dbwrap_phstore_hash(value.dptr, value.dsize);
		copy->changed = hash != copy->hash;
	}
	if (copy->changed) {
		return false;
	}
	return !phstore_open_locks_outlive(fsp) ||
	       phstore_open_is_sure(fsp->op);
}

/*
 * phstore: durable handles that are not persistent
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A durable v2 handle survives its client's disconnect, in memory. Kept in
 * the store as well it survives its smbd's death, and that of all smbds.
 *
 * Rules
 *
 * - Nobody waits for it. Its changes are appended, with class LOCAL: killed
 *   processes lose nothing of the log.
 * - A crash of the machine loses the end of the log, and nobody waited for
 *   that. Half of what such a handle was told would be worse than none: a
 *   lock that was granted, and is not there. So a machine that was started
 *   anew drops these records. A file beside each volatile database names the
 *   boot in which it was filled.
 * - A store that can not take a change loses the handle's place in it, the
 *   operation goes on. Before a lock is taken the open is taken out, if
 *   there is no room (phstore_smbd.c): it must not come back without it.
 * - In a cluster a node's death loses the end of its log, while others live
 *   that saw what it did. So there the answers wait, as for persistent
 *   handles, that would make a handle wrong which comes back without them:
 *   locks taken and released, a rename or delete-on-close, and above all an
 *   open that takes the handle from its owner. What only adds or removes the
 *   handle itself (CREATE, CLOSE, a reconnect) waits for nothing: lost, the
 *   handle is not there, or there once more until its time is over or
 *   somebody opens the file. As everything that matters is as durable as with
 *   persistent handles, another boot drops nothing.
 * - With the backend rados and no cluster the store may be filled by another
 *   machine meanwhile, or from a RADOS that has not all of this one's log. So
 *   what counts is the boot and the life of the store (its generation, which
 *   phstored changes then, and whenever the store was not open in between).
 */

#include "includes.h"
#include "system/filesys.h"
#include "lib/param/param.h"
#include "lib/util/sys_rw.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"

#define DB_PHSTORE_BOOT_LEN 36
/* and the generation, if there is one */
#define DB_PHSTORE_LIFE_LEN (DB_PHSTORE_BOOT_LEN + 16 + 1)

static struct {
	bool understood;
	bool keeps;
	bool next;
	bool acks;
	bool purged;
} kept;

bool dbwrap_phstore_keeps_config(void)
{
	const char *val = lp_parm_const_string(
		GLOBAL_SECTION_SNUM, "phstore", "durable v2", NULL);
	bool has_sink = dbwrap_phstore_has_sink();
	bool wanted = !has_sink || lp_clustering();
	bool ok;

	if (val != NULL) {
		ok = set_boolean(val, &wanted);
		if (!ok) {
			DBG_ERR("smb.conf: phstore:durable v2 = %s is not "
				"understood, use yes or no\n", val);
			return false;
		}
	}
	kept.keeps = wanted;
	kept.understood = true;
	return true;
}

bool dbwrap_phstore_keeps(void)
{
	/* read when the store is opened; without one there is nothing */
	return kept.understood && kept.keeps;
}

void dbwrap_phstore_keep_next(bool keep)
{
	kept.next = keep && dbwrap_phstore_keeps();
}

bool dbwrap_phstore_keep_now(void)
{
	bool now = kept.next;

	kept.next = false;
	return now;
}

void dbwrap_phstore_kept_begin(bool all)
{
	kept.acks = all;
	kept.purged = false;
}

void dbwrap_phstore_kept_acks(void)
{
	kept.acks = true;
}

void dbwrap_phstore_kept_purged(void)
{
	kept.acks = true;
	kept.purged = true;
}

void dbwrap_phstore_note_purge(struct db_phstore_ctx *ctx,
			       TDB_DATA key,
			       const TDB_DATA *dbufs,
			       int num_dbufs)
{
	TDB_DATA form = {};
	size_t len = 0;
	NTSTATUS status;

	if (!kept.purged || !ctx->is_shares) {
		return;
	}
	kept.purged = false;
	status = dbwrap_phstore_form(ctx, dbufs, num_dbufs, &form, &len);
	if (!NT_STATUS_IS_OK(status) || form.dsize == 0) {
		return;
	}
	/* if there is no room: it is removed all the same */
	(void)dbwrap_phstore_stage_kept(ctx, key, &form);
}

struct db_phstore_ctx dbwrap_phstore_as_kept(const struct db_phstore_ctx *ctx)
{
	struct db_phstore_ctx as_kept = *ctx;

	/* a lock may be granted long after its request began */
	if (!kept.acks && !ctx->is_locks) {
		as_kept.durability = PHSTORE_CLASS_LOCAL;
	}
	return as_kept;
}

enum phstore_err dbwrap_phstore_stage_kept(const struct db_phstore_ctx *ctx,
					   TDB_DATA key,
					   const TDB_DATA *value)
{
	struct db_phstore_ctx as_kept = *ctx;

	as_kept.durability = PHSTORE_CLASS_LOCAL;
	return dbwrap_phstore_stage(&as_kept, key, value, value == NULL);
}

bool dbwrap_phstore_is_kept(int flag, bool was_kept)
{
	if (flag & DBWRAP_STORE_PHSTORE_KEPT) {
		return true;
	}
	return was_kept && !(flag & DBWRAP_STORE_PHSTORE_SURE);
}

enum phstore_err dbwrap_phstore_removal(const struct db_phstore_ctx *ctx,
					TDB_DATA key,
					bool was_kept)
{
	if (was_kept) {
		return dbwrap_phstore_stage_kept(ctx, key, NULL);
	}
	return dbwrap_phstore_stage(ctx, key, NULL, true);
}

enum phstore_err dbwrap_phstore_keep(const struct db_phstore_ctx *ctx,
				     TDB_DATA key,
				     const TDB_DATA *form,
				     bool was_persistent,
				     bool was_kept,
				     bool *persistent)
{
	enum phstore_err err;

	if (was_persistent && !was_kept) {
		/* the last persistent handle leaves: that is acked */
		return dbwrap_phstore_stage(ctx, key, form, true);
	}
	err = dbwrap_phstore_stage_kept(ctx, key, form);
	if (err == PHSTORE_OK) {
		return PHSTORE_OK;
	}
	*persistent = false;
	if (!was_persistent) {
		return PHSTORE_OK;
	}
	return dbwrap_phstore_stage_kept(ctx, key, NULL);
}

bool dbwrap_phstore_class_is_kept(const struct db_phstore_ctx *ctx,
				  enum phstore_class durability)
{
	return durability == PHSTORE_CLASS_LOCAL &&
	       ctx->durability != PHSTORE_CLASS_LOCAL;
}

/* Names this boot, and the life of a store that has lives. *len bytes */
static bool db_phstore_boot_id(char id[DB_PHSTORE_LIFE_LEN], ssize_t *len)
{
	uint64_t generation = dbwrap_phstore_generation();
	ssize_t got;
	int fd;

	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		return false;
	}
	got = sys_read(fd, id, DB_PHSTORE_BOOT_LEN);
	close(fd);
	if (got != DB_PHSTORE_BOOT_LEN) {
		return false;
	}
	*len = got;
	if (generation != 0) {
		*len += snprintf(id + got, DB_PHSTORE_LIFE_LEN - got,
				 "%016"PRIx64, generation);
	}
	return true;
}

/* LOCKDIR/locking.tdb: LOCKDIR/locking.tdb.boot */
static int db_phstore_boot_open(const struct db_phstore_ctx *ctx, int flags)
{
	char *path = NULL;
	int fd;

	path = talloc_asprintf(NULL, "%s.boot", ctx->path);
	if (path == NULL) {
		return -1;
	}
	fd = open(path, flags | O_CLOEXEC, 0600);
	TALLOC_FREE(path);
	return fd;
}

bool dbwrap_phstore_same_boot(const struct db_phstore_ctx *ctx)
{
	char id[DB_PHSTORE_LIFE_LEN];
	char noted[DB_PHSTORE_LIFE_LEN];
	ssize_t id_len = 0;
	ssize_t len;
	bool ok;
	int fd;

	if (!dbwrap_phstore_keeps()) {
		/* what is there was left when it was switched off */
		return false;
	}
	ok = db_phstore_boot_id(id, &id_len);
	if (!ok) {
		DBG_WARNING("phstore: this system does not name its boots: "
			    "durable handles do not survive smbd\n");
		return false;
	}
	fd = db_phstore_boot_open(ctx, O_RDONLY);
	if (fd == -1) {
		return false;
	}
	len = sys_read(fd, noted, sizeof(noted));
	close(fd);
	return len == id_len && memcmp(noted, id, len) == 0;
}

void dbwrap_phstore_note_boot(const struct db_phstore_ctx *ctx)
{
	char id[DB_PHSTORE_LIFE_LEN];
	ssize_t id_len = 0;
	ssize_t len = -1;
	bool ok;
	int fd;

	ok = dbwrap_phstore_keeps() && db_phstore_boot_id(id, &id_len);
	if (!ok) {
		return;
	}
	fd = db_phstore_boot_open(ctx, O_WRONLY | O_CREAT | O_TRUNC);
	if (fd != -1) {
		len = sys_write(fd, id, id_len);
		close(fd);
	}
	if (len != id_len) {
		DBG_WARNING("%s.boot: this boot is not noted, durable handles "
			    "do not survive smbd: %s\n",
			    ctx->path, strerror(errno));
	}
}

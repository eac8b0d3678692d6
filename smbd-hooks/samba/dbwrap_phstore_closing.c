/*
 * phstore: a share mode entry and its open go in one transaction
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A CLOSE removes two records: the entry of the file's share modes, then the
 * open. The first is staged with the removal of the second, so that a crash
 * leaves both or neither, and the log has one frame less.
 *
 * Rules
 *
 * - Only the store's copy of the open goes with the entry. Its volatile record
 *   is removed a moment later, and nothing is staged for it then.
 * - Nobody else changes the record of an open that its smbd is closing. So the
 *   order in which the two records are locked does not come into it: that of
 *   the open is not looked at.
 * - Killed before the frame was appended: neither. With it appended, and not
 *   yet in the volatile databases: both are staged again by smbd's parent, as
 *   these have them (dbwrap_phstore_inflight.c). With the entry removed from
 *   the volatile database, too: he removes the open there. The CLOSE was not
 *   answered: the handle may be there or gone.
 * - If the volatile store of the entry fails CLOSE goes on, and smbd panics.
 * - A change of the open in between (there is none today) makes its removal
 *   count as not done.
 * - Not in a cluster: there the open's volatile record has to be stored before
 *   anything is staged, for its version.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"
#include "librpc/gen_ndr/file_id.h"

enum closing_state {
	CLOSING_NONE,
	CLOSING_BEGUN,		/* the entry is staged next */
	CLOSING_JOINED,		/* the open is in that transaction */
	CLOSING_STAGED,
};

static struct {
	struct db_phstore_ctx *opens;
	enum closing_state state;
	struct file_id file;
	uint8_t key[sizeof(uint32_t)];
	enum phstore_class durability;
} closing;

void dbwrap_phstore_closing_opens(struct db_phstore_ctx *opens)
{
	closing.opens = opens;
	closing.state = CLOSING_NONE;
}

void dbwrap_phstore_closing_begin(uint32_t open_id,
				  const struct file_id *file,
				  bool is_persistent)
{
	if (closing.opens == NULL || lp_clustering()) {
		return;
	}
	closing.state = CLOSING_BEGUN;
	closing.file = *file;
	/* nobody waits for what is kept for a durable handle */
	closing.durability = is_persistent ? closing.opens->durability :
					     PHSTORE_CLASS_LOCAL;
	RSIVAL(closing.key, 0, open_id);
}

static TDB_DATA closing_key(void)
{
	return make_tdb_data(closing.key, sizeof(closing.key));
}

enum phstore_err dbwrap_phstore_closing_join(const struct db_phstore_ctx *ctx,
					     TDB_DATA key,
					     struct phstore_txn *txn)
{
	TDB_DATA file = make_tdb_data((const uint8_t *)&closing.file,
				      sizeof(closing.file));
	struct phstore_op_options opts = {
		.durability = closing.durability,
		.skip_same = true,
	};
	struct phstore_blob pkey = {
		.data = closing.key,
		.len = sizeof(closing.key),
	};
	enum phstore_err err;

	if (closing.state != CLOSING_BEGUN || !ctx->is_shares ||
	    !tdb_data_equal(key, file))
	{
		return PHSTORE_OK;
	}
	err = phstore_txn_delete(txn, closing.opens->table, pkey, &opts);
	if (err == PHSTORE_OK) {
		closing.state = CLOSING_JOINED;
		dbwrap_phstore_inflight_closing(RIVAL(closing.key, 0),
						&closing.file);
	}
	return err;
}

void dbwrap_phstore_closing_staged(enum phstore_err err, uint64_t lsn)
{
	struct db_phstore_ctx as = {};

	if (closing.state != CLOSING_JOINED) {
		return;
	}
	if (err != PHSTORE_OK) {
		/* what else is tried for the entry is tried with it as well */
		closing.state = CLOSING_BEGUN;
		dbwrap_phstore_inflight_closing(0, NULL);
		return;
	}
	closing.state = CLOSING_STAGED;
	as = *closing.opens;
	as.durability = closing.durability;
	/* this is the last the request stages */
	dbwrap_phstore_more(false);
	dbwrap_phstore_staged(&as, lsn);
}

void dbwrap_phstore_closing_reset(void)
{
	if (closing.state != CLOSING_NONE) {
		closing.state = CLOSING_NONE;
		dbwrap_phstore_inflight_closing(0, NULL);
	}
}

void dbwrap_phstore_closing_changed(const struct db_phstore_ctx *ctx)
{
	if (ctx->is_opens) {
		dbwrap_phstore_closing_reset();
	}
}

bool dbwrap_phstore_closing_end(const struct db_phstore_ctx *ctx, TDB_DATA key)
{
	enum closing_state state = closing.state;

	if (!ctx->is_opens || state == CLOSING_NONE ||
	    !tdb_data_equal(key, closing_key()))
	{
		return false;
	}
	closing.state = CLOSING_NONE;
	dbwrap_phstore_more(false);
	return state == CLOSING_STAGED;
}

/*
 * phstore: which records of leases.tdb count after a node's death
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * leases.tdb is in no store. When a node dies ctdb's recovery may bring an
 * older record of a lease back: weaker than what its client was granted since
 * (others would be let in, and the client not told), or stronger. So each
 * record says in which epoch it was known to be right, and which smbd serves
 * the client. It counts
 * - in that epoch: no recovery has touched it since;
 * - while that smbd lives: it made all changes, so the newest copy is on its
 *   node, which a recovery asks as well.
 * Any other is not there, for smbd, as when all smbds died. Nobody gets the
 * file before the client is back; what it has then is in the open's record
 * (phstore_open_lease.c).
 *
 * The epoch is read after the value, or under its lock: it is 0 from before
 * a recovery touches anything until the next one begins.
 */

#include "includes.h"
#include "lib/util/server_id.h"
#include "serverid.h"
#include "messages.h"
#include "lib/global_contexts.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "librpc/gen_ndr/leases_db.h"
#include "locking/phstore_lease.h"

static bool phstore_lease_believes;

bool phstore_leases_are_compared(void)
{
	return lp_clustering() && dbwrap_phstore_progress()->store != NULL;
}

static struct server_id phstore_lease_server(
	const struct leases_db_value *value)
{
	return (struct server_id) {
		.pid = value->phstore_pid,
		.task_id = value->phstore_task_id,
		.vnn = value->phstore_vnn,
		.unique_id = value->phstore_unique_id,
	};
}

static struct server_id phstore_lease_self(void)
{
	return messaging_server_id(global_messaging_context());
}

bool phstore_lease_counts(const struct leases_db_value *value)
{
	struct server_id server = phstore_lease_server(value);
	uint64_t epoch;

	if (phstore_lease_believes || !phstore_leases_are_compared()) {
		return true;
	}
	epoch = dbwrap_phstore_epoch();
	if (epoch != 0 && epoch == value->phstore_epoch) {
		return true;
	}
	return server.pid != 0 && serverid_exists(&server);
}

void phstore_lease_mine(struct leases_db_value *value)
{
	struct server_id self;

	if (!phstore_leases_are_compared()) {
		return;
	}
	self = phstore_lease_self();
	value->phstore_pid = self.pid;
	value->phstore_task_id = self.task_id;
	value->phstore_vnn = self.vnn;
	value->phstore_unique_id = self.unique_id;
	value->phstore_epoch = dbwrap_phstore_epoch();
}

void phstore_lease_changed(struct leases_db_value *value)
{
	struct server_id server = phstore_lease_server(value);
	struct server_id self;

	if (!phstore_leases_are_compared()) {
		return;
	}
	/* others may have looked at it in an epoch that is over */
	self = phstore_lease_self();
	if (server_id_equal(&server, &self)) {
		value->phstore_epoch = dbwrap_phstore_epoch();
	}
}

void phstore_lease_believe(bool believe)
{
	phstore_lease_believes = believe;
}

# phstore: the call sites in Samba
#
# SPDX-License-Identifier: GPL-3.0-or-later
# tidy: long because it is one list
#
# Each hook puts lines of ours before or after one line of Samba's. That line
# is named by a short piece of it (the anchor), looked for in one function or
# block (the scope) or, without a scope, in the whole file. It must be found
# exactly once: when a Samba release moves things, apply says which hook no
# longer fits and changes nothing. Only our own lines are in here.
#
# Scopes: "function NAME" is a C function's body; "block TEXT" goes from the
# one line that begins with TEXT to the next empty line.

from collections import namedtuple

Hook = namedtuple("Hook", "name file scope where anchor lines needs")


def hook(name, file, where, anchor, lines, scope=None, needs=None):
    return Hook(name, file, scope, where, anchor, lines.strip("\n"), needs)


HOOKS = [
    hook("build-library", "wscript_build",
         "after", "bld.RECURSE('lib/dbwrap')",
         "bld.RECURSE('lib/phstore')"),

    hook("build-dbwrap", "source3/wscript_build",
         "after", "lib/dbwrap/dbwrap_open.c",
         """
                            lib/dbwrap/dbwrap_phstore.c
                            lib/dbwrap/dbwrap_phstore_value.c
                            lib/dbwrap/dbwrap_phstore_store.c
                            lib/dbwrap/dbwrap_phstore_inflight.c
                            lib/dbwrap/dbwrap_phstore_number.c
                            lib/dbwrap/dbwrap_phstore_closing.c
                            lib/dbwrap/dbwrap_phstore_creating.c
                            lib/dbwrap/dbwrap_phstore_held.c
                            lib/dbwrap/dbwrap_phstore_recover.c
                            lib/dbwrap/dbwrap_phstore_gate.c
                            lib/dbwrap/dbwrap_phstore_kept.c
                            lib/dbwrap/dbwrap_phstore_ctdb.c
                            lib/dbwrap/dbwrap_phstore_ctdb_rec.c
                            lib/dbwrap/dbwrap_phstore_ctdb_walk.c
                            lib/dbwrap/dbwrap_phstore_replay.c
                            ../lib/dbwrap/phstore_canon.c
""", scope="block bld.SAMBA3_SUBSYSTEM('TDB_LIB'"),

    hook("build-dbwrap-deps", "source3/wscript_build",
         "after", "samba-cluster-support",
         """
                          phstore
                          smbd_shim
                          tdb-wrap
""", scope="block bld.SAMBA3_SUBSYSTEM('TDB_LIB'"),

    hook("build-smbd", "source3/wscript_build",
         "after", "smbd/smb2_server.c",
         """
                          smbd/phstore_smbd.c
                          smbd/phstore_open.c
                          smbd/phstore_open_lease.c
                          smbd/phstore_open_locks.c
                          smbd/phstore_open_replay.c
                          smbd/phstore_lease_value.c
                          smbd/phstore_expire.c""",
         scope="block bld.SAMBA3_LIBRARY('smbd_base'"),

    # A public address that leaves ends this smbd, from its event loop. A
    # request to ctdbd under way was given up halfway on top of that, and what
    # smbd then did about the error lost handles, or was a panic.
    hook("release-ip", "source3/lib/ctdbd_conn.c",
         "after", "ret = ctdbd_msg_call_back(NULL, conn, msg);",
         "		ret = 0; /* phstore: the answer is still to come */",
         scope="function ctdb_read_req"),

    # A connection that is passed to this smbd while it waits in an inner event
    # loop is looked at in the outer one. Its number was closed before, then
    # used, and closed again: it may have been a segment of the store by then.
    hook("passed-fds", "source3/lib/messages.c",
         "after", "&iov, 1, fds, rec->num_fds);",
         """
		/* phstore: those of whom it was posted to */
		for (i = 0; ret == 0 && i < rec->num_fds; i++) {
			rec->fds[i] = -1;
		}
""", scope="function messaging_dispatch_rec"),

    # Its client is on another node already, and waits for this end
    hook("exit-include", "source3/smbd/server_exit.c",
         "after", '#include "locking/share_mode_lock.h"',
         '#include "lib/dbwrap/dbwrap_phstore.h"'),

    hook("exit", "source3/smbd/server_exit.c",
         "after", "exit_firsttime = false;",
         "	dbwrap_phstore_exiting();",
         scope="function exit_server_common"),

    hook("child-gone-include", "source3/smbd/server.c",
         "after", '#include "locking/leases_db.h"',
         '#include "smbd/phstore_open.h"'),

    hook("child-gone", "source3/smbd/server.c",
         "before", "for (child = parent->children; child != NULL; "
         "child = child->next) {",
         "	phstore_open_child_gone(pid, unclean_shutdown);",
         scope="function remove_child_pid"),

    hook("tree-notifyd-include", "source3/smbd/smb2_service.c",
         "after", '#include "passdb/lookup_sid.h"',
         '#include "smbd/phstore_smbd.h"'),

    hook("tree-notifyd", "source3/smbd/smb2_service.c",
         "before", "sconn->notify_ctx = notify_init(sconn, sconn->msg_ctx,",
         "	phstore_smb2_wait_notifyd(sconn->msg_ctx);",
         scope="function notify_init_sconn"),

    hook("build-bench", "source3/wscript_build",
         "after", "bld.RECURSE('torture')",
         "bld.RECURSE('phbench')",
         needs="bench/phbench/wscript_build"),

    hook("build-torture", "source3/wscript_build",
         "before", "bld.RECURSE('torture')",
         "bld.RECURSE('phtorture')",
         needs="tests/torture/samba/wscript_build"),

    hook("open-include", "source3/lib/dbwrap/dbwrap_open.c",
         "after", '#include "dbwrap/dbwrap_open.h"',
         '#include "lib/dbwrap/dbwrap_phstore.h"'),

    hook("open", "source3/lib/dbwrap/dbwrap_open.c",
         "before", "dbwrap_local_open(", """
	if (dbwrap_phstore_wanted(dbwrap_flags)) {
		result = db_open_phstore(mem_ctx,
					 name,
					 hash_size,
					 tdb_flags,
					 open_flags,
					 mode,
					 lock_order,
					 dbwrap_flags);
		talloc_unlink(mem_ctx, lp_ctx);
		return result;
	}

""", scope="function db_open_ex"),

    hook("open-ctdb", "source3/lib/dbwrap/dbwrap_open.c",
         "before", "result = db_open_ctdb_ex(mem_ctx,", """
			if (dbwrap_phstore_wanted_ctdb(dbwrap_flags)) {
				return db_open_phstore_ctdb(mem_ctx,
							    ev_ctx,
							    msg_ctx,
							    conn,
							    base,
							    hash_size,
							    tdb_flags,
							    open_flags,
							    mode,
							    lock_order,
							    dbwrap_flags);
			}

""", scope="function db_open_ex"),

    hook("request-state", "source3/smbd/globals.h",
         "after", "struct smbd_smb2_send_queue queue_entry;", """

	/* what its response has to wait for, see phstore_smbd.c */
	struct {
		uint64_t stages;
		uint64_t failures;
		bool started;
		bool counts;
		bool always;
		bool acks;
	} phstore;
"""),

    hook("reply-include", "source3/smbd/smb2_server.c",
         "after", '#include "smbd/smbXsrv_open.h"',
         '#include "smbd/phstore_smbd.h"'),

    hook("reply-flush", "source3/smbd/smb2_server.c",
         "after", "static NTSTATUS smbd_smb2_flush_send_queue("
         "struct smbXsrv_connection *xconn);", """

NTSTATUS phstore_smb2_flush(struct smbXsrv_connection *xconn)
{
	return smbd_smb2_flush_send_queue(xconn);
}
"""),

    hook("request-begin", "source3/smbd/smb2_server.c",
         "before", "DO_PROFILE_INC(request);",
         "	phstore_smb2_dispatch(req);",
         scope="function smbd_smb2_request_dispatch"),

    hook("request-admit", "source3/smbd/smb2_server.c",
         "before", "if (call->as_root) {", """
	status = phstore_smb2_admit(req);
	if (!NT_STATUS_IS_OK(status)) {
		return smbd_smb2_request_error(req, status);
	}

""", scope="function smbd_smb2_request_dispatch"),

    hook("create-include", "source3/smbd/smb2_create.c",
         "after", '#include "smbd/globals.h"',
         '#include "smbd/phstore_smbd.h"'),

    hook("create-admit", "source3/smbd/smb2_create.c",
         "before", "private_flags |= NTCREATEX_FLAG_PERSISTENT_OPEN;", """
		status = phstore_smb2_admit_open();
		if (tevent_req_nterror(req, status)) {
			return tevent_req_post(req, state->ev);
		}
"""),

    hook("reply-answered", "source3/smbd/smb2_server.c",
         "before", "req->subreq = NULL;",
         "	phstore_smb2_answered(req);",
         scope="function smbd_smb2_request_reply"),

    hook("reply-hold", "source3/smbd/smb2_server.c",
         "after", "DLIST_REMOVE(xconn->smb2.requests, req);", """

	status = phstore_smb2_hold(req, req);
	if (NT_STATUS_EQUAL(status, NT_STATUS_EVENT_PENDING)) {
		return NT_STATUS_OK;
	}
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
""", scope="function smbd_smb2_request_reply"),

    hook("interim-hold", "source3/smbd/smb2_server.c",
         "before", "nreq->queue_entry.mem_ctx = nreq;", """
	status = phstore_smb2_hold(nreq, req);
	if (NT_STATUS_EQUAL(status, NT_STATUS_EVENT_PENDING)) {
		return NT_STATUS_OK;
	}
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}

""", scope="function smb2_send_async_interim_response"),

    # Two smbds must never give two contents of one file the same epoch
    hook("unique-seed", "lib/util/genrand_util.c",
         "before", "if (unlikely(pid != generate_unique_u64_state.pid)) {",
         """
	if (pid != generate_unique_u64_state.pid) {
		generate_unique_u64_state.pid = pid;
		generate_nonce_buffer(
			(void *)&generate_unique_u64_state.next_value,
			sizeof(generate_unique_u64_state.next_value));
	}
""", scope="function generate_unique_u64"),

    hook("persistent-count", "source3/locking/share_mode_lock.c",
         "after", "d->num_persistent--;",
         "			d->modified = true;",
         scope="function share_mode_for_one_entry"),

    # A lock that waits for its owner to come back is not garbage
    hook("brlock-owner", "source3/locking/brlock.c",
         "after", '#include "serverid.h"', """
#include "lib/dbwrap/dbwrap_phstore.h"
#include "smbd/phstore_open.h"

static bool phstore_lock_owner_exists(const struct server_id *pid);

/* Of a durable handle that is not persistent and whose smbd died */
static bool phstore_lock_is_left(const struct lock_struct *lock)
{
	return lock->phstore_kept == PHSTORE_LOCK_KEPT &&
	       !server_id_is_disconnected(&lock->context.pid) &&
	       !serverid_exists(&lock->context.pid);
}

static bool phstore_locks_are_kept(const struct files_struct *fsp)
{
	return dbwrap_phstore_keeps() &&
	       fsp->op != NULL &&
	       fsp->op->global->durable &&
	       !fsp->op->global->persistent;
}
#define serverid_exists phstore_lock_owner_exists
"""),

    hook("brlock-owner-end", "source3/locking/brlock.c",
         "before", "bool brl_cleanup_disconnected(struct file_id fid, "
         "uint64_t open_persistent_id)", """
#undef serverid_exists

/*
 * Called with the pid of a lock in an array of locks: a persistent lock
 * outlives its smbd, its owner comes back or brl_cleanup_disconnected()
 * removes it.
 */
static bool phstore_lock_owner_exists(const struct server_id *pid)
{
	const struct lock_struct *lock = (const struct lock_struct *)(
		(const char *)pid - offsetof(struct lock_struct, context.pid));

	if (lock->persistent) {
		return true;
	}
	return serverid_exists(pid);
}

"""),

    # CLOSE: the locks go first, then the share mode entry, whole, with its
    # oplock or lease, all under one g_lock. A lock without its handle would
    # be nobody's, and stay; an entry without its lease is lost to a client
    # whose CLOSE was not answered, and stays as well.
    hook("close-state", "source3/smbd/close.c",
         "after", "bool reset_delete_on_close;",
         "	int phstore_oplock_type;"),

    hook("close-include", "source3/smbd/close.c",
         "after", '#include "smbd/smbd.h"',
         '#include "smbd/phstore_open.h"'),

    # One transaction: the locks go, and the handle is closed
    hook("close-locks-was", "source3/smbd/close.c",
         "before", "fsp->op->global->durable = false;",
         "		phstore_open_close_was(fsp->op);",
         scope="function close_normal_file"),

    hook("close-locks-begin", "source3/smbd/close.c",
         "before", "locking_close_file(fsp, close_type);",
         "	phstore_open_close_begin(fsp);",
         scope="function close_remove_share_mode"),

    hook("close-locks-end", "source3/smbd/close.c",
         "after", "locking_close_file(fsp, close_type);",
         "	phstore_open_close_end();",
         scope="function close_remove_share_mode"),

    hook("open-id-again", "source3/smbd/smbXsrv_open.c",
         "before",
         "key = smbXsrv_open_global_id_to_key(state.id, &key_buf);", """
		if (i == 0) {
			uint32_t phstore_id = phstore_open_id_again();

			if (phstore_id != 0) {
				state.id = phstore_id;
			}
		}
""", scope="function smbXsrv_open_global_allocate"),

    # A node comes back from a cut: its smbds still have handles that were taken
    # up elsewhere, or closed, meanwhile
    hook("open-ours-idl", "source3/librpc/idl/smbXsrv.idl",
         "after", "hyper					pre_request_count;",
         "		hyper					phstore_epoch;"),

    hook("open-ours-create", "source3/smbd/smbXsrv_open.c",
         "before", "op->session = session;",
         "	op->phstore_epoch = dbwrap_phstore_epoch();",
         scope="function smbXsrv_open_create"),

    hook("open-ours-state", "source3/smbd/smbXsrv_open.c",
         "after", "struct smbXsrv_open_update_state {",
         "	struct smbXsrv_open *phstore_op;"),

    hook("open-ours-op", "source3/smbd/smbXsrv_open.c",
         "before", "status = dbwrap_do_locked(",
         "	state.phstore_op = op;",
         scope="function smbXsrv_open_update"),

    hook("open-ours-update", "source3/smbd/smbXsrv_open.c",
         "before", "state->status = smbXsrv_open_global_store(", """
	if (!phstore_open_is_ours(state->phstore_op, key, oldval)) {
		state->status = NT_STATUS_FILE_NOT_AVAILABLE;
		return;
	}
""", scope="function smbXsrv_open_update_fn"),

    # a LOCK that has waited, maybe while the node was away
    hook("open-ours-lock", "source3/smbd/smb2_lock.c",
         "before", "smbd_smb2_lock_try(req);", """
	if (phstore_open_outlives(state->fsp->op->global)) {
		status = phstore_open_check_ours(state->fsp->op);
		if (tevent_req_nterror(req, status)) {
			return;
		}
	}
""", scope="function smbd_smb2_lock_retry"),

    # a LOCK that waits for the records, while the node is away: the copy of the
    # locks is stored only if nobody else could change them meanwhile
    hook("open-ours-copy", "source3/locking/brlock.c",
         "before", "if (lp_locking(state->fsp->conn->params) &&", """
	struct phstore_open_locks phstore_copy;
	bool phstore_ok;

	phstore_open_locks_begin(&phstore_copy);

""", scope="function share_mode_do_locked_brl_fn"),

    hook("open-ours-copied", "source3/locking/brlock.c",
         "before", "state->cb(lck, br_lck, state->cb_data);", """
	if (br_lck != NULL) {
		phstore_open_locks_read(&phstore_copy,
					br_lck->lock_data,
					br_lck->num_locks *
						sizeof(struct lock_struct));
	}
""", scope="function share_mode_do_locked_brl_fn"),

    hook("open-ours-look", "source3/locking/brlock.c",
         "before", "br_lck->record = dbwrap_fetch_locked("
         "brlock_db, br_lck, key);", """
phstore_look:
	phstore_ok = phstore_open_locks_look(state->fsp, &phstore_copy);
	if (!phstore_ok) {
		dbwrap_phstore_too_late("locks of a file were to be changed "
					"while this node was away");
	}
""", scope="function share_mode_do_locked_brl_fn"),

    hook("open-ours-stay", "source3/locking/brlock.c",
         "before", "byte_range_lock_flush(br_lck);", """
	phstore_ok = phstore_open_locks_stay(
		state->fsp,
		&phstore_copy,
		dbwrap_record_get_value(br_lck->record));
	if (!phstore_ok) {
		TALLOC_FREE(br_lck->record);
		goto phstore_look;
	}
""", scope="function share_mode_do_locked_brl_fn"),

    hook("open-ours-taken", "source3/smbd/smbXsrv_open.c",
         "before", "global->open_volatile_id = state->op->local_id;",
         "	phstore_open_taken(global);\n"
         "	state->op->phstore_epoch = dbwrap_phstore_epoch();",
         scope="function smb2srv_open_recreate_fn"),

    hook("open-ours-close", "source3/smbd/smbXsrv_open.c",
         "before", "if (global->durable) {", """
	if (!phstore_open_is_ours(state->op, key, oldval)) {
		state->status = NT_STATUS_OK;
		return;
	}
""", scope="function smbXsrv_open_close_fn"),

    hook("open-closed", "source3/smbd/smbXsrv_open.c",
         "before", "if (!global->durable) {", """
	if (phstore_open_is_closed(global)) {
		goto not_found;
	}
""", scope="function smb2srv_open_recreate_fn"),

    hook("close-lease", "source3/smbd/close.c",
         "before", "static void close_share_mode_lock_prepare("
         "struct share_mode_lock *lck,", """
/* What remove_share_oplock() does, once the entry is gone. */
static void phstore_close_lease(struct share_mode_lock *lck,
				struct close_share_mode_lock_state *state)
{
	struct files_struct *fsp = state->fsp;

	if (state->phstore_oplock_type == NO_OPLOCK) {
		return;
	}
	if (state->phstore_oplock_type == LEASE_OPLOCK) {
		(void)remove_lease_if_stale(lck,
					    fsp_client_guid(fsp),
					    &fsp->lease->lease.lease_key);
	}
	share_mode_wakeup_waiters(fsp->file_id);
}

"""),

    hook("close-keep-oplock", "source3/smbd/close.c",
         "before", "if (fsp->oplock_type != NO_OPLOCK) {", """
	state->phstore_oplock_type = fsp->oplock_type;
	goto phstore_keep_oplock;

""", scope="function close_share_mode_lock_prepare"),

    hook("close-kept-oplock", "source3/smbd/close.c",
         "before", "if (fsp->fsp_flags.initial_delete_on_close &&",
         "phstore_keep_oplock:",
         scope="function close_share_mode_lock_prepare"),

    hook("close-locks-first", "source3/smbd/close.c",
         "before", "if (!state->delete_object) {", """
	if (!state->delete_object && fsp->current_lock_count > 0) {
		/* close_share_mode_lock_cleanup() removes the entry */
		return;
	}

""", scope="function close_share_mode_lock_prepare"),

    # One transaction: the entry goes, and the open
    hook("close-entry", "source3/smbd/close.c",
         "before", "ok = del_share_mode(lck, fsp);",
         "		phstore_open_close_entry(fsp);",
         scope="function close_share_mode_lock_prepare"),

    hook("close-cleanup-entry", "source3/smbd/close.c",
         "before", "ok = del_share_mode(lck, fsp);", """
	/* the locks are gone, or the file */
	phstore_open_close_entry(fsp);
""", scope="function close_share_mode_lock_cleanup"),

    hook("close-lease-last", "source3/smbd/close.c",
         "after", "ok = del_share_mode(lck, fsp);",
         "		phstore_close_lease(lck, state);",
         scope="function close_share_mode_lock_prepare"),

    hook("close-entry-last", "source3/smbd/close.c",
         "before", "/* Remove the oplock before potentially deleting the "
         "file. */", """
	if (fsp->current_lock_count > 0) {
		lck_state.cleanup_fn = close_share_mode_lock_cleanup;
	}

""", scope="function close_remove_share_mode"),

    hook("close-cleanup-lease", "source3/smbd/close.c",
         "after", "ok = del_share_mode(lck, fsp);",
         """
	/* the locks were removed, or the file was */
	phstore_close_lease(lck, state);
""", scope="function close_share_mode_lock_cleanup"),

    # The last a CLOSE removes, also one that no request asked for
    hook("close-end", "source3/smbd/smbXsrv_open.c",
         "before", "ret = idr_remove(table->local.idr, op->local_id);",
         """
	phstore_open_replay_left(op);
	dbwrap_phstore_request_end();
""", scope="function smbXsrv_open_close"),

    hook("replay-left", "source3/smbd/smbXsrv_open.c",
         "before", "struct smbXsrv_open_close_state {", """
/* Its record in the replay cache, if it was not used */
static void phstore_open_replay_left(struct smbXsrv_open *op)
{
	struct smbXsrv_open_global *global = op->global;
	struct smbXsrv_open_replay_cache_key_buf key_buf;
	TDB_DATA key;

	if (!global->durable || !phstore_open_outlives(global) ||
	    GUID_all_zero(&global->create_guid))
	{
		return;
	}
	key = smbXsrv_open_replay_cache_key(
		&global->client_guid, &global->create_guid, &key_buf);
	dbwrap_phstore_replay_give(
		smbXsrv_open_global_db_ctx, key, global->open_global_id);
}

"""),

    hook("replay-left-by", "source3/smbd/smbXsrv_open.c",
         "before", "NTSTATUS smbXsrv_open_cleanup(uint64_t persistent_id)",
         """
void phstore_open_replay_left_by(pid_t pid)
{
	dbwrap_phstore_replay_give_all(
		smbXsrv_open_global_db_ctx, pid, phstore_open_is_orphan);
}

"""),

    hook("replay-forget", "source3/smbd/smbXsrv_open.c",
         "before", "status = dbwrap_purge(smbXsrv_open_global_db_ctx, key);",
         "	dbwrap_phstore_replay_forget("
         "smbXsrv_open_global_db_ctx, key);",
         scope="function smbXsrv_replay_cleanup"),

    hook("replay-find", "source3/smbd/smbXsrv_open.c",
         "before", "db_rec = dbwrap_fetch_locked(db, frame, key);", """
	if (replay_operation) {
		bool phstore_in_use = false;

		phstore_id = phstore_open_replay_find(
			db,
			key,
			&conn->client->global->client_guid,
			&create_guid,
			persistent_requested,
			&phstore_in_use);
		if (phstore_in_use) {
			/* by who does not know that its client is gone */
			TALLOC_FREE(frame);
			return NT_STATUS_FILE_NOT_AVAILABLE;
		}
	}
""", scope="function smb2srv_open_lookup_replay_cache"),

    # An open whose smbd died before it could mark it persistent
    hook("scavenge-half-open", "source3/smbd/scavenger.c",
         "before", "if (global != NULL) {", """
	if (global != NULL &&
	    !global->persistent &&
	    !phstore_open_is_kept(global) &&
	    !server_id_is_disconnected(&global->server_id) &&
	    !serverid_exists(&global->server_id))
	{
		global = NULL;
	}

""", scope="function scavenger_add_timer"),

    # When the time of a handle is over whose server died: written down at
    # the first look, and the record decides, not the timer
    hook("scavenge-include", "source3/smbd/scavenger.c",
         "after", '#include "smbd/scavenger.h"',
         '#include "smbd/phstore_open.h"'),

    hook("scavenge-crash-time", "source3/smbd/scavenger.c",
         "after", "durable_timeout_msec = global->durable_timeout_msec;", """
		if ((global->persistent || phstore_open_is_left(global)) &&
		    disconnect_time == 0)
		{
			disconnect_time = phstore_open_crashed(
				global->open_global_id, msg->file_id);
		}
""", scope="function scavenger_add_timer"),

    # A CREATE that its smbd died in: its entry is nobody's
    hook("scavenge-half", "source3/smbd/scavenger.c",
         "before", "struct scavenger_timer_context {", """
void phstore_scavenge(uint32_t open_id,
		      const struct file_id *file_id,
		      uint32_t name_hash)
{
	struct scavenger_message msg = {
		.file_id = *file_id,
		.open_persistent_id = open_id,
		.name_hash = name_hash,
	};
	DATA_BLOB blob = data_blob_const(&msg, sizeof(msg));
	NTSTATUS status;

	if (smbd_scavenger_state == NULL) {
		return;
	}
	status = messaging_send(smbd_scavenger_state->msg,
				smbd_scavenger_state->parent_id,
				MSG_SMB_SCAVENGER,
				&blob);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_NOTICE("half a CREATE stays until somebody asks for the "
			   "file: %s\\n", nt_errstr(status));
	}
}

"""),

    hook("open-include", "source3/smbd/smbXsrv_open.c",
         "after", '#include "smbXsrv_open.h"',
         """
#include "smbd/phstore_open.h"
#include "smbd/phstore_open_lease.h"
#include "lib/dbwrap/dbwrap_phstore.h"
"""),

    hook("open-own-functions", "source3/smbd/smbXsrv_open.c",
         "before", "NTSTATUS smbXsrv_open_cleanup(uint64_t persistent_id)",
         """
NTSTATUS phstore_open_store(struct db_record *rec,
			    TDB_DATA oldval,
			    struct smbXsrv_open_global *global)
{
	return smbXsrv_open_global_store(
		rec, dbwrap_record_get_key(rec), oldval, global);
}

NTSTATUS phstore_open_do_locked(uint32_t id,
				void (*fn)(struct db_record *rec,
					   TDB_DATA value,
					   void *private_data),
				void *private_data)
{
	struct smbXsrv_open_global_key_buf key_buf;
	TDB_DATA key = smbXsrv_open_global_id_to_key(id, &key_buf);

	return dbwrap_do_locked(
		smbXsrv_open_global_db_ctx, key, fn, private_data);
}

NTSTATUS phstore_open_read(uint32_t id,
			   void (*fn)(TDB_DATA key,
				      TDB_DATA value,
				      void *private_data),
			   void *private_data)
{
	struct smbXsrv_open_global_key_buf key_buf;
	TDB_DATA key = smbXsrv_open_global_id_to_key(id, &key_buf);

	return dbwrap_parse_record(
		smbXsrv_open_global_db_ctx, key, fn, private_data);
}

"""),

    hook("open-crash-expired", "source3/smbd/smbXsrv_open.c",
         "before", "if (!delete_open) {", """
	if ((global->persistent || phstore_open_is_kept(global)) &&
	    !server_id_is_disconnected(&global->server_id) &&
	    delete_open)
	{
		delete_open = phstore_open_expired(global);
	}

""", scope="function smbXsrv_open_cleanup_fn"),

    hook("cleanupd-include", "source3/smbd/smbd_cleanupd.c",
         "after", '#include "source3/smbd/smbXsrv_open.h"',
         '''
#include "source3/smbd/phstore_open.h"
#include "lib/dbwrap/dbwrap_phstore.h"'''),

    hook("cleanupd-skip", "source3/smbd/smbd_cleanupd.c",
         "before", "rec = talloc_zero(state, struct cleanup_rec);", """
	if (phstore_open_is_served(global)) {
		return 0;
	}

""", scope="function cleanup_ph_fn"),

    # Of a file that CREATE made the open knows neither file id nor name, and
    # so the scavenger's walk did not find its share mode
    hook("open-file-id", "source3/smbd/smb2_create.c",
         "before", "status = smbXsrv_open_update(state->op);", """
		state->op->global->file_id = state->result->file_id;
		state->op->global->name_hash = state->result->name_hash;
"""),

    # A node died: who walks for the cluster looks for its handles, and for
    # those its scavenger had timers for
    hook("cleanupd-epoch", "source3/smbd/smbd_cleanupd.c",
         "before", "static NTSTATUS cleanup_ph("
         "struct smbd_cleanupd_state *state)", """
static NTSTATUS cleanup_ph(
	struct smbd_cleanupd_state *state);

static void phstore_cleanupd_look(struct tevent_context *ev,
				  struct tevent_timer *te,
				  struct timeval now,
				  void *private_data)
{
	struct smbd_cleanupd_state *state = talloc_get_type_abort(
		private_data, struct smbd_cleanupd_state);
	static uint64_t seen;
	uint64_t epoch = dbwrap_phstore_epoch();
	NTSTATUS status;

	if (epoch != 0 && epoch != seen) {
		seen = epoch;
		status = cleanup_ph(state);
		if (!NT_STATUS_IS_OK(status)) {
			seen = 0;
		}
	}
	(void)tevent_add_timer(ev,
			       state,
			       timeval_current_ofs(1, 0),
			       phstore_cleanupd_look,
			       state);
}

"""),

    hook("cleanupd-epoch-begin", "source3/smbd/smbd_cleanupd.c",
         "after", "state->got_glock = true;", """
	if (lp_clustering()) {
		phstore_cleanupd_look(messaging_tevent_context(state->msg),
				      NULL,
				      timeval_zero(),
				      state);
	}
""", scope="function smbd_cleanupd_got_glock"),

    # smbds have died, here or with a node: their CephFS sessions end
    hook("cleanupd-ceph-include", "source3/smbd/smbd_cleanupd.c",
         "after", '#include "scavenger.h"',
         '#include "source3/smbd/phstore_ceph.h"'),

    hook("cleanupd-ceph", "source3/smbd/smbd_cleanupd.c",
         "before", "if (!lp_persistent_handles()) {",
         "	phstore_ceph_sweep(state->msg);",
         scope="function cleanup_ph"),

    # A crash leaves the cookie of CREATE, with the name the file had then
    hook("reconnect-renamed", "source3/smbd/durable.c",
         "before", "status = filename_convert_dirfsp_rel(talloc_tos(),", """
	if (op->global->persistent || state.cookie.stat_info.st_ex_mode == 0) {
		phstore_open_renamed(talloc_tos(),
				     state.cookie.id,
				     conn->connectpath,
				     &state.cookie.base_name);
	}

""", scope="function vfs_default_durable_reconnect"),

    # A write on a persistent handle is on the disk before its answer: CREATE
    # opens the file so, and a handle that is taken up again is the same
    hook("reconnect-write-through", "source3/smbd/durable.c",
         "before", "state->status = fd_openat(state->dirfsp, "
         "state->rel_fname, fsp, &how);", """
	if (fsp->op->global->persistent && fsp->fsp_flags.can_write &&
	    lp_strict_sync(SNUM(fsp->conn)))
	{
		how.flags |= O_SYNC;
	}

""", scope="function vfs_default_durable_reconnect_fn"),

    # A handle's time is over: its delete-on-close happens
    hook("expire-begin", "source3/smbd/scavenger.c",
         "before", "status = smbXsrv_open_cleanup("
         "ctx->msg.open_persistent_id);",
         "	phstore_expire_begin(ctx->msg.open_persistent_id);",
         scope="function scavenger_timer"),

    hook("expire-close", "source3/smbd/scavenger.c",
         "before", "ok = share_mode_forall_entries(", """
	phstore_expire_close((smbd_scavenger_state != NULL) ?
			     smbd_scavenger_state->msg : NULL,
			     state.lck,
			     fid,
			     open_persistent_id,
			     name_hash);

""", scope="function share_mode_cleanup_disconnected"),

    hook("expire-keep-token", "source3/smbd/scavenger.c",
         "before", "reset_delete_on_close_lck_open_id(state->lck,", """
	if (phstore_expire_keeps_token()) {
		goto phstore_kept_token;
	}
""", scope="function cleanup_disconnected_share_mode_entry_fn"),

    hook("expire-kept-token", "source3/smbd/scavenger.c",
         "before", "e->stale = true;",
         "phstore_kept_token:",
         scope="function cleanup_disconnected_share_mode_entry_fn"),

    # A LOCK or a CREATE that is replayed after a crash is recognised
    hook("lock-include", "source3/smbd/smb2_lock.c",
         "after", '#include "smbd/globals.h"',
         '''
#include "smbd/phstore_open.h"
#include "lib/dbwrap/dbwrap_phstore.h"'''),

    # One transaction: the lock and its number
    hook("lock-number-kept", "source3/smbd/smb2_lock.c",
         "after", "uint8_t *lock_sequence_element;",
         "	bool phstore_number_kept;",
         scope="block struct smbd_smb2_lock_state {"),

    hook("lock-number-begin", "source3/smbd/smb2_lock.c",
         "before", "status = share_mode_do_locked_brl(state->fsp,", """
	phstore_open_lock_begin(state->fsp->op,
				state->lock_sequence_element,
				state->lock_sequence_value);
""", scope="function smbd_smb2_lock_try"),

    hook("lock-number-end", "source3/smbd/smb2_lock.c",
         "before", "if (!NT_STATUS_IS_OK(status)) {",
         "	state->phstore_number_kept = phstore_open_lock_end();",
         scope="function smbd_smb2_lock_try"),

    hook("lock-number-stage", "source3/locking/brlock.c",
         "after", "byte_range_lock_flush(br_lck);",
         "	dbwrap_phstore_number_stage();",
         scope="function share_mode_do_locked_brl_fn"),

    hook("lock-number-granted", "source3/smbd/smb2_lock.c",
         "before", "tevent_req_done(req);",
         "		dbwrap_phstore_number_granted();",
         scope="function smbd_do_locks_try_fn"),

    hook("unlock-number-begin", "source3/smbd/smb2_lock.c",
         "before", "status = smbd_do_unlocking(", """
		phstore_open_lock_begin(fsp->op,
					state->lock_sequence_element,
					state->lock_sequence_value);
""", scope="function smbd_smb2_lock_send"),

    hook("unlock-number-end", "source3/smbd/smb2_lock.c",
         "before", "if (tevent_req_nterror(req, status)) {",
         "		state->phstore_number_kept =\n"
         "			phstore_open_lock_end();",
         scope="function smbd_smb2_lock_send"),

    hook("unlock-number-include", "source3/smbd/smb2_reply.c",
         "after", '#include "source3/smbd/dir.h"',
         '#include "lib/dbwrap/dbwrap_phstore.h"'),

    hook("unlock-number-granted", "source3/smbd/smb2_reply.c",
         "before", "share_mode_wakeup_waiters(fsp->file_id);",
         "	dbwrap_phstore_number_granted();",
         scope="function smbd_do_unlocking_fn"),

    # (not in its cleanup function, that runs under the share mode lock)
    hook("lock-state", "source3/smbd/smb2_lock.c",
         "after", "DATA_BLOB outbody;", """
	struct smbd_smb2_lock_state *phstore_state = tevent_req_data(
		subreq, struct smbd_smb2_lock_state);
	bool phstore_numbered = phstore_state->lock_sequence_element != NULL &&
		!phstore_state->phstore_number_kept;
	struct files_struct *phstore_fsp = phstore_state->fsp;
""", scope="function smbd_smb2_request_lock_done"),

    hook("lock-sequence", "source3/smbd/smb2_lock.c",
         "before", "outbody = smbd_smb2_generate_outbody(smb2req, 0x04);", """
	if (phstore_numbered && phstore_fsp->op != NULL) {
		phstore_open_locked(phstore_fsp->op);
	}

""", scope="function smbd_smb2_request_lock_done"),

    hook("create-replay-key", "source3/smbd/smbXsrv_open.c",
         "after", "struct smbXsrv_open_replay_cache_key_buf key_buf;",
         """
	struct smbXsrv_open_global_key_buf phstore_key_buf;
	uint32_t phstore_id = 0;
""",
         scope="function smb2srv_open_lookup_replay_cache"),

    hook("create-replay", "source3/smbd/smbXsrv_open.c",
         "after", "val = dbwrap_record_get_value(db_rec);", """
	if (phstore_id != 0 &&
	    (val.dsize == 0 ||
	     (val.dsize == sizeof(uint32_t) && RIVAL(val.dptr, 0) == 0)))
	{
		val = smbXsrv_open_global_id_to_key(
			phstore_id, &phstore_key_buf);
	}
""", scope="function smb2srv_open_lookup_replay_cache"),

    # A lease break the client had not acknowledged when its smbd died is
    # sent once more. Upstream asserts that there is none
    hook("lease-include", "source3/smbd/durable.c",
         "after", '#include "locking/leases_db.h"',
         """
#include "locking/phstore_lease.h"
#include "smbd/phstore_open.h"
#include "smbd/phstore_open_lease.h"
#include "lib/dbwrap/dbwrap_phstore.h"
"""),

    hook("lease-break-again", "source3/smbd/durable.c",
         "before", "SMB_ASSERT(current_state == breaking_to_requested);", """
		if (current_state != breaking_to_requested) {
			if (phstore_lease_is_held(fsp, &e->lease_key)) {
				/* another handle with the lease was first */
				goto fsp_lease;
			}
			breaking_to_requested = current_state;
			status = leases_db_set(&e->client_guid,
					       &e->lease_key,
					       current_state,
					       breaking,
					       breaking_to_requested,
					       breaking_to_required,
					       lease_version,
					       epoch);
			if (!NT_STATUS_IS_OK(status)) {
				return status;
			}
		}
""", scope="function vfs_default_durable_reconnect_lease"),

    # In a cluster a record of leases.tdb says when it was known to be the
    # newest, see phstore_lease.c
    hook("lease-counts-build", "source3/wscript_build",
         "after", "locking/share_mode_lock.c",
         "                           locking/phstore_lease.c",
         scope="block bld.SAMBA3_SUBSYSTEM('LOCKING'"),

    hook("lease-counts-idl", "source3/librpc/idl/leases_db.idl",
         "after", "uint16			epoch;", """
		/* 0 without phstore in a cluster */
		hyper			phstore_epoch;
		hyper			phstore_pid;
		hyper			phstore_unique_id;
		uint32			phstore_task_id;
		uint32			phstore_vnn;
"""),

    hook("lease-counts-include", "source3/locking/leases_db.c",
         "after", '#include "locking/leases_db.h"',
         '#include "locking/phstore_lease.h"'),

    hook("lease-counts-add", "source3/locking/leases_db.c",
         "before", "for (i = 0; i < value->num_files; i++) {", """
	if (value->num_files != 0 && !phstore_lease_counts(value)) {
		*value = (struct leases_db_value) {};
	}
""", scope="function leases_db_add_fn"),

    hook("lease-counts-added", "source3/locking/leases_db.c",
         "after", "value->num_files += 1;",
         "	phstore_lease_mine(value); /* its client is here */",
         scope="function leases_db_add_fn"),

    hook("lease-counts-set", "source3/locking/leases_db.c",
         "after", "value->epoch = state->epoch;",
         "	phstore_lease_changed(value);",
         scope="function leases_db_set_fn"),

    hook("lease-counts-get-state", "source3/locking/leases_db.c",
         "after", "struct leases_db_get_state {",
         "	struct leases_db_value phstore_value;"),

    hook("lease-counts-get", "source3/locking/leases_db.c",
         "before", "for (i = 0; i < value->num_files; i++) {",
         "	state->phstore_value = *value;",
         scope="function leases_db_get_fn"),

    # not while the record is being read: it may ask another node
    hook("lease-counts-got", "source3/locking/leases_db.c",
         "before", "return state.status;", """
	if (NT_STATUS_IS_OK(state.status) &&
	    !phstore_lease_counts(&state.phstore_value))
	{
		/* callers go on with what they have */
		if (current_state != NULL) {
			*current_state = SMB2_LEASE_NONE;
		}
		if (breaking != NULL) {
			*breaking = false;
		}
		return NT_STATUS_NOT_FOUND;
	}
""", scope="function leases_db_get"),

    hook("lease-take", "source3/locking/leases_db.c",
         "before", "struct leases_db_get_current_state_state {", """
static void phstore_leases_db_take_fn(
	struct leases_db_value *value, bool *modified, void *private_data)
{
	if (value->num_files == 0) {
		return;
	}
	phstore_lease_mine(value);
	*modified = true;
}

void phstore_leases_db_take(const struct GUID *client_guid,
			    const struct smb2_lease_key *lease_key)
{
	NTSTATUS status;

	if (!phstore_leases_are_compared()) {
		return;
	}
	status = leases_db_do_locked(
		client_guid, lease_key, phstore_leases_db_take_fn, NULL);
	if (!NT_STATUS_IS_OK(status)) {
		/* the next epoch does not know the lease */
		DBG_WARNING("phstore: a lease has no mark: %s\\n",
			    nt_errstr(status));
	}
}

"""),

    hook("lease-take-upgrade", "source3/smbd/open.c",
         "before", "existing = current_state;", """
	if (fsp->lease->ref_count == 1) {
		/* nobody here served it before */
		phstore_leases_db_take(client_guid, &lease->lease_key);
	}
""", scope="function try_lease_upgrade"),

    # Upstream panics: a client that is here has a lease that is known. One
    # with connections to two nodes may have one that is not
    hook("lease-unknown", "source3/smbd/open.c",
         "before", 'DBG_ERR("leases_db_get for client_guid [%s] "', """
			if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND) &&
			    phstore_leases_are_compared())
			{
				state->protect = true;
				return true;
			}
""", scope="function delay_for_oplock_fn"),

    hook("lease-unknown-include", "source3/smbd/smb2_oplock.c",
         "after", '#include "locking/leases_db.h"',
         '#include "locking/phstore_lease.h"'),

    hook("lease-unknown-type", "source3/smbd/smb2_oplock.c",
         "before", 'DBG_ERR("leases_db_get for client_guid [%s] "', """
	if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND) &&
	    phstore_leases_are_compared())
	{
		return SMB2_LEASE_READ | SMB2_LEASE_WRITE | SMB2_LEASE_HANDLE;
	}
""", scope="function get_lease_type"),

    # A persistent handle's lease is what the newest record says, or what the
    # client does; others' are lost when somebody opens the file
    hook("lease-take-back-ask", "source3/smbd/durable.c",
         "before", "status = leases_db_get(&e->client_guid,", """
	phstore_lease_believe(
		!(e->flags & SHARE_ENTRY_FLAG_PERSISTENT_OPEN));
""", scope="function vfs_default_durable_reconnect_lease"),

    hook("lease-take-back", "source3/smbd/durable.c",
         "before", "if (!NT_STATUS_IS_OK(status) &&", """
	phstore_lease_believe(false);
	if (NT_STATUS_IS_OK(status)) {
		phstore_leases_db_take(&e->client_guid, &e->lease_key);
	}
""", scope="function vfs_default_durable_reconnect_lease"),

    # An open's record has its lease, see phstore_open_lease.c
    hook("open-lease-idl", "source3/librpc/idl/smbXsrv.idl",
         "after", "[flag(NDR_PAHEX)] uint8			"
         "lock_sequence_array[64];",
         "		[ignore] struct phstore_lease_value	"
         "*phstore_lease;"),

    hook("open-lease-read", "source3/smbd/smbXsrv_open.c",
         "before",
         "*global = talloc_move(mem_ctx, &global_blob.info.info1);",
         """
	phstore_open_lease_read(
		global_blob.info.info1, blob.data, blob.length);
""", scope="function smbXsrv_open_global_parse_record"),

    hook("open-lease-append", "source3/smbd/smbXsrv_open.c",
         "before", "val = make_tdb_data(blob.data, blob.length);", """
	if (!phstore_open_lease_append(talloc_tos(), global, &blob)) {
		TALLOC_FREE(blob.data);
		return NT_STATUS_NO_MEMORY;
	}
""", scope="function smbXsrv_open_global_store"),

    hook("open-lease-create-include", "source3/smbd/smb2_create.c",
         "after", '#include "smbd/smbXsrv_open.h"',
         '''
#include "smbd/phstore_open_lease.h"
#include "lib/dbwrap/dbwrap_phstore.h"'''),

    hook("open-lease-granted-include", "source3/smbd/open.c",
         "after", '#include "smbd/smbd.h"',
         '#include "smbd/phstore_open_lease.h"'),

    hook("open-lease-granted", "source3/smbd/open.c",
         "before", "status = leases_db_add(client_guid,",
         "	phstore_open_lease_granted(fsp);",
         scope="function grant_new_fsp_lease"),

    hook("open-lease-note", "source3/smbd/smb2_create.c",
         "before", "status = smbXsrv_open_update(state->op);",
         "		phstore_open_lease_note(state->op, state->result);"),

    hook("open-lease-shared", "source3/smbd/smb2_create.c",
         "before", "if (state->update_open) {",
         "	phstore_open_lease_shared(state->result, "
         "state->update_open);"),

    hook("open-lease-broken-include", "source3/smbd/smb2_oplock.c",
         "after", '#include "locking/leases_db.h"',
         '#include "smbd/phstore_open_lease.h"'),

    hook("open-lease-broken", "source3/smbd/smb2_oplock.c",
         "before", "if (!break_needed) {", """
	phstore_open_lease_broken(fsp, break_from, break_to);
""", scope="function process_oplock_break_message"),

    hook("open-lease-gone-include", "source3/smbd/close.c",
         "after", '#include "smbd/smbXsrv_open.h"',
         '#include "smbd/phstore_open_lease.h"'),

    hook("open-lease-gone", "source3/smbd/close.c",
         "before", "fsp->op->compat = NULL;",
         "	phstore_open_lease_gone(fsp);"),

    # behind the lock that its caller has
    hook("open-lease-timed-out", "source3/smbd/smb2_oplock.c",
         "after", "SMB2_LEASE_NONE);", """
	TALLOC_FREE(lck);
	phstore_open_lease_changed(lease->sconn,
				   &fsp->file_id,
				   &lease->lease.lease_key);
""", scope="function lease_timeout_handler"),

    hook("open-lease-acked-include", "source3/smbd/smb2_break.c",
         "after", '#include "locking/leases_db.h"',
         '#include "smbd/phstore_open_lease.h"'),

    hook("open-lease-acked", "source3/smbd/smb2_break.c",
         "before", "if (NT_STATUS_EQUAL(status, "
         "NT_STATUS_OPLOCK_BREAK_IN_PROGRESS)) {", """
	phstore_open_lease_changed(
		smb2_req->xconn->client->sconn, &lls.ids[0], &in_lease_key);
""", scope="function smbd_smb2_lease_break_send"),

    # Upstream fails the session setup: a smbd that was killed, and that its
    # parent has not reaped yet, counts as alive and takes no message. Wait for
    # that, for 5 s at most: its handles can not be taken up before
    hook("session-of-dead-smbd-state", "source3/smbd/smbXsrv_session.c",
         "after", "uint32_t last_seqnum;",
         "	uint32_t phstore_tries;",
         scope="block struct smb2srv_session_close_previous_state {"),

    hook("session-of-dead-smbd", "source3/smbd/smbXsrv_session.c",
         "after", "TALLOC_FREE(global);", """
	if (NT_STATUS_EQUAL(status, NT_STATUS_OBJECT_NAME_NOT_FOUND) &&
	    state->phstore_tries < 500 &&
	    tevent_req_set_endtime(subreq,
				   state->ev,
				   timeval_current_ofs_msec(10)))
	{
		state->phstore_tries += 1;
		status = NT_STATUS_OK;
	}
""", scope="function smb2srv_session_close_previous_check"),

    hook("session-of-dead-smbd-again", "source3/smbd/smbXsrv_session.c",
         "after", "TALLOC_FREE(subreq);", """
	if (NT_STATUS_EQUAL(status, NT_STATUS_IO_TIMEOUT)) {
		/* the watch ends with it, it takes a new one */
		state->last_seqnum = 0;
		status = NT_STATUS_OK;
	}
""", scope="function smb2srv_session_close_previous_modified"),

    hook("lease-mask-include", "source3/smbd/smb2_tcon.c",
         "after", '#include "smbd/smbXsrv_session.h"',
         '#include "smbd/phstore_open.h"'),

    hook("lease-mask", "source3/smbd/smb2_tcon.c",
         "after", "tcon->smb_max_lease_mask = "
         "smb2_util_lease_state(lease_mask);", """
	if (phstore_lease_all(tcon)) {
		tcon->smb_max_lease_mask = smb2_util_lease_state("RWH");
	}
"""),

    # Durable handles that are not persistent are kept as well: stored
    hook("keep-include", "source3/smbd/open.c",
         "after", '#include "locking/leases_db.h"',
         """
#include "locking/phstore_lease.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "smbd/phstore_open.h"
"""),

    hook("keep-next", "source3/smbd/open.c",
         "before", "ok = set_share_mode(lck,", """
	phstore_keep = create_guid != NULL &&
		!fsp->op->global->persistent &&
		(BATCH_OPLOCK_TYPE(oplock_type) ||
		 (granted_lease & SMB2_LEASE_HANDLE));
	dbwrap_phstore_keep_next(phstore_keep);
	phstore_open_create_begin(fsp, phstore_keep);
""", scope="function check_and_store_share_mode"),

    hook("keep-next-local", "source3/smbd/open.c",
         "before", "bool delete_on_close;",
         "	bool phstore_keep;",
         scope="function check_and_store_share_mode"),

    # One transaction: the entry comes, and the open
    hook("create-entry-lock", "source3/smbd/smb2_create.c",
         "before", "status = smbXsrv_open_update(state->op);",
         "		dbwrap_phstore_creating_lock();"),

    # A smbd that was killed with a new file's lock leaves a record without
    # share modes: smbstatus ended with SIGSEGV, freeing what was never set
    hook("status-no-data", "source3/locking/share_mode_lock.c",
         "before", "d = share_mode_memcache_fetch(mem_ctx, id, buf, buflen);",
         "	data_blob = (struct share_mode_dataB) {};",
         scope="function parse_share_mode_data"),

    # A reconnect: the open as it is stored next is not staged yet
    hook("reconnect-begin", "source3/smbd/smbXsrv_open.c",
         "before", "state->status = smbXsrv_open_global_store("
         "rec, key, oldval, global);", """
	dbwrap_phstore_reconnect_begin(
		global->open_global_id, &global->file_id);
""", scope="function smb2srv_open_recreate_fn"),

    hook("create-half-include", "source3/locking/locking.c",
         "after", '#include "locking/leases_db.h"',
         '#include "lib/dbwrap/dbwrap_phstore.h"'),

    hook("create-half", "source3/locking/locking.c",
         "before", "if (e->flags & SHARE_ENTRY_FLAG_PERSISTENT_OPEN) {", """
	if ((e->flags & SHARE_ENTRY_FLAG_PERSISTENT_OPEN) &&
	    dbwrap_phstore_entry_is_half(e->share_file_id))
	{
		e->stale = true;
		return true;
	}

""", scope="function share_entry_stale_pid"),

    hook("create-entry-unlock", "source3/smbd/smb2_create.c",
         "after", "status = smbXsrv_open_update(state->op);",
         "		dbwrap_phstore_creating_unlock(status);"),

    hook("keep-entry-include", "source3/locking/share_mode_lock.c",
         "after", '#include "source3/lib/dbwrap/dbwrap_watch.h"',
         '#include "lib/dbwrap/dbwrap_phstore.h"'),

    hook("keep-entry", "source3/locking/share_mode_lock.c",
         "before", "if (e.flags & SHARE_ENTRY_FLAG_PERSISTENT_OPEN) {", """
	if (dbwrap_phstore_keep_now()) {
		e.flags |= PHSTORE_SHARE_ENTRY_KEPT;
		d->num_persistent |= PHSTORE_SHARE_MODE_KEPT;
		d->modified = true;
	}
""", scope="function set_share_mode"),

    # An open takes the file: that handle must not come back
    hook("keep-entry-purged", "source3/locking/share_mode_lock.c",
         "before", "*num_share_modes -= 1;", """
		if (e.flags & PHSTORE_SHARE_ENTRY_KEPT) {
			dbwrap_phstore_kept_purged();
		}
""", scope="function share_mode_for_one_entry"),

    hook("keep-entry-store", "source3/locking/share_mode_lock.c",
         "before", "status = locking_tdb_data_store(key,", """
	if (d->num_persistent & ~PHSTORE_SHARE_MODE_KEPT) {
		flags |= DBWRAP_STORE_PHSTORE_SURE;
	} else if (d->num_persistent != 0) {
		flags |= DBWRAP_STORE_PHSTORE_KEPT;
	}
""", scope="function share_mode_data_ltdb_store"),

    hook("keep-lock-field", "source3/include/locking.h",
         "after", "bool persistent;",
         "	uint8_t phstore_kept; /* in what was padding */"),

    hook("keep-lock", "source3/locking/brlock.c",
         "before", "if (lock_flav == WINDOWS_LOCK) {", """
	if (phstore_locks_are_kept(br_lck->fsp)) {
		lock.phstore_kept = PHSTORE_LOCK_KEPT;
	}
""", scope="function brl_lock"),

    hook("keep-lock-any", "source3/locking/brlock.c",
         "after", "bool have_persistent_lock = false;",
         "	bool phstore_any_kept = false;",
         scope="function byte_range_lock_flush"),

    hook("keep-lock-look", "source3/locking/brlock.c",
         "before", "if (locks[i].persistent) {", """
		if (locks[i].phstore_kept == PHSTORE_LOCK_KEPT) {
			phstore_any_kept = true;
		}
""", scope="function byte_range_lock_flush"),

    hook("keep-lock-store", "source3/locking/brlock.c",
         "before", "PUSH_BE_U32(version_buf, 0, "
         "SHARE_MODE_DATA_VERSION_1);", """
		if (have_persistent_lock) {
			store_flags |= DBWRAP_STORE_PHSTORE_SURE;
		} else if (phstore_any_kept) {
			store_flags |= DBWRAP_STORE_PERSISTENT |
				       DBWRAP_STORE_PHSTORE_KEPT;
		}

""", scope="function byte_range_lock_flush"),

    hook("keep-open", "source3/smbd/smbXsrv_open.c",
         "before", "status = dbwrap_record_store(rec, val, dbwrap_flags);",
         "	dbwrap_flags |= phstore_open_store_flags(global);",
         scope="function smbXsrv_open_global_store"),

    # and found again when their smbd died
    hook("left-open", "source3/smbd/smbXsrv_open.c",
         "before", 'DBG_WARNING("smbd %s did not clean up record %s', """
	if (phstore_open_is_left(global)) {
		return NT_STATUS_REMOTE_DISCONNECT;
	}

""", scope="function smbXsrv_open_global_verify_record"),

    # The file as it was when it was opened says nothing of it later
    hook("left-cookie", "source3/smbd/durable.c",
         "before", "if (CHECK_DEBUGLVL(DBGLVL_DEBUG)) {", """
	if (!fsp->op->global->persistent &&
	    !fsp->fsp_flags.initial_delete_on_close &&
	    dbwrap_phstore_keeps())
	{
		cookie.allow_reconnect = true;
		cookie.stat_info.st_ex_mode = 0;
	}

""", scope="function vfs_default_durable_cookie"),

    hook("left-stat", "source3/smbd/durable.c",
         "before", "if (cookie_st->st_ex_mode != fsp_st->st_ex_mode) {", """
	if (cookie_st->st_ex_mode == 0) {
		return true;
	}

""", scope="function vfs_default_durable_reconnect_check_stat"),

    hook("left-entry", "source3/smbd/durable.c",
         "before", "if (!server_id_is_disconnected(&e->pid)) {", """
	if ((e->flags & PHSTORE_SHARE_ENTRY_KEPT) &&
	    !server_id_is_disconnected(&e->pid) &&
	    !serverid_exists(&e->pid))
	{
		*state->e = *e;
		return false;
	}

""", scope="function share_mode_entry_durable_reconnect_cb"),

    # A persistent open that was claimed has no server: the one that had it is
    # dead, or gave it up and is about to end (an unmount may take a second).
    hook("given-up-entry", "source3/smbd/durable.c",
         "before", "if (serverid_exists(&e->pid)) {",
         "		goto phstore_given_up;",
         scope="function share_mode_entry_durable_reconnect_cb"),

    hook("given-up-entry-taken", "source3/smbd/durable.c",
         "before", "if (!GUID_equal(&e->create_guid, &global->create_guid)) {",
         "phstore_given_up:",
         scope="function share_mode_entry_durable_reconnect_cb"),

    # A persistent handle is given up by a smbd that lives on: its share mode
    # entry is left as if that had died, not as if it served the handle
    hook("give-up", "source3/smbd/close.c",
         "before", 'DBG_DEBUG("%s disconnected durable handle for file %s\\n",',
         """
	phstore_open_give_up(fsp);

""", scope="function close_durable"),

    hook("give-up-entry", "source3/smbd/scavenger.c",
         "before", "ok = brl_cleanup_disconnected(fid, open_persistent_id);",
         "	phstore_expire_locks(state.lck, open_persistent_id);",
         scope="function share_mode_cleanup_disconnected"),

    hook("give-up-locks", "source3/locking/brlock.c",
         "before", "if (serverid_exists(&ctx->pid)) {", """
			if (phstore_expire_is_over(open_persistent_id)) {
				goto phstore_left_cleanup;
			}
""", scope="function brl_cleanup_disconnected"),

    # One client, one lease, two handles: the break that is sent for the one
    # that is served may be the one that was saved for the one that is not
    hook("give-up-break", "source3/smbd/smb2_oplock.c",
         "before", "SMB_ASSERT(fsp->op->global->persistent);", """
			if (fsp->op->global->persistent) /* else another's */
""", scope="function process_oplock_break_message"),

    hook("left-state", "source3/smbd/durable.c",
         "after", "DATA_BLOB new_cookie_blob;",
         "	bool phstore_left; /* its smbd died */",
         scope="block struct vfs_default_durable_reconnect_state {"),

    hook("left-pid", "source3/smbd/durable.c",
         "after", "old_pid = e.pid;",
         "	state->phstore_left = !server_id_is_disconnected(&old_pid);",
         scope="function vfs_default_durable_reconnect_fn"),

    hook("left-lease", "source3/smbd/durable.c",
         "before", "if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND)) {", """
	phstore_kept = phstore_open_lease_back(
		state->op, &e->lease_key, state->lease,
		fsp->conn->tcon->smb_max_lease_mask, &phstore_lease);
	if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND) && phstore_kept) {
		if (!state->op->global->persistent &&
		    !(phstore_lease.state & SMB2_LEASE_HANDLE))
		{
			return NT_STATUS_OBJECT_NAME_NOT_FOUND;
		}
		current_state = phstore_lease.state;
		breaking = phstore_lease.breaking;
		breaking_to_requested = phstore_lease.breaking_to_requested;
		breaking_to_required = phstore_lease.breaking_to_required;
		lease_version = phstore_lease.version;
		epoch = phstore_lease.epoch;
		status = leases_db_add(&e->client_guid,
				       &e->lease_key,
				       &fsp->file_id,
				       current_state,
				       lease_version,
				       epoch,
				       fsp->conn->connectpath,
				       fsp->fsp_name->base_name,
				       fsp->fsp_name->stream_name);
		if (NT_STATUS_IS_OK(status) && breaking) {
			status = leases_db_set(&e->client_guid,
					       &e->lease_key,
					       current_state,
					       breaking,
					       breaking_to_requested,
					       breaking_to_required,
					       lease_version,
					       epoch);
		}
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
		state->phstore_left = false; /* it is known */
	}
	if (NT_STATUS_IS_OK(status) && !breaking &&
	    phstore_open_lease_is_half(
		    fsp, state->op, &e->lease_key, state->lease,
		    &current_state))
	{
		status = leases_db_set(&e->client_guid,
				       &e->lease_key,
				       current_state,
				       false,
				       0,
				       0,
				       lease_version,
				       epoch);
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
	}
	if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND) &&
	    (e->flags & PHSTORE_SHARE_ENTRY_KEPT) &&
	    (state->lease->lease_state & SMB2_LEASE_HANDLE))
	{
		goto phstore_left_lease;
	}
	if (NT_STATUS_IS_OK(status) &&
	    (e->flags & PHSTORE_SHARE_ENTRY_KEPT) &&
	    !breaking &&
	    phstore_lease_is_old(fsp, &e->lease_key, state->phstore_left,
				 state->lease, lease_version, epoch))
	{
		if (!(phstore_lease.state & SMB2_LEASE_HANDLE)) {
			return NT_STATUS_OBJECT_NAME_NOT_FOUND;
		}
		current_state = phstore_lease.state;
		epoch = phstore_lease.epoch;
		status = leases_db_set(&e->client_guid,
				       &e->lease_key,
				       current_state,
				       false,
				       0,
				       0,
				       lease_version,
				       epoch);
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
		goto fsp_lease;
	}
	if (NT_STATUS_IS_OK(status) && breaking &&
	    !state->op->global->persistent &&
	    !phstore_lease_is_held(fsp, &e->lease_key))
	{
		/* what was not acknowledged is told again */
		status = leases_db_set(&e->client_guid,
				       &e->lease_key,
				       current_state,
				       breaking,
				       current_state,
				       breaking_to_required,
				       lease_version,
				       epoch);
		if (!NT_STATUS_IS_OK(status)) {
			return status;
		}
		send_break_message(fsp->conn->sconn->msg_ctx,
				   &fsp->file_id,
				   e,
				   breaking_to_required);
		goto fsp_lease;
	}
""", scope="function vfs_default_durable_reconnect_lease"),

    hook("open-lease-locals", "source3/smbd/durable.c",
         "after", "uint16_t lease_version = 0, epoch = 0;", """
	struct phstore_lease_value phstore_lease;
	uint16_t phstore_epoch;
	bool phstore_kept;
""", scope="function vfs_default_durable_reconnect_lease"),

    # A client that names no epoch was told the same one each time
    hook("lease-renew-known", "source3/smbd/durable.c",
         "before", "if (!(current_state & SMB2_LEASE_HANDLE)) {",
         "	phstore_epoch = epoch;",
         scope="function vfs_default_durable_reconnect_lease"),

    hook("lease-renew-later", "source3/smbd/durable.c",
         "after", "epoch = state->lease->lease_epoch;",
         "		epoch = phstore_lease_later(epoch, phstore_epoch);",
         scope="function vfs_default_durable_reconnect_lease"),

    hook("left-lease-claim", "source3/smbd/durable.c",
         "before", "lease = *state->lease;",
         "phstore_left_lease:",
         scope="function vfs_default_durable_reconnect_lease"),

    # Who was away was not told of a write. A file that CREATE made has got
    # its attributes since its stat was taken
    hook("lease-renew-stat", "source3/smbd/durable.c",
         "after", "cookie.stat_info.st_ex_flags = "
         "fsp->fsp_name->st.st_ex_flags;",
         "	phstore_open_lease_stat(fsp, &cookie.stat_info);",
         scope="function vfs_default_durable_cookie"),

    hook("lease-renew", "source3/smbd/durable.c",
         "before", "state->smb1req->chain_fsp = fsp;", """
	state->status = phstore_open_lease_renew(
		fsp, lck, &e, &state->cookie.stat_info);
	if (!NT_STATUS_IS_OK(state->status)) {
		goto fail;
	}

""", scope="function vfs_default_durable_reconnect_fn"),

    # It is nobody's then, and not what its client is told of when it opens
    # the file anew
    hook("lease-of-failed", "source3/smbd/durable.c",
         "after", "del_share_mode(lck, fsp);", """
		if (e.op_type == LEASE_OPLOCK) {
			(void)remove_lease_if_stale(
				lck, &e.client_guid, &e.lease_key);
		}
""", scope="function vfs_default_durable_reconnect_fn"),

    # A lease's break is sent to its first entry, whose smbd may be gone
    hook("lease-told", "source3/smbd/smb2_oplock.c",
         "after", "struct break_to_none_state {",
         "	struct share_mode_entry *phstore_told;"),

    hook("lease-told-one", "source3/smbd/smb2_oplock.c",
         "after", "send_break_to_none(state->sconn->msg_ctx, &state->id, e);",
         "	phstore_leases_told_add(&state->phstore_told, e);",
         scope="function do_break_lease_to_none"),

    hook("lease-told-other", "source3/smbd/smb2_oplock.c",
         "after", "if (e->op_type == LEASE_OPLOCK) {", """
		if (phstore_leases_told_is_other(&state->phstore_told, e)) {
			send_break_to_none(state->sconn->msg_ctx,
					   &state->id,
					   e);
		}
""", scope="function do_break_oplock_to_none"),

    hook("lease-living", "source3/smbd/smb2_oplock.c",
         "before", "stale = share_entry_stale_pid(e);",
         "	phstore_open_lease_living(state->lck, e);",
         scope="function delay_for_handle_lease_break_fn"),

    # With locks, and without W, upstream closes it at a disconnect
    hook("left-locks", "source3/smbd/durable.c",
         "before", "ok = brl_reconnect_disconnected(fsp, br_lck);", """
		if ((e.flags & PHSTORE_SHARE_ENTRY_KEPT) &&
		    !server_id_is_disconnected(&old_pid) &&
		    !(fsp_lease_type(fsp) & SMB2_LEASE_WRITE) &&
		    file_has_brlocks(fsp))
		{
			state->status = NT_STATUS_OBJECT_NAME_NOT_FOUND;
			goto fail;
		}
""", scope="function vfs_default_durable_reconnect_fn"),

    hook("left-brlock", "source3/locking/brlock.c",
         "before", "if (lock->context.tid != TID_FIELD_INVALID) {", """
			if (phstore_lock_is_left(lock)) {
				goto phstore_left_lock;
			}
""", scope="function brl_reconnect_disconnected"),

    hook("left-brlock-taken", "source3/locking/brlock.c",
         "before", "lock->context.pid = self;",
         "phstore_left_lock:",
         scope="function brl_reconnect_disconnected"),

    hook("left-brlock-cleanup", "source3/locking/brlock.c",
         "before", "if (lock->persistent) {", """
		if (phstore_lock_is_left(lock)) {
			goto phstore_left_cleanup;
		}
""", scope="function brl_cleanup_disconnected"),

    hook("left-brlock-cleaned", "source3/locking/brlock.c",
         "before", "lock->context.pid.pid = 0;",
         "phstore_left_cleanup:",
         scope="function brl_cleanup_disconnected"),

    hook("left-scavenge", "source3/smbd/scavenger.c",
         "before", "if (!global->persistent) {", """
		if (phstore_open_is_left(global)) {
			goto phstore_left_open;
		}
""", scope="function scavenger_add_timer"),

    hook("left-scavenge-time", "source3/smbd/scavenger.c",
         "before", "disconnect_time = global->disconnect_time;",
         "phstore_left_open:",
         scope="function scavenger_add_timer"),

    hook("left-scavenge-include", "source3/smbd/scavenger.c",
         "after", '#include "smbd/scavenger.h"',
         '#include "lib/dbwrap/dbwrap_phstore.h"'),

    hook("left-scavenge-entry", "source3/smbd/scavenger.c",
         "before", "if (!disconnected) {", """
	if (e->flags & PHSTORE_SHARE_ENTRY_KEPT) {
		disconnected = !serverid_exists(&e->pid);
	}
""", scope="function cleanup_disconnected_share_mode_entry_fn"),

    # A CephFS session gets its uuid between two steps of vfs_ceph_new
    hook("build-smbd-ceph", "source3/wscript_build",
         "after", "smbd/smb2_server.c",
         "                          smbd/phstore_ceph.c",
         scope="block bld.SAMBA3_LIBRARY('smbd_base'"),

    hook("ceph-include", "source3/modules/vfs_ceph_new.c",
         "after", '#include "lib/util/base64.h"',
         """
#include "smbd/phstore_ceph.h"

/* switched on after configure, which would have said so */
#if !defined(HAVE_CEPH) && !defined(vfs_ceph_new_init)
#define vfs_ceph_new_init samba_init_module
#endif
"""),

    hook("ceph-before-mount", "source3/modules/vfs_ceph_new.c",
         "before", "[CEPH] calling ceph_mount: mnt=%p", """
	ret = phstore_ceph_before_mount(mnt);
	if (ret < 0) {
		goto out;
	}

""", scope="function cephmount_mount_fs"),

    # smbd opens "/" by name in any directory; the MDS of Ceph 16 crashes when
    # it is asked for an entry of that name
    hook("ceph-lookup-root", "source3/modules/vfs_ceph_new.c",
         "before", "uperm = vfs_ceph_userperm_new(config, handle->conn);", """
	if (strcmp(name, "/") == 0) {
		ret = config->ceph_ll_lookup_root_fn(config->mount, &inode);
		if (ret == 0) {
			iref->inode = inode;
			iref->ino = 1;
			iref->owner = true;
		}
		goto out;
	}

""", scope="function vfs_ceph_ll_lookup"),

    hook("ceph-unmounted", "source3/modules/vfs_ceph_new.c",
         "after", "ret = config->ceph_unmount_fn(mount);",
         "	phstore_ceph_unmounted(mount);",
         scope="function vfs_ceph_disconnect"),

    # vfs_ceph_new and, above it, our vfs_ceph_ca: wherever libcephfs's
    # headers are when it is built, whatever configure found
    hook("build-ceph", "source3/modules/wscript_build",
         "before", "bld.SAMBA3_SUBSYSTEM('NFS4_ACLS',",
         "bld.RECURSE('ceph_ca')",
         needs="vfs_ceph_ca/wscript_build"),

    hook("build-ceph-not-the-old", "source3/modules/wscript_build",
         "before", "bld.SAMBA3_MODULE('vfs_ceph',", """
bld.env['shared_modules'] = [m for m in bld.env['shared_modules']
                             if m not in bld.env['phstore_not_enabled']]

""", needs="vfs_ceph_ca/wscript_build"),
]

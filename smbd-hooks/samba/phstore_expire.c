/*
 * phstore: a handle's time is over, and the file was to be deleted
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The end of a handle's timeout is a CLOSE ([MS-SMB2] 3.3.6.2): if it was
 * opened delete-on-close, or that was set through it, and nobody else has
 * the file open, the file goes. Samba's scavenger can not reach a file
 * system and only forgets the wish. This gives it a connection to the share
 * for that moment, with the share's VFS modules.
 *
 * As whom: the user who set delete-on-close, whose token is with the share
 * modes. A handle that was opened delete-on-close has none yet (Samba makes
 * it at CLOSE); the right to delete was checked when it was opened, so it is
 * done as root. The name is looked up below the share's root and must be the
 * file of this handle.
 */

#include "includes.h"
#include "system/filesys.h"
#include "lib/util/server_id.h"
#include "serverid.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "smbd/smbXsrv_open.h"
#include "locking/share_mode_lock.h"
#include "locking/share_mode_lock_private.h"
#include "locking/proto.h"
#include "librpc/gen_ndr/ndr_open_files.h"
#include "libcli/security/security.h"
#include "source3/lib/substitute.h"
#include "auth.h"
#include "smbd/phstore_open.h"

static struct {
	uint64_t open_persistent_id;
	bool was_initial;
	bool keeps_token;
} expiring;

void phstore_expire_begin(uint64_t open_persistent_id)
{
	TALLOC_CTX *frame = talloc_stackframe();
	const struct smbXsrv_open_global *global = NULL;
	struct vfs_default_durable_cookie cookie = {};
	enum ndr_err_code ndr_err;
	NTSTATUS status;

	expiring.open_persistent_id = open_persistent_id;
	expiring.was_initial = false;
	expiring.keeps_token = false;

	status = smbXsrv_open_global_lookup(
		frame, (uint32_t)open_persistent_id, &global);
	if (!NT_STATUS_IS_OK(status) || !global->persistent) {
		goto done;
	}
	ndr_err = ndr_pull_struct_blob(
		&global->backend_cookie,
		frame,
		&cookie,
		(ndr_pull_flags_fn_t)ndr_pull_vfs_default_durable_cookie);
	if (!NDR_ERR_CODE_IS_SUCCESS(ndr_err) ||
	    strcmp(cookie.magic, VFS_DEFAULT_DURABLE_COOKIE_MAGIC) != 0 ||
	    cookie.version != VFS_DEFAULT_DURABLE_COOKIE_VERSION)
	{
		goto done;
	}
	expiring.was_initial = cookie.initial_delete_on_close;
done:
	TALLOC_FREE(frame);
}

struct phstore_expire_server {
	uint64_t open_persistent_id;
	bool lives;
	bool is_gone;
};

/* Of the handle whose locks are looked at next, under the same g_lock */
static struct phstore_expire_server expire_server;

static bool phstore_expire_server_fn(struct share_mode_entry *e,
				     bool *modified,
				     void *private_data)
{
	struct phstore_expire_server *server = private_data;
	bool exists;

	if (e->share_file_id != server->open_persistent_id ||
	    !(e->flags & SHARE_ENTRY_FLAG_PERSISTENT_OPEN))
	{
		return false;
	}
	exists = serverid_exists(&e->pid);
	if (exists) {
		server->lives = true;
	} else {
		server->is_gone = true;
	}
	return false;
}

void phstore_expire_locks(struct share_mode_lock *lck,
			  uint64_t open_persistent_id)
{
	bool ok;

	expire_server = (struct phstore_expire_server) {
		.open_persistent_id = open_persistent_id,
	};
	ok = share_mode_forall_entries(
		lck, phstore_expire_server_fn, &expire_server);
	if (!ok) {
		expire_server.is_gone = false;
	}
}

bool phstore_expire_is_over(uint64_t open_persistent_id)
{
	return expire_server.open_persistent_id == open_persistent_id &&
	       expire_server.is_gone && !expire_server.lives;
}

bool phstore_expire_keeps_token(void)
{
	return expiring.keeps_token;
}

struct phstore_expire_look {
	uint64_t open_persistent_id;
	uint32_t name_hash;
	bool has_entry;
	bool lives;
	bool others;
};

static bool phstore_expire_look_fn(struct share_mode_entry *e,
				   bool *modified,
				   void *private_data)
{
	struct phstore_expire_look *look = private_data;
	bool stale;

	if (e->share_file_id == look->open_persistent_id) {
		/* scavenger.c removes it only if its server is gone */
		stale = share_entry_stale_pid(e);
		if (!(e->flags & SHARE_ENTRY_FLAG_PERSISTENT_OPEN)) {
			return false;
		}
		look->has_entry = true;
		look->lives = !stale && !e->protect &&
			      !server_id_is_disconnected(&e->pid);
		return false;
	}
	if (e->flags & SHARE_ENTRY_FLAG_POSIX_OPEN) {
		return false;
	}
	if (e->name_hash != look->name_hash) {
		return false;
	}
	stale = share_entry_stale_pid(e);
	if (!stale) {
		look->others = true;
	}
	return false;
}

/* The share whose files are below this path. -1: none */
static int phstore_expire_share(TALLOC_CTX *mem_ctx, const char *servicepath)
{
	const struct loadparm_substitution *lp_sub =
		loadparm_s3_global_substitution();
	int found = -1;
	int i;

	for (i = 0; i < lp_numservices(); i++) {
		char real[PATH_MAX];
		char *path = NULL;
		char *resolved = NULL;
		bool ok;

		ok = lp_snum_ok(i);
		if (!ok || lp_printable(i)) {
			continue;
		}
		path = lp_path(mem_ctx, lp_sub, i);
		if (path == NULL) {
			continue;
		}
		ok = (strcmp(path, servicepath) == 0);
		if (!ok) {
			resolved = realpath(path, real);
			ok = (resolved != NULL &&
			      strcmp(resolved, servicepath) == 0);
		}
		if (!ok) {
			continue;
		}
		ok = lp_continuous_availability(i);
		if (ok || found == -1) {
			found = i;
		}
		if (ok) {
			break;
		}
	}
	return found;
}

static NTSTATUS phstore_expire_unlink(struct connection_struct *conn,
				      struct file_id fid,
				      const char *name,
				      const struct security_unix_token *utok,
				      const struct security_token *nttok)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct files_struct *dirfsp = NULL;
	struct smb_filename *smb_fname = NULL;
	struct smb_filename *rel_fname = NULL;
	struct file_id there = {};
	bool is_user = false;
	bool is_dir;
	NTSTATUS status;
	int ret;
	bool ok;

	status = filename_convert_dirfsp_rel(frame,
					     conn,
					     conn->cwd_fsp,
					     name,
					     UCF_LCOMP_LNK_OK,
					     0,
					     &dirfsp,
					     &smb_fname,
					     &rel_fname);
	if (!NT_STATUS_IS_OK(status)) {
		goto done;
	}
	ok = VALID_STAT(smb_fname->st);
	if (!ok) {
		status = NT_STATUS_OBJECT_NAME_NOT_FOUND;
		goto done;
	}
	there = vfs_file_id_from_sbuf(conn, &smb_fname->st);
	ok = file_id_equal(&there, &fid);
	if (!ok) {
		/* renamed on the server, and the name is another file's */
		status = NT_STATUS_OBJECT_NAME_NOT_FOUND;
		goto done;
	}
	is_dir = S_ISDIR(smb_fname->st.st_ex_mode);

	if (utok != NULL) {
		ok = push_sec_ctx();
		if (!ok) {
			status = NT_STATUS_NO_MEMORY;
			goto done;
		}
		set_sec_ctx(utok->uid,
			    utok->gid,
			    utok->ngroups,
			    utok->groups,
			    nttok);
		is_user = true;
	}
	if (!is_dir && smb_fname->fsp != NULL &&
	    (conn->fs_capabilities & FILE_NAMED_STREAMS))
	{
		status = delete_all_streams(smb_fname->fsp,
					    dirfsp,
					    rel_fname);
	}
	if (NT_STATUS_IS_OK(status)) {
		ret = SMB_VFS_UNLINKAT(conn,
				       dirfsp,
				       rel_fname,
				       is_dir ? AT_REMOVEDIR : 0);
		if (ret != 0) {
			status = map_nt_error_from_unix(errno);
		}
	}
	if (is_user) {
		pop_sec_ctx();
	}
done:
	TALLOC_FREE(frame);
	return status;
}

static NTSTATUS phstore_expire_delete(struct messaging_context *msg_ctx,
				      struct share_mode_lock *lck,
				      struct file_id fid,
				      const struct security_unix_token *utok,
				      const struct security_token *nttok)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct share_mode_data *d = NULL;
	struct conn_wrap *wrap = NULL;
	NTSTATUS status;
	int snum;

	status = share_mode_lock_access_private_data(lck, &d);
	if (!NT_STATUS_IS_OK(status)) {
		goto done;
	}
	if (d->stream_name != NULL && d->stream_name[0] != '\0') {
		/* streams have no persistent handles */
		status = NT_STATUS_NOT_SUPPORTED;
		goto done;
	}
	snum = phstore_expire_share(frame, d->servicepath);
	if (snum == -1) {
		status = NT_STATUS_BAD_NETWORK_NAME;
		goto done;
	}
	status = create_conn_struct_chdir(frame,
					  msg_ctx,
					  snum,
					  d->servicepath,
					  get_session_info_system(),
					  &wrap);
	if (!NT_STATUS_IS_OK(status)) {
		goto done;
	}
	status = phstore_expire_unlink(conn_wrap_connection(wrap),
				       fid,
				       d->base_name,
				       utok,
				       nttok);
done:
	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("phstore: %s/%s was to be deleted when its "
			    "handle's time was over: %s\n",
			    (d != NULL) ? d->servicepath : "?",
			    (d != NULL) ? d->base_name : "?",
			    nt_errstr(status));
	}
	TALLOC_FREE(frame);
	return status;
}

/* What CLOSE does for a handle that was opened delete-on-close. */
static void phstore_expire_add_token(struct share_mode_lock *lck,
				     uint64_t open_persistent_id,
				     uint32_t name_hash)
{
	const struct auth_session_info *info = get_session_info_system();
	struct share_mode_data *d = NULL;
	struct delete_token *tokens = NULL;
	struct delete_token *dt = NULL;
	NTSTATUS status;

	status = share_mode_lock_access_private_data(lck, &d);
	if (!NT_STATUS_IS_OK(status)) {
		return;
	}
	tokens = talloc_realloc(d,
				d->delete_tokens,
				struct delete_token,
				d->num_delete_tokens + 1);
	if (tokens == NULL) {
		return;
	}
	d->delete_tokens = tokens;
	dt = &tokens[d->num_delete_tokens];
	*dt = (struct delete_token) {
		.name_hash = name_hash,
		.open_persistent_id = open_persistent_id,
		.delete_nt_token = security_token_duplicate(
			tokens, info->security_token),
		.delete_token = copy_unix_token(tokens, info->unix_token),
	};
	if (dt->delete_nt_token == NULL || dt->delete_token == NULL) {
		return;
	}
	d->num_delete_tokens += 1;
	d->modified = true;
}

void phstore_expire_close(struct messaging_context *msg_ctx,
			  struct share_mode_lock *lck,
			  struct file_id fid,
			  uint64_t open_persistent_id,
			  uint32_t name_hash)
{
	struct phstore_expire_look look = {
		.open_persistent_id = open_persistent_id,
		.name_hash = name_hash,
	};
	const struct security_unix_token *utok = NULL;
	const struct security_token *nttok = NULL;
	struct smb2_lease_key parent_key = {};
	bool initial;
	bool is_set;
	bool ok;
	NTSTATUS status;

	expiring.keeps_token = false;
	if (msg_ctx == NULL) {
		/* a tool */
		return;
	}
	initial = expiring.open_persistent_id == open_persistent_id &&
		  expiring.was_initial;
	is_set = get_delete_on_close_token(
		lck, name_hash, &nttok, &utok, &parent_key);
	if (!is_set && !initial) {
		return;
	}
	ok = share_mode_forall_entries(lck, phstore_expire_look_fn, &look);
	if (!ok || !look.has_entry || look.lives) {
		return;
	}
	if (look.others) {
		if (!is_set) {
			phstore_expire_add_token(
				lck, open_persistent_id, name_hash);
		}
		expiring.keeps_token = true;
		return;
	}
	status = phstore_expire_delete(msg_ctx, lck, fid, utok, nttok);
	if (NT_STATUS_IS_OK(status)) {
		reset_delete_on_close_lck(lck, name_hash);
	}
}

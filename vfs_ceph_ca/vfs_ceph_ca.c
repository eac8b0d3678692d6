/*
 * vfs_ceph_ca: continuously available shares on CephFS
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A module for "vfs objects = ceph_ca ceph_new". A persistent handle is worth
 * little while Ceph keeps its file for the session of the smbd that died, a
 * minute or more. So:
 *
 * - Every CephFS session gets a uuid before its mount, and a record in a
 *   table of phstore before that (ceph_ca_session.c).
 * - A smbd that connects to such a share first has Ceph end the sessions that
 *   dead smbds had for the same SMB client, and, in the background, those of
 *   other clients (ceph_ca_reclaim.c).
 * - A handle's cookie names the session it was opened in. A handle is taken
 *   up again only when that session has ended: nobody writes behind its back.
 * - A file's identity is made of the cluster's and the file system's id, the
 *   inode and the snapshot: the same on each node and after each mount.
 * - A write on a persistent handle is synced before its answer, by us instead
 *   of by libcephfs (ceph_ca_sync.c).
 * - A smbd whose own session was ended ends itself, as if killed: what it
 *   remembers of its handles is not true any more.
 *
 * See docs/CEPHFS.md.
 */

#include "includes.h"
#include "system/filesys.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "smbd/phstore_ceph.h"
#include "lib/pthreadpool/pthreadpool_tevent.h"
#include "lib/util/dlinklist.h"
#include "lib/util/tevent_unix.h"
#include "librpc/gen_ndr/ndr_misc.h"
#include "messages.h"
#include "ceph_ca_private.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

#define MODULE "ceph_ca"
#define BELOW "ceph_new"

#define COOKIE_MAGIC "PHSTORE-CEPHFS1:"
#define COOKIE_MAGIC_LEN (sizeof(COOKIE_MAGIC) - 1)
#define COOKIE_TAIL_LEN (COOKIE_MAGIC_LEN + CEPH_CA_UUID_LEN)

/* A mount of this process */
struct ceph_ca_session {
	struct ceph_ca_session *prev, *next;
	struct ceph_mount_info *mnt;
	char *uuid;
	/* is it in the table? */
	bool recorded;
	struct ceph_ca_target target;
	/* of the file ids of its files */
	uint64_t devid;
};

struct ceph_ca_conn {
	const struct ceph_ca_lib *lib;
	struct ceph_ca_session *session;
	bool sync_writes;
};

static struct ceph_ca_session *ceph_ca_sessions;

/* The share that is being connected, and the session made for it */
static struct {
	struct vfs_handle_struct *handle;
	struct ceph_ca_session *session;
} ceph_ca_connecting;

static struct ceph_ca_target ceph_ca_target_of(int snum)
{
	/* the names and defaults of vfs_ceph_new */
	return (struct ceph_ca_target) {
		.conf_file = lp_parm_const_string(
			snum, BELOW, "config_file", "."),
		.user_id = lp_parm_const_string(snum, BELOW, "user_id", ""),
		.fsname = lp_parm_const_string(snum, BELOW, "filesystem", ""),
	};
}

static bool ceph_ca_target_equal(const struct ceph_ca_target *a,
				 const struct ceph_ca_target *b)
{
	return strcmp(a->conf_file, b->conf_file) == 0 &&
	       strcmp(a->user_id, b->user_id) == 0 &&
	       strcmp(a->fsname, b->fsname) == 0;
}

/* Ceph has ended our session: be as dead as others think we are. */
static void ceph_ca_check_evicted(ssize_t ret, int err)
{
	if (ret >= 0 || err != ESHUTDOWN) {
		return;
	}
	DBG_ERR("this smbd's CephFS session was ended by another node: "
		"ending as if killed\n");
	kill(getpid(), SIGKILL);
}

/* Options that a persistent handle can not be kept with. */
static bool ceph_ca_options_ok(int snum, const struct share_params *params)
{
	const struct loadparm_substitution *lp_sub =
		loadparm_s3_global_substitution();
	const char *share = lp_servicename(talloc_tos(), lp_sub, snum);
	const char *proxy = lp_parm_const_string(snum, BELOW, "proxy", "no");
	const char *bad = NULL;
	bool on;

	on = strequal(proxy, "auto") ||
	     lp_parm_bool(snum, BELOW, "proxy", false);
	if (on) {
		DBG_ERR("share %s: " MODULE " can not be used with \""
			BELOW ":proxy = %s\": all smbds of the node would "
			"share one CephFS session. Set it to no.\n",
			share, proxy);
		return false;
	}
	if (!lp_continuous_availability(snum)) {
		return true;
	}
	if (lp_kernel_share_modes(snum)) {
		bad = "kernel share modes";
	} else if (lp_kernel_oplocks(snum)) {
		bad = "kernel oplocks";
	} else if (lp_posix_locking(params)) {
		bad = "posix locking";
	}
	if (bad != NULL) {
		DBG_ERR("share %s: \"continuous availability = yes\" can not "
			"be kept with \"%s = yes\". Set it to no.\n",
			share, bad);
		return false;
	}
	return true;
}

static void ceph_ca_session_free(struct ceph_ca_session *session)
{
	if (session->recorded) {
		ceph_ca_record_delete(session->uuid);
	}
	DLIST_REMOVE(ceph_ca_sessions, session);
	TALLOC_FREE(session);
}

/* End what dead smbds left for this client. Blocks; that is its purpose. */
static void ceph_ca_reclaim_own(const struct ceph_ca_lib *lib,
				const struct GUID *client)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct ceph_ca_record *recs = NULL;
	size_t i, num = 0;
	NTSTATUS status;

	status = ceph_ca_record_dead(frame, client, NULL, &recs, &num);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_WARNING("can not look for dead CephFS sessions: %s\n",
			    nt_errstr(status));
		goto done;
	}
	for (i = 0; i < num; i++) {
		int ret = ceph_ca_reclaim(lib, &recs[i].target, recs[i].uuid);

		if (ret != 0) {
			/* its handles will not be given out */
			DBG_ERR("CephFS session %s of a dead smbd can not be "
				"ended: %s\n", recs[i].uuid, strerror(-ret));
			continue;
		}
		DBG_NOTICE("CephFS session %s of a dead smbd was ended\n",
			   recs[i].uuid);
		ceph_ca_record_delete(recs[i].uuid);
	}
done:
	TALLOC_FREE(frame);
}

/* Before a session begins: end what it replaces, and write it down. */
static NTSTATUS ceph_ca_take_over(const struct ceph_ca_lib *lib,
				  struct smbd_server_connection *sconn,
				  struct ceph_ca_session *session)
{
	struct ceph_ca_record rec = {
		.uuid = session->uuid,
		.owner = messaging_server_id(sconn->msg_ctx),
		.target = session->target,
	};
	NTSTATUS status;

	if (sconn->client == NULL) {
		/*
		 * smbd's own work, as the scavenger's: it holds nothing for
		 * long, and is done under locks, where nobody may wait.
		 */
		return NT_STATUS_OK;
	}
	rec.client = sconn->client->global->client_guid;
	ceph_ca_reclaim_own(lib, &rec.client);

	status = ceph_ca_record_add(&rec);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	session->recorded = true;
	return NT_STATUS_OK;
}

/* vfs_ceph_new has made a client for the share that is being connected. */
static int ceph_ca_before_mount(struct ceph_mount_info *mnt)
{
	struct vfs_handle_struct *handle = ceph_ca_connecting.handle;
	struct smbd_server_connection *sconn = NULL;
	const struct ceph_ca_lib *lib = NULL;
	struct ceph_ca_session *session = NULL;
	const char *missing = NULL;
	struct GUID uuid = GUID_random();
	struct GUID_txt_buf buf;
	NTSTATUS status;
	int timeout;

	if (handle == NULL) {
		/* a share without this module */
		return 0;
	}
	lib = ceph_ca_lib_get(&missing);
	if (lib == NULL) {
		return -ENOSYS;
	}
	sconn = handle->conn->sconn;

	session = talloc_zero(NULL, struct ceph_ca_session);
	if (session == NULL) {
		return -ENOMEM;
	}
	session->mnt = mnt;
	session->uuid = talloc_strdup(session, GUID_buf_string(&uuid, &buf));
	session->target = ceph_ca_target_of(SNUM(handle->conn));
	session->target.conf_file = talloc_strdup(
		session, session->target.conf_file);
	session->target.user_id = talloc_strdup(
		session, session->target.user_id);
	session->target.fsname = talloc_strdup(
		session, session->target.fsname);
	if (session->uuid == NULL || session->target.conf_file == NULL ||
	    session->target.user_id == NULL || session->target.fsname == NULL)
	{
		TALLOC_FREE(session);
		return -ENOMEM;
	}

	status = ceph_ca_take_over(lib, sconn, session);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_ERR("can not write a CephFS session down: %s\n",
			nt_errstr(status));
		TALLOC_FREE(session);
		return -EIO;
	}
	DLIST_ADD(ceph_ca_sessions, session);
	ceph_ca_connecting.session = session;

	lib->ceph_set_uuid(mnt, session->uuid);
	timeout = lp_parm_int(
		SNUM(handle->conn), MODULE, "session timeout", 0);
	if (timeout > 0) {
		lib->ceph_set_session_timeout(mnt, timeout);
	}
	return 0;
}

static void ceph_ca_unmounted(struct ceph_mount_info *mnt)
{
	struct ceph_ca_session *s = NULL;

	for (s = ceph_ca_sessions; s != NULL; s = s->next) {
		if (s->mnt == mnt) {
			ceph_ca_session_free(s);
			return;
		}
	}
}

/* Of a file system of a cluster: the same on all nodes. */
static bool ceph_ca_devid(const struct ceph_ca_lib *lib,
			  struct ceph_mount_info *mnt,
			  uint64_t *devid)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	char fsid[64] = {};
	char text[128];
	int64_t cid;
	size_t i;
	int ret;

	ret = lib->ceph_getxattr(
		mnt, "/", "ceph.cluster_fsid", fsid, sizeof(fsid) - 1);
	if (ret <= 0) {
		ret = lib->ceph_conf_get(mnt, "fsid", fsid, sizeof(fsid));
	}
	cid = lib->ceph_get_fs_cid(mnt);
	if (ret < 0 || cid < 0) {
		return false;
	}
	snprintf(text, sizeof(text), "%s/%" PRIi64, fsid, cid);
	for (i = 0; text[i] != '\0'; i++) {
		/* FNV-1a */
		hash ^= (uint8_t)text[i];
		hash *= UINT64_C(0x100000001b3);
	}
	*devid = hash;
	return true;
}

static int ceph_ca_connect(struct vfs_handle_struct *handle,
			   const char *service,
			   const char *user)
{
	int snum = SNUM(handle->conn);
	struct ceph_ca_target target = ceph_ca_target_of(snum);
	struct ceph_ca_session *session = NULL;
	struct ceph_ca_conn *cc = NULL;
	const char *missing = NULL;
	bool ok;
	int ret;

	ok = ceph_ca_options_ok(snum, handle->conn->params);
	if (!ok) {
		errno = EINVAL;
		return -1;
	}
	cc = talloc_zero(handle->conn, struct ceph_ca_conn);
	if (cc == NULL) {
		errno = ENOMEM;
		return -1;
	}
	cc->lib = ceph_ca_lib_get(&missing);
	if (cc->lib == NULL) {
		DBG_ERR("libcephfs is too old or not there: no %s\n", missing);
		TALLOC_FREE(cc);
		errno = ENOSYS;
		return -1;
	}
	cc->sync_writes = lp_parm_bool(snum, MODULE, "sync writes", true);

	ceph_ca_connecting.handle = handle;
	ceph_ca_connecting.session = NULL;
	ret = SMB_VFS_NEXT_CONNECT(handle, service, user);
	session = ceph_ca_connecting.session;
	ceph_ca_connecting.handle = NULL;
	ceph_ca_connecting.session = NULL;
	if (ret != 0) {
		if (session != NULL) {
			ceph_ca_session_free(session);
		}
		TALLOC_FREE(cc);
		return ret;
	}

	if (session != NULL) {
		ok = ceph_ca_devid(cc->lib, session->mnt, &session->devid);
		if (!ok) {
			DBG_ERR("%s: Ceph does not say which cluster and "
				"file system this is\n", service);
			goto fail;
		}
		cc->session = session;
		ceph_ca_sweep_start(cc->lib, handle->conn->sconn);
	} else {
		/* vfs_ceph_new had it mounted already */
		for (session = ceph_ca_sessions; session != NULL;
		     session = session->next)
		{
			ok = ceph_ca_target_equal(&session->target, &target);
			if (ok) {
				break;
			}
		}
		if (session == NULL) {
			DBG_ERR("%s: no CephFS session with a uuid. Is "
				"\"" BELOW "\" behind \"" MODULE "\" in vfs "
				"objects? And has every share of this file "
				"system both?\n", service);
			goto fail;
		}
		cc->session = session;
	}
	SMB_VFS_HANDLE_SET_DATA(
		handle, cc, NULL, struct ceph_ca_conn, goto fail);
	return 0;
fail:
	SMB_VFS_NEXT_DISCONNECT(handle);
	TALLOC_FREE(cc);
	errno = EINVAL;
	return -1;
}

static void ceph_ca_disconnect(struct vfs_handle_struct *handle)
{
	/* the mount may go: nobody may be in it */
	ceph_ca_jobs_wait();
	/* deletes the session's record, if it ends it */
	SMB_VFS_NEXT_DISCONNECT(handle);
}

static struct file_id ceph_ca_file_id_create(struct vfs_handle_struct *handle,
					     const SMB_STRUCT_STAT *sbuf)
{
	struct ceph_ca_conn *cc = NULL;
	struct file_id id = SMB_VFS_NEXT_FILE_ID_CREATE(handle, sbuf);

	SMB_VFS_HANDLE_GET_DATA(handle, cc, struct ceph_ca_conn, return id);

	/*
	 * What libcephfs gives as the device is the snapshot, the same number
	 * for all that is not in one. The inode stays what it is.
	 */
	id.devid = cc->session->devid ^ (uint64_t)sbuf->st_ex_dev;
	return id;
}

/* Of a handle that was opened with O_SYNC */
struct ceph_ca_fsp {
	bool sync;
};

static int ceph_ca_openat(struct vfs_handle_struct *handle,
			  const struct files_struct *dirfsp,
			  const struct smb_filename *smb_fname,
			  struct files_struct *fsp,
			  const struct vfs_open_how *how)
{
	struct ceph_ca_conn *cc = NULL;
	struct vfs_open_how below = *how;
	struct ceph_ca_fsp *ext = NULL;
	int fd;

	SMB_VFS_HANDLE_GET_DATA(handle, cc, struct ceph_ca_conn, return -1);

	if (cc->sync_writes && (how->flags & O_SYNC) == O_SYNC) {
		/* libcephfs would sync each write by itself, in our thread */
		ext = VFS_ADD_FSP_EXTENSION(
			handle, fsp, struct ceph_ca_fsp, NULL);
		if (ext == NULL) {
			errno = ENOMEM;
			return -1;
		}
		ext->sync = true;
		below.flags &= ~O_SYNC;
	}
	fd = SMB_VFS_NEXT_OPENAT(handle, dirfsp, smb_fname, fsp, &below);
	ceph_ca_check_evicted(fd, errno);
	return fd;
}

/*
 * Has a write on this handle to be durable before it is answered? That of a
 * persistent handle: smbd opens it with O_SYNC, also when it is taken up
 * again. Or its client asked for write-through.
 */
static bool ceph_ca_wants_sync(struct vfs_handle_struct *handle,
			       struct files_struct *fsp)
{
	struct ceph_ca_fsp *ext = VFS_FETCH_FSP_EXTENSION(handle, fsp);

	return ext != NULL && ext->sync;
}

static ssize_t ceph_ca_pwrite(struct vfs_handle_struct *handle,
			      struct files_struct *fsp,
			      const void *data,
			      size_t n,
			      off_t offset)
{
	struct ceph_ca_conn *cc = NULL;
	ssize_t written;
	int ret;

	SMB_VFS_HANDLE_GET_DATA(handle, cc, struct ceph_ca_conn, return -1);

	written = SMB_VFS_NEXT_PWRITE(handle, fsp, data, n, offset);
	ceph_ca_check_evicted(written, errno);
	if (written <= 0 || !ceph_ca_wants_sync(handle, fsp)) {
		return written;
	}
	ret = ceph_ca_sync(cc->lib, cc->session->mnt, fsp->file_id.inode);
	ceph_ca_check_evicted(ret, -ret);
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return written;
}

struct ceph_ca_pwrite_state {
	struct tevent_context *ev;
	struct vfs_handle_struct *handle;
	struct files_struct *fsp;
	struct ceph_ca_conn *cc;
	ssize_t written;
	struct vfs_aio_state vfs_aio_state;
};

static void ceph_ca_pwrite_written(struct tevent_req *subreq);
static void ceph_ca_pwrite_synced(struct tevent_req *subreq);

static struct tevent_req *ceph_ca_pwrite_send(
	struct vfs_handle_struct *handle,
	TALLOC_CTX *mem_ctx,
	struct tevent_context *ev,
	struct files_struct *fsp,
	const void *data,
	size_t n,
	off_t offset)
{
	struct ceph_ca_pwrite_state *state = NULL;
	struct tevent_req *req = NULL;
	struct tevent_req *subreq = NULL;

	req = tevent_req_create(mem_ctx, &state, struct ceph_ca_pwrite_state);
	if (req == NULL) {
		return NULL;
	}
	state->ev = ev;
	state->handle = handle;
	state->fsp = fsp;
	SMB_VFS_HANDLE_GET_DATA(
		handle, state->cc, struct ceph_ca_conn, return NULL);

	subreq = SMB_VFS_NEXT_PWRITE_SEND(
		state, ev, handle, fsp, data, n, offset);
	if (tevent_req_nomem(subreq, req)) {
		return tevent_req_post(req, ev);
	}
	tevent_req_set_callback(subreq, ceph_ca_pwrite_written, req);
	return req;
}

static void ceph_ca_pwrite_written(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	struct ceph_ca_pwrite_state *state = tevent_req_data(
		req, struct ceph_ca_pwrite_state);

	state->written = SMB_VFS_PWRITE_RECV(subreq, &state->vfs_aio_state);
	TALLOC_FREE(subreq);
	ceph_ca_check_evicted(state->written, state->vfs_aio_state.error);
	if (state->written <= 0 ||
	    !ceph_ca_wants_sync(state->handle, state->fsp))
	{
		tevent_req_done(req);
		return;
	}
	/* it is a client's: there is a pool */
	subreq = ceph_ca_sync_send(state,
				   state->ev,
				   state->handle->conn->sconn->pool,
				   state->cc->lib,
				   state->cc->session->mnt,
				   state->fsp->file_id.inode);
	if (tevent_req_nomem(subreq, req)) {
		return;
	}
	tevent_req_set_callback(subreq, ceph_ca_pwrite_synced, req);
}

static void ceph_ca_pwrite_synced(struct tevent_req *subreq)
{
	struct tevent_req *req = tevent_req_callback_data(
		subreq, struct tevent_req);
	int ret;

	ret = ceph_ca_sync_recv(subreq);
	TALLOC_FREE(subreq);
	ceph_ca_check_evicted(ret, -ret);
	if (ret < 0) {
		tevent_req_error(req, -ret);
		return;
	}
	tevent_req_done(req);
}

static ssize_t ceph_ca_pwrite_recv(struct tevent_req *req,
				   struct vfs_aio_state *vfs_aio_state)
{
	struct ceph_ca_pwrite_state *state = tevent_req_data(
		req, struct ceph_ca_pwrite_state);
	ssize_t written = state->written;

	if (tevent_req_is_unix_error(req, &vfs_aio_state->error)) {
		written = -1;
	} else {
		*vfs_aio_state = state->vfs_aio_state;
	}
	tevent_req_received(req);
	return written;
}

/*
 * The module's cookie: that of the module below, and a tail of ours. status
 * is what the module below said of its own.
 */
static NTSTATUS ceph_ca_cookie_made(NTSTATUS status,
				    TALLOC_CTX *mem_ctx,
				    const struct ceph_ca_conn *cc,
				    DATA_BLOB *cookie)
{
	bool ok;

	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	ok = data_blob_append(
		mem_ctx, cookie, COOKIE_MAGIC, COOKIE_MAGIC_LEN) &&
	     data_blob_append(
		mem_ctx, cookie, cc->session->uuid, CEPH_CA_UUID_LEN);
	return ok ? NT_STATUS_OK : NT_STATUS_NO_MEMORY;
}

static bool ceph_ca_cookie_pull(const DATA_BLOB *cookie,
				DATA_BLOB *below,
				char uuid[CEPH_CA_UUID_LEN + 1])
{
	const uint8_t *tail = NULL;

	if (cookie->length < COOKIE_TAIL_LEN) {
		return false;
	}
	*below = data_blob_const(
		cookie->data, cookie->length - COOKIE_TAIL_LEN);
	tail = cookie->data + below->length;
	if (memcmp(tail, COOKIE_MAGIC, COOKIE_MAGIC_LEN) != 0) {
		return false;
	}
	memcpy(uuid, tail + COOKIE_MAGIC_LEN, CEPH_CA_UUID_LEN);
	uuid[CEPH_CA_UUID_LEN] = '\0';
	return true;
}

static NTSTATUS ceph_ca_durable_cookie(struct vfs_handle_struct *handle,
				       struct files_struct *fsp,
				       TALLOC_CTX *mem_ctx,
				       DATA_BLOB *cookie)
{
	struct ceph_ca_conn *cc = NULL;
	NTSTATUS status;

	SMB_VFS_HANDLE_GET_DATA(handle, cc, struct ceph_ca_conn,
				return NT_STATUS_INTERNAL_ERROR);

	status = SMB_VFS_NEXT_DURABLE_COOKIE(handle, fsp, mem_ctx, cookie);
	return ceph_ca_cookie_made(status, mem_ctx, cc, cookie);
}

static NTSTATUS ceph_ca_durable_disconnect(struct vfs_handle_struct *handle,
					   struct files_struct *fsp,
					   const DATA_BLOB old_cookie,
					   TALLOC_CTX *mem_ctx,
					   DATA_BLOB *new_cookie)
{
	struct ceph_ca_conn *cc = NULL;
	char uuid[CEPH_CA_UUID_LEN + 1];
	DATA_BLOB below = {};
	NTSTATUS status;
	bool ok;

	SMB_VFS_HANDLE_GET_DATA(handle, cc, struct ceph_ca_conn,
				return NT_STATUS_INTERNAL_ERROR);

	ok = ceph_ca_cookie_pull(&old_cookie, &below, uuid);
	if (!ok) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	status = SMB_VFS_NEXT_DURABLE_DISCONNECT(
		handle, fsp, below, mem_ctx, new_cookie);
	return ceph_ca_cookie_made(status, mem_ctx, cc, new_cookie);
}

/* Is the session a handle was opened in at its end? Sees to it. */
static NTSTATUS ceph_ca_session_over(const struct ceph_ca_conn *cc,
				     const char *uuid)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct ceph_ca_record rec = {};
	NTSTATUS status = NT_STATUS_OK;
	bool dead;
	int ret;

	dead = ceph_ca_record_is_dead(frame, uuid, &rec);
	if (!dead) {
		/*
		 * It ended in order, was ended, or it lives: then so does its
		 * smbd, and the handle's own record says so.
		 */
		goto done;
	}
	ret = ceph_ca_reclaim(cc->lib, &rec.target, uuid);
	if (ret != 0) {
		DBG_ERR("CephFS session %s of a dead smbd can not be ended: "
			"%s. Its handle is not given out.\n",
			uuid, strerror(-ret));
		status = NT_STATUS_FILE_NOT_AVAILABLE;
		goto done;
	}
	ceph_ca_record_delete(uuid);
done:
	TALLOC_FREE(frame);
	return status;
}

static NTSTATUS ceph_ca_durable_reconnect(struct vfs_handle_struct *handle,
					  struct smb_request *smb1req,
					  struct smbXsrv_open *op,
					  const DATA_BLOB old_cookie,
					  const struct smb2_lease *lease,
					  TALLOC_CTX *mem_ctx,
					  struct files_struct **fsp,
					  DATA_BLOB *new_cookie)
{
	struct ceph_ca_conn *cc = NULL;
	char uuid[CEPH_CA_UUID_LEN + 1];
	DATA_BLOB below = {};
	NTSTATUS status;
	bool ok;

	SMB_VFS_HANDLE_GET_DATA(handle, cc, struct ceph_ca_conn,
				return NT_STATUS_INTERNAL_ERROR);

	ok = ceph_ca_cookie_pull(&old_cookie, &below, uuid);
	if (!ok) {
		/* opened when the share was another's */
		return NT_STATUS_OBJECT_NAME_NOT_FOUND;
	}
	status = ceph_ca_session_over(cc, uuid);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	status = SMB_VFS_NEXT_DURABLE_RECONNECT(
		handle, smb1req, op, below, lease, mem_ctx, fsp, new_cookie);
	return ceph_ca_cookie_made(status, mem_ctx, cc, new_cookie);
}

static const struct phstore_ceph_ops ceph_ca_ops = {
	.before_mount = ceph_ca_before_mount,
	.unmounted = ceph_ca_unmounted,
	.sweep = ceph_ca_sweep_all,
};

static struct vfs_fn_pointers ceph_ca_fns = {
	.connect_fn = ceph_ca_connect,
	.disconnect_fn = ceph_ca_disconnect,
	.file_id_create_fn = ceph_ca_file_id_create,
	.openat_fn = ceph_ca_openat,
	.pwrite_fn = ceph_ca_pwrite,
	.pwrite_send_fn = ceph_ca_pwrite_send,
	.pwrite_recv_fn = ceph_ca_pwrite_recv,
	.durable_cookie_fn = ceph_ca_durable_cookie,
	.durable_disconnect_fn = ceph_ca_durable_disconnect,
	.durable_reconnect_fn = ceph_ca_durable_reconnect,
};

static_decl_vfs;
NTSTATUS vfs_ceph_ca_init(TALLOC_CTX *ctx)
{
	phstore_ceph_set_ops(&ceph_ca_ops);
	return smb_register_vfs(
		SMB_VFS_INTERFACE_VERSION, MODULE, &ceph_ca_fns);
}

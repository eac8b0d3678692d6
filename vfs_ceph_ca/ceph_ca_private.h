/*
 * vfs_ceph_ca: what its files share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef CEPH_CA_PRIVATE_H
#define CEPH_CA_PRIVATE_H

#include "librpc/gen_ndr/server_id.h"
#include "librpc/gen_ndr/misc.h"
#include <cephfs/libcephfs.h>

struct messaging_context;

/** Functions of libcephfs, found when the first share is mounted. */
#define CEPH_CA_FN(name) __typeof__(name) *name
struct ceph_ca_lib {
	CEPH_CA_FN(ceph_conf_get);
	CEPH_CA_FN(ceph_conf_read_file);
	CEPH_CA_FN(ceph_create);
	CEPH_CA_FN(ceph_finish_reclaim);
	CEPH_CA_FN(ceph_get_fs_cid);
	CEPH_CA_FN(ceph_getxattr);
	CEPH_CA_FN(ceph_init);
	CEPH_CA_FN(ceph_ll_get_inode);
	CEPH_CA_FN(ceph_ll_getattr);
	CEPH_CA_FN(ceph_ll_put);
	CEPH_CA_FN(ceph_ll_sync_inode);
	CEPH_CA_FN(ceph_release);
	CEPH_CA_FN(ceph_select_filesystem);
	CEPH_CA_FN(ceph_set_session_timeout);
	CEPH_CA_FN(ceph_set_uuid);
	CEPH_CA_FN(ceph_start_reclaim);
	CEPH_CA_FN(ceph_userperm_destroy);
	CEPH_CA_FN(ceph_userperm_new);
};

/** Which CephFS, and as whom: what vfs_ceph_new was configured with. */
struct ceph_ca_target {
	const char *conf_file;
	const char *user_id;
	const char *fsname;
};

/** A CephFS session as it stands in the store. */
struct ceph_ca_record {
	char *uuid;
	/* the smbd whose it is */
	struct server_id owner;
	/* who is reclaiming it; invalid if nobody is */
	struct server_id claim;
	/* the SMB client it serves */
	struct GUID client;
	struct ceph_ca_target target;
};

#define CEPH_CA_UUID_LEN 36

/* ceph_ca_reclaim.c: no Samba in it, may run in a thread */

/** @brief Load libcephfs once. NULL when it lacks something; the name in
 * *missing. */
const struct ceph_ca_lib *ceph_ca_lib_get(const char **missing);

/**
 * @brief Have Ceph end a session: its caps and locks are free afterwards,
 * and what its client still sends is refused.
 *
 * Blocks for as long as the file system has no active MDS.
 *
 * @return 0: ended, or there is no such session (any more); else -errno
 */
int ceph_ca_reclaim(const struct ceph_ca_lib *lib,
		    const struct ceph_ca_target *target,
		    const char *uuid);

/* ceph_ca_session.c: the table of sessions */

/** @brief Write a session down, durably. To be called before its mount. */
NTSTATUS ceph_ca_record_add(const struct ceph_ca_record *rec);

/** @brief Forget a session that Ceph has ended. */
void ceph_ca_record_delete(const char *uuid);

/**
 * @brief Sessions whose smbd is gone.
 *
 * @param[in] client  only those that served this client; NULL: of the others
 */
NTSTATUS ceph_ca_record_dead(TALLOC_CTX *mem_ctx,
			     const struct GUID *client,
			     const struct GUID *not_client,
			     struct ceph_ca_record **recs,
			     size_t *num_recs);

/**
 * @brief Is this session in the table, and its smbd gone?
 * @return true and *rec if so
 */
bool ceph_ca_record_is_dead(TALLOC_CTX *mem_ctx,
			    const char *uuid,
			    struct ceph_ca_record *rec);

/** @brief Take a dead session for this process to reclaim; false: another
 * one does. */
bool ceph_ca_record_claim(const char *uuid, struct server_id self);

/* ceph_ca_sync.c: writes are durable before they are acknowledged */

struct pthreadpool_tevent;
struct tevent_context;
struct tevent_req;

/**
 * @brief Sync what was written to an open file so far.
 *
 * Requests that come while one runs share the next one.
 */
struct tevent_req *ceph_ca_sync_send(TALLOC_CTX *mem_ctx,
				     struct tevent_context *ev,
				     struct pthreadpool_tevent *pool,
				     const struct ceph_ca_lib *lib,
				     struct ceph_mount_info *mnt,
				     uint64_t ino);
/** @return 0 or -errno */
int ceph_ca_sync_recv(struct tevent_req *req);

/** @brief The same, blocking. */
int ceph_ca_sync(const struct ceph_ca_lib *lib,
		 struct ceph_mount_info *mnt,
		 uint64_t ino);

/** @brief A job in a thread begins or ends: the unmount waits for them. */
void ceph_ca_job_begin(void);
void ceph_ca_job_end(void);
void ceph_ca_jobs_wait(void);

/* ceph_ca_sweep.c */

struct smbd_server_connection;

/** @brief Begin to end the sessions dead smbds had for other clients. */
void ceph_ca_sweep_start(const struct ceph_ca_lib *lib,
			 struct smbd_server_connection *sconn);

/** @brief End all of dead smbds; returns when that is done. */
void ceph_ca_sweep_all(struct messaging_context *msg);

#endif /* CEPH_CA_PRIVATE_H */

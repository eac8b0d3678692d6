/*
 * vfs_ceph_ca: end a dead client's CephFS session
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The MDS of a CephFS keeps the caps and locks of a client that fell silent
 * until its session times out (60 seconds and more). A client that knows the
 * other's uuid may ask for them at once: ceph_start_reclaim() with
 * CEPH_RECLAIM_RESET. The MDS then evicts the session: the client's address
 * is put on the blocklist, which the OSDs know before the answer comes, so a
 * client that is not dead but slow can not write any more either.
 *
 * The asking is done by a client of its own, made for it and thrown away: it
 * has to happen before a mount, and there may be many at once. It has to have
 * the same Ceph user as the session it reclaims, else the MDS says EPERM.
 *
 * No talloc and nothing of Samba here: this runs in threads.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/stat.h>
#include <talloc.h>
#include "replace.h"
#include "libcli/util/ntstatus.h"
#include "ceph_ca_private.h"

#define CEPH_CA_LIBRARY "libcephfs.so.2"

const struct ceph_ca_lib *ceph_ca_lib_get(const char **missing)
{
	static struct ceph_ca_lib lib;
	static bool loaded;
	const struct {
		const char *name;
		void **fn;
	} fns[] = {
#define FN(name) { #name, (void **)&lib.name }
		FN(ceph_conf_get),
		FN(ceph_conf_read_file),
		FN(ceph_create),
		FN(ceph_finish_reclaim),
		FN(ceph_get_fs_cid),
		FN(ceph_getxattr),
		FN(ceph_init),
		FN(ceph_ll_get_inode),
		FN(ceph_ll_getattr),
		FN(ceph_ll_put),
		FN(ceph_ll_sync_inode),
		FN(ceph_release),
		FN(ceph_select_filesystem),
		FN(ceph_set_session_timeout),
		FN(ceph_set_uuid),
		FN(ceph_start_reclaim),
		FN(ceph_userperm_destroy),
		FN(ceph_userperm_new),
#undef FN
	};
	void *handle = NULL;
	size_t i;

	if (loaded) {
		return &lib;
	}
	*missing = CEPH_CA_LIBRARY;
	handle = dlopen(CEPH_CA_LIBRARY, RTLD_NOW);
	if (handle == NULL) {
		return NULL;
	}
	for (i = 0; i < sizeof(fns) / sizeof(fns[0]); i++) {
		*fns[i].fn = dlsym(handle, fns[i].name);
		if (*fns[i].fn == NULL) {
			*missing = fns[i].name;
			dlclose(handle);
			return NULL;
		}
	}
	loaded = true;
	return &lib;
}

int ceph_ca_reclaim(const struct ceph_ca_lib *lib,
		    const struct ceph_ca_target *target,
		    const char *uuid)
{
	struct ceph_mount_info *mnt = NULL;
	int ret;

	ret = lib->ceph_create(&mnt, target->user_id);
	if (ret != 0) {
		return ret;
	}
	ret = lib->ceph_conf_read_file(mnt, target->conf_file);
	if (ret != 0) {
		goto done;
	}
	ret = lib->ceph_init(mnt);
	if (ret != 0) {
		goto done;
	}
	if (target->fsname[0] != '\0') {
		ret = lib->ceph_select_filesystem(mnt, target->fsname);
		if (ret != 0) {
			goto done;
		}
	}
	ret = lib->ceph_start_reclaim(mnt, uuid, CEPH_RECLAIM_RESET);
	if (ret == 0) {
		lib->ceph_finish_reclaim(mnt);
	}
	if (ret == -ENOENT) {
		/* ended in order, timed out, or reclaimed by another */
		ret = 0;
	}
done:
	(void)lib->ceph_release(mnt);
	return ret;
}

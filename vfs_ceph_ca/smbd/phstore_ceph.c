/*
 * phstore: vfs_ceph_new's word to vfs_ceph_ca
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A session's uuid has to be set between the making of a Ceph client and its
 * mount, both inside of vfs_ceph_new. Two modules can not call each other, so
 * this piece between them is part of smbd. Without vfs_ceph_ca it does
 * nothing.
 */

#include "includes.h"
#include "smbd/phstore_ceph.h"

static const struct phstore_ceph_ops *phstore_ceph_ops;

void phstore_ceph_set_ops(const struct phstore_ceph_ops *ops)
{
	phstore_ceph_ops = ops;
}

int phstore_ceph_before_mount(struct ceph_mount_info *mnt)
{
	if (phstore_ceph_ops == NULL) {
		return 0;
	}
	return phstore_ceph_ops->before_mount(mnt);
}

void phstore_ceph_unmounted(struct ceph_mount_info *mnt)
{
	if (phstore_ceph_ops != NULL) {
		phstore_ceph_ops->unmounted(mnt);
	}
}

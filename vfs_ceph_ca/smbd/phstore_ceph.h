/*
 * phstore: vfs_ceph_new's word to vfs_ceph_ca
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHSTORE_CEPH_H
#define PHSTORE_CEPH_H

struct ceph_mount_info;
struct messaging_context;

struct phstore_ceph_ops {
	/* @return 0, or -errno: the mount fails */
	int (*before_mount)(struct ceph_mount_info *mnt);
	void (*unmounted)(struct ceph_mount_info *mnt);
	/* end the sessions of dead smbds; returns when they have ended */
	void (*sweep)(struct messaging_context *msg);
};

/** @brief vfs_ceph_ca says that it is there. */
void phstore_ceph_set_ops(const struct phstore_ceph_ops *ops);

/** @brief vfs_ceph_new, with a client that is about to mount. */
int phstore_ceph_before_mount(struct ceph_mount_info *mnt);

/** @brief vfs_ceph_new, after an unmount. */
void phstore_ceph_unmounted(struct ceph_mount_info *mnt);

/**
 * @brief smbd-cleanupd, when smbds have died: one here, or a node's.
 *
 * Ends their CephFS sessions in a process of its own. Does not wait for it.
 */
void phstore_ceph_sweep(struct messaging_context *msg);

#endif /* PHSTORE_CEPH_H */

/*
 * phstore: smbd's and vfs_ceph_new's word to vfs_ceph_ca
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A session's uuid has to be set between the making of a Ceph client and its
 * mount, both inside of vfs_ceph_new. Two modules can not call each other, so
 * this piece between them is part of smbd. Without vfs_ceph_ca it does
 * nothing.
 *
 * smbd-cleanupd learns first that a smbd, or a node, has died. The sessions
 * left behind are ended then, whether a client comes back for them or not:
 * another client, of SMB or of Ceph itself, may want the files. That is done
 * in a child of cleanupd, one at a time, which loads the module and ends when
 * no such session is left: cleanupd itself never waits for Ceph.
 */

#include "includes.h"
#include "system/filesys.h"
#include "system/wait.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "smbd/phstore_ceph.h"
#include "lib/util/util_process.h"
#include "source3/lib/substitute.h"
#include "messages.h"

#define PHSTORE_CEPH_MODULE "ceph_ca"

static struct {
	/* 0: none runs */
	pid_t pid;
	/* more have died since it began */
	bool again;
	struct tevent_signal *se;
} phstore_ceph_sweeper;

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

static bool phstore_ceph_is_used(void)
{
	int snum;

	for (snum = 0; snum < lp_numservices(); snum++) {
		const char **objects = NULL;

		if (!lp_snum_ok(snum)) {
			continue;
		}
		objects = lp_vfs_objects(snum);
		if (objects != NULL &&
		    str_list_check(objects, PHSTORE_CEPH_MODULE))
		{
			return true;
		}
	}
	return false;
}

static void phstore_ceph_sweeper_main(struct messaging_context *msg)
{
	NTSTATUS status;

	status = smbd_reinit_after_fork(
		msg, messaging_tevent_context(msg), true);
	if (!NT_STATUS_IS_OK(status)) {
		DBG_ERR("smbd_reinit_after_fork failed: %s\n",
			nt_errstr(status));
		_exit(1);
	}
	process_set_title("smbd-ceph-ca", "ceph-ca");
	set_remote_machine_name("ceph-ca", false);
	reopen_logs();

	status = smb_probe_module("vfs", PHSTORE_CEPH_MODULE);
	if (NT_STATUS_IS_OK(status) && phstore_ceph_ops != NULL) {
		phstore_ceph_ops->sweep(msg);
	}
	exit_server_cleanly(NULL);
}

static void phstore_ceph_sweeper_ended(struct tevent_context *ev,
				       struct tevent_signal *se,
				       int signum,
				       int count,
				       void *siginfo,
				       void *private_data)
{
	struct messaging_context *msg = private_data;
	pid_t pid;
	int wstatus;

	if (phstore_ceph_sweeper.pid == 0) {
		return;
	}
	pid = waitpid(phstore_ceph_sweeper.pid, &wstatus, WNOHANG);
	if (pid != phstore_ceph_sweeper.pid) {
		return;
	}
	phstore_ceph_sweeper.pid = 0;
	if (phstore_ceph_sweeper.again) {
		phstore_ceph_sweep(msg);
	}
}

void phstore_ceph_sweep(struct messaging_context *msg)
{
	struct tevent_context *ev = messaging_tevent_context(msg);
	pid_t pid;

	if (!phstore_ceph_is_used()) {
		return;
	}
	if (phstore_ceph_sweeper.pid != 0) {
		phstore_ceph_sweeper.again = true;
		return;
	}
	phstore_ceph_sweeper.again = false;
	if (phstore_ceph_sweeper.se == NULL) {
		phstore_ceph_sweeper.se = tevent_add_signal(
			ev, ev, SIGCHLD, 0, phstore_ceph_sweeper_ended, msg);
		if (phstore_ceph_sweeper.se == NULL) {
			DBG_ERR("no memory\n");
			return;
		}
	}
	pid = fork();
	if (pid == -1) {
		DBG_ERR("fork failed: %s\n", strerror(errno));
		return;
	}
	if (pid == 0) {
		phstore_ceph_sweeper_main(msg);
	}
	phstore_ceph_sweeper.pid = pid;
}

/*
 * phstore: a disk whose syncs fail
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into smbd by test_store_latched: fdatasync() fails while
 * $SYNC_FAILS_FILE is there.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int fd)
{
	const char *path = getenv("SYNC_FAILS_FILE");

	if (path != NULL && access(path, F_OK) == 0) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

/*
 * phstore: the seam between the store and the disk
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * In a test build (PHSTORE_TEST_BUILD) the environment variable
 * PHSTORE_TEST_SYNC_DELAY_US makes every sync that much slower, to show what
 * group commit does on a slow disk. A release build does not have it.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "phstore_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int posix_open(const char *path, int flags, mode_t mode)
{
	return open(path, flags, mode);
}

#ifdef PHSTORE_TEST_BUILD
void (*phstore_test_point_fn)(const char *name);

static void test_sync_delay(void)
{
	static long delay_us = -1;
	struct timespec ts = {};

	if (delay_us == -1) {
		const char *s = getenv("PHSTORE_TEST_SYNC_DELAY_US");
		delay_us = (s != NULL) ? strtol(s, NULL, 10) : 0;
		if (delay_us < 0) {
			delay_us = 0;
		}
	}
	if (delay_us == 0) {
		return;
	}
	ts.tv_sec = delay_us / 1000000;
	ts.tv_nsec = (delay_us % 1000000) * 1000;
	nanosleep(&ts, NULL);
}
#else
static void test_sync_delay(void)
{
}
#endif

static int posix_allocate(int fd, off_t len)
{
	int ret = fallocate(fd, 0, 0, len);

	if (ret == -1 && errno == EOPNOTSUPP) {
		ret = ftruncate(fd, len);
	}
	return ret;
}

static int posix_fdatasync(int fd)
{
	test_sync_delay();
	return fdatasync(fd);
}

static int posix_fsync_dir(int fd)
{
	test_sync_delay();
	return fsync(fd);
}

const struct phstore_io_ops phstore_io_posix = {
	.open = posix_open,
	.close = close,
	.pread = pread,
	.pwrite = pwrite,
	.allocate = posix_allocate,
	.fdatasync = posix_fdatasync,
	.fsync_dir = posix_fsync_dir,
	.rename = rename,
	.unlink = unlink,
};

const struct phstore_io_ops *phstore_io = &phstore_io_posix;

ssize_t phstore_io_read_full(int fd, void *buf, size_t len, off_t ofs)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = phstore_io->pread(fd,
					      (char *)buf + done,
					      len - done,
					      ofs + done);
		if (n == -1 && errno == EINTR) {
			continue;
		}
		if (n == -1) {
			return -1;
		}
		if (n == 0) {
			break;
		}
		done += n;
	}
	return done;
}

int phstore_io_write_full(int fd, const void *buf, size_t len, off_t ofs)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = phstore_io->pwrite(fd,
					       (const char *)buf + done,
					       len - done,
					       ofs + done);
		if (n == -1 && errno == EINTR) {
			continue;
		}
		if (n == -1) {
			return -1;
		}
		if (n == 0) {
			errno = ENOSPC;
			return -1;
		}
		done += n;
	}
	return 0;
}

enum phstore_err phstore_io_err(int sys_errno)
{
	return sys_errno == ENOSPC || sys_errno == EDQUOT ? PHSTORE_ERR_FULL :
							    PHSTORE_ERR_IO;
}

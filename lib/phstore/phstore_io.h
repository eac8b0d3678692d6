/*
 * phstore: the seam between the store and the disk
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file phstore_io.h
 *
 * @brief Every call that can change what is on disk goes through one table.
 *
 * Tests replace the table: a crash disk that drops, reorders and tears what
 * was not synced, faults after N calls, death at call N. Files that are
 * rebuilt at every start (`state`, `lock`, `index.*`) do not use it.
 *
 * All functions: result and errno as the system call of that name.
 */

#ifndef PHSTORE_IO_H
#define PHSTORE_IO_H

#include <stddef.h>
#include <sys/types.h>

#include "phstore.h"

struct phstore_io_ops {
	int (*open)(const char *path, int flags, mode_t mode);
	int (*close)(int fd);
	ssize_t (*pread)(int fd, void *buf, size_t len, off_t ofs);
	ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t ofs);
	/* reserve space and set the length */
	int (*allocate)(int fd, off_t len);
	/* data and what is needed to read it back */
	int (*fdatasync)(int fd);
	/* the entries of the folder fd */
	int (*fsync_dir)(int fd);
	int (*rename)(const char *from, const char *to);
	int (*unlink)(const char *path);
};

/* The table in use, per process. */
extern const struct phstore_io_ops *phstore_io;

/* The operating system's calls. */
extern const struct phstore_io_ops phstore_io_posix;

/*
 * Places between two steps that others can see, where a crash test may end
 * the process. Nothing in a release build.
 */
#ifdef PHSTORE_TEST_BUILD
extern void (*phstore_test_point_fn)(const char *name);
#define PHSTORE_TEST_POINT(name) \
	do { \
		if (phstore_test_point_fn != NULL) { \
			phstore_test_point_fn(name); \
		} \
	} while (0)
#else
#define PHSTORE_TEST_POINT(name) do { } while (0)
#endif

/**
 * @brief pread() until len bytes or the end of the file.
 * @return bytes read, -1 with errno
 */
ssize_t phstore_io_read_full(int fd, void *buf, size_t len, off_t ofs);

/**
 * @brief pwrite() until all is written.
 * @return 0, or -1 with errno; a short write without errno is ENOSPC
 */
int phstore_io_write_full(int fd, const void *buf, size_t len, off_t ofs);

/**
 * @brief What the errno of a write, or of making a file, says.
 * @return PHSTORE_ERR_FULL: the disk or a quota has no room, else
 *	   PHSTORE_ERR_IO
 */
enum phstore_err phstore_io_err(int sys_errno);

#endif /* PHSTORE_IO_H */

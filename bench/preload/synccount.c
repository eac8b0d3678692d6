/*
 * synccount: count (and slow down, or skip) every sync a server makes
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * An LD_PRELOAD library. It counts outside of the code under test, so a
 * store that miscounts its own syncs is found out, and the same shim counts
 * for any server: ours, upstream's, another's. Counters live in one mmap'd
 * file named by PHBENCH_SYNC_COUNTERS, so they add up over all processes,
 * forked and killed ones included.
 *
 * PHBENCH_SYNC_DELAY_US=2000 makes each sync that reaches a disk take that
 * much longer, in the calling thread: a slow disk for whoever is measured.
 * PHBENCH_SYNC_SKIP=1 answers without syncing: a disk that costs nothing,
 * which leaves the CPU's part of the cost. Never with data one cares for.
 *
 * Not seen: syncs made by raw system calls or io_uring. A server that uses
 * them has to be counted by tracepoints instead; the report says which was
 * used.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
/* the large-file names are wrapped one by one below, not by macros */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../phbench/synccount.h"

static struct synccount_page *page;
static long delay_us;
static bool skip;

static int (*real_fdatasync)(int);
static int (*real_fsync)(int);
static int (*real_msync)(void *, size_t, int);
static int (*real_sync_file_range)(int, off64_t, off64_t, unsigned int);
static ssize_t (*real_pwritev2)(int, const struct iovec *, int, off_t, int);
static ssize_t (*real_pwritev64v2)(int, const struct iovec *, int, off64_t,
				   int);
static int (*real_open)(const char *, int, ...);
static int (*real_open64)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_openat64)(int, const char *, int, ...);
static int (*real_syncfs)(int);
static void (*real_sync)(void);

/*
 * Resolve one function. Also called from the wrappers: another library's
 * constructor may run before ours.
 */
#define REAL(name) ({ \
	if (real_##name == NULL) { \
		real_##name = (__typeof__(real_##name)) \
			dlsym(RTLD_NEXT, #name); \
	} \
	real_##name; \
})

static void count(enum synccount_id id)
{
	if (page != NULL) {
		__atomic_fetch_add(&page->counters[id], 1, __ATOMIC_RELAXED);
	}
}

static void slow_down(void)
{
	struct timespec ts = {
		.tv_sec = delay_us / 1000000,
		.tv_nsec = (delay_us % 1000000) * 1000,
	};
	int saved_errno = errno;

	if (delay_us <= 0) {
		return;
	}
	while (nanosleep(&ts, &ts) == -1 && errno == EINTR) {
		;
	}
	errno = saved_errno;
}

static void __attribute__((constructor)) synccount_init(void)
{
	const char *path = getenv(SYNCCOUNT_ENV);
	const char *delay = getenv(SYNCCOUNT_ENV_DELAY);
	const char *skip_env = getenv(SYNCCOUNT_ENV_SKIP);
	void *map = NULL;
	int fd;
	int ret;

	if (delay != NULL) {
		delay_us = atol(delay);
	}
	skip = (skip_env != NULL && skip_env[0] == '1');

	if (path == NULL) {
		return;
	}
	fd = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd == -1) {
		return;
	}
	ret = ftruncate(fd, sizeof(struct synccount_page));
	if (ret == -1) {
		close(fd);
		return;
	}
	map = mmap(NULL, sizeof(struct synccount_page),
		   PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED) {
		return;
	}
	page = map;
	page->magic = SYNCCOUNT_MAGIC;
}

int fdatasync(int fd)
{
	count(SYNCCOUNT_FDATASYNC);
	slow_down();
	return skip ? 0 : REAL(fdatasync)(fd);
}

int fsync(int fd)
{
	count(SYNCCOUNT_FSYNC);
	slow_down();
	return skip ? 0 : REAL(fsync)(fd);
}

int msync(void *addr, size_t len, int flags)
{
	count(SYNCCOUNT_MSYNC);
	if ((flags & MS_SYNC) != 0) {
		slow_down();
	}
	return skip ? 0 : REAL(msync)(addr, len, flags);
}

int sync_file_range(int fd, off64_t ofs, off64_t len, unsigned int flags)
{
	count(SYNCCOUNT_SYNC_FILE_RANGE);
	slow_down();
	return skip ? 0 : REAL(sync_file_range)(fd, ofs, len, flags);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int cnt, off_t ofs,
		 int flags)
{
	if ((flags & (RWF_DSYNC | RWF_SYNC)) != 0) {
		count(SYNCCOUNT_PWRITEV2_SYNC);
		slow_down();
		flags &= skip ? ~(RWF_DSYNC | RWF_SYNC) : ~0;
	}
	return REAL(pwritev2)(fd, iov, cnt, ofs, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *iov, int cnt, off64_t ofs,
		    int flags)
{
	if ((flags & (RWF_DSYNC | RWF_SYNC)) != 0) {
		count(SYNCCOUNT_PWRITEV2_SYNC);
		slow_down();
		flags &= skip ? ~(RWF_DSYNC | RWF_SYNC) : ~0;
	}
	return REAL(pwritev64v2)(fd, iov, cnt, ofs, flags);
}

int syncfs(int fd)
{
	count(SYNCCOUNT_SYNCFS);
	slow_down();
	return skip ? 0 : REAL(syncfs)(fd);
}

void sync(void)
{
	count(SYNCCOUNT_SYNCFS);
	slow_down();
	if (!skip) {
		REAL(sync)();
	}
}

static void count_open(int flags)
{
	if ((flags & (O_DSYNC | O_SYNC)) != 0) {
		count(SYNCCOUNT_OPEN_SYNC);
	}
}

/* The mode argument is there only with O_CREAT or O_TMPFILE. */
#define OPEN_MODE(flags, mode) do { \
	va_list ap; \
	va_start(ap, flags); \
	mode = ((flags) & (O_CREAT | __O_TMPFILE)) ? va_arg(ap, mode_t) : 0; \
	va_end(ap); \
} while (0)

int open(const char *path, int flags, ...)
{
	mode_t mode;

	OPEN_MODE(flags, mode);
	count_open(flags);
	return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	mode_t mode;

	OPEN_MODE(flags, mode);
	count_open(flags);
	return REAL(open64)(path, flags, mode);
}

int openat(int dirfd, const char *path, int flags, ...)
{
	mode_t mode;

	OPEN_MODE(flags, mode);
	count_open(flags);
	return REAL(openat)(dirfd, path, flags, mode);
}

int openat64(int dirfd, const char *path, int flags, ...)
{
	mode_t mode;

	OPEN_MODE(flags, mode);
	count_open(flags);
	return REAL(openat64)(dirfd, path, flags, mode);
}

/* What open() without a mode becomes in a caller built with FORTIFY. */
int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
	count_open(flags);
	return REAL(open)(path, flags, 0);
}

int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
	count_open(flags);
	return REAL(open64)(path, flags, 0);
}

int __openat_2(int dirfd, const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags)
{
	count_open(flags);
	return REAL(openat)(dirfd, path, flags, 0);
}

int __openat64_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags)
{
	count_open(flags);
	return REAL(openat64)(dirfd, path, flags, 0);
}

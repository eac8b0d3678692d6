/*
 * phstore local backend: the embedded store, without a daemon
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Opening: byte 0 of `lock` is held shared by every user (an open file
 * description lock: inherited over fork, gone with the last of them). Who
 * gets it exclusively is alone, and recovers; then it becomes shared in one
 * step. Who finds it taken joins: maps `state`, opens the index.
 *
 * A `state` file counts only if it says ready and names this boot: robust
 * mutexes and positions of before a reboot mean nothing.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "local.h"
#include "phstore_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define OPEN_WAIT_MS 60000
/* a state of another layout may be one nobody has made yet: look again */
#define OPEN_OTHERS_TRIES 200
#define FIRST_LSN 4096

#ifndef RAMFS_MAGIC
#define RAMFS_MAGIC 0x858458f6
#endif

static enum phstore_err open_errno(const char *path, const char *name)
{
	enum phstore_err err = PHSTORE_ERR_IO;

	switch (errno) {
	case EACCES:
	case EPERM:
	case EROFS:
		err = PHSTORE_ERR_READ_ONLY;
		break;
	case ENOSPC:
	case EDQUOT:
		err = PHSTORE_ERR_FULL;
		break;
	case ENOENT:
		err = PHSTORE_ERR_NO_STORE;
		break;
	default:
		break;
	}
	return phstore_fail(err, "%s%s%s: %s", path, name[0] ? "/" : "",
			    name, strerror(errno));
}

static int local_destructor(struct local_store *ls)
{
	if (ls->index != NULL) {
		tdb_close(ls->index);
	}
	if (ls->store->pid == getpid()) {
		local_notify_close(ls);
	}
	if (ls->ship_fd != -1) {
		close(ls->ship_fd);
	}
	if (ls->send_fd != -1) {
		close(ls->send_fd);
	}
	local_fd_close_all(ls);
	if (ls->store->read_only) {
		free(ls->shared);
	} else if (ls->shared != NULL) {
		munmap(ls->shared, sizeof(*ls->shared));
	}
	if (ls->super_fd != -1) {
		phstore_io->close(ls->super_fd);
	}
	if (ls->lock_fd != -1) {
		close(ls->lock_fd);
	}
	if (ls->dir_fd != -1) {
		close(ls->dir_fd);
	}
	return 0;
}

/* What must not be in a folder that becomes a store. */
static enum phstore_err check_empty(const char *path)
{
	static const char *ours[] = {
		".", "..", "super.tmp", "lock", "state", "index.1",
	};
	enum phstore_err err = PHSTORE_OK;
	struct dirent *de = NULL;
	DIR *dir = opendir(path);

	if (dir == NULL) {
		return open_errno(path, "");
	}
	while ((de = readdir(dir)) != NULL) {
		bool ok = false;
		size_t i;

		for (i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
			ok = ok || strcmp(de->d_name, ours[i]) == 0;
		}
		if (ok) {
			continue;
		}
		if (strncmp(de->d_name, "seg-", 4) == 0) {
			err = phstore_fail(PHSTORE_ERR_CORRUPT,
					   "%s/super is missing, but there "
					   "is %s", path, de->d_name);
		} else {
			err = phstore_fail(PHSTORE_ERR_FOREIGN,
					   "%s is not a phstore: it has no "
					   "super, but %s", path,
					   de->d_name);
		}
		break;
	}
	closedir(dir);
	return err;
}

/*
 * The folder's own name: may be as new as the store, and without it nothing
 * in it is found. One that we may not read was not made by us.
 */
static int sync_parent(struct local_store *ls)
{
	int fd = openat(ls->dir_fd, "..",
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret, saved_errno;

	if (fd == -1) {
		return 0;
	}
	ret = phstore_io->fsync_dir(fd);
	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return ret;
}

/* Write `super` so that it is there completely or not at all. */
static enum phstore_err make_super(struct local_store *ls,
				   uint64_t segment_size)
{
	const char *path = ls->store->path;
	struct local_super super = {
		.seq = 1,
		.segment_size = segment_size,
		.epoch = 0,
		.tail_segno = 1,
		.tail_lsn = FIRST_LSN,
		.epoch_start = FIRST_LSN + LOCAL_SEG_HDR,
		.durable = FIRST_LSN + LOCAL_SEG_HDR,
	};
	uint8_t buf[2 * LOCAL_SUPER_SIZE] = {};
	char tmp[LOCAL_PATH_MAX];
	char final[LOCAL_PATH_MAX];
	ssize_t n;
	int fd, ret;

	n = getrandom(super.uuid, sizeof(super.uuid), 0);
	if (n != sizeof(super.uuid)) {
		return phstore_fail(PHSTORE_ERR_IO, "getrandom: %s",
				    strerror(errno));
	}
	super.uuid[6] = (super.uuid[6] & 0x0f) | 0x40;
	super.uuid[8] = (super.uuid[8] & 0x3f) | 0x80;
	local_super_push(buf + LOCAL_SUPER_SIZE, &super);

	snprintf(tmp, sizeof(tmp), "%s/super.tmp", path);
	snprintf(final, sizeof(final), "%s/super", path);
	fd = phstore_io->open(tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1) {
		return open_errno(path, "super.tmp");
	}
	ret = phstore_io_write_full(fd, buf, sizeof(buf), 0);
	if (ret == 0) {
		ret = phstore_io->fdatasync(fd);
	}
	if (ret == -1) {
		enum phstore_err err = open_errno(path, "super.tmp");

		phstore_io->close(fd);
		return err;
	}
	phstore_io->close(fd);
	ret = sync_parent(ls);
	if (ret == 0) {
		ret = phstore_io->rename(tmp, final);
	}
	if (ret == 0) {
		ret = phstore_io->fsync_dir(ls->dir_fd);
	}
	if (ret == -1) {
		return open_errno(path, "super");
	}
	return PHSTORE_OK;
}

static enum phstore_err check_fs(struct local_store *ls, uint32_t flags)
{
	struct statfs fs = {};
	int ret;

	ret = fstatfs(ls->dir_fd, &fs);
	if (ret == -1) {
		return open_errno(ls->store->path, "");
	}
	if ((uint32_t)fs.f_type != TMPFS_MAGIC &&
	    (uint32_t)fs.f_type != RAMFS_MAGIC)
	{
		return PHSTORE_OK;
	}
	if (flags & PHSTORE_OPEN_ALLOW_VOLATILE) {
		return PHSTORE_OK;
	}
	return phstore_fail(PHSTORE_ERR_VOLATILE_FS,
			    "%s lies on a memory file system: what it holds "
			    "would not survive a reboot", ls->store->path);
}

/* The folder, made if asked for; then its file system is checked. */
static enum phstore_err open_folder(struct local_store *ls,
				    const struct phstore_open_options *opts)
{
	const char *path = ls->store->path;
	int ret;

	ls->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ls->dir_fd == -1 && errno == ENOENT &&
	    (opts->flags & PHSTORE_OPEN_CREATE) && !ls->store->read_only)
	{
		ret = mkdir(path, 0700);
		if (ret == -1 && errno != EEXIST) {
			return open_errno(path, "");
		}
		ls->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (ls->dir_fd == -1 && errno == ENOTDIR) {
		return phstore_fail(PHSTORE_ERR_FOREIGN,
				    "%s: not a folder", path);
	}
	if (ls->dir_fd == -1) {
		return open_errno(path, "");
	}
	if (ls->store->read_only) {
		return PHSTORE_OK;
	}
	return check_fs(ls, opts->flags);
}

static enum phstore_err open_super(struct local_store *ls)
{
	int flags = ls->store->read_only ? O_RDONLY : O_RDWR;
	char path[LOCAL_PATH_MAX];

	snprintf(path, sizeof(path), "%s/super", ls->store->path);
	ls->super_fd = phstore_io->open(path, flags | O_CLOEXEC, 0);
	if (ls->super_fd == -1) {
		return open_errno(ls->store->path, "super");
	}
	return PHSTORE_OK;
}

static int lock_byte(int fd, short type)
{
	struct flock fl = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = 0,
		.l_len = 1,
	};

	return fcntl(fd, F_OFD_SETLK, &fl);
}

static void boot_id_read(char buf[40])
{
	int fd = open("/proc/sys/kernel/random/boot_id",
		      O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	memset(buf, 0, 40);
	if (fd != -1) {
		n = read(fd, buf, 36);
		close(fd);
	}
	if (n != 36) {
		/* never equal to another: always start from the disk */
		snprintf(buf, 40, "%" PRIu64, phstore_now_ns());
	}
}

/*
 * alone: nobody else has it mapped, it may be given its size. Otherwise a
 * wrong size means that those who use it have another layout.
 */
static enum phstore_err map_state(struct local_store *ls, bool alone)
{
	const char *path = ls->store->path;
	struct stat st = {};
	void *p = NULL;
	int fd, ret;

	fd = openat(ls->dir_fd, "state", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1) {
		return open_errno(path, "state");
	}
	ret = fstat(fd, &st);
	if (ret == 0 && !alone &&
	    st.st_size != sizeof(struct local_shared))
	{
		close(fd);
		return phstore_fail(PHSTORE_ERR_BUSY,
				    "%s: in use by processes of another "
				    "release of phstore; use that release's "
				    "tools, or stop them first", path);
	}
	if (ret == 0 && st.st_size != sizeof(struct local_shared)) {
		ret = ftruncate(fd, sizeof(struct local_shared));
	}
	if (ret == 0 && alone) {
		/* a full disk shall show here, not as SIGBUS */
		ret = fallocate(fd, 0, 0, sizeof(struct local_shared));
		if (ret == -1 && errno == EOPNOTSUPP) {
			ret = 0;
		}
	}
	if (ret == 0) {
		p = mmap(NULL, sizeof(struct local_shared),
			 PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED) {
			ret = -1;
		}
	}
	if (ret == -1) {
		enum phstore_err err = open_errno(path, "state");

		close(fd);
		return err;
	}
	close(fd);
	ls->shared = p;
	return PHSTORE_OK;
}

/* Is there a state of this boot that others use or used? */
static bool state_usable(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	char boot_id[40];

	boot_id_read(boot_id);
	return atomic_load(&sh->ready) == 1 &&
	       sh->magic == LOCAL_SHARED_MAGIC &&
	       sh->size == sizeof(*sh) &&
	       memcmp(sh->boot_id, boot_id, sizeof(boot_id)) == 0;
}

/* All zeros but the index generation; alone with the state. */
void local_shared_reset(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint32_t gen = sh->magic == LOCAL_SHARED_MAGIC ? sh->index_gen : 0;

	memset(sh, 0, sizeof(*sh));
	sh->magic = LOCAL_SHARED_MAGIC;
	sh->size = sizeof(*sh);
	sh->index_gen = gen;
	boot_id_read(sh->boot_id);
	(void)local_mutex_init(&sh->append);
	(void)local_mutex_init(&sh->sync);
	(void)local_mutex_init(&sh->maint);
	(void)local_mutex_init(&sh->sink.owner);
}

/* Alone: make the store if need be, recover, let the others in. */
static enum phstore_err open_first(struct local_store *ls,
				   const struct phstore_open_options *opts)
{
	uint64_t segment_size = opts->segment_size;
	enum phstore_err err;
	bool usable;
	int ret;

	if (segment_size == 0) {
		segment_size = LOCAL_SEGMENT_DEFAULT;
	}
	ret = faccessat(ls->dir_fd, "super", F_OK, 0);
	if (ret == -1 && errno == ENOENT) {
		err = make_super(ls, segment_size);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	err = open_super(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	usable = state_usable(ls);
	if (!usable) {
		atomic_store(&ls->shared->ready, 0);
	}
	err = local_recover(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	atomic_store(&ls->shared->ready, 1);
	ret = lock_byte(ls->lock_fd, F_RDLCK);
	if (ret == -1) {
		return open_errno(ls->store->path, "lock");
	}
	return PHSTORE_OK;
}

static enum phstore_err open_join(struct local_store *ls)
{
	enum phstore_err err;

	err = open_super(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	ls->seed = local_seed(ls->shared->super.uuid);
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (ls->index == NULL) {
		err = local_index_open(ls);
	}
	local_append_unlock(ls);
	return err;
}

static enum phstore_err open_shared(struct local_store *ls,
				    const struct phstore_open_options *opts)
{
	struct timespec nap = { .tv_nsec = 5000000 };
	enum phstore_err err;
	int others = 0;
	int i, ret;
	bool ok;

	/* not a byte into a folder that is not ours */
	ret = faccessat(ls->dir_fd, "super", F_OK, 0);
	if (ret == -1 && errno == ENOENT) {
		err = check_empty(ls->store->path);
		ret = faccessat(ls->dir_fd, "super", F_OK, 0);
		if (err != PHSTORE_OK && ret == 0) {
			/* another process has just made the store */
			err = PHSTORE_OK;
		}
		if (err == PHSTORE_OK && ret == -1 &&
		    !(opts->flags & PHSTORE_OPEN_CREATE))
		{
			err = phstore_fail(PHSTORE_ERR_NO_STORE,
					   "%s: no store there",
					   ls->store->path);
		}
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	ls->lock_fd = openat(ls->dir_fd, "lock",
			     O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (ls->lock_fd == -1) {
		return open_errno(ls->store->path, "lock");
	}
	for (i = 0; i < OPEN_WAIT_MS / 5; i++) {
		ret = lock_byte(ls->lock_fd, F_WRLCK);
		if (ret == 0) {
			err = map_state(ls, true);
			if (err != PHSTORE_OK) {
				return err;
			}
			return open_first(ls, opts);
		}
		if (errno != EAGAIN && errno != EACCES) {
			return open_errno(ls->store->path, "lock");
		}
		ret = lock_byte(ls->lock_fd, F_RDLCK);
		if (ret == 0) {
			err = map_state(ls, false);
			if (err != PHSTORE_OK && err != PHSTORE_ERR_BUSY) {
				return err;
			}
			others += err == PHSTORE_ERR_BUSY ? 1 : 0;
			if (others > OPEN_OTHERS_TRIES) {
				return err;
			}
			ok = err == PHSTORE_OK && state_usable(ls);
			if (ok) {
				return open_join(ls);
			}
			if (ls->shared != NULL) {
				munmap(ls->shared, sizeof(*ls->shared));
				ls->shared = NULL;
			}
			/* the one who recovered died: try to be it */
			(void)lock_byte(ls->lock_fd, F_UNLCK);
		}
		nanosleep(&nap, NULL);
	}
	return phstore_fail(PHSTORE_ERR_BUSY,
			    "%s: another process has been recovering the "
			    "store for %d seconds", ls->store->path,
			    OPEN_WAIT_MS / 1000);
}

static enum phstore_err open_read_only(struct local_store *ls)
{
	int ret;
	enum phstore_err err;

	ls->shared = calloc(1, sizeof(*ls->shared));
	if (ls->shared == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	ret = faccessat(ls->dir_fd, "super", F_OK, 0);
	if (ret == -1 && errno == ENOENT) {
		err = check_empty(ls->store->path);
		if (err != PHSTORE_OK) {
			return err;
		}
		return phstore_fail(PHSTORE_ERR_NO_STORE,
				    "%s: no store there", ls->store->path);
	}
	err = open_super(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	return local_recover(ls);
}

static enum phstore_err local_open(struct phstore *store,
				   const struct phstore_open_options *opts)
{
	struct local_store *ls = NULL;
	enum phstore_err err;
	size_t i;

	if (opts->segment_size != 0 &&
	    (opts->segment_size < LOCAL_SEGMENT_MIN ||
	     opts->segment_size > LOCAL_SEGMENT_MAX ||
	     opts->segment_size % LOCAL_SUPER_SIZE != 0))
	{
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "segment size of %" PRIu64 " bytes: not "
				    "a multiple of %d from %d to %d",
				    opts->segment_size, LOCAL_SUPER_SIZE,
				    LOCAL_SEGMENT_MIN, LOCAL_SEGMENT_MAX);
	}
	if (strlen(store->path) > LOCAL_PATH_MAX - 64) {
		return phstore_fail(PHSTORE_ERR_INVALID, "path too long");
	}
	ls = talloc_zero(store, struct local_store);
	if (ls == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	ls->store = store;
	store->backend = ls;
	ls->dir_fd = ls->lock_fd = ls->super_fd = -1;
	ls->notify_fd = ls->notify_slot = ls->send_fd = -1;
	ls->ship_fd = -1;
	ls->last_sync_no = UINT64_MAX;
	for (i = 0; i < LOCAL_FD_CACHE; i++) {
		ls->fds[i].fd = -1;
	}
	pthread_mutex_init(&ls->fd_mutex, NULL);
	talloc_set_destructor(ls, local_destructor);

	ls->want_sink = local_sink_by_name(opts->backend);
	err = open_folder(ls, opts);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (store->read_only) {
		return open_read_only(ls);
	}
	err = open_shared(ls, opts);
	if (err != PHSTORE_OK) {
		return err;
	}
	return local_sink_check_open(ls, opts->flags & PHSTORE_OPEN_ANY_SINK);
}

static enum phstore_err local_close(struct phstore *store)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	struct local_super super;
	enum phstore_err err;
	int ret;

	if (store->read_only || !ls->staged) {
		return PHSTORE_OK;
	}
	err = local_barrier_disk(store, atomic_load(&sh->head), 0);
	if (err != PHSTORE_OK) {
		return err;
	}
	/* so that damage behind it can be told from a torn tail */
	ret = local_maint_lock(ls);
	if (ret != 0) {
		return PHSTORE_OK;
	}
	if (sh->super.durable < atomic_load(&sh->durable)) {
		super = sh->super;
		super.seq += 1;
		super.durable = atomic_load(&sh->durable);
		super.sink_released = atomic_load(&sh->sink.released);
		err = local_super_write(ls, &super);
	}
	pthread_mutex_unlock(&sh->maint);
	return err;
}

static void local_after_fork(struct phstore *store)
{
	struct local_store *ls = store->backend;
	size_t i;

	pthread_mutex_init(&ls->fd_mutex, NULL);
	for (i = 0; i < LOCAL_FD_CACHE; i++) {
		ls->fds[i].users = 0;
	}
	local_notify_forget(ls);
	ls->staged = false;
	ls->last_sync_no = UINT64_MAX;
}

const struct phstore_backend_ops phstore_backend_local = {
	.name = "local",
	.open = local_open,
	.close = local_close,
	.after_fork = local_after_fork,
	.stage = local_stage,
	.room = local_room,
	.is_durable = local_is_durable,
	.is_synced = local_is_synced,
	.barrier = local_barrier,
	.barrier_check = local_barrier_check,
	.lead = local_lead,
	.served = local_served,
	.notify_fd = local_notify_fd,
	.notify_wait = local_notify_wait,
	.notify_drain = local_notify_drain,
	.leading = local_leading,
	.hint = local_hint,
	.kick = local_sink_kick,
	.class_waits = local_class_waits,
	.get = local_get,
	.scan = local_scan,
	.stat = local_stat,
	.damage_get = local_damage_get,
	.verify = local_verify,
	.history = local_history,
	.wants_maintenance = local_wants_maintenance,
	.maintain = local_maintain,
};

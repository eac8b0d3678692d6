/*
 * phstore tests: a disk that loses power
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The rules stand in crash_disk.h. Per file two contents are kept: as the
 * programs see it, and as of its last sync, and between the two a list of
 * sector writes and lengths. Per folder: the synced names and a list of
 * changes. The image is the synced state plus a choice of the lists.
 */

#include "crash_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define MAX_FILES 256
#define MAX_FDS 1024
#define MAX_DIR_OPS 512
#define NAME_LEN 64

struct sector_write {
	uint32_t sector;
	uint64_t when;
	uint8_t data[SECTOR];
};

struct file {
	uint8_t *now;		/* what programs see */
	uint64_t now_len;
	uint64_t size;		/* of both buffers */
	uint8_t *synced;
	uint64_t synced_len;
	struct sector_write *writes;	/* not synced, oldest first */
	size_t num_writes;
	size_t max_writes;
	uint64_t lens[16];	/* lengths set since the sync */
	size_t num_lens;
};

enum dir_op_type { DIR_CREATE, DIR_RENAME, DIR_UNLINK };

struct dir_op {
	enum dir_op_type type;
	char from[NAME_LEN];
	char to[NAME_LEN];
	struct file *file;
};

struct name {
	char name[NAME_LEN];
	struct file *file;
};

struct names {
	struct name names[MAX_FILES];
	size_t num;
};

static char disk_dir[1024];
static struct names names_now;
static struct names names_synced;
static struct dir_op dir_ops[MAX_DIR_OPS];
static size_t num_dir_ops;
static struct file *files[4096];	/* all of this life */
static size_t num_files;
static struct file *fd_file[MAX_FDS];
static uint64_t calls, die_at = UINT64_MAX, clock_now;
static bool dead;
static char how[256];

void (*crash_disk_sync_fn)(void);

uint64_t crash_rnd_u64(struct crash_rnd *rnd)
{
	uint64_t x = rnd->state != 0 ? rnd->state : 88172645463325252ULL;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	rnd->state = x;
	return x * 2685821657736338717ULL;
}

uint32_t crash_rnd_below(struct crash_rnd *rnd, uint32_t n)
{
	return (uint32_t)((crash_rnd_u64(rnd) >> 32) % n);
}

bool crash_rnd_percent(struct crash_rnd *rnd, uint32_t percent)
{
	return crash_rnd_below(rnd, 100) < percent;
}

static void broken(const char *what)
{
	fprintf(stderr, "crash_disk: %s: %s\n", what, strerror(errno));
	abort();
}

/* The name below the folder, NULL if it lies elsewhere. */
static const char *base_name(const char *path)
{
	size_t len = strlen(disk_dir);

	if (strncmp(path, disk_dir, len) != 0 || path[len] != '/') {
		return NULL;
	}
	return path + len + 1;
}

static struct name *names_find(struct names *n, const char *name)
{
	size_t i;

	for (i = 0; i < n->num; i++) {
		if (strcmp(n->names[i].name, name) == 0) {
			return &n->names[i];
		}
	}
	return NULL;
}

static void names_set(struct names *n, const char *name, struct file *file)
{
	struct name *e = names_find(n, name);

	if (e == NULL) {
		if (n->num == MAX_FILES) {
			broken("too many files");
		}
		e = &n->names[n->num++];
		snprintf(e->name, sizeof(e->name), "%s", name);
	}
	e->file = file;
}

static void names_drop(struct names *n, const char *name)
{
	struct name *e = names_find(n, name);

	if (e != NULL) {
		*e = n->names[--n->num];
	}
}

/* false: the operation has nothing to work on in this state */
static bool names_apply(struct names *n, const struct dir_op *op)
{
	struct name *e = NULL;

	switch (op->type) {
	case DIR_CREATE:
		if (names_find(n, op->to) != NULL) {
			return false;
		}
		names_set(n, op->to, op->file);
		return true;
	case DIR_RENAME:
		e = names_find(n, op->from);
		if (e == NULL || e->file != op->file) {
			return false;
		}
		names_drop(n, op->from);
		names_set(n, op->to, op->file);
		return true;
	case DIR_UNLINK:
		e = names_find(n, op->from);
		if (e == NULL || e->file != op->file) {
			return false;
		}
		names_drop(n, op->from);
		return true;
	}
	return false;
}

static void dir_op_add(enum dir_op_type type, const char *from,
		       const char *to, struct file *file)
{
	struct dir_op *op = NULL;

	if (num_dir_ops == MAX_DIR_OPS) {
		broken("too many folder changes without a sync");
	}
	op = &dir_ops[num_dir_ops++];
	op->type = type;
	op->file = file;
	snprintf(op->from, sizeof(op->from), "%s", from);
	snprintf(op->to, sizeof(op->to), "%s", to);
	(void)names_apply(&names_now, op);
}

static struct file *file_new(void)
{
	struct file *f = calloc(1, sizeof(*f));

	if (f == NULL || num_files == sizeof(files) / sizeof(files[0])) {
		broken("too many files");
	}
	files[num_files++] = f;
	return f;
}

static void file_room(struct file *f, uint64_t len)
{
	uint64_t size = f->size != 0 ? f->size : 65536;

	if (len <= f->size) {
		return;
	}
	while (size < len) {
		size *= 2;
	}
	f->now = realloc(f->now, size);
	f->synced = realloc(f->synced, size);
	if (f->now == NULL || f->synced == NULL) {
		broken("memory");
	}
	memset(f->now + f->size, 0, size - f->size);
	memset(f->synced + f->size, 0, size - f->size);
	f->size = size;
}

static void file_set_len(struct file *f, uint64_t len)
{
	if (len <= f->now_len) {
		return;
	}
	file_room(f, len);
	f->now_len = len;
	if (f->num_lens == sizeof(f->lens) / sizeof(f->lens[0])) {
		f->num_lens -= 1;
	}
	f->lens[f->num_lens++] = len;
}

static void file_written(struct file *f, const void *buf, size_t len,
			 uint64_t ofs)
{
	uint64_t s;

	if (len == 0) {
		return;
	}
	file_set_len(f, ofs + len);
	memcpy(f->now + ofs, buf, len);
	for (s = ofs / SECTOR; s <= (ofs + len - 1) / SECTOR; s++) {
		struct sector_write *w = NULL;

		if (f->num_writes == f->max_writes) {
			f->max_writes = f->max_writes * 2 + 64;
			f->writes = realloc(f->writes, f->max_writes *
					    sizeof(f->writes[0]));
			if (f->writes == NULL) {
				broken("memory");
			}
		}
		w = &f->writes[f->num_writes++];
		w->sector = (uint32_t)s;
		w->when = clock_now;
		memcpy(w->data, f->now + s * SECTOR, SECTOR);
	}
}

static void file_synced(struct file *f)
{
	size_t i;

	for (i = 0; i < f->num_writes; i++) {
		memcpy(f->synced + (uint64_t)f->writes[i].sector * SECTOR,
		       f->writes[i].data, SECTOR);
	}
	f->num_writes = 0;
	f->num_lens = 0;
	f->synced_len = f->now_len;
}

/* Counts a call; true when the disk is dead. */
static bool dies(void)
{
	clock_now += 1;
	if (!dead) {
		dead = calls >= die_at;
		calls += 1;
	}
	if (dead) {
		errno = EIO;
	}
	return dead;
}

static int disk_open(const char *path, int flags, mode_t mode)
{
	const char *name = base_name(path);
	struct name *e = NULL;
	int fd;

	if (name == NULL) {
		return open(path, flags, mode);
	}
	e = names_find(&names_now, name);
	if (e == NULL && (flags & O_CREAT)) {
		bool gone = dies();

		if (gone) {
			return -1;
		}
	} else if (dead) {
		errno = EIO;
		return -1;
	}
	fd = open(path, flags, mode);
	if (fd == -1) {
		return -1;
	}
	if (fd >= MAX_FDS) {
		broken("too many descriptors");
	}
	if (e == NULL) {
		dir_op_add(DIR_CREATE, "", name, file_new());
		e = names_find(&names_now, name);
	}
	fd_file[fd] = e->file;
	return fd;
}

static int disk_close(int fd)
{
	fd_file[fd] = NULL;
	return close(fd);
}

static ssize_t disk_pread(int fd, void *buf, size_t len, off_t ofs)
{
	if (dead) {
		errno = EIO;
		return -1;
	}
	return pread(fd, buf, len, ofs);
}

static ssize_t disk_pwrite(int fd, const void *buf, size_t len, off_t ofs)
{
	bool was_dead = dead;
	bool gone = dies();

	if (!was_dead && fd_file[fd] != NULL) {
		/* also the one that dies: it may have got anywhere */
		file_written(fd_file[fd], buf, len, ofs);
	}
	if (gone) {
		return -1;
	}
	return pwrite(fd, buf, len, ofs);
}

static int disk_allocate(int fd, off_t len)
{
	bool was_dead = dead;
	bool gone = dies();

	if (!was_dead && fd_file[fd] != NULL) {
		file_set_len(fd_file[fd], len);
	}
	if (gone) {
		return -1;
	}
	return phstore_io_posix.allocate(fd, len);
}

static int disk_fdatasync(int fd)
{
	bool gone;

	if (!dead && crash_disk_sync_fn != NULL) {
		crash_disk_sync_fn();
	}
	gone = dies();
	if (gone) {
		return -1;
	}
	if (fd_file[fd] != NULL) {
		file_synced(fd_file[fd]);
	}
	return 0;
}

static int disk_fsync_dir(int fd)
{
	struct stat ours = {};
	struct stat st = {};
	bool gone;

	if (!dead && crash_disk_sync_fn != NULL) {
		crash_disk_sync_fn();
	}
	gone = dies();
	if (gone) {
		return -1;
	}
	if (stat(disk_dir, &ours) == -1 || fstat(fd, &st) == -1) {
		return -1;
	}
	if (ours.st_ino != st.st_ino) {
		/* the folder above: assumed to be there */
		return 0;
	}
	names_synced = names_now;
	num_dir_ops = 0;
	return 0;
}

static int disk_rename(const char *from, const char *to)
{
	struct name *e = names_find(&names_now, base_name(from));
	bool was_dead = dead;
	bool gone = dies();
	int ret;

	if (!gone) {
		ret = rename(from, to);
		if (ret == -1) {
			return -1;
		}
	}
	if (!was_dead && e != NULL) {
		dir_op_add(DIR_RENAME, base_name(from), base_name(to),
			   e->file);
	}
	return gone ? -1 : 0;
}

static int disk_unlink(const char *path)
{
	struct name *e = names_find(&names_now, base_name(path));
	bool was_dead = dead;
	bool gone = dies();
	int ret;

	if (!gone) {
		ret = unlink(path);
		if (ret == -1) {
			return -1;
		}
	}
	if (!was_dead && e != NULL) {
		dir_op_add(DIR_UNLINK, base_name(path), "", e->file);
	}
	return gone ? -1 : 0;
}

const struct phstore_io_ops crash_disk_io = {
	.open = disk_open,
	.close = disk_close,
	.pread = disk_pread,
	.pwrite = disk_pwrite,
	.allocate = disk_allocate,
	.fdatasync = disk_fdatasync,
	.fsync_dir = disk_fsync_dir,
	.rename = disk_rename,
	.unlink = disk_unlink,
};

static void wipe(void)
{
	DIR *dir = opendir(disk_dir);
	struct dirent *de = NULL;

	if (dir == NULL) {
		broken(disk_dir);
	}
	while ((de = readdir(dir)) != NULL) {
		if (de->d_name[0] != '.') {
			(void)unlinkat(dirfd(dir), de->d_name, 0);
		}
	}
	closedir(dir);
}

static void file_free(struct file *f)
{
	free(f->now);
	free(f->synced);
	free(f->writes);
	free(f);
}

void crash_disk_begin(const char *dir)
{
	size_t i;

	snprintf(disk_dir, sizeof(disk_dir), "%s", dir);
	for (i = 0; i < num_files; i++) {
		file_free(files[i]);
	}
	num_files = 0;
	num_dir_ops = 0;
	names_now.num = names_synced.num = 0;
	memset(fd_file, 0, sizeof(fd_file));
	crash_disk_arm(UINT64_MAX);
	wipe();
}

void crash_disk_arm(uint64_t n)
{
	calls = 0;
	die_at = n;
	dead = false;
}

uint64_t crash_disk_calls(void)
{
	return calls;
}

bool crash_disk_is_dead(void)
{
	return dead;
}

const char *crash_disk_how(void)
{
	return how;
}

/* How unsynced sector writes are chosen; one per cut. */
enum pick {
	PICK_NONE,		/* nothing unsynced got there */
	PICK_ALL,
	PICK_HALF,		/* each for itself */
	PICK_MOST,
	PICK_FEW,
	PICK_UNTIL,		/* in order, up to a moment */
	PICK_SINCE,		/* only what came after a moment */
	PICK_FILE,		/* all or nothing, per file */
	NUM_PICKS,
};

static const char *pick_names[NUM_PICKS] = {
	"none", "all", "half", "most", "few", "until", "since", "file",
};

struct choice {
	enum pick pick;
	uint64_t moment;
	bool file_there;
	uint32_t tear_percent;
};

static bool picked(struct crash_rnd *rnd, const struct choice *c,
		   uint64_t when)
{
	switch (c->pick) {
	case PICK_NONE:
		return false;
	case PICK_ALL:
		return true;
	case PICK_HALF:
		return crash_rnd_percent(rnd, 50);
	case PICK_MOST:
		return crash_rnd_percent(rnd, 90);
	case PICK_FEW:
		return crash_rnd_percent(rnd, 10);
	case PICK_UNTIL:
		return when <= c->moment;
	case PICK_SINCE:
		return when > c->moment;
	default:
		return c->file_there;
	}
}

/* A sector write in flight: only bytes that change are in danger. */
static void tear(struct crash_rnd *rnd, uint8_t *old, const uint8_t *new)
{
	uint32_t how_torn = crash_rnd_below(rnd, 3);
	uint32_t split = crash_rnd_below(rnd, SECTOR);
	uint32_t i;

	for (i = 0; i < SECTOR; i++) {
		if (old[i] == new[i]) {
			continue;
		}
		if (how_torn == 0) {
			old[i] = (uint8_t)crash_rnd_u64(rnd);
		} else if ((how_torn == 1) == (i < split)) {
			old[i] = new[i];
		}
	}
}

static void file_cut(struct file *f, struct crash_rnd *rnd,
		     struct choice *c)
{
	uint64_t len = f->synced_len;
	size_t i;

	c->file_there = crash_rnd_percent(rnd, 50);
	for (i = 0; i < f->num_lens; i++) {
		bool there = picked(rnd, c, clock_now);

		if (there || crash_rnd_percent(rnd, 20)) {
			len = f->lens[i];
		}
	}
	for (i = 0; i < f->num_writes; i++) {
		const struct sector_write *w = &f->writes[i];
		uint8_t *s = f->synced + (uint64_t)w->sector * SECTOR;
		bool there = picked(rnd, c, w->when);

		if (!there) {
			continue;
		}
		if (crash_rnd_percent(rnd, c->tear_percent)) {
			tear(rnd, s, w->data);
		} else {
			/* an older one may win by not taking the newer */
			memcpy(s, w->data, SECTOR);
		}
	}
	/* beyond the length there is nothing, whatever was written */
	memset(f->synced + len, 0, f->size - len);
	f->synced_len = len;
	f->now_len = len;
	f->num_writes = 0;
	f->num_lens = 0;
	if (len > 0) {
		memcpy(f->now, f->synced, len);
	}
	if (f->size > len) {
		memset(f->now + len, 0, f->size - len);
	}
}

static void file_put(const char *name, const struct file *f)
{
	char path[2048];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", disk_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd == -1) {
		broken(path);
	}
	if (f->synced_len > 0) {
		n = pwrite(fd, f->synced, f->synced_len, 0);
	}
	if (n != (ssize_t)f->synced_len) {
		broken(path);
	}
	close(fd);
}

void crash_disk_image(struct crash_rnd *rnd)
{
	struct names *n = &names_synced;
	struct choice c = {
		.pick = (enum pick)crash_rnd_below(rnd, NUM_PICKS),
	};
	bool subset = crash_rnd_percent(rnd, 50);
	size_t there = crash_rnd_below(rnd, (uint32_t)num_dir_ops + 1);
	size_t i, j, num_used = 0;

	c.moment = clock_now - crash_rnd_below(rnd, 40);
	if (crash_rnd_percent(rnd, 40)) {
		c.tear_percent = 5 + crash_rnd_below(rnd, 60);
	}
	snprintf(how, sizeof(how), "sectors: %s, torn: %u %%, names: %s of "
		 "%zu", pick_names[c.pick], c.tear_percent,
		 subset ? "some" : "a prefix", num_dir_ops);
	for (i = 0; i < num_dir_ops; i++) {
		bool ok = subset ? crash_rnd_percent(rnd, 50) : i < there;

		if (ok) {
			(void)names_apply(n, &dir_ops[i]);
		}
	}
	num_dir_ops = 0;

	wipe();
	for (i = 0; i < n->num; i++) {
		file_cut(n->names[i].file, rnd, &c);
		file_put(n->names[i].name, n->names[i].file);
	}
	names_now = *n;
	memset(fd_file, 0, sizeof(fd_file));

	/* files without a name are gone */
	for (i = 0; i < num_files; i++) {
		bool used = false;

		for (j = 0; j < n->num; j++) {
			used = used || n->names[j].file == files[i];
		}
		if (used) {
			files[num_used++] = files[i];
		} else {
			file_free(files[i]);
		}
	}
	num_files = num_used;
	crash_disk_arm(UINT64_MAX);
}

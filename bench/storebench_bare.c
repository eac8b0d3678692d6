/*
 * storebench: syncs and waiting, without a store
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 *   group    bare group commit: each commit is a pwrite into one file of all
 *            writers; who finds no sync under way does one for all that was
 *            written before it, the others wait for it. Nothing is kept in an
 *            index, nothing checksummed, nothing can be recovered.
 *   nothing  no commit at all; with --compute, computing only
 *
 * Neither is a store, so they are not in --list. group over nothing, both
 * with the same --compute, is what syncs and waiting cost by themselves on a
 * machine, done plainly: no lower bound, a leader that gathers does better.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storebench.h"

#define GROUP_FILE_SIZE (8U * 1024 * 1024)

/* In a file that all writers have mapped. */
struct group_shared {
	pthread_mutex_t mutex;
	pthread_cond_t synced;
	uint64_t head;		/* bytes written, ever */
	uint64_t durable;
	bool syncing;
};

struct group {
	struct group_shared *shared;
	int fd;
	struct put put;
};

static void group_init(struct group_shared *shared)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;

	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->mutex, &ma);
	pthread_mutexattr_destroy(&ma);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&shared->synced, &ca);
	pthread_condattr_destroy(&ca);
}

static int group_open(const struct options *o, unsigned int writer,
		      void **state, char *error, size_t len)
{
	struct group *g = calloc(1, sizeof(*g));
	char path[4096];
	bool is_first;
	int fd, ret;

	if (g == NULL) {
		snprintf(error, len, "out of memory");
		return -1;
	}
	put_init(&g->put, o, writer);
	snprintf(path, sizeof(path), "%s/group-log", o->dir);
	/* storebench opens a mode once before the writers: makes the files */
	is_first = access(path, F_OK) == -1;
	g->fd = is_first ? log_file_make(path, GROUP_FILE_SIZE) :
			   open(path, O_RDWR | O_CLOEXEC);
	if (g->fd == -1) {
		goto failed;
	}
	snprintf(path, sizeof(path), "%s/group-state", o->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1) {
		goto failed;
	}
	ret = ftruncate(fd, sizeof(*g->shared));
	if (ret == -1) {
		goto failed;
	}
	g->shared = mmap(NULL, sizeof(*g->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED, fd, 0);
	close(fd);
	if (g->shared == MAP_FAILED) {
		goto failed;
	}
	if (is_first) {
		group_init(g->shared);
	}
	*state = g;
	return 0;
failed:
	snprintf(error, len, "%s: %s", path, strerror(errno));
	free(g);
	return -1;
}

/* One sync for all that is written; mutex held, and given up meanwhile. */
static int group_sync(struct group *g)
{
	struct group_shared *s = g->shared;
	uint64_t head = s->head;
	int ret;

	s->syncing = true;
	pthread_mutex_unlock(&s->mutex);
	ret = fdatasync(g->fd);
	pthread_mutex_lock(&s->mutex);
	s->syncing = false;
	if (ret == 0) {
		s->durable = head;
	}
	pthread_cond_broadcast(&s->synced);
	return ret;
}

static int group_commit(void *state, uint64_t n, char *error, size_t len)
{
	struct group *g = state;
	struct group_shared *s = g->shared;
	uint64_t want;
	ssize_t written;
	int ret = 0;

	put_make(&g->put, n);
	pthread_mutex_lock(&s->mutex);
	written = pwrite(g->fd, g->put.value, g->put.len,
			 (off_t)(s->head % (GROUP_FILE_SIZE - SIZE_MAX_VALUE)));
	s->head += g->put.len;
	want = s->head;
	while (ret == 0 && s->durable < want) {
		if (s->syncing) {
			pthread_cond_wait(&s->synced, &s->mutex);
		} else {
			ret = group_sync(g);
		}
	}
	pthread_mutex_unlock(&s->mutex);
	if (written != (ssize_t)g->put.len || ret == -1) {
		snprintf(error, len, "group-log: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static void group_close(void *state)
{
	struct group *g = state;

	munmap(g->shared, sizeof(*g->shared));
	close(g->fd);
	free(g);
}

static int nothing_open(const struct options *o, unsigned int writer,
			void **state, char *error, size_t len)
{
	(void)o;
	(void)writer;
	(void)error;
	(void)len;
	*state = NULL;
	return 0;
}

static int nothing_commit(void *state, uint64_t n, char *error, size_t len)
{
	(void)state;
	(void)n;
	(void)error;
	(void)len;
	return 0;
}

static void nothing_close(void *state)
{
	(void)state;
}

const struct mode bare_group = {
	.name = "group", .unlisted = true, .open = group_open,
	.commit = group_commit, .close = group_close,
};
const struct mode bare_nothing = {
	.name = "nothing", .unlisted = true, .open = nothing_open,
	.commit = nothing_commit, .close = nothing_close,
};

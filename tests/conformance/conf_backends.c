/*
 * phstore tests: the backends the conformance suite runs on
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * rados needs a cluster, told by the environment:
 *   PHSTORE_TEST_RADOS   "rados:POOL/%s?conf=...": %s is a namespace
 *   PHSTORE_TEST_OSDS    pids of its OSDs, to make them stop answering
 */

#include "conformance.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "phstore_io.h"

#ifdef PHSTORE_WITH_RADOS
#include <rados/librados.h>

#include "rados.h"
#include "rados_codec.h"
#endif

static unsigned counter;

/* local: a folder */

static const char *local_missing(void)
{
	return NULL;
}

static void local_fresh(char path[CONF_PATH_MAX])
{
	const char *tmp = getenv("TEST_TMP");

	counter += 1;
	snprintf(path, CONF_PATH_MAX, "%s/conf-%d-%u",
		 tmp != NULL ? tmp : "/var/tmp", (int)getpid(), counter);
}

static void local_remove(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de = NULL;

	while (d != NULL && (de = readdir(d)) != NULL) {
		if (de->d_name[0] != '.') {
			(void)unlinkat(dirfd(d), de->d_name, 0);
		}
	}
	if (d != NULL) {
		closedir(d);
	}
	(void)rmdir(path);
}

static bool damage_file(const char *file, const char *text)
{
	size_t len = strlen(text);
	uint8_t *buf = NULL;
	struct stat st;
	bool found = false;
	ssize_t n;
	int fd = open(file, O_RDWR | O_CLOEXEC);

	if (fd == -1) {
		return false;
	}
	if (fstat(fd, &st) == 0 && st.st_size > (off_t)len) {
		buf = malloc(st.st_size);
	}
	n = buf != NULL ? pread(fd, buf, st.st_size, 0) : 0;
	if (n == st.st_size) {
		uint8_t *p = memmem(buf, n, text, len);

		if (p != NULL) {
			p[len - 1] ^= 0x20;
			found = pwrite(fd, p + len - 1, 1,
				       p + len - 1 - buf) == 1;
		}
	}
	free(buf);
	close(fd);
	return found;
}

static bool local_damage(const char *path, const char *table,
			 const char *key, const char *text)
{
	DIR *d = opendir(path);
	struct dirent *de = NULL;
	bool found = false;

	(void)table;
	(void)key;
	while (d != NULL && !found && (de = readdir(d)) != NULL) {
		char file[CONF_PATH_MAX + 300];

		snprintf(file, sizeof(file), "%s/%s", path, de->d_name);
		found = strncmp(de->d_name, "seg-", 4) == 0 &&
			damage_file(file, text);
	}
	if (d != NULL) {
		closedir(d);
	}
	return found;
}

/* A disk that takes as long as it is told to, but not for ever. */
static atomic_bool stalled;

static int stalling_sync(int fd)
{
	int i;

	for (i = 0; i < 30000 && atomic_load(&stalled); i++) {
		usleep(1000);
	}
	return phstore_io_posix.fdatasync(fd);
}

static bool local_stall(bool on)
{
	static struct phstore_io_ops ops;

	ops = phstore_io_posix;
	ops.fdatasync = stalling_sync;
	atomic_store(&stalled, on);
	phstore_io = &ops;
	return true;
}

static bool local_unbounded(const struct phstore_stat *st)
{
	return st->log_bytes > 4 * st->live_bytes + st->segment_size +
	       65536;
}

static const struct conf_backend local = {
	.name = "local",
	.missing = local_missing,
	.fresh = local_fresh,
	.remove = local_remove,
	.opts = {
		.flags = PHSTORE_OPEN_ALLOW_VOLATILE,
		.backend = "local",
		.segment_size = 65536,
	},
	.damage = local_damage,
	.stall = local_stall,
	.waits_in_syscall = true,
	.many_writers = true,
	.unbounded = local_unbounded,
};

#ifdef PHSTORE_WITH_RADOS
/* rados: a namespace of a pool */

static const char *rados_missing(void)
{
	return getenv("PHSTORE_TEST_RADOS") != NULL ? NULL :
	       "no cluster (PHSTORE_TEST_RADOS is not set)";
}

static void rados_path(char path[CONF_PATH_MAX], const char *class)
{
	const char *tmpl = getenv("PHSTORE_TEST_RADOS");
	const char *at = strstr(tmpl, "%s");

	counter += 1;
	snprintf(path, CONF_PATH_MAX, "%.*sconf-%d-%u%s&class=%s",
		 (int)(at - tmpl), tmpl, (int)getpid(), counter, at + 2,
		 class);
}

static void plain_fresh(char path[CONF_PATH_MAX])
{
	rados_path(path, "no");
}

static void class_fresh(char path[CONF_PATH_MAX])
{
	rados_path(path, "yes");
}

/* The namespace's objects as a client that knows nothing of the library. */
static bool with_ioctx(const char *path, rados_t *cluster, rados_ioctx_t *io)
{
	char copy[CONF_PATH_MAX];
	char *slash = NULL;
	char *opts = NULL;
	char *conf = NULL;

	snprintf(copy, sizeof(copy), "%s", path);
	slash = strchr(copy, '/');
	opts = strchr(copy, '?');
	conf = strstr(copy, "conf=");
	if (slash == NULL || opts == NULL || conf == NULL) {
		return false;
	}
	*slash = '\0';
	*opts = '\0';
	conf += strlen("conf=");
	conf[strcspn(conf, "&")] = '\0';
	if (rados_create(cluster, "admin") < 0) {
		return false;
	}
	if (rados_conf_read_file(*cluster, conf) < 0 ||
	    rados_connect(*cluster) < 0 ||
	    rados_ioctx_create(*cluster, copy + strlen("rados:"), io) < 0)
	{
		rados_shutdown(*cluster);
		return false;
	}
	rados_ioctx_set_namespace(*io, slash + 1);
	return true;
}

static void rados_remove_store(const char *path)
{
	rados_t cluster = NULL;
	rados_ioctx_t io = NULL;
	rados_list_ctx_t list = NULL;
	const char *oid = NULL;

	if (!with_ioctx(path, &cluster, &io)) {
		return;
	}
	if (rados_nobjects_list_open(io, &list) == 0) {
		while (rados_nobjects_list_next(list, &oid, NULL, NULL) == 0)
		{
			(void)rados_remove(io, oid);
		}
		rados_nobjects_list_close(list);
	}
	rados_ioctx_destroy(io);
	rados_shutdown(cluster);
}

static bool rados_damage(const char *path, const char *table,
			 const char *key, const char *text)
{
	uint8_t k[PHR_OMAP_KEY_MAX];
	size_t k_len = phr_key_push(k, table, strlen(table),
				    (const uint8_t *)key, strlen(key));
	const char *kp = (const char *)k;
	rados_t cluster = NULL;
	rados_ioctx_t io = NULL;
	bool found = false;
	unsigned i;

	if (!with_ioctx(path, &cluster, &io)) {
		return false;
	}
	for (i = 0; i < 64 && !found; i++) {
		rados_read_op_t r = rados_create_read_op();
		rados_omap_iter_t iter = NULL;
		char oid[32];
		char *fk = NULL;
		char *fv = NULL;
		char *p = NULL;
		size_t fk_len = 0;
		size_t fv_len = 0;
		int rval = 0;

		snprintf(oid, sizeof(oid), "shard.%04u", i);
		rados_read_op_omap_get_vals_by_keys2(r, &kp, 1, &k_len,
						     &iter, &rval);
		if (rados_read_op_operate(r, io, oid, 0) == 0 &&
		    rados_omap_get_next2(iter, &fk, &fv, &fk_len,
					 &fv_len) == 0 && fk != NULL)
		{
			p = memmem(fv, fv_len, text, strlen(text));
		}
		if (p != NULL) {
			rados_write_op_t w = rados_create_write_op();
			const char *v = fv;

			p[0] ^= 0x20;
			rados_write_op_omap_set2(w, &kp, &v, &k_len, &fv_len,
						 1);
			found = rados_write_op_operate2(w, io, oid, NULL,
							0) == 0;
			rados_release_write_op(w);
		}
		if (iter != NULL) {
			rados_omap_get_end(iter);
		}
		rados_release_read_op(r);
	}
	rados_ioctx_destroy(io);
	rados_shutdown(cluster);
	return found;
}

static bool rados_stall(bool on)
{
	const char *pids = getenv("PHSTORE_TEST_OSDS");
	char copy[256];
	char *save = NULL;
	char *p = NULL;

	snprintf(copy, sizeof(copy), "%s", pids != NULL ? pids : "");
	for (p = strtok_r(copy, " ", &save); p != NULL;
	     p = strtok_r(NULL, " ", &save))
	{
		if (kill(atoi(p), on ? SIGSTOP : SIGCONT) == -1) {
			return false;
		}
	}
	return copy[0] != '\0';
}

static enum phstore_err rados_fence(struct phstore *store, const char *writer)
{
	return phstore_rados_fence(store, writer, false);
}

static void rados_as_writer(const char *path, const char *writer,
			    char out[CONF_PATH_MAX])
{
	snprintf(out, CONF_PATH_MAX, "%s&writer=%s", path, writer);
}

static bool rados_unbounded(const struct phstore_stat *st)
{
	return st->num_tombstones > 0;
}

static const struct conf_backend rados_plain = {
	.name = "rados-plain",
	.missing = rados_missing,
	.fresh = plain_fresh,
	.remove = rados_remove_store,
	.opts = {},
	.damage = rados_damage,
	.stall = rados_stall,
	.many_writers = true,
	.fence = rados_fence,
	.as_writer = rados_as_writer,
	.unbounded = rados_unbounded,
};

static const struct conf_backend rados_class = {
	.name = "rados-class",
	.missing = rados_missing,
	.fresh = class_fresh,
	.remove = rados_remove_store,
	.opts = {},
	.damage = rados_damage,
	.stall = rados_stall,
	.many_writers = true,
	.fence = rados_fence,
	.as_writer = rados_as_writer,
	.unbounded = rados_unbounded,
};
#endif

const struct conf_backend *const conf_backends[] = {
	&local,
	&conf_ctdb,
#ifdef PHSTORE_WITH_RADOS
	&rados_plain,
	&rados_class,
#endif
	NULL
};

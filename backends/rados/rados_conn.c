/*
 * phstore: the connection to RADOS, and who may write
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The object "meta" of a namespace makes it a store. Its omap:
 *
 *   "super"     uuid and number of shards, written once
 *   "epoch"     the last epoch given away, ordered number
 *   "w/NAME"    a writer: epoch, state, addresses of its client
 *
 * An epoch is taken by compare-and-set, so no two writers ever have the same
 * one. A writer may write to a shard while the shard's "!W" entry of its name
 * is not above its own epoch: every batch compares that entry and sets it. A
 * fence is nothing but a new epoch put into that entry of *every* shard; from
 * then on each shard refuses whatever the old one sends, also what was on its
 * way. The number of shards is fixed when the store is made, so "every" is
 * known to whoever fences.
 *
 * Order of a fence: epoch, "w/NAME", shards, then the intents of the fenced
 * one are completed (rados_scan.c). Interrupted anywhere it is begun anew,
 * with a higher epoch.
 */

#include "rados_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum phstore_err phr_fail(int ret, const char *what, const char *oid)
{
	enum phstore_err err = PHSTORE_ERR_IO;

	switch (-ret) {
	case ENOMEM:
		err = PHSTORE_ERR_NO_MEMORY;
		break;
	case ENOSPC:
	case EDQUOT:
		err = PHSTORE_ERR_FULL;
		break;
	case EPERM:
	case EACCES:
		err = PHSTORE_ERR_READ_ONLY;
		break;
	case ETIMEDOUT:
		err = PHSTORE_ERR_TIMEOUT;
		break;
	case ESHUTDOWN:	/* the cluster has blocked this client */
	case ESTALE:
		err = PHSTORE_ERR_FENCED;
		break;
	}
	return phstore_fail(err, "rados: %s%s%s: %s", what,
			    oid != NULL ? " " : "", oid != NULL ? oid : "",
			    strerror(-ret));
}

struct sync_wait {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool done;
};

static void sync_done(rados_completion_t c, void *arg)
{
	struct sync_wait *w = arg;

	(void)c;
	pthread_mutex_lock(&w->mutex);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->mutex);
}

static int sync_op(struct phr_conn *c, rados_write_op_t wop,
		   rados_read_op_t rop, const char *oid, int flags)
{
	struct sync_wait w = {
		.mutex = PTHREAD_MUTEX_INITIALIZER,
	};
	pthread_condattr_t attr;
	rados_completion_t comp;
	struct timespec until;
	bool timed_out = false;
	int ret;

	ret = rados_aio_create_completion2(&w, sync_done, &comp);
	if (ret < 0) {
		return ret;
	}
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w.cond, &attr);
	pthread_condattr_destroy(&attr);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (c->conf.timeout_ms + 999) / 1000;

	if (wop != NULL) {
		ret = rados_aio_write_op_operate(wop, c->io, comp, oid, NULL,
						 flags);
	} else {
		ret = rados_aio_read_op_operate(rop, c->io, comp, oid, flags);
	}
	if (ret == 0) {
		pthread_mutex_lock(&w.mutex);
		while (!w.done && !timed_out) {
			int r = pthread_cond_timedwait(&w.cond, &w.mutex,
						       &until);
			timed_out = r == ETIMEDOUT && !w.done;
		}
		pthread_mutex_unlock(&w.mutex);
		if (timed_out) {
			/* its buffers are ours: it must be over before */
			(void)rados_aio_cancel(c->io, comp);
			pthread_mutex_lock(&w.mutex);
			while (!w.done) {
				pthread_cond_wait(&w.cond, &w.mutex);
			}
			pthread_mutex_unlock(&w.mutex);
			ret = -ETIMEDOUT;
		} else {
			ret = rados_aio_get_return_value(comp);
		}
	}
	rados_aio_release(comp);
	pthread_cond_destroy(&w.cond);
	return ret;
}

int phr_read(struct phr_conn *c, rados_read_op_t op, const char *oid)
{
	return sync_op(c, NULL, op, oid, 0);
}

int phr_write(struct phr_conn *c, rados_write_op_t op, const char *oid,
	      int flags)
{
	return sync_op(c, op, NULL, oid, flags);
}

void phr_oid(char oid[PHR_OID_LEN], uint32_t shard)
{
	snprintf(oid, PHR_OID_LEN, "shard.%04" PRIu32, shard);
}

/* One value of the omap of an object; -ENOENT when it is not there. */
static int omap_get(struct phr_conn *c, const char *oid, const char *key,
		    uint8_t *buf, size_t max, size_t *len)
{
	rados_read_op_t op = rados_create_read_op();
	rados_omap_iter_t iter = NULL;
	size_t key_len = strlen(key);
	char *k = NULL;
	char *v = NULL;
	size_t k_len = 0;
	int ret, rval = 0;

	rados_read_op_omap_get_vals_by_keys2(op, &key, 1, &key_len, &iter,
					     &rval);
	ret = phr_read(c, op, oid);
	if (ret == 0) {
		ret = rval;
	}
	if (ret == 0) {
		ret = rados_omap_get_next2(iter, &k, &v, &k_len, len);
	}
	if (ret == 0 && k == NULL) {
		ret = -ENOENT;
	}
	if (ret == 0 && *len > max) {
		ret = -EMSGSIZE;
	}
	if (ret == 0) {
		memcpy(buf, v, *len);
	}
	if (iter != NULL) {
		rados_omap_get_end(iter);
	}
	rados_release_read_op(op);
	return ret;
}

/*
 * Set a key if its value compares so with what is expected (NULL: set). A
 * full pool does not keep anyone from opening the store and deleting.
 */
static int omap_set_if(struct phr_conn *c, const char *oid, const char *key,
		       uint8_t cmp, const uint8_t *expected,
		       size_t expected_len, const uint8_t *value,
		       size_t value_len)
{
	rados_write_op_t op = rados_create_write_op();
	const char *v = (const char *)value;
	size_t key_len = strlen(key);
	int ret;

	rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
	if (expected != NULL) {
		rados_write_op_omap_cmp2(op, key, cmp, (const char *)expected,
					 key_len, expected_len, NULL);
	}
	rados_write_op_omap_set2(op, &key, &v, &key_len, &value_len, 1);
	ret = phr_write(c, op, oid, LIBRADOS_OPERATION_FULL_FORCE);
	rados_release_write_op(op);
	return ret;
}

int phr_meta_set_if(struct phr_conn *c, const char *key, uint8_t cmp,
		    const uint8_t *expected, size_t expected_len,
		    const uint8_t *value, size_t value_len)
{
	return omap_set_if(c, PHR_META_OID, key, cmp, expected, expected_len,
			   value, value_len);
}

static enum phstore_err uuid_make(uint8_t uuid[16])
{
	size_t got = 0;
	int fd;

	fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	while (fd != -1 && got < 16) {
		ssize_t n = read(fd, uuid + got, 16 - got);

		if (n <= 0) {
			break;
		}
		got += n;
	}
	if (fd != -1) {
		close(fd);
	}
	if (got < 16) {
		return phstore_fail(PHSTORE_ERR_IO, "/dev/urandom: %s",
				    strerror(errno));
	}
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	return PHSTORE_OK;
}

static enum phstore_err super_get(struct phr_conn *c, bool create)
{
	uint8_t buf[PHR_SUPER_LEN];
	enum phstore_err err;
	size_t len = 0;
	int ret;

	ret = omap_get(c, PHR_META_OID, "super", buf, sizeof(buf), &len);
	if (ret == -ENOENT && create) {
		struct phr_super s = { .shards = c->conf.shards };

		err = uuid_make(s.uuid);
		if (err != PHSTORE_OK) {
			return err;
		}
		phr_super_push(buf, &s);
		/* two makers: the second finds the first one's */
		ret = omap_set_if(c, PHR_META_OID, "super",
				  LIBRADOS_CMPXATTR_OP_EQ, (uint8_t *)"", 0,
				  buf, sizeof(buf));
		if (ret == 0 || ret == -ECANCELED) {
			ret = omap_get(c, PHR_META_OID, "super", buf,
				       sizeof(buf), &len);
		}
	}
	if (ret == -ENOENT) {
		return phstore_fail(PHSTORE_ERR_NO_STORE,
				    "rados:%s/%s: no store there",
				    c->conf.pool, c->conf.ns);
	}
	if (ret == -EMSGSIZE) {
		len = sizeof(buf) + 1;
	} else if (ret < 0) {
		return phr_fail(ret, "read", PHR_META_OID);
	}
	switch (phr_super_pull(buf, len, &c->super)) {
	case 0:
		return PHSTORE_OK;
	case 1:
		return phstore_fail(PHSTORE_ERR_FOREIGN,
				    "rados:%s/%s: \"meta\" is not ours",
				    c->conf.pool, c->conf.ns);
	case 2:
		return phstore_fail(PHSTORE_ERR_NEWER,
				    "rados:%s/%s: of a newer release",
				    c->conf.pool, c->conf.ns);
	default:
		return phstore_fail(PHSTORE_ERR_CORRUPT,
				    "rados:%s/%s: its \"super\" is damaged",
				    c->conf.pool, c->conf.ns);
	}
}

/*
 * Has the OSD of the first shard the class, and do we understand each other?
 * An OSD that has not (a mixed cluster) is found out by the first batch it
 * gets, and the plain way taken from then on.
 */
static enum phstore_err probe_class(struct phr_conn *c)
{
	char buf[8] = {};
	char oid[PHR_OID_LEN];
	rados_read_op_t op = NULL;
	size_t used = 0;
	int ret, rval = 0;

	c->has_class = false;
	if (c->conf.use_class == PHR_CLASS_NO) {
		return PHSTORE_OK;
	}
	phr_oid(oid, 0);
	op = rados_create_read_op();
	rados_read_op_exec_user_buf(op, "phstore", "version", "", 0, buf,
				    sizeof(buf), &used, &rval);
	ret = phr_read(c, op, PHR_META_OID);
	rados_release_read_op(op);
	if (ret == -ETIMEDOUT) {
		return phr_fail(ret, "ask for the class", oid);
	}
	if (ret == 0 && rval == 0 && used == sizeof(buf)) {
		const uint8_t *b = (const uint8_t *)buf;
		uint16_t low = b[0] | b[1] << 8;
		uint16_t high = b[2] | b[3] << 8;

		c->has_class = low <= PHR_BATCH_VERSION &&
			       high >= PHR_BATCH_VERSION && (b[4] & 1) != 0;
	}
	if (!c->has_class && c->conf.use_class == PHR_CLASS_YES) {
		return phstore_fail(PHSTORE_ERR_NOT_SUPPORTED,
				    "rados: the OSDs have no class "
				    "\"phstore\" that fits (%s)",
				    ret != 0 ? strerror(-ret) :
				    "its version or format is another");
	}
	return PHSTORE_OK;
}

static int conf_set(struct phr_conn *c)
{
	char secs[16];
	int ret;

	ret = rados_conf_read_file(c->cluster, c->conf.conf);
	if (ret < 0) {
		return ret;
	}
	if (c->conf.keyring != NULL) {
		ret = rados_conf_set(c->cluster, "keyring", c->conf.keyring);
		if (ret < 0) {
			return ret;
		}
	}
	/* its signals and its stderr are the program's */
	(void)rados_conf_set(c->cluster, "log_to_stderr", "false");
	(void)rados_conf_set(c->cluster, "err_to_stderr", "false");
	snprintf(secs, sizeof(secs), "%u",
		 (unsigned)(c->conf.timeout_ms + 999) / 1000);
	return rados_conf_set(c->cluster, "client_mount_timeout", secs);
}

enum phstore_err phr_conn_open(struct phr_conn *c, bool create)
{
	enum phstore_err err;
	int ret;

	ret = rados_create(&c->cluster, c->conf.id);
	if (ret < 0) {
		return phr_fail(ret, "create a client", NULL);
	}
	c->connected = true;
	ret = conf_set(c);
	if (ret < 0) {
		return phr_fail(ret, "configuration", c->conf.conf);
	}
	ret = rados_connect(c->cluster);
	if (ret < 0) {
		return phr_fail(ret, "connect", NULL);
	}
	ret = rados_ioctx_create(c->cluster, c->conf.pool, &c->io);
	if (ret == -ENOENT) {
		return phstore_fail(PHSTORE_ERR_NO_STORE,
				    "rados:%s: no such pool", c->conf.pool);
	}
	if (ret < 0) {
		return phr_fail(ret, "pool", c->conf.pool);
	}
	c->has_io = true;
	rados_ioctx_set_namespace(c->io, c->conf.ns);
	err = super_get(c, create);
	if (err != PHSTORE_OK) {
		return err;
	}
	return probe_class(c);
}

void phr_conn_close(struct phr_conn *c)
{
	if (c->has_io) {
		rados_ioctx_destroy(c->io);
		c->has_io = false;
	}
	if (c->connected) {
		rados_shutdown(c->cluster);
		c->connected = false;
	}
}

enum phstore_err phr_epoch_take(struct phr_conn *c, uint64_t *epoch)
{
	uint8_t old[PHR_ORDERED_LEN], new[PHR_ORDERED_LEN];
	unsigned tries;
	int ret = 0;

	for (tries = 0; tries < 1000; tries++) {
		size_t len = 0;
		bool ok;

		ret = omap_get(c, PHR_META_OID, "epoch", old, sizeof(old),
			       &len);
		if (ret == -ENOENT) {
			*epoch = 0;
			len = 0;
		} else if (ret < 0) {
			break;
		} else {
			ok = phr_ordered_pull(old, len, epoch);
			if (!ok) {
				return phstore_fail(PHSTORE_ERR_CORRUPT,
						    "rados: the epoch in "
						    "\"meta\" is damaged");
			}
		}
		*epoch += 1;
		phr_ordered_push(new, *epoch);
		ret = omap_set_if(c, PHR_META_OID, "epoch",
				  LIBRADOS_CMPXATTR_OP_EQ, old, len,
				  new, sizeof(new));
		if (ret != -ECANCELED) {
			break;
		}
	}
	return ret < 0 ? phr_fail(ret, "take an epoch", NULL) : PHSTORE_OK;
}

static enum phstore_err member_set(struct phr_conn *c, const char *name,
				   const struct phr_member *m)
{
	uint8_t buf[2048];
	char key[PHR_WRITER_MAX + 3];
	int ret;

	if (phr_member_len(m) > sizeof(buf)) {
		return phr_fail(-EMSGSIZE, "writer", name);
	}
	snprintf(key, sizeof(key), "w/%s", name);
	phr_member_push(buf, m);
	ret = omap_set_if(c, PHR_META_OID, key, 0, NULL, 0, buf,
			  phr_member_len(m));
	return ret < 0 ? phr_fail(ret, "register", name) : PHSTORE_OK;
}

/* Put an epoch into the entry of a writer in every shard. */
static enum phstore_err fence_shards(struct phr_conn *c, const char *name,
				     uint64_t epoch)
{
	uint8_t value[PHR_VERSION_LEN];
	char key[PHR_WRITER_MAX + 3];
	char oid[PHR_OID_LEN];
	rados_completion_t *comps = NULL;
	rados_write_op_t *ops = NULL;
	struct phr_version v = { .epoch = epoch };
	enum phstore_err err = PHSTORE_OK;
	uint32_t n = c->super.shards;
	uint64_t until = phstore_now_ns() +
			 c->conf.timeout_ms * 1000000ULL;
	const char *k = key;
	const char *val = (const char *)value;
	size_t k_len, v_len = sizeof(value);
	uint32_t i;
	int ret;

	snprintf(key, sizeof(key), "!W%s", name);
	k_len = strlen(key);
	phr_version_push(value, v);
	comps = calloc(n, sizeof(comps[0]));
	ops = calloc(n, sizeof(ops[0]));
	if (comps == NULL || ops == NULL) {
		free(comps);
		free(ops);
		return phr_fail(-ENOMEM, "fence", name);
	}
	for (i = 0; i < n; i++) {
		phr_oid(oid, i);
		ops[i] = rados_create_write_op();
		rados_write_op_create(ops[i], LIBRADOS_CREATE_IDEMPOTENT,
				      NULL);
		rados_write_op_omap_cmp2(ops[i], key, LIBRADOS_CMPXATTR_OP_LT,
					 val, k_len, v_len, NULL);
		rados_write_op_omap_set2(ops[i], &k, &val, &k_len, &v_len, 1);
		rados_aio_create_completion2(NULL, NULL, &comps[i]);
		/* a full pool does not keep a dead node's writes in play */
		ret = rados_aio_write_op_operate(
			ops[i], c->io, comps[i], oid, NULL,
			LIBRADOS_OPERATION_FULL_FORCE);
		if (ret < 0) {
			rados_aio_release(comps[i]);
			comps[i] = NULL;
			err = phr_fail(ret, "fence", oid);
		}
	}
	for (i = 0; i < n; i++) {
		while (comps[i] != NULL &&
		       !rados_aio_is_complete(comps[i]) &&
		       phstore_now_ns() < until)
		{
			struct timespec ts = { .tv_nsec = 200000 };

			nanosleep(&ts, NULL);
		}
		if (comps[i] == NULL) {
			rados_release_write_op(ops[i]);
			continue;
		}
		if (!rados_aio_is_complete(comps[i])) {
			(void)rados_aio_cancel(c->io, comps[i]);
			rados_aio_wait_for_complete(comps[i]);
			err = phr_fail(-ETIMEDOUT, "fence", name);
		} else {
			ret = rados_aio_get_return_value(comps[i]);
			if (ret == -ECANCELED) {
				/* somebody fenced it with a higher one */
				ret = -ESTALE;
			}
			if (ret < 0) {
				err = phr_fail(ret, "fence", name);
			}
		}
		rados_aio_release(comps[i]);
		rados_release_write_op(ops[i]);
	}
	free(comps);
	free(ops);
	return err;
}

static void block_client(struct phr_conn *c, const struct phr_member *m,
			 enum phstore_err *err)
{
	char addrs[1025];
	char *save = NULL;
	char *a = NULL;

	memcpy(addrs, m->addrs, m->addrs_len);
	addrs[m->addrs_len] = '\0';
	for (a = strtok_r(addrs, ",", &save); a != NULL;
	     a = strtok_r(NULL, ",", &save))
	{
		int ret = rados_blocklist_add(c->cluster, a, 0);

		if (ret < 0) {
			*err = phr_fail(ret, "block", a);
		}
	}
}

enum phstore_err phr_conn_fence(struct phr_conn *c, const char *name,
				bool block)
{
	struct phr_member m = { .state = PHR_MEMBER_FENCED };
	uint8_t buf[2048];
	char key[PHR_WRITER_MAX + 3];
	enum phstore_err err;
	size_t len = 0;
	int ret;

	snprintf(key, sizeof(key), "w/%s", name);
	ret = omap_get(c, PHR_META_OID, key, buf, sizeof(buf), &len);
	if (ret == 0) {
		bool ok = phr_member_pull(buf, len, &m);

		if (!ok) {
			m = (struct phr_member) {};
		}
	} else if (ret != -ENOENT) {
		return phr_fail(ret, "look for", name);
	}
	err = phr_epoch_take(c, &m.epoch);
	if (err != PHSTORE_OK) {
		return err;
	}
	m.state = PHR_MEMBER_FENCED;
	m.since = time(NULL);
	err = member_set(c, name, &m);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = fence_shards(c, name, m.epoch);
	if (err == PHSTORE_OK && block) {
		block_client(c, &m, &err);
	}
	return err;
}

static void writer_name(struct phr_conn *c)
{
	char host[40] = {};
	uint8_t r[16] = {};
	size_t i;

	if (c->conf.writer != NULL) {
		snprintf(c->writer, sizeof(c->writer), "%s", c->conf.writer);
		return;
	}
	(void)gethostname(host, sizeof(host) - 1);
	for (i = 0; host[i] != '\0'; i++) {
		if (!phr_writer_ok(&host[i], 1)) {
			host[i] = '_';
		}
	}
	(void)uuid_make(r);
	snprintf(c->writer, sizeof(c->writer), "%.30s.%d.%02x%02x%02x%02x",
		 host[0] != '\0' ? host : "host", (int)getpid(),
		 r[0], r[1], r[2], r[3]);
}

/* Register with a new epoch, and fence whoever had the name before. */
static enum phstore_err writer_register(struct phr_conn *c, uint64_t *epoch)
{
	struct phr_member m = {
		.state = PHR_MEMBER_LIVE,
		.since = time(NULL),
	};
	enum phstore_err err;
	char *addrs = NULL;

	err = phr_epoch_take(c, &m.epoch);
	if (err != PHSTORE_OK) {
		return err;
	}
	*epoch = m.epoch;
	(void)rados_getaddrs(c->cluster, &addrs);
	if (addrs != NULL && strlen(addrs) <= 1024) {
		m.addrs = addrs;
		m.addrs_len = strlen(addrs);
	}
	err = member_set(c, c->writer, &m);
	free(addrs);
	if (err != PHSTORE_OK) {
		return err;
	}
	return fence_shards(c, c->writer, m.epoch);
}

enum phstore_err phr_conn_writer_begin(struct phr_conn *c)
{
	writer_name(c);
	c->registered = true;
	return writer_register(c, &c->epoch);
}

/*
 * As phr_conn_writer_begin(), but what the writer was before is known, and
 * nobody has declared it dead in between.
 */
enum phstore_err phr_conn_writer_claim(struct phr_conn *c, bool *fenced)
{
	uint8_t old[2048], new[2048];
	char key[PHR_WRITER_MAX + 3];
	unsigned tries;
	int ret = -ECANCELED;

	writer_name(c);
	snprintf(key, sizeof(key), "w/%s", c->writer);
	for (tries = 0; tries < 100 && ret == -ECANCELED; tries++) {
		struct phr_member was = {};
		struct phr_member m = {
			.state = PHR_MEMBER_LIVE,
			.since = time(NULL),
		};
		char *addrs = NULL;
		enum phstore_err err;
		size_t len = 0;

		ret = omap_get(c, PHR_META_OID, key, old, sizeof(old), &len);
		if (ret != 0 && ret != -ENOENT) {
			break;
		}
		*fenced = ret == 0 && phr_member_pull(old, len, &was) &&
			  was.state == PHR_MEMBER_FENCED;
		len = ret == 0 ? len : 0;
		err = phr_epoch_take(c, &m.epoch);
		if (err != PHSTORE_OK) {
			return err;
		}
		(void)rados_getaddrs(c->cluster, &addrs);
		if (addrs != NULL && strlen(addrs) <= 1024) {
			m.addrs = addrs;
			m.addrs_len = strlen(addrs);
		}
		phr_member_push(new, &m);
		ret = phr_meta_set_if(c, key, LIBRADOS_CMPXATTR_OP_EQ, old,
				      len, new, phr_member_len(&m));
		free(addrs);
		c->epoch = m.epoch;
	}
	if (ret < 0) {
		return phr_fail(ret, "register", c->writer);
	}
	c->registered = true;
	return fence_shards(c, c->writer, c->epoch);
}

enum phstore_err phr_conn_renew(struct phr_conn *c, pthread_mutex_t *mutex)
{
	uint8_t buf[2048];
	char key[PHR_WRITER_MAX + 3];
	struct phr_member m = {};
	enum phstore_err err;
	uint64_t epoch = 0;
	size_t len = 0;
	bool ok;
	int ret;

	/* a fenced one must not come back by this door */
	snprintf(key, sizeof(key), "w/%s", c->writer);
	ret = omap_get(c, PHR_META_OID, key, buf, sizeof(buf), &len);
	ok = ret == 0 && phr_member_pull(buf, len, &m);
	if (!ok || m.epoch != c->epoch || m.state != PHR_MEMBER_LIVE) {
		return phr_fail(ret != 0 && ret != -ENOENT ? ret : -ESTALE,
				"renew the epoch of", c->writer);
	}
	err = writer_register(c, &epoch);
	if (err == PHSTORE_OK) {
		pthread_mutex_lock(mutex);
		c->epoch = epoch;
		pthread_mutex_unlock(mutex);
	}
	return err;
}

void phr_conn_writer_end(struct phr_conn *c)
{
	char key[PHR_WRITER_MAX + 3];
	const char *k = key;
	char oid[PHR_OID_LEN];
	size_t k_len;
	uint32_t i;

	if (!c->registered) {
		return;
	}
	c->registered = false;
	if (c->conf.writer != NULL) {
		struct phr_member m = {
			.epoch = c->epoch,
			.since = time(NULL),
			.state = PHR_MEMBER_FENCED,
		};

		/* a name that comes back; only, it holds no floor till then */
		(void)member_set(c, c->writer, &m);
		return;
	}
	for (i = 0; i <= c->super.shards; i++) {
		rados_write_op_t op = rados_create_write_op();

		if (i < c->super.shards) {
			snprintf(key, sizeof(key), "!W%s", c->writer);
			phr_oid(oid, i);
		} else {
			/* last: who finds it cleans up after us */
			snprintf(key, sizeof(key), "w/%s", c->writer);
			snprintf(oid, sizeof(oid), "%s", PHR_META_OID);
		}
		k_len = strlen(key);
		rados_write_op_omap_rm_keys2(op, &k, &k_len, 1);
		(void)phr_write(c, op, oid, LIBRADOS_OPERATION_FULL_FORCE);
		rados_release_write_op(op);
	}
}

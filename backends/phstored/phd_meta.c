/*
 * phstored: what a node must remember besides its store
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * `repl-meta` in the store's folder, two slots of 4096 bytes, written in
 * turn; the valid one with the higher seq counts, so a torn write leaves the
 * older one. Numbers are little-endian.
 *
 *     0  8 bytes  "PHMETA\n" NUL
 *     8  u32      format version, 3
 *    12  u32      CRC-32 of bytes 16..127
 *    16  u64      seq
 *    24  16 bytes uuid of the store it belongs to
 *    40  u64      cluster id
 *    48  u32      node
 *    52  u32      zero
 *    56  56 bytes meta, see backends/ctdb/core/repl_wire.h
 *   112  16 bytes zero
 *
 * Version 2 had no birth, its meta is 48 bytes. Version 1 had sets of 32 nodes:
 * its meta is u64 promised, epoch, data, u32 members, voters, k, flags, u64
 * zero. Both are read, with the birth 0; what is written is 3.
 *
 * The flag BEGAN is newer than version 2: releases before it never set it and,
 * where they find it, clear it when they begin. Both are true: without it
 * nothing is said. So it needs no version of its own.
 *
 * No file is a new node: it has promised nothing. A file that is damaged, or
 * of another store, cluster or node is refused: a node that forgets what it
 * has promised can do harm, and starting it as a new one is an operator's
 * decision (remove the store's folder).
 */

#include "phd_ctdb.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "phstore_bytes.h"
#include "phstore_frame.h"
#include "phstore_io.h"
#include "phstore_private.h"

#define META_LEN 128
#define META_SLOT 4096
#define META_VERSION 3
#define META_LEN_V2 48

static const uint8_t meta_magic[8] = "PHMETA\n";

struct meta_file {
	uint64_t seq;
	uint8_t uuid[16];
	uint64_t cluster;
	uint32_t node;
	struct repl_meta meta;
};

static void file_push(uint8_t buf[META_LEN], const struct meta_file *f)
{
	memset(buf, 0, META_LEN);
	memcpy(buf, meta_magic, 8);
	phstore_push_u32(buf + 8, META_VERSION);
	phstore_push_u64(buf + 16, f->seq);
	memcpy(buf + 24, f->uuid, 16);
	phstore_push_u64(buf + 40, f->cluster);
	phstore_push_u32(buf + 48, f->node);
	repl_meta_push(buf + 56, &f->meta);
	phstore_push_u32(buf + 12, phstore_crc32(0, buf + 16, META_LEN - 16));
}

static bool meta_pull_v1(const uint8_t *buf, struct repl_meta *meta)
{
	*meta = (struct repl_meta) {
		.promised = phstore_pull_u64(buf),
		.epoch = phstore_pull_u64(buf + 8),
		.data = phstore_pull_u64(buf + 16),
		.members = phstore_pull_u32(buf + 24),
		.voters = phstore_pull_u32(buf + 28),
		.k = phstore_pull_u32(buf + 32),
		.flags = phstore_pull_u32(buf + 36),
	};
	return meta->k <= 32 && meta->flags <= 3 &&
	       phstore_pull_u64(buf + 40) == 0;
}

static bool meta_pull_v2(const uint8_t *buf, struct repl_meta *meta)
{
	uint8_t now[REPL_META_LEN] = {};

	memcpy(now, buf, META_LEN_V2);
	return repl_meta_pull(now, sizeof(now), meta);
}

static enum phstore_err file_pull(const uint8_t *buf, size_t len,
				  struct meta_file *f)
{
	uint32_t version;
	bool ok;

	if (len < META_LEN || memcmp(buf, meta_magic, 8) != 0) {
		return PHSTORE_ERR_CORRUPT;
	}
	version = phstore_pull_u32(buf + 8);
	if (version > META_VERSION) {
		return PHSTORE_ERR_NEWER;
	}
	if (version == 0 || phstore_pull_u32(buf + 12) !=
	    phstore_crc32(0, buf + 16, META_LEN - 16))
	{
		return PHSTORE_ERR_CORRUPT;
	}
	f->seq = phstore_pull_u64(buf + 16);
	memcpy(f->uuid, buf + 24, 16);
	f->cluster = phstore_pull_u64(buf + 40);
	f->node = phstore_pull_u32(buf + 48);
	switch (version) {
	case 1:
		ok = meta_pull_v1(buf + 56, &f->meta);
		break;
	case 2:
		ok = meta_pull_v2(buf + 56, &f->meta);
		break;
	default:
		ok = repl_meta_pull(buf + 56, REPL_META_LEN, &f->meta);
		break;
	}
	return ok ? PHSTORE_OK : PHSTORE_ERR_CORRUPT;
}

static bool meta_path(struct phd_ctdb *d, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/repl-meta", d->phd->conf->store);

	return n > 0 && (size_t)n < size;
}

enum phstore_err phd_meta_write(struct phd_ctdb *d,
				const struct repl_meta *meta)
{
	struct phstore_stat st = {};
	struct meta_file f = {
		.seq = d->meta_seq + 1,
		.cluster = d->cluster,
		.node = d->view.self,
		.meta = *meta,
	};
	uint8_t buf[META_LEN];
	enum phstore_err err;
	int ret;

	err = phstore_stat(d->phd->store, &st);
	if (err != PHSTORE_OK) {
		return err;
	}
	memcpy(f.uuid, st.uuid, sizeof(f.uuid));
	file_push(buf, &f);
	ret = phstore_io_write_full(d->meta_fd, buf, sizeof(buf),
				    (f.seq % 2) * META_SLOT);
	if (ret == 0) {
		ret = phstore_io->fdatasync(d->meta_fd);
	}
	if (ret == -1) {
		return phstore_fail(phstore_io_err(errno), "%s/repl-meta: %s",
				    d->phd->conf->store, strerror(errno));
	}
	d->meta_seq = f.seq;
	d->meta = *meta;
	return PHSTORE_OK;
}

static enum phd_exit check_file(struct phd_ctdb *d, const struct meta_file *f,
				uint8_t node)
{
	struct phstore_stat st = {};
	enum phstore_err err;

	err = phstore_stat(d->phd->store, &st);
	if (err != PHSTORE_OK) {
		phd_log(0, "%s", phstore_last_error());
		return PHD_EXIT_STORE;
	}
	if (memcmp(f->uuid, st.uuid, sizeof(f->uuid)) != 0) {
		phd_log(0, "%s/repl-meta belongs to another store",
			d->phd->conf->store);
		return PHD_EXIT_REFUSED;
	}
	if (f->cluster != d->cluster) {
		phd_log(0, "%s belongs to a cluster with id %" PRIx64 ", not "
			"%" PRIx64 ": another cluster of the name \"%s\"?",
			d->phd->conf->store, f->cluster, d->cluster,
			d->phd->conf->cluster);
		return PHD_EXIT_REFUSED;
	}
	if (f->node != node) {
		phd_log(0, "%s belongs to node %" PRIu32 ", this is node %u",
			d->phd->conf->store, f->node, node);
		return PHD_EXIT_REFUSED;
	}
	return PHD_EXIT_OK;
}

/* A file nobody will take for a damaged one: both slots, then its name. */
static enum phd_exit make_file(struct phd_ctdb *d, const char *path)
{
	struct repl_meta none = {};
	enum phstore_err err;
	int dir_fd, ret = -1;

	d->meta_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (d->meta_fd == -1) {
		phd_log(0, "%s: %s", path, strerror(errno));
		return PHD_EXIT_STORE;
	}
	err = phd_meta_write(d, &none);
	if (err == PHSTORE_OK) {
		err = phd_meta_write(d, &none);
	}
	if (err != PHSTORE_OK) {
		phd_log(0, "%s", phstore_last_error());
	}
	dir_fd = open(d->phd->conf->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd != -1) {
		ret = fsync(dir_fd);
		close(dir_fd);
	}
	if (err != PHSTORE_OK || ret == -1) {
		phd_log(0, "%s: cannot be made", path);
		(void)unlink(path);
		return PHD_EXIT_STORE;
	}
	return PHD_EXIT_OK;
}

enum phd_exit phd_meta_open(struct phd_ctdb *d, uint8_t node)
{
	struct meta_file f[2] = {};
	enum phstore_err err[2];
	char path[4096];
	uint8_t buf[META_LEN];
	int i, best = -1;
	bool empty = true;
	bool ok;

	ok = meta_path(d, path, sizeof(path));
	if (!ok) {
		return PHD_EXIT_USAGE;
	}
	d->meta_fd = open(path, O_RDWR | O_CLOEXEC);
	if (d->meta_fd == -1 && errno == ENOENT) {
		return make_file(d, path);
	}
	if (d->meta_fd == -1) {
		phd_log(0, "%s: %s", path, strerror(errno));
		return PHD_EXIT_STORE;
	}
	for (i = 0; i < 2; i++) {
		ssize_t n = phstore_io_read_full(d->meta_fd, buf, sizeof(buf),
						 i * META_SLOT);

		if (n == -1) {
			phd_log(0, "%s: %s", path, strerror(errno));
			return PHD_EXIT_STORE;
		}
		empty = empty && n < META_LEN;
		err[i] = file_pull(buf, n > 0 ? (size_t)n : 0, &f[i]);
		if (err[i] == PHSTORE_ERR_NEWER) {
			phd_log(0, "%s was written by a newer release", path);
			return PHD_EXIT_STORE;
		}
		if (err[i] == PHSTORE_OK &&
		    (best == -1 || f[i].seq > f[best].seq))
		{
			best = i;
		}
	}
	if (best == -1 && empty) {
		/* killed while it was made: nothing was promised yet */
		close(d->meta_fd);
		(void)unlink(path);
		return make_file(d, path);
	}
	if (best == -1) {
		phd_log(0, "%s is damaged: what this node has promised is "
			"lost. To begin as an empty node, move %s away",
			path, d->phd->conf->store);
		return PHD_EXIT_STORE;
	}
	d->meta = f[best].meta;
	d->meta_seq = f[best].seq;
	return check_file(d, &f[best], node);
}

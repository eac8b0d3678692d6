/*
 * phstore fuzzing: a whole store: recovery of any bytes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Byte 0 says what is put right before (checksums of the superblock, the
 * segment header, the frames), then come a superblock and a segment. The
 * store is opened read-only and for writing, read, verified, written to,
 * compacted, closed and opened again. Any error will do, no crash, no
 * hang; what was committed must be there after reopening.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "local.h"
#include "phstore_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIX_SUPER 1
#define FIX_HEADER 2
#define FIX_FRAMES 4
#define WITH_SPARE 8
#define MAX_SEGMENT (256 * 1024)

static char dir[256];

static void wipe(void)
{
	DIR *d = opendir(dir);
	struct dirent *de = NULL;

	while (d != NULL && (de = readdir(d)) != NULL) {
		if (de->d_name[0] != '.') {
			(void)unlinkat(dirfd(d), de->d_name, 0);
		}
	}
	if (d != NULL) {
		closedir(d);
	}
}

static void at_exit(void)
{
	wipe();
	(void)rmdir(dir);
}

static void write_file(const char *name, const void *buf, size_t len,
		       size_t total)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd == -1 || write(fd, buf, len) != (ssize_t)len ||
	    ftruncate(fd, (off_t)total) != 0)
	{
		abort();
	}
	close(fd);
}

static void fix_super(uint8_t *buf)
{
	uint64_t size = phstore_pull_u64(buf + 40);
	size_t ofs;

	memcpy(buf, "PHSTORE\n", 8);
	phstore_push_u32(buf + 8, LOCAL_FORMAT_VERSION);
	size = LOCAL_SEGMENT_MIN + size % 16 * LOCAL_SUPER_SIZE;
	phstore_push_u64(buf + 40, size);
	for (ofs = 56; ofs <= 80; ofs += 8) {
		/* epoch_start, tail_segno, tail_lsn, durable */
		uint64_t v = phstore_pull_u64(buf + ofs);

		phstore_push_u64(buf + ofs, ofs == 64 ? v : v & ~7ULL);
	}
	phstore_push_u32(buf + 12, phstore_crc32(0, buf + 16, 112));
}

static void fix_header(uint8_t *buf, const uint8_t *super, uint32_t seed)
{
	uint64_t size = phstore_pull_u64(buf + 32);

	memcpy(buf, "PHSEGMT\n", 8);
	phstore_push_u32(buf + 8, LOCAL_FORMAT_VERSION);
	/* mostly the one the superblock begins with */
	if (buf[40] < 200) {
		memcpy(buf + 16, super + 64, 8);
		memcpy(buf + 24, super + 72, 8);
	}
	size = LOCAL_SEGMENT_MIN + size % (MAX_SEGMENT / 8) * 8;
	phstore_push_u64(buf + 32, size);
	phstore_push_u32(buf + 12, phstore_crc32(seed, buf + 16, 48));
}

static void fix_frames(uint8_t *buf, size_t len, uint32_t seed)
{
	uint64_t start = phstore_pull_u64(buf + 24);
	size_t ofs = LOCAL_SEG_HDR;

	while (ofs + PHSTORE_FRAME_HDR <= len) {
		struct phstore_frame_hdr hdr = {};
		bool ok = phstore_frame_pull_hdr(buf + ofs, len - ofs, &hdr);

		if (!ok || hdr.len > len - ofs) {
			break;
		}
		hdr.lsn = start + ofs;
		phstore_frame_push(buf + ofs, &hdr, seed);
		ofs += hdr.len;
	}
}

static int scan_fn(const char *table, const struct phstore_record *rec,
		   void *private_data)
{
	uint64_t *sum = private_data;

	*sum += strlen(table) + rec->key.len +
		phstore_crc32(0, rec->value.data, rec->value.len);
	return 0;
}

static enum phstore_err open_it(uint32_t flags, struct phstore **store)
{
	struct phstore_open_options opts = {
		.flags = flags | PHSTORE_OPEN_ALLOW_VOLATILE,
	};

	return phstore_open(NULL, dir, &opts, store);
}

static void read_all(struct phstore *store)
{
	struct phstore_damage d = {};
	struct phstore_stat st = {};
	uint64_t sum = 0;
	uint64_t i;

	(void)phstore_scan(store, NULL, scan_fn, &sum, NULL);
	(void)phstore_stat(store, &st);
	for (i = 0; i < st.num_damaged && i < 100; i++) {
		(void)phstore_damage_get(store, i, &d);
	}
	(void)phstore_verify(store);
}

static const struct phstore_blob key = { "fuzz", 4 };

static bool write_one(struct phstore *store)
{
	struct phstore_txn *txn = phstore_txn_new(store, store);
	enum phstore_err err;

	(void)phstore_txn_put(txn, "t", key, key, NULL);
	err = phstore_commit(txn, NULL);
	(void)phstore_maintain(store);
	return err == PHSTORE_OK;
}

static void use(void)
{
	struct phstore_record rec = {};
	struct phstore *store = NULL;
	enum phstore_err err;
	bool written;

	err = open_it(PHSTORE_OPEN_RDONLY, &store);
	if (err == PHSTORE_OK) {
		read_all(store);
		(void)phstore_close(store);
	} else if (phstore_last_error()[0] == '\0') {
		abort();
	}
	err = open_it(0, &store);
	if (err != PHSTORE_OK) {
		return;
	}
	read_all(store);
	written = write_one(store);
	(void)phstore_close(store);
	if (!written) {
		return;
	}
	err = open_it(0, &store);
	if (err != PHSTORE_OK) {
		abort();
	}
	err = phstore_get(store, store, "t", key, &rec);
	if (err != PHSTORE_OK) {
		abort();
	}
	(void)phstore_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t super[LOCAL_SUPER_LEN];
	uint8_t *seg = NULL;
	char name[64];
	uint8_t what;
	size_t total;

	if (dir[0] == '\0') {
		int ret = access("/dev/shm", W_OK);

		snprintf(dir, sizeof(dir), "%s/phstore-fuzz-XXXXXX",
			 ret == 0 ? "/dev/shm" : "/tmp");
		if (mkdtemp(dir) == NULL) {
			abort();
		}
		atexit(at_exit);
	}
	if (size < 1 + LOCAL_SUPER_LEN + LOCAL_SEG_HDR) {
		return 0;
	}
	what = data[0];
	memcpy(super, data + 1, sizeof(super));
	data += 1 + sizeof(super);
	size -= 1 + sizeof(super);
	if (size > MAX_SEGMENT) {
		size = MAX_SEGMENT;
	}
	seg = malloc(size);
	memcpy(seg, data, size);
	if (what & FIX_SUPER) {
		fix_super(super);
	} else if (phstore_pull_u64(super + 40) > 16 * MAX_SEGMENT) {
		/* a gigabyte takes too long for this */
		free(seg);
		return 0;
	}
	if (what & FIX_HEADER) {
		fix_header(seg, super, local_seed(super + 24));
	} else if (phstore_pull_u64(seg + 32) > 16 * MAX_SEGMENT) {
		free(seg);
		return 0;
	}
	if (what & FIX_FRAMES) {
		fix_frames(seg, size, local_seed(super + 24));
	}
	wipe();
	write_file("super", super, sizeof(super), 2 * LOCAL_SUPER_SIZE);
	snprintf(name, sizeof(name), "seg-%02x%02x%02x%02x%02x%02x%02x%02x",
		 super[71], super[70], super[69], super[68], super[67],
		 super[66], super[65], super[64]);
	total = what & 64 ? size : LOCAL_SEGMENT_MIN;
	write_file(name, seg, size, total < size ? size : total);
	if (what & WITH_SPARE) {
		write_file("spare-0", seg, size, phstore_pull_u64(super + 40)
			   % (4 * MAX_SEGMENT));
	}
	use();
	free(seg);
	return 0;
}

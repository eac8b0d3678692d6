/*
 * storebench: what is put and how it is read, the same for each mode
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storebench.h"

static void make_key(char *key, unsigned int writer, uint64_t n)
{
	memset(key, 0, KEY_LEN);
	snprintf(key, KEY_LEN, "w%04u-%012"PRIu64, writer, n);
}

/* Never twice the same, and nothing a file system could compress. */
static void make_value(uint8_t *value, size_t len, uint64_t seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(value + i, &x, 8);
	}
	for (; i < len; i++) {
		value[i] = (uint8_t)(x >> (8 * (i % 8)));
	}
}

/*
 * Sizes of the values smbd writes, seen in its store (README.md): an open is
 * 624 bytes and its name's length, a file's share modes 330 and 128 for each
 * further open, its locks 4 and 80 for each.
 */
static const unsigned int smbd_sizes[] = {
	624, 330, 624, 84, 624, 624, 330, 696, 624, 458, 804, 1226,
};

void put_init(struct put *put, const struct options *o, unsigned int writer)
{
	put->writer = writer;
	put->keys = o->keys;
	put->size = o->size;
}

void put_make(struct put *put, uint64_t n)
{
	size_t num = sizeof(smbd_sizes) / sizeof(smbd_sizes[0]);

	put->len = put->size != 0 ? put->size : smbd_sizes[n % num];
	make_key(put->key, put->writer, n % put->keys);
	make_value(put->value, put->len, n);
}

void scan_add(struct scan *scan, const uint8_t *value, size_t len)
{
	size_t i;

	scan->records++;
	scan->bytes += len;
	for (i = 0; i < len; i++) {
		scan->sum += value[i];
	}
}

int log_file_make(const char *path, size_t size)
{
	static const uint8_t zeros[65536];
	size_t pos = 0;
	ssize_t n = 1;
	int fd, ret;

	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd == -1) {
		return -1;
	}
	while (n > 0 && pos < size) {
		size_t left = size - pos;

		n = pwrite(fd, zeros,
			   left < sizeof(zeros) ? left : sizeof(zeros),
			   (off_t)pos);
		pos += n > 0 ? (size_t)n : 0;
	}
	ret = n > 0 ? fsync(fd) : -1;
	if (ret == -1) {
		int saved_errno = errno;

		close(fd);
		errno = saved_errno;
		return -1;
	}
	return fd;
}

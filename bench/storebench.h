/*
 * storebench: what a mode is, for storebench.c and the peers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef STOREBENCH_H
#define STOREBENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_LEN 24
#define SIZE_MAX_VALUE 65536

struct options {
	const char *mode;
	const char *of;		/* stage and scan: the mode's name */
	const char *dir;
	const char *backend;	/* ctdb: a phstored ships DIR/store */
	bool replicated;
	double seconds;
	double warmup;
	unsigned int writers;
	unsigned int size;	/* of a value; 0: as smbd's are */
	unsigned int keys;
	unsigned int records;
	unsigned int compute_us; /* before each commit */
};

/* Every record there is, each byte of its value read. */
struct scan {
	uint64_t records;
	uint64_t bytes;
	uint64_t sum;
};

void scan_add(struct scan *scan, const uint8_t *value, size_t len);

/* What a mode does, in each writer. State is the mode's own. */
struct mode {
	const char *name;
	bool unlisted;		/* no store: nothing to compare with */
	int (*open)(const struct options *o, unsigned int writer,
		    void **state, char *error, size_t len);
	int (*commit)(void *state, uint64_t n, char *error, size_t len);
	void (*close)(void *state);
	/* for the modes stage and scan, where it can */
	int (*stage)(void *state, uint64_t n, char *error, size_t len);
	int (*fill)(void *state, uint64_t n, char *error, size_t len);
	int (*scan)(void *state, struct scan *scan, char *error, size_t len);
};

/* The n-th put of a writer: key of KEY_LEN bytes, a value never the same. */
struct put {
	unsigned int writer;
	unsigned int keys;
	unsigned int size;	/* as in the options */
	char key[KEY_LEN];
	size_t len;		/* of value */
	uint8_t value[SIZE_MAX_VALUE];
};

void put_init(struct put *put, const struct options *o, unsigned int writer);
void put_make(struct put *put, uint64_t n);

/* A new log file with room for size bytes: written, synced. -1: errno. */
int log_file_make(const char *path, size_t size);

/* storebench_bare.c */
extern const struct mode bare_group;
extern const struct mode bare_nothing;
extern const struct mode peer_tdb;
/* bench/peers/: NULL open where the package was not there at build time */
extern const struct mode peer_lmdb;
extern const struct mode peer_sqlite;
extern const struct mode peer_rocksdb;

#endif /* STOREBENCH_H */

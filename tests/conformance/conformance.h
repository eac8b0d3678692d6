/*
 * phstore tests: one suite for all backends
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A backend is one entry in conf_backends[] (conf_backends.c). The cases see
 * it only through phstore.h and this table; what a backend can not do at all
 * is said here, and the case is skipped, which is counted.
 */

#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "phstore.h"

#define CONF_PATH_MAX 1024

struct conf_backend {
	const char *name;
	/* NULL: can be tested here; else why not */
	const char *(*missing)(void);
	/* the name of a store that is not there yet */
	void (*fresh)(char path[CONF_PATH_MAX]);
	/* before it is made: what serves it; NULL: nothing has to */
	bool (*start)(const char *path);
	/* the same store for a process that stays */
	void (*remove)(const char *path);
	/* segment_size and flags to open it with */
	struct phstore_open_options opts;
	/*
	 * With the store closed, change a byte of the value that begins
	 * with the text; NULL: not possible here. False: did not find it.
	 */
	bool (*damage)(const char *path, const char *table,
		       const char *key, const char *text);
	/*
	 * The storage stops answering, or answers again; NULL: the delay of
	 * the test build is used (PHSTORE_TEST_SYNC_DELAY_US).
	 */
	bool (*stall)(bool on);
	/* who waits may be the one in the system call, then no timeout helps */
	bool waits_in_syscall;
	/* the longest value, if it is not 8 MiB */
	size_t value_max;
	/* several processes write to one store at once */
	bool many_writers;
	/* an epoch is the cluster's: no version may have another */
	bool epochs_given;
	/* fence the writer of that name; NULL: all writers are one node */
	enum phstore_err (*fence)(struct phstore *store, const char *writer);
	/* the path for a writer of that name */
	void (*as_writer)(const char *path, const char *writer,
			  char out[CONF_PATH_MAX]);
	/* P5: what is kept of that many live bytes is too much? */
	bool (*unbounded)(const struct phstore_stat *st);
};

extern const struct conf_backend *const conf_backends[];

/* conf_ctdb.c */
extern const struct conf_backend conf_ctdb;

#endif /* CONFORMANCE_H */

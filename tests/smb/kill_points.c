/*
 * phstore: end, or stop, a smbd at the n-th point of the store's code
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into smbd by the test of this name. The store's test build
 * calls phstore_test_point_fn between every two steps others can see. Points
 * as well: before and after a lock, a share mode or an open is stored in the
 * volatile database. The file $KILL_POINTS_FILE holds how many more points to
 * live, whose, and the signal to send, SIGKILL if it names none; at the last
 * point the file is removed and the process sends itself that signal.
 */

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* as tdb.h has it */
struct blob {
	unsigned char *data;
	size_t len;
};

const char *tdb_name(void *tdb) __attribute__((weak));
int tdb_storev(void *tdb, struct blob key, const struct blob *bufs,
	       int num_bufs, int flag);
int tdb_delete(void *tdb, struct blob key);

extern void (*phstore_test_point_fn)(const char *name)
	__attribute__((weak));

static void at_point(const char *name)
{
	const char *path = getenv("KILL_POINTS_FILE");
	FILE *f = NULL;
	int left = 0;
	int sig = SIGKILL;
	int pid = 0;
	int n;

	if (path == NULL) {
		return;
	}
	f = fopen(path, "r+");
	if (f == NULL) {
		return;
	}
	n = fscanf(f, "%d %d %d", &left, &pid, &sig);
	if (n >= 2 && pid != getpid()) {
		fclose(f);
		return;
	}
	if (n >= 2 && left > 1) {
		rewind(f);
		fprintf(f, "%-8d", left - 1);
		fclose(f);
		return;
	}
	fclose(f);
	if (unlink(path) != 0) {
		/* the test did, it does not wait for this point */
		return;
	}
	fprintf(stderr, "kill_points: %s\n", name);
	kill(getpid(), sig);
}

static void at_tdb(void *tdb, const char *name)
{
	const char *path = tdb_name != NULL ? tdb_name(tdb) : "";

	if (strstr(path, "/brlock.tdb") != NULL ||
	    strstr(path, "/locking.tdb") != NULL ||
	    strstr(path, "/smbXsrv_open_global.tdb") != NULL)
	{
		at_point(name);
	}
}

int tdb_storev(void *tdb, struct blob key, const struct blob *bufs,
	       int num_bufs, int flag)
{
	static int (*next)(void *, struct blob, const struct blob *, int, int);
	int ret;

	if (next == NULL) {
		*(void **)&next = dlsym(RTLD_NEXT, "tdb_storev");
	}
	at_tdb(tdb, "volatile-store");
	ret = next(tdb, key, bufs, num_bufs, flag);
	at_tdb(tdb, "volatile-stored");
	return ret;
}

int tdb_delete(void *tdb, struct blob key)
{
	static int (*next)(void *, struct blob);
	int ret;

	if (next == NULL) {
		*(void **)&next = dlsym(RTLD_NEXT, "tdb_delete");
	}
	at_tdb(tdb, "volatile-delete");
	ret = next(tdb, key);
	at_tdb(tdb, "volatile-deleted");
	return ret;
}

__attribute__((constructor)) static void begin(void)
{
	if (&phstore_test_point_fn != NULL) {
		phstore_test_point_fn = at_point;
	}
}

/*
 * phstore: end a smbd at the n-th point of the store's code
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into smbd by the test of this name. The store's test build
 * calls phstore_test_point_fn between every two steps others can see. The
 * file $KILL_POINTS_FILE holds how many more points to live, and whose; at
 * the last one the file is removed and the process kills itself.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern void (*phstore_test_point_fn)(const char *name)
	__attribute__((weak));

static void at_point(const char *name)
{
	const char *path = getenv("KILL_POINTS_FILE");
	FILE *f = NULL;
	int left = 0;
	int pid = 0;
	int n;

	if (path == NULL) {
		return;
	}
	f = fopen(path, "r+");
	if (f == NULL) {
		return;
	}
	n = fscanf(f, "%d %d", &left, &pid);
	if (n == 2 && pid != getpid()) {
		fclose(f);
		return;
	}
	if (n == 2 && left > 1) {
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
	kill(getpid(), SIGKILL);
}

__attribute__((constructor)) static void begin(void)
{
	if (&phstore_test_point_fn != NULL) {
		phstore_test_point_fn = at_point;
	}
}

/*
 * phstore: a rename that takes as long as one likes
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into smbd by test_passed_connection: as long as there is a file
 * $HELD_RENAME, nothing is renamed to a name that ends with ".held". The
 * file $HELD_RENAME.is is made when one waits.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAP_US 10000
/* It never waits longer than this many of them. */
#define NAPS 3000

int renameat2(int from_dir, const char *from, int to_dir, const char *to,
	      unsigned int flags)
{
	const char *hold = getenv("HELD_RENAME");
	const char *dot = strrchr(to, '.');
	int i;

	if (hold != NULL && dot != NULL && strcmp(dot, ".held") == 0) {
		char is[4096];

		snprintf(is, sizeof(is), "%s.is", hold);
		close(open(is, O_CREAT | O_WRONLY, 0600));
		for (i = 0; i < NAPS && access(hold, F_OK) == 0; i++) {
			usleep(NAP_US);
		}
	}
	return syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

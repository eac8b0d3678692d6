/*
 * phstore: a smbd-notifyd that is slow to begin
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Preloaded into smbd by test_notifyd_is_late: a process that calls itself
 * "smbd-notifyd" stops for $LATE_NOTIFYD_MS there, and goes on.
 */

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int prctl(int option, ...)
{
	const char *ms = getenv("LATE_NOTIFYD_MS");
	unsigned long arg[4];
	va_list ap;
	int i;

	va_start(ap, option);
	for (i = 0; i < 4; i++) {
		arg[i] = va_arg(ap, unsigned long);
	}
	va_end(ap);
	if (option == PR_SET_NAME && ms != NULL &&
	    strcmp((const char *)arg[0], "smbd-notifyd") == 0)
	{
		usleep(atoi(ms) * 1000);
	}
	return syscall(SYS_prctl, option, arg[0], arg[1], arg[2], arg[3]);
}

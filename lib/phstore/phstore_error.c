/*
 * phstore: error names and texts
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The reason of an error is set where it happens, in a buffer of the thread
 * (the helper threads must not touch the handle's memory).
 */

#include "phstore_private.h"

#include <stdarg.h>
#include <stdio.h>

static __thread char last_error[512];

struct err_text {
	const char *name;
	const char *text;
};

#define ERR(code, text) [PHSTORE_##code] = { "PHSTORE_" #code, text }

static const struct err_text err_texts[] = {
	ERR(OK, "success"),
	ERR(ERR_NOT_FOUND, "no such record"),
	ERR(ERR_CONFLICT, "record has another version than expected"),
	ERR(ERR_STALE, "record has a newer version already"),
	ERR(ERR_INVALID, "invalid argument"),
	ERR(ERR_TOO_BIG, "key, value or transaction too big"),
	ERR(ERR_NO_MEMORY, "out of memory"),
	ERR(ERR_IO, "input/output error"),
	ERR(ERR_FULL, "no space left for the log"),
	ERR(ERR_LATCHED, "store stopped after a failed sync"),
	ERR(ERR_CORRUPT, "store is damaged"),
	ERR(ERR_FOREIGN, "not a phstore"),
	ERR(ERR_NEWER, "store was written by a newer release"),
	ERR(ERR_READ_ONLY, "store is read-only"),
	ERR(ERR_VOLATILE_FS, "store lies on a memory file system"),
	ERR(ERR_NO_STORE, "no store there"),
	ERR(ERR_BUSY, "store is busy"),
	ERR(ERR_TIMEOUT, "not durable in time"),
	ERR(ERR_NOT_SUPPORTED, "not supported by this backend"),
	ERR(ERR_FENCED, "this node has been fenced"),
	ERR(ERR_NOT_READY, "the daemon of the store takes no changes now"),
	ERR(ERR_SINK, "store belongs to another sink"),
};

#define NUM_ERR_TEXTS (sizeof(err_texts) / sizeof(err_texts[0]))

const char *phstore_strerror(enum phstore_err err)
{
	if ((size_t)err >= NUM_ERR_TEXTS) {
		return "unknown error";
	}
	return err_texts[err].text;
}

const char *phstore_errname(enum phstore_err err)
{
	if ((size_t)err >= NUM_ERR_TEXTS) {
		return "PHSTORE_ERR_UNKNOWN";
	}
	return err_texts[err].name;
}

const char *phstore_last_error(void)
{
	return last_error;
}

enum phstore_err phstore_fail(enum phstore_err err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(last_error, sizeof(last_error), fmt, ap);
	va_end(ap);
	return err;
}

void phstore_clear_error(void)
{
	last_error[0] = '\0';
}

void phstore_log(struct phstore *store, int level, const char *fmt, ...)
{
	char msg[512];
	va_list ap;

	if (store->log_fn == NULL || phstore_helper_thread) {
		/* the caller's log function need not be thread-safe */
		return;
	}
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	store->log_fn(store->private_data, level, msg);
}

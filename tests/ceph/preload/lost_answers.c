/*
 * phstore tests: answers of OSDs that never come
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * To be preloaded. Of the batches sent to a shard every sixteenth is told to
 * have timed out, after it was done: whoever sent it does not know, and sends
 * it again. Fences, which are written to full pools as well, arrive.
 */

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include <rados/librados.h>

#define EVERY 16
#define MAX_LOST 64

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static rados_completion_t lost[MAX_LOST];
static unsigned int writes;

int rados_aio_write_op_operate(rados_write_op_t op, rados_ioctx_t io,
			       rados_completion_t completion,
			       const char *oid, time_t *mtime, int flags)
{
	int (*next)(rados_write_op_t, rados_ioctx_t, rados_completion_t,
		    const char *, time_t *, int) =
		dlsym(RTLD_NEXT, "rados_aio_write_op_operate");
	size_t i;

	pthread_mutex_lock(&mutex);
	if (strncmp(oid, "shard.", 6) == 0 && flags == 0 &&
	    ++writes % EVERY == 0)
	{
		for (i = 0; i < MAX_LOST && lost[i] != NULL; i++) {
			continue;
		}
		if (i < MAX_LOST) {
			lost[i] = completion;
		}
	}
	pthread_mutex_unlock(&mutex);
	return next(op, io, completion, oid, mtime, flags);
}

int rados_aio_get_return_value(rados_completion_t completion)
{
	int (*next)(rados_completion_t) =
		dlsym(RTLD_NEXT, "rados_aio_get_return_value");
	int ret = next(completion);
	size_t i;

	pthread_mutex_lock(&mutex);
	for (i = 0; i < MAX_LOST; i++) {
		if (lost[i] == completion) {
			lost[i] = NULL;
			ret = -ETIMEDOUT;
		}
	}
	pthread_mutex_unlock(&mutex);
	return ret;
}

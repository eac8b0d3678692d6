/*
 * phstore: what the shards hold, counted by the class
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The OSDs walk the omap and send five numbers each; without the class all
 * of it would have to be read, so then it is not told. For people: it waits a
 * limited time and gives up.
 */

#include "rados_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "phstore_bytes.h"

#define STATS_LEN 40

struct ask {
	rados_read_op_t op;
	rados_completion_t comp;
	char buf[STATS_LEN];
	size_t used;
	int rval;
};

static int ask_send(struct phr_conn *c, struct ask *a, uint32_t shard)
{
	char oid[PHR_OID_LEN];
	int ret;

	a->op = rados_create_read_op();
	rados_read_op_exec_user_buf(a->op, "phstore", "stats", "", 0, a->buf,
				    sizeof(a->buf), &a->used, &a->rval);
	phr_oid(oid, shard);
	ret = rados_aio_create_completion2(NULL, NULL, &a->comp);
	if (ret != 0) {
		a->comp = NULL;
		return ret;
	}
	return rados_aio_read_op_operate(a->op, c->io, a->comp, oid, 0);
}

/* -ENOENT: nothing was ever put there */
static int ask_take(struct phr_conn *c, struct ask *a, uint64_t until,
		    struct phr_class_stats *st)
{
	const uint8_t *p = (const uint8_t *)a->buf;
	int ret;

	while (!rados_aio_is_complete(a->comp)) {
		struct timespec ts = { .tv_nsec = 200000 };

		if (phstore_now_ns() > until) {
			(void)rados_aio_cancel(c->io, a->comp);
			rados_aio_wait_for_complete(a->comp);
			return -ETIMEDOUT;
		}
		nanosleep(&ts, NULL);
	}
	ret = rados_aio_get_return_value(a->comp);
	ret = ret >= 0 ? a->rval : ret;
	if (ret < 0) {
		return ret == -ENOENT ? 0 : ret;
	}
	if (a->used != STATS_LEN) {
		return -EBADMSG;
	}
	st->records += phstore_pull_u64(p);
	st->tombstones += phstore_pull_u64(p + 8);
	st->bytes += phstore_pull_u64(p + 16);
	st->intents += phstore_pull_u64(p + 24);
	st->writers += phstore_pull_u64(p + 32);
	return 0;
}

enum phstore_err phr_class_stats(struct phr_conn *c, uint32_t timeout_ms,
				 struct phr_class_stats *st)
{
	uint64_t until = phstore_now_ns() + timeout_ms * 1000000ULL;
	uint32_t num = c->super.shards;
	struct ask *list = NULL;
	uint32_t i;
	int err = 0;

	*st = (struct phr_class_stats) {};
	if (!c->has_class) {
		return phstore_fail(PHSTORE_ERR_NOT_SUPPORTED,
				    "rados: counting needs the class");
	}
	list = calloc(num, sizeof(list[0]));
	if (list == NULL) {
		return phr_fail(-ENOMEM, "count", NULL);
	}
	for (i = 0; i < num; i++) {
		int ret = ask_send(c, &list[i], i);

		if (ret != 0 && list[i].comp != NULL) {
			rados_aio_release(list[i].comp);
			list[i].comp = NULL;
		}
		err = err != 0 ? err : ret;
	}
	for (i = 0; i < num; i++) {
		if (list[i].comp != NULL) {
			int ret = ask_take(c, &list[i], until, st);

			rados_aio_release(list[i].comp);
			err = err != 0 ? err : ret;
		}
		rados_release_read_op(list[i].op);
	}
	free(list);
	return err == 0 ? PHSTORE_OK : phr_fail(err, "count", NULL);
}

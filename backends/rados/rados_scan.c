/*
 * phstore: reading from RADOS, and finishing what a dead writer had begun
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A scan asks every shard for a page at once and for its next one as soon as
 * the last has come, while others are still being looked at. It is not a
 * snapshot: each page is as of when it was read. Pages come from the class
 * (which leaves tombstones out) or as plain omap pages.
 */

#include "rados_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "phstore_bytes.h"

#define PAGE_ENTRIES 1000

uint8_t *phr_dup(TALLOC_CTX *mem_ctx, const uint8_t *value, size_t len)
{
	/* also of nothing there is a copy */
	uint8_t *copy = talloc_size(mem_ctx, len > 0 ? len : 1);

	if (copy != NULL && len > 0) {
		memcpy(copy, value, len);
	}
	return copy;
}

enum phstore_err phr_get(struct phr_conn *c, const uint8_t *key,
			 size_t key_len, TALLOC_CTX *mem_ctx,
			 struct phr_record *rec)
{
	rados_read_op_t op = rados_create_read_op();
	rados_omap_iter_t iter = NULL;
	char oid[PHR_OID_LEN];
	const char *k = (const char *)key;
	enum phstore_err err = PHSTORE_OK;
	char *fk = NULL;
	char *fv = NULL;
	uint8_t *copy = NULL;
	size_t fk_len = 0;
	size_t fv_len = 0;
	int ret, rval = 0;
	bool ok;

	phr_oid(oid, phr_shard_of(key, key_len, c->super.shards));
	rados_read_op_omap_get_vals_by_keys2(op, &k, 1, &key_len, &iter,
					     &rval);
	ret = phr_read(c, op, oid);
	if (ret == 0) {
		ret = rval;
	}
	if (ret == 0) {
		ret = rados_omap_get_next2(iter, &fk, &fv, &fk_len, &fv_len);
	}
	if (ret == -ENOENT || (ret == 0 && fk == NULL)) {
		err = PHSTORE_ERR_NOT_FOUND;
		goto done;
	}
	if (ret != 0) {
		err = phr_fail(ret, "read from", oid);
		goto done;
	}
	ok = phr_record_pull((uint8_t *)fv, fv_len, key, key_len, rec);
	if (!ok) {
		err = phstore_fail(PHSTORE_ERR_CORRUPT,
				   "rados: %s: a record is damaged", oid);
		goto done;
	}
	copy = phr_dup(mem_ctx, rec->value, rec->value_len);
	if (copy == NULL) {
		err = phr_fail(-ENOMEM, "read from", oid);
		goto done;
	}
	rec->value = copy;
done:
	if (iter != NULL) {
		rados_omap_get_end(iter);
	}
	rados_release_read_op(op);
	return err;
}

struct cursor {
	uint32_t shard;
	rados_completion_t comp;
	rados_read_op_t op;
	rados_omap_iter_t iter;
	char *buf;			/* page of the class */
	size_t buf_len;
	uint8_t *request;
	char *start;			/* NUL behind it */
	size_t start_len;
	unsigned char more;
	int rval;
	bool with_class;
	bool done;
};

static bool cursor_start(struct cursor *cu, const char *key, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy == NULL) {
		return false;
	}
	memcpy(copy, key, len);
	copy[len] = '\0';
	free(cu->start);
	cu->start = copy;
	cu->start_len = len;
	return true;
}

static int cursor_send(struct phr_conn *c, struct cursor *cu,
		       const char *prefix, size_t prefix_len, bool tombstones)
{
	char oid[PHR_OID_LEN];
	int ret;

	cu->op = rados_create_read_op();
	cu->rval = 0;
	if (cu->with_class) {
		size_t len = 12 + prefix_len + cu->start_len;

		free(cu->request);
		cu->request = calloc(1, len);
		if (cu->request == NULL) {
			rados_release_read_op(cu->op);
			return -ENOMEM;
		}
		phstore_push_u32(cu->request, PAGE_ENTRIES);
		cu->request[4] = tombstones;
		phstore_push_u32(cu->request + 8, prefix_len);
		memcpy(cu->request + 12, prefix, prefix_len);
		memcpy(cu->request + 12 + prefix_len, cu->start,
		       cu->start_len);
		rados_read_op_exec(cu->op, "phstore", "page",
				   (char *)cu->request, len, &cu->buf,
				   &cu->buf_len, &cu->rval);
	} else {
		rados_read_op_omap_get_vals2(cu->op, cu->start, prefix,
					     PAGE_ENTRIES, &cu->iter,
					     &cu->more, &cu->rval);
	}
	phr_oid(oid, cu->shard);
	ret = rados_aio_create_completion2(NULL, NULL, &cu->comp);
	if (ret == 0) {
		ret = rados_aio_read_op_operate(cu->op, c->io, cu->comp, oid,
						0);
		if (ret != 0) {
			rados_aio_release(cu->comp);
		}
	}
	if (ret != 0) {
		cu->comp = NULL;
		rados_release_read_op(cu->op);
	}
	return ret;
}

/* Wait for the page that was asked for. */
static int cursor_wait(struct phr_conn *c, struct cursor *cu)
{
	uint64_t until = phstore_now_ns() + c->conf.timeout_ms * 1000000ULL;
	int ret;

	while (!rados_aio_is_complete(cu->comp)) {
		struct timespec ts = { .tv_nsec = 50000 };

		if (phstore_now_ns() > until) {
			(void)rados_aio_cancel(c->io, cu->comp);
			rados_aio_wait_for_complete(cu->comp);
			break;
		}
		nanosleep(&ts, NULL);
	}
	ret = rados_aio_get_return_value(cu->comp);
	if (ret >= 0) {
		ret = cu->rval;
	}
	rados_aio_release(cu->comp);
	cu->comp = NULL;
	return ret == -ECANCELED ? -ETIMEDOUT : ret;
}

static void cursor_end(struct cursor *cu)
{
	if (cu->iter != NULL) {
		rados_omap_get_end(cu->iter);
		cu->iter = NULL;
	}
	if (cu->buf != NULL) {
		rados_buffer_free(cu->buf);
		cu->buf = NULL;
	}
	if (cu->op != NULL) {
		rados_release_read_op(cu->op);
		cu->op = NULL;
	}
}

static int plain_page(struct cursor *cu, bool tombstones, phr_entry_fn fn,
		      void *private_data)
{
	int ret;

	while (true) {
		char *k = NULL;
		char *v = NULL;
		size_t k_len = 0;
		size_t v_len = 0;
		bool ok;

		ret = rados_omap_get_next2(cu->iter, &k, &v, &k_len, &v_len);
		if (ret != 0 || k == NULL) {
			return ret;
		}
		ok = cursor_start(cu, k, k_len);
		if (!ok) {
			return -ENOMEM;
		}
		if (!tombstones && v_len == PHR_RECORD_HDR &&
		    v[21] == PHR_TOMBSTONE)
		{
			continue;
		}
		ret = fn((uint8_t *)k, k_len, (uint8_t *)v, v_len, cu->shard,
			 private_data);
		if (ret != 0) {
			return 1;
		}
	}
}

static int class_page(struct cursor *cu, phr_entry_fn fn, void *private_data)
{
	const uint8_t *p = (const uint8_t *)cu->buf;
	size_t len = cu->buf_len;
	uint32_t num, last_len;
	bool ok;

	if (len < 12) {
		return -EBADMSG;
	}
	num = phstore_pull_u32(p);
	cu->more = p[4];
	last_len = phstore_pull_u32(p + 8);
	if (last_len > len - 12) {
		return -EBADMSG;
	}
	ok = cursor_start(cu, (const char *)p + 12, last_len);
	if (!ok) {
		return -ENOMEM;
	}
	p += 12 + last_len;
	len -= 12 + last_len;
	for (; num > 0; num--) {
		uint32_t k_len, v_len;
		int ret;

		if (len < 8) {
			return -EBADMSG;
		}
		k_len = phstore_pull_u32(p);
		v_len = phstore_pull_u32(p + 4);
		if (k_len > len - 8 || v_len > len - 8 - k_len) {
			return -EBADMSG;
		}
		ret = fn(p + 8, k_len, p + 8 + k_len, v_len, cu->shard,
			 private_data);
		if (ret != 0) {
			return 1;
		}
		p += 8 + k_len + v_len;
		len -= 8 + k_len + v_len;
	}
	return 0;
}

/* The next page of a shard; 1: the caller's fn wants no more. */
static int cursor_step(struct phr_conn *c, struct cursor *cu,
		       const char *prefix, size_t prefix_len, bool tombstones,
		       phr_entry_fn fn, void *private_data)
{
	int ret = cursor_wait(c, cu);

	if (ret == -ENOENT) {
		cu->done = true;
		cursor_end(cu);
		return 0;
	}
	if (cu->with_class && (ret == -EOPNOTSUPP || ret == -EPERM)) {
		/* an OSD without it: this shard the plain way */
		cu->with_class = false;
		cursor_end(cu);
		return cursor_send(c, cu, prefix, prefix_len, tombstones);
	}
	if (ret == 0) {
		ret = cu->with_class ?
		      class_page(cu, fn, private_data) :
		      plain_page(cu, tombstones, fn, private_data);
	}
	cursor_end(cu);
	if (ret != 0) {
		return ret;
	}
	if (!cu->more) {
		cu->done = true;
		return 0;
	}
	return cursor_send(c, cu, prefix, prefix_len, tombstones);
}

enum phstore_err phr_scan(struct phr_conn *c, const uint8_t *prefix,
			  size_t prefix_len, bool tombstones,
			  phr_entry_fn fn, void *private_data)
{
	uint32_t num = c->super.shards;
	struct cursor *list = calloc(num, sizeof(list[0]));
	char *pre = calloc(1, prefix_len + 1);
	uint32_t left = num;
	uint32_t i;
	int ret = 0;

	if (list == NULL || pre == NULL) {
		free(list);
		free(pre);
		return phr_fail(-ENOMEM, "scan", NULL);
	}
	memcpy(pre, prefix, prefix_len);
	for (i = 0; i < num && ret == 0; i++) {
		list[i].shard = i;
		list[i].with_class = c->has_class;
		if (!cursor_start(&list[i], "", 0)) {
			ret = -ENOMEM;
			break;
		}
		ret = cursor_send(c, &list[i], pre, prefix_len, tombstones);
	}
	while (left > 0 && ret == 0) {
		for (i = 0; i < num && ret == 0; i++) {
			if (list[i].done) {
				continue;
			}
			ret = cursor_step(c, &list[i], pre, prefix_len,
					  tombstones, fn, private_data);
			left -= list[i].done ? 1 : 0;
		}
	}
	for (i = 0; i < num; i++) {
		if (list[i].comp != NULL) {
			(void)rados_aio_cancel(c->io, list[i].comp);
			rados_aio_wait_for_complete(list[i].comp);
			rados_aio_release(list[i].comp);
			cursor_end(&list[i]);
		}
		free(list[i].start);
		free(list[i].request);
	}
	free(list);
	free(pre);
	return ret < 0 ? phr_fail(ret, "scan", NULL) : PHSTORE_OK;
}

/* An intent that was found. */
struct intent {
	struct intent *next;
	uint32_t shard;
	size_t key_len, value_len;
	uint8_t bytes[];
};

static int collect_intent(const uint8_t *key, size_t key_len,
			  const uint8_t *value, size_t value_len,
			  uint32_t shard, void *private_data)
{
	struct intent **list = private_data;
	struct intent *in = malloc(sizeof(*in) + key_len + value_len);

	if (in == NULL) {
		return 0;	/* it stays for the next time */
	}
	*in = (struct intent) {
		.next = *list,
		.shard = shard,
		.key_len = key_len,
		.value_len = value_len,
	};
	memcpy(in->bytes, key, key_len);
	memcpy(in->bytes + key_len, value, value_len);
	*list = in;
	return 0;
}

/* Its records where they are newer than what is stored, then remove it. */
static enum phstore_err intent_complete(struct phr_engine *e,
					struct intent *in)
{
	const uint8_t *buf = in->bytes + in->key_len;
	struct phr_batch_hdr h = {};
	struct phr_txn *t = NULL;
	struct phr_op *op = NULL;
	enum phstore_err err;
	size_t used;
	uint32_t i;

	used = phr_batch_pull(buf, in->value_len, &h);
	for (i = 0; used != 0 && i < h.num_ops; i++) {
		struct phr_batch_op o = {};

		used += phr_batch_op_pull(buf + used, in->value_len - used,
					  &o);
		if (o.kind != PHR_OP_RECORD) {
			continue;
		}
		/* one transaction each: there is nothing to hold together */
		t = phr_txn_make(e);
		op = t == NULL ? NULL :
		     phr_txn_op(t, phr_shard_of(o.key, o.key_len,
						e->conn->super.shards),
				PHR_OP_RECORD, o.key, o.key_len,
				o.value_len);
		if (op == NULL) {
			goto nomem;
		}
		op->check = PHR_CHECK_LENIENT;
		op->use_reserve = true;
		memcpy(op->value, o.value, o.value_len);
		(void)phr_version_pull(o.value, o.value_len, &op->version);
		err = phr_engine_submit(e, t, true, NULL);
		if (err != PHSTORE_OK) {
			phr_txn_free(t);
			return err;
		}
	}
	err = phr_engine_drain(e);
	if (err != PHSTORE_OK) {
		return err;
	}
	if (used == 0) {
		return phstore_fail(PHSTORE_ERR_CORRUPT,
				    "rados: an intent is damaged");
	}
	t = phr_txn_make(e);
	op = t == NULL ? NULL :
	     phr_txn_op(t, in->shard, PHR_OP_REMOVE, in->bytes, in->key_len,
			0);
	if (op == NULL) {
		goto nomem;
	}
	op->use_reserve = true;
	err = phr_engine_submit(e, t, true, NULL);
	if (err != PHSTORE_OK) {
		phr_txn_free(t);
		return err;
	}
	return phr_engine_drain(e);
nomem:
	if (t != NULL) {
		phr_txn_free(t);
	}
	return phr_fail(-ENOMEM, "complete an intent", NULL);
}

enum phstore_err phr_roll_forward(struct phr_engine *e, const char *name)
{
	struct intent *list = NULL;
	struct intent *in = NULL;
	char prefix[PHR_WRITER_MAX + 4];
	enum phstore_err err;
	size_t len = strlen(name);

	memcpy(prefix, "!T", 2);
	memcpy(prefix + 2, name, len);
	prefix[len + 2] = '/';
	err = phr_scan(e->conn, (uint8_t *)prefix, len + 3, true,
		       collect_intent, &list);
	while (list != NULL) {
		in = list;
		list = in->next;
		if (err == PHSTORE_OK) {
			err = intent_complete(e, in);
		}
		if (err == PHSTORE_ERR_CORRUPT) {
			/* kept as it is, told by verify */
			err = PHSTORE_OK;
		}
		free(in);
	}
	return err;
}

/*
 * phstore: one batch, sent and answered
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A batch is one write operation on one shard object, all or nothing by
 * RADOS itself. It goes one of two ways, which check the same things:
 *
 *   class   one call of cls_phstore's "apply" with the batch as bytes
 *   plain   comparisons of omap values, then one omap_set:
 *             "!W" of this writer below (epoch, number of the batch)
 *             "!F", the floor, below the lowest version of the batch
 *             each record: newer: stored < its version; exact: stored
 *             between the expected version and the next one, or nothing
 *           A record's value begins with its version in an order the OSD's
 *           comparison of strings keeps; the stored one is longer than a
 *           version alone, so "below version + 1" means "at most version".
 *
 * "!W" does two things at once: it is the fence (a higher epoch in it refuses
 * everything older), and it recognises a batch that was applied already, when
 * the answer was lost and the batch was sent again: its number is there.
 *
 * A refused batch (ECANCELED) is wholly absent. What is stored is read, each
 * operation is looked at again (evaluate_op), units that can not succeed fail
 * by themselves, the rest is sent as a new batch with a new number. Each
 * round needs another writer to have got in between, so it ends.
 *
 * A batch with an unknown outcome (timeout, connection) is sent again with
 * the *same* number.
 */

#include "rados_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_NS 100000000ULL
#define TRIES_MAX 1000

/* What is stored under a key. */
struct stored {
	bool there;
	bool readable;
	struct phr_version version;
	uint8_t kind;
};

static size_t writer_key(struct phr_conn *c, char key[PHR_WRITER_MAX + 3])
{
	size_t len = strlen(c->writer);

	key[0] = '!';
	key[1] = 'W';
	memcpy(key + 2, c->writer, len + 1);
	return len + 2;
}

static void cmp_below(rados_write_op_t w, const uint8_t *key, size_t key_len,
		      struct phr_version v)
{
	uint8_t buf[PHR_VERSION_LEN];

	phr_version_push(buf, v);
	rados_write_op_omap_cmp2(w, (const char *)key,
				 LIBRADOS_CMPXATTR_OP_LT, (char *)buf,
				 key_len, sizeof(buf), NULL);
}

static void cmp_exact(rados_write_op_t w, const struct phr_op *op)
{
	uint8_t buf[PHR_VERSION_LEN];

	if (op->expected.epoch == 0 && op->expected.seq == 0) {
		rados_write_op_omap_cmp2(w, (char *)op->key,
					 LIBRADOS_CMPXATTR_OP_EQ, "",
					 op->key_len, 0, NULL);
		return;
	}
	phr_version_push(buf, op->expected);
	rados_write_op_omap_cmp2(w, (char *)op->key, LIBRADOS_CMPXATTR_OP_GT,
				 (char *)buf, op->key_len, sizeof(buf), NULL);
	cmp_below(w, op->key, op->key_len, phr_version_next(op->expected));
}

/* The floor only grows. */
static bool is_floor(const struct phr_op *op)
{
	return op->key_len == 2 && memcmp(op->key, "!F", 2) == 0;
}

static void plain_checks(rados_write_op_t w, struct phr_batch *b,
			 struct phr_version me)
{
	struct phr_conn *c = b->shard->engine->conn;
	struct phr_version low = { .epoch = UINT64_MAX, .seq = UINT64_MAX };
	char key[PHR_WRITER_MAX + 3];
	struct phr_unit *u = NULL;
	struct phr_op *op = NULL;
	size_t len = writer_key(c, key);
	bool any = false;

	cmp_below(w, (uint8_t *)key, len, me);
	for (u = b->units; u != NULL; u = u->next) {
		for (op = u->ops; op != NULL; op = op->next) {
			if (op->kind == PHR_OP_PRUNE ||
			    op->check == PHR_CHECK_EXACT)
			{
				cmp_exact(w, op);
				continue;
			}
			if (op->kind == PHR_OP_SET && is_floor(op)) {
				struct phr_version v = {};

				(void)phr_version_pull(op->value,
						       op->value_len, &v);
				cmp_below(w, op->key, op->key_len, v);
			}
			if (op->kind != PHR_OP_RECORD) {
				continue;
			}
			cmp_below(w, op->key, op->key_len, op->version);
			if (phr_version_cmp(op->version, low) < 0) {
				low = op->version;
			}
			any = true;
		}
	}
	if (any) {
		cmp_below(w, (const uint8_t *)"!F", 2, low);
	}
}

static int plain_build(struct phr_batch *b, rados_write_op_t w)
{
	struct phr_conn *c = b->shard->engine->conn;
	struct phr_version me = { .epoch = c->epoch, .seq = b->number };
	char wkey[PHR_WRITER_MAX + 3];
	uint8_t wval[PHR_VERSION_LEN];
	size_t max = b->num_ops + 1;
	const char **keys = NULL;
	const char **vals = NULL;
	size_t *lens = NULL;
	struct phr_unit *u = NULL;
	struct phr_op *op = NULL;
	size_t set = 0;
	size_t del = 0;

	keys = calloc(4 * max, sizeof(keys[0]));
	lens = calloc(3 * max, sizeof(lens[0]));
	if (keys == NULL || lens == NULL) {
		free(keys);
		free(lens);
		return -ENOMEM;
	}
	vals = keys + max;
	rados_write_op_create(w, LIBRADOS_CREATE_IDEMPOTENT, NULL);
	plain_checks(w, b, me);

	phr_version_push(wval, me);
	keys[0] = wkey;
	lens[0] = writer_key(c, wkey);
	vals[0] = (const char *)wval;
	lens[max] = sizeof(wval);
	set = 1;
	for (u = b->units; u != NULL; u = u->next) {
		for (op = u->ops; op != NULL; op = op->next) {
			if (op->kind == PHR_OP_PRUNE ||
			    op->kind == PHR_OP_REMOVE)
			{
				keys[2 * max + del] = (char *)op->key;
				lens[2 * max + del] = op->key_len;
				del += 1;
				continue;
			}
			keys[set] = (char *)op->key;
			lens[set] = op->key_len;
			vals[set] = (char *)op->value;
			lens[max + set] = op->value_len;
			set += 1;
		}
	}
	rados_write_op_omap_set2(w, keys, vals, lens, lens + max, set);
	if (del > 0) {
		rados_write_op_omap_rm_keys2(w, keys + 2 * max,
					     lens + 2 * max, del);
	}
	free(keys);
	free(lens);
	return 0;
}

static int class_build(struct phr_batch *b, rados_write_op_t w)
{
	struct phr_conn *c = b->shard->engine->conn;
	struct phr_batch_hdr h = {
		.epoch = c->epoch,
		.batch = b->number,
		.num_ops = b->num_ops,
		.writer = c->writer,
		.writer_len = strlen(c->writer),
	};
	size_t len = phr_batch_hdr_len(&h) +
		     b->num_ops * PHR_OP_HDR + b->bytes;
	struct phr_unit *u = NULL;
	struct phr_op *op = NULL;
	size_t used = 0;

	free(b->request);
	b->request = malloc(len);
	if (b->request == NULL) {
		return -ENOMEM;
	}
	used = phr_batch_hdr_push(b->request, &h);
	for (u = b->units; u != NULL; u = u->next) {
		for (op = u->ops; op != NULL; op = op->next) {
			struct phr_batch_op o = {
				.kind = op->kind,
				.check = op->check,
				.key = op->key,
				.key_len = op->key_len,
				.value = op->value,
				.value_len = op->value_len,
				.expected = op->expected,
			};

			used += phr_batch_op_push(b->request + used, &o);
		}
	}
	phr_batch_seal(b->request, used);
	rados_write_op_exec(w, "phstore", "apply", (char *)b->request, used,
			    NULL);
	return 0;
}

static bool batch_uses_reserve(struct phr_batch *b)
{
	struct phr_unit *u = NULL;
	struct phr_op *op = NULL;

	for (u = b->units; u != NULL; u = u->next) {
		for (op = u->ops; op != NULL; op = op->next) {
			if (!op->use_reserve) {
				return false;
			}
		}
	}
	return true;
}

static void batch_answered(rados_completion_t c, void *arg);
static void batch_read(rados_completion_t c, void *arg);

/* Under the lock: later, with the same number. */
static void batch_later(struct phr_batch *b)
{
	b->retry_ns = phstore_now_ns() + RETRY_NS;
}

void phr_batch_send(struct phr_batch *b)
{
	struct phr_shard *s = b->shard;
	struct phr_engine *e = s->engine;
	int flags = 0;
	int ret;

	b->with_class = e->conn->has_class;
	b->start_ns = b->start_ns != 0 ? b->start_ns : phstore_now_ns();
	if (batch_uses_reserve(b)) {
		flags = LIBRADOS_OPERATION_FULL_FORCE;
	}
	b->wop = rados_create_write_op();
	ret = b->with_class ? class_build(b, b->wop) : plain_build(b, b->wop);
	if (ret == 0) {
		ret = rados_aio_create_completion2(b, batch_answered,
						   &b->completion);
	}
	if (ret == 0) {
		e->callbacks += 1;
		ret = rados_aio_write_op_operate(b->wop, e->conn->io,
						 b->completion, s->oid, NULL,
						 flags);
		if (ret != 0) {
			e->callbacks -= 1;
			rados_aio_release(b->completion);
			b->completion = NULL;
		}
	}
	if (ret != 0) {
		rados_release_write_op(b->wop);
		b->wop = NULL;
		batch_later(b);
	}
}

static void batch_applied(struct phr_batch *b)
{
	struct phr_engine *e = b->shard->engine;
	uint64_t took = phstore_now_ns() - b->start_ns;
	struct phr_unit *u = b->units;
	unsigned acked = 0;

	e->avg_ns = e->avg_ns == 0 ? took : (7 * e->avg_ns + took) / 8;
	e->stat.num_batches += 1;
	e->stat.num_batched += b->num_ops;
	e->stat.op_ns_total += took;
	if (took > e->stat.op_ns_max) {
		e->stat.op_ns_max = took;
	}
	while (u != NULL) {
		struct phr_unit *next = u->next;

		acked += u->txn->lsn != 0 || u->txn->done_fn != NULL ? 1 : 0;
		phr_unit_done(u);
		u = next;
	}
	/* one alone does not wait for itself */
	e->returning = acked > 1 ? acked : 0;
	phr_batch_done(b);
}

/* Read what is stored of all that the batch is about. */
static void batch_look(struct phr_batch *b)
{
	struct phr_shard *s = b->shard;
	struct phr_engine *e = s->engine;
	char wkey[PHR_WRITER_MAX + 3];
	struct phr_unit *u = NULL;
	struct phr_op *op = NULL;
	const char **keys = NULL;
	size_t *lens = NULL;
	size_t n = 2;
	int ret = -ENOMEM;

	e->stat.num_refused += 1;
	b->tries += 1;
	keys = calloc(b->num_ops + 2, sizeof(keys[0]));
	lens = calloc(b->num_ops + 2, sizeof(lens[0]));
	if (keys == NULL || lens == NULL) {
		goto done;
	}
	keys[0] = wkey;
	lens[0] = writer_key(e->conn, wkey);
	keys[1] = "!F";
	lens[1] = 2;
	for (u = b->units; u != NULL; u = u->next) {
		for (op = u->ops; op != NULL; op = op->next) {
			keys[n] = (char *)op->key;
			lens[n] = op->key_len;
			n += 1;
		}
	}
	b->iter = NULL;
	b->rop = rados_create_read_op();
	rados_read_op_omap_get_vals_by_keys2(b->rop, keys, n, lens, &b->iter,
					     &b->read_ret);
	ret = rados_aio_create_completion2(b, batch_read, &b->completion);
	if (ret == 0) {
		e->callbacks += 1;
		ret = rados_aio_read_op_operate(b->rop, e->conn->io,
						b->completion, s->oid, 0);
		if (ret != 0) {
			e->callbacks -= 1;
			rados_aio_release(b->completion);
			b->completion = NULL;
		}
	}
done:
	if (ret != 0) {
		if (b->rop != NULL) {
			rados_release_read_op(b->rop);
			b->rop = NULL;
		}
		/* sent again it is refused again, and then looked at */
		batch_later(b);
	}
	free(keys);
	free(lens);
}

static void batch_answered(rados_completion_t c, void *arg)
{
	struct phr_batch *b = arg;
	struct phr_engine *e = b->shard->engine;
	int ret = rados_aio_get_return_value(c);

	pthread_mutex_lock(&e->mutex);
	rados_aio_release(c);
	b->completion = NULL;
	rados_release_write_op(b->wop);
	b->wop = NULL;
	e->callbacks -= 1;
	if (e->stop) {
		pthread_cond_broadcast(&e->cond);
		goto out;
	}
	switch (-ret) {
	case 0:
		batch_applied(b);
		break;
	case ECANCELED:
	case EIO:
		batch_look(b);
		break;
	case ESTALE:
	case ESHUTDOWN:
		phr_engine_latch(e, PHSTORE_ERR_FENCED, -ret,
				 "this writer was fenced");
		break;
	case EOPNOTSUPP:
	case EBADMSG:
		if (!b->with_class) {
			phr_engine_latch(e, PHSTORE_ERR_IO, -ret, "write");
			break;
		}
		/* this OSD has another class or none: the plain way does */
		e->conn->has_class = false;
		e->stat.has_class = false;
		phr_batch_send(b);
		break;
	case ENOSPC:
	case EDQUOT:
		e->full = true;
		e->stat.full = true;
		batch_later(b);
		pthread_cond_broadcast(&e->cond);
		break;
	case EAGAIN:
	case EBUSY:
	case EINTR:
	case ENOMEM:
	case ENOTCONN:
	case ETIMEDOUT:
		batch_later(b);
		break;
	default:
		phr_engine_latch(e, PHSTORE_ERR_IO, -ret, "write");
		break;
	}
out:
	pthread_mutex_unlock(&e->mutex);
}

struct entry {
	const char *key;
	size_t key_len;
	struct stored stored;
};

static int key_cmp(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int ret = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (ret == 0 && a_len != b_len) {
		ret = a_len < b_len ? -1 : 1;
	}
	return ret;
}

/* They come sorted by bytes. */
static struct stored find(const struct entry *list, size_t num,
			  const void *key, size_t key_len)
{
	size_t low = 0;
	size_t high = num;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int ret = key_cmp(list[mid].key, list[mid].key_len,
				  key, key_len);

		if (ret == 0) {
			return list[mid].stored;
		}
		if (ret < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return (struct stored) {};
}

static size_t entries_make(rados_omap_iter_t iter, struct entry *list,
			   size_t max)
{
	size_t n = 0;

	while (n < max) {
		char *k = NULL;
		char *v = NULL;
		size_t k_len = 0;
		size_t v_len = 0;
		int ret;

		ret = rados_omap_get_next2(iter, &k, &v, &k_len, &v_len);
		if (ret != 0 || k == NULL) {
			break;
		}
		list[n].key = k;
		list[n].key_len = k_len;
		list[n].stored = (struct stored) { .there = true };
		list[n].stored.readable = phr_version_pull(
			(uint8_t *)v, v_len, &list[n].stored.version);
		if (v_len >= PHR_RECORD_HDR) {
			list[n].stored.kind = v[21];
		}
		n += 1;
	}
	return n;
}

enum verdict {
	KEEP,
	DROP,		/* is there already, or not wanted */
	CONFLICT,
	STALE,
	DAMAGED,
};

static void raise_version(struct phr_engine *e, struct phr_op *op,
			  struct phr_version above)
{
	op->version = phr_version_next(above);
	phr_record_set_version(op->value, op->value_len, op->key,
			       op->key_len, op->version);
	e->stat.num_raised += 1;
}

static enum verdict evaluate_op(struct phr_engine *e, struct phr_op *op,
				struct stored s, struct phr_version floor)
{
	struct phr_version base = s.there ? s.version : floor;
	int cmp;

	if (s.there && !s.readable) {
		return DAMAGED;
	}
	switch (op->kind) {
	case PHR_OP_SET:
		if (is_floor(op)) {
			struct phr_version v = {};

			(void)phr_version_pull(op->value, op->value_len, &v);
			return phr_version_cmp(v, floor) > 0 ? KEEP : DROP;
		}
		return KEEP;
	case PHR_OP_REMOVE:
		return KEEP;
	case PHR_OP_PRUNE:
		if (s.there && s.kind == PHR_TOMBSTONE &&
		    phr_version_cmp(s.version, op->expected) == 0)
		{
			return KEEP;
		}
		return DROP;
	case PHR_OP_RECORD:
		break;
	}
	if (op->below_floor) {
		/* that was our own doing, begin anew */
		op->below_floor = false;
		op->check = op->auto_version ? PHR_CHECK_NEWER :
					       PHR_CHECK_LENIENT;
		op->expected = (struct phr_version) {};
	}
	if (op->check == PHR_CHECK_EXACT) {
		if (phr_version_cmp(s.version, op->expected) != 0) {
			return CONFLICT;
		}
		if (!s.there && phr_version_cmp(op->version, floor) <= 0) {
			raise_version(e, op, floor);
		}
		return KEEP;
	}
	cmp = phr_version_cmp(op->version, base);
	if (cmp <= 0 && op->auto_version) {
		raise_version(e, op, base);
		cmp = 1;
	}
	if (cmp > 0 && s.there && phr_version_cmp(op->version, floor) <= 0) {
		/* the plain way compares all of a batch with the floor */
		op->below_floor = true;
		op->check = PHR_CHECK_EXACT;
		op->expected = s.version;
	}
	if (cmp > 0) {
		return KEEP;
	}
	if (op->check == PHR_CHECK_LENIENT || (cmp == 0 && s.there)) {
		return DROP;
	}
	return STALE;
}

/* One unit: 0 it stays in the batch, 1 it is dealt with. */
static int evaluate_unit(struct phr_engine *e, struct phr_unit *u,
			 const struct entry *list, size_t num,
			 struct phr_version floor)
{
	static const enum phstore_err errs[] = {
		[CONFLICT] = PHSTORE_ERR_CONFLICT,
		[STALE] = PHSTORE_ERR_STALE,
		[DAMAGED] = PHSTORE_ERR_CORRUPT,
	};
	struct phr_op **p = &u->ops;
	enum verdict worst = KEEP;
	struct phr_op *dropped = NULL;

	while (*p != NULL) {
		struct phr_op *op = *p;
		enum verdict v;

		v = evaluate_op(e, op, find(list, num, op->key, op->key_len),
				floor);
		if (v > DROP && v > worst) {
			worst = v;
		}
		if (v == DROP) {
			*p = op->next;
			op->next = dropped;
			dropped = op;
			u->num_ops -= 1;
			u->bytes -= op->key_len + op->value_len;
			continue;
		}
		p = &op->next;
	}
	u->ops_end = p;
	if (worst != KEEP) {
		/* back into the unit: it takes them out of the overlay */
		*p = dropped;
		phr_unit_failed(u, errs[worst]);
		return 1;
	}
	if (u->ops == NULL) {
		u->ops = dropped;
		phr_unit_done(u);
		return 1;
	}
	/* not sent any more, but owned by the unit to the end */
	*p = NULL;
	if (dropped != NULL) {
		struct phr_op *last = dropped;

		while (last->next != NULL) {
			last = last->next;
		}
		last->next = u->txn->dropped;
		u->txn->dropped = dropped;
	}
	return 0;
}

static void batch_evaluate(struct phr_batch *b, const struct entry *list,
			   size_t num)
{
	struct phr_shard *s = b->shard;
	struct phr_engine *e = s->engine;
	struct phr_conn *c = e->conn;
	char wkey[PHR_WRITER_MAX + 3];
	size_t wlen = writer_key(c, wkey);
	struct stored w = find(list, num, wkey, wlen);
	struct stored f = find(list, num, "!F", 2);
	struct phr_unit **p = &b->units;

	if (w.there && w.version.epoch > c->epoch) {
		phr_engine_latch(e, PHSTORE_ERR_FENCED, ESTALE,
				 "this writer was fenced");
		return;
	}
	if (w.there && w.version.epoch == c->epoch &&
	    w.version.seq >= b->number)
	{
		/* the first sending was applied, its answer got lost */
		batch_applied(b);
		return;
	}
	if (b->tries > TRIES_MAX) {
		phr_engine_latch(e, PHSTORE_ERR_IO, EDEADLK,
				 "a batch is refused again and again");
		return;
	}
	while (*p != NULL) {
		struct phr_unit *u = *p;
		struct phr_unit *next = u->next;
		unsigned ops = u->num_ops;
		size_t bytes = u->bytes;
		int gone;

		gone = evaluate_unit(e, u, list, num, f.version);
		b->num_ops -= ops;
		b->bytes -= bytes;
		if (gone) {
			*p = next;
			continue;
		}
		b->num_ops += u->num_ops;
		b->bytes += u->bytes;
		p = &u->next;
	}
	if (b->units == NULL) {
		phr_batch_done(b);
		return;
	}
	b->number = s->next_batch;
	s->next_batch += 1;
	phr_batch_send(b);
}

static void batch_read(rados_completion_t c, void *arg)
{
	struct phr_batch *b = arg;
	struct phr_engine *e = b->shard->engine;
	int ret = rados_aio_get_return_value(c);
	struct entry *list = NULL;
	rados_omap_iter_t iter = NULL;
	rados_read_op_t rop = NULL;
	size_t num = 0;

	pthread_mutex_lock(&e->mutex);
	rados_aio_release(c);
	/* the batch may be gone or on its way again below */
	iter = b->iter;
	rop = b->rop;
	b->iter = NULL;
	b->rop = NULL;
	b->completion = NULL;
	e->callbacks -= 1;
	if (e->stop) {
		pthread_cond_broadcast(&e->cond);
		goto out;
	}
	list = calloc(b->num_ops + 2, sizeof(list[0]));
	if (ret == 0 && b->read_ret == 0 && list != NULL) {
		num = entries_make(iter, list, b->num_ops + 2);
	}
	if (list == NULL || (ret != 0 && ret != -ENOENT)) {
		if (ret == -ESHUTDOWN) {
			phr_engine_latch(e, PHSTORE_ERR_FENCED, -ret,
					 "this client was blocked");
		} else if (b->tries > TRIES_MAX) {
			phr_engine_latch(e, PHSTORE_ERR_IO, -ret, "read");
		} else {
			batch_later(b);
		}
		goto out;
	}
	batch_evaluate(b, list, num);
out:
	if (iter != NULL) {
		rados_omap_get_end(iter);
	}
	rados_release_read_op(rop);
	free(list);
	pthread_mutex_unlock(&e->mutex);
}

/*
 * phstore: several nodes on one store: which epoch is it, and who is in it
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What the nodes agree on stands in the omap of "meta", so that it can be
 * changed by compare-and-set, also together with the writers' entries:
 *
 *   "view"      the last attempt to form an epoch, and whether it began
 *   "j/NN"      what node NN has to say to it; only node NN writes it
 *
 * The rules are in backends/phstored/phd_rados_group.c.
 *
 * Bytes, little-endian: u32 CRC-32 of what follows, u8 version (1), then
 *   view: u8 state, u8 leader, u8 0, u64 members, u64 epoch, u64 the
 *         last one that began before it, u64 generation of ctdb
 *   join: u8 phase, u16 0, u64 epoch, u64 beat
 */

#include "rados_private.h"
#include "rados_group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "phstore_bytes.h"

#define JOIN_LEN 24

static bool check(const uint8_t *buf, size_t len, size_t want)
{
	return len == want && buf[4] == 1 &&
	       phstore_pull_u32(buf) == phstore_crc32(0, buf + 4, len - 4);
}

static void view_push(uint8_t buf[PHR_VIEW_LEN], const struct phr_view *v)
{
	memset(buf, 0, PHR_VIEW_LEN);
	buf[4] = 1;
	buf[5] = v->state;
	buf[6] = v->leader;
	phstore_push_u64(buf + 8, v->members);
	phstore_push_u64(buf + 16, v->epoch);
	phstore_push_u64(buf + 24, v->prev);
	phstore_push_u64(buf + 32, v->generation);
	phstore_push_u32(buf, phstore_crc32(0, buf + 4, PHR_VIEW_LEN - 4));
}

static bool view_pull(const uint8_t *buf, size_t len, struct phr_view *v)
{
	if (!check(buf, len, PHR_VIEW_LEN)) {
		return false;
	}
	v->state = buf[5];
	v->leader = buf[6];
	v->members = phstore_pull_u64(buf + 8);
	v->epoch = phstore_pull_u64(buf + 16);
	v->prev = phstore_pull_u64(buf + 24);
	v->generation = phstore_pull_u64(buf + 32);
	return true;
}

static bool join_pull(const uint8_t *buf, size_t len, struct phr_join *j)
{
	if (!check(buf, len, JOIN_LEN)) {
		return false;
	}
	j->phase = buf[5];
	j->epoch = phstore_pull_u64(buf + 8);
	j->beat = phstore_pull_u64(buf + 16);
	return true;
}

struct phr_group_read {
	rados_read_op_t op;
	rados_omap_iter_t view, joins;
	rados_completion_t comp;
	unsigned char more;
	int rview, rjoins;
};

/* A librados thread. */
static void ask_done(rados_completion_t comp, void *arg)
{
	uint64_t one = 1;
	ssize_t n;

	(void)comp;
	n = write((int)(intptr_t)arg, &one, sizeof(one));
	(void)n;
}

struct phr_group_read *phr_group_ask(struct phr_conn *c, int efd)
{
	struct phr_group_read *g = calloc(1, sizeof(*g));
	const char *key = "view";
	size_t len = strlen(key);
	int ret;

	if (g == NULL) {
		return NULL;
	}
	g->op = rados_create_read_op();
	rados_read_op_omap_get_vals_by_keys2(g->op, &key, 1, &len, &g->view,
					     &g->rview);
	rados_read_op_omap_get_vals2(g->op, "", "j/", PHSTORE_NODES_MAX,
				     &g->joins, &g->more, &g->rjoins);
	ret = rados_aio_create_completion2((void *)(intptr_t)efd, ask_done,
					   &g->comp);
	if (ret == 0) {
		ret = rados_aio_read_op_operate(g->op, c->io, g->comp,
						PHR_META_OID, 0);
		if (ret != 0) {
			rados_aio_release(g->comp);
		}
	}
	if (ret != 0) {
		rados_release_read_op(g->op);
		free(g);
		return NULL;
	}
	return g;
}

bool phr_group_is_there(struct phr_group_read *g)
{
	return rados_aio_is_complete(g->comp);
}

static int take_view(struct phr_group_read *g, struct phr_group *group)
{
	char *k = NULL;
	char *v = NULL;
	size_t k_len = 0;
	size_t v_len = 0;
	int ret;

	ret = rados_omap_get_next2(g->view, &k, &v, &k_len, &v_len);
	if (ret != 0 || k == NULL) {
		return ret;
	}
	if (v_len > sizeof(group->raw) ||
	    !view_pull((uint8_t *)v, v_len, &group->view))
	{
		return -EBADMSG;
	}
	memcpy(group->raw, v, v_len);
	group->raw_len = v_len;
	return 0;
}

static int take_joins(struct phr_group_read *g, struct phr_group *group)
{
	while (true) {
		char *k = NULL;
		char *v = NULL;
		size_t k_len = 0;
		size_t v_len = 0;
		char name[8] = {};
		unsigned long node;
		int ret;

		ret = rados_omap_get_next2(g->joins, &k, &v, &k_len, &v_len);
		if (ret != 0 || k == NULL) {
			return ret;
		}
		if (k_len < 3 || k_len - 2 >= sizeof(name)) {
			continue;
		}
		memcpy(name, k + 2, k_len - 2);
		node = strtoul(name, NULL, 10);
		if (node < PHSTORE_NODES_MAX) {
			/* one that can not be read: as if not there */
			(void)join_pull((uint8_t *)v, v_len,
					&group->joins[node]);
		}
	}
}

enum phstore_err phr_group_take(struct phr_conn *c, struct phr_group_read *g,
				struct phr_group *group)
{
	int ret;

	(void)c;
	*group = (struct phr_group) {};
	ret = rados_aio_get_return_value(g->comp);
	ret = ret == 0 ? g->rview : ret;
	ret = ret == 0 ? g->rjoins : ret;
	if (ret == 0) {
		ret = take_view(g, group);
	}
	if (ret == 0) {
		ret = take_joins(g, group);
	}
	if (g->view != NULL) {
		rados_omap_get_end(g->view);
	}
	if (g->joins != NULL) {
		rados_omap_get_end(g->joins);
	}
	rados_aio_release(g->comp);
	rados_release_read_op(g->op);
	free(g);
	if (ret == -EBADMSG) {
		return phstore_fail(PHSTORE_ERR_CORRUPT, "rados: the view "
				    "in \"meta\" is damaged");
	}
	return ret == 0 ? PHSTORE_OK : phr_fail(ret, "read", PHR_META_OID);
}

void phr_group_forget(struct phr_conn *c, struct phr_group_read *g)
{
	struct phr_group group;

	if (!rados_aio_is_complete(g->comp)) {
		(void)rados_aio_cancel(c->io, g->comp);
		rados_aio_wait_for_complete(g->comp);
	}
	(void)phr_group_take(c, g, &group);
}

static void join_push(uint8_t buf[JOIN_LEN], const struct phr_join *j)
{
	memset(buf, 0, JOIN_LEN);
	buf[4] = 1;
	buf[5] = j->phase;
	phstore_push_u64(buf + 8, j->epoch);
	phstore_push_u64(buf + 16, j->beat);
	phstore_push_u32(buf, phstore_crc32(0, buf + 4, JOIN_LEN - 4));
}

enum phstore_err phr_group_join(struct phr_conn *c, uint8_t node,
				const struct phr_join *j)
{
	uint8_t buf[JOIN_LEN];
	char key[8];
	int ret;

	join_push(buf, j);
	snprintf(key, sizeof(key), "j/%02u", node % PHSTORE_NODES_MAX);
	ret = phr_meta_set_if(c, key, 0, NULL, 0, buf, sizeof(buf));
	return ret == 0 ? PHSTORE_OK : phr_fail(ret, "write", key);
}

static void beat_done(rados_completion_t comp, void *arg)
{
	rados_aio_release(comp);
	rados_release_write_op(arg);
}

/* One behind the other: they are written to one object. */
void phr_group_beat(struct phr_conn *c, uint8_t node,
		    const struct phr_join *j)
{
	rados_write_op_t op = rados_create_write_op();
	rados_completion_t comp = NULL;
	uint8_t buf[JOIN_LEN];
	char key[8];
	const char *k = key;
	const char *v = (const char *)buf;
	size_t k_len;
	size_t v_len = sizeof(buf);
	int ret;

	join_push(buf, j);
	snprintf(key, sizeof(key), "j/%02u", node % PHSTORE_NODES_MAX);
	k_len = strlen(key);
	rados_write_op_omap_set2(op, &k, &v, &k_len, &v_len, 1);
	ret = rados_aio_create_completion2(op, beat_done, &comp);
	if (ret != 0) {
		rados_release_write_op(op);
		return;
	}
	ret = rados_aio_write_op_operate(op, c->io, comp, PHR_META_OID, NULL,
					 LIBRADOS_OPERATION_FULL_FORCE);
	if (ret != 0) {
		beat_done(comp, op);
	}
}

/* A writer's name as a node's; -1: it is not one. */
static int node_of(const char *name)
{
	char *end = NULL;
	unsigned long n;

	if (strncmp(name, "node-", 5) != 0 || name[5] == '\0') {
		return -1;
	}
	n = strtoul(name + 5, &end, 10);
	return *end == '\0' && n < PHSTORE_NODES_MAX ? (int)n : -1;
}

enum phstore_err phr_group_others(struct phr_conn *c, uint64_t members,
				  uint64_t *alive)
{
	struct phr_member_list *list = NULL;
	enum phstore_err err;
	size_t num = 0;
	size_t i;

	*alive = 0;
	err = phr_members(c, NULL, &list, &num);
	for (i = 0; i < num && err == PHSTORE_OK; i++) {
		int n = node_of(list[i].name);

		if (n >= 0 && !(members & phstore_node_bit(n)) &&
		    list[i].state == PHR_MEMBER_LIVE)
		{
			*alive |= phstore_node_bit(n);
		}
	}
	talloc_free(list);
	return err;
}

enum phstore_err phr_group_fence(struct phr_conn *c, struct phr_engine *e,
				 uint64_t members, bool block)
{
	enum phstore_err err;
	uint64_t alive = 0;
	unsigned n;

	err = phr_group_others(c, members, &alive);
	for (n = 0; n < PHSTORE_NODES_MAX && err == PHSTORE_OK; n++) {
		char name[16];

		if (!(alive & phstore_node_bit(n))) {
			continue;
		}
		snprintf(name, sizeof(name), "node-%u", n);
		err = phr_conn_fence(c, name, block);
		if (err == PHSTORE_OK) {
			err = phr_roll_forward(e, name);
		}
	}
	return err;
}

/*
 * One operation on one object: the view is what it was, and each node that
 * is left out is still fenced, or was never there.
 */
enum phstore_err phr_group_set(struct phr_conn *c,
			       const struct phr_group *old,
			       const struct phr_view *v, bool *lost)
{
	rados_write_op_t op = rados_create_write_op();
	struct phr_member_list *list = NULL;
	enum phstore_err err = PHSTORE_OK;
	uint8_t buf[PHR_VIEW_LEN];
	const char *key = "view";
	const char *val = (const char *)buf;
	size_t key_len = strlen(key);
	size_t val_len = sizeof(buf);
	size_t num = 0;
	size_t i;
	int ret;

	*lost = false;
	view_push(buf, v);
	rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
	rados_write_op_omap_cmp2(op, key, LIBRADOS_CMPXATTR_OP_EQ,
				 (const char *)old->raw, key_len,
				 old->raw_len, NULL);
	if (v->state == PHR_VIEW_ACTIVE) {
		err = phr_members(c, NULL, &list, &num);
	}
	for (i = 0; i < num && err == PHSTORE_OK; i++) {
		int n = node_of(list[i].name);
		char name[PHR_WRITER_MAX + 3];

		if (n < 0 || (v->members & phstore_node_bit(n))) {
			continue;
		}
		*lost = *lost || list[i].state == PHR_MEMBER_LIVE;
		snprintf(name, sizeof(name), "w/%s", list[i].name);
		rados_write_op_omap_cmp2(op, name, LIBRADOS_CMPXATTR_OP_EQ,
					 (const char *)list[i].raw,
					 strlen(name), list[i].raw_len,
					 NULL);
	}
	if (err == PHSTORE_OK && !*lost) {
		rados_write_op_omap_set2(op, &key, &val, &key_len, &val_len,
					 1);
		ret = phr_write(c, op, PHR_META_OID,
				LIBRADOS_OPERATION_FULL_FORCE);
		*lost = ret == -ECANCELED;
		if (ret < 0 && !*lost) {
			err = phr_fail(ret, "write the view", NULL);
		}
	}
	rados_release_write_op(op);
	talloc_free(list);
	return err;
}

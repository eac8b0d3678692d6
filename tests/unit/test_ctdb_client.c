/*
 * phstore unit test: the client of ctdbd, against a ctdbd made here
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fears: a packet comes back other than it went; a length that lies is
 * believed; an answer reaches the wrong request, or none is ever told that
 * the connection is gone; after ctdbd's restart nobody listens any more; a
 * queue without end; a callback that frees the client.
 *
 * The ctdbd is a socket and a few lines in the same event loop: it answers
 * the five questions of a look, echoes messages to whoever registered, keeps
 * quiet for opcode QUIET and answers garbage on demand.
 */

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/ctdb/client/ctdb_wire.h"

#define QUIET		9999
#define ECHO		9998
#define SRVID		(PHCTDB_SRVID_BASE | 0x77)

struct fake {
	struct tevent_context *ev;
	char path[64];
	int listener;
	int fd;
	struct tevent_fd *fde_listen, *fde;
	uint8_t in[1 << 20];
	size_t in_len;
	bool registered;
	uint32_t generation;
	uint32_t recmode;
	bool deaf;		/* does not read */
};

struct events {
	char text[256];
	int messages;
	size_t last_len;
	struct phctdb **free_on_message;
};

static void fake_write(struct fake *f, const void *data, size_t len)
{
	ssize_t n = send(f->fd, data, len, MSG_NOSIGNAL);

	assert_int_equal(n, len);
}

static void fake_reply(struct fake *f, uint32_t reqid, int32_t status,
		       const void *data, size_t len)
{
	struct phctdb_wire_hdr hdr = { .reqid = reqid };
	struct phctdb_wire_reply r = {
		.status = status,
		.data = { .data = data, .len = len },
	};
	uint8_t *buf = phctdb_wire_reply_push(NULL, &hdr,
					      PHCTDB_OP_REPLY_CONTROL, &r);

	fake_write(f, buf, hdr.length);
	talloc_free(buf);
}

static void fake_control(struct fake *f, const struct phctdb_wire_hdr *hdr,
			 const struct phctdb_wire_control *k)
{
	uint32_t vnnmap[4] = { f->generation, 2, 0, 1 };
	uint32_t nodemap[1 + 2 * 9] = { 2, 0, 0 };
	uint32_t run = PHCTDB_RUN_RUNNING;

	nodemap[10] = 1;
	switch (k->opcode) {
	case PHCTDB_CONTROL_REGISTER_SRVID:
		f->registered = f->registered || k->srvid == SRVID;
		break;
	case PHCTDB_CONTROL_GET_PNN:
		fake_reply(f, hdr->reqid, 1, NULL, 0);
		break;
	case PHCTDB_CONTROL_GET_RUNSTATE:
		fake_reply(f, hdr->reqid, 0, &run, sizeof(run));
		break;
	case PHCTDB_CONTROL_GET_NODEMAP:
		fake_reply(f, hdr->reqid, 0, nodemap, sizeof(nodemap));
		break;
	case PHCTDB_CONTROL_GETVNNMAP:
		fake_reply(f, hdr->reqid, 0, vnnmap, sizeof(vnnmap));
		break;
	case PHCTDB_CONTROL_GET_RECMODE:
		fake_reply(f, hdr->reqid, (int32_t)f->recmode, NULL, 0);
		break;
	case ECHO:
		fake_reply(f, hdr->reqid, 7, k->data.data, k->data.len);
		break;
	default:
		break;
	}
}

static void fake_read(struct tevent_context *ev, struct tevent_fd *fde,
		      uint16_t flags, void *private_data)
{
	struct fake *f = private_data;
	size_t pos = 0;
	ssize_t n;

	(void)ev;
	(void)fde;
	(void)flags;
	if (f->deaf) {
		return;
	}
	n = recv(f->fd, f->in + f->in_len, sizeof(f->in) - f->in_len, 0);
	if (n <= 0) {
		TALLOC_FREE(f->fde);
		close(f->fd);
		f->fd = -1;
		return;
	}
	f->in_len += (size_t)n;
	while (f->in_len - pos >= PHCTDB_HDR_SIZE) {
		struct phctdb_wire_hdr hdr;
		struct phctdb_wire_control k;
		uint32_t len;
		int ret;

		memcpy(&len, f->in + pos, 4);
		assert_true(len <= sizeof(f->in));
		if (len > f->in_len - pos) {
			break;
		}
		ret = phctdb_wire_hdr_pull(f->in + pos, len, &hdr);
		assert_int_equal(ret, 0);
		if (hdr.operation == PHCTDB_OP_CONTROL) {
			ret = phctdb_wire_control_pull(f->in + pos, len, &k);
			assert_int_equal(ret, 0);
			fake_control(f, &hdr, &k);
		} else if (hdr.operation == PHCTDB_OP_MESSAGE &&
			   f->registered) {
			fake_write(f, f->in + pos, len);
		}
		if (f->fd == -1) {
			return;
		}
		pos += len;
	}
	memmove(f->in, f->in + pos, f->in_len - pos);
	f->in_len -= pos;
}

static void fake_accept(struct tevent_context *ev, struct tevent_fd *fde,
			uint16_t flags, void *private_data)
{
	struct fake *f = private_data;

	(void)fde;
	(void)flags;
	assert_int_equal(f->fd, -1);
	f->fd = accept(f->listener, NULL, NULL);
	f->in_len = 0;
	f->registered = false;
	f->fde = tevent_add_fd(ev, f, f->fd, TEVENT_FD_READ, fake_read, f);
}

static void fake_stop(struct fake *f)
{
	TALLOC_FREE(f->fde);
	TALLOC_FREE(f->fde_listen);
	if (f->fd != -1) {
		close(f->fd);
		f->fd = -1;
	}
	if (f->listener != -1) {
		close(f->listener);
		unlink(f->path);
		f->listener = -1;
	}
}

static void fake_start(struct fake *f)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int ret;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	ret = bind(f->listener, (struct sockaddr *)&addr, sizeof(addr));
	assert_int_equal(ret, 0);
	ret = listen(f->listener, 5);
	assert_int_equal(ret, 0);
	f->fde_listen = tevent_add_fd(f->ev, f, f->listener, TEVENT_FD_READ,
				      fake_accept, f);
}

static int fake_destructor(struct fake *f)
{
	fake_stop(f);
	return 0;
}

static struct fake *fake_create(TALLOC_CTX *mem_ctx, struct tevent_context *ev)
{
	struct fake *f = talloc_zero(mem_ctx, struct fake);

	f->ev = ev;
	f->fd = -1;
	f->listener = -1;
	f->generation = 1000;
	snprintf(f->path, sizeof(f->path), "/tmp/test_ctdb_client.%d.sock",
		 (int)getpid());
	unlink(f->path);
	talloc_set_destructor(f, fake_destructor);
	fake_start(f);
	return f;
}

static void on_event(struct phctdb *c, enum phctdb_event ev,
		     const struct phctdb_state *state, void *private_data)
{
	static const char *name[] = {
		"?", "up ", "down ", "nodes ", "recovery ", "generation ",
		"addresses ", "poke ",
	};
	struct events *e = private_data;

	(void)c;
	assert_int_equal(state->up, ev != PHCTDB_EV_DOWN);
	strncat(e->text, name[ev], sizeof(e->text) - strlen(e->text) - 1);
}

static void on_message(struct phctdb *c, uint64_t srvid, const uint8_t *data,
		       size_t len, void *private_data)
{
	struct events *e = private_data;

	assert_true(srvid == SRVID);
	assert_true(len == 0 || data[0] == 'm');
	e->messages++;
	e->last_len = len;
	if (e->free_on_message != NULL) {
		assert_ptr_equal(*e->free_on_message, c);
		TALLOC_FREE(*e->free_on_message);
	}
}

static struct phctdb *client(TALLOC_CTX *mem_ctx, struct tevent_context *ev,
			     struct fake *f, struct events *e)
{
	struct phctdb_options opt = {
		.socket = f->path,
		.event_fn = on_event,
		.private_data = e,
		.poll_ms = 20,
		.backoff_min_ms = 5,
		.backoff_max_ms = 40,
		.request_ms = 300,
		.max_packet = 512 * 1024,
		.max_queue = 1024 * 1024,
		.max_requests = 200,
	};
	struct phctdb *c = phctdb_create(mem_ctx, ev, &opt);
	int ret;

	assert_non_null(c);
	ret = phctdb_listen(c, SRVID, on_message, e);
	assert_int_equal(ret, 0);
	return c;
}

static void timer_done(struct tevent_context *ev, struct tevent_timer *te,
		       struct timeval now, void *private_data)
{
	bool *over = private_data;

	(void)ev;
	(void)te;
	(void)now;
	*over = true;
}

/* Run the loop until the text of events begins with want, at most 3 s */
static void run_until(struct tevent_context *ev, struct events *e,
		      const char *want)
{
	bool over = false;
	struct tevent_timer *te = tevent_add_timer(
		ev, ev, tevent_timeval_current_ofs(3, 0), timer_done, &over);

	while (!over && strncmp(e->text, want, strlen(want)) != 0) {
		tevent_loop_once(ev);
	}
	if (over) {
		fail_msg("events are '%s', not '%s'", e->text, want);
	}
	talloc_free(te);
}

static void run_ms(struct tevent_context *ev, int ms)
{
	bool over = false;

	tevent_add_timer(ev, ev, tevent_timeval_current_ofs(0, ms * 1000),
			 timer_done, &over);
	while (!over) {
		tevent_loop_once(ev);
	}
}

struct fixture {
	struct tevent_context *ev;
	struct fake *f;
	struct events *e;
	struct phctdb *c;
};

static int setup(void **state)
{
	struct fixture *x = talloc_zero(NULL, struct fixture);

	x->ev = tevent_context_init(x);
	x->f = fake_create(x, x->ev);
	x->e = talloc_zero(x, struct events);
	x->c = client(x, x->ev, x->f, x->e);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	TALLOC_FREE(x->c);
	talloc_free(x);
	return 0;
}

static void every_packet_survives_its_round_trip(void **state)
{
	struct phctdb_wire_hdr hdr = { .dest = 3, .reqid = 77 };
	struct phctdb_wire_hdr back;
	struct phctdb_wire_message m;
	struct phctdb_wire_control k = {
		.opcode = 5, .srvid = 1ULL << 63 | 9, .flags = 2,
		.data = { .data = (const uint8_t *)"data", .len = 4 },
	};
	struct phctdb_wire_control k2;
	struct phctdb_wire_call l = {
		.flags = 1, .db_id = 8, .function = PHCTDB_CALL_NULL,
		.key = { .data = (const uint8_t *)"key", .len = 3 },
		.data = { .data = (const uint8_t *)"x", .len = 1 },
	};
	struct phctdb_wire_call l2;
	struct phctdb_wire_reply r = {
		.status = -5,
		.data = { .data = (const uint8_t *)"dd", .len = 2 },
		.text = { .data = (const uint8_t *)"why", .len = 3 },
	};
	struct phctdb_wire_reply r2;
	struct phctdb_header h = { 1ULL << 40, 2, 3, 4 }, h2;
	struct iovec iov[2] = {
		{ .iov_base = (void *)"ab", .iov_len = 2 },
		{ .iov_base = (void *)"cde", .iov_len = 3 },
	};
	uint8_t head[PHCTDB_HEADER_SIZE];
	uint8_t *p = NULL;
	size_t cut;

	(void)state;
	p = phctdb_wire_message_push(NULL, &hdr, 12345, iov, 2);
	assert_int_equal(phctdb_wire_hdr_pull(p, hdr.length, &back), 0);
	assert_int_equal(back.reqid, 77);
	assert_int_equal(back.dest, 3);
	assert_int_equal(phctdb_wire_message_pull(p, hdr.length, &m), 0);
	assert_true(m.srvid == 12345 && m.data.len == 5);
	assert_memory_equal(m.data.data, "abcde", 5);
	for (cut = 0; cut < hdr.length; cut++) {
		assert_int_equal(phctdb_wire_message_pull(p, cut, &m), EINVAL);
		assert_int_equal(phctdb_wire_hdr_pull(p, cut, &back), EINVAL);
	}
	talloc_free(p);

	p = phctdb_wire_control_push(NULL, &hdr, &k);
	assert_int_equal(phctdb_wire_control_pull(p, hdr.length, &k2), 0);
	assert_true(k2.opcode == 5 && k2.srvid == k.srvid && k2.flags == 2);
	assert_memory_equal(k2.data.data, "data", 4);
	for (cut = 0; cut < hdr.length; cut++) {
		assert_int_equal(phctdb_wire_control_pull(p, cut, &k2),
				 EINVAL);
	}
	talloc_free(p);

	p = phctdb_wire_call_push(NULL, &hdr, &l);
	assert_int_equal(phctdb_wire_call_pull(p, hdr.length, &l2), 0);
	assert_true(l2.db_id == 8 && l2.key.len == 3 && l2.data.len == 1);
	assert_memory_equal(l2.key.data, "key", 3);
	for (cut = 0; cut < hdr.length; cut++) {
		assert_int_equal(phctdb_wire_call_pull(p, cut, &l2), EINVAL);
	}
	talloc_free(p);

	p = phctdb_wire_reply_push(NULL, &hdr, PHCTDB_OP_REPLY_CONTROL, &r);
	assert_int_equal(phctdb_wire_reply_pull(p, hdr.length, &r2), 0);
	assert_true(r2.status == -5 && r2.data.len == 2 && r2.text.len == 3);
	assert_memory_equal(r2.text.data, "why", 3);
	for (cut = 0; cut < hdr.length; cut++) {
		assert_int_equal(phctdb_wire_reply_pull(p, cut, &r2), EINVAL);
	}
	talloc_free(p);

	phctdb_header_push(&h, head);
	assert_int_equal(phctdb_header_pull(head, sizeof(head), &h2), 0);
	assert_true(h2.rsn == h.rsn && h2.dmaster == 2 && h2.reserved == 3 &&
		    h2.flags == 4);
	assert_int_equal(phctdb_header_pull(head, sizeof(head) - 1, &h2),
			 EINVAL);
}

static void a_map_with_a_lying_count_is_refused(void **state)
{
	struct phctdb_node *nodes = NULL;
	uint32_t vnn[3] = { 7, 2, 0 };
	uint32_t map[10] = { 1, 5, 2 };
	uint32_t *list = NULL;
	uint32_t num = 0;
	uint32_t generation;

	(void)state;
	assert_int_equal(phctdb_nodemap_pull(NULL, (uint8_t *)map, 40, &nodes,
					     &num), 0);
	assert_true(num == 1 && nodes[0].pnn == 5 && nodes[0].flags == 2);
	TALLOC_FREE(nodes);
	map[0] = 2;
	assert_int_equal(phctdb_nodemap_pull(NULL, (uint8_t *)map, 40, &nodes,
					     &num), EINVAL);
	map[0] = UINT32_MAX;
	assert_int_equal(phctdb_nodemap_pull(NULL, (uint8_t *)map, 40, &nodes,
					     &num), EINVAL);
	assert_int_equal(phctdb_vnnmap_pull(NULL, (uint8_t *)vnn, 12,
					    &generation, &list, &num), EINVAL);
	vnn[1] = 1;
	assert_int_equal(phctdb_vnnmap_pull(NULL, (uint8_t *)vnn, 12,
					    &generation, &list, &num), 0);
	assert_true(generation == 7 && num == 1 && list[0] == 0);
	talloc_free(list);
}

static void the_state_is_known_and_changes_are_told(void **state)
{
	struct fixture *x = *state;
	const struct phctdb_state *s = phctdb_state(x->c);

	assert_false(s->up);
	run_until(x->ev, x->e, "up ");
	assert_true(s->up && s->pnn == 1 && s->generation == 1000);
	assert_true(s->num_nodes == 2 && s->nodes[1].pnn == 1);
	assert_true(s->num_active == 2 && s->runstate == PHCTDB_RUN_RUNNING);
	x->f->recmode = 1;
	run_until(x->ev, x->e, "up recovery ");
	assert_true(s->recovering);
	x->f->generation = 1001;
	x->f->recmode = 0;
	run_until(x->ev, x->e, "up recovery generation ");
	/* one that nobody saw begin */
	x->f->generation = 1002;
	run_until(x->ev, x->e,
		  "up recovery generation recovery generation ");
}

static void after_a_restart_it_listens_again(void **state)
{
	struct fixture *x = *state;
	struct iovec iov = { .iov_base = (void *)"m12", .iov_len = 3 };
	int ret;

	run_until(x->ev, x->e, "up ");
	ret = phctdb_message(x->c, 0, SRVID, &iov, 1);
	assert_int_equal(ret, 0);
	run_ms(x->ev, 30);
	assert_int_equal(x->e->messages, 1);
	assert_int_equal(x->e->last_len, 3);
	fake_stop(x->f);
	run_until(x->ev, x->e, "up down ");
	ret = phctdb_message(x->c, 0, SRVID, &iov, 1);
	assert_int_equal(ret, ENOTCONN);
	run_ms(x->ev, 100);
	fake_start(x->f);
	run_until(x->ev, x->e, "up down up ");
	ret = phctdb_message(x->c, 0, SRVID, &iov, 1);
	assert_int_equal(ret, 0);
	run_ms(x->ev, 30);
	assert_int_equal(x->e->messages, 2);
}

struct outcome {
	int done, refused, ret;
	int32_t status;
};

static void on_reply(struct tevent_req *req)
{
	struct outcome *o = tevent_req_callback_data_void(req);
	uint8_t *data = NULL;
	size_t len = 0;

	o->ret = phctdb_control_recv(req, NULL, &o->status, &data, &len, NULL);
	o->done++;
	o->refused += (o->ret == ENOBUFS);
	talloc_free(data);
	talloc_free(req);
}

static void ask(struct fixture *x, uint32_t opcode, struct outcome *o)
{
	struct tevent_req *req = phctdb_control_send(
		x, x->ev, x->c, PHCTDB_THIS_NODE, opcode, 0, 0, "abc", 3);

	assert_non_null(req);
	tevent_req_set_callback(req, on_reply, o);
}

static void each_request_ends_in_its_own_way(void **state)
{
	struct fixture *x = *state;
	struct outcome quiet = {}, echo = {}, lost = {}, late = {};

	ask(x, ECHO, &late);
	run_ms(x->ev, 1);
	assert_true(late.done == 1 && late.ret == ENOTCONN);
	run_until(x->ev, x->e, "up ");
	ask(x, QUIET, &quiet);
	ask(x, ECHO, &echo);
	run_ms(x->ev, 50);
	assert_true(echo.done == 1 && echo.ret == 0 && echo.status == 7);
	assert_int_equal(quiet.done, 0);
	run_ms(x->ev, 400);
	assert_true(quiet.done == 1 && quiet.ret == ETIMEDOUT);
	ask(x, QUIET, &lost);
	fake_stop(x->f);
	run_until(x->ev, x->e, "up down ");
	assert_true(lost.done == 1 && lost.ret == ENOTCONN);
}

static void queue_and_requests_are_bounded(void **state)
{
	struct fixture *x = *state;
	static char big[100 * 1024] = "m";
	struct iovec iov = { .iov_base = big, .iov_len = sizeof(big) };
	struct outcome o = {};
	int queued = 0;
	int ret = 0;
	int i;

	run_until(x->ev, x->e, "up ");
	for (i = 0; i < 300; i++) {
		ask(x, QUIET, &o);
	}
	run_ms(x->ev, 50);
	assert_in_range(o.refused, 95, 105);
	x->f->deaf = true;
	while (ret == 0 && queued < 1000) {
		ret = phctdb_message(x->c, 0, SRVID, &iov, 1);
		queued++;
	}
	assert_int_equal(ret, ENOBUFS);
	assert_true(phctdb_queued(x->c) <= 1024 * 1024);
	iov.iov_len = SIZE_MAX;
	ret = phctdb_message(x->c, 0, SRVID, &iov, 1);
	assert_int_equal(ret, EMSGSIZE);
}

static void garbage_ends_the_connection(void **state)
{
	struct fixture *x = *state;
	struct phctdb_wire_hdr hdr = {};
	struct phctdb_counters count;
	struct iovec iov = { .iov_base = (void *)"m", .iov_len = 1 };
	uint32_t huge[16] = { 600 * 1024 };
	uint32_t small[16] = { 12 };
	uint8_t *p = NULL;

	run_until(x->ev, x->e, "up ");
	/* the answer to a request nobody made, and an unknown operation */
	fake_reply(x->f, 0x12340001, 0, NULL, 0);
	p = phctdb_wire_message_push(NULL, &hdr, SRVID, &iov, 1);
	p[16] = 99;
	fake_write(x->f, p, hdr.length);
	run_ms(x->ev, 30);
	assert_string_equal(x->e->text, "up ");
	phctdb_get_counters(x->c, &count);
	assert_int_equal(count.dropped_in, 2);

	fake_write(x->f, huge, sizeof(huge));
	run_until(x->ev, x->e, "up down up ");
	fake_write(x->f, small, sizeof(small));
	run_until(x->ev, x->e, "up down up down up ");
	/* a message that claims more than its packet has */
	p[16] = PHCTDB_OP_MESSAGE;
	p[40] = 2;
	fake_write(x->f, p, hdr.length);
	run_until(x->ev, x->e, "up down up down up down up ");
	assert_int_equal(x->e->messages, 0);
	p[4] ^= 1;
	p[40] = 1;
	fake_write(x->f, p, hdr.length);
	run_until(x->ev, x->e, "up down up down up down up down up ");
	assert_int_equal(x->e->messages, 0);
	talloc_free(p);
}

static void packets_in_pieces_are_put_together(void **state)
{
	struct fixture *x = *state;
	static uint8_t big[300 * 1024];
	struct phctdb_wire_hdr hdr = {};
	struct iovec iov = { .iov_base = big, .iov_len = sizeof(big) };
	uint8_t *p = NULL;
	size_t i;

	big[0] = 'm';
	run_until(x->ev, x->e, "up ");
	p = phctdb_wire_message_push(NULL, &hdr, SRVID, &iov, 1);
	for (i = 0; i < 50; i++) {
		fake_write(x->f, p + i, 1);
		tevent_loop_once(x->ev);
	}
	for (; i < hdr.length; i += 10000) {
		size_t n = hdr.length - i;

		fake_write(x->f, p + i, n < 10000 ? n : 10000);
		run_ms(x->ev, 1);
	}
	run_ms(x->ev, 20);
	assert_int_equal(x->e->messages, 1);
	assert_int_equal(x->e->last_len, sizeof(big));
	talloc_free(p);
}

static void a_callback_may_free_the_client(void **state)
{
	struct fixture *x = *state;
	struct phctdb_wire_hdr hdr = {};
	struct iovec iov = { .iov_base = (void *)"m", .iov_len = 1 };
	uint8_t *p = NULL;

	run_until(x->ev, x->e, "up ");
	x->e->free_on_message = &x->c;
	p = phctdb_wire_message_push(NULL, &hdr, SRVID, &iov, 1);
	fake_write(x->f, p, hdr.length);
	fake_write(x->f, p, hdr.length);
	run_ms(x->ev, 30);
	assert_int_equal(x->e->messages, 1);
	assert_null(x->c);
	talloc_free(p);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_packet_survives_its_round_trip),
		cmocka_unit_test(a_map_with_a_lying_count_is_refused),
		T(the_state_is_known_and_changes_are_told),
		T(after_a_restart_it_listens_again),
		T(each_request_ends_in_its_own_way),
		T(queue_and_requests_are_bounded),
		T(garbage_ends_the_connection),
		T(packets_in_pieces_are_put_together),
		T(a_callback_may_free_the_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * phstore: what waits to be written to a link between daemons
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What it fears: a link whose other end reads as fast as we send, but never
 * all of it, needs more memory with each message, for ever; or what makes
 * room for the next message takes bytes that nobody has read yet.
 *
 * Seen to fail with a queue that begins again at its front only when it is
 * empty, and with one that then forgets to move what waits.
 */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "backends/phstored/phd_hello.c"
#include "backends/phstored/phd_link.c"

#define LEN 65521U		/* of a message; odd, as sizes are */
#define FRAME (PHD_FRAME_HDR + LEN)
#define WAITING (16 * FRAME)	/* kept in the queue */
#define ROUNDS 1000U
/* The queue of a link that holds that much, at most. */
#define BOUND (5 * (WAITING + FRAME))

struct fixture {
	struct phd phd;
	struct phd_net net;
	struct phd_links *l;
	struct outbound *o;
	int peer;
	uint64_t sent, got;	/* messages, bytes */
};

void phd_log(int level, const char *fmt, ...)
{
	(void)level;
	(void)fmt;
}

/* A link to node 1 that is up; its other end is ours. */
static int setup(void **state)
{
	struct fixture *f = talloc_zero(NULL, struct fixture);
	int size = 2 * FRAME;
	int sv[2];
	int ret;

	ret = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv);
	assert_int_equal(ret, 0);
	ret = setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_int_equal(ret, 0);
	f->phd.ev = tevent_context_init(f);
	f->net.phd = &f->phd;
	f->peer = sv[1];
	f->l = talloc_zero(f, struct phd_links);
	f->l->net = &f->net;
	f->o = &f->l->out[1];
	f->o->l = f->l;
	f->o->node = 1;
	f->o->fd = sv[0];
	f->o->state = LINK_UP;
	f->o->fde = tevent_add_fd(f->phd.ev, f->l, sv[0], TEVENT_FD_READ,
				  out_handler, f->o);
	assert_non_null(f->o->fde);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	out_close(f->o, "");
	close(f->peer);
	talloc_free(f);
	return 0;
}

static uint8_t byte_of(uint64_t message, uint64_t i)
{
	return (uint8_t)(message * 31 + i * 7 + i / 256);
}

static void send_one(struct fixture *f)
{
	uint8_t *buf = talloc_array(f, uint8_t, LEN);
	size_t i;
	bool ok;

	for (i = 0; i < LEN; i++) {
		buf[i] = byte_of(f->sent, i);
	}
	ok = phd_links_send(f->l, 1, buf, LEN);
	assert_true(ok);
	f->sent += 1;
	talloc_free(buf);
}

/* Read that much at the other end, where each byte must be the next one. */
static void read_some(struct fixture *f, size_t want)
{
	uint8_t *buf = talloc_array(f, uint8_t, FRAME);
	uint8_t hdr[PHD_FRAME_HDR];

	phd_frame_push(hdr, LEN);
	while (want > 0) {
		size_t max = want < FRAME ? want : FRAME;
		ssize_t n = recv(f->peer, buf, max, MSG_DONTWAIT);
		ssize_t i;

		if (n == -1 && errno == EAGAIN) {
			/* as the loop does when the socket has room */
			assert_int_not_equal(f->o->queued, 0);
			out_write(f->o);
			continue;
		}
		assert_true(n > 0);
		for (i = 0; i < n; i++, f->got++) {
			uint64_t at = f->got % FRAME;
			uint8_t next = at < PHD_FRAME_HDR ? hdr[at] :
				byte_of(f->got / FRAME, at - PHD_FRAME_HDR);

			if (buf[i] != next) {
				fail_msg("byte %" PRIu64 " is another one",
					 f->got);
			}
		}
		want -= (size_t)n;
	}
	talloc_free(buf);
}

static void test_never_empty(void **state)
{
	struct fixture *f = *state;
	size_t i;

	while (f->o->queued - f->o->written < WAITING) {
		send_one(f);
	}
	for (i = 0; i < ROUNDS; i++) {
		send_one(f);
		read_some(f, FRAME);
		out_write(f->o);
		assert_int_equal(f->o->state, LINK_UP);
		assert_int_not_equal(f->o->queued, 0);
		if (talloc_get_size(f->o->queue) > BOUND) {
			fail_msg("%zu messages that were read later, for %u "
				 "that wait there are %zu bytes", i,
				 WAITING / FRAME,
				 talloc_get_size(f->o->queue));
		}
	}
	/* and when it gets to its end after all */
	read_some(f, (size_t)(f->sent * FRAME - f->got));
	out_write(f->o);
	assert_int_equal(f->o->queued, 0);
	assert_null(f->o->queue);
	send_one(f);
	read_some(f, FRAME);
}

/* Who does not read at all costs so much, and what is more is lost. */
static void test_not_read(void **state)
{
	struct fixture *f = *state;
	uint64_t taken;
	size_t i;

	for (i = 0; i < 2 * QUEUE_MAX / FRAME; i++) {
		send_one(f);
	}
	assert_int_equal(f->o->state, LINK_UP);
	assert_in_range(f->o->queued, QUEUE_MAX - FRAME, QUEUE_MAX + FRAME);
	assert_in_range(talloc_get_size(f->o->queue), 0, 2 * QUEUE_MAX + LEN);
	/* what went before is whole */
	while (f->o->queued > 0) {
		read_some(f, FRAME);
		out_write(f->o);
	}
	taken = f->got / FRAME;
	assert_in_range(taken, QUEUE_MAX / FRAME - 1, f->sent - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_never_empty, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_not_read, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

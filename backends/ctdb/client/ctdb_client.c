/*
 * phstore ctdb backend: the connection to ctdbd
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A packet is written at once if nothing waits before it, else from the event
 * loop, many with one writev(). Whatever makes the connection useless ends in
 * phctdb_broken(), which leaves the taking apart to the event loop: so no
 * call of ours calls back. After that all requests fail, the state is down,
 * and a timer connects again, with a pause that doubles up to a limit and is
 * small again once a connection was of use.
 */

#include "ctdb_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_SIZE	(64 * 1024)
#define WRITE_PACKETS	64
/* packets handled before other events of the loop have their turn */
#define READ_ROUNDS	8

static void client_retry(struct tevent_context *ev, struct tevent_timer *te,
			 struct timeval now, void *private_data);
static void client_fd(struct tevent_context *ev, struct tevent_fd *fde,
		      uint16_t flags, void *private_data);
static void client_down(struct tevent_context *ev,
			struct tevent_immediate *im, void *private_data);
static void client_write(struct phctdb *c);
static void client_read(struct phctdb *c);
static bool client_packet(struct phctdb *c, const uint8_t *buf, size_t len);

void phctdb_log(struct phctdb *c, int level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (c->opt.log_fn == NULL) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->opt.log_fn(c->opt.private_data, level, text);
}

static void client_close(struct phctdb *c)
{
	TALLOC_FREE(c->fde);
	if (c->fd != -1) {
		close(c->fd);
		c->fd = -1;
	}
	while (c->out != NULL) {
		struct phctdb_packet *p = c->out;

		c->out = p->next;
		talloc_free(p);
	}
	c->out_last = NULL;
	c->out_bytes = 0;
	c->in_len = 0;
	/* not while one reads from it whose answer found ctdbd gone */
	if (c->in_size > READ_SIZE && c->gone == NULL) {
		TALLOC_FREE(c->in);
		c->in_size = 0;
	}
}

static int client_destructor(struct phctdb *c)
{
	if (c->gone != NULL) {
		*c->gone = true;
	}
	phctdb_request_forget_all(c);
	client_close(c);
	return 0;
}

static void client_plan(struct phctdb *c, uint32_t ms)
{
	TALLOC_FREE(c->retry);
	c->retry = tevent_add_timer(c->ev, c,
				    tevent_timeval_current_ofs(
					    ms / 1000, ms % 1000 * 1000),
				    client_retry, c);
	if (c->retry == NULL) {
		phctdb_log(c, 3, "ctdb: no memory to plan a reconnect");
	}
}

struct phctdb *phctdb_create(TALLOC_CTX *mem_ctx, struct tevent_context *ev,
			     const struct phctdb_options *options)
{
	struct phctdb *c = talloc_zero(mem_ctx, struct phctdb);
	struct phctdb_options *opt = NULL;
	struct sockaddr_un addr;

	if (c == NULL) {
		return NULL;
	}
	c->ev = ev;
	c->fd = -1;
	c->opt = *options;
	opt = &c->opt;
	if (opt->socket == NULL) {
		opt->socket = "/run/ctdb/ctdbd.socket";
	}
	opt->socket = talloc_strdup(c, opt->socket);
	opt->poll_ms = opt->poll_ms ? opt->poll_ms : 250;
	opt->backoff_min_ms = opt->backoff_min_ms ? opt->backoff_min_ms : 50;
	opt->backoff_max_ms = opt->backoff_max_ms ? opt->backoff_max_ms : 2000;
	opt->request_ms = opt->request_ms ? opt->request_ms : 30000;
	opt->max_packet = opt->max_packet ? opt->max_packet : 64 << 20;
	opt->max_queue = opt->max_queue ? opt->max_queue : 64 << 20;
	opt->max_requests = opt->max_requests ? opt->max_requests : 16384;
	c->backoff_ms = opt->backoff_min_ms;
	c->im = tevent_create_immediate(c);
	if (opt->socket == NULL || c->im == NULL ||
	    strlen(opt->socket) >= sizeof(addr.sun_path)) {
		talloc_free(c);
		return NULL;
	}
	talloc_set_destructor(c, client_destructor);
	client_plan(c, 0);
	if (c->retry == NULL) {
		talloc_free(c);
		return NULL;
	}
	return c;
}

const struct phctdb_state *phctdb_state(const struct phctdb *c)
{
	return &c->state;
}

void phctdb_get_counters(const struct phctdb *c, struct phctdb_counters *out)
{
	*out = c->count;
}

size_t phctdb_queued(const struct phctdb *c)
{
	return c->out_bytes;
}

/* -- connecting -------------------------------------------------------- */

static int client_connect(struct phctdb *c)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int ret;

	memcpy(addr.sun_path, c->opt.socket, strlen(c->opt.socket) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		       0);
	if (c->fd == -1) {
		return errno;
	}
	/* On a Unix socket this is done or refused at once. */
	ret = connect(c->fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret != 0) {
		return errno;
	}
	c->fde = tevent_add_fd(c->ev, c, c->fd, TEVENT_FD_READ, client_fd, c);
	return c->fde == NULL ? ENOMEM : 0;
}

static int client_register(struct phctdb *c, uint64_t srvid, bool on)
{
	struct phctdb_wire_hdr hdr = { .dest = PHCTDB_THIS_NODE };
	struct phctdb_wire_control in = {
		.opcode = on ? PHCTDB_CONTROL_REGISTER_SRVID
			     : PHCTDB_CONTROL_DEREGISTER_SRVID,
		.srvid = srvid,
		.flags = PHCTDB_CONTROL_NOREPLY,
	};

	return phctdb_queue(c, phctdb_wire_control_push(c, &hdr, &in));
}

static void client_retry(struct tevent_context *ev, struct tevent_timer *te,
			 struct timeval now, void *private_data)
{
	struct phctdb *c = talloc_get_type_abort(private_data, struct phctdb);
	static const uint64_t ours[] = {
		PHCTDB_SRVID_RECONFIGURE, PHCTDB_SRVID_IPREALLOCATED,
		PHCTDB_SRVID_POKE,
	};
	struct phctdb_listener *l = NULL;
	size_t i;
	int ret;

	(void)ev;
	(void)te;
	(void)now;
	c->retry = NULL;
	ret = client_connect(c);
	if (ret != 0) {
		phctdb_log(c, 6, "ctdb: %s: %s", c->opt.socket, strerror(ret));
		client_close(c);
		c->backoff_ms *= 2;
		if (c->backoff_ms > c->opt.backoff_max_ms) {
			c->backoff_ms = c->opt.backoff_max_ms;
		}
		client_plan(c, c->backoff_ms);
		return;
	}
	c->count.connects++;
	for (i = 0; ret == 0 && i < sizeof(ours) / sizeof(ours[0]); i++) {
		ret = client_register(c, ours[i], true);
	}
	for (l = c->listeners; ret == 0 && l != NULL; l = l->next) {
		ret = client_register(c, l->srvid, true);
	}
	if (ret != 0) {
		phctdb_broken(c, strerror(ret));
		return;
	}
	phctdb_state_connected(c);
}

void phctdb_broken(struct phctdb *c, const char *why)
{
	if (c->fd == -1) {
		return;
	}
	phctdb_log(c, 4, "ctdb: connection given up: %s", why);
	client_close(c);
	tevent_schedule_immediate(c->im, c->ev, client_down, c);
}

static void client_down(struct tevent_context *ev,
			struct tevent_immediate *im, void *private_data)
{
	struct phctdb *c = talloc_get_type_abort(private_data, struct phctdb);
	bool was_up = c->state.up;
	bool ok;

	(void)ev;
	(void)im;
	if (was_up) {
		c->backoff_ms = c->opt.backoff_min_ms;
	}
	client_plan(c, c->backoff_ms);
	c->backoff_ms *= 2;
	if (c->backoff_ms > c->opt.backoff_max_ms) {
		c->backoff_ms = c->opt.backoff_max_ms;
	}
	ok = phctdb_request_fail_all(c);
	if (ok) {
		phctdb_state_down(c);
	}
}

/* -- writing ----------------------------------------------------------- */

int phctdb_queue(struct phctdb *c, uint8_t *packet)
{
	struct phctdb_packet *p = NULL;
	size_t len;
	bool empty = (c->out == NULL);

	if (packet == NULL) {
		return ENOMEM;
	}
	len = talloc_get_size(packet);
	if (c->fd == -1) {
		talloc_free(packet);
		return ENOTCONN;
	}
	if (len > c->opt.max_packet) {
		talloc_free(packet);
		return EMSGSIZE;
	}
	/* a queue that is empty takes a packet of any size */
	if (!empty && len > c->opt.max_queue - c->out_bytes) {
		talloc_free(packet);
		c->count.refused_out++;
		return ENOBUFS;
	}
	p = talloc_zero(c, struct phctdb_packet);
	if (p == NULL) {
		talloc_free(packet);
		return ENOMEM;
	}
	p->data = talloc_move(p, &packet);
	p->len = len;
	if (empty) {
		c->out = p;
	} else {
		c->out_last->next = p;
	}
	c->out_last = p;
	c->out_bytes += len;
	c->count.packets_out++;
	if (empty) {
		client_write(c);
	}
	return c->fd == -1 ? ENOTCONN : 0;
}

static void client_write(struct phctdb *c)
{
	while (c->out != NULL) {
		struct iovec iov[WRITE_PACKETS];
		struct phctdb_packet *p = NULL;
		struct msghdr msg = { .msg_iov = iov };
		ssize_t n;

		for (p = c->out; p != NULL && msg.msg_iovlen < WRITE_PACKETS;
		     p = p->next) {
			iov[msg.msg_iovlen++] = (struct iovec) {
				.iov_base = p->data + p->done,
				.iov_len = p->len - p->done,
			};
		}
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == -1 && errno == EINTR) {
			continue;
		}
		if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			TEVENT_FD_WRITEABLE(c->fde);
			return;
		}
		if (n == -1) {
			phctdb_broken(c, strerror(errno));
			return;
		}
		c->count.bytes_out += (size_t)n;
		c->out_bytes -= (size_t)n;
		while (n > 0) {
			size_t part;

			p = c->out;
			part = p->len - p->done;
			if ((size_t)n < part) {
				p->done += (size_t)n;
				break;
			}
			n -= (ssize_t)part;
			c->out = p->next;
			talloc_free(p);
		}
		if (c->out == NULL) {
			c->out_last = NULL;
		}
	}
	TEVENT_FD_NOT_WRITEABLE(c->fde);
}

/* -- reading ----------------------------------------------------------- */

static void client_fd(struct tevent_context *ev, struct tevent_fd *fde,
		      uint16_t flags, void *private_data)
{
	struct phctdb *c = talloc_get_type_abort(private_data, struct phctdb);

	(void)ev;
	(void)fde;
	if (flags & TEVENT_FD_WRITE) {
		client_write(c);
	}
	if ((flags & TEVENT_FD_READ) && c->fd != -1) {
		client_read(c);
	}
}

/* Room for the packet that has begun, or for a good piece. */
static bool client_room(struct phctdb *c)
{
	size_t want = c->in_len + READ_SIZE / 2;
	uint32_t first;
	uint8_t *p = NULL;

	if (c->in_len >= sizeof(first)) {
		memcpy(&first, c->in, sizeof(first));
		if (first > c->opt.max_packet) {
			phctdb_broken(c, "a packet above the limit");
			return false;
		}
		if (first > want) {
			want = first;
		}
	}
	if (want <= c->in_size) {
		return true;
	}
	want = (want + READ_SIZE - 1) / READ_SIZE * READ_SIZE;
	p = talloc_realloc_size(c, c->in, want);
	if (p == NULL) {
		phctdb_broken(c, "no memory");
		return false;
	}
	c->in = p;
	c->in_size = want;
	return true;
}

static void client_read(struct phctdb *c)
{
	bool gone = false;
	int round;

	for (round = 0; round < READ_ROUNDS; round++) {
		size_t pos = 0;
		ssize_t n;
		bool full;
		bool ok = client_room(c);

		if (!ok) {
			return;
		}
		n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len,
			 MSG_DONTWAIT);
		if (n == -1 && (errno == EINTR || errno == EAGAIN ||
				errno == EWOULDBLOCK)) {
			return;
		}
		if (n <= 0) {
			phctdb_broken(c, n == 0 ? "closed by ctdbd"
						: strerror(errno));
			return;
		}
		c->count.bytes_in += (size_t)n;
		c->in_len += (size_t)n;
		full = (c->in_len == c->in_size);
		while (c->in_len - pos >= 4) {
			uint32_t len;

			memcpy(&len, c->in + pos, sizeof(len));
			if (len < PHCTDB_HDR_SIZE ||
			    len > c->opt.max_packet) {
				phctdb_broken(c, "a packet of bad length");
				return;
			}
			if (len > c->in_len - pos) {
				break;
			}
			c->gone = &gone;
			ok = client_packet(c, c->in + pos, len);
			if (gone) {
				return;
			}
			c->gone = NULL;
			if (!ok || c->fd == -1) {
				return;
			}
			pos += len;
		}
		memmove(c->in, c->in + pos, c->in_len - pos);
		c->in_len -= pos;
		if (!full) {
			return;
		}
	}
}

/* false: do not go on with this connection */
static bool client_packet(struct phctdb *c, const uint8_t *buf, size_t len)
{
	struct phctdb_wire_hdr hdr;
	struct phctdb_wire_message msg;
	struct phctdb_listener *l = NULL;
	int ret;

	ret = phctdb_wire_hdr_pull(buf, len, &hdr);
	if (ret != 0) {
		phctdb_broken(c, "a packet that is none of ctdb's");
		return false;
	}
	c->count.packets_in++;
	switch (hdr.operation) {
	case PHCTDB_OP_MESSAGE:
		ret = phctdb_wire_message_pull(buf, len, &msg);
		break;
	case PHCTDB_OP_REPLY_CALL:
	case PHCTDB_OP_REPLY_ERROR:
	case PHCTDB_OP_REPLY_CONTROL:
		return phctdb_request_answer(c, &hdr, buf);
	default:
		c->count.dropped_in++;
		return true;
	}
	if (ret != 0) {
		phctdb_broken(c, "a message of bad length");
		return false;
	}
	if (msg.srvid == PHCTDB_SRVID_RECONFIGURE ||
	    msg.srvid == PHCTDB_SRVID_IPREALLOCATED ||
	    msg.srvid == PHCTDB_SRVID_POKE) {
		return phctdb_state_message(c, msg.srvid);
	}
	for (l = c->listeners; l != NULL; l = l->next) {
		if (l->srvid == msg.srvid) {
			l->fn(c, msg.srvid, msg.data.data, msg.data.len,
			      l->private_data);
			return true;
		}
	}
	c->count.dropped_in++;
	return true;
}

/* -- messages ---------------------------------------------------------- */

int phctdb_listen(struct phctdb *c, uint64_t srvid, phctdb_message_fn fn,
		  void *private_data)
{
	struct phctdb_listener **p = &c->listeners;
	struct phctdb_listener *l = NULL;

	while (*p != NULL && (*p)->srvid != srvid) {
		p = &(*p)->next;
	}
	l = *p;
	if (l != NULL && fn == NULL) {
		*p = l->next;
		talloc_free(l);
		if (c->fd != -1) {
			client_register(c, srvid, false);
		}
		return 0;
	}
	if (fn == NULL) {
		return 0;
	}
	if (l == NULL) {
		l = talloc_zero(c, struct phctdb_listener);
		if (l == NULL) {
			return ENOMEM;
		}
		l->srvid = srvid;
		*p = l;
		if (c->fd != -1) {
			int ret = client_register(c, srvid, true);

			if (ret != 0) {
				/* all are registered at the next connect */
				phctdb_broken(c, strerror(ret));
			}
		}
	}
	l->fn = fn;
	l->private_data = private_data;
	return 0;
}

int phctdb_message(struct phctdb *c, uint32_t dest, uint64_t srvid,
		   const struct iovec *iov, int iovcnt)
{
	struct phctdb_wire_hdr hdr = { .dest = dest };
	size_t len = 0;
	int i;

	if (c->fd == -1) {
		return ENOTCONN;
	}
	for (i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > c->opt.max_packet - len) {
			return EMSGSIZE;
		}
		len += iov[i].iov_len;
	}
	if (c->out != NULL && len > c->opt.max_queue - c->out_bytes) {
		c->count.refused_out++;
		return ENOBUFS;
	}
	return phctdb_queue(c, phctdb_wire_message_push(c, &hdr, srvid, iov,
							iovcnt));
}

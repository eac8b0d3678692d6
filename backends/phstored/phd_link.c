/*
 * phstored: links between daemons
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A message through ctdbd passes two daemons more, each way; on the path of
 * every acknowledgement. So daemons also connect to each other, by TCP
 * between the nodes' ctdb addresses, one connection for each direction:
 *
 *   the listener makes a secret when it starts and offers {port, secret}
 *   to all nodes through ctdbd: when the view changes, and now and then
 *   while a member has not connected
 *
 *   who hears an offer connects to the offering node's address, as ctdbd
 *   has it, says the secret and then sends
 *
 * Membership, generation and who may speak stay ctdbd's. A link is a way
 * for messages, not a statement: they may get lost on it, and be told by
 * ctdbd while there is none; the replication core expects that, and that
 * they overtake each other. Who does not say the secret within HELLO_MS is
 * disconnected. No answer for USER_TIMEOUT_MS to what was sent: the link is
 * closed, messages go by ctdbd until there is a new one.
 */

#include "phd_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/ctdb/core/repl_wire.h"
#include "phd_hello.h"
#include "phstore_private.h"

#define HELLO_MS 2000
#define USER_TIMEOUT_MS 3000
#define CONNECT_MS 5000
#define INBOUND_MAX 64
/* Bytes that wait to be written; what is more is lost. */
#define QUEUE_MAX (16 * 1024 * 1024)
#define READ_SIZE (64 * 1024)
#define OFFER_TICKS 20
#define CONNECT_TICKS 10

enum link_state { LINK_NONE, LINK_CONNECTING, LINK_UP };

/* To one node; we only write. */
struct outbound {
	struct phd_links *l;
	uint8_t node;
	enum link_state state;
	int fd;
	struct tevent_fd *fde;
	bool offered;			/* what follows is known */
	struct phd_hello offer;
	unsigned int pause;		/* ticks until the next attempt */
	uint64_t since_ns;		/* of this one */
	uint8_t *queue;			/* talloc'd */
	size_t queued, written;
};

/* From one node; we only read. */
struct inbound_link {
	struct phd_links *l;
	int fd;
	struct tevent_fd *fde;
	bool known;			/* has said the secret */
	uint8_t node;
	uint64_t since_ns;
	uint8_t *buf;
	size_t len, size;
	struct inbound_link *next, *prev;
};

struct phd_links {
	struct phd_net *net;
	struct phctdb *c;
	int fd;
	struct tevent_fd *fde;
	uint16_t port;
	bool failed;			/* cannot listen: said so */
	uint8_t secret[PHD_HELLO_SECRET];
	bool have_view;
	struct phd_view view;		/* as of the last look */
	struct sockaddr_storage addr[PHSTORE_NODES_MAX];
	struct outbound out[PHSTORE_NODES_MAX];
	struct inbound_link *in;
	size_t num_in;
	unsigned int ticks;
};

static socklen_t addr_len(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) :
					  sizeof(struct sockaddr_in);
}

static bool addr_set_port(struct sockaddr_storage *a, uint16_t port)
{
	switch (a->ss_family) {
	case AF_INET:
		((struct sockaddr_in *)a)->sin_port = htons(port);
		return true;
	case AF_INET6:
		((struct sockaddr_in6 *)a)->sin6_port = htons(port);
		return true;
	default:
		return false;
	}
}

static uint16_t addr_port(const struct sockaddr_storage *a)
{
	return ntohs(a->ss_family == AF_INET6 ?
		     ((const struct sockaddr_in6 *)a)->sin6_port :
		     ((const struct sockaddr_in *)a)->sin_port);
}

static bool same_host(const struct sockaddr_storage *a,
		      const struct sockaddr_storage *b)
{
	if (a->ss_family != b->ss_family) {
		return false;
	}
	if (a->ss_family == AF_INET6) {
		return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
			      &((const struct sockaddr_in6 *)b)->sin6_addr,
			      sizeof(struct in6_addr)) == 0;
	}
	return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
	       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
}

static void set_options(int fd)
{
	unsigned int timeout = USER_TIMEOUT_MS;
	int one = 1, three = 3;

	/* without any of these it works, a little worse */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout,
			 sizeof(timeout));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &three, sizeof(three));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

/* ---- to others ---- */

static void out_close(struct outbound *o, const char *why)
{
	if (o->state == LINK_NONE) {
		return;
	}
	if (o->state == LINK_UP) {
		phd_log(2, "link to node %u: %s", o->node, why);
	}
	TALLOC_FREE(o->fde);
	close(o->fd);
	o->fd = -1;
	o->state = LINK_NONE;
	o->pause = CONNECT_TICKS;
	TALLOC_FREE(o->queue);
	o->queued = 0;
	o->written = 0;
}

static void out_write(struct outbound *o)
{
	while (o->written < o->queued) {
		ssize_t n = send(o->fd, o->queue + o->written,
				 o->queued - o->written,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n == -1 && errno == EINTR) {
			continue;
		}
		if (n == -1 && errno == EAGAIN) {
			return;
		}
		if (n <= 0) {
			out_close(o, strerror(errno));
			return;
		}
		o->written += (size_t)n;
	}
	o->queued = 0;
	o->written = 0;
	if (talloc_get_size(o->queue) > READ_SIZE) {
		TALLOC_FREE(o->queue);
	}
	tevent_fd_set_flags(o->fde, TEVENT_FD_READ);
}

/* Bytes that could not be written at once. */
static void out_queue(struct outbound *o, const uint8_t *buf, size_t len)
{
	size_t size = talloc_get_size(o->queue);
	uint8_t *queue = o->queue;

	if (o->written != 0 && o->queued + len > size &&
	    o->written >= o->queued / 2) {
		/* a link that never gets to the end of its queue */
		o->queued -= o->written;
		memmove(queue, queue + o->written, o->queued);
		o->written = 0;
	}
	if (o->queued + len > size) {
		size = (o->queued + len) * 2;
		queue = talloc_realloc(o->l, o->queue, uint8_t, size);
		if (queue == NULL) {
			/* half of a frame is no frame: begin anew */
			out_close(o, "out of memory");
			return;
		}
		o->queue = queue;
	}
	memcpy(o->queue + o->queued, buf, len);
	o->queued += len;
	tevent_fd_set_flags(o->fde, TEVENT_FD_READ | TEVENT_FD_WRITE);
}

/*
 * Send both, one behind the other; what does not go at once is queued.
 * False: the link is closed, and nothing of it went.
 */
static bool out_send(struct outbound *o, const uint8_t *head, size_t head_len,
		     const uint8_t *buf, size_t len)
{
	struct iovec iov[] = {
		{ .iov_base = (void *)(uintptr_t)head, .iov_len = head_len },
		{ .iov_base = (void *)(uintptr_t)buf, .iov_len = len },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	size_t done = 0;

	if (o->queued == 0) {
		ssize_t n = sendmsg(o->fd, &msg,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n == -1 && errno != EAGAIN && errno != EINTR) {
			out_close(o, strerror(errno));
			return false;
		}
		done = n > 0 ? (size_t)n : 0;
	}
	if (done < head_len) {
		out_queue(o, head + done, head_len - done);
		done = head_len;
	}
	if (o->state == LINK_UP && done - head_len < len) {
		out_queue(o, buf + (done - head_len),
			  len - (done - head_len));
	}
	return true;
}

static void out_connected(struct outbound *o)
{
	struct phd_hello hello = {
		.magic = PHD_HELLO_TAKE,
		.from = o->l->view.self,
		.cluster = o->l->net->cluster,
	};
	uint8_t buf[PHD_HELLO_LEN];
	socklen_t len = sizeof(int);
	int error = 0;
	int ret;

	ret = getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (ret == -1 || error != 0) {
		out_close(o, "");
		return;
	}
	o->state = LINK_UP;
	tevent_fd_set_flags(o->fde, TEVENT_FD_READ);
	memcpy(hello.secret, o->offer.secret, sizeof(hello.secret));
	phd_hello_push(buf, &hello);
	phd_log(2, "link to node %u: connected", o->node);
	(void)out_send(o, buf, sizeof(buf), NULL, 0);
}

static void out_handler(struct tevent_context *ev, struct tevent_fd *fde,
			uint16_t flags, void *private_data)
{
	struct outbound *o = private_data;
	uint8_t byte;
	ssize_t n;

	(void)ev;
	(void)fde;
	if (o->state == LINK_CONNECTING) {
		out_connected(o);
		return;
	}
	if (flags & TEVENT_FD_READ) {
		/* nothing is ever said here: it is the end */
		n = recv(o->fd, &byte, 1, MSG_DONTWAIT);
		if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
			out_close(o, n == -1 ? strerror(errno) : "closed");
			return;
		}
	}
	if (flags & TEVENT_FD_WRITE) {
		out_write(o);
	}
}

static void out_connect(struct outbound *o)
{
	struct phd_links *l = o->l;
	struct sockaddr_storage to = l->addr[o->node];
	struct sockaddr_storage from = l->addr[l->view.self];
	bool ok;
	int ret;

	o->pause = CONNECT_TICKS;
	ok = addr_set_port(&to, o->offer.port) && addr_set_port(&from, 0);
	if (!ok) {
		return;
	}
	o->fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC |
		       SOCK_NONBLOCK, 0);
	if (o->fd == -1) {
		return;
	}
	set_options(o->fd);
	/* the other one looks at where this comes from */
	ret = bind(o->fd, (struct sockaddr *)&from, addr_len(&from));
	if (ret == 0) {
		ret = connect(o->fd, (struct sockaddr *)&to, addr_len(&to));
	}
	if (ret == -1 && errno != EINPROGRESS) {
		close(o->fd);
		return;
	}
	/* READ: of an error alone who waits to write is not told */
	o->fde = tevent_add_fd(l->net->phd->ev, l, o->fd,
			       TEVENT_FD_READ | TEVENT_FD_WRITE,
			       out_handler, o);
	if (o->fde == NULL) {
		close(o->fd);
		return;
	}
	o->since_ns = phstore_now_ns();
	o->state = LINK_CONNECTING;
}

/* An offer of another node. */
static void on_offer(struct phctdb *c, uint64_t srvid, const uint8_t *data,
		     size_t len, void *private_data)
{
	struct phd_links *l = private_data;
	struct phd_hello h = {};
	struct outbound *o = NULL;
	bool ok;

	(void)c;
	(void)srvid;
	ok = phd_hello_pull(data, len, &h);
	if (!ok || h.magic != PHD_HELLO_OFFER ||
	    h.cluster != l->net->cluster || h.from >= PHSTORE_NODES_MAX ||
	    !l->have_view || h.from == l->view.self ||
	    (l->view.up & phstore_node_bit(h.from)) == 0)
	{
		return;
	}
	o = &l->out[h.from];
	if (o->offered && o->offer.port == h.port &&
	    phd_secret_equal(o->offer.secret, h.secret))
	{
		return;
	}
	out_close(o, "the daemon there is another one");
	o->offered = true;
	o->offer = h;
	out_connect(o);
}

bool phd_links_up(const struct phd_links *l, uint8_t node)
{
	return l->out[node].state == LINK_UP;
}

bool phd_links_send(struct phd_links *l, uint8_t to, const uint8_t *buf,
		    size_t len)
{
	struct outbound *o = &l->out[to];
	uint8_t hdr[PHD_FRAME_HDR];

	if (o->state != LINK_UP) {
		return false;
	}
	if (o->queued > 0 && o->queued - o->written + len > QUEUE_MAX) {
		return true;
	}
	phd_frame_push(hdr, (uint32_t)len);
	return out_send(o, hdr, sizeof(hdr), buf, len);
}

/* ---- from others ---- */

static int in_destructor(struct inbound_link *in)
{
	struct phd_links *l = in->l;

	TALLOC_FREE(in->fde);
	close(in->fd);
	if (in->prev != NULL) {
		in->prev->next = in->next;
	} else {
		l->in = in->next;
	}
	if (in->next != NULL) {
		in->next->prev = in->prev;
	}
	l->num_in -= 1;
	return 0;
}

/* The first bytes. False: not one of us. */
static bool in_hello(struct inbound_link *in)
{
	struct phd_links *l = in->l;
	struct sockaddr_storage peer = {};
	socklen_t len = sizeof(peer);
	struct inbound_link *other = NULL, *next = NULL;
	struct phd_hello h = {};
	bool ok;
	int ret;

	ok = phd_hello_pull(in->buf, PHD_HELLO_LEN, &h);
	if (!ok || h.magic != PHD_HELLO_TAKE ||
	    h.cluster != l->net->cluster || h.from >= PHSTORE_NODES_MAX ||
	    !phd_secret_equal(h.secret, l->secret))
	{
		return false;
	}
	ret = getpeername(in->fd, (struct sockaddr *)&peer, &len);
	if (ret == -1 || !same_host(&peer, &l->addr[h.from])) {
		return false;
	}
	for (other = l->in; other != NULL; other = next) {
		next = other->next;
		if (other != in && other->known && other->node == h.from) {
			talloc_free(other);
		}
	}
	in->known = true;
	in->node = h.from;
	return true;
}

/* What is whole of in->buf; false: close it. */
static bool in_messages(struct inbound_link *in)
{
	size_t ofs = 0;
	uint32_t len = 0;
	bool ok = true;

	if (!in->known && in->len < PHD_HELLO_LEN) {
		return true;
	}
	if (!in->known) {
		ok = in_hello(in);
		if (!ok) {
			return false;
		}
		ofs = PHD_HELLO_LEN;
	}
	while (in->len - ofs >= PHD_FRAME_HDR) {
		ok = phd_frame_pull(in->buf + ofs, REPL_MSG_MAX, &len);
		if (!ok) {
			return false;
		}
		if (in->len - ofs - PHD_FRAME_HDR < len) {
			break;
		}
		phd_net_message(in->l->net, in->buf + ofs + PHD_FRAME_HDR,
				len);
		ofs += PHD_FRAME_HDR + len;
		len = 0;
	}
	memmove(in->buf, in->buf + ofs, in->len - ofs);
	in->len -= ofs;
	if (PHD_FRAME_HDR + (size_t)len > in->size) {
		uint8_t *buf = talloc_realloc(in, in->buf, uint8_t,
					      PHD_FRAME_HDR + len);

		if (buf == NULL) {
			return false;
		}
		in->buf = buf;
		in->size = PHD_FRAME_HDR + len;
	}
	return true;
}

static void in_handler(struct tevent_context *ev, struct tevent_fd *fde,
		       uint16_t flags, void *private_data)
{
	struct inbound_link *in = private_data;
	bool ok;
	ssize_t n;

	(void)ev;
	(void)fde;
	(void)flags;
	if (in->len < in->size) {
		n = recv(in->fd, in->buf + in->len, in->size - in->len,
			 MSG_DONTWAIT);
		if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
			return;
		}
		if (n <= 0) {
			talloc_free(in);
			return;
		}
		in->len += (size_t)n;
	}
	ok = in_messages(in);
	if (!ok) {
		phd_log(1, "a link from another node was not understood and "
			"is closed");
		talloc_free(in);
	}
}

static void accept_handler(struct tevent_context *ev, struct tevent_fd *fde,
			   uint16_t flags, void *private_data)
{
	struct phd_links *l = private_data;
	struct inbound_link *in = NULL;
	int fd;

	(void)fde;
	(void)flags;
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd == -1) {
		return;
	}
	if (l->num_in < INBOUND_MAX) {
		in = talloc_zero(l, struct inbound_link);
	}
	if (in == NULL) {
		close(fd);
		return;
	}
	set_options(fd);
	in->l = l;
	in->fd = fd;
	in->since_ns = phstore_now_ns();
	in->size = READ_SIZE;
	in->next = l->in;
	if (in->next != NULL) {
		in->next->prev = in;
	}
	l->in = in;
	l->num_in += 1;
	talloc_set_destructor(in, in_destructor);
	in->buf = talloc_array(in, uint8_t, in->size);
	in->fde = tevent_add_fd(ev, in, fd, TEVENT_FD_READ, in_handler, in);
	if (in->buf == NULL || in->fde == NULL) {
		talloc_free(in);
	}
}

/* ---- both ---- */

static void listen_at(struct phd_links *l, struct sockaddr_storage addr)
{
	socklen_t len = sizeof(addr);
	bool ok;
	int ret;

	ok = addr_set_port(&addr, (uint16_t)l->net->phd->conf->link_port);
	if (!ok) {
		return;
	}
	l->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC |
		       SOCK_NONBLOCK, 0);
	if (l->fd == -1) {
		return;
	}
	ret = 1;
	(void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &ret, sizeof(ret));
	ret = bind(l->fd, (struct sockaddr *)&addr, addr_len(&addr));
	if (ret == 0) {
		ret = listen(l->fd, PHSTORE_NODES_MAX);
	}
	if (ret == 0) {
		ret = getsockname(l->fd, (struct sockaddr *)&addr, &len);
	}
	if (ret == 0) {
		l->fde = tevent_add_fd(l->net->phd->ev, l, l->fd,
				       TEVENT_FD_READ, accept_handler, l);
	}
	if (l->fde == NULL) {
		if (!l->failed) {
			phd_log(0, "cannot listen at this node's ctdb "
				"address, messages go through ctdbd: %s",
				strerror(errno));
		}
		l->failed = true;
		close(l->fd);
		l->fd = -1;
		return;
	}
	l->failed = false;
	l->port = addr_port(&addr);
}

static void make_offer(struct phd_links *l)
{
	struct phd_hello h = {
		.magic = PHD_HELLO_OFFER,
		.from = l->view.self,
		.port = l->port,
		.cluster = l->net->cluster,
	};
	uint8_t buf[PHD_HELLO_LEN];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };

	memcpy(h.secret, l->secret, sizeof(h.secret));
	phd_hello_push(buf, &h);
	l->ticks = 0;
	(void)phctdb_message(l->c, PHCTDB_ALL_ACTIVE, PHD_SRVID_LINK, &iov,
			     1);
}

void phd_links_state(struct phd_links *l, const struct phctdb_state *st,
		     const struct phd_view *view)
{
	uint64_t was = l->view.up;
	uint32_t i;

	if (l->net->phd->conf->no_links || l->net->cluster == 0) {
		return;
	}
	l->view = *view;
	l->have_view = true;
	for (i = 0; i < st->num_nodes; i++) {
		uint32_t pnn = st->nodes[i].pnn;

		if (pnn < PHSTORE_NODES_MAX) {
			l->addr[pnn] = st->nodes[i].addr;
		}
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if ((was & ~l->view.up) & phstore_node_bit(i)) {
			out_close(&l->out[i], "the node has left");
			l->out[i].offered = false;
		}
	}
	if (l->fd == -1) {
		listen_at(l, l->addr[l->view.self]);
	}
	if (l->fd != -1 && was != l->view.up) {
		make_offer(l);
	}
}

/* Members that have not connected. */
static bool missing(const struct phd_links *l)
{
	uint64_t have = phstore_node_bit(l->view.self);
	const struct inbound_link *in = NULL;

	for (in = l->in; in != NULL; in = in->next) {
		have |= in->known ? phstore_node_bit(in->node) : 0;
	}
	return (l->view.up & ~have) != 0;
}

void phd_links_tick(struct phd_links *l)
{
	struct inbound_link *in = NULL, *next = NULL;
	uint64_t now = phstore_now_ns();
	size_t i;

	for (in = l->in; in != NULL; in = next) {
		next = in->next;
		if (!in->known &&
		    now - in->since_ns > HELLO_MS * 1000000ULL)
		{
			talloc_free(in);
		}
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		struct outbound *o = &l->out[i];

		if (o->state == LINK_CONNECTING &&
		    now - o->since_ns > CONNECT_MS * 1000000ULL)
		{
			out_close(o, "no answer");
		}
		if (!o->offered || o->state != LINK_NONE) {
			continue;
		}
		if (o->pause > 0) {
			o->pause--;
			continue;
		}
		out_connect(o);
	}
	l->ticks++;
	if (l->fd != -1 && l->ticks >= OFFER_TICKS &&
	    missing(l))
	{
		make_offer(l);
	}
}

static int links_destructor(struct phd_links *l)
{
	size_t i;

	while (l->in != NULL) {
		talloc_free(l->in);
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		out_close(&l->out[i], "phstored ends");
	}
	TALLOC_FREE(l->fde);
	if (l->fd != -1) {
		close(l->fd);
	}
	return 0;
}

struct phd_links *phd_links_new(TALLOC_CTX *mem_ctx, struct phd_net *net,
				struct phctdb *c)
{
	struct phd_links *l = talloc_zero(mem_ctx, struct phd_links);
	size_t i;
	ssize_t n;
	int ret;

	if (l == NULL) {
		return NULL;
	}
	l->net = net;
	l->c = c;
	l->fd = -1;
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		l->out[i] = (struct outbound) {
			.l = l, .node = (uint8_t)i, .fd = -1,
		};
	}
	talloc_set_destructor(l, links_destructor);
	n = getrandom(l->secret, sizeof(l->secret), 0);
	ret = phctdb_listen(c, PHD_SRVID_LINK, on_offer, l);
	if (n != sizeof(l->secret) || ret != 0) {
		talloc_free(l);
		return NULL;
	}
	return l;
}

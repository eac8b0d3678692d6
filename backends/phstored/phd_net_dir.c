/*
 * phstored: a cluster in a folder, for tests
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Instead of ctdbd: each node has a datagram socket `node-N` in the folder,
 * and a file `view` says who is active: "GENERATION NODES UP" (hexadecimal,
 * NODES and UP bit sets), read each tick. `recovering` as a fourth word: a
 * recovery is under way. A node that is not in UP gets and sends nothing, as
 * one that ctdb has banned. No file: as if ctdbd was not there.
 */

#include "phd_net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MSG_LEN_MAX (512 * 1024)
#define QUEUE_MAX 4096

struct net_out {
	struct net_out *next;
	uint8_t to;
	uint8_t *buf;
	size_t len;
};

struct net_dir {
	struct phd_net *net;
	int fd;
	uint8_t *buf;
	bool up;
	uint64_t peers;
	struct net_out *first, **end;
	size_t num;
	struct tevent_timer *te;
};

static void peer_addr(struct phd_net *net, unsigned int node,
		      struct sockaddr_un *addr)
{
	*addr = (struct sockaddr_un) { .sun_family = AF_UNIX };
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%s/node-%u",
		 net->phd->conf->peers_dir, node);
}

static void read_view(struct phd_net *net)
{
	struct net_dir *n = net->state;
	struct phd_view view = { .self = (uint8_t)net->phd->conf->node };
	char path[512], word[16] = "";
	FILE *f = NULL;
	int num = 0;

	snprintf(path, sizeof(path), "%s/view", net->phd->conf->peers_dir);
	f = fopen(path, "re");
	if (f != NULL) {
		num = fscanf(f, "%" SCNx64 " %" SCNx64 " %" SCNx64 " %15s",
			     &view.generation, &view.nodes, &view.up, word);
		fclose(f);
	}
	n->up = num >= 3 && (view.up & phstore_node_bit(view.self)) != 0;
	n->peers = view.up;
	if (!n->up) {
		phd_net_down(net, num >= 3 ? "ctdb: this node is not active" :
			     "waits for ctdbd");
		return;
	}
	if (num == 4) {
		phd_net_down(net, "ctdb is recovering");
		return;
	}
	phstore_ship_unbar(net->phd->ship, phstore_ship_bar(net->phd->ship));
	phd_net_view(net, &view);
}

static bool send_now(struct net_dir *n, const struct net_out *o)
{
	struct sockaddr_un addr;
	ssize_t ret;

	peer_addr(n->net, o->to, &addr);
	ret = sendto(n->fd, o->buf, o->len, MSG_DONTWAIT | MSG_NOSIGNAL,
		     (struct sockaddr *)&addr, sizeof(addr));
	return ret != -1 || (errno != EAGAIN && errno != ENOBUFS);
}

static void flush_queue(struct tevent_context *ev, struct tevent_timer *te,
			struct timeval now, void *private_data)
{
	struct net_dir *n = private_data;
	uint64_t full = 0;
	struct net_out **p = &n->first;

	(void)te;
	(void)now;
	n->te = NULL;
	while (*p != NULL) {
		struct net_out *o = *p;

		if (!(full & phstore_node_bit(o->to)) && send_now(n, o)) {
			*p = o->next;
			talloc_free(o);
			n->num -= 1;
			continue;
		}
		full |= phstore_node_bit(o->to);
		p = &o->next;
	}
	n->end = p;
	if (n->first != NULL) {
		n->te = tevent_add_timer(ev, n,
					 tevent_timeval_current_ofs(0, 500),
					 flush_queue, n);
	}
}

static void net_send(struct phd_net *net, uint8_t to,
		     const uint8_t *buf, size_t len)
{
	struct net_dir *n = net->state;
	struct net_out *o = NULL;

	if (!n->up || !(n->peers & phstore_node_bit(to)) ||
	    n->num >= QUEUE_MAX)
	{
		return;
	}
	o = talloc_zero(n, struct net_out);
	if (o == NULL) {
		return;
	}
	o->to = to;
	o->len = len;
	o->buf = talloc_memdup(o, buf, len);
	if (o->buf == NULL) {
		talloc_free(o);
		return;
	}
	if (n->first == NULL && send_now(n, o)) {
		talloc_free(o);
		return;
	}
	*n->end = o;
	n->end = &o->next;
	n->num += 1;
	if (n->te == NULL) {
		n->te = tevent_add_timer(net->phd->ev, n,
					 tevent_timeval_current_ofs(0, 500),
					 flush_queue, n);
	}
}

static void on_message(struct tevent_context *ev, struct tevent_fd *fde,
		       uint16_t flags, void *private_data)
{
	struct net_dir *n = private_data;
	int i;

	(void)ev;
	(void)fde;
	(void)flags;
	for (i = 0; i < 64; i++) {
		struct sockaddr_un from = {};
		socklen_t from_len = sizeof(from) - 1;
		unsigned int node = 0;
		const char *name = NULL;
		ssize_t len = recvfrom(n->fd, n->buf, MSG_LEN_MAX,
				       MSG_DONTWAIT,
				       (struct sockaddr *)&from, &from_len);

		if (len < 0) {
			return;
		}
		/* cut off: neither side hears the other */
		name = strrchr(from.sun_path, '/');
		if (name != NULL && sscanf(name, "/node-%u", &node) == 1 &&
		    node < PHSTORE_NODES_MAX &&
		    !(n->peers & phstore_node_bit(node)))
		{
			continue;
		}
		if (n->up) {
			phd_net_message(n->net, n->buf, (size_t)len);
		}
	}
}

static enum phd_exit net_start(struct phd_net *net)
{
	struct net_dir *n = talloc_zero(net->phd, struct net_dir);
	struct sockaddr_un addr;
	int size = 1 << 20;
	int ret;

	if (n == NULL) {
		return PHD_EXIT_FAILED;
	}
	net->state = n;
	n->net = net;
	n->end = &n->first;
	n->buf = talloc_array(n, uint8_t, MSG_LEN_MAX);
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (n->buf == NULL || n->fd == -1) {
		return PHD_EXIT_FAILED;
	}
	(void)setsockopt(n->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	peer_addr(net, net->phd->conf->node, &addr);
	(void)unlink(addr.sun_path);
	ret = bind(n->fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret == -1) {
		phd_log(0, "%s: %s", addr.sun_path, strerror(errno));
		return PHD_EXIT_USAGE;
	}
	if (tevent_add_fd(net->phd->ev, n, n->fd, TEVENT_FD_READ, on_message,
			  n) == NULL)
	{
		return PHD_EXIT_FAILED;
	}
	read_view(net);
	return PHD_EXIT_OK;
}

static bool net_forgotten(struct phd_net *net, const char *table,
			  struct phstore_blob key,
			  struct phstore_version version)
{
	(void)net;
	(void)table;
	(void)key;
	(void)version;
	return true;
}

static void net_stop(struct phd_net *net)
{
	struct net_dir *n = net->state;

	if (n != NULL && n->fd != -1) {
		close(n->fd);
	}
	TALLOC_FREE(net->state);
}

const struct phd_net_ops phd_net_dir = {
	.name = "a folder",
	.start = net_start,
	.send = net_send,
	.tick = read_view,
	.forgotten = net_forgotten,
	.stop = net_stop,
};

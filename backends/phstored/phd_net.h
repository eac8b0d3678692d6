/*
 * phstored: membership and messages
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * phd_net_ctdb.c     ctdbd
 * phd_link.c         and links of our own for messages; phd_hello.c: codec
 * phd_net_dir.c      a folder, for tests
 *
 * A sink that needs to know which nodes there are has a struct phd_net, says
 * in it whom to tell (user), and starts it. All callbacks come from the event
 * loop.
 */

#ifndef PHD_NET_H
#define PHD_NET_H

#include "phstored.h"
#include "phstore_nodes.h"


/* CTDB's view, as a network tells it. */
struct phd_view {
	uint64_t nodes;		/* bit per configured node */
	uint64_t up;		/* active ones, this one included */
	uint8_t self;
	uint64_t generation;
};

struct phd_net;

struct phd_net_ops {
	const char *name;
	enum phd_exit (*start)(struct phd_net *net);
	/* May get lost. */
	void (*send)(struct phd_net *net, uint8_t to,
		     const uint8_t *buf, size_t len);
	void (*tick)(struct phd_net *net);
	/*
	 * Nobody needs to remember this deletion's version any more. False:
	 * too many at once, again later.
	 */
	bool (*forgotten)(struct phd_net *net, const char *table,
			  struct phstore_blob key,
			  struct phstore_version version);
	/* Has that node a link of its own? NULL: no such thing */
	bool (*linked)(struct phd_net *net, uint8_t node);
	void (*stop)(struct phd_net *net);
};
extern const struct phd_net_ops phd_net_ctdb;
extern const struct phd_net_ops phd_net_dir;

struct phd_net_user {
	/* Who is there; again at each look. */
	void (*view)(void *user_data, const struct phd_view *view);
	/* Nothing is known at the moment. */
	void (*down)(void *user_data, const char *reason);
	void (*message)(void *user_data, const uint8_t *buf, size_t len);
	/* A recovery is about to come: close the gate. */
	void (*close)(void *user_data, const char *reason);
};

struct phd_net {
	struct phd *phd;
	const struct phd_net_ops *ops;
	void *state;			/* the network's own */
	const struct phd_net_user *user;
	void *user_data;
	uint64_t cluster;		/* of all messages; 0: there are none */
};

/* What a network calls. */
static inline void phd_net_view(struct phd_net *net,
				const struct phd_view *view)
{
	net->user->view(net->user_data, view);
}

static inline void phd_net_down(struct phd_net *net, const char *reason)
{
	net->user->down(net->user_data, reason);
}

static inline void phd_net_message(struct phd_net *net, const uint8_t *buf,
				   size_t len)
{
	net->user->message(net->user_data, buf, len);
}

static inline void phd_net_close(struct phd_net *net, const char *reason)
{
	net->user->close(net->user_data, reason);
}

#endif /* PHD_NET_H */

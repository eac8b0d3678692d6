/*
 * phstore ctdb backend: an asynchronous client of ctdbd
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file ctdb_client.h
 *
 * @brief One connection to this node's ctdbd, for one event loop.
 *
 * What it gives: who is in the cluster (pnn, node map, recovery mode,
 * generation), with an event for each change; messages by srvid; controls;
 * databases and their records. It connects by itself, and again after ctdbd
 * was restarted, with a growing pause between attempts.
 *
 * Rules
 *
 * - Nothing blocks. Chain locks of the local tdb are tried, not waited for.
 * - A length from the wire is compared with what there is before it is used.
 *   A packet that lies about itself ends the connection (event DOWN), since
 *   nothing behind it can be told apart; everything else that is unexpected
 *   is dropped and counted.
 * - Everything is bounded: bytes waiting to be written, requests under way,
 *   packet size, time of a request, pause between attempts.
 * - Callbacks come from the event loop only, never from inside a call. A
 *   callback may free the connection.
 * - While there is no connection every request ends with ENOTCONN, also
 *   those under way when it was lost: whether ctdbd did them is not known.
 * - Requests are cancelled by freeing them. Errors are errno values.
 *
 * Messages are on UDP terms: lost without notice when the node is not
 * connected or no process there listens. ctdbd does not say who sent one; put
 * it into the message. Order between one pair of nodes is kept as long as
 * both connections last, but do not rely on it.
 *
 * Recovery: the event RECOVERY says that the databases are being frozen, or
 * were a moment ago. ctdbd does not tell its clients when a recovery begins,
 * so this is polled (poll_ms) and additionally comes at once if someone sends
 * an (empty) message to PHCTDB_SRVID_POKE of this node, as the event script
 * does at "startrecovery", for which the recovery waits. GENERATION comes
 * when it has ended. Two recoveries in a row may show as one.
 */

#ifndef PHSTORE_CTDB_CLIENT_H
#define PHSTORE_CTDB_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <talloc.h>
#include <tevent.h>

/* Destinations besides a node number */
#define PHCTDB_THIS_NODE	0xF0000001U	/* whatever its number */
#define PHCTDB_ALL_ACTIVE	0xF0000003U	/* in the vnn map */
#define PHCTDB_ALL_CONNECTED	0xF0000004U	/* this node as well */

/* srvids of ours: the top byte is the range ctdb leaves to its clients */
#define PHCTDB_SRVID_BASE	0xBE70687300000000ULL
#define PHCTDB_SRVID_POKE	(PHCTDB_SRVID_BASE | 0x00000001U)
#define PHCTDB_SRVID_REPL	(PHCTDB_SRVID_BASE | 0x00000002U)

/* Flags of a node; INACTIVE means it takes no part in the databases */
#define PHCTDB_NODE_DISCONNECTED	0x01U
#define PHCTDB_NODE_UNHEALTHY		0x02U
#define PHCTDB_NODE_DISABLED		0x04U
#define PHCTDB_NODE_BANNED		0x08U
#define PHCTDB_NODE_DELETED		0x10U
#define PHCTDB_NODE_STOPPED		0x20U
#define PHCTDB_NODE_INACTIVE \
	(PHCTDB_NODE_DISCONNECTED | PHCTDB_NODE_BANNED | \
	 PHCTDB_NODE_DELETED | PHCTDB_NODE_STOPPED)

#define PHCTDB_MAX_NODES	1024

/* ctdbd's life, as in phctdb_state.runstate */
enum phctdb_runstate {
	PHCTDB_RUN_UNKNOWN = 0,
	PHCTDB_RUN_INIT = 1,
	PHCTDB_RUN_SETUP = 2,
	PHCTDB_RUN_FIRST_RECOVERY = 3,
	PHCTDB_RUN_STARTUP = 4,
	PHCTDB_RUN_RUNNING = 5,
	PHCTDB_RUN_SHUTDOWN = 6,
};

struct phctdb_node {
	uint32_t pnn;
	uint32_t flags;			/* PHCTDB_NODE_* */
	struct sockaddr_storage addr;	/* its private address */
};

/** What is known of the cluster. All of it is as of the last look. */
struct phctdb_state {
	bool up;			/* connected, and all below is known */
	uint32_t pnn;			/* this node */
	uint32_t runstate;		/* enum phctdb_runstate */
	bool recovering;		/* databases frozen, or soon */
	uint32_t generation;		/* of the databases; random */
	uint32_t num_nodes;
	const struct phctdb_node *nodes;	/* all configured ones */
	uint32_t num_active;		/* members of the vnn map */
	const uint32_t *active;		/* their numbers, as ctdbd has them */
};

enum phctdb_event {
	PHCTDB_EV_UP = 1,	/* connected, the state is known */
	PHCTDB_EV_DOWN = 2,	/* connection lost, tried again by itself */
	PHCTDB_EV_NODES = 3,	/* node map or runstate changed */
	PHCTDB_EV_RECOVERY = 4,	/* a recovery has begun */
	PHCTDB_EV_GENERATION = 5,	/* it has ended: new generation */
	PHCTDB_EV_ADDRESSES = 6,	/* public addresses were assigned */
	PHCTDB_EV_POKE = 7,	/* somebody poked; state was looked at */
};

struct phctdb;

/** @p state is valid until the callback returns. */
typedef void (*phctdb_event_fn)(struct phctdb *c, enum phctdb_event ev,
				const struct phctdb_state *state,
				void *private_data);

/** @p data is valid until the callback returns. */
typedef void (*phctdb_message_fn)(struct phctdb *c, uint64_t srvid,
				  const uint8_t *data, size_t len,
				  void *private_data);

/** Zero means the default everywhere. */
struct phctdb_options {
	const char *socket;	/* default /run/ctdb/ctdbd.socket */
	phctdb_event_fn event_fn;
	void (*log_fn)(void *private_data, int level, const char *msg);
	void *private_data;	/* of both */
	uint32_t poll_ms;	/* look at recovery mode, 250 */
	uint32_t backoff_min_ms;	/* pause before reconnecting, 50 */
	uint32_t backoff_max_ms;	/* and at most, 2000 */
	uint32_t request_ms;	/* limit of a request's time, 30000 */
	size_t max_packet;	/* larger ones are an error, 64 MiB */
	size_t max_queue;	/* bytes waiting to be written, 64 MiB */
	uint32_t max_requests;	/* under way, 16384 */
};

struct phctdb_counters {
	uint64_t connects;
	uint64_t packets_in, packets_out, bytes_in, bytes_out;
	uint64_t dropped_in;	/* not understood, or nobody waits for it */
	uint64_t refused_out;	/* queue or request table full */
	uint64_t timeouts;
};

/**
 * @brief Make a client; it connects from the event loop.
 *
 * @return NULL when out of memory or if the socket's path is too long.
 * talloc_free() closes it; requests under way are then never answered.
 */
struct phctdb *phctdb_create(TALLOC_CTX *mem_ctx, struct tevent_context *ev,
			     const struct phctdb_options *options);

/** What is known now; valid until the event loop runs. */
const struct phctdb_state *phctdb_state(const struct phctdb *c);

void phctdb_get_counters(const struct phctdb *c, struct phctdb_counters *out);

/** Bytes that wait to be written. */
size_t phctdb_queued(const struct phctdb *c);

/** Look at the state now rather than at the next poll. */
void phctdb_poke(struct phctdb *c);

/**
 * @brief Receive messages to @p srvid on this node.
 *
 * Remembered and repeated at each connect. One function per srvid; a second
 * registration replaces the first, NULL ends it.
 * @return 0, ENOMEM
 */
int phctdb_listen(struct phctdb *c, uint64_t srvid, phctdb_message_fn fn,
		  void *private_data);

/**
 * @brief Send a message.
 *
 * @param dest  A node number or PHCTDB_*.
 * @return 0 when it was queued to ctdbd, ENOTCONN, EMSGSIZE, or ENOBUFS when
 * max_queue bytes wait already: send again later, or count it as lost.
 */
int phctdb_message(struct phctdb *c, uint32_t dest, uint64_t srvid,
		   const struct iovec *iov, int iovcnt);

/**
 * @brief Any control.
 *
 * _recv: 0 when a reply came; @p status is then what ctdbd said (0 or more
 * is success, for some controls a value), @p data what it sent, @p errmsg
 * (may be NULL) its text or NULL.
 */
struct tevent_req *phctdb_control_send(TALLOC_CTX *mem_ctx,
				       struct tevent_context *ev,
				       struct phctdb *c, uint32_t dest,
				       uint32_t opcode, uint64_t srvid,
				       uint32_t flags, const void *data,
				       size_t len);
int phctdb_control_recv(struct tevent_req *req, TALLOC_CTX *mem_ctx,
			int32_t *status, uint8_t **data, size_t *len,
			char **errmsg);

/* -- databases --------------------------------------------------------- */

/** In front of each record of a ctdb database, in this byte order. */
struct phctdb_header {
	uint64_t rsn;		/* grows each time the record moves */
	uint32_t dmaster;	/* node that may change it */
	uint32_t reserved;
	uint32_t flags;
};

#define PHCTDB_HEADER_SIZE	24	/* four bytes of padding at the end */

struct phctdb_bytes {
	const uint8_t *data;
	size_t len;
};

/**
 * A volatile database: its number in ctdbd and the local copy's file, opened
 * by this process. Made by attach; ends with talloc_free(). After event DOWN
 * it is stale (ctdbd wipes volatile databases when it starts): free it and
 * attach again after UP.
 */
struct phctdb_db;

/**
 * @brief Attach to (make, if need be) a volatile database.
 *
 * ctdbd answers only when no recovery is under way and this node is active.
 */
struct tevent_req *phctdb_attach_send(TALLOC_CTX *mem_ctx,
				      struct tevent_context *ev,
				      struct phctdb *c, const char *name);
int phctdb_attach_recv(struct tevent_req *req, TALLOC_CTX *mem_ctx,
		       struct phctdb_db **db);
uint32_t phctdb_db_id(const struct phctdb_db *db);
const char *phctdb_db_path(const struct phctdb_db *db);

/**
 * @brief Read the local copy, which may be older than the dmaster's.
 *
 * @return 0, ENOENT, EAGAIN (locked or frozen), EIO. @p value may have length 0
 * (a deleted record).
 */
int phctdb_record_read(TALLOC_CTX *mem_ctx, struct phctdb_db *db,
		       struct phctdb_bytes key, struct phctdb_header *header,
		       uint8_t **value, size_t *len);

/**
 * Called with the record on this node and locked. Sets @p value to what it
 * shall be and returns true, or returns false to leave it. It may change the
 * flags of @p header; the RSN is raised by one afterwards. Must not wait.
 */
typedef bool (*phctdb_update_fn)(struct phctdb_header *header,
				 struct phctdb_bytes old,
				 struct phctdb_bytes *value,
				 void *private_data);

/**
 * @brief Change a record: bring it to this node, lock it, let @p fn decide.
 *
 * For restoring records after a recovery. _recv: 0, EAGAIN when the record
 * did not stay long enough in several attempts, ENOTCONN, EIO; @p changed
 * tells what @p fn returned.
 */
struct tevent_req *phctdb_update_send(TALLOC_CTX *mem_ctx,
				      struct tevent_context *ev,
				      struct phctdb *c, struct phctdb_db *db,
				      struct phctdb_bytes key,
				      phctdb_update_fn fn,
				      void *private_data);
int phctdb_update_recv(struct tevent_req *req, bool *changed);

#endif /* PHSTORE_CTDB_CLIENT_H */

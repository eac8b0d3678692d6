/*
 * phstore ctdb backend: what the files of the ctdbd client share
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 *   ctdb_client.c   the connection: connect, read, write, take apart
 *   ctdb_request.c  requests and their answers
 *   ctdb_state.c    what is known of the cluster, and the events
 *   ctdb_db.c       databases and records
 */

#ifndef PHSTORE_CTDB_PRIVATE_H
#define PHSTORE_CTDB_PRIVATE_H

#include "ctdb_wire.h"

struct phctdb_packet {
	struct phctdb_packet *next;
	uint8_t *data;
	size_t len;
	size_t done;
};

struct phctdb_listener {
	struct phctdb_listener *next;
	uint64_t srvid;
	phctdb_message_fn fn;
	void *private_data;
};

struct phctdb {
	struct tevent_context *ev;
	struct phctdb_options opt;

	/* the connection */
	int fd;				/* -1: none */
	struct tevent_fd *fde;
	struct tevent_timer *retry;
	struct tevent_immediate *im;	/* to client_down() */
	uint32_t backoff_ms;
	uint8_t *in;
	size_t in_len, in_size;
	struct phctdb_packet *out, *out_last;
	size_t out_bytes;
	struct phctdb_listener *listeners;

	/* not NULL: a packet in `in` is handled; set when that freed us */
	bool *gone;

	/* requests under way */
	struct phctdb_slot {
		struct tevent_req *req;	/* NULL: free */
		uint32_t reqid;
		uint32_t next_free;
	} *slots;
	uint32_t num_slots, first_free, num_requests, serial;

	/* the state */
	struct phctdb_state state;
	struct phctdb_look *look;	/* a look under way */
	bool look_again, poked;
	struct tevent_timer *poll;

	struct phctdb_counters count;
};

void phctdb_log(struct phctdb *c, int level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Queue a packet, which is taken over. 0, ENOTCONN, EMSGSIZE, ENOBUFS,
 * ENOMEM (packet is NULL).
 */
int phctdb_queue(struct phctdb *c, uint8_t *packet);

/* The connection is of no use: give it up from the event loop. */
void phctdb_broken(struct phctdb *c, const char *why);

/* Requests. answer and fail return false if a callback freed c. */
struct tevent_req *phctdb_call_send(TALLOC_CTX *mem_ctx,
				    struct tevent_context *ev,
				    struct phctdb *c,
				    const struct phctdb_wire_call *call);
int phctdb_call_recv(struct tevent_req *req, int32_t *status);
/* 0, or how the request ended, as an errno. */
int phctdb_request_result(struct tevent_req *req);
bool phctdb_request_answer(struct phctdb *c, const struct phctdb_wire_hdr *hdr,
			   const uint8_t *packet);
bool phctdb_request_fail_all(struct phctdb *c);
void phctdb_request_forget_all(struct phctdb *c);

/* State. Each false if a callback freed c. */
bool phctdb_state_connected(struct phctdb *c);
bool phctdb_state_down(struct phctdb *c);
bool phctdb_state_message(struct phctdb *c, uint64_t srvid);

#endif /* PHSTORE_CTDB_PRIVATE_H */

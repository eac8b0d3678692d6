/*
 * phstore ctdb backend: what goes over ctdbd's Unix socket
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A stream of packets, integers in the machine's byte order (both ends are on
 * one machine). Offsets in bytes:
 *
 *   all            0 length (whole packet; may include padding to 8)
 *                  4 magic 0x43544442   8 version 1   12 generation
 *                 16 operation   20 destination   24 source   28 request id
 *   message (5)   32 srvid (64 bit)   40 length   44 data
 *   control (7)   32 opcode   36 unused   40 srvid (64 bit)   48 client
 *                 52 flags   56 length   60 data
 *   its reply (8) 32 status   36 length   40 length of text   44 data, text
 *   call (0)      32 flags   36 database   40 function   44 hops
 *                 48 length of key   52 length of data   56 key, data
 *   its reply (1) 32 status   36 length   40 data
 *   error (4)     32 status   36 length   40 text
 *
 * All functions here are pure. A pull function never reads beyond the length
 * it is given, returns 0 or EINVAL, and points into the packet.
 */

#ifndef PHSTORE_CTDB_WIRE_H
#define PHSTORE_CTDB_WIRE_H

#include "ctdb_client.h"

#define PHCTDB_MAGIC		0x43544442U
#define PHCTDB_VERSION		1U
#define PHCTDB_HDR_SIZE		32

enum phctdb_op {
	PHCTDB_OP_CALL = 0,
	PHCTDB_OP_REPLY_CALL = 1,
	PHCTDB_OP_REPLY_ERROR = 4,
	PHCTDB_OP_MESSAGE = 5,
	PHCTDB_OP_CONTROL = 7,
	PHCTDB_OP_REPLY_CONTROL = 8,
};

enum phctdb_control {
	PHCTDB_CONTROL_GETDBPATH = 4,
	PHCTDB_CONTROL_GETVNNMAP = 5,
	PHCTDB_CONTROL_GET_RECMODE = 15,
	PHCTDB_CONTROL_DB_ATTACH = 18,
	PHCTDB_CONTROL_REGISTER_SRVID = 23,
	PHCTDB_CONTROL_DEREGISTER_SRVID = 24,
	PHCTDB_CONTROL_GET_PNN = 35,
	PHCTDB_CONTROL_GET_NODEMAP = 91,
	PHCTDB_CONTROL_GET_RUNSTATE = 138,
	PHCTDB_CONTROL_DB_OPEN_FLAGS = 149,
};

#define PHCTDB_CONTROL_NOREPLY		1U

#define PHCTDB_CALL_NULL		0xFF000001U
#define PHCTDB_CALL_MIGRATE		1U	/* flag: bring it here */

#define PHCTDB_SRVID_RECONFIGURE	0xF200000000000000ULL
#define PHCTDB_SRVID_IPREALLOCATED	0xF302000000000000ULL

/* header flags: copies for reading are out, or being called back */
#define PHCTDB_REC_READONLY_MASK	0x0F000000U

struct phctdb_wire_hdr {
	uint32_t length;
	uint32_t generation;
	uint32_t operation;
	uint32_t dest;
	uint32_t src;
	uint32_t reqid;
};

struct phctdb_wire_message {
	uint64_t srvid;
	struct phctdb_bytes data;
};

struct phctdb_wire_control {
	uint32_t opcode;
	uint64_t srvid;
	uint32_t flags;
	struct phctdb_bytes data;
};

struct phctdb_wire_reply {	/* of a control, a call, or an error */
	int32_t status;
	struct phctdb_bytes data;
	struct phctdb_bytes text;
};

struct phctdb_wire_call {
	uint32_t flags;
	uint32_t db_id;
	uint32_t function;
	struct phctdb_bytes key;
	struct phctdb_bytes data;
};

/*
 * Push functions return a talloc'd packet or body, NULL when out of memory
 * or above 4 GiB. They set hdr->length and hdr->operation themselves.
 */
uint8_t *phctdb_wire_message_push(TALLOC_CTX *mem_ctx,
				  struct phctdb_wire_hdr *hdr, uint64_t srvid,
				  const struct iovec *iov, int iovcnt);
uint8_t *phctdb_wire_control_push(TALLOC_CTX *mem_ctx,
				  struct phctdb_wire_hdr *hdr,
				  const struct phctdb_wire_control *in);
uint8_t *phctdb_wire_call_push(TALLOC_CTX *mem_ctx,
			       struct phctdb_wire_hdr *hdr,
			       const struct phctdb_wire_call *in);
/* operation given: one of the three replies; text only in a control's */
uint8_t *phctdb_wire_reply_push(TALLOC_CTX *mem_ctx,
				struct phctdb_wire_hdr *hdr,
				enum phctdb_op operation,
				const struct phctdb_wire_reply *in);

int phctdb_wire_hdr_pull(const uint8_t *buf, size_t len,
			 struct phctdb_wire_hdr *out);
int phctdb_wire_message_pull(const uint8_t *buf, size_t len,
			     struct phctdb_wire_message *out);
int phctdb_wire_control_pull(const uint8_t *buf, size_t len,
			     struct phctdb_wire_control *out);
int phctdb_wire_call_pull(const uint8_t *buf, size_t len,
			  struct phctdb_wire_call *out);
int phctdb_wire_reply_pull(const uint8_t *buf, size_t len,
			   struct phctdb_wire_reply *out);

/* A record's header as it stands in the tdb: PHCTDB_HEADER_SIZE bytes */
void phctdb_header_push(const struct phctdb_header *in, uint8_t *buf);
int phctdb_header_pull(const uint8_t *buf, size_t len,
		       struct phctdb_header *out);

/*
 * Answers of controls. The node map: a count, then for each node its number,
 * its flags and 28 bytes of socket address. The vnn map: generation, a count,
 * numbers. 0, EINVAL, ENOMEM.
 */
int phctdb_nodemap_pull(TALLOC_CTX *mem_ctx, const uint8_t *buf, size_t len,
			struct phctdb_node **nodes, uint32_t *num);
int phctdb_vnnmap_pull(TALLOC_CTX *mem_ctx, const uint8_t *buf, size_t len,
		       uint32_t *generation, uint32_t **map, uint32_t *num);
int phctdb_u32_pull(const uint8_t *buf, size_t len, uint32_t *out);

#endif /* PHSTORE_CTDB_WIRE_H */

/*
 * phstore ctdb backend: what goes over ctdbd's Unix socket
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The layout is in ctdb_wire.h. Every access goes through get() and put(), by
 * memcpy: nothing in a packet is aligned.
 */

#include "ctdb_wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define MESSAGE_SIZE	44
#define CONTROL_SIZE	60
#define CALL_SIZE	56
#define REPLY_CONTROL_SIZE	44
#define REPLY_SIZE	40
#define NODE_SIZE	36
#define NODE_ADDR_SIZE	28

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put_bytes(uint8_t *p, struct phctdb_bytes b)
{
	if (b.len > 0) {
		memcpy(p, b.data, b.len);
	}
}

static uint8_t *packet(TALLOC_CTX *mem_ctx, struct phctdb_wire_hdr *hdr,
		       enum phctdb_op operation, size_t fixed, size_t len1,
		       size_t len2)
{
	uint8_t *buf = NULL;

	if (len1 > UINT32_MAX / 2 || len2 > UINT32_MAX / 2 - fixed - 1) {
		return NULL;
	}
	buf = talloc_size(mem_ctx, fixed + len1 + len2);
	if (buf == NULL) {
		return NULL;
	}
	hdr->length = (uint32_t)(fixed + len1 + len2);
	hdr->operation = operation;
	put32(buf, hdr->length);
	put32(buf + 4, PHCTDB_MAGIC);
	put32(buf + 8, PHCTDB_VERSION);
	put32(buf + 12, hdr->generation);
	put32(buf + 16, hdr->operation);
	put32(buf + 20, hdr->dest);
	put32(buf + 24, hdr->src);
	put32(buf + 28, hdr->reqid);
	return buf;
}

int phctdb_wire_hdr_pull(const uint8_t *buf, size_t len,
			 struct phctdb_wire_hdr *out)
{
	if (len < PHCTDB_HDR_SIZE || get32(buf + 4) != PHCTDB_MAGIC ||
	    get32(buf + 8) != PHCTDB_VERSION || get32(buf) != len) {
		return EINVAL;
	}
	*out = (struct phctdb_wire_hdr) {
		.length = get32(buf),
		.generation = get32(buf + 12),
		.operation = get32(buf + 16),
		.dest = get32(buf + 20),
		.src = get32(buf + 24),
		.reqid = get32(buf + 28),
	};
	return 0;
}

/*
 * A piece of what is left behind the fixed part. Lengths are 32 bits, so
 * nothing here can wrap.
 */
static int take(const uint8_t *buf, size_t len, size_t *pos, uint32_t want,
		struct phctdb_bytes *out)
{
	if (*pos > len || want > len - *pos) {
		return EINVAL;
	}
	*out = (struct phctdb_bytes) { .data = buf + *pos, .len = want };
	*pos += want;
	return 0;
}

uint8_t *phctdb_wire_message_push(TALLOC_CTX *mem_ctx,
				  struct phctdb_wire_hdr *hdr, uint64_t srvid,
				  const struct iovec *iov, int iovcnt)
{
	uint8_t *buf = NULL;
	size_t pos = MESSAGE_SIZE;
	size_t len = 0;
	int i;

	for (i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > UINT32_MAX - len) {
			return NULL;
		}
		len += iov[i].iov_len;
	}
	buf = packet(mem_ctx, hdr, PHCTDB_OP_MESSAGE, MESSAGE_SIZE, len, 0);
	if (buf == NULL) {
		return NULL;
	}
	put64(buf + 32, srvid);
	put32(buf + 40, (uint32_t)len);
	for (i = 0; i < iovcnt; i++) {
		put_bytes(buf + pos, (struct phctdb_bytes) {
			.data = iov[i].iov_base, .len = iov[i].iov_len });
		pos += iov[i].iov_len;
	}
	return buf;
}

int phctdb_wire_message_pull(const uint8_t *buf, size_t len,
			     struct phctdb_wire_message *out)
{
	size_t pos = MESSAGE_SIZE;

	if (len < MESSAGE_SIZE) {
		return EINVAL;
	}
	out->srvid = get64(buf + 32);
	return take(buf, len, &pos, get32(buf + 40), &out->data);
}

uint8_t *phctdb_wire_control_push(TALLOC_CTX *mem_ctx,
				  struct phctdb_wire_hdr *hdr,
				  const struct phctdb_wire_control *in)
{
	uint8_t *buf = packet(mem_ctx, hdr, PHCTDB_OP_CONTROL, CONTROL_SIZE,
			      in->data.len, 0);

	if (buf == NULL) {
		return NULL;
	}
	put32(buf + 32, in->opcode);
	put32(buf + 36, 0);
	put64(buf + 40, in->srvid);
	put32(buf + 48, 0);
	put32(buf + 52, in->flags);
	put32(buf + 56, (uint32_t)in->data.len);
	put_bytes(buf + CONTROL_SIZE, in->data);
	return buf;
}

int phctdb_wire_control_pull(const uint8_t *buf, size_t len,
			     struct phctdb_wire_control *out)
{
	size_t pos = CONTROL_SIZE;

	if (len < CONTROL_SIZE) {
		return EINVAL;
	}
	out->opcode = get32(buf + 32);
	out->srvid = get64(buf + 40);
	out->flags = get32(buf + 52);
	return take(buf, len, &pos, get32(buf + 56), &out->data);
}

uint8_t *phctdb_wire_call_push(TALLOC_CTX *mem_ctx,
			       struct phctdb_wire_hdr *hdr,
			       const struct phctdb_wire_call *in)
{
	uint8_t *buf = packet(mem_ctx, hdr, PHCTDB_OP_CALL, CALL_SIZE,
			      in->key.len, in->data.len);

	if (buf == NULL) {
		return NULL;
	}
	put32(buf + 32, in->flags);
	put32(buf + 36, in->db_id);
	put32(buf + 40, in->function);
	put32(buf + 44, 0);
	put32(buf + 48, (uint32_t)in->key.len);
	put32(buf + 52, (uint32_t)in->data.len);
	put_bytes(buf + CALL_SIZE, in->key);
	put_bytes(buf + CALL_SIZE + in->key.len, in->data);
	return buf;
}

int phctdb_wire_call_pull(const uint8_t *buf, size_t len,
			  struct phctdb_wire_call *out)
{
	size_t pos = CALL_SIZE;
	int ret;

	if (len < CALL_SIZE) {
		return EINVAL;
	}
	out->flags = get32(buf + 32);
	out->db_id = get32(buf + 36);
	out->function = get32(buf + 40);
	ret = take(buf, len, &pos, get32(buf + 48), &out->key);
	if (ret != 0) {
		return ret;
	}
	return take(buf, len, &pos, get32(buf + 52), &out->data);
}

uint8_t *phctdb_wire_reply_push(TALLOC_CTX *mem_ctx,
				struct phctdb_wire_hdr *hdr,
				enum phctdb_op operation,
				const struct phctdb_wire_reply *in)
{
	bool control = (operation == PHCTDB_OP_REPLY_CONTROL);
	size_t fixed = control ? REPLY_CONTROL_SIZE : REPLY_SIZE;
	size_t text = control ? in->text.len : 0;
	uint8_t *buf = packet(mem_ctx, hdr, operation, fixed, in->data.len,
			      text);

	if (buf == NULL) {
		return NULL;
	}
	put32(buf + 32, (uint32_t)in->status);
	put32(buf + 36, (uint32_t)in->data.len);
	if (control) {
		put32(buf + 40, (uint32_t)text);
		put_bytes(buf + fixed + in->data.len, in->text);
	}
	put_bytes(buf + fixed, in->data);
	return buf;
}

int phctdb_wire_reply_pull(const uint8_t *buf, size_t len,
			   struct phctdb_wire_reply *out)
{
	uint32_t operation;
	size_t pos = REPLY_SIZE;
	int ret;

	if (len < REPLY_SIZE) {
		return EINVAL;
	}
	operation = get32(buf + 16);
	out->status = (int32_t)get32(buf + 32);
	out->text = (struct phctdb_bytes) {};
	if (operation != PHCTDB_OP_REPLY_CONTROL) {
		return take(buf, len, &pos, get32(buf + 36), &out->data);
	}
	if (len < REPLY_CONTROL_SIZE) {
		return EINVAL;
	}
	pos = REPLY_CONTROL_SIZE;
	ret = take(buf, len, &pos, get32(buf + 36), &out->data);
	if (ret != 0) {
		return ret;
	}
	return take(buf, len, &pos, get32(buf + 40), &out->text);
}

void phctdb_header_push(const struct phctdb_header *in, uint8_t *buf)
{
	memset(buf, 0, PHCTDB_HEADER_SIZE);
	put64(buf, in->rsn);
	put32(buf + 8, in->dmaster);
	put32(buf + 12, in->reserved);
	put32(buf + 16, in->flags);
}

int phctdb_header_pull(const uint8_t *buf, size_t len,
		       struct phctdb_header *out)
{
	if (len < PHCTDB_HEADER_SIZE) {
		return EINVAL;
	}
	*out = (struct phctdb_header) {
		.rsn = get64(buf),
		.dmaster = get32(buf + 8),
		.reserved = get32(buf + 12),
		.flags = get32(buf + 16),
	};
	return 0;
}

int phctdb_nodemap_pull(TALLOC_CTX *mem_ctx, const uint8_t *buf, size_t len,
			struct phctdb_node **nodes, uint32_t *num)
{
	struct phctdb_node *list = NULL;
	uint32_t count;
	uint32_t i;

	if (len < 4) {
		return EINVAL;
	}
	count = get32(buf);
	if (count > PHCTDB_MAX_NODES || (len - 4) / NODE_SIZE < count) {
		return EINVAL;
	}
	list = talloc_zero_array(mem_ctx, struct phctdb_node, count);
	if (list == NULL) {
		return ENOMEM;
	}
	for (i = 0; i < count; i++) {
		const uint8_t *p = buf + 4 + (size_t)i * NODE_SIZE;
		struct sockaddr_in6 addr = {};

		list[i].pnn = get32(p);
		list[i].flags = get32(p + 4);
		memcpy(&addr, p + 8, NODE_ADDR_SIZE);
		if (addr.sin6_family == AF_INET ||
		    addr.sin6_family == AF_INET6) {
			memcpy(&list[i].addr, &addr, NODE_ADDR_SIZE);
		}
	}
	*nodes = list;
	*num = count;
	return 0;
}

int phctdb_vnnmap_pull(TALLOC_CTX *mem_ctx, const uint8_t *buf, size_t len,
		       uint32_t *generation, uint32_t **map, uint32_t *num)
{
	uint32_t *list = NULL;
	uint32_t count;
	uint32_t i;

	if (len < 8) {
		return EINVAL;
	}
	count = get32(buf + 4);
	if (count > PHCTDB_MAX_NODES || (len - 8) / 4 < count) {
		return EINVAL;
	}
	list = talloc_array(mem_ctx, uint32_t, count);
	if (list == NULL) {
		return ENOMEM;
	}
	for (i = 0; i < count; i++) {
		list[i] = get32(buf + 8 + (size_t)i * 4);
	}
	*generation = get32(buf);
	*map = list;
	*num = count;
	return 0;
}

int phctdb_u32_pull(const uint8_t *buf, size_t len, uint32_t *out)
{
	if (len < 4) {
		return EINVAL;
	}
	*out = get32(buf);
	return 0;
}

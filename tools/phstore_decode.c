/*
 * phstore tool: decoders of the records smbd keeps in a store
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The tool does not link Samba, so this file knows the layouts by itself, as
 * Samba 4.25 writes them (all little endian unless said otherwise, NDR
 * aligns each member to its size from the value's begin):
 *
 * open (smbXsrv_open_globalB, NDR), key: global id, 4 bytes big endian
 *   u32 version = 1, u32 seqnum, u32 union level = 1, u32 reference
 *   server_id (24), u64 session, u32 tcon, u32 open global id,
 *   u64 persistent id, u64 volatile id, file_id (24), u32 name hash,
 *   SID, NTTIME opened, GUID create, client, app instance, u64 vhigh, vlow,
 *   u32 create action, NTTIME disconnected, u32 timeout ms, u8 durable,
 *   u8 persistent, u32 n, n bytes cookie, u16 channel sequence,
 *   u64 channel generation, 64 bytes lock sequences
 *   (NTTIME aligns to 4 only, as a SID does.)
 *   then, with a lease, as the last 40 bytes: its key (16), u32 state, u32 and
 *   u32 what a break asks for, u16 epoch, u8 version, u8 breaking, "PHLEASE1"
 *   The cookie of the default VFS begins with a magic of 48 bytes and is NDR
 *   again, counted from its own begin.
 *
 * locking, key: file_id (u64 device, inode, extended id)
 *   u32 n, n watchers of 32 bytes (none in a store's canonical form)
 *   server_id of the exclusive holder (0: nobody), u64 lock epoch,
 *   u64 data epoch, u32 n, n server_ids of shared holders
 *   u32 n, n bytes share_mode_dataB (NDR), then share entries of 128 bytes
 *
 * brlock, key: file_id
 *   u32 version = 1 (big endian), then lock entries of 80 bytes, as a 64 bit
 *   machine lays the structure out in memory
 *
 * In a cluster each has one byte more: 1, or 0 when no handle that survives is
 * in the record ("plain").
 *
 * Rule: a stable prefix is decoded, whatever follows that is not as above is
 * shown as hex with the reason. Being unable to read a record must never
 * hide the record, nor end the dump.
 */

#include <inttypes.h>
#include <string.h>

#include "phstore_cursor.h"
#include "phstore_decode.h"

#define WATCHER_LEN 32
#define SHARE_ENTRY_LEN 128
#define BRLOCK_ENTRY_LEN 80
#define LOCK_SEQUENCE_LEN 64
#define LEASE_LEN 40
#define LEASE_MAGIC "PHLEASE1"
#define LEASE_MAGIC_LEN 8
/* Samba's durable cookie without its strings */
#define COOKIE_MAGIC "VFS_DEFAULT_DURABLE_COOKIE_MAGIC                "
#define COOKIE_MAGIC_LEN 48

static const struct bit_name access_names[] = {
	{ 0x00000001, "READ" },
	{ 0x00000002, "WRITE" },
	{ 0x00000004, "APPEND" },
	{ 0x00000008, "READ_EA" },
	{ 0x00000010, "WRITE_EA" },
	{ 0x00000020, "EXECUTE" },
	{ 0x00000040, "DELETE_CHILD" },
	{ 0x00000080, "READ_ATTR" },
	{ 0x00000100, "WRITE_ATTR" },
	{ 0x00010000, "DELETE" },
	{ 0x00020000, "READ_CONTROL" },
	{ 0x00040000, "WRITE_DAC" },
	{ 0x00080000, "WRITE_OWNER" },
	{ 0x00100000, "SYNCHRONIZE" },
};

static const struct bit_name share_names[] = {
	{ 0x1, "READ" },
	{ 0x2, "WRITE" },
	{ 0x4, "DELETE" },
};

static const struct bit_name entry_flag_names[] = {
	{ 0x01, "POSIX" },
	{ 0x02, "STREAM_BASE" },
	{ 0x04, "DENY_DOS" },
	{ 0x08, "DENY_FCB" },
	{ 0x10, "PERSISTENT" },
};

static const struct bit_name lease_names[] = {
	{ 0x1, "READ" },
	{ 0x2, "HANDLE" },
	{ 0x4, "WRITE" },
};

static const struct bit_name summary_names[] = {
	{ 0x001, "LEASE_READ" },
	{ 0x002, "LEASE_WRITE" },
	{ 0x004, "LEASE_HANDLE" },
	{ 0x008, "ACCESS_READ" },
	{ 0x010, "ACCESS_WRITE" },
	{ 0x020, "ACCESS_DELETE" },
	{ 0x040, "SHARE_READ" },
	{ 0x080, "SHARE_WRITE" },
	{ 0x100, "SHARE_DELETE" },
};

/*
 * open
 */

static bool decode_cookie(struct phdump_out *out, const uint8_t *data,
			  size_t len)
{
	struct cursor c = cur_init(data, len);
	const uint8_t *magic = cur_take(&c, COOKIE_MAGIC_LEN);
	uint32_t version, path_ptr, name_ptr;
	uint8_t reconnect, delete_on_close;
	uint64_t size, mode;
	unsigned int i;
	int cmp;
	bool ok;

	if (magic == NULL) {
		return cur_undecoded(&c, out, "not the default VFS's cookie");
	}
	cmp = memcmp(magic, COOKIE_MAGIC, COOKIE_MAGIC_LEN);
	if (cmp != 0) {
		c.pos = 0;
		return cur_undecoded(&c, out, "not the default VFS's cookie");
	}
	version = cur_u32(&c);
	if (version != 1) {
		return cur_undecoded(&c, out, "a cookie version other than 1");
	}
	reconnect = cur_u8(&c);
	phdump_bool(out, "allow_reconnect", reconnect != 0);
	cur_show_file_id(out, "file_id", &c);
	path_ptr = cur_u32(&c);
	name_ptr = cur_u32(&c);
	cur_u64(&c);			/* initial allocation size */
	cur_u64(&c);			/* position */
	cur_u8(&c);			/* write time forced */
	delete_on_close = cur_u8(&c);
	/* struct stat: dev, ino, mode, nlink, uid, gid, rdev, size */
	cur_u64(&c);
	cur_u64(&c);
	mode = cur_u64(&c);
	for (i = 0; i < 4; i++) {
		cur_u64(&c);
	}
	size = cur_u64(&c);
	for (i = 0; i < 4; i++) {
		cur_u64(&c);		/* a time's seconds */
		cur_u32(&c);		/* and nanoseconds */
	}
	cur_u64(&c);			/* block size */
	cur_u64(&c);			/* blocks */
	cur_u32(&c);			/* flags */
	cur_u32(&c);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (path_ptr != 0) {
		ok = cur_show_string(out, "share_path", &c);
		if (!ok) {
			return cur_undecoded(&c, out, c.reason);
		}
	}
	if (name_ptr != 0) {
		ok = cur_show_string(out, "base_name", &c);
		if (!ok) {
			return cur_undecoded(&c, out, c.reason);
		}
	}
	phdump_bool(out, "delete_on_close", delete_on_close != 0);
	phdump_fmt(out, "mode", "%06"PRIo64, mode);
	phdump_u64(out, "size", size);
	return true;
}

/* A record that leads from a client's GUIDs to the open's global id. */
static bool decode_replay_entry(struct cursor *c, struct phdump_out *out)
{
	const uint8_t *p = cur_take(c, 4);

	phdump_str(out, "kind", "replay cache");
	phdump_fmt(out, "global_id", "0x%02x%02x%02x%02x",
		   p[0], p[1], p[2], p[3]);
	return true;
}

/* One byte more: the mark of a cluster. */
static void decode_mark(struct phdump_out *out, struct cursor *c)
{
	if (c->len - c->pos != 1 || c->data[c->pos] > 1) {
		return;
	}
	if (c->data[c->pos] == 0) {
		phdump_bool(out, "plain", true);
	}
	c->pos += 1;
}

/* true: the last bytes are a lease, or a lease and the mark of a cluster */
static bool find_lease(struct cursor *c)
{
	size_t left = c->len - c->pos;
	size_t i;

	for (i = 0; i < 2 && left >= LEASE_LEN + i; i++) {
		size_t end = c->len - i;
		int cmp = memcmp(c->data + end - LEASE_MAGIC_LEN,
				 LEASE_MAGIC, LEASE_MAGIC_LEN);

		if (cmp == 0) {
			c->len = end;
			return true;
		}
	}
	return false;
}

/* The lease at the end, if there is one; c ends before it then. */
static void decode_lease(struct phdump_out *out, struct cursor *c)
{
	struct cursor l = {};
	const uint8_t *key = NULL;
	uint32_t state, required;
	uint16_t epoch;
	uint8_t version, breaking;
	bool ok;

	ok = find_lease(c);
	if (!ok) {
		return;
	}
	c->len -= LEASE_LEN;
	l = cur_init(c->data + c->len, LEASE_LEN);
	key = cur_take(&l, 16);
	state = cur_u32(&l);
	cur_u32(&l);			/* what the client was told */
	required = cur_u32(&l);
	epoch = cur_u16(&l);
	version = cur_u8(&l);
	breaking = cur_u8(&l);
	phdump_object(out, "lease");
	phdump_hex(out, "key", key, 16);
	SHOW_BITS(out, "state", state, lease_names);
	if (breaking != 0) {
		SHOW_BITS(out, "breaking_to", required, lease_names);
	}
	phdump_u64(out, "epoch", epoch);
	phdump_u64(out, "version", version);
	phdump_end(out);
}

bool phdump_decode_open(struct phstore_blob blob, struct phdump_out *out)
{
	struct cursor c = cur_init(blob.data, blob.len);
	struct guid_str create, client, app;
	const uint8_t *cookie = NULL;
	const uint8_t *sequences = NULL;
	uint64_t session, persistent_id, volatile_id;
	uint64_t opened, disconnected, app_high, app_low;
	uint64_t generation;
	uint32_t version, seqnum, level;
	uint32_t tcon, global_id, name_hash, action, timeout, cookie_len;
	uint16_t channel_sequence;
	uint8_t durable, persistent;
	bool whole = true;
	bool ok;

	if (blob.len == 4) {
		return decode_replay_entry(&c, out);
	}
	version = cur_u32(&c);
	seqnum = cur_u32(&c);
	level = cur_u32(&c);
	cur_u32(&c);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (version != 1 || level != 1) {
		c.pos = 0;
		return cur_undecoded(&c, out, "a record version other than 1");
	}
	cur_show_server_id(out, "server", &c);
	session = cur_u64(&c);
	tcon = cur_u32(&c);
	global_id = cur_u32(&c);
	persistent_id = cur_u64(&c);
	volatile_id = cur_u64(&c);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	phdump_id(out, "persistent_id", persistent_id, 16);
	phdump_id(out, "volatile_id", volatile_id, 16);
	phdump_id(out, "global_id", global_id, 8);
	cur_show_file_id(out, "file_id", &c);
	name_hash = cur_u32(&c);
	ok = cur_show_sid(out, "owner", &c);
	if (!ok) {
		return cur_undecoded(&c, out, c.reason);
	}
	opened = cur_u64_align4(&c);
	create = cur_guid(&c);
	client = cur_guid(&c);
	app = cur_guid(&c);
	app_high = cur_u64(&c);
	app_low = cur_u64(&c);
	action = cur_u32(&c);
	disconnected = cur_u64_align4(&c);
	timeout = cur_u32(&c);
	durable = cur_u8(&c);
	persistent = cur_u8(&c);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (durable > 1 || persistent > 1) {
		c.pos -= 2;
		return cur_undecoded(&c, out, "a flag is neither 0 nor 1");
	}
	phdump_bool(out, "durable", durable != 0);
	phdump_bool(out, "persistent", persistent != 0);
	phdump_u64(out, "timeout_ms", timeout);
	cur_show_nttime(out, "opened", opened);
	cur_show_nttime(out, "disconnected", disconnected);
	phdump_str(out, "create_guid", create.s);
	phdump_str(out, "client_guid", client.s);
	if (out->json || out->verbose) {
		phdump_str(out, "app_instance_id", app.s);
		phdump_id(out, "app_version_high", app_high, 16);
		phdump_id(out, "app_version_low", app_low, 16);
		phdump_id(out, "session_id", session, 16);
		phdump_id(out, "tcon_id", tcon, 8);
		phdump_id(out, "name_hash", name_hash, 8);
		phdump_u64(out, "create_action", action);
		phdump_u64(out, "seqnum", seqnum);
	}
	cookie_len = cur_u32(&c);
	cookie = cur_take(&c, cookie_len);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (cookie_len != 0) {
		phdump_object(out, "cookie");
		ok = decode_cookie(out, cookie, cookie_len);
		phdump_end(out);
		whole = whole && ok;
	} else {
		phdump_null(out, "cookie");
	}
	channel_sequence = cur_u16(&c);
	generation = cur_u64(&c);
	sequences = cur_take(&c, LOCK_SEQUENCE_LEN);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (out->json || out->verbose) {
		phdump_u64(out, "channel_sequence", channel_sequence);
		phdump_u64(out, "channel_generation", generation);
		phdump_hex(out, "lock_sequences", sequences,
			   LOCK_SEQUENCE_LEN);
	}
	decode_lease(out, &c);
	/* NDR may round the whole up to 8 */
	if (c.len - c.pos >= 8) {
		return cur_undecoded(&c, out, "more bytes than a record has");
	}
	return whole;
}

/*
 * locking
 */

static const char *op_type_name(uint16_t op_type)
{
	switch (op_type) {
	case 0:
		return "none";
	case 1:
		return "exclusive";
	case 2:
		return "batch without exclusive";
	case 3:
		return "batch";
	case 4:
		return "level II";
	case 0x100:
		return "lease";
	}
	return NULL;
}

static bool decode_share_entry(struct phdump_out *out, const uint8_t *data)
{
	struct cursor c = cur_init(data, SHARE_ENTRY_LEN);
	struct guid_str client, create;
	const uint8_t *lease_key = NULL;
	const char *type = NULL;
	uint64_t mid, share_file_id, time_s;
	uint32_t access_mask, share_access, uid, time_us, name_hash;
	uint16_t op_type, flags;

	cur_show_server_id(out, "server", &c);
	mid = cur_u64(&c);
	op_type = cur_u16(&c);
	client = cur_guid(&c);
	create = cur_guid(&c);
	cur_align(&c, 8);
	lease_key = cur_take(&c, 16);
	access_mask = cur_u32(&c);
	share_access = cur_u32(&c);
	time_s = cur_u64(&c);
	time_us = cur_u32(&c);
	share_file_id = cur_u64_align4(&c);
	uid = cur_u32(&c);
	flags = cur_u16(&c);
	name_hash = cur_u32(&c);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	type = op_type_name(op_type);
	if (type == NULL) {
		c.pos = 32;
		return cur_undecoded(&c, out, "an unknown oplock type");
	}
	phdump_id(out, "share_file_id", share_file_id, 16);
	SHOW_BITS(out, "access", access_mask, access_names);
	SHOW_BITS(out, "share", share_access, share_names);
	SHOW_BITS(out, "flags", flags, entry_flag_names);
	phdump_str(out, "oplock", type);
	if (op_type == 0x100) {
		phdump_hex(out, "lease_key", lease_key, 16);
	}
	phdump_str(out, "create_guid", create.s);
	phdump_str(out, "client_guid", client.s);
	cur_show_unix_time(out, "opened", time_s, time_us);
	phdump_u64(out, "uid", uid);
	if (out->json || out->verbose) {
		phdump_u64(out, "mid", mid);
		phdump_id(out, "name_hash", name_hash, 8);
	}
	return true;
}

/* One scalar part; the tokens themselves come behind all of them. */
static void show_delete_token(struct phdump_out *out, struct cursor *c)
{
	uint32_t name_hash;
	uint64_t persistent_id;

	cur_align(c, 8);
	name_hash = cur_u32(c);
	cur_align(c, 8);
	cur_take(c, 16);			/* parent lease key */
	persistent_id = cur_u64(c);
	cur_u32(c);			/* pointer to the NT token */
	cur_u32(c);			/* pointer to the unix token */
	if (c->reason != NULL) {
		return;
	}
	phdump_object(out, NULL);
	phdump_id(out, "name_hash", name_hash, 8);
	phdump_id(out, "persistent_id", persistent_id, 16);
	phdump_end(out);
}

static bool decode_share_mode_data(struct phdump_out *out,
				   const uint8_t *data, size_t len)
{
	struct cursor c = cur_init(data, len);
	const char *names[] = { "share_path", "base_name", "stream_name" };
	uint32_t ptrs[3];
	uint32_t version, level, num_persistent, num_tokens, size_is;
	uint64_t epoch;
	uint16_t flags;
	uint32_t i;
	bool ok;

	version = cur_u32(&c);
	cur_u64(&c);			/* the same epoch and flags follow */
	cur_u16(&c);
	level = cur_u32(&c);
	cur_u32(&c);			/* reference */
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (version != 1 || level != 1) {
		c.pos = 0;
		return cur_undecoded(&c, out, "a record version other than 1");
	}
	epoch = cur_u64(&c);
	flags = cur_u16(&c);
	for (i = 0; i < 3; i++) {
		ptrs[i] = cur_u32(&c);
	}
	num_persistent = cur_u32(&c);
	num_tokens = cur_u32(&c);
	size_is = cur_u32(&c);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (size_is != num_tokens) {
		c.pos -= 8;
		return cur_undecoded(&c, out, "two counts of tokens differ");
	}
	phdump_id(out, "content_epoch", epoch, 1);
	SHOW_BITS(out, "summary", flags, summary_names);
	/* the top bit: durable handles keep it, smbd-hooks/hooks.py */
	phdump_u64(out, "num_persistent", num_persistent & 0x7fffffff);
	if (num_tokens != 0) {
		phdump_array(out, "delete_tokens");
		for (i = 0; i < num_tokens && c.reason == NULL; i++) {
			show_delete_token(out, &c);
		}
		phdump_end(out);
	}
	cur_show_file_id(out, "file_id", &c);
	for (i = 0; i < 3; i++) {
		if (ptrs[i] == 0) {
			continue;
		}
		ok = cur_show_string(out, names[i], &c);
		if (!ok) {
			return cur_undecoded(&c, out, c.reason);
		}
	}
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	/* tokens are many bytes of SIDs that an operator has no use for */
	if (num_tokens == 0 && c.len - c.pos >= 8) {
		return cur_undecoded(&c, out, "more bytes than a record has");
	}
	return true;
}

/* Both headers in front of the share mode data. */
static bool decode_locking_headers(struct cursor *c, struct phdump_out *out)
{
	uint64_t lock_epoch, data_epoch;
	uint32_t num_watchers, num_shared;
	uint32_t i;

	num_watchers = cur_le(c, 4, 1);
	if (c->reason == NULL && num_watchers > (c->len - 4) / WATCHER_LEN) {
		c->pos = 0;
		c->reason = "more watchers than bytes";
	}
	cur_take(c, (size_t)num_watchers * WATCHER_LEN);
	if (c->reason != NULL) {
		return false;
	}
	if (num_watchers != 0) {
		phdump_u64(out, "num_watchers", num_watchers);
	}
	{
		/* from here members are packed, each from its own begin */
		struct cursor h = {
			.data = c->data + c->pos,
			.len = c->len - c->pos,
		};

		if (h.len < SERVER_ID_LEN + 8 + 8 + 4) {
			c->reason = "the value ends too early";
			return false;
		}
		cur_show_server_id(out, "lock_holder", &h);
		lock_epoch = cur_u64(&h);
		data_epoch = cur_u64(&h);
		num_shared = cur_u32(&h);
		c->pos += h.pos;
	}
	if (out->json || out->verbose) {
		phdump_id(out, "lock_epoch", lock_epoch, 1);
		phdump_id(out, "data_epoch", data_epoch, 1);
	}
	if (num_shared > (c->len - c->pos) / SERVER_ID_LEN) {
		c->pos -= 4;
		c->reason = "more lock holders than bytes";
		return false;
	}
	if (num_shared != 0) {
		phdump_array(out, "shared_lock_holders");
		for (i = 0; i < num_shared; i++) {
			struct cursor s = {
				.data = cur_take(c, SERVER_ID_LEN),
				.len = SERVER_ID_LEN,
			};
			cur_show_server_id(out, NULL, &s);
		}
		phdump_end(out);
	}
	return true;
}

bool phdump_decode_locking(struct phstore_blob blob, struct phdump_out *out)
{
	struct cursor c = cur_init(blob.data, blob.len);
	const uint8_t *data = NULL;
	uint32_t data_len;
	bool whole = true;
	bool ok;

	ok = decode_locking_headers(&c, out);
	if (!ok) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (c.pos == c.len) {
		/* a lock without data, nothing that survives */
		return true;
	}
	data_len = cur_le(&c, 4, 1);
	data = cur_take(&c, data_len);
	if (c.reason != NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (data_len != 0) {
		ok = decode_share_mode_data(out, data, data_len);
		whole = whole && ok;
	}
	phdump_array(out, "entries");
	while (c.len - c.pos >= SHARE_ENTRY_LEN) {
		const uint8_t *entry = cur_take(&c, SHARE_ENTRY_LEN);

		phdump_object(out, NULL);
		ok = decode_share_entry(out, entry);
		phdump_end(out);
		whole = whole && ok;
	}
	phdump_end(out);
	decode_mark(out, &c);
	if (c.pos != c.len) {
		return cur_undecoded(&c, out, "a part of a share entry");
	}
	return whole;
}

/*
 * brlock
 */

static bool decode_lock_entry(struct phdump_out *out, const uint8_t *data)
{
	static const char *types[] = { "read", "write", "unlock" };
	struct cursor c = cur_init(data, BRLOCK_ENTRY_LEN);
	uint64_t context, start, size, fnum;
	uint32_t tid, type, flavour;
	uint8_t persistent;

	context = cur_u64(&c);
	tid = cur_u32(&c);
	cur_align(&c, 8);
	cur_show_server_id(out, "server", &c);
	start = cur_u64(&c);
	size = cur_u64(&c);
	fnum = cur_u64(&c);
	type = cur_u32(&c);
	flavour = cur_u32(&c);
	persistent = cur_u8(&c);
	if (type > 2 || flavour > 1 || persistent > 1) {
		c.pos = 0;
		return cur_undecoded(&c, out, "an unknown type of lock");
	}
	phdump_u64(out, "start", start);
	phdump_u64(out, "size", size);
	phdump_str(out, "type", types[type]);
	phdump_str(out, "flavour", flavour == 0 ? "windows" : "posix");
	phdump_bool(out, "persistent", persistent != 0);
	/* the persistent id of the open that holds it, when it is one */
	phdump_id(out, "context", context, 16);
	if (fnum == UINT64_MAX) {
		phdump_null(out, "fnum");
	} else {
		phdump_id(out, "fnum", fnum, 1);
	}
	if (out->json || out->verbose) {
		phdump_id(out, "tid", tid, 8);
	}
	return true;
}

bool phdump_decode_brlock(struct phstore_blob blob, struct phdump_out *out)
{
	struct cursor c = cur_init(blob.data, blob.len);
	const uint8_t *p = cur_take(&c, 4);
	bool whole = true;
	bool ok;

	if (p == NULL) {
		return cur_undecoded(&c, out, c.reason);
	}
	if (p[0] != 0 || p[1] != 0 || p[2] != 0 || p[3] != 1) {
		c.pos = 0;
		return cur_undecoded(&c, out, "a record version other than 1");
	}
	phdump_array(out, "locks");
	while (c.len - c.pos >= BRLOCK_ENTRY_LEN) {
		const uint8_t *entry = cur_take(&c, BRLOCK_ENTRY_LEN);

		phdump_object(out, NULL);
		ok = decode_lock_entry(out, entry);
		phdump_end(out);
		whole = whole && ok;
	}
	phdump_end(out);
	decode_mark(out, &c);
	if (c.pos != c.len) {
		return cur_undecoded(&c, out, "a part of a lock entry");
	}
	return whole;
}

/*
 * dispatch
 */

enum phdump_kind phdump_table_kind(const char *table)
{
	static const struct {
		const char *name;
		enum phdump_kind kind;
	} kinds[] = {
		{ "smbXsrv_open_global", PHDUMP_OPEN },
		{ "locking", PHDUMP_LOCKING },
		{ "brlock", PHDUMP_BRLOCK },
	};
	const char *base = strrchr(table, '/');
	size_t len;
	size_t i;

	base = (base == NULL) ? table : base + 1;
	len = strlen(base);
	if (len > 4) {
		int cmp = strcmp(base + len - 4, ".tdb");

		if (cmp == 0) {
			len -= 4;
		}
	}
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t name_len = strlen(kinds[i].name);
		int cmp;

		if (name_len != len) {
			continue;
		}
		cmp = memcmp(kinds[i].name, base, len);
		if (cmp == 0) {
			return kinds[i].kind;
		}
	}
	return PHDUMP_OTHER;
}

void phdump_decode_key(enum phdump_kind kind,
		       struct phstore_blob key,
		       struct phdump_out *out)
{
	struct cursor c = cur_init(key.data, key.len);
	const uint8_t *p = key.data;

	if (kind == PHDUMP_OPEN && key.len == 4) {
		phdump_fmt(out, "open", "0x%02x%02x%02x%02x",
			   p[0], p[1], p[2], p[3]);
	}
	if (kind == PHDUMP_LOCKING || kind == PHDUMP_BRLOCK) {
		if (key.len == 24) {
			cur_show_file_id(out, "file", &c);
		}
	}
}

bool phdump_decode_value(enum phdump_kind kind,
			 struct phstore_blob value,
			 struct phdump_out *out)
{
	switch (kind) {
	case PHDUMP_OPEN:
		return phdump_decode_open(value, out);
	case PHDUMP_LOCKING:
		return phdump_decode_locking(value, out);
	case PHDUMP_BRLOCK:
		return phdump_decode_brlock(value, out);
	case PHDUMP_OTHER:
		break;
	}
	phdump_bytes(out, "value", value.data, value.len);
	return true;
}

/*
 * phstore tool: history, the life of a handle
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Answers "why was this reconnect refused". Each change of an open is in the
 * log with all of its record until compaction drops it, so nothing has to be
 * written for this: two states that follow each other tell what happened, and
 * who took the file from it the file's own (phstore_history_file.c).
 * The log has no clock; the times shown are those smbd wrote into the open.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "phstore_bytes.h"
#include "phstore_history.h"
#include "phstore_tool.h"

#define TABLE "smbXsrv_open_global"
#define LOCK_SEQUENCES 64
#define LEASE_LEN 40
#define LEASE_MAGIC "PHLEASE1"
#define LEASE_MAGIC_LEN 8
/* files a handle's id was of; ids are used again */
#define FILES_MAX 16

/* What of an open's record (phstore_decode.c has the layout) matters here. */
struct open_state {
	uint8_t server[SERVER_ID_LEN];
	bool has_server;
	uint64_t opened;
	uint64_t disconnected;
	uint32_t timeout;
	uint32_t seqnum;
	uint16_t channel_sequence;
	uint8_t lock_sequences[LOCK_SEQUENCES];
	uint8_t lease[LEASE_LEN];	/* zeros: none */
	uint8_t file[HISTORY_FILE_LEN];	/* zeros: not known */
};

struct history {
	struct phtool *tool;
	struct open_state last;
	struct phstore_version version;
	bool has_last;
	bool known;		/* the last state could be read */
	bool deleted;
	uint64_t num;
	enum phtool_exit result;

	uint8_t files[FILES_MAX][HISTORY_FILE_LEN];
	size_t num_files;
	struct history_gone gone[HISTORY_GONE_MAX];
	size_t num_gone;
	size_t next_gone;	/* to be told */
	bool purged;		/* in this life */
	bool entry_gone;	/* so */
};

static bool is_disconnected(const uint8_t *server)
{
	unsigned int i;

	for (i = 0; i < 8; i++) {
		if (server[i] != 0xff) {
			return false;
		}
	}
	return true;
}

static bool pull_open(struct phstore_blob value, struct open_state *o)
{
	struct cursor c = cur_init(value.data, value.len);
	const uint8_t *p = NULL;
	uint32_t cookie_len;
	uint8_t num;

	*o = (struct open_state) {};
	cur_u32(&c);
	o->seqnum = cur_u32(&c);
	cur_u32(&c);
	cur_u32(&c);
	cur_align(&c, 8);
	p = cur_take(&c, SERVER_ID_LEN);
	if (p == NULL) {
		return false;
	}
	memcpy(o->server, p, SERVER_ID_LEN);
	o->has_server = !is_disconnected(o->server);
	cur_u64(&c);		/* session */
	cur_u32(&c);		/* tree connect */
	cur_u32(&c);		/* global id */
	cur_u64(&c);
	cur_u64(&c);
	cur_align(&c, 8);
	p = cur_take(&c, HISTORY_FILE_LEN);
	if (p != NULL) {
		memcpy(o->file, p, HISTORY_FILE_LEN);
	}
	cur_u32(&c);		/* name hash */
	cur_align(&c, 4);
	cur_u8(&c);
	num = cur_u8(&c);
	cur_take(&c, 6 + 4 * (size_t)num);	/* owner's SID */
	o->opened = cur_u64_align4(&c);
	(void)cur_guid(&c);
	(void)cur_guid(&c);
	(void)cur_guid(&c);
	cur_u64(&c);
	cur_u64(&c);
	cur_u32(&c);		/* create action */
	o->disconnected = cur_u64_align4(&c);
	o->timeout = cur_u32(&c);
	cur_u8(&c);
	cur_u8(&c);
	cookie_len = cur_u32(&c);
	cur_take(&c, cookie_len);
	o->channel_sequence = cur_u16(&c);
	cur_u64(&c);
	p = cur_take(&c, LOCK_SEQUENCES);
	if (p == NULL) {
		return false;
	}
	memcpy(o->lock_sequences, p, LOCK_SEQUENCES);
	if (c.len - c.pos >= LEASE_LEN) {
		p = c.data + c.len - LEASE_MAGIC_LEN;
		if (memcmp(p, LEASE_MAGIC, LEASE_MAGIC_LEN) == 0) {
			memcpy(o->lease, c.data + c.len - LEASE_LEN,
			       LEASE_LEN);
		}
	}
	return true;
}

/* What led from one state to the next. */
static const char *what_happened(const struct history *h,
				 const struct open_state *o)
{
	const struct open_state *last = &h->last;
	int cmp;

	if (!h->has_last || h->deleted) {
		/* two stores make a handle persistent */
		return (o->seqnum <= 2) ? "granted" : "known";
	}
	cmp = memcmp(o->server, last->server, SERVER_ID_LEN);
	if (cmp != 0 && o->has_server) {
		return "reconnected";
	}
	if (cmp != 0) {
		return "disconnected";
	}
	if (o->disconnected != 0 && o->timeout == 0) {
		return "closing";
	}
	if (o->disconnected != 0 && last->disconnected == 0) {
		return "server lost";
	}
	cmp = memcmp(o->lock_sequences, last->lock_sequences, LOCK_SEQUENCES);
	if (cmp != 0) {
		return "locked or unlocked";
	}
	cmp = memcmp(o->lease, last->lease, LEASE_LEN);
	if (cmp != 0) {
		return "lease changed";
	}
	if (o->channel_sequence != last->channel_sequence) {
		return "channel changed";
	}
	return "updated";
}

/* closes: the entry went in the same transaction */
static const char *why_removed(const struct history *h, bool closes)
{
	/* the scavenger removes the open, then its entry */
	bool entry_next = h->next_gone < h->num_gone &&
			  !h->gone[h->next_gone].has_by;

	if (!h->known) {
		return "removed";
	}
	if (closes) {
		return "removed: closed";
	}
	if (h->purged) {
		return "removed: purged";
	}
	if (h->last.disconnected != 0 && h->last.timeout == 0) {
		return "removed: closed";
	}
	if (h->last.disconnected != 0 && (h->entry_gone || entry_next)) {
		return "removed: expired";
	}
	if (h->last.disconnected != 0) {
		return "removed: expired or purged";
	}
	if (h->last.has_server) {
		return "removed: closed";
	}
	return "removed";
}

static void end_event(struct history *h)
{
	struct phdump_out *out = &h->tool->out;

	phdump_end(out);
	if (!out->json) {
		phdump_line(out, "%s", "");
	}
	h->num += 1;
}

/* What its entry went through until then. True: it went with that. */
static bool tell_gone(struct history *h, uint64_t lsn)
{
	struct phdump_out *out = &h->tool->out;

	while (h->next_gone < h->num_gone) {
		const struct history_gone *gone = &h->gone[h->next_gone];
		struct cursor c = cur_init(gone->by.server, SERVER_ID_LEN);

		if (gone->lsn > lsn) {
			return false;
		}
		h->next_gone += 1;
		h->entry_gone = true;
		if (gone->lsn == lsn) {
			return true;
		}
		if (!gone->has_by) {
			continue;
		}
		h->purged = true;
		phdump_object(out, NULL);
		phdump_str(out, "event", "purged");
		phdump_u64(out, "lsn", gone->lsn);
		cur_show_server_id(out, "by_server", &c);
		phdump_id(out, "by_open", gone->by.share_file_id, 16);
		phdump_u64(out, "by_uid", gone->by.uid);
		if (gone->by.has_client) {
			phdump_str(out, "by_client", gone->by.client.s);
		}
		end_event(h);
	}
	return false;
}

static int files_fn(const struct phstore_record *rec, bool deleted,
		    void *private_data)
{
	static const uint8_t zeros[HISTORY_FILE_LEN];
	struct history *h = private_data;
	struct open_state o = {};
	size_t i;
	bool ok;

	ok = !deleted && pull_open(rec->value, &o);
	if (!ok || memcmp(o.file, zeros, sizeof(zeros)) == 0) {
		return 0;
	}
	for (i = 0; i < h->num_files; i++) {
		if (memcmp(h->files[i], o.file, sizeof(o.file)) == 0) {
			return 0;
		}
	}
	if (h->num_files < FILES_MAX) {
		memcpy(h->files[h->num_files], o.file, sizeof(o.file));
		h->num_files += 1;
	}
	return 0;
}

static int gone_cmp(const void *a, const void *b)
{
	const struct history_gone *x = a;
	const struct history_gone *y = b;

	return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

static enum phstore_err find_gone(struct history *h, uint32_t id,
				  struct phstore_blob key)
{
	struct phstore *store = h->tool->store;
	enum phstore_err err;
	size_t i;

	err = phstore_history(store, TABLE, key, files_fn, h);
	for (i = 0; err == PHSTORE_OK && i < h->num_files; i++) {
		err = history_file(
			store, id, h->files[i], h->gone, &h->num_gone);
	}
	qsort(h->gone, h->num_gone, sizeof(h->gone[0]), gone_cmp);
	return err;
}

static int history_fn(const struct phstore_record *rec, bool deleted,
		      void *private_data)
{
	struct history *h = private_data;
	struct phdump_out *out = &h->tool->out;
	struct open_state o = {};
	const char *event = NULL;
	bool known = false;
	bool closes;
	int again;

	again = (rec->version.epoch == h->version.epoch &&
		 rec->version.seq == h->version.seq);
	if (h->has_last && again && deleted == h->deleted) {
		return 0;	/* copied by compaction */
	}
	closes = tell_gone(h, rec->lsn) && deleted;
	if (deleted) {
		event = why_removed(h, closes);
		h->purged = h->entry_gone = false;
	} else {
		known = pull_open(rec->value, &o);
		event = known ? what_happened(h, &o) : "not decoded";
	}

	phdump_object(out, NULL);
	phdump_str(out, "event", event);
	phdump_fmt(out, "version", "%"PRIu64".%"PRIu64,
		   rec->version.epoch, rec->version.seq);
	phdump_u64(out, "lsn", rec->lsn);
	if (known) {
		struct cursor c = cur_init(o.server, SERVER_ID_LEN);

		cur_show_server_id(out, "server", &c);
		cur_show_nttime(out, "opened", o.opened);
		cur_show_nttime(out, "disconnected", o.disconnected);
		phdump_u64(out, "timeout_ms", o.timeout);
	}
	end_event(h);

	h->has_last = true;
	h->deleted = deleted;
	h->version = rec->version;
	if (!deleted) {
		h->last = o;
		h->known = known;
	}
	h->result = phtool_flush(h->tool);
	return (h->result == PHTOOL_OK) ? 0 : 1;
}

enum phtool_exit phtool_history(struct phtool *tool)
{
	struct history h = { .tool = tool };
	struct phdump_out *out = &tool->out;
	uint8_t keybuf[4];
	struct phstore_blob key = { .data = keybuf, .len = sizeof(keybuf) };
	enum phtool_exit result;
	enum phtool_exit damage;
	enum phstore_err err;
	unsigned long long id;
	char *end = NULL;

	errno = 0;
	id = strtoull(tool->argv[0], &end, 16);
	if (errno != 0 || *end != '\0' || id == 0 || id > UINT32_MAX) {
		phtool_error(tool, "%s is no handle: its global or persistent "
			     "id in hex, as dump shows it", tool->argv[0]);
		return PHTOOL_USAGE;
	}
	keybuf[0] = id >> 24;
	keybuf[1] = id >> 16;
	keybuf[2] = id >> 8;
	keybuf[3] = id;

	result = phtool_open_read(tool);
	if (result != PHTOOL_OK) {
		return result;
	}
	if (out->json) {
		phdump_object(out, NULL);
		phdump_str(out, "store", tool->dir);
		phdump_array(out, "history");
	}
	err = find_gone(&h, id, key);
	if (err == PHSTORE_OK) {
		err = phstore_history(
			tool->store, TABLE, key, history_fn, &h);
	}
	if (err == PHSTORE_OK) {
		(void)tell_gone(&h, UINT64_MAX);
	}
	damage = phtool_warn_damage(tool);
	if (out->json) {
		phdump_end(out);
		phdump_bool(out, "complete", err == PHSTORE_OK &&
					     damage == PHTOOL_OK);
		phdump_end(out);
	}
	result = phtool_flush(tool);
	if (err != PHSTORE_OK) {
		return phtool_fail(tool, err, tool->dir);
	}
	if (h.result != PHTOOL_OK || result != PHTOOL_OK) {
		return (h.result != PHTOOL_OK) ? h.result : result;
	}
	if (damage != PHTOOL_OK) {
		return damage;
	}
	if (h.num == 0) {
		phtool_error(tool, "the log has nothing of handle %s",
			     tool->argv[0]);
		return PHTOOL_NOT_FOUND;
	}
	return PHTOOL_OK;
}

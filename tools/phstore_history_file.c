/*
 * phstore tool: history, what became of a handle's share mode entry
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Who opens a file may take a durable handle from its owner: the handle's share
 * mode entry goes from the file's record, and in the same transaction his own
 * comes. A CLOSE removes entry and open in one. A handle whose time is over
 * loses its entry alone. So the states of the file's record tell what the
 * open's can not.
 */

#include <stdlib.h>
#include <string.h>

#include "phstore_cursor.h"
#include "phstore_history.h"

#define TABLE "locking"
#define WATCHER_LEN 32
#define SHARE_ENTRY_LEN 128

/* The share entries in a value (phstore_decode.c has the layout). */
static struct phstore_blob entries_of(struct phstore_blob value)
{
	struct cursor c = cur_init(value.data, value.len);
	struct phstore_blob none = {};
	struct phstore_blob entries = {};
	uint32_t num;

	num = cur_le(&c, 4, 1);
	if (num > c.len / WATCHER_LEN) {
		return none;
	}
	cur_take(&c, (size_t)num * WATCHER_LEN);
	cur_take(&c, SERVER_ID_LEN + 8 + 8);
	num = cur_le(&c, 4, 1);
	if (c.reason != NULL || num > c.len / SERVER_ID_LEN) {
		return none;
	}
	cur_take(&c, (size_t)num * SERVER_ID_LEN);
	num = cur_le(&c, 4, 1);
	cur_take(&c, num);
	if (c.reason != NULL) {
		return none;
	}
	entries.len = c.len - c.pos;
	/* in a cluster a mark is behind them */
	entries.len -= entries.len % SHARE_ENTRY_LEN;
	entries.data = cur_take(&c, entries.len);
	return entries;
}

static struct history_entry entry_pull(const uint8_t *data)
{
	struct cursor c = cur_init(data, SHARE_ENTRY_LEN);
	struct history_entry e = {};

	memcpy(e.server, cur_take(&c, SERVER_ID_LEN), SERVER_ID_LEN);
	cur_u64(&c);		/* mid */
	cur_u16(&c);		/* oplock type */
	e.client = cur_guid(&c);
	e.has_client = strpbrk(e.client.s, "123456789abcdef") != NULL;
	(void)cur_guid(&c);	/* create GUID */
	cur_align(&c, 8);
	cur_take(&c, 16);	/* lease key */
	cur_u32(&c);		/* access mask */
	cur_u32(&c);		/* share access */
	cur_u64(&c);		/* time */
	cur_u32(&c);
	e.share_file_id = cur_u64_align4(&c);
	e.uid = cur_u32(&c);
	return e;
}

static bool entry_find(struct phstore_blob entries, uint64_t share_file_id,
		       const uint8_t *server)
{
	const uint8_t *data = entries.data;
	size_t ofs;

	for (ofs = 0; ofs < entries.len; ofs += SHARE_ENTRY_LEN) {
		struct history_entry e = entry_pull(data + ofs);
		bool same = server == NULL ||
			    memcmp(e.server, server, SERVER_ID_LEN) == 0;

		if (same && (uint32_t)e.share_file_id ==
			    (uint32_t)share_file_id)
		{
			return true;
		}
	}
	return false;
}

struct file_walk {
	struct history_gone *gone;
	size_t num;
	uint32_t id;
	bool had;
	struct phstore_blob last;	/* entries; allocated */
	bool no_memory;
};

/* Another state; the entry was there, and is not. */
static void entry_gone(struct file_walk *w, uint64_t lsn,
		       struct phstore_blob now)
{
	const uint8_t *data = now.data;
	struct history_gone *gone = NULL;
	size_t ofs;

	if (w->num == HISTORY_GONE_MAX) {
		return;
	}
	gone = &w->gone[w->num];
	*gone = (struct history_gone) { .lsn = lsn };
	w->num += 1;
	for (ofs = 0; ofs < now.len; ofs += SHARE_ENTRY_LEN) {
		struct history_entry e = entry_pull(data + ofs);
		bool was = entry_find(w->last, e.share_file_id, e.server);

		if (!was) {
			gone->by = e;
			gone->has_by = true;
		}
	}
}

static int file_fn(const struct phstore_record *rec, bool deleted,
		   void *private_data)
{
	struct file_walk *w = private_data;
	struct phstore_blob now = {};
	void *copy = NULL;
	bool has;

	if (!deleted) {
		now = entries_of(rec->value);
	}
	has = entry_find(now, w->id, NULL);
	if (w->had && !has) {
		entry_gone(w, rec->lsn, now);
	}
	w->had = has;
	if (now.len != 0) {
		copy = malloc(now.len);
		if (copy == NULL) {
			w->no_memory = true;
			return 1;
		}
		memcpy(copy, now.data, now.len);
	}
	free((void *)(uintptr_t)w->last.data);
	w->last.data = copy;
	w->last.len = now.len;
	return 0;
}

enum phstore_err history_file(struct phstore *store, uint32_t id,
			      const uint8_t file[HISTORY_FILE_LEN],
			      struct history_gone *gone, size_t *num)
{
	struct phstore_blob key = { .data = file, .len = HISTORY_FILE_LEN };
	struct file_walk w = { .gone = gone, .num = *num, .id = id };
	enum phstore_err err;

	err = phstore_history(store, TABLE, key, file_fn, &w);
	free((void *)(uintptr_t)w.last.data);
	*num = w.num;
	return w.no_memory ? PHSTORE_ERR_NO_MEMORY : err;
}

/*
 * phstore local backend: the daemon's side of a store with a sink
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Reading the log by its tail, storing what came from elsewhere, publishing.
 * See phstore_ship.h for the contract, local_sink.c for the other side.
 *
 * The daemon holds sink.owner, a robust mutex, all its life: who finds its
 * owner dead is the next. It reads segments without a lock: nothing that is
 * not released is compacted, and it reads nothing that is released.
 */

#include "local.h"
#include "phstore_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define READ_CHUNK (128 * 1024)
#define ATTACH_TRIES 20
#define ATTACH_NAP_NS 5000000

struct phstore_ship {
	struct phstore *store;
	struct local_store *ls;
	int fd;
	uint64_t pos;

	struct local_seg seg;		/* holds pos, if not empty */
	uint8_t *buf;			/* talloc: bytes of the log */
	size_t buf_size;
	uint64_t buf_lsn;
	size_t buf_len;

	struct phstore_ship_txn txn;
	struct phstore_ship_op *ops;
	char *tables;			/* their names, with NULs */
	size_t num_ops;			/* allocated */
};

static int ship_destructor(struct phstore_ship *ship)
{
	struct local_sink *sink = &ship->ls->shared->sink;

	(void)local_sink_close_gate(ship->ls, "phstored was stopped", false);
	atomic_store(&sink->asleep, 0);
	atomic_store(&sink->pid, 0);
	if (ship->fd != -1) {
		close(ship->fd);
	}
	pthread_mutex_unlock(&sink->owner);
	return 0;
}

static int owner_lock(struct local_sink *sink)
{
	struct timespec nap = { .tv_nsec = ATTACH_NAP_NS };
	int ret = EBUSY;
	int i;

	/* somebody may look whether there is an owner */
	for (i = 0; i < ATTACH_TRIES; i++) {
		ret = pthread_mutex_trylock(&sink->owner);
		if (ret == EOWNERDEAD) {
			ret = pthread_mutex_consistent(&sink->owner);
		}
		if (ret != EBUSY) {
			break;
		}
		nanosleep(&nap, NULL);
	}
	return ret;
}

/* The store had no sink so far: from now on it has. */
static enum phstore_err give_sink(struct phstore_ship *ship,
				  uint32_t kind,
				  const struct phstore_ship_options *opts)
{
	struct local_store *ls = ship->ls;
	struct local_shared *sh = ls->shared;
	uint64_t records = atomic_load(&sh->num_records);
	struct local_super super;
	enum phstore_err err;
	int i, ret;

	if (records != 0 && !opts->adopt) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "%s has %" PRIu64 " records of before it "
				    "was given to a cluster, which would be "
				    "dropped: move the folder away, or (sink "
				    "rados) adopt it", ls->store->path,
				    records);
	}
	err = phstore_ship_forget_all(ship);
	if (err != PHSTORE_OK) {
		return err;
	}
	ret = local_maint_lock(ls);
	if (ret != 0) {
		return phstore_fail(PHSTORE_ERR_IO, "%s: maintenance lock: "
				    "%s", ls->store->path, strerror(ret));
	}
	super = sh->super;
	super.sink_kind = kind;
	memset(super.sink_name, 0, sizeof(super.sink_name));
	memcpy(super.sink_name, opts->name, strlen(opts->name));
	super.sink_released = 0;
	/* both: a later loss of one must not give the store free again */
	for (i = 0; i < 2 && err == PHSTORE_OK; i++) {
		super.seq += 1;
		err = local_super_write(ls, &super);
		PHSTORE_TEST_POINT("ship: superblock");
	}
	pthread_mutex_unlock(&sh->maint);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = local_append_lock(ls);
	if (err == PHSTORE_OK) {
		atomic_store(&sh->sink_kind, kind);
		local_append_unlock(ls);
	}
	return err;
}

static enum phstore_err check_owner(struct phstore_ship *ship,
				    uint32_t kind,
				    const struct phstore_ship_options *opts)
{
	struct local_shared *sh = ship->ls->shared;
	uint32_t is = sh->super.sink_kind;
	char name[PHSTORE_SHIP_NAME_MAX] = {};

	if (is == LOCAL_SINK_NONE) {
		return give_sink(ship, kind, opts);
	}
	memcpy(name, opts->name, strlen(opts->name));
	if (is != kind || memcmp(name, sh->super.sink_name,
				 sizeof(name)) != 0)
	{
		return phstore_fail(PHSTORE_ERR_SINK,
				    "%s belongs to %s \"%.*s\", not to %s "
				    "\"%s\"", ship->store->path,
				    local_sink_kind_name(is),
				    PHSTORE_SHIP_NAME_MAX,
				    sh->super.sink_name, opts->kind,
				    opts->name);
	}
	/* it was given, but not yet told, by one that was killed */
	atomic_store(&sh->sink_kind, kind);
	return PHSTORE_OK;
}

enum phstore_err phstore_ship_attach(TALLOC_CTX *mem_ctx,
				     struct phstore *store,
				     const struct phstore_ship_options *opts,
				     struct phstore_ship **pship)
{
	struct local_store *ls = store->backend;
	struct local_sink *sink = &ls->shared->sink;
	struct phstore_ship *ship = NULL;
	uint32_t kind = local_sink_by_name(opts->kind);
	size_t len = opts->name != NULL ? strlen(opts->name) : 0;
	uint64_t released;
	enum phstore_err err;
	int ret;

	*pship = NULL;
	phstore_check_fork(store);
	if (kind == LOCAL_SINK_NONE || len == 0 ||
	    len > PHSTORE_SHIP_NAME_MAX)
	{
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "sink \"%s\" with a name of %zu bytes, "
				    "not 1 to %d",
				    opts->kind != NULL ? opts->kind : "",
				    len, PHSTORE_SHIP_NAME_MAX);
	}
	if (store->read_only) {
		return phstore_fail(PHSTORE_ERR_READ_ONLY,
				    "%s: opened read-only", store->path);
	}
	if (ls->want_sink != kind) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "%s was not opened as %s", store->path,
				    opts->kind);
	}
	ship = talloc_zero(mem_ctx, struct phstore_ship);
	if (ship == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	ship->store = store;
	ship->ls = ls;
	ship->fd = -1;
	ret = owner_lock(sink);
	if (ret != 0) {
		err = phstore_fail(PHSTORE_ERR_BUSY,
				   "%s: process %" PRIu32 " ships it already",
				   store->path, atomic_load(&sink->pid));
		talloc_free(ship);
		return err;
	}
	talloc_set_destructor(ship, ship_destructor);
	atomic_store(&sink->pid, (uint32_t)getpid());
	atomic_store(&sink->asleep, 0);
	atomic_store(&sink->full, 0);
	atomic_store(&sink->backlog_max, opts->backlog_max != 0 ?
		     opts->backlog_max : PHSTORE_SHIP_BACKLOG_DEFAULT);
	err = local_sink_close_gate(ls, "phstored has not begun", false);
	if (err == PHSTORE_OK) {
		err = check_owner(ship, kind, opts);
	}
	if (err == PHSTORE_OK) {
		ship->fd = local_notify_bind(ls, "wake-ship");
		if (ship->fd == -1) {
			err = phstore_fail(PHSTORE_ERR_IO,
					   "%s/wake-ship: %s", store->path,
					   strerror(errno));
		}
	}
	if (err != PHSTORE_OK) {
		talloc_free(ship);
		return err;
	}
	released = atomic_load(&sink->released);
	if (released > atomic_load(&ls->shared->head)) {
		/* of a longer log that a crash has cut */
		released = atomic_load(&ls->shared->head);
		atomic_store(&sink->released, released);
	}
	phstore_ship_reached(ship, released, released);
	ship->pos = released;
	*pship = ship;
	return PHSTORE_OK;
}

void phstore_ship_detach(struct phstore_ship *ship)
{
	talloc_free(ship);
}

uint64_t phstore_ship_tell(struct phstore_ship *ship)
{
	return ship->pos;
}

void phstore_ship_seek(struct phstore_ship *ship, uint64_t lsn)
{
	ship->pos = lsn;
	ship->seg.size = 0;
	ship->buf_len = 0;
}

uint64_t phstore_ship_head(struct phstore_ship *ship)
{
	return atomic_load(&ship->ls->shared->head);
}

uint64_t phstore_ship_released(struct phstore_ship *ship)
{
	return atomic_load(&ship->ls->shared->sink.released);
}

uint64_t phstore_ship_durable(struct phstore_ship *ship)
{
	return atomic_load(&ship->ls->shared->durable);
}

int phstore_ship_fd(struct phstore_ship *ship)
{
	return ship->fd;
}

void phstore_ship_drain(struct phstore_ship *ship)
{
	uint8_t buf[16];
	ssize_t n;

	do {
		n = recv(ship->fd, buf, sizeof(buf), MSG_DONTWAIT);
	} while (n >= 0);
}

/* The segment of ship->pos, which may be the next one's beginning. */
static enum phstore_err find_segment(struct phstore_ship *ship)
{
	struct local_store *ls = ship->ls;
	const struct local_seg *seg = NULL;
	uint64_t tail;
	enum phstore_err err;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	tail = atomic_load(&ls->shared->tail);
	if (ship->pos < tail) {
		ship->pos = tail;
	}
	seg = local_seg_find(ls, ship->pos);
	if (seg != NULL) {
		ship->seg = *seg;
	}
	local_append_unlock(ls);
	if (seg == NULL) {
		return phstore_fail(PHSTORE_ERR_CORRUPT,
				    "%s: no segment holds LSN %" PRIu64,
				    ship->store->path, ship->pos);
	}
	if (ship->pos < ship->seg.start + LOCAL_SEG_HDR) {
		ship->pos = ship->seg.start + LOCAL_SEG_HDR;
	}
	ship->buf_len = 0;
	return PHSTORE_OK;
}

/* At least `need` bytes at pos in memory; false: there are not so many. */
static enum phstore_err fill(struct phstore_ship *ship,
			     uint64_t head,
			     size_t need,
			     bool *ok)
{
	uint64_t end = ship->seg.start + ship->seg.size;
	size_t have = 0;
	size_t want = need > READ_CHUNK ? need : READ_CHUNK;
	ssize_t n;
	int fd;

	end = head < end ? head : end;
	*ok = true;
	if (ship->pos >= ship->buf_lsn &&
	    ship->pos < ship->buf_lsn + ship->buf_len)
	{
		have = ship->buf_lsn + ship->buf_len - ship->pos;
	}
	if (have >= need) {
		return PHSTORE_OK;
	}
	if (end < ship->pos + need) {
		*ok = false;
		return PHSTORE_OK;
	}
	if (want > end - ship->pos) {
		want = end - ship->pos;
	}
	if (ship->buf_size < want) {
		uint8_t *buf = talloc_realloc(ship, ship->buf, uint8_t, want);

		if (buf == NULL) {
			return phstore_fail(PHSTORE_ERR_NO_MEMORY,
					    "out of memory");
		}
		ship->buf = buf;
		ship->buf_size = want;
	}
	fd = local_fd_get(ship->ls, ship->seg.segno);
	if (fd == -1) {
		return phstore_fail(PHSTORE_ERR_IO, "%s/seg-%016" PRIx64
				    ": %s", ship->store->path,
				    ship->seg.segno, strerror(errno));
	}
	n = phstore_io_read_full(fd, ship->buf, want,
				 ship->pos - ship->seg.start);
	local_fd_put(ship->ls, ship->seg.segno);
	if (n == -1) {
		return phstore_fail(PHSTORE_ERR_IO, "%s/seg-%016" PRIx64
				    ": %s", ship->store->path,
				    ship->seg.segno, strerror(errno));
	}
	ship->buf_lsn = ship->pos;
	ship->buf_len = (size_t)n;
	*ok = (size_t)n >= need;
	return PHSTORE_OK;
}

static enum phstore_err take_frame(struct phstore_ship *ship,
				   const uint8_t *p,
				   const struct phstore_frame_hdr *hdr)
{
	size_t ofs = PHSTORE_FRAME_HDR;
	uint16_t i;

	if (ship->num_ops < hdr->num_ops) {
		TALLOC_FREE(ship->ops);
		TALLOC_FREE(ship->tables);
		ship->num_ops = 0;
		ship->ops = talloc_array(ship, struct phstore_ship_op,
					 hdr->num_ops);
		ship->tables = talloc_array(ship, char,
					    hdr->num_ops *
					    (PHSTORE_TABLE_MAX + 1));
		if (ship->ops == NULL || ship->tables == NULL) {
			return phstore_fail(PHSTORE_ERR_NO_MEMORY,
					    "out of memory");
		}
		ship->num_ops = hdr->num_ops;
	}
	ship->txn = (struct phstore_ship_txn) {
		.lsn = hdr->lsn,
		.end_lsn = hdr->lsn + hdr->len,
		.num_ops = hdr->num_ops,
		.ops = ship->ops,
	};
	for (i = 0; i < hdr->num_ops; i++) {
		char *table = ship->tables + i * (PHSTORE_TABLE_MAX + 1);
		struct phstore_frame_op op = {};

		(void)phstore_op_pull(p + ofs, hdr->len - ofs, ofs, &op);
		memcpy(table, op.table, op.table_len);
		table[op.table_len] = '\0';
		ship->ops[i] = (struct phstore_ship_op) {
			.table = table,
			.key = { op.key, op.key_len },
			.value = { op.value, op.value_len },
			.version = op.version,
			.durability = (enum phstore_class)op.durability,
			.deleted = op.kind == PHSTORE_OP_DELETE,
		};
		if (ship->ops[i].durability > ship->txn.durability) {
			ship->txn.durability = ship->ops[i].durability;
		}
		ofs += op.len;
	}
	return PHSTORE_OK;
}

/* One frame at pos; *what is its type, 0: none up to head. */
static enum phstore_err next_frame(struct phstore_ship *ship,
				   uint64_t head,
				   uint16_t *what)
{
	uint64_t end = ship->seg.start + ship->seg.size;
	struct phstore_frame_hdr hdr = {};
	const uint8_t *p = NULL;
	enum phstore_err err;
	bool ok = false;

	*what = 0;
	if (ship->pos >= head) {
		return PHSTORE_OK;
	}
	if (ship->seg.size == 0 || ship->pos < ship->seg.start ||
	    ship->pos + PHSTORE_FRAME_HDR > end)
	{
		if (ship->seg.size != 0 && ship->pos < end &&
		    ship->pos + PHSTORE_FRAME_HDR > end)
		{
			ship->pos = end;
		}
		*what = PHSTORE_FRAME_SEAL;
		return ship->pos < head ? find_segment(ship) : PHSTORE_OK;
	}
	err = fill(ship, head, PHSTORE_FRAME_HDR, &ok);
	if (err != PHSTORE_OK || !ok) {
		/* the head of a segment that is being begun */
		return err;
	}
	p = ship->buf + (ship->pos - ship->buf_lsn);
	ok = phstore_frame_pull_hdr(p, PHSTORE_FRAME_HDR, &hdr);
	if (ok && hdr.lsn == ship->pos) {
		err = fill(ship, head, hdr.len, &ok);
		if (err != PHSTORE_OK) {
			return err;
		}
		p = ship->buf + (ship->pos - ship->buf_lsn);
		ok = ok && phstore_frame_check(p, hdr.len, ship->pos,
					       ship->ls->seed, false, &hdr);
	}
	if (!ok || hdr.lsn != ship->pos) {
		/* damage: told by recovery; go on behind it */
		ship->pos += PHSTORE_FRAME_ALIGN;
		*what = PHSTORE_FRAME_COPY;
		return PHSTORE_OK;
	}
	*what = hdr.type;
	if (hdr.type == PHSTORE_FRAME_TXN) {
		err = take_frame(ship, p, &hdr);
	}
	ship->pos = hdr.type == PHSTORE_FRAME_SEAL ? end : ship->pos + hdr.len;
	return err;
}

enum phstore_err phstore_ship_read(struct phstore_ship *ship,
				   struct phstore_ship_txn **txn)
{
	struct local_sink *sink = &ship->ls->shared->sink;
	uint64_t head = phstore_ship_head(ship);
	enum phstore_err err;
	uint16_t what = 0;

	atomic_store(&sink->asleep, 0);
	while (true) {
		err = next_frame(ship, head, &what);
		if (err != PHSTORE_OK) {
			return err;
		}
		if (what == PHSTORE_FRAME_TXN) {
			*txn = &ship->txn;
			return PHSTORE_OK;
		}
		if (what != 0 && ship->pos < head) {
			continue;
		}
		/* say so, then look again */
		atomic_store(&sink->asleep, 1);
		if (head == phstore_ship_head(ship)) {
			return PHSTORE_ERR_NOT_FOUND;
		}
		atomic_store(&sink->asleep, 0);
		head = phstore_ship_head(ship);
	}
}

enum phstore_err phstore_ship_publish(struct phstore_ship *ship,
				      const struct phstore_ship_state *st)
{
	struct local_store *ls = ship->ls;
	struct local_sink *sink = &ls->shared->sink;
	enum phstore_err err;
	bool barred = false;

	if (!st->writable) {
		err = local_sink_close_gate(ls, st->reason, false);
		if (err != PHSTORE_OK) {
			return err;
		}
	}
	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	atomic_fetch_or(&sink->seq, 1);
	if (sink->epoch != st->epoch) {
		sink->floor = 0;
	}
	sink->epoch = st->epoch;
	if (st->floor > sink->floor) {
		sink->floor = st->floor;
	}
	sink->generation = st->generation;
	sink->node = st->node;
	/* even again, and another: a dead daemon's odd one as well */
	atomic_fetch_add(&sink->seq, 1);
	sink->complete = st->complete;
	memcpy(sink->reason, st->reason, sizeof(sink->reason));
	sink->reason[sizeof(sink->reason) - 1] = '\0';
	if (st->writable) {
		barred = atomic_load(&sink->bar) !=
			 atomic_load(&sink->unbarred);
		if (!barred) {
			atomic_store(&sink->begun, atomic_load(&sink->disk));
			atomic_store(&sink->gate, LOCAL_GATE_OPEN);
			/* closed from outside in between? that one counts */
			if (atomic_load(&sink->bar) !=
			    atomic_load(&sink->unbarred))
			{
				atomic_store(&sink->gate, LOCAL_GATE_CLOSED);
				barred = true;
			}
		}
	}
	local_append_unlock(ls);
	local_sink_moved(ls);
	if (barred) {
		return phstore_fail(PHSTORE_ERR_NOT_READY,
				    "%s: closed from outside, a recovery is "
				    "under way", ship->store->path);
	}
	return PHSTORE_OK;
}

uint64_t phstore_ship_bar(struct phstore_ship *ship)
{
	return atomic_load(&ship->ls->shared->sink.bar);
}

void phstore_ship_unbar(struct phstore_ship *ship, uint64_t bar)
{
	atomic_store(&ship->ls->shared->sink.unbarred, bar);
}

void phstore_ship_set_full(struct phstore_ship *ship, bool full)
{
	atomic_store(&ship->ls->shared->sink.full, full ? 1 : 0);
}

void phstore_ship_set_floor(struct phstore_ship *ship, uint64_t floor)
{
	struct local_sink *sink = &ship->ls->shared->sink;
	enum phstore_err err;

	if (floor <= sink->floor) {
		return;
	}
	err = local_append_lock(ship->ls);
	if (err == PHSTORE_OK) {
		sink->floor = floor;
		local_append_unlock(ship->ls);
	}
}

static bool mark_raise(_Atomic uint64_t *mark, uint64_t lsn)
{
	if (lsn <= atomic_load(mark)) {
		return false;
	}
	atomic_store(mark, lsn);
	return true;
}

void phstore_ship_reached(struct phstore_ship *ship,
			  uint64_t mem_lsn,
			  uint64_t disk_lsn)
{
	struct local_sink *sink = &ship->ls->shared->sink;
	bool moved;

	moved = mark_raise(&sink->mem, mem_lsn);
	moved = mark_raise(&sink->disk, disk_lsn) || moved;
	if (moved) {
		local_sink_moved(ship->ls);
	}
}

void phstore_ship_fence(struct phstore_ship *ship, uint64_t lsn)
{
	struct local_sink *sink = &ship->ls->shared->sink;
	uint64_t from = atomic_load(&sink->disk);
	uint64_t n = atomic_load(&sink->num_fences);
	struct local_fence *f = &sink->fences[n % LOCAL_FENCES];

	if (lsn <= from) {
		return;
	}
	if (n < LOCAL_FENCES) {
		atomic_store(&f->from, from);
	}
	atomic_store(&f->to, lsn);
	atomic_store(&sink->num_fences, n + 1);
	PHSTORE_TEST_POINT("ship: fenced");
	(void)mark_raise(&sink->mem, lsn);
	(void)mark_raise(&sink->disk, lsn);
	local_sink_moved(ship->ls);
}

void phstore_ship_release(struct phstore_ship *ship, uint64_t lsn)
{
	(void)mark_raise(&ship->ls->shared->sink.released, lsn);
}

enum phstore_err phstore_ship_apply(struct phstore_ship *ship,
				    const struct phstore_ship_op *ops,
				    size_t num_ops,
				    uint64_t *end_lsn)
{
	struct phstore_txn *txn = phstore_txn_new(ship, ship->store);
	enum phstore_err err = PHSTORE_OK;
	size_t i;

	*end_lsn = 0;
	if (txn == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	for (i = 0; i < num_ops; i++) {
		struct phstore_op_options opts = {
			.durability = ops[i].durability,
			.version = ops[i].version,
			.use_reserve = true,
		};

		if (ops[i].deleted) {
			err = phstore_txn_delete(txn, ops[i].table,
						 ops[i].key, &opts);
		} else {
			err = phstore_txn_put(txn, ops[i].table, ops[i].key,
					      ops[i].value, &opts);
		}
		if (err == PHSTORE_OK && txn->ops[i].auto_version) {
			err = phstore_fail(PHSTORE_ERR_INVALID,
					   "a record without a version");
		}
		if (err != PHSTORE_OK) {
			goto done;
		}
		txn->ops[i].if_newer = true;
	}
	txn->is_copy = true;
	err = phstore_stage(txn, end_lsn);
done:
	talloc_free(txn);
	return err;
}

enum phstore_err phstore_ship_sync(struct phstore_ship *ship)
{
	return local_sync_aside(ship->store, phstore_ship_head(ship));
}

enum phstore_err phstore_ship_clear(struct phstore_ship *ship)
{
	struct local_store *ls = ship->ls;
	struct local_shared *sh = ls->shared;
	uint8_t buf[PHSTORE_FRAME_HDR];
	uint64_t end_lsn = 0;
	enum phstore_err err;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = local_append_frame(ls, buf, sizeof(buf), 0,
				 PHSTORE_FRAME_CLEAR, true, NULL,
				 &end_lsn);
	if (err == PHSTORE_OK) {
		ls->staged = true;
		/* killed before: the frame is not indexed, it is replayed */
		err = local_index_create(ls, sh->index_gen + 1);
		if (err == PHSTORE_OK) {
			sh->indexed = end_lsn;
		}
	}
	local_append_unlock(ls);
	return err;
}

enum phstore_err phstore_ship_forget(struct phstore_ship *ship,
				     const char *table,
				     struct phstore_blob key,
				     struct phstore_version version)
{
	struct local_store *ls = ship->ls;
	struct phstore_frame_op op = {
		.table = (const uint8_t *)table,
		.table_len = strlen(table),
		.key = key.data,
		.key_len = key.len,
	};
	struct local_entry e = {};
	enum phstore_err err;

	err = local_append_lock(ls);
	if (err != PHSTORE_OK) {
		return err;
	}
	err = local_index_get(ls, op.table, op.table_len, op.key, op.key_len,
			      &e);
	if (err == PHSTORE_OK && e.kind == PHSTORE_OP_DELETE &&
	    e.version.epoch == version.epoch && e.version.seq == version.seq)
	{
		err = local_index_drop(ls, &op);
	}
	local_append_unlock(ls);
	return err == PHSTORE_ERR_NOT_FOUND ? PHSTORE_OK : err;
}

void phstore_ship_repair(struct phstore_ship *ship)
{
	ship->ls->repair = true;
}

enum phstore_err phstore_ship_forget_all(struct phstore_ship *ship)
{
	return local_drop_tombstones(ship->ls);
}

enum phstore_err phstore_ship_snapshot(TALLOC_CTX *mem_ctx,
				       struct phstore_ship *ship,
				       uint64_t min_epoch,
				       struct phstore_ship_snapshot **snap)
{
	return local_snapshot(mem_ctx, ship->ls, min_epoch, snap);
}

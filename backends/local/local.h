/*
 * phstore local backend: what its files share
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file local.h
 *
 * @brief A log of segments in a folder, shared by the processes of a host.
 *
 * The bytes on disk and the validity rule stand in docs/DISK_FORMAT.md; this
 * is the shared memory beside it.
 *
 * Who may touch what (struct local_shared):
 *
 *   append mutex  head, segs, index (tdb and its accounting), latched
 *   sync mutex    held by the leader of a group commit while it syncs
 *   maint mutex   compaction, spare segments, superblock
 *
 * Order: maint before sync before append. No disk sync and no wait happens
 * under the append mutex. All three are robust: a process may die at any
 * instruction. What a dead owner leaves:
 *
 *   append  every step publishes with one store (head, seg_end, seg_begin);
 *           what was not published is written again by the next. The index
 *           is derived from the log: `indexed` tells how far it is, it is
 *           caught up; if the owner died inside tdb (`index_busy`), it is
 *           rebuilt into a new file
 *   sync    nothing: `durable` is stored after the syncs
 *   maint   superblocks alternate; copies made twice are harmless
 */

#ifndef PHSTORE_LOCAL_H
#define PHSTORE_LOCAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>
#include <tdb.h>

#include "phstore_private.h"
#include "phstore_ship.h"

#define LOCAL_FORMAT_VERSION 1
/* of the superblock of a store that has a sink */
#define LOCAL_FORMAT_SINK 2

#define LOCAL_SEGMENT_MIN (64 * 1024)
#define LOCAL_SEGMENT_MAX (1024 * 1024 * 1024)
#define LOCAL_SEGMENT_DEFAULT (8 * 1024 * 1024)

/* Segments in the log at most; with the default size 32 GiB. */
#define LOCAL_MAX_SEGMENTS 4096
/* Prepared segments kept. */
#define LOCAL_MAX_SPARES 2
/* Damaged regions remembered; more are counted only. */
#define LOCAL_MAX_DAMAGE 64
/* Processes whose event loops can wait at the same time. */
#define LOCAL_MAX_WAITERS 4096
/* Segment files a process keeps open. */
#define LOCAL_FD_CACHE 8

#define LOCAL_SUPER_SIZE 4096
#define LOCAL_SUPER_LEN 128
#define LOCAL_SEG_HDR 64

/* Where log position `start` to `start + size` lies; a file per segment. */
struct local_seg {
	uint64_t segno;
	uint64_t start;		/* LSN of byte 0 of the file */
	uint64_t size;
	uint64_t damaged;	/* bytes in it that recovery could not read */
};

struct local_super {
	uint64_t seq;		/* the valid one with the higher seq counts */
	uint8_t uuid[16];
	uint64_t segment_size;
	uint64_t epoch;
	uint64_t epoch_start;	/* LSN where this epoch's frames begin */
	uint64_t tail_segno;
	uint64_t tail_lsn;
	uint64_t durable;	/* everything below was synced */
	uint64_t num_damaged;	/* regions ever found */
	uint32_t sink_kind;	/* enum local_sink_kind */
	char sink_name[PHSTORE_SHIP_NAME_MAX];	/* zero padded */
	uint64_t sink_released;	/* the sink needs nothing below */
};

enum local_sink_kind {
	LOCAL_SINK_NONE = 0,
	LOCAL_SINK_CTDB = 1,
	LOCAL_SINK_RADOS = 2,
	LOCAL_SINK_END
};

enum local_damage_reason {
	LOCAL_DAMAGE_FRAME = 0,
	LOCAL_DAMAGE_MISSING = 1,
	LOCAL_DAMAGE_HEADER = 2,
	LOCAL_DAMAGE_TRUNCATED = 3,
};

struct local_damage {
	uint64_t lsn;
	uint64_t len;
	uint64_t segno;
	uint64_t ofs;
	uint32_t reason;	/* enum local_damage_reason */
};

#define LOCAL_SHARED_MAGIC 0x3145524148534850ULL	/* "PHSHARE1" */

/* A process whose event loop waits, see local_notify.c. */
struct local_waiter {
	_Atomic uint32_t pid;		/* 0: free */
	_Atomic uint32_t reserved;
	_Atomic uint64_t lsn;		/* waited for; 0: nothing */
	_Atomic uint64_t mem_lsn;	/* the same, class replicated */
};

/* Changes that were undone: their LSNs are above from, up to to. */
#define LOCAL_FENCES 8
struct local_fence {
	_Atomic uint64_t from;
	_Atomic uint64_t to;
};

enum local_gate {
	LOCAL_GATE_CLOSED = 0,
	LOCAL_GATE_CLOSING = 1,		/* stage yes, enter no */
	LOCAL_GATE_OPEN = 2,
};

/* What the daemon of a sink publishes, see local_ship.c. */
struct local_sink {
	pthread_mutex_t owner;		/* held by the daemon all its life */
	_Atomic uint32_t pid;
	_Atomic uint32_t gate;		/* closed under the append mutex */
	_Atomic uint32_t entered;	/* too high after kills */
	_Atomic uint32_t asleep;	/* the daemon wants a datagram */
	_Atomic uint32_t gen;		/* futex: something here moved */
	_Atomic uint32_t sleepers;	/* on gen; too high after kills */
	_Atomic uint32_t full;		/* the sink takes only releases */
	_Atomic uint64_t bar;		/* closed from outside so often */
	_Atomic uint64_t unbarred;	/* and so often allowed to open */
	_Atomic uint64_t mem;
	_Atomic uint64_t disk;
	_Atomic uint64_t begun;		/* below: on all members */
	_Atomic uint64_t released;
	_Atomic uint64_t backlog_max;
	_Atomic uint64_t num_fences;
	struct local_fence fences[LOCAL_FENCES];

	/* written under the append mutex; seq is odd while they change */
	_Atomic uint64_t seq;
	_Atomic uint64_t epoch;
	_Atomic uint64_t floor;
	_Atomic uint64_t generation;
	_Atomic uint32_t node;
	bool complete;
	char reason[PHSTORE_SHIP_REASON_MAX];
};

/* The mapped `state` file. Not a disk format: made anew at every start. */
struct local_shared {
	uint64_t magic;
	uint32_t size;			/* sizeof(struct local_shared) */
	_Atomic uint32_t ready;
	char boot_id[40];

	pthread_mutex_t append;
	pthread_mutex_t sync;
	pthread_mutex_t maint;

	/* the log */
	_Atomic uint64_t head;		/* next byte to append */
	_Atomic uint64_t durable;	/* synced below this */
	_Atomic uint64_t tail;		/* start of the first segment */
	_Atomic uint32_t seg_begin;	/* ring indexes, never wrapped */
	_Atomic uint32_t seg_end;
	struct local_seg segs[LOCAL_MAX_SEGMENTS];
	uint64_t dir_dirty;		/* folder changes made, */
	_Atomic uint64_t dir_synced;	/* and synced */
	_Atomic uint32_t spare_ready[LOCAL_MAX_SPARES];

	/* the index */
	uint32_t index_gen;
	uint32_t index_busy;
	uint64_t indexed;
	_Atomic uint64_t live_bytes;
	_Atomic uint64_t num_records;
	_Atomic uint64_t num_tombstones;

	/* group commit, see local_sync.c */
	_Atomic uint32_t sync_gen;	/* futex: bumped when a sync ended */
	_Atomic uint32_t sleepers;	/* on sync_gen; too high after kills */
	_Atomic uint32_t arrivals;	/* futex: barriers that came to wait */
	_Atomic uint32_t leader_waits;	/* leader sleeps on arrivals */
	_Atomic uint32_t returned;	/* of the last group, back already */
	_Atomic uint32_t last_group;	/* how many the last sync answered */
	_Atomic uint64_t sync_no;	/* syncs done, number of the last one */
	uint32_t arrivals_synced;	/* arrivals the last sync covered */
	_Atomic uint32_t index_tight;	/* see local_index_room() */
	_Atomic uint64_t sync_ns_avg;

	_Atomic uint32_t leader_active;	/* somebody will look at waiters */
	_Atomic uint32_t waiters_end;	/* slots ever used */
	struct local_waiter waiters[LOCAL_MAX_WAITERS];

	_Atomic uint32_t latched;	/* errno of a failed sync, or 0 */
	_Atomic uint32_t sink_kind;	/* enum local_sink_kind */

	struct local_super super;	/* the one on disk, under maint */

	/* what recovery found */
	_Atomic uint32_t num_damage;
	struct local_damage damage[LOCAL_MAX_DAMAGE];
	uint64_t torn_tail_bytes;
	uint64_t recovery_us;

	/* counters */
	_Atomic uint64_t num_appends;
	_Atomic uint64_t num_elided;
	_Atomic uint64_t appended_bytes;
	_Atomic uint64_t num_syncs;
	_Atomic uint64_t num_meta_syncs;
	_Atomic uint64_t num_barriers;
	_Atomic uint64_t num_compacted;
	_Atomic uint64_t num_owner_deaths;
	_Atomic uint64_t sync_ns_total;
	_Atomic uint64_t sync_ns_max;
	_Atomic uint64_t barrier_us[PHSTORE_LATENCY_BUCKETS];

	struct local_sink sink;
};

struct local_fd {
	uint64_t segno;
	int fd;
	uint32_t users;		/* not to be closed */
	uint64_t used;		/* for least recently used */
};

/* One process's handle. */
struct local_store {
	struct phstore *store;
	struct local_shared *shared;	/* mapped; read-only: private memory */
	int dir_fd;
	int lock_fd;
	int super_fd;
	uint32_t seed;			/* of frame checksums, from the uuid */

	struct tdb_context *index;	/* under the append mutex */
	uint32_t index_gen;
	bool index_any_fs;		/* blocks cannot be had ahead here */

	pthread_mutex_t fd_mutex;	/* this process's threads */
	struct local_fd fds[LOCAL_FD_CACHE];
	uint64_t fd_clock;

	int notify_fd;			/* our socket, -1: none */
	int notify_slot;
	int send_fd;			/* to the sockets of others */
	uint64_t hinted_lsn;		/* counted as arrived already */
	_Atomic uint64_t last_sync_no;	/* group that answered us last */
	bool repair;	/* phstore_ship_repair() */
	bool staged;
	uint32_t want_sink;		/* kind it was opened for */
	int ship_fd;			/* connected to the daemon's socket */
};

/* What the index knows of a record. */
struct local_entry {
	uint64_t lsn;		/* of the frame */
	uint64_t end_lsn;	/* behind the frame */
	uint64_t value_lsn;
	uint32_t value_len;
	uint32_t value_crc;
	uint32_t live_len;	/* what it adds to live_bytes */
	uint8_t kind;		/* PHSTORE_OP_* */
	uint8_t durability;
	uint8_t copied;		/* by a PHSTORE_FRAME_COPY */
	struct phstore_version version;
};

/* local_format.c */
#define LOCAL_PATH_MAX 4096
void local_super_push(uint8_t buf[LOCAL_SUPER_LEN],
		      const struct local_super *super);
/* OK, FOREIGN (no magic), NEWER, CORRUPT */
enum phstore_err local_super_pull(const uint8_t *buf,
				  size_t len,
				  struct local_super *super);
/*
 * Are the counters beyond, or within `more` of, what a store can get to?
 * Then they are damaged, and another step could leave one that no release
 * can open.
 */
#define LOCAL_WORN_APPEND (1ULL << 40)
bool local_worn(const struct local_super *super,
		uint64_t segno,
		uint64_t head,
		uint64_t more);
void local_seg_hdr_push(uint8_t buf[LOCAL_SEG_HDR],
			const struct local_seg *seg,
			uint32_t seed);
bool local_seg_hdr_pull(const uint8_t *buf,
			size_t len,
			uint32_t seed,
			struct local_seg *seg);
uint32_t local_seed(const uint8_t uuid[16]);

/* local_segment.c */
void local_seg_path(struct local_store *ls, uint64_t segno,
		    char buf[LOCAL_PATH_MAX]);
void local_spare_path(struct local_store *ls, uint32_t i,
		      char buf[LOCAL_PATH_MAX]);
void local_damaged_path(struct local_store *ls, uint64_t segno,
			char buf[LOCAL_PATH_MAX]);
/* the segment that holds lsn; append mutex held or read-only */
const struct local_seg *local_seg_find(struct local_store *ls, uint64_t lsn);
const struct local_seg *local_seg_last(struct local_store *ls);
/* -1 with errno; give it back with local_fd_put() */
int local_fd_get(struct local_store *ls, uint64_t segno);
void local_fd_put(struct local_store *ls, uint64_t segno);
void local_fd_forget_below(struct local_store *ls, uint64_t segno);
void local_fd_close_all(struct local_store *ls);
/* make room for len bytes at the head; append mutex held */
enum phstore_err local_seg_reserve(struct local_store *ls,
				   size_t len,
				   bool use_reserve);
/* begin the next segment, with room for len bytes; append mutex held */
enum phstore_err local_seg_rotate(struct local_store *ls, size_t len);
enum phstore_err local_seg_create(struct local_store *ls,
				  struct local_seg *seg);
bool local_spare_wanted(struct local_store *ls);
enum phstore_err local_spare_make(struct local_store *ls);
void local_seg_retire(struct local_store *ls, const struct local_seg *seg);

/*
 * local_index.c: append mutex held for all of it. `old` is what the index has
 * of the operation's key (end_lsn 0: nothing), NULL: it is looked up.
 */
enum phstore_err local_index_create(struct local_store *ls, uint32_t gen);
enum phstore_err local_index_open(struct local_store *ls);

/* For whom: who asks before, who stages, who lets go or has to follow. */
enum local_room_level {
	LOCAL_ROOM_RESERVE = 1,
	LOCAL_ROOM_STAGE = 2,
	LOCAL_ROOM_ASK = 3,
};

/* May a frame of `len` bytes be appended: its keys can be put in the index? */
enum phstore_err local_index_room(struct local_store *ls,
				  size_t len,
				  enum local_room_level level);
enum phstore_err local_index_get(struct local_store *ls,
				 const uint8_t *table, size_t table_len,
				 const uint8_t *key, size_t key_len,
				 struct local_entry *e);
enum phstore_err local_index_apply(struct local_store *ls,
				   uint64_t frame_lsn,
				   uint32_t frame_len,
				   uint16_t frame_type,
				   const struct phstore_frame_op *op,
				   const struct local_entry *old);
enum phstore_err local_index_drop(struct local_store *ls,
				  const struct phstore_frame_op *op);
void local_entry_push(uint8_t *buf, const struct local_entry *e);
bool local_entry_pull(const uint8_t *buf, size_t len, struct local_entry *e);
#define LOCAL_ENTRY_LEN 56

/* local_append.c */
/* lock the log, repairing what a dead owner left */
enum phstore_err local_append_lock(struct local_store *ls);
void local_append_unlock(struct local_store *ls);
enum phstore_err local_stage(struct phstore *store,
			     struct phstore_txn *txn,
			     uint64_t *lsn);
enum phstore_err local_room(struct phstore *store, size_t bytes);
/*
 * Write a frame with its operations in place; append mutex held. `old` is, for
 * each operation, what the index has of its key, as above, or NULL: it is
 * looked up. No two operations may have one key then.
 */
enum phstore_err local_append_frame(struct local_store *ls,
				    uint8_t *buf,
				    size_t ops_end,
				    uint16_t num_ops,
				    uint16_t type,
				    bool use_reserve,
				    const struct local_entry *old,
				    uint64_t *end_lsn);
enum phstore_err local_latched_error(struct local_store *ls);

/* local_sync.c */
bool local_is_synced(struct phstore *store, uint64_t lsn);
/* synced here, whatever a sink says */
enum phstore_err local_barrier_disk(struct phstore *store,
				    uint64_t lsn,
				    uint32_t timeout_ms);
enum phstore_err local_barrier_check(struct phstore *store, uint64_t lsn);
enum phstore_err local_sync_aside(struct phstore *store, uint64_t lsn);
/* wait for it, or lead, also on behalf of others, for so many rounds */
enum phstore_err local_lead(struct phstore *store, uint64_t lsn);
void local_served(struct phstore *store, uint64_t wait_ns);
void local_sync_arrive(struct local_store *ls);
int local_mutex_lock(struct local_store *ls, pthread_mutex_t *mutex,
		     bool *owner_died);
int local_mutex_init(pthread_mutex_t *mutex);

/* local_notify.c */
int local_notify_fd(struct phstore *store);
enum phstore_notify local_notify_wait(struct phstore *store,
				      uint64_t lsn,
				      uint64_t mem_lsn);
/* to the socket of that name in the store's folder; -1 */
int local_notify_connect(struct local_store *ls, const char *name);
int local_notify_bind(struct local_store *ls, const char *name);
void local_notify_drain(struct phstore *store);
bool local_leading(struct phstore *store);
void local_hint(struct phstore *store, uint64_t lsn);
void local_notify_forget(struct local_store *ls);
void local_notify_close(struct local_store *ls);
bool local_notify_reached(struct local_store *ls);
void local_notify_hand_over(struct local_store *ls);

/* local_sink.c: what a sink changes for those who stage and wait */
static inline bool local_has_sink(struct local_store *ls)
{
	return (atomic_load_explicit(&ls->shared->sink_kind,
				     memory_order_relaxed) |
		ls->want_sink) != LOCAL_SINK_NONE;
}
uint32_t local_sink_by_name(const char *name);
const char *local_sink_kind_name(uint32_t kind);
enum phstore_err local_sink_check_open(struct local_store *ls,
				       bool any_sink);
/* append mutex held */
enum phstore_err local_sink_gate(struct local_store *ls,
				 const struct phstore_txn *txn,
				 bool use_reserve);
enum phstore_err local_sink_room(struct local_store *ls);
struct phstore_version local_sink_version(struct local_store *ls,
					  struct phstore_version newest);
bool local_sink_may_skip(struct local_store *ls,
			 const struct phstore_txn_op *top,
			 const struct local_entry *e);
bool local_sink_reached(struct local_store *ls, uint64_t lsn,
			enum phstore_class durability);
bool local_sink_fenced(struct local_store *ls, uint64_t lsn);
void local_sink_kick(struct phstore *store);
void local_sink_moved(struct local_store *ls);
void local_sink_wait_moved(struct local_store *ls, uint32_t gen,
			   uint64_t ns);
bool local_is_durable(struct phstore *store, uint64_t lsn,
		      enum phstore_class durability);
enum phstore_err local_barrier(struct phstore *store,
			       uint64_t lsn,
			       enum phstore_class durability,
			       uint32_t timeout_ms);
bool local_class_waits(struct phstore *store, enum phstore_class durability);
enum phstore_err local_sink_close_gate(struct local_store *ls,
				       const char *reason,
				       bool bar);

/* local_snapshot.c */
enum phstore_err local_snapshot(TALLOC_CTX *mem_ctx,
				struct local_store *ls,
				uint64_t min_epoch,
				struct phstore_ship_snapshot **snap);
enum phstore_err local_drop_tombstones(struct local_store *ls);

/* local.c */
void local_shared_reset(struct local_store *ls);

/* local_recover.c */
enum phstore_err local_recover(struct local_store *ls);
enum phstore_err local_replay(struct local_store *ls,
			      uint64_t from,
			      uint64_t to);

/* local_walk.c: reading the log in order */
struct local_walk_fn {
	/* a valid frame */
	enum phstore_err (*frame)(struct local_store *ls,
				  const struct local_seg *seg,
				  const struct phstore_frame_hdr *hdr,
				  const uint8_t *buf,
				  void *private_data);
	/* bytes below `known` that are not valid */
	void (*damage)(struct local_store *ls,
		       const struct local_seg *seg,
		       uint64_t lsn, uint64_t len,
		       enum local_damage_reason reason,
		       void *private_data);
};
enum phstore_err local_walk(struct local_store *ls,
			    const struct local_seg *segs,
			    size_t num_segs,
			    uint64_t from,
			    uint64_t known,
			    const struct local_super *super,
			    const struct local_walk_fn *fns,
			    void *private_data,
			    uint64_t *end,
			    uint64_t *torn);

/* local_super.c */
enum phstore_err local_super_read(struct local_store *ls,
				  struct local_super *super);
enum phstore_err local_super_write(struct local_store *ls,
				   const struct local_super *super);
/* take the one on disk into the shared state; maint mutex held */
void local_super_remember(struct local_shared *sh,
			  const struct local_super *super);

/* local_maintain.c */
bool local_wants_maintenance(struct phstore *store);
enum phstore_err local_maintain(struct phstore *store, bool until_done);
/* take the maint mutex, repairing what a dead owner left; 0 or an errno */
int local_maint_lock(struct local_store *ls);

/* local_read.c */
enum phstore_err local_get(TALLOC_CTX *mem_ctx,
			   struct phstore *store,
			   const char *table,
			   struct phstore_blob key,
			   struct phstore_record *rec);
enum phstore_err local_scan(struct phstore *store,
			    const char *table,
			    phstore_scan_fn fn,
			    void *private_data,
			    uint64_t *count);
enum phstore_err local_stat(struct phstore *store, struct phstore_stat *st);
enum phstore_err local_damage_get(struct phstore *store,
				  uint64_t i,
				  struct phstore_damage *damage);
enum phstore_err local_verify(struct phstore *store);
enum phstore_err local_history(struct phstore *store,
			       const char *table,
			       struct phstore_blob key,
			       phstore_history_fn fn,
			       void *private_data);
/* One more damaged region; the first LOCAL_MAX_DAMAGE are told, all count. */
void local_damage_add(struct local_store *ls,
		      const struct local_seg *seg,
		      uint64_t lsn, uint64_t len,
		      enum local_damage_reason reason);

/*
 * Damage that was found while the store is in use: `phstore status` tells. Of
 * two that find some at the same time one may be forgotten, not both.
 */
void local_damage_found(struct local_store *ls,
			const struct local_seg *seg,
			uint64_t lsn, uint64_t len,
			enum local_damage_reason reason);

/* value bytes of an entry; buf has value_len bytes */
enum phstore_err local_read_value(struct local_store *ls,
				  const struct local_entry *e,
				  uint8_t *buf);

#endif /* PHSTORE_LOCAL_H */

/*
 * phstore: the persistent-handle store
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file phstore.h
 *
 * @brief A record store with group commit, shared by many processes.
 *
 * A store is a folder. It holds named tables of records (key, value,
 * version, durability class). Changes are made by transactions over one or
 * more records, which are all or nothing. A transaction is first *staged*:
 * appended to the commit log all processes of this node share, visible to
 * all of them at once, without waiting for a disk or a network. Staging
 * returns an LSN (log sequence number, the log's byte position behind the
 * transaction). A *barrier* on an LSN completes when everything up to it has
 * reached the durability asked for. Many transactions share one barrier,
 * many processes' barriers share one sync (group commit).
 *
 * Caveats
 *
 * - fork: a store may be used on both sides of a fork() as long as the
 *   forking thread is not inside a call of this library. The child's first
 *   async barrier starts a new helper thread. Objects owned by pending
 *   requests of the parent must not be used in the child.
 * - threads: one store handle belongs to one thread. The library's own
 *   helper threads touch only the shared state.
 * - killed processes: every process may be killed at any instruction. Locks
 *   are robust, the next user repairs what was half done.
 * - one folder, two handles in one process: the second phstore_open()
 *   returns PHSTORE_ERR_BUSY (read-only handles do not count).
 * - network file systems: not supported (mmap coherence and OFD locks).
 * - tmpfs: refused by phstore_open() unless PHSTORE_OPEN_ALLOW_VOLATILE,
 *   as a host crash would lose what was acknowledged as durable.
 * - after a failed sync what is on disk is unknown: the store latches,
 *   every later call that would have to promise something returns
 *   PHSTORE_ERR_LATCHED until all processes closed it and it is opened
 *   (and recovered) anew.
 */

#ifndef PHSTORE_H
#define PHSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <talloc.h>
#include <tevent.h>

/* Largest key, in bytes. */
#define PHSTORE_KEY_MAX 4096
/* Largest value, in bytes. */
#define PHSTORE_VALUE_MAX (16 * 1024 * 1024)
/* Longest table name, in bytes, without a terminating NUL. */
#define PHSTORE_TABLE_MAX 64
/* Most operations in one transaction. */
#define PHSTORE_TXN_OPS_MAX 1024

/**
 * Error codes. 0 is success. Every function that can fail returns one of
 * these; phstore_strerror() names it, phstore_last_error() tells the file
 * and the reason.
 */
enum phstore_err {
	PHSTORE_OK = 0,
	PHSTORE_ERR_NOT_FOUND = 1,	/* no such record */
	PHSTORE_ERR_CONFLICT = 2,	/* expected version did not match */
	PHSTORE_ERR_STALE = 3,		/* lower version than the stored one */
	PHSTORE_ERR_INVALID = 4,	/* an argument is not acceptable */
	PHSTORE_ERR_TOO_BIG = 5,	/* key, value or transaction too big */
	PHSTORE_ERR_NO_MEMORY = 6,
	PHSTORE_ERR_IO = 7,		/* a read or write failed, see errno */
	PHSTORE_ERR_FULL = 8,		/* no space for another segment */
	PHSTORE_ERR_LATCHED = 9,	/* an earlier sync failed */
	PHSTORE_ERR_CORRUPT = 10,	/* damage that leaves no way in */
	PHSTORE_ERR_FOREIGN = 11,	/* not a store of ours */
	PHSTORE_ERR_NEWER = 12,		/* written by a newer release */
	PHSTORE_ERR_READ_ONLY = 13,	/* no write access, or opened so */
	PHSTORE_ERR_VOLATILE_FS = 14,	/* tmpfs or ramfs */
	PHSTORE_ERR_NO_STORE = 15,	/* nothing there and no CREATE flag */
	PHSTORE_ERR_BUSY = 16,		/* recovery by another takes too long */
	PHSTORE_ERR_TIMEOUT = 17,	/* barrier not reached in time */
	PHSTORE_ERR_NOT_SUPPORTED = 18,	/* backend cannot do that */
	PHSTORE_ERR_FENCED = 19,	/* this node's epoch is over */
	PHSTORE_ERR_NOT_READY = 20,	/* the sink takes no changes now */
	PHSTORE_ERR_SINK = 21,		/* belongs to another sink, or to one */
};

/** How a record has to survive before its transaction is acknowledged. */
enum phstore_class {
	/* process death: in the node's log, synced with whatever is next */
	PHSTORE_CLASS_LOCAL = 0,
	/* node death: in the memory of K nodes (as LOCAL where K is 1) */
	PHSTORE_CLASS_REPLICATED = 1,
	/* loss of power everywhere: on stable storage of K copies */
	PHSTORE_CLASS_SYNC = 2,
};

/** Versions order by epoch, then seq. {0, 0} is "no record yet". */
struct phstore_version {
	uint64_t epoch;
	uint64_t seq;
};

/** Bytes; not owned. */
struct phstore_blob {
	const void *data;
	size_t len;
};

/** A record as get and scan show it. */
struct phstore_record {
	struct phstore_blob key;
	struct phstore_blob value;
	struct phstore_version version;
	enum phstore_class durability;
	uint64_t lsn;			/* barrier on this covers it */
};

struct phstore;
struct phstore_txn;

/* phstore_open_options.flags */
#define PHSTORE_OPEN_CREATE		0x01	/* make it if missing */
#define PHSTORE_OPEN_RDONLY		0x02	/* never write a byte */
#define PHSTORE_OPEN_ALLOW_VOLATILE	0x04	/* tmpfs is fine */
#define PHSTORE_OPEN_ANY_SINK		0x08	/* tools: whosoever it is */

/** Options of phstore_open(). Zero means the default everywhere. */
struct phstore_open_options {
	uint32_t flags;
	/*
	 * "local" (default), "ctdb", "rados": the sink the store must belong
	 * to, see phstore_ship.h. A store that has a sink is not opened as
	 * "local" (PHSTORE_ERR_SINK), nor the other way round once it was
	 * used; one with a sink takes changes when its daemon says so.
	 */
	const char *backend;
	/* segment size in bytes for a new store: 64 KiB to 1 GiB, 8 MiB */
	uint64_t segment_size;
	/*
	 * Called around what opens the store's files later on, for
	 * callers that change their effective user (smbd). Both or none,
	 * never nested. May be NULL.
	 */
	void (*become_owner)(void *private_data);
	void (*unbecome_owner)(void *private_data);
	void *private_data;
	/* receives diagnostics; level as syslog's (3 err, 6 info) */
	void (*log_fn)(void *private_data, int level, const char *msg);
};

/** A damaged region found by recovery. */
struct phstore_damage {
	uint64_t lsn;			/* where it begins */
	uint64_t len;			/* bytes that could not be read */
	const char *file;		/* file name below the store */
	uint64_t offset;		/* in that file */
	const char *reason;
};

#define PHSTORE_LATENCY_BUCKETS 32

/** What phstore_stat() tells. Bytes and counts since the first open. */
struct phstore_stat {
	uint8_t uuid[16];
	const char *backend;
	uint32_t format_version;
	uint64_t epoch;
	uint64_t segment_size;
	uint64_t num_segments;
	uint64_t num_spares;
	uint64_t tail_lsn;
	uint64_t head_lsn;		/* next byte to be appended */
	uint64_t durable_lsn;		/* everything below is synced */
	uint64_t log_bytes;		/* head_lsn - tail_lsn */
	uint64_t live_bytes;		/* of that, of current records */
	uint64_t num_records;
	uint64_t num_tombstones;
	uint64_t num_appends;
	uint64_t num_elided;		/* puts of an unchanged value */
	uint64_t appended_bytes;
	uint64_t num_syncs;		/* fdatasync calls of the log */
	uint64_t num_meta_syncs;	/* superblock, segment creation */
	uint64_t num_barriers;		/* barriers that had to wait */
	uint64_t num_compacted;		/* records moved by compaction */
	uint64_t num_owner_deaths;	/* lock owners found dead */
	uint64_t sync_ns_total;
	uint64_t sync_ns_max;
	uint64_t sync_ns_avg;		/* moving average */
	/* bucket i: barrier waits of [2^i, 2^(i+1)) microseconds */
	uint64_t barrier_us[PHSTORE_LATENCY_BUCKETS];
	enum phstore_err latched;
	int latched_errno;
	uint64_t num_damaged;		/* regions, see phstore_damage_get */
	uint64_t torn_tail_bytes;	/* cut by the last recovery */
	uint64_t recovery_us;		/* duration of the last recovery */
	bool live;			/* false: read-only, offline view */
};

/** @return a static text for an error code, never NULL. */
const char *phstore_strerror(enum phstore_err err);

/** @return the constant's name ("PHSTORE_ERR_FULL"), never NULL. */
const char *phstore_errname(enum phstore_err err);

/**
 * @brief The last error's file and reason, for people.
 * @return a text of this thread, valid until its next failing call of this
 *         library; "" when there was none.
 */
const char *phstore_last_error(void);

/**
 * @brief Open a store; recovers it when no other process has it open.
 *
 * Blocks: recovery reads the whole log (bounded by PHSTORE P5), and waits
 * up to 60 seconds for another process's recovery.
 *
 * @param[in]  mem_ctx  talloc parent of the store
 * @param[in]  path     the store's folder
 * @param[in]  opts     NULL for defaults
 * @param[out] store    talloc_free() or phstore_close() ends it
 * @return NO_STORE, FOREIGN, NEWER, CORRUPT, READ_ONLY, VOLATILE_FS, IO,
 *         FULL, BUSY, INVALID, NO_MEMORY
 */
enum phstore_err phstore_open(TALLOC_CTX *mem_ctx,
			      const char *path,
			      const struct phstore_open_options *opts,
			      struct phstore **store);

/**
 * @brief Sync what this process staged and close. Frees the store.
 * @return the sync's error; the store is gone in any case.
 */
enum phstore_err phstore_close(struct phstore *store);

/**
 * @brief Start building a transaction. Nothing is shared until it is staged.
 * @param[in] mem_ctx  talloc parent; free the txn to abandon it
 * @return NULL when out of memory
 */
struct phstore_txn *phstore_txn_new(TALLOC_CTX *mem_ctx,
				    struct phstore *store);

/** Options of one operation in a transaction. Zero means the default. */
struct phstore_op_options {
	enum phstore_class durability;
	/* refuse the transaction unless the stored version is this one */
	bool check_version;
	struct phstore_version expected;
	/*
	 * The new version; {0, 0}: the store's epoch and this frame's LSN.
	 * Lower than the stored one: PHSTORE_ERR_STALE; equal is a replay
	 * and accepted.
	 */
	struct phstore_version version;
	/*
	 * Leave the operation out when the stored value (or absence) is
	 * already the same; the LSN returned then covers the stored one.
	 */
	bool skip_same;
	/*
	 * This put takes no more room than what it replaces and lets go of
	 * something (a close, an unlock): with the disk full it may use the
	 * reserve that deletes use. Only if all operations of the
	 * transaction may.
	 */
	bool use_reserve;
	/*
	 * With a sink: the newest version of the record the caller has seen
	 * elsewhere (in a volatile database), {0, 0} for none. A version the
	 * store gives is above it and above the stored one; skip_same only
	 * counts if the stored one is not older.
	 */
	struct phstore_version seen;
};
#define PHSTORE_HAVE_USE_RESERVE 1
#define PHSTORE_HAVE_SEEN 1

/**
 * @brief Add a put. Key and value are copied.
 * @param[in] opts  NULL for defaults: class SYNC, no check
 * @return TOO_BIG, INVALID (empty key or table), NO_MEMORY
 */
enum phstore_err phstore_txn_put(struct phstore_txn *txn,
				 const char *table,
				 struct phstore_blob key,
				 struct phstore_blob value,
				 const struct phstore_op_options *opts);

/**
 * @brief Add a delete. Deleting what is not there is not an error.
 */
enum phstore_err phstore_txn_delete(struct phstore_txn *txn,
				    const char *table,
				    struct phstore_blob key,
				    const struct phstore_op_options *opts);

/**
 * @brief Append the transaction to the log; does not wait for any disk.
 *
 * Costs one short critical section shared by all processes. After it every
 * process sees the new records. The txn stays allocated and can not be
 * staged again.
 *
 * @param[out] lsn  barrier on it to know the transaction is durable
 * @return CONFLICT, STALE, TOO_BIG, FULL, IO, LATCHED, READ_ONLY, INVALID
 *         (already staged, empty); nothing was changed then
 */
enum phstore_err phstore_stage(struct phstore_txn *txn, uint64_t *lsn);

/**
 * @brief The version the i-th operation was staged with.
 *
 * With skip_same and nothing changed: that of the stored record. {0, 0}
 * before phstore_stage() has returned OK.
 */
struct phstore_version phstore_txn_version(const struct phstore_txn *txn,
					   uint16_t i);

/**
 * @brief Would puts of that many bytes be taken now?
 *
 * For callers that cannot undo half an operation: asked before it begins.
 * Makes room if it can. Cheap when there is room. Another process may take
 * the room meanwhile.
 *
 * @return OK, FULL, LATCHED, IO, READ_ONLY
 */
enum phstore_err phstore_room(struct phstore *store, size_t bytes);
#define PHSTORE_HAVE_ROOM 1

/** @brief Is everything up to lsn durable? Never blocks, never fails. */
bool phstore_is_durable(struct phstore *store, uint64_t lsn);

/**
 * @brief Wait until everything up to lsn is durable. Blocks.
 * @param[in] timeout_ms  0: as long as it takes
 * @return LATCHED, IO, TIMEOUT, INVALID (lsn beyond the head)
 */
enum phstore_err phstore_barrier(struct phstore *store,
				 uint64_t lsn,
				 uint32_t timeout_ms);

/**
 * @brief As phstore_barrier() without blocking the event loop.
 *
 * A helper thread of this process waits or leads the sync; freeing the
 * request only stops waiting for it. The store must not be closed inside a
 * request's callback.
 */
struct tevent_req *phstore_barrier_send(TALLOC_CTX *mem_ctx,
					struct tevent_context *ev,
					struct phstore *store,
					uint64_t lsn);
enum phstore_err phstore_barrier_recv(struct tevent_req *req);

/**
 * @brief As phstore_barrier_send(), for a class; REPLICATED does not wait
 * for this node's disk. LOCAL is done at once, as REPLICATED is without a
 * sink.
 */
struct tevent_req *phstore_barrier_class_send(TALLOC_CTX *mem_ctx,
					      struct tevent_context *ev,
					      struct phstore *store,
					      uint64_t lsn,
					      enum phstore_class durability);
#define PHSTORE_HAVE_BARRIER_CLASS 1

/**
 * @brief Begin the sync that a phstore_barrier_send() will ask for soon.
 *
 * For a caller that knows this to be the last it stages for some request,
 * but has work left before it waits: the sync runs beside that work. Only a
 * hint: it fails silently, and if more is staged, that costs another sync.
 */
void phstore_barrier_start(struct phstore *store, uint64_t lsn);

/**
 * @brief Send out what was staged, with a backend that has other nodes, though
 * nobody is going to wait for it. Does not wait either.
 */
void phstore_kick(struct phstore *store);
#define PHSTORE_HAVE_BARRIER_START 1

/** @brief Stage, then wait for the strongest class in it. Blocks. */
enum phstore_err phstore_commit(struct phstore_txn *txn, uint64_t *lsn);

struct tevent_req *phstore_commit_send(TALLOC_CTX *mem_ctx,
				       struct tevent_context *ev,
				       struct phstore_txn *txn);
enum phstore_err phstore_commit_recv(struct tevent_req *req, uint64_t *lsn);

/**
 * @brief Read one record. May read from disk.
 * @param[in]  mem_ctx  talloc parent of what rec's blobs point to
 * @return NOT_FOUND, IO, CORRUPT, NO_MEMORY
 */
enum phstore_err phstore_get(TALLOC_CTX *mem_ctx,
			     struct phstore *store,
			     const char *table,
			     struct phstore_blob key,
			     struct phstore_record *rec);

/**
 * @brief Called by phstore_scan() per record.
 * @return 0 to go on, anything else ends the scan
 */
typedef int (*phstore_scan_fn)(const char *table,
			       const struct phstore_record *rec,
			       void *private_data);

/**
 * @brief Show every live record of a table, or of all (table NULL).
 *
 * The set of keys is a snapshot; values are as of when each is shown. No
 * lock is held while fn runs, it may stage transactions.
 *
 * @param[out] count  records shown, may be NULL
 */
enum phstore_err phstore_scan(struct phstore *store,
			      const char *table,
			      phstore_scan_fn fn,
			      void *private_data,
			      uint64_t *count);

/** @brief Names of all tables with live records; talloc'd, sorted. */
enum phstore_err phstore_tables(TALLOC_CTX *mem_ctx,
				struct phstore *store,
				const char ***names,
				size_t *num_names);

/** @brief Counters and gauges; strings in it live as long as the store. */
enum phstore_err phstore_stat(struct phstore *store,
			      struct phstore_stat *st);

/** @brief The i-th damaged region, i < num_damaged; NOT_FOUND beyond. */
enum phstore_err phstore_damage_get(struct phstore *store,
				    uint64_t i,
				    struct phstore_damage *damage);

/** @brief Read and check every byte of the log. NOT_FOUND never. CORRUPT
 *  with details in phstore_last_error() and phstore_damage_get(). */
enum phstore_err phstore_verify(struct phstore *store);

/**
 * @brief One state of a record; the pointers are valid until it returns.
 * @param[in] deleted  it was deleted then, the value is empty
 * @return nonzero: no more
 */
typedef int (*phstore_history_fn)(const struct phstore_record *rec,
				  bool deleted,
				  void *private_data);

/**
 * @brief What the log still has of one record, oldest first.
 *
 * Costs nothing until it is asked for, and then a walk through the log. The
 * last state is there always; how many more depends on when compaction was
 * there. One compaction copied is told once more. What is damaged is left
 * out. INVALID: the backend keeps none.
 */
enum phstore_err phstore_history(struct phstore *store,
				 const char *table,
				 struct phstore_blob key,
				 phstore_history_fn fn,
				 void *private_data);

/**
 * @brief Do background work now: spare segments, compaction. Blocks.
 *
 * Blocking commits do a bounded part of it themselves; async users have it
 * done by the helper thread. Tools and tests call it to reach a fixed point.
 */
enum phstore_err phstore_maintain(struct phstore *store);

#endif /* PHSTORE_H */

/*
 * phstore: the log between a node's processes and the daemon that ships it
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file phstore_ship.h
 *
 * @brief How a daemon (phstored) makes a node's log safe elsewhere, and how
 *        those who write into the log see its state.
 *
 * A *sink* is where the log is shipped to: peers ("ctdb") or an object store
 * ("rados"). A store belongs to one sink, by kind and name, durably, from
 * the first phstore_ship_attach() on. One process at a time, on each node,
 * is attached: the daemon. All others open the store with
 * phstore_open_options.backend set to the kind.
 *
 * What changes for a store with a sink
 *
 * - A barrier of class SYNC is reached when the log is synced here *and* the
 *   sink's `disk` watermark has passed it; a barrier of class REPLICATED
 *   when the sink's `mem` watermark has (see phstore_barrier_class_send()).
 * - Staging is refused with PHSTORE_ERR_NOT_READY unless the daemon has
 *   opened the gate (phstore_ship_state.writable). The gate is looked at
 *   under the log's mutex: once phstore_ship_publish() with writable = false
 *   has returned, no process stages any more.
 * - Versions the store gives take the sink's epoch, see
 *   phstore_op_options.seen. A version the caller gives must have the epoch
 *   of phstore_gate_get(): otherwise PHSTORE_ERR_FENCED, looked at under the
 *   log's mutex as well.
 * - Tombstones are kept until phstore_ship_forget() or
 *   phstore_ship_forget_all().
 * - Compaction keeps what is behind phstore_ship_release(). When that does
 *   not move, the log grows to the backlog limit at most; then staging and
 *   phstore_room() fail with PHSTORE_ERR_NOT_READY.
 *
 * Caveats
 *
 * - The daemon may be killed at any instruction. What it has published stays
 *   published: the gate stays as it was, watermarks do not move, waiters
 *   wait. The next daemon closes the gate as it attaches.
 * - One thread: that of the store. The store must not be forked.
 * - Watermarks are lost with the last process that has the store open, as
 *   are those who could ask for them.
 */

#ifndef PHSTORE_SHIP_H
#define PHSTORE_SHIP_H

#include "phstore.h"

/* Longest sink name, without a terminating NUL. */
#define PHSTORE_SHIP_NAME_MAX 23
/* Longest reason text, with its NUL. */
#define PHSTORE_SHIP_REASON_MAX 256
/* Bytes of log not released at most, by default. */
#define PHSTORE_SHIP_BACKLOG_DEFAULT (256ULL * 1024 * 1024)

/** What the daemon publishes to all processes of its node. */
struct phstore_ship_state {
	bool attached;			/* a daemon is alive */
	uint32_t pid;			/* its pid, or of the last one */
	const char *kind;		/* "ctdb", "rados"; NULL: no sink */
	char name[PHSTORE_SHIP_NAME_MAX + 1];
	uint64_t epoch;			/* of automatic versions */
	uint64_t floor;			/* seq of new ones is above (W1) */
	uint64_t generation;		/* of CTDB, when epoch was formed */
	uint32_t node;			/* this node's number */
	bool writable;			/* the gate */
	bool complete;			/* volatile databases are filled */
	char reason[PHSTORE_SHIP_REASON_MAX];	/* why not, for people */
	uint64_t mem_lsn;		/* safe in memory of K nodes below */
	uint64_t disk_lsn;		/* safe on disk of the others below */
	uint64_t released_lsn;		/* compaction may drop below */
	uint64_t head_lsn;
	uint64_t backlog_max;
	uint64_t num_fenced;		/* times undone changes were told */
};

/**
 * @brief The state, for whoever has the store open. Never blocks for long.
 * @return NOT_SUPPORTED: no sink was ever attached
 */
enum phstore_err phstore_ship_get_state(struct phstore *store,
					struct phstore_ship_state *state);

/**
 * @brief Begin something that will stage: keeps the gate open for a moment.
 *
 * To be called with the record's lock held and before anything of it is
 * changed. Between it and phstore_gate_leave() staging does not fail because
 * of the gate: the daemon, when it closes the gate, waits for those who have
 * entered (up to PHSTORE_GATE_DRAIN_MS, then it goes on without them and
 * they get NOT_READY from stage). Not to be held while waiting for anything.
 * A store without a sink: costs nothing, OK.
 *
 * @return NOT_READY: the gate is closed; release the record's lock, wait
 *         (phstore_gate_wait()), try again
 */
enum phstore_err phstore_gate_enter(struct phstore *store);
void phstore_gate_leave(struct phstore *store);
#define PHSTORE_GATE_DRAIN_MS 50

/** What those who stage need to know; read without a lock. */
struct phstore_gate {
	bool open;
	bool full;			/* see phstore_ship_set_full() */
	uint32_t node;			/* this node's number */
	uint64_t epoch;			/* of explicit versions */
	uint64_t floor;			/* a version without a predecessor
					 * begins above it (W1) */
	uint64_t generation;
};

/**
 * @brief The gate as it is now. Loads only.
 * @return false: a store without a sink, gate is all zero then
 */
bool phstore_gate_get(struct phstore *store, struct phstore_gate *gate);

/** @brief Is the gate open now? True without a sink. Costs a load. */
bool phstore_gate_is_open(struct phstore *store);

/**
 * @brief Wait until the gate is open. Blocks; hold no lock.
 * @param[in] timeout_ms  0: as long as it takes
 * @return NOT_READY when the time is over, see the reason in the state
 */
enum phstore_err phstore_gate_wait(struct phstore *store,
				   uint32_t timeout_ms);

/**
 * @brief Close the gate, from any process (event script, at "startrecovery").
 *
 * The daemon need not be alive. Returns when nobody stages any more. Only
 * the daemon opens it again, and only after phstore_ship_unbar().
 */
enum phstore_err phstore_gate_close(struct phstore *store,
					 const char *reason);

/* ---- the daemon's side ---- */

struct phstore_ship;

struct phstore_ship_options {
	const char *kind;		/* "ctdb" or "rados" */
	const char *name;		/* of the cluster or pool */
	uint64_t backlog_max;		/* bytes; 0: the default */
	/*
	 * Keep the records of a store that had no sink so far; without it
	 * such a store must be empty.
	 */
	bool adopt;
};

/**
 * @brief Become the daemon of this store; closes the gate.
 *
 * The store must have been opened with backend = kind.
 *
 * @return BUSY: another one is alive; SINK: the store belongs to another
 *         sink; INVALID: it has records and no sink, and adopt is not set
 */
enum phstore_err phstore_ship_attach(TALLOC_CTX *mem_ctx,
				     struct phstore *store,
				     const struct phstore_ship_options *opts,
				     struct phstore_ship **ship);

/** @brief Close the gate and let go; also done by talloc_free(). */
void phstore_ship_detach(struct phstore_ship *ship);

/* One operation of the log. table ends with a NUL in read and snapshot. */
struct phstore_ship_op {
	const char *table;
	struct phstore_blob key;
	struct phstore_blob value;
	struct phstore_version version;
	enum phstore_class durability;
	bool deleted;
};

/* One transaction of this node. */
struct phstore_ship_txn {
	uint64_t lsn;			/* of its frame */
	uint64_t end_lsn;		/* the LSN its writer waits for */
	enum phstore_class durability;	/* the strongest in it */
	size_t num_ops;
	struct phstore_ship_op *ops;
};

/**
 * @brief The next transaction, in LSN order.
 *
 * What was applied by phstore_ship_apply() and what compaction has copied is
 * passed over. Reading begins at phstore_ship_released() after an attach.
 *
 * @param[out] txn  valid until the next call on this ship
 * @return NOT_FOUND: that is all; phstore_ship_fd() becomes readable when
 *         somebody waits for a barrier on more
 */
enum phstore_err phstore_ship_read(struct phstore_ship *ship,
				   struct phstore_ship_txn **txn);

/** @brief Where the next read begins; everything below was returned. */
uint64_t phstore_ship_tell(struct phstore_ship *ship);
/** @brief Go on from there: a position tell, head or released gave. */
void phstore_ship_seek(struct phstore_ship *ship, uint64_t lsn);
uint64_t phstore_ship_head(struct phstore_ship *ship);
uint64_t phstore_ship_released(struct phstore_ship *ship);

/** @brief Readable when there is more to read. Do not close it. */
int phstore_ship_fd(struct phstore_ship *ship);
/** @brief Take what made the descriptor readable away. */
void phstore_ship_drain(struct phstore_ship *ship);

/**
 * @brief Publish epoch, floor, generation, writable, complete, reason.
 *
 * With writable = false it returns when nobody stages any more: it may
 * block for PHSTORE_GATE_DRAIN_MS.
 */
enum phstore_err phstore_ship_publish(struct phstore_ship *ship,
				      const struct phstore_ship_state *state);

/**
 * @brief How often phstore_gate_close() was called.
 *
 * The gate does not open before the daemon has said that it knows what each
 * of them was for: read this, then look at the cluster; if that shows no
 * recovery under way, unbar with what was read.
 */
uint64_t phstore_ship_bar(struct phstore_ship *ship);
void phstore_ship_unbar(struct phstore_ship *ship, uint64_t bar);

/**
 * @brief The sink has no room: only what lets go of something is taken;
 * everything else, and phstore_room(), fails with FULL. With the gate closed
 * it says that this will not change soon: this node has no room to take part.
 */
void phstore_ship_set_full(struct phstore_ship *ship, bool full);

/** @brief Only the floor; it only grows within an epoch. */
void phstore_ship_set_floor(struct phstore_ship *ship, uint64_t floor);

/**
 * @brief Move the watermarks; lower values are ignored. Wakes waiters.
 *
 * `disk` need not wait for this node's own sync: those who wait for class
 * SYNC wait for that as well.
 */
void phstore_ship_reached(struct phstore_ship *ship,
			  uint64_t mem_lsn,
			  uint64_t disk_lsn);

/**
 * @brief What is below lsn and not below the disk watermark is undone.
 *
 * Its waiters get PHSTORE_ERR_FENCED, now and whenever they ask. Both
 * watermarks then stand at lsn.
 */
void phstore_ship_fence(struct phstore_ship *ship, uint64_t lsn);

/**
 * @brief Compaction may drop what is below; durable with the next
 *        superblock. A lower value is ignored.
 */
void phstore_ship_release(struct phstore_ship *ship, uint64_t lsn);

/**
 * @brief Store what came from elsewhere, in one frame, not to be shipped.
 *
 * Each operation is left out unless its version is above the stored one,
 * tombstones included. Not gated, not synced: barrier on *end_lsn (which
 * then waits for the local disk only if the watermarks have passed it).
 *
 * @param[out] end_lsn  0: nothing was newer
 */
enum phstore_err phstore_ship_apply(struct phstore_ship *ship,
				    const struct phstore_ship_op *ops,
				    size_t num_ops,
				    uint64_t *end_lsn);

/**
 * @brief Sync this node's log, without regard to the sink's watermarks.
 * Blocks.
 */
enum phstore_err phstore_ship_sync(struct phstore_ship *ship);

/** @brief Below this the local disk has all. */
uint64_t phstore_ship_durable(struct phstore_ship *ship);

/**
 * @brief Empty the store, versions and tombstones included.
 * @return FULL: no room for saying so in the log
 */
enum phstore_err phstore_ship_clear(struct phstore_ship *ship);

/** @brief Drop a tombstone if it is exactly this version. */
enum phstore_err phstore_ship_forget(struct phstore_ship *ship,
				     const char *table,
				     struct phstore_blob key,
				     struct phstore_version version);

/**
 * @brief Records of this store were lost. From now on phstore_ship_apply()
 * stores a record of the very version the store has, if its frame in the log is
 * not whole any more.
 */
void phstore_ship_repair(struct phstore_ship *ship);

/** @brief Drop all tombstones. */
enum phstore_err phstore_ship_forget_all(struct phstore_ship *ship);

/** Records and tombstones, sorted by table, NUL, key, bytewise. */
struct phstore_ship_snapshot;

/** @param[in] min_epoch  only versions of this epoch or later */
enum phstore_err phstore_ship_snapshot(TALLOC_CTX *mem_ctx,
				       struct phstore_ship *ship,
				       uint64_t min_epoch,
				       struct phstore_ship_snapshot **snap);
size_t phstore_ship_snapshot_len(const struct phstore_ship_snapshot *snap);
/** @return the first index whose key is above table, NUL, key bytes. */
size_t phstore_ship_snapshot_above(const struct phstore_ship_snapshot *snap,
				   struct phstore_blob full_key);
/**
 * @brief The i-th, as stored now.
 * @param[out] op  valid until the next call on this snapshot
 * @return NOT_FOUND: not there any more
 */
enum phstore_err phstore_ship_snapshot_get(struct phstore_ship_snapshot *snap,
					   size_t i,
					   struct phstore_ship_op *op);

#endif /* PHSTORE_SHIP_H */

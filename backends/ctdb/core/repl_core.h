/*
 * phstore: replication core
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file repl_core.h
 *
 * @brief The protocol of docs/REPLICATION.md as a state machine.
 *
 * No I/O, no clock, no threads: the driver calls an event function, which
 * calls back, in order, what is to be done. Same events, same calls: so the
 * simulator (tests/sim) runs exactly this code.
 *
 * Caveats
 *
 * - Callbacks must not call event functions; a message to the node itself
 *   is delivered later like any other.
 * - Everything is to be done in the order of the calls: meta() returns only
 *   when the meta is durable; what was send() before it may be sent later,
 *   but nothing that was send() after it may be sent before.
 * - When meta() or apply() fail, the driver must end the core and stop
 *   sending: the node is then silent, which the protocol survives.
 */

#ifndef REPL_CORE_H
#define REPL_CORE_H

#include "repl_wire.h"

struct repl_core;

enum repl_state {
	REPL_JOINING,		/* waits for an epoch */
	REPL_ACTIVE,		/* member of an epoch that has begun */
};

/** What the core asks for. private_data is repl_config's. */
struct repl_ops {
	/** Send a message; it may get lost. buf belongs to the core. */
	void (*send)(void *private_data,
		     uint8_t to,
		     const uint8_t *buf,
		     size_t len);
	/** Make meta durable, then return. */
	void (*meta)(void *private_data, const struct repl_meta *meta);
	/**
	 * Store n records as one transaction: each unless the stored
	 * version of its key, tombstones included, is not lower. Not
	 * durable before a later sync.
	 */
	void (*apply)(void *private_data,
		      const struct repl_record *recs,
		      size_t n);
	/** Drop every record; durable with the next sync at the latest. */
	void (*clear)(void *private_data);
	/** Drop the tombstone of a key if it is exactly this version. */
	void (*drop)(void *private_data, const struct repl_record *rec);
	/** Drop all tombstones. */
	void (*drop_all)(void *private_data);
	/**
	 * The first record, or tombstone, with a key above after (bytewise;
	 * after.len 0: the first of all) and a version of epoch min_epoch
	 * or later. Bytes stay valid until the next callback. False: there
	 * is none.
	 */
	bool (*next)(void *private_data,
		     uint64_t min_epoch,
		     struct phstore_blob after,
		     struct repl_record *rec);
	/** Begin a sync of all applied so far; then call repl_synced(). */
	void (*sync)(void *private_data);
	/** Everything this node wrote up to pos holds in that class. */
	void (*reached)(void *private_data,
			enum phstore_class durability,
			uint64_t pos);
	/** What this node wrote up to pos and was not reached is undone. */
	void (*fenced)(void *private_data, uint64_t pos);
	/**
	 * Every member's floor covers this deletion: its version need not
	 * be remembered any more (rule W1). False: not now, ask again later.
	 */
	bool (*forgotten)(void *private_data, const struct repl_record *rec);
	/**
	 * There is work that can wait a little: call repl_turn() until it
	 * returns false, with a look at everything else in between.
	 */
	void (*turn)(void *private_data);
	/** The state changed; begin volatile service, or stop it. */
	void (*state)(void *private_data,
		      enum repl_state state,
		      uint64_t epoch);
	/**
	 * The store is another cluster's: most nodes here have this birth.
	 * The driver must end the core; nothing in the store was changed but
	 * what it has promised.
	 */
	void (*stranger)(void *private_data, uint64_t birth);
};

struct repl_config {
	uint8_t node;
	uint64_t nodes;		/* bit per configured node: first voters */
	uint32_t copies;	/* K */
	/* what fails together has one number; 0: a node by itself */
	uint8_t zone[PHSTORE_NODES_MAX];
	uint64_t cluster;	/* of all messages */
	uint64_t birth;		/* of a new cluster: random; 0: it has none */
	/*
	 * Who waits for `reached` of class SYNC waits for this node's sync
	 * as well, beside it: so repl_write() asks for none, and what is
	 * reached does not wait for one. And messages of repl_write() wait
	 * for repl_flush(), to be few.
	 */
	bool beside;
	/* without beside: successors sync with their next tick */
	bool lazy;
	/* the store has lost records: read all of every source, and tell */
	bool pull_all;
	/* between sweeps of fewer deletions than a batch; costs a sync each */
	uint32_t sweep_ticks;
	uint32_t sweep_piece;	/* deletions done in one repl_turn(), > 0 */
	const struct repl_ops *ops;
	void *private_data;
};

/** For phstore status. */
struct repl_status {
	enum repl_state state;
	bool closed;			/* CTDB's generation is another one */
	struct repl_meta meta;
	uint64_t epoch;			/* active one, or 0 */
	uint64_t up;
	uint8_t leader;			/* as this node sees it */
	uint64_t missing;		/* coordinator: why it waits */
	uint32_t missing_needed;	/* how many of these are needed */
	uint64_t strangers;		/* coordinator: of another birth, */
	bool split;			/* or of two, none with most nodes */
	uint64_t head;			/* last position written here */
	uint64_t replicated;
	uint64_t durable;
	uint64_t num_attempts;
	uint64_t num_garbage;
	uint64_t num_other_version;
	uint64_t num_other_cluster;
	uint64_t num_tombstones;	/* waiting for a sweep */
	/* by successors, on disk; else 0 */
	uint64_t acked[PHSTORE_NODES_MAX];
	uint64_t successors;
};

/**
 * @brief A core for a node with this meta (all zero: a new node).
 * @return NULL: out of memory, or K, node or nodes make no sense
 */
struct repl_core *repl_core_new(TALLOC_CTX *mem_ctx,
				const struct repl_config *config,
				const struct repl_meta *meta);

/**
 * @brief CTDB's view, after each of its recoveries.
 *
 * To be called before volatile databases are served in that generation.
 * Closes the node for writes until an epoch formed in it begins (rule W2).
 *
 * @param[in] up          a bit per active node, this one included
 * @param[in] generation  of CTDB; only compared for equality
 */
void repl_membership(struct repl_core *core,
		     uint64_t up,
		     uint64_t generation);

/** @brief A unit of time has passed (50 ms say). */
void repl_tick(struct repl_core *core);

/** @brief A message came in. Anything may be in it. */
void repl_receive(struct repl_core *core, const uint8_t *buf, size_t len);

/**
 * @brief A piece of the work ops->turn() told of.
 *
 * Not to be called while changes that were staged here are not handed in: a
 * deletion of another node is answered for behind all that this node had staged
 * before the deletion was in its store. What a call applies is to be in the
 * store before the next.
 *
 * @return there is more
 */
bool repl_turn(struct repl_core *core);

/** @brief The sync asked for by ops->sync is done. */
void repl_synced(struct repl_core *core);

/**
 * @brief A transaction of this node. Applies, ships.
 *
 * The versions' epoch must be that of the last ops->state(ACTIVE); seq is one
 * above the newest the record had in it or, when nobody remembers one, one
 * above repl_floor() of this node (rule W1).
 *
 * @param[out] pos  ops->reached() will tell it, or ops->fenced()
 * @return BUSY: no epoch of CTDB's generation is active or too much is
 *         unacked; INVALID, TOO_BIG, NO_MEMORY
 */
enum phstore_err repl_write(struct repl_core *core,
			    const struct repl_record *recs,
			    size_t n,
			    uint64_t *pos);

/**
 * @brief Send what was written (config.beside).
 * @param[in] mem   somebody waits for class REPLICATED: successors are to
 *                  answer before their sync as well
 * @param[in] disk  somebody waits for class SYNC; if not, successors sync
 *                  with their next tick
 */
void repl_flush(struct repl_core *core, bool mem, bool disk);

/** @brief The highest seq of this epoch that was forgotten here. */
uint64_t repl_floor(struct repl_core *core);

/**
 * @brief Operator: go on without these nodes, for ever.
 * Takes effect when this node is the coordinator.
 */
void repl_force(struct repl_core *core, uint64_t lost);

/**
 * @brief Tell the others that this node takes no part any more (GONE).
 * The last call; a new core may ask to join.
 */
void repl_resign(struct repl_core *core);

/**
 * The store has lost records since the core began: from now on as with
 * repl_config.pull_all. May be called from ops->next().
 */
void repl_damaged(struct repl_core *core);

void repl_get_status(struct repl_core *core, struct repl_status *status);

#endif /* REPL_CORE_H */

/*
 * phstored: the ctdb sink, inside
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * phd_ctdb.c         the sink: reads the log, drives the core, the gate
 * phd_ctdb_store.c   what the core asks of the store
 * phd_ctdb_stranger.c  messages and stores of other clusters
 * phd_sync.c         syncs, in a thread
 * phd_ctdb_status.c  status of all nodes
 * phd_meta.c         what a node must remember besides its store
 * phd_net.h          membership and messages
 */

#ifndef PHD_CTDB_H
#define PHD_CTDB_H

#include "backends/ctdb/core/repl_core.h"
#include "phd_net.h"

/* Own transactions of which the core still knows the position. */
#define PHD_POSITIONS 8192
/* Records applied as one frame, at most. */
#define PHD_BATCH_OPS 64
#define PHD_BATCH_BYTES (256 * 1024)

/* What another node says of itself. */
struct phd_node_status {
	uint64_t heard_ns;		/* 0: never */
	uint64_t epoch;
	uint64_t records;
	uint64_t backlog;		/* bytes not safe yet */
	uint64_t lag;			/* the same in transactions */
	uint64_t tombstones;
	uint32_t copies;
	bool open;
	char reason[PHSTORE_SHIP_REASON_MAX];
};

struct phd_message {
	struct phd_message *next;
	uint8_t *buf;
	size_t len;
};

struct phd_batch_op {
	char *table;
	struct phstore_ship_op op;
};

struct phd_ctdb {
	struct phd *phd;
	struct phd_net net;
	struct phd_view view;
	bool have_view;
	bool down;			/* no view at the moment */
	char down_reason[128];

	struct repl_core *core;
	struct repl_meta meta;
	int meta_fd;
	uint64_t meta_seq;
	uint64_t cluster;

	bool stranger;			/* the store is another cluster's */
	uint64_t told_strangers;

	/* the store had no room: no part of the cluster until it has */
	bool resigned;
	bool leaving;			/* tells the others that it did */
	uint64_t joined_ns;		/* 0: not since it last asked */
	unsigned int full_tries;	/* resigned so often in a row */
	bool pull_all;			/* the store is damaged */
	bool full_try;			/* asks to join, no room was seen */
	bool full_emptied;		/* since it was a member, as told */
	uint64_t resigned_ns;
	char resigned_reason[PHSTORE_SHIP_REASON_MAX];

	bool gate_open;
	uint64_t gate_epoch;
	char gate_reason[PHSTORE_SHIP_REASON_MAX];

	uint64_t lsn_of[PHD_POSITIONS];	/* end LSN by position */
	uint64_t last_pos;
	bool writing;			/* inside repl_write() */

	/* records to be applied, not yet in the log */
	TALLOC_CTX *batch_mem;
	struct phstore_ship_op batch[PHD_BATCH_OPS];
	size_t batch_num;
	size_t batch_bytes;

	/* one for who reads all, one for who reads what is new */
	struct phd_snap {
		struct phstore_ship_snapshot *snap;
		bool old;		/* something was applied since */
		uint64_t epoch;		/* from which on */
	} snaps[2];
	uint8_t *next_key;		/* of the last ops->next() */

	/* deferred: the core must not be called from its callbacks */
	int turn_fd;			/* readable: repl_turn() */
	struct tevent_immediate *later;
	bool later_set;
	bool behind;		/* staged, and the core takes no more */
	bool turn_owed;		/* the core has work, */
	uint64_t turn_lsn;	/* behind that */
	bool want_synced;
	struct phd_sync *sync;
	bool sync_stale;		/* under way for a core that ended */
	struct phd_message *self_first, **self_end;

	struct phd_node_status nodes[PHSTORE_NODES_MAX];
	unsigned int ticks;
	uint64_t last_head;		/* of the log, a tick ago */
	uint64_t told_version, told_cluster;
	uint64_t num_applied;
	uint64_t num_sent, num_received;
};

/* phd_ctdb.c */
void phd_ctdb_gate(struct phd_ctdb *d);

/* Records are lost: read from the others when the next epoch begins. */
void phd_ctdb_damaged(struct phd_ctdb *d);
void phd_ctdb_close(struct phd_ctdb *d, const char *reason);
void phd_ctdb_later(struct phd_ctdb *d);
void phd_ctdb_turn(struct phd_ctdb *d);
void phd_ctdb_began(struct phd_ctdb *d);

void phd_ctdb_synced(struct phd_ctdb *d, enum phstore_err err,
		     const char *text);

/* phd_ctdb_stranger.c */
uint64_t phd_ctdb_birth(void);
void phd_ctdb_stranger(struct phd_ctdb *d, uint64_t birth);
void phd_ctdb_tell_strangers(struct phd_ctdb *d, const struct repl_status *st);

/* phd_ctdb_full.c */
void phd_ctdb_resign(struct phd_ctdb *d, const char *what);
bool phd_ctdb_full_over(struct phd_ctdb *d);
void phd_ctdb_full_joined(struct phd_ctdb *d);

/* phd_sync.c; phd_ctdb_synced() is called when a sync has ended */
struct phd_sync;
struct phd_sync *phd_sync_start(struct phd_ctdb *d);
void phd_sync_begin(struct phd_sync *s);
bool phd_sync_running(const struct phd_sync *s);

/* phd_ctdb_store.c */
extern const struct repl_ops phd_repl_ops;
void phd_ctdb_snaps_free(struct phd_ctdb *d);
void phd_ctdb_flush_batch(struct phd_ctdb *d);
size_t phd_full_key(uint8_t *buf, const char *table, struct phstore_blob key);

/* phd_ctdb_status.c */
void phd_ctdb_tell_status(struct phd_ctdb *d);
bool phd_ctdb_hear_status(struct phd_ctdb *d, const uint8_t *buf, size_t len);
void phd_ctdb_status(struct phd *phd, struct phd_json *json);
/* For people; PHD_LIST_LEN is enough for every set. */
#define PHD_LIST_LEN 256
void phd_ctdb_list(uint64_t set, char *buf, size_t size);
void phd_ctdb_waits_for(const struct repl_status *st, char *buf, size_t size);

/* phd_meta.c */
enum phd_exit phd_meta_open(struct phd_ctdb *d, uint8_t node);
/* Not written: what was there still counts, as if nothing was promised. */
enum phstore_err phd_meta_write(struct phd_ctdb *d,
				const struct repl_meta *meta);

#endif /* PHD_CTDB_H */

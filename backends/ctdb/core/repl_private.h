/*
 * phstore: replication core, inside
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * repl_core.c    events, dispatch, sending, syncs
 * repl_epoch.c   a new epoch: the member's part
 * repl_lead.c    a new epoch: the coordinator's part
 * repl_stream.c  writing, shipping, acknowledging
 * repl_sweep.c   forgetting tombstones within an epoch
 *
 * Every handler of a message may be called at any time with anything: it
 * first checks that the message's epoch is the one it is in.
 */

#ifndef REPL_PRIVATE_H
#define REPL_PRIVATE_H

#include "repl_core.h"

/*
 * Seeded faults, for the simulator to prove that it would notice. Only in
 * its own build.
 */
#ifdef PHSTORE_REPL_MUTANTS
extern int repl_mutant;
#define MUTANT(n) (repl_mutant == (n))
#else
#define MUTANT(n) false
#endif
enum {
	MUT_ACK_EARLY = 1,	/* told the client before the peers' acks */
	MUT_ACK_UNSYNCED,	/* a peer's "disk" before its sync */
	MUT_NO_LOCAL_SYNC,
	MUT_NO_FREEZE,		/* go on in the old epoch after a promise */
	MUT_NO_EPOCH_CHECK,	/* take items of any epoch */
	MUT_NO_GAP_CHECK,	/* take items out of order */
	MUT_FORGET_EARLY,	/* forget a tombstone once it is acked */
	MUT_SWEEP_NO_FLUSH,	/* PURGED with own stream still on its way */
	MUT_REJOIN_UNEMPTIED,	/* rejoin without reconciliation */
	MUT_REJOIN_SOURCE,	/* whoever is there is a source */
	MUT_COLD_TOO_FEW,	/* begin without the data rule */
	MUT_NO_VOTE,		/* begin without a majority */
	MUT_MEMBERS_VOLATILE,	/* epoch and members not made durable */
	MUT_PROMISE_VOLATILE,
	MUT_READY_UNSYNCED,	/* READY before the sync */
	MUT_ACTIVATE_EARLY,	/* begins when the first has committed */
	MUT_BLANK_VOTES,	/* a node with a new disk votes */
	MUT_EMPTIED_COUNTS,	/* data not reset when emptied */
	MUT_PULL_ONE,		/* reads one source only */
	MUT_UNDONE_LATE,	/* thrown away, and acked by the next epoch */
	MUT_NO_GATE,		/* writes on between recovery and epoch */
	MUT_NO_FLOOR,		/* versions begin at 1 after a FORGET */
	MUT_DELTA_ALWAYS,	/* an emptied node reads changes only */
	MUT_SWEEP_PIECE,	/* PURGED when a piece of it is applied */
	MUT_SWEEP_COPIES,	/* asks only itself and its successors */
	MUT_DELTA_UNBEGUN,	/* changes only, of an epoch never begun */
	MUT_BEGAN_EARLY,	/* noted when the epoch is committed to */
	MUT_BEGAN_KEPT,		/* what was noted of the epoch before stays */
	MUT_SYNC_BEFORE,	/* READY by a sync of an attempt before */
	MUT_STRANGER_LEADS,	/* members of two clusters in one plan */
	MUT_STRANGER_TAKEN,	/* the same, and who is one follows */
	MUT_STRANGER_READY,	/* READY there counts here */
	MUT_BIRTH_ANEW,		/* each epoch has a birth of its own */
	MUT_END
};

#define REPL_WINDOW 4096		/* items unacked at most */
#define REPL_SHIP_BYTES (32 * 1024)	/* of one message, or one item */
#define REPL_PULL_BYTES (128 * 1024)
#define REPL_LAZY_MAX 1024		/* items received and not synced */
#define REPL_SWEEP_BATCH 2048
#define REPL_SWEEP_RESEND_TICKS 10
#define REPL_SWEEP_CROWD 4		/* bodies waiting for a piece more */
#define REPL_RESEND_TICKS 3
#define REPL_PULL_TICKS 10
#define REPL_SILENT_TICKS 40
#define REPL_ATTEMPT_TICKS 30
/* START asked so often of a member whose sync runs: 30 s */
#define REPL_SYNC_ASKS 200
#define REPL_PREPARE_TICKS 8
#define REPL_FORCED_STEP 65536

#define BIT(node) phstore_node_bit(node)

enum att_phase {
	ATT_NONE = 0,
	ATT_PROMISED,
	ATT_PULLING,
	ATT_SYNCING,
	ATT_READY,
	ATT_COMMITTED,
};

/* The attempt this node takes part in. */
struct attempt {
	uint64_t epoch;
	enum att_phase phase;
	uint8_t leader;
	struct repl_plan plan;
	uint8_t source;			/* being read */
	uint64_t pulled;
	bool complete;			/* holds all below plan.base */
	uint64_t progress;
	unsigned int sync_asks;
	uint8_t cursor[REPL_KEY_MAX];
	size_t cursor_len;
	unsigned int ticks;
};

enum lead_phase {
	LEAD_NONE = 0,
	LEAD_PREPARE,
	LEAD_START,
	LEAD_COMMIT,
	LEAD_ACTIVATE,
};

/* The attempt this node coordinates. */
struct lead {
	uint64_t epoch;
	enum lead_phase phase;
	uint64_t asked;
	uint64_t answered;
	uint64_t progress[PHSTORE_NODES_MAX];
	struct repl_meta promise[PHSTORE_NODES_MAX];
	struct repl_plan plan;
	unsigned int ticks;
	unsigned int pause;
	uint64_t highest;		/* promised anywhere, as heard */
	bool wanted;
	bool force;
	uint64_t lost;
};

/* One of this node's own transactions, encoded, until all have it. */
struct item {
	uint64_t pos;
	size_t len;
	uint8_t *buf;
};

/* A successor. */
struct peer {
	uint8_t node;
	uint64_t sent;
	uint64_t mem;
	uint64_t disk;
	unsigned int idle;		/* ticks without progress */
	unsigned int silent;		/* the same, until that is told */
};

/* What arrives from one node. */
struct inbound {
	uint64_t mem;
	uint64_t syncing;
	uint64_t disk;
	bool ack;			/* owes an answer after the sync */
	/* sweep of that node */
	uint64_t purge;			/* batch being flushed */
	uint64_t purge_pos;		/* own stream to be acked to here */
	uint8_t purge_sync;		/* 0 no, 1 asked, 2 running, 3 done */
	uint64_t purge_done;
	uint64_t forget_done;
	uint8_t *sweep;			/* body that is taken in pieces */
	size_t sweep_len;
	size_t sweep_ofs;		/* so far */
	uint64_t sweep_batch;
	bool sweep_forget;
};

/* A deletion of this node that waits to be forgotten. */
struct tombstone {
	struct tombstone *next;
	uint64_t pos;
	struct repl_record rec;
};

struct repl_core {
	struct repl_config conf;
	struct repl_meta meta;
	uint64_t up;
	uint64_t generation;		/* CTDB's */
	bool closed;			/* no epoch of it has begun */
	bool stuck;			/* a successor acks nothing */
	uint64_t mute;			/* lowest nodes that do not lead */
	uint64_t gone;			/* have resigned */
	unsigned int asking;		/* ticks without an answer */
	uint64_t active;		/* epoch, or 0 */
	struct attempt att;
	struct lead lead;

	/* own stream; positions on the wire are relative to base */
	uint64_t head;
	uint64_t base;
	uint64_t own_syncing;
	uint64_t own_disk;
	uint64_t reached_mem;
	uint64_t reached_disk;
	struct item *items;		/* ring of REPL_WINDOW */
	uint64_t first_item;		/* position of the oldest in it */
	struct peer peers[PHSTORE_NODES_MAX];
	size_t num_peers;
	struct inbound in[PHSTORE_NODES_MAX];

	bool syncing;
	bool want_sync;
	uint64_t sync_for;		/* attempt it ends the reading of */

	struct tombstone *tombs;
	struct tombstone **tombs_end;
	uint64_t num_tombs;
	uint64_t floor;			/* highest seq forgotten */
	uint64_t batch;
	size_t batch_len;		/* tombstones in it, 0: none */
	bool batch_forget;		/* second half */
	uint64_t batch_answered;
	uint64_t batch_unsent;		/* one node with each turn */
	bool batch_done;		/* but for the last callbacks */
	bool batch_wait;		/* one of them said: not now */
	uint8_t *batch_body;
	size_t batch_body_len;
	unsigned int batch_idle;
	unsigned int turn;		/* who had the last one */

	uint64_t missing;
	uint32_t missing_needed;
	uint64_t strangers;
	bool split;
	uint64_t num_attempts;
	uint64_t num_garbage;
	uint64_t num_other_version;
	uint64_t num_other_cluster;
};

/* The lowest node that is up, unless it was asked and said nothing. */
uint8_t repl_leader(const struct repl_core *c);


/* repl_core.c */
void repl_send(struct repl_core *c,
	       enum repl_type type,
	       uint8_t to,
	       uint64_t epoch,
	       uint64_t arg1,
	       uint64_t arg2,
	       const uint8_t *body,
	       size_t body_len,
	       uint8_t flags);
void repl_save_meta(struct repl_core *c);
void repl_want_sync(struct repl_core *c);

/* repl_epoch.c */
void repl_on_prepare(struct repl_core *c, const struct repl_hdr *h);
void repl_on_start(struct repl_core *c,
		   const struct repl_hdr *h,
		   const struct repl_plan *plan);
void repl_on_pull(struct repl_core *c,
		  const struct repl_hdr *h,
		  struct phstore_blob after);
void repl_on_pulled(struct repl_core *c,
		    const struct repl_hdr *h,
		    const uint8_t *body,
		    size_t len);
void repl_on_commit(struct repl_core *c,
		    const struct repl_hdr *h,
		    const struct repl_plan *plan);
void repl_on_activate(struct repl_core *c, const struct repl_hdr *h);
void repl_on_stranger(struct repl_core *c, const struct repl_hdr *h);
void repl_begin(struct repl_core *c);
void repl_epoch_synced(struct repl_core *c);
void repl_epoch_tick(struct repl_core *c);

/* repl_lead.c */
void repl_lead_tick(struct repl_core *c);
void repl_lead_message(struct repl_core *c,
		       const struct repl_hdr *h,
		       const uint8_t *body);

/* repl_stream.c */
void repl_stream_begin(struct repl_core *c);
void repl_stream_undone(struct repl_core *c);
void repl_stream_stop(struct repl_core *c);
void repl_on_ship(struct repl_core *c,
		  const struct repl_hdr *h,
		  const uint8_t *body,
		  size_t len);
void repl_on_ack(struct repl_core *c, const struct repl_hdr *h);
void repl_stream_synced(struct repl_core *c);
void repl_stream_tick(struct repl_core *c);
void repl_advance(struct repl_core *c);

/* repl_sweep.c */
void repl_sweep_add(struct repl_core *c, const struct repl_record *rec);
void repl_sweep_stop(struct repl_core *c);
void repl_sweep_tick(struct repl_core *c);
void repl_sweep_flushed(struct repl_core *c);
void repl_on_purge(struct repl_core *c,
		   const struct repl_hdr *h,
		   const uint8_t *body,
		   size_t len);
void repl_on_forget(struct repl_core *c,
		    const struct repl_hdr *h,
		    const uint8_t *body,
		    size_t len);
void repl_on_swept(struct repl_core *c, const struct repl_hdr *h);

#endif /* REPL_PRIVATE_H */

/*
 * phstored: the rados sink, inside
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * phd_rados.c          the sink: the log's tail becomes operations
 * phd_rados_group.c    epochs: who may write, and from when on
 * phd_rados_job.c      what waits for RADOS, in a thread
 * phd_rados_load.c     what RADOS has, into the local store
 */

#ifndef PHD_RADOS_H
#define PHD_RADOS_H

#include <stdatomic.h>

#include "phd_net.h"
#include "rados_group.h"

/* A deletion of this node, to be forgotten in the volatile databases. */
struct phd_gone {
	struct phd_gone *next;
	struct phstore_version version;
	size_t key_len;
	char table[PHSTORE_TABLE_MAX + 1];
	uint8_t key[];
};

/* A transaction on its way, in the order of the log. */
struct phd_flight {
	struct phd_flight *next;
	struct phd_rados *r;
	uint64_t end_lsn;
	bool done;		/* under the engine's mutex */
	enum phstore_err err;
};

enum phd_rados_phase {
	PHD_RADOS_IDLE,		/* in no epoch */
	PHD_RADOS_DRAIN,	/* an attempt: what is under way ends */
	PHD_RADOS_JOINED,	/* nothing of ours is under way */
	PHD_RADOS_ACTIVE,
};

/* At most one at a time, see phd_rados_job.c */
struct phd_rados_job {
	enum phstore_err (*work)(struct phd_rados *r);	/* in the thread */
	void (*turn)(struct phd_rados *r);		/* in the loop */
	void (*done)(struct phd_rados *r);
	pthread_t thread;
	bool running;
	atomic_bool ended;
	atomic_bool cancel;
	enum phstore_err err;
	char text[256];			/* of err */

	/* say */
	struct phr_join join;
	/* a new view */
	struct phr_group group;
	struct phr_view view;
	bool lost;
	/* begin anew */
	struct phr_engine *engine;
	bool was_fenced;
	/* load: batches from the thread to the loop */
	uint64_t prev;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	struct phd_loaded *first, **end;
	size_t num;
	uint64_t damaged;
};

struct phd_rados {
	struct phd *phd;
	const char *name;	/* of the store in RADOS */
	TALLOC_CTX *conf_mem;
	bool takeover;		/* fence who is registered, if alone */
	bool blocklist;		/* have the cluster block it as well */
	struct phr_conn conn;
	struct phr_engine *engine;
	int efd;
	struct phd_flight *first, **end;
	uint64_t reached;
	uint64_t shipped;	/* transactions */
	uint64_t dropped;	/* transactions of an epoch that is over */
	uint64_t dropped_to;	/* their end, not yet told */
	bool may_ship;		/* min_epoch is known */
	uint64_t min_epoch;	/* older ones are not shipped any more */
	uint64_t loaded;	/* records, last time */
	enum phstore_err load_err;	/* of the local store, last time */
	uint64_t load_ns;	/* when that began */
	uint64_t loaded_epoch;	/* the local store is complete for it */
	bool failed;

	/* the gate */
	bool full;
	bool gate_open;
	char gate_reason[PHSTORE_SHIP_REASON_MAX];

	/* who is there */
	bool clustered;
	struct phd_net net;
	struct phd_view view;
	bool have_view;
	bool down;
	char down_reason[128];

	/* epochs */
	struct tevent_timer *timer;
	struct phr_group group;
	struct phr_group_read *ask;
	uint64_t next_ask_ns;
	enum phd_rados_phase phase;
	uint64_t life;		/* not in a cluster: published generation */
	uint64_t attempt;	/* joined last */
	uint64_t epoch;		/* active last */
	uint64_t wanted;	/* asked for one after this */
	uint64_t beat, beat_ns;
	uint64_t lead_epoch, lead_again_ns;
	uint64_t looked_ns;
	struct phr_join seen[PHSTORE_NODES_MAX];
	uint64_t silent_ns[PHSTORE_NODES_MAX];
	uint64_t silent;
	uint64_t times_fenced;
	struct phd_rados_job job;
	bool reborn_due;	/* when the job is done */

	/* tombstones */
	uint64_t num_deleted;	/* in this epoch */
	uint64_t prune_after;
	struct phd_gone *gone, **gone_end;
	struct phd_gone *forget;
	uint64_t pruned_epoch;
	pthread_t pruner;
	bool has_pruner;
	atomic_bool pruner_done;
};

/* phd_rados.c */
void phd_rados_gate(struct phd_rados *r, const char *reason);
void phd_rados_ship(struct phd_rados *r);
void phd_rados_advance(struct phd_rados *r);
bool phd_rados_is_drained(struct phd_rados *r);
/* Nothing that is in the log and not with RADOS counts any more. */
void phd_rados_drop_log(struct phd_rados *r);
void phd_rados_disconnect(struct phd_rados *r);
/* Somebody has declared this node dead: begin anew. */
void phd_rados_reborn(struct phd_rados *r);

/* phd_rados_group.c */
bool phd_rados_group_start(struct phd_rados *r);
void phd_rados_group_step(struct phd_rados *r);
/* RADOS has answered something, or a job has got somewhere. */
void phd_rados_group_event(struct phd_rados *r);
void phd_rados_group_tick(struct phd_rados *r);
void phd_rados_group_status(struct phd_rados *r, struct phd_json *json);
void phd_rados_group_stop(struct phd_rados *r);

/* phd_rados_job.c */
void phd_rados_job_begin(struct phd_rados *r,
			 enum phstore_err (*work)(struct phd_rados *r),
			 void (*done)(struct phd_rados *r));
bool phd_rados_job_running(struct phd_rados *r);
void phd_rados_job_wake(struct phd_rados *r);
void phd_rados_job_stop(struct phd_rados *r);

/* phd_rados_load.c: a job; done() is told with phd_rados_loaded() */
void phd_rados_load_begin(struct phd_rados *r, uint64_t prev,
			  void (*done)(struct phd_rados *r));
enum phstore_err phd_rados_loaded(struct phd_rados *r);
/* The end of the daemon: nobody wants it. */
void phd_rados_load_drop(struct phd_rados *r);

#endif /* PHD_RADOS_H */

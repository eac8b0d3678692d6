/*
 * phstore: deterministic simulator of the replication core
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * N nodes run the core's own code (backends/ctdb/core) on one seed: the
 * simulator is their network, their disks, CTDB and the SMB servers. All
 * randomness comes from the seed, nothing from the machine.
 *
 * sim_world.c    network, disks, nodes, what may happen to them
 * sim_stranger.c a node gets the disk of another cluster
 * sim_smbd.c     who waits for what was written, as with phstored
 * sim_oracle.c   what clients were promised, and whether it holds
 * sim_main.c     a run of one seed, of many, of the seeded faults
 * sim_load.c     a cluster at work, in virtual time
 * sim_events.c   what is to happen in it
 */

#ifndef SIM_H
#define SIM_H

#include "repl_core.h"

#define SIM_NODES 5
#define SIM_KEYS 12
#define SIM_MSGS 4096

/* A copy on a node's disk or in its memory; value: number of the write. */
struct sim_copy {
	bool there;
	bool deleted;
	uint64_t value;
	struct phstore_version version;
};

struct sim_disk {
	struct sim_copy copy[SIM_KEYS];
	uint64_t no;			/* of the snapshot it has */
	struct repl_meta meta;
};

struct sim_node {
	bool up;
	bool lost;			/* for ever */
	bool was_lost;			/* or came back empty */
	bool was_emptied;		/* maybe in vain */
	bool was_active;
	bool stranger;			/* its disk is another cluster's */
	struct repl_core *core;
	struct sim_disk disk;		/* survives */
	struct sim_copy mem[SIM_KEYS];	/* what the node sees */
	struct sim_copy syncing[SIM_KEYS];
	uint64_t sync_done;		/* time; 0: none running */
	uint64_t sync_no;		/* of snapshots: which is newer */
	uint64_t sync_pos;		/* what it makes durable here */
	/* seeds with sim.beside: smbd's own sync, beside the core's */
	struct sim_copy own_syncing[SIM_KEYS];
	uint64_t own_sync_done;
	uint64_t own_sync_no;
	uint64_t own_sync_pos;
	uint64_t own_head;		/* last position written */
	uint64_t own_disk;		/* synced up to there */
	uint64_t reached;		/* what the core said */
	bool unflushed;
	uint64_t num_syncs;
	bool turn;			/* the core has more to do */
	uint64_t slow_until;		/* its disk is slow */
	uint64_t next_tick;
	uint64_t tick_len;		/* its clock's pace */
	uint64_t view;			/* what CTDB told it */
	uint64_t generation;
	uint64_t next_view;		/* what it will be told */
	uint64_t next_generation;
	uint64_t told_at;
	uint64_t epoch;			/* active, or 0 */
	unsigned int life;
	int die_in;			/* callbacks until it dies; 0: no */
};

/* One write a client waits for. */
struct sim_write {
	uint8_t node;
	unsigned int life;
	uint64_t pos;
	unsigned int num;
	unsigned int key[2];
	uint64_t value[2];
	bool deleted[2];
	struct phstore_version version[2];
};

struct sim {
	uint64_t seed;
	uint64_t rng;
	uint64_t now;
	bool trace;
	unsigned int n;
	unsigned int k;
	struct sim_node node[SIM_NODES];
	bool cut[SIM_NODES][SIM_NODES];	/* one way */
	unsigned int loss;		/* per 1000 */
	unsigned int dup;
	unsigned int max_delay;
	unsigned int trouble;		/* one in so many steps */
	bool harsh;			/* power is lost again and again */
	uint8_t zone[SIM_NODES];	/* every fourth seed: two in each */
	bool beside;			/* repl_config.beside, as phstored */
	bool calm;			/* nothing bad happens any more */
	unsigned int num_lost;
	uint64_t generation;		/* CTDB's newest */
	uint64_t reconfigure_at;
	struct {
		uint64_t at;
		uint8_t to;
		uint8_t *buf;
		size_t len;
	} msg[SIM_MSGS];
	size_t num_msgs;

	/* oracle */
	struct sim_copy newest[SIM_KEYS];	/* acked or merged: the floor */
	struct sim_copy vol[SIM_KEYS];	/* the volatile database's newest */
	uint64_t vol_epoch;
	uint64_t begun;			/* newest epoch that began */
	struct sim_copy begun_with[SIM_KEYS];
	struct sim_copy forgotten[SIM_KEYS];	/* newest deletion */
	uint64_t early[SIM_NODES];	/* reached before it was noted */
	unsigned int early_life[SIM_NODES];
	struct sim_write *writes;
	size_t num_writes;
	uint64_t next_value;
	unsigned int num_acked;
	unsigned int num_epochs;
	unsigned int num_writes_total;
	unsigned int num_fenced;
	unsigned int num_forgotten;
	const char *failed;
	char why[200];
};

uint64_t sim_random(struct sim *s, uint64_t below);
void sim_fail(struct sim *s, const char *property, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void sim_trace(struct sim *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* sim_world.c */
void sim_init(struct sim *s, uint64_t seed);
void sim_step(struct sim *s);
void sim_heal(struct sim *s);
void sim_end(struct sim *s);
bool sim_quiet(struct sim *s);
bool sim_force(struct sim *s);

/* sim_smbd.c */
uint64_t sim_sync_end(struct sim *s, const struct sim_node *nd);
void sim_synced(struct sim_node *nd, uint64_t no, uint64_t pos,
		const struct sim_copy *copy);
void sim_smbd_acks(struct sim *s, uint8_t i);
void sim_smbd_step(struct sim *s, uint8_t i);
void sim_wrote(struct sim *s, uint8_t node, uint64_t pos);

/* sim_stranger.c */
uint64_t sim_birth(const struct sim *s, uint8_t node);
bool sim_stranger_seed(const struct sim *s);
void sim_stranger_begin(struct sim *s, uint8_t node);
void sim_stranger_meta(struct sim *s, uint8_t node,
		       const struct repl_meta *meta);
void sim_stranger_stores(struct sim *s, uint8_t node, uint64_t value);
void sim_stranger_told(struct sim *s, uint8_t node);

/* sim_oracle.c */
void oracle_write(struct sim *s, uint8_t node);
void oracle_reached(struct sim *s, uint8_t node, uint64_t pos);
void oracle_fenced(struct sim *s, uint8_t node, uint64_t pos);
void oracle_begins(struct sim *s, uint8_t node, uint64_t epoch);
void oracle_forgotten(struct sim *s, const struct repl_record *rec);
void oracle_died(struct sim *s, uint8_t node);
void oracle_final(struct sim *s);

/* sim_load.c */
int sim_load(int argc, char **argv);

#endif /* SIM_H */

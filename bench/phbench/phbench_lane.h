/*
 * phbench: connections and lanes, shared by phbench_conn.c and _cycle.c
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHBENCH_LANE_H
#define PHBENCH_LANE_H

#include "../libcli/smb/smb2_lease.h"

struct smb2_create_blobs;

struct phbench_lane {
	struct phbench_lane *prev, *next;	/* in pb->idle */
	struct phbench_conn *conn;
	unsigned int number;
	char *name;
	bool busy;		/* a request is on its way, or is retried */
	bool idle;		/* waits for an arrival */
	bool parked;		/* waits for the next phase */
	bool gone;		/* cleaned up, never used again */
	struct tevent_timer *timer;

	bool open;
	uint64_t fid_persistent;
	uint64_t fid_volatile;
	uint8_t create_guid[16];
	struct smb2_lease lease;

	unsigned int step;	/* of the workload */
	unsigned int tries;	/* of this step */
	uint64_t intended_ns;	/* when the cycle should have begun */
	uint64_t op_ns;		/* when the running step began */
	uint64_t took[PHBENCH_OP_NUM];
};

struct phbench_conn {
	struct phbench *pb;
	unsigned int number;
	struct GUID client_guid;
	struct cli_state *cli;	/* NULL: lost for good */
	struct phbench_lane **lanes;
};

enum phbench_create {
	PHBENCH_CREATE_SETUP,	/* make the file */
	PHBENCH_CREATE_CLEANUP,	/* delete it on close */
	PHBENCH_CREATE_CYCLE,	/* the handle asked for */
	PHBENCH_CREATE_REPLAY,	/* the same once more */
	PHBENCH_CREATE_RECONNECT,
};

/* phbench_conn.c */
struct tevent_req *lane_create_send(struct phbench_lane *lane,
				    enum phbench_create kind);
struct tevent_req *lane_close_send(struct phbench_lane *lane);

/* Set a request's callback, or fail the run if there is no request. */
void lane_expect(struct phbench_lane *lane, struct tevent_req *subreq,
		 void (*fn)(struct tevent_req *subreq));
void lane_failed(struct phbench_lane *lane, const char *what,
		 NTSTATUS status);
/* Something failed: close the handle if there is one, then clean up. */
void lane_abort(struct phbench_lane *lane);
void lane_cleanup(struct phbench_lane *lane);

/* phbench_cycle.c */
void lane_cycle(struct phbench_lane *lane);

#endif /* PHBENCH_LANE_H */

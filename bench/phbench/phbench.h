/*
 * phbench: parts shared by its files
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHBENCH_H
#define PHBENCH_H

#include "hist.h"

struct cli_credentials;
struct smb_transports;

enum phbench_op {
	PHBENCH_OP_OPEN = 0,
	PHBENCH_OP_LOCK,
	PHBENCH_OP_UNLOCK,
	PHBENCH_OP_CLOSE,
	PHBENCH_OP_CYCLE,	/* all of the above, end to end */
	PHBENCH_OP_NUM
};

enum phbench_handle {
	PHBENCH_HANDLE_PLAIN = 0,
	PHBENCH_HANDLE_DURABLE,		/* DH2Q without the flag */
	PHBENCH_HANDLE_PERSISTENT,	/* DH2Q with the persistent flag */
};

/*
 * SETUP: connections and files are made; WARMUP: cycles are not recorded;
 * SETTLE: running cycles end, none begins; MEASURE: cycles are recorded;
 * STOP: running cycles end, not recorded any more; DRAIN: what still runs
 * ends, files are removed; DONE.
 *
 * Because of SETTLE and STOP the server is idle when its counters are read:
 * not one sync is counted without its cycle, or the other way round.
 */
enum phbench_phase {
	PHBENCH_SETUP = 0,
	PHBENCH_WARMUP,
	PHBENCH_SETTLE,
	PHBENCH_MEASURE,
	PHBENCH_STOP,
	PHBENCH_DRAIN,
	PHBENCH_DONE,
};

struct phbench_options {
	const char *host;
	const char *share;
	const char *file_prefix;
	enum phbench_handle handle;
	uint8_t lease;		/* SMB2_LEASE_*, 0: no lease */
	bool lock;
	unsigned int clients;
	unsigned int depth;
	unsigned int think_us;
	uint32_t durable_timeout_ms;
	uint64_t count;		/* cycles to measure; 0: by time */
};

struct phbench {
	struct tevent_context *ev;
	struct phbench_options opt;
	enum phbench_phase phase;
	struct cli_credentials *creds;
	const struct smb_transports *transports;

	struct phbench_client **clients;
	unsigned int num_lanes;
	unsigned int num_ready;		/* lanes whose file exists */
	unsigned int num_parked;	/* lanes that may not begin a cycle */
	unsigned int num_gone;		/* lanes drained and cleaned up */

	uint64_t cycles_started;	/* of those to be measured */
	uint64_t cycles;		/* measured */
	uint64_t cycles_after;		/* ended in PHBENCH_STOP */
	uint64_t start_ns;		/* of PHBENCH_MEASURE */
	uint64_t end_ns;
	struct hist *hists;		/* PHBENCH_OP_NUM of them */

	/* first failure: what to tell, and phbench's exit code */
	char *error;
	int exit_code;

	/* called when the number of ready or gone lanes changes */
	void (*progress_fn)(struct phbench *pb);
	/* called when all lanes are parked */
	void (*parked_fn)(struct phbench *pb);
};

uint64_t phbench_now(void);

/* Remember the first failure and begin to drain. */
void phbench_fail(struct phbench *pb, int exit_code, const char *fmt, ...)
	PRINTF_ATTRIBUTE(3, 4);

/* phbench_client.c */
NTSTATUS phbench_client_start(struct phbench *pb, unsigned int number);
void phbench_clients_run(struct phbench *pb);

/*
 * Lanes that wait for nothing (thinking, or ready and never started) are
 * brought to their clean-up; the others come to it at the end of a cycle.
 */
void phbench_clients_drain(struct phbench *pb);

/* phbench_probe.c: what the server spent meanwhile, seen from outside */
struct phbench_probe;

struct phbench_sample {
	uint64_t cpu_ns;
	unsigned int num_processes;
	uint64_t *syncs;		/* NULL without a counter file */
};

struct phbench_probe *phbench_probe_new(TALLOC_CTX *mem_ctx,
					const char *counter_file,
					pid_t server_pid,
					char **error);
void phbench_probe_sample(struct phbench_probe *probe,
			  TALLOC_CTX *mem_ctx,
			  struct phbench_sample *sample);
size_t phbench_probe_num(void);
const char *phbench_probe_name(size_t i);

#endif /* PHBENCH_H */

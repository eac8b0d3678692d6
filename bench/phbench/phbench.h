/*
 * phbench: parts shared by its files
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHBENCH_H
#define PHBENCH_H

#include "hist.h"

struct cli_credentials;
struct cli_state;
struct smb_transports;
struct samba_sockaddr;
struct tevent_req;
struct phbench_arrivals;

/* What is timed. The first ones are steps of a cycle. */
enum phbench_op {
	PHBENCH_OP_OPEN = 0,
	PHBENCH_OP_REPLAY,	/* the same CREATE again, marked as replay */
	PHBENCH_OP_LOCK,
	PHBENCH_OP_UNLOCK,
	PHBENCH_OP_DELETE,	/* SET_INFO, delete on close */
	PHBENCH_OP_CONNECT,	/* drop the connection, make it anew */
	PHBENCH_OP_RECONNECT,	/* DH2C */
	PHBENCH_OP_CLOSE,
	PHBENCH_OP_WAIT,	/* open loop: intended start to start */
	PHBENCH_OP_CYCLE,	/* all of the above, end to end */
	PHBENCH_OP_NUM
};

enum phbench_handle {
	PHBENCH_HANDLE_PLAIN = 0,
	PHBENCH_HANDLE_DURABLE,		/* DH2Q without the flag */
	PHBENCH_HANDLE_PERSISTENT,	/* DH2Q with the persistent flag */
};

struct phbench_workload {
	const char *name;
	bool needs_guid;	/* no sense with a plain handle */
	bool needs_depth_1;	/* it drops the connection */
	bool creates;		/* files come and go within a cycle */
	unsigned int num_steps;
	enum phbench_op steps[4];
};

/*
 * SETUP: connections and files are made; WARMUP: cycles are not recorded;
 * SETTLE: running cycles end, none begins; MEASURE: cycles are recorded;
 * STOP: running cycles end; DRAIN: what still runs ends, files are removed;
 * DONE.
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
	const struct phbench_workload *workload;
	enum phbench_handle handle;
	uint8_t lease;		/* SMB2_LEASE_*, 0: no lease */
	unsigned int clients;	/* each with a client GUID of its own */
	unsigned int connections;	/* of each client */
	unsigned int depth;	/* lanes of each connection */
	unsigned int think_us;
	double rate;		/* arrivals per second; 0: closed loop */
	bool poisson;
	uint64_t seed;
	uint32_t durable_timeout_ms;
	uint64_t count;		/* cycles to measure; 0: by time */
};

struct phbench {
	struct tevent_context *ev;
	struct phbench_options opt;
	enum phbench_phase phase;
	struct cli_credentials *creds;
	const struct smb_transports *transports;
	struct samba_sockaddr *address;

	struct phbench_conn **conns;
	unsigned int num_conns;
	unsigned int num_lanes;
	unsigned int num_ready;		/* lanes whose file exists */
	unsigned int num_parked;	/* lanes that may not begin a cycle */
	unsigned int num_gone;		/* lanes drained and cleaned up */

	struct phbench_arrivals *arrivals;	/* NULL: closed loop */
	struct phbench_lane *idle;	/* lanes without an arrival */
	uint64_t not_started;	/* arrivals no lane was free for */

	uint64_t cycles_started;	/* of those to be measured */
	uint64_t cycles;		/* measured */
	uint64_t cycles_after;		/* ended in PHBENCH_STOP */
	uint64_t retries;		/* of reconnects */
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

/* phbench_conn.c */
NTSTATUS phbench_conn_start(struct phbench *pb, unsigned int number,
			    struct GUID client_guid);
/* Lanes that wait, for whatever, look at the phase: it is another now. */
void phbench_lanes_run(struct phbench *pb);

/*
 * Lanes that wait for nothing (thinking, or ready and never started) are
 * brought to their clean-up; the others come to it at the end of a cycle.
 */
void phbench_lanes_drain(struct phbench *pb);

/* phbench_connect.c: from a host's name to a tree connect */
struct tevent_req *phbench_connect_send(TALLOC_CTX *mem_ctx,
					struct phbench *pb,
					struct GUID client_guid);
NTSTATUS phbench_connect_recv(struct tevent_req *req,
			      TALLOC_CTX *mem_ctx,
			      struct cli_state **cli);

/* phbench_cycle.c */
const struct phbench_workload *phbench_workload_find(const char *name);
const char *phbench_workload_names(TALLOC_CTX *mem_ctx);
/* An arrival is due. */
void phbench_lanes_arrival(struct phbench *pb);

/* phbench_arrivals.c: the open loop */
struct phbench_arrivals *phbench_arrivals_new(struct phbench *pb);
/* The first arrival is one interval from now. */
void phbench_arrivals_start(struct phbench_arrivals *a);
/* The oldest arrival that is due; if none is, idle lanes are woken then. */
bool phbench_arrivals_take(struct phbench_arrivals *a, uint64_t *intended_ns);
/* Arrivals intended before end_ns and never taken; their age is recorded. */
uint64_t phbench_arrivals_rest(struct phbench_arrivals *a, uint64_t end_ns,
			       struct hist *hist);

/* phbench_report.c */
struct phbench_probe;
struct phbench_sample;
extern const char *const phbench_handle_names[3];
void phbench_report_json(FILE *f, const struct phbench *pb,
			 const struct phbench_sample *before,
			 const struct phbench_sample *after);
void phbench_report_table(FILE *f, const struct phbench *pb);
/* fraction < 0: there is none, only what is being done */
void phbench_report_progress(const struct phbench *pb, const char *what,
			     double fraction);

/* phbench_probe.c: what the server spent meanwhile, seen from outside */
struct phbench_sample {
	uint64_t cpu_ns;
	/* of all threads, by /proc/PID/{task,io} */
	uint64_t voluntary_switches;
	uint64_t involuntary_switches;
	uint64_t written;	/* bytes of write() and the like */
	uint64_t dirtied;	/* bytes of pages a disk is to get for it */
	uint64_t write_calls;
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

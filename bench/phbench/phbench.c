/*
 * phbench: load generator for SMB3 handles
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Opens and closes files (and locks, deletes, reconnects, replays: see
 * phbench_cycle.c) over and over with the kind of handle asked for, and tells
 * how many cycles per second that gave and how long each request took. Built
 * on Samba's own client library, works against any SMB3 server.
 *
 * One process, one event loop. clients x connections x depth lanes run
 * cycles: as fast as they can, a closed loop, or as they arrive (--rate, see
 * phbench_arrivals.c). Nothing is measured during the warm-up; a cycle counts
 * if it ends in the measured time (--seconds), or exactly --count cycles are
 * measured. Counters of the server are read while no request is on its way.
 *
 * Exit codes: 0 measured, 1 failed, 2 the server granted less than was
 * asked for, 130 interrupted. In every case the files it made are removed
 * (unless the server is gone).
 */

#include "includes.h"
#include "lib/cmdline/cmdline.h"
#include "lib/param/param.h"
#include "source3/include/client.h"
#include "libsmb/proto.h"
#include "libsmb/smbsock_connect.h"
#include "libsmb/namequery.h"
#include "lib/util/util_net.h"
#include "../libcli/smb/smbXcli_base.h"
#include "../libcli/smb/smb_util.h"
#include "phbench.h"

struct phbench_main {
	struct phbench *pb;
	struct phbench_probe *probe;
	struct phbench_sample before;
	struct phbench_sample after;
	double warmup;
	double seconds;
	bool progress;
	bool interrupted;
	struct tevent_timer *timer;
	struct tevent_timer *bar;
};

/* phbench's callbacks get a struct phbench, and there is only one. */
static struct phbench_main *the_main;

static void main_settle(struct tevent_context *ev, struct tevent_timer *te,
			struct timeval now, void *private_data);
static void main_measured(struct tevent_context *ev, struct tevent_timer *te,
			  struct timeval now, void *private_data);

uint64_t phbench_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void phbench_fail(struct phbench *pb, int exit_code, const char *fmt, ...)
{
	va_list ap;

	if (pb->error != NULL) {
		return;
	}
	va_start(ap, fmt);
	pb->error = talloc_vasprintf(pb, fmt, ap);
	va_end(ap);
	pb->exit_code = exit_code;
	if (pb->phase < PHBENCH_DRAIN) {
		pb->end_ns = phbench_now();
		pb->phase = PHBENCH_DRAIN;
	}
}

static void main_timer(struct phbench_main *m,
		       double seconds,
		       tevent_timer_handler_t fn)
{
	struct timeval tv = timeval_current_ofs_usec(
		(uint64_t)(seconds * 1000000));

	TALLOC_FREE(m->timer);
	m->timer = tevent_add_timer(m->pb->ev, m, tv, fn, m);
	if (m->timer == NULL) {
		phbench_fail(m->pb, 1, "out of memory");
	}
}

static void main_say(struct phbench_main *m, const char *what)
{
	if (m->progress) {
		phbench_report_progress(m->pb, what, -1);
	}
}

/* Twice a second while measuring. */
static void main_bar(struct tevent_context *ev, struct tevent_timer *te,
		     struct timeval now, void *private_data)
{
	struct phbench_main *m =
		talloc_get_type_abort(private_data, struct phbench_main);
	struct phbench *pb = m->pb;
	double done;

	m->bar = NULL;
	if (pb->phase != PHBENCH_MEASURE || !m->progress) {
		return;
	}
	if (pb->opt.count != 0) {
		done = (double)pb->cycles / (double)pb->opt.count;
	} else {
		done = (double)(phbench_now() - pb->start_ns) / 1e9 /
		       m->seconds;
	}
	phbench_report_progress(pb, "measuring", done);
	m->bar = tevent_add_timer(ev, m, timeval_current_ofs_msec(500),
				  main_bar, m);
}

/* Lanes became ready, or came to their end. */
static void main_progress(struct phbench *pb)
{
	struct phbench_main *m = the_main;

	if (pb->phase == PHBENCH_SETUP && pb->num_ready == pb->num_lanes) {
		pb->phase = PHBENCH_WARMUP;
		main_say(m, "connected, warming up");
		main_timer(m, m->warmup, main_settle);
		if (pb->arrivals != NULL) {
			phbench_arrivals_start(pb->arrivals);
		}
		phbench_lanes_run(pb);
	}
	if (pb->num_gone == pb->num_lanes) {
		pb->phase = PHBENCH_DONE;
	}
}

static void main_settle(struct tevent_context *ev, struct tevent_timer *te,
			struct timeval now, void *private_data)
{
	struct phbench_main *m =
		talloc_get_type_abort(private_data, struct phbench_main);

	m->timer = NULL;
	if (m->pb->phase == PHBENCH_WARMUP) {
		m->pb->phase = PHBENCH_SETTLE;
		phbench_lanes_run(m->pb);
	}
}

static void main_measured(struct tevent_context *ev, struct tevent_timer *te,
			  struct timeval now, void *private_data)
{
	struct phbench_main *m =
		talloc_get_type_abort(private_data, struct phbench_main);
	struct phbench *pb = m->pb;

	m->timer = NULL;
	if (pb->phase == PHBENCH_MEASURE) {
		pb->end_ns = phbench_now();
		if (pb->arrivals != NULL) {
			pb->not_started = phbench_arrivals_rest(
				pb->arrivals, pb->end_ns,
				&pb->hists[PHBENCH_OP_CYCLE]);
		}
		pb->phase = PHBENCH_STOP;
		phbench_lanes_run(pb);
	}
}

/* Nothing is on its way to the server. */
static void main_parked(struct phbench *pb)
{
	struct phbench_main *m = the_main;

	if (pb->phase == PHBENCH_SETTLE) {
		main_say(m, "measuring");
		phbench_probe_sample(m->probe, m, &m->before);
		pb->start_ns = phbench_now();
		pb->phase = PHBENCH_MEASURE;
		if (pb->opt.count == 0) {
			main_timer(m, m->seconds, main_measured);
		}
		main_bar(pb->ev, NULL, timeval_zero(), m);
		if (pb->arrivals != NULL) {
			phbench_arrivals_start(pb->arrivals);
		}
		phbench_lanes_run(pb);
	} else if (pb->phase < PHBENCH_DRAIN) {
		phbench_probe_sample(m->probe, m, &m->after);
		pb->phase = PHBENCH_DRAIN;
		main_say(m, "measured, cleaning up");
	}
}

static void main_interrupted(struct tevent_context *ev,
			     struct tevent_signal *se,
			     int signum, int count, void *siginfo,
			     void *private_data)
{
	struct phbench_main *m =
		talloc_get_type_abort(private_data, struct phbench_main);

	if (m->interrupted) {
		_exit(130);
	}
	m->interrupted = true;
	phbench_fail(m->pb, 130, "interrupted");
}

/* Connect, run all phases, clean up. pb->error tells how it went. */
static void main_run(struct phbench_main *m)
{
	struct phbench *pb = m->pb;
	struct GUID guid = {};
	bool drained = false;
	NTSTATUS status;
	unsigned int i;
	int ret;

	for (i = 0; i < pb->num_conns; i++) {
		if (i % pb->opt.connections == 0) {
			guid = GUID_random();
		}
		status = phbench_conn_start(pb, i, guid);
		if (!NT_STATUS_IS_OK(status)) {
			phbench_fail(pb, 1, "out of memory");
			return;
		}
	}
	while (pb->phase != PHBENCH_DONE) {
		ret = tevent_loop_once(pb->ev);
		if (ret != 0) {
			phbench_fail(pb, 1, "event loop: %s",
				     strerror(errno));
			return;
		}
		if (pb->phase == PHBENCH_DRAIN && !drained) {
			drained = true;
			phbench_lanes_drain(pb);
		}
	}
}

static bool parse_handle(const char *name, enum phbench_handle *handle)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(phbench_handle_names); i++) {
		int cmp = strcmp(name, phbench_handle_names[i]);

		if (cmp == 0) {
			*handle = (enum phbench_handle)i;
			return true;
		}
	}
	return false;
}

/* none, or a set of the letters R, W and H */
static bool parse_lease(const char *name, uint8_t *lease)
{
	bool none = strequal(name, "none");

	*lease = 0;
	if (none) {
		return true;
	}
	for (; *name != '\0'; name++) {
		switch (toupper(*name)) {
		case 'R':
			*lease |= SMB2_LEASE_READ;
			break;
		case 'W':
			*lease |= SMB2_LEASE_WRITE;
			break;
		case 'H':
			*lease |= SMB2_LEASE_HANDLE;
			break;
		default:
			return false;
		}
	}
	return *lease != 0;
}

/* "//host/share" in two */
static bool parse_target(TALLOC_CTX *mem_ctx,
			 const char *target,
			 struct phbench_options *opt)
{
	char *host = NULL;
	char *share = NULL;

	if (target == NULL || strlen(target) < 5 ||
	    strspn(target, "/\\") != 2)
	{
		return false;
	}
	host = talloc_strdup(mem_ctx, target + 2);
	if (host == NULL) {
		return false;
	}
	share = strpbrk(host, "/\\");
	if (share == NULL || share == host || share[1] == '\0') {
		return false;
	}
	*share++ = '\0';
	opt->host = host;
	opt->share = share;
	return true;
}

int main(int argc, const char *argv[])
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct phbench_main *m = NULL;
	struct phbench *pb = NULL;
	struct tevent_signal *se = NULL;
	struct smb_transports transports;
	const char *workload = "open-close";
	const char *handle = "plain";
	const char *lease = "none";
	const char *counters = NULL;
	const char *json = NULL;
	const char *prefix = NULL;
	const char *arrivals = "poisson";
	char *error = NULL;
	double seconds = 5;
	double warmup = 1;
	long count = 0;
	int clients = 1;
	int connections = 1;
	int depth = 1;
	double rate = 0;
	long seed = 1;
	int think_us = 0;
	int timeout_ms = 60000;
	int server_pid = 0;
	int port = 0;
	int progress = 0;
	int quiet = 0;
	int rc = 1;
	int opt;
	int ret;
	unsigned int i;
	bool ok;
	poptContext pc;
	struct poptOption long_options[] = {
		POPT_AUTOHELP
		{"workload", 'w', POPT_ARG_STRING, &workload, 0,
		 "open-close (default), open-lock-unlock-close, "
		 "create-delete, reconnect or replay", "NAME"},
		{"handle", 0, POPT_ARG_STRING, &handle, 0,
		 "plain (default), durable-v2 or persistent", "KIND"},
		{"lease", 0, POPT_ARG_STRING, &lease, 0,
		 "none (default), R, RH, RW or RWH", "STATE"},
		{"clients", 'c', POPT_ARG_INT, &clients, 0,
		 "clients, each with a client GUID of its own (1)", "N"},
		{"connections", 0, POPT_ARG_INT, &connections, 0,
		 "connections of each client (1)", "N"},
		{"depth", 0, POPT_ARG_INT, &depth, 0,
		 "cycles in flight per connection (1)", "N"},
		{"port", 0, POPT_ARG_INT, &port, 0,
		 "TCP port (else as \"client smb transports\" says)", "N"},
		{"think-us", 0, POPT_ARG_INT, &think_us, 0,
		 "pause between two cycles (0)", "US"},
		{"rate", 0, POPT_ARG_DOUBLE, &rate, 0,
		 "cycles that arrive per second, whether or not the server "
		 "keeps up (as fast as they can)", "N"},
		{"arrivals", 0, POPT_ARG_STRING, &arrivals, 0,
		 "of --rate: poisson (default) or uniform", "KIND"},
		{"seed", 0, POPT_ARG_LONG, &seed, 0,
		 "of poisson arrivals (1)", "N"},
		{"seconds", 't', POPT_ARG_DOUBLE, &seconds, 0,
		 "how long to measure (5)", "S"},
		{"count", 0, POPT_ARG_LONG, &count, 0,
		 "measure that many cycles instead", "N"},
		{"warmup", 0, POPT_ARG_DOUBLE, &warmup, 0,
		 "seconds before measuring (1)", "S"},
		{"durable-timeout", 0, POPT_ARG_INT, &timeout_ms, 0,
		 "timeout asked for with the handle (60000)", "MS"},
		{"file-prefix", 0, POPT_ARG_STRING, &prefix, 0,
		 "names of the files made on the share", "NAME"},
		{"counters", 0, POPT_ARG_STRING, &counters, 0,
		 "counter file of synccount around the server", "FILE"},
		{"server-pid", 0, POPT_ARG_INT, &server_pid, 0,
		 "count the CPU time of this process and its children",
		 "PID"},
		{"json", 0, POPT_ARG_STRING, &json, 0,
		 "write the result as JSON, - is stdout", "FILE"},
		{"progress", 0, POPT_ARG_NONE, &progress, 0,
		 "say on stderr what is going on (default on a terminal)",
		 NULL},
		{"quiet", 0, POPT_ARG_NONE, &quiet, 0,
		 "do not", NULL},
		POPT_COMMON_SAMBA
		POPT_COMMON_CONNECTION
		POPT_COMMON_CREDENTIALS
		POPT_COMMON_VERSION
		POPT_TABLEEND
	};

	m = talloc_zero(frame, struct phbench_main);
	pb = talloc_zero(m, struct phbench);
	if (m == NULL || pb == NULL) {
		goto done;
	}
	m->pb = pb;
	the_main = m;

	smb_init_locale();
	ok = samba_cmdline_init(frame, SAMBA_CMDLINE_CONFIG_CLIENT, false);
	if (!ok) {
		fprintf(stderr, "phbench: cannot initialise\n");
		goto done;
	}
	pc = samba_popt_get_context("phbench", argc, argv, long_options, 0);
	if (pc == NULL) {
		fprintf(stderr, "phbench: cannot initialise\n");
		goto done;
	}
	poptSetOtherOptionHelp(pc, "[OPTIONS] //host/share");
	opt = poptGetNextOpt(pc);
	if (opt != -1) {
		fprintf(stderr, "phbench: %s: %s\n",
			poptBadOption(pc, 0), poptStrerror(opt));
		goto done;
	}

	ok = parse_target(pb, poptGetArg(pc), &pb->opt);
	if (!ok) {
		poptPrintUsage(pc, stderr, 0);
		goto done;
	}
	ok = parse_handle(handle, &pb->opt.handle);
	if (!ok) {
		fprintf(stderr, "phbench: no such handle: %s\n", handle);
		goto done;
	}
	ok = parse_lease(lease, &pb->opt.lease);
	if (!ok) {
		fprintf(stderr, "phbench: no such lease: %s\n", lease);
		goto done;
	}
	pb->opt.workload = phbench_workload_find(workload);
	if (pb->opt.workload == NULL) {
		fprintf(stderr, "phbench: no such workload: %s (there are: "
			"%s)\n", workload, phbench_workload_names(pb));
		goto done;
	}
	if (pb->opt.workload->needs_guid &&
	    pb->opt.handle == PHBENCH_HANDLE_PLAIN)
	{
		fprintf(stderr, "phbench: %s needs --handle durable-v2 or "
			"persistent\n", workload);
		goto done;
	}
	if (pb->opt.workload->needs_depth_1 &&
	    (depth != 1 || connections != 1))
	{
		fprintf(stderr, "phbench: %s drops its connection: --depth "
			"and --connections have to be 1\n", workload);
		goto done;
	}
	pb->opt.poisson = strequal(arrivals, "poisson");
	if (!pb->opt.poisson && !strequal(arrivals, "uniform")) {
		fprintf(stderr, "phbench: no such arrivals: %s\n", arrivals);
		goto done;
	}
	if (clients < 1 || connections < 1 || depth < 1 || think_us < 0 ||
	    count < 0 || seconds <= 0 || warmup < 0 || timeout_ms < 0 ||
	    rate < 0 || rate > 1e7 || port < 0 || port > 65535 ||
	    (double)clients * connections * depth > 1000000)
	{
		fprintf(stderr, "phbench: a number is out of range\n");
		goto done;
	}
	if (rate != 0 && think_us != 0) {
		fprintf(stderr, "phbench: --rate says when a cycle begins: "
			"no --think-us with it\n");
		goto done;
	}

	if (prefix == NULL) {
		prefix = talloc_asprintf(pb, "phbench-%s-%d",
					 get_myname(pb), (int)getpid());
	}
	pb->opt.file_prefix = prefix;
	pb->opt.clients = (unsigned int)clients;
	pb->opt.connections = (unsigned int)connections;
	pb->opt.depth = (unsigned int)depth;
	pb->opt.rate = rate;
	pb->opt.seed = (uint64_t)seed;
	pb->opt.think_us = (unsigned int)think_us;
	pb->opt.durable_timeout_ms = (uint32_t)timeout_ms;
	pb->opt.count = (uint64_t)count;
	pb->num_conns = pb->opt.clients * pb->opt.connections;
	pb->num_lanes = pb->num_conns * pb->opt.depth;
	pb->creds = samba_cmdline_get_creds();
	pb->progress_fn = main_progress;
	pb->parked_fn = main_parked;
	m->seconds = seconds;
	m->warmup = warmup;
	m->progress = (progress != 0 || isatty(STDERR_FILENO) == 1) &&
		      quiet == 0;

	transports = smb_transports_parse("client smb transports",
					  lp_client_smb_transports());
	if (port != 0) {
		transports = smbsock_transports_from_port((uint16_t)port);
	}
	pb->transports = &transports;

	pb->ev = samba_tevent_context_init(pb);
	pb->conns = talloc_zero_array(pb, struct phbench_conn *,
				      pb->num_conns);
	pb->hists = talloc_array(pb, struct hist, PHBENCH_OP_NUM);
	if (pb->ev == NULL || pb->conns == NULL || pb->hists == NULL) {
		goto done;
	}
	for (i = 0; i < PHBENCH_OP_NUM; i++) {
		hist_clear(&pb->hists[i]);
	}
	if (rate != 0) {
		pb->arrivals = phbench_arrivals_new(pb);
		if (pb->arrivals == NULL) {
			goto done;
		}
	}
	pb->address = talloc_zero(pb, struct samba_sockaddr);
	if (pb->address == NULL) {
		goto done;
	}
	ok = resolve_name(pb->opt.host, pb->address, 0x20, false);
	if (!ok) {
		fprintf(stderr, "phbench: no address of %s is known\n",
			pb->opt.host);
		goto done;
	}
	se = tevent_add_signal(pb->ev, m, SIGINT, 0, main_interrupted, m);
	if (se == NULL) {
		goto done;
	}
	se = tevent_add_signal(pb->ev, m, SIGTERM, 0, main_interrupted, m);
	if (se == NULL) {
		goto done;
	}
	m->probe = phbench_probe_new(m, counters, server_pid, &error);
	if (m->probe == NULL) {
		fprintf(stderr, "phbench: %s\n",
			error != NULL ? error : "out of memory");
		goto done;
	}

	main_run(m);
	if (pb->error != NULL) {
		fprintf(stderr, "phbench: %s\n", pb->error);
		rc = pb->exit_code;
		goto done;
	}
	if (pb->cycles == 0) {
		fprintf(stderr, "phbench: not one cycle ended in time\n");
		goto done;
	}

	rc = 0;
	if (json == NULL) {
		phbench_report_table(stdout, pb);
	} else if (strequal(json, "-")) {
		phbench_report_json(stdout, pb, &m->before, &m->after);
	} else {
		FILE *f = fopen(json, "we");

		if (f == NULL) {
			fprintf(stderr, "phbench: %s: %s\n", json,
				strerror(errno));
			rc = 1;
			goto done;
		}
		phbench_report_json(f, pb, &m->before, &m->after);
		ret = fclose(f);
		if (ret != 0) {
			fprintf(stderr, "phbench: %s: %s\n", json,
				strerror(errno));
			rc = 1;
		}
	}
done:
	TALLOC_FREE(frame);
	return rc;
}

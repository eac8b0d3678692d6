/*
 * phbench: load generator for SMB3 handles
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Opens and closes (and locks and unlocks) existing files over and over
 * with the kind of handle asked for, and tells how many cycles per second
 * that gave and how long each request took. Built on Samba's own client
 * library, works against any SMB3 server.
 *
 * One process, one event loop, N connections with `depth` requests each in
 * flight: a closed loop. Each connection is its own SMB client to the
 * server. Nothing is measured during the warm-up; a cycle counts if it ends
 * in the measured time (--seconds), or exactly --count cycles are measured.
 * Counters of the server are read while no request is on its way.
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
};

/* phbench's callbacks get a struct phbench, and there is only one. */
static struct phbench_main *the_main;

static const char *const op_names[PHBENCH_OP_NUM] = {
	"open", "lock", "unlock", "close", "cycle",
};

static const char *const handle_names[] = {
	"plain", "durable-v2", "persistent",
};

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
		fprintf(stderr, "phbench: %s\n", what);
	}
}

/* Lanes became ready, or came to their end. */
static void main_progress(struct phbench *pb)
{
	struct phbench_main *m = the_main;

	if (pb->phase == PHBENCH_SETUP && pb->num_ready == pb->num_lanes) {
		pb->phase = PHBENCH_WARMUP;
		main_say(m, "connected, warming up");
		main_timer(m, m->warmup, main_settle);
		phbench_clients_run(pb);
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
	}
}

static void main_measured(struct tevent_context *ev, struct tevent_timer *te,
			  struct timeval now, void *private_data)
{
	struct phbench_main *m =
		talloc_get_type_abort(private_data, struct phbench_main);

	m->timer = NULL;
	if (m->pb->phase == PHBENCH_MEASURE) {
		m->pb->end_ns = phbench_now();
		m->pb->phase = PHBENCH_STOP;
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
		phbench_clients_run(pb);
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

static void json_hist(FILE *f, const struct hist *h)
{
	fprintf(f, "{\"count\": %"PRIu64", \"mean_us\": %.2f, "
		"\"min_us\": %.2f, \"p50_us\": %.2f, \"p90_us\": %.2f, "
		"\"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f}",
		h->count,
		hist_mean(h) / 1000,
		(double)(h->count != 0 ? h->min : 0) / 1000,
		(double)hist_quantile(h, 0.5) / 1000,
		(double)hist_quantile(h, 0.9) / 1000,
		(double)hist_quantile(h, 0.99) / 1000,
		(double)hist_quantile(h, 0.999) / 1000,
		(double)h->max / 1000);
}

static void json_probe(FILE *f, struct phbench_main *m)
{
	double cycles = (double)(m->pb->cycles + m->pb->cycles_after);
	size_t i;

	if (m->after.syncs != NULL && m->before.syncs != NULL) {
		fprintf(f, ",\n \"syncs\": {");
		for (i = 0; i < phbench_probe_num(); i++) {
			uint64_t n = m->after.syncs[i] - m->before.syncs[i];

			fprintf(f, "%s\"%s\": %"PRIu64, i == 0 ? "" : ", ",
				phbench_probe_name(i), n);
		}
		fprintf(f, "},\n \"syncs_per_cycle\": {");
		for (i = 0; i < phbench_probe_num(); i++) {
			uint64_t n = m->after.syncs[i] - m->before.syncs[i];

			fprintf(f, "%s\"%s\": %.4f", i == 0 ? "" : ", ",
				phbench_probe_name(i), (double)n / cycles);
		}
		fprintf(f, "}");
	}
	if (m->after.num_processes != 0) {
		fprintf(f, ",\n \"server_processes\": %u"
			",\n \"server_cpu_us_per_cycle\": %.2f",
			m->after.num_processes,
			(double)(m->after.cpu_ns - m->before.cpu_ns) /
			1000 / cycles);
	}
}

static void main_json(FILE *f, struct phbench_main *m)
{
	struct phbench *pb = m->pb;
	double elapsed = (double)(pb->end_ns - pb->start_ns) / 1e9;
	const char *sep = "";
	unsigned int op;

	fprintf(f, "{\"workload\": \"%s\", \"handle\": \"%s\", "
		"\"lease\": %u, \"clients\": %u, \"depth\": %u, "
		"\"think_us\": %u,\n"
		" \"seconds\": %.4f, \"cycles\": %"PRIu64", "
		"\"cycles_per_s\": %.1f,\n \"ops\": {",
		pb->opt.lock ? "open-lock-unlock-close" : "open-close",
		handle_names[pb->opt.handle],
		(unsigned int)pb->opt.lease,
		pb->opt.clients, pb->opt.depth, pb->opt.think_us,
		elapsed, pb->cycles, (double)pb->cycles / elapsed);
	for (op = 0; op < PHBENCH_OP_NUM; op++) {
		if (pb->hists[op].count == 0) {
			continue;
		}
		fprintf(f, "%s\n  \"%s\": ", sep, op_names[op]);
		json_hist(f, &pb->hists[op]);
		sep = ",";
	}
	fprintf(f, "}");
	json_probe(f, m);
	fprintf(f, "}\n");
}

static void main_table(struct phbench_main *m)
{
	struct phbench *pb = m->pb;
	double elapsed = (double)(pb->end_ns - pb->start_ns) / 1e9;
	unsigned int op;

	printf("%s, %s handle, %u client%s: %.1f cycles/s "
	       "(%"PRIu64" in %.2f s)\n",
	       pb->opt.lock ? "open-lock-unlock-close" : "open-close",
	       handle_names[pb->opt.handle],
	       pb->opt.clients, pb->opt.clients == 1 ? "" : "s",
	       (double)pb->cycles / elapsed, pb->cycles, elapsed);
	printf("%-8s %10s %10s %10s %10s %10s us\n",
	       "", "mean", "p50", "p90", "p99", "max");
	for (op = 0; op < PHBENCH_OP_NUM; op++) {
		const struct hist *h = &pb->hists[op];

		if (h->count == 0) {
			continue;
		}
		printf("%-8s %10.1f %10.1f %10.1f %10.1f %10.1f\n",
		       op_names[op],
		       hist_mean(h) / 1000,
		       (double)hist_quantile(h, 0.5) / 1000,
		       (double)hist_quantile(h, 0.9) / 1000,
		       (double)hist_quantile(h, 0.99) / 1000,
		       (double)h->max / 1000);
	}
}

/* Connect, run all phases, clean up. pb->error tells how it went. */
static void main_run(struct phbench_main *m)
{
	struct phbench *pb = m->pb;
	bool drained = false;
	NTSTATUS status;
	unsigned int i;
	int ret;

	for (i = 0; i < pb->opt.clients; i++) {
		status = phbench_client_start(pb, i);
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
			phbench_clients_drain(pb);
		}
	}
}

static bool parse_handle(const char *name, enum phbench_handle *handle)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(handle_names); i++) {
		int cmp = strcmp(name, handle_names[i]);

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
	char *error = NULL;
	double seconds = 5;
	double warmup = 1;
	long count = 0;
	int clients = 1;
	int depth = 1;
	int think_us = 0;
	int timeout_ms = 60000;
	int server_pid = 0;
	int port = 0;
	int progress = 0;
	int rc = 1;
	int opt;
	unsigned int i;
	bool ok;
	poptContext pc;
	struct poptOption long_options[] = {
		POPT_AUTOHELP
		{"workload", 'w', POPT_ARG_STRING, &workload, 0,
		 "open-close (default) or open-lock-unlock-close", "NAME"},
		{"handle", 0, POPT_ARG_STRING, &handle, 0,
		 "plain (default), durable-v2 or persistent", "KIND"},
		{"lease", 0, POPT_ARG_STRING, &lease, 0,
		 "none (default), R, RH, RW or RWH", "STATE"},
		{"clients", 'c', POPT_ARG_INT, &clients, 0,
		 "connections (1)", "N"},
		{"depth", 0, POPT_ARG_INT, &depth, 0,
		 "cycles in flight per connection (1)", "N"},
		{"port", 0, POPT_ARG_INT, &port, 0,
		 "TCP port (else as \"client smb transports\" says)", "N"},
		{"think-us", 0, POPT_ARG_INT, &think_us, 0,
		 "pause between two cycles (0)", "US"},
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
		 "say on stderr what is going on", NULL},
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
	pb->opt.lock = strequal(workload, "open-lock-unlock-close");
	if (!pb->opt.lock && !strequal(workload, "open-close")) {
		fprintf(stderr, "phbench: no such workload: %s\n", workload);
		goto done;
	}
	if (clients < 1 || depth < 1 || think_us < 0 || count < 0 ||
	    seconds <= 0 || warmup < 0 || timeout_ms < 0 ||
	    port < 0 || port > 65535)
	{
		fprintf(stderr, "phbench: a number is out of range\n");
		goto done;
	}

	if (prefix == NULL) {
		prefix = talloc_asprintf(pb, "phbench-%s-%d",
					 get_myname(pb), (int)getpid());
	}
	pb->opt.file_prefix = prefix;
	pb->opt.clients = (unsigned int)clients;
	pb->opt.depth = (unsigned int)depth;
	pb->opt.think_us = (unsigned int)think_us;
	pb->opt.durable_timeout_ms = (uint32_t)timeout_ms;
	pb->opt.count = (uint64_t)count;
	pb->num_lanes = pb->opt.clients * pb->opt.depth;
	pb->creds = samba_cmdline_get_creds();
	pb->progress_fn = main_progress;
	pb->parked_fn = main_parked;
	m->seconds = seconds;
	m->warmup = warmup;
	m->progress = (progress != 0);

	transports = smb_transports_parse("client smb transports",
					  lp_client_smb_transports());
	if (port != 0) {
		transports = smbsock_transports_from_port((uint16_t)port);
	}
	pb->transports = &transports;

	pb->ev = samba_tevent_context_init(pb);
	pb->clients = talloc_zero_array(pb, struct phbench_client *,
					pb->opt.clients);
	pb->hists = talloc_array(pb, struct hist, PHBENCH_OP_NUM);
	if (pb->ev == NULL || pb->clients == NULL || pb->hists == NULL) {
		goto done;
	}
	for (i = 0; i < PHBENCH_OP_NUM; i++) {
		hist_clear(&pb->hists[i]);
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
		main_table(m);
	} else if (strequal(json, "-")) {
		main_json(stdout, m);
	} else {
		FILE *f = fopen(json, "we");

		if (f == NULL) {
			fprintf(stderr, "phbench: %s: %s\n", json,
				strerror(errno));
			rc = 1;
			goto done;
		}
		main_json(f, m);
		fclose(f);
	}
done:
	TALLOC_FREE(frame);
	return rc;
}

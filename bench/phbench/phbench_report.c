/*
 * phbench: what was measured, for programs and for people
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The JSON's keys only ever grow: bench/run and others read them. The man
 * page lists them.
 */

#include "includes.h"
#include "phbench.h"

#define BAR_WIDTH 30

const char *const phbench_handle_names[] = {
	"plain", "durable-v2", "persistent",
};

static const char *const op_names[PHBENCH_OP_NUM] = {
	"open", "replay", "lock", "unlock", "delete", "connect", "reconnect",
	"close", "wait", "cycle",
};

static const struct {
	const char *key;
	double quantile;
} quantiles[] = {
	{ "p50_us", 0.5 }, { "p90_us", 0.9 }, { "p95_us", 0.95 },
	{ "p99_us", 0.99 }, { "p999_us", 0.999 }, { "p9999_us", 0.9999 },
};

/* A JSON string, for names that come from the command line. */
static void json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\') {
			fprintf(f, "\\%c", *s);
		} else if ((unsigned char)*s < 0x20) {
			fprintf(f, "\\u%04x", (unsigned char)*s);
		} else {
			fputc(*s, f);
		}
	}
	fputc('"', f);
}

static void json_hist(FILE *f, const struct hist *h, bool slots)
{
	const char *sep = "";
	size_t i;

	fprintf(f, "{\"count\": %"PRIu64", \"mean_us\": %.2f, "
		"\"min_us\": %.2f", h->count, hist_mean(h) / 1000,
		(double)(h->count != 0 ? h->min : 0) / 1000);
	for (i = 0; i < ARRAY_SIZE(quantiles); i++) {
		fprintf(f, ", \"%s\": %.2f", quantiles[i].key,
			(double)hist_quantile(h, quantiles[i].quantile) /
			1000);
	}
	fprintf(f, ", \"max_us\": %.2f", (double)h->max / 1000);
	if (slots) {
		fprintf(f, ",\n   \"histogram\": [");
		for (i = 0; i < HIST_SLOTS; i++) {
			if (h->slots[i] == 0) {
				continue;
			}
			fprintf(f, "%s[%.3f, %"PRIu64"]", sep,
				(double)hist_slot_top((unsigned int)i) / 1000,
				h->slots[i]);
			sep = ", ";
		}
		fprintf(f, "]");
	}
	fprintf(f, "}");
}

static void json_server(FILE *f, double cycles,
			const struct phbench_sample *before,
			const struct phbench_sample *after)
{
	size_t i;

	if (after->syncs != NULL && before->syncs != NULL) {
		fprintf(f, ",\n \"syncs\": {");
		for (i = 0; i < phbench_probe_num(); i++) {
			uint64_t n = after->syncs[i] - before->syncs[i];

			fprintf(f, "%s\"%s\": %"PRIu64, i == 0 ? "" : ", ",
				phbench_probe_name(i), n);
		}
		fprintf(f, "},\n \"syncs_per_cycle\": {");
		for (i = 0; i < phbench_probe_num(); i++) {
			uint64_t n = after->syncs[i] - before->syncs[i];

			fprintf(f, "%s\"%s\": %.4f", i == 0 ? "" : ", ",
				phbench_probe_name(i), (double)n / cycles);
		}
		fprintf(f, "}");
	}
	if (after->num_processes != 0) {
		const struct {
			const char *key;
			uint64_t before;
			uint64_t after;
		} counts[] = {
			{ "voluntary_switches", before->voluntary_switches,
			  after->voluntary_switches },
			{ "involuntary_switches",
			  before->involuntary_switches,
			  after->involuntary_switches },
			{ "written_bytes", before->written, after->written },
			{ "dirtied_bytes", before->dirtied, after->dirtied },
			{ "write_calls", before->write_calls,
			  after->write_calls },
		};

		fprintf(f, ",\n \"server_processes\": %u"
			",\n \"server_cpu_us_per_cycle\": %.2f"
			",\n \"server_per_cycle\": {",
			after->num_processes,
			(double)(after->cpu_ns - before->cpu_ns) /
			1000 / cycles);
		for (i = 0; i < ARRAY_SIZE(counts); i++) {
			fprintf(f, "%s\"%s\": %.3f", i == 0 ? "" : ", ",
				counts[i].key,
				((double)counts[i].after -
				 (double)counts[i].before) / cycles);
		}
		fprintf(f, "}");
	}
}

static void print_lease(FILE *f, uint8_t lease)
{
	fprintf(f, "%s%s%s%s", lease == 0 ? "none" : "",
		(lease & SMB2_LEASE_READ) ? "R" : "",
		(lease & SMB2_LEASE_WRITE) ? "W" : "",
		(lease & SMB2_LEASE_HANDLE) ? "H" : "");
}

void phbench_report_json(FILE *f, const struct phbench *pb,
			 const struct phbench_sample *before,
			 const struct phbench_sample *after)
{
	double elapsed = (double)(pb->end_ns - pb->start_ns) / 1e9;
	const char *sep = "";
	unsigned int op;

	fprintf(f, "{\"host\": ");
	json_string(f, pb->opt.host);
	fprintf(f, ", \"share\": ");
	json_string(f, pb->opt.share);
	fprintf(f, ",\n \"workload\": \"%s\", \"handle\": \"%s\", "
		"\"lease\": %u, \"lease_name\": \"",
		pb->opt.workload->name,
		phbench_handle_names[pb->opt.handle],
		(unsigned int)pb->opt.lease);
	print_lease(f, pb->opt.lease);
	fprintf(f, "\",\n \"clients\": %u, \"connections\": %u, "
		"\"depth\": %u, \"think_us\": %u,\n"
		" \"rate\": %.3f, \"arrivals\": \"%s\", "
		"\"seed\": %"PRIu64", \"unfinished\": %"PRIu64",\n"
		" \"retries\": %"PRIu64", "
		"\"seconds\": %.4f, \"cycles\": %"PRIu64", "
		"\"cycles_per_s\": %.1f,\n \"ops\": {",
		pb->opt.clients, pb->opt.connections, pb->opt.depth,
		pb->opt.think_us, pb->opt.rate,
		pb->opt.rate == 0 ? "closed" :
		pb->opt.poisson ? "poisson" : "uniform",
		pb->opt.seed, pb->not_started, pb->retries,
		elapsed, pb->cycles, (double)pb->cycles / elapsed);
	for (op = 0; op < PHBENCH_OP_NUM; op++) {
		if (pb->hists[op].count == 0) {
			continue;
		}
		fprintf(f, "%s\n  \"%s\": ", sep, op_names[op]);
		json_hist(f, &pb->hists[op], op == PHBENCH_OP_CYCLE);
		sep = ",";
	}
	fprintf(f, "}");
	json_server(f, (double)(pb->cycles + pb->cycles_after),
		    before, after);
	fprintf(f, "}\n");
}

void phbench_report_table(FILE *f, const struct phbench *pb)
{
	double elapsed = (double)(pb->end_ns - pb->start_ns) / 1e9;
	unsigned int op;

	fprintf(f, "%s, %s handle, lease ", pb->opt.workload->name,
		phbench_handle_names[pb->opt.handle]);
	print_lease(f, pb->opt.lease);
	fprintf(f, ", %u client%s", pb->opt.clients,
		pb->opt.clients == 1 ? "" : "s");
	if (pb->opt.connections != 1 || pb->opt.depth != 1) {
		fprintf(f, " x %u connections x %u lanes",
			pb->opt.connections, pb->opt.depth);
	}
	fprintf(f, ": %.1f cycles/s (%"PRIu64" in %.2f s)\n",
		(double)pb->cycles / elapsed, pb->cycles, elapsed);
	if (pb->opt.rate != 0) {
		fprintf(f, "offered: %.1f cycles/s; not even begun at the "
			"end: %"PRIu64"\n", pb->opt.rate, pb->not_started);
	}
	fprintf(f, "%-9s %9s %9s %9s %9s %9s %9s %9s us\n",
		"", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max");
	for (op = 0; op < PHBENCH_OP_NUM; op++) {
		const struct hist *h = &pb->hists[op];

		if (h->count == 0) {
			continue;
		}
		fprintf(f, "%-9s %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f %9.1f\n",
			op_names[op],
			hist_mean(h) / 1000,
			(double)hist_quantile(h, 0.5) / 1000,
			(double)hist_quantile(h, 0.9) / 1000,
			(double)hist_quantile(h, 0.99) / 1000,
			(double)hist_quantile(h, 0.999) / 1000,
			(double)hist_quantile(h, 0.9999) / 1000,
			(double)h->max / 1000);
	}
}

void phbench_report_progress(const struct phbench *pb, const char *what,
			     double fraction)
{
	const struct hist *h = &pb->hists[PHBENCH_OP_CYCLE];
	static const char full[BAR_WIDTH + 1] =
		"##############################";
	bool tty = isatty(STDERR_FILENO) == 1;
	double elapsed;
	int width;

	if (fraction < 0) {
		fprintf(stderr, "%sphbench: %s%s\n", tty ? "\r" : "", what,
			tty ? "\033[K" : "");
		return;
	}
	fraction = MIN(fraction, 1.0);
	width = (int)(fraction * BAR_WIDTH);
	elapsed = (double)(phbench_now() - pb->start_ns) / 1e9;
	fprintf(stderr, "%sphbench: %s [%.*s%*s] %3d %%  %.0f cycles/s  "
		"p50 %.0f us  p99 %.0f us%s",
		tty ? "\r" : "", what, width, full, BAR_WIDTH - width, "",
		(int)(fraction * 100), (double)pb->cycles / elapsed,
		(double)hist_quantile(h, 0.5) / 1000,
		(double)hist_quantile(h, 0.99) / 1000,
		tty ? "\033[K" : "\n");
}

/*
 * phstore: simulator: one seed, many seeds, or the seeded faults
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * sim --seed N [--trace]      one run
 * sim --seeds N [--from M]    N runs; the first that fails ends it
 * sim --mutant M --seeds N    with fault M of the core: exit 0 if none of
 *                             the seeds notices
 * sim --mutants               print "number" of the last fault
 * sim --load [OPTION N]...    a cluster at work: counts and times, as JSON
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repl_private.h"
#include "sim.h"

static struct {
	unsigned long epochs, writes, acked, fenced, forgotten, lost, forced;
} total;

/*
 * Of so many seeds one may end with nodes that wait for the operator, though
 * only K - 1 are lost: docs/REPLICATION.md, "Limits". More are a fault.
 */
#define SEEDS_PER_FORCED 3000
/* Before that nothing is said about how often. */
#define ENOUGH_SEEDS 30000

static void settle(struct sim *s)
{
	unsigned int i;

	for (i = 0; i < 6000 && s->failed == NULL; i++) {
		sim_step(s);
		if (i % 16 == 0 && sim_quiet(s)) {
			break;
		}
	}
}

static bool run(uint64_t seed, bool trace, bool quiet)
{
	static struct sim s;
	unsigned int i, steps;
	bool ok;

	sim_init(&s, seed);
	s.trace = trace;
	steps = 500 + sim_random(&s, 3000);
	for (i = 0; i < steps && s.failed == NULL; i++) {
		sim_step(&s);
	}
	if (s.failed == NULL) {
		sim_heal(&s);
	}
	settle(&s);
	if (s.failed == NULL && sim_force(&s)) {
		total.forced++;
		settle(&s);
	}
	if (s.failed == NULL) {
		oracle_final(&s);
	}
	ok = s.failed == NULL;
	total.epochs += s.num_epochs;
	total.writes += s.num_writes_total;
	total.acked += s.num_acked;
	total.fenced += s.num_fenced;
	total.forgotten += s.num_forgotten;
	total.lost += s.num_lost;
	if (!ok && !quiet) {
		printf("FAILED %s at %llu, %u nodes, K=%u: %s\n", s.failed,
		       (unsigned long long)s.now, s.n, s.k, s.why);
		printf("again: tests/sim/run --seed %llu --trace",
		       (unsigned long long)seed);
		if (repl_mutant != 0) {
			printf(" --mutant %d", repl_mutant);
		}
		printf("\n");
	}
	sim_end(&s);
	return ok;
}

int main(int argc, char **argv)
{
	unsigned long seeds = 0, from = 1, i;
	bool trace = false, one = false, ok;
	int a;

	if (argc > 1 && strcmp(argv[1], "--load") == 0) {
		return sim_load(argc - 2, argv + 2);
	}
	for (a = 1; a < argc; a++) {
		const char *value = a + 1 < argc ? argv[a + 1] : "0";

		if (strcmp(argv[a], "--trace") == 0) {
			trace = true;
			continue;
		}
		if (strcmp(argv[a], "--mutants") == 0) {
			printf("%d\n", MUT_END - 1);
			return 0;
		}
		if (strcmp(argv[a], "--seed") == 0) {
			from = strtoul(value, NULL, 10);
			seeds = 1;
			one = true;
		} else if (strcmp(argv[a], "--seeds") == 0) {
			seeds = strtoul(value, NULL, 10);
		} else if (strcmp(argv[a], "--from") == 0) {
			from = strtoul(value, NULL, 10);
		} else if (strcmp(argv[a], "--mutant") == 0) {
			repl_mutant = atoi(value);
		} else {
			fprintf(stderr, "sim: unknown option %s\n", argv[a]);
			return 2;
		}
		a++;
	}
	if (seeds == 0) {
		fprintf(stderr, "sim: --seed N or --seeds N\n");
		return 2;
	}
	for (i = from; i < from + seeds; i++) {
		ok = run(i, trace, false);
		if (ok && repl_mutant == 0 && i - from + 1 >= ENOUGH_SEEDS &&
		    total.forced * SEEDS_PER_FORCED > i - from + 1)
		{
			printf("FAILED liveness: the operator was needed %lu "
			       "times in %lu seeds, last in %lu\n",
			       total.forced, i - from + 1, i);
			ok = false;
		}
		if (!ok) {
			return 1;
		}
	}
	printf("%lu seed%s: %lu epochs, %lu writes, %lu acked, %lu thrown "
	       "away unacked, %lu deletions swept, %lu nodes lost, %lu times "
	       "the operator was needed%s\n", seeds, one ? "" : "s",
	       total.epochs, total.writes, total.acked, total.fenced,
	       total.forgotten, total.lost, total.forced,
	       one ? "" : ", nothing broken");
	return 0;
}

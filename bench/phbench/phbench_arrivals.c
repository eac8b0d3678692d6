/*
 * phbench: the open loop
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Arrivals come at times that do not depend on the server: real users do not
 * wait for each other. Each free lane takes the oldest arrival that is due,
 * and its latency counts from when it was due, so the time in the queue is
 * in it; a closed loop hides that (a server that stands still for a second
 * spoils one cycle of each lane there, and a second's worth of arrivals
 * here). Arrivals that nobody took before the end are recorded with their
 * age, or the worst of an overload would be missing from the histogram.
 *
 * Only the next arrival's time is kept: the queue is all times between that
 * and now. A timerfd, as tevent's own timers are off by up to a millisecond.
 */

#include "includes.h"
#include "phbench.h"

#include <sys/timerfd.h>

struct phbench_arrivals {
	struct phbench *pb;
	double gap_ns;
	uint64_t random;	/* state of the generator, never 0 */
	uint64_t next_ns;	/* oldest arrival not taken */
	int fd;
	struct tevent_fd *fde;
};

static void arrivals_due(struct tevent_context *ev, struct tevent_fd *fde,
			 uint16_t flags, void *private_data);

static int arrivals_destructor(struct phbench_arrivals *a)
{
	TALLOC_FREE(a->fde);
	close(a->fd);
	return 0;
}

struct phbench_arrivals *phbench_arrivals_new(struct phbench *pb)
{
	struct phbench_arrivals *a = NULL;

	a = talloc_zero(pb, struct phbench_arrivals);
	if (a == NULL) {
		return NULL;
	}
	a->pb = pb;
	a->gap_ns = 1e9 / pb->opt.rate;
	a->random = pb->opt.seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	a->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (a->fd == -1) {
		TALLOC_FREE(a);
		return NULL;
	}
	talloc_set_destructor(a, arrivals_destructor);
	a->fde = tevent_add_fd(pb->ev, a, a->fd, TEVENT_FD_READ,
			       arrivals_due, a);
	if (a->fde == NULL) {
		TALLOC_FREE(a);
	}
	return a;
}

/* 0 <= the result < 1, by xorshift */
static double arrivals_uniform(struct phbench_arrivals *a)
{
	uint64_t x = a->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	a->random = x;
	return (double)(x >> 11) / (double)(UINT64_C(1) << 53);
}

/*
 * Exponentially distributed with mean 1, after von Neumann: the first of a
 * falling run of uniform numbers, if the run's length is odd; else again, and
 * one more.
 */
static double arrivals_exponential(struct phbench_arrivals *a)
{
	double whole = 0;

	while (true) {
		double first = arrivals_uniform(a);
		double last = first;
		double u = arrivals_uniform(a);
		bool odd = true;

		while (u < last) {
			last = u;
			u = arrivals_uniform(a);
			odd = !odd;
		}
		if (odd) {
			return whole + first;
		}
		whole += 1;
	}
}

static void arrivals_advance(struct phbench_arrivals *a)
{
	double gap = a->gap_ns;

	if (a->pb->opt.poisson) {
		gap *= arrivals_exponential(a);
	}
	a->next_ns += (uint64_t)(gap + 0.5);
}

void phbench_arrivals_start(struct phbench_arrivals *a)
{
	a->next_ns = phbench_now();
	arrivals_advance(a);
}

bool phbench_arrivals_take(struct phbench_arrivals *a, uint64_t *intended_ns)
{
	struct itimerspec when = {
		.it_value.tv_sec = (time_t)(a->next_ns / 1000000000),
		.it_value.tv_nsec = (long)(a->next_ns % 1000000000),
	};
	int ret;

	if (a->next_ns <= phbench_now()) {
		*intended_ns = a->next_ns;
		arrivals_advance(a);
		return true;
	}
	ret = timerfd_settime(a->fd, TFD_TIMER_ABSTIME, &when, NULL);
	if (ret == -1) {
		phbench_fail(a->pb, 1, "timerfd: %s", strerror(errno));
	}
	return false;
}

static void arrivals_due(struct tevent_context *ev, struct tevent_fd *fde,
			 uint16_t flags, void *private_data)
{
	struct phbench_arrivals *a =
		talloc_get_type_abort(private_data, struct phbench_arrivals);
	uint64_t expired;
	ssize_t n;

	n = read(a->fd, &expired, sizeof(expired));
	if (n == (ssize_t)sizeof(expired)) {
		phbench_lanes_arrival(a->pb);
	}
}

uint64_t phbench_arrivals_rest(struct phbench_arrivals *a, uint64_t end_ns,
			       struct hist *hist)
{
	uint64_t num = 0;

	while (a->next_ns < end_ns) {
		hist_add(hist, end_ns - a->next_ns);
		arrivals_advance(a);
		num++;
	}
	return num;
}

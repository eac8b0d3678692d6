/*
 * phstore: replication core: a new epoch, the coordinator's part
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The lowest node that is up leads. Nothing is unsafe when two do: numbers
 * of epochs are (counter, node), members follow the highest they promised.
 * All state here is lost with the process; the next attempt starts afresh.
 */

#include "repl_private.h"

static void lead_send(struct repl_core *c, uint8_t to)
{
	static const enum repl_type types[] = {
		[LEAD_PREPARE] = REPL_PREPARE,
		[LEAD_START] = REPL_START,
		[LEAD_COMMIT] = REPL_COMMIT,
		[LEAD_ACTIVATE] = REPL_ACTIVATE,
	};
	struct lead *l = &c->lead;
	uint8_t body[REPL_PLAN_LEN];
	bool with_plan = l->phase == LEAD_START || l->phase == LEAD_COMMIT;

	if (with_plan) {
		repl_plan_push(body, &l->plan);
	}
	repl_send(c, types[l->phase], to, l->epoch, 0, 0,
		  body, with_plan ? sizeof(body) : 0, 0);
}

/* Ask, or ask again, those that have not answered. */
static void lead_ask(struct repl_core *c)
{
	uint64_t left = c->lead.asked & ~c->lead.answered;
	uint8_t i;

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (left & BIT(i)) {
			lead_send(c, i);
		}
	}
}

static void lead_phase(struct repl_core *c, enum lead_phase phase)
{
	c->lead.phase = phase;
	c->lead.answered = 0;
	c->lead.ticks = 0;
	lead_ask(c);
}

static void lead_begin(struct repl_core *c)
{
	struct lead *l = &c->lead;
	uint64_t counter = l->highest >> 8;

	if (c->meta.promised > l->highest) {
		counter = c->meta.promised >> 8;
	}
	counter += l->force ? REPL_FORCED_STEP : 1;
	l->epoch = (counter << 8) | c->conf.node;
	l->highest = l->epoch;
	l->wanted = false;
	l->asked = c->up;
	c->num_attempts++;
	lead_phase(c, LEAD_PREPARE);
}

static bool votes(const struct repl_meta *m)
{
	/* a node that has forgotten its promises does not */
	return m->epoch != 0 || (m->flags & REPL_META_FIRST) ||
		MUTANT(MUT_BLANK_VOTES);
}

/*
 * Nodes with stores of different clusters have answered: docs/REPLICATION.md,
 * "Two clusters of one name". Strangers are told so and left out; false: it
 * can not be known who is one.
 */
static bool lead_sort_out(struct repl_core *c)
{
	struct lead *l = &c->lead;
	uint64_t born = 0, voting = 0, ours = 0, birth = 0;
	uint64_t strangers;
	uint8_t i, j;

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (!(l->answered & BIT(i))) {
			continue;
		}
		born |= l->promise[i].epoch != 0 ? BIT(i) : 0;
		voting |= votes(&l->promise[i]) ? BIT(i) : 0;
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		uint64_t same = 0;

		for (j = 0; (born & BIT(i)) && j < PHSTORE_NODES_MAX; j++) {
			if ((voting & BIT(j)) &&
			    l->promise[j].birth == l->promise[i].birth) {
				same |= BIT(j);
			}
		}
		if (same != 0 && ((born & ~same) == 0 ||
				  phstore_nodes_count(same) * 2 >
				  phstore_nodes_count(c->conf.nodes)))
		{
			ours = same;
			birth = l->promise[i].birth;
		}
	}
	strangers = born & ~ours;
	/* for people: who was one stays one until it answers otherwise */
	c->strangers = (c->strangers & ~l->answered) | strangers;
	c->split = born != 0 && ours == 0;
	if (MUTANT(MUT_STRANGER_LEADS) || MUTANT(MUT_STRANGER_TAKEN)) {
		return true;
	}
	if (c->split) {
		c->missing = 0;
		c->missing_needed = 0;
		/* what the operator saw was another set of nodes */
		l->force = false;
		return false;
	}
	/* who was only READY there is no copy and no voter here */
	for (i = 0; born != 0 && i < PHSTORE_NODES_MAX &&
	     !MUTANT(MUT_STRANGER_READY); i++) {
		if ((l->answered & BIT(i)) && l->promise[i].epoch == 0 &&
		    l->promise[i].birth != birth)
		{
			l->promise[i].data = 0;
			l->promise[i].flags = 0;
		}
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (strangers & BIT(i)) {
			repl_send(c, REPL_REFUSE, i, l->epoch, l->epoch, birth,
				  NULL, 0, REPL_STRANGER);
		}
	}
	l->answered &= ~strangers;
	return !(strangers & BIT(c->conf.node));
}

/* Of a new cluster; one that began to be formed before keeps its own. */
static uint64_t lead_birth(struct repl_core *c, const struct repl_meta *top)
{
	const struct lead *l = &c->lead;
	uint64_t birth = c->conf.birth;
	uint64_t newest = 0;
	uint8_t i;

	if (MUTANT(MUT_BIRTH_ANEW)) {
		return birth + l->epoch;
	}
	if (top->epoch != 0) {
		return top->birth;
	}
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		/* of a blank node it says nothing */
		if ((l->answered & BIT(i)) && votes(&l->promise[i]) &&
		    l->promise[i].data >= newest)
		{
			newest = l->promise[i].data;
			birth = l->promise[i].birth;
		}
	}
	return birth;
}

/* The rules "vote" and "data"; false: wait. */
static bool lead_decide(struct repl_core *c)
{
	struct lead *l = &c->lead;
	struct repl_plan plan = {
		.members = l->answered,
		.generation = c->generation,
	};
	const struct repl_meta *top = NULL;
	uint64_t voting = 0, lacking, joining;
	uint64_t best = 0;
	bool vote, data, began = false;
	uint8_t i;

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		const struct repl_meta *m = &l->promise[i];

		if (!(l->answered & BIT(i))) {
			continue;
		}
		if (votes(m)) {
			voting |= BIT(i);
		}
		if (top == NULL || m->epoch > top->epoch) {
			top = m;
		}
		if (m->data > best) {
			best = m->data;
		}
	}
	if (top == NULL) {
		return false;
	}
	plan.birth = lead_birth(c, top);

	if (top->epoch == 0 && !l->force) {
		/* a new cluster: everybody must be there */
		c->missing = c->conf.nodes & ~l->answered;
		c->missing_needed = phstore_nodes_count(c->missing);
		if (c->missing != 0) {
			return false;
		}
		plan.voters = c->conf.nodes;
		plan.flags = REPL_META_FIRST;
		plan.sources = 0;
		goto decided;
	}

	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		const struct repl_meta *m = &l->promise[i];

		if (!(l->answered & BIT(i))) {
			continue;
		}
		if (m->epoch == top->epoch && (m->flags & REPL_META_BEGAN)) {
			began = true;
		}
		if (l->force ? (m->data == best && best > 0) :
		    ((top->members & BIT(i)) && m->data >= top->epoch)) {
			plan.sources |= BIT(i);
		}
	}
	if (MUTANT(MUT_REJOIN_SOURCE)) {
		plan.sources = l->answered;
	}
	plan.voters = top->voters;
	/* else an attempt that never heard of top may have read older ones */
	if (!l->force && (began || MUTANT(MUT_DELTA_UNBEGUN))) {
		plan.base = top->epoch;
	}
	if (l->force) {
		plan.voters = (plan.voters & ~l->lost) | l->answered;
		goto decided;
	}

	vote = phstore_nodes_count(voting & top->voters) >
		phstore_nodes_count(top->voters) / 2;
	lacking = top->members & ~plan.sources;
	data = phstore_nodes_count(lacking) < top->k && plan.sources != 0;
	if (MUTANT(MUT_NO_VOTE)) {
		vote = true;
	}
	if (MUTANT(MUT_COLD_TOO_FEW)) {
		data = plan.sources != 0;
	}
	if (!vote || !data) {
		c->missing = (data ? 0 : lacking) |
			(vote ? 0 : top->voters & ~voting);
		c->missing_needed = data ? 1 :
			phstore_nodes_count(lacking) + 1 - top->k;
		return false;
	}
	/* one voter more at a time, on top of an epoch known to have begun */
	joining = plan.members & ~plan.voters;
	if (began && joining != 0) {
		plan.voters |= BIT(phstore_nodes_lowest(joining));
	}
decided:
	plan.k = phstore_nodes_count(plan.members);
	if (plan.k > c->conf.copies) {
		plan.k = c->conf.copies;
	}
	c->missing = 0;
	c->missing_needed = 0;
	l->force = false;
	l->plan = plan;
	l->asked = plan.members;
	return true;
}

static void lead_decide_or_wait(struct repl_core *c)
{
	bool ok;

	ok = lead_sort_out(c) && lead_decide(c);
	if (ok) {
		lead_phase(c, LEAD_START);
		return;
	}
	c->lead.phase = LEAD_NONE;
	c->lead.pause = REPL_PREPARE_TICKS;
	c->lead.wanted = true;
}

/*
 * All have answered, but for those that have resigned: these are told of a new
 * epoch all the same, as it may not be true any more.
 */
static bool lead_answered(const struct repl_core *c)
{
	uint64_t left = c->lead.asked & ~c->lead.answered;

	if (c->lead.phase == LEAD_PREPARE) {
		left &= ~c->gone;
	}
	return left == 0;
}

/* A node has resigned, unless that was in an attempt before. */
static void lead_gone(struct repl_core *c, const struct repl_hdr *h)
{
	struct lead *l = &c->lead;
	bool asked = (l->asked & BIT(h->from)) != 0;

	if (h->arg1 < c->meta.promised || h->from == c->conf.node) {
		return;
	}
	c->gone |= BIT(h->from);
	l->pause = 0;
	if (l->phase == LEAD_PREPARE) {
		l->answered &= ~BIT(h->from);
		if (lead_answered(c)) {
			lead_decide_or_wait(c);
		}
	} else if (l->phase != LEAD_NONE && asked) {
		l->phase = LEAD_NONE;
		l->wanted = true;
	}
}

void repl_lead_message(struct repl_core *c,
		       const struct repl_hdr *h,
		       const uint8_t *body)
{
	static const enum lead_phase expected[REPL_TYPE_END] = {
		[REPL_PROMISE] = LEAD_PREPARE,
		[REPL_READY] = LEAD_START,
		[REPL_COMMITTED] = LEAD_COMMIT,
		[REPL_ACTIVATED] = LEAD_ACTIVATE,
	};
	struct lead *l = &c->lead;
	bool ok;

	if (h->type == REPL_HELLO || h->type == REPL_REFUSE) {
		if (h->arg1 > l->highest) {
			l->highest = h->arg1;
		}
		if (h->type == REPL_HELLO) {
			/* whoever asks us has asked the lower ones */
			c->mute |= c->up & (BIT(c->conf.node) - 1);
		}
		if (h->type == REPL_REFUSE && (h->flags & REPL_STRANGER)) {
			repl_on_stranger(c, h);
			return;
		}
		if (h->type == REPL_REFUSE && (h->flags & REPL_GONE)) {
			lead_gone(c, h);
			return;
		}
		if (h->type == REPL_REFUSE) {
			if (h->epoch == l->epoch &&
			    l->phase == LEAD_PREPARE) {
				l->phase = LEAD_NONE;
				l->wanted = true;
			}
			return;
		}
		if (c->active != 0 && h->arg1 == c->active &&
		    h->epoch == c->active) {
			/* missed that it began, or restarted: both end so */
			repl_send(c, REPL_ACTIVATE, h->from, c->active, 0, 0,
				  NULL, 0, 0);
		}
		l->wanted = true;
		return;
	}
	if (h->type == REPL_READY && (h->flags & 1)) {
		if (l->phase == LEAD_START && h->epoch == l->epoch &&
		    l->progress[h->from] != h->arg1)
		{
			l->progress[h->from] = h->arg1;
			l->ticks = 0;
		}
		return;
	}
	if (l->phase == LEAD_NONE || h->epoch != l->epoch ||
	    expected[h->type] != l->phase ||
	    !(l->asked & BIT(h->from)) || (l->answered & BIT(h->from))) {
		return;
	}
	if (h->type == REPL_PROMISE) {
		ok = repl_meta_pull(body,
				    REPL_META_LEN,
				    &l->promise[h->from]);
		if (!ok) {
			c->num_garbage++;
			return;
		}
	}
	l->answered |= BIT(h->from);
	if (!lead_answered(c) &&
	    !(MUTANT(MUT_ACTIVATE_EARLY) && l->phase == LEAD_COMMIT)) {
		return;
	}
	switch (l->phase) {
	case LEAD_PREPARE:
		lead_decide_or_wait(c);
		break;
	case LEAD_START:
		lead_phase(c, LEAD_COMMIT);
		break;
	case LEAD_COMMIT:
		lead_phase(c, LEAD_ACTIVATE);
		break;
	case LEAD_ACTIVATE:
		l->phase = LEAD_NONE;
		l->wanted = false;
		l->force = false;
		break;
	case LEAD_NONE:
		break;
	}
}

void repl_lead_tick(struct repl_core *c)
{
	struct lead *l = &c->lead;

	if (c->up == 0 || repl_leader(c) != c->conf.node) {
		l->phase = LEAD_NONE;
		/* what the operator saw was another cluster */
		l->force = false;
		c->split = false;
		c->strangers = 0;
		return;
	}
	if (l->phase == LEAD_NONE) {
		/* who is up and no member says HELLO, unless it is silent */
		bool needed = c->active == 0 || c->closed ||
			(c->meta.members & ~c->up) != 0 || l->wanted ||
			/* alone nobody waits for another one */
			((c->meta.members & c->gone) != 0 && c->meta.k > 1);

		if (l->pause > 0) {
			l->pause--;
			return;
		}
		if (needed) {
			lead_begin(c);
		}
		return;
	}
	l->ticks++;
	if (l->phase == LEAD_PREPARE && l->ticks >= REPL_PREPARE_TICKS) {
		/* go on with those that have answered, if they suffice */
		lead_decide_or_wait(c);
		return;
	}
	if (l->ticks >= REPL_ATTEMPT_TICKS || (l->asked & ~c->up) != 0) {
		l->phase = LEAD_NONE;
		l->wanted = true;
		return;
	}
	if (l->ticks % REPL_RESEND_TICKS == 0) {
		lead_ask(c);
	}
}

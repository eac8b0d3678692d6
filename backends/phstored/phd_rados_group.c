/*
 * phstored: the sink "rados": epochs, or who may write from when on
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * An epoch is a time in which a fixed set of nodes, the members, writes to
 * the store; versions begin with its number. When it begins, each member's
 * local store holds every live record, and from no other node, and of no
 * earlier time, anything can come any more. That is what smbd builds on: it
 * compares each record it meets with the local store once in an epoch
 * (dbwrap_phstore_ctdb.c), or fills its database from it (not in a cluster).
 *
 * Which nodes there are, and which of ctdb's generations it is, comes from
 * ctdbd. Everything else is agreed on in the object "meta" of the store, by
 * compare-and-set (rados_group.c): no messages, and no majority, as what is
 * in RADOS can not be lost with nodes.
 *
 *   1. PREPARING  The leader, the lowest node that ctdb calls active, takes
 *      a new number and writes it as the view, with members and generation.
 *   2. Each member that is in that generation closes its gate, waits until
 *      all it has staged is applied in RADOS, and says DRAINED.
 *   3. When all have, the leader fences every other node that is registered,
 *      and makes the view ACTIVE: in one operation that compares the view
 *      and those nodes' entries, so that none has come back in between.
 *   4. Each member reads from RADOS what it has not (phd_rados_load.c), says
 *      LOADED, opens its gate.
 *   5. When all have loaded, the leader removes the tombstones of earlier
 *      epochs: every member has seen them.
 *
 * A node that comes back registers (by compare-and-set as well) and then
 * looks which epoch began last. It ships of its log what is of that epoch,
 * and nothing older: an epoch begins without a node only after it was
 * fenced, so then its log holds what others may have gone over.
 *
 * Each member writes now and then that it lives. One that is silent for 10 s
 * although ctdb calls it active is left out; when it wakes up it finds itself
 * fenced, drops what it had, and asks for a new epoch.
 *
 * Not in a cluster the node is alone, leader and member. Then a store has one
 * node at a time: with "rados takeover" it fences whoever was there before,
 * without it does not begin while another is registered.
 *
 * Nothing here waits for RADOS: the view is asked for asynchronously, and
 * what else it takes to form an epoch is done by a thread (phd_rados_job.c).
 * While that is at work the group stands still.
 */

#ifdef PHSTORE_WITH_RADOS

#include "phd_rados.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "phstore_private.h"

#define MS 1000000ULL
#define FORMING_MS 5
#define IDLE_MS 250
#define BEAT_MS 2000
#define SILENT_MS 10000
/* between two attempts of one leader */
#define AGAIN_MS 500
/* a start without a cluster waits for its epoch */
#define START_MS 60000

static uint64_t generation(const struct phd_rados *r)
{
	return r->clustered ? r->view.generation : r->conn.epoch;
}

static uint64_t self_bit(const struct phd_rados *r)
{
	return phstore_node_bit(r->phd->conf->node);
}

static bool io_failed(struct phd_rados *r, enum phstore_err err)
{
	if (err == PHSTORE_OK) {
		return false;
	}
	phd_log(1, "%s: %s", phstore_strerror(err), phstore_last_error());
	if (err == PHSTORE_ERR_FENCED) {
		/* this client is blocked by the cluster */
		phd_rados_reborn(r);
	}
	return true;
}

/* As io_failed(), of what the job has done. */
static bool job_failed(struct phd_rados *r)
{
	if (r->job.err != PHSTORE_OK) {
		(void)phstore_fail(r->job.err, "%s", r->job.text);
	}
	return io_failed(r, r->job.err);
}

static enum phstore_err say_work(struct phd_rados *r)
{
	return phr_group_join(&r->conn, (uint8_t)r->phd->conf->node,
			      &r->job.join);
}

static void said(struct phd_rados *r)
{
	const struct phr_join *j = &r->job.join;

	if (job_failed(r)) {
		return;
	}
	if (j->phase == PHR_JOIN_DRAINED && r->phase == PHD_RADOS_DRAIN &&
	    j->epoch == r->attempt)
	{
		r->phase = PHD_RADOS_JOINED;
	}
}

static void say(struct phd_rados *r, enum phr_join_phase phase,
		uint64_t epoch)
{
	r->job.join = (struct phr_join) {
		.phase = phase,
		.epoch = epoch,
		.beat = ++r->beat,
	};
	r->beat_ns = phstore_now_ns();
	phd_rados_job_begin(r, say_work, said);
}

static void step_later(struct phd_rados *r, uint32_t ms);

/* ---- the member ---- */

static void forget_deletions(struct phd_rados *r)
{
	struct phd_gone **end = &r->forget;

	while (*end != NULL) {
		end = &(*end)->next;
	}
	*end = r->gone;
	r->gone = NULL;
	r->gone_end = &r->gone;
	r->num_deleted = 0;
}

static void loaded(struct phd_rados *r)
{
	const struct phr_view *v = &r->group.view;
	enum phstore_err err;

	err = phd_rados_loaded(r);
	if (r->phase != PHD_RADOS_JOINED) {
		/* another generation meanwhile, or found dead */
		return;
	}
	if (err != PHSTORE_OK) {
		r->phase = PHD_RADOS_IDLE;
		(void)io_failed(r, err);
		return;
	}
	r->loaded_epoch = v->epoch;
	r->min_epoch = v->epoch;
	r->epoch = v->epoch;
	r->phase = PHD_RADOS_ACTIVE;
	forget_deletions(r);
	if (r->life == 0) {
		r->life = v->epoch;
	}
	phd_log(1, "epoch %" PRIu64 " has begun, members %" PRIx64 ", %"
		PRIu64 " records read in %" PRIu64 " ms", v->epoch,
		v->members, r->loaded,
		(uint64_t)((phstore_now_ns() - r->load_ns) / MS));
	say(r, PHR_JOIN_LOADED, v->epoch);
}

static void load(struct phd_rados *r)
{
	r->load_ns = phstore_now_ns();
	phd_rados_load_begin(r, r->group.view.prev, loaded);
}

static void want(struct phd_rados *r)
{
	const struct phr_view *v = &r->group.view;
	uint64_t after = v->epoch != 0 ? v->epoch : 1;

	if (r->wanted != after) {
		r->wanted = after;
		say(r, PHR_JOIN_WANTS, v->epoch);
	}
}

static bool has_many_tombstones(const struct phd_rados *r)
{
	return r->num_deleted > r->prune_after;
}

/* The same again, so that others see that this node lives. No waiting. */
static void beat(struct phd_rados *r)
{
	struct phr_join j = { .epoch = r->attempt, .beat = ++r->beat };

	switch (r->phase) {
	case PHD_RADOS_IDLE:
		j.phase = PHR_JOIN_WANTS;
		j.epoch = r->group.view.epoch;
		break;
	case PHD_RADOS_DRAIN:
		j.phase = PHR_JOIN_NONE;
		break;
	case PHD_RADOS_JOINED:
		j.phase = PHR_JOIN_DRAINED;
		break;
	case PHD_RADOS_ACTIVE:
		j.phase = has_many_tombstones(r) ? PHR_JOIN_WANTS :
						   PHR_JOIN_LOADED;
		break;
	}
	r->beat_ns = phstore_now_ns();
	phr_group_beat(&r->conn, (uint8_t)r->phd->conf->node, &j);
}

static void member(struct phd_rados *r)
{
	const struct phr_view *v = &r->group.view;
	bool meant = v->generation == generation(r) &&
		     (v->members & self_bit(r)) != 0;
	bool ok;

	if (v->state == PHR_VIEW_PREPARING && meant &&
	    v->epoch > r->attempt)
	{
		phd_rados_gate(r, "a new epoch is being formed");
		r->attempt = v->epoch;
		r->phase = PHD_RADOS_DRAIN;
	}
	if (v->state == PHR_VIEW_ACTIVE && v->epoch > r->attempt &&
	    (r->phase == PHD_RADOS_ACTIVE || r->phase == PHD_RADOS_JOINED))
	{
		phd_log(0, "epoch %" PRIu64 " has begun without this node",
			v->epoch);
		phd_rados_reborn(r);
		return;
	}
	switch (r->phase) {
	case PHD_RADOS_IDLE:
		if (!(v->state == PHR_VIEW_PREPARING && meant)) {
			want(r);
		}
		break;
	case PHD_RADOS_DRAIN:
		ok = phd_rados_is_drained(r);
		/* or it was found that others have left us behind */
		if (ok && r->phase == PHD_RADOS_DRAIN) {
			say(r, PHR_JOIN_DRAINED, r->attempt);
		}
		break;
	case PHD_RADOS_JOINED:
		if (v->state == PHR_VIEW_ACTIVE && v->epoch == r->attempt) {
			load(r);
		}
		break;
	case PHD_RADOS_ACTIVE:
		if (has_many_tombstones(r) && v->state == PHR_VIEW_ACTIVE) {
			want(r);
		}
		break;
	}
}

/* ---- the leader ---- */

/*
 * Who has written nothing for long, although ctdb calls it active? Counted is
 * only time in which this node could look.
 */
static uint64_t silent(struct phd_rados *r)
{
	uint64_t now = phstore_now_ns();
	uint64_t past = now - r->looked_ns;
	uint64_t set = 0;
	unsigned n;

	r->looked_ns = now;
	if (past > 2 * IDLE_MS * MS) {
		past = 2 * IDLE_MS * MS;
	}
	for (n = 0; n < PHSTORE_NODES_MAX && r->clustered; n++) {
		const struct phr_join *j = &r->group.joins[n];

		if (j->beat != r->seen[n].beat ||
		    j->epoch != r->seen[n].epoch ||
		    j->phase != r->seen[n].phase ||
		    !(r->view.up & phstore_node_bit(n)) ||
		    n == r->phd->conf->node)
		{
			r->seen[n] = *j;
			r->silent_ns[n] = 0;
			continue;
		}
		r->silent_ns[n] += past;
		if (r->silent_ns[n] > SILENT_MS * MS) {
			set |= phstore_node_bit(n);
		}
	}
	return set;
}

static bool all_said(const struct phd_rados *r, uint64_t members,
		     enum phr_join_phase phase, uint64_t epoch)
{
	unsigned n;

	for (n = 0; n < PHSTORE_NODES_MAX; n++) {
		const struct phr_join *j = &r->group.joins[n];

		if ((members & phstore_node_bit(n)) &&
		    (j->epoch != epoch || j->phase < phase))
		{
			return false;
		}
	}
	return true;
}

static bool anyone_wants(const struct phd_rados *r, uint64_t up)
{
	unsigned n;

	for (n = 0; n < PHSTORE_NODES_MAX; n++) {
		const struct phr_join *j = &r->group.joins[n];

		if ((up & phstore_node_bit(n)) &&
		    j->phase == PHR_JOIN_WANTS &&
		    j->epoch >= r->group.view.epoch)
		{
			return true;
		}
	}
	return false;
}

static void *pruner_main(void *private_data)
{
	struct phd_rados *r = private_data;
	enum phstore_err err;

	err = phr_prune_below(&r->conn, r->engine, r->pruned_epoch);
	if (err != PHSTORE_OK) {
		phd_log(1, "pruning: %s", phstore_last_error());
	}
	atomic_store(&r->pruner_done, true);
	return NULL;
}

static void prune(struct phd_rados *r)
{
	const struct phr_view *v = &r->group.view;
	int ret;

	if (r->has_pruner && atomic_load(&r->pruner_done)) {
		pthread_join(r->pruner, NULL);
		r->has_pruner = false;
	}
	if (r->has_pruner || r->pruned_epoch == v->epoch ||
	    !all_said(r, v->members, PHR_JOIN_LOADED, v->epoch))
	{
		return;
	}
	r->pruned_epoch = v->epoch;
	atomic_store(&r->pruner_done, false);
	ret = pthread_create(&r->pruner, NULL, pruner_main, r);
	r->has_pruner = ret == 0;
}

static enum phstore_err begin_work(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;
	enum phstore_err err;

	err = phr_group_fence(&r->conn, r->engine, job->view.members,
			      r->blocklist);
	if (err == PHSTORE_ERR_FENCED) {
		/* it came back beside us: once more */
		return PHSTORE_OK;
	}
	if (err != PHSTORE_OK) {
		return err;
	}
	return phr_group_set(&r->conn, &job->group, &job->view, &job->lost);
}

static void has_begun(struct phd_rados *r)
{
	(void)job_failed(r);
}

static void begin_epoch(struct phd_rados *r)
{
	r->job.group = r->group;
	r->job.view = r->group.view;
	r->job.view.state = PHR_VIEW_ACTIVE;
	phd_rados_job_begin(r, begin_work, has_begun);
}

static enum phstore_err attempt_work(struct phd_rados *r)
{
	struct phd_rados_job *job = &r->job;
	enum phstore_err err;

	err = phr_epoch_take(&r->conn, &job->view.epoch);
	if (err != PHSTORE_OK) {
		return err;
	}
	return phr_group_set(&r->conn, &job->group, &job->view, &job->lost);
}

static void attempted(struct phd_rados *r)
{
	const struct phr_view *v = &r->job.view;

	if (!job_failed(r) && !r->job.lost) {
		r->lead_epoch = v->epoch;
		phd_log(2, "a new epoch, %" PRIu64 ", members %" PRIx64,
			v->epoch, v->members);
	}
}

static void attempt(struct phd_rados *r, uint64_t members)
{
	const struct phr_view *old = &r->group.view;
	uint64_t now = phstore_now_ns();

	if (now < r->lead_again_ns) {
		return;
	}
	r->lead_again_ns = now + AGAIN_MS * MS;
	r->job.group = r->group;
	r->job.view = (struct phr_view) {
		.state = PHR_VIEW_PREPARING,
		.leader = (uint8_t)r->phd->conf->node,
		.members = members,
		.generation = generation(r),
		.prev = old->state == PHR_VIEW_ACTIVE ? old->epoch :
							old->prev,
	};
	phd_rados_job_begin(r, attempt_work, attempted);
}

static void lead(struct phd_rados *r)
{
	const struct phr_view *v = &r->group.view;
	uint64_t was = r->silent;
	uint64_t up;
	bool mine;

	r->silent = silent(r);
	if (r->silent & ~was) {
		phd_log(0, "the nodes %" PRIx64 " are silent: the others go "
			"on without them", r->silent);
	}
	up = r->clustered ? r->view.up & ~r->silent : self_bit(r);
	if ((up & self_bit(r)) == 0 ||
	    phstore_nodes_lowest(up) != r->phd->conf->node)
	{
		return;
	}
	if (v->state == PHR_VIEW_ACTIVE && v->generation == generation(r) &&
	    v->members == up && !anyone_wants(r, up))
	{
		prune(r);
		return;
	}
	mine = v->state == PHR_VIEW_PREPARING && v->epoch == r->lead_epoch &&
	       v->generation == generation(r) && v->members == up;
	if (!mine) {
		attempt(r, up);
		return;
	}
	if (all_said(r, up, PHR_JOIN_DRAINED, v->epoch)) {
		begin_epoch(r);
	}
}

/* ---- steps ---- */

/* true: the group is known as of now */
static bool look(struct phd_rados *r)
{
	uint64_t now = phstore_now_ns();
	enum phstore_err err;

	if (r->ask == NULL) {
		if (r->phase == PHD_RADOS_ACTIVE && now < r->next_ask_ns) {
			return false;
		}
		r->ask = phr_group_ask(&r->conn, r->efd);
	}
	if (r->ask == NULL || !phr_group_is_there(r->ask)) {
		return false;
	}
	err = phr_group_take(&r->conn, r->ask, &r->group);
	r->ask = NULL;
	r->next_ask_ns = phstore_now_ns() + IDLE_MS * MS;
	return !io_failed(r, err);
}

static void forget_some(struct phd_rados *r)
{
	while (r->forget != NULL) {
		struct phd_gone *g = r->forget;
		struct phstore_blob key = { g->key, g->key_len };
		bool ok;

		ok = r->net.ops->forgotten(&r->net, g->table, key,
					   g->version);
		if (!ok) {
			return;
		}
		r->forget = g->next;
		free(g);
	}
}

/* Open, or the reason why it is not. */
static void gate_now(struct phd_rados *r)
{
	bool full;

	if (r->phd->ended || r->phd->stopping || r->engine == NULL) {
		return;
	}
	if (r->clustered && r->down) {
		phd_rados_gate(r, r->down_reason);
		return;
	}
	pthread_mutex_lock(&r->engine->mutex);
	full = r->engine->full;
	pthread_mutex_unlock(&r->engine->mutex);
	if (full != r->full) {
		phd_log(0, "the pool %s", full ? "is full: only releases are "
			"taken" : "has room again");
		phstore_ship_set_full(r->phd->ship, full);
		r->full = full;
	}
	phd_rados_gate(r, r->phase == PHD_RADOS_ACTIVE ? NULL :
			  "a new epoch is being formed");
}

void phd_rados_group_step(struct phd_rados *r)
{
	bool ok;

	if (phd_rados_job_running(r)) {
		gate_now(r);
		return;
	}
	if (r->phd->ended || r->engine == NULL ||
	    (r->clustered && (r->down || !r->have_view)))
	{
		return;
	}
	ok = look(r);
	if (ok) {
		if (!r->may_ship) {
			/* just registered: the last that began counts */
			r->may_ship = true;
			r->min_epoch =
				r->group.view.state == PHR_VIEW_ACTIVE ?
				r->group.view.epoch : r->group.view.prev;
		}
		member(r);
	}
	if (ok && r->engine != NULL && !r->phd->ended && !r->job.running) {
		lead(r);
	}
	gate_now(r);
}

void phd_rados_group_event(struct phd_rados *r)
{
	if (r->job.running ||
	    (r->ask != NULL && phr_group_is_there(r->ask)))
	{
		phd_rados_group_step(r);
		step_later(r, FORMING_MS);
	}
}

static void on_timer(struct tevent_context *ev, struct tevent_timer *te,
		     struct timeval now, void *private_data)
{
	struct phd_rados *r = private_data;

	(void)ev;
	(void)te;
	(void)now;
	r->timer = NULL;
	phd_rados_group_step(r);
	step_later(r, FORMING_MS);
}

static void step_later(struct phd_rados *r, uint32_t ms)
{
	bool forming = r->phase != PHD_RADOS_ACTIVE ||
		       r->group.view.epoch != r->epoch || r->ask != NULL;

	if (r->timer != NULL || !forming || r->phd->ended) {
		return;
	}
	r->timer = tevent_add_timer(r->phd->ev, r,
				    tevent_timeval_current_ofs(0, ms * 1000),
				    on_timer, r);
}

void phd_rados_group_tick(struct phd_rados *r)
{
	uint64_t now = phstore_now_ns();

	if (r->clustered) {
		r->net.ops->tick(&r->net);
		forget_some(r);
	} else {
		phstore_ship_unbar(r->phd->ship,
				   phstore_ship_bar(r->phd->ship));
	}
	if (r->phd->ended || r->engine == NULL) {
		return;
	}
	if (r->clustered && now - r->beat_ns > BEAT_MS * MS &&
	    !(r->job.running && r->job.work == say_work))
	{
		/* not an old word behind a new one */
		beat(r);
	}
	phd_rados_group_step(r);
	step_later(r, FORMING_MS);
}

static void on_view(void *user_data, const struct phd_view *view)
{
	struct phd_rados *r = user_data;

	if (view->self != r->phd->conf->node) {
		phd_fail(r->phd, PHD_EXIT_REFUSED, "ctdb calls this node %u, "
			 "the configuration %" PRIu32, view->self,
			 r->phd->conf->node);
		return;
	}
	r->down = false;
	if (r->have_view && view->generation != r->view.generation) {
		phd_rados_gate(r, "ctdb has recovered, a new epoch follows");
		r->phase = PHD_RADOS_IDLE;
		memset(r->silent_ns, 0, sizeof(r->silent_ns));
	}
	if (!r->have_view || view->generation != r->view.generation ||
	    view->up != r->view.up)
	{
		phd_log(2, "ctdb: nodes %" PRIx64 " are active, generation %"
			PRIx64,
			view->up, view->generation);
	}
	r->view = *view;
	r->have_view = true;
	gate_now(r);
	step_later(r, 0);
}

static void on_down(void *user_data, const char *reason)
{
	struct phd_rados *r = user_data;

	r->down = true;
	snprintf(r->down_reason, sizeof(r->down_reason), "%s", reason);
	gate_now(r);
}

static void on_message(void *user_data, const uint8_t *buf, size_t len)
{
	(void)user_data;
	(void)buf;
	(void)len;
}

static void on_close(void *user_data, const char *reason)
{
	phd_rados_gate(user_data, reason);
}

static const struct phd_net_user net_user = {
	.view = on_view,
	.down = on_down,
	.message = on_message,
	.close = on_close,
};

static bool start_alone(struct phd_rados *r)
{
	uint64_t until = phstore_now_ns() + START_MS * MS;
	enum phstore_err err;
	uint64_t others = 0;

	err = phr_group_others(&r->conn, self_bit(r), &others);
	if (err != PHSTORE_OK) {
		phd_log(0, "%s", phstore_last_error());
		return false;
	}
	if (others != 0 && !r->takeover) {
		phd_log(0, "the nodes %" PRIx64 " are registered at this "
			"store. If they are gone, say \"rados takeover = "
			"yes\": they are fenced then", others);
		return false;
	}
	while (r->phase != PHD_RADOS_ACTIVE && !r->phd->ended &&
	       phstore_now_ns() < until)
	{
		struct timespec ts = { .tv_nsec = 500000 };

		phd_rados_group_step(r);
		nanosleep(&ts, NULL);
	}
	return true;
}

bool phd_rados_group_start(struct phd_rados *r)
{
	const struct phd_config *conf = r->phd->conf;
	enum phd_exit code;

	r->clustered = conf->peers_dir != NULL || conf->ctdb_socket != NULL;
	if (!r->clustered) {
		return start_alone(r);
	}
	r->down = true;
	snprintf(r->down_reason, sizeof(r->down_reason), "waits for ctdbd");
	r->net = (struct phd_net) {
		.phd = r->phd,
		.ops = conf->peers_dir != NULL ? &phd_net_dir : &phd_net_ctdb,
		.user = &net_user,
		.user_data = r,
	};
	code = r->net.ops->start(&r->net);
	return code == PHD_EXIT_OK;
}

void phd_rados_group_stop(struct phd_rados *r)
{
	if (r->clustered) {
		r->net.ops->stop(&r->net);
	}
}

void phd_rados_group_status(struct phd_rados *r, struct phd_json *json)
{
	static const char *const phases[] = {
		"idle", "draining", "joined", "active",
	};
	const struct phr_view *v = &r->group.view;

	phd_json_bool(json, "clustered", r->clustered);
	phd_json_str(json, "phase", phases[r->phase]);
	phd_json_u64(json, "view_epoch", v->epoch);
	phd_json_bool(json, "view_active", v->state == PHR_VIEW_ACTIVE);
	phd_json_u64(json, "members", v->members);
	phd_json_u64(json, "leader", v->leader);
	phd_json_u64(json, "silent", r->silent);
	phd_json_u64(json, "node_fenced", r->times_fenced);
}

#endif /* PHSTORE_WITH_RADOS */

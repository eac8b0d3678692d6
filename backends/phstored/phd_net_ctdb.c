/*
 * phstored: membership and messages from ctdbd
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The view is ctdb's vnn map in its generation, while no recovery is under
 * way. A gate that was closed from outside (event script, "startrecovery")
 * opens only after two looks at ctdbd that began later and show no recovery:
 * of one alone it is not known whether it had begun before.
 */

#include "phd_net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backends/ctdb/client/ctdb_client.h"
#include "backends/ctdb/volatile_value.h"
#include "phd_link.h"

#define DBS_MAX 16
/* Deletions whose volatile records are being removed at the same time. */
#define FORGETS_MAX 1024
/* Ask again for a look that does not come. */
#define LOOK_TICKS 20

struct net_db {
	char name[PHSTORE_TABLE_MAX + 8];
	struct phctdb_db *db;
	struct tevent_req *attach;
};

struct net_ctdb {
	struct phd_net *net;
	struct phctdb *c;
	struct phd_links *links;
	struct net_db dbs[DBS_MAX];
	size_t num_dbs;
	size_t num_forgets;

	uint64_t bar;		/* that the looks are for */
	unsigned int looks;	/* to come, 0: none asked for */
	unsigned int look_ticks;
};

struct forget {
	struct net_ctdb *n;
	struct phstore_version version;
	uint8_t header[PHVOL_HDR_LEN];
	uint8_t *value;
};

static void client_log(void *private_data, int level, const char *msg)
{
	(void)private_data;
	phd_log(level - 3, "ctdb: %s", msg);
}

static void dbs_stale(struct net_ctdb *n)
{
	size_t i;

	for (i = 0; i < n->num_dbs; i++) {
		TALLOC_FREE(n->dbs[i].attach);
		TALLOC_FREE(n->dbs[i].db);
	}
	n->num_dbs = 0;
}

/*
 * A node that is being shut down is one of the members until its ctdbd ends:
 * first its addresses move, then smbd stops, then the event script has all of
 * it flushed.
 */
static bool takes_part(const struct phctdb_state *st)
{
	return st->up && !st->recovering &&
	       st->runstate >= PHCTDB_RUN_FIRST_RECOVERY;
}

/* No recovery; and what is closed at a shutdown stays closed. */
static bool may_open(const struct phctdb_state *st)
{
	return takes_part(st) && st->runstate < PHCTDB_RUN_SHUTDOWN;
}

static void look_at(struct net_ctdb *n, const struct phctdb_state *st)
{
	struct phd_view view = {};
	bool member = false;
	uint32_t i;

	if (!takes_part(st)) {
		phd_net_down(n->net, !st->up ? "waits for ctdbd" :
			     st->recovering ? "ctdb is recovering" :
			     "ctdb is not ready yet");
		return;
	}
	if (st->pnn >= PHSTORE_NODES_MAX) {
		phd_fail(n->net->phd, PHD_EXIT_REFUSED, "this is node %" PRIu32
			 ": at most %d nodes are supported", st->pnn,
			 PHSTORE_NODES_MAX);
		return;
	}
	view.self = (uint8_t)st->pnn;
	view.generation = st->generation;
	for (i = 0; i < st->num_nodes; i++) {
		uint32_t pnn = st->nodes[i].pnn;

		if (st->nodes[i].flags & PHCTDB_NODE_DELETED) {
			continue;
		}
		if (pnn >= PHSTORE_NODES_MAX) {
			phd_fail(n->net->phd, PHD_EXIT_REFUSED, "the cluster "
				 "has a node %" PRIu32 ": at most %d nodes "
				 "are supported", pnn, PHSTORE_NODES_MAX);
			return;
		}
		view.nodes |= phstore_node_bit(pnn);
	}
	for (i = 0; i < st->num_active; i++) {
		if (st->active[i] < PHSTORE_NODES_MAX) {
			view.up |= phstore_node_bit(st->active[i]);
		}
		member = member || st->active[i] == st->pnn;
	}
	if (!member) {
		phd_net_down(n->net, "ctdb: this node is not active");
		return;
	}
	phd_net_view(n->net, &view);
	phd_links_state(n->links, st, &view);
}

static void ask_look(struct net_ctdb *n)
{
	struct iovec none = {};

	n->look_ticks = 0;
	(void)phctdb_message(n->c, PHCTDB_THIS_NODE, PHCTDB_SRVID_POKE, &none,
			     0);
}

/* Was the gate closed from outside? Then it takes two looks. */
static void mind_bar(struct net_ctdb *n)
{
	struct phstore_ship *ship = n->net->phd->ship;
	uint64_t bar = phstore_ship_bar(ship);

	if (n->looks == 0 && bar != n->bar) {
		n->bar = bar;
		n->looks = 2;
		phd_net_close(n->net, "a recovery of ctdb was announced");
		ask_look(n);
		return;
	}
	if (n->looks != 0) {
		n->look_ticks += 1;
		if (n->look_ticks >= LOOK_TICKS) {
			ask_look(n);
		}
	}
}

static void looked(struct net_ctdb *n, const struct phctdb_state *st)
{
	if (n->looks == 0) {
		return;
	}
	if (!may_open(st)) {
		/* not at once again: ctdbd is busy with its recovery */
		n->looks = 2;
		return;
	}
	n->looks -= 1;
	if (n->looks > 0) {
		ask_look(n);
		return;
	}
	phstore_ship_unbar(n->net->phd->ship, n->bar);
}

static void on_event(struct phctdb *c, enum phctdb_event ev,
		     const struct phctdb_state *st, void *private_data)
{
	struct net_ctdb *n = private_data;

	(void)c;
	switch (ev) {
	case PHCTDB_EV_DOWN:
		dbs_stale(n);
		phd_net_down(n->net, "waits for ctdbd");
		break;
	case PHCTDB_EV_RECOVERY:
		phd_net_down(n->net, "ctdb is recovering");
		if (!st->recovering) {
			look_at(n, st);
		}
		break;
	case PHCTDB_EV_POKE:
		mind_bar(n);
		looked(n, st);
		look_at(n, st);
		break;
	case PHCTDB_EV_GENERATION:
		if (n->looks != 0) {
			ask_look(n);
		}
		look_at(n, st);
		break;
	case PHCTDB_EV_UP:
	case PHCTDB_EV_NODES:
	case PHCTDB_EV_ADDRESSES:
		look_at(n, st);
		break;
	}
}

static void on_message(struct phctdb *c, uint64_t srvid, const uint8_t *data,
		       size_t len, void *private_data)
{
	struct net_ctdb *n = private_data;

	(void)c;
	(void)srvid;
	phd_net_message(n->net, data, len);
}

static void net_send(struct phd_net *net, uint8_t to,
		     const uint8_t *buf, size_t len)
{
	struct net_ctdb *n = net->state;
	struct iovec iov = {
		.iov_base = (void *)(uintptr_t)buf,
		.iov_len = len,
	};

	bool sent;

	sent = phd_links_send(n->links, to, buf, len);
	if (sent) {
		return;
	}
	/* what cannot be sent counts as lost: it is sent again */
	(void)phctdb_message(n->c, to, PHCTDB_SRVID_REPL, &iov, 1);
}

static void net_tick(struct phd_net *net)
{
	struct net_ctdb *n = net->state;

	mind_bar(n);
	phd_links_tick(n->links);
}

static bool net_linked(struct phd_net *net, uint8_t node)
{
	struct net_ctdb *n = net->state;

	return phd_links_up(n->links, node);
}

/* ---- volatile records of deletions that all have forgotten ---- */

static void attached(struct tevent_req *req)
{
	struct net_db *db = tevent_req_callback_data_void(req);
	int ret;

	db->attach = NULL;
	ret = phctdb_attach_recv(req, talloc_parent(req), &db->db);
	if (ret != 0) {
		db->db = NULL;
	}
	talloc_free(req);
}

/* NULL: not yet; more databases than smbd has: never */
static struct phctdb_db *db_get(struct net_ctdb *n, const char *name)
{
	struct net_db *db = NULL;
	size_t i;

	for (i = 0; i < n->num_dbs && db == NULL; i++) {
		if (strcmp(n->dbs[i].name, name) == 0) {
			db = &n->dbs[i];
		}
	}
	if (db == NULL) {
		if (n->num_dbs == DBS_MAX) {
			return NULL;
		}
		db = &n->dbs[n->num_dbs++];
		*db = (struct net_db) {};
		snprintf(db->name, sizeof(db->name), "%s", name);
	}
	if (db->db == NULL && db->attach == NULL) {
		db->attach = phctdb_attach_send(n, n->net->phd->ev, n->c, name);
		if (db->attach != NULL) {
			tevent_req_set_callback(db->attach, attached, db);
		}
	}
	return db->db;
}

static bool forget_fn(struct phctdb_header *header, struct phctdb_bytes old,
		      struct phctdb_bytes *value, void *private_data)
{
	struct forget *f = private_data;
	int what;

	(void)header;
	what = phvol_forget(old.data, old.len, f->version.epoch,
			    f->version.seq, f->header);
	if (what == 1) {
		*value = (struct phctdb_bytes) {};
		return true;
	}
	if (what == 2) {
		f->value = talloc_memdup(f, old.data, old.len);
		if (f->value == NULL) {
			return false;
		}
		memcpy(f->value, f->header, PHVOL_HDR_LEN);
		*value = (struct phctdb_bytes) { f->value, old.len };
		return true;
	}
	return false;
}

static int forget_destructor(struct forget *f)
{
	f->n->num_forgets -= 1;
	return 0;
}

static void forget_done(struct tevent_req *req)
{
	struct forget *f = tevent_req_callback_data(req, struct forget);
	bool changed = false;

	/* what fails leaves a small record: removed by the next recovery */
	(void)phctdb_update_recv(req, &changed);
	talloc_free(req);
	talloc_free(f);
}

static bool net_forgotten(struct phd_net *net, const char *table,
			  struct phstore_blob key,
			  struct phstore_version version)
{
	struct net_ctdb *n = net->state;
	char name[PHSTORE_TABLE_MAX + 8];
	struct phctdb_db *db = NULL;
	struct phctdb_bytes k = { .data = key.data, .len = key.len };
	struct tevent_req *req = NULL;
	struct forget *f = NULL;

	snprintf(name, sizeof(name), "%s.tdb", table);
	db = db_get(n, name);
	if (db == NULL) {
		return n->num_dbs == DBS_MAX;
	}
	if (n->num_forgets >= FORGETS_MAX) {
		return false;
	}
	/* it goes with the db, when ctdbd is gone */
	f = talloc_zero(db, struct forget);
	if (f == NULL) {
		return false;
	}
	f->n = n;
	n->num_forgets += 1;
	talloc_set_destructor(f, forget_destructor);
	f->version = version;
	k.data = talloc_memdup(f, key.data, key.len);
	if (k.data != NULL) {
		req = phctdb_update_send(f, net->phd->ev, n->c, db, k,
					 forget_fn, f);
	}
	if (req == NULL) {
		talloc_free(f);
		return false;
	}
	tevent_req_set_callback(req, forget_done, f);
	return true;
}

static enum phd_exit net_start(struct phd_net *net)
{
	struct net_ctdb *n = talloc_zero(net->phd, struct net_ctdb);
	struct phctdb_options opt = {
		.socket = net->phd->conf->ctdb_socket,
		.event_fn = on_event,
		.log_fn = client_log,
		.private_data = n,
	};
	int ret = ENOMEM;

	if (n == NULL) {
		return PHD_EXIT_FAILED;
	}
	net->state = n;
	n->net = net;
	n->c = phctdb_create(n, net->phd->ev, &opt);
	if (n->c != NULL) {
		ret = phctdb_listen(n->c, PHCTDB_SRVID_REPL, on_message, n);
		n->links = phd_links_new(n, net, n->c);
	}
	if (ret == 0 && n->links == NULL) {
		return PHD_EXIT_FAILED;
	}
	if (ret != 0) {
		phd_log(0, "ctdb socket %s: %s", net->phd->conf->ctdb_socket !=
			NULL ? net->phd->conf->ctdb_socket : "",
			strerror(ret));
		return PHD_EXIT_USAGE;
	}
	phd_net_down(net, "waits for ctdbd");
	return PHD_EXIT_OK;
}

static void net_stop(struct phd_net *net)
{
	TALLOC_FREE(net->state);
}

const struct phd_net_ops phd_net_ctdb = {
	.name = "ctdbd",
	.start = net_start,
	.send = net_send,
	.tick = net_tick,
	.forgotten = net_forgotten,
	.linked = net_linked,
	.stop = net_stop,
};

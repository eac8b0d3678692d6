/*
 * phstored: the state of all nodes, on any node
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Each phstored tells the others twice a second how it is. Nothing depends
 * on it but what people see.
 *
 *     0  u32  magic "PHS1"
 *     4  u32  CRC-32 of bytes 8..len
 *     8  u32  len
 *    12  u16  version, 1
 *    14  u8   node
 *    15  u8   flags: 1 takes changes
 *    16  u64  cluster id
 *    24  u64  epoch, 0: none
 *    32  u64  records
 *    40  u64  bytes of the log not safe yet
 *    48  u64  transactions not safe yet
 *    56  u64  deletions that wait for a sweep
 *    64  u32  K
 *    68  u32  length of the text that follows: why it takes no changes
 */

#include "phd_ctdb.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "phstore_bytes.h"
#include "phstore_frame.h"
#include "phstore_private.h"

#define STATUS_MAGIC 0x31534850	/* "PHS1" */
#define STATUS_VERSION 1
#define STATUS_LEN 72

void phd_ctdb_list(uint64_t set, char *buf, size_t size)
{
	size_t len = 0;
	unsigned int i;

	buf[0] = '\0';
	for (i = 0; i < PHSTORE_NODES_MAX && len + 8 < size; i++) {
		if (set & phstore_node_bit(i)) {
			len += snprintf(buf + len, size - len, "%s%u",
					len > 0 ? ", " : "", i);
		}
	}
}

void phd_ctdb_waits_for(const struct repl_status *st, char *buf, size_t size)
{
	char nodes[PHD_LIST_LEN];

	if (st->split) {
		phd_ctdb_list(st->strangers, nodes, sizeof(nodes));
		snprintf(buf, size, "the stores of the nodes %s are of "
			 "different clusters of one name", nodes);
		return;
	}
	if (st->missing == 0) {
		snprintf(buf, size, "a new epoch is being formed");
		return;
	}
	phd_ctdb_list(st->missing, nodes, sizeof(nodes));
	snprintf(buf, size, "waits for %" PRIu32 " of the nodes %s: without "
		 "them it is not known which records are the newest",
		 st->missing_needed, nodes);
}

static void own_status(struct phd_ctdb *d, struct phd_node_status *s)
{
	struct phstore_ship_state ship = {};
	struct phstore_stat stat = {};
	struct repl_status st = {};

	repl_get_status(d->core, &st);
	(void)phstore_stat(d->phd->store, &stat);
	(void)phstore_ship_get_state(d->phd->store, &ship);
	*s = (struct phd_node_status) {
		.heard_ns = phstore_now_ns(),
		.epoch = st.epoch,
		.records = stat.num_records,
		.backlog = ship.head_lsn > ship.released_lsn && !d->gate_open ?
			   ship.head_lsn - ship.released_lsn : 0,
		.lag = st.head - st.durable,
		.tombstones = st.num_tombstones,
		.copies = d->phd->conf->copies,
		.open = ship.writable,
	};
	if (st.head > st.durable) {
		s->backlog = ship.head_lsn - ship.disk_lsn;
	}
	snprintf(s->reason, sizeof(s->reason), "%s", ship.reason);
}

void phd_ctdb_tell_status(struct phd_ctdb *d)
{
	struct phd_node_status s;
	uint8_t buf[STATUS_LEN + PHSTORE_SHIP_REASON_MAX];
	uint32_t text;
	uint8_t i;

	own_status(d, &s);
	d->nodes[d->view.self] = s;
	text = (uint32_t)strlen(s.reason);
	memset(buf, 0, STATUS_LEN);
	phstore_push_u32(buf, STATUS_MAGIC);
	phstore_push_u32(buf + 8, STATUS_LEN + text);
	phstore_push_u16(buf + 12, STATUS_VERSION);
	buf[14] = d->view.self;
	buf[15] = s.open ? 1 : 0;
	phstore_push_u64(buf + 16, d->cluster);
	phstore_push_u64(buf + 24, s.epoch);
	phstore_push_u64(buf + 32, s.records);
	phstore_push_u64(buf + 40, s.backlog);
	phstore_push_u64(buf + 48, s.lag);
	phstore_push_u64(buf + 56, s.tombstones);
	phstore_push_u32(buf + 64, s.copies);
	phstore_push_u32(buf + 68, text);
	memcpy(buf + STATUS_LEN, s.reason, text);
	phstore_push_u32(buf + 4, phstore_crc32(0, buf + 8,
						STATUS_LEN + text - 8));
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (i != d->view.self && (d->view.up & phstore_node_bit(i))) {
			d->net.ops->send(&d->net, i, buf,
					 STATUS_LEN + text);
		}
	}
}

/* true: it is one of these, whatever came of it */
bool phd_ctdb_hear_status(struct phd_ctdb *d, const uint8_t *buf, size_t len)
{
	struct phd_node_status *s = NULL;
	uint32_t text, copies;

	if (len < STATUS_LEN || phstore_pull_u32(buf) != STATUS_MAGIC) {
		return false;
	}
	text = phstore_pull_u32(buf + 68);
	if (phstore_pull_u32(buf + 8) != len || text != len - STATUS_LEN ||
	    text >= PHSTORE_SHIP_REASON_MAX ||
	    phstore_pull_u32(buf + 4) != phstore_crc32(0, buf + 8, len - 8) ||
	    phstore_pull_u16(buf + 12) != STATUS_VERSION ||
	    phstore_pull_u64(buf + 16) != d->cluster ||
	    buf[14] >= PHSTORE_NODES_MAX)
	{
		return true;
	}
	s = &d->nodes[buf[14]];
	copies = phstore_pull_u32(buf + 64);
	if (copies != d->phd->conf->copies && copies != s->copies) {
		phd_log(0, "node %u has copies = %" PRIu32 ", this node %"
			PRIu32 ": the lowest active node's counts", buf[14],
			copies, d->phd->conf->copies);
	}
	*s = (struct phd_node_status) {
		.heard_ns = phstore_now_ns(),
		.epoch = phstore_pull_u64(buf + 24),
		.records = phstore_pull_u64(buf + 32),
		.backlog = phstore_pull_u64(buf + 40),
		.lag = phstore_pull_u64(buf + 48),
		.tombstones = phstore_pull_u64(buf + 56),
		.copies = copies,
		.open = (buf[15] & 1) != 0,
	};
	memcpy(s->reason, buf + STATUS_LEN, text);
	s->reason[text] = '\0';
	return true;
}

static void json_set(struct phd_json *j, const char *key, uint64_t set)
{
	unsigned int i;

	phd_json_begin(j, key, '[');
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		if (set & phstore_node_bit(i)) {
			phd_json_u64(j, NULL, i);
		}
	}
	phd_json_end(j, ']');
}

static void json_nodes(struct phd_ctdb *d, const struct repl_status *st,
		       struct phd_json *j)
{
	uint64_t now;
	unsigned int i;

	own_status(d, &d->nodes[d->view.self]);
	now = phstore_now_ns();
	phd_json_begin(j, "nodes", '[');
	for (i = 0; i < PHSTORE_NODES_MAX; i++) {
		const struct phd_node_status *s = &d->nodes[i];
		uint64_t bit = phstore_node_bit(i);

		if (!(d->view.nodes & bit)) {
			continue;
		}
		phd_json_begin(j, NULL, '{');
		phd_json_u64(j, "node", i);
		phd_json_bool(j, "active_in_ctdb", (d->view.up & bit) != 0);
		phd_json_bool(j, "member",
			      st->epoch != 0 && (st->meta.members & bit) != 0);
		phd_json_bool(j, "heard", s->heard_ns != 0);
		phd_json_bool(j, "linked", d->net.ops->linked != NULL &&
			      d->net.ops->linked(&d->net, (uint8_t)i));
		if (s->heard_ns != 0) {
			phd_json_u64(j, "heard_ms_ago",
				     (now - s->heard_ns) / 1000000);
			phd_json_u64(j, "epoch", s->epoch);
			phd_json_bool(j, "takes_changes", s->open);
			phd_json_str(j, "reason", s->reason);
			phd_json_u64(j, "copies", s->copies);
			phd_json_u64(j, "records", s->records);
			phd_json_u64(j, "lag_transactions", s->lag);
			phd_json_u64(j, "lag_bytes", s->backlog);
			phd_json_u64(j, "deletions_to_sweep", s->tombstones);
		}
		phd_json_end(j, '}');
	}
	phd_json_end(j, ']');
}

void phd_ctdb_status(struct phd *phd, struct phd_json *j)
{
	struct phd_ctdb *d = phd->sink;
	struct repl_status st = {};
	struct phstore_stat stat = {};
	uint64_t members;
	char birth[17];

	phd_json_u64(j, "copies_wanted", phd->conf->copies);
	phd_json_str(j, "zones", phd->conf->zones == NULL ? "" :
				 phd->conf->zones);
	if (d->core == NULL) {
		return;
	}
	repl_get_status(d->core, &st);
	(void)phstore_stat(phd->store, &stat);
	members = st.epoch != 0 ? st.meta.members : 0;
	snprintf(birth, sizeof(birth), "%016" PRIx64, st.meta.birth);
	phd_json_u64(j, "node", d->view.self);
	phd_json_bool(j, "active", st.state == REPL_ACTIVE);
	phd_json_bool(j, "ctdb", !d->down);
	json_set(j, "members", members);
	json_set(j, "last_members", st.meta.members);
	json_set(j, "voters", st.meta.voters);
	json_set(j, "up", st.up);
	phd_json_u64(j, "copies", st.epoch != 0 ? st.meta.k : 0);
	phd_json_u64(j, "under_replicated",
		     st.epoch != 0 && st.meta.k < phd->conf->copies ?
		     stat.num_records : 0);
	phd_json_bool(j, "fewer_copies", st.epoch != 0 &&
		      st.meta.k < phd->conf->copies);
	json_set(j, "waits_for", st.missing);
	phd_json_u64(j, "waits_for_any", st.missing_needed);
	phd_json_u64(j, "lag_transactions", st.head - st.durable);
	json_set(j, "ships_to", st.successors);
	phd_json_u64(j, "deletions_to_sweep", st.num_tombstones);
	json_set(j, "strangers", st.strangers);
	phd_json_str(j, "birth", birth);
	phd_json_u64(j, "last_epoch", st.meta.epoch);
	phd_json_u64(j, "promised", st.meta.promised);
	phd_json_u64(j, "complete_for", st.meta.data);
	phd_json_u64(j, "attempts", st.num_attempts);
	phd_json_u64(j, "messages_sent", d->num_sent);
	phd_json_u64(j, "messages_received", d->num_received);
	phd_json_u64(j, "records_received", d->num_applied);
	phd_json_u64(j, "garbage", st.num_garbage);
	phd_json_u64(j, "other_protocol", st.num_other_version);
	phd_json_u64(j, "other_cluster", st.num_other_cluster);
	json_nodes(d, &st, j);
}

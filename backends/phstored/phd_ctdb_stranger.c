/*
 * phstored: messages and stores of other clusters
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A message has the cluster's name in it, as a hash or by `cluster id`. Two
 * clusters may have one name: so a store knows the birth of its cluster, see
 * docs/REPLICATION.md, "Two clusters of one name". A daemon with the store of
 * another one stays and says so: one that ended would be started again, ask to
 * join, and hold up the others each time.
 */

#include "phd_ctdb.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "phstore_private.h"

/* For a cluster that is formed now; 0: no randomness, it has none. */
uint64_t phd_ctdb_birth(void)
{
	uint64_t birth = 0;
	ssize_t n;

	n = getrandom(&birth, sizeof(birth), 0);
	if (n != (ssize_t)sizeof(birth)) {
		return 0;
	}
	return birth;
}

/* Called from the core's callbacks, so the core ends later. */
void phd_ctdb_stranger(struct phd_ctdb *d, uint64_t birth)
{
	if (d->resigned) {
		return;
	}
	phd_log(0, "%s is the store of another cluster of the name \"%s\": "
		"born %016" PRIx64 ", that of the other nodes %016" PRIx64
		". No record in it was changed. For this node to join, give "
		"it its own store, or move this one away to begin with an "
		"empty one", d->phd->conf->store, d->phd->conf->cluster,
		d->meta.birth, birth);
	snprintf(d->resigned_reason, sizeof(d->resigned_reason),
		 "this store is of another cluster of the same name");
	d->stranger = true;
	d->resigned = true;
	phd_ctdb_gate(d);
	phd_ctdb_later(d);
}

/* What was refused is worth a line each time it grows. */
void phd_ctdb_tell_strangers(struct phd_ctdb *d, const struct repl_status *st)
{
	char nodes[PHD_LIST_LEN];

	if (st->num_other_version > d->told_version) {
		phd_log(0, "%" PRIu64 " messages of another protocol version "
			"were dropped: all nodes must run releases of one "
			"protocol", st->num_other_version - d->told_version);
	}
	if (st->num_other_cluster > d->told_cluster) {
		phd_log(0, "%" PRIu64 " messages of another cluster id were "
			"dropped: two clusters of the name \"%s\", or another "
			"`cluster id` on some node",
			st->num_other_cluster - d->told_cluster,
			d->phd->conf->cluster);
	}
	if (st->strangers != d->told_strangers && st->strangers != 0) {
		phd_ctdb_list(st->strangers, nodes, sizeof(nodes));
		phd_log(0, "the stores of the nodes %s are of %s of the name "
			"\"%s\"%s", nodes, st->split ?
			"different clusters" : "another cluster",
			d->phd->conf->cluster, st->split ?
			": which is to be here is not known" :
			": they are not taken");
	}
	d->told_version = st->num_other_version;
	d->told_cluster = st->num_other_cluster;
	d->told_strangers = st->strangers;
}

/*
 * phstore: what the RADOS backend has beyond phstore.h
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file rados.h
 *
 * @brief Fencing and counters of a store opened as "rados:...".
 *
 * The store's name, given to phstore_open() as path:
 *
 *     rados:POOL[/NAMESPACE][?OPTION=VALUE[&OPTION=VALUE]...]
 *
 *   conf     ceph.conf (librados' own default)
 *   id       the client is client.ID (admin)
 *   keyring  file with its key (as ceph.conf says)
 *   shards   objects the records of a new store are spread over (1); with
 *            more what a dead writer leaves is no prefix of what it staged,
 *            so phstored refuses such a store
 *   class    auto, no, yes: use the object class cls_phstore (auto)
 *   writer   name of this writer; opening fences an earlier one of the
 *            same name (a new name for each open)
 *   timeout  seconds after which a wait ends with TIMEOUT (60)
 *   queue    MiB staged and not durable at most; then stage waits (64)
 *   gather   microseconds a batch waits for company at most; never longer
 *            than what an operation takes (10000)
 *
 * Caveats
 *
 * - One process has one connection: tools, tests and phstored; not smbd.
 * - A handle sees what it staged at once, others see it when it is durable.
 * - A handle can not be used in a child after fork().
 * - Expected versions are compared when staging and again by the OSD. If
 *   another writer came in between, the barrier returns the CONFLICT and
 *   the transaction is wholly absent.
 * - A transaction with expected versions must not span shards; it is
 *   refused (NOT_SUPPORTED).
 */

#ifndef PHSTORE_RADOS_H
#define PHSTORE_RADOS_H

#include "phstore.h"

struct phstore_rados_stat {
	bool has_class;			/* batches go through cls_phstore */
	bool full;			/* the pool takes no more */
	uint64_t epoch;			/* of this writer */
	uint32_t shards;
	uint64_t num_batches;		/* write operations done */
	uint64_t num_batched;		/* operations in them */
	uint64_t num_refused;		/* batches that had to be looked at */
	uint64_t num_resent;
	uint64_t num_raised;		/* versions raised above another's */
	uint64_t num_pruned;		/* tombstones removed */
	uint64_t num_elided;		/* operations that changed nothing */
	uint64_t op_ns_total;		/* of write operations */
	uint64_t op_ns_max;
};

enum phstore_err phstore_rados_stat(struct phstore *store,
				    struct phstore_rados_stat *st);

/**
 * @brief Declare a writer dead. Blocks.
 *
 * When it returns OK no write of that writer will ever be applied, also if
 * it was on its way, and what it had begun and not finished was finished.
 *
 * @param[in] block  also have the cluster refuse its client's connection
 *                   (needs the "osd blocklist" permission)
 * @return OK also for a name never heard of; TIMEOUT, IO
 */
enum phstore_err phstore_rados_fence(struct phstore *store,
				     const char *writer, bool block);

/** @return this handle's name as a writer, "" when read-only. */
const char *phstore_rados_writer(struct phstore *store);

#endif /* PHSTORE_RADOS_H */

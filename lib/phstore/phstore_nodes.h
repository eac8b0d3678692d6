/*
 * phstore: sets of a cluster's nodes
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A set is a uint64_t with a bit for each node's number, in memory as in
 * messages and files.
 */

#ifndef PHSTORE_NODES_H
#define PHSTORE_NODES_H

#include <stdint.h>

/* Numbers of nodes are below this, and there are as many copies at most. */
#define PHSTORE_NODES_MAX 64

static inline uint64_t phstore_node_bit(unsigned int node)
{
	return (uint64_t)1 << node;
}

static inline uint32_t phstore_nodes_count(uint64_t set)
{
	return (uint32_t)__builtin_popcountll(set);
}

/* Not to be asked of the empty set. */
static inline uint8_t phstore_nodes_lowest(uint64_t set)
{
	return (uint8_t)__builtin_ctzll(set);
}

#endif /* PHSTORE_NODES_H */

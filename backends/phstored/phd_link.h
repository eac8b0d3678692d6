/*
 * phstored: links between daemons
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHD_LINK_H
#define PHD_LINK_H

#include "phd_net.h"

#include "backends/ctdb/client/ctdb_client.h"

/* Offers, through ctdbd */
#define PHD_SRVID_LINK (PHCTDB_SRVID_BASE | 0x00000003U)

struct phd_links;

/** @return NULL: out of memory */
struct phd_links *phd_links_new(TALLOC_CTX *mem_ctx, struct phd_net *net,
				struct phctdb *c);

/** Who is there, at which addresses: listen, make offers. */
void phd_links_state(struct phd_links *l, const struct phctdb_state *st,
		     const struct phd_view *view);

/**
 * @brief Send by the link to a node.
 * @return false: there is none, ctdbd has to do it. True: sent, or as if
 *         lost.
 */
bool phd_links_send(struct phd_links *l, uint8_t to, const uint8_t *buf,
		    size_t len);

void phd_links_tick(struct phd_links *l);

/** Is the link to that node in use? */
bool phd_links_up(const struct phd_links *l, uint8_t node);

#endif /* PHD_LINK_H */

/*
 * phstore: simulator: what is to happen, in the order of time
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What is due at one time happens in the order it was asked for.
 */

#ifndef SIM_EVENTS_H
#define SIM_EVENTS_H

#include <stddef.h>
#include <stdint.h>

struct event {
	uint64_t at;
	uint64_t seq;
	uint8_t what;
	uint8_t job;
	uint8_t node;
	uint32_t client;
	uint8_t *buf;
	size_t len;
};

void events_at(uint64_t when, struct event ev);
/* UINT64_MAX: nothing will happen */
uint64_t events_next(void);
struct event events_pop(void);
void events_end(void);

#endif /* SIM_EVENTS_H */

/*
 * phstore tool: gate, what a cluster's event scripts call
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The gate is closed while the nodes of a cluster do not agree on what is in
 * their stores; see phstore_ship.h. A store nobody has open has no gate to
 * close: who opens it finds it closed.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "phstore_ship.h"
#include "phstore_tool.h"

#define DEFAULT_WAIT_S	10

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void show(struct phtool *tool, const struct phstore_ship_state *state,
		 bool open)
{
	struct phdump_out *out = &tool->out;

	phdump_object(out, NULL);
	phdump_bool(out, "open", open);
	phdump_bool(out, "complete", state->complete);
	phdump_bool(out, "daemon", state->attached);
	if (state->kind == NULL) {
		phdump_null(out, "sink");
	} else {
		phdump_str(out, "sink", state->kind);
		phdump_str(out, "name", state->name);
	}
	phdump_u64(out, "node", state->node);
	phdump_u64(out, "epoch", state->epoch);
	phdump_u64(out, "generation", state->generation);
	phdump_u64(out, "not_on_others",
		   state->head_lsn > state->disk_lsn ?
		   state->head_lsn - state->disk_lsn : 0);
	if (!open) {
		phdump_str(out, "reason", state->reason);
	}
	phdump_end(out);
}

/* Until open and complete, or the time is over; a look each 20 ms */
static enum phtool_exit gate_wait(struct phtool *tool, uint64_t ms)
{
	struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	uint64_t until = now_ms() + ms;
	struct phstore_ship_state state = {};
	enum phstore_err err;

	while (true) {
		uint64_t now = now_ms();
		bool open = phstore_gate_is_open(tool->store);

		err = phstore_ship_get_state(tool->store, &state);
		if (err == PHSTORE_ERR_NOT_SUPPORTED) {
			return PHTOOL_OK;	/* no sink */
		}
		if (err != PHSTORE_OK) {
			return phtool_fail(tool, err, tool->dir);
		}
		if (open && state.complete) {
			return PHTOOL_OK;
		}
		if (now >= until) {
			break;
		}
		nanosleep(&pause, NULL);
	}
	phtool_error(tool, "%s: not ready: %s", tool->dir,
		     state.reason[0] != '\0' ? state.reason :
		     state.attached ? "no reason given" : "no daemon runs");
	return PHTOOL_NOT_READY;
}

enum phtool_exit phtool_gate(struct phtool *tool)
{
	struct phstore_ship_state state = {};
	const char *what = tool->argv[0];
	const char *arg = tool->argc > 1 ? tool->argv[1] : NULL;
	bool is_show = (strcmp(what, "show") == 0);
	bool is_close = (strcmp(what, "close") == 0);
	bool is_wait = (strcmp(what, "wait") == 0);
	enum phtool_exit result;
	enum phstore_err err;
	double seconds = DEFAULT_WAIT_S;
	char *end = NULL;

	if (is_wait && arg != NULL) {
		seconds = strtod(arg, &end);
	}
	if ((!is_show && !is_close && !is_wait) || (is_show && arg != NULL) ||
	    (end != NULL && (end == arg || *end != '\0')) ||
	    !(seconds >= 0) || seconds > 86400) {
		phtool_error(tool, "show, close [REASON] or wait [SECONDS]");
		return PHTOOL_USAGE;
	}
	if (!phtool_is_live(tool)) {
		phtool_error(tool, "%s: nobody has it open", tool->dir);
		return is_close ? PHTOOL_OK : PHTOOL_NOT_READY;
	}
	result = phtool_open_read(tool);
	if (result != PHTOOL_OK) {
		return result;
	}
	if (is_wait) {
		return gate_wait(tool, (uint64_t)(seconds * 1000));
	}
	if (is_close) {
		err = phstore_gate_close(tool->store,
					 arg != NULL ? arg : "closed by hand");
		if (err == PHSTORE_OK || err == PHSTORE_ERR_NOT_SUPPORTED) {
			return PHTOOL_OK;
		}
		return phtool_fail(tool, err, tool->dir);
	}
	err = phstore_ship_get_state(tool->store, &state);
	if (err != PHSTORE_OK && err != PHSTORE_ERR_NOT_SUPPORTED) {
		return phtool_fail(tool, err, tool->dir);
	}
	show(tool, &state, phstore_gate_is_open(tool->store));
	return phtool_flush(tool);
}

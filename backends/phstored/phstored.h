/*
 * phstored: the daemon that ships a node's log
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

/**
 * @file phstored.h
 *
 * @brief What the daemon and its sinks share.
 *
 * The daemon (phd_main.c) opens the store, attaches as its sink, runs the
 * event loop, the control socket and the status. A sink makes the log safe
 * somewhere and publishes what is (phstore_ship.h). One sink per process,
 * chosen by the configuration; a new one is a folder and a struct
 * phd_sink_ops in phd_sinks[].
 *
 * Everything runs in one thread. A sink must not block for longer than a
 * disk takes to sync.
 */

#ifndef PHSTORED_H
#define PHSTORED_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <talloc.h>
#include <tevent.h>

#include "phstore_ship.h"
#include "phstore_nodes.h"

#define PHD_TICK_MS 50

/* Exit codes, see man/phstored.8 */
enum phd_exit {
	PHD_EXIT_OK = 0,
	PHD_EXIT_USAGE = 2,		/* options or configuration */
	PHD_EXIT_STORE = 3,		/* the store cannot be opened */
	PHD_EXIT_BUSY = 4,		/* another phstored is at work */
	PHD_EXIT_REFUSED = 5,		/* wrong cluster, node, K, ... */
	PHD_EXIT_FAILED = 6,		/* the store failed at work */
};

/* The configuration; strings are talloc children of the struct. */
struct phd_config {
	const char *store;		/* folder */
	const char *sink;		/* "ctdb" */
	const char *cluster;		/* name */
	uint64_t cluster_id;		/* 0: made of the name */
	uint32_t copies;		/* K */
	const char *zones;		/* as it was given */
	uint8_t zone[PHSTORE_NODES_MAX];
	uint64_t backlog;		/* bytes */
	uint32_t full_retry;		/* seconds */
	uint64_t segment_size;
	const char *ctdb_socket;
	uint32_t link_port;		/* 0: any */
	bool no_links;			/* messages only through ctdbd */
	const char *peers_dir;		/* instead of ctdb: tests */
	uint32_t node;			/* with peers_dir */
	const char *pid_file;
	int debug;			/* highest level that is logged */
	bool allow_volatile;
	bool adopt;
	/* what no key of the daemon's own is: for the sinks */
	const char **other;		/* key, value, key, value, NULL */
};

struct phd;
struct phd_json;

struct phd_sink_ops {
	const char *name;
	/* Begin. Not PHD_EXIT_OK: it was logged why, the daemon ends. */
	enum phd_exit (*start)(struct phd *phd);
	/* There may be more in the log. */
	void (*readable)(struct phd *phd);
	/* Each PHD_TICK_MS. */
	void (*tick)(struct phd *phd);
	/* Is everything in the log with the sink? Asked before the end. */
	bool (*flushed)(struct phd *phd);
	/* Members of an object about the sink. */
	void (*status)(struct phd *phd, struct phd_json *json);
	/*
	 * A command of the control socket. A talloc'd answer; NULL: there
	 * is no such command.
	 */
	char *(*command)(struct phd *phd, TALLOC_CTX *mem_ctx,
			 const char *line);
	void (*stop)(struct phd *phd);
};

extern const struct phd_sink_ops phd_sink_ctdb;
/* only where the build has librados: PHSTORE_WITH_RADOS */
extern const struct phd_sink_ops phd_sink_rados;

struct phd {
	struct phd_config *conf;
	struct tevent_context *ev;
	struct phstore *store;
	struct phstore_ship *ship;
	const struct phd_sink_ops *ops;
	void *sink;			/* the sink's own */
	bool stopping;
	bool ended;
	enum phd_exit exit_code;
	uint64_t stop_ns;		/* when stopping began */
};

/* phd_main.c */
void phd_log(int level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* End the daemon: nothing more is sent or told to be safe. */
void phd_fail(struct phd *phd, enum phd_exit code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/*
 * Publish a change of the gate; reason NULL: open. What fails ends the
 * daemon, but PHSTORE_ERR_FULL: then it is closed, and not all was told.
 */
enum phstore_err phd_publish(struct phd *phd, uint64_t epoch, uint64_t floor,
			     uint64_t generation, uint32_t node,
			     const char *reason);

/* phd_config.c */
enum phd_exit phd_config_read(TALLOC_CTX *mem_ctx, int argc, char *argv[],
			      struct phd_config **conf);
/* NULL: not set. Sinks use it for keys of their own. */
const char *phd_config_other(const struct phd_config *conf, const char *key);

/* phd_json.c: a document written from left to right */
struct phd_json *phd_json_new(TALLOC_CTX *mem_ctx);
void phd_json_begin(struct phd_json *j, const char *key, char bracket);
void phd_json_end(struct phd_json *j, char bracket);
void phd_json_str(struct phd_json *j, const char *key, const char *value);
void phd_json_u64(struct phd_json *j, const char *key, uint64_t value);
void phd_json_bool(struct phd_json *j, const char *key, bool value);
/* NULL: out of memory */
const char *phd_json_text(struct phd_json *j);

/* phd_control.c */
enum phd_exit phd_control_start(struct phd *phd);
void phd_control_stop(struct phd *phd);
char *phd_status(struct phd *phd, TALLOC_CTX *mem_ctx);

#endif /* PHSTORED_H */

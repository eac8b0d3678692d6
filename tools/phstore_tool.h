/*
 * phstore tool: what its commands share
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_TOOL_H
#define PHSTORE_TOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "phstore.h"
#include "phstore_out.h"

/**
 * Exit codes. They are part of the operator's interface: scripts and
 * monitoring depend on them, man/phstore.1 lists them. Numbers are never
 * given a new meaning.
 */
enum phtool_exit {
	PHTOOL_OK = 0,
	PHTOOL_USAGE = 1,		/* command line, key or value */
	PHTOOL_STORE = 2,		/* no store, no access, I/O, full */
	PHTOOL_DAMAGED = 3,		/* parts of the log are unreadable */
	PHTOOL_LATCHED = 4,		/* a sync failed, store is stopped */
	PHTOOL_NOT_FOUND = 5,		/* no such record */
	PHTOOL_CONFLICT = 6,		/* another version than expected */
	PHTOOL_NEARLY_FULL = 7,		/* little room for new segments */
	PHTOOL_NOT_READY = 8,		/* the gate is closed */
	PHTOOL_FEW_COPIES = 9,		/* fewer than K nodes are members */
};

/** The command line, and what a command works on. */
struct phtool {
	const char *command;
	const char *dir;		/* the store's folder */
	int argc;			/* the command's own arguments */
	char **argv;

	bool json;
	bool offline;			/* look without joining */
	bool hex;			/* arguments and values are hex */
	bool raw;			/* value's bytes and nothing else */
	bool verbose;
	bool create;
	bool allow_volatile;
	bool check_version;
	enum phstore_class durability;
	struct phstore_version expected;
	uint64_t segment_size;		/* 0: the library's default */
	uint64_t min_free;		/* 0: four segments */

	struct phstore *store;		/* NULL: not open */
	struct phdump_out out;
};

/** @brief "phstore put: ..." on stderr. */
void phtool_error(struct phtool *tool, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** @brief Say what the library said; @return the exit code for it. */
enum phtool_exit phtool_fail(struct phtool *tool, enum phstore_err err,
			     const char *what);

/**
 * @brief Open for a command that only looks.
 *
 * Joins a live store, so that its counters and what others staged are seen.
 * Takes the read-only view when nobody has it open, when there is no write
 * access, or when asked to (--offline): looking never writes to a store.
 *
 * @return PHTOOL_OK, or what to exit with; the error has been said then
 */
enum phtool_exit phtool_open_read(struct phtool *tool);

/** @brief As phtool_open_read(), but only returns the library's error. */
enum phstore_err phtool_try_open_read(struct phtool *tool);

/** @brief Does some process have the store open? */
bool phtool_is_live(struct phtool *tool);

/** @brief Open for put and del. */
enum phtool_exit phtool_open_write(struct phtool *tool);

/** @brief Write what is in out to stdout; @return an exit code. */
enum phtool_exit phtool_flush(struct phtool *tool);

/** @brief Tell on stderr of damage; @return PHTOOL_DAMAGED or PHTOOL_OK. */
enum phtool_exit phtool_warn_damage(struct phtool *tool);

/** @brief "SEQ" or "EPOCH.SEQ". */
bool phtool_parse_version(const char *str, struct phstore_version *version);

/**
 * @brief A key or value of the command line.
 *
 * Hex digits with --hex or behind "hex:", the bytes as they are otherwise.
 * @return false after telling why
 */
bool phtool_parse_bytes(struct phtool *tool, TALLOC_CTX *mem_ctx,
			const char *what, const char *arg,
			struct phstore_blob *blob);

const char *phtool_class_name(enum phstore_class durability);

/** @brief key, key_hex, version, class, lsn and size of a record. */
void phtool_show_record_head(struct phtool *tool, const char *table,
			     const struct phstore_record *rec);

/* The commands; each returns its exit code. */
enum phtool_exit phtool_status(struct phtool *tool);
enum phtool_exit phtool_dump(struct phtool *tool);
enum phtool_exit phtool_scan(struct phtool *tool);
enum phtool_exit phtool_tables(struct phtool *tool);
enum phtool_exit phtool_get(struct phtool *tool);
enum phtool_exit phtool_verify(struct phtool *tool);
enum phtool_exit phtool_history(struct phtool *tool);
enum phtool_exit phtool_put(struct phtool *tool);
enum phtool_exit phtool_del(struct phtool *tool);
enum phtool_exit phtool_gate(struct phtool *tool);
enum phtool_exit phtool_force(struct phtool *tool);

/** @brief A store's cluster, if it has one; @return its health if not ok. */
const char *phtool_show_sink(struct phtool *tool, enum phtool_exit *code);

#endif /* PHSTORE_TOOL_H */

/*
 * phstore: what the library's parts and the backends share
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_PRIVATE_H
#define PHSTORE_PRIVATE_H

#include <pthread.h>
#include <sys/types.h>

#include "phstore.h"
#include "phstore_frame.h"

struct phstore_waiter;

/* What the transaction remembers of an operation beside its bytes. */
struct phstore_txn_op {
	size_t ofs;		/* in txn->buf */
	bool auto_version;	/* version is filled in by stage */
	bool check_version;
	struct phstore_version expected;
	bool skip_same;
	bool use_reserve;
	bool if_newer;		/* leave out unless above the stored version */
	bool skipped;		/* by stage: nothing changed */
	struct phstore_version seen;
	struct phstore_version version;	/* of a skipped one */
};

/*
 * A transaction being built: buf is the frame to be, 40 bytes left free for
 * the header, the operations pushed behind it. Most have one or two small
 * operations: those need no memory but the transaction's own.
 */
#define PHSTORE_TXN_OPS_OWN 2
#define PHSTORE_TXN_BUF_OWN 1536

struct phstore_txn {
	struct phstore *store;
	uint8_t *buf;		/* own_buf or a talloc child */
	size_t len;		/* bytes used */
	size_t size;		/* of buf */
	struct phstore_txn_op *ops;	/* own_ops or a talloc child */
	uint16_t num_ops;
	uint16_t max_ops;	/* of ops */
	enum phstore_class durability;	/* the strongest in it */
	bool staged;
	bool is_copy;		/* from elsewhere: not gated, not shipped */
	/* from here on not zeroed */
	struct phstore_txn_op own_ops[PHSTORE_TXN_OPS_OWN];
	uint8_t own_buf[PHSTORE_TXN_BUF_OWN];
};

/* What an event loop that waits for an LSN has to do. */
enum phstore_notify {
	PHSTORE_NOTIFY_DURABLE,		/* nothing, it is reached */
	PHSTORE_NOTIFY_COMING,		/* wait for notify_fd */
	PHSTORE_NOTIFY_LEAD,		/* have a thread lead, and wait */
};

/**
 * A backend: makes a prefix of the log durable and gives the live records
 * back. Functions marked (T) are also called by helper threads: no talloc,
 * nothing of the handle that is not locked.
 */
struct phstore_backend_ops {
	const char *name;
	/* a store's path is a name of its own ("rados:..."), not a file's */
	bool path_is_name;

	enum phstore_err (*open)(struct phstore *store,
				 const struct phstore_open_options *opts);
	/* sync what is staged; the handle is torn down by its destructor */
	enum phstore_err (*close)(struct phstore *store);
	/* first call of this process after a fork */
	void (*after_fork)(struct phstore *store);

	enum phstore_err (*stage)(struct phstore *store,
				  struct phstore_txn *txn,
				  uint64_t *lsn);
	enum phstore_err (*room)(struct phstore *store, size_t bytes);
	bool (*is_durable)(struct phstore *store,			/* T */
			   uint64_t lsn,
			   enum phstore_class durability);
	/* on this node's disk, whatever a sink says */
	bool (*is_synced)(struct phstore *store, uint64_t lsn);
	enum phstore_err (*barrier)(struct phstore *store,		/* T */
				    uint64_t lsn,
				    enum phstore_class durability,
				    uint32_t timeout_ms);
	/* would a barrier on lsn fail at once? */
	enum phstore_err (*barrier_check)(struct phstore *store,
					  uint64_t lsn);
	/* as barrier, and for a while on behalf of others */
	enum phstore_err (*lead)(struct phstore *store,			/* T */
				 uint64_t lsn);
	/* an event loop's request was answered after that time */
	void (*served)(struct phstore *store, uint64_t wait_ns);
	/* readable when a barrier may be reached; -1: wait with a thread */
	int (*notify_fd)(struct phstore *store);
	void (*notify_drain)(struct phstore *store);
	/* register the lowest LSN waited for, per class; 0: none */
	enum phstore_notify (*notify_wait)(struct phstore *store,
					   uint64_t lsn,
					   uint64_t mem_lsn);
	/* somebody leads; a request that comes now is seen by it */
	bool (*leading)(struct phstore *store);
	/* an event loop will wait for lsn; once per LSN */
	void (*hint)(struct phstore *store, uint64_t lsn);
	/* somebody waits for the sink only */
	void (*kick)(struct phstore *store);
	/* does a commit of this class have to wait for a barrier? */
	bool (*class_waits)(struct phstore *store,
			    enum phstore_class durability);

	enum phstore_err (*get)(TALLOC_CTX *mem_ctx,
				struct phstore *store,
				const char *table,
				struct phstore_blob key,
				struct phstore_record *rec);
	enum phstore_err (*scan)(struct phstore *store,
				 const char *table,
				 phstore_scan_fn fn,
				 void *private_data,
				 uint64_t *count);
	enum phstore_err (*stat)(struct phstore *store,
				 struct phstore_stat *st);
	enum phstore_err (*damage_get)(struct phstore *store,
				       uint64_t i,
				       struct phstore_damage *damage);
	enum phstore_err (*verify)(struct phstore *store);
	/* NULL: it keeps none */
	enum phstore_err (*history)(struct phstore *store,
				    const char *table,
				    struct phstore_blob key,
				    phstore_history_fn fn,
				    void *private_data);

	bool (*wants_maintenance)(struct phstore *store);		/* T */
	/* one bounded step, or until nothing is left to do */
	enum phstore_err (*maintain)(struct phstore *store,		/* T */
				     bool until_done);
};

extern const struct phstore_backend_ops phstore_backend_local;
/* only where the build has librados: PHSTORE_WITH_RADOS */
extern const struct phstore_backend_ops phstore_backend_rados;

struct phstore {
	const struct phstore_backend_ops *ops;
	void *backend;			/* talloc child */
	char *path;			/* absolute */
	bool read_only;
	pid_t pid;			/* to notice a fork */
	struct phstore_waiter *waiter;	/* helper threads, made on demand */
	void (*become_owner)(void *private_data);
	void (*unbecome_owner)(void *private_data);
	void (*log_fn)(void *private_data, int level, const char *msg);
	void *private_data;
};

/** @brief Set this thread's phstore_last_error(); returns err. */
enum phstore_err phstore_fail(enum phstore_err err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** @brief Forget this thread's last error. */
void phstore_clear_error(void);

/** @brief Diagnostics to opts.log_fn; level as syslog's. Silent in threads. */
void phstore_log(struct phstore *store, int level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** @return CLOCK_MONOTONIC in nanoseconds. */
uint64_t phstore_now_ns(void);

/** @brief To be called first by every entry point. */
void phstore_check_fork(struct phstore *store);

/**
 * @brief Around file creation and opening after phstore_open().
 *
 * Stage runs in the caller's thread, which may have changed its effective
 * user: then the caller's callbacks are asked. The helper threads have kept
 * the owner's credentials and must not call back. These nest.
 */
void phstore_owner_begin(struct phstore *store);
void phstore_owner_end(struct phstore *store);

/* Set in helper threads. */
extern __thread bool phstore_helper_thread;

/* phstore_async.c: end the helper threads (they are joined). */
void phstore_waiter_stop(struct phstore *store);
/* In the child after a fork: the threads are not there. */
void phstore_waiter_forget(struct phstore *store);

#endif /* PHSTORE_PRIVATE_H */

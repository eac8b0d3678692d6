/*
 * phstore: a dbwrap backend that keeps marked records in a phstore
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef DBWRAP_PHSTORE_H
#define DBWRAP_PHSTORE_H

#include "lib/dbwrap/dbwrap.h"
#include "lib/phstore/phstore.h"

struct file_id;

/**
 * What this process has asked of the store so far.
 *
 * A reply that follows a change is safe to send when everything up to lsn
 * is durable and failures has not moved since its request came in.
 */
struct dbwrap_phstore_progress {
	/* NULL until the store is open */
	struct phstore *store;
	/* moves with each change that must be durable before it is acked */
	uint64_t stages;
	/* moves with each change the store refused */
	uint64_t failures;
	/* a barrier on this covers all of them */
	uint64_t lsn;
	/* what that barrier has to be: the strongest of all tables */
	enum phstore_class durability;
	/* how long a reply may wait for its barrier */
	uint32_t barrier_timeout_sec;
};

const struct dbwrap_phstore_progress *dbwrap_phstore_progress(void);

/**
 * @brief Would the store take the changes of one more request?
 *
 * Asked before a request begins to change things: the code that changes
 * them can not handle a refusal in the middle.
 */
NTSTATUS dbwrap_phstore_room(void);

/**
 * @brief This smbd lets go of everything and ends: it does not wait for a
 * store that will not take changes soon, but ends as if killed.
 */
void dbwrap_phstore_exiting(void);
bool dbwrap_phstore_is_exiting(void);

/**
 * @brief The request will stage more than its last table tells: the sync is
 * not to begin before that.
 */
void dbwrap_phstore_more(bool more);

/**
 * @brief What to do when going on would leave the two copies different.
 *
 * fn must not return. Without one (tools, tests) the error goes up. It is
 * called only in the process that set it, not in its children.
 */
void dbwrap_phstore_set_fatal(void (*fn)(const char *reason));

/** What smbd has to do for dbwrap_phstore_child_gone(). */
struct dbwrap_phstore_gone_fns {
	/* Give an open a lock sequence number. */
	void (*set_number)(uint32_t open_id, uint8_t bucket, uint8_t value);
	/* Is the open's entry among the file's share modes? */
	bool (*has_entry)(uint32_t open_id, const struct file_id *file);
	/* Remove the open, which has none. */
	void (*remove)(uint32_t open_id);
	/* A share mode entry of this open may be there, and is nobody's. */
	void (*scavenge)(uint32_t open_id,
			 const struct file_id *file,
			 uint32_t name_hash);
};

/**
 * @brief smbd's parent: this child has ended, and was reaped.
 *
 * Puts right what a killed child was in the middle of. May wait for the lock
 * of one record.
 */
void dbwrap_phstore_child_gone(pid_t pid,
			       const struct dbwrap_phstore_gone_fns *fns);

/* as a bucket: not a number, but that the handle is closed */
#define PHSTORE_NUMBER_CLOSED 0xff

/**
 * A LOCK or UNLOCK with a sequence number, or a CLOSE that removes locks, see
 * dbwrap_phstore_number.c.
 */
struct dbwrap_phstore_number {
	uint32_t open_id;
	uint8_t bucket;
	uint8_t value;
	bool is_persistent;
	/* Store the open, with the number in it, into its record. */
	NTSTATUS (*store)(struct db_record *rec,
			  TDB_DATA old,
			  const struct dbwrap_phstore_number *number);
	void *private_data;
};

/** @brief It begins. number must live until it ends. */
void dbwrap_phstore_number_begin(const struct dbwrap_phstore_number *number);

/** @brief The lock is granted, or released; its record is stored next. */
void dbwrap_phstore_number_granted(void);

/**
 * @brief The locks were stored; the file is still locked. In a cluster both
 * are staged now.
 */
void dbwrap_phstore_number_stage(void);

/** @brief It has ended. True: the number is stored, with the lock. */
bool dbwrap_phstore_number_end(void);

/**
 * @brief A CLOSE is about to remove this open's share mode entry.
 *
 * The next that is staged of the file's record has the open's removal from the
 * store in its transaction.
 */
void dbwrap_phstore_closing_begin(uint32_t open_id,
				  const struct file_id *file,
				  bool is_persistent);

/**
 * @brief A CREATE is about to store this open's share mode entry, which is
 * staged with the open, see dbwrap_phstore_creating.c.
 */
void dbwrap_phstore_creating_begin(uint32_t open_id,
				   const struct file_id *file,
				   uint32_t name_hash);

/**
 * @brief A CREATE is about to take this open up again. The open, as it is
 * stored next, and the file's locks and entry are staged when it is stored
 * once more.
 */
void dbwrap_phstore_reconnect_begin(uint32_t open_id,
				    const struct file_id *file);

/**
 * @brief The records of opens that are stored until _end() have a lease in
 * common: they are staged together; with this open, if it is not 0.
 */
void dbwrap_phstore_leases_begin(uint32_t open_id);
void dbwrap_phstore_leases_end(void);

/** @brief Around storing the open. status: of that. No record is locked. */
void dbwrap_phstore_creating_lock(void);
void dbwrap_phstore_creating_unlock(NTSTATUS status);

/** @brief The request has ended: stage what was put off or held back. */
void dbwrap_phstore_request_end(void);

/**
 * @brief Did the smbd of this share mode entry, which is dead, die in its
 * CREATE? Then the open was never granted. In a cluster always false.
 */
bool dbwrap_phstore_entry_is_half(uint64_t share_file_id);

/**
 * @brief A CLOSE is about to remove this open's locks, or its share mode
 * entry: they are staged with the last it removes, see dbwrap_phstore_held.c.
 */
void dbwrap_phstore_close_begin(uint32_t open_id, const struct file_id *file);

/**
 * @brief Is this database one of ours?
 *
 * True also for a configuration that is wrong: db_open_phstore() then
 * refuses, so that nothing falls back to another storage unnoticed.
 */
bool dbwrap_phstore_wanted(uint64_t dbwrap_flags);

/**
 * @brief Open a local volatile database whose marked records survive.
 *
 * Arguments as dbwrap_local_open(). The first opener after a restart finds
 * the volatile database empty and fills it from the store.
 *
 * @return NULL and errno when the configuration, the store or the volatile
 *         database is not usable; the reason is in the log
 */
struct db_context *db_open_phstore(TALLOC_CTX *mem_ctx,
				   const char *name,
				   int hash_size,
				   int tdb_flags,
				   int open_flags,
				   mode_t mode,
				   enum dbwrap_lock_order lock_order,
				   uint64_t dbwrap_flags);

/** @brief The same question for a database of a cluster. */
bool dbwrap_phstore_wanted_ctdb(uint64_t dbwrap_flags);

/**
 * @brief Is this node a member of an active epoch? Waits for it, blocking
 * and bounded; OK at once if it is, and without a cluster.
 *
 * Asked before a request begins: in the middle of one a smbd can only end.
 */
NTSTATUS dbwrap_phstore_ready(void);

/** @brief To tell whether a value has changed. */
uint64_t dbwrap_phstore_hash(const void *data, size_t len);

/**
 * @brief A change was prepared, and others have gone on without this node.
 *
 * The process ends, as if killed: nothing is acknowledged.
 */
_NORETURN_ void dbwrap_phstore_too_late(const char *what);

/** @brief The active epoch this node is a member of, 0: none, no cluster. */
uint64_t dbwrap_phstore_epoch(void);

struct tevent_context;
struct messaging_context;
struct ctdbd_connection;

/**
 * @brief Open a volatile database of the cluster whose marked records
 * survive. Arguments as db_open_ctdb_ex().
 *
 * Nothing is restored here: a record is when somebody asks for it.
 */
struct db_context *db_open_phstore_ctdb(TALLOC_CTX *mem_ctx,
					struct tevent_context *ev,
					struct messaging_context *msg_ctx,
					struct ctdbd_connection *conn,
					const char *name,
					int hash_size,
					int tdb_flags,
					int open_flags,
					mode_t mode,
					enum dbwrap_lock_order lock_order,
					uint64_t dbwrap_flags);

/*
 * The replay cache, see dbwrap_phstore_replay.c. key: of a record in it. Not in
 * a cluster, or if durable handles are not kept, these do nothing. No record
 * may be locked.
 */

/** @brief This smbd's client is gone, its open is not: others may ask. */
void dbwrap_phstore_replay_give(struct db_context *db,
				TDB_DATA key,
				uint32_t open_id);

/**
 * @brief This smbd was killed: the same for all of its opens that is_orphan()
 * says are left, but not for more than a thousand. If the gate is closed they
 * are given up.
 */
void dbwrap_phstore_replay_give_all(struct db_context *db,
				    pid_t pid,
				    bool (*is_orphan)(struct db_context *db,
						      uint32_t open_id));

/** @brief A CREATE was sent again: what another node gave is looked for. */
void dbwrap_phstore_replay_take(struct db_context *db, TDB_DATA key);

/** @brief The handle's time is over: what was given is of no use. */
void dbwrap_phstore_replay_forget(struct db_context *db, TDB_DATA key);

/**
 * @brief Call fn for each record that ctdb has of db on any node.
 *
 * What may be older than the store is not compared with it. Not always: one
 * smbd of a node at a time, and not soon after the last one.
 */
void dbwrap_phstore_replay_search(
	struct db_context *db,
	int (*fn)(struct db_record *rec, void *private_data),
	void *private_data);

/*
 * Durable handles that are not persistent, see dbwrap_phstore_kept.c. Beside
 * DBWRAP_STORE_PERSISTENT: only such handles want this record stored; or
 * others want it. Neither: as it was.
 */
#define DBWRAP_STORE_PHSTORE_KEPT 0x1000
#define DBWRAP_STORE_PHSTORE_SURE 0x2000
#define DBWRAP_STORE_PHSTORE \
	(DBWRAP_STORE_PHSTORE_KEPT | DBWRAP_STORE_PHSTORE_SURE)

/* share_mode_entry.flags: of a durable handle that is kept */
#define PHSTORE_SHARE_ENTRY_KEPT 0x8000
/* in share_mode_data.num_persistent: the record has, or had, such entries */
#define PHSTORE_SHARE_MODE_KEPT 0x80000000
/* lock_struct.phstore_kept: a lock of such a handle */
#define PHSTORE_LOCK_KEPT 0xd2

/** @brief Does this smbd keep durable handles in the store? */
bool dbwrap_phstore_keeps(void);

/** @brief The next share mode entry is, or is not, of a handle to keep. */
void dbwrap_phstore_keep_next(bool keep);

/** @brief Is it? Asked once. */
bool dbwrap_phstore_keep_now(void);

/**
 * @brief A request begins. all: its answer acknowledges what it changes of
 * durable handles. Matters in a cluster, see dbwrap_phstore_kept.c.
 */
void dbwrap_phstore_kept_begin(bool all);

/** @brief From here on the answer to this request does. */
void dbwrap_phstore_kept_acks(void);

/**
 * @brief It takes a file from such a handle: as dbwrap_phstore_kept_acks().
 * The file's record is stored next, and the log is to say who it was.
 */
void dbwrap_phstore_kept_purged(void);

#endif /* DBWRAP_PHSTORE_H */

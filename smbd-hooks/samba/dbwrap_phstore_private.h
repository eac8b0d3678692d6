/*
 * phstore: what the parts of the dbwrap backend share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef DBWRAP_PHSTORE_PRIVATE_H
#define DBWRAP_PHSTORE_PRIVATE_H

#include "lib/dbwrap/dbwrap_phstore.h"
#include "lib/dbwrap/phstore_canon.h"

/*
 * In front of each value of the volatile database: u32 version (1), u32
 * flags (bit 0: the store has a copy), u32 padding (bytes of zeros behind the
 * value), u32 reserved (0). Upstream's per-record-persistent databases have
 * the same header, with no padding.
 */
#define DB_PHSTORE_HDR_LEN 16
/*
 * Values in the volatile database are a multiple of this, with the header.
 * Opens are larger: about 300 bytes at first, 700 once they are persistent;
 * in their database are those of the replay cache, too, of about 60 bytes that
 * never grow.
 */
#define DB_PHSTORE_PAD 512
#define DB_PHSTORE_PAD_SMALL 128
#define DB_PHSTORE_PAD_OPEN 1024

struct db_phstore_ctx {
	struct db_context *base;
	const char *path;	/* of the volatile tdb */
	const char *table;
	enum phstore_canon_kind kind;
	enum phstore_class durability;
	/*
	 * what a request changes last: open_global (CREATE, CLOSE), brlock
	 * (LOCK); the sync may begin
	 */
	bool is_last;
	size_t pad;
	/* the callers of this table can not be told of a failed store */
	bool put_must_work;
	/* byte-range locks */
	bool is_locks;
	/* share modes */
	bool is_shares;
	/* smbXsrv_open_global */
	bool is_opens;
	/* the durable form of a value is built here */
	uint8_t *scratch;
	/* names this database to smbd's parent; 0: it does not know it */
	unsigned inflight_idx;
	/* in a cluster: the database this belongs to */
	struct db_context *db;
	/* in a cluster: stage what the volatile database has of a record */
	void (*restage)(struct db_context *db, TDB_DATA key);
	/* in a cluster: opened to be read */
	bool rdonly;
	/* in a cluster: the node's replay cache, beside the opens. Or NULL */
	struct db_context *replay;
};

/* A record's private data, but in a cluster */
struct db_phstore_rec {
	struct db_phstore_ctx *ctx;
	struct db_record *base_rec;
	size_t old_len;
	/* in the store for durable handles only */
	bool kept;
};

/* dbwrap_phstore_value.c */

void db_phstore_hdr_push(uint8_t buf[DB_PHSTORE_HDR_LEN],
			 bool persistent,
			 bool kept);
bool db_phstore_hdr_pull(TDB_DATA *value, bool *persistent, bool *kept);
/* Store a value behind its header, padded. */
NTSTATUS db_phstore_base_storev(const struct db_phstore_ctx *ctx,
				struct db_record *base_rec,
				bool persistent,
				bool kept,
				const TDB_DATA *dbufs,
				int num_dbufs,
				int flag);
bool db_phstore_is_marker(TDB_DATA key);
/*
 * The durable form of a value, built in ctx->scratch. form->dsize is 0 when
 * nothing in the value has to survive. len is the value's own length.
 */
NTSTATUS dbwrap_phstore_form(struct db_phstore_ctx *ctx,
			     const TDB_DATA *dbufs,
			     int num_dbufs,
			     TDB_DATA *form,
			     size_t *len);

/* dbwrap_phstore_store.c */

/* for a database of this name, NULL: out of memory */
struct db_phstore_ctx *db_phstore_ctx_new(TALLOC_CTX *mem_ctx,
					  const char *name);

bool dbwrap_phstore_table_config(struct db_phstore_ctx *ctx);
bool dbwrap_phstore_has_sink(void);
struct phstore *dbwrap_phstore_store(bool rdonly);
bool dbwrap_phstore_serves_client(void);
/* The store is open to be read: a tool, which does not see the gate */
bool dbwrap_phstore_is_rdonly(void);
/* A child of smbd without a client: the scavenger, the cleaner */
bool dbwrap_phstore_is_helper(void);
void dbwrap_phstore_failed(const struct db_phstore_ctx *ctx,
			   const char *what,
			   enum phstore_err err,
			   bool is_fatal);
NTSTATUS dbwrap_phstore_map_err(enum phstore_err err);

/*
 * value NULL: delete. releases: what is stored takes no more room than what
 * it replaces, the store may take it from its reserve.
 */
enum phstore_err dbwrap_phstore_stage(const struct db_phstore_ctx *ctx,
				      TDB_DATA key,
				      const TDB_DATA *value,
				      bool releases);
/* version NULL: the store gives one, and appends nothing that it has */
enum phstore_err dbwrap_phstore_stage_version(
	const struct db_phstore_ctx *ctx,
	TDB_DATA key,
	const TDB_DATA *value,
	bool releases,
	const struct phstore_version *version);
/* What is about to be acked was staged before, up to lsn. */
void dbwrap_phstore_covered(const struct db_phstore_ctx *ctx, uint64_t lsn);
/* It was staged; what a request stages last begins its sync. */
void dbwrap_phstore_staged(const struct db_phstore_ctx *ctx, uint64_t lsn);
enum phstore_err dbwrap_phstore_sync(void);
/* seconds to wait for the node to be a member of an active epoch */
uint32_t dbwrap_phstore_gate_timeout(void);
uint64_t dbwrap_phstore_generation(void);
/* Waits until phstored has filled the store; without a sink: at once. */
bool dbwrap_phstore_complete(struct phstore *store, uint64_t *epoch);

/* dbwrap_phstore_gate.c, not in a cluster */

enum dbwrap_phstore_gate {
	DBWRAP_PHSTORE_GATE_NONE,	/* the store is not open */
	DBWRAP_PHSTORE_GATE_ENTERED,	/* to be left */
	DBWRAP_PHSTORE_GATE_CLOSED,	/* let go of the record, wait */
	DBWRAP_PHSTORE_GATE_FENCED,	/* this process is of no use */
};
/* With a record's lock held, before it is handed out. */
enum dbwrap_phstore_gate dbwrap_phstore_gate_enter(
	struct db_phstore_ctx *ctx);
void dbwrap_phstore_gate_leave(void);
/* With no lock held. False: given up. */
bool dbwrap_phstore_gate_wait(struct db_phstore_ctx *ctx);

/* dbwrap_phstore_kept.c */

/* False: smb.conf is not understood */
bool dbwrap_phstore_keeps_config(void);
/*
 * As dbwrap_phstore_stage(); nobody waits for it, another boot drops it.
 */
enum phstore_err dbwrap_phstore_stage_kept(const struct db_phstore_ctx *ctx,
					   TDB_DATA key,
					   const TDB_DATA *value);
/*
 * Is a record that is stored with these flags in the store for durable
 * handles only? Who does not say (a lock is taken, a waiter comes) leaves it
 * as it was.
 */
bool dbwrap_phstore_is_kept(int flag, bool was_kept);
/* Stage such a record. *persistent: false, it is not in the store. */
enum phstore_err dbwrap_phstore_keep(const struct db_phstore_ctx *ctx,
				     TDB_DATA key,
				     const TDB_DATA *form,
				     bool was_persistent,
				     bool was_kept,
				     bool *persistent);
/*
 * A record leaves the store: if this request purged a handle, say in the log
 * who it was, for `phstore history`. One frame more.
 */
void dbwrap_phstore_note_purge(struct db_phstore_ctx *ctx,
			       TDB_DATA key,
			       const TDB_DATA *dbufs,
			       int num_dbufs);
enum phstore_err dbwrap_phstore_removal(const struct db_phstore_ctx *ctx,
					TDB_DATA key,
					bool was_kept);
bool dbwrap_phstore_class_is_kept(const struct db_phstore_ctx *ctx,
				  enum phstore_class durability);
/*
 * In a cluster: must the change of a kept record wait for the other nodes? If
 * not it is staged as this, with class LOCAL.
 */
struct db_phstore_ctx dbwrap_phstore_as_kept(const struct db_phstore_ctx *ctx);
/* Has this machine's memory been there since the table was last filled? */
bool dbwrap_phstore_same_boot(const struct db_phstore_ctx *ctx);
/* once all that another boot left was dropped */
void dbwrap_phstore_note_boot(const struct db_phstore_ctx *ctx);

/* dbwrap_phstore_inflight.c */

unsigned dbwrap_phstore_inflight_add(struct db_context *db);
void dbwrap_phstore_inflight_remove(unsigned idx);
/* NULL: it is gone */
struct db_context *dbwrap_phstore_inflight_db(unsigned idx);
/* Around staging a record's change and storing it in the volatile database. */
void dbwrap_phstore_inflight_begin(unsigned idx, TDB_DATA key);
void dbwrap_phstore_inflight_end(void);

/*
 * A CLOSE has stored this record of database idx, and not staged it; the same
 * of its open. idx 0: all are.
 */
void dbwrap_phstore_inflight_held(unsigned idx,
				  TDB_DATA key,
				  uint32_t open_id);

/* Stage what the volatile database has of an open, if it differs. */
void dbwrap_phstore_restage_open(uint32_t open_id);

/* A CLOSE removes this open with what it is staging. 0: it has ended. */
void dbwrap_phstore_inflight_closing(uint32_t open_id,
				     const struct file_id *file);

/* A CREATE is about to store this open's share mode entry. 0: it has ended. */
void dbwrap_phstore_inflight_creating(uint32_t open_id,
				      const struct file_id *file,
				      uint32_t name_hash);

/* Its lock and its number are changed together, see there. */
void dbwrap_phstore_inflight_number(uint32_t open_id,
				    uint8_t bucket,
				    uint8_t value,
				    uint64_t locks);

/* dbwrap_phstore_number.c */

/* Names the contents of a record of brlock.tdb */
uint64_t dbwrap_phstore_number_hash(const TDB_DATA *dbufs, int num_dbufs);
/* A record of brlock.tdb is locked, and is about to become this. */
void dbwrap_phstore_number_lock(const struct db_phstore_ctx *ctx,
				const TDB_DATA *dbufs,
				int num_dbufs);
/* It is being staged: the open goes with it. */
enum phstore_err dbwrap_phstore_number_join(const struct db_phstore_ctx *ctx,
					    struct phstore_txn *txn,
					    bool releases);
void dbwrap_phstore_number_staged(enum phstore_err err, uint64_t lsn);
/* The locks are held back: what the open is given is stored, not staged. */
void dbwrap_phstore_number_taken(void);
/* In a cluster: it is not to be staged yet. */
bool dbwrap_phstore_number_hold(const struct db_phstore_ctx *ctx,
				TDB_DATA key,
				const TDB_DATA *value,
				bool releases,
				const struct phstore_version *version);
bool dbwrap_phstore_number_is_held(void);
/* It was stored, or not. */
void dbwrap_phstore_number_unlock(NTSTATUS status);
/* The database of opens of this process, NULL: it is gone */
void dbwrap_phstore_number_opens(struct db_phstore_ctx *opens);

/* dbwrap_phstore_closing.c */

/* A record of locking.tdb is being staged: the open goes with it. */
enum phstore_err dbwrap_phstore_closing_join(const struct db_phstore_ctx *ctx,
					     TDB_DATA key,
					     struct phstore_txn *txn);
void dbwrap_phstore_closing_staged(enum phstore_err err, uint64_t lsn);
/* It has ended, if it was one. */
void dbwrap_phstore_closing_reset(void);
/* The record of an open is being staged, for another reason. */
void dbwrap_phstore_closing_changed(const struct db_phstore_ctx *ctx);
/* It is about to be removed. True: from the store it was, already. */
bool dbwrap_phstore_closing_end(const struct db_phstore_ctx *ctx,
				TDB_DATA key);
/* The database of opens of this process, NULL: it is gone */
void dbwrap_phstore_closing_opens(struct db_phstore_ctx *opens);

/* dbwrap_phstore_held.c */

/*
 * Is this staged with the last record of the request? version: in a cluster;
 * the record is stored in the volatile database.
 */
bool dbwrap_phstore_held_take(const struct db_phstore_ctx *ctx,
			      TDB_DATA key,
			      const TDB_DATA *value,
			      bool releases,
			      const struct phstore_version *version);
/* A record is being staged: if it is the last, the others go with it. */
enum phstore_err dbwrap_phstore_held_join(const struct db_phstore_ctx *ctx,
					  TDB_DATA key,
					  struct phstore_txn *txn);
/* True: stage it again, without them */
bool dbwrap_phstore_held_staged(enum phstore_err err, uint64_t lsn);
enum dbwrap_phstore_held {
	DBWRAP_PHSTORE_HELD_CREATE,	/* share modes */
	DBWRAP_PHSTORE_HELD_CLOSE,	/* and locks */
	DBWRAP_PHSTORE_HELD_RECONNECT,	/* and locks, and the open at first */
};
/* See dbwrap_phstore_creating_begin(), not for a second file in one request */
void dbwrap_phstore_held_begin(uint32_t open_id,
			       const struct file_id *file,
			       enum dbwrap_phstore_held what);
/* The request has ended. */
void dbwrap_phstore_held_end(void);

/* dbwrap_phstore_creating.c, not in a cluster */

/* A CREATE's entry is stored: is it not to be staged yet? */
bool dbwrap_phstore_creating_put_off(struct db_phstore_ctx *ctx, TDB_DATA key);
/* The open is being staged: the entry goes with it. */
enum phstore_err dbwrap_phstore_creating_join(const struct db_phstore_ctx *ctx,
					      TDB_DATA key,
					      struct phstore_txn *txn);
void dbwrap_phstore_creating_staged(enum phstore_err err, uint64_t lsn);
/* The database of opens of this process, NULL: it is gone */
void dbwrap_phstore_creating_opens(struct db_phstore_ctx *opens);

/* dbwrap_phstore_recover.c */

bool dbwrap_phstore_recover(struct db_phstore_ctx *ctx, int tdb_flags);
int dbwrap_phstore_wipe_table(struct db_phstore_ctx *ctx);

#endif /* DBWRAP_PHSTORE_PRIVATE_H */

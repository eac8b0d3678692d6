/*
 * phstore: what the parts of the backend over ctdb share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef DBWRAP_PHSTORE_CTDB_H
#define DBWRAP_PHSTORE_CTDB_H

#include "lib/phstore/phstore_ship.h"
#include "lib/phstore/volatile_value.h"

/* the last byte of what is staged */
#define CLU_FORM_PLAIN 0
#define CLU_FORM_PERSISTENT 1

enum clu_look {
	CLU_LOOK_OK,
	CLU_LOOK_AGAIN,		/* the gate is closed, or should be */
	CLU_LOOK_FAILED,
};

/* A record's private data */
struct clu_rec {
	struct db_phstore_ctx *ctx;
	struct db_record *base_rec;
	struct phstore *store;		/* NULL: only looked at */
	struct phvol_hdr hdr;		/* as compared */
	uint64_t epoch;			/* that of now */
	uint64_t floor;
	size_t old_len;
	TDB_DATA raw;			/* the base's value, to undo */
	bool entered;
};

/* dbwrap_phstore_ctdb_rec.c */

/* Inside the gate, until as many times left */
enum phstore_err clu_enter(struct phstore *store,
			   uint64_t *epoch,
			   uint64_t *floor);
void clu_leave(struct phstore *store);

bool clu_is_persistent(const struct phvol_hdr *hdr);

/* The durable form of a value and the mark behind it, child of mem_ctx. */
NTSTATUS clu_form(struct db_phstore_ctx *ctx,
		  TALLOC_CTX *mem_ctx,
		  const TDB_DATA *dbufs,
		  int num_dbufs,
		  uint8_t mark,
		  TDB_DATA *form);

/* The next version: above all this record had in the epoch, or the floor. */
void clu_next_version(struct clu_rec *crec, struct phvol_hdr *hdr);

/* Store a value behind its header in the volatile database. */
NTSTATUS clu_base_store(struct clu_rec *crec,
			struct phvol_hdr *hdr,
			const TDB_DATA *dbufs,
			int num_dbufs);

struct db_phstore_ctx *clu_ctx_of(struct db_context *db);

/* NULL for a tool that may not open the store: it sees what ctdb has. */
struct phstore *clu_store(struct db_phstore_ctx *ctx);

/* The epoch in which what was just read counts. */
bool clu_epoch(struct phstore *store, uint64_t *epoch);

/*
 * No epoch is active. Wait, with no lock held. False when it took too long:
 * a client's smbd does not come back from here, smbd's helpers wait on.
 */
bool clu_wait(struct db_phstore_ctx *ctx);

/*
 * Compare a value of the volatile database with the store, if that was not
 * done in this epoch. *value is what the record is; it may point into raw or
 * be a child of mem_ctx.
 */
enum clu_look clu_look(struct db_phstore_ctx *ctx,
		       TALLOC_CTX *mem_ctx,
		       struct phstore *store,
		       TDB_DATA key,
		       TDB_DATA raw,
		       uint64_t epoch,
		       struct phvol_hdr *hdr,
		       TDB_DATA *value);

struct db_record *clu_fetch_locked(struct db_context *db,
				   TALLOC_CTX *mem_ctx,
				   TDB_DATA key);

void clu_restage(struct db_context *db, TDB_DATA key);

/* dbwrap_phstore_replay.c */

/* Arguments as the opens' database. True also if none is wanted. */
bool clu_replay_open(struct db_phstore_ctx *ctx,
		     int hash_size,
		     int tdb_flags,
		     mode_t mode);

/* The node's database that has this key, NULL: it is ctdb's. */
struct db_context *clu_replay_of(struct db_context *db, TDB_DATA key);

struct db_record *clu_replay_fetch(struct db_context *db,
				   struct db_context *replay,
				   TALLOC_CTX *mem_ctx,
				   TDB_DATA key);
NTSTATUS clu_replay_parse(struct db_context *replay,
			  TDB_DATA key,
			  void (*parser)(TDB_DATA key,
					 TDB_DATA data,
					 void *private_data),
			  void *private_data);

/* dbwrap_phstore_ctdb.c */

void clu_null_parser(TDB_DATA key, TDB_DATA data, void *private_data);

NTSTATUS clu_parse_record(struct db_context *db,
			  TDB_DATA key,
			  void (*parser)(TDB_DATA key,
					 TDB_DATA data,
					 void *private_data),
			  void *private_data);

/* dbwrap_phstore_ctdb_walk.c */

int clu_traverse(struct db_context *db,
		 int (*fn)(struct db_record *rec, void *private_data),
		 void *private_data);
int clu_traverse_read(struct db_context *db,
		      int (*fn)(struct db_record *rec, void *private_data),
		      void *private_data);
int clu_traverse_store(struct db_context *db,
		       int (*fn)(struct db_record *rec, void *private_data),
		       void *private_data);
int clu_wipe(struct db_context *db, struct dbwrap_wipe_flags flags);

#endif /* DBWRAP_PHSTORE_CTDB_H */

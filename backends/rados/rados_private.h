/*
 * phstore: the RADOS backend, its parts
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 *   rados_codec.c    bytes
 *   rados_conf.c     "rados:pool/namespace?option=value&..."
 *   rados_conn.c     connection, the store's "meta" object, writers, fences
 *   rados_engine.c   queues and batches: from staged to durable
 *   rados_tick.c     what happens by the clock
 *   rados_batch.c    one batch: as a request to the class or as plain
 *                    operations; what to do when it was refused
 *   rados_scan.c     reading
 *   rados_prune.c    tombstones that may go
 *   rados_stats.c    counting
 *   rados_group.c    several nodes: the epoch they are in
 *   rados_stage.c    from a transaction to what the engine does
 *   rados.c          struct phstore_backend_ops
 */

#ifndef PHSTORE_RADOS_PRIVATE_H
#define PHSTORE_RADOS_PRIVATE_H

#include <pthread.h>
#include <rados/librados.h>

#include "phstore_private.h"
#include "rados.h"
#include "rados_codec.h"

#define PHR_META_OID "meta"
#define PHR_OID_LEN 24

/* So many transactions per shard: then batches leave together. */
#define PHR_ROUNDS 4
/* Most operations and bytes of one batch. */
#define PHR_BATCH_OPS 512
#define PHR_BATCH_BYTES (1024 * 1024)
/* Failed transactions remembered for their barriers. */
#define PHR_FAILED_MAX 1024
#define PHR_OVERLAY_BUCKETS 4096

enum phr_use_class {
	PHR_CLASS_AUTO = 0,	/* when every OSD asked has it */
	PHR_CLASS_NO = 1,
	PHR_CLASS_YES = 2,	/* refuse to open without */
};

struct phr_conf {
	const char *pool;
	const char *ns;
	const char *conf;	/* NULL: librados' own default */
	const char *id;		/* client.ID */
	const char *keyring;	/* NULL: as the configuration says */
	const char *writer;	/* NULL: one of its own */
	uint32_t shards;	/* of a new store */
	enum phr_use_class use_class;
	uint32_t timeout_ms;	/* no wait is longer */
	size_t queue_bytes;	/* staged and not yet durable, at most */
	uint32_t gather_us;	/* longest wait for company */
};

struct phr_conn {
	struct phr_conf conf;
	rados_t cluster;
	rados_ioctx_t io;
	bool connected;
	bool has_io;
	struct phr_super super;
	bool has_class;
	bool registered;
	uint64_t epoch;		/* 0: not a writer */
	char writer[PHR_WRITER_MAX + 1];
};

struct phr_txn;
struct phr_shard;
struct phr_engine;

/* One operation on one omap key; key and value are in the same memory. */
struct phr_op {
	struct phr_op *next;		/* in its unit */
	struct phr_op *hnext;		/* in the overlay */
	struct phr_txn *txn;
	uint64_t hash;
	enum phr_op_kind kind;
	enum phr_check check;
	bool auto_version;		/* may be raised */
	bool use_reserve;
	bool in_overlay;
	bool below_floor;		/* checked by itself, see evaluate */
	struct phr_version version;
	struct phr_version expected;
	uint8_t record_kind;
	uint8_t *key;
	size_t key_len;
	uint8_t *value;
	size_t value_len;
};

/* What one transaction does to one shard: one batch has all of it. */
struct phr_unit {
	struct phr_unit *next;		/* in the queue or the batch */
	struct phr_unit *sibling;	/* of the transaction */
	struct phr_txn *txn;
	struct phr_shard *shard;
	struct phr_op *ops;
	struct phr_op **ops_end;
	unsigned num_ops;
	size_t bytes;
};

struct phr_txn {
	struct phr_txn *next;		/* by LSN */
	struct phr_engine *engine;
	uint64_t lsn;			/* 0: internal, nobody waits */
	struct phr_unit *units;		/* the first one leads */
	unsigned num_units;
	unsigned units_left;
	struct phr_op *dropped;		/* need not be written any more */
	bool following;			/* the lead is done */
	bool done;
	enum phstore_err err;
	size_t bytes;
	/* called under the engine's lock, may be NULL */
	void (*done_fn)(struct phr_txn *txn, void *private_data);
	void *private_data;
};

struct phr_batch {
	struct phr_shard *shard;
	struct phr_unit *units;
	unsigned num_ops;
	size_t bytes;
	uint64_t number;
	unsigned tries;
	uint64_t start_ns;
	uint64_t retry_ns;		/* when to send it again */
	bool with_class;
	rados_write_op_t wop;
	rados_read_op_t rop;
	rados_omap_iter_t iter;
	int read_ret;
	rados_completion_t completion;
	uint8_t *request;		/* to the class */
};

struct phr_shard {
	struct phr_engine *engine;
	uint32_t id;
	char oid[PHR_OID_LEN];
	struct phr_unit *first, **end;	/* waiting */
	struct phr_batch *batch;	/* on the way, or to be sent again */
	uint64_t next_batch;
	uint64_t gather_ns;		/* 0, or when to send what waits */
};

struct phr_failed {
	uint64_t lsn;
	enum phstore_err err;
};

struct phr_engine {
	struct phr_conn *conn;
	pthread_mutex_t mutex;
	pthread_cond_t cond;		/* something became durable */
	pthread_cond_t tick_cond;
	pthread_t ticker;
	bool has_ticker;
	bool stop;
	struct phr_shard *shards;
	uint64_t head;
	uint64_t durable;
	struct phr_txn *first, **end;	/* by LSN, not yet below durable */
	unsigned pending;		/* transactions, also internal ones */
	struct phr_failed failed[PHR_FAILED_MAX];
	unsigned num_failed;
	enum phstore_err latched;
	int latched_errno;
	char latched_text[256];
	bool full;
	bool watch_full;		/* ask also when nothing stalls */
	bool probing;
	uint64_t probed_ns;
	unsigned callbacks;		/* librados will call so often */
	size_t queued_bytes;
	unsigned in_flight;
	uint64_t avg_ns;		/* of an operation, moving */
	unsigned returning;		/* expected to stage again */
	uint64_t last_seq;		/* of automatic versions */
	int notify_fd;
	struct phr_op *overlay[PHR_OVERLAY_BUCKETS];
	struct phstore_rados_stat stat;
	uint64_t barrier_us[PHSTORE_LATENCY_BUCKETS];
};

/* rados_conf.c */
enum phstore_err phr_conf_parse(TALLOC_CTX *mem_ctx, const char *path,
				struct phr_conf *conf);

/* rados_conn.c */
enum phstore_err phr_fail(int ret, const char *what, const char *oid);
enum phstore_err phr_conn_open(struct phr_conn *c, bool create);
void phr_conn_close(struct phr_conn *c);
enum phstore_err phr_conn_writer_begin(struct phr_conn *c);
/* The same; was it declared dead, or did it end in peace before? */
enum phstore_err phr_conn_writer_claim(struct phr_conn *c, bool *fenced);
enum phstore_err phr_epoch_take(struct phr_conn *c, uint64_t *epoch);
/* Set a key of "meta" if it compares so; expected NULL: set it. */
int phr_meta_set_if(struct phr_conn *c, const char *key, uint8_t cmp,
		    const uint8_t *expected, size_t expected_len,
		    const uint8_t *value, size_t value_len);
void phr_conn_writer_end(struct phr_conn *c);
enum phstore_err phr_conn_fence(struct phr_conn *c, const char *name,
				bool block);
/* Another epoch for this writer; nothing of it may be on its way. */
enum phstore_err phr_conn_renew(struct phr_conn *c, pthread_mutex_t *mutex);
void phr_oid(char oid[PHR_OID_LEN], uint32_t shard);
/* Blocking, but no longer than conf.timeout_ms: then -ETIMEDOUT. */
int phr_read(struct phr_conn *c, rados_read_op_t op, const char *oid);
int phr_write(struct phr_conn *c, rados_write_op_t op, const char *oid,
	      int flags);

/* rados_engine.c */
int phr_engine_new(struct phr_conn *c, struct phr_engine **pe);
/* Everything must be durable or failed, or is given up. */
void phr_engine_free(struct phr_engine *e);
struct phr_txn *phr_txn_make(struct phr_engine *e);
struct phr_op *phr_txn_op(struct phr_txn *t, uint32_t shard,
			  enum phr_op_kind kind, const uint8_t *key,
			  size_t key_len, size_t value_len);
void phr_txn_free(struct phr_txn *t);
/* Takes the transaction; with an LSN unless internal. */
enum phstore_err phr_engine_submit(struct phr_engine *e, struct phr_txn *t,
				   bool internal, uint64_t *lsn);
enum phstore_err phr_engine_wait(struct phr_engine *e, uint64_t lsn,
				 uint32_t timeout_ms);
/* Wait until nothing is pending. */
enum phstore_err phr_engine_drain(struct phr_engine *e);
bool phr_engine_is_durable(struct phr_engine *e, uint64_t lsn);
enum phstore_err phr_engine_check(struct phr_engine *e, uint64_t lsn);
uint64_t phr_hash(const uint8_t *key, size_t len);
/* A pending operation on key; call it and use what it returns locked. */
struct phr_op *phr_overlay_find(struct phr_engine *e, const uint8_t *key,
				size_t key_len);
/* Under the lock: */
void phr_engine_latch(struct phr_engine *e, enum phstore_err err, int error,
		      const char *text);
void phr_batch_done(struct phr_batch *b);
void phr_unit_failed(struct phr_unit *u, enum phstore_err err);
void phr_unit_done(struct phr_unit *u);
void phr_shard_kick(struct phr_shard *s);

void phr_shard_send(struct phr_shard *s);
void phr_notify(struct phr_engine *e);

/* rados_tick.c */
#define PHR_TICK_NS 100000000ULL
void *phr_ticker_main(void *private_data);

/* rados_batch.c, under the lock */
void phr_batch_send(struct phr_batch *b);

/* rados_scan.c */
uint8_t *phr_dup(TALLOC_CTX *mem_ctx, const uint8_t *value, size_t len);
enum phstore_err phr_get(struct phr_conn *c, const uint8_t *key,
			 size_t key_len, TALLOC_CTX *mem_ctx,
			 struct phr_record *rec);
/* One key and value of a shard; return other than 0 to end. */
typedef int (*phr_entry_fn)(const uint8_t *key, size_t key_len,
			    const uint8_t *value, size_t value_len,
			    uint32_t shard, void *private_data);
enum phstore_err phr_scan(struct phr_conn *c, const uint8_t *prefix,
			  size_t prefix_len, bool tombstones,
			  phr_entry_fn fn, void *private_data);
enum phstore_err phr_roll_forward(struct phr_engine *e, const char *name);

/* rados_prune.c */
struct phr_member_list {
	char name[PHR_WRITER_MAX + 1];
	uint64_t epoch;
	uint8_t state;
	uint8_t *raw;		/* as stored */
	size_t raw_len;
};
/* All writers that are known. */
enum phstore_err phr_members(struct phr_conn *c, TALLOC_CTX *mem_ctx,
			     struct phr_member_list **plist, size_t *pnum);
enum phstore_err phr_prune(struct phr_conn *c, struct phr_engine *e);
/*
 * Remove the tombstones below an epoch, beside the traffic: nothing of an
 * earlier one may come any more. Returns when all was queued.
 */
enum phstore_err phr_prune_below(struct phr_conn *c, struct phr_engine *e,
				 uint64_t epoch);

/* rados_stats.c */
struct phr_class_stats {
	uint64_t records;
	uint64_t tombstones;
	uint64_t bytes;		/* of records, with their headers */
	uint64_t intents;
	uint64_t writers;	/* entries of writers, in all shards */
};
/* All shards; NOT_SUPPORTED without the class. */
enum phstore_err phr_class_stats(struct phr_conn *c, uint32_t timeout_ms,
				 struct phr_class_stats *st);

/* What is known of a key: staged by this handle, or stored. */
struct phr_seen {
	bool known;
	bool there;		/* also as a tombstone */
	uint8_t kind;
	uint8_t durability;
	struct phr_version version;
	uint64_t lsn;
	const uint8_t *value;
	size_t value_len;
};

/* rados_stage.c */
enum phstore_err phr_look(struct phr_conn *c, struct phr_engine *e,
			  TALLOC_CTX *mem_ctx, const uint8_t *key,
			  size_t key_len, bool staged_only,
			  struct phr_seen *seen);
enum phstore_err phr_stage(struct phr_engine *e, struct phstore_txn *txn,
			   uint64_t *lsn);

#endif /* PHSTORE_RADOS_PRIVATE_H */

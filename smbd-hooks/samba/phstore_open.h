/*
 * phstore: what becomes of an open whose server died
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHSTORE_OPEN_H
#define PHSTORE_OPEN_H

struct db_context;
struct db_record;
struct smbXsrv_open;
struct smbXsrv_open_global;
struct files_struct;
struct messaging_context;
struct share_mode_lock;
struct smb2_lease;
struct smb2_lease_key;
struct smbXsrv_tcon;

/* smbXsrv_open.c: its own functions, for us */
NTSTATUS phstore_open_store(struct db_record *rec,
			    TDB_DATA oldval,
			    struct smbXsrv_open_global *global);
NTSTATUS phstore_open_do_locked(uint32_t id,
				void (*fn)(struct db_record *rec,
					   TDB_DATA value,
					   void *private_data),
				void *private_data);
NTSTATUS phstore_open_read(uint32_t id,
			   void (*fn)(TDB_DATA key,
				      TDB_DATA value,
				      void *private_data),
			   void *private_data);
void phstore_open_replay_left_by(pid_t pid);

/**
 * @brief When the server of a persistent open died.
 *
 * Written down in the open the first time somebody asks, so that its timeout
 * counts from there, whatever happens to the server meanwhile.
 *
 * Who waits for a break of the file's oplock or lease is woken up.
 *
 * @return 0: its server lives, or it has none
 */
NTTIME phstore_open_crashed(uint32_t open_global_id, struct file_id file_id);

/**
 * @brief Is this a durable open, not a persistent one, that is kept in the
 * store?
 */
bool phstore_open_is_kept(const struct smbXsrv_open_global *global);

/** @brief Is it persistent, or kept: does it outlive its server? */
bool phstore_open_outlives(const struct smbXsrv_open_global *global);

/** @brief Is it kept, and its server died with it in use? */
bool phstore_open_is_left(const struct smbXsrv_open_global *global);

/** @brief How an open's record is to be stored, beside how it ever was. */
int phstore_open_store_flags(const struct smbXsrv_open_global *global);

/**
 * @brief A persistent open was given up, its record says so.
 *
 * From now on its share mode entry is what it would be if this smbd had died:
 * upstream it went on to be one in use until that smbd ended, and another
 * connection of the client may be with it. Takes the file's share mode lock.
 * Not in a smbd that is ending, nor for an open that is another's by now.
 */
void phstore_open_give_up(struct files_struct *fsp);

/** @brief Take a kept open out of the store. */
void phstore_open_unkeep(struct smbXsrv_open *op);

/** @brief An open whose server died: is its time over? */
bool phstore_open_expired(const struct smbXsrv_open_global *global);

/** @brief Has this open a server that lives? Quick for many in a row. */
bool phstore_open_is_served(const struct smbXsrv_open_global *global);

/**
 * @brief The open that outlives its server, and that a CREATE that is replayed
 * has made, if the server it was sent to is gone. Looks through the store, and
 * for a persistent one in a cluster through what ctdb has on all nodes.
 *
 * Called before the record of the replay cache is locked. Brings that here in a
 * cluster, and removes it if there is no such open.
 *
 * @param key		of that record
 * @param in_use	there is one, and another smbd serves it
 *
 * @return its id, 0: there is none, or the replay cache knows it
 */
uint32_t phstore_open_replay_find(struct db_context *db,
				  TDB_DATA key,
				  const struct GUID *client_guid,
				  const struct GUID *create_guid,
				  bool is_persistent,
				  bool *in_use);

/** @brief An open's record. NULL: none, or not understood. To be freed. */
struct smbXsrv_open_global *phstore_open_parse(TDB_DATA key, TDB_DATA value);

/**
 * @brief Is the stored record this smbd's own, with which it serves op?
 *
 * A node that was cut off may come back with smbds that live, and with handles
 * that were taken up elsewhere meanwhile, or closed, or whose id is another's.
 * No other node takes anything from this one within an epoch it is a member of:
 * the record is only looked at when there was a new one. Call with it locked.
 */
bool phstore_open_is_ours(struct smbXsrv_open *op,
			  TDB_DATA key,
			  TDB_DATA value);

/** @brief No other node can have taken it since its record was looked at. */
bool phstore_open_is_sure(const struct smbXsrv_open *op);

/** @brief A reconnect takes this open up: what its record was until now. */
void phstore_open_taken(const struct smbXsrv_open_global *global);

/** @brief The same of its stored record, before a request changes the file. */
NTSTATUS phstore_open_check_ours(struct smbXsrv_open *op);

/* A change of a file's locks: phstore_open_locks.c */
struct phstore_open_locks {
	uint64_t epoch;		/* when the copy was read */
	uint64_t hash;		/* of it */
	unsigned int tries;
	bool changed;		/* the record is not what was read */
};

/** @brief Before a copy of a file's locks is read, and when it was. */
void phstore_open_locks_begin(struct phstore_open_locks *copy);
void phstore_open_locks_read(struct phstore_open_locks *copy,
			     const void *data,
			     size_t len);

/** @brief May it still be stored? Before their record is locked. */
bool phstore_open_locks_look(const struct files_struct *fsp,
			     struct phstore_open_locks *copy);

/** @brief With the record locked. False: to be let go, and looked again. */
bool phstore_open_locks_stay(const struct files_struct *fsp,
			     struct phstore_open_locks *copy,
			     TDB_DATA value);

/** @brief Does it outlive its server, which is gone? */
bool phstore_open_is_orphan(struct db_context *db, uint32_t id);

/**
 * @brief A LOCK or UNLOCK is tried. element: where its sequence number belongs
 * in the open, NULL: it has none.
 */
void phstore_open_lock_begin(struct smbXsrv_open *op,
			     const uint8_t *element,
			     uint8_t value);

/** @brief It was. True: its number is stored, with the lock. */
bool phstore_open_lock_end(void);

/** @brief Keep a LOCK's or UNLOCK's sequence number with its open. */
void phstore_open_locked(struct smbXsrv_open *op);

/**
 * @brief A CREATE stores its share mode entry next. keep: of a durable handle
 * that is not persistent.
 */
void phstore_open_create_begin(const struct files_struct *fsp, bool keep);

/**
 * @brief A CLOSE removes the handle's locks. In one transaction with that the
 * open's record says that the handle is closed, see phstore_open_is_closed().
 */
void phstore_open_close_was(const struct smbXsrv_open *op);
void phstore_open_close_begin(struct files_struct *fsp);
void phstore_open_close_end(void);

/** @brief Its share mode entry is removed next: the open goes with it. */
void phstore_open_close_entry(struct files_struct *fsp);

/** @brief An id for a new open that this process had before, 0: none. */
uint32_t phstore_open_id_again(void);

/** @brief Its server died in the middle of its CLOSE. */
bool phstore_open_is_closed(const struct smbXsrv_open_global *global);

/**
 * @brief smbd's parent: this child has ended, and was reaped. Puts right what
 * it was in the middle of. unclean: it was killed, or of no use.
 */
void phstore_open_child_gone(pid_t pid, bool unclean);

/**
 * @brief smbd's parent tells the scavenger to remove a share mode entry whose
 * open never was granted, or has no server: as if somebody asked for the file.
 */
void phstore_scavenge(uint32_t open_id,
		      const struct file_id *file_id,
		      uint32_t name_hash);

/**
 * @brief The name a file has now, if it was renamed through smbd since the
 * open's cookie was made.
 */
void phstore_open_renamed(TALLOC_CTX *mem_ctx,
			  struct file_id id,
			  const char *servicepath,
			  const char **base_name);

/** @brief Has this smbd another handle with the lease? */
bool phstore_lease_is_held(struct files_struct *fsp,
			   const struct smb2_lease_key *key);

/*
 * A node that died may have taken the newest record of a lease with it. Who
 * takes up a handle that nobody else can have used since knows it better: its
 * smbd died, or it has seen a later epoch.
 */
bool phstore_lease_is_old(struct files_struct *fsp,
			  const struct smb2_lease_key *key,
			  bool is_left,
			  const struct smb2_lease *claimed,
			  uint16_t version,
			  uint16_t epoch);

/**
 * @brief May this share grant all leases? Unless smb.conf says otherwise, a
 * continuously available failover share may.
 */
bool phstore_lease_all(const struct smbXsrv_tcon *tcon);

/* phstore_expire.c: a handle's time is over */

/** @brief Call before its open is removed. */
void phstore_expire_begin(uint64_t open_persistent_id);

/**
 * @brief Do what its CLOSE would have done to the file: delete it when that
 * was asked for and nobody else has it open. Called with the file locked,
 * before its share mode entry goes.
 */
void phstore_expire_close(struct messaging_context *msg_ctx,
			  struct share_mode_lock *lck,
			  struct file_id fid,
			  uint64_t open_persistent_id,
			  uint32_t name_hash);

/** @brief Others have the file open: the last of them deletes it. */
bool phstore_expire_keeps_token(void);

/**
 * @brief A persistent open's record is gone: is its server, by the file's share
 * modes? Then its locks are nobody's, though the smbd they name may live: that
 * had given it up. Asked before they are looked at, under the file's lock.
 */
void phstore_expire_locks(struct share_mode_lock *lck,
			  uint64_t open_persistent_id);
bool phstore_expire_is_over(uint64_t open_persistent_id);

#endif /* PHSTORE_OPEN_H */

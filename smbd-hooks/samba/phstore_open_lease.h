/*
 * phstore: the lease of an open is kept with it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHSTORE_OPEN_LEASE_H
#define PHSTORE_OPEN_LEASE_H

#include "smbd/phstore_lease_value.h"

struct smbXsrv_open;
struct smbXsrv_open_global;
struct files_struct;
struct smbd_server_connection;
struct smb2_lease;
struct smb2_lease_key;
struct file_id;
struct share_mode_entry;
struct share_mode_lock;
struct vfs_default_durable_stat;

/** @brief An open's record was read: its lease, too. Out of memory: none. */
void phstore_open_lease_read(struct smbXsrv_open_global *global,
			     const uint8_t *buf,
			     size_t len);

/** @brief An open's record is about to be stored: with its lease. */
bool phstore_open_lease_append(TALLOC_CTX *mem_ctx,
			       const struct smbXsrv_open_global *global,
			       DATA_BLOB *blob);

/** @brief fsp's lease is new, leases.tdb did not have it. */
void phstore_open_lease_granted(const struct files_struct *fsp);

/** @brief The open is stored next: with the lease it has now. */
void phstore_open_lease_note(struct smbXsrv_open *op,
			     struct files_struct *fsp);

/**
 * @brief A lease was changed: stage it with each open that has it and is kept.
 * No record is locked.
 */
void phstore_open_lease_changed(struct smbd_server_connection *sconn,
				const struct file_id *id,
				const struct smb2_lease_key *key);

/**
 * @brief The lease of this open is broken, leases.tdb has it: its client is
 * about to be told. No record is locked.
 */
void phstore_open_lease_broken(struct files_struct *fsp,
			       uint32_t break_from,
			       uint32_t break_to);

/** @brief Its client has gone, the open is stored next: as the lease is now. */
void phstore_open_lease_gone(struct files_struct *fsp);

/**
 * @brief A CREATE may have changed the lease that other opens have. is_stored:
 * its own open is stored next, they go with it.
 */
void phstore_open_lease_shared(struct files_struct *fsp, bool is_stored);

/**
 * @brief The lease of an open that is taken up again: what was kept, and no
 * more than its client says it has. Nothing was kept: what the client says.
 *
 * @return whether it was kept
 */
bool phstore_open_lease_back(const struct smbXsrv_open *op,
			     const struct smb2_lease_key *key,
			     const struct smb2_lease *claimed,
			     uint32_t mask,
			     struct phstore_lease_value *lease);

/**
 * @brief leases.tdb knows this lease as *state. Was it raised to that by a
 * CREATE that its smbd died in? Then *state becomes what it was before, and
 * what its client says it has.
 */
bool phstore_open_lease_is_half(struct files_struct *fsp,
				const struct smbXsrv_open *op,
				const struct smb2_lease_key *key,
				const struct smb2_lease *claimed,
				uint32_t *state);

/** @brief The later of two epochs of a lease. */
uint16_t phstore_lease_later(uint16_t a, uint16_t b);

/**
 * @brief A break of the lease of this entry was sent to its smbd. *told: a
 * talloc array on talloc_tos(), NULL at first.
 */
void phstore_leases_told_add(struct share_mode_entry **told,
			     const struct share_mode_entry *e);

/**
 * @brief Was it sent to another smbd that has the lease, and is to be sent to
 * that of this entry, too? True once for each smbd.
 */
bool phstore_leases_told_is_other(struct share_mode_entry **told,
				  const struct share_mode_entry *e);

/**
 * @brief e has a lease and is to be told of a break. If its smbd is gone, *e
 * becomes another entry of the lease whose smbd lives. On another node this
 * waits for ctdb's answer; if one smbd has all of the lease, nobody is asked.
 */
void phstore_open_lease_living(struct share_mode_lock *lck,
			       struct share_mode_entry *e);

/** @brief The file as CREATE made it: for the next. */
void phstore_open_lease_stat(struct files_struct *fsp,
			     struct vfs_default_durable_stat *is);

/**
 * @brief A handle has come back, its file is open and its stat is fresh: has
 * the file changed since was? Then a lease with R and without W is of the next
 * epoch, or broken. e is its entry. The share mode is locked.
 *
 * @return an error of leases.tdb
 */
NTSTATUS phstore_open_lease_renew(struct files_struct *fsp,
				  struct share_mode_lock *lck,
				  const struct share_mode_entry *e,
				  const struct vfs_default_durable_stat *was);

#endif /* PHSTORE_OPEN_LEASE_H */

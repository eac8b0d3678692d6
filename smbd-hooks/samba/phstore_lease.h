/*
 * phstore: which records of leases.tdb count after a node's death
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHSTORE_LEASE_H
#define PHSTORE_LEASE_H

struct GUID;
struct leases_db_value;
struct smb2_lease_key;

/** @brief Does this smbd keep its handles in a store over ctdb? */
bool phstore_leases_are_compared(void);

/**
 * @brief Is this the newest record of the lease? If not, nobody but its
 * client knows the lease.
 */
bool phstore_lease_counts(const struct leases_db_value *value);

/** @brief This smbd serves the client that has the lease, as of now. */
void phstore_lease_mine(struct leases_db_value *value);

/** @brief A change of the record: it is known to be right once more. */
void phstore_lease_changed(struct leases_db_value *value);

/**
 * @brief Between true and false all records count: somebody has another
 * reason to know.
 */
void phstore_lease_believe(bool believe);

/* leases_db.c */

/** @brief Mark the record of a lease that this smbd has taken up. */
void phstore_leases_db_take(const struct GUID *client_guid,
			    const struct smb2_lease_key *lease_key);

#endif /* PHSTORE_LEASE_H */

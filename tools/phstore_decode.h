/*
 * phstore tool: decoders of the records smbd keeps in a store
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_DECODE_H
#define PHSTORE_DECODE_H

#include "phstore.h"
#include "phstore_out.h"

/**
 * @file phstore_decode.h
 *
 * @brief Show what an operator wants to know of a record.
 *
 * Each decoder takes any bytes, and says what it could read as members of
 * the object that is open in `out`. What it can not read it shows as
 * "not_decoded" with the reason and "rest_hex" with the bytes from there on;
 * it then returns false. Nothing of the value is trusted: every length is
 * checked against what is left, every count bounds a loop by the bytes
 * present.
 */

/** What a table holds, by its name. */
enum phdump_kind {
	PHDUMP_OTHER = 0,
	PHDUMP_OPEN,			/* smbXsrv_open_global */
	PHDUMP_LOCKING,			/* locking */
	PHDUMP_BRLOCK,			/* brlock */
};

/** @brief "locking", "locking.tdb" and "/some/path/locking.tdb" are one. */
enum phdump_kind phdump_table_kind(const char *table);

/** @return true when the value was understood to its end */
bool phdump_decode_open(struct phstore_blob blob, struct phdump_out *out);
bool phdump_decode_locking(struct phstore_blob blob, struct phdump_out *out);
bool phdump_decode_brlock(struct phstore_blob blob, struct phdump_out *out);

/** @brief The key's meaning: a global id or a file id; else nothing. */
void phdump_decode_key(enum phdump_kind kind,
		       struct phstore_blob key,
		       struct phdump_out *out);

/** @brief The decoder for the kind; the bytes as they are for OTHER. */
bool phdump_decode_value(enum phdump_kind kind,
			 struct phstore_blob value,
			 struct phdump_out *out);

#endif /* PHSTORE_DECODE_H */

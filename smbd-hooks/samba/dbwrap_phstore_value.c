/*
 * phstore: the header of a value in the volatile database
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * 16 bytes, numbers little-endian: u32 version (1), u32 flags (bit 0: the
 * store has a copy), u32 bytes of padding behind the value, u32 0. A value
 * with another version, or more padding than bytes, is not ours.
 */

#include "includes.h"
#include "lib/util/util_tdb.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_private.h"
#include "lib/dbwrap/dbwrap_phstore_private.h"

void db_phstore_hdr_push(uint8_t buf[DB_PHSTORE_HDR_LEN], bool persistent)
{
	memset(buf, 0, DB_PHSTORE_HDR_LEN);
	SIVAL(buf, 0, 1);
	SIVAL(buf, 4, persistent ? 1 : 0);
}

/* Strip the header; an empty value has none. */
bool db_phstore_hdr_pull(TDB_DATA *value, bool *persistent)
{
	uint32_t version;
	uint32_t pad;

	*persistent = false;

	if (value->dsize == 0) {
		return true;
	}
	if (value->dsize < DB_PHSTORE_HDR_LEN) {
		return false;
	}
	version = IVAL(value->dptr, 0);
	if (version != 1) {
		return false;
	}
	*persistent = ((IVAL(value->dptr, 4) & 1) != 0);
	pad = IVAL(value->dptr, 8);
	value->dptr += DB_PHSTORE_HDR_LEN;
	value->dsize -= DB_PHSTORE_HDR_LEN;
	if (pad > value->dsize) {
		return false;
	}
	value->dsize -= pad;
	return true;
}

bool db_phstore_is_marker(TDB_DATA key)
{
	TDB_DATA marker = string_term_tdb_data(
		DBWRAP_PERSISTENT_MIGRATION_MARKER_KEY);

	return tdb_data_equal(key, marker);
}

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

void db_phstore_hdr_push(uint8_t buf[DB_PHSTORE_HDR_LEN],
			 bool persistent,
			 bool kept)
{
	memset(buf, 0, DB_PHSTORE_HDR_LEN);
	SIVAL(buf, 0, 1);
	SIVAL(buf, 4, (persistent ? 1 : 0) | (kept ? 2 : 0));
}

/* Strip the header; an empty value has none. */
bool db_phstore_hdr_pull(TDB_DATA *value, bool *persistent, bool *kept)
{
	uint32_t version;
	uint32_t pad;

	*persistent = false;
	*kept = false;

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
	*kept = *persistent && (IVAL(value->dptr, 4) & 2) != 0;
	pad = IVAL(value->dptr, 8);
	value->dptr += DB_PHSTORE_HDR_LEN;
	value->dsize -= DB_PHSTORE_HDR_LEN;
	if (pad > value->dsize) {
		return false;
	}
	value->dsize -= pad;
	return true;
}

NTSTATUS db_phstore_base_storev(const struct db_phstore_ctx *ctx,
				struct db_record *base_rec,
				bool persistent,
				bool kept,
				const TDB_DATA *dbufs,
				int num_dbufs,
				int flag)
{
	static const uint8_t zeros[DB_PHSTORE_PAD_OPEN] = {};
	uint8_t hdr[DB_PHSTORE_HDR_LEN];
	TDB_DATA all[num_dbufs + 2];
	size_t full = sizeof(hdr);
	size_t unit = ctx->pad;
	size_t pad;
	int i;

	db_phstore_hdr_push(hdr, persistent, kept);
	all[0] = (TDB_DATA) { .dptr = hdr, .dsize = sizeof(hdr) };
	for (i = 0; i < num_dbufs; i++) {
		all[i + 1] = dbufs[i];
		full += dbufs[i].dsize;
	}
	if (full <= DB_PHSTORE_PAD_SMALL) {
		unit = DB_PHSTORE_PAD_SMALL;
	}
	pad = (unit - full % unit) % unit;
	SIVAL(hdr, 8, pad);
	all[num_dbufs + 1] = (TDB_DATA) {
		.dptr = discard_const_p(uint8_t, zeros),
		.dsize = pad,
	};
	return dbwrap_record_storev(base_rec, all, num_dbufs + 2, flag);
}

bool db_phstore_is_marker(TDB_DATA key)
{
	TDB_DATA marker = string_term_tdb_data(
		DBWRAP_PERSISTENT_MIGRATION_MARKER_KEY);

	return tdb_data_equal(key, marker);
}

NTSTATUS dbwrap_phstore_form(struct db_phstore_ctx *ctx,
			     const TDB_DATA *dbufs,
			     int num_dbufs,
			     TDB_DATA *form,
			     size_t *len)
{
	size_t have = talloc_get_size(ctx->scratch);
	size_t need = 0;
	size_t ofs = 0;
	int i;

	for (i = 0; i < num_dbufs; i++) {
		need += dbufs[i].dsize;
		if (need < dbufs[i].dsize) {
			return NT_STATUS_INVALID_PARAMETER;
		}
	}
	if (need > have) {
		uint8_t *tmp = NULL;

		tmp = talloc_realloc(
			ctx, ctx->scratch, uint8_t, MAX(need * 2, 4096));
		if (tmp == NULL) {
			return NT_STATUS_NO_MEMORY;
		}
		ctx->scratch = tmp;
	}
	for (i = 0; i < num_dbufs; i++) {
		if (dbufs[i].dsize == 0) {
			continue;
		}
		memcpy(ctx->scratch + ofs, dbufs[i].dptr, dbufs[i].dsize);
		ofs += dbufs[i].dsize;
	}

	*form = (TDB_DATA) { .dptr = ctx->scratch, .dsize = need };
	*len = need;

	/* A value that does not parse is kept as it is. */
	(void)phstore_canon(ctx->kind, form->dptr, &form->dsize);

	return NT_STATUS_OK;
}

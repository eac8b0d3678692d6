/*
 * phstore: what of a dbwrap value has to survive
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#ifndef PHSTORE_CANON_H
#define PHSTORE_CANON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a pushed struct server_id: pid 8, task 4, vnn 4, unique 8. */
#define PHSTORE_CANON_SERVER_ID_LEN 24

/** How the values of a table are layered. */
enum phstore_canon_kind {
	PHSTORE_CANON_RAW = 0,		/* kept as they are */
	PHSTORE_CANON_WATCHED = 1,	/* watch header, data */
	PHSTORE_CANON_G_LOCK = 2,	/* watch header, g_lock header, data */
};

/** @return the kind for a table's name (no folder, no ".tdb"). */
enum phstore_canon_kind phstore_canon_kind_of(const char *table);

/**
 * @brief Turn a volatile value into its durable form, in place.
 *
 * The durable form is never longer than the volatile one and is itself a
 * valid volatile value: restoring is copying.
 *
 * @param[in,out] buf  the value
 * @param[in,out] len  its length; 0 afterwards: nothing in it must survive
 * @return false: it does not parse, buf and len are untouched
 */
bool phstore_canon(enum phstore_canon_kind kind, uint8_t *buf, size_t *len);

/**
 * @brief Put the durable form of another moment into a volatile value: who
 * waits for or holds the record now stays, the data is replaced.
 *
 * @param[in]  old    the volatile value; what does not parse is ignored
 * @param[in]  form   the durable form; form_len 0: nothing survives
 * @param[in]  stamp  mixed into the data's epoch, so that who remembers the
 *                    data by its epoch notices
 * @param[out] out    room for old_len + form_len bytes
 * @return bytes in out
 */
size_t phstore_canon_merge(enum phstore_canon_kind kind,
			   const uint8_t *old, size_t old_len,
			   const uint8_t *form, size_t form_len,
			   uint64_t stamp, uint8_t *out);

#endif /* PHSTORE_CANON_H */

/*
 * phstore tool: structured output, as text or as JSON
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_OUT_H
#define PHSTORE_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Deepest nesting of objects and arrays; deeper ones are left out. */
#define PHDUMP_DEPTH_MAX 12

/**
 * @file phstore_out.h
 *
 * @brief One stream of named values, shown as indented text or as JSON.
 *
 * Rule: whoever produces values (status, the record decoders) says them
 * once and does not know which form is asked for. What comes out is always
 * printable: JSON is valid UTF-8 whatever bytes were given, and text holds
 * no control character, as file names come from clients and end up on an
 * administrator's terminal.
 *
 * Running out of memory is remembered in `failed` and checked once at the
 * end; every function is safe to call in that state.
 */
struct phdump_out {
	char *buf;			/* NUL terminated when not NULL */
	size_t len;
	size_t cap;
	bool json;
	bool verbose;			/* text shows the details as well */
	bool failed;			/* out of memory, buf is not whole */
	unsigned int depth;		/* open objects and arrays */
	unsigned int skipped;		/* of those, too deep to be shown */
	bool is_array[PHDUMP_DEPTH_MAX];
	uint64_t count[PHDUMP_DEPTH_MAX];	/* values in it so far */
};

void phdump_init(struct phdump_out *out, bool json, bool verbose);
void phdump_free(struct phdump_out *out);

/** @brief Write what has been gathered and start afresh, keep the nesting.
 *  @return false when out of memory before, or the write failed */
bool phdump_flush(struct phdump_out *out, FILE *f);

/** @brief Begin an object. name is NULL at the top and inside arrays. */
void phdump_object(struct phdump_out *out, const char *name);
void phdump_array(struct phdump_out *out, const char *name);
/** @brief End the innermost object or array. */
void phdump_end(struct phdump_out *out);

/** @brief A text of our own making, or bytes that should be UTF-8. Bytes
 *  that are not come with a second value NAME_hex in JSON. */
void phdump_str(struct phdump_out *out, const char *name, const char *str);
void phdump_bytes(struct phdump_out *out, const char *name,
		  const void *data, size_t len);
void phdump_hex(struct phdump_out *out, const char *name,
		const void *data, size_t len);
void phdump_u64(struct phdump_out *out, const char *name, uint64_t value);
void phdump_i64(struct phdump_out *out, const char *name, int64_t value);
void phdump_bool(struct phdump_out *out, const char *name, bool value);
void phdump_null(struct phdump_out *out, const char *name);
/** @brief An identifier: a hex string, as JSON readers round large numbers. */
void phdump_id(struct phdump_out *out, const char *name,
	       uint64_t value, unsigned int digits);
void phdump_fmt(struct phdump_out *out, const char *name,
		const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** @brief A line of text form only. */
void phdump_line(struct phdump_out *out, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * @brief A cell of a line of text form: a key as phdump_key() shows it and a
 * tab; or, when last, any bytes escaped and a line's end.
 */
void phdump_cell(struct phdump_out *out, const void *data, size_t len,
		 bool last);

/** @brief Is it valid UTF-8 without control characters? */
bool phdump_is_text(const void *data, size_t len);

/**
 * @brief A key on a command line: as it is when it is only printable ASCII
 * without blanks, else "hex:..."; phstore_parse_key() reads it back.
 */
void phdump_key(struct phdump_out *out, const char *name,
		const void *data, size_t len);

#endif /* PHSTORE_OUT_H */

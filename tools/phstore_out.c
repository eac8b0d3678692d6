/*
 * phstore tool: structured output, as text or as JSON
 *
 * The text form is one value per line, "name   value", indented by two
 * columns per level; the JSON form is one value per line too, so that diff
 * and grep work on it. See phstore_out.h for the rules.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <inttypes.h>

#include "phstore_out.h"

/* Column at which values begin in text form, from the name's start. */
#define VALUE_COLUMN 18

static const char hexdigits[] = "0123456789abcdef";

void phdump_init(struct phdump_out *out, bool json, bool verbose)
{
	*out = (struct phdump_out) {
		.json = json,
		.verbose = verbose,
	};
}

void phdump_free(struct phdump_out *out)
{
	free(out->buf);
	*out = (struct phdump_out) {
		.json = out->json,
	};
}

static bool out_room(struct phdump_out *out, size_t len)
{
	size_t cap = out->cap;
	char *buf = NULL;

	if (out->failed) {
		return false;
	}
	if (len < out->cap - out->len) {
		return true;
	}
	if (len > SIZE_MAX / 4 || out->len > SIZE_MAX / 4) {
		out->failed = true;
		return false;
	}
	if (cap == 0) {
		cap = 4096;
	}
	while (cap - out->len <= len) {
		cap *= 2;
	}
	buf = realloc(out->buf, cap);
	if (buf == NULL) {
		out->failed = true;
		return false;
	}
	out->buf = buf;
	out->cap = cap;
	return true;
}

static void out_raw(struct phdump_out *out, const char *data, size_t len)
{
	bool ok;

	ok = out_room(out, len + 1);
	if (!ok) {
		return;
	}
	if (len != 0) {
		memcpy(out->buf + out->len, data, len);
	}
	out->len += len;
	out->buf[out->len] = '\0';
}

static void out_puts(struct phdump_out *out, const char *str)
{
	out_raw(out, str, strlen(str));
}

static void out_indent(struct phdump_out *out)
{
	unsigned int i;

	/* the outermost object of the text form is the page itself */
	for (i = out->json ? 0 : 1; i < out->depth; i++) {
		out_raw(out, "  ", 2);
	}
}

static void out_vfmt(struct phdump_out *out, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

/*
 * Our own texts are short; what comes from a record never goes through
 * here, so cutting at the buffer's end is a matter of our formats only.
 */
static void out_vfmt(struct phdump_out *out, const char *fmt, va_list ap)
{
	char tmp[1024];
	int ret;

	ret = vsnprintf(tmp, sizeof(tmp), fmt, ap);
	if (ret < 0) {
		out->failed = true;
		return;
	}
	out_puts(out, tmp);
}

bool phdump_flush(struct phdump_out *out, FILE *f)
{
	size_t written;

	if (out->failed) {
		return false;
	}
	if (out->len == 0) {
		return true;
	}
	written = fwrite(out->buf, 1, out->len, f);
	if (written != out->len) {
		return false;
	}
	out->len = 0;
	return true;
}

/* Length of the valid UTF-8 sequence at p, 0 when there is none. */
static size_t utf8_len(const uint8_t *p, size_t len)
{
	uint32_t code;
	size_t need;
	size_t i;

	if (p[0] < 0x80) {
		return 1;
	}
	if ((p[0] & 0xe0) == 0xc0) {
		need = 2;
		code = p[0] & 0x1f;
	} else if ((p[0] & 0xf0) == 0xe0) {
		need = 3;
		code = p[0] & 0x0f;
	} else if ((p[0] & 0xf8) == 0xf0) {
		need = 4;
		code = p[0] & 0x07;
	} else {
		return 0;
	}
	if (len < need) {
		return 0;
	}
	for (i = 1; i < need; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			return 0;
		}
		code = (code << 6) | (p[i] & 0x3f);
	}
	/* overlong forms, surrogates, beyond Unicode */
	if (need == 2 && code < 0x80) {
		return 0;
	}
	if (need == 3 && code < 0x800) {
		return 0;
	}
	if (need == 4 && (code < 0x10000 || code > 0x10ffff)) {
		return 0;
	}
	if (code >= 0xd800 && code <= 0xdfff) {
		return 0;
	}
	/* C1 control characters: terminals act on them */
	if (code >= 0x80 && code < 0xa0) {
		return 0;
	}
	return need;
}

static bool byte_is_control(uint8_t c)
{
	return c < 0x20 || c == 0x7f;
}

bool phdump_is_text(const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t i = 0;

	while (i < len) {
		size_t n;

		if (byte_is_control(p[i])) {
			return false;
		}
		n = utf8_len(p + i, len - i);
		if (n == 0) {
			return false;
		}
		i += n;
	}
	return true;
}

/*
 * Bytes as they may be shown: valid UTF-8 as it is, everything else as
 * \xNN. A backslash is doubled, so that the text form is unambiguous; in
 * JSON the escapes are the reader's business once more.
 */
static void out_escaped(struct phdump_out *out, const void *data, size_t len)
{
	const uint8_t *p = data;
	const char *backslash = out->json ? "\\\\" : "\\";
	size_t i = 0;

	while (i < len && !out->failed) {
		size_t n = utf8_len(p + i, len - i);

		if (n == 0 || byte_is_control(p[i])) {
			char tmp[3] = {
				'x',
				hexdigits[p[i] >> 4],
				hexdigits[p[i] & 15],
			};
			out_puts(out, backslash);
			out_raw(out, tmp, sizeof(tmp));
			i += 1;
			continue;
		}
		if (p[i] == '\\') {
			out_puts(out, backslash);
			out_puts(out, backslash);
		} else if (p[i] == '"' && out->json) {
			out_puts(out, "\\\"");
		} else {
			out_raw(out, (const char *)p + i, n);
		}
		i += n;
	}
}

/* A valid text in JSON: only what JSON itself wants escaped. */
static void out_json_text(struct phdump_out *out, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t i;

	for (i = 0; i < len && !out->failed; i++) {
		if (p[i] == '"' || p[i] == '\\') {
			out_puts(out, "\\");
		}
		out_raw(out, (const char *)p + i, 1);
	}
}

static void out_hexbytes(struct phdump_out *out, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t i;

	for (i = 0; i < len && !out->failed; i++) {
		char tmp[2] = {
			hexdigits[p[i] >> 4],
			hexdigits[p[i] & 15],
		};
		out_raw(out, tmp, sizeof(tmp));
	}
}

/* Everything that stands before a value. */
static bool out_name(struct phdump_out *out, const char *name)
{
	uint64_t *count = NULL;
	bool in_array = false;
	size_t len;

	if (out->skipped != 0) {
		return false;
	}
	if (out->depth != 0) {
		count = &out->count[out->depth - 1];
		in_array = out->is_array[out->depth - 1];
	}
	if (out->json) {
		if (count != NULL) {
			out_puts(out, *count == 0 ? "\n" : ",\n");
		}
		out_indent(out);
		if (name != NULL && !in_array) {
			out_puts(out, "\"");
			out_puts(out, name);
			out_puts(out, "\": ");
		}
	} else {
		out_indent(out);
		if (name != NULL && !in_array) {
			out_puts(out, name);
			len = strlen(name);
			do {
				out_puts(out, " ");
				len += 1;
			} while (len < VALUE_COLUMN);
		}
	}
	if (count != NULL) {
		*count += 1;
	}
	return true;
}

/* Everything that stands behind a value. */
static void out_eol(struct phdump_out *out)
{
	if (!out->json) {
		out_puts(out, "\n");
	}
}

static void out_begin(struct phdump_out *out, const char *name, bool is_array)
{
	uint64_t idx = 0;
	bool ok;

	if (out->depth == PHDUMP_DEPTH_MAX || out->skipped != 0) {
		out->skipped += 1;
		return;
	}
	if (out->depth != 0) {
		idx = out->count[out->depth - 1];
	}
	if (out->json) {
		ok = out_name(out, name);
		if (ok) {
			out_puts(out, is_array ? "[" : "{");
		}
	} else if (name != NULL) {
		out_indent(out);
		out_puts(out, name);
		out_puts(out, "\n");
	} else if (out->depth != 0) {
		char tmp[32];

		snprintf(tmp, sizeof(tmp), "[%"PRIu64"]\n", idx);
		out_indent(out);
		out_puts(out, tmp);
		out->count[out->depth - 1] += 1;
	}
	out->is_array[out->depth] = is_array;
	out->count[out->depth] = 0;
	out->depth += 1;
}

void phdump_object(struct phdump_out *out, const char *name)
{
	out_begin(out, name, false);
}

void phdump_array(struct phdump_out *out, const char *name)
{
	out_begin(out, name, true);
}

void phdump_end(struct phdump_out *out)
{
	bool is_array;
	uint64_t count;

	if (out->skipped != 0) {
		out->skipped -= 1;
		return;
	}
	if (out->depth == 0) {
		return;
	}
	out->depth -= 1;
	is_array = out->is_array[out->depth];
	count = out->count[out->depth];
	if (!out->json) {
		return;
	}
	if (count != 0) {
		out_puts(out, "\n");
		out_indent(out);
	}
	out_puts(out, is_array ? "]" : "}");
	if (out->depth == 0) {
		out_puts(out, "\n");
	}
}

void phdump_hex(struct phdump_out *out, const char *name,
		const void *data, size_t len)
{
	bool ok;

	ok = out_name(out, name);
	if (!ok) {
		return;
	}
	if (out->json) {
		out_puts(out, "\"");
	}
	out_hexbytes(out, data, len);
	if (out->json) {
		out_puts(out, "\"");
	}
	out_eol(out);
}

void phdump_bytes(struct phdump_out *out, const char *name,
		  const void *data, size_t len)
{
	bool is_text = phdump_is_text(data, len);
	bool ok;

	ok = out_name(out, name);
	if (!ok) {
		return;
	}
	if (!out->json) {
		out_escaped(out, data, len);
		out_eol(out);
		return;
	}
	out_puts(out, "\"");
	if (is_text) {
		out_json_text(out, data, len);
	} else {
		out_escaped(out, data, len);
	}
	out_puts(out, "\"");
	if (!is_text && name != NULL) {
		char tmp[64];

		snprintf(tmp, sizeof(tmp), "%s_hex", name);
		phdump_hex(out, tmp, data, len);
	}
}

void phdump_str(struct phdump_out *out, const char *name, const char *str)
{
	phdump_bytes(out, name, str, strlen(str));
}

static void out_plain(struct phdump_out *out, const char *name,
		      const char *value)
{
	bool ok;

	ok = out_name(out, name);
	if (!ok) {
		return;
	}
	out_puts(out, value);
	out_eol(out);
}

void phdump_u64(struct phdump_out *out, const char *name, uint64_t value)
{
	char tmp[32];

	snprintf(tmp, sizeof(tmp), "%"PRIu64, value);
	out_plain(out, name, tmp);
}

void phdump_i64(struct phdump_out *out, const char *name, int64_t value)
{
	char tmp[32];

	snprintf(tmp, sizeof(tmp), "%"PRId64, value);
	out_plain(out, name, tmp);
}

void phdump_bool(struct phdump_out *out, const char *name, bool value)
{
	if (out->json) {
		out_plain(out, name, value ? "true" : "false");
	} else {
		out_plain(out, name, value ? "yes" : "no");
	}
}

void phdump_null(struct phdump_out *out, const char *name)
{
	out_plain(out, name, out->json ? "null" : "-");
}

void phdump_id(struct phdump_out *out, const char *name,
	       uint64_t value, unsigned int digits)
{
	phdump_fmt(out, name, "0x%0*"PRIx64, (int)digits, value);
}

void phdump_fmt(struct phdump_out *out, const char *name,
		const char *fmt, ...)
{
	va_list ap;
	bool ok;

	ok = out_name(out, name);
	if (!ok) {
		return;
	}
	if (out->json) {
		out_puts(out, "\"");
	}
	va_start(ap, fmt);
	out_vfmt(out, fmt, ap);
	va_end(ap);
	if (out->json) {
		out_puts(out, "\"");
	}
	out_eol(out);
}

void phdump_line(struct phdump_out *out, const char *fmt, ...)
{
	va_list ap;

	if (out->json || out->skipped != 0) {
		return;
	}
	out_indent(out);
	va_start(ap, fmt);
	out_vfmt(out, fmt, ap);
	va_end(ap);
	out_puts(out, "\n");
}

/* May it stand on a command line as it is? */
static bool key_is_plain(const uint8_t *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (p[i] <= 0x20 || p[i] >= 0x7f) {
			return false;
		}
	}
	if (len >= 4) {
		int cmp = memcmp(p, "hex:", 4);

		/* what looks like our escape must not be taken for it */
		if (cmp == 0) {
			return false;
		}
	}
	return len != 0;
}

static void out_key(struct phdump_out *out, const void *data, size_t len)
{
	bool plain = key_is_plain(data, len);

	if (!plain) {
		out_puts(out, "hex:");
		out_hexbytes(out, data, len);
	} else if (out->json) {
		out_json_text(out, data, len);
	} else {
		out_raw(out, data, len);
	}
}

void phdump_key(struct phdump_out *out, const char *name,
		const void *data, size_t len)
{
	bool ok;

	ok = out_name(out, name);
	if (!ok) {
		return;
	}
	if (out->json) {
		out_puts(out, "\"");
	}
	out_key(out, data, len);
	if (out->json) {
		out_puts(out, "\"");
	}
	out_eol(out);
}

void phdump_cell(struct phdump_out *out, const void *data, size_t len,
		 bool last)
{
	if (out->json) {
		return;
	}
	if (last) {
		out_escaped(out, data, len);
		out_eol(out);
		return;
	}
	out_key(out, data, len);
	out_puts(out, "\t");
}

/*
 * phstored: JSON, written from left to right
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Members are separated here, not by the caller. Out of memory is sticky and
 * shows in phd_json_text().
 */

#include "phstored.h"

#include <inttypes.h>
#include <string.h>

struct phd_json {
	char *text;
	bool comma;		/* something stands in this bracket */
};

struct phd_json *phd_json_new(TALLOC_CTX *mem_ctx)
{
	struct phd_json *j = talloc_zero(mem_ctx, struct phd_json);

	if (j != NULL) {
		j->text = talloc_strdup(j, "");
	}
	return j;
}

static void put(struct phd_json *j, const char *s)
{
	if (j->text != NULL) {
		j->text = talloc_strdup_append_buffer(j->text, s);
	}
}

static void put_quoted(struct phd_json *j, const char *s)
{
	char buf[8];

	put(j, "\"");
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\') {
			snprintf(buf, sizeof(buf), "\\%c", c);
		} else if (c < 0x20 || c >= 0x7f) {
			snprintf(buf, sizeof(buf), "\\u%04x", c);
		} else {
			snprintf(buf, sizeof(buf), "%c", c);
		}
		put(j, buf);
	}
	put(j, "\"");
}

static void member(struct phd_json *j, const char *key)
{
	if (j->comma) {
		put(j, ",");
	}
	j->comma = true;
	if (key != NULL) {
		put_quoted(j, key);
		put(j, ":");
	}
}

void phd_json_begin(struct phd_json *j, const char *key, char bracket)
{
	char s[2] = { bracket, '\0' };

	member(j, key);
	put(j, s);
	j->comma = false;
}

void phd_json_end(struct phd_json *j, char bracket)
{
	char s[2] = { bracket, '\0' };

	put(j, s);
	j->comma = true;
}

void phd_json_str(struct phd_json *j, const char *key, const char *value)
{
	member(j, key);
	put_quoted(j, value);
}

void phd_json_u64(struct phd_json *j, const char *key, uint64_t value)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "%" PRIu64, value);
	member(j, key);
	put(j, buf);
}

void phd_json_bool(struct phd_json *j, const char *key, bool value)
{
	member(j, key);
	put(j, value ? "true" : "false");
}

const char *phd_json_text(struct phd_json *j)
{
	return j->text;
}

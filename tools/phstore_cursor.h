/*
 * phstore tool: reading bytes that nobody vouches for
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#ifndef PHSTORE_CURSOR_H
#define PHSTORE_CURSOR_H

#include "phstore_out.h"

/**
 * @file phstore_cursor.h
 *
 * @brief A bounds-checked place in a value, and what is often found there.
 *
 * The cur_show_* functions read one thing and show it under a name; they
 * show nothing when it could not be read.
 */

#define SERVER_ID_LEN 24

/*
 * A place in the bytes. The first read beyond the end sets `reason`; all
 * later reads give zeros. So a decoder reads a group of members, then looks
 * at `reason` once.
 */
struct cursor {
	const uint8_t *data;
	size_t len;
	size_t pos;
	const char *reason;
};

struct guid_str {
	char s[40];
};

struct bit_name {
	uint32_t bit;
	const char *name;
};

/** @brief At the begin of the bytes; they may be NULL when len is 0. */
struct cursor cur_init(const void *data, size_t len);

/** @return n bytes, NULL when there are fewer */
const uint8_t *cur_take(struct cursor *c, size_t n);
/** @brief Skip to the next multiple of n. */
void cur_align(struct cursor *c, size_t n);

/** @brief An integer of n bytes at a multiple of align. */
uint64_t cur_le(struct cursor *c, size_t n, size_t align);
uint8_t cur_u8(struct cursor *c);
uint16_t cur_u16(struct cursor *c);
uint32_t cur_u32(struct cursor *c);
uint64_t cur_u64(struct cursor *c);
/** @brief NDR's udlong and NTTIME, which align to 4. */
uint64_t cur_u64_align4(struct cursor *c);
struct guid_str cur_guid(struct cursor *c);

/**
 * @brief Show the reason, and all bytes from here on.
 * @return false, for the caller to pass on
 */
bool cur_undecoded(struct cursor *c, struct phdump_out *out,
		   const char *reason);

void cur_show_nttime(struct phdump_out *out, const char *name,
		     uint64_t nttime);
void cur_show_unix_time(struct phdump_out *out, const char *name,
			uint64_t s, uint32_t us);
void cur_show_server_id(struct phdump_out *out, const char *name,
			struct cursor *c);
void cur_show_file_id(struct phdump_out *out, const char *name,
		      struct cursor *c);
bool cur_show_sid(struct phdump_out *out, const char *name,
		  struct cursor *c);
/** @brief What an NDR string pointer points to. */
bool cur_show_string(struct phdump_out *out, const char *name,
		     struct cursor *c);
void cur_show_bits(struct phdump_out *out, const char *name,
		   uint32_t value, const struct bit_name *names,
		   size_t num_names);

#define SHOW_BITS(out, name, value, names) \
	cur_show_bits(out, name, value, names, \
		      sizeof(names) / sizeof((names)[0]))

#endif /* PHSTORE_CURSOR_H */

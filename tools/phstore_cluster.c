/*
 * phstore tool: what phstored tells of the cluster, and force
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * STORE/phstored.sock takes a line and answers; to `status` with JSON. Here
 * that JSON is walked and shown through the same functions as everything
 * else, so that text and JSON stay one thing. It comes from a daemon of this
 * machine under the same user, but is read as if it could be anything.
 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "phstore_ship.h"
#include "phstore_tool.h"

#define ANSWER_MAX (1024 * 1024)
#define ANSWER_S 5

/* malloc'd, NUL terminated; NULL: nobody answers */
static char *ask_daemon(const char *dir, const char *line)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = ANSWER_S };
	char *buf = NULL;
	size_t len = 0;
	ssize_t n;
	int fd, ret;

	n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/phstored.sock",
		     dir);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path)) {
		return NULL;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1) {
		return NULL;
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	ret = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret == 0) {
		n = send(fd, line, strlen(line), MSG_NOSIGNAL);
		buf = n == (ssize_t)strlen(line) ? malloc(ANSWER_MAX) : NULL;
	}
	while (buf != NULL && len < ANSWER_MAX - 1) {
		n = recv(fd, buf + len, ANSWER_MAX - 1 - len, 0);
		if (n <= 0) {
			break;
		}
		len += (size_t)n;
	}
	close(fd);
	if (buf != NULL) {
		buf[len] = '\0';
	}
	if (len == 0) {
		free(buf);
		return NULL;
	}
	return buf;
}

/* ---- JSON, what phstored writes of it ---- */

static const char *skip(const char *p)
{
	while (isspace((unsigned char)*p)) {
		p++;
	}
	return p;
}

/* A string; what is not ASCII in it becomes '?'. NULL: not well formed */
static const char *read_string(const char *p, char *buf, size_t size)
{
	size_t len = 0;

	if (*p != '"') {
		return NULL;
	}
	for (p++; *p != '"'; p++) {
		char c = *p;

		if (c == '\0') {
			return NULL;
		}
		if (c == '\\') {
			p++;
			c = *p;
			if (c == 'u') {
				size_t i;

				for (i = 1; i <= 4; i++) {
					if (!isxdigit((unsigned char)p[i])) {
						return NULL;
					}
				}
				p += 4;
				c = '?';
			} else if (c != '"' && c != '\\') {
				return NULL;
			}
		}
		if (len + 1 < size) {
			buf[len++] = c;
		}
	}
	buf[len] = '\0';
	return p + 1;
}

static const char *show_value(struct phdump_out *out, const char *name,
			      const char *p, int depth);

static const char *show_members(struct phdump_out *out, const char *p,
				char end, int depth)
{
	char name[64];

	p = skip(p + 1);
	if (*p == end) {
		return p + 1;
	}
	while (p != NULL) {
		bool named = end == '}';

		p = skip(p);
		if (named) {
			p = read_string(p, name, sizeof(name));
			p = p != NULL ? skip(p) : NULL;
			if (p == NULL || *p != ':') {
				return NULL;
			}
			p = skip(p + 1);
		}
		p = show_value(out, named ? name : NULL, p, depth);
		p = p != NULL ? skip(p) : NULL;
		if (p != NULL && *p == end) {
			return p + 1;
		}
		if (p != NULL && *p++ != ',') {
			return NULL;
		}
	}
	return NULL;
}

static const char *show_value(struct phdump_out *out, const char *name,
			      const char *p, int depth)
{
	char text[1024];
	char *end = NULL;

	if (depth > 8) {
		return NULL;
	}
	switch (*p) {
	case '{':
		phdump_object(out, name);
		p = show_members(out, p, '}', depth + 1);
		phdump_end(out);
		return p;
	case '[':
		phdump_array(out, name);
		p = show_members(out, p, ']', depth + 1);
		phdump_end(out);
		return p;
	case '"':
		p = read_string(p, text, sizeof(text));
		if (p != NULL) {
			phdump_str(out, name, text);
		}
		return p;
	case 't':
		phdump_bool(out, name, true);
		return strncmp(p, "true", 4) == 0 ? p + 4 : NULL;
	case 'f':
		phdump_bool(out, name, false);
		return strncmp(p, "false", 5) == 0 ? p + 5 : NULL;
	default:
		if (!isdigit((unsigned char)*p)) {
			return NULL;
		}
		phdump_u64(out, name, strtoull(p, &end, 10));
		return end;
	}
}

/* ---- commands ---- */

static void show_ship(struct phdump_out *out,
		      const struct phstore_ship_state *st)
{
	phdump_str(out, "sink", st->kind);
	phdump_str(out, "cluster", st->name);
	phdump_bool(out, "takes_changes", st->writable);
	if (!st->writable) {
		phdump_str(out, "reason", st->attached ? st->reason :
			   "phstored does not run");
	}
	phdump_bool(out, "phstored_runs", st->attached);
	phdump_u64(out, "bytes_not_safe_yet", st->head_lsn > st->disk_lsn ?
		   st->head_lsn - st->disk_lsn : 0);
	phdump_u64(out, "times_fenced", st->num_fenced);
}

const char *phtool_show_sink(struct phtool *tool, enum phtool_exit *code)
{
	struct phdump_out *out = &tool->out;
	struct phstore_ship_state st = {};
	const char *health = NULL;
	char *answer = NULL;
	enum phstore_err err;

	err = phstore_ship_get_state(tool->store, &st);
	if (err != PHSTORE_OK) {
		return NULL;
	}
	phdump_object(out, "cluster");
	show_ship(out, &st);
	if (!st.writable) {
		health = "not ready";
		*code = PHTOOL_NOT_READY;
	}
	if (st.attached && phtool_is_live(tool)) {
		answer = ask_daemon(tool->dir, "status\n");
	}
	if (answer != NULL) {
		if (st.writable &&
		    strstr(answer, "\"fewer_copies\":true") != NULL)
		{
			health = "fewer copies";
			*code = PHTOOL_FEW_COPIES;
		}
		(void)show_value(out, "phstored", skip(answer), 0);
		free(answer);
	}
	phdump_end(out);
	return health;
}

enum phtool_exit phtool_force(struct phtool *tool)
{
	char line[512];
	char *answer = NULL;
	bool ok;
	int n;

	n = snprintf(line, sizeof(line), "force %s\n", tool->argv[0]);
	if (n < 0 || (size_t)n >= sizeof(line) ||
	    strpbrk(tool->argv[0], "\r\n") != NULL)
	{
		phtool_error(tool, "a list of nodes, as 1,2");
		return PHTOOL_USAGE;
	}
	answer = ask_daemon(tool->dir, line);
	if (answer == NULL) {
		phtool_error(tool, "%s/phstored.sock: no answer: %s",
			     tool->dir, strerror(errno));
		return PHTOOL_STORE;
	}
	ok = strncmp(answer, "ok", 2) == 0;
	if (!ok) {
		answer[strcspn(answer, "\n")] = '\0';
		phtool_error(tool, "%s", answer);
	}
	free(answer);
	return ok ? PHTOOL_OK : PHTOOL_STORE;
}

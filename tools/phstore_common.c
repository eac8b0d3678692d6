/*
 * phstore tool: opening a store, errors, arguments
 *
 * Rule: every error names the store or its file, the reason, and where it is
 * not obvious what to do about it; the exit code follows from the library's
 * error alone (exit_of), so that all commands agree.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#define _GNU_SOURCE

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "phstore_tool.h"

void phtool_error(struct phtool *tool, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	if (tool->command != NULL) {
		fprintf(stderr, "phstore %s: ", tool->command);
	} else {
		fprintf(stderr, "phstore: ");
	}
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
}

static enum phtool_exit exit_of(enum phstore_err err)
{
	switch (err) {
	case PHSTORE_OK:
		return PHTOOL_OK;
	case PHSTORE_ERR_NOT_FOUND:
		return PHTOOL_NOT_FOUND;
	case PHSTORE_ERR_CONFLICT:
	case PHSTORE_ERR_STALE:
		return PHTOOL_CONFLICT;
	case PHSTORE_ERR_INVALID:
	case PHSTORE_ERR_TOO_BIG:
		return PHTOOL_USAGE;
	case PHSTORE_ERR_LATCHED:
		return PHTOOL_LATCHED;
	case PHSTORE_ERR_CORRUPT:
		return PHTOOL_DAMAGED;
	case PHSTORE_ERR_NOT_READY:
		return PHTOOL_NOT_READY;
	default:
		break;
	}
	return PHTOOL_STORE;
}

/* What a person can do about it, where the error alone does not tell. */
static const char *hint_of(enum phstore_err err)
{
	switch (err) {
	case PHSTORE_ERR_NO_STORE:
		return "check --store, or make one with: put --create";
	case PHSTORE_ERR_VOLATILE_FS:
		return "use a folder on a disk, or --allow-volatile for a "
		       "test";
	case PHSTORE_ERR_NEWER:
		return "use the phstore of that release";
	case PHSTORE_ERR_LATCHED:
		return "find out why the disk failed, then restart smbd: the "
		       "store recovers when all processes have closed it";
	default:
		break;
	}
	return NULL;
}

enum phtool_exit phtool_fail(struct phtool *tool, enum phstore_err err,
			     const char *what)
{
	const char *detail = phstore_last_error();
	const char *hint = hint_of(err);

	if (detail[0] == '\0') {
		phtool_error(tool, "%s: %s (%s)", what,
			     phstore_strerror(err), phstore_errname(err));
	} else {
		phtool_error(tool, "%s: %s (%s): %s", what,
			     phstore_strerror(err), phstore_errname(err),
			     detail);
	}
	if (hint != NULL) {
		phtool_error(tool, "%s", hint);
	}
	return exit_of(err);
}

static void log_to_stderr(void *private_data, int level, const char *msg)
{
	struct phtool *tool = private_data;

	if (level <= 4 || tool->verbose) {
		phtool_error(tool, "%s", msg);
	}
}

/*
 * Does anybody have it open? Every user of a store holds a shared lock on
 * byte 0 of its file `lock`. Opening a store nobody has open recovers it,
 * which writes; who only looks must not do that, the more so when something
 * went wrong and the files are evidence.
 */
static bool store_is_live(const char *dir)
{
	struct flock fl = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_len = 1,
	};
	char *path = talloc_asprintf(NULL, "%s/lock", dir);
	int fd, ret;

	if (path == NULL) {
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	TALLOC_FREE(path);
	if (fd == -1) {
		return false;
	}
	ret = fcntl(fd, F_OFD_GETLK, &fl);
	close(fd);
	return ret == 0 && fl.l_type != F_UNLCK;
}

bool phtool_is_live(struct phtool *tool)
{
	return store_is_live(tool->dir);
}

enum phstore_err phtool_try_open_read(struct phtool *tool)
{
	struct phstore_open_options opts = {
		/* looking at what is there is fine wherever it is */
		.flags = PHSTORE_OPEN_ALLOW_VOLATILE |
			 PHSTORE_OPEN_ANY_SINK,
		.log_fn = log_to_stderr,
		.private_data = tool,
	};
	enum phstore_err err = PHSTORE_ERR_READ_ONLY;
	bool live = false;

	if (!tool->offline) {
		live = store_is_live(tool->dir);
	}
	if (live) {
		err = phstore_open(NULL, tool->dir, &opts, &tool->store);
	}
	if (err == PHSTORE_ERR_READ_ONLY) {
		opts.flags |= PHSTORE_OPEN_RDONLY;
		err = phstore_open(NULL, tool->dir, &opts, &tool->store);
	}
	if (err != PHSTORE_OK) {
		tool->store = NULL;
	}
	return err;
}

enum phtool_exit phtool_open_read(struct phtool *tool)
{
	enum phstore_err err = phtool_try_open_read(tool);

	if (err != PHSTORE_OK) {
		return phtool_fail(tool, err, tool->dir);
	}
	return PHTOOL_OK;
}

enum phtool_exit phtool_open_write(struct phtool *tool)
{
	struct phstore_open_options opts = {
		.flags = PHSTORE_OPEN_ANY_SINK,
		.segment_size = tool->segment_size,
		.log_fn = log_to_stderr,
		.private_data = tool,
	};
	enum phstore_err err;

	if (tool->create) {
		opts.flags |= PHSTORE_OPEN_CREATE;
	}
	if (tool->allow_volatile) {
		opts.flags |= PHSTORE_OPEN_ALLOW_VOLATILE;
	}
	err = phstore_open(NULL, tool->dir, &opts, &tool->store);
	if (err != PHSTORE_OK) {
		tool->store = NULL;
		return phtool_fail(tool, err, tool->dir);
	}
	return PHTOOL_OK;
}

enum phtool_exit phtool_flush(struct phtool *tool)
{
	bool ok;
	int ret;

	ok = phdump_flush(&tool->out, stdout);
	if (!ok) {
		phtool_error(tool, "standard output: %s",
			     tool->out.failed ? "out of memory" :
						strerror(errno));
		return PHTOOL_STORE;
	}
	ret = fflush(stdout);
	if (ret != 0) {
		phtool_error(tool, "standard output: %s", strerror(errno));
		return PHTOOL_STORE;
	}
	return PHTOOL_OK;
}

enum phtool_exit phtool_warn_damage(struct phtool *tool)
{
	struct phstore_stat st = {};
	enum phstore_err err;

	err = phstore_stat(tool->store, &st);
	if (err != PHSTORE_OK || st.num_damaged == 0) {
		return PHTOOL_OK;
	}
	phtool_error(tool, "%s: %"PRIu64" damaged region%s in the log, records "
		     "in there are missing from this; see: phstore verify",
		     tool->dir, st.num_damaged,
		     st.num_damaged == 1 ? "" : "s");
	return PHTOOL_DAMAGED;
}

static bool parse_u64(const char *str, char **end, uint64_t *value)
{
	int is_digit = isdigit((unsigned char)str[0]);
	unsigned long long v;

	if (!is_digit) {
		return false;
	}
	errno = 0;
	v = strtoull(str, end, 10);
	if (errno != 0) {
		return false;
	}
	*value = v;
	return true;
}

bool phtool_parse_version(const char *str, struct phstore_version *version)
{
	char *end = NULL;
	bool ok;

	ok = parse_u64(str, &end, &version->epoch);
	if (!ok || *end != '.') {
		return false;
	}
	ok = parse_u64(end + 1, &end, &version->seq);
	if (!ok || *end != '\0') {
		return false;
	}
	return true;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return -1;
}

bool phtool_parse_bytes(struct phtool *tool, TALLOC_CTX *mem_ctx,
			const char *what, const char *arg,
			struct phstore_blob *blob)
{
	bool is_hex = tool->hex;
	uint8_t *buf = NULL;
	size_t len;
	size_t i;
	int cmp;

	cmp = strncmp(arg, "hex:", 4);
	if (cmp == 0) {
		is_hex = true;
		arg += 4;
	}
	len = strlen(arg);
	if (!is_hex) {
		*blob = (struct phstore_blob) { .data = arg, .len = len };
		return true;
	}
	if (len % 2 != 0) {
		phtool_error(tool, "%s \"%s\": an odd number of hex digits",
			     what, arg);
		return false;
	}
	buf = talloc_array(mem_ctx, uint8_t, len / 2 + 1);
	if (buf == NULL) {
		phtool_error(tool, "out of memory");
		return false;
	}
	for (i = 0; i < len / 2; i++) {
		int hi = hex_value(arg[2 * i]);
		int lo = hex_value(arg[2 * i + 1]);

		if (hi < 0 || lo < 0) {
			phtool_error(tool, "%s \"%s\": not hex digits at %zu",
				     what, arg, 2 * i);
			return false;
		}
		buf[i] = hi * 16 + lo;
	}
	*blob = (struct phstore_blob) { .data = buf, .len = len / 2 };
	return true;
}

const char *phtool_class_name(enum phstore_class durability)
{
	switch (durability) {
	case PHSTORE_CLASS_LOCAL:
		return "local";
	case PHSTORE_CLASS_REPLICATED:
		return "replicated";
	case PHSTORE_CLASS_SYNC:
		return "sync";
	}
	return "unknown";
}

void phtool_show_record_head(struct phtool *tool, const char *table,
			     const struct phstore_record *rec)
{
	struct phdump_out *out = &tool->out;

	phdump_str(out, "table", table);
	phdump_key(out, "key", rec->key.data, rec->key.len);
	if (out->json) {
		phdump_hex(out, "key_hex", rec->key.data, rec->key.len);
	}
	phdump_fmt(out, "version", "%"PRIu64".%"PRIu64,
		   rec->version.epoch, rec->version.seq);
	phdump_str(out, "class", phtool_class_name(rec->durability));
	phdump_u64(out, "lsn", rec->lsn);
	phdump_u64(out, "size", rec->value.len);
}

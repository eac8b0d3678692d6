/*
 * phstore: the name of a store in RADOS
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * "rados:pool/namespace?option=value&option=value", as rados.h lists them.
 * An option nobody knows is an error: a misspelt "keyring" must not become
 * a default.
 */

#include "rados_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool number(const char *s, unsigned long min, unsigned long max,
		   unsigned long *v)
{
	char *end = NULL;

	if (*s < '0' || *s > '9') {
		return false;
	}
	errno = 0;
	*v = strtoul(s, &end, 10);
	return errno == 0 && *end == '\0' && *v >= min && *v <= max;
}

static bool class_option(const char *v, enum phr_use_class *u)
{
	static const struct {
		const char *name;
		enum phr_use_class u;
	} words[] = {
		{ "auto", PHR_CLASS_AUTO },
		{ "no", PHR_CLASS_NO },
		{ "yes", PHR_CLASS_YES },
	};
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(v, words[i].name) == 0) {
			*u = words[i].u;
			return true;
		}
	}
	return false;
}

static bool option(struct phr_conf *conf, const char *name, const char *v)
{
	unsigned long n = 0;
	bool ok = true;

	if (strcmp(name, "conf") == 0) {
		conf->conf = v;
	} else if (strcmp(name, "id") == 0) {
		conf->id = v;
	} else if (strcmp(name, "keyring") == 0) {
		conf->keyring = v;
	} else if (strcmp(name, "writer") == 0) {
		conf->writer = v;
		ok = phr_writer_ok(v, strlen(v));
	} else if (strcmp(name, "class") == 0) {
		ok = class_option(v, &conf->use_class);
	} else if (strcmp(name, "shards") == 0) {
		ok = number(v, 1, PHR_SHARDS_MAX, &n);
		conf->shards = n;
	} else if (strcmp(name, "timeout") == 0) {
		ok = number(v, 1, 86400, &n);
		conf->timeout_ms = n * 1000;
	} else if (strcmp(name, "queue") == 0) {
		ok = number(v, 1, 65536, &n);
		conf->queue_bytes = n << 20;
	} else if (strcmp(name, "gather") == 0) {
		ok = number(v, 0, 100000, &n);
		conf->gather_us = n;
	} else {
		return false;
	}
	return ok && v[0] != '\0';
}

enum phstore_err phr_conf_parse(TALLOC_CTX *mem_ctx, const char *path,
				struct phr_conf *conf)
{
	static const char scheme[] = "rados:";
	char *copy = NULL;
	char *opts = NULL;
	char *slash = NULL;
	char *save = NULL;
	char *o = NULL;

	*conf = (struct phr_conf) {
		.ns = "default",
		.id = "admin",
		.shards = 1,
		.timeout_ms = 60000,
		.queue_bytes = 64 << 20,
		.gather_us = 10000,
	};
	if (strncmp(path, scheme, strlen(scheme)) == 0) {
		path += strlen(scheme);
	}
	copy = talloc_strdup(mem_ctx, path);
	if (copy == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	opts = strchr(copy, '?');
	if (opts != NULL) {
		*opts = '\0';
		opts += 1;
	}
	conf->pool = copy;
	slash = strchr(copy, '/');
	if (slash != NULL) {
		*slash = '\0';
		conf->ns = slash + 1;
	}
	if (conf->pool[0] == '\0' || conf->ns[0] == '\0') {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "rados:%s: no pool or namespace", path);
	}
	for (o = opts != NULL ? strtok_r(opts, "&", &save) : NULL; o != NULL;
	     o = strtok_r(NULL, "&", &save))
	{
		char *eq = strchr(o, '=');
		bool ok;

		if (eq == NULL) {
			return phstore_fail(PHSTORE_ERR_INVALID,
					    "rados: \"%s\" is no option=value",
					    o);
		}
		*eq = '\0';
		ok = option(conf, o, eq + 1);
		if (!ok) {
			return phstore_fail(PHSTORE_ERR_INVALID,
					    "rados: %s=%s is not known or "
					    "out of range", o, eq + 1);
		}
	}
	return PHSTORE_OK;
}

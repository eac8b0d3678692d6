/*
 * phstored: configuration
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * `key = value` lines, # and ; begin a comment, [sections] are ignored, as
 * in smb.conf; every key is an option as well (`cluster id` is
 * --cluster-id). Options win. What is not understood is an error that names
 * the key and the place: the daemon does not start with half of what was
 * meant.
 */

#include "phstored.h"
#include "phstore_nodes.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { STR, U32, U64, SIZE, FLAG };

struct key {
	const char *name;
	enum kind kind;
	size_t ofs;
	uint64_t min, max;
};

#define AT(field) offsetof(struct phd_config, field)

static const struct key keys[] = {
	{ "store", STR, AT(store), 0, 0 },
	{ "sink", STR, AT(sink), 0, 0 },
	{ "cluster", STR, AT(cluster), 0, 0 },
	{ "cluster id", U64, AT(cluster_id), 1, UINT64_MAX },
	{ "copies", U32, AT(copies), 1, PHSTORE_NODES_MAX },
	{ "zones", STR, AT(zones), 0, 0 },
	{ "backlog", SIZE, AT(backlog), 1 << 20, 1ULL << 40 },
	{ "full retry", U32, AT(full_retry), 1, 86400 },
	{ "segment size", SIZE, AT(segment_size), 64 * 1024, 1 << 30 },
	{ "ctdb socket", STR, AT(ctdb_socket), 0, 0 },
	{ "link port", U32, AT(link_port), 0, 65535 },
	{ "no links", FLAG, AT(no_links), 0, 0 },
	{ "peers dir", STR, AT(peers_dir), 0, 0 },
	{ "node", U32, AT(node), 0, PHSTORE_NODES_MAX - 1 },
	{ "pid file", STR, AT(pid_file), 0, 0 },
	{ "debug level", U32, AT(debug), 0, 10 },
	{ "allow volatile", FLAG, AT(allow_volatile), 0, 0 },
	{ "adopt", FLAG, AT(adopt), 0, 0 },
};

static const char usage[] =
"Usage: phstored [--config FILE] --store FOLDER [OPTION...]\n"
"\n"
"Ships the log of a phstore to the other nodes of a CTDB cluster, and keeps\n"
"copies of theirs, or into RADOS. Stays in the foreground and logs to stderr.\n"
"\n"
"  --config FILE         lines `key = value`; the keys are the options below\n"
"  --store FOLDER        the store, made if it is not there\n"
"  --sink NAME           where the log is shipped to: ctdb (default) or, if\n"
"                        built with librados, rados\n"
"  --cluster NAME        name of the cluster, up to 23 bytes (ctdb)\n"
"  --cluster-id NUMBER   tells messages of two clusters of one name apart\n"
"  --copies K            nodes that have a change before it is\n"
"                        acknowledged, this one included (2)\n"
"  --zones LIST          nodes that fail together, as 0,1/2,3: copies go to\n"
"                        other zones first\n"
"  --backlog SIZE        log not yet shipped, at most (256M)\n"
"  --full-retry SECONDS  when a node whose disk is full asks to join again,\n"
"                        room or not (60)\n"
"  --segment-size SIZE   of a new store\n"
"  --ctdb-socket PATH    of ctdbd (/run/ctdb/ctdbd.socket)\n"
"  --link-port PORT      for links from other nodes (any); at the node's ctdb\n"
"                        address\n"
"  --no-links            messages to other nodes only through ctdbd\n"
"  --node NUMBER         of this node, with the sink rados; in a cluster the\n"
"                        number ctdb gives it\n"
"  --rados-store NAME    rados:POOL[/NAMESPACE][?OPTION=VALUE...]\n"
"  --rados-takeover yes  without ctdb: fence the node that had the store\n"
"  --rados-blocklist yes have the Ceph cluster block who is fenced\n"
"  --rados-prune-after N deletions after which tombstones go (10000)\n"
"  --pid-file PATH       written at the start, removed at the end\n"
"  --debug-level N       0 errors to 10 (3)\n"
"  --allow-volatile      the store may lie on a tmpfs\n"
"  --adopt               take over the records of a store without cluster\n"
"                        (not with the sink ctdb: its first epoch is empty)\n"
"  --help, --version\n"
"\n"
"SIGTERM ends it after what is in the log was shipped. Exit codes: 0 ended\n"
"as asked, 2 usage or configuration, 3 the store cannot be opened, 4 another\n"
"phstored has it, 5 refused (another cluster, node or number of copies),\n"
"6 the store failed while at work.\n";

static bool parse_number(const char *s, bool size, uint64_t *value)
{
	char *end = NULL;
	unsigned shift = 0;

	if (!isdigit((unsigned char)*s)) {
		return false;
	}
	errno = 0;
	*value = strtoull(s, &end, 0);
	if (errno != 0) {
		return false;
	}
	if (size && *end != '\0') {
		const char *units = "kKmMgG";
		const char *p = strchr(units, *end);

		if (p == NULL) {
			return false;
		}
		shift = 10 * (1 + (unsigned)(p - units) / 2);
		end++;
	}
	if (*end != '\0' || *value > UINT64_MAX >> shift) {
		return false;
	}
	*value <<= shift;
	return true;
}

static bool parse_flag(const char *s, bool *value)
{
	static const char *const yes[] = { "yes", "true", "1", "" };
	static const char *const no[] = { "no", "false", "0" };
	size_t i;

	for (i = 0; i < 4; i++) {
		if (strcasecmp(s, yes[i]) == 0) {
			*value = true;
			return true;
		}
	}
	for (i = 0; i < 3; i++) {
		if (strcasecmp(s, no[i]) == 0) {
			*value = false;
			return true;
		}
	}
	return false;
}

static bool set_other(struct phd_config *conf, const char *key,
		      const char *value)
{
	size_t n = 0;

	while (conf->other != NULL && conf->other[n] != NULL) {
		n += 2;
	}
	conf->other = talloc_realloc(conf, conf->other, const char *, n + 3);
	if (conf->other == NULL) {
		return false;
	}
	conf->other[n] = talloc_strdup(conf, key);
	conf->other[n + 1] = talloc_strdup(conf, value);
	conf->other[n + 2] = NULL;
	return conf->other[n] != NULL && conf->other[n + 1] != NULL;
}

const char *phd_config_other(const struct phd_config *conf, const char *key)
{
	const char *value = NULL;
	size_t n;

	for (n = 0; conf->other != NULL && conf->other[n] != NULL; n += 2) {
		if (strcmp(conf->other[n], key) == 0) {
			value = conf->other[n + 1];
		}
	}
	return value;
}

/* where: for the error's text */
static bool set(struct phd_config *conf, const char *name, const char *value,
		const char *where)
{
	const struct key *k = NULL;
	uint64_t n = 0;
	uint8_t *field = NULL;
	bool ok, flag = false;
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i].name, name) == 0) {
			k = &keys[i];
		}
	}
	if (k == NULL) {
		if (strncmp(name, "rados ", 6) == 0) {
			return set_other(conf, name, value);
		}
		phd_log(0, "%s: there is no \"%s\"", where, name);
		return false;
	}
	field = (uint8_t *)conf + k->ofs;
	switch (k->kind) {
	case STR:
		*(const char **)field = talloc_strdup(conf, value);
		ok = value[0] != '\0';
		break;
	case FLAG:
		ok = parse_flag(value, &flag);
		*(bool *)field = flag;
		break;
	default:
		ok = parse_number(value, k->kind == SIZE, &n) &&
		     n >= k->min && n <= k->max;
		if (ok && k->kind == U32) {
			*(uint32_t *)field = (uint32_t)n;
		} else if (ok) {
			*(uint64_t *)field = n;
		} else {
			phd_log(0, "%s: \"%s = %s\": not a number from %"
				PRIu64 " to %" PRIu64, where, name, value,
				k->min, k->max);
			return false;
		}
		break;
	}
	if (!ok) {
		phd_log(0, "%s: \"%s = %s\" is not understood", where, name,
			value);
	}
	return ok;
}

static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (isspace((unsigned char)*s)) {
		s++;
	}
	while (end > s && isspace((unsigned char)end[-1])) {
		*--end = '\0';
	}
	return s;
}

static bool read_file(struct phd_config *conf, const char *path)
{
	char line[4096], where[4200];
	unsigned int n = 0;
	FILE *f = NULL;
	bool ok = true;

	f = fopen(path, "re");
	if (f == NULL) {
		phd_log(0, "%s: %s", path, strerror(errno));
		return false;
	}
	while (ok && fgets(line, sizeof(line), f) != NULL) {
		char *s = trim(line);
		char *eq = strchr(s, '=');

		n++;
		snprintf(where, sizeof(where), "%s, line %u", path, n);
		if (*s == '\0' || *s == '#' || *s == ';' || *s == '[') {
			continue;
		}
		if (eq == NULL) {
			phd_log(0, "%s: not `key = value`", where);
			ok = false;
			break;
		}
		*eq = '\0';
		ok = set(conf, trim(s), trim(eq + 1), where);
	}
	fclose(f);
	return ok;
}

static bool option_is_flag(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(keys[i].name, name) == 0) {
			return keys[i].kind == FLAG;
		}
	}
	return false;
}

/* pass 0: --config only; pass 1: the others, which win */
static bool read_options(struct phd_config *conf, int argc, char *argv[],
			 int pass)
{
	int i;
	bool ok = true;

	for (i = 1; i < argc && ok; i++) {
		char name[64];
		const char *eq = strchr(argv[i], '=');
		size_t len = eq != NULL ? (size_t)(eq - argv[i]) :
					  strlen(argv[i]);
		const char *value = "";
		size_t j;

		if (strncmp(argv[i], "--", 2) != 0 || len < 3 ||
		    len - 2 >= sizeof(name))
		{
			phd_log(0, "\"%s\" is not an option; see phstored "
				"--help", argv[i]);
			return false;
		}
		for (j = 0; j < len - 2; j++) {
			name[j] = argv[i][j + 2];
			name[j] = name[j] == '-' ? ' ' : name[j];
		}
		name[j] = '\0';
		if (eq != NULL) {
			value = eq + 1;
		} else if (!option_is_flag(name)) {
			if (i + 1 >= argc) {
				phd_log(0, "%s needs a value", argv[i]);
				return false;
			}
			value = argv[++i];
		}
		if ((strcmp(name, "config") == 0) == (pass == 1)) {
			continue;
		}
		ok = pass == 0 ? read_file(conf, value) :
				 set(conf, name, value, "options");
	}
	return ok;
}

/* Nodes by commas, zones by slashes. */
static bool read_zones(struct phd_config *conf)
{
	const char *s = conf->zones;
	uint8_t zone = 1;

	while (s != NULL) {
		char *end = NULL;
		unsigned long node;

		node = isdigit((unsigned char)*s) ? strtoul(s, &end, 10) :
						    PHSTORE_NODES_MAX;
		if (node >= PHSTORE_NODES_MAX || conf->zone[node] != 0 ||
		    (*end != '\0' && *end != ',' && *end != '/'))
		{
			phd_log(0, "\"zones = %s\" is not understood at "
				"\"%s\": nodes below %d, each once, as in "
				"0,1/2,3", conf->zones, s, PHSTORE_NODES_MAX);
			return false;
		}
		conf->zone[node] = zone;
		zone += *end == '/' ? 1 : 0;
		s = *end == '\0' ? NULL : end + 1;
	}
	return true;
}

enum phd_exit phd_config_read(TALLOC_CTX *mem_ctx, int argc, char *argv[],
			      struct phd_config **pconf)
{
	struct phd_config *conf = NULL;
	bool ok;
	int i;

	*pconf = NULL;
	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			fputs(usage, stdout);
			return PHD_EXIT_OK;
		}
		if (strcmp(argv[i], "--version") == 0) {
			puts("phstored 0.1");
			return PHD_EXIT_OK;
		}
	}
	conf = talloc_zero(mem_ctx, struct phd_config);
	if (conf == NULL) {
		return PHD_EXIT_FAILED;
	}
	conf->sink = "ctdb";
	conf->cluster = "ctdb";
	conf->copies = 2;
	conf->full_retry = 60;
	conf->debug = 3;
	ok = read_options(conf, argc, argv, 0) &&
	     read_options(conf, argc, argv, 1);
	if (ok && conf->store == NULL) {
		phd_log(0, "no store given; see phstored --help");
		ok = false;
	}
	ok = ok && read_zones(conf);
	if (ok && conf->adopt && strcmp(conf->sink, "ctdb") == 0) {
		phd_log(0, "adopt: not with the sink ctdb: a cluster's first "
			"epoch begins without records, and a node that is new "
			"to it is emptied");
		ok = false;
	}
	if (ok && strlen(conf->cluster) > PHSTORE_SHIP_NAME_MAX) {
		phd_log(0, "cluster name \"%s\" is longer than %d bytes",
			conf->cluster, PHSTORE_SHIP_NAME_MAX);
		ok = false;
	}
	if (!ok) {
		return PHD_EXIT_USAGE;
	}
	*pconf = conf;
	return PHD_EXIT_OK;
}

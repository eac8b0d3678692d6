/*
 * phstore tool: command line of the persistent-handle store
 *
 * One table describes every command: which options it takes, how many
 * arguments, its help. Parsing, --help and the checks follow from the table,
 * so that they can not disagree. An option a command does not take is an
 * error, as a silently ignored --if-version or --offline would do harm.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "phstore_tool.h"

#ifndef PHSTORE_VERSION
#define PHSTORE_VERSION "0.1.0"
#endif

/* Options without a letter of their own that people would want to type. */
enum {
	OPT_IF_VERSION = 0x100,
	OPT_CREATE,
	OPT_ALLOW_VOLATILE,
	OPT_SEGMENT_SIZE,
	OPT_MIN_FREE,
};

struct option_help {
	int val;
	const char *usage;
	const char *text;
};

static const struct option long_options[] = {
	{ "store", required_argument, NULL, 's' },
	{ "json", no_argument, NULL, 'j' },
	{ "offline", no_argument, NULL, 'o' },
	{ "hex", no_argument, NULL, 'x' },
	{ "raw", no_argument, NULL, 'r' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "class", required_argument, NULL, 'c' },
	{ "if-version", required_argument, NULL, OPT_IF_VERSION },
	{ "create", no_argument, NULL, OPT_CREATE },
	{ "allow-volatile", no_argument, NULL, OPT_ALLOW_VOLATILE },
	{ "segment-size", required_argument, NULL, OPT_SEGMENT_SIZE },
	{ "min-free", required_argument, NULL, OPT_MIN_FREE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static const struct option_help option_helps[] = {
	{ 's', "-s, --store DIR",
	  "the store's folder (default: $PHSTORE_DIR)" },
	{ 'j', "-j, --json", "print JSON" },
	{ 'v', "-v, --verbose", "tell more" },
	{ 'o', "-o, --offline",
	  "read the files only, write nothing, join nobody" },
	{ 'x', "-x, --hex", "KEY, VALUE and what get prints are hex" },
	{ 'r', "-r, --raw",
	  "get: only the value's bytes; dump: every value in hex as well" },
	{ 'c', "-c, --class CLASS",
	  "sync (default), replicated or local" },
	{ OPT_IF_VERSION, "    --if-version E.S",
	  "only when the record has this version; 0.0: there is none" },
	{ OPT_CREATE, "    --create", "make the store if it is missing" },
	{ OPT_SEGMENT_SIZE, "    --segment-size SIZE",
	  "of a store made by --create, e.g. 8M" },
	{ OPT_ALLOW_VOLATILE, "    --allow-volatile",
	  "the store may lie on tmpfs" },
	{ OPT_MIN_FREE, "    --min-free SIZE",
	  "less free space is \"nearly full\" (default: 4 segments)" },
	{ 'h', "-h, --help", "show this" },
	{ 'V', "-V, --version", "show the version" },
};

#define NUM_OPTION_HELPS (sizeof(option_helps) / sizeof(option_helps[0]))

struct command {
	const char *name;
	enum phtool_exit (*fn)(struct phtool *tool);
	int min_args;
	int max_args;
	const char *args;
	const char *brief;
	int options[10];		/* besides -s -j -v -h -V; 0 ends */
	const char *help;
};

static const struct command commands[] = {
	{
		.name = "status",
		.fn = phtool_status,
		.args = "",
		.brief = "health, sizes, counters, latencies",
		.options = { 'o', OPT_MIN_FREE },
		.help =
"Tells whether somebody has to act, and why. Joins a running store like one\n"
"more smbd. When nobody runs it, without write access, or with --offline the\n"
"files are read as they are; counters and latencies are those since the\n"
"first process opened it, and none then.\n"
"health is ok, fewer copies (exit 9), not ready (exit 8), nearly full (exit\n"
"7), damaged (exit 3), latched (exit 4) or unusable (exit 2). For a store of\n"
"a cluster it tells what phstored knows: all nodes, members, copies, what\n"
"is not safe yet, whom it waits for.\n"
"\n"
"Examples:\n"
"  phstore --store /var/lib/samba/phstore status\n"
"  phstore -s /var/lib/samba/phstore --json status | jq .health\n",
	},
	{
		.name = "dump",
		.fn = phtool_dump,
		.max_args = 1,
		.args = "[TABLE]",
		.brief = "records with what they mean",
		.options = { 'o', 'r' },
		.help =
"Shows every record of TABLE or of all tables. Records of smbd's tables\n"
"smbXsrv_open_global, locking and brlock are decoded; what can not be read\n"
"is shown as hex with the reason. --verbose adds rarely needed members,\n"
"--raw every value in hex.\n"
"\n"
"Examples:\n"
"  phstore dump brlock\n"
"  phstore --json dump | jq '.records[].record.cookie.base_name'\n",
	},
	{
		.name = "verify",
		.fn = phtool_verify,
		.args = "",
		.brief = "read and check every byte of the log",
		.options = { 'o' },
		.help =
"Reads the whole log, checks every checksum and lists what is damaged: file,\n"
"offset, length, reason. Exits with 3 when something is. Repairs nothing.\n"
"\n"
"Examples:\n"
"  phstore verify && echo fine\n"
"  phstore --offline --store /mnt/copy/phstore verify\n",
	},
	{
		.name = "history",
		.fn = phtool_history,
		.min_args = 1,
		.max_args = 1,
		.args = "ID",
		.brief = "the life of a handle",
		.options = { 'o' },
		.help =
"Shows what the log still has of the handle with this global or persistent\n"
"id (hex, as dump and smbstatus show it), oldest first: granted, updated,\n"
"disconnected, server lost, reconnected, locked or unlocked, removed. How far\n"
"it goes back depends on compaction; the last state is there always. Exits\n"
"with 5 when there is nothing.\n"
"\n"
"Examples:\n"
"  phstore history 0x5ab3c4d1\n",
	},
	{
		.name = "get",
		.fn = phtool_get,
		.min_args = 2,
		.max_args = 2,
		.args = "TABLE KEY",
		.brief = "one record's value",
		.options = { 'o', 'x', 'r' },
		.help =
"Prints the value, unprintable bytes as \\xNN; --raw prints the bytes alone,\n"
"--hex hex digits, --json also the version. A KEY of \"hex:...\" is hex, as\n"
"scan prints it. Exits with 5 when there is no such record.\n"
"\n"
"Examples:\n"
"  phstore get mytable mykey\n"
"  phstore get --raw locking hex:00fe... > record.bin\n",
	},
	{
		.name = "put",
		.fn = phtool_put,
		.min_args = 3,
		.max_args = 3,
		.args = "TABLE KEY VALUE",
		.brief = "store a record",
		.options = { 'x', 'c', OPT_IF_VERSION, OPT_CREATE,
			     OPT_SEGMENT_SIZE, OPT_ALLOW_VOLATILE },
		.help =
"Stores VALUE under KEY and returns when it is durable. A VALUE of \"-\" is\n"
"standard input, taken as bytes. KEY and VALUE are hex with --hex or behind\n"
"\"hex:\". With --if-version the record is left alone (exit 6) unless it\n"
"has that version; 0.0 is \"not there\". Write \"--\" before arguments that\n"
"begin with \"-\".\n"
"Do not change smbd's own tables: a running smbd has its copy in memory.\n"
"\n"
"Examples:\n"
"  phstore -s /srv/store put --create mytable mykey 'a value'\n"
"  phstore put --if-version 0.0 mytable lock \"$HOSTNAME\"\n"
"  phstore put --hex mytable 00ff 0123 ; phstore put mytable k - < file\n",
	},
	{
		.name = "del",
		.fn = phtool_del,
		.min_args = 2,
		.max_args = 2,
		.args = "TABLE KEY",
		.brief = "delete a record",
		.options = { 'x', 'c', OPT_IF_VERSION, OPT_ALLOW_VOLATILE },
		.help =
"Deletes the record and returns when that is durable. Exits with 5 when there\n"
"is no such record, with 6 when --if-version names another version.\n"
"\n"
"Examples:\n"
"  phstore del mytable mykey\n"
"  phstore del --if-version 3.8192 mytable hex:00ff\n",
	},
	{
		.name = "scan",
		.fn = phtool_scan,
		.max_args = 1,
		.args = "[TABLE]",
		.brief = "keys, sizes and versions",
		.options = { 'o' },
		.help =
"One line per record: table, key, value's size, version, class, LSN, with\n"
"tabs between. Keys that are not plain are \"hex:...\", which get, put and\n"
"del take.\n"
"\n"
"Examples:\n"
"  phstore scan mytable | cut -f2\n",
	},
	{
		.name = "tables",
		.fn = phtool_tables,
		.args = "",
		.brief = "tables with live records",
		.options = { 'o' },
		.help =
"One line per table: name, number of records, bytes of their values.\n"
"\n"
"Examples:\n"
"  phstore tables\n",
	},
	{
		.name = "force",
		.fn = phtool_force,
		.min_args = 1,
		.max_args = 1,
		.args = "NODES",
		.brief = "begin without nodes that are lost for ever",
		.help =
"For a cluster that waits after all nodes were down, because nodes that may\n"
"have the newest records do not come back. NODES, as 1,2, are struck off; the\n"
"others begin with the newest they have, and what only the lost ones had is\n"
"lost. To be asked on the node that leads. You promise that these\n"
"nodes do not serve at this moment; one that comes back is emptied.\n"
"\n"
"Examples:\n"
"  phstore status | grep -A9 waits_for\n"
"  phstore force 2\n",
	},
	{
		.name = "gate",
		.fn = phtool_gate,
		.min_args = 1,
		.max_args = 2,
		.args = "show|close|wait",
		.brief = "may this node of a cluster write",
		.help =
"show tells whether changes are taken, and why not. close [REASON] stops them\n"
"until the nodes have agreed anew: what ctdb's event script does when a\n"
"recovery begins. wait [SECONDS] (10) returns when changes are taken, or\n"
"exits with 8. A store without a cluster is always open.\n"
"\n"
"Examples:\n"
"  phstore gate show\n"
"  phstore gate wait 5 || echo not yet\n",
	},
};

#define NUM_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_options(FILE *f, const struct command *cmd)
{
	size_t i, j;

	for (i = 0; i < NUM_OPTION_HELPS; i++) {
		const struct option_help *h = &option_helps[i];
		bool show = (cmd == NULL);

		if (h->val < 0x100) {
			const char *everywhere = strchr("sjvhV", h->val);

			show = show || everywhere != NULL;
		}
		for (j = 0; cmd != NULL && cmd->options[j] != 0; j++) {
			show = show || cmd->options[j] == h->val;
		}
		if (show) {
			fprintf(f, "  %-24s %s\n", h->usage, h->text);
		}
	}
}

static void print_help(FILE *f)
{
	size_t i;

	fprintf(f,
"Usage: phstore [OPTION...] COMMAND [ARGUMENT...]\n"
"\n"
"Looks into a persistent-handle store, and changes records by hand.\n"
"\n"
"Commands:\n");
	for (i = 0; i < NUM_COMMANDS; i++) {
		fprintf(f, "  %-8s%-17s %s\n", commands[i].name,
			commands[i].args, commands[i].brief);
	}
	fprintf(f, "\nOptions (phstore COMMAND --help tells whose):\n");
	print_options(f, NULL);
	fprintf(f,
"\n"
"Exit codes: 0 ok, 1 command line, 2 no usable store, 3 damaged, 4 latched,\n"
"5 no such record, 6 another version, 7 nearly full, 8 not ready\n");
}

static void print_command_help(FILE *f, const struct command *cmd)
{
	fprintf(f, "Usage: phstore [OPTION...] %s%s%s\n\n%s\nOptions:\n",
		cmd->name, cmd->args[0] != '\0' ? " " : "", cmd->args,
		cmd->help);
	print_options(f, cmd);
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < NUM_COMMANDS; i++) {
		int cmp = strcmp(commands[i].name, name);

		if (cmp == 0) {
			return &commands[i];
		}
	}
	return NULL;
}

/* 123, 64K, 8M, 1G */
static bool parse_size(const char *str, uint64_t *size)
{
	static const char suffixes[] = "KMGT";
	const char *suffix = NULL;
	unsigned long long v;
	char *end = NULL;
	unsigned int shift = 0;

	if (str[0] < '0' || str[0] > '9') {
		return false;
	}
	errno = 0;
	v = strtoull(str, &end, 10);
	if (errno != 0) {
		return false;
	}
	if (*end != '\0') {
		suffix = strchr(suffixes, *end);
		if (suffix == NULL || end[1] != '\0') {
			return false;
		}
		shift = 10 * (suffix - suffixes + 1);
	}
	if (v == 0 || v > (UINT64_MAX >> shift)) {
		return false;
	}
	*size = (uint64_t)v << shift;
	return true;
}

static bool parse_class(const char *str, enum phstore_class *durability)
{
	static const enum phstore_class all[] = {
		PHSTORE_CLASS_LOCAL,
		PHSTORE_CLASS_REPLICATED,
		PHSTORE_CLASS_SYNC,
	};
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int cmp = strcmp(phtool_class_name(all[i]), str);

		if (cmp == 0) {
			*durability = all[i];
			return true;
		}
	}
	return false;
}

/* Options seen, for the check against the command's. */
struct seen_options {
	int vals[64];
	size_t num;
	bool help;
	bool version;
};

static bool apply_option(struct phtool *tool, int val, const char *arg)
{
	bool ok = true;

	switch (val) {
	case 's':
		tool->dir = arg;
		break;
	case 'j':
		tool->json = true;
		break;
	case 'o':
		tool->offline = true;
		break;
	case 'x':
		tool->hex = true;
		break;
	case 'r':
		tool->raw = true;
		break;
	case 'v':
		tool->verbose = true;
		break;
	case 'c':
		ok = parse_class(arg, &tool->durability);
		break;
	case OPT_IF_VERSION:
		tool->check_version = true;
		ok = phtool_parse_version(arg, &tool->expected);
		break;
	case OPT_CREATE:
		tool->create = true;
		break;
	case OPT_ALLOW_VOLATILE:
		tool->allow_volatile = true;
		break;
	case OPT_SEGMENT_SIZE:
		ok = parse_size(arg, &tool->segment_size);
		break;
	case OPT_MIN_FREE:
		ok = parse_size(arg, &tool->min_free);
		break;
	}
	if (!ok) {
		phtool_error(tool, "\"%s\": not a valid argument, see --help",
			     arg);
	}
	return ok;
}

static bool parse_options(struct phtool *tool, int argc, char **argv,
			  struct seen_options *seen)
{
	while (true) {
		int val = getopt_long(argc, argv, "s:joxrvc:hV",
				      long_options, NULL);
		bool ok;

		if (val == -1) {
			return true;
		}
		if (val == '?') {
			/* getopt has said what is wrong */
			fprintf(stderr, "phstore: see phstore --help\n");
			return false;
		}
		if (val == 'h') {
			seen->help = true;
			continue;
		}
		if (val == 'V') {
			seen->version = true;
			continue;
		}
		ok = apply_option(tool, val, optarg);
		if (!ok) {
			return false;
		}
		if (seen->num < sizeof(seen->vals) / sizeof(seen->vals[0])) {
			seen->vals[seen->num] = val;
			seen->num += 1;
		}
	}
}

static const char *option_name(int val)
{
	size_t i;

	for (i = 0; long_options[i].name != NULL; i++) {
		if (long_options[i].val == val) {
			return long_options[i].name;
		}
	}
	return "?";
}

static bool check_options(struct phtool *tool, const struct command *cmd,
			  const struct seen_options *seen)
{
	size_t i, j;

	for (i = 0; i < seen->num; i++) {
		int val = seen->vals[i];
		bool takes = (val == 's' || val == 'j' || val == 'v');

		for (j = 0; cmd->options[j] != 0; j++) {
			takes = takes || cmd->options[j] == val;
		}
		if (!takes) {
			phtool_error(tool, "does not take --%s, see phstore "
				     "%s --help", option_name(val),
				     cmd->name);
			return false;
		}
	}
	if (tool->argc < cmd->min_args || tool->argc > cmd->max_args) {
		phtool_error(tool, "%s arguments; usage: phstore %s %s",
			     tool->argc < cmd->min_args ? "too few" :
							  "too many",
			     cmd->name, cmd->args);
		return false;
	}
	if (tool->dir == NULL || tool->dir[0] == '\0') {
		phtool_error(tool, "which store? give --store DIR or set "
			     "PHSTORE_DIR; smbd's is \"phstore:path\" of "
			     "smb.conf, by default the folder phstore in the "
			     "state directory (testparm -s --parameter-name="
			     "\"state directory\")");
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct phtool tool = {
		.durability = PHSTORE_CLASS_SYNC,
		.dir = getenv("PHSTORE_DIR"),
	};
	static char own_name[] = "phstore";
	struct seen_options seen = {};
	const struct command *cmd = NULL;
	enum phtool_exit result = PHTOOL_USAGE;
	bool ok;

	/* getopt's messages begin as ours do, wherever we were started from */
	if (argc > 0) {
		argv[0] = own_name;
	}
	/* a closed pipe ("| head") is an error of fwrite, not our death */
	signal(SIGPIPE, SIG_IGN);

	ok = parse_options(&tool, argc, argv, &seen);
	if (!ok) {
		return PHTOOL_USAGE;
	}
	if (seen.version) {
		printf("phstore %s\n", PHSTORE_VERSION);
		return PHTOOL_OK;
	}
	if (optind == argc) {
		print_help(seen.help ? stdout : stderr);
		return seen.help ? PHTOOL_OK : PHTOOL_USAGE;
	}
	tool.command = argv[optind];
	tool.argc = argc - optind - 1;
	tool.argv = argv + optind + 1;
	cmd = find_command(tool.command);
	if (cmd == NULL) {
		fprintf(stderr, "phstore: no command \"%s\", see phstore "
			"--help\n", tool.command);
		return PHTOOL_USAGE;
	}
	if (seen.help) {
		print_command_help(stdout, cmd);
		return PHTOOL_OK;
	}
	ok = check_options(&tool, cmd, &seen);
	if (!ok) {
		return PHTOOL_USAGE;
	}
	phdump_init(&tool.out, tool.json, tool.verbose);
	result = cmd->fn(&tool);
	phdump_free(&tool.out);
	TALLOC_FREE(tool.store);
	return result;
}

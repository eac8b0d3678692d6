/*
 * phtorture: Samba's own local dbwrap tests as a program
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The tests are Samba's, compiled from the Samba tree this program is built
 * in (source3/torture). Their usual home, smbtorture3, exists only in a tree
 * configured for self tests, and that makes another smbd than the one people
 * run. This program is what is missing: a main() that loads smb.conf, finds
 * a test by its name in smbtorture3 and runs it.
 *
 * usage: SMB_CONF_PATH=smb.conf phtorture TEST...
 *        phtorture --list
 *
 * The tests write below the folders of that smb.conf and below the current
 * folder: both should be private ones. Exit: 0 all passed, 1 one failed,
 * 2 usage.
 */

#include "includes.h"
#include "torture/proto.h"
#include "lib/param/param.h"
#include "dynconfig/dynconfig.h"

/* Samba's tests take these from smbtorture3's command line. */
int torture_nprocs = 4;
int torture_numops = 20;

static const struct {
	const char *name;
	bool (*fn)(int dummy);
} tests[] = {
	{ "LOCAL-DBWRAP-PER-REC-PERSISTENCY", run_dbwrap_per_rec_persistency },
	{ "LOCAL-DBWRAP-DO-LOCKED1", run_dbwrap_do_locked1 },
	{ "LOCAL-DBWRAP-WATCH1", run_dbwrap_watch1 },
	{ "LOCAL-DBWRAP-WATCH2", run_dbwrap_watch2 },
	{ "LOCAL-DBWRAP-WATCH3", run_dbwrap_watch3 },
	{ "LOCAL-DBWRAP-WATCH4", run_dbwrap_watch4 },
	{ "LOCAL-G-LOCK1", run_g_lock1 },
	{ "LOCAL-G-LOCK2", run_g_lock2 },
	{ "LOCAL-G-LOCK3", run_g_lock3 },
	{ "LOCAL-G-LOCK4", run_g_lock4 },
	{ "LOCAL-G-LOCK4A", run_g_lock4a },
	{ "LOCAL-G-LOCK5", run_g_lock5 },
	{ "LOCAL-G-LOCK6", run_g_lock6 },
	{ "LOCAL-G-LOCK7", run_g_lock7 },
	{ "LOCAL-G-LOCK8", run_g_lock8 },
};

static int usage(void)
{
	fprintf(stderr, "usage: SMB_CONF_PATH=smb.conf phtorture TEST...\n"
		"       phtorture --list\n");
	return 2;
}

/* Run one test; says "success: NAME" or "failure: NAME" last. */
static bool run_one(const char *name)
{
	size_t i;
	bool ok;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (strcmp(tests[i].name, name) == 0) {
			break;
		}
	}
	if (i == ARRAY_SIZE(tests)) {
		printf("error: %s\nno such test\n", name);
		return false;
	}

	printf("test: %s\n", name);
	fflush(stdout);
	ok = tests[i].fn(0);
	printf("%s: %s\n", ok ? "success" : "failure", name);
	fflush(stdout);
	return ok;
}

int main(int argc, const char *argv[])
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct loadparm_context *lp_ctx = NULL;
	const char *conf = getenv("SMB_CONF_PATH");
	bool all_ok = true;
	bool ok;
	size_t t;
	int i;

	if (argc < 2) {
		return usage();
	}
	if (strcmp(argv[1], "--list") == 0) {
		for (t = 0; t < ARRAY_SIZE(tests); t++) {
			printf("%s\n", tests[t].name);
		}
		return 0;
	}
	if (conf == NULL) {
		return usage();
	}

	setup_logging("phtorture", DEBUG_STDERR);
	smb_init_locale();
	fault_setup();

	lp_ctx = loadparm_init_s3(frame, loadparm_s3_helpers());
	if (lp_ctx == NULL) {
		fprintf(stderr, "phtorture: out of memory\n");
		return 1;
	}
	ok = lp_load_global(conf);
	if (!ok) {
		fprintf(stderr, "phtorture: cannot load %s\n", conf);
		return 1;
	}
	load_interfaces();

	for (i = 1; i < argc; i++) {
		ok = run_one(argv[i]);
		all_ok = all_ok && ok;
	}

	TALLOC_FREE(frame);
	return all_ok ? 0 : 1;
}

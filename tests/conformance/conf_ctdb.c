/*
 * phstore tests: the conformance suite on the backend ctdb
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Two nodes with a phstored each, K = 2, ctdb's view a file
 * (backends/phstored/phd_net_dir.c). The cases work on node 0's store, as
 * smbd does: what they are told is safe is on both nodes' disks.
 *
 * Seen to fail with: --copies 1.
 */

#include "conformance.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "phstore_ship.h"

#define NODES 2
#define READY_MS 120000

static unsigned counter;
static pid_t daemons[NODES];

static const char *daemon_path(void)
{
	static char path[CONF_PATH_MAX];
	const char *build = getenv("PHSTORE_BUILD");

	snprintf(path, sizeof(path), "%s/phstored",
		 build != NULL ? build : "build");
	return path;
}

static const char *ctdb_missing(void)
{
	return access(daemon_path(), X_OK) == 0 ? NULL : "no phstored here";
}

/* The cluster is the folder, node 0's store the folder "n0" in it. */
static void ctdb_fresh(char path[CONF_PATH_MAX])
{
	const char *tmp = getenv("TEST_TMP");

	counter += 1;
	snprintf(path, CONF_PATH_MAX, "%s/c%d-%u/n0",
		 tmp != NULL ? tmp : "/var/tmp", (int)getpid(), counter);
}

static void cluster_of(const char *path, char out[CONF_PATH_MAX])
{
	snprintf(out, CONF_PATH_MAX, "%.*s", (int)strlen(path) - 3, path);
}

static pid_t start_daemon(const char *cluster, int node)
{
	char store[CONF_PATH_MAX + 8], net[CONF_PATH_MAX + 8];
	char log[CONF_PATH_MAX + 8], number[8];
	pid_t pid;

	snprintf(store, sizeof(store), "%s/n%d", cluster, node);
	snprintf(net, sizeof(net), "%s/net", cluster);
	snprintf(log, sizeof(log), "%s/log%d", cluster, node);
	snprintf(number, sizeof(number), "%d", node);
	pid = fork();
	if (pid == 0) {
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

		dup2(fd, 2);
		execl(daemon_path(), "phstored", "--store", store,
		      "--peers-dir", net, "--node", number, "--copies", "2",
		      "--segment-size", "65536", "--allow-volatile", NULL);
		_exit(127);
	}
	return pid;
}

/* The daemon makes the store, and opens its gate when both are there. */
static bool wait_open(const char *path)
{
	struct phstore_open_options oo = {
		.flags = PHSTORE_OPEN_ALLOW_VOLATILE,
		.backend = "ctdb",
	};
	struct phstore *store = NULL;
	enum phstore_err err = PHSTORE_ERR_NO_STORE;
	int ms;

	for (ms = 0; ms < READY_MS && store == NULL; ms += 10) {
		err = phstore_open(NULL, path, &oo, &store);
		usleep(10000);
	}
	for (; ms < READY_MS && store != NULL; ms += 100) {
		err = phstore_gate_wait(store, 100);
		if (err == PHSTORE_OK) {
			break;
		}
	}
	if (store != NULL) {
		(void)phstore_close(store);
	}
	return err == PHSTORE_OK;
}

static bool ctdb_start(const char *path)
{
	char cluster[CONF_PATH_MAX], file[CONF_PATH_MAX + 16];
	FILE *f = NULL;
	int i;

	cluster_of(path, cluster);
	mkdir(cluster, 0700);
	snprintf(file, sizeof(file), "%s/net", cluster);
	mkdir(file, 0700);
	snprintf(file, sizeof(file), "%s/net/view", cluster);
	f = fopen(file, "w");
	if (f == NULL) {
		return false;
	}
	fprintf(f, "1 3 3\n");
	fclose(f);
	for (i = 0; i < NODES; i++) {
		daemons[i] = start_daemon(cluster, i);
	}
	return wait_open(path);
}

static int remove_one(const char *path, const struct stat *st, int flag,
		      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void ctdb_remove(const char *path)
{
	char cluster[CONF_PATH_MAX];
	int i;

	for (i = 0; i < NODES; i++) {
		if (daemons[i] > 0) {
			kill(daemons[i], SIGKILL);
			waitpid(daemons[i], NULL, 0);
		}
		daemons[i] = 0;
	}
	cluster_of(path, cluster);
	(void)nftw(cluster, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The other node does not answer: what is on one disk is not safe. */
static bool ctdb_stall(bool on)
{
	if (daemons[1] > 0) {
		kill(daemons[1], on ? SIGSTOP : SIGCONT);
	}
	return true;
}

static bool ctdb_unbounded(const struct phstore_stat *st)
{
	return st->log_bytes > 4 * st->live_bytes + 2 * st->segment_size +
	       65536;
}

const struct conf_backend conf_ctdb = {
	.name = "ctdb",
	.missing = ctdb_missing,
	.fresh = ctdb_fresh,
	.start = ctdb_start,
	.remove = ctdb_remove,
	.opts = {
		.flags = PHSTORE_OPEN_ALLOW_VOLATILE,
		.backend = "ctdb",
		.segment_size = 65536,
	},
	.stall = ctdb_stall,
	/* the net of the tests takes no longer message */
	.value_max = 256 * 1024,
	.many_writers = true,
	.epochs_given = true,
	.unbounded = ctdb_unbounded,
};

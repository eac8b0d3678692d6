/*
 * A full disk, and room left in the log
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * The fear: a record gets into the log and then the index has no room for
 * it. From then on nobody can use the store, not even read, until somebody
 * makes room; and it cannot be opened either.
 *
 * Three processes put new records into a store on a small disk of its own (a
 * mount namespace), whose log has room for ten times as many: on the full disk
 * each is told so at last, phstore_room() before the first of them fails.
 * Then everything staged is there, can be replaced and be deleted, also by
 * who opens the store only now; and with room new ones are taken.
 *
 * Seen to fail without blocks taken ahead: I/O errors, of everything.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <phstore.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK "size=12m"
#define SEGMENT (8 * 1024 * 1024)
#define PROCS 3
/* of each process, before the disk is full, and at most */
#define BEFORE 100
#define MOST 20000
#define ROOM (16 * 1024)

static char dir[400];
static char path[420];
static int number;

static void tell(bool ok, const char *what)
{
	number++;
	printf("%s %d - %s\n", ok ? "ok" : "not ok", number, what);
	fflush(stdout);
	if (!ok) {
		printf("# %s\n", phstore_last_error());
		exit(1);
	}
}

static enum phstore_err open_it(struct phstore **store)
{
	struct phstore_open_options opts = {
		.flags = PHSTORE_OPEN_CREATE | PHSTORE_OPEN_ALLOW_VOLATILE,
		.segment_size = SEGMENT,
	};

	return phstore_open(NULL, path, &opts, store);
}

static struct phstore_blob name(char buf[32], int proc, int i)
{
	int n = snprintf(buf, 32, "p%d-%06d", proc, i);

	return (struct phstore_blob) { buf, (size_t)n };
}

/* let_go: a delete, or a put that replaces and may use the reserve */
static enum phstore_err change(struct phstore *store, int proc, int i,
			       const char *value, bool let_go)
{
	struct phstore_op_options opts = {
		.durability = PHSTORE_CLASS_LOCAL,
		.use_reserve = let_go,
	};
	struct phstore_txn *txn = phstore_txn_new(NULL, store);
	struct phstore_blob v = { value, value ? strlen(value) : 0 };
	enum phstore_err err;
	uint64_t lsn = 0;
	char buf[32];

	if (txn == NULL) {
		return PHSTORE_ERR_NO_MEMORY;
	}
	if (value != NULL) {
		err = phstore_txn_put(txn, "t", name(buf, proc, i), v, &opts);
	} else {
		err = phstore_txn_delete(txn, "t", name(buf, proc, i), &opts);
	}
	if (err == PHSTORE_OK) {
		err = phstore_stage(txn, &lsn);
	}
	talloc_free(txn);
	return err;
}

/* As it is with who puts new things: asks first. */
static enum phstore_err put_new(struct phstore *store, int proc, int i)
{
	enum phstore_err err = phstore_room(store, ROOM);

	if (err != PHSTORE_OK) {
		return err;
	}
	err = change(store, proc, i, "new", false);
	if (err == PHSTORE_ERR_FULL) {
		printf("# there was room, and there was none\n");
		err = PHSTORE_ERR_INVALID;
	}
	return err;
}

static bool is(struct phstore *store, int proc, int i, const char *value)
{
	TALLOC_CTX *frame = talloc_new(NULL);
	struct phstore_record rec = {};
	enum phstore_err err;
	char buf[32];
	bool ok;

	err = phstore_get(frame, store, "t", name(buf, proc, i), &rec);
	if (value == NULL) {
		ok = err == PHSTORE_ERR_NOT_FOUND;
	} else {
		ok = err == PHSTORE_OK && rec.value.len == strlen(value) &&
		     memcmp(rec.value.data, value, rec.value.len) == 0;
	}
	talloc_free(frame);
	return ok;
}

/* Until the disk is full; says how many there are. */
static void worker(int proc, int ready, int go, int result)
{
	struct phstore *store = NULL;
	enum phstore_err err;
	char c = 0;
	int i;

	err = open_it(&store);
	for (i = 0; err == PHSTORE_OK && i < MOST; i++) {
		if (i == BEFORE && (write(ready, &c, 1) != 1 ||
				    read(go, &c, 1) != 1))
		{
			break;
		}
		err = put_new(store, proc, i);
	}
	if (err != PHSTORE_ERR_FULL) {
		printf("# process %d, %d: %s (%s)\n", proc, i,
		       phstore_errname(err), phstore_last_error());
		_exit(1);
	}
	i -= 1;
	_exit(write(result, &i, sizeof(i)) == sizeof(i) ? 0 : 1);
}

static void fill(void)
{
	static const size_t sizes[] = { 65536, 4096 };
	static char zeros[65536];
	char file[440];
	size_t i;
	int fd;

	snprintf(file, sizeof(file), "%s/filler", dir);
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
	for (i = 0; fd != -1 && i < 2; i++) {
		while (write(fd, zeros, sizes[i]) == (ssize_t)sizes[i]) {
		}
	}
	close(fd);
}

static bool mount_disk(void)
{
	const char *tmp = getenv("TEST_TMP");

	snprintf(dir, sizeof(dir), "%s/index_full.%d",
		 tmp != NULL ? tmp : "/var/tmp", (int)getpid());
	snprintf(path, sizeof(path), "%s/store", dir);
	return mkdir(dir, 0700) == 0 && unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", dir, "tmpfs", 0, DISK) == 0;
}

/* All that was put is there and can be changed; nothing new can come. */
static void check_full(struct phstore *store, const int *num, int turn)
{
	bool ok = true;
	int p, i;

	for (p = 0; p < PROCS; p++) {
		for (i = 2 * turn; i < num[p]; i++) {
			ok = ok && is(store, p, i, "new");
		}
	}
	tell(ok, "everything put is there");
	for (p = 0; p < PROCS; p++) {
		ok = ok && change(store, p, 2 * turn, NULL, true) ==
			   PHSTORE_OK &&
		     change(store, p, 2 * turn + 1, "old", true) ==
			   PHSTORE_OK &&
		     is(store, p, 2 * turn, NULL) &&
		     is(store, p, 2 * turn + 1, "old");
	}
	tell(ok, "it can be deleted and replaced");
	tell(phstore_room(store, ROOM) == PHSTORE_ERR_FULL,
	     "there is no room for more");
}

int main(void)
{
	struct phstore *store = NULL;
	int ready[2], go[2], result[PROCS][2];
	int num[PROCS] = {};
	char file[440];
	int i, status;
	char c = 0;
	bool ok;

	ok = mount_disk();
	if (!ok) {
		printf("no disk of its own: %s\n", strerror(errno));
		return 77;
	}
	ok = open_it(&store) == PHSTORE_OK && pipe(ready) == 0 &&
	     pipe(go) == 0 && phstore_close(store) == PHSTORE_OK;
	for (i = 0; i < PROCS && ok; i++) {
		ok = pipe(result[i]) == 0;
		if (ok && fork() == 0) {
			worker(i, ready[1], go[0], result[i][1]);
		}
	}
	/* who fails before it is ready ends the reading */
	close(ready[1]);
	for (i = 0; i < PROCS && ok; i++) {
		ok = read(ready[0], &c, 1) == 1;
	}
	fill();
	for (i = 0; i < PROCS && ok; i++) {
		ok = write(go[1], &c, 1) == 1;
	}
	close(go[1]);
	while (wait(&status) > 0) {
		ok = ok && status == 0;
	}
	for (i = 0; i < PROCS && ok; i++) {
		ok = read(result[i][0], &num[i], sizeof(num[i])) ==
		     sizeof(num[i]);
	}
	printf("# %d, %d and %d records\n", num[0], num[1], num[2]);
	tell(ok, "on a full disk each is told so, when it asks for room");

	tell(open_it(&store) == PHSTORE_OK, "the store can be opened");
	check_full(store, num, 0);
	tell(phstore_close(store) == PHSTORE_OK &&
	     open_it(&store) == PHSTORE_OK, "and once more");
	check_full(store, num, 1);

	snprintf(file, sizeof(file), "%s/filler", dir);
	ok = unlink(file) == 0;
	for (i = 0; i < 1000 && ok; i++) {
		ok = put_new(store, PROCS, i) == PHSTORE_OK &&
		     is(store, PROCS, i, "new");
	}
	tell(ok, "with room it takes new ones");
	tell(phstore_close(store) == PHSTORE_OK, "closed");
	(void)umount(dir);
	(void)rmdir(dir);
	printf("1..%d\n", number);
	return 0;
}

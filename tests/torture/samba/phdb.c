/*
 * phdb: a per-record-persistent database of smbd, by hand
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What smbd does to its three databases, without SMB in between: opens
 * "phdb.tdb" as smbd opens locking.tdb and does what is read from stdin, one
 * command a line. The tests in tests/cluster run one on each node.
 *
 *   put KEY VALUE    store, persistent; "ok" once it is durable
 *   stage KEY VALUE  the same without waiting: "ok" once it is staged
 *   plain KEY VALUE  store, not persistent
 *   del KEY          delete; "ok" once that is durable
 *   get KEY          read without a lock: "value VALUE", "none"
 *   lock KEY         read under the record's lock: "value VALUE p|-", "none"
 *   list             traverse: "record KEY VALUE" each, then "ok COUNT"
 *   store            what this node's store has: as list
 *   wipe             all of it, the store's part too
 *   bench N KEY      N times put and del of KEY.i: "ok MICROSECONDS"
 *   ctdbench N KEY   the same with a transaction each on a persistent database
 *                    of ctdb's, "phdb_peer.tdb": what there is without us
 *
 * Anything that failed: "error REASON". End of input ends it.
 */

#include "includes.h"
#include "lib/dbwrap/dbwrap.h"
#include "lib/dbwrap/dbwrap_open.h"
#include "lib/dbwrap/dbwrap_phstore.h"
#include "lib/param/param.h"
#include "lib/util/util_tdb.h"
#include "lib/util/time.h"
#include "source3/lib/global_contexts.h"
#include "messages.h"

static struct db_context *db;

static bool durable(const char **reason)
{
	const struct dbwrap_phstore_progress *p = dbwrap_phstore_progress();
	struct tevent_context *ev = NULL;
	struct tevent_req *req = NULL;
	enum phstore_err err;
	bool ok;

	if (p->store == NULL) {
		return true;
	}
	ev = samba_tevent_context_init(NULL);
	if (ev == NULL) {
		*reason = "out of memory";
		return false;
	}
	req = phstore_barrier_class_send(ev, ev, p->store, p->lsn,
					 p->durability);
	if (req == NULL) {
		TALLOC_FREE(ev);
		*reason = "out of memory";
		return false;
	}
	(void)tevent_req_set_endtime(
		req, ev,
		timeval_current_ofs(p->barrier_timeout_sec, 0));
	ok = tevent_req_poll(req, ev);
	err = ok ? phstore_barrier_recv(req) : PHSTORE_ERR_IO;
	*reason = phstore_strerror(err);
	TALLOC_FREE(ev);
	return err == PHSTORE_OK;
}

static void done(NTSTATUS status, bool wait)
{
	const char *reason = NULL;
	bool ok;

	if (!NT_STATUS_IS_OK(status)) {
		printf("error %s\n", nt_errstr(status));
		return;
	}
	if (wait) {
		ok = durable(&reason);
		if (!ok) {
			printf("error %s\n", reason);
			return;
		}
	}
	printf("ok\n");
}

static NTSTATUS change(const char *key, const char *value, int flags)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct db_record *rec = NULL;
	NTSTATUS status;

	rec = dbwrap_fetch_locked(db, frame, string_tdb_data(key));
	if (rec == NULL) {
		TALLOC_FREE(frame);
		return NT_STATUS_INTERNAL_DB_ERROR;
	}
	if (value == NULL) {
		status = dbwrap_record_delete(rec);
	} else {
		status = dbwrap_record_store(
			rec, string_tdb_data(value), flags);
	}
	TALLOC_FREE(frame);
	return status;
}

static void print_fn(TDB_DATA key, TDB_DATA data, void *private_data)
{
	printf("value %.*s\n", (int)data.dsize, (const char *)data.dptr);
}

static int list_fn(struct db_record *rec, void *private_data)
{
	TDB_DATA key = dbwrap_record_get_key(rec);
	TDB_DATA value = dbwrap_record_get_value(rec);

	printf("record %.*s %.*s\n",
	       (int)key.dsize, (const char *)key.dptr,
	       (int)value.dsize, (const char *)value.dptr);
	return 0;
}

/* One commit each, as net and winbindd change such a database. */
static NTSTATUS commit(struct db_context *peer, const char *key,
		       const char *value)
{
	NTSTATUS status;
	int ret;

	ret = dbwrap_transaction_start(peer);
	if (ret != 0) {
		return NT_STATUS_INTERNAL_DB_ERROR;
	}
	if (value == NULL) {
		status = dbwrap_delete(peer, string_tdb_data(key));
	} else {
		status = dbwrap_store(
			peer, string_tdb_data(key), string_tdb_data(value), 0);
	}
	if (!NT_STATUS_IS_OK(status)) {
		dbwrap_transaction_cancel(peer);
		return status;
	}
	ret = dbwrap_transaction_commit(peer);
	return ret == 0 ? NT_STATUS_OK : NT_STATUS_INTERNAL_DB_ERROR;
}

static void bench_peer(int num, const char *prefix)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct db_context *peer = NULL;
	NTSTATUS status = NT_STATUS_OK;
	struct timespec start;
	struct timespec end;
	char *path = NULL;
	int i;

	/* without TDB_CLEAR_IF_FIRST it is a persistent one */
	path = state_path(frame, "phdb_peer.tdb");
	peer = db_open(frame, path, 0, TDB_DEFAULT | TDB_INCOMPATIBLE_HASH,
		       O_RDWR | O_CREAT, 0600, DBWRAP_LOCK_ORDER_2,
		       DBWRAP_FLAG_NONE);
	if (peer == NULL) {
		done(NT_STATUS_INTERNAL_DB_ERROR, false);
		goto done;
	}
	clock_gettime_mono(&start);
	for (i = 0; i < num && NT_STATUS_IS_OK(status); i++) {
		char key[64];

		snprintf(key, sizeof(key), "%s.%d", prefix, i);
		status = commit(peer, key, "bench");
		if (NT_STATUS_IS_OK(status)) {
			status = commit(peer, key, NULL);
		}
	}
	clock_gettime_mono(&end);
	if (!NT_STATUS_IS_OK(status)) {
		done(status, false);
		goto done;
	}
	printf("ok %lld\n", (long long)(nsec_time_diff(&end, &start) / 1000));
done:
	TALLOC_FREE(frame);
}

static void bench(int num, const char *prefix)
{
	struct timespec start;
	struct timespec end;
	int i;

	clock_gettime_mono(&start);
	for (i = 0; i < num; i++) {
		const char *reason = NULL;
		char key[64];
		NTSTATUS status;
		bool ok;

		snprintf(key, sizeof(key), "%s.%d", prefix, i);
		status = change(key, "bench", DBWRAP_STORE_PERSISTENT);
		if (NT_STATUS_IS_OK(status)) {
			ok = durable(&reason);
			status = ok ? change(key, NULL, 0) :
				      NT_STATUS_IO_TIMEOUT;
		}
		if (NT_STATUS_IS_OK(status)) {
			ok = durable(&reason);
			status = ok ? status : NT_STATUS_IO_TIMEOUT;
		}
		if (!NT_STATUS_IS_OK(status)) {
			done(status, false);
			return;
		}
	}
	clock_gettime_mono(&end);
	printf("ok %lld\n", (long long)(nsec_time_diff(&end, &start) / 1000));
}

static void read_one(const char *key, bool locked)
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct db_record *rec = NULL;
	TDB_DATA value;
	NTSTATUS status;

	if (!locked) {
		status = dbwrap_parse_record(
			db, string_tdb_data(key), print_fn, NULL);
		if (NT_STATUS_EQUAL(status, NT_STATUS_NOT_FOUND)) {
			printf("none\n");
		} else if (!NT_STATUS_IS_OK(status)) {
			printf("error %s\n", nt_errstr(status));
		}
		goto done;
	}
	rec = dbwrap_fetch_locked(db, frame, string_tdb_data(key));
	if (rec == NULL) {
		printf("error no lock\n");
		goto done;
	}
	value = dbwrap_record_get_value(rec);
	if (value.dsize == 0) {
		printf("none\n");
	} else {
		printf("value %.*s %c\n",
		       (int)value.dsize, (const char *)value.dptr,
		       dbwrap_record_get_flags(rec).persistent ? 'p' : '-');
	}
done:
	TALLOC_FREE(frame);
}

static void list(bool stored)
{
	NTSTATUS status;
	int count = 0;

	if (stored) {
		status = dbwrap_traverse_per_rec_persistent_read(
			db, list_fn, NULL, &count);
	} else {
		status = dbwrap_traverse_read(db, list_fn, NULL, &count);
	}
	if (!NT_STATUS_IS_OK(status)) {
		printf("error %s\n", nt_errstr(status));
		return;
	}
	printf("ok %d\n", count);
}

static void command(char *line)
{
	const char *word[3] = {};
	char *save = NULL;
	char *p = NULL;
	int n = 0;

	for (p = strtok_r(line, " \n", &save);
	     p != NULL && n < 3;
	     p = strtok_r(NULL, " \n", &save))
	{
		word[n] = p;
		n += 1;
	}
	if (n == 1 && strcmp(word[0], "list") == 0) {
		list(false);
	} else if (n == 1 && strcmp(word[0], "store") == 0) {
		list(true);
	} else if (n == 1 && strcmp(word[0], "wipe") == 0) {
		struct dbwrap_wipe_flags flags = {
			.wipe_default = true,
			.wipe_persistent_backup_db = true,
		};
		int ret = dbwrap_wipe(db, flags);

		done(ret == 0 ? NT_STATUS_OK : NT_STATUS_UNSUCCESSFUL, true);
	} else if (n == 3 && strcmp(word[0], "put") == 0) {
		done(change(word[1], word[2], DBWRAP_STORE_PERSISTENT), true);
	} else if (n == 3 && strcmp(word[0], "stage") == 0) {
		done(change(word[1], word[2], DBWRAP_STORE_PERSISTENT), false);
	} else if (n == 3 && strcmp(word[0], "plain") == 0) {
		done(change(word[1], word[2], 0), false);
	} else if (n == 2 && strcmp(word[0], "del") == 0) {
		done(change(word[1], NULL, 0), true);
	} else if (n == 2 && strcmp(word[0], "get") == 0) {
		read_one(word[1], false);
	} else if (n == 2 && strcmp(word[0], "lock") == 0) {
		read_one(word[1], true);
	} else if (n == 3 && strcmp(word[0], "bench") == 0) {
		bench(atoi(word[1]), word[2]);
	} else if (n == 3 && strcmp(word[0], "ctdbench") == 0) {
		bench_peer(atoi(word[1]), word[2]);
	} else if (n != 0) {
		printf("error not understood\n");
	}
}

int main(int argc, const char *argv[])
{
	TALLOC_CTX *frame = talloc_stackframe();
	struct loadparm_context *lp_ctx = NULL;
	const char *conf = getenv("SMB_CONF_PATH");
	char *path = NULL;
	char line[4096];
	bool ok;

	if (argc != 1 || conf == NULL) {
		fprintf(stderr, "usage: SMB_CONF_PATH=smb.conf phdb\n");
		return 2;
	}
	setup_logging("phdb", DEBUG_STDERR);
	smb_init_locale();
	fault_setup();
	lp_ctx = loadparm_init_s3(frame, loadparm_s3_helpers());
	if (lp_ctx == NULL) {
		return 1;
	}
	ok = lp_load_global(conf);
	if (!ok) {
		fprintf(stderr, "phdb: cannot load %s\n", conf);
		return 1;
	}
	load_interfaces();
	if (global_messaging_context() == NULL) {
		fprintf(stderr, "phdb: no messaging: is ctdbd there?\n");
		return 1;
	}
	path = lock_path(frame, "phdb.tdb");
	db = db_open(NULL, path, 0,
		     TDB_DEFAULT | TDB_CLEAR_IF_FIRST | TDB_INCOMPATIBLE_HASH,
		     O_RDWR | O_CREAT, 0600, DBWRAP_LOCK_ORDER_1,
		     DBWRAP_FLAG_PER_REC_PERSISTENT);
	if (db == NULL) {
		fprintf(stderr, "phdb: cannot open: %s\n", strerror(errno));
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		command(line);
		fflush(stdout);
	}
	TALLOC_FREE(db);
	TALLOC_FREE(frame);
	return 0;
}

/*
 * phstore tests: writers that say what was acknowledged to them
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * usage: ackload PATH load PREFIX SECONDS   16 waiting writers on 200 keys;
 *                "A key number" per acknowledgement, at the end "E errors
 *                longest-wait-ms"; ends when it is told it is fenced, and by
 *                SIGTERM as when its time is over
 *        ackload PATH check FILE...         every number acknowledged there
 *                is in the store, or a later one; prints how many keys
 *        ackload PATH fence NAME [block]
 *        ackload PATH put KEY               one commit; prints the error
 *        ackload PATH del KEY               the same, a deletion
 *        ackload PATH room                  prints what phstore_room() says
 *
 * PATH: "rados:...", or a folder whose log a phstored ships to RADOS.
 * Exit 0, 1 when a check failed, or 100 plus the phstore error.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tevent.h>

#include "phstore_private.h"
#include "phstore_ship.h"
#include "rados.h"

#define NUM_KEYS 200
#define NUM_WRITERS 16

static struct phstore *store;
static const char *prefix;
static uint64_t end_ns;
static uint64_t longest_ns;
static unsigned pending;
static unsigned errors;
static unsigned long counter;
static enum phstore_err fatal;
static volatile sig_atomic_t told_to_end;

struct writer {
	struct tevent_context *ev;
	struct phstore_txn *txn;
	unsigned key;
	unsigned long number;
	uint64_t start_ns;
};

static void next(struct writer *w);

static void done(struct tevent_req *req)
{
	struct writer *w = tevent_req_callback_data(req, struct writer);
	enum phstore_err err = phstore_commit_recv(req, NULL);
	uint64_t took = phstore_now_ns() - w->start_ns;

	talloc_free(req);
	TALLOC_FREE(w->txn);
	pending -= 1;
	longest_ns = took > longest_ns ? took : longest_ns;
	if (err == PHSTORE_OK) {
		printf("A %s%u %lu\n", prefix, w->key, w->number);
	} else if (err == PHSTORE_ERR_NOT_READY) {
		/* as smbd does; phstored is just starting */
		err = phstore_gate_wait(store, 60000);
		fatal = err;
	} else {
		errors += 1;
		fatal = err;
	}
	if (phstore_now_ns() < end_ns && !told_to_end && fatal == PHSTORE_OK) {
		next(w);
	}
}

static enum phstore_err put_txn(struct phstore_txn *txn, const char *key,
				const char *value)
{
	struct phstore_blob k = { key, strlen(key) };
	struct phstore_blob v = { value, strlen(value) };

	return phstore_txn_put(txn, "acked", k, v, NULL);
}

static void next(struct writer *w)
{
	struct tevent_req *req = NULL;
	char key[64], value[64];

	/* each writer has its own keys: one number after the other */
	w->key = (w->key + NUM_WRITERS) % NUM_KEYS;
	counter += 1;
	w->number = counter;
	snprintf(key, sizeof(key), "%s%u", prefix, w->key);
	snprintf(value, sizeof(value), "%lu", w->number);
	w->txn = phstore_txn_new(w, store);
	w->start_ns = phstore_now_ns();
	if (put_txn(w->txn, key, value) != PHSTORE_OK) {
		abort();
	}
	req = phstore_commit_send(w, w->ev, w->txn);
	if (req == NULL) {
		abort();
	}
	tevent_req_set_callback(req, done, w);
	pending += 1;
}

static void on_term(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static int load(double secs)
{
	struct sigaction sa = { .sa_handler = on_term, .sa_flags = SA_RESTART };
	struct tevent_context *ev = tevent_context_init(NULL);
	unsigned i;

	sigaction(SIGTERM, &sa, NULL);

	/* above what an earlier one of the same prefix had */
	counter = phstore_now_ns() / 1000;
	end_ns = phstore_now_ns() + (uint64_t)(secs * 1e9);
	for (i = 0; i < NUM_WRITERS; i++) {
		struct writer *w = talloc_zero(ev, struct writer);

		w->ev = ev;
		w->key = i;
		next(w);
	}
	while (pending > 0) {
		if (tevent_loop_once(ev) != 0) {
			abort();
		}
		fflush(stdout);
	}
	printf("E %u %.1f\n", errors, longest_ns / 1e6);
	talloc_free(ev);
	return fatal == PHSTORE_OK ? 0 : 100 + (int)fatal;
}

struct acked {
	char key[64];
	unsigned long number;
};

static struct acked *list;
static size_t num;

static void take(const char *key, unsigned long number)
{
	size_t i;

	for (i = 0; i < num; i++) {
		if (strcmp(list[i].key, key) == 0) {
			if (number > list[i].number) {
				list[i].number = number;
			}
			return;
		}
	}
	list = realloc(list, (num + 1) * sizeof(list[0]));
	if (list == NULL) {
		abort();
	}
	snprintf(list[num].key, sizeof(list[num].key), "%s", key);
	list[num].number = number;
	num += 1;
}

static int check(int argc, char **argv)
{
	unsigned long acks = 0;
	int bad = 0;
	size_t i;
	int a;

	for (a = 0; a < argc; a++) {
		FILE *f = fopen(argv[a], "r");
		char line[128], key[64];
		unsigned long number;

		while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
			/* the last line of a killed one may be half a line */
			if (strchr(line, '\n') != NULL &&
			    sscanf(line, "A %63s %lu", key, &number) == 2)
			{
				take(key, number);
				acks += 1;
			}
		}
		if (f != NULL) {
			fclose(f);
		}
	}
	for (i = 0; i < num; i++) {
		struct phstore_blob k = { list[i].key, strlen(list[i].key) };
		struct phstore_record rec = {};
		char value[64] = "";
		enum phstore_err err;

		err = phstore_get(store, store, "acked", k, &rec);
		if (err == PHSTORE_OK) {
			snprintf(value, sizeof(value), "%.*s",
				 (int)rec.value.len,
				 (const char *)rec.value.data);
		}
		if (err != PHSTORE_OK ||
		    strtoul(value, NULL, 10) < list[i].number)
		{
			printf("LOST %s: %lu acknowledged, there is %s %s\n",
			       list[i].key, list[i].number,
			       phstore_errname(err), value);
			bad = 1;
		}
	}
	printf("checked %zu keys, %lu acknowledgements\n", num, acks);
	return bad;
}

static int one(const char *key, bool put)
{
	struct phstore_txn *txn = phstore_txn_new(store, store);
	struct phstore_blob k = { key, strlen(key) };
	enum phstore_err err;

	err = put ? put_txn(txn, key, "1") :
	      phstore_txn_delete(txn, "acked", k, NULL);
	if (err == PHSTORE_OK) {
		err = phstore_commit(txn, NULL);
	}
	printf("%s: %s\n", phstore_errname(err),
	       err != PHSTORE_OK ? phstore_last_error() : "");
	return err == PHSTORE_OK ? 0 : 100 + (int)err;
}

int main(int argc, char **argv)
{
	struct phstore_open_options opts = { .flags = PHSTORE_OPEN_CREATE };
	const char *what = argc > 2 ? argv[2] : "";
	enum phstore_err err;
	int ret = 2;

	if (argc > 2 && argv[1][0] == '/') {
		/* a folder, whose log a phstored ships */
		opts.backend = "rados";
		opts.flags = 0;
	}
	err = argc > 2 ? phstore_open(NULL, argv[1], &opts, &store) :
			 PHSTORE_ERR_INVALID;
	if (err != PHSTORE_OK) {
		printf("%s: %s\n", phstore_errname(err),
		       phstore_last_error());
		return 100 + (int)err;
	}
	if (strcmp(what, "load") == 0 && argc == 5) {
		prefix = argv[3];
		ret = load(atof(argv[4]));
	} else if (strcmp(what, "check") == 0) {
		ret = check(argc - 3, argv + 3);
	} else if (strcmp(what, "fence") == 0 && argc > 3) {
		err = phstore_rados_fence(store, argv[3], argc > 4);
		printf("%s\n", phstore_errname(err));
		ret = err == PHSTORE_OK ? 0 : 100 + (int)err;
	} else if (strcmp(what, "put") == 0 && argc == 4) {
		ret = one(argv[3], true);
	} else if (strcmp(what, "del") == 0 && argc == 4) {
		ret = one(argv[3], false);
	} else if (strcmp(what, "room") == 0) {
		err = phstore_room(store, 16384);
		printf("%s\n", phstore_errname(err));
		ret = err == PHSTORE_OK ? 0 : 100 + (int)err;
	}
	fflush(stdout);
	err = phstore_close(store);
	return ret == 0 && err != PHSTORE_OK ? 100 + (int)err : ret;
}

/*
 * phstore cluster test: the client of ctdbd, as a program
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * usage: ctdbprobe SOCKET watch SECONDS       a line for each event
 *        ctdbprobe SOCKET listen SECONDS      the same, and each message
 *        ctdbprobe SOCKET send NODE TEXT      a message to listen
 *        ctdbprobe SOCKET update DB KEY VALUE
 *        ctdbprobe SOCKET read DB KEY         the copy on this node
 *
 * Lines begin with the monotonic clock, in seconds. Exit 0, or 1 with a reason.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/ctdb/client/ctdb_client.h"

#define SRVID	(PHCTDB_SRVID_BASE | 0x74657374U)

struct probe {
	struct tevent_context *ev;
	struct phctdb *c;
	char **argv;
	bool started, over;
	int code;
	struct phctdb_db *db;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void end(struct probe *p, const char *what, int err)
{
	if (err != 0) {
		printf("%s: %s\n", what, strerror(err));
	}
	p->code = err == 0 ? 0 : 1;
	p->over = true;
}

static bool update_fn(struct phctdb_header *header, struct phctdb_bytes old,
		      struct phctdb_bytes *value, void *private_data)
{
	struct probe *p = private_data;

	printf("was rsn %llu '%.*s'\n", (unsigned long long)header->rsn,
	       (int)old.len, (const char *)old.data);
	*value = (struct phctdb_bytes) {
		.data = (const uint8_t *)p->argv[5],
		.len = strlen(p->argv[5]),
	};
	return true;
}

static void update_done(struct tevent_req *req)
{
	struct probe *p = tevent_req_callback_data(req, struct probe);
	bool changed = false;
	int ret = phctdb_update_recv(req, &changed);

	end(p, "update", ret);
}

static struct phctdb_bytes key_of(struct probe *p)
{
	return (struct phctdb_bytes) {
		.data = (const uint8_t *)p->argv[4],
		.len = strlen(p->argv[4]),
	};
}

static void attached(struct tevent_req *req)
{
	struct probe *p = tevent_req_callback_data(req, struct probe);
	struct phctdb_header header;
	uint8_t *value = NULL;
	size_t len = 0;
	int ret = phctdb_attach_recv(req, p, &p->db);

	if (ret != 0) {
		end(p, "attach", ret);
		return;
	}
	if (strcmp(p->argv[2], "update") == 0) {
		req = phctdb_update_send(p, p->ev, p->c, p->db, key_of(p),
					 update_fn, p);
		tevent_req_set_callback(req, update_done, p);
		return;
	}
	ret = phctdb_record_read(p, p->db, key_of(p), &header, &value, &len);
	if (ret == 0) {
		printf("rsn %llu dmaster %u '%.*s'\n",
		       (unsigned long long)header.rsn, header.dmaster,
		       (int)len, (const char *)value);
	}
	end(p, "read", ret);
}

static void start(struct probe *p)
{
	const char *what = p->argv[2];
	struct tevent_req *req = NULL;
	struct iovec iov;
	int ret;

	p->started = true;
	if (strcmp(what, "send") == 0) {
		iov.iov_base = p->argv[4];
		iov.iov_len = strlen(p->argv[4]);
		ret = phctdb_message(p->c, (uint32_t)atoi(p->argv[3]), SRVID,
				     &iov, 1);
		end(p, "send", ret);
	} else if (strcmp(what, "update") == 0 || strcmp(what, "read") == 0) {
		req = phctdb_attach_send(p, p->ev, p->c, p->argv[3]);
		tevent_req_set_callback(req, attached, p);
	}
}

static void on_event(struct phctdb *c, enum phctdb_event ev,
		     const struct phctdb_state *s, void *private_data)
{
	static const char *name[] = { "?", "up", "down", "nodes", "recovery",
				      "generation", "addresses", "poke" };
	struct probe *p = private_data;
	uint32_t i;

	(void)c;
	printf("%.3f %s pnn %u generation %u run %u active", now(),
	       name[ev], s->pnn, s->generation, s->runstate);
	for (i = 0; i < s->num_active; i++) {
		printf(" %u", s->active[i]);
	}
	printf("\n");
	if (!p->started && s->up && !s->recovering &&
	    s->runstate == PHCTDB_RUN_RUNNING) {
		start(p);
	}
}

static void on_message(struct phctdb *c, uint64_t srvid, const uint8_t *data,
		       size_t len, void *private_data)
{
	(void)c;
	(void)srvid;
	(void)private_data;
	printf("%.3f message '%.*s'\n", now(), (int)len,
	       (const char *)data);
}

static void on_log(void *private_data, int level, const char *msg)
{
	(void)private_data;
	if (level < 6) {
		printf("%.3f log %s\n", now(), msg);
	}
}

static void on_time(struct tevent_context *ev, struct tevent_timer *te,
		    struct timeval t, void *private_data)
{
	struct probe *p = private_data;

	(void)ev;
	(void)te;
	(void)t;
	p->over = true;
	p->code = strcmp(p->argv[2], "watch") != 0 &&
		  strcmp(p->argv[2], "listen") != 0;
	if (p->code) {
		printf("no answer in time\n");
	}
}

int main(int argc, char **argv)
{
	struct probe *p = talloc_zero(NULL, struct probe);
	struct phctdb_options opt = {
		.socket = argv[1],
		.event_fn = on_event,
		.log_fn = on_log,
		.private_data = p,
		.poll_ms = 50,
	};
	bool watch;
	int code;

	if (argc < 4) {
		fprintf(stderr, "usage: see the head of ctdbprobe.c\n");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	watch = strcmp(argv[2], "watch") == 0 ||
		strcmp(argv[2], "listen") == 0;
	p->argv = argv;
	p->ev = tevent_context_init(p);
	p->c = phctdb_create(p, p->ev, &opt);
	if (p->c == NULL) {
		return 1;
	}
	if (strcmp(argv[2], "listen") == 0) {
		phctdb_listen(p->c, SRVID, on_message, p);
	}
	tevent_add_timer(p->ev, p, tevent_timeval_current_ofs(
				 watch ? (uint32_t)atoi(argv[3]) : 30, 0),
			 on_time, p);
	while (!p->over) {
		tevent_loop_once(p->ev);
	}
	code = p->code;
	talloc_free(p);
	return code;
}

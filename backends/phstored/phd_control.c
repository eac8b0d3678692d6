/*
 * phstored: the control socket
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * STORE/phstored.sock, 0600, a stream: one line in, the answer out, closed.
 * `status` answers JSON; other commands answer a line that begins with "ok"
 * or "error". A client that sends nothing, too much or something else is
 * told so and closed; it can keep nobody waiting.
 */

#include "phstored.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_LEN 1024
#define CLIENTS_MAX 32
#define CLIENT_MS 5000

struct control {
	struct phd *phd;
	int fd;
	int num_clients;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

struct client {
	struct control *control;
	struct tevent_fd *fde;
	int fd;
	char line[LINE_MAX_LEN + 1];
	size_t len;
	char *answer;
	size_t sent;
};

static struct control *control;

char *phd_status(struct phd *phd, TALLOC_CTX *mem_ctx)
{
	struct phd_json *j = phd_json_new(mem_ctx);
	struct phstore_ship_state st = {};
	struct phstore_stat s = {};
	enum phstore_err err;
	const char *text = NULL;

	if (j == NULL) {
		return NULL;
	}
	(void)phstore_ship_get_state(phd->store, &st);
	phd_json_begin(j, NULL, '{');
	phd_json_str(j, "daemon", "phstored");
	phd_json_u64(j, "pid", (uint64_t)getpid());
	phd_json_str(j, "store", phd->conf->store);
	phd_json_str(j, "sink", phd->ops->name);
	phd_json_str(j, "cluster", phd->conf->cluster);
	phd_json_bool(j, "ca_ready", st.writable);
	phd_json_str(j, "reason", st.reason);
	phd_json_u64(j, "epoch", st.epoch);
	phd_json_u64(j, "generation", st.generation);
	phd_json_u64(j, "head_lsn", st.head_lsn);
	phd_json_u64(j, "replicated_lsn", st.mem_lsn);
	phd_json_u64(j, "safe_lsn", st.disk_lsn);
	phd_json_u64(j, "backlog_bytes", st.head_lsn > st.released_lsn ?
		     st.head_lsn - st.released_lsn : 0);
	phd_json_u64(j, "backlog_max", st.backlog_max);
	phd_json_u64(j, "times_fenced", st.num_fenced);
	err = phstore_stat(phd->store, &s);
	if (err == PHSTORE_OK) {
		phd_json_u64(j, "records", s.num_records);
		phd_json_u64(j, "tombstones", s.num_tombstones);
		phd_json_u64(j, "log_bytes", s.log_bytes);
		phd_json_u64(j, "live_bytes", s.live_bytes);
		phd_json_u64(j, "syncs", s.num_syncs);
		phd_json_u64(j, "damaged_regions", s.num_damaged);
		phd_json_bool(j, "latched", s.latched != PHSTORE_OK);
	}
	phd->ops->status(phd, j);
	phd_json_end(j, '}');
	text = phd_json_text(j);
	return text != NULL ? talloc_asprintf(mem_ctx, "%s\n", text) : NULL;
}

static char *execute(struct phd *phd, struct client *c)
{
	char *answer = NULL;

	if (strcmp(c->line, "status") == 0) {
		return phd_status(phd, c);
	}
	if (strcmp(c->line, "stop") == 0) {
		phd->stopping = true;
		return talloc_strdup(c, "ok\n");
	}
	answer = phd->ops->command(phd, c, c->line);
	if (answer == NULL) {
		answer = talloc_strdup(c, "error: no such command; there are "
				       "status, stop, force\n");
	}
	return answer;
}

static int client_destructor(struct client *c)
{
	TALLOC_FREE(c->fde);
	close(c->fd);
	c->control->num_clients -= 1;
	return 0;
}

static void client_write(struct client *c)
{
	size_t len = strlen(c->answer);
	ssize_t n;

	n = send(c->fd, c->answer + c->sent, len - c->sent,
		 MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == -1 && errno != EAGAIN && errno != EINTR) {
		talloc_free(c);
		return;
	}
	c->sent += n > 0 ? (size_t)n : 0;
	if (c->sent == len) {
		talloc_free(c);
		return;
	}
	tevent_fd_set_flags(c->fde, TEVENT_FD_WRITE);
}

static void client_handler(struct tevent_context *ev, struct tevent_fd *fde,
			   uint16_t flags, void *private_data)
{
	struct client *c = private_data;
	char *end = NULL;
	ssize_t n;

	(void)ev;
	(void)fde;
	if (flags & TEVENT_FD_WRITE) {
		client_write(c);
		return;
	}
	n = recv(c->fd, c->line + c->len, LINE_MAX_LEN - c->len,
		 MSG_DONTWAIT);
	if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (n <= 0) {
		talloc_free(c);
		return;
	}
	c->len += (size_t)n;
	c->line[c->len] = '\0';
	end = memchr(c->line, '\n', c->len);
	if (end == NULL && c->len < LINE_MAX_LEN) {
		return;
	}
	if (end == NULL) {
		c->answer = talloc_strdup(c, "error: line too long\n");
	} else {
		*end = '\0';
		c->answer = execute(c->control->phd, c);
	}
	if (c->answer == NULL) {
		talloc_free(c);
		return;
	}
	client_write(c);
}

static void client_timeout(struct tevent_context *ev, struct tevent_timer *te,
			   struct timeval now, void *private_data)
{
	(void)ev;
	(void)te;
	(void)now;
	talloc_free(private_data);
}

static void accept_handler(struct tevent_context *ev, struct tevent_fd *fde,
			   uint16_t flags, void *private_data)
{
	struct control *ct = private_data;
	struct client *c = NULL;
	int fd;

	(void)fde;
	(void)flags;
	fd = accept4(ct->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd == -1) {
		return;
	}
	if (ct->num_clients >= CLIENTS_MAX) {
		close(fd);
		return;
	}
	c = talloc_zero(ct, struct client);
	if (c == NULL) {
		close(fd);
		return;
	}
	c->control = ct;
	c->fd = fd;
	ct->num_clients += 1;
	talloc_set_destructor(c, client_destructor);
	c->fde = tevent_add_fd(ev, c, fd, TEVENT_FD_READ, client_handler, c);
	if (c->fde == NULL ||
	    tevent_add_timer(ev, c, tevent_timeval_current_ofs(
				     0, CLIENT_MS * 1000),
			     client_timeout, c) == NULL)
	{
		talloc_free(c);
	}
}

enum phd_exit phd_control_start(struct phd *phd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int n, ret;

	control = talloc_zero(phd, struct control);
	if (control == NULL) {
		return PHD_EXIT_FAILED;
	}
	control->phd = phd;
	n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/phstored.sock",
		     phd->conf->store);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path)) {
		phd_log(0, "%s: the path is too long for a socket",
			phd->conf->store);
		return PHD_EXIT_USAGE;
	}
	memcpy(control->path, addr.sun_path, sizeof(addr.sun_path));
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
			     SOCK_NONBLOCK, 0);
	if (control->fd == -1) {
		phd_log(0, "socket: %s", strerror(errno));
		return PHD_EXIT_FAILED;
	}
	/* attached: whoever had it is gone */
	(void)unlink(addr.sun_path);
	ret = bind(control->fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret == 0) {
		ret = chmod(addr.sun_path, 0600);
	}
	if (ret == 0) {
		ret = listen(control->fd, 16);
	}
	if (ret == -1) {
		phd_log(0, "%s: %s", addr.sun_path, strerror(errno));
		return PHD_EXIT_FAILED;
	}
	if (tevent_add_fd(phd->ev, control, control->fd, TEVENT_FD_READ,
			  accept_handler, control) == NULL)
	{
		return PHD_EXIT_FAILED;
	}
	return PHD_EXIT_OK;
}

void phd_control_stop(struct phd *phd)
{
	(void)phd;
	if (control != NULL) {
		if (control->path[0] != '\0') {
			(void)unlink(control->path);
		}
		TALLOC_FREE(control);
	}
}

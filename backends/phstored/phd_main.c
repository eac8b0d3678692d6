/*
 * phstored: main program
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Opens the store, attaches as its sink, runs the sink in one event loop.
 * Foreground, log on stderr: systemd or a script does the rest. Killed at
 * any time it loses nothing: all it must remember is in the store's folder.
 */

#include "phstored.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "phstore_private.h"

/* A clean end waits so long for the other nodes. */
/* Before a daemon ends whose store has failed before it began. */
#define FAILED_PAUSE_S 2
#define STOP_MS 5000

static const struct phd_sink_ops *const phd_sinks[] = {
	&phd_sink_ctdb,
#ifdef PHSTORE_WITH_RADOS
	&phd_sink_rados,
#endif
};

static int log_level = 3;

void phd_log(int level, const char *fmt, ...)
{
	struct timespec ts;
	struct tm tm = {};
	char when[32];
	va_list ap;

	if (level > log_level) {
		return;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	localtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	fprintf(stderr, "%s.%03ld phstored[%d]: ", when,
		ts.tv_nsec / 1000000, (int)getpid());
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void store_log(void *private_data, int level, const char *msg)
{
	(void)private_data;
	/* syslog's levels: 3 is an error, 6 a remark */
	phd_log(level - 3, "%s", msg);
}

void phd_fail(struct phd *phd, enum phd_exit code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	phd_log(0, "%s", text);
	if (!phd->ended) {
		phd->ended = true;
		phd->exit_code = code;
	}
}

enum phstore_err phd_publish(struct phd *phd, uint64_t epoch, uint64_t floor,
			     uint64_t generation, uint32_t node,
			     const char *reason)
{
	struct phstore_ship_state st = {
		.epoch = epoch,
		.floor = floor,
		.generation = generation,
		.node = node,
		.writable = reason == NULL,
		.complete = reason == NULL,
	};
	enum phstore_err err;

	if (reason != NULL) {
		snprintf(st.reason, sizeof(st.reason), "%s", reason);
	}
	err = phstore_ship_publish(phd->ship, &st);
	switch (err) {
	case PHSTORE_OK:
	case PHSTORE_ERR_NOT_READY:
	case PHSTORE_ERR_FULL:
		break;
	default:
		phd_fail(phd, PHD_EXIT_FAILED, "%s", phstore_last_error());
		break;
	}
	return err;
}

static void on_signal(struct tevent_context *ev, struct tevent_signal *se,
		      int signum, int count, void *siginfo,
		      void *private_data)
{
	struct phd *phd = private_data;

	(void)ev;
	(void)se;
	(void)count;
	(void)siginfo;
	if (phd->stopping) {
		phd->ended = true;
	}
	phd_log(1, "signal %d: ending", signum);
	phd->stopping = true;
}

static void on_readable(struct tevent_context *ev, struct tevent_fd *fde,
			uint16_t flags, void *private_data)
{
	struct phd *phd = private_data;

	(void)ev;
	(void)fde;
	(void)flags;
	phstore_ship_drain(phd->ship);
	phd->ops->readable(phd);
}

static void on_tick(struct tevent_context *ev, struct tevent_timer *te,
		    struct timeval now, void *private_data)
{
	struct phd *phd = private_data;

	(void)te;
	phd->ops->tick(phd);
	/* from now, not from when it was due: after a pause one is enough */
	now = tevent_timeval_current_ofs(0, PHD_TICK_MS * 1000);
	te = tevent_add_timer(ev, phd, now, on_tick, phd);
	if (te == NULL) {
		phd_fail(phd, PHD_EXIT_FAILED, "out of memory");
	}
}

static bool write_pid(const struct phd_config *conf)
{
	FILE *f = NULL;
	int ret;

	if (conf->pid_file == NULL) {
		return true;
	}
	f = fopen(conf->pid_file, "we");
	if (f == NULL) {
		phd_log(0, "%s: %s", conf->pid_file, strerror(errno));
		return false;
	}
	fprintf(f, "%d\n", (int)getpid());
	ret = fclose(f);
	if (ret != 0) {
		phd_log(0, "%s: %s", conf->pid_file, strerror(errno));
	}
	return ret == 0;
}

/*
 * A sync of this store has failed, and somebody has had it open since. To ask
 * to join would hold up all others, until it fails once more.
 */
static enum phd_exit refuse_failed(struct phd *phd)
{
	struct phstore_stat st = {};
	enum phstore_err err;

	err = phstore_stat(phd->store, &st);
	if (err != PHSTORE_OK || st.latched == PHSTORE_OK) {
		return PHD_EXIT_OK;
	}
	phd_log(0, "%s: the store has failed (%s): no member until all that "
		"have it open, smbds and tools, have ended", phd->conf->store,
		strerror(st.latched_errno));
	return PHD_EXIT_FAILED;
}

static enum phd_exit open_store(struct phd *phd)
{
	struct phd_config *conf = phd->conf;
	struct phstore_open_options oo = {
		.flags = PHSTORE_OPEN_CREATE,
		.backend = conf->sink,
		.segment_size = conf->segment_size,
		.log_fn = store_log,
	};
	struct phstore_ship_options so = {
		.kind = conf->sink,
		.name = conf->cluster,
		.backlog_max = conf->backlog,
		.adopt = conf->adopt,
	};
	enum phstore_err err;

	if (conf->allow_volatile) {
		oo.flags |= PHSTORE_OPEN_ALLOW_VOLATILE;
	}
	err = phstore_open(phd, conf->store, &oo, &phd->store);
	if (err == PHSTORE_OK) {
		err = phstore_ship_attach(phd, phd->store, &so, &phd->ship);
	}
	switch (err) {
	case PHSTORE_OK:
		return refuse_failed(phd);
	case PHSTORE_ERR_BUSY:
		phd_log(0, "%s", phstore_last_error());
		return PHD_EXIT_BUSY;
	case PHSTORE_ERR_SINK:
	case PHSTORE_ERR_INVALID:
		phd_log(0, "%s", phstore_last_error());
		return PHD_EXIT_REFUSED;
	default:
		phd_log(0, "%s", phstore_last_error());
		return PHD_EXIT_STORE;
	}
}

static enum phd_exit run(struct phd *phd)
{
	struct timeval soon = tevent_timeval_current_ofs(0, 1000);
	enum phd_exit code;
	bool ok;

	if (tevent_add_signal(phd->ev, phd, SIGTERM, 0, on_signal,
			      phd) == NULL ||
	    tevent_add_signal(phd->ev, phd, SIGINT, 0, on_signal,
			      phd) == NULL ||
	    tevent_add_fd(phd->ev, phd, phstore_ship_fd(phd->ship),
			  TEVENT_FD_READ, on_readable, phd) == NULL ||
	    tevent_add_timer(phd->ev, phd, soon, on_tick, phd) == NULL)
	{
		phd_log(0, "out of memory");
		return PHD_EXIT_FAILED;
	}
	code = phd_control_start(phd);
	if (code != PHD_EXIT_OK) {
		return code;
	}
	ok = write_pid(phd->conf);
	if (!ok) {
		return PHD_EXIT_USAGE;
	}
	code = phd->ops->start(phd);
	if (code != PHD_EXIT_OK) {
		return code;
	}
	phd_log(1, "ships %s to %s \"%s\"", phd->conf->store, phd->ops->name,
		phd->conf->cluster);
	while (!phd->ended) {
		int ret = tevent_loop_once(phd->ev);

		if (ret != 0) {
			phd_fail(phd, PHD_EXIT_FAILED, "event loop: %s",
				 strerror(errno));
		}
		if (!phd->stopping || phd->ended) {
			continue;
		}
		if (phd->stop_ns == 0) {
			phd->stop_ns = phstore_now_ns();
		}
		if (phd->ops->flushed(phd)) {
			phd->ended = true;
		} else if (phstore_now_ns() - phd->stop_ns >
			   STOP_MS * 1000000ULL)
		{
			phd_log(1, "ending although not all was shipped; it "
				"will be after the next start");
			phd->ended = true;
		}
	}
	phd->ops->stop(phd);
	return phd->exit_code;
}

static void choose_sink(struct phd *phd)
{
	size_t i;

	for (i = 0; i < sizeof(phd_sinks) / sizeof(phd_sinks[0]); i++) {
		if (strcmp(phd_sinks[i]->name, phd->conf->sink) == 0) {
			phd->ops = phd_sinks[i];
		}
	}
}

int main(int argc, char *argv[])
{
	struct phd *phd = talloc_zero(NULL, struct phd);
	enum phd_exit code;
	enum phstore_err err;

	if (phd == NULL) {
		return PHD_EXIT_FAILED;
	}
	umask(077);
	signal(SIGPIPE, SIG_IGN);
	code = phd_config_read(phd, argc, argv, &phd->conf);
	if (code != PHD_EXIT_OK || phd->conf == NULL) {
		goto done;
	}
	log_level = phd->conf->debug;
	choose_sink(phd);
	if (phd->ops == NULL) {
		phd_log(0, "there is no sink \"%s\"", phd->conf->sink);
		code = PHD_EXIT_USAGE;
		goto done;
	}
	phd->ev = tevent_context_init(phd);
	if (phd->ev == NULL) {
		code = PHD_EXIT_FAILED;
		goto done;
	}
	code = open_store(phd);
	if (code == PHD_EXIT_FAILED) {
		struct timespec pause = { .tv_sec = FAILED_PAUSE_S };

		/*
		 * It is started again at once, and is not to be the one who
		 * has the store open all the time.
		 */
		phstore_ship_detach(phd->ship);
		(void)phstore_close(phd->store);
		phd->store = NULL;
		nanosleep(&pause, NULL);
	}
	if (code != PHD_EXIT_OK) {
		goto done;
	}
	code = run(phd);
	phd_control_stop(phd);
	phstore_ship_detach(phd->ship);
	err = phstore_close(phd->store);
	phd->store = NULL;
	if (err != PHSTORE_OK && code == PHD_EXIT_OK) {
		phd_log(0, "%s", phstore_last_error());
		code = PHD_EXIT_FAILED;
	}
	if (phd->conf->pid_file != NULL) {
		(void)unlink(phd->conf->pid_file);
	}
	phd_log(1, "ended with code %d", (int)code);
done:
	talloc_free(phd);
	return (int)code;
}

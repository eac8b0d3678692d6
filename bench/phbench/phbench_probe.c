/*
 * phbench: what the server spent, seen from outside
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Three sources, all only for a server on this machine: the counter file of
 * bench/preload/synccount.c; the CPU clocks of the server's process and all
 * its descendants (clock_getcpuclockid(): nanoseconds, ended threads
 * included; the jiffies of /proc are too coarse for a few thousand cycles);
 * and what /proc says of their writes and context switches.
 * Processes that ended between two samples are not seen, so samples are
 * taken while all connections are up. (A thread that ended takes its context
 * switches along.)
 */

#include "includes.h"
#include "phbench.h"
#include "synccount.h"

#include <dirent.h>
#include <sys/mman.h>

struct phbench_probe {
	const struct synccount_page *page;
	pid_t server_pid;
};

static const char *const names[] = SYNCCOUNT_NAMES;

size_t phbench_probe_num(void)
{
	return SYNCCOUNT_NUM;
}

const char *phbench_probe_name(size_t i)
{
	return names[i];
}

static int phbench_probe_destructor(struct phbench_probe *probe)
{
	if (probe->page != NULL) {
		munmap(discard_const_p(void, probe->page),
		       sizeof(*probe->page));
	}
	return 0;
}

struct phbench_probe *phbench_probe_new(TALLOC_CTX *mem_ctx,
					const char *counter_file,
					pid_t server_pid,
					char **error)
{
	struct phbench_probe *probe = NULL;
	struct stat st;
	void *map = NULL;
	int fd;
	int ret;

	probe = talloc_zero(mem_ctx, struct phbench_probe);
	if (probe == NULL) {
		return NULL;
	}
	probe->server_pid = server_pid;
	talloc_set_destructor(probe, phbench_probe_destructor);

	if (counter_file == NULL) {
		return probe;
	}

	fd = open(counter_file, O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		goto fail;
	}
	ret = fstat(fd, &st);
	if (ret == -1 || (size_t)st.st_size < sizeof(*probe->page)) {
		close(fd);
		goto fail;
	}
	map = mmap(NULL, sizeof(*probe->page), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED) {
		goto fail;
	}
	probe->page = map;
	if (probe->page->magic != SYNCCOUNT_MAGIC) {
		goto fail;
	}
	return probe;
fail:
	*error = talloc_asprintf(
		mem_ctx, "%s is no counter file of synccount", counter_file);
	TALLOC_FREE(probe);
	return NULL;
}

/* The parent of a process, 0 if there is none. */
static pid_t parent_of(pid_t pid)
{
	char path[64];
	char line[512];
	const char *p = NULL;
	FILE *f = NULL;
	int ppid = 0;
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL) {
		return 0;
	}
	p = fgets(line, sizeof(line), f);
	fclose(f);
	if (p == NULL) {
		return 0;
	}
	/* the command's name may hold blanks and parentheses */
	p = strrchr(line, ')');
	if (p == NULL) {
		return 0;
	}
	ret = sscanf(p + 1, " %*c %d", &ppid);
	if (ret != 1) {
		return 0;
	}
	return ppid;
}

static bool is_descendant(pid_t pid, pid_t ancestor)
{
	unsigned int i;

	for (i = 0; i < 16 && pid > 1; i++) {
		if (pid == ancestor) {
			return true;
		}
		pid = parent_of(pid);
	}
	return false;
}

static uint64_t cpu_of(pid_t pid)
{
	struct timespec ts;
	clockid_t id;
	int ret;

	ret = clock_getcpuclockid(pid, &id);
	if (ret != 0) {
		return 0;
	}
	ret = clock_gettime(id, &ts);
	if (ret != 0) {
		return 0;
	}
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Add what follows each of these names in a file of lines "name: number". */
static void add_numbers(const char *path, const char *const names_of[],
			uint64_t *const values[], size_t num)
{
	char line[256];
	FILE *f = NULL;
	size_t i;

	f = fopen(path, "re");
	if (f == NULL) {
		return;
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		for (i = 0; i < num; i++) {
			size_t len = strlen(names_of[i]);
			int cmp = strncmp(line, names_of[i], len);

			if (cmp == 0 && line[len] == ':') {
				*values[i] += strtoull(line + len + 1, NULL,
						       10);
			}
		}
	}
	fclose(f);
}

static void sample_proc(pid_t pid, struct phbench_sample *sample)
{
	static const char *const io_names[] = {
		"wchar", "write_bytes", "syscw",
	};
	uint64_t *const io[] = {
		&sample->written, &sample->dirtied, &sample->write_calls,
	};
	static const char *const status_names[] = {
		"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches",
	};
	uint64_t *const status[] = {
		&sample->voluntary_switches, &sample->involuntary_switches,
	};
	struct dirent *de = NULL;
	char path[512];
	DIR *dir = NULL;

	snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
	add_numbers(path, io_names, io, ARRAY_SIZE(io_names));

	/* /proc/PID/status tells those of the first thread only */
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (dir == NULL) {
		return;
	}
	while ((de = readdir(dir)) != NULL) {
		if (de->d_name[0] == '.') {
			continue;
		}
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status",
			 (int)pid, de->d_name);
		add_numbers(path, status_names, status,
			    ARRAY_SIZE(status_names));
	}
	closedir(dir);
}

static void sample_server(struct phbench_probe *probe,
			  struct phbench_sample *sample)
{
	struct dirent *de = NULL;
	DIR *dir = NULL;

	dir = opendir("/proc");
	if (dir == NULL) {
		return;
	}
	while ((de = readdir(dir)) != NULL) {
		pid_t pid = atoi(de->d_name);
		bool ok;

		if (pid <= 0) {
			continue;
		}
		ok = is_descendant(pid, probe->server_pid);
		if (!ok) {
			continue;
		}
		sample->cpu_ns += cpu_of(pid);
		sample_proc(pid, sample);
		sample->num_processes++;
	}
	closedir(dir);
}

void phbench_probe_sample(struct phbench_probe *probe,
			  TALLOC_CTX *mem_ctx,
			  struct phbench_sample *sample)
{
	*sample = (struct phbench_sample) { .cpu_ns = 0 };

	if (probe->page != NULL) {
		sample->syncs = talloc_memdup(mem_ctx,
					      probe->page->counters,
					      sizeof(probe->page->counters));
	}
	if (probe->server_pid > 0) {
		sample_server(probe, sample);
	}
}

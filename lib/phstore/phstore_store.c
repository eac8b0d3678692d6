/*
 * phstore: open, close, read: the entry points in front of the backend
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include "phstore_private.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct phstore_backend_ops *backends[] = {
	&phstore_backend_local,
#ifdef PHSTORE_WITH_RADOS
	&phstore_backend_rados,
#endif
};

uint64_t phstore_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void phstore_check_fork(struct phstore *store)
{
	pid_t pid = tevent_cached_getpid();

	if (store->pid == pid) {
		return;
	}
	store->pid = pid;
	phstore_waiter_forget(store);
	store->ops->after_fork(store);
}

__thread bool phstore_helper_thread;
static __thread unsigned owner_depth;

void phstore_owner_begin(struct phstore *store)
{
	if (store->become_owner == NULL || phstore_helper_thread) {
		return;
	}
	if (owner_depth == 0) {
		store->become_owner(store->private_data);
	}
	owner_depth += 1;
}

void phstore_owner_end(struct phstore *store)
{
	int saved_errno = errno;

	if (store->unbecome_owner == NULL || phstore_helper_thread) {
		return;
	}
	owner_depth -= 1;
	if (owner_depth == 0) {
		store->unbecome_owner(store->private_data);
		errno = saved_errno;
	}
}

/*
 * A path "rados:pool" is the backend itself, without a log. The name alone
 * is a store in a folder whose log a daemon ships there.
 */
static const struct phstore_backend_ops *backend_find(const char *name,
						      const char *path)
{
	size_t i;

	for (i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		size_t len = strlen(backends[i]->name);

		if (backends[i]->path_is_name &&
		    strncmp(path, backends[i]->name, len) == 0 &&
		    path[len] == ':')
		{
			return backends[i];
		}
	}
	if (name == NULL || strcmp(name, "ctdb") == 0 ||
	    strcmp(name, "rados") == 0)
	{
		/* the same log; a daemon ships it, see phstore_ship.h */
		return &phstore_backend_local;
	}
	for (i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		if (strcmp(backends[i]->name, name) == 0) {
			return backends[i];
		}
	}
	return NULL;
}

static int store_destructor(struct phstore *store)
{
	if (store->pid != tevent_cached_getpid()) {
		/* inherited by fork: the threads are the parent's */
		phstore_waiter_forget(store);
		return 0;
	}
	phstore_waiter_stop(store);
	return 0;
}

enum phstore_err phstore_open(TALLOC_CTX *mem_ctx,
			      const char *path,
			      const struct phstore_open_options *opts,
			      struct phstore **pstore)
{
	static const struct phstore_open_options defaults = {};
	struct phstore *store = NULL;
	enum phstore_err err;

	*pstore = NULL;
	phstore_clear_error();
	if (opts == NULL) {
		opts = &defaults;
	}
	if (path == NULL || path[0] == '\0') {
		return phstore_fail(PHSTORE_ERR_INVALID, "no path given");
	}
	store = talloc_zero(mem_ctx, struct phstore);
	if (store == NULL) {
		return phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	store->ops = backend_find(opts->backend, path);
	if (store->ops == NULL) {
		err = phstore_fail(PHSTORE_ERR_INVALID,
				   "unknown backend \"%s\"", opts->backend);
		goto fail;
	}
	store->pid = tevent_cached_getpid();
	store->read_only = opts->flags & PHSTORE_OPEN_RDONLY;
	store->become_owner = opts->become_owner;
	store->unbecome_owner = opts->unbecome_owner;
	store->log_fn = opts->log_fn;
	store->private_data = opts->private_data;
	if (path[0] == '/' || store->ops->path_is_name) {
		store->path = talloc_strdup(store, path);
	} else {
		char cwd[PATH_MAX];
		char *p = getcwd(cwd, sizeof(cwd));

		if (p == NULL) {
			err = phstore_fail(PHSTORE_ERR_IO, "getcwd: %s",
					   strerror(errno));
			goto fail;
		}
		store->path = talloc_asprintf(store, "%s/%s", cwd, path);
	}
	if (store->path == NULL) {
		err = phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
		goto fail;
	}
	err = store->ops->open(store, opts);
	if (err != PHSTORE_OK) {
		goto fail;
	}
	talloc_set_destructor(store, store_destructor);
	*pstore = store;
	return PHSTORE_OK;
fail:
	TALLOC_FREE(store);
	return err;
}

enum phstore_err phstore_close(struct phstore *store)
{
	enum phstore_err err;

	phstore_check_fork(store);
	phstore_waiter_stop(store);
	err = store->ops->close(store);
	TALLOC_FREE(store);
	return err;
}

bool phstore_is_durable(struct phstore *store, uint64_t lsn)
{
	return store->ops->is_durable(store, lsn, PHSTORE_CLASS_SYNC);
}

enum phstore_err phstore_barrier(struct phstore *store,
				 uint64_t lsn,
				 uint32_t timeout_ms)
{
	phstore_check_fork(store);
	return store->ops->barrier(store, lsn, PHSTORE_CLASS_SYNC,
				   timeout_ms);
}

enum phstore_err phstore_get(TALLOC_CTX *mem_ctx,
			     struct phstore *store,
			     const char *table,
			     struct phstore_blob key,
			     struct phstore_record *rec)
{
	size_t table_len = table != NULL ? strlen(table) : 0;

	phstore_check_fork(store);
	if (table_len == 0 || table_len > PHSTORE_TABLE_MAX || key.len == 0) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "empty key or bad table name");
	}
	if (key.len > PHSTORE_KEY_MAX) {
		return phstore_fail(PHSTORE_ERR_TOO_BIG,
				    "key of %zu bytes, at most %d",
				    key.len, PHSTORE_KEY_MAX);
	}
	return store->ops->get(mem_ctx, store, table, key, rec);
}

enum phstore_err phstore_scan(struct phstore *store,
			      const char *table,
			      phstore_scan_fn fn,
			      void *private_data,
			      uint64_t *count)
{
	uint64_t dummy = 0;

	phstore_check_fork(store);
	if (count == NULL) {
		count = &dummy;
	}
	*count = 0;
	return store->ops->scan(store, table, fn, private_data, count);
}

struct tables_state {
	TALLOC_CTX *mem_ctx;
	const char **names;
	size_t num;
	bool nomem;
};

static int tables_fn(const char *table,
		     const struct phstore_record *rec,
		     void *private_data)
{
	struct tables_state *state = private_data;
	const char **names = NULL;
	size_t i;

	(void)rec;
	for (i = 0; i < state->num; i++) {
		if (strcmp(state->names[i], table) == 0) {
			return 0;
		}
	}
	names = talloc_realloc(state->mem_ctx, state->names, const char *,
			       state->num + 1);
	if (names == NULL) {
		state->nomem = true;
		return 1;
	}
	state->names = names;
	names[state->num] = talloc_strdup(names, table);
	if (names[state->num] == NULL) {
		state->nomem = true;
		return 1;
	}
	state->num += 1;
	return 0;
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum phstore_err phstore_tables(TALLOC_CTX *mem_ctx,
				struct phstore *store,
				const char ***names,
				size_t *num_names)
{
	struct tables_state state = { .mem_ctx = mem_ctx };
	enum phstore_err err;

	err = phstore_scan(store, NULL, tables_fn, &state, NULL);
	if (err == PHSTORE_OK && state.nomem) {
		err = phstore_fail(PHSTORE_ERR_NO_MEMORY, "out of memory");
	}
	if (err != PHSTORE_OK) {
		TALLOC_FREE(state.names);
		return err;
	}
	if (state.num > 0) {
		qsort(state.names, state.num, sizeof(state.names[0]),
		      name_cmp);
	}
	*names = state.names;
	*num_names = state.num;
	return PHSTORE_OK;
}

enum phstore_err phstore_stat(struct phstore *store, struct phstore_stat *st)
{
	phstore_check_fork(store);
	*st = (struct phstore_stat) { .backend = store->ops->name };
	return store->ops->stat(store, st);
}

enum phstore_err phstore_damage_get(struct phstore *store,
				    uint64_t i,
				    struct phstore_damage *damage)
{
	phstore_check_fork(store);
	return store->ops->damage_get(store, i, damage);
}

enum phstore_err phstore_verify(struct phstore *store)
{
	phstore_check_fork(store);
	return store->ops->verify(store);
}

enum phstore_err phstore_history(struct phstore *store,
				 const char *table,
				 struct phstore_blob key,
				 phstore_history_fn fn,
				 void *private_data)
{
	phstore_check_fork(store);
	if (store->ops->history == NULL) {
		return phstore_fail(PHSTORE_ERR_INVALID,
				    "the backend %s keeps no history",
				    store->ops->name);
	}
	return store->ops->history(store, table, key, fn, private_data);
}

enum phstore_err phstore_maintain(struct phstore *store)
{
	phstore_check_fork(store);
	if (store->read_only) {
		return PHSTORE_OK;
	}
	return store->ops->maintain(store, true);
}

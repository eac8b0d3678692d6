/*
 * phstore local backend: telling event loops that a barrier is reached
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * A process whose event loop waits for a barrier takes a slot in the shared
 * memory and binds a datagram socket `wake-SLOT` in the store's folder. The
 * slot holds the lowest LSN it waits for. Whoever leads a group commit looks
 * through the slots after each sync, clears those that are reached and sends
 * each a byte; and it goes on leading as long as a slot is not reached. So
 * an answer costs one wake-up, where a thread per process asleep on a futex
 * cost three: into the thread, out of it, into the event loop.
 *
 * No wake-up is lost: a waiter stores its LSN, then looks whether somebody
 * leads; a leader says that it leads no more, then looks at the slots once
 * again. A byte that cannot be sent, or a leader that is killed, costs the
 * waiter NOTIFY_FALLBACK_MS (lib/phstore/phstore_async.c): then it sends its
 * own helper thread to lead.
 *
 * A slot whose process is gone is taken over by the next that needs one. A
 * process that gets none (more than LOCAL_MAX_WAITERS) waits with a thread.
 */

#include "local.h"
#include "phstore_io.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool slot_take(struct local_waiter *slot, uint32_t pid)
{
	uint32_t owner = atomic_load(&slot->pid);
	int ret;

	if (owner != 0) {
		ret = kill((pid_t)owner, 0);
		if (ret == 0 || errno != ESRCH) {
			return false;
		}
	}
	if (!atomic_compare_exchange_strong(&slot->pid, &owner, pid)) {
		return false;
	}
	atomic_store(&slot->lsn, 0);
	atomic_store(&slot->mem_lsn, 0);
	return true;
}

static int slot_find(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint32_t pid = (uint32_t)getpid();
	uint32_t end = atomic_load(&sh->waiters_end);
	uint32_t i;

	for (i = 0; i < end; i++) {
		if (slot_take(&sh->waiters[i], pid)) {
			return (int)i;
		}
	}
	for (; i < LOCAL_MAX_WAITERS; i++) {
		if (slot_take(&sh->waiters[i], pid)) {
			uint32_t seen = atomic_load(&sh->waiters_end);

			while (seen < i + 1 &&
			       !atomic_compare_exchange_weak(
				       &sh->waiters_end, &seen, i + 1))
			{
				/* seen is reloaded */
			}
			return (int)i;
		}
	}
	return -1;
}

/* A path below the folder that fits into sun_path, however long it is. */
static void name_addr(struct local_store *ls, const char *name,
		      struct sockaddr_un *addr)
{
	int n;

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	n = snprintf(addr->sun_path, sizeof(addr->sun_path),
		     "%s/%s", ls->store->path, name);
	if (n < 0 || (size_t)n >= sizeof(addr->sun_path)) {
		snprintf(addr->sun_path, sizeof(addr->sun_path),
			 "/proc/self/fd/%d/%s", ls->dir_fd, name);
	}
}

static void slot_addr(struct local_store *ls, uint32_t i,
		      struct sockaddr_un *addr)
{
	char name[24];

	snprintf(name, sizeof(name), "wake-%" PRIu32, i);
	name_addr(ls, name, addr);
}

int local_notify_fd(struct phstore *store)
{
	struct local_store *ls = store->backend;
	struct sockaddr_un addr;
	int slot, fd, ret;

	if (ls->notify_fd != -1) {
		return ls->notify_fd;
	}
	phstore_owner_begin(store);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	slot = fd != -1 ? slot_find(ls) : -1;
	if (slot == -1) {
		goto fail;
	}
	slot_addr(ls, slot, &addr);
	/* of an earlier owner of this slot, who is gone */
	(void)unlink(addr.sun_path);
	/* the file takes the socket's mode */
	(void)fchmod(fd, 0600);
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret == -1) {
		atomic_store(&ls->shared->waiters[slot].pid, 0);
		goto fail;
	}
	phstore_owner_end(store);
	ls->notify_fd = fd;
	ls->notify_slot = slot;
	return fd;
fail:
	if (fd != -1) {
		close(fd);
	}
	phstore_owner_end(store);
	return -1;
}

/*
 * In the child after a fork the slot and the socket are the parent's. The
 * descriptor stays open: an inherited event context may still poll it.
 */
void local_notify_forget(struct local_store *ls)
{
	ls->notify_fd = -1;
	ls->notify_slot = -1;
	ls->hinted_lsn = 0;
}

void local_notify_close(struct local_store *ls)
{
	struct sockaddr_un addr;

	if (ls->notify_fd == -1) {
		return;
	}
	slot_addr(ls, ls->notify_slot, &addr);
	(void)unlink(addr.sun_path);
	atomic_store(&ls->shared->waiters[ls->notify_slot].lsn, 0);
	atomic_store(&ls->shared->waiters[ls->notify_slot].mem_lsn, 0);
	atomic_store(&ls->shared->waiters[ls->notify_slot].pid, 0);
	close(ls->notify_fd);
	local_notify_forget(ls);
}

void local_notify_drain(struct phstore *store)
{
	struct local_store *ls = store->backend;
	uint8_t buf[16];
	ssize_t n;

	/* one at a time: there is rarely a second, and it shows again */
	n = recv(ls->notify_fd, buf, sizeof(buf), MSG_DONTWAIT);
	(void)n;
}

void local_hint(struct phstore *store, uint64_t lsn)
{
	struct local_store *ls = store->backend;

	if (lsn > ls->hinted_lsn) {
		ls->hinted_lsn = lsn;
		local_sync_arrive(ls);
		if (local_has_sink(ls)) {
			local_sink_kick(store);
		}
	}
}

bool local_leading(struct phstore *store)
{
	struct local_store *ls = store->backend;

	return atomic_load(&ls->shared->leader_active) != 0;
}

enum phstore_notify local_notify_wait(struct phstore *store,
				      uint64_t lsn,
				      uint64_t mem_lsn)
{
	struct local_store *ls = store->backend;
	struct local_shared *sh = ls->shared;
	struct local_waiter *slot = &sh->waiters[ls->notify_slot];
	uint64_t none = 0;

	/* not 0: a lower one is waited for, and its byte is on the way */
	(void)atomic_compare_exchange_strong(&slot->lsn, &none, lsn);
	if (mem_lsn != 0) {
		none = 0;
		(void)atomic_compare_exchange_strong(&slot->mem_lsn, &none,
						     mem_lsn);
		if (local_is_durable(store, mem_lsn,
				     PHSTORE_CLASS_REPLICATED))
		{
			return PHSTORE_NOTIFY_DURABLE;
		}
		if (lsn == 0) {
			return PHSTORE_NOTIFY_COMING;
		}
	}
	if (atomic_load(&sh->durable) >= lsn) {
		if (local_has_sink(ls) &&
		    !local_sink_reached(ls, lsn, PHSTORE_CLASS_SYNC) &&
		    !local_sink_fenced(ls, lsn))
		{
			/* the daemon looks at the slots as well */
			return PHSTORE_NOTIFY_COMING;
		}
		return PHSTORE_NOTIFY_DURABLE;
	}
	if (atomic_load(&sh->leader_active) &&
	    atomic_load(&sh->latched) == 0)
	{
		return PHSTORE_NOTIFY_COMING;
	}
	return PHSTORE_NOTIFY_LEAD;
}

static void send_byte(struct local_store *ls, struct sockaddr_un *addr)
{
	uint8_t byte = 0;

	if (ls->send_fd == -1) {
		ls->send_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	}
	/* fails if the receiver is gone, or has enough to read already */
	(void)sendto(ls->send_fd, &byte, sizeof(byte),
		     MSG_DONTWAIT | MSG_NOSIGNAL,
		     (struct sockaddr *)addr, sizeof(*addr));
}

static void notify_send(struct local_store *ls, uint32_t i)
{
	struct sockaddr_un addr;

	slot_addr(ls, i, &addr);
	send_byte(ls, &addr);
}

int local_notify_connect(struct local_store *ls, const char *name)
{
	struct sockaddr_un addr;
	int fd, ret;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1) {
		return -1;
	}
	name_addr(ls, name, &addr);
	ret = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret == -1) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A socket of that name; -1 with errno. */
int local_notify_bind(struct local_store *ls, const char *name)
{
	struct sockaddr_un addr;
	int fd, ret;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1) {
		return -1;
	}
	name_addr(ls, name, &addr);
	(void)unlink(addr.sun_path);
	/* the file takes the socket's mode */
	(void)fchmod(fd, 0600);
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (ret == -1) {
		int saved_errno = errno;

		close(fd);
		errno = saved_errno;
		return -1;
	}
	return fd;
}

/*
 * Tell those whose LSN is reached, all when the store is latched. Returns
 * whether somebody still waits. Sync mutex held.
 */
bool local_notify_reached(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint64_t durable = atomic_load(&sh->durable);
	bool sink = local_has_sink(ls);
	bool latched = atomic_load(&sh->latched) != 0;
	uint32_t end = atomic_load(&sh->waiters_end);
	bool more = false;
	uint32_t i;

	for (i = 0; i < end; i++) {
		struct local_waiter *slot = &sh->waiters[i];
		uint64_t lsn = atomic_load(&slot->lsn);

		if (sink) {
			uint64_t mem = atomic_load(&slot->mem_lsn);

			if (mem != 0 &&
			    (latched || local_sink_fenced(ls, mem) ||
			     local_sink_reached(ls, mem,
						PHSTORE_CLASS_REPLICATED)) &&
			    atomic_compare_exchange_strong(&slot->mem_lsn,
							   &mem, 0))
			{
				notify_send(ls, i);
			}
		}
		if (lsn == 0) {
			continue;
		}
		if (lsn > durable && !latched) {
			more = true;
			if (!sink || !local_sink_fenced(ls, lsn)) {
				continue;
			}
		} else if (sink && !latched &&
			   !local_sink_fenced(ls, lsn) &&
			   !local_sink_reached(ls, lsn, PHSTORE_CLASS_SYNC))
		{
			continue;
		}
		if (atomic_compare_exchange_strong(&slot->lsn, &lsn, 0)) {
			notify_send(ls, i);
		}
	}
	return more;
}

/* A leader that does not go on: one of those who wait shall. */
void local_notify_hand_over(struct local_store *ls)
{
	struct local_shared *sh = ls->shared;
	uint32_t end = atomic_load(&sh->waiters_end);
	uint32_t i;

	for (i = 0; i < end; i++) {
		uint64_t lsn = atomic_load(&sh->waiters[i].lsn);

		if (lsn != 0 && lsn > atomic_load(&sh->durable)) {
			notify_send(ls, i);
			return;
		}
	}
}

/*
 * phstore local backend: the two superblocks
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * Barrier: the superblock is synced before anything that relies on it (the
 * first append of an epoch, the reuse of a retired segment).
 */

#include "local.h"
#include "phstore_io.h"

#include <errno.h>
#include <string.h>

enum phstore_err local_super_read(struct local_store *ls,
				  struct local_super *super)
{
	const char *path = ls->store->path;
	enum phstore_err slot_err[2] = {};
	struct local_super slots[2] = {};
	uint8_t buf[LOCAL_SUPER_LEN];
	int best = -1;
	int i;

	for (i = 0; i < 2; i++) {
		ssize_t n = phstore_io_read_full(ls->super_fd,
						 buf,
						 sizeof(buf),
						 i * LOCAL_SUPER_SIZE);
		if (n == -1) {
			return phstore_fail(PHSTORE_ERR_IO, "%s/super: %s",
					    path, strerror(errno));
		}
		slot_err[i] = local_super_pull(buf, n, &slots[i]);
		if (slot_err[i] == PHSTORE_ERR_NEWER) {
			return phstore_fail(PHSTORE_ERR_NEWER,
					    "%s/super: format version is "
					    "above %d: use the release that "
					    "wrote it", path,
					    LOCAL_FORMAT_SINK);
		}
		if (slot_err[i] == PHSTORE_OK &&
		    (best == -1 || slots[i].seq > slots[best].seq))
		{
			best = i;
		}
	}
	if (best != -1) {
		if (slot_err[1 - best] != PHSTORE_OK &&
		    slots[best].seq > 1)
		{
			phstore_log(ls->store, 4, "%s/super: superblock %d "
				    "is damaged, using the other",
				    path, 1 - best);
		}
		*super = slots[best];
		return PHSTORE_OK;
	}
	if (slot_err[0] == PHSTORE_ERR_FOREIGN &&
	    slot_err[1] == PHSTORE_ERR_FOREIGN)
	{
		return phstore_fail(PHSTORE_ERR_FOREIGN,
				    "%s/super: not a phstore superblock",
				    path);
	}
	return phstore_fail(PHSTORE_ERR_CORRUPT,
			    "%s/super: both superblocks are damaged", path);
}

/*
 * What others read without the maint mutex (stage: epoch, segment size)
 * changes in recovery only, when nobody else is there: not written again.
 */
void local_super_remember(struct local_shared *sh,
			  const struct local_super *super)
{
	if (sh->super.epoch != super->epoch) {
		sh->super = *super;
		return;
	}
	sh->super.seq = super->seq;
	sh->super.tail_segno = super->tail_segno;
	sh->super.tail_lsn = super->tail_lsn;
	sh->super.durable = super->durable;
	sh->super.num_damaged = super->num_damaged;
	sh->super.sink_kind = super->sink_kind;
	memcpy(sh->super.sink_name, super->sink_name,
	       sizeof(super->sink_name));
	sh->super.sink_released = super->sink_released;
}

enum phstore_err local_super_write(struct local_store *ls,
				   const struct local_super *super)
{
	uint8_t buf[LOCAL_SUPER_LEN];
	int ret;

	local_super_push(buf, super);
	ret = phstore_io_write_full(ls->super_fd,
				    buf,
				    sizeof(buf),
				    (super->seq % 2) * LOCAL_SUPER_SIZE);
	if (ret == 0) {
		ret = phstore_io->fdatasync(ls->super_fd);
		atomic_fetch_add(&ls->shared->num_meta_syncs, 1);
	}
	if (ret == -1) {
		return phstore_fail(PHSTORE_ERR_IO, "%s/super: %s",
				    ls->store->path, strerror(errno));
	}
	local_super_remember(ls->shared, super);
	return PHSTORE_OK;
}

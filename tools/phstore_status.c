/*
 * phstore tool: status
 *
 * One line tells whether somebody has to act (health), the rest why. The
 * exit code follows from that line, for monitoring.
 *
 * health, the worst one counts:
 *   latched      a sync failed; nothing is promised until all closed it
 *   damaged      recovery found parts of the log unreadable
 *   nearly full  the file system has no room for a few more segments
 *   not ready    the store is one of a cluster that takes no changes now
 *   fewer copies fewer nodes are members of the cluster than copies wanted
 *   ok
 *   unusable     the store could not be opened, see error and reason
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/statvfs.h>

#include "phstore_tool.h"

/*
 * A log may need a new segment before compaction has freed an old one, and
 * compaction itself needs one: with two of each there is time to act.
 */
#define MIN_FREE_SEGMENTS 4
#define MIN_FREE_INODES 16

struct fs_room {
	bool known;
	uint64_t bytes;
	uint64_t inodes;
	bool low;
};

static struct fs_room fs_room(struct phtool *tool,
			      const struct phstore_stat *st)
{
	struct fs_room room = {};
	uint64_t min_free = tool->min_free;
	struct statvfs sv;
	int ret;

	if (min_free == 0) {
		min_free = MIN_FREE_SEGMENTS * st->segment_size;
	}
	ret = statvfs(tool->dir, &sv);
	if (ret != 0) {
		return room;
	}
	room.known = true;
	room.bytes = (uint64_t)sv.f_bavail * sv.f_frsize;
	room.inodes = sv.f_favail;
	/* spare segments are room that is already ours */
	room.low = room.bytes + st->num_spares * st->segment_size < min_free;
	/* f_files is 0 where inodes are made as needed */
	if (sv.f_files != 0 && sv.f_favail < MIN_FREE_INODES) {
		room.low = true;
	}
	return room;
}

static uint64_t total_waits(const struct phstore_stat *st)
{
	uint64_t total = 0;
	size_t i;

	for (i = 0; i < PHSTORE_LATENCY_BUCKETS; i++) {
		total += st->barrier_us[i];
	}
	return total;
}

/*
 * The end of the bucket in which the given share of the waits lies: "so many
 * waits were shorter than this". Buckets are powers of two, a figure in
 * between would be made up.
 */
static uint64_t waits_below_us(const struct phstore_stat *st, uint64_t total,
			       unsigned int per_mille)
{
	uint64_t seen = 0;
	size_t i;

	for (i = 0; i < PHSTORE_LATENCY_BUCKETS; i++) {
		uint64_t left;

		seen += st->barrier_us[i];
		left = total - seen;
		/* left / total <= 1 - per_mille / 1000 without overflow */
		if (left <= (total / 1000) * (1000 - per_mille) +
		    (total % 1000) * (1000 - per_mille) / 1000) {
			return 1ULL << (i + 1);
		}
	}
	return 1ULL << PHSTORE_LATENCY_BUCKETS;
}

static void show_waits(struct phdump_out *out, const struct phstore_stat *st)
{
	static const struct {
		const char *name;
		unsigned int per_mille;
	} shares[] = {
		{ "p50_below_us", 500 },
		{ "p90_below_us", 900 },
		{ "p99_below_us", 990 },
		{ "p999_below_us", 999 },
		{ "max_below_us", 1000 },
	};
	uint64_t total = total_waits(st);
	size_t i;

	phdump_object(out, "barrier_waits");
	phdump_u64(out, "num_barriers", st->num_barriers);
	phdump_u64(out, "measured", total);
	for (i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		if (total == 0) {
			phdump_null(out, shares[i].name);
			continue;
		}
		phdump_u64(out, shares[i].name,
			   waits_below_us(st, total, shares[i].per_mille));
	}
	if (out->json) {
		phdump_array(out, "buckets");
		for (i = 0; i < PHSTORE_LATENCY_BUCKETS; i++) {
			if (st->barrier_us[i] == 0) {
				continue;
			}
			phdump_object(out, NULL);
			phdump_u64(out, "below_us", 1ULL << (i + 1));
			phdump_u64(out, "count", st->barrier_us[i]);
			phdump_end(out);
		}
		phdump_end(out);
	} else if (out->verbose) {
		for (i = 0; i < PHSTORE_LATENCY_BUCKETS; i++) {
			if (st->barrier_us[i] == 0) {
				continue;
			}
			phdump_line(out, "< %-10"PRIu64" us   %"PRIu64,
				    (uint64_t)1 << (i + 1),
				    st->barrier_us[i]);
		}
	}
	phdump_end(out);
}

static void show_damage(struct phtool *tool, uint64_t num_damaged)
{
	struct phdump_out *out = &tool->out;
	uint64_t i;

	phdump_array(out, "damage");
	for (i = 0; i < num_damaged; i++) {
		struct phstore_damage damage = {};
		enum phstore_err err;

		err = phstore_damage_get(tool->store, i, &damage);
		if (err != PHSTORE_OK) {
			break;
		}
		phdump_object(out, NULL);
		phdump_str(out, "file", damage.file != NULL ?
					damage.file : "");
		phdump_u64(out, "offset", damage.offset);
		phdump_u64(out, "length", damage.len);
		phdump_u64(out, "lsn", damage.lsn);
		phdump_str(out, "reason", damage.reason != NULL ?
					  damage.reason : "");
		phdump_end(out);
	}
	phdump_end(out);
}

static void show_uuid(struct phdump_out *out, const uint8_t u[16])
{
	phdump_fmt(out, "uuid",
		   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		   "%02x%02x%02x%02x%02x%02x",
		   u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
		   u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static void show_stat(struct phdump_out *out, const struct phstore_stat *st)
{
	show_uuid(out, st->uuid);
	phdump_str(out, "backend", st->backend != NULL ? st->backend : "");
	phdump_u64(out, "format_version", st->format_version);
	phdump_bool(out, "live", st->live);
	phdump_u64(out, "epoch", st->epoch);
	phdump_u64(out, "num_records", st->num_records);
	phdump_u64(out, "num_tombstones", st->num_tombstones);
	phdump_u64(out, "live_bytes", st->live_bytes);
	phdump_u64(out, "log_bytes", st->log_bytes);
	phdump_u64(out, "segment_size", st->segment_size);
	phdump_u64(out, "num_segments", st->num_segments);
	phdump_u64(out, "num_spares", st->num_spares);
	phdump_u64(out, "tail_lsn", st->tail_lsn);
	phdump_u64(out, "head_lsn", st->head_lsn);
	phdump_u64(out, "durable_lsn", st->durable_lsn);
	phdump_u64(out, "num_appends", st->num_appends);
	phdump_u64(out, "num_elided", st->num_elided);
	phdump_u64(out, "appended_bytes", st->appended_bytes);
	phdump_u64(out, "num_compacted", st->num_compacted);
	phdump_u64(out, "num_owner_deaths", st->num_owner_deaths);
	phdump_u64(out, "num_syncs", st->num_syncs);
	phdump_u64(out, "num_meta_syncs", st->num_meta_syncs);
	phdump_u64(out, "sync_us_avg", st->sync_ns_avg / 1000);
	phdump_u64(out, "sync_us_max", st->sync_ns_max / 1000);
	if (out->json) {
		phdump_u64(out, "sync_ns_avg", st->sync_ns_avg);
		phdump_u64(out, "sync_ns_max", st->sync_ns_max);
		phdump_u64(out, "sync_ns_total", st->sync_ns_total);
	}
	show_waits(out, st);
	phdump_u64(out, "recovery_us", st->recovery_us);
	phdump_u64(out, "torn_tail_bytes", st->torn_tail_bytes);
}

static enum phtool_exit status_unusable(struct phtool *tool,
					enum phstore_err err)
{
	struct phdump_out *out = &tool->out;
	enum phtool_exit flushed;

	phdump_object(out, NULL);
	phdump_str(out, "store", tool->dir);
	phdump_str(out, "health", "unusable");
	phdump_str(out, "error", phstore_errname(err));
	phdump_str(out, "reason", phstore_last_error());
	phdump_end(out);
	flushed = phtool_flush(tool);
	if (flushed != PHTOOL_OK) {
		return flushed;
	}
	return phtool_fail(tool, err, tool->dir);
}

enum phtool_exit phtool_status(struct phtool *tool)
{
	struct phdump_out *out = &tool->out;
	struct phstore_stat st = {};
	enum phtool_exit result = PHTOOL_OK;
	enum phtool_exit flushed;
	enum phtool_exit cluster_result = PHTOOL_OK;
	struct phdump_out whole;
	const char *cluster = NULL;
	const char *health = "ok";
	struct fs_room room;
	enum phstore_err err;

	err = phtool_try_open_read(tool);
	if (err != PHSTORE_OK) {
		return status_unusable(tool, err);
	}
	err = phstore_stat(tool->store, &st);
	if (err != PHSTORE_OK) {
		return phtool_fail(tool, err, tool->dir);
	}
	/* it decides on the health, which stands in front of it */
	whole = *out;
	phdump_init(out, whole.json, whole.verbose);
	phdump_object(out, NULL);
	cluster = phtool_show_sink(tool, &cluster_result);
	phdump_end(out);
	phdump_free(out);
	*out = whole;
	if (cluster != NULL) {
		health = cluster;
		result = cluster_result;
	}
	room = fs_room(tool, &st);
	if (room.low) {
		health = "nearly full";
		result = PHTOOL_NEARLY_FULL;
	}
	if (st.num_damaged != 0) {
		health = "damaged";
		result = PHTOOL_DAMAGED;
	}
	if (st.latched != PHSTORE_OK) {
		health = "latched";
		result = PHTOOL_LATCHED;
	}
	phdump_object(out, NULL);
	phdump_str(out, "store", tool->dir);
	phdump_str(out, "health", health);
	if (st.latched != PHSTORE_OK) {
		phdump_str(out, "latched", phstore_errname(st.latched));
		phdump_str(out, "latched_errno", strerror(st.latched_errno));
	} else if (out->json) {
		phdump_null(out, "latched");
		phdump_null(out, "latched_errno");
	}
	phdump_u64(out, "num_damaged", st.num_damaged);
	if (st.num_damaged != 0 || out->json) {
		show_damage(tool, st.num_damaged);
	}
	if (room.known) {
		phdump_u64(out, "free_bytes", room.bytes);
		phdump_u64(out, "free_inodes", room.inodes);
	} else {
		phdump_null(out, "free_bytes");
		phdump_null(out, "free_inodes");
	}
	show_stat(out, &st);
	(void)phtool_show_sink(tool, &cluster_result);
	phdump_end(out);
	flushed = phtool_flush(tool);
	if (flushed != PHTOOL_OK) {
		return flushed;
	}
	return result;
}

enum phtool_exit phtool_verify(struct phtool *tool)
{
	struct phdump_out *out = &tool->out;
	struct phstore_stat st = {};
	enum phtool_exit result;
	enum phtool_exit flushed;
	enum phstore_err verified;
	enum phstore_err err;
	bool damaged;

	result = phtool_open_read(tool);
	if (result != PHTOOL_OK) {
		return result;
	}
	verified = phstore_verify(tool->store);
	if (verified != PHSTORE_OK && verified != PHSTORE_ERR_CORRUPT) {
		return phtool_fail(tool, verified, tool->dir);
	}
	if (verified != PHSTORE_OK) {
		result = phtool_fail(tool, verified, tool->dir);
	}
	err = phstore_stat(tool->store, &st);
	if (err != PHSTORE_OK) {
		return phtool_fail(tool, err, tool->dir);
	}
	damaged = (verified != PHSTORE_OK || st.num_damaged != 0);
	phdump_object(out, NULL);
	phdump_str(out, "store", tool->dir);
	phdump_str(out, "verify", damaged ? "damaged" : "ok");
	phdump_u64(out, "log_bytes", st.log_bytes);
	phdump_u64(out, "num_records", st.num_records);
	phdump_u64(out, "torn_tail_bytes", st.torn_tail_bytes);
	phdump_u64(out, "num_damaged", st.num_damaged);
	if (damaged || out->json) {
		show_damage(tool, st.num_damaged);
	}
	phdump_end(out);
	flushed = phtool_flush(tool);
	if (flushed != PHTOOL_OK) {
		return flushed;
	}
	return damaged ? PHTOOL_DAMAGED : PHTOOL_OK;
}

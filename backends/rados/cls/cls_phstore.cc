/*
 * phstore: the object class, run by the OSD on a shard object
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * What it is for: a batch is checked (the writer's fence, each record's
 * version) and applied where the data is, in one call. What it must never
 * do: apply a part of a batch. The OSD drops everything a method did when
 * the method fails, so every check may come as late as it likes.
 *
 *   version  in: nothing. out: u16 lowest and u16 highest version of
 *            requests understood, u32 features
 *   apply    in: a batch (rados_codec.h). 0: applied, or was applied before;
 *            -ESTALE the writer is fenced; -ECANCELED a record's version is
 *            not as required, read and see; -EBADMSG not a batch
 *   page     in: u32 most entries, u8 with tombstones, 3 bytes zero, u32
 *            length of prefix, prefix, start (go on behind this key).
 *            out: u32 entries, u8 more, 3 bytes zero, u32 length of the last
 *            key looked at, that key, and per entry u32 and u32 lengths,
 *            key, value. An unreadable value is given as it is.
 *   stats    in: nothing. out: u64 records, tombstones, bytes of values,
 *            intents, writers
 *
 * Four functions are not in the packaged header but exported by the OSD (the
 * classes of the packages use them). They are declared weak: an OSD without
 * them has a class without the feature, and the client goes the plain way.
 */

#include <errno.h>
#include <string.h>

#include <map>
#include <set>
#include <string>

#include <rados/objclass.h>

#include "backends/rados/rados_codec.h"
#include "lib/phstore/phstore_bytes.h"

CLS_VER(1, 0)
CLS_NAME(phstore)

using ceph::bufferlist;
using vals_map = std::map<std::string, bufferlist>;

extern int cls_cxx_map_get_vals(cls_method_context_t hctx,
				const std::string &start_after,
				const std::string &filter_prefix,
				uint64_t max_to_get, vals_map *vals,
				bool *more) __attribute__((weak));
extern int cls_cxx_map_get_vals_by_keys(cls_method_context_t hctx,
					const std::set<std::string> &keys,
					vals_map *vals)
	__attribute__((weak));
extern int cls_cxx_map_set_vals(cls_method_context_t hctx,
				const vals_map *vals) __attribute__((weak));
extern int cls_cxx_map_remove_key(cls_method_context_t hctx,
				  const std::string &key)
	__attribute__((weak));

static const uint32_t feature_apply = 1;
static const uint32_t feature_page = 2;
/* entries looked at by one page, and bytes of it */
static const uint32_t page_entries_max = 1000;
static const size_t page_bytes_max = 4 << 20;

static void put_u32(bufferlist *out, uint32_t v)
{
	uint8_t b[4];

	phstore_push_u32(b, v);
	out->append((const char *)b, sizeof(b));
}

static void put_u64(bufferlist *out, uint64_t v)
{
	uint8_t b[8];

	phstore_push_u64(b, v);
	out->append((const char *)b, sizeof(b));
}

static int method_version(cls_method_context_t hctx, bufferlist *in,
			  bufferlist *out)
{
	uint32_t features = 0;
	uint8_t b[4];

	(void)hctx;
	(void)in;
	if (cls_cxx_map_get_vals_by_keys != NULL &&
	    cls_cxx_map_set_vals != NULL && cls_cxx_map_remove_key != NULL)
	{
		features |= feature_apply;
	}
	if (cls_cxx_map_get_vals != NULL) {
		features |= feature_page;
	}
	phstore_push_u16(b, PHR_BATCH_VERSION);
	phstore_push_u16(b + 2, PHR_BATCH_VERSION);
	out->append((const char *)b, sizeof(b));
	put_u32(out, features);
	return 0;
}

/* The version of what is stored; {0, 0} when nothing is. */
static int stored_version(bufferlist *bl, phr_version *v)
{
	*v = {};
	if (bl == NULL) {
		return 0;
	}
	if (!phr_version_pull((const uint8_t *)bl->c_str(), bl->length(), v)) {
		return -EIO;
	}
	return 0;
}

/* 1: apply it, 0: leave it out, < 0: refuse the batch */
static int check_record(const phr_batch_op &op, bufferlist *stored,
			const phr_version &floor)
{
	phr_version want = {};
	phr_version have = {};
	int cmp, ret;

	ret = stored_version(stored, &have);
	if (ret < 0) {
		return ret;
	}
	if (op.kind == PHR_OP_PRUNE) {
		if (stored == NULL ||
		    phr_version_cmp(have, op.expected) != 0 ||
		    stored->length() < PHR_RECORD_HDR ||
		    stored->c_str()[21] != PHR_TOMBSTONE)
		{
			return 0;
		}
		return 1;
	}
	if (!phr_version_pull(op.value, op.value_len, &want)) {
		return -EBADMSG;
	}
	if (op.check == PHR_CHECK_EXACT &&
	    phr_version_cmp(have, op.expected) != 0)
	{
		return -ECANCELED;
	}
	cmp = stored != NULL ? phr_version_cmp(want, have) :
			       phr_version_cmp(want, floor);
	if (cmp > 0) {
		return 1;
	}
	return op.check == PHR_CHECK_LENIENT ? 0 : -ECANCELED;
}

static int apply_ops(cls_method_context_t hctx, const uint8_t *buf,
		     size_t len, const phr_batch_hdr &h)
{
	const std::string me = "!W" + std::string(h.writer, h.writer_len);
	std::set<std::string> keys = { me, "!F" };
	std::set<std::string> gone;
	vals_map have, set;
	phr_version floor = {};
	size_t used, n;
	uint32_t i;
	int ret;

	used = phr_batch_hdr_len(&h);
	for (i = 0, n = used; i < h.num_ops; i++) {
		phr_batch_op op;

		n += phr_batch_op_pull(buf + n, len - n, &op);
		keys.emplace((const char *)op.key, op.key_len);
	}
	ret = cls_cxx_map_get_vals_by_keys(hctx, keys, &have);
	if (ret < 0 && ret != -ENOENT) {
		return ret;
	}

	auto w = have.find(me);
	if (w != have.end()) {
		phr_version last = {};

		ret = stored_version(&w->second, &last);
		if (ret < 0) {
			return ret;
		}
		if (last.epoch > h.epoch) {
			return -ESTALE;
		}
		if (last.epoch == h.epoch && last.seq >= h.batch) {
			return 0;
		}
	}
	auto f = have.find("!F");
	ret = stored_version(f != have.end() ? &f->second : NULL, &floor);
	if (ret < 0) {
		return ret;
	}

	for (i = 0; i < h.num_ops; i++) {
		phr_batch_op op;
		bool takes = true;

		used += phr_batch_op_pull(buf + used, len - used, &op);
		std::string key((const char *)op.key, op.key_len);
		auto it = have.find(key);
		bufferlist *stored = it != have.end() ? &it->second : NULL;

		if (op.kind == PHR_OP_RECORD || op.kind == PHR_OP_PRUNE) {
			ret = check_record(op, stored, floor);
			if (ret < 0) {
				return ret;
			}
			takes = ret == 1;
		}
		if (key == "!F") {
			/* the floor only grows */
			phr_version v = {};

			takes = op.kind == PHR_OP_SET &&
				phr_version_pull(op.value, op.value_len,
						 &v) &&
				phr_version_cmp(v, floor) > 0;
		}
		if (!takes) {
			continue;
		}
		if (op.kind == PHR_OP_REMOVE || op.kind == PHR_OP_PRUNE) {
			gone.insert(key);
			set.erase(key);
			have.erase(key);
			continue;
		}
		bufferlist bl;
		bl.append((const char *)op.value, op.value_len);
		gone.erase(key);
		have[key] = bl;
		set[key] = bl;
	}

	phr_version mine = { h.epoch, h.batch };
	uint8_t b[PHR_VERSION_LEN];
	phr_version_push(b, mine);
	bufferlist bl;
	bl.append((const char *)b, sizeof(b));
	set[me] = bl;
	for (const auto &key : gone) {
		ret = cls_cxx_map_remove_key(hctx, key);
		if (ret < 0) {
			return ret;
		}
	}
	return cls_cxx_map_set_vals(hctx, &set);
}

static int method_apply(cls_method_context_t hctx, bufferlist *in,
			bufferlist *out)
{
	const uint8_t *buf = (const uint8_t *)in->c_str();
	phr_batch_hdr h = {};
	size_t used;
	int ret;

	(void)out;
	if (cls_cxx_map_get_vals_by_keys == NULL ||
	    cls_cxx_map_set_vals == NULL || cls_cxx_map_remove_key == NULL)
	{
		return -EOPNOTSUPP;
	}
	used = phr_batch_pull(buf, in->length(), &h);
	if (used == 0) {
		CLS_LOG(1, "apply: not a batch (%u bytes)", in->length());
		return -EBADMSG;
	}
	ret = cls_cxx_create(hctx, false);
	if (ret < 0) {
		return ret;
	}
	return apply_ops(hctx, buf, in->length(), h);
}

static int method_page(cls_method_context_t hctx, bufferlist *in,
		       bufferlist *out)
{
	const uint8_t *buf = (const uint8_t *)in->c_str();
	size_t len = in->length();
	std::string prefix, start;
	uint32_t max, prefix_len, num = 0;
	bufferlist entries;
	vals_map vals;
	bool more = false;
	bool tombstones;
	int ret;

	if (cls_cxx_map_get_vals == NULL) {
		return -EOPNOTSUPP;
	}
	if (len < 12) {
		return -EBADMSG;
	}
	max = phstore_pull_u32(buf);
	tombstones = buf[4] != 0;
	prefix_len = phstore_pull_u32(buf + 8);
	if (max == 0 || prefix_len > len - 12) {
		return -EBADMSG;
	}
	max = max > page_entries_max ? page_entries_max : max;
	prefix.assign((const char *)buf + 12, prefix_len);
	start.assign((const char *)buf + 12 + prefix_len,
		     len - 12 - prefix_len);
	ret = cls_cxx_map_get_vals(hctx, start, prefix, max, &vals, &more);
	if (ret < 0) {
		return ret;
	}
	for (auto &kv : vals) {
		if (entries.length() > page_bytes_max) {
			more = true;
			break;
		}
		start = kv.first;
		if (!tombstones && kv.second.length() == PHR_RECORD_HDR &&
		    kv.second.c_str()[21] == PHR_TOMBSTONE)
		{
			continue;
		}
		put_u32(&entries, kv.first.length());
		put_u32(&entries, kv.second.length());
		entries.append(kv.first);
		entries.append(kv.second);
		num += 1;
	}
	put_u32(out, num);
	put_u32(out, more ? 1 : 0);
	put_u32(out, start.length());
	out->append(start);
	out->append(entries);
	return 0;
}

static int method_stats(cls_method_context_t hctx, bufferlist *in,
			bufferlist *out)
{
	uint64_t records = 0, tombstones = 0, bytes = 0;
	uint64_t intents = 0, writers = 0;
	std::string start;
	bool more = true;

	(void)in;
	if (cls_cxx_map_get_vals == NULL) {
		return -EOPNOTSUPP;
	}
	while (more) {
		vals_map vals;
		int ret;

		ret = cls_cxx_map_get_vals(hctx, start, "", page_entries_max,
					   &vals, &more);
		if (ret < 0) {
			return ret;
		}
		if (vals.empty()) {
			break;
		}
		for (auto &kv : vals) {
			if (kv.first[0] == 'R' &&
			    kv.second.length() == PHR_RECORD_HDR &&
			    kv.second.c_str()[21] == PHR_TOMBSTONE)
			{
				tombstones += 1;
			} else if (kv.first[0] == 'R') {
				records += 1;
				bytes += kv.second.length();
			} else if (kv.first.compare(0, 2, "!T") == 0) {
				intents += 1;
			} else if (kv.first.compare(0, 2, "!W") == 0) {
				writers += 1;
			}
		}
		start = vals.rbegin()->first;
	}
	put_u64(out, records);
	put_u64(out, tombstones);
	put_u64(out, bytes);
	put_u64(out, intents);
	put_u64(out, writers);
	return 0;
}

CLS_INIT(phstore)
{
	static cls_handle_t handle;
	static cls_method_handle_t h_version, h_apply, h_page, h_stats;

	cls_register("phstore", &handle);
	cls_register_cxx_method(handle, "version", CLS_METHOD_RD,
				method_version, &h_version);
	cls_register_cxx_method(handle, "apply",
				CLS_METHOD_RD | CLS_METHOD_WR,
				method_apply, &h_apply);
	cls_register_cxx_method(handle, "page", CLS_METHOD_RD, method_page,
				&h_page);
	cls_register_cxx_method(handle, "stats", CLS_METHOD_RD, method_stats,
				&h_stats);
}

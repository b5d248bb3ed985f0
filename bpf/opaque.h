/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Connections whose bytes nobody reads (no protocol is known, or they are encrypted): user space says which, and from
 * then on their lengths alone are told.
 */
#pragma once

/* When connections began, by a number that is the same at both ends. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} began SEC(".maps");

/* As of when those were seen. One that began later is another one, of the same addresses and ports. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} opaque SEC(".maps");

/* backends/_opaque.py has the same. */
static __always_inline __u64 number_of_connection(const struct ks_ends *ends)
{
	return way(ends, true) ^ way(ends, false);
}

static __always_inline void begins(const struct ks_ends *ends)
{
	__u64 number = number_of_connection(ends), now = bpf_ktime_get_ns();

	bpf_map_update_elem(&began, &number, &now, BPF_ANY);
}

static __always_inline bool is_opaque(const struct ks_ends *ends)
{
	struct ks_settings *settings = this_setting();
	__u64 number, *seen, *first;

	if (!settings || !settings->any_opaque || ends->proto != TCP)
		return false;
	number = number_of_connection(ends);
	seen = bpf_map_lookup_elem(&opaque, &number);
	if (!seen)
		return false;
	first = bpf_map_lookup_elem(&began, &number);
	return !first || *first < *seen;
}

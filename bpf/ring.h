/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What every program writes: records in one ring, each with the same head, and counters of what it could not write.
 *
 * A record is `struct ks_head`, then its content. backends/_ringbuf.py reads the heads and makes index records of them.
 * Nobody is woken for a record: the reader looks by a timer. A reader that is woken for each event takes most of the
 * machine from those whom it watches.
 */
#pragma once

#include "record.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20); /* the loader sets what the user asked for */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count_some(__u32 which, __u64 some)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &which);

	if (value)
		*value += some;
}

static __always_inline void count(__u32 which)
{
	count_some(which, 1);
}

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Bytes between two processes of this machine pass by twice; they are told once, of whoever comes first. */
#pragma once

/* What was told, by the way of the bytes: of TCP the part of the stream that its sender told; of UDP see once.h. */
struct ks_span {
	union {
		__u32 from;
		__s32 balance;
	};
	__u32 to;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct ks_span);
} told SEC(".maps");

static __always_inline __u64 mix(__u64 hash, __u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* A number for all bytes of one direction between two ends, the same at either. */
static __always_inline __u64 way(const struct ks_ends *ends, bool out)
{
	const __u64 *source = (const __u64 *)(out ? ends->local : ends->remote);
	const __u64 *target = (const __u64 *)(out ? ends->remote : ends->local);
	__u32 from = out ? ends->local_port : ends->remote_port;
	__u32 to = out ? ends->remote_port : ends->local_port;
	__u64 hash = mix(mix(source[0], source[1]), (__u64)from << 32 | to << 8 | ends->proto);

	return mix(mix(hash, target[0]), target[1]);
}

/* Whether a connection is left out: the same at both ends, and for less of them the less are told. */
static __always_inline bool left_out(const struct ks_ends *ends)
{
	struct ks_settings *settings = this_setting();
	__u64 number;

	if (!settings || settings->one_in < 2)
		return false;
	number = mix(way(ends, true) ^ way(ends, false), ends->proto);
	return number & (settings->one_in - 1);
}

/* A number for the datagram at data + at, by its first bytes. */
__noinline __u32 print_of(__u32 at, __u32 size)
{
	struct ks_scratch *scratch = this_scratch();
	__u64 hash = size;

	if (!scratch || at > HEADERS)
		return 0;
	if (size > 64)
		size = 64;
	for (__u32 i = 0; i < 64; i++) {
		if (i >= size)
			break;
		hash = mix(hash, scratch->data[at + i]);
	}
	return hash;
}

/* Whether the sender told of this part of a stream. */
static __always_inline bool stream_told(__u64 key, __u32 seq, __u32 moved)
{
	struct ks_span *span = bpf_map_lookup_elem(&told, &key);

	return span && (__s32)(seq - span->from) >= 0 && (__s32)(span->to - seq - moved) >= 0;
}

static __always_inline void tell_stream(__u64 key, __u32 seq, __u32 moved)
{
	struct ks_span *span = bpf_map_lookup_elem(&told, &key);
	struct ks_span next = { .from = seq, .to = seq + moved };

	if (span && span->to == seq && seq - span->from < 1 << 30)
		span->to = next.to;
	else
		bpf_map_update_elem(&told, &key, &next, BPF_ANY);
}

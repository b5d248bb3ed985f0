/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* How connections began, told as the packets that open them; kept where it is not known yet whose they are. */
#pragma once

static __always_inline void put_segment(const struct ks_ends *ends, bool out, __u32 seq, __u32 ack, __u8 flags)
{
	struct {
		struct ks_head head;
		__u8 data[HEADERS];
	} it;
	struct ks_segment segment = { .out = out, .flags = flags, .seq = seq, .ack = ack };
	__u32 size;

	__builtin_memset(&it, 0, sizeof(it));
	size = write_headers(it.data, ends, &segment);
	it.head.ns = bpf_ktime_get_ns();
	it.head.wire = size;
	it.head.kind = DATA;
	if (size != HEADERS)
		size = sizeof(struct ks_ip4) + sizeof(struct ks_tcp); /* a constant, for the verifier */
	if (bpf_ringbuf_output(&ring, &it, sizeof(it.head) + size, BPF_RB_NO_WAKEUP))
		count(LOST_RING);
}

/* Connections of which nobody knows yet whose they are, where that decides: see states.h. */
struct ks_opening {
	__u32 asked, answered; /* the first bytes of both sides */
	__u32 client; /* whether the local end is the client */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct ks_opening);
} openings SEC(".maps");

static __always_inline bool by_task(void)
{
	return asks(BY_PID) || asks(BY_COMM) || asks(BY_GROUP);
}

/* Not by its socket: the memory of that is used again for others. */
static __always_inline __u64 end_of(const struct ks_ends *ends)
{
	return mix(way(ends, true), ends->netns);
}

static __always_inline void put_opening(const struct ks_ends *ends, const struct ks_opening *it)
{
	put_segment(ends, it->client, it->asked - 1, 0, SYN);
	put_segment(ends, !it->client, it->answered - 1, it->asked, SYN | ACK);
}

static __always_inline void tell_open(const struct ks_ends *ends, bool client, __u32 asked, __u32 answered)
{
	struct ks_opening it = { asked, answered, client };
	__u64 end;

	if (!by_task()) {
		put_opening(ends, &it);
		return;
	}
	end = end_of(ends);
	bpf_map_update_elem(&openings, &end, &it, BPF_ANY);
}

/* The first call of a wanted process: how its connection began. */
__noinline int tell_opening(void)
{
	struct ks_scratch *scratch = this_scratch();
	struct ks_opening *it;
	__u64 end;

	if (!scratch)
		return 0;
	end = end_of(&scratch->ends);
	it = bpf_map_lookup_elem(&openings, &end);
	if (!it)
		return 0;
	put_opening(&scratch->ends, it);
	bpf_map_delete_elem(&openings, &end);
	return 0;
}

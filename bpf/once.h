/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* A datagram between two processes of this machine: one of two records, and before its answer.
 *
 * Either end may come first, on a processor of its own, and be held up at any step. So each takes its place in the ring
 * before it asks whether the other has told, in one step that only one of them passes: whoever does not gives its place
 * back. An answer takes its place later than both.
 */
#pragma once

/* How often the sender of such a datagram told of it alone; less than 0: its receiver did. */
static __always_inline bool datagram_told(__u64 key, bool out)
{
	struct ks_span *span = bpf_map_lookup_elem(&told, &key), none = {};
	__s32 before;

	if (!span) {
		bpf_map_update_elem(&told, &key, &none, BPF_NOEXIST);
		span = bpf_map_lookup_elem(&told, &key);
		if (!span)
			return false;
	}
	before = __sync_fetch_and_add(&span->balance, out ? 1 : -1);
	return out ? before < 0 : before > 0;
}

struct ks_datagram {
	struct ks_head head;
	__u8 data[];
};

/* One record with `size` bytes of the scratch, in which `room` is for them: a constant to the verifier. */
static __always_inline int put_in(struct ks_scratch *scratch, __u64 key, __u64 size, __u64 room)
{
	struct ks_datagram *it = bpf_ringbuf_reserve(&ring, sizeof(*it) + room, 0);
	bool twice = datagram_told(key, scratch->it.out);

	if (twice)
		count(TWICE);
	if (!it) {
		if (!twice) {
			count(LOST_RING);
			bpf_map_delete_elem(&told, &key); /* the other end may */
		}
		return 0;
	}
	if (twice) {
		bpf_ringbuf_discard(it, BPF_RB_NO_WAKEUP);
		return 0;
	}
	it->head = scratch->head;
	bpf_probe_read_kernel(it->data, size, scratch->data);
	bpf_ringbuf_submit(it, BPF_RB_NO_WAKEUP);
	return 1;
}

/* The sizes that such records are made in, headers and payload. What is unused of one is not read; but of what is cut
 * it would be, so that is cut to the size below.
 */
#define ROOMS(do) \
	do(sizeof(struct ks_ip4) + sizeof(struct ks_udp)) do(sizeof(struct ks_ip6) + sizeof(struct ks_udp)) do(96) do(320) do(1088) \
	do(1536) do(4352) do(9216) do(20480) do(HEADERS + PAYLOAD)
#define DOWN(room) \
	if (size >= (room)) \
		fits = room;
#define PUT_IN(room) \
	if (size <= (room)) { \
		CLAMP(size, room); \
		return put_in(scratch, key, size, room); \
	}

/* What the scratch holds, `copied` bytes of payload, unless the other end told of it. */
__noinline int put_datagram(__u32 copied, __u64 key)
{
	struct ks_scratch *scratch = this_scratch();
	__u64 size = copied, fits = 0;

	if (!scratch)
		return 0;
	size += size_of_headers(&scratch->ends);
	if (copied < scratch->it.size) {
		ROOMS(DOWN)
		count_some(CUT_BYTES, size - fits);
		size = fits;
	}
	ROOMS(PUT_IN)
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* One message, told step by step: its memory, its ends, its place in the stream, its payload. */
#pragma once

/* Where datagrams came to, which a socket that takes them at any address does not know: see datagrams.h. */
struct ks_address {
	__u8 bytes[16];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct ks_address);
} targets SEC(".maps");

static __always_inline __u64 sender(const __u8 *remote, __u16 remote_port, __u16 local_port)
{
	const __u64 *words = (const __u64 *)remote;

	return mix(mix(words[0], words[1]), (__u64)remote_port << 16 | local_port);
}

static __always_inline void find_target(struct ks_ends *ends)
{
	__u64 key = sender(ends->remote, ends->remote_port, ends->local_port);
	struct ks_address *found = bpf_map_lookup_elem(&targets, &key);

	if (found)
		__builtin_memcpy(ends->local, found->bytes, 16);
}

/* Where the bytes of a call stand in the stream, and how far the other side had been heard by then. */
static __always_inline void place_in_stream(const struct ks_call *call, __u32 moved, struct ks_segment *it)
{
	struct tcp_sock *tcp = (void *)call->sock;
	__u32 after;

	it->flags = PSH | ACK;
	it->seq = call->seq;
	if (call->op & PLACED) {
		it->ack = call->ack;
		return;
	}
	if (call->op & OUT) {
		after = BPF_CORE_READ(tcp, write_seq) - moved;
		it->ack = call->ack;
		if (after != call->seq)
			it->seq = after; /* another thread wrote before us, or the connection began with this call */
		return;
	}
	after = BPF_CORE_READ(tcp, copied_seq) - moved;
	it->ack = BPF_CORE_READ(tcp, snd_una);
	if (after != call->seq + 1) /* one more: the end of the stream was read as well */
		it->seq = after;
}

/* Second step: between whom it goes; false where nobody wants it. */
__noinline int find_ends(struct ks_call *call)
{
	struct ks_scratch *scratch = this_scratch();
	struct ks_ends *ends;
	bool out;

	if (!call || !scratch)
		return 0;
	ends = &scratch->ends;
	out = call->op & OUT;
	*ends = call->ends;
	if (!(call->op & PLACED) && (ends->proto == UDP || !ends->remote_port)) { /* its peer may have become known since it began */
		__builtin_memset(ends, 0, sizeof(*ends));
		if (!ends_of((struct sock *)call->sock, ends))
			return 0;
	}
	if (ends->proto == UDP) {
		if (out || (!ends->remote_port && !(call->op & PLACED)))
			read_name(call->op, scratch->name, ends);
		if (call->learned)
			__builtin_memcpy(ends->local, call->from, 16);
		else if (is_any(ends->local) && !out)
			find_target(ends);
		if (!ends->remote_port) {
			count(LOST_ENDS);
			return 0;
		}
	}
	if (!wants_ports(ends->local_port, ends->remote_port))
		return 0;
	if (left_out(ends)) {
		count(LOST_SAMPLED);
		return 0;
	}
	scratch->way = way(ends, out);
	return 1;
}

/* Third step: of a stream, which part of it; false where that was told. */
__noinline int find_place(struct ks_call *call, __u64 moved)
{
	struct ks_scratch *scratch = this_scratch();
	struct ks_segment *it;

	if (!call || !scratch)
		return 0;
	it = &scratch->it;
	__builtin_memset(it, 0, sizeof(*it));
	it->out = call->op & OUT;
	it->size = moved;
	if (scratch->ends.proto != TCP)
		return 1;
	place_in_stream(call, moved, it);
	if (it->out || !stream_told(scratch->way, it->seq, moved))
		return 1;
	count(TWICE);
	return 0;
}

/* Fifth step: headers before it. */
__noinline int head_message(struct ks_call *call)
{
	struct ks_scratch *scratch = this_scratch();
	__u32 at;

	if (!call || !scratch)
		return 0;
	at = write_headers(scratch->data, &scratch->ends, &scratch->it);
	scratch->head.ns = scratch->it.out ? call->ns : bpf_ktime_get_ns();
	scratch->head.wire = at + scratch->it.size;
	scratch->head.kind = DATA;
	scratch->head.iface = 0;
	return at;
}

/* Last step, of a stream: into the ring. Of a datagram: once.h. */
__noinline int put_message(__u32 copied)
{
	struct ks_scratch *scratch = this_scratch();

	if (!scratch)
		return 0;
	copied += size_of_headers(&scratch->ends) + sizeof(scratch->head);
	CLAMP(copied, sizeof(scratch->head) + HEADERS + PAYLOAD);
	if (!bpf_ringbuf_output(&ring, &scratch->head, copied, BPF_RB_NO_WAKEUP))
		return 1;
	count(LOST_RING);
	return 0;
}

/* All steps of one message, in a scratch that is ours. */
static __always_inline void put_steps(struct ks_call *call, struct ks_scratch *scratch, __u32 number, __u64 moved)
{
	__u32 at, copied;

	if (!find_message(call, number) || !find_ends(call))
		return;
	tell_process(call);
	if (!find_place(call, moved))
		return;
	at = size_of_headers(&scratch->ends);
	copied = copy_payload(call, at);
	head_message(call);
	if (scratch->ends.proto == UDP)
		put_datagram(copied, mix(scratch->way, print_of(at, copied)));
	else if (put_message(copied) && scratch->it.out)
		tell_stream(scratch->way, scratch->it.seq, moved);
}

/* Tell of one message of a call, of which `moved` bytes were moved. */
__noinline int tell_message(struct ks_call *call, __u32 number, __u64 moved)
{
	struct ks_scratch *scratch = this_scratch();

	if (!call)
		return 0;
	if (!scratch || !claim(scratch)) {
		count(LOST_SCRATCH);
		return 0;
	}
	put_steps(call, scratch, number, moved);
	release(scratch);
	return 0;
}

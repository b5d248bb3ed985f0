/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* A call that moves bytes through a socket, remembered from its beginning to its end, and room to tell of it. */
#pragma once

#include "moved.h"

#define PAYLOAD 65536 /* most bytes of a call that are taken; `struct ks_settings` may ask for less */
#define PIECES 64 /* parts of one message (struct iovec) that are looked at: gRPC sends each header in several */
#define MESSAGES 8 /* messages of one sendmmsg or recvmmsg */
#define CPUS 128

/* What may change while the programs run. */
struct ks_settings {
	__u32 payload; /* bytes of a call that are taken */
	__u32 one_in; /* connections of which one is told, a power of two; 0 and 1: all */
	__u32 any_opaque; /* whether there is a connection that nobody reads */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ks_settings);
} settings SEC(".maps");

struct ks_call {
	__u64 sock; /* 0: there is none under way */
	__u64 buffer, count, name; /* name: the address of a datagram */
	__u64 skip; /* bytes at the beginning of the vector that were moved before */
	__u64 ns;
	__u32 op, seq, ack;
	__u8 learn, learned; /* the address that datagrams are sent from, which the socket does not know */
	__u8 from[16];
	struct ks_ends ends; /* as they were when it began */
};

/* Of each thread: it goes with it, and is found without a lock. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct ks_call);
} calls SEC(".maps");

/* A record is put together here, step by step. The steps are functions of their own, and what one leaves for the next is
 * here and not on the stack, for the sake of the verifier: it looks at each of them once, and follows what is on a stack
 * along every path. Where programs can be interrupted by others on their processor (fentry, on a kernel that is
 * preemptible), `claim` sees to it that they do not share it.
 */
struct ks_scratch {
	__u32 claimed;
	struct ks_ends ends;
	struct ks_segment it;
	__u64 buffer, pieces, skip, name; /* of the message */
	__u64 way; /* a number for the direction that its bytes take, the same at either end */
	struct ks_head head;
	__u8 data[HEADERS + 2 * PAYLOAD];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); /* not PERCPU_ARRAY: a value of that has 32 KiB at most */
	__uint(max_entries, CPUS);
	__type(key, __u32);
	__type(value, struct ks_scratch);
} scratches SEC(".maps");

static __always_inline struct ks_settings *this_setting(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&settings, &first);
}

/* The call of this thread that is under way, or null. */
static __always_inline struct ks_call *this_call(void)
{
	struct ks_call *call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), NULL, 0);

	return call && call->sock ? call : NULL;
}

static __always_inline struct ks_scratch *this_scratch(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&scratches, &cpu);
}

#ifdef PREEMPTIBLE /* needs Linux 5.12; these programs need 5.13 anyway */
static __always_inline bool claim(struct ks_scratch *scratch)
{
	return !__sync_val_compare_and_swap(&scratch->claimed, 0, 1);
}

static __always_inline void release(struct ks_scratch *scratch)
{
	__sync_val_compare_and_swap(&scratch->claimed, 1, 0);
}
#else
static __always_inline bool claim(struct ks_scratch *scratch)
{
	return true;
}

static __always_inline void release(struct ks_scratch *scratch)
{
}
#endif

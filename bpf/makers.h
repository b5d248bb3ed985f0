/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Whose packets are: who made their socket. Told by a record of its own whenever the ends are news.
 *
 * A packet bears its sender's socket from where it leaves, at links of other namespaces too, until it is delivered; at a
 * cgroup that it comes in to it bears the receiver's. A connection that is accepted is of whoever made the socket that listens.
 */
#pragma once

#include "sock.h"

const volatile __u32 by_maker = 0; /* whether makers are told: the programs below are loaded, too */

struct ks_maker {
	__u64 last; /* a number for the ends that were told */
	__u32 pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE); /* goes with its socket */
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE); /* what is accepted has that of what listens */
	__type(key, int);
	__type(value, struct ks_maker);
} makers SEC(".maps");

struct ks_made { /* as struct ks_process of the calls has it: backends/_owners.py reads both */
	struct ks_head head;
	__u64 unused[2];
	__u32 pid, tid;
	struct ks_ends ends;
	char comm[16];
};

/* The ends of the packet whose IP header is at `at`; the local one is its sender, or (`in`) its receiver. False where it
 * has no ports.
 */
static __always_inline bool ends_at(struct __sk_buff *skb, __u32 at, bool in, struct ks_ends *ends)
{
	__u8 *from = in ? ends->remote : ends->local, *to = in ? ends->local : ends->remote;
	__u32 ports, version = version_of(skb, at);

	if (version == 4) {
		ports = at + (byte_at(skb, at) & 15) * 4;
		ends->proto = byte_at(skb, at + 9);
		bpf_skb_load_bytes(skb, at + 12, from, 4);
		bpf_skb_load_bytes(skb, at + 16, to, 4);
	} else if (version == 6) {
		ports = at + 40;
		ends->proto = byte_at(skb, at + 6);
		bpf_skb_load_bytes(skb, at + 8, from, 16);
		bpf_skb_load_bytes(skb, at + 24, to, 16);
	} else {
		return false;
	}
	ends->version = version;
	ends->local_port = pair_at(skb, in ? ports + 2 : ports);
	ends->remote_port = pair_at(skb, in ? ports : ports + 2);
	return ends->proto == TCP || ends->proto == UDP;
}

static __always_inline __u64 number_of(const struct ks_ends *ends)
{
	const __u64 *it = (const __u64 *)ends;
	__u64 hash = 0;

	for (int i = 0; i < 5; i++) { /* addresses and ports */
		hash = (hash ^ it[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 32;
	}
	return hash;
}

static __always_inline void tell_maker(struct __sk_buff *skb, __u32 at, bool in)
{
	struct ks_made made = {};
	struct bpf_sock *sock;
	struct ks_maker *maker;
	__u64 number;

	if (!by_maker)
		return;
	sock = skb->sk;
	if (sock)
		sock = bpf_sk_fullsock(sock);
	maker = sock ? bpf_sk_storage_get(&makers, sock, 0, 0) : NULL;
	if (!maker || !ends_at(skb, at, in, &made.ends))
		return;
	number = number_of(&made.ends);
	if (maker->last == number)
		return;
	made.head.ns = bpf_ktime_get_ns();
	made.head.wire = sizeof(made) - sizeof(made.head);
	made.head.kind = KIND_MAKER;
	made.pid = made.tid = maker->pid;
	__builtin_memcpy(made.comm, maker->comm, sizeof(made.comm));
	if (bpf_ringbuf_output(&ring, &made, sizeof(made), BPF_RB_NO_WAKEUP))
		return; /* with the next packet, then: no packet is lost by it */
	maker->last = number;
}

/* A process makes a socket. */
SEC("cgroup/sock_create")
int created(struct bpf_sock *sock)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct ks_maker *maker = bpf_sk_storage_get(&makers, sock, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (maker) {
		maker->pid = BPF_CORE_READ(task, tgid);
		BPF_CORE_READ_STR_INTO(&maker->comm, task, group_leader, comm);
	}
	return 1; /* it may */
}

/* Those that were made before: run once, when a capture begins. */
SEC("iter/task_file")
int held(struct bpf_iter__task_file *at)
{
	struct task_struct *task = at->task;
	struct file *file = at->file;
	struct socket *socket;
	struct ks_maker *maker;
	struct sock *sk;
	__u16 family;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	sk = socket ? socket->sk : NULL;
	if (!sk)
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	maker = bpf_sk_storage_get(&makers, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!maker || maker->pid)
		return 0;
	maker->pid = task->tgid;
	bpf_probe_read_kernel_str(maker->comm, sizeof(maker->comm), task->group_leader->comm);
	return 0;
}

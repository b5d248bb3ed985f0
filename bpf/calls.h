/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* A call that moves bytes through a socket: remembered when it begins, told when it has ended.
 *
 * Whatever the hooks are (system calls, functions of the kernel), they fill `struct ks_call` and come here. The place of
 * the bytes in a TCP stream is read twice, since other threads may use the same socket meanwhile.
 */
#pragma once

/* Whether a call is the same once more: UDP for IPv6 gives what is for IPv4 on to that. */
static __always_inline bool given_on(const struct ks_call *before, const struct ks_call *call)
{
	struct sock *sk = (void *)call->sock;

	return call->op & KERNEL && call->learn && before->learn && before->sock == call->sock &&
	       before->buffer == call->buffer && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6;
}

/* What is there already has no end that we were told of, or goes on with this one. */
static __always_inline void remember(__u64 thread, struct ks_call *call)
{
	struct ks_call *before = bpf_map_lookup_elem(&calls, &thread);

	if (before && !given_on(before, call))
		count(LOST_MISSED);
	if (bpf_map_update_elem(&calls, &thread, call, BPF_ANY))
		count(LOST_CALLS);
}

/* A call begins. */
static __always_inline int begin(struct sock *sk, struct ks_call *call)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u16 family, proto, local, remote;

	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	proto = BPF_CORE_READ(sk, sk_protocol);
	if ((family != AF_INET && family != AF_INET6) || (proto != TCP && proto != UDP))
		return 0;
	if (proto == TCP && asks(BY_PORT)) {
		local = BPF_CORE_READ(sk, __sk_common.skc_num);
		remote = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
		if (!wants_ports(local, remote))
			return 0;
	}
	if (!wants_netns(sk))
		return 0;
	if (call->op & DISCARD && proto == TCP)
		call->op |= UNSEEN;
	call->sock = (__u64)sk;
	call->ns = bpf_ktime_get_ns();
	if (proto == TCP) {
		struct tcp_sock *tcp = (void *)sk;

		call->ack = BPF_CORE_READ(tcp, copied_seq);
		call->seq = call->op & OUT ? BPF_CORE_READ(tcp, write_seq) : call->ack;
	} else {
		call->learn = call->op & OUT;
	}
	remember(thread, call);
	if (call->op & OUT)
		tell_sender();
	return 0;
}

/* It has ended, and says `result`. */
static __always_inline int end(long result)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ks_call *call = bpf_map_lookup_elem(&calls, &thread);

	if (!call)
		return 0;
	if (result > 0) {
		if (call->op & MANY) {
			__u64 buffer = call->buffer;

			for (int i = 0; i < MESSAGES; i++) {
				__u32 moved = 0;

				if (i >= result)
					break;
				bpf_probe_read_user(&moved, sizeof(moved),
						    (void *)(buffer + i * sizeof(struct mmsghdr) +
							     offsetof(struct mmsghdr, msg_len)));
				if (moved)
					tell_message(i, moved);
			}
			if (result > MESSAGES)
				count_some(LOST_MESSAGES, result - MESSAGES);
		} else {
			tell_message(0, result);
		}
	}
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

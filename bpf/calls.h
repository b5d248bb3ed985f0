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

/* Remember it. What is there already has no end that we were told of, or goes on with this one. */
static __always_inline struct ks_call *remember(const struct ks_call *call)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct ks_call *place = bpf_task_storage_get(&calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!place) {
		count(LOST_CALLS);
		return NULL;
	}
	if (place->sock && !given_on(place, call))
		count(LOST_MISSED);
	*place = *call;
	return place;
}

/* A call begins. */
static __always_inline int begin(struct sock *sk, struct ks_call *call)
{
	struct ks_ends *ends = &call->ends;
	struct ks_call *place;
	bool stream;

	if (!sk || !ends_of(sk, ends) || !wants_netns(ends->netns))
		return 0;
	stream = ends->proto == TCP;
	if (stream && !wants_ports(ends->local_port, ends->remote_port))
		return 0; /* a datagram's are not known yet */
	if (call->op & DISCARD && stream)
		call->op |= UNSEEN;
	call->sock = (__u64)sk;
	call->ns = bpf_ktime_get_ns();
	if (stream) {
		struct tcp_sock *tcp = (void *)sk;

		call->ack = BPF_CORE_READ(tcp, copied_seq);
		call->seq = call->op & OUT ? BPF_CORE_READ(tcp, write_seq) : call->ack;
	} else {
		call->learn = call->op & OUT;
	}
	place = remember(call);
	if (place && call->op & OUT && !by_task() && !knows_owner(ends, bpf_get_current_pid_tgid() >> 32))
		tell_sender(place);
	return 0;
}

/* It has ended, and says `result`. */
static __always_inline int end(long result)
{
	struct ks_call *call = this_call();

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
					tell_message(call, i, moved);
			}
			if (result > MESSAGES)
				count_some(LOST_MESSAGES, result - MESSAGES);
		} else {
			tell_message(call, 0, result);
		}
	}
	call->sock = 0;
	return 0;
}

/* The call that sends a datagram, where it is to learn from which address. */
static __always_inline struct ks_call *sends_datagram(struct sock *sk)
{
	struct ks_call *call = this_call();

	return call && call->learn && !call->learned && (__u64)sk == call->sock ? call : NULL;
}

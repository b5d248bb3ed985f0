// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Payload of sockets, taken where a socket has moved bytes: its own tracepoints (Linux 6.3), one program a call.
//
// What costs most elsewhere is not needed here: no system call takes the slow way, no descriptor is looked up, nothing is
// remembered from a call's beginning, and what the kernel gives is read without a helper. Where the bytes are stands in
// the registers of the system call that the thread is in.
// Not seen: io_uring, sockets of the kernel itself, the bytes (not the number) of sendfile and of splice into a socket;
// splice out of a socket, which leaves a hole in the stream.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#define PREEMPTIBLE
#include "ring.h"
#include "sock.h"
#include "segment.h"
#include "group.h"
#include "filter.h"
#include "call.h"
#include "told.h"
#include "opaque.h"
#include "opening.h"
#include "process.h"
#include "memory.h"
#include "once.h"
#include "message.h"
#include "states.h"
#include "registers.h"

char LICENSE[] SEC("license") = "GPL";

/* What a thread keeps between programs: of a datagram that it sends, and of a call with several messages. */
static __always_inline struct ks_call *kept(bool create)
{
	return bpf_task_storage_get(&calls, bpf_get_current_task_btf(), NULL,
				    create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

#define SAME_SEND 1000000 /* ns within which a datagram that leaves by several links, one in the other, is one */

/* A datagram is on its way: when, and from where. The first link has its own addresses, a tunnel's others. */
static __always_inline struct ks_call *sends_datagram(struct sock *sk)
{
	struct ks_call *call = kept(true);
	__u64 now = bpf_ktime_get_ns();

	if (!call) {
		count(LOST_CALLS);
		return NULL;
	}
	if (call->sock == (__u64)sk && now - call->ns < SAME_SEND)
		return NULL;
	call->sock = (__u64)sk;
	call->ns = now;
	call->learned = 0;
	return call;
}
#include "datagrams.h"

/* Whom the datagram that a thread takes is from: told by the kernel to whoever may refuse it. */
struct ks_source {
	__u8 bytes[16];
	__u16 port, version;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* thread */
	__type(value, struct ks_source);
} sources SEC(".maps");

static __always_inline int comes_from(const struct ks_source *it)
{
	__u64 thread = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&sources, &thread, it, BPF_ANY);
	return 1; /* it may */
}

SEC("cgroup/recvmsg4")
int asks_source4(struct bpf_sock_addr *at)
{
	struct ks_source it = { .port = bpf_ntohs(at->user_port), .version = 4 };

	*(__u32 *)it.bytes = at->user_ip4;
	return comes_from(&it);
}

SEC("cgroup/recvmsg6")
int asks_source6(struct bpf_sock_addr *at)
{
	struct ks_source it = { .port = bpf_ntohs(at->user_port), .version = 6 };
	__u32 *words = (__u32 *)it.bytes;

	words[0] = at->user_ip6[0];
	words[1] = at->user_ip6[1];
	words[2] = at->user_ip6[2];
	words[3] = at->user_ip6[3];
	return comes_from(&it);
}

/* The ends of a socket whose fields are read as they are. */
static __always_inline bool ends_here(struct sock *sk, struct tcp_sock *tcp, struct ks_ends *ends)
{
	if (!tcp)
		return ends_of(sk, ends);
	ends->proto = TCP;
	ends->netns = sk->__sk_common.skc_net.net->ns.inum;
	ends->local_port = bpf_ntohs(tcp->inet_conn.icsk_inet.inet_sport);
	ends->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (sk->__sk_common.skc_family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)ends->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)ends->remote, sk, __sk_common.skc_v6_daddr);
		unmap(ends);
		return true;
	}
	ends->version = 4;
	*(__u32 *)ends->local = sk->__sk_common.skc_rcv_saddr;
	*(__u32 *)ends->remote = sk->__sk_common.skc_daddr;
	return true;
}

/* Which of its messages a call of many is at: the next after the last, if the kernel has noted the length of that. */
static __always_inline __u32 which_message(__u64 vector, __u64 most, int size)
{
	struct ks_call *call = kept(true);
	__u32 number = 0, noted;

	if (!call)
		return 0;
	if (call->buffer == vector && call->count && call->count < most &&
	    !bpf_probe_read_user(&noted, sizeof(noted),
				 (void *)(vector + (call->count - 1) * sizeof(struct mmsghdr) +
					  offsetof(struct mmsghdr, msg_len))) &&
	    noted == call->seq)
		number = call->count;
	call->buffer = vector;
	call->count = number + 1;
	call->seq = size;
	return number;
}

/* A message that was not moved ends such a call: the next one begins with its first. */
static __always_inline void no_more_messages(void)
{
	struct ks_call *call = kept(false);

	if (call)
		call->count = 0;
}

/* Where the bytes are, by the system call that this thread is in, if that is one on this very socket. Gives the number
 * of the message.
 */
static __always_inline __u32 find_bytes(struct sock *sk, int size, struct ks_call *call)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = this_call_of(task);
	struct file *file = sk->sk_socket->file;

	if (!regs || !file)
		return -1;
	switch (NUMBER(regs)) {
	case CALL_read:
	case CALL_write:
		break;
	case CALL_recvfrom:
	case CALL_sendto:
		call->name = call->op & OUT ? FIFTH(regs) : 0;
		break;
	case CALL_readv:
	case CALL_writev:
	case CALL_preadv2:
	case CALL_pwritev2:
		call->op |= VECTOR;
		break;
	case CALL_recvmsg:
	case CALL_sendmsg:
		call->op |= MESSAGE;
		break;
	case CALL_recvmmsg:
		if (FIFTH(regs)) { /* what ends it in time shows nowhere, so its messages cannot be counted */
			call->op |= UNSEEN;
			break;
		}
	case CALL_sendmmsg:
		call->op |= MESSAGE | MANY;
		break;
	case CALL_sendfile:
	case CALL_splice:
		call->op |= UNSEEN;
		return 0;
	default:
		return -1;
	}
	if (file_of(FIRST(regs)) != file)
		return -1; /* something else of the kernel's, within that call */
	call->buffer = SECOND(regs);
	call->count = THIRD(regs);
	return call->op & MANY ? which_message(call->buffer, call->count, size) : 0;
}

/* When the bytes that a call sent went off: what they are answered with may be here before the call is back. */
static __always_inline __u64 sent_at(struct tcp_sock *tcp)
{
	__u64 now = bpf_ktime_get_ns(), at;

	if (tcp->snd_nxt != tcp->write_seq)
		return now; /* some are still to go */
	/* Of what was heard of already, when that was sent; else when this socket last looked at the clock, which was then. */
	at = tcp->snd_una == tcp->write_seq ? tcp->first_tx_mstamp * 1000 : tcp->tcp_mstamp * 1000;
	return at < now ? at : now;
}

/* Where the bytes stand in the stream. */
static __always_inline void place(struct sock *sk, struct tcp_sock *tcp, int size, struct ks_call *call)
{
	if (call->op & OUT) {
		call->seq = tcp->write_seq - size;
		call->ack = tcp->copied_seq;
		call->ns = sent_at(tcp);
		return;
	}
	call->seq = tcp->copied_seq - size;
	call->ack = tcp->snd_una;
	if (sk->__sk_common.skc_flags & 1 << SOCK_DONE && tcp->copied_seq == tcp->rcv_nxt)
		call->seq--; /* the end of the stream was read as well */
}

/* What is known of a datagram since it went off; from then on it is forgotten. */
static __always_inline void recall(struct sock *sk, struct ks_call *call)
{
	struct ks_call *before = kept(false);

	call->ns = bpf_ktime_get_ns();
	if (!before || before->sock != (__u64)sk)
		return;
	call->ns = before->ns;
	call->learned = before->learned;
	__builtin_memcpy(call->from, before->from, sizeof(call->from));
	before->sock = 0;
}

/* Who sent it, which its caller is yet to be told; from then on it is forgotten. */
static __always_inline void find_source(struct ks_ends *ends)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ks_source *it = bpf_map_lookup_elem(&sources, &thread);

	if (!it)
		return;
	if (!ends->remote_port) {
		ends->remote_port = it->port;
		ends->version = it->version;
		__builtin_memcpy(ends->remote, it->bytes, 16);
		if (it->version == 6) {
			if (is_mapped(ends->remote) && is_any(ends->local))
				((__u32 *)ends->local)[2] = bpf_htonl(0xffff);
			unmap(ends);
		}
	}
	bpf_map_delete_elem(&sources, &thread);
}

/* `size` bytes have moved through a socket. */
static __always_inline int moved(struct sock *sk, int size, __u32 op)
{
	__u16 family = sk->__sk_common.skc_family;
	struct ks_call call = { .op = op };
	struct tcp_sock *tcp = NULL;
	int number;

	if (family != AF_INET && family != AF_INET6)
		return 0;
	if (sk->sk_protocol == TCP) {
		tcp = bpf_skc_to_tcp_sock(sk);
		if (!tcp)
			return 0;
	} else if (sk->sk_protocol != UDP) {
		return 0;
	}
	if (!ends_here(sk, tcp, &call.ends))
		return 0;
	if (!tcp && op & OUT)
		recall(sk, &call);
	else if (!tcp)
		find_source(&call.ends);
	if (size <= 0) {
		no_more_messages();
		return 0;
	}
	if (op & LOOK || !wants_netns(call.ends.netns))
		return 0;
	if (tcp && !wants_ports(call.ends.local_port, call.ends.remote_port))
		return 0; /* a datagram's are not known yet */
	if (!wants_task(bpf_get_current_pid_tgid() >> 32))
		return 0;
	call.sock = (__u64)sk;
	number = find_bytes(sk, size, &call);
	if (number < 0)
		return 0;
	call.op |= PLACED;
	if (tcp) {
		place(sk, tcp, size, &call);
		if (op & DISCARD)
			call.op |= UNSEEN;
	}
	tell_message(&call, number, size);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_sent, struct sock *sk, int size, int flags)
{
	return moved(sk, size, OUT);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_taken, struct sock *sk, int size, int flags)
{
	return moved(sk, size, LOOKS(flags) ? LOOK : DISCARDS(flags));
}

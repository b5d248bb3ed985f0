// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Payload of sockets, taken where the kernel's own functions for TCP and UDP begin and end.
//
// In two flavours with the same bodies: fentry and fexit, which cost least (Linux 5.17, and BPF trampolines), and kprobe
// and kretprobe. It sees what system calls do not: io_uring, and more than some messages of one call.
// Not seen: the bytes (not the number) of what is pages or the kernel's own memory (sendfile, splice, NFS).
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
#include "calls.h"
#include "states.h"
#include "datagrams.h"
#include "iter.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u8 old_takes = 0; /* the flags of tcp_recvmsg and the like are the fifth argument: before Linux 5.19 */

/* A message goes through `sk`. */
static __always_inline int moves(struct sock *sk, struct msghdr *message, __u32 op)
{
	struct ks_call call = { .op = op | KERNEL };

	if (!wants_task(bpf_get_current_pid_tgid() >> 32))
		return 0;
	call.name = (__u64)BPF_CORE_READ(message, msg_name);
	if (!find_iter(&message->msg_iter, &call))
		call.op |= UNSEEN;
	return begin(sk, &call);
}

/* Pages do, of which nobody has the bytes at hand. */
static __always_inline int moves_pages(struct sock *sk, __u32 op)
{
	struct ks_call call = { .op = op | UNSEEN };

	return wants_task(bpf_get_current_pid_tgid() >> 32) ? begin(sk, &call) : 0;
}

static __always_inline int sends(__u64 sk, __u64 message)
{
	return moves((struct sock *)sk, (struct msghdr *)message, OUT);
}

static __always_inline int takes(__u64 sk, __u64 message, __u64 flags)
{
	return LOOKS(flags) ? 0 : moves((struct sock *)sk, (struct msghdr *)message, DISCARDS(flags));
}

static __always_inline int leave(void *at)
{
	__u64 result;

	if (bpf_get_func_ret(at, &result))
		return 0;
	return end((int)result);
}

/* Not by ?:, of which clang makes one load from an address that the verifier does not follow. */
#define EITHER(to, which, this, other) \
	if (which) { \
		to = this; \
		asm volatile("" : "+r"(to)); \
	} else { \
		to = other; \
	}
#define FEXIT(function) \
	SEC("fexit/" #function) int fexit_##function(void *at) { return leave(at); }
#define SENDS(function) \
	FEXIT(function) \
	SEC("fentry/" #function) int fentry_##function(__u64 *at) { return sends(at[0], at[1]); } \
	SEC("kprobe/" #function) int kprobe_##function(struct pt_regs *at) \
	{ \
		return sends(PT_REGS_PARM1(at), PT_REGS_PARM2(at)); \
	}
#define TAKES(function) \
	FEXIT(function) \
	SEC("fentry/" #function) int fentry_##function(__u64 *at) \
	{ \
		__u64 flags; \
		EITHER(flags, old_takes, at[4], at[3]); \
		return takes(at[0], at[1], flags); \
	} \
	SEC("kprobe/" #function) int kprobe_##function(struct pt_regs *at) \
	{ \
		__u64 flags; \
		EITHER(flags, old_takes, PT_REGS_PARM5(at), PT_REGS_PARM4(at)); \
		return takes(PT_REGS_PARM1(at), PT_REGS_PARM2(at), flags); \
	}

SENDS(tcp_sendmsg)
SENDS(udp_sendmsg)
SENDS(udpv6_sendmsg)
TAKES(tcp_recvmsg)
TAKES(udp_recvmsg)
TAKES(udpv6_recvmsg)

/* sendfile into a socket, until Linux 6.4; later it is tcp_sendmsg. */
FEXIT(tcp_sendpage)
SEC("fentry/tcp_sendpage") int fentry_tcp_sendpage(__u64 *at)
{
	return moves_pages((struct sock *)at[0], OUT);
}
SEC("kprobe/tcp_sendpage") int kprobe_tcp_sendpage(struct pt_regs *at)
{
	return moves_pages((struct sock *)PT_REGS_PARM1(at), OUT);
}

/* From a socket into a pipe. */
static __always_inline int takes_pages(__u64 socket)
{
	struct sock *sk = BPF_CORE_READ((struct socket *)socket, sk);

	return moves_pages(sk, 0);
}
FEXIT(tcp_splice_read)
SEC("fentry/tcp_splice_read") int fentry_tcp_splice_read(__u64 *at)
{
	return takes_pages(at[0]);
}
SEC("kprobe/tcp_splice_read") int kprobe_tcp_splice_read(struct pt_regs *at)
{
	return takes_pages(PT_REGS_PARM1(at));
}

/* Attached to the end of each. */
SEC("kretprobe/tcp_sendmsg") int kretprobe(struct pt_regs *at)
{
	return end((int)PT_REGS_RC(at));
}

/* A thread that ends within a call had one whose end was not told (the kernel may miss some). */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	if (this_call())
		count(LOST_MISSED);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Payload of sockets, taken where system calls begin and end. It needs nothing but tracepoints.
//
// Not seen: io_uring, sockets of the kernel itself, the bytes (not the number) of sendfile and splice.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
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

char LICENSE[] SEC("license") = "GPL";

static __always_inline int enter(int fd, __u64 buffer, __u64 count, __u64 name, __u32 op)
{
	struct ks_call call = { .buffer = buffer, .count = count, .name = name, .op = op };

	if (!wants_task(bpf_get_current_pid_tgid() >> 32))
		return 0;
	return begin(socket_of(fd), &call);
}

#define ENTER(call) \
	SEC("tp/syscalls/sys_enter_" #call) \
	int enter_##call(struct trace_event_raw_sys_enter *at)

ENTER(read) { return enter(at->args[0], at->args[1], at->args[2], 0, 0); }
ENTER(write) { return enter(at->args[0], at->args[1], at->args[2], 0, OUT); }
ENTER(readv) { return enter(at->args[0], at->args[1], at->args[2], 0, VECTOR); }
ENTER(writev) { return enter(at->args[0], at->args[1], at->args[2], 0, VECTOR | OUT); }
ENTER(recvfrom)
{
	__u64 flags = at->args[3];

	return LOOKS(flags) ? 0 : enter(at->args[0], at->args[1], at->args[2], at->args[4], DISCARDS(flags));
}

ENTER(sendto) { return enter(at->args[0], at->args[1], at->args[2], at->args[4], OUT); }
ENTER(recvmsg)
{
	__u64 flags = at->args[2];

	return LOOKS(flags) ? 0 : enter(at->args[0], at->args[1], 0, 0, MESSAGE | DISCARDS(flags));
}

ENTER(sendmsg) { return enter(at->args[0], at->args[1], 0, 0, MESSAGE | OUT); }
ENTER(recvmmsg) { return LOOKS(at->args[3]) ? 0 : enter(at->args[0], at->args[1], 0, 0, MESSAGE | MANY); }
ENTER(sendmmsg) { return enter(at->args[0], at->args[1], 0, 0, MESSAGE | MANY | OUT); }
ENTER(sendfile64) { return enter(at->args[0], 0, 0, 0, UNSEEN | OUT); }

/* From a socket into a pipe, or from a pipe into a socket. */
ENTER(splice)
{
	struct sock *sk = socket_of(at->args[2]);

	return sk ? enter(at->args[2], 0, 0, 0, UNSEEN | OUT) : enter(at->args[0], 0, 0, 0, UNSEEN);
}

/* Attached to the end of each of these calls. One program, since what a program calls is verified for each anew. */
SEC("tp/syscalls/sys_exit_read")
int leave(struct trace_event_raw_sys_exit *at)
{
	return end(at->ret);
}

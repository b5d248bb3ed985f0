// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// Every open TCP and UDP socket with who has it: run once, when a capture begins.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "sock.h"
#include "group.h"

char LICENSE[] SEC("license") = "GPL";

/* One of these for each descriptor of a socket; backends/_owners.py reads them. */
struct ks_held {
	__u32 pid;
	__u32 state;
	__u64 cgroup; /* as group.h has it */
	struct ks_ends ends;
	char comm[16];
};

SEC("iter/task_file")
int sockets(struct bpf_iter__task_file *at)
{
	struct task_struct *task = at->task;
	struct file *file = at->file;
	struct ks_held held = {};
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !ends_of(sk, &held.ends))
		return 0;
	held.pid = task->tgid;
	held.state = sk->__sk_common.skc_state;
	held.cgroup = number_of_group(task);
	bpf_probe_read_kernel_str(held.comm, sizeof(held.comm), task->group_leader->comm);
	bpf_seq_write(at->meta->seq, &held, sizeof(held));
	return 0;
}

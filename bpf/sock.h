/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* From a descriptor to its socket, and from a socket to its two ends. */
#pragma once

#include "ends.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000

#define COMMON 64 /* bytes at the beginning of a socket that are read at once: each read of the kernel's memory costs */
/* A field of struct sock_common in these bytes; 0 where a kernel has it behind them. */
#define IN_COMMON(type, raw, field) \
	({ \
		__u64 at = bpf_core_field_offset(struct sock_common, field); \
		at <= COMMON - sizeof(type) ? *(type *)((raw) + at) : (type)0; \
	})

/* Whether it is a TCP or UDP socket; fills `ends`, which is zero. */
static __always_inline bool ends_of(struct sock *sk, struct ks_ends *ends)
{
	__u8 raw[COMMON] __attribute__((aligned(8)));
	__u16 family, proto;
	struct net *net;

	if (bpf_probe_read_kernel(raw, sizeof(raw), sk))
		return false;
	family = IN_COMMON(__u16, raw, skc_family);
	if (family != AF_INET && family != AF_INET6)
		return false;
	proto = BPF_CORE_READ(sk, sk_protocol); /* MPTCP is 262: TCP in 8 bits, with another structure */
	if (proto != TCP && proto != UDP)
		return false;
	ends->proto = proto;
	/* Not skc_num: that is 0 once TCP is done with a connection whose last bytes may not be read yet. */
	ends->local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	ends->remote_port = bpf_ntohs(IN_COMMON(__u16, raw, skc_dport));
	net = (void *)IN_COMMON(__u64, raw, skc_net);
	ends->netns = BPF_CORE_READ(net, ns.inum);
	if (family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)ends->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)ends->remote, sk, __sk_common.skc_v6_daddr);
		unmap(ends);
		return true;
	}
	ends->version = 4;
	*(__u32 *)ends->local = IN_COMMON(__u32, raw, skc_rcv_saddr);
	*(__u32 *)ends->remote = IN_COMMON(__u32, raw, skc_daddr);
	return true;
}

/* The file of a descriptor of the task that runs, or null. */
static __always_inline struct file *file_of(int fd)
{
	struct task_struct *task = bpf_get_current_task_btf(); /* what it points to is read without a call of a helper */
	struct fdtable *table = task->files->fdt;
	struct file **files, *file;

	if (!table || (__u32)fd >= table->max_fds)
		return NULL;
	files = table->fd;
	if (bpf_probe_read_kernel(&file, sizeof(file), files + fd))
		return NULL;
	return file;
}

/* The socket of a descriptor of the task that runs, or null. */
static __always_inline struct sock *socket_of(int fd)
{
	struct file *file = file_of(fd);
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* From a descriptor to its socket, and from a socket to its two ends. */
#pragma once

#include "ends.h"

#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* Whether it is a TCP or UDP socket; fills `ends`, which is zero. */
static __always_inline bool ends_of(struct sock *sk, struct ks_ends *ends)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	ends->proto = BPF_CORE_READ(sk, sk_protocol);
	if (ends->proto != TCP && ends->proto != UDP)
		return false;
	/* Not skc_num: that is 0 once TCP is done with a connection whose last bytes may not be read yet. */
	ends->local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	ends->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	ends->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)ends->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)ends->remote, sk, __sk_common.skc_v6_daddr);
		unmap(ends);
		return true;
	}
	ends->version = 4;
	BPF_CORE_READ_INTO((__u32 *)ends->local, sk, __sk_common.skc_rcv_saddr);
	BPF_CORE_READ_INTO((__u32 *)ends->remote, sk, __sk_common.skc_daddr);
	return family == AF_INET;
}

/* The file of a descriptor of the task that runs, or null. */
static __always_inline struct file *file_of(int fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files, *file;

	if ((__u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	files = BPF_CORE_READ(table, fd);
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

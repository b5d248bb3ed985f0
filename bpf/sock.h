/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* From a descriptor to its socket, and from a socket to its two ends. */
#pragma once

#define AF_INET 2
#define AF_INET6 10
#define TCP 6
#define UDP 17
#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* Both ends of a socket. Ports are in the host's order; an IPv4 address is in the first 4 bytes. */
struct ends {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u8 version; /* 4 or 6 */
	__u8 proto;
	__u16 unused;
	__u32 netns; /* inode of its network namespace */
};

static __always_inline bool is_mapped(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

/* IPv4 on a socket of IPv6 is told as what it is. The address of an unconnected one says nothing: IPv6. */
static __always_inline void unmap(struct ends *ends)
{
	__u32 *local = (__u32 *)ends->local, *remote = (__u32 *)ends->remote;

	ends->version = 6;
	if (!is_mapped(ends->local) && !is_mapped(ends->remote))
		return;
	ends->version = 4;
	local[0] = local[3];
	remote[0] = remote[3];
	local[1] = local[2] = local[3] = 0;
	remote[1] = remote[2] = remote[3] = 0;
}

/* Whether it is a TCP or UDP socket; fills `ends`, which is zero. */
static __always_inline bool ends_of(struct sock *sk, struct ends *ends)
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

static __always_inline bool is_any(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !(words[0] | words[1] | words[2] | words[3]);
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

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* From a socket to its two ends, and from a descriptor to its socket. */
#pragma once

#define AF_INET 2
#define AF_INET6 10
#define TCP 6
#define UDP 17

/* Both ends of a socket. Ports are of the host's order, an IPv4 address has the first 4 bytes. */
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

/* Whether it is a TCP or UDP socket; fills `ends`. IPv4 on a socket of IPv6 is told as what it is: IPv4. */
static __always_inline bool ends_of(struct sock *sk, struct ends *ends)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	ends->proto = BPF_CORE_READ(sk, sk_protocol);
	if (ends->proto != TCP && ends->proto != UDP)
		return false;
	ends->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	ends->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	ends->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)ends->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)ends->remote, sk, __sk_common.skc_v6_daddr);
		if (!is_mapped(ends->local) && !is_mapped(ends->remote)) {
			ends->version = 6;
			return true;
		}
	} else if (family != AF_INET) {
		return false;
	}
	ends->version = 4;
	BPF_CORE_READ_INTO((__u32 *)ends->local, sk, __sk_common.skc_rcv_saddr);
	BPF_CORE_READ_INTO((__u32 *)ends->remote, sk, __sk_common.skc_daddr);
	return true;
}

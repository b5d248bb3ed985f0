/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The two ends of a socket. */
#pragma once

#define AF_INET 2
#define AF_INET6 10
#define TCP 6
#define UDP 17

/* Both ends of a socket. Ports are in the host's order; an IPv4 address is in the first 4 bytes. */
struct ks_ends {
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
static __always_inline void unmap(struct ks_ends *ends)
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

static __always_inline bool is_any(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !(words[0] | words[1] | words[2] | words[3]);
}

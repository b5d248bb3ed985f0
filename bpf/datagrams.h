/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Addresses that a socket of UDP does not know, where it is bound to none: read from the packets. */
#pragma once

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define CHECKSUM_PARTIAL 3

struct ks_addresses {
	struct ks_address source, target;
	__u16 source_port, target_port;
};

/* Fill `it` from a packet of UDP whose IP header is at `at`. */
static __always_inline bool addresses_of(struct sk_buff *skb, const unsigned char *at, struct ks_addresses *it)
{
	struct ks_udp udp;
	__u32 size;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ks_ip4 ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), at) || ip.proto != UDP)
			return false;
		*(__u32 *)it->source.bytes = ip.source;
		*(__u32 *)it->target.bytes = ip.target;
		size = (ip.version & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ks_ip6 ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), at) || ip.proto != UDP)
			return false;
		__builtin_memcpy(&it->source, ip.source, 16);
		__builtin_memcpy(&it->target, ip.target, 16);
		size = sizeof(ip);
	} else {
		return false;
	}
	if (bpf_probe_read_kernel(&udp, sizeof(udp), at + size))
		return false;
	it->source_port = bpf_ntohs(udp.source);
	it->target_port = bpf_ntohs(udp.target);
	return true;
}

/* Before it is given to anybody: where it came to. */
SEC("tp_btf/netif_receive_skb")
int BPF_PROG(on_receive, struct sk_buff *skb)
{
	struct ks_addresses it = {};
	__u64 key;

	/* Of this machine, the sum left to whoever comes: where that goes says that it is TCP. Reading the header costs more. */
	if (skb->csum_offset == offsetof(struct ks_tcp, check) && BPF_CORE_READ_BITFIELD(skb, ip_summed) == CHECKSUM_PARTIAL)
		return 0;
	if (!addresses_of(skb, skb->data, &it))
		return 0;
	key = sender(it.source.bytes, it.source_port, it.target_port);
	bpf_map_update_elem(&targets, &key, &it.target, BPF_ANY);
	return 0;
}

/* While the call that sends it is under way: where it comes from. */
SEC("tp_btf/net_dev_queue")
int BPF_PROG(on_send, struct sk_buff *skb)
{
	struct ks_addresses it = {};
	struct sock *sk = skb->sk;
	struct ks_call *call;

	if (!sk || sk->sk_protocol != UDP)
		return 0;
	call = sends_datagram(sk);
	if (!call)
		return 0;
	if (!addresses_of(skb, skb->head + skb->network_header, &it))
		return 0;
	__builtin_memcpy(call->from, &it.source, 16);
	call->learned = 1;
	return 0;
}

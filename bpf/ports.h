/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Whether a packet has a port that is wanted. Of tunnels the outer packet counts. */
#pragma once

#define MAC 14 /* bytes of an Ethernet header */
#define TAGS 2 /* VLAN tags within it */
#define EXTENSIONS 6 /* IPv6 extension headers that are stepped over; RFC 8200 section 4.1 has each once */

enum { NEXT_HOP = 0, NEXT_TCP = 6, NEXT_UDP = 17, NEXT_ROUTING = 43, NEXT_FRAGMENT = 44, NEXT_AUTH = 51, NEXT_OPTIONS = 60 };
enum { TYPE_TAG = 0x8100, TYPE_SERVICE_TAG = 0x88a8 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024); /* PORTS of core/limits.py */
	__type(key, __u16);
	__type(value, __u8);
} ports SEC(".maps");

static __always_inline __u32 byte_at(struct __sk_buff *skb, __u32 at)
{
	__u8 found = 0;

	return bpf_skb_load_bytes(skb, at, &found, 1) ? 0 : found;
}

static __always_inline __u32 pair_at(struct __sk_buff *skb, __u32 at)
{
	__u16 found = 0;

	return bpf_skb_load_bytes(skb, at, &found, 2) ? 0 : bpf_ntohs(found);
}

/* 4 or 6 where an IP header begins, else 0. */
static __always_inline __u32 version_of(struct __sk_buff *skb, __u32 at)
{
	__u32 version = byte_at(skb, at) >> 4;

	return version == 4 || version == 6 ? version : 0;
}

static __always_inline bool wanted_port(__u32 port)
{
	__u16 key = port;

	return bpf_map_lookup_elem(&ports, &key) != 0;
}

static __always_inline bool wanted_at(struct __sk_buff *skb, __u32 proto, __u32 at)
{
	if (proto != NEXT_TCP && proto != NEXT_UDP)
		return false;
	return wanted_port(pair_at(skb, at)) || wanted_port(pair_at(skb, at + 2));
}

/* A later fragment has no ports: it is taken, since the first one may have been. */
static __always_inline bool wanted_6(struct __sk_buff *skb, __u32 at)
{
	__u32 proto = byte_at(skb, at + 6);

	at += 40;
	for (int i = 0; i < EXTENSIONS; i++) {
		if (proto == NEXT_FRAGMENT) {
			if (pair_at(skb, at + 2) & 0xfff8)
				return true;
			proto = byte_at(skb, at);
			at += 8;
		} else if (proto == NEXT_HOP || proto == NEXT_ROUTING || proto == NEXT_OPTIONS) {
			proto = byte_at(skb, at);
			at += (byte_at(skb, at + 1) + 1) * 8;
		} else if (proto == NEXT_AUTH) {
			proto = byte_at(skb, at);
			at += (byte_at(skb, at + 1) + 2) * 4;
		} else {
			break;
		}
	}
	return wanted_at(skb, proto, at);
}

/* `mac`: bytes of the link's header; 0 where the packet begins with IP. */
static __always_inline bool has_port(struct __sk_buff *skb, __u32 mac)
{
	__u32 at = mac;

	for (int i = 0; mac && i < TAGS; i++) {
		__u32 type = pair_at(skb, at - 2);

		if (type != TYPE_TAG && type != TYPE_SERVICE_TAG)
			break;
		at += 4;
	}
	switch (version_of(skb, at)) {
	case 4:
		if (pair_at(skb, at + 6) & 0x1fff)
			return true;
		return wanted_at(skb, byte_at(skb, at + 9), at + (byte_at(skb, at) & 15) * 4);
	case 6:
		return wanted_6(skb, at);
	}
	return false;
}

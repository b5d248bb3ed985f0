/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Packets as they pass: at the links (tc: TCX, or a clsact qdisc) and at the sockets (cgroup_skb).
 *
 * Passive: every program lets the packet go on to whoever else looks at it, whatever happens here. A packet is copied
 * once, into a record that is reserved in the ring; there is no buffer between, which a packet in another context of
 * the same processor could overwrite.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "ports.h"
#include "ring.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before the programs are loaded; the verifier knows them as constants. */
const volatile __u32 snaplen = 262144;
const volatile __u32 by_port = 0; /* whether only the packets of `ports` are taken */

enum { KIND_FRAME, KIND_BARE, KIND_MAKER }; /* kinds of records: from the Ethernet header on, from IP on, makers.h */
enum { COUNT_FULL, COUNT_UNREADABLE, COUNT_FOREIGN, COUNT_CUT }; /* counters, in the order of backends/_packets.py */
enum { AT_EGRESS, AT_INGRESS, AT_LOOPBACK }; /* interfaces of cgroup_skb: it has no names for the real ones */

#include "makers.h"

#define NEXT -1 /* TC_ACT_UNSPEC, TCX_NEXT */
#define PASS 1 /* of cgroup_skb */
#define LO 1 /* LOOPBACK_IFINDEX: the same in every namespace */

/* Numbers of the links that are wanted, by ifindex. Indexes are a namespace's own, so each has its own map. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096); /* LINKS of core/limits.py */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u16);
} links SEC(".maps");

struct ks_packet {
	struct ks_head head;
	__u8 data[];
};

/* One record with the first `size` bytes of a packet, in which `room` is for them: a constant to the verifier. */
static __always_inline void put(struct __sk_buff *skb, __u16 kind, __u16 iface, __u64 size, __u64 room)
{
	struct ks_packet *packet = bpf_ringbuf_reserve(&ring, sizeof(*packet) + room, 0);

	if (!packet) {
		count(COUNT_FULL);
		return;
	}
	packet->head.ns = bpf_ktime_get_ns();
	packet->head.wire = skb->len;
	packet->head.kind = kind;
	packet->head.iface = iface;
	/* It is not 0; the verifier of Linux 6.1 has to be told so. */
	asm volatile("if %0 > 0 goto +1\n %0 = 1" : "+r"(size));
	if (bpf_skb_load_bytes(skb, 0, packet->data, size)) {
		count(COUNT_UNREADABLE);
		bpf_ringbuf_discard(packet, BPF_RB_NO_WAKEUP);
		return;
	}
	bpf_ringbuf_submit(packet, BPF_RB_NO_WAKEUP);
}

/* The sizes that records are made in; what is unused of one is not read. */
#define PUT_IN(most)                                                   \
	if (size <= (most)) {                                          \
		CLAMP(size, most);                                     \
		put(skb, kind, iface, size, most);                     \
		return;                                                \
	}

static __always_inline void take(struct __sk_buff *skb, __u16 kind, __u16 iface)
{
	__u64 size = skb->len;

	if (size < 1)
		return;
	if (size > snaplen) {
		count(COUNT_CUT);
		put(skb, kind, iface, snaplen, snaplen);
		return;
	}
	PUT_IN(96)
	PUT_IN(320)
	PUT_IN(1088)
	PUT_IN(1536)
	PUT_IN(4352)
	PUT_IN(9216)
	PUT_IN(20480)
	PUT_IN(36864)
	PUT_IN(65792) /* what segmentation offload makes: 65,536 bytes of payload, and headers */
	PUT_IN(131328)
	PUT_IN(262144) /* BIG TCP */
}

static __always_inline int at_link(struct __sk_buff *skb, __u16 kind)
{
	__u32 link = skb->ifindex;
	__u16 *number = bpf_map_lookup_elem(&links, &link);

	if (!number || (by_port && !has_port(skb, kind == KIND_BARE ? 0 : MAC)))
		return NEXT;
	if (kind == KIND_BARE && !version_of(skb, 0)) {
		count(COUNT_FOREIGN);
		return NEXT;
	}
	tell_maker(skb, kind == KIND_BARE ? 0 : MAC, false);
	take(skb, kind, *number);
	return NEXT;
}

static __always_inline int at_socket(struct __sk_buff *skb, __u16 iface)
{
	if (!by_port || has_port(skb, 0)) {
		tell_maker(skb, 0, iface == AT_INGRESS);
		take(skb, KIND_BARE, iface);
	}
	return PASS;
}

SEC("tc")
int frame(struct __sk_buff *skb)
{
	return at_link(skb, KIND_FRAME);
}

SEC("tc")
int bare(struct __sk_buff *skb)
{
	return at_link(skb, KIND_BARE);
}

/* At the egress of loopback, where packets bear their sockets; they are taken when they come in. */
SEC("tc")
int leaving(struct __sk_buff *skb)
{
	if (!by_port || has_port(skb, MAC))
		tell_maker(skb, MAC, false);
	return NEXT;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return at_socket(skb, skb->ifindex == LO ? AT_LOOPBACK : AT_EGRESS);
}

/* What came over loopback was seen when it left, also where nobody listened. */
SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	return skb->ifindex == LO ? PASS : at_socket(skb, AT_INGRESS);
}

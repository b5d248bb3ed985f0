/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What a socket call moved, told as a packet: an IP and a TCP or UDP header before the payload.
 *
 * The numbers in them are those of the connection, so whoever reassembles packets reassembles this, too, and a file
 * of them is a capture that every tool reads. Checksums and the number of the IP packet are 0.
 */
#pragma once

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10

struct ks_ip4 {
	__u8 version, tos;
	__u16 length, id, fragment;
	__u8 hops, proto;
	__u16 check;
	__u32 source, target;
};

struct ks_ip6 {
	__u8 version, class;
	__u16 label, length;
	__u8 proto, hops;
	__u32 source[4], target[4];
};

struct ks_tcp {
	__u16 source, target;
	__u32 seq, ack;
	__u8 words, flags;
	__u16 window, check, urgent;
};

struct ks_udp {
	__u16 source, target, length, check;
};

#define HEADERS (sizeof(struct ks_ip6) + sizeof(struct ks_tcp)) /* most bytes before the payload */

/* What stands in the headers of one packet. */
struct ks_segment {
	bool out; /* sent by the local end */
	__u8 flags; /* of TCP */
	__u32 seq, ack;
	__u64 size; /* of the payload, captured or not */
};

/* A length of 16 bits; 0, as segmentation offload has it, where it does not fit. */
static __always_inline __u16 length16(__u64 length)
{
	return length > 0xffff ? 0 : bpf_htons(length);
}

static __always_inline __u32 write_ip(void *to, const struct ks_ends *ends, bool out, __u64 size)
{
	const __u32 *source = (const __u32 *)(out ? ends->local : ends->remote);
	const __u32 *target = (const __u32 *)(out ? ends->remote : ends->local);

	if (ends->version == 4) {
		struct ks_ip4 *ip = to;

		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 0x45;
		ip->length = length16(sizeof(*ip) + size);
		ip->hops = 64;
		ip->proto = ends->proto;
		ip->source = source[0];
		ip->target = target[0];
		return sizeof(*ip);
	} else {
		struct ks_ip6 *ip = to;

		__builtin_memset(ip, 0, 8);
		ip->version = 0x60;
		ip->length = length16(size);
		ip->hops = 64;
		ip->proto = ends->proto;
		__builtin_memcpy(ip->source, source, 16);
		__builtin_memcpy(ip->target, target, 16);
		return sizeof(*ip);
	}
}

static __always_inline void write_tcp(struct ks_tcp *tcp, const struct ks_ends *ends, const struct ks_segment *it)
{
	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = bpf_htons(it->out ? ends->local_port : ends->remote_port);
	tcp->target = bpf_htons(it->out ? ends->remote_port : ends->local_port);
	tcp->seq = bpf_htonl(it->seq);
	tcp->ack = bpf_htonl(it->ack);
	tcp->words = sizeof(*tcp) << 2;
	tcp->flags = it->flags;
	tcp->window = 0xffff;
}

static __always_inline void write_udp(struct ks_udp *udp, const struct ks_ends *ends, const struct ks_segment *it)
{
	udp->source = bpf_htons(it->out ? ends->local_port : ends->remote_port);
	udp->target = bpf_htons(it->out ? ends->remote_port : ends->local_port);
	udp->length = length16(sizeof(*udp) + it->size);
	udp->check = 0;
}

static __always_inline __u32 size_of_headers(const struct ks_ends *ends)
{
	return (ends->version == 4 ? sizeof(struct ks_ip4) : sizeof(struct ks_ip6)) +
	       (ends->proto == TCP ? sizeof(struct ks_tcp) : sizeof(struct ks_udp));
}

/* Write the headers; gives their size. */
static __always_inline __u32 write_headers(__u8 *to, const struct ks_ends *ends, const struct ks_segment *it)
{
	__u32 last = ends->proto == TCP ? sizeof(struct ks_tcp) : sizeof(struct ks_udp);
	__u32 first = write_ip(to, ends, it->out, last + it->size);

	if (ends->proto == TCP)
		write_tcp((struct ks_tcp *)(to + first), ends, it);
	else
		write_udp((struct ks_udp *)(to + first), ends, it);
	return first + last;
}

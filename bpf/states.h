/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Connections that open and close, told as the packets that open and close them.
 *
 * The task that happens to run when a packet comes is not the one whose connection it is: no process is told here.
 */
#pragma once

#define SOCK_DONE 1 /* a bit of sk_flags: the peer has sent its FIN */

static __always_inline void put_segment(const struct ends *ends, bool out, __u32 seq, __u32 ack, __u8 flags)
{
	struct {
		struct head head;
		__u8 data[HEADERS];
	} it;
	struct segment segment = { .out = out, .flags = flags, .seq = seq, .ack = ack };
	__u32 size;

	__builtin_memset(&it, 0, sizeof(it));
	size = write_headers(it.data, ends, &segment);
	it.head.ns = bpf_ktime_get_ns();
	it.head.wire = size;
	it.head.kind = DATA;
	if (size != HEADERS)
		size = sizeof(struct ip4) + sizeof(struct tcp); /* a constant, for the verifier */
	if (bpf_ringbuf_output(&ring, &it, sizeof(it.head) + size, BPF_RB_NO_WAKEUP))
		count(LOST_RING);
}

static __always_inline void tell_state(struct sock *sk, int old, int new)
{
	struct tcp_sock *tcp = (void *)sk;
	struct ends ends = {};
	__u32 sent, heard, received;

	if (!ends_of(sk, &ends) || ends.proto != TCP || !ends.remote_port)
		return;
	if (!wants_ports(ends.local_port, ends.remote_port))
		return;
	sent = BPF_CORE_READ(tcp, write_seq);
	heard = BPF_CORE_READ(tcp, copied_seq);
	received = BPF_CORE_READ(tcp, rcv_nxt);
	if (new == TCP_ESTABLISHED) {
		bool client = old != TCP_SYN_RECV;
		__u32 asked = client ? sent : received, answered = client ? received : sent;

		if (client && old != TCP_SYN_SENT)
			return;
		put_segment(&ends, client, asked - 1, 0, SYN);
		put_segment(&ends, !client, answered - 1, asked, SYN | ACK);
	} else if (old == TCP_SYN_SENT && new == TCP_CLOSE) {
		put_segment(&ends, true, sent - 1, 0, SYN);
		if (BPF_CORE_READ(sk, sk_err) == 111) /* ECONNREFUSED */
			put_segment(&ends, false, 0, sent, RST | ACK);
	} else if (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK) {
		put_segment(&ends, true, sent, heard, FIN | ACK);
	} else if (new == TCP_CLOSE_WAIT || (old == TCP_FIN_WAIT1 && new == TCP_CLOSING)) {
		put_segment(&ends, false, received - 1, BPF_CORE_READ(tcp, snd_una), FIN | ACK);
	} else if (old == TCP_FIN_WAIT2 && new == TCP_CLOSE && BPF_CORE_READ(sk, __sk_common.skc_flags) & 1 << SOCK_DONE) {
		put_segment(&ends, false, received - 1, BPF_CORE_READ(tcp, snd_una), FIN | ACK);
	} else if (new == TCP_CLOSE && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT)) {
		put_segment(&ends, true, sent, heard, RST | ACK); /* by whichever end */
	}
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	/* Of a connection nothing is known but its ends: whose it is, only its calls tell. */
	if (!by_pid && !by_comm)
		tell_state(sk, old, new);
	return 0;
}

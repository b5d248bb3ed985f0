/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Connections that open and close, told as the packets that open and close them.
 *
 * The task that happens to run when a packet comes is not the one whose connection it is: no process is told here.
 */
#pragma once

#define SOCK_DONE 1 /* a bit of sk_flags: the peer has sent its FIN */

static __always_inline void tell_state(struct sock *sk, int old, int new)
{
	struct tcp_sock *tcp = (void *)sk;
	struct ks_ends ends = {};
	__u32 sent, heard, received;

	if (!ends_of(sk, &ends) || ends.proto != TCP || !ends.remote_port)
		return;
	if (!wants_ports(ends.local_port, ends.remote_port) || !wants_netns(ends.netns) || left_out(&ends))
		return;
	sent = BPF_CORE_READ(tcp, write_seq);
	heard = BPF_CORE_READ(tcp, copied_seq);
	received = BPF_CORE_READ(tcp, rcv_nxt);
	if (new == TCP_ESTABLISHED) {
		bool client = old != TCP_SYN_RECV;
		__u32 asked = client ? sent : received, answered = client ? received : sent;

		if (client && old != TCP_SYN_SENT)
			return;
		begins(&ends);
		tell_open(&ends, client, asked, answered);
	} else if (by_task() && !is_told(&ends)) {
		return; /* nobody's whom we know to be wanted */
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
	tell_state(sk, old, new);
	return 0;
}

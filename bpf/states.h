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

/* A packet may come while another connection's state is told on the same processor, and the kernel lets no program into
 * itself. So there are two, one after the other: the second tells what the first was not let into. What was told twice
 * is taken once, as any packet is.
 */
struct ks_change {
	__u64 sock;
	__s32 old, new;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ks_change);
} changes SEC(".maps");

static __always_inline struct ks_change *last_change(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&changes, &first);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	struct ks_change *last;

	tell_state(sk, old, new);
	last = last_change();
	if (last) {
		last->sock = (__u64)sk;
		last->old = old;
		last->new = new;
	}
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state_missed, struct sock *sk, int old, int new)
{
	struct ks_change *last = last_change();

	if (last && last->sock == (__u64)sk && last->old == old && last->new == new)
		last->sock = 0;
	else
		tell_state(sk, old, new);
	return 0;
}

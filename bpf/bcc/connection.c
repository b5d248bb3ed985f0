
// ---------------------------------------------------------------- telling of a connection

/* As bpf/process.h has it. */
struct ks_process {
	struct ks_head head;
	u64 sock, cgroup;
	u32 pid, tid;
	struct ks_ends ends;
	struct ks_name name;
};

static __always_inline u32 turn_of(u32 pid)
{
	u32 *turn = turns.lookup(&pid);

	return turn ? *turn : 0;
}

/* All descriptors of a process are forgotten. */
static __always_inline void forget_all(u32 pid)
{
	u32 next = turn_of(pid) + 1;

	turns.update(&pid, &next);
}

static __always_inline void tell_segment(const struct ks_ends *ends, bool out, u32 seq, u32 ack, u8 flags)
{
	struct {
		struct ks_head head;
		u8 data[HEADERS];
	} it = {};
	struct ks_segment segment = { .out = out, .flags = flags, .seq = seq, .ack = ack };
	u32 size = write_headers(it.data, ends, &segment);

	it.head.ns = bpf_ktime_get_ns();
	it.head.wire = size;
	it.head.kind = DATA;
	if (size != HEADERS)
		size = sizeof(struct ks_ip4) + sizeof(struct ks_tcp); /* a constant, for the verifier */
	if (ring.ringbuf_output(&it, sizeof(it.head) + size, BPF_RB_NO_WAKEUP))
		count_some(LOST_RING, 1);
}

static __always_inline void tell_opening(const struct ks_ends *ends, const struct conn *conn)
{
	bool client = conn->opened == BY_CLIENT;
	u32 asked = client ? conn->sent : conn->heard, answered = client ? conn->heard : conn->sent;

	tell_segment(ends, client, asked - 1, 0, SYN);
	tell_segment(ends, !client, answered - 1, asked, SYN | ACK);
}

static __always_inline void mirror(const struct ks_ends *ends, struct ks_ends *other)
{
	*other = *ends;
	__builtin_memcpy(other->local, ends->remote, 16);
	__builtin_memcpy(other->remote, ends->local, 16);
	other->local_port = ends->remote_port;
	other->remote_port = ends->local_port;
}

/* Whether this end tells: the first one of a connection that anybody asks for. */
static __always_inline bool claim(const struct ks_ends *ends, struct conn *conn)
{
	struct ks_ends other;
	struct conn *there;

	if (conn->teller)
		return true;
	mirror(ends, &other);
	there = conns.lookup(&other);
	if (there && there->teller)
		return false;
	conn->teller = 1;
	if (conn->opened)
		tell_opening(ends, conn);
	return true;
}

/* A connection of which the beginning was not seen is numbered from anywhere. */
static __always_inline struct conn *conn_of(struct ks_ends *ends)
{
	struct conn fresh = {};

	fresh.sent = fresh.heard = (u32)bpf_ktime_get_ns();
	return conns.lookup_or_try_init(ends, &fresh);
}

/* Whose this end is, where that is news. */
static __always_inline void tell_owner(const struct ks_ends *ends, struct conn *conn)
{
	u64 id = bpf_get_current_pid_tgid();
	struct ks_process it;

	if (conn->pid == id >> 32)
		return;
	__builtin_memset(&it, 0, sizeof(it));
	it.head.ns = bpf_ktime_get_ns();
	it.head.wire = sizeof(it) - sizeof(it.head);
	it.head.kind = PROCESS;
	it.cgroup = bpf_get_current_cgroup_id();
	it.pid = id >> 32;
	it.tid = (u32)id;
	it.ends = *ends;
	bpf_get_current_comm(&it.name.text, sizeof(it.name.text));
	if (!ring.ringbuf_output(&it, sizeof(it), BPF_RB_NO_WAKEUP))
		conn->pid = it.pid;
}

/* No more comes from the other end: its answer, if it was one, is whole. */
static __always_inline void end_in(const struct ks_ends *ends, struct conn *conn)
{
	if (!conn->teller || conn->ended & ENDED_IN)
		return;
	conn->ended |= ENDED_IN;
	tell_segment(ends, false, conn->heard, conn->sent, FIN | ACK);
	conn->heard++;
}

static __always_inline void end_out(const struct ks_ends *ends, struct conn *conn)
{
	if (!conn->teller || conn->ended & ENDED_OUT)
		return;
	conn->ended |= ENDED_OUT;
	tell_segment(ends, true, conn->sent, conn->heard, FIN | ACK);
	conn->sent++;
}

/* Fill `ends` from a tracepoint that has ports and addresses at these places; IPv4 is there as a part of IPv6. */
static __always_inline void ends_at(void *at, u32 ports_at, u32 addresses_at, struct ks_ends *ends)
{
	u16 both[2] = {};

	__builtin_memset(ends, 0, sizeof(*ends));
	bpf_probe_read_kernel(both, sizeof(both), at + ports_at);
	bpf_probe_read_kernel(ends->local, 32, at + addresses_at);
	ends->local_port = both[0];
	ends->remote_port = both[1];
	ends->proto = TCP;
	unmap(ends);
}

static __always_inline void peer_of(const struct ks_ends *ends, struct peer *peer)
{
	__builtin_memcpy(peer->address, ends->remote, 16);
	peer->port = ends->remote_port;
}

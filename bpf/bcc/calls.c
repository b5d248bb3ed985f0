
// ---------------------------------------------------------------- payload

/* The lesser one, without a branch: the verifier would follow both ways, for each of PIECES. */
static __always_inline u64 lesser(u64 one, u64 other)
{
	return other + ((one - other) & ((s64)(one - other) >> 63));
}

/* Copy the parts of a message to data + at; gives the bytes copied. */
static __always_inline u32 copy_pieces(struct ks_scratch *scratch, u64 vector, u64 pieces, u32 at, u64 most)
{
	u64 done = 0;

	for (int i = 0; i < PIECES; i++) {
		struct {
			u64 base, size;
		} piece;
		u64 size, to;

		if (i >= pieces || done >= most)
			break;
		if (bpf_probe_read_user(&piece, sizeof(piece), (void *)vector + i * sizeof(piece)))
			break;
		size = lesser(piece.size, most - done) & BOUND;
		to = (at + done) & BOUND;
		if (bpf_probe_read_user(scratch->data + to, size, (void *)piece.base))
			break;
		done += size;
	}
	return done;
}

/* Copy what was moved behind the headers; gives how much. */
static __always_inline u32 copy_payload(struct ks_scratch *scratch, struct ks_call *call, u64 moved, u32 at)
{
	u32 first = 0, copied = 0, most;
	u64 buffer = call->buffer, count = call->count, to = at;
	struct ks_settings *it = settings.lookup(&first);
	struct {
		u64 name, name_size, vector, pieces;
	} message;

	if (!it || call->op & UNSEEN) {
		count_some(UNSEEN_BYTES, moved);
		return 0;
	}
	most = moved < it->payload ? moved : it->payload;
	CLAMP(most, PAYLOAD);
	if (call->op & MESSAGE) {
		if (bpf_probe_read_user(&message, sizeof(message), (void *)buffer)) {
			count_some(LOST_FAULT, 1);
			return 0;
		}
		buffer = message.vector;
		count = message.pieces;
	}
	CLAMP(to, HEADERS);
	if (call->op & (VECTOR | MESSAGE))
		copied = copy_pieces(scratch, buffer, count, at, most);
	else if (!bpf_probe_read_user(scratch->data + to, most, (void *)buffer))
		copied = most;
	if (copied < moved) {
		if (copied)
			count_some(CUT_BYTES, moved - copied);
		else
			count_some(LOST_FAULT, 1);
	}
	return copied;
}

/* Tell of what a call moved, and count on where it belongs. */
static __always_inline void tell_moved(struct ks_call *call, struct conn *conn, u64 moved)
{
	u32 cpu = bpf_get_smp_processor_id(), at, copied;
	struct ks_segment it = { .out = call->op & OUT, .flags = PSH | ACK, .size = moved };
	struct ks_scratch *scratch = scratches.lookup(&cpu);

	it.seq = it.out ? conn->sent : conn->heard;
	it.ack = it.out ? conn->heard : conn->sent;
	if (it.out)
		conn->sent += moved;
	else
		conn->heard += moved;
	if (!scratch) {
		count_some(LOST_SCRATCH, 1);
		return;
	}
	at = write_headers(scratch->data, &call->ends, &it);
	copied = copy_payload(scratch, call, moved, at);
	scratch->head.ns = it.out ? call->ns : bpf_ktime_get_ns();
	scratch->head.wire = at + moved;
	scratch->head.kind = DATA;
	scratch->head.iface = 0;
	copied += at + sizeof(scratch->head);
	CLAMP(copied, sizeof(scratch->head) + HEADERS + PAYLOAD);
	if (ring.ringbuf_output(&scratch->head, copied, BPF_RB_NO_WAKEUP))
		count_some(LOST_RING, 1);
}

// ---------------------------------------------------------------- calls begin

struct syscall {
	u64 common;
	s64 number;
	u64 args[6];
};

struct syscall_end {
	u64 common;
	s64 number;
	s64 result;
};

/* Before a connection's bytes leave: the other end may be here, and must find that this one tells. */
static __always_inline void begin_out(struct ks_call *call)
{
	struct conn *conn = conn_of(&call->ends);

	if (!conn || !wants_ports(&call->ends) || left_out(&call->ends))
		return;
	tell_owner(&call->ends, conn);
	claim(&call->ends, conn);
}

static __always_inline int begin(int fd, u64 buffer, u64 count, u32 op)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct ks_call call = { .buffer = buffer, .count = count, .op = op };
	struct link *link;

	call.at.pid = thread >> 32;
	call.at.fd = fd;
	if (!wants_task(call.at.pid))
		return 0;
	link = links.lookup(&call.at);
	if (link && link->turn == turn_of(call.at.pid)) {
		call.ends = link->ends;
		call.known = 1;
	} else if (op & (OUT | DUPLICATE)) {
		return 0; /* no connection that we know of */
	}
	call.ns = bpf_ktime_get_ns();
	if (op & OUT)
		begin_out(&call);
	if (calls.update(&thread, &call))
		count_some(LOST_CALLS, 1);
	return 0;
}

int enter_read(struct syscall *at) { return begin(at->args[0], at->args[1], at->args[2], 0); }
int enter_write(struct syscall *at) { return begin(at->args[0], at->args[1], at->args[2], OUT); }
int enter_readv(struct syscall *at) { return begin(at->args[0], at->args[1], at->args[2], VECTOR); }
int enter_writev(struct syscall *at) { return begin(at->args[0], at->args[1], at->args[2], VECTOR | OUT); }
int enter_sendto(struct syscall *at) { return begin(at->args[0], at->args[1], at->args[2], OUT); }
int enter_sendmsg(struct syscall *at) { return begin(at->args[0], at->args[1], 0, MESSAGE | OUT); }
int enter_sendfile64(struct syscall *at) { return begin(at->args[0], 0, 0, UNSEEN | OUT); }
int enter_connect(struct syscall *at) { return begin(at->args[0], 0, 0, CONNECT); }
int enter_accept(struct syscall *at) { return begin(at->args[0], at->args[1], 0, ACCEPT); }
int enter_accept4(struct syscall *at) { return begin(at->args[0], at->args[1], 0, ACCEPT); }
int enter_shutdown(struct syscall *at) { return begin(at->args[0], 0, 0, SHUTDOWN); }
int enter_dup(struct syscall *at) { return begin(at->args[0], 0, 0, DUPLICATE); }

int enter_recvfrom(struct syscall *at)
{
	u64 flags = at->args[3];

	return LOOKS(flags) ? 0 : begin(at->args[0], at->args[1], at->args[2], flags & MSG_TRUNC ? UNSEEN : 0);
}

int enter_recvmsg(struct syscall *at)
{
	u64 flags = at->args[2];

	return LOOKS(flags) ? 0 : begin(at->args[0], at->args[1], 0, flags & MSG_TRUNC ? UNSEEN : MESSAGE);
}

/* From a pipe into a connection, or from one into a pipe. */
int enter_splice(struct syscall *at)
{
	struct where to = { bpf_get_current_pid_tgid() >> 32, at->args[2] };

	return links.lookup(&to) ? begin(at->args[2], 0, 0, UNSEEN | OUT) : begin(at->args[0], 0, 0, UNSEEN);
}

// ---------------------------------------------------------------- descriptors come and go

static __always_inline int forget(int fd, bool closes)
{
	struct where at = { bpf_get_current_pid_tgid() >> 32, fd };
	struct link *link = links.lookup(&at);
	struct conn *conn;

	if (!link)
		return 0;
	conn = conns.lookup(&link->ends);
	if (conn && closes && conn->ended & ENDED_OUT)
		end_in(&link->ends, conn); /* was shut down before, and nobody reads any more */
	links.delete(&at);
	return 0;
}

int enter_close(struct syscall *at) { return forget(at->args[0], true); }

int enter_dup2(struct syscall *at)
{
	forget(at->args[1], false);
	return begin(at->args[0], 0, 0, DUPLICATE);
}

int enter_dup3(struct syscall *at)
{
	forget(at->args[1], false);
	return begin(at->args[0], 0, 0, DUPLICATE);
}

int enter_fcntl(struct syscall *at)
{
	return at->args[1] == F_DUPFD || at->args[1] == F_DUPFD_CLOEXEC ? begin(at->args[0], 0, 0, DUPLICATE) : 0;
}

int enter_close_range(struct syscall *at)
{
	forget_all(bpf_get_current_pid_tgid() >> 32);
	return 0;
}

int on_exec(void *at)
{
	forget_all(bpf_get_current_pid_tgid() >> 32);
	return 0;
}

/* A thread that is killed within a call never comes to its end. */
int on_exit(void *at)
{
	u64 thread = bpf_get_current_pid_tgid();

	calls.delete(&thread);
	return 0;
}

// ---------------------------------------------------------------- calls end

/* A new descriptor: of a connection that was asked for from where the kernel says that it was. */
static __always_inline void end_accept(struct ks_call *call, int fd)
{
	struct where at = { call->at.pid, fd };
	struct ks_ends ends = {}, *found;
	struct link link = {};
	struct peer peer = {};
	u16 name[14] = {};

	if (bpf_probe_read_user(name, 8, (void *)call->buffer))
		return; /* it did not ask: known when it reads */
	ends.remote_port = bpf_ntohs(name[1]);
	if (name[0] == AF_INET6) {
		if (bpf_probe_read_user(ends.remote, 16, (void *)call->buffer + 8))
			return;
	} else if (name[0] == AF_INET) {
		((u32 *)ends.remote)[2] = bpf_htonl(0xffff);
		__builtin_memcpy(ends.remote + 12, name + 2, 4);
	} else {
		return;
	}
	unmap(&ends);
	peer_of(&ends, &peer);
	found = peers.lookup(&peer);
	if (!found || !found->version)
		return;
	link.ends = *found;
	link.turn = turn_of(at.pid);
	links.update(&at, &link);
	peers.delete(&peer);
}

static __always_inline void end_duplicate(struct ks_call *call, int fd)
{
	struct where at = { call->at.pid, fd };
	struct link link = {};

	link.ends = call->ends;
	link.turn = turn_of(at.pid);
	links.update(&at, &link);
}

static __always_inline void end_moved(struct ks_call *call, s64 result)
{
	struct conn *conn;

	if (!call->known || result < 0 || !wants_ports(&call->ends))
		return;
	conn = conn_of(&call->ends);
	if (!conn)
		return;
	if (!result) {
		if (!(call->op & OUT) && (call->count || call->op & MESSAGE))
			end_in(&call->ends, conn);
		return;
	}
	if (left_out(&call->ends)) {
		count_some(LOST_SAMPLED, 1);
		return;
	}
	tell_owner(&call->ends, conn);
	if (claim(&call->ends, conn))
		tell_moved(call, conn, result);
	else
		count_some(TWICE, 1);
}

int leave(struct syscall_end *at)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct ks_call *call = calls.lookup(&thread);
	s64 result = at->result;

	if (!call)
		return 0;
	if (call->op & ACCEPT) {
		if (result >= 0)
			end_accept(call, result);
	} else if (call->op & DUPLICATE) {
		if (result >= 0)
			end_duplicate(call, result);
	} else if (!(call->op & (CONNECT | SHUTDOWN))) {
		end_moved(call, result);
	}
	calls.delete(&thread);
	return 0;
}

// ---------------------------------------------------------------- what the kernel says of connections

/* Within a call that takes bytes out of a connection: which one it is. */
int on_adjust(void *at)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct ks_call *call = calls.lookup(&thread);
	struct link link = {};
	u64 *there, *here;

	if (!call || call->op & (OUT | CONNECT | ACCEPT | DUPLICATE | SHUTDOWN))
		return 0;
	ends_at(at, ADJUST_PORTS, ADJUST_ADDRESSES, &link.ends);
	there = (u64 *)&link.ends;
	here = (u64 *)&call->ends;
	if (call->known && there[0] == here[0] && there[1] == here[1] && there[2] == here[2] && there[3] == here[3] &&
	    there[4] == here[4])
		return 0;
	call->ends = link.ends;
	call->known = 1;
	link.turn = turn_of(call->at.pid);
	links.update(&call->at, &link);
	return 0;
}

/* Who has connected, and is not accepted yet; to two servers at once from one port, it is not known which is which. */
static __always_inline void tell_peer(struct ks_ends *ends)
{
	struct ks_ends unsure = {}, *before;
	struct peer peer = {};

	peer_of(ends, &peer);
	before = peers.lookup(&peer);
	if (before && before->local_port != ends->local_port)
		peers.update(&peer, &unsure);
	else
		peers.update(&peer, ends);
}

/* A connection is open. Of one that a process here asked for it is known whose it is. */
static __always_inline void opened(struct ks_ends *ends, u64 sock, bool client)
{
	struct conn fresh = { .opened = client ? BY_CLIENT : BY_SERVER }, *conn;
	struct asker *asker = askers.lookup(&sock);
	struct link link = {};
	u32 start = bpf_ktime_get_ns();

	fresh.sent = start;
	fresh.heard = start + (1u << 31);
	if (!client) {
		conns.update(ends, &fresh);
		tell_peer(ends);
		return;
	}
	if (!asker) { /* by nobody who is wanted */
		conns.delete(ends);
		return;
	}
	conns.update(ends, &fresh);
	link.ends = *ends;
	link.turn = turn_of(asker->at.pid);
	links.update(&asker->at, &link);
	conn = conns.lookup(ends);
	if (conn && wants_ports(ends) && !left_out(ends))
		claim(ends, conn);
}

static __always_inline void closed(struct ks_ends *ends, int old)
{
	struct conn *conn = conns.lookup(ends);
	struct peer peer = {};

	if (!conn)
		return;
	if (conn->teller && (old == ESTABLISHED || old == CLOSE_WAIT))
		tell_segment(ends, true, conn->sent, conn->heard, RST | ACK); /* by whichever end */
	if (conn->ended == (ENDED_OUT | ENDED_IN))
		conns.delete(ends);
	peer_of(ends, &peer);
	peers.delete(&peer);
}

int on_state(void *at)
{
	u64 thread = bpf_get_current_pid_tgid(), sock = 0;
	struct ks_call *call = calls.lookup(&thread);
	struct ks_ends ends;
	struct conn *conn;
	int state[2] = {};
	u16 proto = 0;

	bpf_probe_read_kernel(&sock, sizeof(sock), at + STATE_SOCK);
	bpf_probe_read_kernel(state, sizeof(state), at + STATE_STATES);
	bpf_probe_read_kernel(&proto, sizeof(proto), at + STATE_PROTO);
	if (proto != TCP)
		return 0;
	ends_at(at, STATE_PORTS, STATE_ADDRESSES, &ends);
	if (state[1] == SYN_SENT) {
		if (call && call->op & CONNECT) {
			struct asker asker = { call->at };

			askers.update(&sock, &asker);
		}
		return 0;
	}
	if (state[1] == ESTABLISHED && (state[0] == SYN_SENT || state[0] == SYN_RECV)) {
		opened(&ends, sock, state[0] == SYN_SENT);
	} else if (state[1] == FIN_WAIT1 || state[1] == LAST_ACK) {
		conn = conns.lookup(&ends);
		if (!conn)
			return 0;
		if (state[1] == LAST_ACK)
			end_in(&ends, conn);
		end_out(&ends, conn);
		if (!call || !(call->op & SHUTDOWN))
			end_in(&ends, conn); /* closed: nobody reads any more */
	} else if (state[1] == CLOSED) {
		if (state[0] == SYN_SENT && askers.lookup(&sock) && wants_ports(&ends))
			tell_segment(&ends, true, bpf_ktime_get_ns(), 0, SYN);
		else
			closed(&ends, state[0]);
	}
	if (state[1] == CLOSED || state[1] == ESTABLISHED)
		askers.delete(&sock);
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* A call that moves bytes through a socket: remembered when it begins, told when it has ended.
 *
 * Whatever the hooks are (system calls, functions of the kernel), they fill `struct call` and come here. The place of
 * the bytes in a TCP stream is read twice, since other threads may use the same socket meanwhile.
 *
 * Bytes between two processes of this machine pass by twice; they are told once.
 */
#pragma once

#define PAYLOAD 65536 /* most bytes of a call that are taken; `payload` may ask for less */
#define PIECES 64 /* parts of one message (struct iovec) that are looked at: gRPC sends each header in several */
#define MESSAGES 8 /* messages of one sendmmsg or recvmmsg */
#define CPUS 128

#define OUT 1 /* sends */
#define VECTOR 2 /* `buffer` is an array of struct iovec, in user memory */
#define MESSAGE 4 /* `buffer` is a struct msghdr, in user memory */
#define MANY 8 /* `buffer` is an array of struct mmsghdr */
#define UNSEEN 16 /* the bytes pass through no memory of the caller: their number is known */
#define KERNEL 32 /* the vector, and the address, are in kernel memory */

enum counter {
	LOST_RING, /* records: no room in the ring */
	LOST_SCRATCH, /* records: more processors than CPUS */
	LOST_CALLS, /* calls: too many at once */
	LOST_MESSAGES, /* datagrams beyond MESSAGES of one call */
	LOST_FAULT, /* calls whose bytes could not be read */
	LOST_ENDS, /* datagrams of which the receiver did not ask who sent them */
	CUT_BYTES, /* bytes beyond `payload`, or in further pieces */
	UNSEEN_BYTES, /* bytes of sendfile and splice */
	TWICE, /* calls whose bytes the other end told of, which is on this machine, too */
};

enum kind { DATA, PROCESS };

const volatile __u32 payload = 16384; /* bytes of a call that are taken */

struct call {
	__u64 sock, buffer, count, name; /* name: the address of a datagram */
	__u64 ns;
	__u32 op, seq, ack;
	__u8 learn, learned; /* the address that datagrams are sent from, which the socket does not know */
	__u8 from[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64); /* thread */
	__type(value, struct call);
} calls SEC(".maps");

/* A record is put together here, step by step. The steps are functions of their own, and what one leaves for the next is
 * here and not on the stack, for the sake of the verifier: it looks at each of them once, and follows what is on a stack
 * along every path. None of them is interrupted by another on its processor.
 */
struct scratch {
	struct ends ends;
	struct segment it;
	__u64 buffer, pieces, name; /* of the message */
	__u64 way; /* a number for the direction that its bytes take, the same at either end */
	struct head head;
	__u8 data[HEADERS + 2 * PAYLOAD];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); /* not PERCPU_ARRAY: a value of that has 32 KiB at most */
	__uint(max_entries, CPUS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct call *this_call(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&calls, &thread);
}

static __always_inline struct scratch *this_scratch(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&scratches, &cpu);
}

/* Who used an end of a connection last: a record tells of each change. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u32);
} owners SEC(".maps");

struct process {
	struct head head;
	__u64 sock, cgroup;
	__u32 pid, tid;
	struct ends ends;
	struct name name;
};

/* What was told, by the way of the bytes: of TCP the part of the stream that its sender told; of UDP how often such a
 * datagram was told of its sender (`to`) and of its receiver (`from`) alone: either may come first.
 */
struct span {
	__u32 from, to;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct span);
} told SEC(".maps");

static __always_inline __u64 mix(__u64 hash, __u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* A number for all bytes of one direction between two ends, the same at either. */
static __always_inline __u64 way(const struct ends *ends, bool out)
{
	const __u64 *source = (const __u64 *)(out ? ends->local : ends->remote);
	const __u64 *target = (const __u64 *)(out ? ends->remote : ends->local);
	__u32 from = out ? ends->local_port : ends->remote_port;
	__u32 to = out ? ends->remote_port : ends->local_port;
	__u64 hash = mix(mix(source[0], source[1]), (__u64)from << 32 | to << 8 | ends->proto);

	return mix(mix(hash, target[0]), target[1]);
}

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

/* Connections of which nobody knows yet whose they are, where that decides: see states.h. */
struct opening {
	__u32 asked, answered; /* the first bytes of both sides */
	__u32 client; /* whether the local end is the client */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct opening);
} openings SEC(".maps");

static __always_inline bool by_task(void)
{
	return by_pid || by_comm;
}

/* Not by its socket: the memory of that is used again for others. */
static __always_inline __u64 end_of(const struct ends *ends)
{
	return mix(way(ends, true), ends->netns);
}

static __always_inline bool is_told(const struct ends *ends)
{
	__u64 end = end_of(ends);

	return bpf_map_lookup_elem(&owners, &end);
}

static __always_inline void put_opening(const struct ends *ends, const struct opening *it)
{
	put_segment(ends, it->client, it->asked - 1, 0, SYN);
	put_segment(ends, !it->client, it->answered - 1, it->asked, SYN | ACK);
}

static __always_inline void tell_open(const struct ends *ends, bool client, __u32 asked, __u32 answered)
{
	struct opening it = { asked, answered, client };
	__u64 end;

	if (!by_task()) {
		put_opening(ends, &it);
		return;
	}
	end = end_of(ends);
	bpf_map_update_elem(&openings, &end, &it, BPF_ANY);
}

/* The first call of a wanted process: how its connection began. */
__noinline int tell_opening(void)
{
	struct call *call = this_call();
	struct scratch *scratch = this_scratch();
	struct opening *it;
	__u64 end;

	if (!call || !scratch)
		return 0;
	end = end_of(&scratch->ends);
	it = bpf_map_lookup_elem(&openings, &end);
	if (!it)
		return 0;
	put_opening(&scratch->ends, it);
	bpf_map_delete_elem(&openings, &end);
	return 0;
}

/* Whose it is, where that is news. */
__noinline int tell_process(void)
{
	__u64 id = bpf_get_current_pid_tgid(), end;
	struct call *call = this_call();
	struct scratch *scratch = this_scratch();
	__u32 pid = id >> 32, *before;
	struct process it;

	if (!call || !scratch)
		return 0;
	end = end_of(&scratch->ends);
	before = bpf_map_lookup_elem(&owners, &end);
	if (before && *before == pid)
		return 0;
	__builtin_memset(&it, 0, sizeof(it));
	it.head.ns = bpf_ktime_get_ns();
	it.head.wire = sizeof(it) - sizeof(it.head);
	it.head.kind = PROCESS;
	it.sock = call->sock;
	it.cgroup = bpf_get_current_cgroup_id();
	it.pid = pid;
	it.tid = (__u32)id;
	it.ends = scratch->ends;
	name_of_task(&it.name);
	if (!bpf_ringbuf_output(&ring, &it, sizeof(it), BPF_RB_NO_WAKEUP))
		bpf_map_update_elem(&owners, &end, &pid, BPF_ANY);
	if (by_task() && !before)
		tell_opening();
	return 0;
}

/* Copy one part of a message, which the struct iovec at `vector` tells of, to data + at; gives the bytes copied, or less
 * than 0. A function of its own, which the verifier looks at once and not for each of PIECES.
 */
__noinline int copy_piece(__u64 vector, __u32 op, __u32 at, __u32 most)
{
	struct scratch *scratch = this_scratch();
	struct iovec piece;
	__u64 size;
	long failed;

	if (!scratch || at > HEADERS + PAYLOAD)
		return -1;
	if (op & KERNEL)
		failed = bpf_probe_read_kernel(&piece, sizeof(piece), (void *)vector);
	else
		failed = bpf_probe_read_user(&piece, sizeof(piece), (void *)vector);
	if (failed)
		return -1;
	size = piece.iov_len < most ? piece.iov_len : most;
	CLAMP(size, PAYLOAD);
	if (size && bpf_probe_read_user(scratch->data + at, size, piece.iov_base))
		return -1;
	return size;
}

/* Copy a message from where the caller has it to data + at; gives the bytes copied. */
__noinline int copy_pieces(__u64 buffer, __u64 pieces, __u32 op, __u32 at, __u32 most)
{
	struct scratch *scratch = this_scratch();
	__u32 done = 0;

	if (!scratch || at > HEADERS)
		return 0;
	CLAMP(most, PAYLOAD);
	if (!(op & VECTOR)) {
		if (bpf_probe_read_user(scratch->data + at, most, (void *)buffer))
			return 0;
		return most;
	}
	for (int i = 0; i < PIECES; i++) {
		int copied;

		if (i >= pieces || done >= most)
			break;
		copied = copy_piece(buffer + i * sizeof(struct iovec), op, at + done, most - done);
		if (copied < 0)
			break;
		done += copied;
	}
	return done;
}

/* The address that a datagram is sent to, as the caller names it. */
static __always_inline void read_name(__u32 op, __u64 name, struct ends *ends)
{
	struct sockaddr_in6 it = {};
	struct sockaddr_in *old = (void *)&it;
	long failed;

	if (!name)
		return;
	if (op & KERNEL)
		failed = bpf_probe_read_kernel(&it, sizeof(struct sockaddr_in), (void *)name);
	else
		failed = bpf_probe_read_user(&it, sizeof(struct sockaddr_in), (void *)name);
	if (failed)
		return;
	if (it.sin6_family == AF_INET) {
		ends->version = 4;
		ends->remote_port = bpf_ntohs(old->sin_port);
		__builtin_memset(ends->remote, 0, 16);
		*(__u32 *)ends->remote = old->sin_addr.s_addr;
		return;
	}
	if (it.sin6_family != AF_INET6)
		return;
	if (op & KERNEL)
		failed = bpf_probe_read_kernel(&it, sizeof(it), (void *)name);
	else
		failed = bpf_probe_read_user(&it, sizeof(it), (void *)name);
	if (failed)
		return;
	ends->remote_port = bpf_ntohs(it.sin6_port);
	__builtin_memcpy(ends->remote, &it.sin6_addr, 16);
	if (is_mapped(ends->remote) && is_any(ends->local))
		((__u32 *)ends->local)[2] = bpf_htonl(0xffff);
	unmap(ends);
}

/* Where datagrams came to, which a socket that takes them at any address does not know: see datagrams.h. */
struct address {
	__u8 bytes[16];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct address);
} targets SEC(".maps");

static __always_inline __u64 sender(const __u8 *remote, __u16 remote_port, __u16 local_port)
{
	const __u64 *words = (const __u64 *)remote;

	return mix(mix(words[0], words[1]), (__u64)remote_port << 16 | local_port);
}

static __always_inline void find_target(struct ends *ends)
{
	__u64 key = sender(ends->remote, ends->remote_port, ends->local_port);
	struct address *found = bpf_map_lookup_elem(&targets, &key);

	if (found)
		__builtin_memcpy(ends->local, found->bytes, 16);
}

/* Where the bytes of a call stand in the stream, and how far the other side had been heard by then. */
static __always_inline void place_in_stream(const struct call *call, __u32 moved, struct segment *it)
{
	struct tcp_sock *tcp = (void *)call->sock;
	__u32 after;

	it->flags = PSH | ACK;
	it->seq = call->seq;
	if (call->op & OUT) {
		after = BPF_CORE_READ(tcp, write_seq) - moved;
		it->ack = call->ack;
		if (after != call->seq)
			it->seq = after; /* another thread wrote before us, or the connection began with this call */
		return;
	}
	after = BPF_CORE_READ(tcp, copied_seq) - moved;
	it->ack = BPF_CORE_READ(tcp, snd_una);
	if (after != call->seq + 1) /* one more: the end of the stream was read as well */
		it->seq = after;
}

/* A number for the datagram at data + at, by its first bytes. */
__noinline __u32 print_of(__u32 at, __u32 size)
{
	struct scratch *scratch = this_scratch();
	__u64 hash = size;

	if (!scratch || at > HEADERS)
		return 0;
	if (size > 64)
		size = 64;
	for (__u32 i = 0; i < 64; i++) {
		if (i >= size)
			break;
		hash = mix(hash, scratch->data[at + i]);
	}
	return hash;
}

/* Whether the sender told of this part of a stream. */
static __always_inline bool stream_told(__u64 key, __u32 seq, __u32 moved)
{
	struct span *span = bpf_map_lookup_elem(&told, &key);

	return span && (__s32)(seq - span->from) >= 0 && (__s32)(span->to - seq - moved) >= 0;
}

static __always_inline void tell_stream(__u64 key, __u32 seq, __u32 moved)
{
	struct span *span = bpf_map_lookup_elem(&told, &key);
	struct span next = { .from = seq, .to = seq + moved };

	if (span && span->to == seq && seq - span->from < 1 << 30)
		span->to = next.to;
	else
		bpf_map_update_elem(&told, &key, &next, BPF_ANY);
}

/* Whether the other end told of this datagram; else it is noted that this end does. */
static __always_inline bool datagram_told(__u64 key, bool out)
{
	struct span *span = bpf_map_lookup_elem(&told, &key);
	struct span next = { .from = !out, .to = out };

	if (!span) {
		bpf_map_update_elem(&told, &key, &next, BPF_ANY);
		return false;
	}
	if (out ? span->from : span->to) {
		__sync_fetch_and_add(out ? &span->from : &span->to, -1);
		return true;
	}
	__sync_fetch_and_add(out ? &span->to : &span->from, 1);
	return false;
}

/* First step: where the message is in memory; false where that cannot be read. */
__noinline int find_message(__u32 number)
{
	struct call *call = this_call();
	struct scratch *scratch = this_scratch();
	struct user_msghdr message;
	__u64 at;

	if (!call || !scratch)
		return 0;
	scratch->buffer = call->buffer;
	scratch->pieces = call->count;
	scratch->name = call->name;
	if (!(call->op & MESSAGE))
		return 1;
	at = call->buffer + (call->op & MANY ? number * sizeof(struct mmsghdr) : 0);
	if (bpf_probe_read_user(&message, sizeof(message), (void *)at)) {
		count(LOST_FAULT);
		return 0;
	}
	scratch->buffer = (__u64)message.msg_iov;
	scratch->pieces = message.msg_iovlen;
	scratch->name = (__u64)message.msg_name;
	return 1;
}

/* Second step: between whom it goes; false where nobody wants it. */
__noinline int find_ends(void)
{
	struct call *call = this_call();
	struct scratch *scratch = this_scratch();
	struct ends *ends;
	bool out;

	if (!call || !scratch)
		return 0;
	ends = &scratch->ends;
	out = call->op & OUT;
	__builtin_memset(ends, 0, sizeof(*ends));
	if (!ends_of((struct sock *)call->sock, ends))
		return 0;
	if (ends->proto == UDP) {
		if (!ends->remote_port || out)
			read_name(call->op, scratch->name, ends);
		if (call->learned)
			__builtin_memcpy(ends->local, call->from, 16);
		else if (is_any(ends->local) && !out)
			find_target(ends);
		if (!ends->remote_port) {
			count(LOST_ENDS);
			return 0;
		}
	}
	scratch->way = way(ends, out);
	return wants_ports(ends->local_port, ends->remote_port);
}

/* Third step: of a stream, which part of it; false where that was told. */
__noinline int find_place(__u64 moved)
{
	struct call *call = this_call();
	struct scratch *scratch = this_scratch();
	struct segment *it;

	if (!call || !scratch)
		return 0;
	it = &scratch->it;
	__builtin_memset(it, 0, sizeof(*it));
	it->out = call->op & OUT;
	it->size = moved;
	if (scratch->ends.proto != TCP)
		return 1;
	place_in_stream(call, moved, it);
	if (it->out || !stream_told(scratch->way, it->seq, moved))
		return 1;
	count(TWICE);
	return 0;
}

/* Fourth step: copy the payload behind the headers; gives how much. */
__noinline int copy_payload(__u32 at)
{
	struct call *call = this_call();
	struct scratch *scratch = this_scratch();
	__u64 moved, most;
	__u32 op, copied;

	if (!call || !scratch)
		return 0;
	moved = scratch->it.size;
	op = call->op & MESSAGE ? call->op | VECTOR : call->op;
	if (op & UNSEEN) {
		count_some(UNSEEN_BYTES, moved);
		return 0;
	}
	most = moved < payload ? moved : payload;
	if (!(op & VECTOR) && most > scratch->pieces)
		most = scratch->pieces; /* MSG_TRUNC says more than there was room for */
	copied = copy_pieces(scratch->buffer, scratch->pieces, op, at, most);
	if (copied < moved) {
		if (copied)
			count_some(CUT_BYTES, moved - copied);
		else
			count(LOST_FAULT);
	}
	return copied;
}

/* Last step: headers before it, and into the ring. */
__noinline int put_message(__u32 copied)
{
	struct call *call = this_call();
	struct scratch *scratch = this_scratch();
	__u32 at;

	if (!call || !scratch)
		return 0;
	at = write_headers(scratch->data, &scratch->ends, &scratch->it);
	scratch->head.ns = scratch->it.out ? call->ns : bpf_ktime_get_ns();
	scratch->head.wire = at + scratch->it.size;
	scratch->head.kind = DATA;
	scratch->head.iface = 0;
	copied += at + sizeof(scratch->head);
	CLAMP(copied, sizeof(scratch->head) + HEADERS + PAYLOAD);
	if (!bpf_ringbuf_output(&ring, &scratch->head, copied, BPF_RB_NO_WAKEUP))
		return 1;
	count(LOST_RING);
	return 0;
}

/* Tell of one message of the call of this thread, of which `moved` bytes were moved. */
__noinline int tell_message(__u32 number, __u64 moved)
{
	struct scratch *scratch = this_scratch();
	__u32 at, copied;
	__u64 key;

	if (!scratch) {
		count(LOST_SCRATCH);
		return 0;
	}
	if (!find_message(number) || !find_ends())
		return 0;
	tell_process();
	if (!find_place(moved))
		return 0;
	at = size_of_headers(&scratch->ends);
	copied = copy_payload(at);
	if (scratch->ends.proto == TCP) {
		if (put_message(copied) && scratch->it.out)
			tell_stream(scratch->way, scratch->it.seq, moved);
		return 0;
	}
	key = mix(scratch->way, print_of(at, copied));
	if (datagram_told(key, scratch->it.out))
		count(TWICE);
	else if (!put_message(copied))
		bpf_map_delete_elem(&told, &key);
	return 0;
}

/* A call begins. */
static __always_inline int begin(struct sock *sk, struct call *call)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u16 family, proto, local, remote;

	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	proto = BPF_CORE_READ(sk, sk_protocol);
	if ((family != AF_INET && family != AF_INET6) || (proto != TCP && proto != UDP))
		return 0;
	if (by_port && proto == TCP) {
		local = BPF_CORE_READ(sk, __sk_common.skc_num);
		remote = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
		if (!wants_ports(local, remote))
			return 0;
	}
	if (!wants_netns(sk))
		return 0;
	call->sock = (__u64)sk;
	call->ns = bpf_ktime_get_ns();
	if (proto == TCP) {
		struct tcp_sock *tcp = (void *)sk;

		call->ack = BPF_CORE_READ(tcp, copied_seq);
		call->seq = call->op & OUT ? BPF_CORE_READ(tcp, write_seq) : call->ack;
	} else {
		call->learn = call->op & OUT;
	}
	if (bpf_map_update_elem(&calls, &thread, call, BPF_ANY))
		count(LOST_CALLS);
	return 0;
}

/* It has ended, and says `result`. */
static __always_inline int end(long result)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call *call = bpf_map_lookup_elem(&calls, &thread);

	if (!call)
		return 0;
	if (result > 0) {
		if (call->op & MANY) {
			__u64 buffer = call->buffer;

			for (int i = 0; i < MESSAGES; i++) {
				__u32 moved = 0;

				if (i >= result)
					break;
				bpf_probe_read_user(&moved, sizeof(moved),
						    (void *)(buffer + i * sizeof(struct mmsghdr) +
							     offsetof(struct mmsghdr, msg_len)));
				if (moved)
					tell_message(i, moved);
			}
			if (result > MESSAGES)
				count_some(LOST_MESSAGES, result - MESSAGES);
		} else {
			tell_message(0, result);
		}
	}
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

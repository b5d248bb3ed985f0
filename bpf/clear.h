/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What TLS carries, told in clear: as packets of the connection that carries it, with sequence numbers of their own,
 * which begin at 1 in each direction.
 *
 * Each direction is told by one end: by its sender where that is hooked, which tells before it sends, so that no answer
 * is told before its question; else by its receiver. Who comes first stays it.
 *
 * Programs at functions of processes may be interrupted by each other on the same processor, so what they work in is
 * claimed.
 */
#pragma once

#define PAYLOAD 65536 /* most bytes of a call that are taken; `payload` may ask for less */
#define SLOTS 2 /* calls under way at once on one processor */

enum ks_kind { DATA, PROCESS, CLEAR, NEWS };
enum ks_news { UNBOUND, FILE_MAPPED };
enum ks_counter {
	LOST_RING, /* records: no room in the ring */
	LOST_SLOT, /* records: too many calls under way on one processor */
	LOST_FAULT, /* calls whose bytes could not be read */
	CUT_BYTES, /* bytes beyond `payload` */
	HIDDEN, /* calls of nobody knows which connection, while connections are filtered */
	CLEAR_COUNTERS,
};

const volatile __u32 payload = 16384; /* bytes of a call that are taken */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CLEAR_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} clear_counts SEC(".maps");

static __always_inline void note_some(__u32 which, __u64 some)
{
	__u64 *value = bpf_map_lookup_elem(&clear_counts, &which);

	if (value)
		*value += some;
}

struct ks_slot {
	__u32 busy, unused;
	struct ks_head head;
	__u8 data[HEADERS + PAYLOAD];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); /* not PERCPU_ARRAY: a value of that has 32 KiB at most */
	__uint(max_entries, 2 * SLOTS); /* the loader sets SLOTS a processor */
	__type(key, __u32);
	__type(value, struct ks_slot);
} slots SEC(".maps");

static __always_inline struct ks_slot *claim(void)
{
	__u32 first = bpf_get_smp_processor_id() * SLOTS;

	for (__u32 i = 0; i < SLOTS; i++) {
		__u32 at = first + i;
		struct ks_slot *slot = bpf_map_lookup_elem(&slots, &at);

		if (slot && !__sync_val_compare_and_swap(&slot->busy, 0, 1))
			return slot;
	}
	note_some(LOST_SLOT, 1);
	return NULL;
}

/* A TLS session of a process, and the connection that carries it. */
struct ks_session {
	__u64 at; /* the library's object */
	__u64 space; /* the process's memory: another one after exec */
	__u32 pid, unused;
};
struct ks_binding {
	struct ks_ends ends;
	__u32 owed; /* bytes told of a write that is yet to be repeated */
	__u8 state, named;
	__u16 unused;
};
enum { UNKNOWN, BOUND, UNWANTED };
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct ks_session);
	__type(value, struct ks_binding);
} bindings SEC(".maps");

static __always_inline void session_of(__u64 at, struct ks_session *it)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	it->at = at;
	it->space = (__u64)BPF_CORE_READ(task, mm);
	it->pid = bpf_get_current_pid_tgid() >> 32;
	it->unused = 0;
}

static __always_inline struct ks_binding *binding_of(__u64 at, bool make)
{
	struct ks_session session;
	struct ks_binding *found, fresh = {};

	session_of(at, &session);
	found = bpf_map_lookup_elem(&bindings, &session);
	if (found || !make)
		return found;
	bpf_map_update_elem(&bindings, &session, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&bindings, &session);
}

/* This connection carries the session. */
static __always_inline bool bind(struct ks_binding *it, struct sock *sk)
{
	struct ks_ends ends = {};

	if (!sk || !ends_of(sk, &ends) || ends.proto != TCP || !ends.remote_port)
		return false;
	it->ends = ends;
	it->state = wants_ports(ends.local_port, ends.remote_port) && wants_netns(ends.netns) ? BOUND : UNWANTED;
	return true;
}

/* One direction of a connection, the same at either end. */
struct ks_way {
	__u8 from[16], to[16];
	__u16 from_port, to_port;
};
struct ks_stream {
	__u32 next; /* sequence number */
	__u32 by_sender; /* who tells */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct ks_way);
	__type(value, struct ks_stream);
} streams SEC(".maps");

static __always_inline void way_of(const struct ks_ends *ends, bool out, struct ks_way *way)
{
	__builtin_memcpy(way->from, out ? ends->local : ends->remote, 16);
	__builtin_memcpy(way->to, out ? ends->remote : ends->local, 16);
	way->from_port = out ? ends->local_port : ends->remote_port;
	way->to_port = out ? ends->remote_port : ends->local_port;
}

/* Whether this end tells of that direction; `seq` is where the next `size` bytes stand in it. */
static __always_inline bool takes_turn(const struct ks_ends *ends, bool out, __u32 size, __u32 *seq)
{
	struct ks_stream *found, fresh = { .next = 1 + size, .by_sender = out };
	struct ks_way way;

	way_of(ends, out, &way);
	found = bpf_map_lookup_elem(&streams, &way);
	if (!found) {
		if (!bpf_map_update_elem(&streams, &way, &fresh, BPF_NOEXIST)) {
			*seq = 1;
			return true;
		}
		found = bpf_map_lookup_elem(&streams, &way);
	}
	if (!found || found->by_sender != out)
		return false;
	*seq = found->next;
	found->next += size; /* one thread at a time uses a session */
	return true;
}

static __always_inline void forget_ways(const struct ks_ends *ends)
{
	struct ks_way way;

	way_of(ends, true, &way);
	bpf_map_delete_elem(&streams, &way);
	way_of(ends, false, &way);
	bpf_map_delete_elem(&streams, &way);
}

/* By which file a process is read, as numbered by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* process */
	__type(value, __u32);
} readers SEC(".maps");

static __always_inline void note_reader(void *regs)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, file = bpf_get_attach_cookie(regs);

	if (!bpf_map_lookup_elem(&readers, &pid))
		bpf_map_update_elem(&readers, &pid, &file, BPF_ANY);
}

struct ks_news_record {
	struct ks_head head;
	__u32 what, pid;
	__u64 device, inode;
	struct ks_ends ends;
	struct ks_name name;
	__u32 unused;
};

static __always_inline bool put_news(struct ks_news_record *it, __u32 what)
{
	it->head.ns = bpf_ktime_get_ns();
	it->head.wire = sizeof(*it) - sizeof(it->head);
	it->head.kind = NEWS;
	it->what = what;
	it->pid = bpf_get_current_pid_tgid() >> 32;
	name_of_task(&it->name);
	if (!bpf_ringbuf_output(&ring, it, sizeof(*it), BPF_RB_NO_WAKEUP))
		return true;
	note_some(LOST_RING, 1);
	return false;
}

/* Nobody knows the connection: ends that no connection has (RFC 6666), and whose session it is. */
static __always_inline bool name_unbound(struct ks_binding *it)
{
	struct ks_news_record news = {};

	if (asks(BY_PORT) || asks(BY_NETNS)) {
		note_some(HIDDEN, 1);
		return false;
	}
	if (it->named)
		return true;
	__builtin_memset(&it->ends, 0, sizeof(it->ends));
	it->ends.local[0] = it->ends.remote[0] = 1;
	*(__u64 *)(it->ends.local + 8) = bpf_ktime_get_ns();
	it->ends.version = 6;
	it->ends.proto = TCP;
	it->named = true;
	news.ends = it->ends;
	put_news(&news, UNBOUND);
	return true;
}

/* Tell of `size` bytes in the memory of the process. */
static __always_inline void tell_clear(struct ks_binding *it, bool out, __u64 buffer, __u32 size, __u64 ns)
{
	struct ks_segment segment = { .out = out, .flags = PSH | ACK, .size = size };
	__u32 at, most = size < payload ? size : payload;
	struct ks_slot *slot;
	long failed;

	if (!size || it->state == UNWANTED || (it->state == UNKNOWN && !name_unbound(it)))
		return;
	if (!takes_turn(&it->ends, out, size, &segment.seq))
		return;
	slot = claim();
	if (!slot)
		return;
	at = write_headers(slot->data, &it->ends, &segment);
	CLAMP(most, PAYLOAD);
	if (at == HEADERS)
		failed = bpf_probe_read_user(slot->data + HEADERS, most, (void *)buffer);
	else
		failed = bpf_probe_read_user(slot->data + sizeof(struct ks_ip4) + sizeof(struct ks_tcp), most, (void *)buffer);
	if (failed) {
		note_some(LOST_FAULT, 1);
		most = 0;
	}
	if (most < size)
		note_some(CUT_BYTES, size - most);
	slot->head.ns = ns;
	slot->head.wire = at + size;
	slot->head.kind = CLEAR;
	slot->head.iface = 0;
	most += at + sizeof(slot->head);
	CLAMP(most, sizeof(slot->head) + HEADERS + PAYLOAD);
	if (bpf_ringbuf_output(&ring, &slot->head, most, BPF_RB_NO_WAKEUP))
		note_some(LOST_RING, 1);
	slot->busy = 0;
}

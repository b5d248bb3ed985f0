/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* OpenSSL, BoringSSL and GnuTLS: functions with a session, a buffer and a size, which may be called again and again for
 * the same bytes.
 *
 * Which connection carries a session is learnt from the system calls that a function makes. One that makes none works in
 * memory: then the connection is that of the next call that sends a TLS record, where only one session can have made it.
 */
#pragma once

enum { READS, WRITES, SHAKES };

struct ks_op {
	__u64 session, buffer, moved; /* moved: where the number of bytes will be */
	__u64 stack, ns;
	__u32 count, kind;
	__u8 nested; /* it made a system call */
	__u8 told;
	__u8 unused[6];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* thread */
	__type(value, struct ks_op);
} ops SEC(".maps");

/* A session that worked in memory, whose record may be sent next. */
struct ks_waiting {
	__u64 session;
	__u32 count; /* bytes that were written, 0 in the handshake */
	__u32 several; /* it may be another one's as well */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* thread */
	__type(value, struct ks_waiting);
} waitings SEC(".maps");

__u32 any_op; /* whether such a function was ever called: before that no system call can be one's */

#define STALE 1000000000 /* ns after which a call within another is believed to be none: its end was not seen */

static __always_inline int begin_op(struct pt_regs *regs, __u32 count, __u64 moved, __u32 kind)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ks_op *before, op = {
		.session = PT_REGS_PARM1(regs), .buffer = PT_REGS_PARM2(regs), .moved = moved,
		.stack = PT_REGS_SP(regs), .ns = bpf_ktime_get_ns(), .count = count, .kind = kind,
	};
	struct ks_binding *binding;

	if (!wants_task(thread >> 32))
		return 0;
	if (!any_op) /* else its line would go from processor to processor with each call */
		any_op = 1;
	note_reader(regs);
	before = bpf_map_lookup_elem(&ops, &thread);
	/* Within another one (TLS in TLS), or the same probe twice (one file of two overlays). */
	if (before && op.stack <= before->stack && op.ns - before->ns < STALE)
		return 0;
	if (kind == WRITES && count && (__s32)count > 0) {
		binding = binding_of(op.session, false);
		if (binding && binding->state == BOUND) {
			__u32 owed = binding->owed < count ? binding->owed : count;

			tell_clear(binding, true, op.buffer + owed, count - owed, op.ns);
			op.told = 1;
		}
	}
	bpf_map_update_elem(&ops, &thread, &op, BPF_ANY);
	return 0;
}

static __always_inline void wait_for_send(__u64 thread, const struct ks_op *op, __u32 done)
{
	struct ks_waiting *found = bpf_map_lookup_elem(&waitings, &thread);
	struct ks_waiting fresh = { .session = op->session, .count = op->kind == WRITES ? done : 0 };

	if (op->kind == READS)
		return;
	if (found && found->session != op->session)
		found->several = 1;
	else
		bpf_map_update_elem(&waitings, &thread, &fresh, BPF_ANY);
}

static __always_inline void end_write(struct ks_binding *binding, const struct ks_op *op, __u32 done)
{
	__u32 told = op->count > binding->owed ? op->count : binding->owed;

	if (op->told)
		binding->owed = told > done ? told - done : 0;
	else if (done)
		tell_clear(binding, true, op->buffer, done, op->ns);
}

static __always_inline int end_op(struct pt_regs *regs)
{
	__u64 thread = bpf_get_current_pid_tgid(), size;
	struct ks_op *found = bpf_map_lookup_elem(&ops, &thread), op;
	struct ks_binding *binding;
	__s32 result = PT_REGS_RC(regs);
	__u32 done;

	if (!found || PT_REGS_SP(regs) - found->stack > 8)
		return 0;
	op = *found;
	bpf_map_delete_elem(&ops, &thread);
	done = result > 0 ? result : 0;
	if (done && op.moved)
		done = bpf_probe_read_user(&size, sizeof(size), (void *)op.moved) ? 0 : size;
	binding = binding_of(op.session, true);
	if (!binding)
		return 0;
	if (binding->state == UNKNOWN && !op.nested)
		wait_for_send(thread, &op, done);
	if (op.kind == WRITES)
		end_write(binding, &op, done);
	else if (op.kind == READS && done)
		tell_clear(binding, false, op.buffer, done, bpf_ktime_get_ns());
	return 0;
}

SEC("uprobe")
int tls_read(struct pt_regs *regs) { return begin_op(regs, PT_REGS_PARM3(regs), 0, READS); }
SEC("uprobe")
int tls_write(struct pt_regs *regs) { return begin_op(regs, PT_REGS_PARM3(regs), 0, WRITES); }
SEC("uprobe")
int tls_read_ex(struct pt_regs *regs) { return begin_op(regs, PT_REGS_PARM3(regs), PT_REGS_PARM4(regs), READS); }
SEC("uprobe")
int tls_write_ex(struct pt_regs *regs) { return begin_op(regs, PT_REGS_PARM3(regs), PT_REGS_PARM4(regs), WRITES); }
SEC("uprobe")
int tls_handshake(struct pt_regs *regs) { return begin_op(regs, 0, 0, SHAKES); }
SEC("uretprobe")
int tls_done(struct pt_regs *regs) { return end_op(regs); }

/* The session is over: its object may become another one's. */
SEC("uprobe")
int tls_free(struct pt_regs *regs)
{
	struct ks_session session;

	session_of(PT_REGS_PARM1(regs), &session);
	bpf_map_delete_elem(&bindings, &session);
	return 0;
}

/* Whether a record that begins so may be what the session made. */
static __always_inline bool may_be(const struct ks_waiting *it, const __u8 *record)
{
	__u32 length = record[3] << 8 | record[4];

	if (it->several)
		return false;
	if (!it->count)
		return record[0] == 0x16 && (record[5] == 1 || record[5] == 2); /* ClientHello, ServerHello */
	if (it->count > 16384)
		return record[0] == 0x17 && length > 16384;
	return record[0] == 0x17 && length > it->count && length <= it->count + 128;
}

static __always_inline void sent(__u64 thread, struct sock *sk, int fd, __u64 buffer)
{
	struct ks_waiting *waiting = bpf_map_lookup_elem(&waitings, &thread);
	struct ks_binding *binding;
	__u8 record[6] = {};

	if (!waiting)
		return;
	if (bpf_probe_read_user(record, sizeof(record), (void *)buffer))
		return;
	if (record[0] < 0x14 || record[0] > 0x17 || record[1] != 3)
		return;
	if (may_be(waiting, record)) {
		binding = binding_of(waiting->session, false);
		if (binding && binding->state == UNKNOWN)
			bind(binding, sk ? sk : socket_of(fd));
	}
	bpf_map_delete_elem(&waitings, &thread);
}

/* A system call on a descriptor, or on the socket where that is known. */
static __always_inline int calls(struct sock *sk, int fd, __u64 buffer, bool out)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct ks_binding *binding;
	struct ks_op *op;

	if (!any_op)
		return 0;
	op = bpf_map_lookup_elem(&ops, &thread);
	if (!op) {
		if (out)
			sent(thread, sk, fd, buffer);
		return 0;
	}
	if (op->nested)
		return 0;
	binding = binding_of(op->session, true);
	if (binding && bind(binding, sk ? sk : socket_of(fd)))
		op->nested = 1;
	return 0;
}

/* The first bytes of what a vector holds, and of a message. */
static __always_inline __u64 first_of(__u64 pieces)
{
	struct iovec piece = {};

	return bpf_probe_read_user(&piece, sizeof(piece), (void *)pieces) ? 0 : (__u64)piece.iov_base;
}

static __always_inline __u64 first_of_message(__u64 at)
{
	struct user_msghdr message = {};

	return bpf_probe_read_user(&message, sizeof(message), (void *)at) ? 0 : first_of((__u64)message.msg_iov);
}

#define DURING(call) \
	SEC("tp/syscalls/sys_enter_" #call) \
	int during_##call(struct trace_event_raw_sys_enter *at)

DURING(read) { return calls(NULL, at->args[0], 0, false); }
DURING(readv) { return calls(NULL, at->args[0], 0, false); }
DURING(recvfrom) { return calls(NULL, at->args[0], 0, false); }
DURING(recvmsg) { return calls(NULL, at->args[0], 0, false); }
DURING(write) { return calls(NULL, at->args[0], at->args[1], true); }
DURING(sendto) { return calls(NULL, at->args[0], at->args[1], true); }
DURING(writev) { return any_op ? calls(NULL, at->args[0], first_of(at->args[1]), true) : 0; }
DURING(sendmsg) { return any_op ? calls(NULL, at->args[0], first_of_message(at->args[1]), true) : 0; }

/* Where a socket has moved bytes (Linux 6.3): no system call takes the slow way for it. */
static __always_inline __u64 first_sent(void)
{
	struct pt_regs *regs = this_call_of(bpf_get_current_task_btf());

	if (!regs)
		return 0;
	switch (NUMBER(regs)) {
	case CALL_write:
	case CALL_sendto:
		return SECOND(regs);
	case CALL_writev:
		return first_of(SECOND(regs));
	case CALL_sendmsg:
		return first_of_message(SECOND(regs));
	default:
		return 0;
	}
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(passing_sent, struct sock *sk)
{
	return any_op ? calls(sk, -1, first_sent(), true) : 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(passing_taken, struct sock *sk)
{
	return calls(sk, -1, 0, false);
}

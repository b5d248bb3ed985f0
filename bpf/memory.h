/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Messages in the memory of whoever sends or takes them: where they are, and copying them. */
#pragma once

/* Copy one part of a message, which the struct iovec at `vector` tells of, to data + at; gives the bytes copied, or less
 * than 0. A function of its own, which the verifier looks at once and not for each of PIECES.
 */
__noinline int copy_piece(__u64 vector, __u32 op, __u32 at, __u32 most)
{
	struct ks_scratch *scratch = this_scratch();
	struct iovec piece;
	__u64 size, skip, to = at;
	long failed;

	if (!scratch)
		return -1;
	CLAMP(to, HEADERS + PAYLOAD);
	if (op & KERNEL)
		failed = bpf_probe_read_kernel(&piece, sizeof(piece), (void *)vector);
	else
		failed = bpf_probe_read_user(&piece, sizeof(piece), (void *)vector);
	if (failed)
		return -1;
	skip = scratch->skip < piece.iov_len ? scratch->skip : piece.iov_len;
	scratch->skip -= skip;
	size = piece.iov_len - skip;
	if (size > most)
		size = most;
	CLAMP(size, PAYLOAD);
	if (size && bpf_probe_read_user(scratch->data + to, size, piece.iov_base + skip))
		return -1;
	return size;
}

/* Copy a message from where the caller has it to data + at; gives the bytes copied. */
__noinline int copy_pieces(__u64 buffer, __u64 pieces, __u32 op, __u32 at, __u32 most)
{
	struct ks_scratch *scratch = this_scratch();
	__u64 to = at;
	__u32 done = 0;

	if (!scratch)
		return 0;
	CLAMP(most, PAYLOAD);
	if (!(op & VECTOR)) {
		CLAMP(to, HEADERS); /* not before, nor of 32 bits: Linux 6.1 would forget it */
		if (bpf_probe_read_user(scratch->data + to, most, (void *)buffer))
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
static __always_inline void read_name(__u32 op, __u64 name, struct ks_ends *ends)
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

/* First step: where the message is in memory; false where that cannot be read. */
__noinline int find_message(struct ks_call *call, __u32 number)
{
	struct ks_scratch *scratch = this_scratch();
	struct user_msghdr message;
	__u64 at;

	if (!call || !scratch)
		return 0;
	scratch->buffer = call->buffer;
	scratch->pieces = call->count;
	scratch->skip = call->skip;
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

/* Fourth step: copy the payload behind the headers; gives how much. */
__noinline int copy_payload(struct ks_call *call, __u32 at)
{
	struct ks_scratch *scratch = this_scratch();
	struct ks_settings *settings = this_setting();
	__u64 moved, most;
	__u32 op, copied;

	if (!call || !scratch || !settings)
		return 0;
	moved = scratch->it.size;
	op = call->op & MESSAGE ? call->op | VECTOR : call->op;
	if (op & UNSEEN) {
		count_some(UNSEEN_BYTES, moved);
		return 0;
	}
	if (is_opaque(&scratch->ends)) {
		count_some(OPAQUE_BYTES, moved);
		return 0;
	}
	most = moved < settings->payload ? moved : settings->payload;
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

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Where the memory of a message is, as the kernel describes it (struct iov_iter): one layout a generation of kernels. */
#pragma once

struct iov_iter___5_10 { /* until Linux 5.13 */
	unsigned int type;
} __attribute__((preserve_access_index));

struct iov_iter___5_14 { /* until Linux 6.3 */
	__u8 iter_type;
	const struct iovec *iov;
} __attribute__((preserve_access_index));

struct iov_iter___6_0 { /* since Linux 6.0 */
	void *ubuf;
} __attribute__((preserve_access_index));

struct iov_iter___6_4 { /* since Linux 6.4 */
	const struct iovec *__iov;
} __attribute__((preserve_access_index));

enum iter_type___any { ITER_IOVEC___any, ITER_UBUF___any };

static __always_inline __u32 kind_of_iter(struct iov_iter *iter)
{
	struct iov_iter___5_10 *old = (void *)iter;
	struct iov_iter___5_14 *it = (void *)iter;

	if (bpf_core_field_exists(it->iter_type))
		return BPF_CORE_READ(it, iter_type);
	return BPF_CORE_READ(old, type) & ~1; /* the last bit: the direction */
}

static __always_inline __u64 vector_of_iter(struct iov_iter *iter)
{
	struct iov_iter___5_14 *old = (void *)iter;
	struct iov_iter___6_4 *it = (void *)iter;

	if (bpf_core_field_exists(it->__iov))
		return (__u64)BPF_CORE_READ(it, __iov);
	return (__u64)BPF_CORE_READ(old, iov);
}

/* Whether it is memory of the caller; else pages or memory of the kernel. */
static __always_inline bool find_iter(struct iov_iter *iter, struct ks_call *call)
{
	__u32 kind = kind_of_iter(iter);

	if (bpf_core_enum_value_exists(enum iter_type___any, ITER_UBUF___any) &&
	    kind == bpf_core_enum_value(enum iter_type___any, ITER_UBUF___any)) {
		struct iov_iter___6_0 *it = (void *)iter;

		call->buffer = (__u64)BPF_CORE_READ(it, ubuf) + BPF_CORE_READ(iter, iov_offset);
		call->count = BPF_CORE_READ(iter, count);
		return true;
	}
	if (kind != bpf_core_enum_value(enum iter_type___any, ITER_IOVEC___any))
		return false;
	call->op |= VECTOR;
	call->buffer = vector_of_iter(iter);
	call->count = BPF_CORE_READ(iter, nr_segs);
	call->skip = BPF_CORE_READ(iter, iov_offset);
	return true;
}

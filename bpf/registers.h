/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The system call that a thread is in, by the registers that it came with (Linux 5.15). Of 64 bits alone. */
#pragma once

#define PF_KTHREAD 0x00200000
#define PF_IO_WORKER 0x00000010
#define ENOSYS 38

#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT 2 /* of thread_info.status: a call of 32 bits */
#define NUMBER(regs) ((regs)->orig_ax)
#define FIRST(regs) ((regs)->di)
#define SECOND(regs) ((regs)->si)
#define THIRD(regs) ((regs)->dx)
#define FOURTH(regs) ((regs)->r10)
#define FIFTH(regs) ((regs)->r8)
enum ks_number {
	CALL_read = 0, CALL_write = 1, CALL_readv = 19, CALL_writev = 20,
	CALL_sendto = 44, CALL_recvfrom = 45, CALL_sendmsg = 46, CALL_recvmsg = 47,
	CALL_recvmmsg = 299, CALL_sendmmsg = 307, CALL_preadv2 = 327, CALL_pwritev2 = 328, CALL_mmap = 9,
	CALL_sendfile = 40, CALL_splice = 275,
};

/* The result of a call is set at its beginning, to what it is not at its end: work on the way out is no call's. */
static __always_inline bool in_call(struct task_struct *task, struct pt_regs *regs)
{
	return (long)regs->ax == -ENOSYS && !(task->thread_info.status & TS_COMPAT);
}
#elif defined(__TARGET_ARCH_arm64)
#define TIF_32BIT 22 /* a bit of thread_info.flags */
#define NUMBER(regs) ((regs)->syscallno)
#define FIRST(regs) ((regs)->orig_x0)
#define SECOND(regs) ((regs)->regs[1])
#define THIRD(regs) ((regs)->regs[2])
#define FOURTH(regs) ((regs)->regs[3])
#define FIFTH(regs) ((regs)->regs[4])
enum ks_number {
	CALL_read = 63, CALL_write = 64, CALL_readv = 65, CALL_writev = 66,
	CALL_sendto = 206, CALL_recvfrom = 207, CALL_sendmsg = 211, CALL_recvmsg = 212,
	CALL_recvmmsg = 243, CALL_sendmmsg = 269, CALL_preadv2 = 286, CALL_pwritev2 = 287, CALL_mmap = 222,
	CALL_sendfile = 71, CALL_splice = 76,
};

/* The result goes where the first argument was. */
static __always_inline bool in_call(struct task_struct *task, struct pt_regs *regs)
{
	return regs->regs[0] == regs->orig_x0 && !(task->thread_info.flags & 1UL << TIF_32BIT);
}
#endif

/* The registers, or null where it is in no call of its own. */
static __always_inline struct pt_regs *this_call_of(struct task_struct *task)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);

	return !(task->flags & (PF_KTHREAD | PF_IO_WORKER)) && in_call(task, regs) ? regs : NULL;
}

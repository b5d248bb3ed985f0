/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Files with code that a process maps for the first time that anybody does: they may hold a TLS library. */
#pragma once

#define PROT_EXEC 4
#define MAP_PRIVATE 2

struct ks_file_key {
	__u64 device, inode;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ks_file_key);
	__type(value, __u8);
} files SEC(".maps");

static __always_inline void tell_file(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct ks_file_key key = { BPF_CORE_READ(inode, i_sb, s_dev), BPF_CORE_READ(inode, i_ino) };
	struct ks_news_record news = { .device = key.device, .inode = key.inode };
	__u8 seen = 1;

	if (bpf_map_lookup_elem(&files, &key))
		return;
	if (put_news(&news, FILE_MAPPED))
		bpf_map_update_elem(&files, &key, &seen, BPF_ANY);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	tell_file(BPF_CORE_READ(bprm, file));
	return 0;
}

static __always_inline int maps(int fd)
{
	struct file *file = fd < 0 ? NULL : file_of(fd);

	if (file)
		tell_file(file);
	return 0;
}

SEC("tp/syscalls/sys_enter_mmap")
int during_mmap(struct trace_event_raw_sys_enter *at)
{
	return at->args[2] & PROT_EXEC ? maps(at->args[4]) : 0;
}

/* Room is found for it. A library's is found for all of it, before its code is mapped into that. */
SEC("tp_btf/vm_unmapped_area")
int passing_mmap(void *at)
{
	struct pt_regs *regs = this_call_of(bpf_get_current_task_btf());

	if (!regs || NUMBER(regs) != CALL_mmap || !(THIRD(regs) & PROT_EXEC || FOURTH(regs) & MAP_PRIVATE))
		return 0;
	return maps(FIFTH(regs));
}

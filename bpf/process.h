/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Whose the ends of connections are: a record tells of each change. */
#pragma once

/* Who used an end of a connection last: a record tells of each change. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u32);
} owners SEC(".maps");

struct process {
	struct head head;
	__u64 sock, cgroup; /* as group.h has it */
	__u32 pid, tid;
	struct ends ends;
	struct name name;
};

static __always_inline bool is_told(const struct ends *ends)
{
	__u64 end = end_of(ends);

	return bpf_map_lookup_elem(&owners, &end);
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
	it.cgroup = number_of_group((void *)bpf_get_current_task());
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

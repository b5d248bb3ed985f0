/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Whose the ends of connections are, who used them last: a record tells of each change. */
#pragma once

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u32);
} owners SEC(".maps");

struct ks_process {
	struct ks_head head;
	__u64 sock, cgroup; /* as group.h has it */
	__u32 pid, tid;
	struct ks_ends ends;
	struct ks_name name;
};

static __always_inline bool is_told(const struct ks_ends *ends)
{
	__u64 end = end_of(ends);

	return bpf_map_lookup_elem(&owners, &end);
}

/* Asked first where most calls are no news: it saves them the function below. */
static __always_inline bool knows_owner(const struct ks_ends *ends, __u32 pid)
{
	__u64 end = end_of(ends);
	__u32 *before = bpf_map_lookup_elem(&owners, &end);

	return before && *before == pid;
}

/* The ends are this task's: told where that is news, which it is where the answer is true. */
static __always_inline bool tell_owner(const struct ks_ends *ends, __u64 sock, __u64 end)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32, *before = bpf_map_lookup_elem(&owners, &end);
	struct ks_process it;

	if (before && *before == pid)
		return false;
	__builtin_memset(&it, 0, sizeof(it));
	it.head.ns = bpf_ktime_get_ns();
	it.head.wire = sizeof(it) - sizeof(it.head);
	it.head.kind = PROCESS;
	it.sock = sock;
	it.cgroup = number_of_group((void *)bpf_get_current_task());
	it.pid = pid;
	it.tid = (__u32)id;
	it.ends = *ends;
	name_of_task(&it.name);
	if (!bpf_ringbuf_output(&ring, &it, sizeof(it), BPF_RB_NO_WAKEUP))
		bpf_map_update_elem(&owners, &end, &pid, BPF_ANY);
	return !before;
}

/* Whose it is. */
__noinline int tell_process(struct ks_call *call)
{
	struct ks_scratch *scratch = this_scratch();

	if (!call || !scratch)
		return 0;
	if (tell_owner(&scratch->ends, call->sock, end_of(&scratch->ends)) && by_task())
		tell_opening();
	return 0;
}

/* The same when a call begins to send: its answer may be here, and told by who sent it, before it has ended. */
__noinline int tell_sender(struct ks_call *call)
{
	if (!call || !call->ends.remote_port)
		return 0;
	if (wants_ports(call->ends.local_port, call->ends.remote_port))
		tell_owner(&call->ends, call->sock, end_of(&call->ends));
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What is not wanted is left out as early as it can be told, cheapest question first. */
#pragma once

const volatile __u32 own_pid = 0; /* kshark's own traffic is left out */

/* Whether a map says what is wanted; else all are. It may change while the programs run, and so may the maps. */
enum ks_question { BY_PORT, BY_PID, BY_COMM, BY_NETNS, BY_GROUP, QUESTIONS };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, QUESTIONS);
	__type(key, __u32);
	__type(value, __u32);
} questions SEC(".maps");

static __always_inline bool asks(enum ks_question which)
{
	__u32 key = which, *value = bpf_map_lookup_elem(&questions, &key);

	return value && *value;
}

struct ks_name {
	char text[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} pids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct ks_name);
	__type(value, __u8);
} comms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u8);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* inode */
	__type(value, __u8);
} spaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64); /* inode, and OLD_GROUP */
	__type(value, __u8);
} groups SEC(".maps");

/* The name of the process: that of its first thread, zero after its end. */
static __always_inline void name_of_task(struct ks_name *name)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	__builtin_memset(name, 0, sizeof(*name));
	BPF_CORE_READ_STR_INTO(&name->text, task, group_leader, comm);
}

#define GROUP_DEPTH 12 /* levels that are looked at; kubelet makes five, systemd some more around it */

/* Whether the task is in one of `groups`, or below one. */
__noinline int wants_group(void)
{
	struct ks_group it = group_of((void *)bpf_get_current_task());
	struct cgroup *at = it.at;

	for (int level = 0; level < GROUP_DEPTH && at; level++) {
		__u64 number = number_of(at) | it.mark;

		if (bpf_map_lookup_elem(&groups, &number))
			return 1;
		at = BPF_CORE_READ(at, self.parent, cgroup);
	}
	return 0;
}

static __always_inline bool wants_task(__u32 pid)
{
	if (pid == own_pid)
		return false;
	if (asks(BY_PID) && !bpf_map_lookup_elem(&pids, &pid))
		return false;
	if (asks(BY_GROUP) && !wants_group())
		return false;
	if (asks(BY_COMM)) {
		struct ks_name name;

		name_of_task(&name);
		return bpf_map_lookup_elem(&comms, &name);
	}
	return true;
}

static __always_inline bool wants_ports(__u16 local, __u16 remote)
{
	return !asks(BY_PORT) || bpf_map_lookup_elem(&ports, &local) || bpf_map_lookup_elem(&ports, &remote);
}

static __always_inline bool wants_netns(__u32 inode)
{
	return !asks(BY_NETNS) || bpf_map_lookup_elem(&spaces, &inode);
}

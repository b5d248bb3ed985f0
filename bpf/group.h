/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Control groups: which one a task is in, on hosts with either version of them. */
#pragma once

#define ROOT_GROUP 1 /* the number of the first group of a hierarchy */
#define OLD_GROUP (1ULL << 63) /* marks a number as one of version 1 */

struct ks_group {
	struct cgroup *at;
	__u64 mark;
};

static __always_inline __u64 number_of(struct cgroup *at)
{
	return BPF_CORE_READ(at, kn, id);
}

/* The group in the hierarchy of version 2; where the task is at its root, that of the memory controller of version 1,
 * which every container has.
 */
static __always_inline struct ks_group group_of(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct ks_group it = { .at = BPF_CORE_READ(set, dfl_cgrp) };
	struct cgroup_subsys_state *memory;
	struct cgroup *old;
	__u64 at;

	if (number_of(it.at) > ROOT_GROUP || !bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return it;
	at = (__u64)set + bpf_core_field_offset(set->subsys) +
	     bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(memory);
	if (bpf_probe_read_kernel(&memory, sizeof(memory), (void *)at) || !memory)
		return it;
	old = BPF_CORE_READ(memory, cgroup);
	if (old == it.at)
		return it; /* the controller is of version 2, or of none */
	it.at = old;
	it.mark = OLD_GROUP;
	return it;
}

/* Its number: the inode of its folder. */
static __always_inline __u64 number_of_group(struct task_struct *task)
{
	struct ks_group it = group_of(task);

	return number_of(it.at) | it.mark;
}

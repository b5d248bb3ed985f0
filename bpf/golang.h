/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Go's crypto/tls, by the register ABI (Go 1.17): a call is known by its goroutine, which may move between threads, and
 * its end by a probe at every return (a return probe changes the stack, which Go moves).
 *
 * The connection is found through the net.Conn within the tls.Conn, where that is the net package's own; what is read
 * there must look like one (net/fd_posix.go, internal/poll/fd_unix.go).
 */
#pragma once

#if defined(__TARGET_ARCH_x86)
#define GO_G(regs) ((regs)->r14)
#define GO_1(regs) ((regs)->ax)
#define GO_2(regs) ((regs)->bx)
#define GO_3(regs) ((regs)->cx)
#else
#define GO_G(regs) (((struct user_pt_regs *)(regs))->regs[28])
#define GO_1(regs) (((struct user_pt_regs *)(regs))->regs[0])
#define GO_2(regs) (((struct user_pt_regs *)(regs))->regs[1])
#define GO_3(regs) (((struct user_pt_regs *)(regs))->regs[2])
#endif

struct ks_goroutine {
	__u64 g, space;
};
struct ks_go_read {
	__u64 conn, buffer;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct ks_goroutine);
	__type(value, struct ks_go_read);
} go_reads SEC(".maps");

/* One file may be below several overlays (containers of one image), and then has a probe for each: one of them counts. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* memory of the process */
	__type(value, __u64); /* number of the file */
} programs SEC(".maps");

static __always_inline bool is_first(struct pt_regs *regs)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 space = (__u64)BPF_CORE_READ(task, mm), file = bpf_get_attach_cookie(regs), *known;

	known = bpf_map_lookup_elem(&programs, &space);
	if (known)
		return *known == file;
	bpf_map_update_elem(&programs, &space, &file, BPF_ANY);
	return true;
}

/* netFD: its descriptor, and what only a stream of TCP has behind it. */
struct ks_net_fd {
	__u64 lock, semaphores, descriptor, more[4];
	__u64 family, type;
};

static __always_inline struct sock *socket_of_go(__u64 conn)
{
	struct ks_net_fd fd;
	__u64 data, at;

	if (bpf_probe_read_user(&data, sizeof(data), (void *)(conn + 8)))
		return NULL;
	if (bpf_probe_read_user(&at, sizeof(at), (void *)data))
		return NULL;
	if (bpf_probe_read_user(&fd, sizeof(fd), (void *)at))
		return NULL;
	if ((fd.family != AF_INET && fd.family != AF_INET6) || fd.type != 1)
		return NULL;
	return socket_of(fd.descriptor);
}

static __always_inline struct ks_binding *binding_of_go(__u64 conn)
{
	struct ks_binding *it = binding_of(conn, true);

	if (it)
		bind(it, socket_of_go(conn));
	return it;
}

static __always_inline void goroutine_of(struct pt_regs *regs, struct ks_goroutine *it)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	it->g = GO_G(regs);
	it->space = (__u64)BPF_CORE_READ(task, mm);
}

SEC("uprobe")
int go_tls_write(struct pt_regs *regs)
{
	struct ks_binding *binding;

	if (!wants_task(bpf_get_current_pid_tgid() >> 32) || !is_first(regs))
		return 0;
	note_reader(regs);
	binding = binding_of_go(GO_1(regs));
	if (binding)
		tell_clear(binding, true, GO_2(regs), GO_3(regs), bpf_ktime_get_ns());
	return 0;
}

SEC("uprobe")
int go_tls_read(struct pt_regs *regs)
{
	struct ks_go_read it = { .conn = GO_1(regs), .buffer = GO_2(regs) };
	struct ks_goroutine key;

	if (!wants_task(bpf_get_current_pid_tgid() >> 32) || !is_first(regs))
		return 0;
	note_reader(regs);
	goroutine_of(regs, &key);
	binding_of_go(it.conn);
	bpf_map_update_elem(&go_reads, &key, &it, BPF_ANY);
	return 0;
}

SEC("uprobe")
int go_tls_read_done(struct pt_regs *regs)
{
	struct ks_goroutine key;
	struct ks_go_read *found, it;
	struct ks_binding *binding;
	__s64 result = GO_1(regs);

	goroutine_of(regs, &key);
	found = bpf_map_lookup_elem(&go_reads, &key);
	if (!found)
		return 0;
	it = *found;
	bpf_map_delete_elem(&go_reads, &key);
	binding = binding_of(it.conn, false);
	if (binding && result > 0)
		tell_clear(binding, false, it.buffer, result, bpf_ktime_get_ns());
	return 0;
}

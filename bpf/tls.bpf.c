// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// What processes say and hear over TLS, in clear, taken where they call their TLS library: attached by file and offset.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "ring.h"
#include "sock.h"
#include "segment.h"
#include "group.h"
#include "filter.h"
#include "registers.h"
#include "clear.h"
#include "library.h"
#include "golang.h"
#include "files.h"

char LICENSE[] SEC("license") = "GPL";

/* A new connection: what was told of one between the same ends is another's. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_connection, struct sock *sk, int old, int new)
{
	struct ks_ends ends = {};

	if (new == TCP_ESTABLISHED && ends_of(sk, &ends) && ends.proto == TCP)
		forget_ways(&ends);
	return 0;
}

/* To measure what a probe costs. */
SEC("uprobe")
int nothing(struct pt_regs *regs)
{
	return 0;
}

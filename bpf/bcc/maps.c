// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// What the programs of bcc remember. This file and those after it are one text: see backends/_bcc.py.
//
// No structure of the kernel is read, since there is none to go by. A connection is known by its ends, as tracepoints
// name them; a descriptor by what was seen of it: connect, accept, and who read from it.
#include <bcc/proto.h>
#include "record.h"
#include "moved.h"
#include "ends.h"
#include "segment.h"

#define PAYLOAD 65536 /* most bytes of a call that are taken */
#define BOUND 0x1ffff /* a bound that is no branch, for the verifier: over PAYLOAD and all headers */
#define PIECES 32 /* struct iovec of one call that are looked at */
#define CONNECT 256 /* further kinds of calls: `buffer` is an address, or nothing */
#define ACCEPT 512
#define DUPLICATE 1024
#define SHUTDOWN 2048
#define F_DUPFD 0
#define F_DUPFD_CLOEXEC 1030

enum { ESTABLISHED = 1, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSED, CLOSE_WAIT, LAST_ACK };

struct ks_name {
	char text[16];
};

/* A descriptor of a process. */
struct where {
	u32 pid;
	s32 fd;
};

/* The connection behind one; `turn` is that of its process: after an exec all are forgotten. */
struct link {
	struct ks_ends ends;
	u32 turn;
};

#define BY_CLIENT 1 /* how a connection was opened: by this end */
#define BY_SERVER 2 /* by the other one */
#define ENDED_OUT 1 /* this end has said that it sends no more */
#define ENDED_IN 2 /* the other one has */

struct conn {
	u32 sent, heard; /* what the next byte of each direction is numbered: not as TCP does it */
	u32 pid; /* whose it was, when that was told last */
	u8 opened, ended;
	u8 teller; /* its bytes are told of this end: of two that are here, one tells of both directions */
	u8 unused;
};

/* Who asked for a connection that is being opened. */
struct asker {
	struct where at;
};

struct peer {
	u8 address[16];
	u32 port;
};

struct ks_call {
	struct where at;
	u64 buffer, count, ns;
	u32 op;
	u32 known; /* whether `ends` are */
	struct ks_ends ends;
	u32 unused;
};

struct ks_settings {
	u32 payload, one_in;
};

struct ks_scratch {
	u32 unused;
	struct ks_head head;
	u8 data[2 * (BOUND + 1)];
};

BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
BPF_PERCPU_ARRAY(counts, u64, COUNTERS);
BPF_ARRAY(settings, struct ks_settings, 1);
BPF_ARRAY(scratches, struct ks_scratch, CPUS);
BPF_HASH(calls, u64, struct ks_call, 65536);
BPF_TABLE("lru_hash", struct ks_ends, struct conn, conns, 65536);
BPF_TABLE("lru_hash", struct where, struct link, links, 65536);
BPF_TABLE("lru_hash", u32, u32, turns, 16384);
BPF_TABLE("lru_hash", u64, struct asker, askers, 16384);
BPF_TABLE("lru_hash", struct peer, struct ks_ends, peers, 65536);
BPF_HASH(pids, u32, u8, 1024);
BPF_HASH(comms, struct ks_name, u8, 256);
BPF_HASH(ports, u16, u8, 1024);

static __always_inline void count_some(u32 which, u64 some)
{
	u64 *value = counts.lookup(&which);

	if (value)
		*value += some;
}

/* ---------------------------------------------------------------- what is wanted */

static __always_inline bool wants_task(u32 pid)
{
	struct ks_name name = {};

	if (pid == OWN_PID)
		return false;
	if (BY_PID && !pids.lookup(&pid))
		return false;
	if (!BY_COMM)
		return true;
	bpf_get_current_comm(&name.text, sizeof(name.text));
	return comms.lookup(&name) != NULL;
}

static __always_inline bool wants_ports(const struct ks_ends *ends)
{
	u16 local = ends->local_port, remote = ends->remote_port;

	return !BY_PORT || ports.lookup(&local) || ports.lookup(&remote);
}

/* Whether a connection is left out under pressure: the same at both ends. */
static __always_inline bool left_out(const struct ks_ends *ends)
{
	u32 first = 0, number = ends->local_port ^ ends->remote_port;
	struct ks_settings *it = settings.lookup(&first);

	if (!it || it->one_in < 2)
		return false;
	number = number * 0x9e3779b9u >> 16;
	return number & (it->one_in - 1);
}

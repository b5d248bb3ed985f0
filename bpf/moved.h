/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls that move bytes through sockets: their kinds, and what is counted and told of them. */
#pragma once

#define OUT 1 /* sends */
#define VECTOR 2 /* `buffer` is an array of struct iovec, in user memory */
#define MESSAGE 4 /* `buffer` is a struct msghdr, in user memory */
#define MANY 8 /* `buffer` is an array of struct mmsghdr */
#define UNSEEN 16 /* the bytes pass through no memory of the caller: their number is known */
#define KERNEL 32 /* the vector, and the address, are in kernel memory */
#define PLACED 128 /* the place in the stream, and the ends, are known */
#define LOOK 256 /* it takes nothing out of the stream */
#define DISCARD 64 /* MSG_TRUNC: what is taken out of a stream is thrown away */

#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000
#define LOOKS(flags) ((flags) & (MSG_PEEK | MSG_ERRQUEUE)) /* takes nothing out of the stream */
#define DISCARDS(flags) ((flags) & MSG_TRUNC ? DISCARD : 0)

enum ks_counter {
	LOST_RING, /* records: no room in the ring */
	LOST_SCRATCH, /* records: more processors than CPUS, or another thread's is being put together on this one */
	LOST_CALLS, /* calls that could not be remembered: no memory, or (until Linux 6.1) another was just being */
	LOST_MESSAGES, /* datagrams beyond MESSAGES of one call */
	LOST_FAULT, /* calls whose bytes could not be read */
	LOST_ENDS, /* datagrams of which the receiver did not ask who sent them */
	LOST_SAMPLED, /* messages of connections that are left out: `one_in` */
	LOST_MISSED, /* calls whose end the kernel told nobody: too many at once in the same function, or on one processor */
	CUT_BYTES, /* bytes beyond `payload`, or in further pieces */
	UNSEEN_BYTES, /* bytes of sendfile and splice */
	TWICE, /* calls whose bytes the other end told of, which is on this machine, too */
	OPAQUE_BYTES, /* bytes of connections that nobody reads: opaque.h */
};

enum ks_kind { DATA, PROCESS };

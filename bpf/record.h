/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What every program, whoever loads it, and user space agree on: the head of records, their kinds, the counters. */
#pragma once

struct ks_head {
	__u64 ns; /* CLOCK_MONOTONIC */
	__u32 wire; /* length of the content, had nothing been cut off; a record that is longer has room to spare */
	__u16 kind; /* which index the record goes to */
	__u16 iface; /* number of the interface, as `Block.ifaces` has it */
};

/* clang before 16 loses the bound of a length that it has just compared; the verifier does not lose this one. */
#define CLAMP(value, most) \
	asm volatile("if %0 <= %1 goto +1\n %0 = %1" : "+r"(value) : "i"(most))

#define COUNTERS 16 /* room for them; those of sockets are `enum ks_counter` */

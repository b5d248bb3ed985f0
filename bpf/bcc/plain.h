/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What a program of bcc needs of kernel headers that are not here: types of fixed size, and nothing of the kernel's own.
 *
 * Stands in for each header that bcc includes by itself. No structure is guessed: another kernel's would be wrong in
 * silence.
 */
#ifndef PLAIN_H
#define PLAIN_H

typedef signed char __s8, s8;
typedef unsigned char __u8, u8;
typedef short __s16, s16;
typedef unsigned short __u16, u16, __be16, __le16;
typedef int __s32, s32, pid_t;
typedef unsigned int __u32, u32, __be32, __le32, __wsum;
typedef long long __s64, s64;
typedef unsigned long long __u64, u64, __be64, __le64;
typedef unsigned long long __aligned_u64 __attribute__((aligned(8)));
typedef unsigned long size_t, uintptr_t;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define __always_inline inline __attribute__((always_inline))
#define __user
#define __kernel
#define CONFIG_BPF_SYSCALL 1
#define LINUX_VERSION_CODE 0x050800
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))

#endif

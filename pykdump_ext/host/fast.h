/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What pages.c, m2p.c and walks.c share: the fast reads and walks of a Xen host's dump. */
#pragma once

#include "host_internal.h"
#include "xen_kdump.h"

#define NONE (~0UL)
#define FRAMES (1UL << 40)  /* mfns that a page-table entry can have */
#define PER_PAGE 512        /* entries in a page table, and in a leaf of the p2m */

/* Keep the order of writes: a jump may come between them. */
#define then() __asm__ volatile("" ::: "memory")

extern struct host_fast fast;
extern struct xen_kdump_data *xkd;  /* crash's (xen_dom0.c) */

/* pages.c */
int read_machine(physaddr_t maddr, void *buffer, int count);
ulong *words_of(ulong mfn, int keep);
int machine_word(ulong mfn, ulong index, ulong *value);
int p2m_entry(ulong pfn, ulong *entry);
int fast_ready(void);

/* m2p.c */
#define UNKNOWN (-1)  /* crash's own search is needed */
int pfn_of(ulong mfn, ulong *pfn);
int is_table(ulong mfn, int tell);
void fetch(ulong mfn, int both);
void tell_crash(ulong mfn, ulong pfn);
void m2p_on(ulong root_mfn);
void m2p_off(void);

/* walks.c */
void walks_off(void);

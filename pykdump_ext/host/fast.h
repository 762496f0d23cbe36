/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What pages.c and walks.c share: the fast reads and walks of a Xen host's dump. */
#pragma once

#include "host_internal.h"
#include "xen_kdump.h"

#define NONE (~0UL)
#define FRAMES (1UL << 40)  /* mfns that a page-table entry can have */
#define PER_PAGE 512        /* entries in a page table, and in a leaf of the p2m */

/* Keep the order of writes: a jump may come between them. */
#define then() __asm__ volatile("" ::: "memory")

extern struct host_fast fast;
extern struct xen_kdump_data *get_xen_kdump_data(void);

/* pages.c */
int read_machine(physaddr_t maddr, void *buffer, int count);
int machine_word(ulong mfn, ulong index, ulong *value);
int p2m_entry(ulong pfn, ulong *entry);
int fast_ready(void);

/* walks.c */
void walks_on(ulong root_mfn);
void walks_off(void);

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crash's walks of a PV kernel's page tables, by machine frames.
 *
 * A page-table entry of a PV kernel holds a machine frame, and m2p.c finds the pfn that crash
 * wants.  What is not certain is crash's own: what vtop prints, errors, large pages, five levels.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - kvtop() and uvtop() (memory.c) call machdep->kvtop and machdep->uvtop, which for a PV kernel go
 *   through x86_64_kvtop_xen_wpt() and x86_64_uvtop_level4_xen_wpt() (x86_64.c).  The top table is
 *   in machdep->pgd; the p2m must have the frame of every other table; an entry of the last level
 *   that is not present becomes a user address's physical one.
 * - machdep_init(POST_GDB) (x86_64.c) sets machdep->uvtop.
 * - While XEN_MACHINE_ADDR is set in pc->curcmd_flags, a walk reads its tables by wrong addresses,
 *   and its search of the p2m clears the flag.
 * - xen_m2p() (kernel.c) returns XEN_MACHADDR_NOT_FOUND for an mfn that the p2m has not.
 */
#include "fast.h"
#include <dlfcn.h>

#define AHEAD 16  /* pages */

static int (*crash_kvtop)(struct task_context *, ulong, physaddr_t *, int);
static int (*crash_uvtop)(struct task_context *, ulong, physaddr_t *, int);

/*
 * Walk from an entry of the top table.  FALSE: not mapped, and *entry is the last level's, or 0.
 * A large page, and a table that is not in the p2m, are crash's: UNKNOWN.
 */
static int
walk(ulong *entry, ulong vaddr, physaddr_t *paddr, int tell)
{
	ulong mfn, pfn, index, *page;
	int shift, found;

	for (shift = 30; shift >= (int)PAGESHIFT(); shift -= 9) {
		if (!(*entry & _PAGE_PRESENT)) {
			*entry = 0;
			return FALSE;
		}
		if (shift < 30 && (*entry & _PAGE_PSE))
			return UNKNOWN;
		mfn = BTOP(*entry & PHYSICAL_PAGE_MASK);
		if (!is_table(mfn, tell) || !(page = words_of(mfn, TRUE)))
			return UNKNOWN;
		index = vaddr >> shift & (PER_PAGE - 1);
		*entry = page[index];
	}
	if (index + AHEAD < PER_PAGE) {  /* commands walk from page to page */
		fetch(BTOP(page[index + AHEAD] & PHYSICAL_PAGE_MASK), FALSE);
		fetch(BTOP(page[index + AHEAD / 2] & PHYSICAL_PAGE_MASK), TRUE);
	}
	if (!(*entry & _PAGE_PRESENT))
		return FALSE;
	mfn = BTOP(*entry & PHYSICAL_PAGE_MASK);
	if ((found = pfn_of(mfn, &pfn)) == UNKNOWN)
		return UNKNOWN;
	if (found && tell)
		tell_crash(mfn, pfn);
	*paddr = ((found ? PTOB(pfn) : XEN_MACHADDR_NOT_FOUND) & PHYSICAL_PAGE_MASK) +
		PAGEOFFSET(vaddr);
	return TRUE;
}

/* Walk from machdep->pgd.  Where crash prints the walk, it makes it, and finds all frames at once. */
static int
walk_from_top(ulong vaddr, physaddr_t *paddr, int verbose, ulong *entry)
{
	physaddr_t unused;
	int found;

	*entry = ((ulong *)machdep->pgd)[vaddr >> 39 & (PER_PAGE - 1)];
	if (verbose) {
		walk(entry, vaddr, &unused, TRUE);
		return UNKNOWN;
	}
	if ((found = walk(entry, vaddr, paddr, FALSE)) == UNKNOWN)
		fast.left++;
	else
		fast.walks++;
	return found;
}

/* Are this kernel's page tables of the kind that we know, with four levels? */
static int
knows_tables(void)
{
	int flags = machdep->flags & VM_FLAGS;

	return fast.on && fast_ready() && !(pc->curcmd_flags & XEN_MACHINE_ADDR) &&
		XEN() && (kt->xen_flags & WRITABLE_PAGE_TABLES) &&
		(flags == VM_XEN || flags == VM_2_6_11) && vt->vmalloc_start;
}

static int
fast_kvtop(struct task_context *tc, ulong vaddr, physaddr_t *paddr, int verbose)
{
	ulong entry;
	int found;

	/* Other addresses are crash's, which walks for them too where it prints the walk. */
	if (knows_tables() && IS_KVADDR(vaddr) && (verbose || IS_VMALLOC_ADDR(vaddr))) {
		FILL_TOP_PGD();
		if ((found = walk_from_top(vaddr, paddr, verbose, &entry)) != UNKNOWN)
			return found;
	}
	return crash_kvtop(tc, vaddr, paddr, verbose);
}

static int
fast_uvtop(struct task_context *tc, ulong vaddr, physaddr_t *paddr, int verbose)
{
	ulong entry;
	int found;

	if (tc && knows_tables() && !IS_KVADDR(vaddr) && task_mm(tc->task, TRUE)) {
		*paddr = 0;
		FILL_PGD(VTOP(ULONG(tt->mm_struct + OFFSET(mm_struct_pgd))), PHYSADDR, PAGESIZE());
		found = walk_from_top(vaddr, paddr, verbose, &entry);
		if (found == FALSE)
			*paddr = entry;
		if (found != UNKNOWN)
			return found;
	}
	return crash_uvtop(tc, vaddr, paddr, verbose);
}

/* ------------------------------------------------------------------ */
/* On and off */

static int
of_crash(void *function)
{
	Dl_info its, crashs;

	return dladdr(function, &its) && dladdr(&pc, &crashs) && its.dli_fbase == crashs.dli_fbase;
}

/*
 * Hook what machdep_init() sets, and may have set again.  A function of another extension stays: it
 * may call ours already.
 */
void
hook_walks(void)
{
	if (!fast.on)
		return;
	if (of_crash(machdep->kvtop)) {
		crash_kvtop = machdep->kvtop;
		machdep->kvtop = fast_kvtop;
	}
	if (of_crash(machdep->uvtop)) {
		crash_uvtop = machdep->uvtop;
		machdep->uvtop = fast_uvtop;
	}
}

void
walks_off(void)
{
	if (machdep->kvtop == fast_kvtop)
		machdep->kvtop = crash_kvtop;
	if (machdep->uvtop == fast_uvtop)
		machdep->uvtop = crash_uvtop;
}

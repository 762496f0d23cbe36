/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crash's walks of a PV kernel's page tables, by machine frames.
 *
 * A page-table entry of a PV kernel holds a machine frame (mfn), and crash wants the domain's own
 * frame (pfn).  crash searches the p2m for it, leaf by leaf from pfn 0 on.  This file asks Xen's
 * machine-to-phys table, checks the answer with the p2m, and where that fails turns the p2m round.
 * What it is not sure of is crash's own: what vtop prints, errors, large pages, five levels.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - kvtop() and uvtop() (memory.c) call machdep->kvtop and machdep->uvtop, which for a PV kernel go
 *   through x86_64_kvtop_xen_wpt() and x86_64_uvtop_level4_xen_wpt() (x86_64.c).  The top table is
 *   in machdep->pgd; the p2m must have the frame of every other table; an entry of the last level
 *   that is not present becomes a user address's physical one.
 * - machdep_init(POST_GDB) (x86_64.c) sets machdep->uvtop.
 * - __xen_m2p() (kernel.c) compares an mfn with entries of the p2m without XEN_FOREIGN_FRAME, first
 *   in the leaves of kt->p2m_mapping_cache.  A leaf's address there is a machine address in
 *   kernels with xen_p2m_addr, and a virtual one in others.
 * - xen_m2p() (kernel.c) returns XEN_MACHADDR_NOT_FOUND for an mfn that no entry has.
 *
 * Xen maps its table into every PV domain at RO_MPT_VIRT_START, an unsigned long for each mfn
 * (xen/include/asm-x86/config.h and xen/include/public/arch-x86/xen-x86_64.h of Xen 4.17).
 */
#include "fast.h"
#include <sys/mman.h>

#define MACH2PHYS 0xffff800000000000UL  /* RO_MPT_VIRT_START */
#define KNOWN 4096                      /* mfns whose pfn is remembered */

static int (*crash_kvtop)(struct task_context *, ulong, physaddr_t *, int);
static int (*crash_uvtop)(struct task_context *, ulong, physaddr_t *, int);
static ulong root;  /* mfn of a top page table with Xen's half in it */

static struct {
	ulong mfn, pfn;
} known[KNOWN];

/*
 * The p2m turned round: a tree of pages with 1,024 entries each, whose last level has pfn + 1 for
 * an mfn.  It is made when Xen's table has no answer, or a wrong one.
 */
static struct {
	uint32_t (*pages)[1024];  /* the top first */
	ulong count;              /* of pages */
	int made;
	int whole;                /* all that the p2m has is in it */
} turned;
#define TURNED_MOST (256UL << 20)  /* bytes */
#define TURNED_BITS 10
#define TURNED_TOP 30              /* the lowest bit of an mfn that the top is indexed by */

/* Xen's own table: the pfn that some domain has this mfn for. */
static int
machine_to_phys(ulong mfn, ulong *pfn)
{
	ulong vaddr = MACH2PHYS + mfn * sizeof(ulong), table = root, entry, below;
	int shift = 39;

	for (;; shift -= 9) {
		if (!machine_word(table, vaddr >> shift & (PER_PAGE - 1), &entry) ||
		    !(entry & _PAGE_PRESENT))
			return FALSE;
		table = BTOP(entry & (PTOB(FRAMES) - PAGESIZE()));
		if (shift == (int)PAGESHIFT())
			break;
		if (shift < 39 && (entry & _PAGE_PSE)) {
			below = (1UL << (shift - PAGESHIFT())) - 1;
			table = (table & ~below) | (BTOP(vaddr) & below);
			break;
		}
	}
	return machine_word(table, mfn % PER_PAGE, pfn);
}

static uint32_t *
turned_entry(ulong mfn, int make)
{
	uint32_t *entry, page = 0;
	int shift;

	for (shift = TURNED_TOP; ; shift -= TURNED_BITS) {
		entry = &turned.pages[page][mfn >> shift & ((1 << TURNED_BITS) - 1)];
		if (!shift)
			return entry;
		if (!*entry && (!make || turned.count == TURNED_MOST / sizeof(*turned.pages)))
			return NULL;
		if (!*entry)
			*entry = turned.count++;
		page = *entry;
	}
}

/* Take the first pfn of each mfn, as crash's search does. */
static int
turn_leaf(ulong first, ulong *leaf)
{
	uint32_t *entry;
	ulong i, mfn;

	for (i = 0; i < PER_PAGE; i++) {
		if ((mfn = leaf[i] & ~XEN_FOREIGN_FRAME) >= FRAMES)
			continue;
		if (!(entry = turned_entry(mfn, TRUE)) || first + i >= UINT32_MAX)
			return FALSE;
		if (!*entry)
			*entry = first + i + 1;
	}
	return TRUE;
}

static void
turn_p2m(void)
{
	struct xen_kdump_data *xkd = get_xen_kdump_data();
	ulong *list = xkd->p2m_mfn_frame_list, leaf[PER_PAGE];
	long i;

	if (turned.pages)
		madvise(turned.pages, TURNED_MOST, MADV_DONTNEED);
	else if ((turned.pages = mmap(NULL, TURNED_MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) == MAP_FAILED) {
		turned.pages = NULL;
		return;
	}
	turned.count = 1;
	turned.whole = FALSE;
	for (i = 0; i < xkd->p2m_frames; i++) {
		if (i && list[i] == list[i - 1])  /* of missing pfns */
			continue;
		if (list[i] >= FRAMES || !read_machine(PTOB(list[i]), leaf, PAGESIZE()) ||
		    !turn_leaf(i * PER_PAGE, leaf))
			break;
	}
	turned.whole = i >= xkd->p2m_frames;
	then();
	turned.made = TRUE;
}

#define UNKNOWN (-1)  /* crash's own search is needed */

/* Find the pfn that crash's p2m has this mfn for; FALSE: none. */
static int
pfn_of(ulong mfn, ulong *pfn)
{
	ulong slot = mfn % KNOWN, entry;
	uint32_t *found;

	if (known[slot].mfn == mfn) {
		*pfn = known[slot].pfn;
		return TRUE;
	}
	if (!machine_to_phys(mfn, pfn) || !p2m_entry(*pfn, &entry) || entry != mfn) {
		if (!turned.made)
			turn_p2m();
		found = turned.made ? turned_entry(mfn, FALSE) : NULL;
		if (!found || !*found)
			return turned.made && turned.whole ? FALSE : UNKNOWN;
		*pfn = *found - 1;
	}
	known[slot].mfn = NONE;
	then();
	known[slot].pfn = *pfn;
	then();
	known[slot].mfn = mfn;
	return TRUE;
}

void
forget_pfns(void)
{
	memset(known, 0xff, sizeof(known));
	turned.made = FALSE;
}

/* Have crash's own search find this mfn at once, in the leaf that has it. */
static void
tell_crash(ulong mfn, ulong pfn)
{
	ulong leaf = pfn / PER_PAGE, c, own;

	for (c = 0; c < P2M_MAPPING_CACHE; c++)
		if (kt->p2m_mapping_cache[c].mapping && kt->p2m_mapping_cache[c].start <= mfn &&
		    mfn <= kt->p2m_mapping_cache[c].end)
			return;
	own = get_xen_kdump_data()->p2m_mfn_frame_list[leaf];
	if (!PVOPS_XEN())
		own = kt->phys_to_machine_mapping + leaf * PAGESIZE();
	else if (symbol_exists("xen_p2m_addr"))
		own = PTOB(own);
	else if (pfn_of(own, &own) == TRUE)
		own = PTOV(PTOB(own));
	else
		return;
	c = kt->p2m_cache_index;
	kt->p2m_mapping_cache[c].start = kt->p2m_mapping_cache[c].end = mfn;
	kt->p2m_mapping_cache[c].mapping = own;
	kt->p2m_mapping_cache[c].pfn = leaf * PER_PAGE;
	kt->p2m_cache_index = (c + 1) % P2M_MAPPING_CACHE;
}

/* ------------------------------------------------------------------ */
/* What crash calls */

/*
 * Walk from an entry of the top table.  FALSE: not mapped, and *entry is the last level's, or 0.
 * A large page, and a table that is not in the p2m, are crash's: UNKNOWN.
 */
static int
walk(ulong *entry, ulong vaddr, physaddr_t *paddr, int tell)
{
	ulong mfn, pfn, own;
	int shift, found;

	for (shift = 30; shift >= (int)PAGESHIFT(); shift -= 9) {
		if (!(*entry & _PAGE_PRESENT)) {
			*entry = 0;
			return FALSE;
		}
		if (shift < 30 && (*entry & _PAGE_PSE))
			return UNKNOWN;
		mfn = BTOP(*entry & PHYSICAL_PAGE_MASK);
		if (pfn_of(mfn, &pfn) != TRUE || !p2m_entry(pfn, &own) || own != mfn ||
		    !machine_word(mfn, vaddr >> shift & (PER_PAGE - 1), entry))
			return UNKNOWN;
		if (tell)
			tell_crash(mfn, pfn);
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

	return fast.on && fast_ready() && XEN() && (kt->xen_flags & WRITABLE_PAGE_TABLES) &&
		(flags == VM_XEN || flags == VM_2_6_11) && vt->vmalloc_start;
}

static int
fast_kvtop(struct task_context *tc, ulong vaddr, physaddr_t *paddr, int verbose)
{
	ulong entry;
	int found;

	if (knows_tables() && IS_KVADDR(vaddr) && IS_VMALLOC_ADDR(vaddr)) {
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

/* Hook what machdep_init() sets, and may have set again. */
void
hook_walks(void)
{
	if (!fast.on)
		return;
	if (machdep->kvtop != fast_kvtop) {
		crash_kvtop = machdep->kvtop;
		machdep->kvtop = fast_kvtop;
	}
	if (machdep->uvtop != fast_uvtop) {
		crash_uvtop = machdep->uvtop;
		machdep->uvtop = fast_uvtop;
	}
}

void
walks_on(ulong root_mfn)
{
	root = root_mfn;
	forget_pfns();
	hook_walks();
}

void
walks_off(void)
{
	if (machdep->kvtop == fast_kvtop)
		machdep->kvtop = crash_kvtop;
	if (machdep->uvtop == fast_uvtop)
		machdep->uvtop = crash_uvtop;
	forget_pfns();
	if (turned.pages)
		munmap(turned.pages, TURNED_MOST);
	turned.pages = NULL;
}

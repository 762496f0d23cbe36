/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From a machine frame (mfn) to the domain's own frame (pfn).
 *
 * Xen's machine-to-phys table gives the pfn, which is right if crash's p2m has that mfn for it.  If
 * it has not, or the dump lacks that table, the p2m is turned round.  crash itself searches the
 * p2m, leaf by leaf from pfn 0 on.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - __xen_m2p() (kernel.c) compares an mfn with entries of the p2m without XEN_FOREIGN_FRAME, first
 *   in the leaves of kt->p2m_mapping_cache.  A leaf's address there is a machine address in
 *   kernels with xen_p2m_addr, and a virtual one in others.
 * - Ctrl-C jumps out of all this (guard.c): what is remembered is marked as none while it changes.
 *
 * Xen maps its table into every PV domain at RO_MPT_VIRT_START, an unsigned long for each mfn
 * (xen/include/asm-x86/config.h and xen/include/public/arch-x86/xen-x86_64.h of Xen 4.17).
 */
#include "fast.h"
#include <sys/mman.h>

#define MACH2PHYS 0xffff800000000000UL  /* RO_MPT_VIRT_START */
#define KNOWN 4096                      /* mfns whose pfn is remembered */
#define TABLES 1024
#define REGIONS 64

static ulong root;  /* mfn of a top page table with Xen's half in it */

static struct {
	ulong mfn, pfn;
} known[KNOWN];

static ulong tables[TABLES];  /* mfns of page tables that the p2m has */

/* Of Xen's table: the mfn at which the large page begins that has the pfns of a range of mfns. */
static struct {
	ulong range, mfn;
} regions[REGIONS];
#define IN_REGION 18  /* bits of an mfn: 2 MiB of unsigned longs */

/*
 * The p2m turned round: a tree of pages with 1,024 entries each, whose last level has pfn + 1 for
 * an mfn.  It is made when Xen's table has no answer, or a wrong one.
 */
static struct {
	uint32_t (*pages)[1024];  /* the top first */
	ulong count;              /* of pages */
	ulong size;               /* bytes that they may take */
	int made;
	int whole;                /* all that the p2m has is in it */
} turned;
#define TURNED_LEAST (256UL << 20)  /* bytes: enough for 256 GiB of the machine's memory */
#define TURNED_MOST (4UL << 30)
#define TURNED_BITS 10
#define TURNED_TOP 30              /* the lowest bit of an mfn that the top is indexed by */

/* Xen's own table: the pfn that some domain has this mfn for. */
static int
machine_to_phys(ulong mfn, ulong *pfn)
{
	ulong vaddr = MACH2PHYS + mfn * sizeof(ulong), table = root, entry, below;
	ulong range = mfn >> IN_REGION, page = mfn / PER_PAGE % PER_PAGE, slot = range % REGIONS;
	int shift = 39;

	if (regions[slot].range == range)
		return machine_word(regions[slot].mfn + page, mfn % PER_PAGE, pfn);
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
			regions[slot].range = NONE;
			then();
			regions[slot].mfn = table - page;
			then();
			regions[slot].range = range;
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
		if (!*entry && (!make || turned.count == turned.size / sizeof(*turned.pages)))
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
free_turned(void)
{
	if (turned.pages)
		munmap(turned.pages, turned.size);
	turned.pages = NULL;
}

static void
turn_p2m(void)
{
	ulong *list = xkd->p2m_mfn_frame_list, leaf[PER_PAGE];
	long i;

	free_turned();
	turned.size = MIN(TURNED_LEAST + 64UL * PER_PAGE * xkd->p2m_frames, TURNED_MOST);
	turned.pages = mmap(NULL, turned.size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (turned.pages == MAP_FAILED) {
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

/* Find the pfn that crash's p2m has this mfn for; FALSE: none. */
int
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
	memset(tables, 0xff, sizeof(tables));
	memset(regions, 0xff, sizeof(regions));
	turned.made = FALSE;
}

/*
 * Have the processor fetch Xen's entry of an mfn that will be asked for soon; with "both" that is
 * there by now, and the p2m's is fetched.
 */
void
fetch(ulong mfn, int both)
{
	ulong range = mfn >> IN_REGION, slot = range % REGIONS, *page, pfn;

	if (regions[slot].range != range ||
	    !(page = words_of(regions[slot].mfn + mfn / PER_PAGE % PER_PAGE, FALSE)))
		return;
	if (both) {
		pfn = page[mfn % PER_PAGE];
		if (pfn / PER_PAGE >= (ulong)xkd->p2m_frames ||
		    !(page = words_of(xkd->p2m_mfn_frame_list[pfn / PER_PAGE], FALSE)))
			return;
		__builtin_prefetch(page + pfn % PER_PAGE);
	} else
		__builtin_prefetch(page + mfn % PER_PAGE);
}

/* Have crash's own search find this mfn at once, in the leaf that has it. */
void
tell_crash(ulong mfn, ulong pfn)
{
	ulong leaf = pfn / PER_PAGE, c, own;

	for (c = 0; c < P2M_MAPPING_CACHE; c++)
		if (kt->p2m_mapping_cache[c].mapping && kt->p2m_mapping_cache[c].start <= mfn &&
		    mfn <= kt->p2m_mapping_cache[c].end)
			return;
	own = xkd->p2m_mfn_frame_list[leaf];
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

/* Does crash's p2m have this page table? */
int
is_table(ulong mfn, int tell)
{
	ulong pfn, entry;

	if (tables[mfn % TABLES] == mfn && !tell)
		return TRUE;
	if (pfn_of(mfn, &pfn) != TRUE || !p2m_entry(pfn, &entry) || entry != mfn)
		return FALSE;
	tables[mfn % TABLES] = mfn;
	if (tell)
		tell_crash(mfn, pfn);
	return TRUE;
}

void
m2p_on(ulong root_mfn)
{
	root = root_mfn;
	forget_pfns();
}

void
m2p_off(void)
{
	forget_pfns();
	free_turned();
}

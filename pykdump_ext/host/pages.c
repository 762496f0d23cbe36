/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crash's reads of a Xen host's dump, from machine pages that are kept: a small read of such a
 * page needs no system call, and in a compressed dump no unpacking.
 *
 * What is not sure to succeed is left to crash's own function, and so are its messages.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - readmem() (memory.c) reads at most to the end of a page, by pc->readmem.  read_kdump()
 *   (netdump.c) and read_diskdump() (diskdump.c) translate the address by xen_kdump_p2m()
 *   (xen_dom0.c), unless XEN_MACHINE_ADDR is set in pc->curcmd_flags.
 * - read_netdump() (netdump.c) looks up the segment of the first byte only.
 * - What a dump lacks reads as zeros while ZERO_EXCLUDED is set; "set zero_excluded" changes that.
 * - read_diskdump() prints why it cannot unpack a page, and a part of it fails as the whole does.
 * - CRASHDEBUG() makes these functions print what they do.
 * - Ctrl-C jumps out of all this (guard.c): a page is marked as none while it changes.
 */
#include "fast.h"
#include <sys/mman.h>

#define SMALL 2048  /* bytes: a read of more does not keep its page */
#define WAYS 4      /* kept pages that the frames of one set share */

extern int read_kdump(int, void *, int, ulong, physaddr_t);
extern int read_diskdump(int, void *, int, ulong, physaddr_t);

struct host_fast fast;
static int (*crash_readmem)(int, void *, int, ulong, physaddr_t);
static ulong *cut;   /* the mfns of pages that the dump has in part, sorted */
static long cuts;
static ulong *list;  /* crash's p2m when m2p.c learned what it knows */
static int failed;   /* what crash's function returned for the last read that failed */
static ulong zeros;  /* ZERO_EXCLUDED when the pages were read */

static struct {
	ulong sets;
	ulong *frames;  /* the mfn of each kept page, WAYS in a set */
	char *used;     /* since it was last passed over */
	ulong *pages;
} kept;

int
read_machine(physaddr_t maddr, void *buffer, int count)
{
	ulong flags = pc->curcmd_flags;
	int got;

	pc->curcmd_flags |= XEN_MACHINE_ADDR;
	got = crash_readmem(pc->dfd, buffer, count, 0, maddr);
	pc->curcmd_flags = flags;
	if (got != count)
		failed = got;
	return got == count;
}

static int
compare_frames(const void *one, const void *other)
{
	ulong a = *(ulong *)one, b = *(ulong *)other;

	return (a > b) - (a < b);
}

/* Return the page of this mfn if it is kept; with "keep", read it if it is not.  NULL: there is none. */
ulong *
words_of(ulong mfn, int keep)
{
	ulong first = (mfn & (kept.sets - 1)) * WAYS, i;

	for (i = first; i < first + WAYS; i++)
		if (kept.frames[i] == mfn) {
			fast.hits += keep;
			kept.used[i] = TRUE;
			return kept.pages + i * PER_PAGE;
		}
	if (!keep || mfn >= FRAMES || bsearch(&mfn, cut, cuts, sizeof(*cut), compare_frames))
		return NULL;

	for (i = first; i < first + WAYS - 1 && kept.used[i]; i++)
		kept.used[i] = FALSE;
	kept.frames[i] = NONE;
	then();
	fast.misses++;
	if (!read_machine(PTOB(mfn), kept.pages + i * PER_PAGE, PAGESIZE()))
		return NULL;
	then();
	kept.frames[i] = mfn;
	kept.used[i] = TRUE;
	return kept.pages + i * PER_PAGE;
}

int
machine_word(ulong mfn, ulong index, ulong *value)
{
	ulong *page = words_of(mfn, TRUE);

	if (page)
		*value = page[index];
	return !!page;
}

/* What crash's p2m has for this pfn. */
int
p2m_entry(ulong pfn, ulong *entry)
{
	return (xkd->flags & KDUMP_P2M_INIT) && pfn / PER_PAGE < (ulong)xkd->p2m_frames &&
		machine_word(xkd->p2m_mfn_frame_list[pfn / PER_PAGE], pfn % PER_PAGE, entry);
}

static void
forget_pages(void)
{
	memset(kept.frames, 0xff, kept.sets * WAYS * sizeof(ulong));
}

/* Forget what has changed.  FALSE: crash prints what it does, and so does it. */
int
fast_ready(void)
{
	if (CRASHDEBUG(1))
		return FALSE;
	if (list != xkd->p2m_mfn_frame_list) {
		forget_pfns();
		then();
		list = xkd->p2m_mfn_frame_list;
	}
	if (zeros != (*diskdump_flags & ZERO_EXCLUDED)) {
		forget_pages();
		forget_pfns();
		then();
		zeros = *diskdump_flags & ZERO_EXCLUDED;
	}
	return TRUE;
}

static int
fast_readmem(int fd, void *buffer, int count, ulong vaddr, physaddr_t paddr)
{
	ulong offset = PAGEOFFSET(paddr), mfn = BTOP(paddr);
	ulong *page;

	failed = 0;
	if (fast.on && count > 0 && offset + count <= PAGESIZE() && fast_ready() &&
	    ((pc->curcmd_flags & XEN_MACHINE_ADDR) || p2m_entry(mfn, &mfn)) && mfn < FRAMES) {
		if ((page = words_of(mfn, count <= SMALL))) {
			memcpy(buffer, (char *)page + offset, count);
			return count;
		}
		if (!failed && read_machine(PTOB(mfn) + offset, buffer, count))
			return count;
		if (failed && crash_readmem == read_diskdump)  /* it has printed why */
			return failed;
	}
	return crash_readmem(fd, buffer, count, vaddr, paddr);
}

/* ------------------------------------------------------------------ */
/* On and off */

static int
keep_pages(ulong bytes)
{
	ulong sets = 1;

	while (sets * 2 * WAYS * PAGESIZE() <= bytes)
		sets *= 2;
	kept.sets = sets;
	kept.frames = malloc(sets * WAYS * sizeof(ulong));
	kept.used = calloc(sets, WAYS);
	kept.pages = mmap(NULL, sets * WAYS * PAGESIZE(), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!kept.frames || !kept.used || kept.pages == MAP_FAILED)
		return FALSE;
	madvise(kept.pages, sets * WAYS * PAGESIZE(), MADV_HUGEPAGE);
	fast.size = sets * WAYS * PAGESIZE();
	forget_pages();
	return TRUE;
}

int
host_fast_on(uint64_t root, uint64_t *frames, long count, uint64_t bytes)
{
	if (foreign_thread())
		return HOST_WRONG_THREAD;
	if (!XEN_CORE_DUMPFILE() || XEN_HYPER_MODE() || (pc->readmem != read_kdump &&
	    pc->readmem != read_diskdump && pc->readmem != fast_readmem)) {
		host_set_message("crash does not read this dump as that of a Xen host's dom0, or"
			" another extension reads it in place of crash");
		return HOST_ERROR;
	}
	host_fast_off();
	if (!keep_pages(bytes) || !(cut = malloc((count + 1) * sizeof(ulong)))) {
		host_fast_off();
		host_set_message("not enough memory for the pages to keep");
		return HOST_ERROR;
	}
	memcpy(cut, frames, count * sizeof(ulong));
	cuts = count;
	qsort(cut, cuts, sizeof(*cut), compare_frames);
	zeros = *diskdump_flags & ZERO_EXCLUDED;
	list = xkd->p2m_mfn_frame_list;
	crash_readmem = pc->readmem;
	pc->readmem = fast_readmem;
	fast.on = TRUE;
	m2p_on(BTOP(root));
	hook_walks();
	return HOST_OK;
}

int
host_fast_off(void)
{
	if (foreign_thread())
		return HOST_WRONG_THREAD;
	if (pc->readmem == fast_readmem)
		pc->readmem = crash_readmem;
	walks_off();
	m2p_off();
	free(kept.frames);
	free(kept.used);
	free(cut);
	if (kept.pages && kept.pages != MAP_FAILED)
		munmap(kept.pages, kept.sets * WAYS * PAGESIZE());
	BZERO(&kept, sizeof(kept));
	BZERO(&fast, sizeof(fast));
	cut = NULL;
	return HOST_OK;
}

void
host_get_fast(struct host_fast *state)
{
	ulong i;

	*state = fast;
	for (i = 0; i < kept.sets * WAYS; i++)
		state->kept += kept.frames[i] != NONE;
}

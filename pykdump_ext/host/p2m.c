/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crash's list of p2m leaves: replaced by the rebuilt list, and restored.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - While KDUMP_P2M_INIT is not set, a read makes xen_kdump_p2m() (xen_dom0.c) build the list
 *   and allocate xkd->page; later it only looks up pfn / 512 in the list.
 * - xkd->page holds the leaf xkd->last_mfn_read; machdep's last_..._read (x86_64.c) name the
 *   page-table pages that were read through the list.
 * - get_xen_kdump_data() (xen_dom0.c) is exported, but its struct is not in defs.h.
 */
#include "host_internal.h"
#include "xen_kdump.h"

#define NO_PAGE 1  /* no address of a page */

extern struct xen_kdump_data *get_xen_kdump_data(void);

/* What crash had before host_set_p2m() */
static struct {
	int saved;
	ulong flags;
	ulong *leaves;
	int count;
} original_p2m;

static int preloaded;

/*
 * Remember whether this crash is preloaded, and remove that from the environment: a crash that
 * this one starts is not.
 */
void
note_preload(void)
{
	preloaded = !!getenv(ENV_PRELOADED);
	unsetenv(ENV_PRELOADED);
}

static void
put_p2m(ulong *leaves, int count, ulong flags)
{
	struct xen_kdump_data *xkd = get_xen_kdump_data();

	xkd->p2m_mfn_frame_list = leaves;
	xkd->p2m_frames = count;
	xkd->last_mfn_read = ~0UL;
	xkd->flags = (xkd->flags & ~KDUMP_P2M_INIT) | (flags & KDUMP_P2M_INIT);
	/*
	 * Page-table pages that were read through the other list.  Not ~0: xen_m2p() (kernel.c)
	 * returns that for a frame that it does not find, and crash would use the old page.
	 */
	machdep->last_pud_read = machdep->last_pmd_read = machdep->last_ptbl_read = NO_PAGE;
	forget_pfns();
}

/* Make crash translate by a copy of this list (the mfn of each leaf). */
int
host_set_p2m(uint64_t *leaves, int count)
{
	struct xen_kdump_data *xkd = get_xen_kdump_data();
	ulong *copy, *old = xkd->p2m_mfn_frame_list;

	if (foreign_thread())
		return HOST_WRONG_THREAD;
	if (!XEN_CORE_DUMPFILE() || !(xkd->flags & KDUMP_MFN_LIST) || (xkd->flags & ~0x7UL)) {
		host_set_message("crash has no p2m of a Xen dom0");
		return HOST_ERROR;
	}
	if ((!xkd->page && !(xkd->page = malloc(PAGESIZE()))) ||
	    !(copy = malloc(count * sizeof(ulong)))) {
		host_set_message("not enough memory for the rebuilt list");
		return HOST_ERROR;
	}
	memcpy(copy, leaves, count * sizeof(ulong));
	if (!original_p2m.saved) {
		original_p2m.saved = TRUE;
		if (!preloaded) {
			original_p2m.flags = xkd->flags;
			original_p2m.leaves = old;
			original_p2m.count = xkd->p2m_frames;
			old = NULL;
		} /* else this crash has never built a list of its own */
	}
	put_p2m(copy, count, KDUMP_P2M_INIT);
	free(old);
	return HOST_OK;
}

int
host_p2m_is_set(void)
{
	return original_p2m.saved;
}

/* Give crash its own list back; if it had none, it builds one at its next read. */
int
host_undo_p2m(void)
{
	ulong *ours = get_xen_kdump_data()->p2m_mfn_frame_list;

	if (foreign_thread())
		return HOST_WRONG_THREAD;
	if (!original_p2m.saved)
		return HOST_OK;
	put_p2m(original_p2m.leaves, original_p2m.count, original_p2m.flags);
	original_p2m.saved = FALSE;
	free(ours);
	return HOST_OK;
}

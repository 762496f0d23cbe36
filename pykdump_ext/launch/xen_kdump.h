/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crash's p2m of a Xen host's dump: struct xen_kdump_data of xen_dom0.h, which is not in
 * defs.h.  It is the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2.
 */
#pragma once

struct xen_kdump_data {
	unsigned long flags;
	unsigned long cr3;
	unsigned long p2m_mfn;
	char *page;
	unsigned long last_mfn_read;
	unsigned long last_pmd_read;
	unsigned long cache_hits;
	unsigned long accesses;
	int p2m_frames;
	unsigned long *p2m_mfn_frame_list;
	unsigned long xen_phys_start;
	int xen_major_version;
	int xen_minor_version;
};
#define KDUMP_P2M_INIT (0x1)
#define KDUMP_MFN_LIST (0x4)

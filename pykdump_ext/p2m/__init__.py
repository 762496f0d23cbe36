# SPDX-License-Identifier: GPL-3.0-or-later
"""A PV kernel's map from pseudo-physical to machine frames (p2m), and its frame list.

``layouts`` reads the p2m from where a kernel version keeps it, ``without_namelist`` from
the place that the kernel publishes in shared_info. ``framelist`` reads and builds the list
that crash tools use, ``coverage`` compares the two, and ``diagnosis`` does all of this for
a dump. ``ranges``, ``verify`` and ``failure`` work on the result; ``listpages`` makes the
pages of a list.
"""

# SPDX-License-Identifier: GPL-3.0-or-later
"""A PV domain as it would be without Xen: its memory, and a dump of it."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisor in machine memory: its notes, frame table, domains and vcpus."""

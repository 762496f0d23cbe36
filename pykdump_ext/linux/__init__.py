# SPDX-License-Identifier: GPL-3.0-or-later
"""A Linux kernel in machine memory: its namelist, its values, proof of its page-table root."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""A crash process for a dump: its command line, its environment, its frame list."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes behind machine addresses: dump files, their formats and notes, page tables."""

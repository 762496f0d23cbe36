# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``make bench`` and ``make bench-speed`` run."""

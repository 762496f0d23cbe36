# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: real Xen dom0 dumps, made on this machine from distribution packages.

Nothing here needs KVM, a second machine or a network beyond the package
archive.  ``python -m tests.lab`` makes everything and prints where it is.
"""

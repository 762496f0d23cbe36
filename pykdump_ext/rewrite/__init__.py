# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of dumps with the rebuilt list in them, for plain crash and other tools."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The output about a dump: reports, views of the p2m, maps, pictures, web pages."""

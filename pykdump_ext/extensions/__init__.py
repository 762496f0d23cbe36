# SPDX-License-Identifier: GPL-3.0-or-later
"""The extensions of this package; ``extend NAME.py`` finds them from any folder."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The colours of maps and pictures, as people see them."""

from __future__ import annotations

import itertools
import math

import pytest

from pykdump_ext.reports.map_legend import LOOKS

# What the colour-blind see of linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based
# Model for Simulation of Color Vision Deficiency" (2009), severity 1.0
SEEN_BY = {
    "everybody": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopes": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopes": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopes": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
# From linear sRGB to CIE XYZ, each row divided by the white point's value (IEC 61966-2-1, D65)
TO_XYZ = (
    (0.4124 / 0.9505, 0.3576 / 0.9505, 0.1805 / 0.9505),
    (0.2126, 0.7152, 0.0722),
    (0.0193 / 1.089, 0.1192 / 1.089, 0.9505 / 1.089),
)
Matrix = tuple[tuple[float, float, float], ...]


def times(matrix: Matrix, vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


def lab(colour: str, seen: Matrix) -> list[float]:
    """Return the CIELAB coordinates of ``#rrggbb`` as somebody sees it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    xyz = times(TO_XYZ, [min(1.0, max(0.0, c)) for c in times(seen, linear)])
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


@pytest.mark.parametrize("people", SEEN_BY)
def test_the_colours_of_pictures_differ(people: str) -> None:
    for one, other in itertools.combinations(LOOKS, 2):
        seen = [lab(look.colour, SEEN_BY[people]) for look in (one, other)]
        assert math.dist(*seen) > 15, (one, other)  # 2.3 is the least that people notice


def test_letters_and_the_styles_of_terminals_differ() -> None:
    assert len({look.letter for look in LOOKS}) == len({look.style for look in LOOKS}) == len(LOOKS)

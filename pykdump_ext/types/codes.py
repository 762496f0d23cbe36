# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of C types, as numbers.

The numbers are those of ``enum type_code`` of gdb 8.0 and newer (gdb/gdbtypes.h), whatever gdb the
running crash has: crash 7's gdb 7.6 differs in ``TYPE_CODE_BOOL``, which is 20 there.  Programs
compare the names and never know the numbers.
"""

from __future__ import annotations

__all__ = [
    "TYPE_CODE_ARRAY", "TYPE_CODE_BOOL", "TYPE_CODE_ENUM", "TYPE_CODE_FLT", "TYPE_CODE_FUNC",
    "TYPE_CODE_INT", "TYPE_CODE_PTR", "TYPE_CODE_STRUCT", "TYPE_CODE_UNION", "TYPE_CODE_VOID",
]  # fmt: skip

TYPE_CODE_PTR = 1
TYPE_CODE_ARRAY = 2
TYPE_CODE_STRUCT = 3
TYPE_CODE_UNION = 4
TYPE_CODE_ENUM = 5
TYPE_CODE_FUNC = 7
TYPE_CODE_INT = 8
TYPE_CODE_FLT = 9
TYPE_CODE_VOID = 10
TYPE_CODE_BOOL = 21

# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of C types as numbers, for the module crash: those of ``types.codes``."""

from __future__ import annotations

from ..types.codes import (
    TYPE_CODE_ARRAY,
    TYPE_CODE_BOOL,
    TYPE_CODE_ENUM,
    TYPE_CODE_FLT,
    TYPE_CODE_FUNC,
    TYPE_CODE_INT,
    TYPE_CODE_PTR,
    TYPE_CODE_STRUCT,
    TYPE_CODE_UNION,
    TYPE_CODE_VOID,
)

__all__ = [
    "TYPE_CODE_ARRAY", "TYPE_CODE_BOOL", "TYPE_CODE_ENUM", "TYPE_CODE_FLT", "TYPE_CODE_FUNC",
    "TYPE_CODE_INT", "TYPE_CODE_PTR", "TYPE_CODE_STRUCT", "TYPE_CODE_UNION", "TYPE_CODE_VOID",
]  # fmt: skip

# SPDX-License-Identifier: GPL-3.0-or-later
# The module that cffi embeds in crash_host.so; see pykdump_ext/host/host.h
from typing import Any

ffi: Any
lib: Any

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the C files of p2m_preload.so share. */
#pragma once

/* index_cache.c: takes the folder for gdb's index out of the environment, and has gdb use it. */
void use_index_cache(void);

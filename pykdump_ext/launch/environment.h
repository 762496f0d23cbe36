/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The environment variables that the C code sets or reads.  No other C file names them;
 * tests/unit/test_environment.py compares them with Python's.
 */
#pragma once

/* Set by preload.py, read by preload.c: the file descriptor of the list, an 8-byte mfn per leaf; empty: no list */
#define ENV_P2M "PYKDUMP_EXT_P2M"

/* Set by preload.py, read by preload.c: the user's own LD_PRELOAD, which crash's children get */
#define ENV_LD_PRELOAD "PYKDUMP_EXT_LD_PRELOAD"

/* Set by preload.c, read by p2m.c: this crash is preloaded, it has the list since its start */
#define ENV_PRELOADED "PYKDUMP_EXT_PRELOADED"

/* Set by restart.py, read by session.c: a file with the command history of the previous crash */
#define ENV_HISTORY "PYKDUMP_EXT_HISTORY"

/* Set by command_line.py, read by full_session.py, ending.py, leave.c, session.c and preload.c: p2mfix starts this session */
#define ENV_AFTERWARDS "PYKDUMP_EXT_AFTERWARDS"

/* Set by preload.py, read by preload.c and full_session.py: this crash is to have the list */
#define ENV_REPAIRED "PYKDUMP_EXT_REPAIRED"

/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the C files of crash_host.so share with each other and do not show to Python. */
#pragma once

#define _GNU_SOURCE
#include "defs.h"
#include "environment.h"
#include "host.h"

/* guard.c */
void guard_start(void);
int guarded(void (*body)(void *), void *arg, FILE *echo, int pass);
int quietly(void (*body)(void *), void *arg);
int foreign_thread(void);
void sigint_to_python(struct sigaction *crashs);

/* commands.c */
int register_commands(void);
void take_over_extend(void);

/* p2m.c */
void note_preload(void);

/* tasks.c */
void init_tasks(void);

/* python.c, and the functions of host/engine.py that cffi embeds */
const char *python_start(const char *library);
int python_command(char *name, int argc, char **argv);
char *python_complete(char *text, int state);

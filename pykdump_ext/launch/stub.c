/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * stub.so: what the line in .crashrc loads, so that it harms no session once the package is gone.
 *
 * pykdump-ext setup copies it into the user's data folder, with a link to crash_host.so beside it.
 * If the link leads to a file, the stub loads it; otherwise the session goes on without a word.
 * The stub needs no header of crash and no Python, so it stays good when crash changes.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - load_extension() (extensions.c) reports a library that registers no commands, and
 *   register_extension() one that has none for minimal mode: so there is a hidden one.
 * - The layout of struct command_table_entry and its flags (defs.h).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>
#include "drop.h"
#include "stub.h"

#define HIDDEN_COMMAND 0x2
#define MINIMAL 0x8

struct command_table_entry {
	char *name;
	void (*func)(void);
	char **help_data;
	unsigned long flags;
};

extern int argcnt;
extern void register_extension(struct command_table_entry *);
extern struct command_table_entry *get_command_table_entry(char *);

/* A line "pykdump_ext NAME.py" of .crashrc loads an extension; here it does nothing. */
static void
explain(void)
{
	if (argcnt == 1)
		fprintf(fp, "pykdump_ext is not installed any more: install it and run pykdump-ext"
			" setup, or delete the line from .crashrc\n");
}

static char *help[] = {
	"pykdump_ext", "say why Python is not in this session", " ",
	"  This command takes the place of pykdump_ext, which is not installed any more.", NULL
};

static struct command_table_entry commands[] = {
	{ "pykdump_ext", explain, help, HIDDEN_COMMAND | MINIMAL },
	{ NULL }
};

__attribute__((constructor)) static void
load(void)
{
	char host[PATH_MAX + sizeof(STUB_LINK)];
	Dl_info info;

	if (!dladdr(load, &info))
		return;
	snprintf(host, sizeof(host), "%s" STUB_LINK, info.dli_fname);
	if (!access(host, F_OK)) {
		if (!dlopen(host, RTLD_NOW | RTLD_GLOBAL))
			fprintf(stderr, "pykdump_ext: %s\n", dlerror());
		return;
	}
	if (get_command_table_entry(commands[0].name))
		return;
	register_extension(commands);
	drop_next_message();
}

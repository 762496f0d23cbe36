/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A part of p2m_preload.so: has crash's gdb keep its index of the kernel in a folder of the cache.
 *
 * Facts, the same in crash 8.0.2, 8.0.6 (gdb 10.2) and 9.0.2 (gdb 16.2); crash 7.2.9 (gdb 7.6) has
 * no such cache, and so none of the two symbols:
 * - _initialize_index_cache() (gdb/dwarf2/index-cache.c) asks getenv() for XDG_CACHE_HOME, and
 *   takes the folder "gdb" in it; no other part of crash or its gdb asks.
 * - That is before gdb reads any .gdbinit, whose settings therefore count, and any symbols.
 * - index_cache::enable() is a function of one argument, the object; it does not look at it first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "environment.h"
#include "preload.h"

static char *folder;
static void *cache;
static void (*enable)(void *);

void
use_index_cache(void)
{
	char *given = getenv(ENV_INDEX);

	if (!given)
		return;
	folder = strdup(given);
	unsetenv(ENV_INDEX);
	cache = dlsym(RTLD_DEFAULT, "global_index_cache");
	*(void **)&enable = dlsym(RTLD_DEFAULT, "_ZN11index_cache6enableEv");
}

/* Returns whether an address is in the program that has gdb's cache, and not in a library. */
static int
is_of_crash(void *address)
{
	Dl_info asks, has;

	return dladdr(address, &asks) && dladdr(cache, &has) && asks.dli_fbase == has.dli_fbase;
}

/* Takes the place of the C library's. */
char *
getenv(const char *name)
{
	static char *(*original)(const char *);

	if (folder && cache && enable && !strcmp(name, "XDG_CACHE_HOME") &&
	    is_of_crash(__builtin_return_address(0))) {
		enable(cache);
		return folder;
	}
	if (!original)
		*(void **)&original = dlsym(RTLD_NEXT, "getenv");
	return original(name);
}

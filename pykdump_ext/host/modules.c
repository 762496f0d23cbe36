/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The modules whose symbols crash has loaded, with mod -s.
 *
 * These functions only read crash's table, so they need no guard.
 */
#include "host_internal.h"

char *
host_module_file(int number)
{
	struct load_module *module = st->load_modules;
	int left;

	for (left = module ? st->mods_installed : 0; left; left--, module++)
		if ((module->mod_flags & MOD_LOAD_SYMS) && !number--)
			return module->mod_namelist;
	return NULL;
}

/* The hash is FNV-1a. */
uint64_t
host_module_set(void)
{
	uint64_t hash = 0xcbf29ce484222325;
	struct load_module *module = st->load_modules;
	unsigned char *byte;
	int left;

	for (left = module ? st->mods_installed : 0; left; left--, module++) {
		if (!(module->mod_flags & MOD_LOAD_SYMS))
			continue;
		for (byte = (unsigned char *)module->mod_namelist; *byte; byte++)
			hash = (hash ^ *byte) * 0x100000001b3;
		hash = (hash ^ module->mod_base) * 0x100000001b3;
	}
	return hash;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crash's command tables: what is in them, and the entries of extensions in Python.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - crash's own commands are in pc->cmd_table, which is writable; those of extensions are in
 *   extension_table, the last loaded first (load_extension() of extensions.c).
 * - help and extend list the commands in extension_table, once help_init() (help.c) has run.
 * - unload_extension() (extensions.c) calls dlclose(ext->handle) on every entry, so each entry
 *   of ours has a handle.
 * - exec_command() (main.c) reads the name of a command again after the command has returned.
 * - register_extension() (extensions.c) deletes an alias that has the name of a new command.
 */
#include "host_internal.h"
#include <dlfcn.h>

/* ------------------------------------------------------------------ */
/* Look-ups in the tables */

struct command_table_entry *
entry_named(struct command_table_entry *table, char *name)
{
	for (; table->name; table++)
		if (STREQ(table->name, name))
			return table;
	return NULL;
}

int
host_command_kind(char *name)
{
	struct command_table_entry *entry = entry_named(pc->cmd_table, name);
	struct extension_table *ext;

	for (ext = extension_table; ext && !entry; ext = ext->next)
		entry = entry_named(ext->command_table, name);
	if (!entry)
		return HOST_NO_COMMAND;
	return entry->flags & MINIMAL ? HOST_MINIMAL_COMMAND : HOST_FULL_COMMAND;
}

char *
host_extension(int number)
{
	struct extension_table *ext;

	for (ext = extension_table; ext && number; ext = ext->next)
		number--;
	return ext ? ext->filename : NULL;
}

/* ------------------------------------------------------------------ */
/* Changes of the tables */

static void
update_help(void *unused)
{
	help_init();
}

struct extension_table *
add_table(char *filename, struct command_table_entry *table)
{
	struct extension_table *ext = calloc(1, sizeof(*ext) + strlen(filename) + 1);

	if (!ext)
		return NULL;
	ext->filename = strcpy((char *)(ext + 1), filename);
	ext->command_table = table;
	ext->flags = REGISTERED;
	ext->handle = dlopen(host_path(), RTLD_NOW | RTLD_NOLOAD);
	ext->next = extension_table;
	if (extension_table)
		extension_table->prev = ext;
	extension_table = ext;
	quietly(update_help, NULL);
	return ext;
}

static void
delete_alias(void *name)
{
	if (!is_alias(name))
		return;
	error(INFO, "alias \"%s\" deleted: name clash with extension command\n", (char *)name);
	deallocate_alias(name);
}

static void
fill_entry(struct command_table_entry *entry, char *name, char **help, int minimal)
{
	guarded(delete_alias, name, NULL, TRUE);
	entry->name = name;
	entry->func = python_entry;
	entry->help_data = help;
	entry->flags = minimal ? MINIMAL : 0;
}

void *
host_add_extension(char *filename, int count, char **names, char ***help, int *minimal)
{
	struct command_table_entry *table = calloc(count + 1, sizeof(*table));
	struct extension_table *ext;
	int i;

	if (!table)
		return NULL;
	for (i = 0; i < count; i++)
		fill_entry(&table[i], names[i], help[i], minimal[i]);
	if (!(ext = add_table(filename, table)))
		free(table);
	return ext;
}

/* The old table stays: crash may be running a command of it. */
int
host_add_command(void *extension, char *name, char **help, int minimal)
{
	struct extension_table *ext = extension;
	struct command_table_entry *table;
	int count = 0;

	while (ext->command_table[count].name)
		count++;
	if (!(table = calloc(count + 2, sizeof(*table))))
		return FALSE;
	memcpy(table, ext->command_table, count * sizeof(*table));
	fill_entry(&table[count], name, help, minimal);
	ext->command_table = table;
	quietly(update_help, NULL);
	return TRUE;
}

void
host_remove_extension(void *extension)
{
	struct extension_table *ext;

	for (ext = extension_table; ext; ext = ext->next) {
		if (ext != extension)
			continue;
		if (ext->prev)
			ext->prev->next = ext->next;
		else
			extension_table = ext->next;
		if (ext->next)
			ext->next->prev = ext->prev;
		/*
		 * Nothing is freed: crash may be running a command of this
		 * table, whose name is in pc->curcmd and pc->lastcmd.
		 */
		if (ext->handle)
			dlclose(ext->handle);
		quietly(update_help, NULL);
		return;
	}
}

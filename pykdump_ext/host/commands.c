/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Commands: crash's command tables, the commands of Python extensions, extend and help.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - crash's own commands are in pc->cmd_table, which is writable; those of extensions are in
 *   extension_table, the last loaded first (load_extension() of extensions.c).
 * - help and extend list the commands in extension_table, once help_init() (help.c) has run.
 * - unload_extension() (extensions.c) calls dlclose(ext->handle) on every entry, so each entry
 *   of ours has a handle.
 * - load_extension() (extensions.c) relies on the library's constructor to register commands;
 *   dlopen() does not run the constructor again for a library that has stayed in memory.
 * - exec_command() (main.c) reads the name of a command again after the command has returned.
 * - parse_line() (tools.c) ends the words of pc->command_line in place and drops double quotes;
 *   pc->orig_line keeps the line, but without what resolve_aliases() (cmdline.c) put into it.
 */
#include "host_internal.h"
#include <dlfcn.h>

static void command(void);

static char *help_py[] = {
	"py",
	"run Python inside crash",
	"[-c code | file] [args]",
	"  Run a Python script, with its arguments in sys.argv; or the code that",
	"  follows -c; or, without either, open a Python prompt, with history, and",
	"  Tab for names, that Ctrl-D or exit() closes.",
	"  The module \"crash\" reads the memory and the symbols of the kernel.",
	"  Code is best put between quotes, as in a shell: outside of quotes and",
	"  parentheses crash takes | and > for a pipe and a file.",
	"\nEXAMPLES",
	"  Print the number of processors:\n",
	"    %s> py -c 'print(crash.readInt(crash.sym2addr(\"nr_cpu_ids\"), 4))'",
	"    4\n",
	"  Read the kernel's banner:\n",
	"    %s> py",
	"    >>> import crash",
	"    >>> crash.readmem(crash.sym2addr(\"linux_banner\"), 13)",
	"    b'Linux version'",
	NULL
};

static struct command_table_entry own_commands[] = {
	{ "py", command, help_py, MINIMAL },
	{ NULL }
};

static cmd_func_t original_extend;

/* ------------------------------------------------------------------ */
/* Look-ups in the tables */

static struct command_table_entry *
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

static struct extension_table *
own_entry(void)
{
	struct extension_table *ext;

	for (ext = extension_table; ext; ext = ext->next)
		if (ext->command_table == own_commands)
			return ext;
	return NULL;
}

/* ------------------------------------------------------------------ */
/* Changes of the tables */

static void
update_help(void *unused)
{
	help_init();
}

static struct extension_table *
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

void *
host_add_extension(char *filename, int count, char **names, char ***help, int *minimal)
{
	struct command_table_entry *table = calloc(count + 1, sizeof(*table));
	struct extension_table *ext;
	int i;

	if (!table)
		return NULL;
	for (i = 0; i < count; i++) {
		table[i].name = names[i];
		table[i].func = command;
		table[i].help_data = help[i];
		table[i].flags = minimal[i] ? MINIMAL : 0;
	}
	if (!(ext = add_table(filename, table)))
		free(table);
	return ext;
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

/* ------------------------------------------------------------------ */
/* extend, for shared objects */

/* This library itself, or the stub in the user's data folder that has a link to it */
static int
is_own_file(char *name)
{
	char link[PATH_MAX];

	if (!file_exists(name, NULL))
		return FALSE;
	if (snprintf(link, PATH_MAX, "%s" STUB_LINK, name) < PATH_MAX && file_exists(link, NULL))
		name = link;
	return same_file(name, host_path());
}

static void
do_load(void *name)
{
	if (!is_own_file(name))
		load_extension(name);
	else if (own_entry())
		fprintf(fp, "%s: shared object already loaded\n", host_path());
	else { /* it was unloaded, but has stayed in memory */
		if (!add_table(host_path(), own_commands)) {
			host_set_message("not enough memory for crash's table of commands");
			RESTART(); /* out of guarded() */
		}
		fprintf(fp, "%s: shared object loaded\n", host_path());
	}
}

static void
do_unload(void *name)
{
	unload_extension(name);
}

static void
do_original_extend(void *unused)
{
	optind = 0;
	original_extend();
}

int
host_load_object(char *name)
{
	return guarded(do_load, name, NULL, TRUE);
}

int
host_unload_object(char *name)
{
	return guarded(do_unload, name, NULL, TRUE);
}

int
host_original_extend(void)
{
	return guarded(do_original_extend, NULL, NULL, TRUE);
}

/* ------------------------------------------------------------------ */
/* What crash calls */

char *
host_typed(int number)
{
	static char typed[BUFSIZE];
	size_t start, end = 0;
	int i;

	if (number >= argcnt)
		return "";
	for (i = number; i < argcnt; i++) {
		start = args[i] - pc->command_line;
		end = start + strlen(args[i]);
		if (end >= BUFSIZE || strncmp(pc->orig_line + start, args[i], end - start))
			return NULL;
	}
	start = args[number] - pc->command_line;
	if (pc->orig_line[start - 1] == '"')
		start--;
	if (pc->orig_line[end] == '"')
		end++;
	snprintf(typed, sizeof(typed), "%.*s", (int)(end - start), pc->orig_line + start);
	return typed;
}

/* The function of every command that is written in Python. */
static void
command(void)
{
	struct sigaction crash_sigint;
	int result;

	ready_python();
	sigint_to_python(&crash_sigint);
	result = python_command(pc->curcmd, argcnt, args);
	if (result == HOST_LEAVE)
		leave_session();
	set_handler(SIGINT, &crash_sigint, NULL);

	/* No Python frame is left on the stack: crash may jump now. */
	if (result == HOST_INTERRUPTED)
		raise(SIGINT);
	else if (result == HOST_ERROR)
		error(FATAL, "%s\n", host_message());
}

static int
ends_with(const char *word, const char *end)
{
	size_t length = strlen(word), of_end = strlen(end);

	return (length > of_end) && STREQ(word + length - of_end, end);
}

/*
 * Python's extend for .py files, for this library, for a name that is no file (it may lack its
 * .py), and for all that is to be unloaded; crash's extend for the rest.
 */
static void
extend_command(void)
{
	int i, ours = FALSE, self = FALSE, unload = FALSE;

	for (i = 1; i < argcnt; i++) {
		if (STREQ(args[i], "-u"))
			unload = TRUE;
		else if (args[i][0] == '-')
			continue;
		else if (!file_exists(args[i], NULL) || is_directory(args[i]))
			ours |= !ends_with(args[i], ".so");
		else if (ends_with(args[i], ".py"))
			ours = TRUE;
		else if (is_own_file(args[i]))
			self = TRUE;
	}
	/* While this library is unloaded, crash's extend handles all files but this library. */
	if (own_entry() ? ours || self || unload : self && !unload)
		command();
	else
		original_extend();
}

/* ------------------------------------------------------------------ */
/* Loading this library: its constructor calls these functions, during load_extension() */

int
register_commands(void)
{
	register_extension(own_commands);
	if (!(pc->curext->flags & REGISTERED))
		return FALSE;
	if (!same_file(pc->curext->filename, host_path())) /* the stub loads this library */
		pc->curext->filename = host_path();
	return TRUE;
}

/* Make func the function of crash's own command, and return the one that it had. */
cmd_func_t
take_over(char *name, cmd_func_t func)
{
	struct command_table_entry *entry = entry_named(pc->cmd_table, name);
	cmd_func_t original = entry ? entry->func : NULL;

	if (entry)
		entry->func = func;
	return original;
}

void
take_over_extend(void)
{
	original_extend = take_over("extend", extend_command);
}

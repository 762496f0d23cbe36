/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Commands: those of this library, extend, and what crash calls for a command in Python.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - load_extension() (extensions.c) relies on the library's constructor to register commands;
 *   dlopen() does not run the constructor again for a library that has stayed in memory.
 * - parse_line() (tools.c) ends the words of pc->command_line in place and drops double quotes;
 *   pc->orig_line keeps the line, but without what resolve_aliases() (cmdline.c) put into it.
 */
#include "host_internal.h"

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

static char *help_pykdump_ext[] = {
	"pykdump_ext",
	"load an extension of this package",
	"name.py",
	"  Load an extension that came with pykdump_ext, whatever lies in the current",
	"  folder.  pykdump-ext setup --pykdump puts such a line into .crashrc.",
	NULL
};

static struct command_table_entry own_commands[] = {
	{ "py", python_entry, help_py, MINIMAL },
	{ "pykdump_ext", python_entry, help_pykdump_ext, MINIMAL | HIDDEN_COMMAND },
	{ NULL }
};

static cmd_func_t original_extend;

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

void
python_entry(void)
{
	struct sigaction crash_sigint;
	int result, before = host_backgrounds();

	ready_python();
	sigint_to_python(&crash_sigint);
	result = python_command(pc->curcmd, argcnt, args);
	end_backgrounds(before);
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
		python_entry();
	else
		original_extend();
}

/* ------------------------------------------------------------------ */
/* Loading this library: its constructor calls these functions, during load_extension() */

int
register_commands(void)
{
	if (get_command_table_entry("pykdump_ext"))  /* a stub has it, which had found no library */
		own_commands[1].name = NULL;
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

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Commands of crash and gdb run from Python, output to where crash prints, and input of lines.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - process_command_line() (cmdline.c) splits a line into args[] and argcnt, after
 *   resolve_aliases(); exec_command() (main.c) runs them.  run_line() does the same without
 *   pipes and redirections.
 * - Commands print to fp, the stream of the pager, pipe or file that is in use.
 * - restore_sanity() (cmdline.c) frees the buffers of a command, by free_all_bufs() (tools.c),
 *   only before crash's next command.  Those of commands that Python runs pile up until then.
 * - A command's name and words are globals: pc->command_line, pc->curcmd, args, optind.
 */
#include "host_internal.h"
#include <stdio_ext.h>
#include <sys/mman.h>

extern char *readline(const char *);
extern void add_history(const char *);
extern int read_history(const char *);
extern void *history_get_history_state(void);
extern void history_set_history_state(void *);
extern char **rl_completion_matches(const char *, char *(*)(const char *, int));
extern char **(*rl_attempted_completion_function)(const char *, int, int);
extern const char *rl_completer_word_break_characters, *rl_completer_quote_characters;
extern char *(*rl_completion_word_break_hook)(void);
extern int rl_attempted_completion_over, rl_completion_append_character;

/* ------------------------------------------------------------------ */
/* Commands */

struct run_call {
	char *line;
	FILE *out;
};

static void
run_line(void *arg)
{
	struct run_call *call = arg;
	struct alias_data *alias;
	char line[BUFSIZE];
	int i;

	snprintf(pc->command_line, BUFSIZE, "%s", call->line);
	clean_line(pc->command_line);
	strcpy(pc->orig_line, pc->command_line);
	strip_linefeeds(pc->orig_line);
	argcnt = parse_line(pc->command_line, args);
	if (args[0] && (alias = is_alias(args[0]))) {
		BZERO(line, sizeof(line));
		for (i = 0; i < alias->argcnt; i++)
			snprintf(line + strlen(line), sizeof(line) - strlen(line),
				"%s ", alias->args[i]);
		for (i = 1; i < argcnt; i++)
			snprintf(line + strlen(line), sizeof(line) - strlen(line),
				"%s ", args[i]);
		strcpy(pc->command_line, line);
		clean_line(pc->command_line);
		strcpy(pc->orig_line, pc->command_line);
		argcnt = parse_line(pc->command_line, args);
	}
	fp = call->out;
	exec_command();
}

static void
run_gdb(void *arg)
{
	struct run_call *call = arg;

	fp = call->out;
	if (!gdb_pass_through(call->line, call->out, GNU_RETURN_ON_ERROR))
		error(FATAL, "gdb request failed: %s\n", call->line);
}

/* A file in memory: a program that runs as such a command asks for the descriptor of its output. */
static FILE *
memory_file(void)
{
	int fd = memfd_create("output of a command", MFD_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file && fd >= 0)
		close(fd);
	return file;
}

/* Take all that is in a file, with a final zero, and close it; FALSE if there is no memory. */
static int
take_all(FILE *file, char **text, size_t *length)
{
	struct stat status;
	ssize_t got;

	fflush(file);
	if (!fstat(fileno(file), &status) && (*text = malloc(status.st_size + 1))) {
		while ((got = pread(fileno(file), *text + *length, status.st_size - *length,
		    *length)) > 0)
			*length += got;
		(*text)[*length] = NULLCHAR;
	}
	fclose(file);
	return *text != NULL;
}

static int depth;  /* of nested commands that Python runs */

/* Run a command and collect its output; restore the words of crash's own command. */
static int
captured(void (*body)(void *), char *line, char **output, size_t *length)
{
	char command_line[BUFSIZE], orig_line[BUFSIZE];
	char *saved_args[MAXARGS];
	char *curcmd = pc->curcmd, *lastcmd = pc->lastcmd;
	int saved_argcnt = argcnt, saved_optind = optind;
	struct run_call call = { line, NULL };
	int result;

	*output = NULL;
	*length = 0;
	if (foreign_thread())
		return HOST_WRONG_THREAD;

	memcpy(command_line, pc->command_line, BUFSIZE);
	memcpy(orig_line, pc->orig_line, BUFSIZE);
	memcpy(saved_args, args, sizeof(saved_args));

	if (!(call.out = memory_file()))
		return HOST_ERROR;
	/* Ctrl-C may jump out of a write while it takes the stream's lock: fclose() would wait */
	__fsetlocking(call.out, FSETLOCKING_BYCALLER);
	depth++;
	result = guarded(body, &call, call.out, FALSE);
	if (!--depth)
		free_all_bufs();
	if (!take_all(call.out, output, length) && (result == HOST_OK))
		result = HOST_ERROR;

	memcpy(pc->command_line, command_line, BUFSIZE);
	memcpy(pc->orig_line, orig_line, BUFSIZE);
	memcpy(args, saved_args, sizeof(saved_args));
	argcnt = saved_argcnt;
	optind = saved_optind;
	pc->curcmd = curcmd;
	pc->lastcmd = lastcmd;
	return result;
}

int
host_run(char *line, char **output, size_t *length)
{
	return captured(run_line, line, output, length);
}

int
host_gdb(char *line, char **output, size_t *length)
{
	return captured(run_gdb, line, output, length);
}

/*
 * The same for a short request whose failure is an answer.  gdb fails when its own handler of
 * Ctrl-C stops it, and where crash ignores Ctrl-C meanwhile it would be lost.
 */
int
host_ask_gdb(char *line, char **output, size_t *length)
{
	int result;

	ignore_no_sigint(TRUE);
	result = captured(run_gdb, line, output, length);
	ignore_no_sigint(FALSE);
	return result;
}

/* For a child that runs one command: nothing is restored. */
int
run_to_stdout(char *line)
{
	struct run_call call = { line, stdout };

	depth++;
	return guarded(run_line, &call, stdout, FALSE);
}

int
host_nested(void)
{
	return depth > 0;
}

/* ------------------------------------------------------------------ */
/* Output */

/*
 * Not guarded: fwrite() is the C library's, and crash's signal handlers are not installed while
 * Python runs.  Another thread's output goes to stdout, because fp may change meanwhile.
 */
static FILE *
output(void)
{
	return foreign_thread() ? stdout : fp;
}

int
host_write(char *data, size_t length)
{
	FILE *out = output();
	size_t written;

	clearerr(out);
	errno = 0;
	written = fwrite(data, 1, length, out);
	if (out == stdout || out == stderr || is_child)
		fflush(out);
	if ((written == length) && !ferror(out))
		return 0;
	return errno ? errno : EIO;
}

int
host_flush(void)
{
	errno = 0;
	return fflush(output()) ? errno : 0;
}

int
host_output_fd(void)
{
	return fileno(output());
}

void
host_output_to_terminal(void)
{
	if (pc->stdpipe && (fp == pc->stdpipe))
		fp = stdout;
}

/* ------------------------------------------------------------------ */
/* Input */

struct readline_call {
	char *prompt;
	char *line;
	void *crash_history;
};

/* Readline asks for one completion after the other; a jump must not leave Python's frames. */
static char *
completion(const char *text, int state)
{
	struct sigaction sigint;
	char *found;

	sigint_to_python(&sigint);
	found = python_complete((char *)text, state);
	set_handler(SIGINT, &sigint, NULL);
	return found ? strdup(found) : NULL;
}

static char **
completions(const char *text, int start, int end)
{
	rl_attempted_completion_over = TRUE;  /* or file names would follow */
	rl_completion_append_character = NULLCHAR;
	return rl_completion_matches(text, completion);
}

static void
read_line(void *arg)
{
	struct readline_call *call = arg;
	char buf[BUFSIZE];

	fflush(fp);
	if (pc->flags & TTY) {
		fp = stdout;
		if ((call->line = readline(call->prompt)) && call->line[0])
			add_history(call->line);
	} else if (fgets(buf, sizeof(buf), stdin))
		call->line = strdup(strip_linefeeds(buf));
}

/*
 * Read one line from where crash's commands come from, through crash's readline.  The history
 * is separate from crash's, and has a file of its own; Tab completes Python's names.
 */
int
host_readline(char *prompt, char *history, char **line)
{
	static void *ours;
	struct readline_call call = { prompt, NULL, NULL };
	char **(*crash_completions)(const char *, int, int) = rl_attempted_completion_function;
	const char *breaks = rl_completer_word_break_characters;
	const char *quotes = rl_completer_quote_characters;
	char *(*gdb_breaks)(void) = rl_completion_word_break_hook;
	int result;

	if (foreign_thread())
		return HOST_WRONG_THREAD;
	if (pc->flags & TTY) {
		rl_attempted_completion_function = completions;
		rl_completer_word_break_characters = " \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?";
		rl_completer_quote_characters = NULL;
		rl_completion_word_break_hook = NULL;
		call.crash_history = history_get_history_state();
		if (ours)
			history_set_history_state(ours);
		else {
			/* an empty history: clear_history() would clear crash's */
			static struct { void *entries; int a, b, c, d; } empty;
			history_set_history_state(&empty);
			read_history(history);
		}
	}
	result = quietly(read_line, &call);
	rl_attempted_completion_function = crash_completions;
	rl_completer_word_break_characters = breaks;
	rl_completer_quote_characters = quotes;
	rl_completion_word_break_hook = gdb_breaks;
	if (call.crash_history) {
		write_history(history);
		free(ours);
		ours = history_get_history_state();
		history_set_history_state(call.crash_history);
		free(call.crash_history);
	}
	*line = call.line;
	return result;
}

size_t
host_unread_input(char **data)
{
	*data = stdin->_IO_read_ptr;
	return stdin->_IO_read_end - stdin->_IO_read_ptr;
}

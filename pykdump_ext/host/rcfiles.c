/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The settings in .crashrc, for a session that crash starts with --no_crashrc, because a minimal
 * session would refuse the other lines of the file.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2:
 * - Before it opens a dump, setup_environment() (main.c) hands each line of the two .crashrc
 *   files to resolve_rc_cmd() (cmdline.c), which runs "set" and asks for the file to be run
 *   later, by RCHOME_IFILE or RCLOCAL_IFILE in pc->flags.
 * - cmd_set() (tools.c) knows this time by RUNTIME, which is clear then.  When the file is run
 *   later, it leaves scroll, edit, zero_excluded and offline as they are: they were set before.
 * - A file that is not the user's own, or that others can write, is not used;
 *   show_untrusted_files() (main.c) says so.
 * - readline_init() (cmdline.c) gives readline the editing mode before the dump is opened.
 */
#include "host_internal.h"

extern int rl_emacs_editing_mode(int, int), rl_vi_editing_mode(int, int);

static void
read_rcfile(char *path, int origin)
{
	static char line[BUFSIZE];  /* args[] points into it afterwards */
	FILE *file;

	if (!file_exists(path, NULL))
		return;
	if (!(file = fopen(path, "r"))) {
		error(INFO, "cannot open %s: %s\n", path, strerror(errno));
		return;
	}
	if (untrusted_file(file, path))
		error(WARNING, "not using untrusted file: \"%s\"\n\n", path);
	else
		while (fgets(line, BUFSIZE, file))
			resolve_rc_cmd(line, origin);
	fclose(file);
}

static void
read_rcfiles(void *unused)
{
	char *mode = pc->editing_mode;
	char home[PATH_MAX], local[PATH_MAX];

	snprintf(home, sizeof(home), "%s/.%src", pc->home ? pc->home : "", pc->program_name);
	snprintf(local, sizeof(local), ".%src", pc->program_name);
	if (pc->home)
		read_rcfile(home, ALIAS_RCHOME);
	if (!same_file(home, local))
		read_rcfile(local, ALIAS_RCLOCAL);
	if (STREQ(pc->editing_mode, mode))
		return;
	if (STREQ(pc->editing_mode, "emacs"))
		rl_emacs_editing_mode(1, 0);
	else
		rl_vi_editing_mode(1, 0);
}

int
host_read_rcfiles(void)
{
	char *saved_args[MAXARGS];
	char *curcmd = pc->curcmd;
	int saved_argcnt = argcnt, saved_optind = optind, result;

	memcpy(saved_args, args, sizeof(saved_args));
	pc->curcmd = pc->program_name;
	pc->flags &= ~RUNTIME;
	result = guarded(read_rcfiles, NULL, NULL, TRUE);
	pc->flags |= RUNTIME;
	pc->curcmd = curcmd;
	memcpy(args, saved_args, sizeof(saved_args));
	argcnt = saved_argcnt;
	optind = saved_optind;
	return result;
}

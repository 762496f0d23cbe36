/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The session: its start, its state, and the change from minimal to full.
 *
 * Facts, the same in crash 7.2.9, 8.0.2, 8.0.6 and 9.0.2 unless a line says otherwise:
 * - In minimal mode main_loop() (main.c) skips what full_session() calls; otherwise it sets
 *   RUNTIME after these calls.  They need RUNTIME clear: only then FILL_TOP_PGD() (defs.h) reads
 *   the top page table, and the search for the panic task (task.c) differs too.
 * - Before any other line process_command_line() (cmdline.c) runs the files that RCHOME_IFILE,
 *   RCLOCAL_IFILE and CMDLINE_IFILE in pc->flags ask for.  exec_input_file() (cmdline.c) keeps
 *   the position after the running line in pc->ifile_offset.
 * - Until crash commit 4badc62 (in 7.3.1) kernel_init() (kernel.c) recognises a PV kernel only
 *   by what pv_init_ops points to: xen_patch(), since 7.3.0 also paravirt_patch_default().  Linux
 *   commit edcb5cf84f05 (in v4.14) removes xen_patch(), 5c83511bdb98 (in v4.20) pv_init_ops.
 */
#include "host_internal.h"
#include "drop.h"
#include <dlfcn.h>

extern int read_history(const char *);

static char own_path[PATH_MAX];

/* pykdump-ext doctor finds this in the file. */
__attribute__((used)) static const char built_for[] = "\0BUILT_FOR_CRASH=" CRASH_VERSION
	"\0BUILT_FROM=" BUILT_FROM;

/* ------------------------------------------------------------------ */
/* The session's state */

char *
host_path(void)
{
	return own_path;
}

void
host_get_session(struct host_session *s)
{
	BZERO(s, sizeof(*s));
	s->minimal = !!(pc->flags & MINIMAL_MODE);
	s->silent = !!(pc->flags & SILENT);
	s->live = !!ACTIVE();
	s->xen_core = !!XEN_CORE_DUMPFILE();
	s->xen_hyper = !!XEN_HYPER_MODE();
	s->terminal = !!(pc->flags & TTY);
	s->output_terminal = fp && isatty(fileno(fp));
	s->stopped_rcfiles = !!(pc->flags & NOCRASHRC);
	s->relocate = -kt->relocate;
	s->namelist = pc->namelist;
	s->namelist_debug = pc->namelist_debug;
	s->dumpfile = pc->dumpfile;
	s->program_name = pc->program_name;
	s->home = pc->home;
	s->crash_version = build_version;
	s->rcfile = (pc->ifile_in_progress == RCHOME_IFILE) ? "home" :
		(pc->ifile_in_progress == RCLOCAL_IFILE) ? "local" : NULL;
	s->rcfile_offset = pc->ifile_offset;
	s->input_fd = pc->ifile && !s->rcfile ? fileno(pc->ifile) : -1;
	s->input_waiting = (pc->flags & CMDLINE_IFILE) ? pc->input_file : NULL;
}

/* ------------------------------------------------------------------ */
/* Minimal to full */

/*
 * Set what kernel_init() sets for a PV kernel that it recognises.  Without it crash takes the
 * machine addresses in page tables for physical ones.
 */
static void
recognise_pv_kernel(void)
{
	ulong start_info;

	if (!XEN_CORE_DUMPFILE() || XEN_HYPER_MODE() || !PVOPS() || PVOPS_XEN() ||
	    !symbol_exists("xen_start_info") || !symbol_exists("xen_p2m_addr") ||
	    !readmem(symbol_value("xen_start_info"), KVADDR, &start_info,
	    sizeof(start_info), "xen_start_info", RETURN_ON_ERROR|QUIET) || !start_info)
		return;
	kt->flags |= ARCH_XEN | ARCH_PVOPS_XEN;
	kt->xen_flags &= ~SHADOW_PAGE_TABLES;
	kt->xen_flags |= WRITABLE_PAGE_TABLES;
	get_symbol_data("max_pfn", sizeof(ulong), &kt->p2m_table_size);
	if (!kt->m2p_page && !(kt->m2p_page = malloc(PAGESIZE())))
		error(FATAL, "cannot malloc m2p page.");
}

/* Do what main_loop() does once gdb is ready, and leaves out in minimal mode. */
static void
full_session(void *unused)
{
	pc->flags &= ~(MINIMAL_MODE | RUNTIME);
	read_in_kernel_config(IKCFG_INIT);
	kernel_init();
	recognise_pv_kernel();
	machdep_init(POST_GDB);
	hook_walks();
	vm_init();
	machdep_init(POST_VM);
	module_init();
	help_init();
	init_tasks();
	vfs_init();
	net_init();
	dev_init();
	machdep_init(POST_INIT);
	if (!(pc->flags & SILENT)) {
		display_sys_stats();
		show_context(CURRENT_CONTEXT());
		fprintf(fp, "\n");
	}
}

/*
 * interruptible: Ctrl-C stops this, and the caller ends crash.  Otherwise Ctrl-C has no effect:
 * a start that stops halfway cannot be repeated.
 */
int
host_full_session(int interruptible)
{
	char *curcmd = pc->curcmd;
	FILE *stdpipe = pc->stdpipe;
	struct timespec now = { 0, 0 };
	sigset_t sigint, before;
	int result;

	if (foreign_thread())
		return HOST_WRONG_THREAD;
	sigemptyset(&sigint);
	sigaddset(&sigint, SIGINT);
	if (!interruptible)
		pthread_sigmask(SIG_BLOCK, &sigint, &before);

	/* As at crash's start: messages begin with crash's name, and skip the pager. */
	pc->curcmd = pc->program_name;
	if (fp != pc->stdpipe)
		pc->stdpipe = NULL;
	pc->flags &= ~RUNTIME;
	ignore_no_sigint(interruptible);
	result = guarded(full_session, NULL, NULL, TRUE);
	ignore_no_sigint(FALSE);
	pc->flags |= RUNTIME;
	pc->curcmd = curcmd;
	pc->stdpipe = stdpipe;
	if (result != HOST_OK)
		pc->flags |= MINIMAL_MODE;
	pc->flags &= ~PLEASE_WAIT;
	if (!interruptible) {
		while (sigtimedwait(&sigint, NULL, &now) == SIGINT)
			;
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	return result;
}

void
host_run_afterwards(char *input_file)
{
	pc->input_file = strdup(input_file);
	pc->flags |= CMDLINE_IFILE;
}

/* ------------------------------------------------------------------ */
/* The session's start: crash's load_extension() loads this library */

__attribute__((constructor)) static void
load(void)
{
	char *history = getenv(ENV_HISTORY);
	Dl_info info;

	if (!STREQ(build_version, CRASH_VERSION)) {
		error(INFO, "this crash is version %s, pykdump_ext was built for %s: "
			"build it again: %s\n",
			build_version, CRASH_VERSION, PIP_INSTALL);
		return;
	}
	if (!dladdr(load, &info) || !realpath(info.dli_fname, own_path)) {
		error(INFO, "pykdump_ext: cannot find its own file\n");
		return;
	}
	if (!register_commands())
		return;

	/* Python cannot be removed from a process, so this library stays in memory. */
	dlopen(own_path, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
	signals_start();
	guard_start();
	take_over_extend();
	note_preload();
	if (history) {
		read_history(history);
		unlink(history);
		unsetenv(ENV_HISTORY);
	}
	if ((pc->flags & SILENT) && getenv(ENV_AFTERWARDS))
		drop_next_message();
}

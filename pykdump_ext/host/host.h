/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The functions and types of crash_host.so that Python uses.  The C compiler and cffi both
 * read this file, so it has plain declarations only.
 *
 * A function that returns a HOST_ result runs crash's code, guarded: where crash leaves that
 * code by longjmp(), on an error or Ctrl-C, the function returns one of these results.
 */
#define HOST_OK 0
#define HOST_ERROR 1        /* host_message() returns crash's message, or no text */
#define HOST_INTERRUPTED 2  /* Ctrl-C while crash's code was running */
#define HOST_EXCLUDED 3     /* the page is excluded from the dump */
#define HOST_WRONG_THREAD 4 /* only crash's own thread may call crash */
#define HOST_LEAVE 5        /* from python_command(): the session ends */
#define HOST_NULL 6         /* the virtual address to read, or the pointer there, is 0 */
#define HOST_MINIMAL 7      /* only a full session of a kernel has the answer */

/* guard.c: messages */
char *host_message(void);
void host_set_message(char *text);  /* crash shows it as the error of the command that runs now */

/* "set error TARGET"; *before: the target until then, NULL in a crash that has none, to be freed */
int host_set_error(char *target, char **before);

/* signals.c */
void host_keep_sigint(void);        /* keep the present handler of SIGINT as Python's */

/*
 * ask.c: memory, symbols, types.  HOST_ERROR also means that crash has no answer.
 * task: whose memory a user's virtual address is in; 0 for the session's own task.
 */
int host_readmem(uint64_t address, int memtype, uint64_t task, int machine, void *buffer,
	long size, char *what);
/* The same for many addresses, up to the first failure; *done of them are in buffer. */
int host_read_many(uint64_t *addresses, long count, int memtype, uint64_t task, void *buffer,
	long size, char *what, long *done);
struct host_list {              /* a walk along a list, which goes on with each call */
	uint64_t at;            /* where the next pointer is read */
	uint64_t end;           /* the last pointer of the list is this */
	uint64_t offset;        /* of the next pointer, from where a pointer leads */
	uint64_t mark;          /* an entry that must not come again; at first the head */
	long steps, to_mark;    /* steps since the mark; after so many it moves; at first 0, 1 */
	int ended;              /* the last pointer was read */
	int circles;            /* the mark came again: the list has no end */
};
int host_read_list(struct host_list *list, int memtype, uint64_t task, uint64_t *entries,
	long count, char *what, long *done);
int host_task(uint64_t task);       /* has crash this task? */
int host_translate(uint64_t address, int user, uint64_t task, uint64_t *physical);
int host_symbol(char *name, uint64_t *value);
int host_symbol_near(uint64_t address, char **name, uint64_t *offset);
int host_module_of(uint64_t address, char **name);
/* Of a member its offset and size, without one the size of the type; -1 for what is not there */
int host_datatype(char *type, char *member, long *size, long *offset, long *member_size);

/* tables.c: what crash's tables have.  HOST_ERROR also means that they do not have it. */
int host_symbols(char *name, uint64_t *values, long room, long *count);
int host_enumerator(char *name, long *value);
int host_syscalls(long *count);
/* The rest may return HOST_MINIMAL */
int host_pathname(uint64_t dentry, uint64_t vfsmount, char **path);  /* until the next call */
int host_uptime(uint64_t *jiffies);
int host_pid_of(uint64_t task, uint64_t *pid);
int host_task_of(uint64_t pid, uint64_t *task);
int host_task_is_active(uint64_t task, uint64_t *active);
int host_task_memory(uint64_t task, uint64_t *total, uint64_t *resident);  /* KiB */
int host_page_of(uint64_t physical, uint64_t *page);
int host_hz(void);          /* ticks a second; 0 before the full session */
void host_set_process_name(char *name);

/* run.c: crash's and gdb's commands, output, input.  The caller frees *output and *line. */
int host_run(char *line, char **output, size_t *length);
int host_gdb(char *line, char **output, size_t *length);
int host_ask_gdb(char *line, char **output, size_t *length);  /* Ctrl-C comes after the answer */
int host_nested(void);      /* is a command running that Python called? */
int host_write(char *data, size_t length);  /* returns 0 or an errno */
int host_flush(void);       /* the same */
int host_output_fd(void);   /* the file descriptor that output goes to, or -1 */
void host_output_to_terminal(void);  /* the rest of this command's output skips the pager */
int host_readline(char *prompt, char *history, char **line);
size_t host_unread_input(char **data);  /* bytes of stdin that stdio has and crash has not read */

/* background.c: commands of crash in children, each with a pipe for what it prints */
int host_background(char *line, int *fd, int *pid);
int host_backgrounds(void);  /* how many this command and those around it have started */
int host_background_pipe(int number);  /* the descriptor of one, or -1 if it has been closed */

/* command_tables.c and commands.c: crash's command tables */
#define HOST_NO_COMMAND 0
#define HOST_FULL_COMMAND 1     /* works in full sessions only */
#define HOST_MINIMAL_COMMAND 2  /* works in minimal sessions too */
int host_command_kind(char *name);
char *host_extension(int number);  /* a file name, the last loaded first; NULL after the last one */
void *host_add_extension(char *filename, int count, char **names, char ***help, int *minimal);
int host_add_command(void *extension, char *name, char **help, int minimal);
void host_remove_extension(void *extension);
int host_load_object(char *name);
int host_unload_object(char *name);
int host_original_extend(void);
char *host_typed(int number);  /* the running command from its word number on; NULL: not known */

/* p2m.c: crash's list of p2m leaves */
int host_set_p2m(uint64_t *leaves, int count);
int host_p2m_is_set(void);
int host_undo_p2m(void);

/* pages.c, m2p.c and walks.c: fast reads and walks of a Xen host's dump */
struct host_fast {
	int on;
	uint64_t size;          /* bytes that kept pages may take */
	uint64_t kept;          /* pages that are kept */
	uint64_t hits, misses;  /* of pages that were wanted */
	uint64_t walks, left;   /* of page tables: made, and left to crash */
};
/* root: maddr of a top page table; frames: the mfns of pages that the dump has in part */
int host_fast_on(uint64_t root, uint64_t *frames, long count, uint64_t bytes);
int host_fast_off(void);
void host_get_fast(struct host_fast *state);

/* tasks.c: crash's table of tasks */
struct host_tasks {
	long found;             /* tasks in the table; 0 before the full session */
	long counted;           /* by the kernel, idle tasks included; 0 where crash reads no count */
	int grown;              /* this crash alone would miss most of them */
};
int host_find_tasks(void);  /* read the table again, if this crash has missed most of them */
void host_get_tasks(struct host_tasks *tasks);

/* modules.c: the modules whose symbols mod -s has loaded */
char *host_module_file(int number);  /* the file that has them; NULL after the last one */
uint64_t host_module_set(void);  /* another number for another set of files */

/* rcfiles.c: the .crashrc files of a session that was started without them */
int host_read_rcfiles(void);  /* make their settings, and have crash run them after this command */

/* session.c: the session.  Strings belong to crash or to this library; NULL where crash has none. */
struct host_session {
	int minimal;            /* crash --minimal, and no full session since */
	int silent;             /* crash -s */
	int live;               /* a running kernel, not a dump */
	int xen_core;           /* a dump of a Xen host, opened for its dom0 */
	int xen_hyper;          /* a dump of a Xen host, opened for Xen itself */
	int terminal;           /* commands come from a terminal */
	int output_terminal;    /* output goes to a terminal now, without a pager */
	int stopped_rcfiles;    /* --no_crashrc */
	uint64_t relocate;      /* what to add to a link-time address (KASLR) */
	char *namelist;
	char *namelist_debug;
	char *dumpfile;
	char *program_name;
	char *home;
	char *crash_version;
	char *rcfile;           /* "home" or "local" while lines of that file run */
	long rcfile_offset;     /* bytes that crash has read of rcfile, or of input_fd's file */
	int input_fd;           /* another file whose lines run now ("<", -i), or -1 */
	char *input_waiting;    /* the file given to crash -i, until its first line runs */
};
char *host_path(void);      /* this library's file */
void host_get_session(struct host_session *session);
int host_full_session(int interruptible);
void host_run_afterwards(char *input_file);

/* leave.c: the program that this process becomes when the session ends (HOST_LEAVE) */
void host_become(char *program, int count, char **words);

/* free() is the C library's, write_history() that of crash's readline; they need no guard. */
void free(void *memory);
int write_history(const char *filename);

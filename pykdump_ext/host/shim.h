/*
 * What Python sees of crash.  Read by the C compiler and by cffi, so plain
 * declarations only.
 *
 * Every function that returns int and can reach crash's own code is guarded:
 * crash leaves that code by longjmp when it meets an error or Ctrl-C, and here
 * this ends in one of these results instead.
 */
#define HOST_OK 0
#define HOST_ERROR 1        /* host_message() has crash's message, or is empty */
#define HOST_INTERRUPTED 2  /* Ctrl-C while crash's code was running */
#define HOST_EXCLUDED 3     /* the page was left out of the dump by a filter */
#define HOST_WRONG_THREAD 4 /* crash can be asked by its own thread only */

/* The session.  Strings belong to crash, or to this library; NULL where crash has none. */
struct host_session {
	int minimal;            /* crash --minimal, not carried on yet */
	int silent;             /* crash -s */
	int live;               /* a running kernel, not a dump */
	int xen_core;           /* a dump of a Xen host, opened for its dom0 */
	int xen_hyper;          /* the same, opened for Xen itself */
	int terminal;           /* commands come from a terminal */
	int output_terminal;    /* what is printed now goes to one, and to no pager */
	int stopped_rcfiles;    /* --no_crashrc */
	uint64_t relocate;      /* what to add to a link-time address (KASLR) */
	char *namelist;
	char *namelist_debug;
	char *dumpfile;
	char *program_name;
	char *home;
	char *crash_version;
	char *rcfile;           /* "home" or "local" while lines of that file run */
	long rcfile_offset;     /* how far it, or the file of input_fd, has been read, bytes */
	int input_fd;           /* another file that lines are run from ("<", -i), or -1 */
	char *input_waiting;    /* a file of crash -i that has not begun */
};

char *host_message(void);
void host_set_message(char *text);
void python_sigint_is_set(void);
char *host_path(void);
void host_get_session(struct host_session *session);

int host_readmem(uint64_t address, int memtype, int machine, void *buffer, long size, char *what);
int host_translate(uint64_t address, int user, uint64_t task, uint64_t *physical);

int host_symbol(char *name, uint64_t *value);
int host_symbol_near(uint64_t address, char **name, uint64_t *offset);
int host_module_of(uint64_t address, char **name);
int host_datatype(char *type, char *member, long *size, long *offset, long *member_size);

int host_run(char *line, char **output, size_t *length);
int host_gdb(char *line, char **output, size_t *length);
int host_write(char *data, size_t length);
int host_readline(char *prompt, char *history, char **line);
void host_free(void *memory);

int host_load_object(char *name);
int host_unload_object(char *name);
int host_original_extend(void);
void *host_add_extension(char *filename, int count, char **names, char ***help, int *minimal);
void host_remove_extension(void *extension);
int host_command_kind(char *name);  /* 0 none, 1 full sessions only, 2 minimal ones too */
int host_object_loaded(char *name);
void host_output_to_terminal(void);

int host_set_p2m(uint64_t *leaves, int count);
int host_p2m_is_set(void);
void host_undo_p2m(void);
int host_full_session(void);
void host_replay_rcfiles(int home, int local, char *input_file);

/* For another crash in the place of this one */
int host_nested(void);      /* does a program run this command? */
char *host_extension(int number);  /* file names, the last loaded first; NULL behind them */
int host_save_history(char *path);
size_t host_unread_input(char **data);  /* what stdio has of the input; bytes */
int host_leave(void);

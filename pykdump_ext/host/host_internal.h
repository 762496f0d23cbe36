/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the C files of crash_host.so share with each other and do not show to Python. */
#pragma once

#define _GNU_SOURCE
#include "defs.h"
#include "environment.h"
#include "host.h"
#include "stub.h"

/* guard.c */
void guard_start(void);
int guarded(void (*body)(void *), void *arg, FILE *echo, int pass);
int quietly(void (*body)(void *), void *arg);

/* ask.c: a question to crash's code; its members are those that some question needs */
struct question {
	int (*put)(struct question *);  /* returns a HOST_ result */
	int (*read)(struct question *); /* the same, once the task is set */
	int result;
	/* what is asked */
	uint64_t address, task, vfsmount;
	char *name, *member;
	uint64_t *addresses;
	long count;
	int memtype, machine, user;
	struct host_list *list;
	/* where the answer goes */
	void *buffer;
	long length, *done;
	uint64_t *value, *second;
	char **found;
	long *size, *offset, *member_size;
};
int ask(struct question *q);
#define ASK(...) ask(&(struct question){ __VA_ARGS__ })

/* calls.c */
void take_over_calls(const void *inside, const char *name, void *function);

/* signals.c */
extern volatile sig_atomic_t ended_by_signal;  /* crash's parent is gone, and crash ends */
void signals_start(void);
void signals_in_child(void);
int foreign_thread(void);
int set_handler(int sig, const struct sigaction *new, struct sigaction *old);
struct saved_sigint {
	struct sigaction action;
	void (*jump)(int);
	int forwarded;
};
void save_sigint(struct saved_sigint *saved);
void jump_on_sigint(const struct saved_sigint *saved, void (*jump)(int));
void restore_sigint(const struct saved_sigint *saved);
void ignore_no_sigint(int keeps);
void sigint_to_python(struct sigaction *crashs);

/* command_tables.c */
struct command_table_entry *entry_named(struct command_table_entry *table, char *name);
struct extension_table *add_table(char *filename, struct command_table_entry *table);
/* children.c */
extern int is_child;  /* this process is one that fork() made of crash */
void children_start(void);
int fork_apart(void);
const char *position_problem(void);

/* background.c */
extern int in_background;  /* this process runs a command in the background */
void end_backgrounds(int before);

/* run.c */
int run_to_stdout(char *line);

/* commands.c */
void python_entry(void);  /* the function of every command that is written in Python */
int register_commands(void);
cmd_func_t take_over(char *name, cmd_func_t func);
void take_over_extend(void);

/* p2m.c */
void note_preload(void);

/* tasks.c */
void init_tasks(void);

/* m2p.c */
void forget_pfns(void);

/* walks.c */
void hook_walks(void);

/* leave.c */
void ready_python(void);
void leave_session(void);

/* python.c, and the functions of host/engine.py that cffi embeds */
const char *python_start(const char *library);
void python_end(void);
int python_fork(void);
int python_ready(void);
int python_command(char *name, int argc, char **argv);
char *python_complete(char *text, int state);

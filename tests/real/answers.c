/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An extension of crash for tests: "answers QUESTIONS ANSWERS" asks crash's functions what the
 * first file has, and writes to the second what they return.
 */
#include "defs.h"

enum { KVTOP, UVTOP, PHYSICAL, MACHINE };

struct question {
	ulong kind;
	ulong task;
	ulong address;
	ulong size;
};

struct answer {
	long returned;  /* 2: the function jumped */
	ulong value;    /* the physical address, or a sum of what was read */
};

static struct answer answer;

static void
ask(struct question *q)
{
	static unsigned char buffer[65536];
	physaddr_t paddr = 0x5a5a5a5a5a5a5a5aUL;
	ulong i;

	switch (q->kind) {
	case KVTOP:
		answer.returned = kvtop(NULL, q->address, &paddr, 0);
		answer.value = paddr;
		break;
	case UVTOP:
		answer.returned = uvtop(task_to_context(q->task), q->address, &paddr, 0);
		answer.value = paddr;
		break;
	default:
		memset(buffer, 0xaa, sizeof(buffer));
		if (q->kind == MACHINE)
			pc->curcmd_flags |= XEN_MACHINE_ADDR;
		answer.returned = readmem(q->address, PHYSADDR, buffer,
			MIN(q->size, sizeof(buffer)), "question", RETURN_ON_ERROR | QUIET);
		pc->curcmd_flags &= ~XEN_MACHINE_ADDR;
		for (i = 0; answer.returned && i < MIN(q->size, sizeof(buffer)); i++)
			answer.value = answer.value * 31 + buffer[i];
	}
}

static void
cmd_answers(void)
{
	FILE *questions = fopen(args[1], "r"), *answers = fopen(args[2], "w");
	struct question q;
	jmp_buf saved;

	memcpy(&saved, &pc->main_loop_env, sizeof(jmp_buf));
	while (fread(&q, sizeof(q), 1, questions)) {
		BZERO(&answer, sizeof(answer));
		if (setjmp(pc->main_loop_env))
			answer.returned = 2;
		else
			ask(&q);
		fwrite(&answer, sizeof(answer), 1, answers);
	}
	memcpy(&pc->main_loop_env, &saved, sizeof(jmp_buf));
	fclose(questions);
	fclose(answers);
}

static struct command_table_entry commands[] = {
	{ "answers", cmd_answers, NULL, 0 },
	{ NULL },
};

__attribute__((constructor)) static void
load(void)
{
	register_extension(commands);
}

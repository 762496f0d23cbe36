/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How a library that crash loads drops the line "shared object loaded", which load_extension()
 * (extensions.c) prints to fp next: fp is a stream that drops one message and gives crash's back.
 */
#pragma once
#include <stdio.h>

extern FILE *fp;

static FILE *output;

static ssize_t
drop(void *cookie, const char *text, size_t size)
{
	fp = output;
	return size;
}

static void
drop_next_message(void)
{
	cookie_io_functions_t functions = { .write = drop };
	FILE *nowhere = fopencookie(NULL, "w", functions);

	if (!nowhere)
		return;
	setvbuf(nowhere, NULL, _IONBF, 0);
	output = fp;
	fp = nowhere;
}

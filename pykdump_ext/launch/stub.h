/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What stub.c, crash_host.so and pykdump-ext agree on. */

/* Behind the path of the copy of stub.so: the link to crash_host.so */
#define STUB_LINK ".installed"

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The start of Python inside crash, and its end.
 *
 * An interpreter finds the packages of a virtual environment only if it is initialised with
 * that environment's executable (PyConfig, since Python 3.8).  This must happen before cffi
 * starts it.  So build_host.py copies this file into the C code that cffi generates, after
 * Python.h.
 */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "host.h"

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)
#define BUILT_FOR_PYTHON STRINGIFY(PY_MAJOR_VERSION) "." STRINGIFY(PY_MINOR_VERSION)
#define BUILD_AGAIN "build it again: " PIP_INSTALL

/* pykdump-ext doctor finds this in the file. */
__attribute__((used)) static const char built_for[] = "\0BUILT_FOR_PYTHON=" BUILT_FOR_PYTHON;

static char problem[PATH_MAX + 512];

/* Is a version such as "3.11.2 (main, ..." that of the Python that this file was built for? */
static int
same_python(const char *version)
{
	size_t length = strlen(BUILT_FOR_PYTHON);

	return !strncmp(version, BUILT_FOR_PYTHON, length) &&
		(version[length] < '0' || version[length] > '9');
}

/*
 * Find the virtual environment that holds the library: its python3, and the version in its
 * pyvenv.cfg.  Both are empty if there is none.
 */
static void
find_environment(const char *library, char *executable, char *version)
{
	char folder[PATH_MAX], path[PATH_MAX + 32], line[512];
	char *slash;
	FILE *file;

	executable[0] = version[0] = '\0';
	snprintf(folder, sizeof(folder), "%s", library);
	while ((slash = strrchr(folder, '/')) && slash != folder) {
		*slash = '\0';
		snprintf(path, sizeof(path), "%s/pyvenv.cfg", folder);
		if (!(file = fopen(path, "r")))
			continue;
		snprintf(executable, PATH_MAX, "%.*s/bin/python3", PATH_MAX - 16, folder);
		while (fgets(line, sizeof(line), file))
			if (sscanf(line, "version = %63[^\n]", version) == 1 ||
			    sscanf(line, "version_info = %63[^\n]", version) == 1)
				break;
		fclose(file);
		return;
	}
}

static const char *
problem_of(PyStatus status)
{
	snprintf(problem, sizeof(problem), "Python cannot be started: %s",
		status.err_msg ? status.err_msg : "no reason given");
	return problem;
}

/*
 * Start Python, once, with the executable of the virtual environment that holds the library;
 * without one, with the Python that built the library.  Return NULL, or a sentence that says
 * why it cannot be started.
 */
const char *
python_start(const char *library)
{
	static int started;
	char executable[PATH_MAX], version[64];
	PyPreConfig preconfig;
	PyConfig config;
	PyStatus status;
	PyObject *module;

	if (started)
		return problem[0] ? problem : NULL;
	started = 1;

	if (!same_python(Py_GetVersion())) {
		snprintf(problem, sizeof(problem), "pykdump_ext was built for Python "
			BUILT_FOR_PYTHON ", crash has Python %.20s loaded: %s",
			Py_GetVersion(), BUILD_AGAIN);
		return problem;
	}
	find_environment(library, executable, version);
	if (executable[0] && version[0] && !same_python(version)) {
		snprintf(problem, sizeof(problem), "pykdump_ext was built for Python "
			BUILT_FOR_PYTHON ", its environment is now for Python %s: %s",
			version, BUILD_AGAIN);
		return problem;
	}
	if (!executable[0])
		snprintf(executable, sizeof(executable), "%s", PYTHON_EXECUTABLE);
	if (access(executable, X_OK)) {
		snprintf(problem, sizeof(problem), "%s, the Python that pykdump_ext "
			"was installed with, is gone: %s", executable, BUILD_AGAIN);
		return problem;
	}

	if (!Py_IsInitialized()) {
		PyPreConfig_InitPythonConfig(&preconfig);
		preconfig.configure_locale = 0;  /* crash's and gdb's locale stays */
		preconfig.coerce_c_locale = 0;
		preconfig.utf8_mode = 1;
		preconfig.parse_argv = 0;
		status = Py_PreInitialize(&preconfig);
		if (PyStatus_Exception(status))
			return problem_of(status);

		PyConfig_InitPythonConfig(&config);
		config.parse_argv = 0;
		config.install_signal_handlers = 0;
		config.configure_c_stdio = 0;    /* crash reads stdin, and has lines of it in its buffer */
		status = PyConfig_SetBytesString(&config, &config.executable, executable);
		if (!PyStatus_Exception(status))
			status = PyConfig_SetBytesString(&config, &config.program_name, executable);
		if (!PyStatus_Exception(status))
			status = Py_InitializeFromConfig(&config);
		PyConfig_Clear(&config);
		if (PyStatus_Exception(status))
			return problem_of(status);

		/* Without this the first command would print a traceback */
		module = PyImport_ImportModule("_cffi_backend");
		if (module) {
			Py_DECREF(module);
			module = PyImport_ImportModule("pykdump_ext");
		}
		if (!module) {
			PyErr_Clear();
			snprintf(problem, sizeof(problem), "%s has no module %s: %s",
				executable,
				PyImport_GetModuleDict() &&
				PyDict_GetItemString(PyImport_GetModuleDict(), "_cffi_backend") ?
				"pykdump_ext" : "cffi", BUILD_AGAIN);
		} else
			Py_DECREF(module);
		PyEval_SaveThread();
	}
	return problem[0] ? problem : NULL;
}

/* fork() after which Python runs in the parent, and in the child too. */
int
python_fork(void)
{
	PyGILState_STATE state = PyGILState_Ensure();
	int child;

	PyOS_BeforeFork();
	child = fork();
	if (child)
		PyOS_AfterFork_Parent();
	else
		PyOS_AfterFork_Child();
	PyGILState_Release(state);
	return child;
}

/* End Python, once: its threads, its atexit functions, its open files. */
void
python_end(void)
{
	static int ended;
	PyObject *module, *done;

	if (ended || !Py_IsInitialized())
		return;
	ended = 1;
	PyGILState_Ensure();
	module = PyImport_ImportModule("pykdump_ext.host.ending");
	done = module ? PyObject_CallMethod(module, "end", NULL) : NULL;
	PyErr_Clear();
	Py_XDECREF(done);
	Py_XDECREF(module);
	Py_FinalizeEx();
}

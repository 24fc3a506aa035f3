// Stands between the tool and the real NVRTC (REAL_NVRTC names its file): passes every call on, counts what is compiled,
// and keeps what is refused. For each program a line "ok PTX_BYTES CUBIN_BYTES MILLISECONDS ENTRY" or "failed FILE" is
// appended to the file that NVRTC_REPORT names; the source and the log of a refused program are written beside it.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <pthread.h>

typedef int Result;
typedef void *Program;
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER, reporting = PTHREAD_MUTEX_INITIALIZER;
// The last source that this thread created a program from; a program is compiled by the thread that created it.
static __thread char *source;

static void *real(const char *name) {
    static void *library;
    pthread_mutex_lock(&loading);
    const char *path = getenv("REAL_NVRTC");
    if (!library && path) library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    pthread_mutex_unlock(&loading);
    void *function = library ? dlsym(library, name) : NULL;
    if (!function) {
        fprintf(stderr, "NVRTC stand-in: %s of REAL_NVRTC=%s: %s\n", name, path ? path : "", dlerror());
        exit(70);
    }
    return function;
}

#define PASS1(name, A) Result name(A a) { return ((Result(*)(A))real(#name))(a); }
#define PASS2(name, A, B) Result name(A a, B b) { return ((Result(*)(A, B))real(#name))(a, b); }

PASS2(nvrtcVersion, int *, int *)
PASS2(nvrtcGetPTXSize, Program, size_t *)
PASS2(nvrtcGetPTX, Program, char *)
PASS2(nvrtcGetCUBINSize, Program, size_t *)
PASS2(nvrtcGetCUBIN, Program, char *)
PASS2(nvrtcGetProgramLogSize, Program, size_t *)
PASS2(nvrtcGetProgramLog, Program, char *)
PASS1(nvrtcDestroyProgram, Program *)
const char *nvrtcGetErrorString(Result r) { return ((const char *(*)(Result))real("nvrtcGetErrorString"))(r); }

Result nvrtcCreateProgram(Program *p, const char *text, const char *name, int n, const char *const *h, const char *const *i) {
    free(source);
    source = strdup(text);
    typedef Result (*Create)(Program *, const char *, const char *, int, const char *const *, const char *const *);
    return ((Create)real("nvrtcCreateProgram"))(p, text, name, n, h, i);
}

static void write_failure(FILE *report, const char *path, Program p) {
    static int number;
    char file[4096];
    snprintf(file, sizeof file, "%s.failed-%03d.cu", path, ++number);
    size_t length = 0;
    nvrtcGetProgramLogSize(p, &length);
    char *log = calloc(1, length + 1);
    nvrtcGetProgramLog(p, log);
    FILE *out = fopen(file, "w");
    if (out) {
        fprintf(out, "/*\n%s\n*/\n%s", log, source ? source : "");
        fclose(out);
    }
    free(log);
    fprintf(report, "failed %s\n", file);
}

// The name of the global function: the last word before the parenthesis that is not __launch_bounds__'s.
static const char *entry(char *buffer, size_t size) {
    const char *at = source ? strstr(source, "__global__") : NULL;
    for (const char *open = at ? strchr(at, '(') : NULL; open; open = strchr(open + 1, '(')) {
        const char *end = open;
        while (end > at && (end[-1] == ' ' || end[-1] == '\n')) end--;
        const char *start = end;
        while (start > at && start[-1] != ' ' && start[-1] != '\n') start--;
        snprintf(buffer, size, "%.*s", (int)(end - start), start);
        if (strcmp(buffer, "__launch_bounds__") != 0) return buffer;
    }
    return "?";
}

Result nvrtcCompileProgram(Program p, int n, const char *const *options) {
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    Result result = ((Result(*)(Program, int, const char *const *))real("nvrtcCompileProgram"))(p, n, options);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    const char *path = getenv("NVRTC_REPORT");
    if (!path) return result;
    size_t ptx = 0, cubin = 0;
    char name[256];
    long ms = (ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000;
    if (result == 0) {
        nvrtcGetPTXSize(p, &ptx);
        nvrtcGetCUBINSize(p, &cubin);
    }
    pthread_mutex_lock(&reporting);
    FILE *report = fopen(path, "a");
    if (report && result == 0) fprintf(report, "ok %zu %zu %ld %s\n", ptx, cubin, ms, entry(name, sizeof name));
    if (report && result != 0) write_failure(report, path, p);
    if (report) fclose(report);
    pthread_mutex_unlock(&reporting);
    return result;
}

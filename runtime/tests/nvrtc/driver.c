// A stand-in for NVIDIA's driver library, for tests on machines without a card: one device that looks like an H100, whose
// memory is host memory (zeroed) and whose kernels do nothing. Numbers that come out mean nothing; what is tested is that
// everything up to the launch works: each kernel is generated, compiled by the real NVRTC, and loaded.
//
// FAKE_VERSION is the CUDA release that it supports, FAKE_INIT what cuInit answers; both may be set on the compiler's
// command line. With FAKE_CUDA_REPORT set, a line "modules N launches N copies N allocated BYTES" is written to that file at exit.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdatomic.h>

#ifndef FAKE_VERSION
#define FAKE_VERSION 13990
#endif
#ifndef FAKE_INIT
#define FAKE_INIT 0
#endif

typedef int Result;
typedef unsigned long long Pointer;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, NOT_SUPPORTED = 801 };

static atomic_long modules, launches, copies, allocated, events;
static int context, stream;

static void report(void) {
    const char *path = getenv("FAKE_CUDA_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "modules %ld launches %ld copies %ld allocated %ld\n", modules, launches, copies, allocated);
    fclose(file);
}

Result cuInit(unsigned flags) {
    static atomic_flag once = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&once)) atexit(report);
    return flags ? INVALID_VALUE : FAKE_INIT;
}
Result cuDriverGetVersion(int *version) { *version = FAKE_VERSION; return SUCCESS; }
Result cuGetErrorName(Result e, const char **s) { (void)e; *s = "FAKE_ERROR"; return SUCCESS; }
Result cuGetErrorString(Result e, const char **s) { (void)e; *s = "an error of the stand-in driver"; return SUCCESS; }

// NVRTC 13.5 looks here for private functions of the driver, and does without a table that is too short for them.
Result cuGetExportTable(const void **table, const void *id) {
    static const size_t empty[1] = {sizeof empty};
    (void)id;
    *table = empty;
    return SUCCESS;
}

// Devices.
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int index) { *device = index; return index == 0 ? SUCCESS : 101; }
Result cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, length, "NVIDIA H100 80GB HBM3");
    return SUCCESS;
}
Result cuDeviceGetPCIBusId(char *id, int length, int device) {
    (void)device;
    snprintf(id, length, "0000:19:00.0");
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = 80ull << 30; return SUCCESS; }
Result cuMemGetInfo_v2(size_t *free, size_t *total) { *free = *total = 80ull << 30; return SUCCESS; }
Result cuDeviceGetUuid_v2(char *uuid, int device) { (void)device; memset(uuid, 7, 16); return SUCCESS; }
Result cuDeviceCanAccessPeer(int *can, int a, int b) { *can = a == b; return SUCCESS; }

// CUdevice_attribute of an H100 SXM.
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    static const struct { int key, value; } known[] = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {9, 65536},
        {10, 32}, {11, 2147483647}, {12, 65536}, {13, 1980000}, {14, 512}, {15, 1}, {16, 132}, {31, 1}, {36, 2619000},
        {37, 5120}, {38, 52428800}, {39, 2048}, {40, 3}, {41, 1}, {75, 9}, {76, 0}, {81, 233472}, {82, 65536}, {83, 1},
        {97, 232448}, {106, 32}, {111, 1024}, {115, 1}, {120, 1},
    };
    (void)device;
    *value = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].key == attribute) *value = known[i].value;
    return SUCCESS;
}

// Contexts and streams.
Result cuDevicePrimaryCtxRetain(void **out, int device) { (void)device; *out = &context; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return SUCCESS; }
Result cuCtxSetCurrent(void *c) { (void)c; return SUCCESS; }
Result cuCtxGetCurrent(void **c) { *c = &context; return SUCCESS; }
Result cuCtxGetDevice(int *device) { *device = 0; return SUCCESS; }
Result cuCtxSynchronize(void) { return SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return SUCCESS; }
Result cuStreamCreate(void **out, unsigned flags) { (void)flags; *out = &stream; return SUCCESS; }
Result cuStreamCreateWithPriority(void **out, unsigned f, int p) { (void)f; (void)p; *out = &stream; return SUCCESS; }
Result cuStreamSynchronize(void *s) { (void)s; return SUCCESS; }
Result cuStreamQuery(void *s) { (void)s; return SUCCESS; }
Result cuStreamWaitEvent(void *s, void *e, unsigned f) { (void)s; (void)e; (void)f; return SUCCESS; }
Result cuStreamDestroy_v2(void *s) { (void)s; return SUCCESS; }

// Events: each holds the number of events recorded before it, so that elapsed times are small and grow.
Result cuEventCreate(void **out, unsigned flags) { (void)flags; *out = calloc(1, sizeof(long)); return SUCCESS; }
Result cuEventRecord(void *event, void *s) { (void)s; *(long *)event = events++; return SUCCESS; }
Result cuEventSynchronize(void *event) { (void)event; return SUCCESS; }
Result cuEventQuery(void *event) { (void)event; return SUCCESS; }
Result cuEventDestroy_v2(void *event) { free(event); return SUCCESS; }
Result cuEventElapsedTime_v2(float *ms, void *start, void *end) {
    *ms = 0.01f * (float)(*(long *)end - *(long *)start);
    return SUCCESS;
}
Result cuEventElapsedTime(float *ms, void *start, void *end) { return cuEventElapsedTime_v2(ms, start, end); }

// Memory.
Result cuMemAlloc_v2(Pointer *out, size_t bytes) {
    void *memory = calloc(1, bytes ? bytes : 1);
    *out = (Pointer)memory;
    allocated += (long)bytes;
    return memory ? SUCCESS : OUT_OF_MEMORY;
}
Result cuMemAllocAsync(Pointer *out, size_t bytes, void *s) { (void)s; return cuMemAlloc_v2(out, bytes); }
Result cuMemFree_v2(Pointer memory) { free((void *)memory); return SUCCESS; }
Result cuMemFreeAsync(Pointer memory, void *s) { (void)s; return cuMemFree_v2(memory); }
Result cuMemAllocHost_v2(void **out, size_t bytes) { *out = calloc(1, bytes ? bytes : 1); return *out ? SUCCESS : OUT_OF_MEMORY; }
Result cuMemFreeHost(void *memory) { free(memory); return SUCCESS; }
static Result copy(void *to, const void *from, size_t bytes) {
    copies++;
    memmove(to, from, bytes);
    return SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *s) { (void)s; return copy((void *)to, from, bytes); }
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *s) { (void)s; return copy(to, (void *)from, bytes); }
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void *s) { (void)s; return copy((void *)to, (void *)from, bytes); }
Result cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, void *s) { (void)s; memset((void *)to, value, bytes); return SUCCESS; }

// CUDA_MEMCPY2D: kind 1 is the host, 2 the device.
typedef struct {
    size_t src_x, src_y; unsigned src_kind; const void *src_host; Pointer src_device; void *src_array; size_t src_pitch;
    size_t dst_x, dst_y; unsigned dst_kind; void *dst_host; Pointer dst_device; void *dst_array; size_t dst_pitch;
    size_t width, height;
} Copy2D;
Result cuMemcpy2DAsync_v2(const Copy2D *c, void *s) {
    const char *from = c->src_kind == 1 ? c->src_host : (const char *)c->src_device;
    char *to = c->dst_kind == 1 ? c->dst_host : (char *)c->dst_device;
    (void)s;
    for (size_t row = 0; row < c->height; row++)
        memmove(to + (c->dst_y + row) * c->dst_pitch + c->dst_x, from + (c->src_y + row) * c->src_pitch + c->src_x, c->width);
    copies++;
    return SUCCESS;
}

// Kernels. An image must be PTX text of a version and a target.
Result cuModuleLoadData(void **out, const void *image) {
    if (!strstr(image, ".version") || !strstr(image, ".target") || !strstr(image, ".entry")) return INVALID_IMAGE;
    modules++;
    *out = strdup(image);
    return SUCCESS;
}
Result cuModuleGetFunction(void **out, void *module, const char *name) {
    *out = module;
    return strstr(module, name) ? SUCCESS : 500;
}
Result cuModuleUnload(void *module) { free(module); return SUCCESS; }
Result cuFuncSetAttribute(void *function, int attribute, int value) {
    (void)function;
    // Attribute 8 is the dynamic shared memory of a block.
    return attribute == 8 && value > 232448 ? INVALID_VALUE : SUCCESS;
}
Result cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      void *s, void **arguments, void **extra) {
    (void)f; (void)gx; (void)shared; (void)s; (void)arguments; (void)extra;
    launches++;
    return gx && gy && gz && gy <= 65535 && gz <= 65535 && bx * by * bz >= 1 && bx * by * bz <= 1024 ? SUCCESS : INVALID_VALUE;
}
Result cuTensorMapEncodeTiled(void) { return SUCCESS; }
Result cuTensorMapEncodeIm2col(void) { return SUCCESS; }
Result cuTensorMapEncodeIm2colWide(void) { return SUCCESS; }
Result cuStreamBeginCapture_v2(void) { return NOT_SUPPORTED; }
Result cuStreamEndCapture(void) { return NOT_SUPPORTED; }

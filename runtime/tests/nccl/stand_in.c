// A stand-in for NCCL and the part of NVIDIA's driver that goes with it, for tests on machines without a card: eight cards
// whose memory is host memory. Ranks may be threads or processes: those with the same unique id meet in a file of shared
// memory. Sums are taken in rank order. As the real library, it refuses two ranks on one card, tells of a communicator or a
// stream that is not done when first asked, and never waits inside an abort.
//
// FAKE_NCCL_VERSION is what ncclGetVersion answers. A call that was given something it should not have been, such as a
// config of the wrong size or a call outside of the card's context, answers with a failure.
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef FAKE_NCCL_VERSION
#define FAKE_NCCL_VERSION 22703
#endif

typedef unsigned long long Pointer;
enum { CARDS = 8, RANKS = 16, SLOT = 1 << 16, NOT_READY = 600, INVALID_CONTEXT = 201 };
enum { SUCCESS = 0, SYSTEM = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, IN_PROGRESS = 7 };

// The driver. A context is the number of its card plus one.
static _Thread_local long current;
typedef struct { long context; int unanswered; } Stream;

int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index >= 0 && index < CARDS ? 0 : 101; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 0, 16); uuid[0] = (char)(200 + device); uuid[15] = 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(long)(device + 1); return 0; }
int cuCtxSetCurrent(void *context) { current = (long)context; return 0; }
int cuStreamCreate(void **out, unsigned flags) {
    if (!current || flags != 1) return INVALID_CONTEXT;
    Stream *stream = calloc(1, sizeof *stream);
    stream->context = current;
    *out = stream;
    return 0;
}
// Each piece of work is done at once, and said to be under way when asked after for the first time.
int cuStreamQuery(void *s) {
    Stream *stream = s;
    if (stream->context != current) return INVALID_CONTEXT;
    if (!stream->unanswered) return 0;
    stream->unanswered = 0;
    return NOT_READY;
}
int cuStreamDestroy_v2(void *stream) { free(stream); return 0; }
int cuMemAlloc_v2(Pointer *out, size_t bytes) { *out = (Pointer)malloc(bytes); return current && *out ? 0 : 2; }
int cuMemFree_v2(Pointer memory) { free((void *)memory); return 0; }
static int copy(void *to, const void *from, size_t bytes, Stream *stream) {
    if (stream->context != current) return INVALID_CONTEXT;
    stream->unanswered = 1;
    memcpy(to, from, bytes);
    return 0;
}
int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *s) { return copy((void *)to, from, bytes, s); }
int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *s) { return copy(to, (void *)from, bytes, s); }

// Shared memory of a communicator: a barrier, the card of each rank, and a slot for each.
typedef struct {
    atomic_int joined, arrived, round, aborted;
    int card[RANKS];
    char slot[RANKS][SLOT];
} Shared;
typedef struct { char bytes[128]; } UniqueId;
typedef struct { size_t size; unsigned magic, version; int blocking; } Config;
typedef struct { Shared *shared; int rank, size, unanswered; UniqueId id; } Comm;

int ncclGetVersion(int *version) { *version = FAKE_NCCL_VERSION; return SUCCESS; }
const char *ncclGetErrorString(int result) {
    switch (result) {
    case SYSTEM: return "unhandled system error of the stand-in";
    case INVALID_ARGUMENT: return "invalid argument to the stand-in";
    case INVALID_USAGE: return "invalid usage of the stand-in: two ranks on one card";
    default: return "an error of the stand-in";
    }
}
int ncclGetUniqueId(UniqueId *id) {
    static atomic_int made;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(id, 0xe7, sizeof *id);
    snprintf(id->bytes, sizeof id->bytes, "/dev/shm/nccl-stand-in-%d-%ld-%d", (int)getpid(), now.tv_nsec, made++);
    return SUCCESS;
}
// The first rank that comes makes the file; the last one, or the first that leaves, unlinks it.
int ncclCommInitRankConfig(void **out, int size, UniqueId id, int rank, Config *config) {
    if (config->size != sizeof *config || config->magic != 0xcafebeef || config->version < 21400 || config->blocking)
        return INVALID_ARGUMENT;
    if (size < 1 || size > RANKS || rank < 0 || rank >= size || id.bytes[127] != (char)0xe7) return INVALID_ARGUMENT;
    int file = open(id.bytes, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof(Shared))) return SYSTEM;
    Shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED) return SYSTEM;
    Comm *comm = calloc(1, sizeof *comm);
    *comm = (Comm){shared, rank, size, 1, id};
    shared->card[rank] = (int)current;
    if (atomic_fetch_add(&shared->joined, 1) + 1 == size) unlink(id.bytes);
    *out = comm;
    return IN_PROGRESS;
}
int ncclCommGetAsyncError(void *c, int *state) {
    Comm *comm = c;
    *state = comm->shared->joined < comm->size || comm->unanswered ? IN_PROGRESS : SUCCESS;
    comm->unanswered = 0;
    for (int a = 0; *state == SUCCESS && a < comm->size; a++)
        for (int b = 0; b < a; b++)
            if (comm->shared->card[a] == comm->shared->card[b]) *state = INVALID_USAGE;
    return SUCCESS;
}
int ncclCommAbort(void *c) {
    Comm *comm = c;
    comm->shared->aborted = 1;
    unlink(comm->id.bytes);
    munmap(comm->shared, sizeof *comm->shared);
    free(comm);
    return SUCCESS;
}

static int meet(Comm *comm) {
    Shared *shared = comm->shared;
    int round = shared->round;
    if (atomic_fetch_add(&shared->arrived, 1) + 1 == comm->size) {
        shared->arrived = 0;
        shared->round++;
    } else {
        while (shared->round == round)
            if (shared->aborted) return SYSTEM; else usleep(1);
    }
    return SUCCESS;
}
static int check(Comm *comm, int kind, Stream *stream) {
    if (kind != 7 || stream->context != current || comm->shared->card[comm->rank] != current) return INVALID_ARGUMENT;
    comm->unanswered = stream->unanswered = 1;
    return SUCCESS;
}
// Everybody shows `mine` (unless it is nothing); `take` puts what one rank shows, or the sum of all, at `to`.
enum { SUM_OF_ALL = -1, NOTHING = -2 };
static int exchange(Comm *comm, const float *mine, float *to, size_t count, int take) {
    const size_t most = SLOT / sizeof(float);
    for (size_t first = 0; first < count; first += most) {
        size_t n = count - first < most ? count - first : most;
        if (mine) memcpy(comm->shared->slot[comm->rank], mine + first, n * sizeof(float));
        if (meet(comm)) return SYSTEM;
        if (take >= 0) memcpy(to + first, comm->shared->slot[take], n * sizeof(float));
        for (size_t i = 0; take == SUM_OF_ALL && i < n; i++) {
            float sum = ((float *)comm->shared->slot[0])[i];
            for (int r = 1; r < comm->size; r++) sum += ((float *)comm->shared->slot[r])[i];
            to[first + i] = sum;
        }
        if (meet(comm)) return SYSTEM;
    }
    return SUCCESS;
}

int ncclAllReduce(const float *from, float *to, size_t count, int kind, int op, Comm *comm, void *stream) {
    int bad = check(comm, kind, stream);
    return bad || op ? INVALID_ARGUMENT : exchange(comm, from, to, count, SUM_OF_ALL);
}
int ncclReduce(const float *from, float *to, size_t count, int kind, int op, int root, Comm *comm, void *stream) {
    int bad = check(comm, kind, stream);
    return bad || op ? INVALID_ARGUMENT : exchange(comm, from, to, count, root == comm->rank ? SUM_OF_ALL : NOTHING);
}
int ncclBroadcast(const float *from, float *to, size_t count, int kind, int root, Comm *comm, void *stream) {
    return check(comm, kind, stream) ? INVALID_ARGUMENT : exchange(comm, from, to, count, root);
}
int ncclAllGather(const float *from, float *to, size_t count, int kind, Comm *comm, void *stream) {
    int bad = check(comm, kind, stream);
    for (int r = 0; !bad && r < comm->size; r++) bad = exchange(comm, from, to + r * count, count, r);
    return bad;
}
int ncclReduceScatter(const float *from, float *to, size_t count, int kind, int op, Comm *comm, void *stream) {
    int bad = check(comm, kind, stream) || op;
    for (int r = 0; !bad && r < comm->size; r++)
        bad = exchange(comm, from + r * count, to, count, r == comm->rank ? SUM_OF_ALL : NOTHING);
    return bad;
}

// Sends and receives of a group, which together are an all-to-all of equal parts; outside of a group they are refused.
static _Thread_local struct { const float *from[RANKS]; float *to[RANKS]; size_t count; Comm *comm; int open, posted; } group;
int ncclGroupStart(void) { memset(&group, 0, sizeof group); group.open = 1; return SUCCESS; }
static int post(int peer, size_t count, int kind, Comm *comm, void *stream) {
    if (!group.open || check(comm, kind, stream) || peer < 0 || peer >= comm->size) return INVALID_ARGUMENT;
    if (group.posted++ && group.count != count) return INVALID_ARGUMENT;
    group.comm = comm;
    group.count = count;
    return SUCCESS;
}
int ncclSend(const float *from, size_t count, int kind, int peer, Comm *comm, void *stream) {
    group.from[peer] = from;
    return post(peer, count, kind, comm, stream);
}
int ncclRecv(float *to, size_t count, int kind, int peer, Comm *comm, void *stream) {
    group.to[peer] = to;
    return post(peer, count, kind, comm, stream);
}
int ncclGroupEnd(void) {
    Comm *comm = group.comm;
    group.open = 0;
    if (!comm || group.posted != 2 * comm->size) return INVALID_ARGUMENT;
    // In turn `to` everybody: all show what they have for it, and it takes one slot after another.
    for (int to = 0; to < comm->size; to++) {
        const size_t most = SLOT / sizeof(float);
        for (size_t first = 0; first < group.count; first += most) {
            size_t n = group.count - first < most ? group.count - first : most;
            memcpy(comm->shared->slot[comm->rank], group.from[to] + first, n * sizeof(float));
            if (meet(comm)) return SYSTEM;
            for (int r = 0; r < comm->size && to == comm->rank; r++)
                memcpy(group.to[r] + first, comm->shared->slot[r], n * sizeof(float));
            if (meet(comm)) return SYSTEM;
        }
    }
    return SUCCESS;
}

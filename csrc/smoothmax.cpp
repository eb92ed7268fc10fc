// The functions that Python calls: plain C, so that one library serves every version of torch and Python.
//
// Nothing of torch is needed to build it. Its thread pool comes as the address of torch_parallel_for, a function of
// torch's stable C interface; without one everything runs on the calling thread.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "driver.h"
#include "job.h"

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

namespace {

// The best first.
constexpr const Kernels* ALL[] = {
#if defined(__x86_64__)
    &kernels_avx512, &kernels_avx2,
#endif
    &kernels_baseline};

constexpr int64_t SIZES[] = {4, 8, 2, 2};  // bytes, by type

using ParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain, Range range, void* context);

constexpr int64_t STREAM = int64_t(4) << 20;  // bytes of results that go past the caches
constexpr int64_t GRAIN = 32768;  // entries that are worth a thread, as in torch

// Whether this processor can run them.
bool runs(const Kernels* candidate) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (candidate == &kernels_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (candidate == &kernels_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return candidate == &kernels_baseline;
}

const Kernels* find(const char* name) {
    for (const Kernels* candidate : ALL)
        if (runs(candidate) && (!name || strcmp(name, candidate->name) == 0)) return candidate;
    return nullptr;
}

const Kernels* kernels = find(nullptr);
ParallelFor parallel_for = nullptr;

struct Work {
    const Job* job;
    Stage stage;
    void (*run)(const Job& job, Stage stage, int64_t begin, int64_t end);
};

void run_range(int64_t begin, int64_t end, void* context) {
    const Work& work = *static_cast<const Work*>(context);
    work.run(*work.job, work.stage, begin, end);
}

void run(const Job& job, Type type, Stage stage) {
    bool apart = stage == PART || stage == WEIGHT;
    int64_t tasks = apart ? job.groups * job.pieces : job.groups;
    int64_t entries = kernels->lanes[type] * (apart ? job.piece : job.n);
    int64_t grain = entries < GRAIN ? GRAIN / entries : 1;
    Work work = {&job, stage, kernels->run[type]};
    in_parallel(tasks, grain, run_range, &work);
}

void swap(int64_t& a, int64_t& b) {
    int64_t held = a;
    a = b, b = held;
}

// Rows that are neighbours in memory become neighbours in number.
void arrange(Job& job, Type type) {
    if (job.inner == 1 || (job.x_outer == 1 && job.x_inner != 1)) {
        swap(job.outer, job.inner);
        swap(job.x_outer, job.x_inner);
        swap(job.w_outer, job.w_inner);
        swap(job.g_outer, job.g_inner);
        swap(job.row_outer, job.row_inner);
    }
    int lanes = kernels->lanes[type];
    bool wide = job.x_inner == 1 && job.x_n != 1 && job.inner >= lanes / 2;
    job.in_lanes = wide || job.n <= SHORT;
    job.piece = job.in_lanes ? PIECE_OF_LANES : PIECE_OF_ROW;
    job.rows = job.outer * job.inner;
    job.groups = (job.rows + lanes - 1) / lanes;
    job.pieces = (job.n + job.piece - 1) / job.piece;
}


// Every stage of a job.
void run_all(Job& job, Type type) {
    if (job.pieces == 1) return run(job, type, WHOLE);
    run(job, type, PART);
    run(job, type, MERGE);
    if (job.weights) run(job, type, WEIGHT);
}

// Every stage of a job, with room for what the stages tell each other; 1 where memory is short.
int run_with_room(Job& job, Type type) {
    if (job.pieces == 1) {
        run_all(job, type);
        return 0;
    }
    int64_t rows = job.groups * kernels->lanes[type] * (type == FLOAT64 ? 8 : 4);
    Room parts(job.groups * job.pieces * kernels->bytes_of_a_part[type]), anchor(rows), total(rows);
    if (!parts.at || !anchor.at || !total.at) return 1;
    job.parts = parts.at;
    if (!job.anchor) job.anchor = anchor.at, job.total = total.at;
    run_all(job, type);
    return 0;
}

}  // namespace

void in_parallel(int64_t tasks, int64_t grain, Range range, void* context) {
    if (!parallel_for || tasks <= grain || parallel_for(0, tasks, grain, range, context) != 0) range(0, tasks, context);
}

// Fresh memory comes in pages of 4 KiB, each of which costs more to get than to fill: ask for large ones. Below 32 MiB
// the C library keeps memory for the next call and the pages are there already.
void ask_for_large_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr int64_t page = 4096;
    if (bytes < (int64_t(32) << 20)) return;
    int64_t begin = (reinterpret_cast<int64_t>(memory) + page - 1) / page * page;
    int64_t end = (reinterpret_cast<int64_t>(memory) + bytes) / page * page;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

namespace {

void set_weights(Job& job, Type type, void* weights, int64_t outer, int64_t n, int64_t inner) {
    job.weights = weights, job.w_outer = outer, job.w_n = n, job.w_inner = inner;
    int64_t bytes = job.outer * job.n * job.inner * SIZES[type];
    job.stream = bytes >= STREAM;
    ask_for_large_pages(weights, bytes);
}

}  // namespace

EXPORT int smoothmax_version() { return 11; }

EXPORT void smoothmax_use_threads(void* torch_parallel_for) {
    parallel_for = reinterpret_cast<ParallelFor>(torch_parallel_for);
}

// The instruction set in use.
EXPORT const char* smoothmax_instructions() { return kernels->name; }

// For tests: take another one; 0 if it exists here.
EXPORT int smoothmax_use_instructions(const char* name) {
    const Kernels* found = find(name);
    if (found) kernels = found;
    return found == nullptr;
}

// The log-sum-exp of x[outer][n][inner] over n, with whatever else is not null; all results are contiguous.
EXPORT int smoothmax_forward(int type, const void* x, int64_t outer, int64_t n, int64_t inner, int64_t x_outer,
                             int64_t x_n, int64_t x_inner, double sharpness, int mean, void* value, void* anchor,
                             void* total) {
    Job job = {};
    job.x = x, job.outer = outer, job.n = n, job.inner = inner;
    job.x_outer = x_outer, job.x_n = x_n, job.x_inner = x_inner;
    job.sharpness = sharpness, job.mean = mean;
    job.value = value, job.anchor = anchor, job.total = total;
    job.row_outer = inner, job.row_inner = 1;
    arrange(job, Type(type));
    return run_with_room(job, Type(type));
}

// The weights of x[outer][n][inner] over n, times grad[outer][inner] if given; anchor and total are those of the forward
// pass, or null.
EXPORT int smoothmax_weights(int type, const void* x, int64_t outer, int64_t n, int64_t inner, int64_t x_outer,
                             int64_t x_n, int64_t x_inner, double sharpness, void* anchor, void* total, const void* grad,
                             int64_t g_outer, int64_t g_inner, void* weights, int64_t w_outer,
                             int64_t w_n, int64_t w_inner) {
    Job job = {};
    job.x = x, job.outer = outer, job.n = n, job.inner = inner;
    job.x_outer = x_outer, job.x_n = x_n, job.x_inner = x_inner;
    job.sharpness = sharpness;
    job.anchor = anchor, job.total = total;
    job.row_outer = inner, job.row_inner = 1;
    job.grad = grad, job.g_outer = g_outer, job.g_inner = g_inner;
    set_weights(job, Type(type), weights, w_outer, w_n, w_inner);
    arrange(job, Type(type));
    if (!anchor) return run_with_room(job, Type(type));
    run(job, Type(type), WEIGHT);
    return 0;
}

// Softmax cross-entropy of each row of x[outer][n][inner]: the loss, and what the backward pass needs. 2 where a target
// lies outside the classes.
EXPORT int smoothmax_loss(int type, const void* x, int64_t outer, int64_t n, int64_t inner, int64_t x_outer, int64_t x_n,
                          int64_t x_inner, double scale, const int64_t* target, int64_t ignored, double margin,
                          void* loss, void* anchor, void* total, void* push) {
    for (int64_t r = 0; r < outer * inner; r++)
        if (target[r] != ignored && (target[r] < 0 || target[r] >= n)) return 2;
    Job job = {};
    job.x = x, job.outer = outer, job.n = n, job.inner = inner;
    job.x_outer = x_outer, job.x_n = x_n, job.x_inner = x_inner;
    job.sharpness = scale, job.target = target, job.ignored = ignored, job.margin = margin;
    job.value = loss, job.anchor = anchor, job.total = total, job.push = push;
    job.row_outer = inner, job.row_inner = 1;
    arrange(job, Type(type));
    return run_with_room(job, Type(type));
}

// The gradient of these losses, times grad[outer][inner].
EXPORT int smoothmax_loss_gradient(int type, const void* x, int64_t outer, int64_t n, int64_t inner, int64_t x_outer,
                                   int64_t x_n, int64_t x_inner, double scale, const int64_t* target, int64_t ignored,
                                   void* anchor, void* total, void* push, const void* grad, int64_t g_outer,
                                   int64_t g_inner, void* gradient, int64_t w_outer, int64_t w_n, int64_t w_inner) {
    Job job = {};
    job.x = x, job.outer = outer, job.n = n, job.inner = inner;
    job.x_outer = x_outer, job.x_n = x_n, job.x_inner = x_inner;
    job.sharpness = scale, job.target = target, job.ignored = ignored;
    job.anchor = anchor, job.total = total, job.push = push;
    job.row_outer = inner, job.row_inner = 1;
    job.grad = grad, job.g_outer = g_outer, job.g_inner = g_inner;
    set_weights(job, Type(type), gradient, w_outer, w_n, w_inner);
    arrange(job, Type(type));
    run(job, Type(type), WEIGHT);
    return 0;
}

// For tests: exp, expm1, log1p or log of n numbers, or a rounding to a half and back.
EXPORT void smoothmax_apply(int function, int type, const void* x, void* y, int64_t n) {
    kernels->apply(Function(function), Type(type), x, y, n);
}

// The calls for many classes: which kernels this processor runs, and rows in as many portions as fit their room.
#include <string.h>

#include "driver.h"
#include "half.h"
#include "many_class.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

extern const ManyKernels many_baseline;
#if defined(__x86_64__)
extern const ManyKernels many_avx2, many_avx512;
#if defined(WITH_AMX)
extern const ManyKernels many_amx;
#endif
#endif

Spare* spare = nullptr;

namespace {

// The best first.
constexpr const ManyKernels* ALL[] = {
#if defined(__x86_64__)
#if defined(WITH_AMX)
    &many_amx,
#endif
    &many_avx512, &many_avx2,
#endif
    &many_baseline};

#if defined(WITH_AMX)
// Whether there is a matrix unit for bfloat16, and the system lets this process use it.
bool has_matrix_unit() {
#if defined(__linux__)
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return false;  // bfloat16 in vectors
    constexpr long ask = 0x1023, tiles = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, ask, tiles) == 0;
#else
    return false;
#endif
}
#endif

bool runs(const ManyKernels* candidate) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#if defined(WITH_AMX)
    if (candidate == &many_amx) return wide && has_matrix_unit();
#endif
    if (candidate == &many_avx512) return wide;
    if (candidate == &many_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return candidate == &many_baseline;
}

const ManyKernels* find(const char* name) {
    for (const ManyKernels* candidate : ALL)
        if ((!name || strcmp(name, candidate->name) == 0) && runs(candidate)) return candidate;
    return nullptr;
}

const ManyKernels* chosen = nullptr;

// Found at the first call, not at loading: it asks the system for the matrix unit.
const ManyKernels* kernels() {
    if (!chosen) chosen = find(nullptr);
    return chosen;
}

struct Work {
    const ManyKernels* kernels;
    const ManyClass* job;
    ManyStage stage;
};

void run_range(int64_t begin, int64_t end, void* context) {
    const Work& work = *static_cast<const Work*>(context);
    work.kernels->run(*work.job, work.stage, begin, end);
}

void run(const ManyKernels* with, const ManyClass& job, ManyStage stage) {
    Work work = {with, &job, stage};
    int64_t grain = stage == JOIN ? 4096 : stage == REDUCE ? 64 : 1;
    in_parallel(with->count(job, stage), grain, run_range, &work);
}

ManyPlan plan_of(const ManyKernels* with, const ManyClass& job) {
    ManyPlan plan;
    with->plan(job, &plan);
    return plan;
}

constexpr int64_t BLOCK = 256;  // fewer rows would not pay for another visit of the prototypes

// As many rows of the job as its kernels have room for.
int64_t portion(const ManyKernels* with, ManyClass job, int64_t most) {
    while (job.rows > BLOCK && plan_of(with, job).room > most) job.rows = (job.rows / 2 + BLOCK - 1) / BLOCK * BLOCK;
    return job.rows;
}

// What `smoothmax_many_plan` tells.
struct Cut {
    int64_t rows_forward, room_forward;  // of a portion, and the bytes of its room
    int64_t rows, room;                  // the same, backward
    int64_t tile, tiles, block;          // classes of a tile, how many tiles, rows of a block
    int64_t kept, numbers;               // tiles whose products are kept, and how many numbers each takes
    int64_t stripe;                      // tiles that share a mass; 0 for none
};

// So little may be left out of a row and a stripe, that of a row, and of a class, it is at most `skip` times the largest
// |lse_grad| in all; a negative number for nothing.
double limit_of(const ManyClass& job, double skip) {
    double largest = 0;
    for (int64_t n = 0; n < job.rows; n++) {
        double size = job.lse_grad[n] < 0 ? -job.lse_grad[n] : job.lse_grad[n];
        largest = size > largest ? size : largest;
    }
    int64_t stripes = (plan_of(kernels(), job).tiles + job.stripe - 1) / job.stripe;
    double limit = skip * largest / double(stripes > job.rows ? stripes : job.rows);
    return limit - limit == 0 ? limit : -1;
}

// All rows, portion by portion, each with these stages.
int run_portions(ManyClass job, int64_t most, const ManyStage (&stages)[3]) {
    const ManyKernels* with = kernels();
    int64_t rows = job.rows, step = portion(with, job, most), size = job.half ? 2 : 4;
    int refused = 0;
    job.refused = &refused;
    job.rows = step;
    LastingRoom room(plan_of(with, job).room);
    if (!room.at()) return NO_MEMORY;
    job.room = room.at();
    for (int64_t done = 0; done < rows && !refused; done += step) {
        job.rows = rows - done < step ? rows - done : step;
        for (ManyStage stage : stages) run(with, job, stage);
        job.x = static_cast<const char*>(job.x) + step * job.x_stride * size;
        job.target += step, job.scale += step, job.lse += step;
        if (job.score) job.score += step;
        if (job.masses) job.masses += step;
        if (job.statistics) job.statistics += step;
        if (job.lse_grad) job.lse_grad += step, job.score_grad += step, job.dscale += step;
        if (job.dx) job.dx = static_cast<char*>(job.dx) + step * job.features * size;
        job.add = 1;
    }
    return refused ? REFUSED : DONE;
}

}  // namespace

// How a job is cut, its rooms taking `most` bytes, what is kept for backward among them, of which products take `kept`
// bytes and masses `masses`; -1 for those if there shall be none.
EXPORT void smoothmax_many_plan(int64_t rows, int64_t classes, int64_t features, int normalize, int64_t tasks,
                                int64_t most, int64_t kept, int64_t masses, Cut* cut) {
    ManyClass job = {};
    float any = 0;
    job.rows = rows, job.classes = classes, job.features = features, job.normalize = normalize, job.tasks = tasks;
    job.rows = portion(kernels(), job, most);
    ManyPlan forward = plan_of(kernels(), job);
    cut->rows_forward = job.rows, cut->room_forward = forward.room;
    job.rows = rows, job.lse_grad = &any;
    job.rows = portion(kernels(), job, most);
    ManyPlan backward = plan_of(kernels(), job);
    cut->rows = job.rows, cut->room = backward.room, cut->tile = backward.tile, cut->tiles = backward.tiles;
    cut->block = backward.block, cut->numbers = backward.tile_numbers;
    cut->stripe = 0;
    if (masses >= 0) {
        int64_t stripe = masses ? (4 * rows * backward.tiles + masses - 1) / masses : backward.tiles;
        cut->stripe = stripe > backward.tiles ? backward.tiles : stripe > 1 ? stripe : 1;
    }
    int64_t stripes = cut->stripe ? (backward.tiles + cut->stripe - 1) / cut->stripe : 0;
    int64_t left = most - backward.room - 4 * rows * stripes;
    int64_t fit = job.rows < rows ? 0 : (left < kept ? left : kept) / 4 / cut->numbers;
    cut->kept = fit < 0 ? 0 : fit < backward.tiles ? fit : backward.tiles;
}

// The instruction set in use.
EXPORT const char* smoothmax_many_instructions() { return kernels()->name; }

// For tests: take another one; 0 if it exists here.
EXPORT int smoothmax_use_many_instructions(const char* name) {
    const ManyKernels* found = find(name);
    if (found) chosen = found;
    return found == nullptr;
}

// Per row ln sum_{j != target} exp(logit_j) and the target's score; see many_class.h. Room takes `most` bytes, or what a block of rows needs.
EXPORT int smoothmax_many_values(int64_t rows, int64_t classes, int64_t features, int half, const void* x,
                                 int64_t x_stride, const void* w, int64_t w_stride, const int64_t* target, const float* scale,
                                 const float* bias, const float* offset, int normalize, int64_t tasks, int64_t most,
                                 float* kept, int64_t kept_tiles, float* masses, int64_t stripe, float* lse,
                                 float* score, float* statistics) {
    ManyClass job = {};
    job.rows = rows, job.classes = classes, job.features = features, job.half = half;
    job.x = x, job.x_stride = x_stride, job.w = w, job.w_stride = w_stride;
    job.target = target, job.scale = scale, job.bias = bias, job.offset = offset;
    job.normalize = normalize, job.tasks = tasks, job.lse = lse, job.score = score;
    job.kept = kept, job.kept_tiles = kept_tiles;
    job.masses = masses, job.stride = rows, job.stripe = stripe;
    job.statistics = statistics;
    return run_portions(job, most, {PACK, VALUES, JOIN});
}

// The derivatives of sum_n (lse_grad_n lse_n + score_grad_n score_n); contiguous, those of classes null where not wanted.
EXPORT int smoothmax_many_slopes(int64_t rows, int64_t classes, int64_t features, int half, const void* x,
                                 int64_t x_stride, const void* w, int64_t w_stride, const int64_t* target, const float* scale,
                                 const float* bias, const float* offset, int normalize, int64_t tasks, int64_t most,
                                 float* kept, int64_t kept_tiles, float* masses, int64_t stripe, float* lse, const float* lse_grad,
                                 const float* score_grad, void* dx, void* dw, float* dscale, float* dbias,
                                 float* doffset, double skip, int64_t* counts) {
    ManyClass job = {};
    job.rows = rows, job.classes = classes, job.features = features, job.half = half;
    job.x = x, job.x_stride = x_stride, job.w = w, job.w_stride = w_stride;
    job.target = target, job.scale = scale, job.bias = bias, job.offset = offset;
    job.normalize = normalize, job.tasks = tasks, job.lse = lse;
    job.lse_grad = lse_grad, job.score_grad = score_grad;
    job.dx = dx, job.dw = dw, job.dscale = dscale, job.dbias = dbias, job.doffset = doffset;
    job.kept = kept, job.kept_tiles = kept_tiles;
    job.masses = masses, job.stride = rows, job.stripe = stripe;
    job.limit = masses ? limit_of(job, skip) : -1;
    job.counts = counts;
    if (dw) ask_for_large_pages(dw, (half ? 2 : 4) * classes * features);
    if (!dw || !half || portion(kernels(), job, most) == rows) return run_portions(job, most, {PACK, SLOPES, REDUCE});
    // Several portions of rows add to one derivative, which is rounded once.
    Room wide(4 * classes * features);
    if (!wide.at) return NO_MEMORY;
    job.dw = wide.at, job.wide = 1;
    int outcome = run_portions(job, most, {PACK, SLOPES, REDUCE});
    for (int64_t i = 0; i < classes * features; i++) narrow(static_cast<float*>(wide.at)[i], static_cast<BFloat16*>(dw)[i]);
    return outcome;
}

// For tests and measurements: c = a b, or c += a b; m x k by k x n, contiguous, transposed where asked.
EXPORT int smoothmax_multiply(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k,
                              int a_transposed, int b_transposed, int add) {
    Room room(kernels()->multiply_room(m, n, k));
    if (!room.at) return NO_MEMORY;
    kernels()->multiply(a, b, c, m, n, k, a_transposed, b_transposed, add, room.at);
    return DONE;
}

// The calls for both directions of a contrastive loss.
#include <string.h>

#include "driver.h"
#include "two_sided.h"

extern const TwoSidedKernels two_sided_baseline;
#if defined(__x86_64__)
extern const TwoSidedKernels two_sided_avx2, two_sided_avx512;
#if defined(WITH_AMX)
extern const TwoSidedKernels two_sided_amx;
#endif
#endif

EXPORT const char* smoothmax_many_instructions();

namespace {

constexpr const TwoSidedKernels* ALL[] = {
#if defined(__x86_64__)
#if defined(WITH_AMX)
    &two_sided_amx,
#endif
    &two_sided_avx512, &two_sided_avx2,
#endif
    &two_sided_baseline};

// Those of the instruction set that the many-class kernels use.
const TwoSidedKernels* kernels() {
    for (const TwoSidedKernels* candidate : ALL)
        if (strcmp(candidate->name, smoothmax_many_instructions()) == 0) return candidate;
    return &two_sided_baseline;
}

struct Work {
    const TwoSidedKernels* kernels;
    const TwoSided* job;
    TwoSidedStage stage;
};

void run_range(int64_t begin, int64_t end, void* context) {
    const Work& work = *static_cast<const Work*>(context);
    work.kernels->run(*work.job, work.stage, begin, end);
}

void run(const TwoSidedKernels* with, const TwoSided& job, TwoSidedStage stage) {
    Work work = {with, &job, stage};
    int64_t grain = stage == JOIN ? 4096 : stage == LENGTHS || stage == CLOSE ? 64 : 1;
    in_parallel(with->count(job, stage), grain, run_range, &work);
}

}  // namespace

// Log-sum-exp of rows and of columns, and the scores of the pairs; see two_sided.h. A task's room takes `most` bytes, or
// what its smallest tiles need.
EXPORT int smoothmax_two_sided_values(int64_t pairs, int64_t features, const float* x, int64_t x_stride, const float* y,
                                      int64_t y_stride, const int32_t* ids, const float* scale, int normalize,
                                      int64_t tasks, int64_t most, float* of_rows, float* of_columns, float* score) {
    TwoSided job = {};
    job.pairs = pairs, job.features = features;
    job.x = x, job.x_stride = x_stride, job.y = y, job.y_stride = y_stride;
    job.ids = ids, job.scale = scale, job.normalize = normalize, job.tasks = tasks, job.most = most;
    job.of_rows = of_rows, job.of_columns = of_columns, job.score = score;
    const TwoSidedKernels* with = kernels();
    int refused = 0;
    job.refused = &refused;
    LastingRoom room(with->room(job));
    if (!room.at()) return NO_MEMORY;
    job.room = room.at();
    run(with, job, LENGTHS);
    if (refused) return REFUSED;
    run(with, job, VALUES);
    run(with, job, JOIN);
    return DONE;
}

// The derivatives of sum_i (rows_grad_i of_rows_i + columns_grad_i of_columns_i + score_grad_i score_i); contiguous, dx and
// dy null where not wanted.
EXPORT int smoothmax_two_sided_slopes(int64_t pairs, int64_t features, const float* x, int64_t x_stride, const float* y,
                                      int64_t y_stride, const int32_t* ids, const float* scale, int normalize,
                                      int64_t tasks, int64_t most, float* of_rows, float* of_columns,
                                      const float* rows_grad, const float* columns_grad, const float* score_grad,
                                      float* dx, float* dy, float* dscale) {
    TwoSided job = {};
    job.pairs = pairs, job.features = features;
    job.x = x, job.x_stride = x_stride, job.y = y, job.y_stride = y_stride;
    job.ids = ids, job.scale = scale, job.normalize = normalize, job.tasks = tasks, job.most = most;
    job.of_rows = of_rows, job.of_columns = of_columns;
    job.rows_grad = rows_grad, job.columns_grad = columns_grad, job.score_grad = score_grad;
    job.dx = dx, job.dy = dy, job.dscale = dscale;
    const TwoSidedKernels* with = kernels();
    int refused = 0;
    job.refused = &refused;
    LastingRoom room(with->room(job));
    if (!room.at()) return NO_MEMORY;
    job.room = room.at();
    run(with, job, LENGTHS);
    if (refused) return REFUSED;
    int64_t phases = with->count(job, SLOPES);
    for (; job.phase < phases; job.phase++) run(with, job, SLOPES);
    run(with, job, CLOSE);
    return DONE;
}

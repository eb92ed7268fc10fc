// What a call about pairs asks for, each row against all others from both sides, and the kernels that do it, as compiled
// for one instruction set.
//
// Notation: N pairs (x_i, y_i) of D features. Of row i and column j
//
//     score = x_i . y_j (both divided by their lengths where asked),    logit = scale score;
//
// they are negatives of each other unless ids_i = ids_j. Results are the log-sum-exp over the negatives of each row, that
// over the negatives of each column, and the score of each pair.
#pragma once

#include <stdint.h>

struct TwoSided {
    int64_t pairs, features;
    const float *x, *y;
    int64_t x_stride, y_stride;  // between rows, in numbers; features are neighbours
    const int32_t* ids;          // one for each pair
    const float* scale;          // one number
    int normalize;
    int64_t tasks;               // parts of the columns, each with sums of its own, joined in order
    int64_t most;                // bytes of room that a task should not exceed

    float *of_rows, *of_columns, *score;  // results forward; the first two are given backward

    // Backward: the derivatives of sum_i (rows_grad_i of_rows_i + columns_grad_i of_columns_i + score_grad_i score_i).
    const float *rows_grad, *columns_grad, *score_grad;
    float *dx, *dy;              // contiguous; null where not wanted
    float* dscale;
    int64_t phase;               // of SLOPES: which rows each task meets

    void* room;    // as many bytes as `room` asks for
    int* refused;  // set where numbers are too large, too small or not finite: results are then void
};

enum TwoSidedStage {
    LENGTHS,  // of rows and columns
    VALUES,   // a part of the columns: log-sum-exp; of the rows maxima and sums
    JOIN,     // from those of all parts to the rows' log-sum-exp
    SLOPES,   // a part of the columns with a part of the rows, another in each phase, of which there are as many as tasks
    CLOSE,    // what lies along rows and columns is taken out of their derivatives
};

struct TwoSidedKernels {
    const char* name;
    int64_t (*room)(const TwoSided& job);                         // bytes
    int64_t (*count)(const TwoSided& job, TwoSidedStage stage);  // of tasks
    void (*run)(const TwoSided& job, TwoSidedStage stage, int64_t begin, int64_t end);
};

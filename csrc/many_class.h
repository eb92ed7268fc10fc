// What a call about many classes asks for, and the kernels that do it, as compiled for one instruction set.
//
// Notation: N rows x_n, C prototypes w_j, D features; y_n the target of row n. Of row n and class j
//
//     score = x_n . w_j (both divided by their lengths where asked) + bias_j,    logit = scale_n score + offset_j.
//
// Results are lse_n = ln sum_{j != y_n} exp(logit_nj) and the score of the target.
#pragma once

#include <stdint.h>

struct ManyClass {
    int64_t rows, classes, features;
    int half;                     // x, w and their derivatives are bfloat16, else float32; all else is float32
    const void *x, *w;
    int64_t x_stride, w_stride;   // between rows, in numbers; features are neighbours
    const int64_t* target;
    const float* scale;           // one for each row
    const float *bias, *offset;   // one for each class, or null; an offset of -inf leaves the class out
    int normalize;
    int64_t tasks;                // parts of the classes, each with sums of its own, joined in order

    float *lse, *score;           // results forward; lse is given backward

    // Backward: the derivatives of sum_n (lse_grad_n lse_n + score_grad_n score_n); those of classes may be null. With `add` those of classes are
    // added to what is there: from rows before these.
    const float *lse_grad, *score_grad;
    void *dx, *dw;
    float *dscale, *dbias, *doffset;
    int add;
    int wide;  // dw is float32 nevertheless, to be added to and rounded later

    // Products of rows and prototypes that the forward pass keeps for backward: those of `kept_tiles` tiles, each as
    // large as `tile_numbers` says.
    float* kept;
    int64_t kept_tiles;

    // Where it is not null, of each row's other classes the largest score, the second, the least, the sum of all, and with q
    // the softmax of the logits sum q score and sum q^2; only where there are no offsets. Numbers of one kind lie `stride` apart
    // from those of the next.
    float* statistics;

    // For each stripe of `stripe` tiles and each row ln sum exp(logit) over the stripe's classes other than the row's own:
    // written forward where it is not null, read backward. Stripes lie `stride` numbers apart.
    float* masses;
    int64_t stride, stripe;
    // Backward: the others' part of a stripe and a block of rows is left out where |lse_grad| exp(mass - lse) is at
    // most so much for each of its rows; a negative number leaves nothing out. How many pairs
    // of a tile and a block there were, and how many were left out.
    double limit;
    int64_t* counts;

    void* room;    // as many bytes as `room` asks for
    int* refused;  // set where numbers are too large, too small or not finite: results are then void
};

enum ManyStage {
    PACK,    // the rows, into the form in which products take them
    VALUES,  // a part of the classes: maxima and sums
    JOIN,    // from those of all parts to lse
    SLOPES,  // a part of the classes: derivatives
    REDUCE,  // from those of all parts to dx and dscale
};

// How a job is cut.
struct ManyPlan {
    int64_t room;          // bytes
    int64_t tile, tiles;   // classes of a tile, and how many there are
    int64_t block, blocks; // rows of a block, and how many there are
    int64_t tile_numbers;  // of the products of a tile and all rows
};

struct ManyKernels {
    const char* name;
    void (*plan)(const ManyClass& job, ManyPlan* plan);
    int64_t (*count)(const ManyClass& job, ManyStage stage);  // of tasks
    void (*run)(const ManyClass& job, ManyStage stage, int64_t begin, int64_t end);
    // For tests: c = a b, or c += a b, contiguous; a and b transposed where asked.
    void (*multiply)(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k, int a_transposed,
                     int b_transposed, int add, void* room);
    int64_t (*multiply_room)(int64_t m, int64_t n, int64_t k);
};

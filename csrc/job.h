// What a call asks for, in the form in which every kernel gets it.
#pragma once

#include <stdint.h>

enum Type { FLOAT32, FLOAT64, BFLOAT16, FLOAT16 };

// One log-sum-exp over the middle axis of x[outer][n][inner]; strides in entries, of any sign.
// Row r of the outer * inner rows is (r / inner, r % inner).
struct Job {
    const void* x;
    int64_t outer, n, inner, x_outer, x_n, x_inner;
    double sharpness;
    int mean;  // 1: the logarithm of the mean of the exponentials, 0: of their sum

    // Per row, or null: the value in the type of x; the maximum and the sum of exp(k (x - maximum)), at least float.
    void *value, *anchor, *total;
    int64_t row_outer, row_inner;  // the strides of these three

    // With weights: exp(k (x - anchor)) / total, times the row's entry of `grad` unless that is null.
    void* weights;
    int64_t w_outer, w_n, w_inner;
    const void* grad;
    int64_t g_outer, g_inner;

    // For the loss, else null: the class that each row leaves out, its index or `ignored`; 1 - p of it, a result of the
    // forward pass. `value`, `push` and `grad` are in the type that is computed in.
    const int64_t* target;
    int64_t ignored;
    double margin;
    void* push;

    // Set by the driver. A piece is up to `piece` entries of a group of rows, as many rows as a register has lanes.
    int64_t rows, groups, pieces, piece;
    int in_lanes;  // entries of a row lie in one lane, not side by side
    int stream;    // weights are too many for the caches, and go past them
    void* parts;   // what is known of each piece, where a row has several
};

enum Stage {
    WHOLE,   // rows of one piece, from x to every result
    PART,    // the statistics of a piece
    MERGE,   // from those of its pieces to a row's results, weights excepted
    WEIGHT,  // the weights of a piece, from anchor and total
};

enum Function { EXP, EXPM1, LOG1P, LOG, ROUND };

// The kernels as compiled for one instruction set.
struct Kernels {
    const char* name;
    int lanes[4];              // rows in a group, by type
    int64_t bytes_of_a_part[4];  // for a group and a piece
    // Do a stage for tasks begin..end: groups, or (group, piece) where pieces are apart.
    void (*run[4])(const Job& job, Stage stage, int64_t begin, int64_t end);
    // One function on n numbers, for tests; ROUND goes from float to a half and back.
    void (*apply)(Function function, Type type, const void* x, void* y, int64_t n);
};

// Rows of at most so many entries are read across: along them lanes would idle, and be joined for few numbers.
constexpr int64_t SHORT = 63;

// Pieces are small enough for a row's to stay in the first-level cache between the two passes over it.
constexpr int64_t PIECE_OF_ROW = 4096, PIECE_OF_LANES = 512;
constexpr int SCRATCH_BYTES = 32768;

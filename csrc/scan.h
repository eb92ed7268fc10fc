// What `smoothmax diagnose` needs of each row of scores, and how it asks for it.
//
// Notation: x is a row of n scores, y its target, B the largest score of the other classes, k the sharpness,
// w = exp(k (x - B)). Exponents below a lowest one count as that: such terms are nothing beside 1, and their squares are
// no denormals. -inf masks an entry, which adds nothing.
#pragma once

#include <stdint.h>

#include "job.h"

struct Rows {
    const void* x;
    int64_t rows, n, stride;  // from row to row, in entries; entries of a row are neighbours
    const int64_t* target;    // null: the first of the largest
    double k;
    void* scratch;            // a row in the type that is computed in
};

// Results of a row, an array of all rows for each.
enum Result {
    OWN,        // x_y
    BEST,       // B
    SECOND,     // the second largest score of all classes
    LOW,        // the least
    SHORTFALL,  // over the other classes, masked ones apart: the sum of B - x,
    THERE,      // 1 and their number,
    MASS,       // the sums of w,
    DEPTH,      // of k (B - x) w,
    SQUARE,     // and of w^2
    RESULTS,
};

struct Scan {
    const char* name;
    // found[RESULTS][rows]
    void (*measure[4])(const Rows& rows, double* found);
    // The sums of w at several sharpnesses, masses[rows][count], and x_y - B.
    void (*masses[4])(const Rows& rows, const double* sharpness, int64_t count, double* masses, double* ahead);
};

// What backward may leave out: the others' part of a stripe of tiles and a block of rows, where it is too small to
// matter. The targets' part is never left out; it takes a row and a prototype each.
#pragma once

#include "many_class_plan.h"

namespace {

// ln(e^a + e^b) where a is at least b.
INLINE V log_add(V a, V b) { return a == LOWEST ? a : a + log1p<float>(exp<float>(a == LOWEST ? b - b : b - a)); }

// Adds to the masses of some rows those of a tile, `total` times exp(anchor).
INLINE void give_mass(const ManyClass& job, int64_t tile, int64_t row, V anchor, V total) {
    int there = least(W, job.rows - row);
    if (there <= 0) return;
    float* to = job.masses + tile / job.stripe * job.stride + row;
    V mass = total > 0 ? anchor + log<float>(total) : splat<float>(LOWEST);
    if (tile % job.stripe) {
        V before = load_some<float>(to, there, LOWEST);
        mass = mass > before ? log_add(mass, before) : log_add(before, mass);
    }
    store_some<float>(to, there, mass);
}

// Whether the others' part of the tile's stripe and a block of rows is left out. nan is not.
bool negligible(const Place& my, int64_t tile, int64_t b) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    if (!(job.limit >= 0)) return false;
    int64_t first = b * plan.block, rows = least(plan.block, job.rows - first);
    const float* masses = job.masses + tile / job.stripe * job.stride + first;
    V limit = splat<float>(float(job.limit));
    for (int64_t n = 0; n < rows; n += W) {
        V mass = load_some<float>(masses + n, least(W, rows - n), LOWEST);
        V grad = load(my.shared<float>(plan.lse_grad) + first + n), lse = load(my.shared<float>(plan.lse) + first + n);
        if (any<float>(!((grad < 0 ? -grad : grad) * exp<float>(mass - lse) <= limit))) return false;
    }
    return true;
}

// The derivatives of the score of a row's own class, in this place of the tile, where the others' are left out.
template <class T> void slopes_of_target(const Place& my, int64_t row, int64_t first, int64_t place, T number) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    int64_t wide = plan.features + 16;
    const T *w = row_of(job.w, job.w_stride, first + place, number), *x = row_of(job.x, job.x_stride, row, number);
    float *g = my.at<float>(plan.g) + place * wide, *dx = my.at<float>(plan.dx) + row * wide;
    char* given = my.at<char>(plan.given) + place;
    if (!*given) memset(g, 0, 4 * wide), my.at<float>(plan.inverse)[place] = inverse_length(job, w);
    *given = 1;
    float of_score = my.shared<float>(plan.score_grad)[row];
    float of_product = of_score * my.at<float>(plan.inverse)[place] * my.shared<float>(plan.row_inverse)[row];
    subtract<false>(dx, -of_product, w, job.features, dx);
    subtract<false>(g, -of_product, x, job.features, g);
    if (job.dbias) my.at<float>(plan.sums)[(plan.tile + place) * W] += of_score;
}

// To the derivatives of rows and of the tile's prototypes those of the targets' scores, for all rows of the blocks that were
// left out.
void slopes_of_targets(const Place& my, int64_t first, int64_t count) {
    for (int64_t row = 0; row < my.job.rows; row++) {
        int64_t place = my.shared<int64_t>(my.plan.target)[row] - first;
        if (place < 0 || place >= count || !my.at<char>(my.plan.left_out)[row / my.plan.block]) continue;
        typed(my.job, [&](auto t) { slopes_of_target(my, row, first, place, t); });
    }
}

}  // namespace

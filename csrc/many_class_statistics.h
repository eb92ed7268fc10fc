// What a monitor wants to know of each row's other classes besides their log-sum-exp: taken from the products of the
// same pass. Scores z are those before the scale; q is the softmax of the others' logits.
#pragma once

#include "many_class_plan.h"

namespace {

// A row's, of the classes of one task so far; sums are relative to exp(anchor).
struct RowStatistics { double total, expected, squares; float largest, second, least, anchor; };

static_assert(sizeof(RowStatistics) == STATISTICS_BYTES, "the room is counted so");

INLINE RowStatistics no_statistics() { return {0, 0, 0, LOWEST, LOWEST, -LOWEST, LOWEST}; }

// Adds a tile's to those of a block of rows; `top` holds the rows' largest logits up to this tile.
void statistics_of_block(const Place& my, int64_t first, int64_t count, int64_t b, const float* from, const float* top) {
    const Plan& plan = my.plan;
    const float *inverse = my.at<float>(plan.inverse), *bias = my.at<float>(plan.bias);
    RowStatistics* rows = my.at<RowStatistics>(plan.statistics) + b * plan.block;
    for (int64_t n = 0; n < plan.block; n += W) {
        int64_t row = b * plan.block + n;
        V row_inverse = load(my.shared<float>(plan.row_inverse) + row), scale = load(my.shared<float>(plan.scale) + row);
        V anchor = load(top + n), none = splat<float>(LOWEST), zero = {};
        I own = target_in_tile(my.shared<int64_t>(plan.target) + row, first, count);
        V safe = anchor == LOWEST ? zero : anchor, largest = none, second = none, least_ = -none;
        V total = {}, expected = {}, squares = {};
        for (int64_t j = 0; j < count; j++) {
            V score = load(from + n + j * plan.stride) * (row_inverse * inverse[j]) + bias[j];
            I is_own = own == int32_t(j);
            V z = is_own ? none : score, lower = z < largest ? z : largest;
            largest = z > largest ? z : largest;
            second = lower > second ? lower : second;
            V e = exp<float>((is_own ? none : score * scale) - safe), there = is_own ? zero : score;
            least_ = is_own | (score >= least_) ? least_ : score;
            total += there, expected += e * there, squares += e * e;
        }
        for (int l = 0; l < W; l++) {
            RowStatistics& r = rows[n + l];
            double kept = r.anchor == LOWEST ? 0 : __builtin_exp(double(r.anchor) - safe[l]);
            float lower = r.largest < largest[l] ? r.largest : largest[l], next = r.second > second[l] ? r.second : second[l];
            r.largest = r.largest > largest[l] ? r.largest : largest[l], r.second = lower > next ? lower : next;
            r.least = r.least < least_[l] ? r.least : least_[l], r.anchor = anchor[l];
            r.total += total[l], r.expected = r.expected * kept + expected[l], r.squares = r.squares * kept * kept + squares[l];
        }
    }
}

// Of a row, from all tasks: largest, second and least score, their sum, and sum q z and sum q^2.
void join_statistics(const ManyClass& job, const Plan& plan, int64_t n, float top, double total) {
    RowStatistics all = no_statistics();
    for (int64_t task = 0; task < job.tasks; task++) {
        Place my{job, plan, static_cast<char*>(job.room) + plan.task + task * plan.task_step};
        const RowStatistics& r = my.at<RowStatistics>(plan.statistics)[n];
        double factor = r.anchor == LOWEST ? 0 : __builtin_exp(double(r.anchor) - top);
        float lower = r.largest < all.largest ? r.largest : all.largest, next = r.second > all.second ? r.second : all.second;
        all.largest = r.largest > all.largest ? r.largest : all.largest, all.second = lower > next ? lower : next;
        all.least = r.least < all.least ? r.least : all.least, all.total += r.total;
        all.expected += r.expected * factor, all.squares += r.squares * factor * factor;
    }
    float found[] = {all.largest, all.second, all.least, float(all.total), float(all.expected / total),
                     float(all.squares / (total * total))};
    for (int i = 0; i < 6; i++) job.statistics[i * job.stride + n] = found[i];
}

}  // namespace

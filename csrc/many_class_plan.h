// How a job for many classes is cut, and where everything lies in its room.
#pragma once

#include "many_class.h"
#include "matrix.h"

namespace {

constexpr int64_t STATISTICS_BYTES = 40;  // of a row and task

// Where everything lies in the room, in bytes. What a task has for itself begins at `task`.
struct Plan {
    int64_t rows, features, block, blocks, tile, tiles, stride;  // padded; stride of a tile's scores and of products
    int64_t scale, lse_grad, score_grad, lse, target, row_inverse, xs, xw, xs_step, xw_step, task, task_step;
    int64_t top, total, statistics, dscale, dx, ws, wd, s, q, qt, g, inverse, bias, offset, sums, left_out, given, all;

    explicit Plan(const ManyClass& job) {
        rows = round_up(job.rows, Gemm::ROW_PAD);
        features = round_up(job.features, Gemm::FEATURE_PAD);
        block = least(rows, Gemm::ROWS);
        blocks = (rows + block - 1) / block;
        int64_t share = (job.classes + job.tasks - 1) / job.tasks;
        tile = least(Gemm::CLASSES, round_up(share, Gemm::CLASS_PAD));
        tiles = (job.classes + tile - 1) / tile;
        stride = block + 16;
        all = 0;
        bool back = job.lse_grad != nullptr;
        scale = take(4 * blocks * block), target = take(8 * blocks * block), lse = take(4 * blocks * block);
        lse_grad = take(4 * blocks * block), score_grad = take(4 * blocks * block);
        row_inverse = take(4 * blocks * block);
        xs_step = padded(Gemm::right_bytes(features, block)), xs = take(blocks * xs_step);
        xw_step = back ? padded(Gemm::right_bytes(block, features)) : 0, xw = take(blocks * xw_step);
        task = all, all = 0;
        top = take(back ? 0 : 4 * blocks * block), total = take(back ? 0 : 8 * blocks * block);
        statistics = take(job.statistics ? STATISTICS_BYTES * blocks * block : 0);
        inverse = take(4 * tile), bias = take(4 * tile), offset = take(4 * tile);
        ws = take(Gemm::left_bytes(tile, features));
        s = take(4 * tile * stride);
        dscale = take(back ? 8 * blocks * block : 0);
        dx = take(back ? 4 * blocks * block * (features + 16) : 0);
        wd = take(back ? Gemm::right_bytes(tile, features) : 0);
        q = take(back ? Gemm::left_bytes(block, tile) : 0), qt = take(back ? Gemm::left_bytes(tile, block) : 0);
        g = take(back ? 4 * tile * (features + 16) : 0);
        sums = take(back ? 2 * 4 * W * tile : 0);
        left_out = take(back ? blocks : 0), given = take(back ? tile : 0);
        task_step = all, all = task + job.tasks * task_step;
    }

    // The first tile of a task; a stripe of tiles belongs to one.
    int64_t first_tile(const ManyClass& job, int64_t task) const {
        int64_t stripe = job.stripe > 1 ? job.stripe : 1, stripes = (tiles + stripe - 1) / stripe;
        return least(tiles, stripes * task / job.tasks * stripe);
    }

    static int64_t padded(int64_t bytes) { return round_up(bytes, 64); }
    int64_t take(int64_t bytes) {
        int64_t at = all;
        all += padded(bytes);
        return at;
    }
};

// The room of one task, and the addresses in it.
struct Place {
    const ManyClass& job;
    const Plan& plan;
    char* base;
    template <class T> T* at(int64_t offset) const { return reinterpret_cast<T*>(base + offset); }
    template <class T> T* shared(int64_t offset) const { return reinterpret_cast<T*>(static_cast<char*>(job.room) + offset); }
};

// What is done with the type of rows and prototypes: `action` gets a number of it.
template <class F> INLINE auto typed(const ManyClass& job, F action) { return job.half ? action(BFloat16{}) : action(float{}); }

// 1 over the length of a row or prototype that lies there.
template <class T> float inverse_length(const ManyClass& job, const T* row) {
    return inverse_length(row, job.features, job.normalize, job.refused);
}

// Row `n` of x or of w.
template <class T> const T* row_of(const void* rows, int64_t stride, int64_t n, T) {
    return static_cast<const T*>(rows) + n * stride;
}

// Where the products of a tile are kept, or null; those that are lie evenly among the others.
float* kept(const ManyClass& job, const Plan& plan, int64_t tile) {
    int64_t slot = tile * job.kept_tiles / plan.tiles;
    if ((tile + 1) * job.kept_tiles / plan.tiles == slot) return nullptr;
    return job.kept + slot * plan.blocks * plan.tile * plan.stride;
}

// For each lane the target's place in the tile, or one that no class has.
INLINE I target_in_tile(const int64_t* target, int64_t first, int64_t count) {
    I place;
    for (int l = 0; l < W; l++) {
        int64_t y = target[l] - first;
        place[l] = y >= 0 && y < count ? int32_t(y) : -1;
    }
    return place;
}

}  // namespace

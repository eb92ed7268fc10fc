// How a kernel reaches its rows: groups of them, along the rows or across them, whatever their strides and type.
#pragma once

#include "half.h"
#include "job.h"
#include "simd.h"

namespace {

// T computes, S is how x is stored.
template <class T, class S> struct Rows {
    static constexpr int W = Simd<T>::W;
    static constexpr bool SAME = sizeof(T) == sizeof(S);
    using V = Vec<T>;

    // As many rows as a register has lanes, and where each begins in x and in the weights. Lanes beyond the last row
    // repeat it, and are not stored.
    struct Group {
        int64_t outer, inner, count;  // of the first row, and how many there are
        bool together;                // all of them in one run along the inner axis
        int64_t x[W], w[W];
        int64_t y[W];                 // for the loss: the entry to leave out, or -1 where the row is ignored
    };

    static Group group(const Job& job, int64_t index) {
        Group g;
        int64_t first = index * W, o = first / job.inner, i = first % job.inner;
        g.outer = o, g.inner = i;
        g.count = job.rows - first < W ? job.rows - first : W;
        g.together = i + g.count <= job.inner;
        if (job.target) targets(job, g);
        if (g.together) {
            for (int64_t l = 0; l < W; l++) {
                int64_t at = i + (l < g.count ? l : g.count - 1);
                g.x[l] = o * job.x_outer + at * job.x_inner;
                g.w[l] = o * job.w_outer + at * job.w_inner;
            }
            return g;
        }
        for (int l = 0; l < W; l++) {
            g.x[l] = o * job.x_outer + i * job.x_inner;
            g.w[l] = o * job.w_outer + i * job.w_inner;
            if (l + 1 < g.count && ++i == job.inner) i = 0, o++;
        }
        return g;
    }

    static void targets(const Job& job, Group& g) {
        each_row(job, g, job.target, job.row_outer, job.row_inner, [&](const int64_t& at, int l) {
            g.y[l] = at == job.ignored ? -1 : at;
        });
        for (int l = g.count; l < W; l++) g.y[l] = g.y[g.count - 1];
    }

    static const S* entry(const Job& job, int64_t offset) { return static_cast<const S*>(job.x) + offset; }

    // One number per row

    // f(number, lane) for the rows of a group, from an array of those of all rows.
    template <class R, class F> static void each_row(const Job& job, const Group& g, R* array, int64_t outer,
                                                     int64_t inner, F f) {
        int64_t o = g.outer, i = g.inner;
        for (int l = 0; l < g.count; l++) {
            f(array[o * outer + i * inner], l);
            if (++i == job.inner) i = 0, o++;
        }
    }

    template <class R> static V get(const Job& job, const Group& g, const void* array, int64_t outer, int64_t inner,
                                    T beyond) {
        auto all = static_cast<const R*>(array);
        if constexpr (sizeof(R) == sizeof(T))
            if (g.together && g.count == W && inner == 1)
                return load(reinterpret_cast<const T*>(all + g.outer * outer + g.inner));
        V v = splat(beyond);
        each_row(job, g, all, outer, inner, [&](const R& at, int l) { v[l] = widen(at); });
        return v;
    }

    template <class R> static void put(const Job& job, const Group& g, void* array, int64_t outer, int64_t inner, V v) {
        if (!array) return;
        auto all = static_cast<R*>(array);
        if constexpr (sizeof(R) == sizeof(T))
            if (g.together && g.count == W && inner == 1)
                return store<T>(reinterpret_cast<T*>(all + g.outer * outer + g.inner), v);
        each_row(job, g, all, outer, inner, [&](R& at, int l) { narrow(T(v[l]), at); });
    }

    // Along a row

    // n entries of a row, side by side; in scratch unless they lie like that.
    static const T* line(const S* x, int64_t stride, int64_t n, T* scratch) {
        if (SAME && stride == 1) return reinterpret_cast<const T*>(x);
        if (stride == 1)
            for (int64_t j = 0; j < n; j++) scratch[j] = widen(x[j]);
        else
            for (int64_t j = 0; j < n; j++) scratch[j] = widen(x[j * stride]);
        return scratch;
    }

    // How many entries lie before the next multiple of a register's size.
    static int64_t to_boundary(const T* p) {
        return (-reinterpret_cast<uintptr_t>(p) & (VECTOR_BYTES - 1)) / sizeof(T);
    }

    // Across the rows: row l in lane l

    // Entry j of the group at [j * step].
    struct Across { const T* at; int64_t step; };

    // Entries begin..begin + n; in scratch, step W, unless the rows are neighbours in memory.
    static Across across(const Job& job, const Group& g, int64_t begin, int64_t n, T* scratch) {
        if (SAME && !job.target && apart_by(1, g, g.x, job.x_inner))
            return {reinterpret_cast<const T*>(entry(job, g.x[0] + begin * job.x_n)), job.x_n};
        if (one_block(job, g, g.x, job.x_n, job.x_inner)) {
            into_lanes(job, g, scratch);
        } else
            for (int l = 0; l < W; l++) {
                const S* x = entry(job, g.x[l] + begin * job.x_n);
                for (int64_t j = 0; j < n; j++) scratch[j * W + l] = widen(x[j * job.x_n]);
            }
        if (job.target)
            for (int l = 0; l < W; l++)
                if (within(g.y[l], begin, n)) scratch[(g.y[l] - begin) * W + l] = -T(__builtin_inf());
        return {scratch, W};
    }

    static bool within(int64_t j, int64_t begin, int64_t n) { return j >= begin && j < begin + n; }

    // Short rows one after the other, so that the group is one run of W n entries.
    static bool one_block(const Job& job, const Group& g, const int64_t* offsets, int64_t along, int64_t across) {
        return job.n <= SHORT && along == 1 && apart_by(job.n, g, offsets, across);
    }

    static bool apart_by(int64_t distance, const Group& g, const int64_t* offsets, int64_t stride) {
        if (g.together) return g.count == W && stride == distance;
        bool regular = g.count == W;
        for (int l = 1; l < W; l++) regular &= offsets[l] == offsets[0] + l * distance;
        return regular;
    }

    // Whole registers are read, beyond the end of a row: what follows it must be there, or a copy is made.
    static void into_lanes(const Job& job, const Group& g, T* scratch) {
        alignas(64) T copy[W * (SHORT + 1)];
        const S* x = entry(job, g.x[0]);
        int64_t n = job.n;
        for (int64_t j = 0; j < W * n; j += W) __builtin_prefetch(x + W * n + j);  // the next group
        bool room = SAME && job.outer == 1 && g.inner + g.count < job.inner - W;
        const T* block = room ? reinterpret_cast<const T*>(x) : copy;
        if (!room)
            for (int64_t j = 0; j < W * n; j++) copy[j] = widen(x[j]);
        for (int64_t c = 0; c < n; c += W) {
            V v[W];
            for (int l = 0; l < W; l++) v[l] = load(block + l * n + c);
            transpose<T>(v);
            for (int64_t j = 0; j < W && c + j < n; j++) store<T>(scratch + (c + j) * W, v[j]);
        }
    }

    // Results for entries begin..begin + n, from [j * W + l] to where the weights of each row go.
    static void from_lanes(const Job& job, const Group& g, int64_t begin, int64_t n, const T* scratch) {
        S* out = static_cast<S*>(job.weights) + begin * job.w_n;
        if (one_block(job, g, g.w, job.w_n, job.w_inner)) return as_block(job, scratch, out + g.w[0]);
        for (int l = 0; l < g.count; l++)
            for (int64_t j = 0; j < n; j++) narrow(scratch[j * W + l], out[g.w[l] + j * job.w_n]);
    }

    static void as_block(const Job& job, const T* scratch, S* out) {
        int64_t n = job.n;
        alignas(64) T block[W * (SHORT + 1)];
        // The last columns first: whole registers are written, beyond a row into the first columns of the next.
        for (int64_t c = (n - 1) / W * W; c >= 0; c -= W) {
            V v[W];
            for (int j = 0; j < W; j++) v[j] = load(scratch + (c + j) * W);
            transpose<T>(v);
            for (int l = 0; l < W; l++) store<T>(block + l * n + c, v[l]);
        }
        T* to = reinterpret_cast<T*>(out);
        if (SAME && job.stream && to_boundary(to) == 0)
            for (int64_t j = 0; j < W * n; j += W) stream<T>(to + j, load(block + j));
        else
            for (int64_t j = 0; j < W * n; j++) narrow(block[j], out[j]);
    }
};

}  // namespace

// Matrix products of float32 by fused multiply-add: a block of sums stays in registers, operands are read where they lie;
// those of bfloat16 are copied, as float32.
//
// Left operands are m x k with any strides, for each of their numbers is spread over a register. Right operands are k x n,
// neighbours along n, n padded to whole registers.
#pragma once

#include "half.h"

namespace {

INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Fma {
    using V = Vec<float>;
    static constexpr int W = Simd<float>::W;
    static constexpr int M = 6, N = VECTOR_BYTES == 64 ? 4 : 2;  // rows, and registers, of a block
    static constexpr int ROW_PAD = W, FEATURE_PAD = W, CLASS_PAD = 1;
    static constexpr int64_t CHAIN = 64;    // products that are summed one by one: sums of sums are rounded less
    static constexpr int64_t CLASSES = 96;  // of a tile
    static constexpr int64_t ROWS = 256;    // of a block; all operands of a tile and a block stay in the second-level cache

    struct Left { const float* at; int64_t m_stride, k_stride; };
    struct Right { const float* at; int64_t k_stride; };

    static int64_t left_bytes(int64_t m, int64_t k) { return 4 * m * k; }
    // Beyond n, so that numbers of one column do not compete for one place in the cache.
    static int64_t right_stride(int64_t n) { return n + 16; }
    static int64_t right_bytes(int64_t k, int64_t n) { return 4 * k * right_stride(n); }

    // Float32 stays where it lies, unless it must be padded.
    INLINE const float* as_it_lies(const float* from) { return from; }
    INLINE const float* as_it_lies(const BFloat16*) { return nullptr; }

    // An operand of `m` x `k` numbers, padded with zeros to m_all x k_all; copied to `room` only if it must be, or shall.
    template <class T>
    static Left left(const T* from, int64_t m, int64_t k, int64_t m_stride, int64_t k_stride, int64_t m_all,
                      int64_t k_all, void* room) {
        const float* there = as_it_lies(from);
        if (there && m == m_all && k == k_all) return {there, m_stride, k_stride};
        float* to = static_cast<float*>(room);
        for (int64_t i = 0; i < m_all; i++)
            for (int64_t p = 0; p < k_all; p++)
                to[i * k_all + p] = i < m && p < k ? widen(from[i * m_stride + p * k_stride]) : 0;
        return {to, k_all, 1};
    }

    template <class T>
    static Right right(const T* from, int64_t k, int64_t n, int64_t k_stride, int64_t n_stride, int64_t k_all,
                         int64_t n_all, void* room, bool copy) {
        const float* there = as_it_lies(from);
        if (there && !copy && n_stride == 1 && n == n_all && k == k_all) return {there, k_stride};
        float* to = static_cast<float*>(room);
        int64_t stride = right_stride(n_all);
        memset(to, 0, 4 * k_all * stride);
        constexpr int64_t block = 16;  // lines of the cache are used up in both directions
        for (int64_t p0 = 0; p0 < k; p0 += block)
            for (int64_t j0 = 0; j0 < n; j0 += block)
                for (int64_t p = p0; p < k && p < p0 + block; p++)
                    for (int64_t j = j0; j < n && j < j0 + block; j++)
                        to[p * stride + j] = widen(from[p * k_stride + j * n_stride]);
        return {to, stride};
    }

    // One that was copied to `room` before.
    template <class T = float> static Right packed(const void* room, int64_t, int64_t n_all) {
        return {static_cast<const float*>(room), right_stride(n_all)};
    }

    // Weights of rows (neighbours) and classes, as rows x classes and as classes x rows.
    struct Both { Left weights, turned; };
    template <class T>
    static Both weights(const float* from, int64_t, int64_t, int64_t stride, void*, void*) {
        return {{from, 1, stride}, {from, stride, 1}};
    }

    template <int MM, int NN>
    static void block(Left a, Right b, int64_t k, float* c, int64_t c_stride, bool add) {
        const float *pa = a.at, *pb = b.at;
        for (int64_t from = 0; from < k; from += CHAIN, add = true) {
            V sum[MM][NN] = {};
            for (int64_t p = from; p < k && p < from + CHAIN; p++, pa += a.k_stride, pb += b.k_stride) {
                V right[NN];
                for (int j = 0; j < NN; j++) right[j] = load(pb + j * W);
                for (int i = 0; i < MM; i++) {
                    float left = pa[i * a.m_stride];
                    for (int j = 0; j < NN; j++) sum[i][j] += left * right[j];
                }
            }
            for (int i = 0; i < MM; i++)
                for (int j = 0; j < NN; j++) {
                    float* to = c + i * c_stride + j * W;
                    store(to, add ? load(to) + sum[i][j] : sum[i][j]);
                }
        }
    }

    template <int NN> static void column(Left a, Right b, int64_t m, int64_t k, float* c, int64_t c_stride, bool add) {
        int64_t i = 0;
        for (; i + M <= m; i += M) block<M, NN>({a.at + i * a.m_stride, a.m_stride, a.k_stride}, b, k, c + i * c_stride, c_stride, add);
        for (; i + 2 <= m; i += 2) block<2, NN>({a.at + i * a.m_stride, a.m_stride, a.k_stride}, b, k, c + i * c_stride, c_stride, add);
        for (; i < m; i++) block<1, NN>({a.at + i * a.m_stride, a.m_stride, a.k_stride}, b, k, c + i * c_stride, c_stride, add);
    }

    // c = left right, or c += left right; n a multiple of W. It is slow enough to leave all else to the processor's own
    // prefetching.
    static void multiply(Left a, Right b, int64_t m, int64_t n, int64_t k, float* c, int64_t c_stride, bool add, Ahead = {}) {
        int64_t j = 0;
        for (; j + N * W <= n; j += N * W) column<N>(a, {b.at + j, b.k_stride}, m, k, c + j, c_stride, add);
        for (; j < n; j += W) column<1>(a, {b.at + j, b.k_stride}, m, k, c + j, c_stride, add);
    }

    struct Session { Session() {} };  // nothing to set up
};

}  // namespace

// What kernels made of matrix products share: the product of this instruction set, and rows with their lengths.
#pragma once

#if defined(__AMX_BF16__)
#include "gemm_amx.h"
using Gemm = Amx;
#else
#include "gemm.h"
using Gemm = Fma;
#endif

namespace {

using V = Vec<float>;
using I = Int<float>;
constexpr int W = Simd<float>::W;
constexpr float LOWEST = -__builtin_inff();

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// a . b
INLINE float dot(const float* a, const float* b, int64_t n) {
    V part[4] = {};
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W)
        for (int u = 0; u < 4; u++) part[u] += load(a + i + u * W) * load(b + i + u * W);
    for (; i < n; i += W) {
        int there = least(W, n - i);
        part[0] += load_some<float>(a + i, there, 0) * load_some<float>(b + i, there, 0);
    }
    return sum<float>((part[0] + part[1]) + (part[2] + part[3]));
}

// to = g - along w, added to what is there if so asked.
template <bool ADD> INLINE void subtract(const float* g, float along, const float* w, int64_t n, float* to) {
    int64_t i = 0;
    for (; i + W <= n; i += W) {
        V value = load(g + i) - along * load(w + i);
        store(to + i, ADD ? load(to + i) + value : value);
    }
    for (; i < n; i++) to[i] = (ADD ? to[i] : 0) + (g[i] - along * w[i]);
}

// Squares of lengths beyond these are too large for products in parts of eight bits, or too small.
constexpr float SMALLEST = 0x1p-80f, LARGEST = 0x1p80f;

INLINE void refuse(int* refused) { __atomic_store_n(refused, 1, __ATOMIC_RELAXED); }

// 1 over the length of a row, or 1 if lengths are not divided out; 0 for a row of zeros.
INLINE float inverse_length(const float* row, int64_t n, bool normalize, int* refused) {
    float square = dot(row, row, n);
    if (!(square <= LARGEST)) refuse(refused);
    if (!normalize) return 1;
    if (square < SMALLEST) {
        for (int64_t d = 0; d < n; d++)
            if (row[d] != 0) refuse(refused);
        return 0;
    }
    return float(1 / __builtin_sqrt(double(square)));
}

}  // namespace

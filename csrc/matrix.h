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

// A register of numbers, as float, and back.
INLINE V wide(const float* p) { return load(p); }
typedef uint16_t HalfBits __attribute__((vector_size(VECTOR_BYTES / 2)));
INLINE V wide(const BFloat16* p) {
    HalfBits bits;
    memcpy(&bits, p, sizeof bits);
    return as_float<float>(__builtin_convertvector(bits, I) << 16);
}
INLINE void put(float* p, V v) { store(p, v); }
INLINE void put(BFloat16* p, V v) {
    // As `narrow` does it.
    typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    Bits bits = (Bits)as_int<float>(v);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    I number = v == v;
    HalfBits half = __builtin_convertvector(number ? (I)bits : number - number + 0x7fc0, HalfBits);
    memcpy(p, &half, sizeof half);
}

// The first `count` of a register, the others 0.
template <class T> INLINE V wide_some(const T* p, int64_t count) {
    T there[W] = {};
    memcpy(there, p, count * sizeof(T));
    return wide(there);
}

// a . b
template <class A, class B> INLINE float dot(const A* a, const B* b, int64_t n) {
    V part[4] = {};
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W)
        for (int u = 0; u < 4; u++) part[u] += wide(a + i + u * W) * wide(b + i + u * W);
    for (; i < n; i += W) {
        int64_t there = least(W, n - i);
        part[0] += wide_some(a + i, there) * wide_some(b + i, there);
    }
    return sum<float>((part[0] + part[1]) + (part[2] + part[3]));
}

// to = g - along w, added to what is there if so asked.
template <bool ADD, class T, class R> INLINE void subtract(const float* g, float along, const T* w, int64_t n, R* to) {
    int64_t i = 0;
    for (; i + W <= n; i += W) {
        V value = load(g + i) - along * wide(w + i);
        put(to + i, ADD ? wide(to + i) + value : value);
    }
    for (; i < n; i++) narrow((ADD ? widen(to[i]) : 0) + (g[i] - along * widen(w[i])), to[i]);
}

// Squares of lengths beyond these are too large for products in parts of eight bits, or too small.
constexpr float SMALLEST = 0x1p-80f, LARGEST = 0x1p80f;

INLINE void refuse(int* refused) { __atomic_store_n(refused, 1, __ATOMIC_RELAXED); }

// 1 over the length of a row, or 1 if lengths are not divided out; 0 for a row of zeros.
template <class T> INLINE float inverse_length(const T* row, int64_t n, bool normalize, int* refused) {
    float square = dot(row, row, n);
    if (!(square <= LARGEST)) refuse(refused);
    if (!normalize) return 1;
    if (square < SMALLEST) {
        for (int64_t d = 0; d < n; d++)
            if (widen(row[d]) != 0) refuse(refused);
        return 0;
    }
    return float(1 / __builtin_sqrt(double(square)));
}

}  // namespace

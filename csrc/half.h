// bfloat16 and float16 as they lie in memory, to float and back, rounding to the nearest, ties to even.
//
// Plain integer code without branches: compilers turn loops of it into vector code for every instruction set.
#pragma once

#include "simd.h"

namespace {

struct BFloat16 { uint16_t bits; };
struct Float16 { uint16_t bits; };

INLINE uint32_t bits_of(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
INLINE float float_of(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

INLINE double widen(double x) { return x; }
INLINE float widen(float x) { return x; }
INLINE float widen(BFloat16 h) { return float_of(uint32_t(h.bits) << 16); }

INLINE float widen(Float16 h) {
    constexpr uint32_t rebias = uint32_t(127 - 15) << 23, exponent = uint32_t(31) << 23;
    uint32_t magnitude = uint32_t(h.bits & 0x7fff) << 13;
    uint32_t field = magnitude & exponent;
    uint32_t normal = magnitude + rebias + (field == exponent ? rebias : 0);
    // A subnormal m 2^-24 is 2^-14 (1 + m 2^-10) - 2^-14.
    uint32_t subnormal = bits_of(float_of(magnitude + rebias + (1u << 23)) - 0x1p-14f);
    return float_of((field == 0 ? subnormal : normal) | uint32_t(h.bits & 0x8000) << 16);
}

INLINE void narrow(double x, double& to) { to = x; }
INLINE void narrow(float x, float& to) { to = x; }

INLINE void narrow(float x, BFloat16& to) {
    uint32_t u = bits_of(x);
    uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    to.bits = uint16_t(x != x ? 0x7fc0 : rounded);
}

INLINE void narrow(float x, Float16& to) {
    uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
    uint32_t normal = (magnitude - (uint32_t(127 - 15) << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    // Adding 1/2 moves the last bit that counts, 2^-24, to the end of the fraction.
    uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
    uint32_t beyond = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
    to.bits = uint16_t((magnitude < 0x477ff000 ? finite : beyond) | sign);
}

}  // namespace

// Vectors of one register, and exp, expm1 and log1p on them.
//
// Written with the vector extensions of GCC and Clang, so that one source serves AVX-512, AVX2, SSE2 and NEON. Each
// instruction set compiles this file anew; everything is always inlined and nothing comes from the C++ library, because
// the linker would keep one copy of a shared function, perhaps one that an older processor cannot run.
#pragma once

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

namespace {

template <class T> struct Simd;

template <> struct Simd<float> {
    typedef float V __attribute__((vector_size(VECTOR_BYTES)));
    typedef int32_t I __attribute__((vector_size(VECTOR_BYTES)));
    using Bits = int32_t;
    static constexpr int W = VECTOR_BYTES / 4, mantissa = 23, bias = 127;
    static constexpr float round = 0x1.8p23f;         // adding it rounds to an integer, in the last bits of the sum
    static constexpr float largest = __FLT_MAX__;
    static constexpr float vanishing = -104;          // exp of it is 0, and of all below
    static constexpr float lift = 0x1p64f;
    static constexpr float log_normal = -0x1.5d58ap+6f;  // the logarithm of the smallest normal number
    static constexpr float steps = 0x1p23f;           // that number in units of the smallest subnormal one
    static constexpr float log2e = 0x1.715476p+0f;
    static constexpr float ln2_high = 0x1.62ep-1f;    // 12 bits: times an integer of 12 bits it is exact
    static constexpr float ln2_low = 0x1.0bfbe8p-15f;
    static constexpr Bits sqrt_half = 0x3f3504f3;     // the bits of sqrt(1/2)
};

template <> struct Simd<double> {
    typedef double V __attribute__((vector_size(VECTOR_BYTES)));
    typedef int64_t I __attribute__((vector_size(VECTOR_BYTES)));
    using Bits = int64_t;
    static constexpr int W = VECTOR_BYTES / 8, mantissa = 52, bias = 1023;
    static constexpr double round = 0x1.8p52;
    static constexpr double largest = __DBL_MAX__;
    static constexpr double vanishing = -745.14;
    static constexpr double lift = 0x1p128;
    static constexpr double log_normal = -0x1.6232bdd7abcd2p+9;
    static constexpr double steps = 0x1p52;
    static constexpr double log2e = 0x1.71547652b82fep+0;
    static constexpr double ln2_high = 0x1.62e42feep-1;
    static constexpr double ln2_low = 0x1.a39ef35793c76p-33;
    static constexpr Bits sqrt_half = 0x3fe6a09e667f3bcd;
};

template <class T> using Vec = typename Simd<T>::V;
template <class T> using Int = typename Simd<T>::I;

template <class T> INLINE Vec<T> load(const T* p) { Vec<T> v; memcpy(&v, p, sizeof v); return v; }
template <class T> INLINE void store(T* p, Vec<T> v) { memcpy(p, &v, sizeof v); }

template <class T> INLINE Vec<T> splat(T s) {
    Vec<T> v;
    for (int l = 0; l < Simd<T>::W; l++) v[l] = s;
    return v;
}

// The first `count` lanes from memory, the others `rest`; and the first `count` lanes to memory.
template <class T> INLINE Vec<T> load_some(const T* p, int count, T rest) {
    Vec<T> v = splat<T>(rest);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return _mm512_mask_loadu_ps(v, (1u << count) - 1, p);
    else return _mm512_mask_loadu_pd(v, (1u << count) - 1, p);
#else
    memcpy(&v, p, count * sizeof(T));
    return v;
#endif
}

template <class T> INLINE void store_some(T* p, int count, Vec<T> v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, (1u << count) - 1, v);
    else _mm512_mask_storeu_pd(p, (1u << count) - 1, v);
#else
    memcpy(p, &v, count * sizeof(T));
#endif
}

// Past the caches, for results that would not stay there: a line is not read before it is written. `p` is aligned to a
// register; other threads see what was written after flush_streams().
template <class T> INLINE void stream(T* p, Vec<T> v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) _mm512_stream_ps(p, v);
    else _mm512_stream_pd(p, v);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) _mm256_stream_ps(p, v);
    else _mm256_stream_pd(p, v);
#elif defined(__x86_64__)
    if constexpr (sizeof(T) == 4) _mm_stream_ps(p, v);
    else _mm_stream_pd(p, v);
#else
    store<T>(p, v);
#endif
}

INLINE void flush_streams() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

// Memory that is wanted soon, brought to the second-level cache line by line while something else is computed.
struct Ahead {
    const char *at, *end;
    INLINE void next(Ahead* ahead) {
        for (int i = 0; i < 8 && ahead->at < ahead->end; i++, ahead->at += 64) __builtin_prefetch(ahead->at, 0, 2);
    }
};

template <class T> INLINE Vec<T> as_float(Int<T> i) { Vec<T> v; memcpy(&v, &i, sizeof v); return v; }
template <class T> INLINE Int<T> as_int(Vec<T> v) { Int<T> i; memcpy(&i, &v, sizeof i); return i; }
template <class T> INLINE Vec<T> to_float(Int<T> i) { return __builtin_convertvector(i, Vec<T>); }

template <class T> INLINE bool any(Int<T> mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#elif defined(__x86_64__)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    int64_t words[VECTOR_BYTES / 8], all = 0;
    memcpy(words, &mask, sizeof words);
    for (int64_t word : words) all |= word;
    return all != 0;
#endif
}

template <int... L> struct Lanes {};
template <int N, int... L> struct LanesBelow : LanesBelow<N - 1, N - 1, L...> {};
template <int... L> struct LanesBelow<0, L...> { using Type = Lanes<L...>; };

#if __has_builtin(__builtin_shufflevector)
#define PICK(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(T, a, b, ...) __builtin_shuffle(a, b, Int<T>{__VA_ARGS__})
#endif

template <class T, int H, int... L> INLINE Vec<T> swapped(Vec<T> v, Lanes<L...>) { return PICK(T, v, v, (L ^ H)...); }

// The lanes joined in pairs, half a register apart at first, so that rounding grows with the logarithm of their number.
template <class T, int H = Simd<T>::W / 2> INLINE T sum(Vec<T> v) {
    v += swapped<T, H>(v, typename LanesBelow<Simd<T>::W>::Type{});
    if constexpr (H > 1) return sum<T, H / 2>(v);
    else return v[0];
}

template <class T, int H = Simd<T>::W / 2> INLINE T maximum(Vec<T> v) {
    Vec<T> other = swapped<T, H>(v, typename LanesBelow<Simd<T>::W>::Type{});
    v = other > v ? other : v;
    if constexpr (H > 1) return maximum<T, H / 2>(v);
    else return v[0];
}

// Swap the lanes of `a` that have bit H in their number with those of `b` that lack it.
template <class T, int H, int... L> INLINE void exchange(Vec<T>& a, Vec<T>& b, Lanes<L...>) {
    constexpr int W = Simd<T>::W;
    Vec<T> low = PICK(T, a, b, (L & H ? W + L - H : L)...);
    b = PICK(T, a, b, (L & H ? W + L : L + H)...);
    a = low;
}

template <class T, int H> INLINE void exchange_all(Vec<T>* v) {
#pragma GCC unroll 16
    for (int i = 0; i < Simd<T>::W; i++)
        if (!(i & H)) exchange<T, H>(v[i], v[i + H], typename LanesBelow<Simd<T>::W>::Type{});
}

// Lane j of vector i for lane i of vector j, as many vectors as lanes.
template <class T> INLINE void transpose(Vec<T>* v) {
    constexpr int W = Simd<T>::W;
    exchange_all<T, 1>(v);
    if constexpr (W > 2) exchange_all<T, 2>(v);
    if constexpr (W > 4) exchange_all<T, 4>(v);
    if constexpr (W > 8) exchange_all<T, 8>(v);
}

// Horner's rule, the lowest coefficient first.
template <class T> INLINE Vec<T> horner(Vec<T> z, const T* c, int n) {
    Vec<T> sum = splat<T>(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) sum = sum * z + c[i];
    return sum;
}

// (e^r - 1 - r)/r^2 on |r| <= ln(2)/2; Chebyshev fits by mpmath, absolute errors 7e-8 and 1.1e-16.
INLINE Vec<float> exp_tail(Vec<float> r) {
    constexpr float c[] = {0.5f, 0x1.5554dcp-3f, 0x1.55551ap-5f, 0x1.120b6ep-7f, 0x1.6d110ap-10f};
    return horner<float>(r, c, 5);
}
INLINE Vec<double> exp_tail(Vec<double> r) {
    constexpr double c[] = {0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d63p-5,  0x1.11111111109b3p-7,
                            0x1.6c16c1788bd90p-10, 0x1.a01a01a7c41d5p-13, 0x1.a019b90d2ae7ap-16, 0x1.71de0dae63bb3p-19,
                            0x1.289185613a3d6p-22, 0x1.af38a9b0ec855p-26};
    return horner<double>(r, c, 10);
}

// (ln((1+s)/(1-s)) - 2s)/s^3 in z = s^2 <= 0.0295; absolute errors 1.2e-9 and 3.1e-16.
INLINE Vec<float> log_tail(Vec<float> z) {
    constexpr float c[] = {0x1.555556p-1f, 0x1.9999ecp-2f, 0x1.245c44p-2f, 0x1.ddced8p-3f};
    return horner<float>(z, c, 4);
}
INLINE Vec<double> log_tail(Vec<double> z) {
    constexpr double c[] = {0x1.5555555555558p-1, 0x1.99999999952e2p-2, 0x1.2492492df148dp-2, 0x1.c71c62e5800a1p-3,
                            0x1.7462b4ab2ef6bp-3, 0x1.39fe606542ddep-3, 0x1.2b584aae78a57p-3};
    return horner<double>(z, c, 7);
}

// v 2^n for whole n in [-1100, 1100] (float: [-160, 160]), rounded once where the result is subnormal.
#if defined(__AVX512F__)
INLINE Vec<float> times_power(Vec<float> v, Vec<float> n) { return _mm512_maskz_scalef_ps(-1, v, n); }
INLINE Vec<double> times_power(Vec<double> v, Vec<double> n) { return _mm512_maskz_scalef_pd(-1, v, n); }
#else
template <class T> INLINE Vec<T> in_two_factors(Vec<T> v, Vec<T> n) {
    // 2^n alone may be out of range.
    constexpr int m = Simd<T>::mantissa, bias = Simd<T>::bias;
    Int<T> whole = as_int<T>(n + Simd<T>::round) - as_int<T>(splat<T>(Simd<T>::round));
    Int<T> half = whole >> 1;
    return v * as_float<T>((half + bias) << m) * as_float<T>((whole - half + bias) << m);
}
INLINE Vec<float> times_power(Vec<float> v, Vec<float> n) { return in_two_factors<float>(v, n); }
INLINE Vec<double> times_power(Vec<double> v, Vec<double> n) { return in_two_factors<double>(v, n); }
#endif

// ln(u) + carry for u > 0; the carry corrects u.
template <class T> INLINE Vec<T> log_plus(Vec<T> u, Vec<T> carry) {
    using S = Simd<T>;
    // u = 2^e (1 + f), with 1 + f between sqrt(1/2) and sqrt(2).
    Int<T> bits = as_int<T>(u) - S::sqrt_half;
    Vec<T> e = to_float<T>(bits >> S::mantissa);
    constexpr typename S::Bits fraction = (typename S::Bits(1) << S::mantissa) - 1;
    Vec<T> f = as_float<T>((bits & fraction) + S::sqrt_half) - 1;
    Vec<T> s = f / (2 + f), z = s * s, half = T(0.5) * f * f;
    Vec<T> small = s * (half + z * log_tail(z)) + (e * S::ln2_low + carry);
    return e * S::ln2_high - ((half - small) - f);
}

template <class T> INLINE Vec<T> log(Vec<T> u) { return log_plus<T>(u, u - u); }

// e^y = 2^n (1 + step), |step| < 0.42, for y <= 0; nan stays nan. `gone` where e^y is 0: n and step are not those of y.
template <class T> struct Power { Vec<T> n, step; Int<T> gone; };

template <class T> INLINE Power<T> power(Vec<T> y) {
    using S = Simd<T>;
    Int<T> gone = y < S::vanishing;
    y = gone ? splat<T>(S::vanishing) : y;
    Vec<T> n = (y * S::log2e + S::round) - S::round;
    Vec<T> r = (y - n * S::ln2_high) - n * S::ln2_low;
    return {n, r + r * r * exp_tail(r), gone};
}

// e^y for y <= 0, within 2 units in the last place, subnormal results too.
template <class T> INLINE Vec<T> exp(Vec<T> y) {
    Power<T> p = power<T>(y);
    return times_power(p.gone ? Vec<T>{} : 1 + p.step, p.n);
}

// lift e^y, for sums. A product that is subnormal, or rounded to 0, takes 200 times as long as another: here is none.
template <class T> INLINE Vec<T> lifted_exp(Power<T> p) {
    constexpr T lift = Simd<T>::lift;
    return times_power(p.gone ? Vec<T>{} : lift * p.step + lift, p.n);
}

// Below which y the product f e^y is subnormal.
template <class T> INLINE Vec<T> subnormal_below(Vec<T> f) { return Simd<T>::log_normal - log<T>(f < 0 ? -f : f); }

// m 2^n where the product is subnormal in lanes `low`: there it is counted in units of the smallest number.
template <class T> static __attribute__((noinline)) Vec<T> with_subnormal(Vec<T> m, Vec<T> n, Int<T> low) {
    using S = Simd<T>;
    Vec<T> zero = {}, normal = splat<T>(S::steps);
    Vec<T> units = times_power(low ? (m < 0 ? -m : m) : zero, low ? n + T(S::mantissa + S::bias - 1) : zero);
    Int<T> count = as_int<T>(units + normal) - as_int<T>(normal), sign = as_int<T>(splat<T>(T(-0.0)));
    Vec<T> small = as_float<T>(count | (as_int<T>(m) & sign));
    return low ? small : times_power(low ? zero : m, low ? zero : n);
}

// f e^y for y <= 0, `limit` being subnormal_below(f).
template <class T> INLINE Vec<T> exp_times(Vec<T> y, Vec<T> f, Vec<T> limit) {
    Power<T> p = power<T>(y);
    Vec<T> m = p.gone ? f - f : (1 + p.step) * f;  // nan where f is, else 0
    Int<T> low = y < limit;
    return __builtin_expect(any<T>(low), 0) ? with_subnormal<T>(m, p.n, low) : times_power(m, p.n);
}

// e^y - 1 for y <= 0.
template <class T> INLINE Vec<T> expm1(Power<T> p) {
    constexpr T far = -2 * Simd<T>::mantissa;  // e^y is rounded away here
    Vec<T> scale = times_power(splat<T>(1), p.n < far ? splat<T>(far) : p.n);
    return scale * p.step + (scale - 1);
}

// ln(1 + z) for z >= 0, to the last digits of a tiny z; nan stays nan.
template <class T> INLINE Vec<T> log1p(Vec<T> z) {
    Vec<T> u = 1 + z;
    Vec<T> lost = z < 1 ? z - (u - 1) : 1 - (u - z);
    return log_plus<T>(u, lost / u);
}

}  // namespace

// The kernels as a table of functions. Compiled once for each instruction set, ISA being its name.
#include "logsumexp.h"

namespace {

// For tests: one function on n numbers.
template <class T> void apply_to(int function, const T* x, T* y, int64_t n) {
    for (int64_t j = 0; j < n; j += Simd<T>::W) {
        int count = n - j < Simd<T>::W ? n - j : Simd<T>::W;
        Vec<T> v = load_some<T>(x + j, count, T(0));
        if (function == EXP) v = exp<T>(v);
        if (function == EXPM1) v = expm1<T>(power<T>(v));
        if (function == LOG1P) v = log1p<T>(v);
        if (function == LOG) v = log<T>(v);
        memcpy(y + j, &v, count * sizeof(T));
    }
}

template <class S> void round_trip_of(const float* x, float* y, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        S half;
        narrow(x[j], half);
        y[j] = widen(half);
    }
}

void apply(Function function, Type type, const void* x, void* y, int64_t n) {
    auto in = static_cast<const float*>(x);
    auto out = static_cast<float*>(y);
    if (function == ROUND && type == BFLOAT16) return round_trip_of<BFloat16>(in, out, n);
    if (function == ROUND) return round_trip_of<Float16>(in, out, n);
    if (type == FLOAT32) return apply_to(function, in, out, n);
    apply_to(function, static_cast<const double*>(x), static_cast<double*>(y), n);
}

}  // namespace

#define JOIN(a, b) a##b
#define TABLE(isa) JOIN(kernels_, isa)
#define NAME(isa) #isa
#define NAME_OF(isa) NAME(isa)

extern const Kernels TABLE(ISA);
const Kernels TABLE(ISA) = {
    NAME_OF(ISA),
    {Simd<float>::W, Simd<double>::W, Simd<float>::W, Simd<float>::W},
    {sizeof(Stats<float>), sizeof(Stats<double>), sizeof(Stats<float>), sizeof(Stats<float>)},
    {LogSumExp<float, float>::run, LogSumExp<double, double>::run, LogSumExp<float, BFloat16>::run,
     LogSumExp<float, Float16>::run},
    apply,
};

// The kernels of `smoothmax diagnose`: each row is read twice, the second time from the cache. Compiled once for each
// instruction set, ISA being its name.

#include "scan.h"
#include "half.h"

namespace {

constexpr int64_t BLOCK = 64;  // sums are made in blocks of so many terms per lane, to keep rounding small

template <class T> INLINE T infinity() { return T(__builtin_inf()); }
template <class T> constexpr T lowest = sizeof(T) == 4 ? T(-43) : T(-350);

// e^y for lowest <= y <= 0, a normal number; nan stays nan.
template <class T> INLINE Vec<T> exp_of_little(Vec<T> y) {
    using S = Simd<T>;
    Vec<T> shifted = y * S::log2e + S::round, n = shifted - S::round;
    Vec<T> r = (y - n * S::ln2_high) - n * S::ln2_low;
    Vec<T> fraction = 1 + (r + r * r * exp_tail(r));
#if defined(__AVX512F__)
    return times_power(fraction, n);
#else
    Int<T> whole = as_int<T>(shifted) - as_int<T>(splat<T>(S::round));
    return fraction * as_float<T>((whole + S::bias) << S::mantissa);
#endif
}

template <class T> struct Sums {
    Vec<T> mass{}, depth{}, square{}, shortfall{};

    template <bool MASKED> INLINE void add(Sums& s, Vec<T> x, T best, T k) {
        Vec<T> below = x - best, e = below * k;
        e = e < lowest<T> ? splat<T>(lowest<T>) : e;
        Vec<T> w = exp_of_little<T>(e);
        if (MASKED) {
            Int<T> seen = x != splat<T>(-infinity<T>());
            w = seen ? w : Vec<T>{};
            below = seen ? below : Vec<T>{};
        }
        s.shortfall -= below;
        s.mass += w;
        s.depth -= e * w;
        s.square += w * w;
    }
    INLINE void join(Sums& s, const Sums& other) {
        s.mass += other.mass, s.depth += other.depth, s.square += other.square, s.shortfall += other.shortfall;
    }
};

// The largest two and the least of a row; nan is passed over, and found by the sums.
template <class T> struct Ends { T first, second, low; };

template <class T> INLINE void include_one(T x, Ends<T>& e) {
    if (x > e.first) e.second = e.first, e.first = x;
    else if (x > e.second) e.second = x;
}

template <class T> INLINE void include(Vec<T> x, Vec<T>& first, Vec<T>& second, Vec<T>& low) {
    Vec<T> lesser = x < first ? x : first;
    first = x > first ? x : first;
    second = lesser > second ? lesser : second;
    low = x < low ? x : low;
}

template <class T> Ends<T> ends_of(const T* x, int64_t n) {
    constexpr int W = Simd<T>::W;
    const T inf = infinity<T>();
    Vec<T> first[2], second[2], low[2];
    for (int u = 0; u < 2; u++) first[u] = second[u] = splat<T>(-inf), low[u] = splat<T>(inf);
    int64_t j = 0;
    for (; j + 2 * W <= n; j += 2 * W)
        for (int u = 0; u < 2; u++) include<T>(load(x + j + u * W), first[u], second[u], low[u]);
    for (; j < n; j += W) {
        int count = n - j < W ? n - j : W;
        Vec<T> some = load_some<T>(x + j, count, -inf), others = load_some<T>(x + j, count, inf), unused{};
        include<T>(some, first[0], second[0], unused);
        low[0] = others < low[0] ? others : low[0];
    }
    Ends<T> e = {-inf, -inf, inf};
    for (int u = 0; u < 2; u++)
        for (int l = 0; l < W; l++) {
            include_one(first[u][l], e);
            include_one(second[u][l], e);
            e.low = low[u][l] < e.low ? low[u][l] : e.low;
        }
    return e;
}

// T computes, S is how x is stored.
template <class T, class S> struct Scanner {
    static constexpr int W = Simd<T>::W;

    // `next` is where the row after it lies, if rows are read where they are: it comes into the cache meanwhile.
    struct Row { const T *x, *next; int64_t n, own; T best; Ends<T> ends; };

    static const T* line(const Rows& rows, int64_t r) {
        const S* x = static_cast<const S*>(rows.x) + r * rows.stride;
        if constexpr (sizeof(T) == sizeof(S)) return reinterpret_cast<const T*>(x);
        T* scratch = static_cast<T*>(rows.scratch);
        for (int64_t j = 0; j < rows.n; j++) scratch[j] = widen(x[j]);
        return scratch;
    }

    static Row row(const Rows& rows, int64_t r) {
        const T* x = line(rows, r);
        Ends<T> e = ends_of(x, rows.n);
        int64_t own = 0;
        if (rows.target) own = rows.target[r];
        else while (own + 1 < rows.n && x[own] != e.first) own++;
        // Where the target shares the first place, the second largest is as large.
        const T* next = sizeof(T) == sizeof(S) && r + 1 < rows.rows ? x + rows.stride : x;
        return {x, next, rows.n, own, x[own] == e.first ? e.second : e.first, e};
    }

    template <bool MASKED> static void between(const Row& row, int64_t begin, int64_t end, T k, Sums<T>& all) {
        for (int64_t j = begin; j < end;) {
            Sums<T> part;
            int64_t stop = j + W * BLOCK < end ? j + W * BLOCK : end;
            for (; j + W <= stop; j += W) {
                __builtin_prefetch(row.next + j);
                part.template add<MASKED>(part, load(row.x + j), row.best, k);
            }
            if (j < stop) {
                part.template add<true>(part, load_some<T>(row.x + j, stop - j, -infinity<T>()), row.best, k);
                j = stop;
            }
            all.join(all, part);
        }
    }

    template <bool MASKED> static Sums<T> of_others(const Row& row, T k) {
        Sums<T> all;
        int64_t at = row.own / W * W, after = at + W < row.n ? at + W : row.n;
        between<MASKED>(row, 0, at, k, all);
        Vec<T> around = load_some<T>(row.x + at, after - at, -infinity<T>());
        around[row.own - at] = -infinity<T>();
        all.template add<true>(all, around, row.best, k);
        between<MASKED>(row, after, row.n, k, all);
        return all;
    }

    static Sums<T> sums(const Row& row, double k) {
        return row.ends.low == -infinity<T>() ? of_others<true>(row, T(k)) : of_others<false>(row, T(k));
    }

    static void measure(const Rows& rows, double* found) {
        for (int64_t r = 0; r < rows.rows; r++) {
            Row one = row(rows, r);
            Sums<T> s = sums(one, rows.k);
            int64_t there = rows.n;
            if (one.ends.low == -infinity<T>())
                for (int64_t j = 0; j < rows.n; j++) there -= one.x[j] == -infinity<T>();
            double results[RESULTS] = {one.x[one.own], one.best, one.ends.second, one.ends.low,
                                       sum<T>(s.shortfall), double(there), sum<T>(s.mass), sum<T>(s.depth),
                                       sum<T>(s.square)};
            for (int i = 0; i < RESULTS; i++) found[i * rows.rows + r] = results[i];
        }
    }

    static void masses(const Rows& rows, const double* sharpness, int64_t count, double* masses, double* ahead) {
        for (int64_t r = 0; r < rows.rows; r++) {
            Row one = row(rows, r);
            ahead[r] = double(one.x[one.own]) - double(one.best);
            for (int64_t i = 0; i < count; i++) masses[r * count + i] = sum<T>(sums(one, sharpness[i]).mass);
        }
    }
};

}  // namespace

#define NAMED_(prefix, isa) prefix##isa
#define NAMED(prefix, isa) NAMED_(prefix, isa)
#define TEXT_(isa) #isa
#define TEXT(isa) TEXT_(isa)

extern const Scan NAMED(scan_, ISA);
const Scan NAMED(scan_, ISA) = {
    TEXT(ISA),
    {Scanner<float, float>::measure, Scanner<double, double>::measure, Scanner<float, BFloat16>::measure,
     Scanner<float, Float16>::measure},
    {Scanner<float, float>::masses, Scanner<double, double>::masses, Scanner<float, BFloat16>::masses,
     Scanner<float, Float16>::masses},
};

// Log-sum-exp, its mean and its weights.
//
// Notation: x is a row of n entries, A its maximum, the anchor; k the sharpness > 0. For each row
//
//     rest  = sum over x_i != A of exp(k (x_i - A)) + (number of x_i = A) - 1,   value = A + log1p(rest)/k,
//     steps = sum over i of exp(k (x_i - A)) - 1,  weights_i = exp(k (x_i - A)) / (1 + rest).
//
// The anchor's own term stays out of rest, so that value - A keeps its digits. nan among finite entries reaches rest by
// itself; rows whose maximum is infinite, or that hold nothing but nan, are "hard" and counted entry by entry.
// For a loss the target's entry is left out, and ignored rows count as rows of nothing but -inf.
// What is known of a group of rows is a vector, whether its entries were read along the rows (a register holds
// neighbours of one row) or across them (each lane holds a row).
#pragma once

#include "loss.h"

namespace {

constexpr int64_t BLOCK = 32;  // sums are made in blocks of so many terms per lane, to keep rounding small

template <class T> struct Stats { Vec<T> anchor, rest, steps; };

template <class T> INLINE bool is_finite(T x) { return x - x == 0; }
template <class T> INLINE T infinity() { return T(__builtin_inf()); }

// One pass over the entries of a block: adds to rest, lifted, all terms but those of the anchor, which it counts.
template <class T, bool MEAN> struct Sums {
    Vec<T> rest{}, steps{};
    Int<T> tops{};

    INLINE void add(Sums& s, Vec<T> x, Vec<T> anchor, T k) {
        Power<T> p = power<T>((x - anchor) * k);
        Int<T> top = x == anchor;
        s.rest += top ? Vec<T>{} : lifted_exp<T>(p);
        if (MEAN) s.steps += expm1<T>(p);
        s.tops -= top;
    }
    INLINE void join(Sums& s, const Sums& other) {
        s.rest += other.rest;
        s.steps += other.steps;
        s.tops += other.tops;
    }
};

// T computes, S is how x is stored.
template <class T, class S> struct LogSumExp : Rows<T, S> {
    using Base = Rows<T, S>;
    using Base::SAME, Base::W;
    using typename Base::Across, typename Base::Group;
    using V = Vec<T>;

    // Along a row

    static T top_of_line(const T* x, int64_t n) {
        V top[4];
        for (V& t : top) t = splat<T>(-infinity<T>());
        int64_t j = 0;
        for (; j + 4 * W <= n; j += 4 * W)
            for (int u = 0; u < 4; u++) {
                V next = load(x + j + u * W);
                top[u] = next > top[u] ? next : top[u];
            }
        for (; j < n; j += W) {
            V next = load_some<T>(x + j, n - j < W ? n - j : W, -infinity<T>());
            top[0] = next > top[0] ? next : top[0];
        }
        for (int u = 1; u < 4; u++) top[0] = top[u] > top[0] ? top[u] : top[0];
        return maximum<T>(top[0]);
    }

    template <bool MEAN> static void sums_of_line(const T* x, int64_t n, T anchor, T k, T& rest, T& steps) {
        V a = splat(anchor);
        Sums<T, MEAN> all;
        int64_t j = 0;
        while (j + 4 * W <= n) {
            Sums<T, MEAN> part[4];
            int64_t end = j + 4 * W * BLOCK < n ? j + 4 * W * BLOCK : n;
            for (; j + 4 * W <= end; j += 4 * W)
                for (int u = 0; u < 4; u++) {
                    __builtin_prefetch(x + n + j + u * W);  // what comes next; here all is in the cache
                    part[u].add(part[u], load(x + j + u * W), a, k);
                }
            part[0].join(part[0], part[1]);
            part[2].join(part[2], part[3]);
            part[0].join(part[0], part[2]);
            all.join(all, part[0]);
        }
        int64_t filled = 0;
        for (; j < n; j += W) {
            // Lanes beyond the row repeat the anchor, which adds nothing but to the count.
            int count = n - j < W ? n - j : W;
            filled = W - count;
            all.add(all, load_some<T>(x + j, count, anchor), a, k);
        }
        rest = sum<T>(all.rest) / Simd<T>::lift + (sum<T>(to_float<T>(all.tops)) - T(filled + 1));
        steps = sum<T>(all.steps);
    }

    static Stats<T> stats_along(const Job& job, const Group& g, int64_t begin, int64_t n) {
        alignas(64) T scratch[SCRATCH_BYTES / sizeof(T)];
        Stats<T> s = {};
        for (int l = 0; l < g.count; l++) {
            const T* x = Base::line(Base::entry(job, g.x[l] + begin * job.x_n), job.x_n, n, scratch);
            T rest = 0, steps = 0;
            int64_t y = job.target ? g.y[l] - begin : n;
            T anchor = y < n && y >= 0 ? top_but(x, y, n) : top_of_line(x, n);
            if (job.target && g.y[l] < 0) anchor = -infinity<T>();
            else if (!is_finite(anchor)) hard(job, g.x[l] + begin * job.x_n, n, y, anchor, rest);
            else if (y < n && y >= 0) rest = sum_but(x, y, n, anchor, T(job.sharpness));
            else if (job.mean) sums_of_line<true>(x, n, anchor, T(job.sharpness), rest, steps);
            else sums_of_line<false>(x, n, anchor, T(job.sharpness), rest, steps);
            s.anchor[l] = anchor, s.rest[l] = rest, s.steps[l] = steps;
        }
        for (int l = g.count; l < W; l++) s.anchor[l] = s.anchor[0], s.rest[l] = s.rest[0], s.steps[l] = s.steps[0];
        return s;
    }

    // Entry y left out

    static T top_but(const T* x, int64_t y, int64_t n) {
        T before = top_of_line(x, y), after = top_of_line(x + y + 1, n - y - 1);
        return after > before ? after : before;
    }

    static T sum_but(const T* x, int64_t y, int64_t n, T anchor, T k) {
        T before = 0, after = 0, steps = 0;
        sums_of_line<false>(x, y, anchor, k, before, steps);
        sums_of_line<false>(x + y + 1, n - y - 1, anchor, k, after, steps);
        return before + after + 1;  // each went without one anchor
    }

    // Across the rows

    static V top_of_lanes(Across x, int64_t n) {
        V top[4];
        for (V& t : top) t = splat<T>(-infinity<T>());
        int64_t j = 0;
        for (; j + 4 <= n; j += 4)
            for (int u = 0; u < 4; u++) {
                V next = load(x.at + (j + u) * x.step);
                top[u] = next > top[u] ? next : top[u];
            }
        for (; j < n; j++) {
            V next = load(x.at + j * x.step);
            top[0] = next > top[0] ? next : top[0];
        }
        for (int u = 1; u < 4; u++) top[0] = top[u] > top[0] ? top[u] : top[0];
        return top[0];
    }

    template <bool MEAN> static Stats<T> sums_of_lanes(Across x, int64_t n, V anchor, T k) {
        Sums<T, MEAN> all;
        for (int64_t begin = 0; begin < n; begin += BLOCK) {
            Sums<T, MEAN> part;
            int64_t end = begin + BLOCK < n ? begin + BLOCK : n;
            for (int64_t j = begin; j < end; j++) part.add(part, load(x.at + j * x.step), anchor, k);
            all.join(all, part);
        }
        return {anchor, all.rest / Simd<T>::lift + to_float<T>(all.tops - 1), all.steps};
    }

    static Stats<T> stats_across(const Job& job, const Group& g, Across x, int64_t begin, int64_t n) {
        V anchor = top_of_lanes(x, n);
        T k = T(job.sharpness);
        Stats<T> s = job.mean ? sums_of_lanes<true>(x, n, anchor, k) : sums_of_lanes<false>(x, n, anchor, k);
        if (job.target)
            for (int l = 0; l < W; l++)
                if (g.y[l] < 0) s.anchor[l] = -infinity<T>(), s.rest[l] = 0;
        if (!any<T>(anchor - anchor != 0)) return s;
        for (int l = 0; l < W; l++)
            if (!is_finite(s.anchor[l]) && !(job.target && g.y[l] < 0)) {
                T a = anchor[l], rest = 0;
                hard(job, g.x[l] + begin * job.x_n, n, job.target ? g.y[l] - begin : n, a, rest);
                s.anchor[l] = a, s.rest[l] = rest, s.steps[l] = 0;
            }
        return s;
    }

    // Hard rows and pieces: the anchor is infinite, or nan where an entry is; rest counts the entries equal to it.

    // Entry y is left out, if there is one.
    static void hard(const Job& job, int64_t offset, int64_t n, int64_t y, T& anchor, T& rest) {
        const S* x = Base::entry(job, offset);
        int64_t tops = 0;
        bool nan = false;
        for (int64_t j = 0; j < n; j++) {
            if (j == y) continue;
            T next = widen(x[j * job.x_n]);
            nan |= next != next;
            tops += next == anchor;
        }
        if (nan) anchor = T(__builtin_nan(""));
        rest = anchor > 0 ? T(tops - 1) : 0;
    }

    // From the statistics to the results

    static Stats<T> merged(const Job& job, const Stats<T>* parts) {
        V top = splat<T>(-infinity<T>());
        for (int64_t c = 0; c < job.pieces; c++) top = parts[c].anchor > top ? parts[c].anchor : top;
        V rest = {}, lost = {}, steps = {};
        Int<T> tops = {};
        for (int64_t c = 0; c < job.pieces; c++) {
            Power<T> p = power<T>((parts[c].anchor - top) * T(job.sharpness));
            V scale = times_power(p.gone ? V{} : 1 + p.step, p.n);
            Int<T> is_top = parts[c].anchor == top;
            V term = is_top ? parts[c].rest : scale * (1 + parts[c].rest);
            // Compensated, since there may be thousands of pieces.
            V next = rest + term;
            lost += magnitude(rest) > magnitude(term) ? (rest - next) + term : (term - next) + rest;
            rest = next;
            tops -= is_top;
            int64_t n = c + 1 < job.pieces ? job.piece : job.n - c * job.piece;
            steps += scale * parts[c].steps + expm1<T>(p) * T(n);
        }
        // A piece of nothing but nan, or of nan beside +inf, makes a row of nan.
        Stats<T> s = {top + (rest - rest), rest + lost + to_float<T>(tops - 1), steps};
        for (int l = 0; l < W; l++)
            if (!is_finite(top[l])) merge_hard(job, parts, l, top[l], s);
        return s;
    }

    static V magnitude(V v) { return v < 0 ? -v : v; }

    static void merge_hard(const Job& job, const Stats<T>* parts, int l, T top, Stats<T>& s) {
        T tops = 0;
        bool nan = false;
        for (int64_t c = 0; c < job.pieces; c++) {
            T anchor = parts[c].anchor[l], rest = parts[c].rest[l];
            nan |= anchor != anchor || rest != rest;
            if (anchor == top) tops += 1 + rest;
        }
        s.anchor[l] = nan ? T(__builtin_nan("")) : top;
        s.rest[l] = top > 0 ? tops - 1 : 0;
        s.steps[l] = 0;
    }

    static V value_of(const Job& job, const Stats<T>& s) {
        V log_sum = log1p<T>(s.rest);
        if (job.mean) {
            V mean = s.steps / T(job.n);
            V near = log1p_signed(mean), far = log<T>((1 + s.rest) / T(job.n));
            log_sum = mean > T(-0.5) ? near : far;
        }
        return s.anchor + log_sum / T(job.sharpness);
    }

    // ln(1 + z) for -1/2 < z <= 0.
    static V log1p_signed(V z) {
        V u = 1 + z;
        return log_plus<T>(u, (z - (u - 1)) / u);
    }

    static void finish(const Job& job, const Group& g, const Stats<T>& s) {
        if (job.target) return Loss<T, S>::finish(job, g, s.anchor, s.rest);
        Base::template put<S>(job, g, job.value, job.row_outer, job.row_inner, value_of(job, s));
        Base::template put<T>(job, g, job.anchor, job.row_outer, job.row_inner, s.anchor);
        Base::template put<T>(job, g, job.total, job.row_outer, job.row_inner, 1 + s.rest);
    }

    // Weights

    static V factor(const Job& job, const Group& g, V total) {
        V above = splat<T>(1);
        if (job.target) above = Loss<T, S>::pull(job, g);
        else if (job.grad) above = Base::template get<S>(job, g, job.grad, job.g_outer, job.g_inner, 0);
        return above / total;
    }

    static T hard_weight(T x, T anchor, T factor) {
        if (anchor != anchor) return anchor;
        return anchor > 0 && x == anchor ? factor : 0;  // a row of -inf has no path, hence no gradient
    }

    static void weigh_along(const Job& job, const Group& g, int64_t begin, int64_t n, V anchor, V factor) {
        alignas(64) T scratch[SCRATCH_BYTES / sizeof(T)];
        V pull = {}, below = subnormal_below<T>(factor);
        if (job.target) pull = Loss<T, S>::pull(job, g);
        for (int l = 0; l < g.count; l++) {
            const T* x = Base::line(Base::entry(job, g.x[l] + begin * job.x_n), job.x_n, n, scratch);
            S* out = static_cast<S*>(job.weights) + g.w[l] + begin * job.w_n;
            bool direct = SAME && job.w_n == 1;
            T* w = direct ? reinterpret_cast<T*>(out) : scratch;
            T a = anchor[l], f = factor[l];
            if (!is_finite(a))
                for (int64_t j = 0; j < n; j++) w[j] = hard_weight(x[j], a, f);
            else
                weigh_line(job, x, n, a, f, below[l], w);
            if (job.target && Base::within(g.y[l], begin, n)) w[g.y[l] - begin] = -pull[l];
            if (direct) continue;
            for (int64_t j = 0; j < n; j++) narrow(w[j], out[j * job.w_n]);
        }
    }

    static void weigh_line(const Job& job, const T* x, int64_t n, T anchor, T factor, T below, T* w) {
        V a = splat(anchor), f = splat(factor), limit = splat(below);
        T k = T(job.sharpness);
        auto weights = [&](V at) { return exp_times<T>((at - a) * k, f, limit); };
        int64_t j = 0;
        if (job.stream && n >= W) {
            j = Base::to_boundary(w);
            store_some<T>(w, j, weights(load(x)));
            for (; j + W <= n; j += W) {
                __builtin_prefetch(x + n + j);  // what comes next
                stream<T>(w + j, weights(load(x + j)));
            }
        }
        for (; j + W <= n; j += W) store<T>(w + j, weights(load(x + j)));
        if (j < n) store_some<T>(w + j, n - j, weights(load_some<T>(x + j, n - j, anchor)));
    }

    static void weigh_across(const Job& job, const Group& g, Across x, int64_t begin, int64_t n, V anchor, V factor) {
        alignas(64) T scratch[SCRATCH_BYTES / sizeof(T)];
        bool direct = SAME && Base::apart_by(1, g, g.w, job.w_inner);
        S* first = static_cast<S*>(job.weights) + begin * job.w_n + g.w[0];
        T* w = direct ? reinterpret_cast<T*>(first) : scratch;
        int64_t step = direct ? job.w_n : W;
        Int<T> is_hard = anchor - anchor != 0;
        V below = subnormal_below<T>(factor);
        bool some_hard = any<T>(is_hard);
        for (int64_t j = 0; j < n; j++) {
            V at = load(x.at + j * x.step);
            V weight = exp_times<T>((at - anchor) * T(job.sharpness), factor, below);
            if (some_hard)
                for (int l = 0; l < W; l++)
                    if (is_hard[l]) weight[l] = hard_weight(at[l], anchor[l], factor[l]);
            store<T>(w + j * step, weight);
        }
        if (job.target) {
            V pull = Loss<T, S>::pull(job, g);
            for (int l = 0; l < W; l++)
                if (Base::within(g.y[l], begin, n)) w[(g.y[l] - begin) * step + l] = -pull[l];
        }
        if (!direct) Base::from_lanes(job, g, begin, n, scratch);
    }

    static void weigh(const Job& job, const Group& g, int64_t begin, int64_t n, V anchor, V total) {
        V f = factor(job, g, total);
        if (!job.in_lanes) return weigh_along(job, g, begin, n, anchor, f);
        alignas(64) T scratch[SCRATCH_BYTES / sizeof(T)];
        weigh_across(job, g, Base::across(job, g, begin, n, scratch), begin, n, anchor, f);
    }

    // Stages

    static Stats<T> stats(const Job& job, const Group& g, int64_t begin, int64_t n) {
        if (!job.in_lanes) return stats_along(job, g, begin, n);
        alignas(64) T scratch[SCRATCH_BYTES / sizeof(T)];
        return stats_across(job, g, Base::across(job, g, begin, n, scratch), begin, n);
    }

    static void whole(const Job& job, int64_t index) {
        Group g = Base::group(job, index);
        alignas(64) T scratch[SCRATCH_BYTES / sizeof(T)];
        Across x = {};
        if (job.in_lanes) x = Base::across(job, g, 0, job.n, scratch);
        Stats<T> s = job.in_lanes ? stats_across(job, g, x, 0, job.n) : stats_along(job, g, 0, job.n);
        finish(job, g, s);
        if (!job.weights) return;
        V f = factor(job, g, 1 + s.rest);
        if (job.in_lanes) weigh_across(job, g, x, 0, job.n, s.anchor, f);
        else weigh_along(job, g, 0, job.n, s.anchor, f);
    }

    static void weight(const Job& job, int64_t index, int64_t piece) {
        Group g = Base::group(job, index);
        V anchor = Base::template get<T>(job, g, job.anchor, job.row_outer, job.row_inner, 0);
        V total = Base::template get<T>(job, g, job.total, job.row_outer, job.row_inner, 1);
        int64_t begin = piece * job.piece;
        weigh(job, g, begin, job.n - begin < job.piece ? job.n - begin : job.piece, anchor, total);
    }

    static void part(const Job& job, int64_t index, int64_t piece) {
        int64_t begin = piece * job.piece;
        static_cast<Stats<T>*>(job.parts)[index * job.pieces + piece] =
            stats(job, Base::group(job, index), begin, job.n - begin < job.piece ? job.n - begin : job.piece);
    }

    static void run(const Job& job, Stage stage, int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; task++) {
            if (stage == WHOLE) whole(job, task);
            if (stage == PART) part(job, task / job.pieces, task % job.pieces);
            if (stage == WEIGHT) weight(job, task / job.pieces, task % job.pieces);
            if (stage == MERGE)
                finish(job, Base::group(job, task), merged(job, static_cast<Stats<T>*>(job.parts) + task * job.pieces));
        }
        if (job.stream) flush_streams();
    }
};

}  // namespace

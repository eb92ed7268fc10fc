// Softmax cross-entropy with a margin, from the log-sum-exp over the classes other than the target.
//
// Notation: y the target of a row, x its scores, k the scale, m the margin, A and rest those of the other classes;
//
//     u = k (A - x_y + m) + log1p(rest),   loss = ln(1 + e^u),   push = 1/(1 + e^-u) = 1 - p_y,
//     d loss/d x_j = k push exp(k (x_j - A))/(1 + rest) for j != y,   d loss/d x_y = -k push.
//
// Nothing is subtracted that is nearly equal: the loss and the gradient of a confident row keep their digits.
#pragma once

#include "rows.h"

namespace {

template <class T, class S> struct Loss : Rows<T, S> {
    using Base = Rows<T, S>;
    using Base::W;
    using typename Base::Group;
    using V = Vec<T>;

    static V own_scores(const Job& job, const Group& g) {
        V own = {};
        for (int l = 0; l < W; l++)
            if (g.y[l] >= 0) own[l] = widen(Base::entry(job, g.x[l])[g.y[l] * job.x_n]);
        return own;
    }

    static void finish(const Job& job, const Group& g, V anchor, V rest) {
        // +inf among the other scores gives nan, as it does in a difference of logarithms.
        V endless = anchor > Simd<T>::largest ? anchor - anchor : V{};
        V u = T(job.sharpness) * ((anchor - own_scores(job, g)) + T(job.margin)) + log1p<T>(rest) + endless;
        V e = exp<T>(u > 0 ? -u : u);
        V loss = (u < 0 ? V{} : u) + log1p<T>(e);
        V push = (u < 0 ? e : splat<T>(1)) / (1 + e);
        V total = 1 + rest;
        Base::template put<T>(job, g, job.value, job.row_outer, job.row_inner, loss);
        Base::template put<T>(job, g, job.anchor, job.row_outer, job.row_inner, anchor);
        Base::template put<T>(job, g, job.total, job.row_outer, job.row_inner, total);
        Base::template put<T>(job, g, job.push, job.row_outer, job.row_inner, push);
    }

    // -d loss/d x_y, times what comes from above.
    static V pull(const Job& job, const Group& g) {
        V push = Base::template get<T>(job, g, job.push, job.row_outer, job.row_inner, 0);
        V above = Base::template get<T>(job, g, job.grad, job.g_outer, job.g_inner, 0);
        return push == 0 ? V{} : above * push * T(job.sharpness);
    }
};

}  // namespace

// The many-class head: log-sum-exp over the classes other than a row's own, and its derivatives, without ever holding
// all scores. Compiled once for each instruction set, ISA being its name.
//
// A tile of classes meets a block of rows. Scores are computed class by class, S = W X^T, so that a register holds
// neighbouring rows: maxima and sums need no joining of lanes. Backward computes the tile again, makes of it
//
//     q_nj = lse_grad_n exp(logit_nj - lse_n) scale_n / |w_j|,    for the target score_grad_n / |w_j|,
//
// with another division by |x_n|, and adds Q W to the rows' derivatives and writes Q^T X to those of the prototypes, both
// less their parts along x_n and w_j: lengths are divided out of results, so that operands stay what they are. The tile,
// both forms of its prototypes and the products live in the second-level cache; each thread has its own.

#include "many_class_skip.h"
#include "many_class_statistics.h"

namespace {

// Rows, block by block.
void pack(const ManyClass& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Place all{job, plan, nullptr};
    float *scale = all.shared<float>(plan.scale), *lse = all.shared<float>(plan.lse);
    float* inverse = all.shared<float>(plan.row_inverse);
    float *lse_grad = all.shared<float>(plan.lse_grad), *score_grad = all.shared<float>(plan.score_grad);
    int64_t* target = all.shared<int64_t>(plan.target);
    bool back = job.lse_grad;
    for (int64_t b = begin; b < end; b++) {
        int64_t first = b * plan.block, there = least(plan.block, job.rows - first);
        for (int64_t n = first; n < first + there; n++) {
            inverse[n] = typed(job, [&](auto t) { return inverse_length(job, row_of(job.x, job.x_stride, n, t)); });
            scale[n] = job.scale[n], target[n] = job.target[n];
            if (!back) continue;
            lse[n] = job.lse[n] == LOWEST ? 0 : job.lse[n];
            lse_grad[n] = job.lse_grad[n], score_grad[n] = job.score_grad[n];
        }
        for (int64_t n = first + there; n < first + plan.block; n++)
            scale[n] = inverse[n] = lse[n] = lse_grad[n] = score_grad[n] = 0, target[n] = -1;
        typed(job, [&](auto t) {
            auto x = row_of(job.x, job.x_stride, first, t);
            char *xs = all.shared<char>(plan.xs + b * plan.xs_step), *xw = all.shared<char>(plan.xw + b * plan.xw_step);
            if (job.kept_tiles < plan.tiles || !back)  // else no product is computed again
                Gemm::right(x, job.features, there, 1, job.x_stride, plan.features, plan.block, xs, true);
            if (back) Gemm::right(x, there, job.features, job.x_stride, 1, plan.block, plan.features, xw, true);
        });
    }
}

// What belongs to each class of a tile.
void open_tile(const Place& my, int64_t first, int64_t count) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    for (int64_t j = 0; j < plan.tile; j++) {
        bool is = j < count;
        my.at<float>(plan.inverse)[j] = !is ? 0 : typed(job, [&](auto t) {
            return inverse_length(job, row_of(job.w, job.w_stride, first + j, t));
        });
        my.at<float>(plan.bias)[j] = is && job.bias ? job.bias[first + j] : 0;
        my.at<float>(plan.offset)[j] = !is ? LOWEST : job.offset ? job.offset[first + j] : 0;
    }
}

// The tile as a left operand.
Gemm::Left left_of_tile(const Place& my, int64_t first, int64_t count) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    return typed(job, [&](auto t) {
        return Gemm::left(row_of(job.w, job.w_stride, first, t), count, job.features, job.w_stride, 1, plan.tile,
                          plan.features, my.at<char>(plan.ws));
    });
}

// The tile as a right operand.
Gemm::Right right_of_tile(const Place& my, int64_t first, int64_t count) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    return typed(job, [&](auto t) {
        return Gemm::right(row_of(job.w, job.w_stride, first, t), count, job.features, job.w_stride, 1, plan.tile,
                           plan.features, my.at<char>(plan.wd), false);
    });
}

// A block of rows as it was packed.
Gemm::Right packed(const Place& my, int64_t at, int64_t k, int64_t n) {
    return typed(my.job, [&](auto t) { return Gemm::packed<decltype(t)>(my.shared<char>(at), k, n); });
}

// The prototypes of a tile, to be read ahead; nothing where there are none, or something between them.
Ahead prototypes_ahead(const ManyClass& job, const Plan& plan, int64_t tile) {
    int64_t first = tile * plan.tile, count = least(plan.tile, job.classes - first), size = job.half ? 2 : 4;
    if (count <= 0 || job.w_stride != job.features) return {};
    const char* at = static_cast<const char*>(job.w) + size * first * job.features;
    return {at, at + size * count * job.features};
}

// And the products of a tile and a block of rows.
Ahead products_ahead(const ManyClass& job, const Plan& plan, int64_t tile, int64_t b) {
    const float* before = tile < plan.tiles ? kept(job, plan, tile) : nullptr;
    if (!before) return {};
    const char* at = reinterpret_cast<const char*>(before + b * plan.tile * plan.stride);
    return {at, at + 4 * plan.tile * plan.stride};
}

// The products of the tile with a block of rows.
void products(const Place& my, Gemm::Left w, int64_t b, float* to, Ahead ahead) {
    const Plan& plan = my.plan;
    Gemm::multiply(w, packed(my, plan.xs + b * plan.xs_step, plan.features, plan.block), plan.tile, plan.block,
                   plan.features, to, plan.stride, false, ahead);
}

// Every task keeps of its classes, for each row, the largest logit and the sum of exp(logit - largest), in double.
void values_of_block(const Place& my, int64_t first, int64_t count, int64_t b, const float* from) {
    const Plan& plan = my.plan;
    const float *inverse = my.at<float>(plan.inverse), *bias = my.at<float>(plan.bias), *offset = my.at<float>(plan.offset);
    float* top = my.at<float>(plan.top) + b * plan.block;
    double* total = my.at<double>(plan.total) + b * plan.block;
    for (int64_t n = 0; n < plan.block; n += W) {
        const float* s = from + n;
        V scale = load(my.shared<float>(plan.scale) + b * plan.block + n);
        V row_inverse = load(my.shared<float>(plan.row_inverse) + b * plan.block + n);
        I own = target_in_tile(my.shared<int64_t>(plan.target) + b * plan.block + n, first, count);
        for (int64_t l = 0; l < W; l++)
            if (own[l] >= 0)
                my.job.score[b * plan.block + n + l] =
                    s[own[l] * plan.stride + l] * (row_inverse[l] * inverse[own[l]]) + bias[own[l]];
        auto logit = [&](int64_t j) {
            V all = (load(s + j * plan.stride) * (row_inverse * inverse[j]) + bias[j]) * scale + offset[j];
            return own == int32_t(j) ? splat<float>(LOWEST) : all;
        };
        V largest[4];
        for (V& t : largest) t = splat<float>(LOWEST);
        for (int64_t j = 0; j < plan.tile; j++) {
            V next = logit(j);
            largest[j % 4] = next > largest[j % 4] ? next : largest[j % 4];
        }
        for (int u = 1; u < 4; u++) largest[0] = largest[u] > largest[0] ? largest[u] : largest[0];
        V before = load(top + n);
        V anchor = largest[0] > before ? largest[0] : before;
        store(top + n, anchor);
        anchor = anchor == LOWEST ? V{} : anchor;
        V sum[4] = {};
        for (int64_t j = 0; j < plan.tile; j++) sum[j % 4] += exp<float>(logit(j) - anchor);
        V part = (sum[0] + sum[1]) + (sum[2] + sum[3]), kept = exp<float>(before - anchor);
        for (int l = 0; l < W; l++) total[n + l] = total[n + l] * kept[l] + part[l];
        if (my.job.masses) give_mass(my.job, first / plan.tile, b * plan.block + n, anchor, part);
    }
}

void values(const ManyClass& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Gemm::Session session;
    for (int64_t task = begin; task < end; task++) {
        Place my{job, plan, static_cast<char*>(job.room) + plan.task + task * plan.task_step};
        for (int64_t n = 0; n < plan.blocks * plan.block; n++) {
            my.at<float>(plan.top)[n] = LOWEST;
            my.at<double>(plan.total)[n] = 0;
            if (job.statistics) my.at<RowStatistics>(plan.statistics)[n] = no_statistics();
        }
        for (int64_t t = plan.first_tile(job, task); t < plan.first_tile(job, task + 1); t++) {
            int64_t first = t * plan.tile, count = least(plan.tile, job.classes - first);
            open_tile(my, first, count);
            Gemm::Left w = left_of_tile(my, first, count);
            float* keep = kept(job, plan, t);
            for (int64_t b = 0; b < plan.blocks; b++) {
                float* s = keep ? keep + b * plan.tile * plan.stride : my.at<float>(plan.s);
                products(my, w, b, s, b ? Ahead{} : prototypes_ahead(job, plan, t + 1));
                values_of_block(my, first, count, b, s);
                if (job.statistics) statistics_of_block(my, first, count, b, s, my.at<float>(plan.top) + b * plan.block);
            }
        }
    }
}

// The log-sum-exp of a row from those of all tasks.
void join(const ManyClass& job, int64_t begin, int64_t end) {
    Plan plan(job);
    for (int64_t n = begin; n < end; n++) {
        auto my = [&](int64_t task, int64_t offset) {
            return static_cast<char*>(job.room) + plan.task + task * plan.task_step + offset;
        };
        float top = LOWEST;
        for (int64_t t = 0; t < job.tasks; t++) {
            float other = reinterpret_cast<float*>(my(t, plan.top))[n];
            top = other > top ? other : top;
        }
        double total = 0;
        for (int64_t t = 0; t < job.tasks && top != LOWEST; t++)
            total += reinterpret_cast<double*>(my(t, plan.total))[n] *
                     __builtin_exp(double(reinterpret_cast<float*>(my(t, plan.top))[n]) - top);
        job.lse[n] = top == LOWEST ? top : float(top + __builtin_log(total));
        if (job.statistics) join_statistics(job, plan, n, top, total);
    }
}

// From scores to q, and the sums over classes (dscale) and over rows (of the classes).
template <bool SUMS>
void weights_of_block(const Place& my, int64_t first, int64_t count, int64_t b, const float* from) {
    const Plan& plan = my.plan;
    const float *inverse = my.at<float>(plan.inverse), *bias = my.at<float>(plan.bias), *offset = my.at<float>(plan.offset);
    float *of_offset = my.at<float>(plan.sums), *of_bias = of_offset + W * plan.tile;
    double* dscale = my.at<double>(plan.dscale) + b * plan.block;
    for (int64_t n = 0; n < plan.block; n += W) {
        const float* s = from + n;
        float* q = my.at<float>(plan.s) + n;
        int64_t row = b * plan.block + n;
        V scale = load(my.shared<float>(plan.scale) + row), lse = load(my.shared<float>(plan.lse) + row);
        V lse_grad = load(my.shared<float>(plan.lse_grad) + row), score_grad = load(my.shared<float>(plan.score_grad) + row);
        V row_inverse = load(my.shared<float>(plan.row_inverse) + row);
        I own = target_in_tile(my.shared<int64_t>(plan.target) + row, first, count);
        V sum[4] = {};
        for (int64_t j = 0; j < plan.tile; j++) {
            V both = row_inverse * inverse[j], score = load(s + j * plan.stride) * both + bias[j];
            V logit = score * scale + offset[j];
            I is_own = own == int32_t(j);
            V of_logit = exp<float>((is_own ? splat<float>(LOWEST) : logit) - lse) * lse_grad;
            V of_score = is_own ? score_grad : of_logit * scale;
            sum[j % 4] += of_logit * score;
            store(q + j * plan.stride, of_score * both);
            if (SUMS) {
                store(of_offset + j * W, load(of_offset + j * W) + of_logit);
                store(of_bias + j * W, load(of_bias + j * W) + of_score);
            }
        }
        V part = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        for (int l = 0; l < W; l++) dscale[n + l] += part[l];
    }
}

// A result of classes: put, or added.
INLINE void give(const ManyClass& job, float* to, float value) { *to = job.add ? *to + value : value; }

// From Q W or Q^T X to the derivatives of a row or prototype: with lengths divided out they lie across it.
template <class T, class R> void give_across(const ManyClass& job, const float* g, const T* row, float inverse, bool add, R* to) {
    float along = job.normalize ? dot(g, row, job.features) * inverse * inverse : 0;
    if (add) subtract<true>(g, along, row, job.features, to);
    else subtract<false>(g, along, row, job.features, to);
}

// Those that were given nothing have none.
void close_tile(const Place& my, int64_t first, int64_t count) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    int64_t size = job.half && !job.wide ? 2 : 4;
    for (int64_t j = 0; j < count && job.dw; j++) {
        int64_t at = (first + j) * job.features;
        if (!my.at<char>(plan.given)[j]) {
            if (!job.add) memset(static_cast<char*>(job.dw) + size * at, 0, size * job.features);
            continue;
        }
        typed(job, [&](auto t) {
            const float* g = my.at<float>(plan.g) + j * (plan.features + 16);
            auto w = row_of(job.w, job.w_stride, first + j, t);
            float inverse = my.at<float>(plan.inverse)[j];
            if (job.wide) give_across(job, g, w, inverse, job.add, static_cast<float*>(job.dw) + at);
            else give_across(job, g, w, inverse, job.add, static_cast<decltype(t)*>(job.dw) + at);
        });
    }
    for (int64_t j = 0; j < count; j++) {
        float* sums = my.at<float>(plan.sums);
        if (job.doffset) give(job, job.doffset + first + j, sum<float>(load(sums + j * W)));
        if (job.dbias) give(job, job.dbias + first + j, sum<float>(load(sums + (plan.tile + j) * W)));
    }
}

// A tile and a block of rows: q, and what it adds to the derivatives of the rows and of the prototypes, or with no `add`
// puts there.
void slopes_of_block(const Place& my, int64_t first, int64_t count, int64_t b, const float* from, Gemm::Right wd, bool add) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    float* s = my.at<float>(plan.s);
    int64_t wide = plan.features + 16;
    if (job.dbias || job.doffset) weights_of_block<true>(my, first, count, b, from);
    else weights_of_block<false>(my, first, count, b, from);
    Gemm::Both q = typed(job, [&](auto t) {
        return Gemm::weights<decltype(t)>(s, plan.block, plan.tile, plan.stride, my.at<char>(plan.q),
                                          job.dw ? my.at<char>(plan.qt) : nullptr);
    });
    float* dx = my.at<float>(plan.dx) + b * plan.block * wide;
    // While these are computed what comes next is read.
    int64_t next = first / plan.tile + 1;
    bool last = b + 1 == plan.blocks;
    Gemm::multiply(q.weights, wd, plan.block, plan.features, plan.tile, dx, wide, true,
                   last ? prototypes_ahead(job, plan, next) : Ahead{});
    if (!job.dw) return;
    Gemm::multiply(q.turned, packed(my, plan.xw + b * plan.xw_step, plan.block, plan.features), plan.tile, plan.features,
                   plan.block, my.at<float>(plan.g), wide, add, products_ahead(job, plan, last ? next : next - 1, last ? 0 : b + 1));
}

// Of the blocks that are not left out.
void slopes_of_blocks(const Place& my, int64_t tile, int64_t first, int64_t count) {
    const Plan& plan = my.plan;
    const float* before = kept(my.job, plan, tile);
    float* s = my.at<float>(plan.s);
    open_tile(my, first, count);
    Gemm::Left w = {};
    if (!before) w = left_of_tile(my, first, count);
    Gemm::Right wd = right_of_tile(my, first, count);
    bool add = false;
    for (int64_t b = 0; b < plan.blocks; b++) {
        if (my.at<char>(plan.left_out)[b]) continue;
        if (!before) products(my, w, b, s, {});
        slopes_of_block(my, first, count, b, before ? before + b * plan.tile * plan.stride : s, wd, add);
        add = true;
    }
}

void slopes_of_tile(const Place& my, int64_t tile) {
    const ManyClass& job = my.job;
    const Plan& plan = my.plan;
    int64_t first = tile * plan.tile, count = least(plan.tile, job.classes - first), left_out = 0;
    for (int64_t b = 0; b < plan.blocks; b++) left_out += my.at<char>(plan.left_out)[b] = negligible(my, tile, b);
    memset(my.at<float>(plan.sums), 0, job.dbias || job.doffset ? 2 * 4 * W * plan.tile : 0);
    memset(my.at<char>(plan.given), left_out < plan.blocks, plan.tile);
    if (left_out < plan.blocks) slopes_of_blocks(my, tile, first, count);
    if (left_out) slopes_of_targets(my, first, count);
    close_tile(my, first, count);
    __atomic_add_fetch(&job.counts[0], plan.blocks, __ATOMIC_RELAXED);
    __atomic_add_fetch(&job.counts[1], left_out, __ATOMIC_RELAXED);
}

void slopes(const ManyClass& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Gemm::Session session;
    for (int64_t task = begin; task < end; task++) {
        Place my{job, plan, static_cast<char*>(job.room) + plan.task + task * plan.task_step};
        memset(my.at<char>(plan.dscale), 0, 8 * plan.blocks * plan.block);
        memset(my.at<char>(plan.dx), 0, 4 * plan.blocks * plan.block * (plan.features + 16));
        for (int64_t t = plan.first_tile(job, task); t < plan.first_tile(job, task + 1); t++)
            slopes_of_tile(my, t);
    }
}

// Sums of rows over the tasks, in order, so that they do not depend on who came first; in the place of the first task.
void reduce(const ManyClass& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Place all{job, plan, static_cast<char*>(job.room) + plan.task};
    int64_t features = job.features;
    for (int64_t n = begin; n < end; n++) {
        float* sum = all.at<float>(plan.dx) + n * (plan.features + 16);
        double dscale = all.at<double>(plan.dscale)[n];
        for (int64_t task = 1; task < job.tasks; task++) {
            Place my{job, plan, all.base + task * plan.task_step};
            const float* dx = my.at<float>(plan.dx) + n * (plan.features + 16);
            for (int64_t d = 0; d < features; d++) sum[d] += dx[d];
            dscale += my.at<double>(plan.dscale)[n];
        }
        job.dscale[n] = float(dscale);
        float inverse = all.shared<float>(plan.row_inverse)[n];
        typed(job, [&](auto t) {
            auto x = row_of(job.x, job.x_stride, n, t);
            give_across(job, sum, x, inverse, false, static_cast<decltype(t)*>(job.dx) + n * features);
        });
    }
}

void plan(const ManyClass& job, ManyPlan* to) {
    Plan plan(job);
    *to = {plan.all, plan.tile, plan.tiles, plan.block, plan.blocks, plan.blocks * plan.tile * plan.stride};
}

int64_t count(const ManyClass& job, ManyStage stage) {
    return stage == PACK ? Plan(job).blocks : stage == VALUES || stage == SLOPES ? job.tasks : job.rows;
}

void run(const ManyClass& job, ManyStage stage, int64_t begin, int64_t end) {
    switch (stage) {
        case PACK: return pack(job, begin, end);
        case VALUES: return values(job, begin, end);
        case JOIN: return join(job, begin, end);
        case SLOPES: return slopes(job, begin, end);
        case REDUCE: return reduce(job, begin, end);
    }
}

// One product, for tests and measurements: all operands packed, in one block.
struct Product {
    int64_t m, n, k, left, right, all;
    Product(int64_t m_, int64_t n_, int64_t k_) {
        m = round_up(m_, 32), n = round_up(n_, 32), k = round_up(k_, 32);
        left = round_up(Gemm::left_bytes(m, k), 64), right = round_up(Gemm::right_bytes(k, n), 64);
        all = left + right + 4 * m * n;
    }
};

int64_t multiply_room(int64_t m, int64_t n, int64_t k) { return Product(m, n, k).all; }

void multiply(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k, int a_transposed,
              int b_transposed, int add, void* room) {
    Product size(m, n, k);
    Gemm::Session session;
    char* at = static_cast<char*>(room);
    float* padded = reinterpret_cast<float*>(at + size.left + size.right);
    Gemm::Left left = Gemm::left(a, m, k, a_transposed ? 1 : k, a_transposed ? m : 1, size.m, size.k, at);
    Gemm::Right right = Gemm::right(b, k, n, b_transposed ? 1 : n, b_transposed ? k : 1, size.k, size.n, at + size.left, true);
    if (add)
        for (int64_t i = 0; i < m; i++) memcpy(padded + i * size.n, c + i * n, 4 * n);
    Gemm::multiply(left, right, size.m, size.n, size.k, padded, size.n, add);
    for (int64_t i = 0; i < m; i++) memcpy(c + i * n, padded + i * size.n, 4 * n);
}

}  // namespace

#define NAME_(isa) many_##isa
#define NAME(isa) NAME_(isa)
#define TEXT_(isa) #isa
#define TEXT(isa) TEXT_(isa)

extern const ManyKernels NAME(ISA);
const ManyKernels NAME(ISA) = {TEXT(ISA), plan, count, run, multiply, multiply_room};

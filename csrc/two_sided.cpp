// Both directions of a contrastive loss at once: log-sum-exp over the negatives of every row and every column of
// S = X Y^T, and its derivatives, without ever holding S. Compiled once for each instruction set, ISA being its name.
//
// A tile of columns meets one block of rows after the other. Forward each S_ij serves both sums by one exponential; those
// of columns are whole when all blocks have passed, those of rows are joined over the tasks. Backward computes the tile
// again and makes of it, u and v being 1 over the lengths of x_i and y_j,
//
//     q_ij = (rows_grad_i exp(logit - of_rows_i) + columns_grad_j exp(logit - of_columns_j)) scale u_i v_j,
//
// again with one exponential, and score_grad_i u_i v_i on the diagonal. Then dX += Q Y, dY += Q^T X, four products
// for both directions. Tasks own parts of the columns; in each phase they meet other rows, so that no two write to the
// same ones and no derivative is held twice. Rows are packed anew for each tile: packed rows of all blocks would take as
// much memory as both gradients, or more.

#include "two_sided.h"

#include "matrix.h"

namespace {

constexpr int64_t TILE = 256, SMALL_TILE = 64;  // columns, and rows, of a tile; with 384 it took as long
constexpr int ROWS = 4;                         // of a tile that are taken together: PAD is a multiple
constexpr int64_t PAD = Gemm::ROW_PAD;

// Exponents may lie so far apart that one anchor serves them all: what e^-87 cannot hold is below e^-27 of the largest.
constexpr float APART = 60;

// Where everything lies in the room, in bytes. What a task has for itself begins at `task`.
struct Plan {
    int64_t features, tile, tiles, block, blocks, tasks, pairs, stride, wide;  // padded; strides of scores and of products
    int64_t u, v, absent, ids, of_rows, of_columns, rows_grad, columns_grad, task, task_step;
    int64_t ys, yw, x, s, q, g, d, top, total, column_top, column_total, anchor, sum, factor, dscale, all;

    explicit Plan(const TwoSided& job) {
        features = round_up(job.features, Gemm::FEATURE_PAD), wide = features + 16;
        for (int64_t size = TILE;; size -= 32) {
            int64_t parts = round_up((job.pairs + size - 1) / size, job.tasks);  // as many for each task
            tile = block = round_up((job.pairs + parts - 1) / parts, PAD);
            lay_out(job, job.rows_grad);
            if (size <= SMALL_TILE || task_step <= job.most) return;
        }
    }

    void lay_out(const TwoSided& job, bool back) {
        tiles = blocks = (job.pairs + tile - 1) / tile;
        tasks = least(job.tasks, tiles);  // none without columns, nor rows
        pairs = tiles * tile;
        stride = tile + 16;
        all = 0;
        u = take(4 * pairs), v = take(4 * pairs), absent = take(4 * pairs), ids = take(4 * pairs);
        of_rows = take(back ? 4 * pairs : 0), of_columns = take(back ? 4 * pairs : 0);
        rows_grad = take(back ? 4 * pairs : 0), columns_grad = take(back ? 4 * pairs : 0);
        task = all, all = 0;
        int64_t left = Gemm::left_bytes(block, features), right = back ? Gemm::right_bytes(block, features) : 0;
        x = take(left > right ? left : right);
        ys = take(Gemm::right_bytes(features, tile)), yw = take(back ? Gemm::right_bytes(tile, features) : 0);
        s = take(4 * block * stride);
        q = take(back ? Gemm::left_bytes(block, tile) : 0);  // as large as its transpose
        g = take(back ? 4 * tile * wide : 0), d = take(back ? 4 * block * wide : 0);
        top = take(back ? 0 : 4 * pairs), total = take(back ? 0 : 8 * pairs);
        column_top = take(4 * tile), column_total = take(8 * tile);
        anchor = take(4 * (block + tile)), sum = take(4 * (block + tile)), factor = take(4 * (block + tile));
        dscale = take(8);
        task_step = all, all = task + tasks * task_step;
    }

    int64_t take(int64_t bytes) {
        int64_t at = all;
        all += round_up(bytes, 64);
        return at;
    }
};

// A tile of columns, or a block of rows: where it begins, and how many of it are there.
struct Span { int64_t first, count; };

INLINE Span span(int64_t index, int64_t size, int64_t all) { return {index * size, least(size, all - index * size)}; }

// The room of one task, and the addresses in it.
struct Place {
    const TwoSided& job;
    const Plan& plan;
    char* base;
    Place(const TwoSided& job_, const Plan& plan_, int64_t task)
        : job(job_), plan(plan_), base(static_cast<char*>(job_.room) + plan_.task + task * plan_.task_step) {}
    template <class T> T* at(int64_t offset) const { return reinterpret_cast<T*>(base + offset); }
    template <class T> T* shared(int64_t offset) const { return reinterpret_cast<T*>(static_cast<char*>(job.room) + offset); }
    const float* x(int64_t i) const { return job.x + i * job.x_stride; }
    const float* y(int64_t j) const { return job.y + j * job.y_stride; }
};

// What belongs to each pair, and to the places beyond the last.
void lengths(const TwoSided& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Place all(job, plan, 0);
    for (int64_t n = begin; n < end; n++) {
        bool is = n < job.pairs;
        all.shared<float>(plan.u)[n] = is ? inverse_length(all.x(n), job.features, job.normalize, job.refused) : 0;
        all.shared<float>(plan.v)[n] = is ? inverse_length(all.y(n), job.features, job.normalize, job.refused) : 0;
        all.shared<float>(plan.absent)[n] = is ? 0 : LOWEST;
        all.shared<int32_t>(plan.ids)[n] = is ? job.ids[n] : -1;
        if (!job.rows_grad) continue;
        all.shared<float>(plan.of_rows)[n] = is ? job.of_rows[n] : LOWEST;
        all.shared<float>(plan.of_columns)[n] = is ? job.of_columns[n] : LOWEST;
        all.shared<float>(plan.rows_grad)[n] = is ? job.rows_grad[n] : 0;
        all.shared<float>(plan.columns_grad)[n] = is ? job.columns_grad[n] : 0;
    }
}

// The columns of a tile as the right operand of S = X Y^T.
Gemm::Right columns_of(const Place& my, Span tile) {
    const Plan& plan = my.plan;
    return Gemm::right(my.y(tile.first), my.job.features, tile.count, 1, my.job.y_stride, plan.features, plan.tile,
                       my.at<char>(plan.ys), true);
}

// S of a block of rows and a tile of columns.
void scores(const Place& my, Span block, Gemm::Right columns) {
    const Plan& plan = my.plan;
    Gemm::Left rows = Gemm::left(my.x(block.first), block.count, my.job.features, my.job.x_stride, 1, plan.block,
                                 plan.features, my.at<char>(plan.x));
    Gemm::multiply(rows, columns, plan.block, plan.tile, plan.features, my.at<float>(plan.s), plan.stride, false);
}

// f(i, j, offset in S) for the pairs that lie in a tile.
template <class F> INLINE void on_diagonal(const Plan& plan, Span block, Span tile, F f) {
    int64_t from = block.first > tile.first ? block.first : tile.first;
    int64_t to = least(block.first + block.count, tile.first + tile.count);
    for (int64_t n = from; n < to; n++) f(n, (n - block.first) * plan.stride + n - tile.first);
}

// What logits need of some rows, and of a tile's columns.
struct Lines {
    const float* s;
    int64_t stride;
    float u[ROWS], absent[ROWS];
    int32_t ids[ROWS];

    Lines(const Place& my, Span block, int64_t i) : s(my.at<float>(my.plan.s) + i * my.plan.stride), stride(my.plan.stride) {
        int64_t n = block.first + i;
        memcpy(u, my.shared<float>(my.plan.u) + n, sizeof u);
        memcpy(absent, my.shared<float>(my.plan.absent) + n, sizeof absent);
        memcpy(ids, my.shared<int32_t>(my.plan.ids) + n, sizeof ids);
    }
};

struct Columns {
    const float *v, *absent;
    const int32_t* ids;
    float scale;

    Columns(const Place& my, Span tile)
        : v(my.shared<float>(my.plan.v) + tile.first), absent(my.shared<float>(my.plan.absent) + tile.first),
          ids(my.shared<int32_t>(my.plan.ids) + tile.first), scale(*my.job.scale) {}

    // Cosines, or inner products, of row r with the columns from j on; and logits, -inf where they do not count.
    V cosine(const Lines& rows, int r, int64_t j) const { return load(rows.s + r * rows.stride + j) * rows.u[r] * load(v + j); }
    V logit(const Lines& rows, int r, int64_t j, V cosine) const {
        I its;
        memcpy(&its, ids + j, sizeof its);
        V all = cosine * scale + (load(absent + j) + rows.absent[r]);
        return its == rows.ids[r] ? splat<float>(LOWEST) : all;
    }
};

INLINE V larger(V a, V b) { return a > b ? a : b; }

// The largest number that is finite, and the smallest; {LOWEST, inf} where there is none.
struct Range { float low, high; };

INLINE Range range_of(const float* numbers, int64_t n, Range range) {
    for (int64_t i = 0; i < n; i++) {
        if (numbers[i] == LOWEST) continue;
        if (numbers[i] < range.low) range.low = numbers[i];
        if (numbers[i] > range.high) range.high = numbers[i];
    }
    return range;
}

constexpr Range NONE = {__builtin_inff(), LOWEST};

// Logits in place of scores, and the largest of each row and column as its anchor, those of rows first.
void logits_of_tile(const Place& my, Span block, Span tile) {
    const Plan& plan = my.plan;
    const Columns columns(my, tile);
    float *s = my.at<float>(plan.s), *of_row = my.at<float>(plan.anchor), *of_column = of_row + plan.block;
    const int64_t width = plan.tile, stride = plan.stride;
    for (int64_t j = 0; j < width; j++) of_column[j] = LOWEST;
    for (int64_t i = 0; i < plan.block; i += ROWS) {
        const Lines rows(my, block, i);
        V largest[ROWS];
        for (V& row : largest) row = splat<float>(LOWEST);
        for (int64_t j = 0; j < width; j += W) {
            V column = load(of_column + j);
            for (int r = 0; r < ROWS; r++) {
                V z = columns.logit(rows, r, j, columns.cosine(rows, r, j));
                store(s + (i + r) * stride + j, z);
                largest[r] = larger(z, largest[r]);
                column = larger(z, column);
            }
            store(of_column + j, column);
        }
        for (int r = 0; r < ROWS; r++) of_row[i + r] = maximum<float>(largest[r]);
    }
}

// What is subtracted: nothing where there is no negative.
INLINE float finite(float anchor) { return anchor == LOWEST ? 0 : anchor; }

// Sums of exp(logit - anchor) of rows and columns; where one anchor serves all, one exponential does.
template <bool ONE> void sums_of_tile(const Place& my, float one) {
    const Plan& plan = my.plan;
    const float *s = my.at<float>(plan.s), *of_row = my.at<float>(plan.anchor), *of_column = of_row + plan.block;
    float *row_sum = my.at<float>(plan.sum), *column_sum = row_sum + plan.block;
    const int64_t width = plan.tile, stride = plan.stride;
    memset(column_sum, 0, 4 * width);
    for (int64_t i = 0; i < plan.block; i += ROWS) {
        V sums[ROWS] = {};
        float own[ROWS];
        for (int r = 0; r < ROWS; r++) own[r] = ONE ? one : finite(of_row[i + r]);
        for (int64_t j = 0; j < width; j += W) {
            V terms[ROWS], anchor = load(of_column + j);
            anchor = anchor == LOWEST ? V{} : anchor;
            for (int r = 0; r < ROWS; r++) {
                V z = load(s + (i + r) * stride + j), e = exp<float>(z - own[r]);
                sums[r] += e;
                terms[r] = ONE ? e : exp<float>(z - anchor);
            }
            store(column_sum + j, load(column_sum + j) + ((terms[0] + terms[1]) + (terms[2] + terms[3])));
        }
        for (int r = 0; r < ROWS; r++) row_sum[i + r] = sum<float>(sums[r]);
    }
}

// Adds sums with their anchors to those that are there: total exp(top) is what all of them amount to.
void merge(const float* anchor, const float* sum, int64_t n, float* top, double* total) {
    for (int64_t i = 0; i < n; i += W) {
        V before = load(top + i), now = load(anchor + i), most = larger(before, now);
        store(top + i, most);
        V shift = most == LOWEST ? V{} : most;
        V kept = exp<float>(before - shift), added = exp<float>(now - shift);
        for (int l = 0; l < W; l++) total[i + l] = total[i + l] * kept[l] + double(added[l]) * sum[i + l];
    }
}

void values_of_tile(const Place& my, Span block, Span tile) {
    const Plan& plan = my.plan;
    const float *s = my.at<float>(plan.s), *sum = my.at<float>(plan.sum);
    const float *u = my.shared<float>(plan.u), *v = my.shared<float>(plan.v);
    on_diagonal(plan, block, tile, [&](int64_t n, int64_t at) { my.job.score[n] = s[at] * u[n] * v[n]; });
    logits_of_tile(my, block, tile);
    float* anchor = my.at<float>(plan.anchor);
    int64_t all = plan.block + plan.tile;
    Range range = range_of(anchor, all, NONE);
    if (range.high == LOWEST) return;
    bool one = range.high - range.low <= APART;
    if (one) sums_of_tile<true>(my, range.high);
    else sums_of_tile<false>(my, 0);
    for (int64_t n = 0; n < all && one; n++)
        if (anchor[n] != LOWEST) anchor[n] = range.high;
    merge(anchor, sum, plan.block, my.at<float>(plan.top) + block.first, my.at<double>(plan.total) + block.first);
    merge(anchor + plan.block, sum + plan.block, plan.tile, my.at<float>(plan.column_top), my.at<double>(plan.column_total));
}

void forget(float* top, double* total, int64_t n) {
    for (int64_t i = 0; i < n; i++) top[i] = LOWEST, total[i] = 0;
}

INLINE float joined(float top, double total) { return top == LOWEST ? top : float(top + __builtin_log(total)); }

void values(const TwoSided& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Gemm::Session session;
    for (int64_t task = begin; task < end; task++) {
        Place my(job, plan, task);
        forget(my.at<float>(plan.top), my.at<double>(plan.total), plan.pairs);
        for (int64_t t = plan.tiles * task / plan.tasks; t < plan.tiles * (task + 1) / plan.tasks; t++) {
            Span tile = span(t, plan.tile, job.pairs);
            Gemm::Right columns = columns_of(my, tile);
            forget(my.at<float>(plan.column_top), my.at<double>(plan.column_total), plan.tile);
            for (int64_t b = 0; b < plan.blocks; b++) {
                Span block = span(b, plan.block, job.pairs);
                scores(my, block, columns);
                values_of_tile(my, block, tile);
            }
            for (int64_t j = 0; j < tile.count; j++)
                job.of_columns[tile.first + j] = joined(my.at<float>(plan.column_top)[j], my.at<double>(plan.column_total)[j]);
        }
    }
}

// The log-sum-exp of a row from those of all tasks.
void join(const TwoSided& job, int64_t begin, int64_t end) {
    Plan plan(job);
    for (int64_t n = begin; n < end; n++) {
        float top = LOWEST;
        double total = 0;
        for (int64_t t = 0; t < plan.tasks; t++) {
            Place its(job, plan, t);
            float other = its.at<float>(plan.top)[n];
            if (other > top) total *= __builtin_exp(double(top) - other), top = other;
            if (other != LOWEST) total += its.at<double>(plan.total)[n] * __builtin_exp(double(other) - top);
        }
        job.of_rows[n] = joined(top, total);
    }
}

// From scores to q in place; returns the sum of the derivatives in the scale.
template <bool ONE> double weights_of_tile(const Place& my, Span block, Span tile) {
    const Plan& plan = my.plan;
    const Columns columns(my, tile);
    float* s = my.at<float>(plan.s);
    const float *of_row = my.at<float>(plan.anchor), *of_column = of_row + plan.block;
    const float *row_factor = my.at<float>(plan.factor), *column_factor = row_factor + plan.block;
    const int64_t width = plan.tile, stride = plan.stride;
    const float one = of_row[0];
    double all = 0;
    for (int64_t i = 0; i < plan.block; i += ROWS) {
        const Lines rows(my, block, i);
        V sums[ROWS] = {};
        for (int64_t j = 0; j < width; j += W) {
            V factor = load(column_factor + j), anchor = load(of_column + j), v = load(columns.v + j);
            for (int r = 0; r < ROWS; r++) {
                V cosine = columns.cosine(rows, r, j), z = columns.logit(rows, r, j, cosine), p;
                if (ONE) p = exp<float>(z - one) * (factor + row_factor[i + r]);
                else p = exp<float>(z - of_row[i + r]) * row_factor[i + r] + exp<float>(z - anchor) * factor;
                sums[r] += p * cosine;
                store(s + (i + r) * stride + j, p * (columns.scale * rows.u[r]) * v);
            }
        }
        for (V& row : sums) all += sum<float>(row);
    }
    return all;
}

// Anchors and factors of rows, or of columns: with one anchor exp(logit - lse) grad = exp(logit - one) factor.
void factors(const float* lse, const float* grad, int64_t n, bool one, float high, float* anchor, float* factor) {
    for (int64_t i = 0; i < n; i += W) {
        V its = load(lse + i);
        I alone = its == LOWEST;
        V shift = one ? splat<float>(high) : alone ? V{} : its;
        store(anchor + i, shift);
        store(factor + i, alone ? V{} : load(grad + i) * exp<float>(one ? shift - its : V{}));
    }
}

void weights(const Place& my, Span block, Span tile) {
    const Plan& plan = my.plan;
    const float *of_rows = my.shared<float>(plan.of_rows) + block.first;
    const float *of_columns = my.shared<float>(plan.of_columns) + tile.first;
    Range range = range_of(of_columns, plan.tile, range_of(of_rows, plan.block, NONE));
    float high = finite(range.high);
    bool one = range.high == LOWEST || high - range.low <= APART;
    float *anchor = my.at<float>(plan.anchor), *factor = my.at<float>(plan.factor);
    factors(of_rows, my.shared<float>(plan.rows_grad) + block.first, plan.block, one, high, anchor, factor);
    factors(of_columns, my.shared<float>(plan.columns_grad) + tile.first, plan.tile, one, high, anchor + plan.block,
            factor + plan.block);
    *my.at<double>(plan.dscale) += one ? weights_of_tile<true>(my, block, tile) : weights_of_tile<false>(my, block, tile);
    float* s = my.at<float>(plan.s);
    const float *u = my.shared<float>(plan.u), *v = my.shared<float>(plan.v);
    on_diagonal(plan, block, tile, [&](int64_t n, int64_t at) { s[at] = my.job.score_grad[n] * u[n] * v[n]; });
}

// Products put where derivatives go, or added.
void give(const float* from, int64_t stride, Span rows, int64_t features, bool put, float* to) {
    to += rows.first * features;
    for (int64_t i = 0; i < rows.count; i++, from += stride, to += features) {
        if (put) memcpy(to, from, 4 * features);
        else subtract<true>(from, 0, from, features, to);
    }
}

// dX of the block, and its part of dY of the tile.
void slopes_of_block(const Place& my, Span block, Span tile, Gemm::Right columns, bool put, bool first) {
    const TwoSided& job = my.job;
    const Plan& plan = my.plan;
    const float* s = my.at<float>(plan.s);
    float* d = my.at<float>(plan.d);
    if (job.dx) {
        Gemm::Left q = Gemm::left(s, block.count, tile.count, plan.stride, 1, plan.block, plan.tile, my.at<char>(plan.q));
        Gemm::multiply(q, columns, plan.block, plan.features, plan.tile, d, plan.wide, false);
        give(d, plan.wide, block, job.features, put, job.dx);
    }
    if (job.dy) {
        Gemm::Right rows = Gemm::right(my.x(block.first), block.count, job.features, job.x_stride, 1, plan.block,
                                       plan.features, my.at<char>(plan.x), true);
        Gemm::Left q = Gemm::left(s, tile.count, block.count, 1, plan.stride, plan.tile, plan.block, my.at<char>(plan.q));
        Gemm::multiply(q, rows, plan.tile, plan.features, plan.block, my.at<float>(plan.g), plan.wide, !first);
    }
}

void slopes(const TwoSided& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Gemm::Session session;
    for (int64_t task = begin; task < end; task++) {
        Place my(job, plan, task);
        if (job.phase == 0) *my.at<double>(plan.dscale) = 0;
        int64_t other = (task + job.phase) % plan.tasks, from = plan.blocks * other / plan.tasks;
        int64_t to = plan.blocks * (other + 1) / plan.tasks, start = plan.tiles * task / plan.tasks;
        for (int64_t t = start; t < plan.tiles * (task + 1) / plan.tasks; t++) {
            Span tile = span(t, plan.tile, job.pairs);
            Gemm::Right columns = columns_of(my, tile);
            Gemm::Right weighed = Gemm::right(my.y(tile.first), tile.count, job.features, job.y_stride, 1, plan.tile,
                                              plan.features, my.at<char>(plan.yw), true);
            for (int64_t b = from; b < to; b++) {
                Span block = span(b, plan.block, job.pairs);
                scores(my, block, columns);
                weights(my, block, tile);
                slopes_of_block(my, block, tile, weighed, job.phase == 0 && t == start, b == from);
            }
            if (job.dy) give(my.at<float>(plan.g), plan.wide, tile, job.features, job.phase == 0, job.dy);
        }
    }
}

// With lengths divided out derivatives lie across the rows: d - (d . x) u^2 x.
void close_row(float* d, const float* x, float inverse, int64_t features) {
    subtract<false>(d, dot(d, x, features) * inverse * inverse, x, features, d);
}

void close(const TwoSided& job, int64_t begin, int64_t end) {
    Plan plan(job);
    Place all(job, plan, 0);
    for (int64_t n = begin; n < end && job.normalize; n++) {
        if (job.dx) close_row(job.dx + n * job.features, all.x(n), all.shared<float>(plan.u)[n], job.features);
        if (job.dy) close_row(job.dy + n * job.features, all.y(n), all.shared<float>(plan.v)[n], job.features);
    }
    if (begin > 0) return;
    double dscale = 0;
    for (int64_t task = 0; task < plan.tasks; task++) dscale += *Place(job, plan, task).at<double>(plan.dscale);
    *job.dscale = float(dscale);
}

int64_t room(const TwoSided& job) { return Plan(job).all; }

int64_t count(const TwoSided& job, TwoSidedStage stage) {
    return stage == LENGTHS ? Plan(job).pairs : stage == VALUES || stage == SLOPES ? Plan(job).tasks : job.pairs;
}

void run(const TwoSided& job, TwoSidedStage stage, int64_t begin, int64_t end) {
    switch (stage) {
        case LENGTHS: return lengths(job, begin, end);
        case VALUES: return values(job, begin, end);
        case JOIN: return join(job, begin, end);
        case SLOPES: return slopes(job, begin, end);
        case CLOSE: return close(job, begin, end);
    }
}

}  // namespace

#define NAME_(isa) two_sided_##isa
#define NAME(isa) NAME_(isa)
#define TEXT_(isa) #isa
#define TEXT(isa) TEXT_(isa)

extern const TwoSidedKernels NAME(ISA);
const TwoSidedKernels NAME(ISA) = {TEXT(ISA), room, count, run};

// Matrix products of float32 on the matrix unit of newer Intel processors (AMX), which multiplies bfloat16.
//
// A float32 number is the sum of three of bfloat16, x = x1 + x2 + x3, each the rest rounded to 8 bits: |x2| <= 2^-8 |x|,
// |x3| <= 2^-17 |x|. Of the nine products of two such sums six are taken, x3 w1 + x2 w1 + x2 w2 + x1 w2 + x1 w3 + x1 w1,
// summed in float32; those left out are below 2^-23.9 |x w|, 2^-27 in the mean square, as float32 itself rounds. [Henry2019]. The
// unit takes 16 times the operands of a fused multiply-add, so that six products cost less than half of one. A number that
// is bfloat16 already has one part, and products of two such are exact before they are summed.
//
// Operands are packed: blocks of 16 x 32 (right: 32 x 16) numbers, a tile of 1 KiB for each part. A tile of a left operand
// has a row per register line, in a right operand a line holds 16 pairs of neighbours along k. One is the transpose of the
// other, taken as a 16 x 16 matrix of pairs.
#pragma once

// GCC 12 and its kin see uninitialised numbers in their own headers.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "half.h"

namespace {

INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Amx {
    static constexpr int ROW_PAD = 32, FEATURE_PAD = 32, CLASS_PAD = 32;
    static constexpr int64_t CLASSES = 128, ROWS = 256;
    static constexpr int64_t TILE = 512;  // numbers

    // Parts of a number, and of weights that meet numbers of bfloat16: sixteen bits, more than results are rounded to.
    template <class T> static constexpr int PARTS = sizeof(T) == 2 ? 1 : 3;
    static constexpr int WEIGHT_PARTS = 2;

    // Block (i, p) of 16 x 32 numbers begins at i * across + p * along, its lines `line` bytes apart, its parts TILE numbers.
    struct Left { const uint16_t* at; int64_t across, along, line; int parts; };
    using Right = Left;

    static int64_t left_bytes(int64_t m, int64_t k) { return 2 * 3 * round_up(m, 32) * round_up(k, 32); }
    static int64_t right_bytes(int64_t k, int64_t n) { return left_bytes(n, k); }

    INLINE __m512 widened(__m256i half) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)); }
    INLINE __m256i narrowed(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
    INLINE __mmask16 first(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }

    // 16 lines of 32 neighbours, of which `lines` x `count` are there.
    static void pack_lines(const float* from, int64_t stride, int64_t lines, int64_t count, uint16_t* to) {
        __mmask16 low = first(count), high = first(count - 16);
        for (int64_t i = 0; i < 16; i++) {
            bool there = i < lines;
            __m512 a = _mm512_maskz_loadu_ps(there ? low : 0, from + (there ? i * stride : 0));
            __m512 b = _mm512_maskz_loadu_ps(there ? high : 0, from + (there ? i * stride : 0) + 16);
            for (int part = 0; part < 3; part++) {
                __m256i ha = narrowed(a), hb = narrowed(b);
                _mm512_store_si512(to + part * TILE + i * 32, _mm512_inserti64x4(_mm512_castsi256_si512(ha), hb, 1));
                a = _mm512_sub_ps(a, widened(ha));
                b = _mm512_sub_ps(b, widened(hb));
            }
        }
    }

    static void pack_lines(const BFloat16* from, int64_t stride, int64_t lines, int64_t count, uint16_t* to) {
        __mmask32 mask = count >= 32 ? ~0u : (1u << count) - 1;
        for (int64_t i = 0; i < 16; i++)
            _mm512_store_si512(to + i * 32, i < lines ? _mm512_maskz_loadu_epi16(mask, from + i * stride) : __m512i{});
    }

    // 32 lines of 16 neighbours, paired across lines.
    static void pack_pairs(const float* from, int64_t stride, int64_t lines, int64_t count, uint16_t* to) {
        __mmask16 mask = first(count);
        for (int64_t i = 0; i < 16; i++) {
            bool even = 2 * i < lines, odd = 2 * i + 1 < lines;
            __m512 a = _mm512_maskz_loadu_ps(even ? mask : 0, from + (even ? 2 * i * stride : 0));
            __m512 b = _mm512_maskz_loadu_ps(odd ? mask : 0, from + (odd ? (2 * i + 1) * stride : 0));
            for (int part = 0; part < 3; part++) {
                __m512i ha = _mm512_cvtepu16_epi32(narrowed(a));
                __m512i hb = _mm512_slli_epi32(_mm512_cvtepu16_epi32(narrowed(b)), 16);
                _mm512_store_si512(to + part * TILE + i * 32, _mm512_or_si512(ha, hb));
                a = _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32(ha, 16)));
                b = _mm512_sub_ps(b, _mm512_castsi512_ps(hb));
            }
        }
    }

    static void pack_pairs(const BFloat16* from, int64_t stride, int64_t lines, int64_t count, uint16_t* to) {
        __mmask16 mask = first(count);
        for (int64_t i = 0; i < 16; i++) {
            bool even = 2 * i < lines, odd = 2 * i + 1 < lines;
            __m256i a = _mm256_maskz_loadu_epi16(even ? mask : 0, from + (even ? 2 * i * stride : 0));
            __m256i b = _mm256_maskz_loadu_epi16(odd ? mask : 0, from + (odd ? (2 * i + 1) * stride : 0));
            __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16);
            _mm512_store_si512(to + i * 32, _mm512_or_si512(_mm512_cvtepu16_epi32(a), high));
        }
    }

    // A 16 x 16 matrix of pairs, in place.
    static void transpose(uint16_t* tile) {
        __m512i r[16], t[16];
        for (int i = 0; i < 16; i++) r[i] = _mm512_load_si512(tile + i * 32);
        for (int i = 0; i < 16; i += 2) {
            t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
            t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        }
        for (int i = 0; i < 16; i += 4)
            for (int h = 0; h < 2; h++) {
                r[i + 2 * h] = _mm512_unpacklo_epi64(t[i + h], t[i + h + 2]);
                r[i + 2 * h + 1] = _mm512_unpackhi_epi64(t[i + h], t[i + h + 2]);
            }
        // r[4 g + c] holds, in each quarter q, column 4 q + c of rows 4 g .. 4 g + 3.
        for (int c = 0; c < 4; c++) {
            __m512i low = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88), high = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
            __m512i low2 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd), high2 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
            _mm512_store_si512(tile + (0 + c) * 32, _mm512_shuffle_i32x4(low, high, 0x88));
            _mm512_store_si512(tile + (8 + c) * 32, _mm512_shuffle_i32x4(low, high, 0xdd));
            _mm512_store_si512(tile + (4 + c) * 32, _mm512_shuffle_i32x4(low2, high2, 0x88));
            _mm512_store_si512(tile + (12 + c) * 32, _mm512_shuffle_i32x4(low2, high2, 0xdd));
        }
    }

    static Left laid_out(const void* room, int64_t k_all, int parts) {
        return {static_cast<const uint16_t*>(room), k_all / 32 * TILE * parts, TILE * parts, 64, parts};
    }

    // m x k numbers, neighbours along k (k_stride 1) or along m; left operands lie along k in memory, right ones pair.
    template <class T>
    static Left pack(const T* from, int64_t m, int64_t k, int64_t m_stride, int64_t k_stride, int64_t m_all,
                     int64_t k_all, void* room, bool right) {
        uint16_t* to = static_cast<uint16_t*>(room);
        bool along = k_stride == 1;
        for (int64_t i = 0; i < m_all; i += 16)
            for (int64_t p = 0; p < k_all; p += 32, to += TILE * PARTS<T>) {
                const T* corner = from + (i < m ? i : 0) * m_stride + (p < k ? p : 0) * k_stride;
                int64_t mm = i < m ? m - i : 0, kk = p < k ? k - p : 0;
                if (along) pack_lines(corner, m_stride, mm, kk, to);
                else pack_pairs(corner, k_stride, kk, mm, to);
                if (along == right)
                    for (int part = 0; part < PARTS<T>; part++) transpose(to + part * TILE);
            }
        return laid_out(room, k_all, PARTS<T>);
    }

    // A left operand of bfloat16 that needs no padding stays where it lies.
    template <class T>
    static Left left(const T* from, int64_t m, int64_t k, int64_t m_stride, int64_t k_stride, int64_t m_all,
                     int64_t k_all, void* room) {
        if (PARTS<T> == 1 && k_stride == 1 && m == m_all && k == k_all)
            return {reinterpret_cast<const uint16_t*>(from), 16 * m_stride, 32, 2 * m_stride, 1};
        return pack(from, m, k, m_stride, k_stride, m_all, k_all, room, false);
    }

    template <class T>
    static Right right(const T* from, int64_t k, int64_t n, int64_t k_stride, int64_t n_stride, int64_t k_all,
                       int64_t n_all, void* room, bool) {
        return pack(from, n, k, n_stride, k_stride, n_all, k_all, room, true);
    }

    template <class T = float> static Right packed(const void* room, int64_t k_all, int64_t) {
        return laid_out(room, k_all, PARTS<T>);
    }

    // Numbers of 2 lines (of classes) and 32 neighbours (rows) in their parts: lines as they are to `along`, pairs
    // across the lines to `first` and `second`, 16 each.
    template <int PARTS>
    INLINE void split(const float* line, int64_t stride, uint16_t* along, uint16_t* first, uint16_t* second) {
        __m512 a[2], b[2];
        for (int h = 0; h < 2; h++) a[h] = _mm512_loadu_ps(line + 16 * h), b[h] = _mm512_loadu_ps(line + stride + 16 * h);
        for (int part = 0; part < PARTS; part++, along += TILE, first += TILE, second += TILE) {
            __m512i line_a = (__m512i)_mm512_cvtne2ps_pbh(a[1], a[0]), line_b = (__m512i)_mm512_cvtne2ps_pbh(b[1], b[0]);
            _mm512_store_si512(along, line_a);
            _mm512_store_si512(along + 32, line_b);
            for (int h = 0; h < 2; h++) {
                __m512i wide_a = _mm512_cvtepu16_epi32(half_of(line_a, h));
                __m512i wide_b = _mm512_slli_epi32(_mm512_cvtepu16_epi32(half_of(line_b, h)), 16);
                _mm512_store_si512(h ? second : first, _mm512_or_si512(wide_a, wide_b));
                a[h] = _mm512_sub_ps(a[h], _mm512_castsi512_ps(_mm512_slli_epi32(wide_a, 16)));
                b[h] = _mm512_sub_ps(b[h], _mm512_castsi512_ps(wide_b));
            }
        }
    }
    INLINE __m256i half_of(__m512i line, int h) {
        return h ? _mm512_extracti64x4_epi64(line, 1) : _mm512_castsi512_si256(line);
    }

    // Weights of rows (neighbours) and classes as two left operands, rows x classes and, if there is room for it, classes x
    // rows; each number is read and split once. T: of the operands that they meet.
    struct Both { Left weights, turned; };
    template <class T>
    static Both weights(const float* from, int64_t rows, int64_t classes, int64_t stride, void* room, void* turned_room) {
        constexpr int parts = PARTS<T> == 1 ? WEIGHT_PARTS : 3;
        constexpr int64_t block = TILE * parts;
        alignas(64) uint16_t none[2 * block];
        for (int64_t n = 0; n < rows; n += 32)
            for (int64_t j = 0; j < classes; j += 32) {
                uint16_t* first = static_cast<uint16_t*>(room) + (n / 16 * (classes / 32) + j / 32) * block;
                uint16_t* second = first + classes / 32 * block;
                for (int64_t i = 0; i < 16; i++) {
                    int64_t at = ((j + 2 * i) / 16 * (rows / 32) + n / 32) * block + 2 * i % 16 * 32;
                    split<parts>(from + (j + 2 * i) * stride + n, stride,
                                 turned_room ? static_cast<uint16_t*>(turned_room) + at : none, first + i * 32, second + i * 32);
                }
                for (int part = 0; part < parts; part++) transpose(first + part * TILE), transpose(second + part * TILE);
            }
        return {laid_out(room, classes, parts), laid_out(turned_room, rows, parts)};
    }

    // Tiles 0 to 3 are the sums of 32 x 32 numbers, 4 and 5 left operands, 6 and 7 right ones.
    INLINE void products() {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    INLINE void take_left(const uint16_t* a, const Left& of, int part) {
        _tile_loadd(4, a + part * TILE, of.line);
        _tile_loadd(5, a + of.across + part * TILE, of.line);
    }
    // A right operand passes by while a block's left ones stay in the first-level cache.
    INLINE void take_right(const uint16_t* b, const Right& of, int part) {
        _tile_stream_loadd(6, b + part * TILE, of.line);
        _tile_stream_loadd(7, b + of.across + part * TILE, of.line);
    }

    // The products of three parts but the first ones, each tile kept for as long as it serves.
    INLINE void small(const uint16_t* a, const uint16_t* b, const Left& left, const Right& right) {
        take_left(a, left, 2), take_right(b, right, 0), products();
        take_left(a, left, 1), products();
        take_right(b, right, 1), products();
        take_left(a, left, 0), products();
        take_right(b, right, 2), products();
    }
    // Of one part, or of two and one.
    template <int A> INLINE void large(const uint16_t* a, const uint16_t* b, const Left& left, const Right& right) {
        take_right(b, right, 0);
        if constexpr (A == 2) take_left(a, left, 1), products();
        take_left(a, left, 0), products();
    }

    template <int A, int B>
    static void block(Left left, Right right, int64_t steps, float* c, int64_t c_stride, bool add, Ahead* ahead) {
        int64_t bytes = 4 * c_stride;
        if (add) {
            _tile_loadd(0, c, bytes);
            _tile_loadd(1, c + 16, bytes);
            _tile_loadd(2, c + 16 * c_stride, bytes);
            _tile_loadd(3, c + 16 * c_stride + 16, bytes);
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        // The sum is rounded at each step: all small products come first, while it is small itself.
        for (int64_t p = 0; p < steps && B == 3; p++)
            Ahead::next(ahead), small(left.at + p * left.along, right.at + p * right.along, left, right);
        for (int64_t p = 0; p < steps; p++)
            Ahead::next(ahead), large<B == 3 ? 1 : A>(left.at + p * left.along, right.at + p * right.along, left, right);
        _tile_stored(0, c, bytes);
        _tile_stored(1, c + 16, bytes);
        _tile_stored(2, c + 16 * c_stride, bytes);
        _tile_stored(3, c + 16 * c_stride + 16, bytes);
    }

    template <int A, int B>
    static void blocks(Left a, Right b, int64_t m, int64_t n, int64_t k, float* c, int64_t c_stride, bool add, Ahead* ahead) {
        for (int64_t i = 0; i < m; i += 32) {
            Right right = b;
            for (int64_t j = 0; j < n; j += 32, right.at += 2 * b.across)
                block<A, B>(a, right, k / 32, c + i * c_stride + j, c_stride, add, ahead);
            a.at += 2 * a.across;
        }
    }

    // c = left right, or c += left right; all sizes multiples of 32. Both have three parts, or the right one has one.
    static void multiply(Left a, Right b, int64_t m, int64_t n, int64_t k, float* c, int64_t c_stride, bool add,
                         Ahead ahead = {}) {
        if (b.parts == 3) return blocks<3, 3>(a, b, m, n, k, c, c_stride, add, &ahead);
        if (a.parts == 2) return blocks<2, 1>(a, b, m, n, k, c, c_stride, add, &ahead);
        return blocks<1, 1>(a, b, m, n, k, c, c_stride, add, &ahead);
    }

    // The unit belongs to a thread for as long as it is set up.
    struct Session {
        struct alignas(64) { uint8_t palette, start, none[14]; uint16_t bytes[16]; uint8_t lines[16]; } shape;
        Session() {
            memset(&shape, 0, sizeof shape);
            shape.palette = 1;
            for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.lines[i] = 16;
            _tile_loadconfig(&shape);
        }
        ~Session() { _tile_release(); }
    };
};

}  // namespace

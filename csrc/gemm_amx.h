// Matrix products of float32 on the matrix unit of newer Intel processors (AMX), which multiplies bfloat16.
//
// A float32 number is the sum of three of bfloat16, x = x1 + x2 + x3, each the rest rounded to 8 bits: |x2| <= 2^-9 |x|,
// |x3| <= 2^-18 |x|. Of the nine products of two such sums six are taken, x3 w1 + x2 w1 + x2 w2 + x1 w2 + x1 w3 + x1 w1,
// summed in float32; those left out are below 2^-26 |x w|, less than float32 itself rounds by. [Henry2019]. The
// unit takes 16 times the operands of a fused multiply-add, so that six products cost less than half of one.
//
// Operands are packed: blocks of 16 x 32 (right: 32 x 16) numbers, three tiles of 1 KiB each. A tile of a left operand has a
// row per register line, in a right operand a line holds 16 pairs of neighbours along k. One is the transpose of the other,
// taken as a 16 x 16 matrix of pairs.
#pragma once

// GCC 12 and its kin see uninitialised numbers in their own headers.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "simd.h"

namespace {

INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Amx {
    static constexpr int ROW_PAD = 32, FEATURE_PAD = 32, CLASS_PAD = 32;
    static constexpr int64_t CLASSES = 128, ROWS = 256;
    static constexpr int64_t TILE = 512, PARTS = 3, BLOCK = TILE * PARTS;  // numbers of a tile and of all tiles of a block

    // Block (i, p) of 16 x 32 numbers begins at ((i * steps) + p) * BLOCK.
    struct Left { const uint16_t* at; int64_t steps; };
    using Right = Left;

    static int64_t left_bytes(int64_t m, int64_t k) { return 2 * PARTS * round_up(m, 32) * round_up(k, 32); }
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
            for (int part = 0; part < PARTS; part++) {
                __m256i ha = narrowed(a), hb = narrowed(b);
                _mm512_store_si512(to + part * TILE + i * 32, _mm512_inserti64x4(_mm512_castsi256_si512(ha), hb, 1));
                a = _mm512_sub_ps(a, widened(ha));
                b = _mm512_sub_ps(b, widened(hb));
            }
        }
    }

    // 32 lines of 16 neighbours, paired across lines.
    static void pack_pairs(const float* from, int64_t stride, int64_t lines, int64_t count, uint16_t* to) {
        __mmask16 mask = first(count);
        for (int64_t i = 0; i < 16; i++) {
            bool even = 2 * i < lines, odd = 2 * i + 1 < lines;
            __m512 a = _mm512_maskz_loadu_ps(even ? mask : 0, from + (even ? 2 * i * stride : 0));
            __m512 b = _mm512_maskz_loadu_ps(odd ? mask : 0, from + (odd ? (2 * i + 1) * stride : 0));
            for (int part = 0; part < PARTS; part++) {
                __m512i ha = _mm512_cvtepu16_epi32(narrowed(a));
                __m512i hb = _mm512_slli_epi32(_mm512_cvtepu16_epi32(narrowed(b)), 16);
                _mm512_store_si512(to + part * TILE + i * 32, _mm512_or_si512(ha, hb));
                a = _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32(ha, 16)));
                b = _mm512_sub_ps(b, _mm512_castsi512_ps(hb));
            }
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

    // m x k numbers, neighbours along k (k_stride 1) or along m; left operands lie along k in memory, right ones pair.
    static Left pack(const float* from, int64_t m, int64_t k, int64_t m_stride, int64_t k_stride, int64_t m_all,
                     int64_t k_all, void* room, bool right) {
        uint16_t* to = static_cast<uint16_t*>(room);
        bool along = k_stride == 1;
        for (int64_t i = 0; i < m_all; i += 16)
            for (int64_t p = 0; p < k_all; p += 32, to += BLOCK) {
                const float* corner = from + (i < m ? i : 0) * m_stride + (p < k ? p : 0) * k_stride;
                int64_t mm = i < m ? m - i : 0, kk = p < k ? k - p : 0;
                if (along) pack_lines(corner, m_stride, mm, kk, to);
                else pack_pairs(corner, k_stride, kk, mm, to);
                if (along == right)
                    for (int part = 0; part < PARTS; part++) transpose(to + part * TILE);
            }
        return {static_cast<uint16_t*>(room), k_all / 32};
    }

    static Left left(const float* from, int64_t m, int64_t k, int64_t m_stride, int64_t k_stride, int64_t m_all,
                     int64_t k_all, void* room) {
        return pack(from, m, k, m_stride, k_stride, m_all, k_all, room, false);
    }

    static Right right(const float* from, int64_t k, int64_t n, int64_t k_stride, int64_t n_stride, int64_t k_all,
                       int64_t n_all, void* room, bool) {
        return pack(from, n, k, n_stride, k_stride, n_all, k_all, room, true);
    }

    static Right packed(const void* room, int64_t k_all, int64_t) {
        return {static_cast<const uint16_t*>(room), k_all / 32};
    }

    // Tiles 0 to 3 are the sums of 32 x 32 numbers, 4 and 5 left operands, 6 and 7 right ones.
    INLINE void products() {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    INLINE void take_left(const uint16_t* a, int64_t next, int part) {
        _tile_loadd(4, a + part * TILE, 64);
        _tile_loadd(5, a + next + part * TILE, 64);
    }
    INLINE void take_right(const uint16_t* b, int64_t next, int part) {
        _tile_loadd(6, b + part * TILE, 64);
        _tile_loadd(7, b + next + part * TILE, 64);
    }

    static void block(const uint16_t* a, const uint16_t* b, int64_t steps, float* c, int64_t c_stride, bool add) {
        int64_t bytes = 4 * c_stride, next = steps * BLOCK;
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
        for (int64_t step = 0; step < steps; step++, a += BLOCK, b += BLOCK) {
            // The smallest first, and each tile kept for as long as it serves.
            take_left(a, next, 2), take_right(b, next, 0), products();
            take_left(a, next, 1), products();
            take_right(b, next, 1), products();
            take_left(a, next, 0), products();
            take_right(b, next, 2), products();
            take_right(b, next, 0), products();
        }
        _tile_stored(0, c, bytes);
        _tile_stored(1, c + 16, bytes);
        _tile_stored(2, c + 16 * c_stride, bytes);
        _tile_stored(3, c + 16 * c_stride + 16, bytes);
    }

    // c = left right, or c += left right; all sizes multiples of 32.
    static void multiply(Left a, Right b, int64_t m, int64_t n, int64_t k, float* c, int64_t c_stride, bool add) {
        for (int64_t i = 0; i < m; i += 32)
            for (int64_t j = 0; j < n; j += 32)
                block(a.at + i / 16 * a.steps * BLOCK, b.at + j / 16 * b.steps * BLOCK, k / 32, c + i * c_stride + j,
                      c_stride, add);
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

// The functions of the scan that Python calls: plain C, on the calling thread.
#include <stdlib.h>
#include <string.h>

#include "scan.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const char* smoothmax_instructions();

extern const Scan scan_baseline;
#if defined(__x86_64__)
extern const Scan scan_avx2, scan_avx512;
#endif

namespace {

// For the instruction set that the library uses here.
const Scan& scan() {
#if defined(__x86_64__)
    constexpr const Scan* others[] = {&scan_avx512, &scan_avx2};
    for (const Scan* candidate : others)
        if (strcmp(smoothmax_instructions(), candidate->name) == 0) return *candidate;
#endif
    return scan_baseline;
}

// Whether every target is a class.
bool in_range(const Rows& rows) {
    for (int64_t r = 0; rows.target && r < rows.rows; r++)
        if (rows.target[r] < 0 || rows.target[r] >= rows.n) return false;
    return true;
}

// Room for one row of halves, as float; null where memory is short.
void* room(int64_t n) { return malloc(n * sizeof(float)); }

}  // namespace

// What scan.h says of each row, found[9][rows]. 1 where memory is short, 2 where a target is no class.
EXPORT int smoothmax_scan(int type, const void* x, int64_t rows, int64_t n, int64_t stride, const int64_t* target,
                          double k, double* found) {
    Rows all = {x, rows, n, stride, target, k, room(n)};
    int failed = !all.scratch ? 1 : !in_range(all) ? 2 : 0;
    if (!failed) scan().measure[type](all, found);
    free(all.scratch);
    return failed;
}

// The sums of scan.h at `count` sharpnesses, masses[rows][count], and the target's score less the best other one's.
EXPORT int smoothmax_scan_masses(int type, const void* x, int64_t rows, int64_t n, int64_t stride,
                                 const int64_t* target, const double* sharpness, int64_t count, double* masses,
                                 double* ahead) {
    Rows all = {x, rows, n, stride, target, 1, room(n)};
    int failed = !all.scratch ? 1 : !in_range(all) ? 2 : 0;
    if (!failed) scan().masses[type](all, sharpness, count, masses, ahead);
    free(all.scratch);
    return failed;
}

// Count each of n numbers into the bin of its first 16 bits as float, bins in the numbers' order: negative ones first,
// nan in the last.
EXPORT void smoothmax_scan_bins(const double* values, int64_t n, int64_t* bins) {
    for (int64_t i = 0; i < n; i++) {
        float narrow = float(values[i]);
        uint32_t bits;
        memcpy(&bits, &narrow, 4);
        bits >>= 16;
        uint32_t code = bits & 0x8000 ? 0xffff - bits : bits | 0x8000;
        bins[narrow != narrow ? 0xffff : code]++;
    }
}

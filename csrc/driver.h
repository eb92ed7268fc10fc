// What the calls of the library share: threads, memory for the length of a call, and what is seen from outside.
#pragma once

#include <stdint.h>
#include <stdlib.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

using Range = void (*)(int64_t begin, int64_t end, void* context);

// Do tasks 0 to `tasks`, in ranges of at least `grain`, on torch's threads if there are any.
void in_parallel(int64_t tasks, int64_t grain, Range range, void* context);

// Before memory is written for the first time.
void ask_for_large_pages(void* memory, int64_t bytes);

// Memory for the length of a call.
struct Room {
    void* at;
    explicit Room(int64_t bytes) : at(aligned_alloc(64, (bytes + 64) / 64 * 64)) {}
    ~Room() { free(at); }
};

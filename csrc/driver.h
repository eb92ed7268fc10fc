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

// What calls that may refuse their numbers return.
enum Outcome { DONE, NO_MEMORY, REFUSED };

// A room that outlives its call, for the next one: fresh pages cost more than what is written on them. Taken and put
// back by one atomic exchange; of two calls at once each has its own.
struct Spare { int64_t bytes; char padding[56]; };
extern Spare* spare;

struct LastingRoom {
    Spare* block;
    explicit LastingRoom(int64_t bytes) : block(__atomic_exchange_n(&spare, nullptr, __ATOMIC_ACQ_REL)) {
        if (block && block->bytes >= bytes) return;
        free(block);
        block = static_cast<Spare*>(aligned_alloc(64, (bytes + sizeof(Spare) + 63) / 64 * 64));
        if (block) block->bytes = bytes;
    }
    ~LastingRoom() { free(__atomic_exchange_n(&spare, block, __ATOMIC_ACQ_REL)); }
    void* at() const { return block ? block + 1 : nullptr; }
};

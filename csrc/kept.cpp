// Memory for large results, kept for the next one of its size when its tensor is gone.
//
// The C library gives blocks of more than 32 MiB back to the system at once, and a fresh page costs more to get than to
// fill: a gradient would cost twice its time. A kept block is marked free (MADV_FREE), so that the system takes its pages
// whenever it has need of them. Tensors are handed over by DLPack, whose structure is fixed.
#include <stdint.h>
#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Tensor;
using Deleter = void (*)(Tensor* self);

// DLManagedTensor of DLPack, for one dim.
struct Tensor {
    void* data;
    struct { int32_t type, id; } device;
    int32_t ndim;
    struct { uint8_t code, bits; uint16_t lanes; } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
    void* context;
    Deleter deleter;
};

struct Block {
    Tensor tensor;
    int64_t shape, stride, bytes;
};

#if defined(MADV_FREE)

constexpr int KEPT = 2;
Block* kept[KEPT];  // each taken and put by one atomic exchange: no lock that a fork could leave locked

Block* exchange(int slot, Block* block) { return __atomic_exchange_n(&kept[slot], block, __ATOMIC_ACQ_REL); }

void release(Block* block) {
    if (!block) return;
    munmap(block->tensor.data, block->bytes);
    free(block);
}

void keep(Tensor* tensor) {
    Block* block = reinterpret_cast<Block*>(tensor);
    madvise(tensor->data, block->bytes, MADV_FREE);
    // The newest comes first, the oldest goes.
    for (int slot = 0; slot < KEPT && block; slot++) block = exchange(slot, block);
    release(block);
}

Block* find(int64_t bytes) {
    for (int slot = 0; slot < KEPT; slot++) {
        Block* block = exchange(slot, nullptr);
        if (!block || block->bytes == bytes) {
            if (block) return block;
            continue;
        }
        release(exchange(slot, block));  // of another size; nobody else puts one here but between these two lines
    }
    return nullptr;
}

Block* make(int64_t bytes) {
    Block* block = static_cast<Block*>(malloc(sizeof(Block)));
    if (!block) return nullptr;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        free(block);
        return nullptr;
    }
#if defined(MADV_HUGEPAGE)
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    block->tensor = {};
    block->tensor.data = memory;
    block->bytes = bytes;
    return block;
}

#endif

}  // namespace

// A DLManagedTensor of `count` numbers on the CPU (`code` and `bits` as in DLPack), uninitialised; null where there is no
// memory, or no way to keep it.
EXPORT void* smoothmax_kept(int64_t count, int code, int bits) {
#if defined(MADV_FREE)
    constexpr int64_t page = int64_t(2) << 20;
    int64_t bytes = (count * bits / 8 + page - 1) / page * page;
    Block* block = find(bytes);
    if (!block) block = make(bytes);
    if (!block) return nullptr;
    block->shape = count, block->stride = 1;
    Tensor& tensor = block->tensor;
    tensor.device = {1, 0};
    tensor.ndim = 1;
    tensor.dtype = {uint8_t(code), uint8_t(bits), 1};
    tensor.shape = &block->shape, tensor.strides = &block->stride;
    tensor.deleter = keep;
    return &tensor;
#else
    (void)count, (void)code, (void)bits;
    return nullptr;
#endif
}

/* State of a simulated launch: one program (CTA) at a time, warp by warp, in an order that the schedule chooses. */
#ifndef ENGINE_H
#define ENGINE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "opcodes.h"

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;
typedef int64_t i64;
typedef int32_t i32;
typedef int16_t i16;
typedef int8_t i8;

#define AS_OP(name) O_##name,
enum {
    INTEGER_OPS(AS_OP) O_LAST_INTEGER, FLOAT_OPS(AS_OP) O_LAST_FLOAT, WARP_OPS(AS_OP) O_LAST_WARP,
    MEMORY_OPS(AS_OP) O_LAST_MEMORY, ORDER_OPS(AS_OP) O_LAST_ORDER, MATRIX_OPS(AS_OP) O_LAST_MATRIX, CONTROL_OPS(AS_OP) O_END
};
#define AS_TYPE(name) T_##name,
enum { TYPES(AS_TYPE) T_END };

/* Rules, as rules.py numbers them. */
enum {
    K_SHARED_RAW = 1, K_SHARED_WAW, K_SHARED_WAR, K_OPERAND_FLIGHT, K_OPERAND_ORDER, K_PROXY, K_ASYNC_RAW, K_UNWRITTEN,
    K_COPY_READ, K_COPY_WRITE, K_REGISTER_BUSY, K_REGISTER_FENCE, K_ACCUMULATOR_MOVED, K_GLOBAL_RAW, K_GLOBAL_WAW,
    K_GLOBAL_WAR, K_DIVERGENT, K_SHARED_BOUNDS, K_GLOBAL_BOUNDS, K_WILD, K_SHARED_ALIGN, K_GLOBAL_ALIGN, K_DEADLOCK,
    K_STEPS, K_DESCRIPTOR, K_MASKED, K_UNKNOWN, K_TRAP, K_BULK_FLIGHT, K_MBARRIER, K_BULK_EXIT, K_LOCAL_BOUNDS, K_MEMORY
};

#define MAX_WARPS 32
#define MAX_GROUPS 8
#define NOBODY (-1)

typedef struct { i32 op, type, pred, negated, count, first, x, y, z, w, n, v; } Instruction;

/* One finding: instruction, warp and bytes, and the instruction and warp that it clashes with. */
typedef struct { i32 kind, pc, warp, other_pc, other_warp, cta, size, other_cta; i64 address, extra; u64 count; } Event;

/* What is known of a byte of global memory. */
typedef struct { i32 writer_cta, reader_cta; u32 write_clock, write_step, write_pc, read_step, read_pc; i16 writer; u8 atomic, several; } GlobalByte;
typedef struct { u64 base, size; u8 *bytes; GlobalByte *shadow; } Tensor;

/* What is known of a byte of shared memory. Clocks are those of the warp that is named beside them. */
typedef struct {
    u32 write_clock, write_pc, writers;  /* writers: warps that wrote these very bits, unordered or one after another */
    u32 read_epoch, readers, read_pc;
    u32 copy_pc, bulk_read, bulk_pc;
    i16 writer;
    u8 written, generic, copies, copier, bulk_pending, bulk_reader;
} SharedByte;

/* A wgmma that was issued. */
typedef struct { i32 pc, group, done; u64 a[4], b[4]; u32 scale[4]; } Product;
typedef struct { i64 target; i32 size, group, pc; u8 data[16]; } Copy;

/* A copy of TMA: a box of a tensor into shared memory, completing on an mbarrier, or back, completing in a bulk group. */
typedef struct { i32 pc, warp, load, group, dims, element, reduce; i64 shared, mbarrier; u64 map; i64 at[5]; u32 clock; i32 linear_size; u64 linear; i32 read_done; } Bulk;

/* What a warp knows to have happened, directly or through barriers.
   seen: for every agent the clock up to which its accesses are ordered before the warp. Agents are the warps, then the
   mbarriers (for what TMA wrote), then the bulk groups of every warp (for what TMA has read).
   fenced: the same for warps, of writes that a proxy fence has shown to the asynchronous proxy.
   drained: for every warpgroup, how many groups of wgmma are known to be finished. */
#define AGENTS (3 * MAX_WARPS)
#define OF_MBARRIER MAX_WARPS
#define OF_BULK (2 * MAX_WARPS)
typedef struct { u32 seen[AGENTS], fenced[MAX_WARPS]; i32 drained[MAX_GROUPS]; } Clocks;
typedef struct { i64 address, bytes; i32 expected, pending, phase, used, initialiser, pc; u32 clock; Clocks now, last; } Mbarrier;

enum { RUNNING, AT_BARRIER, AT_PRODUCT, ENDED, AT_MBARRIER };

typedef struct {
    u32 live;
    i32 uniform, pc, pcs[32], state, barrier, barrier_count, barrier_kind;
    i32 commits, issued, copy_group, bulk_group;
    u32 register_fence; i32 fenced;
    i64 waits_address; i32 waits_phase;
    Copy *copies; i32 copy_count, copy_capacity;
    Clocks clocks;
} Warp;

typedef struct { i32 arrived, need; Clocks clocks; } Barrier;
typedef struct { u64 address; u32 *released; } SyncPlace;

typedef struct {
    const Instruction *code; i32 code_size; const i32 *operands;
    i32 register_count, warps; u64 *registers; const u64 *initial;
    u8 *shared; i64 shared_size;
    u8 *local; i64 local_size;
    const u8 *params; i64 params_size;
    i32 late, policy, check, partial, count_traffic; u64 random, random_start; i64 step_limit; u8 fill;
    Tensor *tensors; i32 tensor_count;
    i32 cta, cta_count; u32 *acquired; i32 has_released;
    SyncPlace *places; i32 place_count, place_capacity;
    Event *events; i32 event_count, event_capacity;
    u64 *executed; u64 traffic[16];
    Warp warp[MAX_WARPS]; u32 epoch; Barrier barriers[16];
    SharedByte *shadow; u32 *read_clock; i32 *product_read[MAX_GROUPS];
    u8 *register_of_product; u32 *register_access, *register_pc; i32 *register_busy;  /* of registers that a wgmma names */
    Product *products[MAX_GROUPS]; i32 product_count[MAX_GROUPS], product_capacity[MAX_GROUPS]; i32 *product_pc;
    Mbarrier mbarriers[MAX_WARPS]; i32 mbarrier_count;
    Bulk *bulks; i32 bulk_count, bulk_capacity; u64 tensormap_places[64]; i32 tensormap_count;
    u32 step; i32 stopped; i64 total, total_all;
} Machine;

#define REGISTER(w, r) (s->registers + ((size_t)(w) * s->register_count + (r)) * 32)

/* Loops that gain from wide registers are built twice; the loader of the library picks. Results do not depend on it. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("arch=haswell", "default"), optimize("O3")))
#else
#define WIDE
#endif

#endif

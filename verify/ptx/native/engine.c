/* Run compiled PTX on a CPU under a schedule, and report what breaks the rules of its memory. One file is compiled. */

#include "engine.h"
#include "numbers.h"
#include "arithmetic.h"
#include "shadow.h"
#ifdef EXACT
#include "exact.h"
#endif
#include "memory.h"
#include "matrix.h"
#include "bulk.h"
#include "order.h"
#include "schedule.h"

/* How a program is to be run; the same fields as `Options` in machine.py. */
typedef struct {
    i32 warps, register_count, code_size, late, policy, check, partial, products, count_traffic, fill;
    i64 shared_size, local_size, step_limit;
    u64 seed;
} Options;

void machine_free(Machine *s) {
    if (!s) return;
    for (int i = 0; i < MAX_WARPS; i++) free(s->warp[i].copies);
    for (int g = 0; g < MAX_GROUPS; g++) { free(s->products[g]); free(s->product_read[g]); }
    for (int i = 0; i < s->place_count; i++) free(s->places[i].released);
    free(s->registers); free(s->shared); free(s->local); free(s->shadow); free(s->read_clock); free(s->register_of_product); free(s->register_access);
    free(s->register_pc); free(s->register_busy); free(s->product_pc); free(s->events); free(s->executed); free(s->bulks);
    free(s->acquired); free(s->places);
    free(s);
}
/* NULL where there is no memory. */
Machine *machine_new(const Options *p, const Instruction *code, const i32 *operands) {
    Machine *s = calloc(1, sizeof *s);
    if (!s) return 0;
    size_t registers = (size_t)p->warps * p->register_count, shared = (size_t)p->shared_size + 16;
    s->code = code; s->operands = operands; s->code_size = p->code_size; s->register_count = p->register_count; s->warps = p->warps;
    s->late = p->late; s->policy = p->policy; s->check = p->check; s->partial = p->partial; s->count_traffic = p->count_traffic;
    s->fill = (u8)p->fill; s->shared_size = p->shared_size; s->local_size = p->local_size; s->step_limit = p->step_limit; s->random_start = p->seed;
    s->event_capacity = 1024;
    int ok = 1;
#define TAKE(field, count, size) ok = ok && (s->field = calloc((count) ? (count) : 1, size))
    TAKE(registers, registers * 32, sizeof(u64));
    TAKE(shared, shared, 1);
    TAKE(events, s->event_capacity, sizeof(Event));
    TAKE(executed, s->code_size + 1, sizeof(u64));
    TAKE(product_pc, MAX_GROUPS, sizeof(i32));
    if (p->local_size) TAKE(local, (size_t)p->warps * 32 * p->local_size, 1);
    if (p->check) {
        TAKE(shadow, shared, sizeof(SharedByte));
        if (p->partial) TAKE(read_clock, shared * p->warps, sizeof(u32));
        if (p->products) {
            for (int g = 0; g * 4 < p->warps; g++) TAKE(product_read[g], shared, sizeof(i32));
            TAKE(register_of_product, p->register_count, 1);
            TAKE(register_access, registers, sizeof(u32));
            TAKE(register_pc, registers, sizeof(u32));
            TAKE(register_busy, registers, sizeof(i32));
        }
    }
    if (ok && s->register_of_product)
        for (int pc = 0; pc < s->code_size; pc++) if (code[pc].op == O_WGMMA)
            for (int j = 0; j < code[pc].n + (code[pc].y & 0xff); j++) s->register_of_product[operands[code[pc].first + j]] = 1;
    if (ok) return s;
    machine_free(s);
    return 0;
}
/* Programs first to first + count of the grid, backwards where `backwards` is set. initial: what every register holds at
   first; special: registers of tid.x, tid.y, tid.z, laneid, warpid, ctaid.x, y, z, or -1. Returns the rule that stopped it. */
i32 machine_run(Machine *s, Tensor *tensors, i32 tensor_count, const u64 *initial, const i32 *special, const i32 *threads,
                const i32 *grid, i64 first, i64 count, i32 backwards) {
    s->tensors = tensors;
    s->tensor_count = tensor_count;
    s->cta_count = (i32)((i64)grid[0] * grid[1] * grid[2]);
    for (i64 k = 0; k < count; k++) {
        i64 c = backwards ? first + count - 1 - k : first + k;
        i32 place[3] = {(i32)(c % grid[0]), (i32)(c / grid[0] % grid[1]), (i32)(c / ((i64)grid[0] * grid[1]))};
        s->cta = (i32)c;
        for (int w = 0; w < s->warps; w++) {
            u64 *r = REGISTER(w, 0);
            for (int j = 0; j < s->register_count; j++, r += 32) for (int i = 0; i < 32; i++) r[i] = initial[j];
            for (int i = 0; i < 32; i++) {
                int tid = w * 32 + i;
                if (special[0] >= 0) REGISTER(w, special[0])[i] = (u64)(tid % threads[0]);
                if (special[1] >= 0) REGISTER(w, special[1])[i] = (u64)(tid / threads[0] % threads[1]);
                if (special[2] >= 0) REGISTER(w, special[2])[i] = (u64)(tid / threads[0] / threads[1]);
                if (special[3] >= 0) REGISTER(w, special[3])[i] = (u64)i;
                if (special[4] >= 0) REGISTER(w, special[4])[i] = (u64)w;
                for (int x = 0; x < 3; x++) if (special[5 + x] >= 0) REGISTER(w, special[5 + x])[i] = (u64)place[x];
            }
        }
        program_run(s);
        s->total_all += s->total;
        s->traffic[10] += (u64)s->total;
        s->traffic[11]++;
        if (s->stopped) return s->stopped;
    }
    return 0;
}
const Event *machine_events(Machine *s, i32 *count) { *count = s->event_count; return s->events; }
const u64 *machine_executed(Machine *s) { return s->executed; }
const u64 *machine_traffic(Machine *s) { return s->traffic; }
i32 machine_sizes(i32 what) { return (i32)(what == 0 ? sizeof(Event) : what == 1 ? sizeof(Tensor) : what == 2 ? sizeof(GlobalByte) : sizeof(Options)); }

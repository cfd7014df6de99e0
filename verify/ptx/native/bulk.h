/* TMA: boxes of tensors that are copied by one thread's order, completing on an mbarrier or in a bulk group. */

static void mbarrier_try(Machine *s, Mbarrier *b);
static Mbarrier *mbarrier_at(Machine *s, i64 address, int pc, int wi);

/* A tensor map as this engine keeps it in its 128 bytes; the real format is not public, and nothing else reads it. */
typedef struct {
    u64 address;
    i32 rank, element, interleave, swizzle, fill;
    i32 box[5], size[5], step[5];
    i64 stride[4];
} TensorMap;

static const int ELEMENT_BYTES[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};

static void box_visit(Machine *s, Bulk *q, const TensorMap *map, int apply) {
    int bytes = ELEMENT_BYTES[map->element], rank = map->rank + 1, inner = map->box[0] * bytes;
    i64 count = 1;
    static const int shifts[] = {0, 1, 3, 7};
    for (int k = 0; k < rank; k++) count *= map->box[k];
    for (i64 e = 0; e < count; e += map->box[0]) {
        i64 rest = e / map->box[0], index[5] = {q->at[0]}, offset = 0;
        int whole = 1;
        for (int k = 1; k < rank; k++) {
            index[k] = q->at[k] + rest % map->box[k];
            rest /= map->box[k];
            if (index[k] < 0 || index[k] >= (u32)map->size[k]) whole = 0;
            offset += index[k] * map->stride[k - 1];
        }
        for (int x = 0; x < inner; x += bytes) {
            i64 column = index[0] + x / bytes, at = q->shared + e * bytes + x;
            int there = whole && column >= 0 && column < (u32)map->size[0];
            at ^= (at >> 7 & shifts[map->swizzle]) << 4;
            if (at < 0 || at + bytes > s->shared_size) { stop(s, K_SHARED_BOUNDS, q->pc, q->warp, at, bytes, s->shared_size); return; }
            u64 from = map->address + offset + column * bytes;
            u8 zero[8] = {0};
            if (q->load) {
                Tensor *T = there ? tensor_at(s, from, bytes, q->pc, q->warp) : 0;
                if (there && !T) return;
                if (apply == 0) {
                    if (T) global_read(s, T, from - T->base, bytes, q->pc, q->warp, 0);
                    if (s->check) for (i64 k = at; k < at + bytes; k++) {
                        SharedByte *b = &s->shadow[k];
                        if (b->written && b->writer != q->warp && b->write_clock > s->warp[q->warp].clocks.seen[b->writer]) clash(s, K_SHARED_WAW, q->pc, q->warp, b->write_pc, b->writer, k);
                        overwritten(s, b, k, q->pc, q->warp);
                        b->bulk_pending = 1;
                        b->bulk_pc = q->pc;
                    }
                } else memcpy(s->shared + at, T ? T->bytes + (from - T->base) : zero, bytes);
                if (apply == 2 && s->check) for (i64 k = at; k < at + bytes; k++) {
                    SharedByte *b = &s->shadow[k];
                    b->bulk_pending = 0;
                    b->written = 1;
                    b->generic = 0;
                    b->writer = (i16)(OF_MBARRIER + (q->group & 31));
                    b->write_clock = q->clock;
                    b->write_pc = q->pc;
                    b->writers = 0;
                }
                continue;
            }
            if (apply == 0) {
                if (!s->check) continue;
                const Clocks *c = &s->warp[q->warp].clocks;
                for (i64 k = at; k < at + bytes; k++) {
                    SharedByte *b = &s->shadow[k];
                    if (b->written && b->write_clock > c->seen[b->writer]) clash(s, K_ASYNC_RAW, q->pc, q->warp, b->write_pc, b->writer, k);
                    if (b->generic && b->writer < MAX_WARPS && b->write_clock > c->fenced[b->writer]) clash(s, K_PROXY, q->pc, q->warp, b->write_pc, b->writer, k);
                    if (!b->written && !b->copies) clash(s, K_UNWRITTEN, q->pc, q->warp, -1, NOBODY, k);
                    if (b->copies) clash(s, K_COPY_READ, q->pc, q->warp, b->copy_pc, b->copier, k);
                    b->bulk_read = q->clock;
                    b->bulk_reader = (u8)q->warp;
                    b->bulk_pc = q->pc;
                }
            } else if (there) {
                Tensor *T = tensor_at(s, from, bytes, q->pc, q->warp);
                if (!T) return;
                u8 value[8];
                memcpy(value, s->shared + at, bytes);
                if (q->reduce >= 0) {
                    Instruction op = {.type = q->element, .y = q->reduce};
                    u64 old = 0, v = 0, r;
                    memcpy(&old, T->bytes + (from - T->base), bytes);
                    memcpy(&v, value, bytes);
                    r = atomic_result(&op, q->element, old, v, 0);
                    memcpy(value, &r, bytes);
                }
                global_write(s, T, from - T->base, bytes, value, q->pc, q->warp, q->reduce >= 0);
                memcpy(T->bytes + (from - T->base), value, bytes);
            }
        }
    }
}
static int map_of(Machine *s, Bulk *q, TensorMap *map) {
    Tensor *T = tensor_at(s, q->map, 128, q->pc, q->warp);
    if (!T) return 0;
    memcpy(map, T->bytes + (q->map - T->base), sizeof *map);
    if (map->rank < 0 || map->rank > 4 || map->element < 0 || map->element > 12 || map->swizzle < 0 || map->swizzle > 3 || map->interleave || map->fill) {
        stop(s, K_DESCRIPTOR, q->pc, q->warp, (i64)(q->map - T->base), 128, -2);
        return 0;
    }
    for (int k = 0; k <= map->rank; k++) if (map->box[k] < 1 || map->box[k] > 256 || map->step[k] != 1) {
        stop(s, K_DESCRIPTOR, q->pc, q->warp, (i64)(q->map - T->base), 128, -2);
        return 0;
    }
    return 1;
}
static void bulk_finish(Machine *s, Bulk *q) {
    TensorMap map;
    if (!map_of(s, q, &map)) return;
    if (!q->load) { box_visit(s, q, &map, 1); return; }
    box_visit(s, q, &map, 2);
    i64 bytes = ELEMENT_BYTES[map.element];
    for (int k = 0; k <= map.rank; k++) bytes *= map.box[k];
    for (int i = 0; i < s->mbarrier_count; i++) if (s->mbarriers[i].used && s->mbarriers[i].address == q->mbarrier) {
        Mbarrier *b = &s->mbarriers[i];
        b->bytes -= bytes;
        if (q->clock > b->now.seen[OF_MBARRIER + i]) b->now.seen[OF_MBARRIER + i] = q->clock;
        mbarrier_try(s, b);
    }
}
static void bulk_remove(Machine *s, int i) {
    memmove(s->bulks + i, s->bulks + i + 1, (s->bulk_count - i - 1) * sizeof(Bulk));
    s->bulk_count--;
}
/* Nothing else can go on: the oldest load arrives. */
static int bulk_advance(Machine *s) {
    for (int i = 0; i < s->bulk_count; i++) if (s->bulks[i].load) {
        Bulk q = s->bulks[i];
        bulk_remove(s, i);
        bulk_finish(s, &q);
        return 1;
    }
    return 0;
}
/* Stores of warp wi but the last `keep` groups have read their bytes, and all the rest as well where it asks for that. */
static void bulk_wait(Machine *s, int wi, int keep) {
    Warp *w = &s->warp[wi];
    int limit = w->bulk_group - keep;
    for (int i = 0; i < s->bulk_count;) {
        Bulk q = s->bulks[i];
        if (q.load || q.warp != wi || q.group >= limit) { i++; continue; }
        bulk_remove(s, i);
        bulk_finish(s, &q);
    }
    if (limit > 0 && (u32)limit > w->clocks.seen[OF_BULK + wi]) w->clocks.seen[OF_BULK + wi] = (u32)limit;
}

static void exec_bulk(Machine *s, int wi, int pc, u32 m) {
    OPERANDS
    Warp *w = &s->warp[wi];
    switch (I->op) {
    case O_BULKLOAD: case O_BULKSTORE:
        /* operands: shared address, map, coordinates, and for loads the mbarrier; n dimensions */
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            Bulk q = {.pc = pc, .warp = wi, .load = I->op == O_BULKLOAD, .dims = I->n, .element = t, .reduce = I->y, .shared = (i64)(i32)(u32)d[i] + I->x, .map = a[i]};
            for (int k = 0; k < I->n; k++) q.at[k] = (i32)(u32)OPERAND(2 + k)[i];
            if (q.shared % 128) { stop(s, K_SHARED_ALIGN, pc, wi, q.shared, 128, 0); return; }
            if (q.map % 64) { stop(s, K_GLOBAL_ALIGN, pc, wi, (i64)q.map, 64, 0); return; }
            TensorMap map;
            if (!map_of(s, &q, &map)) return;
            if (map.rank + 1 != I->n) { stop(s, K_DESCRIPTOR, pc, wi, (i64)q.map, 128, -3); return; }
            if (q.load) {
                q.mbarrier = (i64)(i32)(u32)OPERAND(2 + I->n)[i] + I->z;
                Mbarrier *b = mbarrier_at(s, q.mbarrier, pc, wi);
                if (!b) return;
                q.group = (i32)(b - s->mbarriers);
                q.clock = (u32)b->phase + 1;
            } else { q.group = w->bulk_group; q.clock = (u32)q.group + 1; }
            box_visit(s, &q, &map, 0);
            if (s->stopped) return;
            if (!s->late && q.load) { bulk_finish(s, &q); continue; }
            if (!s->late) bulk_finish(s, &q);
            else {
                if (s->bulk_count == s->bulk_capacity) {
                    s->bulk_capacity = s->bulk_capacity * 2 + 16;
                    s->bulks = realloc(s->bulks, s->bulk_capacity * sizeof(Bulk));
                }
                s->bulks[s->bulk_count++] = q;
            }
        }
        break;
    case O_BULKCOMMIT: w->bulk_group++; break;
    case O_BULKWAIT: bulk_wait(s, wi, I->x); break;
    case O_TENSORMAP: {
        /* operands: address, value; x: offset, y: the field, z: its index, w: the address is in shared memory */
        int lane = __builtin_ctz(m);
        u8 *bytes;
        if (I->w) {
            i64 at = (i64)(i32)(u32)d[lane] + I->x;
            if (!inside(s, at, 128, pc, wi)) return;
            bytes = s->shared + at;
            if (s->check) for (i64 k = at; k < at + 128; k++) { s->shadow[k].written = 1; s->shadow[k].writer = (i16)wi; s->shadow[k].write_clock = w->clocks.seen[wi]; s->shadow[k].write_pc = pc; }
        } else {
            Tensor *T = tensor_at(s, d[lane] + (i64)I->x, 128, pc, wi);
            if (!T) return;
            bytes = T->bytes + (d[lane] + (i64)I->x - T->base);
        }
        TensorMap *map = (TensorMap *)bytes;
        u64 v = a[lane];
        switch (I->y) {
        case 0: map->address = v; break;
        case 1: map->rank = (i32)v; break;
        case 2: map->box[I->z] = (i32)v; break;
        case 3: map->size[I->z] = (i32)v; break;
        case 4: map->stride[I->z] = (i64)v; break;
        case 5: map->step[I->z] = (i32)v; break;
        case 6: map->element = (i32)v; break;
        case 7: map->interleave = (i32)v; break;
        case 8: map->swizzle = (i32)v; break;
        default: map->fill = (i32)v;
        }
    } break;
    case O_TMAPCOPY: {
        /* operands: global target, shared source, of 128 bytes; with the fences that it has */
        int lane = __builtin_ctz(m);
        i64 from = (i64)(i32)(u32)a[lane] + I->y;
        if (!inside(s, from, 128, pc, wi)) return;
        Tensor *T = tensor_at(s, d[lane] + (i64)I->x, 128, pc, wi);
        if (!T) return;
        u64 to = d[lane] + (i64)I->x - T->base;
        shared_read(s, from, 128, pc, wi);
        global_write(s, T, to, 128, s->shared + from, pc, wi, 1);
        memcpy(T->bytes + to, s->shared + from, 128);
    } break;
    default: stop(s, K_UNKNOWN, pc, wi, I->op, 0, 0);
    }
}

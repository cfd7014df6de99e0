/* Loads, stores, atomics and copies. Operands: values, then the address; x is the offset, n the length of a vector. */

#define LOCAL_BASE 0x600000000000ull
#define SHARED_BASE 0x500000000000ull

/* A loaded value as the register holds it: extended to the register's width, y bits. */
static u64 loaded(const Instruction *I, u64 v) { return is_signed(I->type) ? cut((u64)extended(v, I->type), I->y) : v; }

static void global_access(Machine *s, int wi, int pc, u32 m, int store) {
    OPERANDS
    int n = I->n, width = B / 8, total = width * n;
    const u64 *base = OPERAND(n);
    u64 at[32];
    for (int i = 0; i < 32; i++) at[i] = base[i] + (i64)I->x;
    count_sectors(s, at, m, total, store);
    for (int i = 0; i < 32; i++) if (m >> i & 1) {
        if (at[i] % total) { stop(s, K_GLOBAL_ALIGN, pc, wi, (i64)at[i], total, 0); return; }
        Tensor *T = tensor_at(s, at[i], total, pc, wi);
        if (!T) return;
        u64 offset = at[i] - T->base;
        if (store) {
            u8 value[64];
            for (int j = 0; j < n; j++) memcpy(value + j * width, &OPERAND(j)[i], width);
            global_write(s, T, offset, total, value, pc, wi, 0);
            memcpy(T->bytes + offset, value, total);
            if (I->w) global_order(s, at[i]);
        } else {
            if (I->w) global_order(s, at[i]);
            global_read(s, T, offset, total, pc, wi, I->z);
            for (int j = 0; j < n; j++) {
                u64 v = 0;
                memcpy(&v, T->bytes + offset + j * width, width);
                OPERAND(j)[i] = loaded(I, v);
            }
        }
    }
}
static void shared_access(Machine *s, int wi, int pc, u32 m, int store) {
    OPERANDS
    int n = I->n, width = B / 8, total = width * n;
    const u64 *base = OPERAND(n);
    i64 at[32];
    for (int i = 0; i < 32; i++) at[i] = (i64)(i32)(u32)base[i] + I->x;
    count_passes(s, at, m, total, store, 32);
    /* Two lanes of one instruction may not write other values to one byte; the later lane stays, as one of the legal ones. */
    for (int i = 0; i < 32; i++) if (m >> i & 1) {
        if (at[i] % total) { stop(s, K_SHARED_ALIGN, pc, wi, at[i], total, 0); return; }
        if (!inside(s, at[i], total, pc, wi)) return;
        if (store) {
            u8 value[64];
            for (int j = 0; j < n; j++) memcpy(value + j * width, &OPERAND(j)[i], width);
            shared_write(s, at[i], total, value, pc, wi, 0);
            shared_set(s, at[i], total, value, pc, wi);
        } else {
            shared_read(s, at[i], total, pc, wi);
            for (int j = 0; j < n; j++) {
                u64 v = 0;
                memcpy(&v, s->shared + at[i] + j * width, width);
                OPERAND(j)[i] = loaded(I, v);
            }
        }
    }
}
static void local_access(Machine *s, int wi, int pc, u32 m, int store) {
    OPERANDS
    int n = I->n, width = B / 8;
    const u64 *base = OPERAND(n);
    for (int i = 0; i < 32; i++) if (m >> i & 1) {
        i64 at = (i64)((base[i] & 0xffffffffull) + I->x);
        if (at < 0 || at + n * width > s->local_size || at % (n * width)) { stop(s, K_LOCAL_BOUNDS, pc, wi, at, n * width, s->local_size); return; }
        u8 *p = s->local + ((size_t)wi * 32 + i) * s->local_size + at;
        for (int j = 0; j < n; j++) {
            if (store) memcpy(p + j * width, &OPERAND(j)[i], width);
            else { u64 v = 0; memcpy(&v, p + j * width, width); OPERAND(j)[i] = loaded(I, v); }
        }
    }
}
/* An address without a space: all lanes in one space, or the access is taken apart by lane. */
static void generic_access(Machine *s, int wi, int pc, u32 m, int store) {
    OPERANDS
    const u64 *base = OPERAND(I->n);
    u32 local = 0, shared = 0;
    for (int i = 0; i < 32; i++) if (m >> i & 1) {
        if (base[i] >= SHARED_BASE && base[i] < LOCAL_BASE) shared |= 1u << i;
        else if (base[i] >= LOCAL_BASE && base[i] < 0x700000000000ull) local |= 1u << i;
    }
    if (shared) shared_access(s, wi, pc, shared, store);
    if (local) local_access(s, wi, pc, local, store);
    if (m & ~(shared | local)) global_access(s, wi, pc, m & ~(shared | local), store);
}
static u64 atomic_result(const Instruction *I, int t, u64 old, u64 v, u64 second) {
    int bits = bits_of(t);
    switch (I->y) {
    case 0:
        switch (t) {
        case T_F32: return of_float(as_float(old) + as_float(v));
        case T_F64: return of_double(as_double(old) + as_double(v));
        case T_F16: case T_BF16: case T_F16X2: case T_BF16X2: { Instruction sum = *I; sum.x = sum.y = sum.z = sum.w = 0; return half_arithmetic(&sum, old, v, 0); }
        default: return cut(old + v, bits);
        }
    case 1: return v;
    case 2: return old == cut(v, bits) ? second : old;
    case 3: case 4: {
        int max = I->y == 3;
        if (t >= T_F16) {
            if (t == T_F16X2 || t == T_BF16X2 || t == T_F16 || t == T_BF16) { Instruction pick = *I; pick.x = max ? 5 : 4; pick.y = pick.z = pick.w = 0; return half_arithmetic(&pick, old, v, 0); }
            double x = to_real(old, t), y = to_real(v, t);
            return max ? (y > x ? v : old) : y < x ? v : old;
        }
        if (is_signed(t)) return max == (extended(v, t) > extended(old, t)) && extended(v, t) != extended(old, t) ? v : old;
        return max == (v > old) && v != old ? v : old;
    }
    case 5: return old & v;
    case 6: return old | v;
    case 7: return old ^ v;
    case 8: return old >= v ? 0 : old + 1;
    default: return old == 0 || old > v ? v : old - 1;
    }
}
/* Operands: n old values, the address, n values, and for cas n more. z: acquires or releases, w: nothing is returned. */
static void atomic_access(Machine *s, int wi, int pc, u32 m, int shared) {
    OPERANDS
    int n = I->n, width = B / 8, total = width * n;
    const u64 *base = OPERAND(n);
    for (int i = 0; i < 32; i++) if (m >> i & 1) {
        u64 at = shared ? (u64)((i64)(i32)(u32)base[i] + I->x) : base[i] + (i64)I->x;
        if (at % total) { stop(s, shared ? K_SHARED_ALIGN : K_GLOBAL_ALIGN, pc, wi, (i64)at, total, 0); return; }
        u8 *p, fresh[64];
        Tensor *T = 0;
        if (shared) {
            if (!inside(s, (i64)at, total, pc, wi)) return;
            p = s->shared + at;
        } else {
            if (!(T = tensor_at(s, at, total, pc, wi))) return;
            p = T->bytes + (at - T->base);
            if (I->z) global_order(s, at);
        }
        u64 olds[8];
        for (int j = 0; j < n; j++) {
            u64 old = 0, value = OPERAND(n + 1 + j)[i], second = I->y == 2 ? OPERAND(2 * n + 1 + j)[i] : 0, result;
            memcpy(&old, p + j * width, width);
            result = atomic_result(I, t, old, value, second);
            memcpy(fresh + j * width, &result, width);
            olds[j] = old;
        }
        /* Atomics at one place are ordered among themselves by nature. */
        if (T) { global_read(s, T, at - T->base, total, pc, wi, 1); global_write(s, T, at - T->base, total, fresh, pc, wi, 1); memcpy(p, fresh, total); }
        else shared_set(s, (i64)at, total, fresh, pc, wi);
        for (int j = 0; j < n; j++) OPERAND(j)[i] = olds[j];
    }
}
/* ldmatrix and stmatrix: n 8x8 tiles of 16-bit values, y transposed; lane 8j + k has the address of row k of tile j. */
static void matrix_access(Machine *s, int wi, int pc, u32 m, int store) {
    OPERANDS
    const u64 *base = OPERAND(I->n);
    i64 at[32];
    if (m != s->warp[wi].live) { stop(s, K_MASKED, pc, wi, m, 0, s->warp[wi].live); return; }
    for (int i = 0; i < 32; i++) at[i] = (i64)(i32)(u32)base[i] + I->x;
    for (int j = 0; j < I->n; j++) {
        u64 *r = OPERAND(j);
        u16 tile[8][8];
        count_passes(s, at + 8 * j, 0xff, 16, store, 8);
        for (int k = 0; k < 8; k++) {
            if (at[8 * j + k] % 16) { stop(s, K_SHARED_ALIGN, pc, wi, at[8 * j + k], 16, 0); return; }
            if (!inside(s, at[8 * j + k], 16, pc, wi)) return;
        }
        if (!store) {
            for (int k = 0; k < 8; k++) {
                shared_read(s, at[8 * j + k], 16, pc, wi);
                memcpy(tile[k], s->shared + at[8 * j + k], 16);
            }
            for (int l = 0; l < 32; l++) {
                int x = l / 4, y = l % 4 * 2;
                r[l] = I->y ? (u32)tile[y][x] | (u32)tile[y + 1][x] << 16 : (u32)tile[x][y] | (u32)tile[x][y + 1] << 16;
            }
        } else {
            for (int l = 0; l < 32; l++) {
                int x = l / 4, y = l % 4 * 2;
                if (I->y) { tile[y][x] = (u16)r[l]; tile[y + 1][x] = (u16)(r[l] >> 16); }
                else { tile[x][y] = (u16)r[l]; tile[x][y + 1] = (u16)(r[l] >> 16); }
            }
            for (int k = 0; k < 8; k++) {
                shared_write(s, at[8 * j + k], 16, (u8 *)tile[k], pc, wi, 0);
                shared_set(s, at[8 * j + k], 16, (u8 *)tile[k], pc, wi);
            }
        }
    }
}
/* cp.async. Operands: target, source, and where y is set the number of bytes to read, the rest being zero. */
static void copy_async(Machine *s, int wi, int pc, u32 m) {
    OPERANDS
    Warp *w = &s->warp[wi];
    const u64 *sizes = I->y ? OPERAND(2) : 0;
    u64 from[32];
    i64 to[32];
    u32 reading = m;
    int n = I->x;
    for (int i = 0; i < 32; i++) {
        from[i] = a[i] + (i64)I->w;
        to[i] = (i64)(i32)(u32)d[i] + I->z;
        if (sizes && (u32)sizes[i] == 0) reading &= ~(1u << i);
    }
    count_sectors(s, from, reading, n, 0);
    count_passes(s, to, m, n, 1, 32);
    for (int i = 0; i < 32; i++) if (m >> i & 1) {
        int size = sizes ? (int)(u32)sizes[i] : n;
        Copy copy = {.target = to[i], .size = n, .group = w->copy_group, .pc = pc};
        if (size > n) size = n;
        if (size) {
            if (from[i] % n) { stop(s, K_GLOBAL_ALIGN, pc, wi, (i64)from[i], n, 0); return; }
            Tensor *T = tensor_at(s, from[i], size, pc, wi);
            if (!T) return;
            global_read(s, T, from[i] - T->base, size, pc, wi, 0);
            memcpy(copy.data, T->bytes + (from[i] - T->base), size);
        }
        if (to[i] % n) { stop(s, K_SHARED_ALIGN, pc, wi, to[i], n, 0); return; }
        if (!inside(s, to[i], n, pc, wi)) return;
        shared_write(s, to[i], n, copy.data, pc, wi, 1);
        if (s->check) for (i64 q = to[i]; q < to[i] + n; q++) {
            SharedByte *byte = &s->shadow[q];
            if (byte->copies && byte->copier != wi) clash(s, K_COPY_WRITE, pc, wi, byte->copy_pc, byte->copier, q);
            byte->copies++;
            byte->copier = (u8)wi;
            byte->copy_pc = pc;
        }
        if (w->copy_count == w->copy_capacity) {
            w->copy_capacity = w->copy_capacity * 2 + 256;
            w->copies = realloc(w->copies, w->copy_capacity * sizeof(Copy));
        }
        w->copies[w->copy_count++] = copy;
        if (!s->late) memcpy(s->shared + to[i], copy.data, n);
    }
}
/* All but the last `keep` groups of a warp's copies have landed. */
static void copies_wait(Machine *s, int wi, int keep) {
    Warp *w = &s->warp[wi];
    int limit = keep < 0 ? 1 << 30 : w->copy_group - keep, left = 0;
    for (int i = 0; i < w->copy_count; i++) {
        Copy *e = &w->copies[i];
        if (e->group >= limit) { w->copies[left++] = *e; continue; }
        if (!s->check) { memcpy(s->shared + e->target, e->data, e->size); continue; }
        u32 clock = w->clocks.seen[wi];
        for (i64 q = e->target; q < e->target + e->size; q++) {
            SharedByte *b = &s->shadow[q];
            if (b->copies) b->copies--;
            b->write_clock = clock;
            b->write_pc = e->pc;
            b->writer = (i16)wi;
            b->writers = 1u << wi;
            b->written = b->generic = 1;
        }
        memcpy(s->shared + e->target, e->data, e->size);
    }
    w->copy_count = left;
}

static void exec_memory(Machine *s, int wi, int pc, u32 m) {
    switch (s->code[pc].op) {
    case O_LDG: global_access(s, wi, pc, m, 0); break;
    case O_STG: global_access(s, wi, pc, m, 1); break;
    case O_ATOMG: atomic_access(s, wi, pc, m, 0); break;
    case O_LDS: shared_access(s, wi, pc, m, 0); break;
    case O_STS: shared_access(s, wi, pc, m, 1); break;
    case O_ATOMS: atomic_access(s, wi, pc, m, 1); break;
    case O_LDL: local_access(s, wi, pc, m, 0); break;
    case O_STL: local_access(s, wi, pc, m, 1); break;
    case O_LDX: generic_access(s, wi, pc, m, 0); break;
    case O_STX: generic_access(s, wi, pc, m, 1); break;
    case O_LDM: matrix_access(s, wi, pc, m, 0); break;
    case O_STM: matrix_access(s, wi, pc, m, 1); break;
    case O_CPASYNC: copy_async(s, wi, pc, m); break;
    }
}

/* Tensor cores. Products are exact and summed in fp32 in the order of k, then added to the accumulator: one of the orders
   that the hardware may take. Integers and fp64 have no rounding to speak of, or that of the instruction. */

static float element(int type, u32 v) {
    switch (type) {
    case T_BF16: return bf16_to_float(v);
    case T_F16: return half_to_float(v & 0xffff);
    case T_E4M3: return e4m3_to_float(v & 0xff);
    case T_E5M2: return e5m2_to_float(v & 0xff);
    case T_S8: return (float)(i8)v;
    case T_U8: return (float)(u8)v;
    default: return as_float(v & 0xffffe000u);
    }
}
WIDE static void multiply(float *out, const float *a, const float *b, int rows, int columns, int depth) {
    memset(out, 0, sizeof(float) * rows * columns);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < depth; k++) {
            float x = a[r * depth + k], *p = out + r * columns;
            const float *q = b + k * columns;
            for (int n = 0; n < columns; n++) p[n] += x * q[n];
        }
}
static void multiply_integers(i32 *out, const float *a, const float *b, int rows, int columns, int depth) {
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < columns; n++) {
            i32 sum = 0;
            for (int k = 0; k < depth; k++) sum += (i32)a[r * depth + k] * (i32)b[k * columns + n];
            out[r * columns + n] = sum;
        }
}
/* Accumulators: pairs of columns in rows l / 4 and l / 4 + 8; fp16 ones two to a register. */
static void accumulate(Machine *s, int w, const i32 *d, const i32 *c, int count, int kind, u32 keep, const float *product, const i32 *integers, int columns, int first_row, int saturate) {
    for (int q = 0; q < count; q++) {
        u64 *to = REGISTER(w, d[q]);
        const u64 *from = REGISTER(w, c[q]);
        for (int l = 0; l < 32; l++) {
            int scaled = keep >> l & 1;
            if (kind == T_F16) {
                int row = first_row + l / 4 + 8 * (q % 2), column = 8 * (q / 2) + l % 4 * 2;
                u32 lo = float_to_half((scaled ? half_to_float(from[l] & 0xffff) : 0) + product[row * columns + column]);
                u32 hi = float_to_half((scaled ? half_to_float(from[l] >> 16 & 0xffff) : 0) + product[row * columns + column + 1]);
                to[l] = lo | (u64)hi << 16;
                continue;
            }
            int row = first_row + l / 4 + 8 * (q % 4 / 2), at = row * columns + 8 * (q / 4) + l % 4 * 2 + q % 2;
            if (kind == T_S32) {
                i64 sum = (scaled ? (i64)(i32)(u32)from[l] : 0) + integers[at];
                to[l] = (u32)(saturate && sum > INT32_MAX ? INT32_MAX : saturate && sum < INT32_MIN ? INT32_MIN : sum);
            }
            else to[l] = of_float((scaled ? as_float(from[l]) : 0) + product[at]);
        }
    }
}
/* A from registers: 16 rows of warp w, `n` registers a thread. */
static void fragment_a(Machine *s, int w, const i32 *regs, int n, int type, float *out, int depth, int first_row) {
    int bytes = bits_of(type) / 8, per = 4 / bytes;
    for (int i = 0; i < n; i++) {
        const u64 *r = REGISTER(w, regs[i]);
        for (int l = 0; l < 32; l++) {
            int row = first_row + l / 4 + 8 * (i % 2), column = l % 4 * per + 4 * per * (i / 2);
            for (int j = 0; j < per; j++) out[row * depth + column + j] = element(type, (u32)(r[l] >> (8 * bytes * j)));
        }
    }
}
static void fragment_b(Machine *s, int w, const i32 *regs, int n, int type, float *out) {
    int bytes = bits_of(type) / 8, per = 4 / bytes;
    for (int i = 0; i < n; i++) {
        const u64 *r = REGISTER(w, regs[i]);
        for (int l = 0; l < 32; l++) {
            int k = l % 4 * per + 4 * per * i;
            for (int j = 0; j < per; j++) out[(k + j) * 8 + l / 4] = element(type, (u32)(r[l] >> (8 * bytes * j)));
        }
    }
}
/* mma.sync m16n8k*: x is k, y the registers of A and << 8 whether it saturates, z those of B, n those of the accumulator, w its type, v the type of B. */
static void exec_mma(Machine *s, int wi, int pc, u32 m) {
    const Instruction *I = &s->code[pc];
    const i32 *o = s->operands + I->first;
    const int na = I->y & 0xff, saturate = I->y >> 8;
    float a[16 * 64], b[64 * 8], product[16 * 8];
    i32 integers[16 * 8];
    if (m != 0xffffffffu) { stop(s, K_MASKED, pc, wi, m, 0, s->warp[wi].live); return; }
    if (I->type == T_F64) {
        /* m8n8k4, or m16n8k4 to k16: rows l / 4 and l / 4 + 8, four columns of A and rows of B at a time */
        double A[16][16], Bm[16][8], out[4][32];
        int halves = I->n / 2;
        for (int r = 0; r < na; r++) {
            const u64 *ra = REGISTER(wi, o[I->n + r]);
            for (int l = 0; l < 32; l++) A[l / 4 + 8 * (r % halves)][l % 4 + 4 * (r / halves)] = as_double(ra[l]);
        }
        for (int r = 0; r < I->z; r++) {
            const u64 *rb = REGISTER(wi, o[I->n + na + r]);
            for (int l = 0; l < 32; l++) Bm[l % 4 + 4 * r][l / 4] = as_double(rb[l]);
        }
        for (int q = 0; q < I->n; q++) {
            const u64 *c = REGISTER(wi, o[I->n + na + I->z + q]);
            for (int l = 0; l < 32; l++) {
                double sum = as_double(c[l]);
                for (int k = 0; k < I->x; k++) sum = fma(A[l / 4 + 8 * (q / 2)][k], Bm[k][l % 4 * 2 + q % 2], sum);
                out[q][l] = sum;
            }
        }
        for (int q = 0; q < I->n; q++) { u64 *d = REGISTER(wi, o[q]); for (int l = 0; l < 32; l++) d[l] = of_double(out[q][l]); }
    } else {
        fragment_a(s, wi, o + I->n, na, I->type, a, I->x, 0);
        fragment_b(s, wi, o + I->n + na, I->z, I->v, b);
        if (I->w == T_S32) multiply_integers(integers, a, b, 16, 8, I->x); else multiply(product, a, b, 16, 8, I->x);
        accumulate(s, wi, o, o + I->n + na + I->z, I->n, I->w, 0xffffffffu, product, integers, 8, 0, saturate);
    }
    s->traffic[9] += (u64)16 * 8 * I->x;
}

/* wgmma. Fields: x is n and k << 16; y the registers of A (0: a descriptor), then bits: 8 A transposed, 9 B transposed,
   10 A negated, 11 B negated; n the accumulator's registers; w its type; v the type of B. */
typedef struct { int columns, depth, registers, transpose_a, transpose_b, bytes; float sign; } Shape;
static Shape shape_of(const Instruction *I) {
    return (Shape){I->x & 0xffff, I->x >> 16, I->y & 0xff, I->y >> 8 & 1, I->y >> 9 & 1, bits_of(I->type) / 8,
        (I->y >> 10 & 1 ? -1.0f : 1.0f) * (I->y >> 11 & 1 ? -1.0f : 1.0f)};
}
/* Where the 16 bytes lie that hold element (row, k) of an operand first. */
static i64 chunk_at(u64 descriptor, int bytes, int transposed, int row, int k) {
    static const int widths[] = {16, 128, 64, 32}, shifts[] = {0, 7, 3, 1};
    i64 start = (i64)(descriptor & 0x3fff) << 4, leading = (i64)(descriptor >> 16 & 0x3fff) << 4,
        stride = (i64)(descriptor >> 32 & 0x3fff) << 4, at;
    int swizzle = (int)(descriptor >> 62), width = widths[swizzle];
    if (!transposed) {
        i64 byte = (i64)k * bytes;
        if (swizzle) at = start + row / 8 * stride + row % 8 * width + byte % width + byte / width * leading;
        else at = start + row / 8 * stride + row % 8 * 16 + byte / 16 * leading + byte % 16;
    } else {
        int per = width / bytes;
        if (swizzle) at = start + (i64)(row % per) * bytes + row / per * leading + k % 8 * width + k / 8 * stride;
        else at = start + (i64)(row % per) * bytes + row / per * stride + k % 8 * 16 + k / 8 * leading;
    }
    return at ^ (at >> 7 & shifts[swizzle]) << 4;
}
/* What a wgmma reads, checked when it is issued. */
static void operand_read(Machine *s, i64 at, int pc, int g, int group) {
    const Clocks *c[4];
    for (int k = 0; k < 4; k++) c[k] = &s->warp[4 * g + k].clocks;
    int last_writer = -2, ordered = 0, fenced = 0;
    u32 last_clock = 0;
    for (i64 q = at; q < at + 16; q++) {
        SharedByte *b = &s->shadow[q];
        if (b->written) {
            if (b->writer != last_writer || b->write_clock != last_clock) {
                last_writer = b->writer;
                last_clock = b->write_clock;
                ordered = 1;
                fenced = 0;
                for (int k = 0; k < 4; k++) {
                    if (last_clock > c[k]->seen[last_writer]) ordered = 0;
                    if (last_writer < MAX_WARPS && last_clock <= c[k]->fenced[last_writer]) fenced = 1;
                }
            }
            if (!ordered) clash(s, last_writer >= OF_MBARRIER ? K_BULK_FLIGHT : K_ASYNC_RAW, pc, 4 * g, b->write_pc, last_writer, q);
            if (b->generic && !fenced) clash(s, K_PROXY, pc, 4 * g, b->write_pc, last_writer, q);
        } else if (!b->copies && !b->bulk_pending) clash(s, K_UNWRITTEN, pc, 4 * g, -1, NOBODY, q);
        if (b->copies) clash(s, K_COPY_READ, pc, 4 * g, b->copy_pc, b->copier, q);
        if (b->bulk_pending) clash(s, K_BULK_FLIGHT, pc, 4 * g, b->bulk_pc, NOBODY, q);
        s->product_read[g][q] = group + 1;
    }
}
static void operand_check(Machine *s, u64 descriptor, int rows, int depth, int bytes, int transposed, int pc, int g, int group) {
    int per = 16 / bytes;
    for (int r = 0; r < rows; r += transposed ? per : 1)
        for (int k = 0; k < depth; k += transposed ? 1 : per) {
            i64 at = chunk_at(descriptor, bytes, transposed, r, k);
            if (at < 0 || at + 16 > s->shared_size) { stop(s, K_DESCRIPTOR, pc, 4 * g, at, 16, s->shared_size); return; }
            if (s->check) operand_read(s, at, pc, g, group);
        }
}
static void operand_load(Machine *s, u64 descriptor, int rows, int depth, int type, int transposed, float *out, int row_step, int k_step) {
    int bytes = bits_of(type) / 8, per = 16 / bytes;
    for (int r = 0; r < rows; r += transposed ? per : 1)
        for (int k = 0; k < depth; k += transposed ? 1 : per) {
            i64 at = chunk_at(descriptor, bytes, transposed, r, k);
            if (at < 0 || at + 16 > s->shared_size) continue;
            for (int j = 0; j < per; j++) {
                u32 v = 0;
                memcpy(&v, s->shared + at + j * bytes, bytes);
                out[(transposed ? r + j : r) * row_step + (transposed ? k : k + j) * k_step] = element(type, v);
            }
        }
}
static void product_run(Machine *s, int g, Product *q) {
    const Instruction *I = &s->code[q->pc];
    const i32 *o = s->operands + I->first;
    Shape p = shape_of(I);
    static _Thread_local float a[64 * 32], b[32 * 256], out[64 * 256];
    static _Thread_local i32 integers[64 * 256];
    if (!p.registers) operand_load(s, q->a[0], 64, p.depth, I->type, p.transpose_a, a, p.depth, 1);
    else for (int w = 0; w < 4; w++) fragment_a(s, 4 * g + w, o + I->n, p.registers, I->type, a, p.depth, 16 * w);
    operand_load(s, q->b[0], p.columns, p.depth, I->v, p.transpose_b, b, 1, p.columns);
    if (p.sign < 0) for (int i = 0; i < 64 * p.depth; i++) a[i] = -a[i];
    if (I->w == T_S32) multiply_integers(integers, a, b, 64, p.columns, p.depth); else multiply(out, a, b, 64, p.columns, p.depth);
    for (int w = 0; w < 4; w++) accumulate(s, 4 * g + w, o, o, I->n, I->w, q->scale[w], out, integers, p.columns, 16 * w, 0);
    q->done = 1;
    s->traffic[8] += (u64)64 * p.columns * p.depth;
}
/* The four warps of group g have met at a wgmma. */
static void product_issue(Machine *s, int g, int pc) {
    const Instruction *I = &s->code[pc];
    const i32 *o = s->operands + I->first;
    Shape p = shape_of(I);
    int at = I->n + (p.registers ? p.registers : 1);
    if (s->product_count[g] == s->product_capacity[g]) {
        s->product_capacity[g] = s->product_capacity[g] * 2 + 64;
        s->products[g] = realloc(s->products[g], s->product_capacity[g] * sizeof(Product));
    }
    Product *q = &s->products[g][s->product_count[g]++];
    memset(q, 0, sizeof *q);
    q->pc = pc;
    q->group = s->warp[4 * g].commits;
    s->product_pc[g] = pc;
    for (int w = 0; w < 4; w++) {
        int wi = 4 * g + w;
        const u64 *rb = REGISTER(wi, o[at]), *scale = REGISTER(wi, o[at + 1]), *ra = REGISTER(wi, o[I->n]);
        for (int l = 0; l < 32; l++) {
            if (rb[l] != REGISTER(4 * g, o[at])[0] || (!p.registers && ra[l] != REGISTER(4 * g, o[I->n])[0])) {
                stop(s, K_DESCRIPTOR, pc, wi, (i64)rb[l], 0, -1);
                return;
            }
            q->scale[w] |= (u32)(scale[l] != 0) << l;
        }
        q->b[w] = rb[0];
        q->a[w] = p.registers ? 0 : ra[0];
        if (s->register_access) {
            size_t base = (size_t)wi * s->register_count;
            if (!s->warp[wi].fenced) clash(s, K_REGISTER_FENCE, pc, wi, -1, NOBODY, o[0]);
            for (int i = 0; i < I->n + p.registers; i++) {
                if (s->register_access[base + o[i]] <= s->warp[wi].register_fence) continue;
                int by = s->register_pc[base + o[i]], moved = i < I->n && s->code[by].op == O_MOV;
                clash(s, moved ? K_ACCUMULATOR_MOVED : K_REGISTER_FENCE, pc, wi, by, wi, o[i]);
            }
            for (int i = 0; i < I->n + p.registers; i++) s->register_busy[base + o[i]] = q->group + 1;
        }
        s->warp[wi].issued = q->group + 1;
    }
    operand_check(s, q->b[0], p.columns, p.depth, bits_of(I->v) / 8, p.transpose_b, pc, g, q->group);
    if (!p.registers) operand_check(s, q->a[0], 64, p.depth, p.bytes, p.transpose_a, pc, g, q->group);
    if (!s->stopped && !s->late) product_run(s, g, q);
}
/* wgmma.wait_group of one warp: its group's products but the last `keep` groups are finished. */
static void products_wait(Machine *s, int wi, int keep) {
    int g = wi / 4, limit = s->warp[wi].commits - keep, left = 0;
    for (int i = 0; i < s->product_count[g]; i++) {
        Product *q = &s->products[g][i];
        if (q->group >= limit) { s->products[g][left++] = *q; continue; }
        if (!q->done) product_run(s, g, q);
    }
    s->product_count[g] = left;
    if (limit > s->warp[wi].clocks.drained[g]) s->warp[wi].clocks.drained[g] = limit;
    if (!s->register_busy || !s->warp[wi].issued) return;
    i32 *busy = s->register_busy + (size_t)wi * s->register_count;
    for (int r = 0; r < s->register_count; r++) if (busy[r] && busy[r] <= limit) busy[r] = 0;
    if (s->warp[wi].issued <= limit) s->warp[wi].issued = 0;
}

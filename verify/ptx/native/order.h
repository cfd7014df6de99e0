/* Barriers, fences, mbarriers and waits. */

static int alive(Machine *s) {
    int n = 0;
    for (int w = 0; w < s->warps; w++) n += s->warp[w].state != ENDED;
    return n;
}
/* A barrier that has all it waits for lets its warps go, each with what all of them knew. */
static void barrier_release(Machine *s, int id) {
    Barrier *b = &s->barriers[id];
    int members = 0;
    for (int w = 0; w < s->warps; w++) if (s->warp[w].state == AT_BARRIER && s->warp[w].barrier == id) {
        join(&b->clocks, &s->warp[w].clocks);
        members++;
    }
    for (int w = 0; w < s->warps; w++) if (s->warp[w].state == AT_BARRIER && s->warp[w].barrier == id) {
        s->warp[w].clocks = b->clocks;
        tick(s, w);
        s->warp[w].state = RUNNING;
    }
    if (members == alive(s)) s->epoch++;
    memset(b, 0, sizeof *b);
}
static void barrier_try(Machine *s, int id) {
    Barrier *b = &s->barriers[id];
    int need = b->need ? b->need : alive(s);
    if (b->arrived && b->arrived >= need) barrier_release(s, id);
}
static void barrier_join(Machine *s, int wi, int id, int threads, int waits) {
    Barrier *b = &s->barriers[id];
    b->arrived++;
    if (threads) b->need = threads / 32;
    if (waits) { s->warp[wi].state = AT_BARRIER; s->warp[wi].barrier = id; }
    else { join(&b->clocks, &s->warp[wi].clocks); tick(s, wi); }
    barrier_try(s, id);
}

static Mbarrier *mbarrier_at(Machine *s, i64 address, int pc, int wi) {
    for (int i = 0; i < s->mbarrier_count; i++) {
        Mbarrier *b = &s->mbarriers[i];
        if (!b->used || b->address != address) continue;
        if (b->clock > s->warp[wi].clocks.seen[b->initialiser]) clash(s, K_MBARRIER, pc, wi, b->pc, b->initialiser, address);
        return b;
    }
    stop(s, K_MBARRIER, pc, wi, address, 8, -1);
    return 0;
}
static void mbarrier_try(Machine *s, Mbarrier *b) {
    (void)s;
    if (b->pending > 0 || b->bytes != 0) return;
    b->phase++;
    b->pending = b->expected;
    b->last = b->now;
}
static void mbarrier_init(Machine *s, int wi, int pc, i64 address, int count) {
    Mbarrier *b = 0;
    for (int i = 0; i < s->mbarrier_count && !b; i++) if (s->mbarriers[i].address == address) b = &s->mbarriers[i];
    if (!b) {
        if (s->mbarrier_count == MAX_WARPS) { stop(s, K_UNKNOWN, pc, wi, address, 0, 1); return; }
        b = &s->mbarriers[s->mbarrier_count++];
    }
    i32 phase = b->phase;
    memset(b, 0, sizeof *b);
    *b = (Mbarrier){.address = address, .expected = count, .pending = count, .used = 1, .initialiser = wi, .pc = pc, .clock = s->warp[wi].clocks.seen[wi]};
    b->phase = (phase + 1) & ~1;  /* parity starts at 0; clocks of what TMA wrote go on */
}
static int mbarrier_passed(Machine *s, int wi) {
    Warp *w = &s->warp[wi];
    for (int i = 0; i < s->mbarrier_count; i++) {
        Mbarrier *b = &s->mbarriers[i];
        if (b->used && b->address == w->waits_address && (b->phase & 1) != w->waits_phase) { join(&w->clocks, &b->last); return 1; }
    }
    return 0;
}

static void exec_order(Machine *s, int wi, int pc, u32 m) {
    OPERANDS
    Warp *w = &s->warp[wi];
    int leader = __builtin_ctz(m);
    switch (I->op) {
    case O_NOP: break;
    case O_FENCE: break;
    case O_FENCEPROXY:
        for (int k = 0; k < MAX_WARPS; k++) if (w->clocks.seen[k] > w->clocks.fenced[k]) w->clocks.fenced[k] = w->clocks.seen[k];
        tick(s, wi);
        break;
    case O_CPCOMMIT: w->copy_group++; break;
    case O_CPWAIT: copies_wait(s, wi, I->x); break;
    case O_WGFENCE: w->register_fence = s->step; w->fenced = 1; break;
    case O_WGCOMMIT: w->commits++; break;
    case O_WGWAIT: products_wait(s, wi, I->x); break;
    case O_MBINIT:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            i64 at = (i64)(i32)(u32)d[i] + I->x;
            if (at % 8) { stop(s, K_SHARED_ALIGN, pc, wi, at, 8, 0); return; }
            if (!inside(s, at, 8, pc, wi)) return;
            mbarrier_init(s, wi, pc, at, (int)(u32)a[i]);
        }
        break;
    case O_MBINVAL:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            Mbarrier *b = mbarrier_at(s, (i64)(i32)(u32)d[i] + I->x, pc, wi);
            if (!b) return;
            b->used = 0;
        }
        break;
    case O_MBARRIVE:
        /* operands: address, count or bytes; y: arrives, z: the operand is a number of bytes to expect */
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            Mbarrier *b = mbarrier_at(s, (i64)(i32)(u32)d[i] + I->x, pc, wi);
            if (!b) return;
            if (I->z) b->bytes += (u32)a[i];
            if (I->y) {
                b->pending -= I->z ? 1 : (i32)a[i];
                join(&b->now, &w->clocks);
                if (b->pending < 0) { stop(s, K_MBARRIER, pc, wi, b->address, 8, b->pending); return; }
            }
            mbarrier_try(s, b);
        }
        tick(s, wi);
        break;
    case O_MBWAIT: {
        /* operands: the predicate, the address, the parity. The warp stays here until the phase is over. */
        w->waits_address = (i64)(i32)(u32)a[leader] + I->x;
        w->waits_phase = b[leader] & 1;
        if (!mbarrier_at(s, w->waits_address, pc, wi)) return;
        if (!mbarrier_passed(s, wi)) { w->state = AT_MBARRIER; return; }
        EACH(1);
    } break;
    default: exec_bulk(s, wi, pc, m);
    }
}

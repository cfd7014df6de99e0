/* One instruction of one warp, and the order of warps. */

static u64 draw(Machine *s) {
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}
static void go_to(Warp *w, u32 m, int target) {
    if (w->uniform) { w->pc = target; return; }
    for (int i = 0; i < 32; i++) if (m >> i & 1) w->pcs[i] = target;
    int at = -1, same = 1;
    for (int i = 0; i < 32 && same; i++) if (w->live >> i & 1) {
        if (at < 0) at = w->pcs[i];
        else same = at == w->pcs[i];
    }
    if (same && at >= 0) { w->uniform = 1; w->pc = at; }
}
static void split(Warp *w) {
    if (!w->uniform) return;
    w->uniform = 0;
    for (int i = 0; i < 32; i++) w->pcs[i] = w->pc;
}
static void ended(Machine *s, int wi) {
    s->warp[wi].state = ENDED;
    for (int id = 0; id < 16; id++) barrier_try(s, id);
}
static void step_warp(Machine *s, int wi) {
    Warp *w = &s->warp[wi];
    int pc = w->pc;
    u32 m = w->live;
    if (!w->uniform) {
        /* Diverged lanes: the ones that are furthest behind go first, so that they meet again where paths do. */
        pc = 1 << 30;
        for (int i = 0; i < 32; i++) if (w->live >> i & 1 && w->pcs[i] < pc) pc = w->pcs[i];
        m = 0;
        for (int i = 0; i < 32; i++) if (w->live >> i & 1 && w->pcs[i] == pc) m |= 1u << i;
    }
    if (pc >= s->code_size) {
        w->live &= ~m;
        if (!w->live) ended(s, wi);
        return;
    }
    const Instruction *I = &s->code[pc];
    u32 active = m;
    s->executed[pc]++;
    s->total++;
    s->step++;
    if (I->pred >= 0) {
        const u64 *p = REGISTER(wi, I->pred);
        u32 k = 0;
        for (int i = 0; i < 32; i++) k |= (u32)((p[i] != 0) != I->negated) << i;
        active &= k;
    }
    if (w->issued && active && s->register_busy && I->op != O_WGMMA) {
        const i32 *o = s->operands + I->first, *busy = s->register_busy + (size_t)wi * s->register_count;
        for (int j = 0; j < I->count; j++) if (busy[o[j]]) {
            clash(s, K_REGISTER_BUSY, pc, wi, s->product_pc[wi / 4], wi, o[j]);
            break;
        }
    }
    if (s->register_access && active && I->op != O_WGMMA) {
        /* Reading counts as well: the fence orders all accesses before it. */
        const i32 *o = s->operands + I->first;
        for (int j = 0; j < I->count; j++) if (s->register_of_product[o[j]]) {
            size_t k = (size_t)wi * s->register_count + o[j];
            s->register_access[k] = s->step;
            s->register_pc[k] = pc;
        }
    }
    if (I->op < O_LAST_WARP) {
        if (active) {
            if (I->op < O_LAST_INTEGER) exec_integer(s, wi, pc, active);
            else if (I->op < O_LAST_FLOAT) exec_float(s, wi, pc, active);
            else exec_warp(s, wi, pc, active);
        }
        go_to(w, m, pc + 1);
        return;
    }
    switch (I->op) {
    case O_BRA:
        if (active == m) { go_to(w, m, I->x); return; }
        if (!active) { go_to(w, m, pc + 1); return; }
        split(w);
        for (int i = 0; i < 32; i++) if (m >> i & 1) w->pcs[i] = active >> i & 1 ? I->x : pc + 1;
        go_to(w, 0, 0);
        return;
    case O_BRX: {
        const i32 *o = s->operands + I->first;
        const u64 *index = REGISTER(wi, o[0]);
        split(w);
        for (int i = 0; i < 32; i++) if (m >> i & 1) w->pcs[i] = active >> i & 1 && index[i] < (u64)I->n ? o[1 + index[i]] : pc + 1;
        go_to(w, 0, 0);
        return;
    }
    case O_RET:
        if (active) {
            if (active != w->live) split(w);
            w->live &= ~active;
            if (!w->live) { ended(s, wi); return; }
        }
        go_to(w, m & ~active, pc + 1);
        return;
    case O_TRAP:
        if (active) { stop(s, K_TRAP, pc, wi, 0, 0, 0); return; }
        break;
    case O_BAR: case O_ARRIVE: {
        /* x: the barrier, or y its register, z: threads, n: their number is in a register */
        const i32 *o = s->operands + I->first;
        if (active && active != w->live) clash(s, K_DIVERGENT, pc, wi, -1, NOBODY, active);
        if (!active) break;
        int id = I->y ? (int)REGISTER(wi, o[0])[__builtin_ctz(active)] : I->x;
        if (id < 0 || id > 15) { stop(s, K_UNKNOWN, pc, wi, id, 0, 2); return; }
        go_to(w, m, pc + 1);
        barrier_join(s, wi, id, I->z, I->op == O_BAR);
        return;
    }
    case O_WGMMA: {
        int g = wi / 4, all = 1;
        if (active != w->live || active != 0xffffffffu) { stop(s, K_MASKED, pc, wi, active, 0, w->live); return; }
        if (4 * g + 4 > s->warps) { stop(s, K_UNKNOWN, pc, wi, s->warps, 0, 3); return; }
        w->state = AT_PRODUCT;
        for (int k = 4 * g; k < 4 * g + 4; k++) if (s->warp[k].state != AT_PRODUCT) all = 0;
        if (!all) return;
        for (int k = 4 * g; k < 4 * g + 4; k++) if (s->warp[k].pc != pc) { stop(s, K_DEADLOCK, pc, k, s->warp[k].pc, 0, 1); return; }
        product_issue(s, g, pc);
        for (int k = 4 * g; k < 4 * g + 4; k++) { s->warp[k].state = RUNNING; s->warp[k].pc = pc + 1; }
        return;
    }
    case O_MMA:
        if (active) exec_mma(s, wi, pc, active);
        break;
    default:
        if (active) {
            if (I->op < O_LAST_MEMORY) exec_memory(s, wi, pc, active); else exec_order(s, wi, pc, active);
            /* A wait on an mbarrier that is not over is tried again. */
            if (w->state == AT_MBARRIER) return;
        }
    }
    go_to(w, m, pc + 1);
}

static void program_start(Machine *s) {
    s->epoch = 1;
    s->step = 0;
    s->total = 0;
    s->stopped = 0;
    s->mbarrier_count = s->bulk_count = 0;
    s->random = s->random_start + (u64)s->cta * 0x9e3779b97f4a7c15ull;
    if (!s->random) s->random = 88172645463325252ull;
    memset(s->barriers, 0, sizeof s->barriers);
    memset(s->mbarriers, 0, sizeof s->mbarriers);
    for (int i = 0; i < s->warps; i++) {
        Copy *copies = s->warp[i].copies;
        int capacity = s->warp[i].copy_capacity;
        s->warp[i] = (Warp){.live = 0xffffffffu, .uniform = 1, .copies = copies, .copy_capacity = capacity};
        s->warp[i].clocks.seen[i] = 1;
    }
    memset(s->product_count, 0, sizeof s->product_count);
    memset(s->shared, s->fill, s->shared_size);
    if (s->local_size) memset(s->local, s->fill, (size_t)s->warps * 32 * s->local_size);
    if (s->acquired) memset(s->acquired, 0, s->cta_count * sizeof(u32));
    if (!s->check) return;
    memset(s->shadow, 0, s->shared_size * sizeof(SharedByte));
    for (int g = 0; g < MAX_GROUPS; g++) if (s->product_read[g]) memset(s->product_read[g], 0, s->shared_size * sizeof(i32));
    if (s->register_access) memset(s->register_access, 0, sizeof(u32) * s->warps * s->register_count);
    if (s->register_busy) memset(s->register_busy, 0, sizeof(i32) * s->warps * s->register_count);
}
/* Policies: 0 round robin by instruction, 1 the first warp until it waits, 2 the last one, 3 and 4 random turns, short and long. */
static void program_run(Machine *s) {
    int next = 0;
    program_start(s);
    while (!s->stopped) {
        int ready[MAX_WARPS], n = 0, over = 1, polling = 0;
        for (int i = 0; i < s->warps; i++) {
            Warp *w = &s->warp[i];
            if (w->state == AT_MBARRIER && mbarrier_passed(s, i)) w->state = RUNNING;
            if (w->state == RUNNING) ready[n++] = i;
            if (w->state == AT_MBARRIER) polling = 1;
            if (w->state != ENDED) over = 0;
        }
        if (over) break;
        if (!n) {
            if (polling && bulk_advance(s)) continue;
            int first = 0;
            while (s->warp[first].state == ENDED) first++;
            stop(s, K_DEADLOCK, s->warp[first].uniform ? s->warp[first].pc - (s->warp[first].state == AT_BARRIER) : -1, first, 0, 0, 0);
            break;
        }
        int wi, turn;
        if (s->policy == 0) {
            int j = 0;
            while (j < n && ready[j] < next) j++;
            wi = ready[j < n ? j : 0];
            next = (wi + 1) % s->warps;
            turn = 1;
        } else if (s->policy == 1) { wi = ready[0]; turn = 1 << 30; }
        else if (s->policy == 2) { wi = ready[n - 1]; turn = 1 << 30; }
        else { wi = ready[draw(s) % n]; turn = 1 + (int)(draw(s) % (s->policy == 3 ? 16 : 256)); }
        while (turn-- && s->warp[wi].state == RUNNING && !s->stopped) {
            step_warp(s, wi);
            if (s->total > s->step_limit) stop(s, K_STEPS, s->warp[wi].pc, wi, s->total, 0, 0);
        }
    }
    /* What was ordered and not waited for happens all the same, but stores of TMA must have been waited for. */
    for (int i = 0; i < s->bulk_count && !s->stopped; i++) {
        Bulk q = s->bulks[i];
        if (q.load) continue;
        if (s->check) clash(s, K_BULK_EXIT, q.pc, q.warp, -1, NOBODY, q.shared);
        bulk_finish(s, &q);
    }
}

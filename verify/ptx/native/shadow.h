/* What is known of every byte, and the rules that follow from it.

   Two accesses of one byte by two warps are ordered if a chain of barriers lies between them: vector clocks say so. Between
   two barriers that all warps of the program pass, readers of a byte are a mask; their clocks are kept only where a
   program has barriers of some warps only. Writes of the bits that a byte holds already are no conflict: several warps
   write replicated layouts. */

static void report(Machine *s, Event e) {
    for (int i = 0; i < s->event_count; i++)
        if (s->events[i].kind == e.kind && s->events[i].pc == e.pc && s->events[i].other_pc == e.other_pc) { s->events[i].count++; return; }
    if (s->event_count == s->event_capacity) return;
    e.cta = s->cta;
    e.count = 1;
    s->events[s->event_count++] = e;
}
static void stop(Machine *s, int kind, int pc, int warp, i64 address, int size, i64 extra) {
    if (s->stopped) return;
    s->stopped = kind;
    report(s, (Event){.kind = kind, .pc = pc, .warp = warp, .other_pc = -1, .other_warp = NOBODY, .address = address, .size = size, .extra = extra, .other_cta = -1});
}
static void clash(Machine *s, int kind, int pc, int warp, int other_pc, int other_warp, i64 address) {
    report(s, (Event){.kind = kind, .pc = pc, .warp = warp, .other_pc = other_pc, .other_warp = other_warp, .address = address, .size = 1, .other_cta = -1});
}

static void tick(Machine *s, int w) { s->warp[w].clocks.seen[w]++; }
static void join(Clocks *into, const Clocks *from) {
    for (int i = 0; i < AGENTS; i++) if (from->seen[i] > into->seen[i]) into->seen[i] = from->seen[i];
    for (int i = 0; i < MAX_WARPS; i++) if (from->fenced[i] > into->fenced[i]) into->fenced[i] = from->fenced[i];
    for (int i = 0; i < MAX_GROUPS; i++) if (from->drained[i] > into->drained[i]) into->drained[i] = from->drained[i];
}

/* Shared memory. */
static int inside(Machine *s, i64 a, int n, int pc, int w) {
    if (a >= 0 && a + n <= s->shared_size) return 1;
    stop(s, K_SHARED_BOUNDS, pc, w, a, n, s->shared_size);
    return 0;
}
static void shared_read(Machine *s, i64 a, int n, int pc, int w) {
    if (!s->check) return;
    const u32 *seen = s->warp[w].clocks.seen;
    u32 me = 1u << w;
    for (i64 at = a; at < a + n; at++) {
        SharedByte *b = &s->shadow[at];
        if (b->written) {
            if (b->writer != w && b->write_clock > seen[b->writer] && !(b->writers & me))
                clash(s, b->writer >= OF_MBARRIER ? K_BULK_FLIGHT : K_SHARED_RAW, pc, w, b->write_pc, b->writer, at);
        } else if (!b->copies && !b->bulk_pending) clash(s, K_UNWRITTEN, pc, w, -1, NOBODY, at);
        if (b->copies) clash(s, K_COPY_READ, pc, w, b->copy_pc, b->copier, at);
        if (b->bulk_pending) clash(s, K_BULK_FLIGHT, pc, w, b->bulk_pc, NOBODY, at);
        if (b->read_epoch != s->epoch) { b->read_epoch = s->epoch; b->readers = 0; }
        b->readers |= me;
        b->read_pc = pc;
        if (s->partial) s->read_clock[at * s->warps + w] = seen[w];
    }
}
/* Rules for a byte that is to change. */
static void overwritten(Machine *s, SharedByte *b, i64 at, int pc, int w) {
    const Clocks *mine = &s->warp[w].clocks;
    u32 others = b->read_epoch == s->epoch ? b->readers & ~(1u << w) : 0;
    if (others && s->partial)
        for (int r = 0; r < s->warps; r++)
            if (others >> r & 1 && s->read_clock[at * s->warps + r] <= mine->seen[r]) others &= ~(1u << r);
    if (others) clash(s, K_SHARED_WAR, pc, w, b->read_pc, __builtin_ctz(others), at);
    for (int g = 0; g * 4 < s->warps; g++) {
        i32 group = s->product_read[g] ? s->product_read[g][at] : 0;
        if (group > mine->drained[g]) {
            /* To its own warpgroup, what a warp has not waited for is in flight. */
            int flying = w / 4 == g, product = s->product_pc[g];
            for (int i = 0; i < s->product_count[g]; i++)
                if (s->products[g][i].group + 1 == group) { flying = 1; product = s->products[g][i].pc; }
            clash(s, flying ? K_OPERAND_FLIGHT : K_OPERAND_ORDER, pc, w, flying ? product : s->product_pc[g], g * 4, at);
        }
    }
    if (b->bulk_read > mine->seen[OF_BULK + b->bulk_reader]) clash(s, K_BULK_FLIGHT, pc, w, b->bulk_pc, b->bulk_reader, at);
}
/* From this value of `check` on, equal bits are no excuse. */
#define STRICT 2
static void shared_write(Machine *s, i64 a, int n, const u8 *value, int pc, int w, int copy) {
    if (!s->check) return;
    const u32 *seen = s->warp[w].clocks.seen;
    for (i64 at = a; at < a + n; at++) {
        SharedByte *b = &s->shadow[at];
        int same = s->check < STRICT && s->shared[at] == value[at - a] && b->written;
        if (!same && b->written && b->writer != w && b->write_clock > seen[b->writer])
            clash(s, K_SHARED_WAW, pc, w, b->write_pc, b->writer, at);
        if (!same || copy) overwritten(s, b, at, pc, w);
        if (b->copies && !copy) clash(s, K_COPY_WRITE, pc, w, b->copy_pc, b->copier, at);
        if (b->bulk_pending) clash(s, K_BULK_FLIGHT, pc, w, b->bulk_pc, NOBODY, at);
    }
}
/* The bytes hold `value` from now on, as a write of warp w; `same` bits leave the byte to its first writer. */
static void shared_set(Machine *s, i64 a, int n, const u8 *value, int pc, int w) {
    if (s->check) {
        u32 clock = s->warp[w].clocks.seen[w];
        for (i64 at = a; at < a + n; at++) {
            SharedByte *b = &s->shadow[at];
            if (s->check < STRICT && b->written && s->shared[at] == value[at - a] && b->writer != w) { b->writers |= 1u << w; continue; }
            b->write_clock = clock;
            b->write_pc = pc;
            b->writer = (i16)w;
            b->writers = 1u << w;
            b->written = b->generic = 1;
        }
    }
    memcpy(s->shared + a, value, n);
}

/* Global memory. Programs are run one after another, but have no order unless atomics make one. */
static Tensor *tensor_at(Machine *s, u64 a, int n, int pc, int w) {
    i64 i = (i64)((a - 0x700000000000ull) >> 36) - 1;
    if (a < 0x700000000000ull || i < 0 || i >= s->tensor_count) { stop(s, K_WILD, pc, w, (i64)a, n, 0); return 0; }
    Tensor *t = &s->tensors[i];
    if (a < t->base || a + n > t->base + t->size) { stop(s, K_GLOBAL_BOUNDS, pc, w, (i64)(a - t->base), n, i); return 0; }
    return t;
}
static int after(Machine *s, i32 cta, u32 step) { return s->acquired && s->acquired[cta] >= step; }
static void global_clash(Machine *s, int kind, int pc, int w, const GlobalByte *g, int read, const Tensor *t, u64 at) {
    int cta = read ? g->reader_cta : g->writer_cta;
    report(s, (Event){.kind = kind, .pc = pc, .warp = w, .other_pc = read ? (i32)g->read_pc : (i32)g->write_pc,
        .other_warp = cta - 1 == s->cta && !read ? g->writer : NOBODY, .address = (i64)at, .size = 1, .extra = t - s->tensors, .other_cta = cta - 1});
}
static void global_read(Machine *s, Tensor *t, u64 at, int n, int pc, int w, int strong) {
    if (!s->check || !t->shadow) return;
    for (u64 i = at; i < at + n; i++) {
        GlobalByte *g = &t->shadow[i];
        if (g->writer_cta && !(strong && g->atomic)) {
            if (g->writer_cta != s->cta + 1) { if (!after(s, g->writer_cta - 1, g->write_step)) global_clash(s, K_GLOBAL_RAW, pc, w, g, 0, t, i); }
            else if (g->writer != w && g->write_clock > s->warp[w].clocks.seen[g->writer]) global_clash(s, K_GLOBAL_RAW, pc, w, g, 0, t, i);
        }
        if (g->reader_cta && g->reader_cta != s->cta + 1 && !after(s, g->reader_cta - 1, g->read_step)) g->several = 1;
        g->reader_cta = s->cta + 1;
        g->read_step = s->step;
        g->read_pc = pc;
    }
}
static void global_write(Machine *s, Tensor *t, u64 at, int n, const u8 *value, int pc, int w, int atomic) {
    if (!s->check || !t->shadow) return;
    for (u64 i = at; i < at + n; i++) {
        GlobalByte *g = &t->shadow[i];
        int same = t->bytes[i] == value[i - at], both = atomic && g->atomic;
        if (g->writer_cta && !same && !both) {
            if (g->writer_cta != s->cta + 1) { if (!after(s, g->writer_cta - 1, g->write_step)) global_clash(s, K_GLOBAL_WAW, pc, w, g, 0, t, i); }
            else if (g->writer != w && g->write_clock > s->warp[w].clocks.seen[g->writer]) global_clash(s, K_GLOBAL_WAW, pc, w, g, 0, t, i);
        }
        if (g->reader_cta && !same && !atomic && (g->reader_cta != s->cta + 1 || g->several) && !after(s, g->reader_cta - 1, g->read_step))
            global_clash(s, K_GLOBAL_WAR, pc, w, g, 1, t, i);
        if (same && g->writer_cta && g->writer_cta != s->cta + 1 && !atomic) continue;
        g->writer_cta = s->cta + 1;
        g->write_step = s->step;
        g->write_clock = s->warp[w].clocks.seen[w];
        g->write_pc = pc;
        g->writer = (i16)w;
        g->atomic = atomic;
        if (g->reader_cta == s->cta + 1) g->several = 0;
    }
}
/* An atomic that acquires and releases: what its predecessors at this address had done is ordered before what follows. */
static void global_order(Machine *s, u64 address) {
    if (s->cta_count <= 1) return;
    if (!s->acquired) s->acquired = calloc(s->cta_count, sizeof(u32));
    SyncPlace *p = 0;
    for (int i = 0; i < s->place_count; i++) if (s->places[i].address == address) p = &s->places[i];
    if (!p) {
        if (s->place_count == s->place_capacity) {
            s->place_capacity = s->place_capacity * 2 + 16;
            s->places = realloc(s->places, s->place_capacity * sizeof(SyncPlace));
        }
        p = &s->places[s->place_count++];
        p->address = address;
        p->released = calloc(s->cta_count, sizeof(u32));
    }
    for (int i = 0; i < s->cta_count; i++) {
        if (p->released[i] > s->acquired[i]) s->acquired[i] = p->released[i];
        if (s->acquired[i] > p->released[i]) p->released[i] = s->acquired[i];
    }
    p->released[s->cta] = s->step;
}

/* Counts: sectors of 32 bytes that a warp's access of global memory touches, and their different bytes that it asks for;
   passes over the banks of shared memory. */
static void count_sectors(Machine *s, const u64 *a, u32 m, int n, int store) {
    u64 sectors[160];
    u32 used[160];
    int found = 0, active = 0;
    if (!s->count_traffic) return;
    for (int l = 0; l < 32; l++) if (m >> l & 1) {
        active++;
        for (u64 x = a[l] >> 5; x <= (a[l] + n - 1) >> 5; x++) {
            u64 first = a[l] > x << 5 ? a[l] : x << 5, end = a[l] + n < (x + 1) << 5 ? a[l] + n : (x + 1) << 5;
            int j = found - 1;
            while (j >= 0 && sectors[j] != x) j--;
            if (j < 0) { if (found == 160) continue; j = found++; sectors[j] = x; used[j] = 0; }
            used[j] |= (u32)((((u64)1 << (end - first)) - 1) << (first & 31));
        }
    }
    s->traffic[store * 2] += (u64)active * n;
    s->traffic[store * 2 + 1] += found;
    for (int j = 0; j < found; j++) s->traffic[12 + store] += __builtin_popcount(used[j]);
}
static void count_passes(Machine *s, const i64 *a, u32 m, int n, int store, int lanes) {
    if (!s->count_traffic) return;
    int per = n <= 4 ? 32 : n == 8 ? 16 : 8;
    for (int first = 0; first < lanes; first += per) {
        u32 words[32][32];
        int used[32] = {0}, any = 0, most = 0;
        for (int l = first; l < first + per && l < lanes; l++) if (m >> l & 1) {
            any = 1;
            for (i64 x = a[l] >> 2; x <= (a[l] + n - 1) >> 2; x++) {
                int bank = x & 31, known = 0;
                for (int j = 0; j < used[bank] && !known; j++) known = words[bank][j] == (u32)x;
                if (!known) { words[bank][used[bank]++] = (u32)x; if (used[bank] > most) most = used[bank]; }
            }
        }
        s->traffic[4 + store * 2] += any;
        s->traffic[4 + store * 2 + 1] += most;
    }
}

/* Exact arithmetic in place of floats: the ring of specs/arithmetic/field.py, F_p x Z_q, so that a program's results may be compared
   by equality. Everything else of the engine is as it is.

   An fp32 word holds the F_p part in its upper half, so that its upper half is its bf16, here as among floats: what converts by
   shifting bits converts here, too. Its lower half is the Z_q part and 1, or 0 where there is none: what went through 16 bits or a
   tensor core has lost it, and has no exponential. An upper half of PRIME or more is no element: -inf has its own bits, and all
   others are absorbing, poison among them. PRIME, ORDER and BASE come with the command that compiles this. */

#define MINUS_INFINITY 0xff800000u
#define OUTSIDE 0xffc00000u

static u16 powers[ORDER];
static __attribute__((constructor)) void powers_fill(void) {
    for (u32 i = 0, power = 1; i < ORDER; i++, power = power * BASE % PRIME) powers[i] = (u16)power;
}
static inline int is_element(u32 x) { return x >> 16 < PRIME; }
/* Of 0 the Z_q part is known, however it came about. */
static inline int is_whole(u32 x) { return (x & 0xffff) || !x; }
static inline u32 exponent(u32 x) { return x ? (x & 0xffff) - 1 : 0; }
static inline u32 ring_word(u64 f, int whole, u64 z) { return (u32)(f % PRIME) << 16 | (whole ? (u32)(z % ORDER) + 1 : 0); }
static inline u32 ring_sum(u32 x, u32 y) {
    if (is_element(x) && is_element(y))
        return ring_word((x >> 16) + (y >> 16), is_whole(x) && is_whole(y), exponent(x) + exponent(y));
    int infinite = (is_element(x) || x == MINUS_INFINITY) && (is_element(y) || y == MINUS_INFINITY);
    return infinite ? MINUS_INFINITY : OUTSIDE;
}
static inline int is_zero(u32 x) { return x < 2; }
static inline u32 ring_product(u32 x, u32 y) {
    if (is_element(x) && is_element(y))
        return is_zero(x) || is_zero(y) ? 0
            : ring_word((u64)(x >> 16) * (y >> 16), is_whole(x) && is_whole(y), (u64)exponent(x) * exponent(y));
    int infinite = (x == MINUS_INFINITY && is_element(y) && !is_zero(y)) || (y == MINUS_INFINITY && is_element(x) && !is_zero(x));
    return infinite ? MINUS_INFINITY : OUTSIDE;
}
static inline u32 ring_negative(u32 x) {
    return is_element(x) ? ring_word(PRIME - (x >> 16), is_whole(x), ORDER - exponent(x)) : OUTSIDE;
}
/* The Z_q part of an exponential is only to differ where its argument does: exp of exp is no homomorphism. */
static inline u32 ring_exponential(u32 x) {
    if (!is_element(x)) return x == MINUS_INFINITY ? 0 : OUTSIDE;
    return ring_word(powers[exponent(x)], 1, (x * 0x9e3779b1u) >> 16);
}
/* 0 x + y, 1 x - y, 2 x y, 3 x y + z, 6 -x: as `HALF` numbers them. */
static inline u32 ring_result(int how, u32 x, u32 y, u32 z) {
    return how == 0 ? ring_sum(x, y) : how == 1 ? ring_sum(x, ring_negative(y)) : how == 2 ? ring_product(x, y)
        : how == 3 ? ring_sum(ring_product(x, y), z) : ring_negative(x);
}

static void exact_float(Machine *s, int wi, int pc, u32 m) {
    OPERANDS
    const int from = I->x, simple = !I->z && !I->w;
    if (I->op == O_CVT && from < T_F16 && t < T_F16) { exec_float(s, wi, pc, m); return; }
    switch (I->z ? O_END : I->op) {  /* no element saturates */
    case O_FADD: case O_FSUB: case O_FMUL: case O_FMA: EACH(ring_result(I->op - O_FADD, (u32)a[i], (u32)b[i], (u32)c[i])); return;
    case O_EX2:
        for (int i = 0; i < 32; i++) if (m >> i & 1 && is_element((u32)a[i]) && !is_whole((u32)a[i])) goto unknown;
        EACH(ring_exponential((u32)a[i]));
        return;
    case O_FNEG:
        if (t != T_F32) break;
        EACH(ring_negative((u32)a[i]));
        return;
    case O_HALF:
        if (!simple || (I->x > 3 && I->x != 6)) break;
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u32 x = (u32)a[i], y = (u32)b[i], z = (u32)c[i], upper = 0xffff0000u;
            u32 low = ring_result(I->x, x << 16, y << 16, z << 16) >> 16;
            d[i] = B == 16 ? low : low | (ring_result(I->x, x & upper, y & upper, z & upper) & upper);
        }
        return;
    case O_CVT:
        if (!simple || from < T_F16 || t < T_F16 || (I->y && I->y < 5)) break;
        if (bits_of(from) == B) EACH(a[i]); else if (B == 16) EACH((u32)a[i] >> 16); else EACH((u64)(u32)a[i] << 16);
        return;
    case O_CVTPACK:
        if (!simple) break;
        EACH(((u32)a[i] & 0xffff0000u) | (u32)b[i] >> 16);
        return;
    }
unknown:
    stop(s, K_UNKNOWN, pc, wi, 0, 0, 0);
}
#define exec_float exact_float

/* Tensor cores take F_p parts, which a double holds and sums exactly; what is no element is NaN. A product has no Z_q part. */
static inline double ring_to_double(u32 f) { return f < PRIME ? f : NAN; }
static inline u32 double_to_ring(double x) {
    i64 v = x == x ? (i64)x % (i64)PRIME : 0;
    return x == x ? (u32)(v < 0 ? v + PRIME : v) : OUTSIDE >> 16;
}
#define float double
#define bf16_to_float(x) ring_to_double((x) & 0xffff)
#define half_to_float(x) ring_to_double((x) & 0xffff)
#define as_float(x) ring_to_double((u32)(x) >> 16)
#define float_to_half(x) double_to_ring(x)
#define of_float(x) ((u64)double_to_ring(x) << 16)

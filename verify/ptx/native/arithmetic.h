/* Instructions that touch registers only. Slots hold values zero-extended to 64 bits. */

#define EACH(expression) \
    do { \
        if (m == 0xffffffffu) for (int i = 0; i < 32; i++) d[i] = (expression); \
        else for (int i = 0; i < 32; i++) if (m >> i & 1) d[i] = (expression); \
    } while (0)
#define OPERAND(k) (row + (size_t)o[k] * 32)
#define OPERANDS \
    const Instruction *I = &s->code[pc]; \
    const i32 *o = s->operands + I->first; \
    u64 *row = s->registers + (size_t)wi * s->register_count * 32; \
    const int t = I->type, B = bits_of(t); (void)B; \
    u64 *d = I->count > 0 ? OPERAND(0) : 0, *a = I->count > 1 ? OPERAND(1) : d, *b = I->count > 2 ? OPERAND(2) : d, \
        *c = I->count > 3 ? OPERAND(3) : d; (void)a; (void)b; (void)c;

static int compared(int code, double x, double y) {
    int unordered = x != x || y != y, k;
    switch (code & 15) {
    case 0: k = !unordered && x == y; break;
    case 1: k = !unordered && x != y; break;
    case 2: k = !unordered && x < y; break;
    case 3: k = !unordered && x <= y; break;
    case 4: k = !unordered && x > y; break;
    case 5: k = !unordered && x >= y; break;
    case 6: k = !unordered; break;
    default: k = unordered;
    }
    return code & 16 ? k | unordered : k;
}
#define COMPARE(code, x, y) \
    ((code) == 0 ? (x) == (y) : (code) == 1 ? (x) != (y) : (code) == 2 ? (x) < (y) : (code) == 3 ? (x) <= (y) : \
     (code) == 4 ? (x) > (y) : (x) >= (y))

static u64 field(u64 value, u32 start, u32 length, int bits, int is_s) {
    start &= 255; length &= 255;
    if (!length) return 0;
    u64 v = start >= (u32)bits ? 0 : cut(value, bits) >> start;
    int sign = 0;
    if (is_s) {
        u32 at = start + length - 1;
        if (at > (u32)bits - 1) at = bits - 1;
        sign = value >> at & 1;
    }
    u32 kept = start >= (u32)bits ? 0 : length < bits - start ? length : bits - start;
    v &= kept >= 64 ? ~0ull : (1ull << kept) - 1;
    if (sign && kept < 64) v |= ~0ull << kept;
    return cut(v, bits);
}
static u64 inserted(u64 from, u64 into, u32 start, u32 length, int bits) {
    start &= 255; length &= 255;
    u64 mask = length >= 64 ? ~0ull : (1ull << length) - 1;
    if (start >= 64) return into;
    mask <<= start;
    return cut((into & ~mask) | (from << start & mask), bits);
}
static u32 permuted(u64 a, u64 b, u32 select, int mode) {
    u64 v = (u32)a | b << 32;
    u32 r = 0;
    if (mode) {
        u32 k = select & 3, pick[4];
        for (u32 j = 0; j < 4; j++)
            pick[j] = mode == 1 ? k + j : mode == 2 ? (k + 8 - j) & 7 : mode == 3 ? k
                    : mode == 4 ? (j > k ? j : k) : mode == 5 ? (j < k ? j : k) : (k & 1) * 2 + (j & 1);
        for (u32 j = 0; j < 4; j++) r |= (u32)(v >> 8 * (pick[j] & 7) & 255) << 8 * j;
        return r;
    }
    for (int k = 0; k < 4; k++) {
        u32 s = select >> 4 * k & 15, byte = v >> 8 * (s & 7) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << 8 * k;
    }
    return r;
}

WIDE static void exec_integer(Machine *s, int wi, int pc, u32 m) {
    OPERANDS
    switch (I->op) {
    case O_MOV: EACH(cut(a[i], I->x)); break;
    case O_SEXT: EACH(cut((u64)extended(a[i], t), I->x)); break;
    case O_UNPACK: {
        u64 v[32];
        memcpy(v, OPERAND(I->x), sizeof v);
        for (int j = 0; j < I->x; j++) {
            u64 *d = OPERAND(j);
            EACH(cut(v[i] >> (I->y * j), I->y));
        }
    } break;
    case O_PACK: {
        u64 v[32] = {0};
        for (int j = 0; j < I->x; j++) {
            const u64 *e = OPERAND(1 + j);
            for (int i = 0; i < 32; i++) v[i] |= cut(e[i], I->y) << (I->y * j);
        }
        EACH(v[i]);
    } break;
    case O_ADD: if (B == 32) EACH((u32)(a[i] + b[i])); else EACH(cut(a[i] + b[i], B)); break;
    case O_SUB: if (B == 32) EACH((u32)(a[i] - b[i])); else EACH(cut(a[i] - b[i], B)); break;
    case O_ADDSAT: EACH(cut((u64)(extended(a[i], t) + extended(b[i], t) > 2147483647ll ? 2147483647ll : extended(a[i], t) + extended(b[i], t) < -2147483648ll ? -2147483648ll : extended(a[i], t) + extended(b[i], t)), B)); break;
    case O_SUBSAT: EACH(cut((u64)(extended(a[i], t) - extended(b[i], t) > 2147483647ll ? 2147483647ll : extended(a[i], t) - extended(b[i], t) < -2147483648ll ? -2147483648ll : extended(a[i], t) - extended(b[i], t)), B)); break;
    case O_MULLO: if (B == 32) EACH((u32)(a[i] * b[i])); else EACH(cut(a[i] * b[i], B)); break;
    case O_MADLO: if (B == 32) EACH((u32)(a[i] * b[i] + c[i])); else EACH(cut(a[i] * b[i] + c[i], B)); break;
    case O_MULWIDE: EACH(cut((u64)extended(a[i], t) * (u64)extended(b[i], t), 2 * B)); break;
    case O_MADWIDE: EACH(cut((u64)extended(a[i], t) * (u64)extended(b[i], t) + c[i], 2 * B)); break;
    case O_MULHI: case O_MADHI:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u64 v = t == T_S64 ? (u64)(((__int128)(i64)a[i] * (i64)b[i]) >> 64)
                  : t == T_U64 ? (u64)(((unsigned __int128)a[i] * b[i]) >> 64)
                  : (u64)(extended(a[i], t) * extended(b[i], t)) >> B;
            d[i] = cut(I->op == O_MADHI ? v + c[i] : v, B);
        }
        break;
    case O_NEG: EACH(cut(-a[i], B)); break;
    case O_ABS: EACH(cut(extended(a[i], t) < 0 ? -a[i] : a[i], B)); break;
    case O_MIN:
        if (is_signed(t)) EACH(extended(a[i], t) < extended(b[i], t) ? a[i] : b[i]); else EACH(a[i] < b[i] ? a[i] : b[i]);
        break;
    case O_MAX:
        if (is_signed(t)) EACH(extended(a[i], t) > extended(b[i], t) ? a[i] : b[i]); else EACH(a[i] > b[i] ? a[i] : b[i]);
        break;
    case O_DIV: case O_REM:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            int rem = I->op == O_REM;
            if (is_signed(t)) {
                i64 x = extended(a[i], t), y = extended(b[i], t);
                if (!y) d[i] = cut(rem ? (u64)x : ~0ull, B);
                else if (y == -1) d[i] = rem ? 0 : cut(-(u64)x, B);
                else d[i] = cut((u64)(rem ? x % y : x / y), B);
            } else {
                u64 x = cut(a[i], B), y = cut(b[i], B);
                d[i] = !y ? cut(rem ? x : ~0ull, B) : rem ? x % y : x / y;
            }
        }
        break;
    case O_AND: EACH(a[i] & b[i]); break;
    case O_OR: EACH(a[i] | b[i]); break;
    case O_XOR: EACH(a[i] ^ b[i]); break;
    case O_NOT: if (t == T_PRED) EACH(!a[i]); else EACH(cut(~a[i], B)); break;
    case O_CNOT: EACH(!cut(a[i], B)); break;
    case O_SHL: EACH((u32)b[i] >= (u32)B ? 0 : cut(a[i] << (b[i] & 63), B)); break;
    case O_SHR:
        if (is_signed(t)) EACH(cut((u64)(extended(a[i], t) >> ((u32)b[i] >= (u32)B ? B - 1 : (int)(b[i] & 63))), B));
        else EACH((u32)b[i] >= (u32)B ? 0 : cut(a[i], B) >> (b[i] & 63));
        break;
    case O_SHF:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u32 n = (u32)c[i];
            n = I->y ? n & 31 : n > 32 ? 32 : n;
            u64 v = b[i] << 32 | (u32)a[i];
            d[i] = (u32)(I->x ? v << n >> 32 : v >> n);
        }
        break;
    case O_BFE: EACH(field(a[i], (u32)b[i], (u32)c[i], B, is_signed(t))); break;
    case O_BFI: { const u64 *e = OPERAND(4); EACH(inserted(a[i], b[i], (u32)c[i], (u32)e[i], B)); } break;
    case O_BFIND:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u64 v = cut(a[i], B);
            if (is_signed(t) && extended(a[i], t) < 0) v = cut(~v, B);
            d[i] = !v ? 0xffffffffu : (u32)(I->x ? B - 1 - (63 - __builtin_clzll(v)) : 63 - __builtin_clzll(v));
        }
        break;
    case O_POPC: EACH((u64)__builtin_popcountll(cut(a[i], B))); break;
    case O_CLZ: EACH((u64)(cut(a[i], B) ? __builtin_clzll(cut(a[i], B)) - (64 - B) : B)); break;
    case O_BREV:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u64 v = 0;
            for (int k = 0; k < B; k++) v |= (a[i] >> k & 1) << (B - 1 - k);
            d[i] = v;
        }
        break;
    case O_PRMT: EACH(permuted(a[i], b[i], (u32)c[i], I->x)); break;
    case O_LOP3:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u32 x = (u32)a[i], y = (u32)b[i], z = (u32)c[i], r = 0;
            for (int k = 0; k < 8; k++) if (I->x >> k & 1) r |= (k & 4 ? x : ~x) & (k & 2 ? y : ~y) & (k & 1 ? z : ~z);
            d[i] = r;
        }
        break;
    case O_SELP: EACH(c[i] ? a[i] : b[i]); break;
    case O_SLCT: if (I->x) EACH(as_float(c[i]) >= 0 ? a[i] : b[i]); else EACH((i32)c[i] >= 0 ? a[i] : b[i]); break;
    case O_SAD: EACH(cut((extended(a[i], t) < extended(b[i], t) ? (u64)(extended(b[i], t) - extended(a[i], t)) : (u64)(extended(a[i], t) - extended(b[i], t))) + c[i], B)); break;
    case O_DP4A:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            i32 sum = (i32)c[i];
            for (int k = 0; k < 4; k++) {
                i32 x = I->x ? (i8)(a[i] >> 8 * k) : (u8)(a[i] >> 8 * k), y = I->y ? (i8)(b[i] >> 8 * k) : (u8)(b[i] >> 8 * k);
                sum += x * y;
            }
            d[i] = (u32)sum;
        }
        break;
    case O_CARRY: {
        /* x: 0 a + b, 1 a - b, 2 low and 3 high half of a product, plus c; y: with the carry, z: and leave one; last the carry */
        u64 *carry = OPERAND(I->count - 1);
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u64 x = cut(a[i], B), y = cut(b[i], B), in = I->y ? carry[i] : 0;
            unsigned __int128 sum;
            if (I->x == 1) sum = (unsigned __int128)x - y - in;
            else if (I->x == 0) sum = (unsigned __int128)x + y + in;
            else {
                u64 half = cut((u64)(I->x == 2 ? x * y : t == T_S64 ? (u64)(((__int128)(i64)x * (i64)y) >> 64)
                    : t == T_U64 ? (u64)(((unsigned __int128)x * y) >> 64) : (u64)(extended(x, t) * extended(y, t)) >> B), B);
                sum = (unsigned __int128)half + cut(c[i], B) + in;
            }
            d[i] = cut((u64)sum, B);
            if (I->z) carry[i] = (u64)(sum >> B) & 1;
        }
    } break;
    case O_SETP: {
        /* operands: p, a, b, then the other predicate and the predicate that holds the opposite, where there are such */
        u64 r[32];
        int at = 3;
        if (t >= T_F16) {
            for (int i = 0; i < 32; i++) {
                if (t == T_F32) r[i] = compared(I->x, as_float(a[i]), as_float(b[i]));
                else r[i] = compared(I->x, to_real(a[i], t), to_real(b[i], t));
            }
        } else if (is_signed(t)) {
            for (int i = 0; i < 32; i++) { i64 x = extended(a[i], t), y = extended(b[i], t); r[i] = COMPARE(I->x, x, y); }
        } else {
            for (int i = 0; i < 32; i++) { u64 x = cut(a[i], B), y = cut(b[i], B); r[i] = COMPARE(I->x, x, y); }
        }
        u64 opposite[32];
        for (int i = 0; i < 32; i++) opposite[i] = !r[i];
        if (I->y) {
            const u64 *e = OPERAND(at++);
            for (int i = 0; i < 32; i++) {
                u64 other = I->z ? !e[i] : !!e[i];
                r[i] = I->y == 1 ? (r[i] && other) : I->y == 2 ? (r[i] || other) : r[i] != other;
                opposite[i] = I->y == 1 ? (opposite[i] && other) : I->y == 2 ? (opposite[i] || other) : opposite[i] != other;
            }
        }
        EACH(r[i]);
        if (I->w) { u64 *d = OPERAND(at); EACH(opposite[i]); }
    } break;
    }
}

#define FTZ(x) (I->v ? flushed(x) : (x))
#define NAN_IF(x, y) ((x) != (x) || (y) != (y))

static inline float saturated(float f) { return f != f || f < 0 ? 0 : f > 1 ? 1 : f; }
static float half_value(u32 x, int type) { return type == T_BF16 ? bf16_to_float(x) : half_to_float(x); }
static u64 half_arithmetic(const Instruction *I, u64 a, u64 b, u64 c) {
    int pair = I->type == T_F16X2 || I->type == T_BF16X2, type = I->type == T_BF16X2 || I->type == T_BF16 ? T_BF16 : T_F16;
    u64 result = 0;
    for (int h = 0; h <= pair; h++) {
        u32 xb = a >> 16 * h & 0xffff, yb = b >> 16 * h & 0xffff, zb = c >> 16 * h & 0xffff, bits;
        float x = half_value(xb, type), y = half_value(yb, type), z = half_value(zb, type), v = 0;
        int exact = 0;
        switch (I->x) {
        case 0: v = odd_fma(x, 1, y); break;
        case 1: v = odd_fma(y, -1, x); break;
        case 2: v = odd_fma(x, y, copysignf(0, x * y)); break;
        case 3: v = odd_fma(x, y, z); break;
        case 4: exact = 1; bits = I->y && NAN_IF(x, y) ? 0x7fff : x != x ? yb : y != y ? xb : x < y || (x == y && signbit(x)) ? xb : yb; break;
        case 5: exact = 1; bits = I->y && NAN_IF(x, y) ? 0x7fff : x != x ? yb : y != y ? xb : x > y || (x == y && !signbit(x)) ? xb : yb; break;
        case 6: exact = 1; bits = xb ^ 0x8000; break;
        case 7: exact = 1; bits = xb & 0x7fff; break;
        case 8: v = exp2f(x); break;
        case 9: v = tanhf(x); break;
        }
        if (!exact) {
            if (I->z && v < 0) v = 0;
            if (I->w) v = v != v || v < 0 ? 0 : v > 1 ? 1 : v;
            bits = type == T_BF16 ? float_to_bf16(v) : float_to_half(v);
        }
        result |= (u64)(bits & 0xffff) << 16 * h;
    }
    return result;
}

/* Modes of rounding: 0 nearest, 1 nearest integer, 2 to zero, 3 down, 4 up; of a float: 5 to zero, 6 away on ties. */
static u64 converted(const Instruction *I, u64 v) {
    int to = I->type, from = I->x, mode = I->y;
    int real_from = from >= T_F16, real_to = to >= T_F16;
    double x = 0;
    if (real_from) {
        x = to_real(v, from);
        if (I->v) x = flushed((float)x);
        if (mode >= 1 && mode <= 4) x = mode == 1 ? rint(x) : mode == 2 ? trunc(x) : mode == 3 ? floor(x) : ceil(x);
    }
    if (real_to) {
        if (!real_from) {
            if (to == T_F32) return of_float(from == T_U64 ? (float)v : (float)extended(v, from));
            x = from == T_U64 ? (double)v : (double)extended(v, from);
        }
        if (I->z) x = x != x || x < 0 ? 0 : x > 1 ? 1 : x;
        if (I->w && x < 0) x = 0;
        float f = from == T_F64 || !real_from ? odd_float(x) : (float)x;
        if (mode == 5 && x == x && isfinite(x)) {
            u32 u = (u32)of_float((float)x);
            if (from == T_F64 && fabs((double)as_float(u)) > fabs(x)) u--;
            if (to == T_F32) return u;
            if (to == T_BF16) return u >> 16;
            if (to == T_TF32) return u & 0xffffe000u;
            if (to == T_F16) {
                u32 h = float_to_half(as_float(u));
                if (fabsf(half_to_float(h)) > fabsf(as_float(u))) h--;
                return h;
            }
        }
        switch (to) {
        case T_F32: return of_float(I->v ? flushed((float)x) : (float)x);
        case T_F64: return of_double(x);
        case T_BF16: return float_to_bf16(f);
        case T_F16: return float_to_half(f);
        default: return float_to_tf32(f, mode == 6);
        }
    }
    int bits = bits_of(to);
    if (real_from) {
        if (x != x) return bits == 64 ? 1ull << 63 : is_signed(to) && bits == 32 ? 0 : 0;
        if (is_signed(to)) {
            double low = -ldexp(1, bits - 1), high = ldexp(1, bits - 1);
            i64 y = x <= low ? (i64)low : x >= high ? (i64)((1ull << (bits - 1)) - 1) : (i64)x;
            return cut((u64)y, I->n);
        }
        return cut(x <= 0 ? 0 : x >= ldexp(1, bits) ? cut(~0ull, bits) : (u64)x, I->n);
    }
    i64 y = extended(v, from);
    if (I->z) {  /* saturating, between integers */
        if (is_signed(to)) {
            i64 low = bits == 64 ? INT64_MIN : -(1ll << (bits - 1)), high = bits == 64 ? INT64_MAX : (1ll << (bits - 1)) - 1;
            y = from == T_U64 && y < 0 ? high : y < low ? low : y > high ? high : y;
        } else if (from != T_U64) y = y < 0 ? 0 : bits < 64 && y > (i64)cut(~0ull, bits) ? (i64)cut(~0ull, bits) : y;
        else if (bits < 64 && (u64)y > cut(~0ull, bits)) y = (i64)cut(~0ull, bits);
    }
    y = extended(cut((u64)y, bits), to);
    return cut((u64)y, I->n);
}

/* Directed rounding: mode 1 to zero, 2 down, 3 up. The compiler must not move the sum out of the mode. */
#include <fenv.h>
static __attribute__((noinline)) double directed(int op, int single, int mode, double x, double y, double z) {
    static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    volatile double X = x, Y = y, Z = z, R;
    volatile float f = (float)x, g = (float)y, h = (float)z, r;
    fesetround(modes[mode]);
    if (single) {
        r = op == O_FADD ? f + g : op == O_FSUB ? f - g : op == O_FMUL ? f * g : op == O_FDIV ? f / g : op == O_SQRT ? sqrtf(f)
            : op == O_RCP ? 1.0f / f : fmaf(f, g, h);
        R = r;
    } else R = op == O_DADD ? X + Y : op == O_DSUB ? X - Y : op == O_DMUL ? X * Y : op == O_DDIV ? X / Y : op == O_DSQRT ? sqrt(X)
            : op == O_DRCP ? 1 / X : fma(X, Y, Z);
    fesetround(FE_TONEAREST);
    return R;
}

WIDE static void exec_float(Machine *s, int wi, int pc, u32 m) {
    OPERANDS
#define A FTZ(as_float(a[i]))
#define B_ FTZ(as_float(b[i]))
#define C_ FTZ(as_float(c[i]))
#define SAT(x) (I->z ? saturated(x) : (x))
#define OUT(x) EACH(of_float(SAT(FTZ(x))))
    if (I->w && I->op != O_CVT && I->op != O_CVTPACK && I->op != O_CVTFP8 && I->op != O_HALF) {
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            if (t == T_F64) d[i] = of_double(directed(I->op, 0, I->w, as_double(a[i]), as_double(b[i]), as_double(c[i])));
            else d[i] = of_float(FTZ((float)directed(I->op, 1, I->w, A, B_, C_)));
            if (I->z) d[i] = of_float(saturated(as_float(d[i])));
        }
        return;
    }
    if (!I->v && !I->z) switch (I->op) {
    case O_FADD: EACH(of_float(as_float(a[i]) + as_float(b[i]))); return;
    case O_FSUB: EACH(of_float(as_float(a[i]) - as_float(b[i]))); return;
    case O_FMUL: EACH(of_float(as_float(a[i]) * as_float(b[i]))); return;
    case O_FMA: EACH(of_float(fmaf(as_float(a[i]), as_float(b[i]), as_float(c[i])))); return;
    }
    switch (I->op) {
    case O_FADD: OUT(A + B_); break;
    case O_FSUB: OUT(A - B_); break;
    case O_FMUL: OUT(A * B_); break;
    case O_FMA: OUT(fmaf(A, B_, C_)); break;
    case O_FDIV: OUT(A / B_); break;
    case O_FMIN:
        if (I->x) OUT(NAN_IF(A, B_) ? NAN : A == B_ && signbit(A) ? A : fminf(A, B_));
        else OUT(A == B_ && signbit(A) ? A : fminf(A, B_));
        break;
    case O_FMAX:
        if (I->x) OUT(NAN_IF(A, B_) ? NAN : A == B_ && !signbit(A) ? A : fmaxf(A, B_));
        else OUT(A == B_ && !signbit(A) ? A : fmaxf(A, B_));
        break;
    case O_FNEG:
        if (t == T_F32) OUT(-as_float(a[i])); else if (t == T_F64) EACH(a[i] ^ 1ull << 63); else EACH((a[i] ^ 0x8000) & 0xffff);
        break;
    case O_FABS:
        if (t == T_F32) OUT(fabsf(as_float(a[i]))); else if (t == T_F64) EACH(a[i] & ~(1ull << 63)); else EACH(a[i] & 0x7fff);
        break;
    case O_EX2: OUT(exp2f(A)); break;
    case O_LG2: OUT(log2f(A)); break;
    case O_RCP: OUT(1.0f / A); break;
    case O_RSQRT: OUT((float)(1.0 / sqrt((double)A))); break;
    case O_SQRT: OUT(sqrtf(A)); break;
    case O_SIN: OUT(sinf(A)); break;
    case O_COS: OUT(cosf(A)); break;
    case O_TANH: OUT(tanhf(A)); break;
    case O_COPYSIGN:
        if (t == T_F64) EACH((b[i] & ~(1ull << 63)) | (a[i] & 1ull << 63)); else EACH((b[i] & 0x7fffffffu) | (a[i] & 0x80000000u));
        break;
    case O_TESTP:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            double x = to_real(a[i], t), tiny = t == T_F64 ? 0x1p-1022 : 0x1p-126;
            d[i] = I->x == 0 ? isfinite(x) : I->x == 1 ? isinf(x) != 0 : I->x == 2 ? x == x : I->x == 3 ? x != x
                 : I->x == 4 ? isfinite(x) && fabs(x) >= tiny : fabs(x) < tiny && x != 0;
        }
        break;
    case O_DADD: EACH(of_double(as_double(a[i]) + as_double(b[i]))); break;
    case O_DSUB: EACH(of_double(as_double(a[i]) - as_double(b[i]))); break;
    case O_DMUL: EACH(of_double(as_double(a[i]) * as_double(b[i]))); break;
    case O_DFMA: EACH(of_double(fma(as_double(a[i]), as_double(b[i]), as_double(c[i])))); break;
    case O_DDIV: EACH(of_double(as_double(a[i]) / as_double(b[i]))); break;
    case O_DMIN: EACH(of_double(fmin(as_double(a[i]), as_double(b[i])))); break;
    case O_DMAX: EACH(of_double(fmax(as_double(a[i]), as_double(b[i])))); break;
    case O_DSQRT: EACH(of_double(sqrt(as_double(a[i])))); break;
    case O_DRCP: EACH(of_double(1 / as_double(a[i]))); break;
    case O_DRSQRT: EACH(of_double(1 / sqrt(as_double(a[i])))); break;
    case O_HALF: EACH(half_arithmetic(I, a[i], b[i], c[i])); break;
    case O_F32X2:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u64 r = 0;
            for (int h = 0; h < 2; h++) {
                float x = as_float(a[i] >> 32 * h), y = as_float(b[i] >> 32 * h), z = as_float(c[i] >> 32 * h);
                float v = I->x == 0 ? x + y : I->x == 1 ? x - y : I->x == 2 ? x * y : fmaf(x, y, z);
                r |= of_float(v) << 32 * h;
            }
            d[i] = r;
        }
        break;
    case O_CVT:
        if (I->x == T_BF16 && I->type == T_F32) EACH((u64)(u32)a[i] << 16);
        else if (I->x == T_F32 && I->type == T_BF16 && !I->y && !I->z && !I->w) EACH(float_to_bf16(as_float(a[i])));
        else EACH(converted(I, a[i]));
        break;
    case O_CVTPACK: {
        /* two floats into a pair: a is the upper half */
        Instruction one = *I;
        one.type = t == T_BF16X2 ? T_BF16 : T_F16;
        one.x = T_F32;
        if (one.type == T_BF16 && !I->y && !I->w)
            EACH(float_to_bf16(as_float(b[i])) | (u64)float_to_bf16(as_float(a[i])) << 16);
        else EACH(converted(&one, b[i]) | converted(&one, a[i]) << 16);
    } break;
    case O_CVTFP8:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            float hi, lo;
            if (I->x == T_F32) { hi = as_float(a[i]); lo = as_float(b[i]); }
            else { hi = half_value(a[i] >> 16 & 0xffff, I->x); lo = half_value(a[i] & 0xffff, I->x); }
            if (I->w) { hi = hi < 0 ? 0 : hi; lo = lo < 0 ? 0 : lo; }
            d[i] = t == T_E4M3 ? float_to_e4m3(lo) | float_to_e4m3(hi) << 8 : float_to_e5m2(lo) | float_to_e5m2(hi) << 8;
        }
        break;
    case O_CVTFROMFP8:
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            float lo = (float)to_real(a[i] & 255, I->x), hi = (float)to_real(a[i] >> 8 & 255, I->x);
            d[i] = t == T_F16X2 ? float_to_half(lo) | (u64)float_to_half(hi) << 16 : float_to_bf16(lo) | (u64)float_to_bf16(hi) << 16;
        }
        break;
    }
#undef A
#undef B_
#undef C_
#undef OUT
#undef SAT
}

static void exec_warp(Machine *s, int wi, int pc, u32 m) {
    OPERANDS
    switch (I->op) {
    case O_SHFL: {
        int mode = I->x;
        u64 v[32], valid[32];
        for (int i = 0; i < 32; i++) {
            u32 k = (u32)c[i], segment = k >> 8 & 31, clamp = k & 31, by = (u32)b[i] & 31;
            int top = (i & segment) | (clamp & ~segment), base = i & segment;
            int j = mode == 0 ? i ^ (int)by : mode == 1 ? i - (int)by : mode == 2 ? i + (int)by : (int)(base | (by & ~segment));
            int ok = mode == 1 ? j >= top : j <= top;
            valid[i] = ok;
            v[i] = a[(ok ? j : i) & 31];
        }
        EACH(v[i]);
        if (I->y) { u64 *d = OPERAND(5); EACH(valid[i]); }
    } break;
    case O_VOTE: {
        u32 set = 0;
        for (int i = 0; i < 32; i++) if (m >> i & 1 && (a[i] != 0) != I->y) set |= 1u << i;
        if (I->x == 0) EACH(set); else if (I->x == 1) EACH(set == m); else if (I->x == 2) EACH(set != 0); else EACH(set == m || !set);
    } break;
    case O_MATCH: {
        u64 r[32];
        for (int i = 0; i < 32; i++) {
            u32 same = 0;
            for (int j = 0; j < 32; j++) if (m >> j & 1 && cut(a[j], B) == cut(a[i], B)) same |= 1u << j;
            r[i] = I->x ? (same == m ? m : 0) : same;
        }
        EACH(r[i]);
        if (I->y) { u64 *d = OPERAND(3); EACH(r[i] != 0); }
    } break;
    case O_ACTIVEMASK: EACH(m); break;
    case O_ELECT: {
        u64 *e = OPERAND(1);
        int leader = __builtin_ctz(m);
        for (int i = 0; i < 32; i++) if (m >> i & 1) { d[i] = (u64)leader; e[i] = i == leader; }
    } break;
    case O_REDUX: {
        u64 r = 0;
        int first = 1;
        for (int i = 0; i < 32; i++) if (m >> i & 1) {
            u32 v = (u32)a[i];
            if (first) { r = v; first = 0; continue; }
            switch (I->x) {
            case 0: r = (u32)(r + v); break;
            case 1: r = is_signed(t) ? ((i32)v < (i32)r ? v : r) : v < r ? v : r; break;
            case 2: r = is_signed(t) ? ((i32)v > (i32)r ? v : r) : v > r ? v : r; break;
            case 3: r &= v; break;
            case 4: r |= v; break;
            default: r ^= v;
            }
        }
        EACH(r);
    } break;
    }
}

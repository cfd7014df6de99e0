/* Formats of numbers, each conversion rounded once. */

static inline float as_float(u64 x) { u32 v = (u32)x; float f; memcpy(&f, &v, 4); return f; }
static inline u64 of_float(float f) { u32 v; memcpy(&v, &f, 4); return v; }
static inline double as_double(u64 x) { double f; memcpy(&f, &x, 8); return f; }
static inline u64 of_double(double f) { u64 v; memcpy(&v, &f, 8); return v; }
static inline float bf16_to_float(u32 x) { return as_float((u64)(x & 0xffff) << 16); }
static inline u32 float_to_bf16(float f) {
    u32 u = (u32)of_float(f);
    return f != f ? 0x7fff : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}
static inline float half_to_float(u32 x) {
    u32 sign = (x & 0x8000) << 16, exponent = (x >> 10) & 31, mantissa = x & 0x3ff;
    if (exponent == 31) return as_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return as_float(sign | (exponent + 112) << 23 | mantissa << 13);
    float f = (float)mantissa * 0x1p-24f;
    return sign ? -f : f;
}
/* To a small format with `m` bits of mantissa, smallest normal exponent `emin`; NaN and overflow are the caller's. */
static inline double round_to(double x, int m, int emin) {
    int e;
    frexp(x, &e);
    e -= 1;
    if (e < emin) e = emin;
    double unit = ldexp(1.0, e - m);
    return rint(x / unit) * unit;
}
static inline u32 float_to_half(float f) {
    u32 u = (u32)of_float(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return 0x7fff;
    if (a >= 0x477ff000u) return sign | 0x7c00;
    if (a < 0x38800000u) return sign | (u32)lrintf(as_float(a) * 0x1p24f);
    u32 r = a - 0x38000000u;
    return sign | (r + 0xfff + ((r >> 13) & 1)) >> 13;
}
static inline u32 float_to_tf32(float f, int away) {
    u32 u = (u32)of_float(f);
    if (f != f) return 0x7fffffffu;
    return (away ? u + 0x1000 : u + 0xfff + ((u >> 13) & 1)) & 0xffffe000u;
}
/* Nearest float, but odd where it is not exact: rounding it again rounds the double once. */
static inline float odd_float(double x) {
    float f = (float)x;
    if ((double)f == x || x != x || isinf(f)) return f;
    u32 u = (u32)of_float(f);
    if (fabs((double)f) > fabs(x)) u--;
    return as_float(u | 1);
}
/* x * y + z of 16-bit values, rounded to odd: what follows rounds it to 16 bits exactly once. */
static inline float odd_fma(float x, float y, float z) {
    double p = (double)x * y, s = p + z, back = s - p, error = (p - (s - back)) + (z - back);
    if (error != 0 && isfinite(s)) {
        u64 u = of_double(s);
        if (!(u & 1)) u += (error > 0) == (s > 0) ? 1 : (u64)-1;
        s = as_double(u);
    }
    return odd_float(s);
}
static inline float flushed(float f) { return fabsf(f) < 0x1p-126f ? copysignf(0.0f, f) : f; }

static inline float e4m3_to_float(u32 x) {
    u32 e = (x >> 3) & 15, m = x & 7;
    float f = (x & 127) == 127 ? NAN : e ? ldexpf(1.0f + m / 8.0f, (int)e - 7) : ldexpf(m / 8.0f, -6);
    return x & 128 ? -f : f;
}
static inline float e5m2_to_float(u32 x) { return half_to_float((x & 0xff) << 8); }
/* With satfinite, as the ISA's conversions to fp8 always are. */
static inline u32 float_to_e4m3(float f) {
    u32 sign = signbit(f) ? 128 : 0;
    if (f != f) return 127;
    double a = round_to(fabs((double)f), 3, -6);
    if (a > 448) a = 448;
    if (a < 0x1p-6) return sign | (u32)(a * 512);
    int e;
    double m = frexp(a, &e);
    return sign | (u32)(e + 6) << 3 | ((u32)(m * 16) & 7);
}
static inline u32 float_to_e5m2(float f) {
    u32 sign = signbit(f) ? 128 : 0;
    if (f != f) return 127;
    double a = round_to(fabs((double)f), 2, -14);
    if (a > 57344) a = 57344;
    if (a < 0x1p-14) return sign | (u32)(a * 65536);
    int e;
    double m = frexp(a, &e);
    return sign | (u32)(e + 14) << 2 | ((u32)(m * 8) & 3);
}

static inline int bits_of(int type) {
    static const u8 bits[] = {8, 8, 16, 16, 32, 32, 64, 64, 16, 16, 32, 64, 32, 32, 1, 32, 8, 8};
    return bits[type];
}
static inline int is_signed(int type) { return type < 8 && (type & 1); }
static inline i64 extended(u64 v, int type) {
    switch (type) {
    case T_S8: return (i8)v;
    case T_S16: return (i16)v;
    case T_S32: return (i32)v;
    case T_U8: return v & 0xff;
    case T_U16: return v & 0xffff;
    case T_U32: return v & 0xffffffffu;
    default: return (i64)v;
    }
}
static inline u64 cut(u64 v, int bits) { return bits >= 64 ? v : v & ((1ull << bits) - 1); }
static inline double to_real(u64 v, int type) {
    switch (type) {
    case T_F32: return as_float(v);
    case T_F64: return as_double(v);
    case T_BF16: return bf16_to_float((u32)v);
    case T_F16: return half_to_float((u32)v);
    case T_E4M3: return e4m3_to_float((u32)v & 0xff);
    case T_E5M2: return e5m2_to_float((u32)v & 0xff);
    default: return 0;
    }
}

/* The engine's operations and value types. The assembler reads this file, so that both sides number them alike. */

/* d = f(a, b, c) on integers, predicates and bits */
#define INTEGER_OPS(X) \
    X(MOV) X(SEXT) X(UNPACK) X(PACK) X(ADD) X(SUB) X(MULLO) X(MADLO) X(MULWIDE) X(MADWIDE) X(MULHI) X(MADHI) X(NEG) X(ABS) \
    X(MIN) X(MAX) X(DIV) X(REM) X(AND) X(OR) X(XOR) X(NOT) X(CNOT) X(SHL) X(SHR) X(SHF) X(BFE) X(BFI) X(BFIND) X(POPC) \
    X(CLZ) X(BREV) X(PRMT) X(LOP3) X(SELP) X(SLCT) X(SETP) X(SAD) X(DP4A) X(ADDSAT) X(SUBSAT) X(CARRY)
/* on floating-point values */
#define FLOAT_OPS(X) \
    X(FADD) X(FSUB) X(FMUL) X(FMA) X(FDIV) X(FMIN) X(FMAX) X(FNEG) X(FABS) X(EX2) X(LG2) X(RCP) X(RSQRT) X(SQRT) X(SIN) \
    X(COS) X(TANH) X(COPYSIGN) X(TESTP) X(DADD) X(DSUB) X(DMUL) X(DFMA) X(DDIV) X(DMIN) X(DMAX) X(DSQRT) X(DRCP) X(DRSQRT) \
    X(HALF) X(F32X2) X(CVT) X(CVTPACK) X(CVTFP8) X(CVTFROMFP8)
/* between the lanes of a warp */
#define WARP_OPS(X) X(SHFL) X(VOTE) X(MATCH) X(ACTIVEMASK) X(ELECT) X(REDUX)
/* memory */
#define MEMORY_OPS(X) \
    X(LDG) X(STG) X(ATOMG) X(LDS) X(STS) X(ATOMS) X(LDL) X(STL) X(LDX) X(STX) X(LDM) X(STM) X(CPASYNC)
/* order, and what is asynchronous */
#define ORDER_OPS(X) \
    X(NOP) X(FENCE) X(FENCEPROXY) X(CPCOMMIT) X(CPWAIT) X(WGFENCE) X(WGCOMMIT) X(WGWAIT) X(MBINIT) X(MBARRIVE) X(MBWAIT) \
    X(MBINVAL) X(CPMBARRIVE) X(BULKLOAD) X(BULKSTORE) X(BULKCOMMIT) X(BULKWAIT) X(TENSORMAP) X(TMAPCOPY)
/* tensor cores */
#define MATRIX_OPS(X) X(MMA) X(WGMMA)
/* control */
#define CONTROL_OPS(X) X(BRA) X(BRX) X(RET) X(TRAP) X(BAR) X(ARRIVE) X(BARRED)

#define TYPES(X) \
    X(U8) X(S8) X(U16) X(S16) X(U32) X(S32) X(U64) X(S64) X(F16) X(BF16) X(F32) X(F64) X(F16X2) X(BF16X2) X(PRED) X(TF32) \
    X(E4M3) X(E5M2)

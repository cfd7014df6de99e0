"""The stages, one file each: a Triton kernel and the function that launches it; `device` has the functions that kernels share.

Notation, as in Gated DeltaNet-2 (arXiv 2605.22791, Appendix A and B), for one chunk of C rows and one value head:

    g, G      log decay of a row, and its inclusive sum within the chunk; gamma = exp(G)
    e, z      erase key b * k, and value to write w * v
    Ebar      gamma * e            Kt     (gamma_C / gamma) * k        Qbar   gamma * q
    T         stril(e_i . k_j exp(G_i - G_j))          A   (I + T)^-1
    Aqk       scale * tril(q_i . k_j exp(G_i - G_j))
    S0, SC    state before and after the chunk
    X, R      X = z - Ebar S0 and R = A X: the write of each row, before and after its chunk-mates' erasures
    o         scale * Qbar S0 + Aqk R             SC   gamma_C S0 + Kt^T R

Every exponent is formed as a sum of decays of one sign, never as a difference G_i - G_j of two sums, so any g <= 0 is
exact, -inf included.

Tensors: q, k [tokens, H, K]; v, w, o, r, x [tokens, HV, V]; g, b [tokens, G or B heads(, K)]; scores [tokens, HV, C];
states [chunks, HV, K, V]. Batches are packed: token t of sequence n is row cu_seqlens[n] + t.
"""

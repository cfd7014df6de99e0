"""The right results of each of our Triton stages for the very tensors that it was launched with (`specs.oracle.stages`).

An oracle reads the arguments of one launch and gives the expected contents of the tensors that the kernel writes, by argument
name; they leave out everything that a launch does not write (an output it was not asked for, rows of the table past the last
chunk).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...specs.arithmetic.numbers import Array
from ...specs.oracle import options, stages
from . import inference
from .call import NONE, SCALAR, Collected, LaunchArguments, Span, raw_gate


def scores(call: LaunchArguments) -> dict[str, Array]:
    found = Collected(call.numbers)
    for span in call.chunks():
        Aqk, _, A = stages.scores(call.chunk(span, "q", "k", "g", "b"), call.scale, call.numbers)
        found.scores(span, call.scalars["C"], aqk=Aqk, a=A)
    return found.result()


def operands(call: LaunchArguments) -> dict[str, Array]:
    found = Collected(call.numbers)
    for span in call.chunks():
        given = stages.decayed(call.chunk(span, "q", "k", "g", "b"), call.numbers)
        found.tokens(span, queries=given.queries, erasers=given.erasers, keys=given.keys)
        if call.tensors.get("total") is not None:
            found.tokens(Span(span.index, span.index, 1), total=given.total[..., None, :])
    return found.result()


def states(call: LaunchArguments) -> dict[str, Array]:
    found, numbers, writes_output = Collected(call.numbers), call.numbers, call.scalars["OUTPUT"]
    for n in call.sequences:
        S = call.state("h0", n) if call.scalars["INITIAL"] else call.no_state()
        for span in call.chunks_of(n):
            given, z = call.decayed(span), stages.written(call.chunk(span, "v", "w"))
            _, R, after = stages.writes(given, call.score("a", span), z, S, numbers)
            if writes_output:
                found.tokens(span, o=stages.output(given.queries, call.score("aqk", span), S, R, call.scale, numbers))
            else:
                found.tokens(span, r=R)
                found.state("h", span.index, S)
            S = after
        if call.scalars["FINAL"]:
            found.state("ht", n, S)
    return found.result(states=("h", "ht"))


def output(call: LaunchArguments) -> dict[str, Array]:
    found = Collected(call.numbers)
    for span in call.chunks():
        S, R = call.state("h", span.index), call.of_heads("r", span)
        queries, Aqk = call.of_heads("queries", span), call.score("aqk", span)
        found.tokens(span, o=stages.output(queries, Aqk, S, R, call.scale, call.numbers))
    return found.result()


def state_grads(call: LaunchArguments) -> dict[str, Array]:
    found = Collected(call.numbers)
    for n in call.sequences:
        dS = call.state("dht", n) if call.scalars["FINAL"] else call.no_state()
        for span in reversed(call.chunks_of(n)):
            found.state("dh", span.index, dS)
            scores = call.score("aqk", span), call.score("a", span)
            do = call.of_heads("do", span)
            _, dX, dS = stages.state_grads(call.decayed(span), *scores, do, dS, call.scale, call.numbers)
            found.tokens(span, dx=dX)
        if call.scalars["INITIAL"]:
            found.state("dh0", n, dS)
    return found.result(states=("dh", "dh0"))


def score_grads(call: LaunchArguments) -> dict[str, Array]:
    found, erase, write = Collected(call.numbers), call.scalars["ERASE"], call.scalars["WRITE"]
    for span in call.chunks():
        R, do, dX = (call.of_heads(name, span) for name in ("r", "do", "dx"))
        grads = stages.score_grads(call.chunk(span, "v", "b", "w"), R, do, dX, call.scale, call.numbers)
        found.scores(span, call.scalars["C"], daqk=grads.dAqk, dt=grads.dT if erase else None)
        found.tokens(span, dv=grads.dv)
        if write or erase:
            # One gate per head, w's own or b's, gets the sum over channels.
            found.tokens(span, dw=grads.dw.sum(axis=-1)[..., None] if SCALAR in (write, write or erase) else grads.dw)
    return found.result()


def input_grads(call: LaunchArguments) -> dict[str, Array]:
    found, erase, decay = Collected(call.numbers), call.scalars["ERASE"], call.scalars["DECAY"]
    width, K = call.scalars["BK"], call.scalars["K"]
    blocks = [slice(first, min(first + width, K)) for first in range(0, K, width)]
    shares: dict[str, list[Collected]] = {name: [Collected(call.numbers) for _ in blocks] for name in ("dg", "db")}
    for span in call.chunks():
        S, dS = call.state("h", span.index), call.state("dh", span.index)
        R, do, dX = (call.of_heads(name, span) for name in ("r", "do", "dx"))
        dAqk, dT = call.score("daqk", span), call.score("dt", span)
        chunk = call.chunk(span, "q", "k", "g", "b")
        grads = stages.input_grads(chunk, S, R, do, dX, dS, dAqk, dT, call.scale, call.numbers)
        heads = call.scalars["H"]
        found.tokens(span, dq=_gathered(grads.dq, heads), dk=_gathered(grads.dk, heads))
        tied = None
        if erase and call.scalars["WRITE"] == NONE:
            tied = call.of_heads("dw", span)
        for name, grad, tie, heads in (
            ("dg", grads.dg, decay, call.scalars["G"]), ("db", grads.db, erase, call.scalars["B"])
        ):  # fmt: skip
            if grad is None:
                continue
            if tie == SCALAR:
                for i, block in enumerate(blocks):
                    part = grad[..., block].sum(axis=-1)[..., None]
                    if name == "db" and i == 0 and tied is not None:  # the first block takes w's share
                        part = part + tied
                    shares[name][i].tokens(span, **{name: _gathered(part, heads)})
            elif tie:
                found.tokens(span, **{name: _gathered(grad, heads)})
    expected = found.result()
    for name, parts in shares.items():
        gathered = [part.result()[name][..., 0] for part in parts if part.result()]
        if gathered:
            stacked = call.numbers.concatenate([part[..., None, :, :] for part in gathered], -3)
            expected[name] = stacked if len(blocks) > 1 else gathered[0]
    return expected


def tokens(call: LaunchArguments) -> dict[str, Array]:
    found, bounds = Collected(call.numbers), call.tensors["cu_seqlens"].tolist()
    for n in call.sequences:
        span = Span(n, bounds[n], bounds[n + 1] - bounds[n])
        S = call.state("h0", n) if call.scalars["INITIAL"] else call.no_state()
        if span.rows:
            o, S = stages.tokens(call.chunk(span, "q", "k", "v", "g", "b", "w"), S, call.scale, call.numbers)
            found.tokens(span, o=o)
        if call.scalars["FINAL"]:
            found.state("ht", n, S)
    return found.result(states=("ht",))


def l2norm(call: LaunchArguments) -> dict[str, Array]:
    x = call.tensors["x"]
    return {"y": x * options.l2norm(x, call.numbers, float(call.scalars["eps"]))[1]}


def l2norm_grad(call: LaunchArguments) -> dict[str, Array]:
    x, numbers = call.tensors["x"], call.numbers
    factor = options.l2norm(x, numbers, float(call.scalars["eps"]))[1]
    return {"dx": options.l2norm_adjoint(x, factor, call.tensors["dy"], numbers)}


def activate(call: LaunchArguments) -> dict[str, Array]:
    f = call.tensors["f"]
    g = options.activate(raw_gate(f, len(call.leading)), call.tensors["A_log"], call.tensors["dt_bias"], call.numbers)
    return {"g": g.reshape(f.shape)}


def activate_grad(call: LaunchArguments) -> dict[str, Array]:
    """df, and per block of tokens the shares that make dA_log and ddt_bias."""
    numbers, block, leading = call.numbers, call.scalars["BT"], len(call.leading)
    f, dg = (raw_gate(call.tensors[name], leading) for name in ("f", "dg"))
    A_log, bias = call.tensors["A_log"], call.tensors["dt_bias"]
    g = options.activate(f, A_log, bias, numbers)
    blocks = [slice(i, i + block) for i in range(0, f.shape[-3], block)]
    parts = []
    for one in blocks:
        raw, decay, grad = (x[..., one, :, :] for x in (f, g, dg))
        parts.append(options.activate_adjoint(raw, A_log, bias, decay, grad, numbers))
    df, dA, dbias = zip(*parts, strict=True)
    return {
        "df": numbers.concatenate(df, -3).reshape(call.tensors["f"].shape),
        "dA": numbers.concatenate([x[..., None, :] for x in dA], -2),
        "dbias": numbers.concatenate([x[..., None, :] for x in dbias], -2),
    }


def fold(call: LaunchArguments) -> dict[str, Array]:
    """The sum over the first axis of the shares."""
    shape = (*call.leading, call.scalars["count"], call.scalars["size"])
    return {"out": call.tensors["shares"].reshape(shape).sum(axis=-2)}


def _gathered(x: Array, heads: int) -> Array:
    """[HV, rows, X] -> [heads, rows, X], summed over the value heads of each."""
    count = x.shape[-3]
    if heads == count:
        return x
    return x.reshape((*x.shape[:-3], heads, count // heads, *x.shape[-2:])).sum(axis=-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOracle:
    """does: the purpose of the stage, in words. equation: its result."""

    expected: Callable[[LaunchArguments], dict[str, Array]]
    does: str
    equation: str


_STAGES = "deltaproof.kernels.stages"
_WALK = "R = A (z - Ebar S), S' = Gamma_C S + Kt^T R"
ORACLES: dict[str, StageOracle] = {
    f"{_STAGES}.{module}:{name}_kernel": StageOracle(expected=function, does=does, equation=equation)
    for module, name, function, does, equation in (
        ("prologue.normalise", "l2norm", l2norm, "normalises queries and keys", "y = x / sqrt(x . x + eps)"),
        ("prologue.activate", "activate", activate, "makes decays of raw gates", "g = -exp(A_log) softplus(f + dt_bias)"),
        ("chunkwise.scores", "scores", scores, "scores the tokens of a chunk against each other",
         "Aqk = scale tril(q_i . k_j D_ij), A = (I + stril(e_i . k_j D_ij))^-1"),
        ("chunkwise.operands", "operands", operands, "makes what the walks over the chunks multiply",
         "Qbar = Gamma q, -Ebar = -Gamma b k, Kt = (Gamma_C / Gamma) k and Gamma_C"),
        ("chunkwise.states", "states", states, "carries the state from chunk to chunk", _WALK),
        ("chunkwise.output", "output", output, "reads the outputs", "o = scale Qbar S + Aqk R"),
        ("recurrent.tokens", "tokens", tokens, "goes from token to token", "GDN-2 Eq. 8-10"),
        ("inference.packed", "packed_scores", inference.packed_scores, "makes what the walk over the chunks multiplies",
         "Qbar, -Ebar, A^T Kt, Aqk A and Gamma_C, A = (I + stril(e_i . k_j D_ij))^-1"),
        ("inference.packed", "packed_walk", inference.packed_walk, "carries the state from chunk to chunk and reads the outputs",
         "X = z - Ebar S, o = scale Qbar S + (Aqk A) X, S' = Gamma_C S + (A^T Kt)^T X"),
        ("inference.grouped", "group_bounds", inference.group_bounds, "splits sequences into groups",
         "a group is of L tokens, or ends with its sequence"),
        ("inference.grouped", "group_maps", inference.group_maps, "finds what each group makes of a state",
         "S' = M S + B, from S = 0 and, where z = 0, from S = I"),
        ("inference.grouped", "group_starts", inference.group_starts, "carries the state from group to group", "S' = M S + B"),
        ("inference.fused", "fused", inference.fused, "is all of the forward pass", "GDN-2 Eq. 36-44"),
        ("chunkwise.state_grads", "state_grads", state_grads, "carries the gradient of the state back from chunk to chunk",
         "dX = A^T (Aqk^T do + Kt dS'), dS = scale Qbar^T do + Gamma_C dS' - Ebar^T dX"),
        ("chunkwise.score_grads", "score_grads", score_grads, "takes gradients to scores, values and write gates",
         "dAqk = scale tril(do R^T), dT = -stril(dX R^T), dv = w dX, dw = v dX"),
        ("chunkwise.input_grads", "input_grads", input_grads, "takes gradients to queries, keys, decays and erase gates",
         "GDN-2 Appendix B"),
        ("chunkwise.fold", "fold", fold, "adds up the shares of a gradient", "a sum"),
        ("prologue.activate", "activate_grad", activate_grad, "takes gradients through the decay gate",
         "df = -exp(A_log) sigmoid(f + dt_bias) dg"),
        ("prologue.normalise", "l2norm_grad", l2norm_grad, "takes gradients through the normalisation",
         "dx = (dy - y (y . dy)) / sqrt(x . x + eps)"),
    )
}  # fmt: skip
"""By "module:kernel"."""

MEANING = {
    "aqk": "the scores of queries and keys",
    "a": "the inverse (I + T)^-1",
    "queries": "the decayed queries",
    "erasers": "the decayed erase keys",
    "writers": "the keys that write, A^T Kt",
    "keys": "the decayed keys",
    "pairs": "what tokens read of each other, Aqk A",
    "total": "the decay of each chunk",
    "bounds": "where each group begins",
    "maps": "what each group makes of a state, [B | M]",
    "starts": "the state before each group",
    "h": "the state before each chunk",
    "r": "what each token writes",
    "dh": "the gradient of the state after each chunk",
    "dx": "the gradient of X",
    "daqk": "the gradient of the scores",
    "dt": "the gradient of T",
    "dA": "shares of the gradient of A_log",
    "dbias": "shares of the gradient of dt_bias",
    "out": "the sum",
    "y": "the normalised rows",
}
"""The contents of the tensors that only stages see, by argument name."""

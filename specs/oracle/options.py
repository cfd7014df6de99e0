"""The options of a call beside the rule: normalised q and k, and a decay gate computed from raw values.

Each option comes with its adjoint; `prepare` and `finish` apply those that a problem asks for. All work on the layout
of a call, `[..., B, T, heads, channels]`.
"""

from __future__ import annotations

from ..arithmetic.numbers import Array, Numbers, Site
from ..inputs.make import Inputs
from ..problem import Problem
from ..rounding.decay_gradient import with_summing_noise
from ..rounding.noise import Noisy


def stored_at(output: str) -> Site:
    """The site at which an output (o, ht, dq, ...) is rounded: states and the tensors of the decay gate stay fp32."""
    sites: dict[str, Site] = {"ht": "state", "dh0": "state", "dg": "gate", "dA_log": "gate", "ddt_bias": "gate"}
    return sites.get(output, "output")


L2NORM_EPSILON = 1e-6
"""Added to the sum of squares under the root."""


def prepare(problem: Problem, inputs: Inputs, numbers: Numbers) -> tuple[dict[str, Array], dict[str, Array]]:
    """(the inputs as loaded; the q, k, v, g, b, w, h0 that the rule sees). Scalar gates get a last axis of 1."""
    tensors = {name: numbers.at("input", numbers.array(x)) for name, x in inputs.arrays().items()}
    for name in _scalar_gates(problem):
        tensors[name] = tensors[name][..., None]
    prepared = {name: tensors[name] for name in ("q", "k", "v", "g", "b", "w", "h0") if name in tensors}
    if problem.qk_l2norm:
        prepared["q"], prepared["k"] = (l2norm(tensors[name], numbers)[0] for name in "qk")
    if problem.gate_in_kernel:
        prepared["g"] = activate(tensors["g"], tensors["A_log"], tensors["dt_bias"], numbers)
    return tensors, prepared


def finish(
    problem: Problem,
    tensors: dict[str, Array],
    prepared: dict[str, Array],
    gradients: dict[str, Array],
    numbers: Numbers,
) -> dict[str, Array]:
    """The adjoint of `prepare`: from gradients of the rule's own inputs (q, ...) to those of the call's inputs (dq, ...)."""
    finished = dict(gradients)
    if "g" in gradients and isinstance(numbers, Noisy) and numbers.contract.sums_decay_gradient:
        finished["g"] = gradients["g"] = with_summing_noise(problem, prepared, gradients, numbers)
    if problem.qk_l2norm:
        for name in "qk":
            factor = l2norm(tensors[name], numbers)[1]
            finished[name] = l2norm_adjoint(tensors[name], factor, gradients[name], numbers)
    if problem.gate_in_kernel:
        finished["g"], finished["A_log"], finished["dt_bias"] = activate_adjoint(
            tensors["g"], tensors["A_log"], tensors["dt_bias"], prepared["g"], gradients["g"], numbers
        )
    for name in _scalar_gates(problem):
        finished[name] = finished[name][..., 0]
    return {f"d{name}": numbers.at(stored_at(f"d{name}"), x) for name, x in finished.items()}


def _scalar_gates(problem: Problem) -> list[str]:
    tied = {"g": problem.rule.decay, "b": problem.rule.erase, "w": problem.rule.write}
    return [name for name in problem.rule.gates if tied[name] == "scalar"]


def l2norm(x: Array, numbers: Numbers, epsilon: float = L2NORM_EPSILON) -> tuple[Array, Array]:
    """(x / sqrt(sum x^2 + epsilon), the factor 1 / sqrt(...) [..., 1])."""
    squares = numbers.at("product", x * x).sum(axis=-1)[..., None]
    factor = numbers.rsqrt(squares + numbers.constant(epsilon))
    return numbers.at("operand", x * factor), factor


def l2norm_adjoint(x: Array, factor: Array, dy: Array, numbers: Numbers) -> Array:
    """The gradient of x from that of y = x f, f = 1 / sqrt(sum x^2 + eps): f dy - f^3 x (x . dy)."""
    along = numbers.at("product", x * dy).sum(axis=-1)[..., None]
    return numbers.at("product", dy * factor) - numbers.at("product", x * factor * factor * factor * along)


def activate(raw: Array, A_log: Array, dt_bias: Array, numbers: Numbers) -> Array:
    """The log-decay g = -exp(A_log) softplus(raw + dt_bias).

    raw [..., B, T, G, C], C being K for a channel-wise gate and 1 for a scalar one; A_log [..., G]; dt_bias [..., G C].
    """
    rate, shifted = _rate_and_shifted(raw, A_log, dt_bias, numbers)
    return numbers.at("gate", -(numbers.at("gate", numbers.softplus(shifted)) * rate))


def activate_adjoint(
    raw: Array, A_log: Array, dt_bias: Array, g: Array, dg: Array, numbers: Numbers
) -> tuple[Array, Array, Array]:
    """The gradients of (raw, A_log, dt_bias) from that of g."""
    rate, shifted = _rate_and_shifted(raw, A_log, dt_bias, numbers)
    draw = -(dg * numbers.at("gate", numbers.sigmoid(shifted)) * rate)
    dA_log = numbers.at("product", dg * g).sum(axis=-1).sum(axis=-2).sum(axis=-2)
    ddt_bias = draw.sum(axis=-3).sum(axis=-3)
    return draw, dA_log, ddt_bias.reshape((*ddt_bias.shape[:-2], ddt_bias.shape[-2] * ddt_bias.shape[-1]))


def _rate_and_shifted(raw: Array, A_log: Array, dt_bias: Array, numbers: Numbers) -> tuple[Array, Array]:
    rate = numbers.at("gate", numbers.exp(A_log))[..., None, None, :, None]
    bias = dt_bias.reshape((*dt_bias.shape[:-1], 1, 1, *raw.shape[-2:]))
    return rate, numbers.at("gate", raw + bias)

"""One line of a table: a key, the launch configuration to use for it, and why anybody should believe that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from .gpus import Resources
from .key import Key, key_from_json, key_to_json
from .strict import CONFIG, DIGEST, NAME, Fields
from .token import fault

Tier = Literal["A", "B", "C", "portfolio"]
"""A: timed and verified on this GPU with this Triton. B: the same, but under another Triton or driver, or on another
GPU of the architecture. C: compiled and resource-checked for a GPU that was not there. portfolio: safe everywhere."""
TIERS: tuple[Tier, ...] = get_args(Tier)

Gate = Literal["device", "compiled", "interpreter", "owed", "failed"]
"""Where the configuration passed verification: on the device; in the interpreter and as compiled, run on a CPU; in the
interpreter alone, the device gate being still owed by both; not at all yet; or it failed, and is never served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """The configuration to launch for a key.

    config: a token of `kernels.LaunchConfig` that some kernel has. kernel: digest of the kernel sources it was made for.
    gate, verdict: where it was verified, and the digest of that record ("" while owed).
    measurement: digest of the record with the raw samples, "" if it was never timed; A and B have one.
    triton, driver: versions it was compiled with and timed under ("" if there was no driver).
    passed_under: versions of Triton whose programs of it passed the gate on compiled code. passed_on: in the portfolio, the
    architectures that these programs were compiled for.
    milliseconds: the whole op, median of the samples, or for C the prediction of the cost model; None if unknown.
    neighbour_loss: extra time, as a fraction, of using this configuration one bucket away instead of the best one
    there.
    default_loss: extra time, as a fraction, of the safe default on this key. Both None if unknown.

    Raises ValueError for a combination that means nothing.
    """

    key: Key
    config: str
    tier: Tier
    kernel: str
    gate: Gate
    verdict: str = ""
    measurement: str = ""
    triton: str = ""
    driver: str = ""
    resources: Resources
    milliseconds: float | None = None
    neighbour_loss: float | None = None
    default_loss: float | None = None
    passed_under: tuple[str, ...] = ()
    passed_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        key = self.key
        if wrong := fault(self.config):
            raise ValueError(f"config {self.config!r:.200}: {wrong}")
        everywhere = bool(key.K and key.V) and not key.tokens and not key.heads
        if not (everywhere if self.tier == "portfolio" else key.complete):
            raise ValueError(f"key {key}: an entry has head dimensions, and buckets unless its tier is portfolio")
        if (self.tier in ("A", "B")) != bool(self.measurement):
            raise ValueError(
                f"tier {self.tier!r} with measurement {self.measurement!r}: A and B, and only they, were timed"
            )
        if self.tier in ("A", "B") and self.gate not in ("device", "failed"):
            raise ValueError(
                f"tier {self.tier!r} with gate {self.gate!r}: what was timed was verified on the device first"
            )
        if self.passed_on and self.tier != "portfolio":
            raise ValueError(
                f"tier {self.tier!r} with passed_on {self.passed_on!r}: what is for one GPU is of its architecture"
            )
        if (self.gate == "owed") == bool(self.verdict):
            raise ValueError(f"gate {self.gate!r} with verdict {self.verdict!r}: there is a verdict unless it is owed")


def entry_to_json(entry: TableEntry) -> dict[str, Any]:
    line = key_to_json(entry.key) | {
        "config": entry.config,
        "tier": entry.tier,
        "kernel": entry.kernel,
        "gate": entry.gate,
        "verdict": entry.verdict,
        "measurement": entry.measurement,
        "triton": entry.triton,
        "driver": entry.driver,
        "resources": resources_to_json(entry.resources),
        "milliseconds": entry.milliseconds,
        "neighbour_loss": entry.neighbour_loss,
        "default_loss": entry.default_loss,
    }
    passed = {"passed_under": list(entry.passed_under), "passed_on": list(entry.passed_on)}
    return line | {name: found for name, found in passed.items() if found}


def entry_from_json(fields: Fields) -> TableEntry:
    """Raises TableError."""
    key = key_from_json(fields)
    values = {
        "config": fields.text("config", CONFIG),
        "tier": fields.choice("tier", TIERS),
        "kernel": fields.text("kernel", DIGEST),
        "gate": fields.choice("gate", get_args(Gate)),
        "verdict": fields.text("verdict", DIGEST, empty=True),
        "measurement": fields.text("measurement", DIGEST, empty=True),
        "triton": fields.text("triton", NAME, empty=True),
        "driver": fields.text("driver", NAME, empty=True),
        "resources": resources_from_json(fields.object("resources")),
        "milliseconds": fields.number_or_null("milliseconds"),
        "neighbour_loss": fields.number_or_null("neighbour_loss"),
        "default_loss": fields.number_or_null("default_loss"),
        # Left out where there are none, as in tables from before the gate on compiled code.
        "passed_under": fields.texts("passed_under", NAME) if "passed_under" in fields.names else (),
        "passed_on": fields.texts("passed_on", NAME) if "passed_on" in fields.names else (),
    }
    fields.end()
    return fields.made(TableEntry, key=key, **values)


def resources_to_json(resources: Resources) -> dict[str, int]:
    return {"shared": resources.shared, "registers": resources.registers, "threads": resources.threads}


def resources_from_json(fields: Fields) -> Resources:
    """Raises TableError."""
    resources = Resources(**{name: fields.whole(name) for name in ("shared", "registers", "threads")})
    fields.end()
    return resources

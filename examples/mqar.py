"""Multi-query associative recall: tiny models of each mixer, trained on a CPU in minutes.

A sequence lists P pairs of a key and a value, then asks for every key once, in another order; the model must answer each
with its value (MQAR; Arora et al., arXiv 2312.04927, without their filler tokens). All models are the same but for the
mixer: embedding, two residual blocks of RMSNorm and mixer, RMSNorm, linear head. README.md says what this shows.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

from deltaproof.kernels.layers import Carve, GatedDeltaNet, GatedDeltaNet2, KimiDeltaAttention, MixerConfig
from deltaproof.kernels.layers.config import PAPER_GAIN

HERE = Path(__file__).parent
VERSION = 1
"""Of the JSON file: runs of another version are not continued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One experiment; results of different settings are never mixed.

    keys, values: size of the two vocabularies. pairs: how many pairs a training batch has, drawn anew for each.
    asked: how many the test has. channels, heads, head_dim: of the model. rate: peak learning rate of AdamW. gain: of
    the mixers' linear maps at first. chunk: CARVE's, which is part of its function.
    """

    keys: int = 32
    values: int = 32
    pairs: tuple[int, ...] = (4, 8)
    asked: tuple[int, ...] = (4, 8, 12, 16, 24)
    channels: int = 64
    heads: int = 2
    head_dim: int = 16
    batch: int = 64
    rate: float = 1e-2
    gain: float = PAPER_GAIN
    steps: int = 300
    chunk: int = 8


class DeltaNet(GatedDeltaNet):
    """Gated DeltaNet without its decay (arXiv 2406.06484)."""

    def __init__(self, config: MixerConfig):
        super().__init__(config)
        del self.a_proj, self.A_log, self.dt_bias

    def reset_parameters(self) -> None:
        if hasattr(self, "A_log"):
            super().reset_parameters()

    def gates(self, x: Tensor) -> dict[str, Any]:
        return {"b": self._in_unit_interval(self.b_proj(x))}


class LinearAttention(DeltaNet):
    """Linear attention without normaliser (arXiv 2006.16236): nothing is forgotten or erased."""

    def __init__(self, config: MixerConfig):
        super().__init__(config)
        del self.b_proj

    def gates(self, x: Tensor) -> dict[str, Any]:
        return {}


MIXERS: dict[str, Callable[[MixerConfig, Setting], nn.Module]] = {
    "gdn2": lambda config, _: GatedDeltaNet2(config),
    "kda": lambda config, _: KimiDeltaAttention(config),
    "gdn": lambda config, _: GatedDeltaNet(config),
    "delta_rule": lambda config, _: DeltaNet(config),
    "carve": lambda config, setting: Carve(config, rank=4, chunk_size=setting.chunk),
    "linear": lambda config, _: LinearAttention(config),
}


class Model(nn.Module):
    """Tokens [B, T] -> logits over values [B, T, values]."""

    def __init__(self, mixer: str, setting: Setting):
        super().__init__()
        config = MixerConfig(
            hidden_size=setting.channels,
            num_heads=setting.heads,
            head_dim=setting.head_dim,
            gate_activation="silu",
            init_gain=setting.gain,
        )
        self.embedding = nn.Embedding(setting.keys + setting.values, setting.channels)
        self.norms = nn.ModuleList(nn.RMSNorm(setting.channels, eps=1e-5) for _ in range(3))
        self.mixers = nn.ModuleList(MIXERS[mixer](config, setting) for _ in range(2))
        self.head = nn.Linear(setting.channels, setting.values, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for norm, mixer in zip(self.norms, self.mixers, strict=False):
            x = x + mixer(norm(x))
        return self.head(self.norms[2](x))


def sequences(setting: Setting, batch: int, pairs: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens [batch, 3 * pairs], and the values [batch, pairs] that the last `pairs` tokens ask for."""
    keys = torch.rand(batch, setting.keys, generator=source).argsort(1)[:, :pairs]
    values = torch.randint(setting.values, (batch, pairs), generator=source)
    order = torch.rand(batch, pairs, generator=source).argsort(1)
    listed = torch.stack([keys, values + setting.keys], 2).flatten(1)
    return torch.cat([listed, keys.gather(1, order)], 1), values.gather(1, order)


@torch.no_grad()
def recall(model: Model, setting: Setting, pairs: int, samples: int = 128) -> float:
    """Fraction of right answers on sequences that no training saw, the same for every model."""
    tokens, wanted = sequences(setting, samples, pairs, torch.Generator().manual_seed(1_000_003 + pairs))
    return (model(tokens)[:, -pairs:].argmax(-1) == wanted).float().mean().item()


def train(mixer: str, setting: Setting, seed: int, advance: Callable[[float], None]) -> dict[str, Any]:
    """One run: its recall while training (at the most pairs of training) and at the end, per number of pairs."""
    torch.manual_seed(seed)
    model = Model(mixer, setting)
    source = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=setting.rate, weight_decay=0.0)
    warmup = max(1, setting.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / setting.steps))
    )
    every, curve, begun = max(1, setting.steps // 20), [], time.process_time()
    for step in range(setting.steps):
        pairs = setting.pairs[int(torch.randint(len(setting.pairs), (), generator=source))]
        tokens, wanted = sequences(setting, setting.batch, pairs, source)
        loss = F.cross_entropy(model(tokens)[:, -pairs:].flatten(0, 1), wanted.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % every == 0 or step + 1 == setting.steps:
            curve.append([step + 1, recall(model, setting, max(setting.pairs))])
            advance(curve[-1][1])
        else:
            advance(curve[-1][1] if curve else 0.0)
    return {
        "mixer": mixer,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cpu_seconds": round(time.process_time() - begun, 1),
        "curve": curve,
        "recall": {str(pairs): recall(model, setting, pairs) for pairs in setting.asked},
    }


def load(path: Path, setting: Setting) -> list[dict[str, Any]]:
    """Finished runs of this very setting. Raises typer.BadParameter for a record of another one, or none at all."""
    if not path.exists():
        return []
    try:
        record = json.loads(path.read_text())
        found = {name: record[name] for name in ("version", "torch", "setting")}
        runs = record["runs"]
    except (ValueError, KeyError, TypeError) as error:
        raise typer.BadParameter(f"{path} is not a record of this script; pass --fresh to replace it") from error
    for name, mine in describe(setting).items():
        if found[name] != mine:
            raise typer.BadParameter(
                f"{path} has runs of another {name}; pass --fresh to replace them, or another --out"
            )
    return runs


def describe(setting: Setting) -> dict[str, Any]:
    """What two runs must share to be compared, as JSON has it."""
    return json.loads(json.dumps({"version": VERSION, "torch": torch.__version__, "setting": asdict(setting)}))


def save(path: Path, setting: Setting, runs: list[dict[str, Any]]) -> None:
    """Whole or not at all: an interrupted run loses nothing that was finished."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**describe(setting), "runs": runs}, indent=1) + "\n")
    partial.replace(path)


def plot(path: Path, setting: Setting, runs: list[dict[str, Any]]) -> None:
    """Left: recall while training. Right: recall at the end over the number of pairs. Bands: from worst to best seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for number, mixer in enumerate(name for name in MIXERS if any(run["mixer"] == name for run in runs)):
        mine = [run for run in runs if run["mixer"] == mixer]
        look = {"color": f"C{number}", "marker": "osD^vP"[number], "markersize": 4, "label": mixer}
        steps = [step for step, _ in mine[0]["curve"]]
        draw_band(left, steps, [[y for _, y in run["curve"]] for run in mine], look)
        draw_band(right, setting.asked, [[run["recall"][str(p)] for p in setting.asked] for run in mine], look)
    left.set(
        xlabel="training step", ylabel="recall", title=f"{max(setting.pairs)} pairs, while training", ylim=(-0.03, 1.03)
    )
    right.set(xlabel="pairs in the sequence", title="after training", xticks=setting.asked)
    right.axvline(max(setting.pairs), color="grey", linestyle=":", linewidth=1)
    right.annotate("most in training", (max(setting.pairs), 0.02), rotation=90, color="grey", fontsize=8, ha="right")
    for axes in (left, right):
        axes.axhline(1 / setting.values, color="grey", linewidth=0.8, zorder=0)
        axes.grid(alpha=0.25)
    right.legend(fontsize=8, title="mixer: mean and range")
    size = f"state {setting.heads} x {setting.head_dim} x {setting.head_dim} per layer"
    figure.suptitle(f"Multi-query associative recall, {size}, {len({run['seed'] for run in runs})} seeds")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_band(axes: Any, x: Any, rows: list[list[float]], look: dict[str, Any]) -> None:
    columns = list(zip(*rows, strict=True))
    axes.plot(x, [statistics.mean(column) for column in columns], **look)
    axes.fill_between(x, list(map(min, columns)), list(map(max, columns)), color=look["color"], alpha=0.15, linewidth=0)


def show(setting: Setting, runs: list[dict[str, Any]]) -> None:
    table = Table(title="recall after training: mean, and lowest to highest seed", padding=0)
    table.add_column("mixer", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    for pairs in setting.asked:
        table.add_column(f"{pairs} pairs", justify="right", no_wrap=True)
    for mixer in MIXERS:
        mine = [run for run in runs if run["mixer"] == mixer]
        if mine:
            found = [[run["recall"][str(pairs)] for run in mine] for pairs in setting.asked]
            cells = [f"{statistics.mean(x):.2f}\n{min(x):.2f}-{max(x):.2f}" for x in found]
            table.add_row(mixer, f"{mine[0]['parameters']:,}", *cells)
    Console().print(table)


EXAMPLES = """
Examples:

    python examples/mqar.py                                  all mixers, 3 seeds; continues what was interrupted

    python examples/mqar.py --mixer gdn2 --mixer linear --steps 200 --seeds 1 --out /tmp/mqar     a quick look

    python examples/mqar.py --fresh                          forget finished runs
"""


def main(
    mixer: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(MIXERS)}; may be repeated. [default: all]")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each run.")] = Setting().steps,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each mixer, with the seeds 0, 1, ...")] = 3,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for mqar.json and mqar.png.")] = HERE,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again what is finished.")] = False,
) -> None:
    if unknown := [name for name in mixer or () if name not in MIXERS]:
        raise typer.BadParameter(f"{unknown[0]!r} is unknown; accepted: {', '.join(MIXERS)}", param_hint="--mixer")
    setting = Setting(steps=steps)
    out.mkdir(parents=True, exist_ok=True)
    record = out / "mqar.json"
    runs = [] if fresh else load(record, setting)
    done = {(run["mixer"], run["seed"]) for run in runs}
    # Seed by seed, so that an interrupted record compares like with like.
    wanted = [(name, seed) for seed in range(seeds) for name in mixer or MIXERS]
    missing = [run for run in wanted if run not in done]
    torch.set_num_threads(1)  # sums, and so results, depend on it
    columns = (TextColumn("{task.description:24s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(missing) * steps)
        for name, seed in missing:

            def advance(value: float, name: str = name, seed: int = seed) -> None:
                progress.update(task, advance=1, description=f"{name} seed {seed}: {value:.2f}")

            runs.append(train(name, setting, seed, advance))
            save(record, setting, runs)
    chosen = [run for run in runs if (run["mixer"], run["seed"]) in wanted]
    plot(out / "mqar.png", setting, chosen)
    show(setting, chosen)
    typer.echo(f"wrote {record} and {out / 'mqar.png'}")


app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command(help=__doc__, epilog=EXAMPLES)(main)

if __name__ == "__main__":
    app()

"""Every file and token that somebody else may have written: refused in one line that names it, or read as what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.results import forget, lookup
from deltaproof.results.export.megatron import to_megatron
from deltaproof.results.files.calibration import PATH as CALIBRATION
from deltaproof.results.files.calibration import read as read_calibration
from deltaproof.results.files.packaged import packaged
from deltaproof.results.schema.gpus import Resources
from deltaproof.results.schema.key import key_from_json
from deltaproof.results.schema.record import Measured, record_from_line, record_to_line
from deltaproof.results.schema.strict import Fields
from deltaproof.results.schema.table import dumps, loads
from deltaproof.results.schema.text_files import read_text
from deltaproof.specs.problem import Problem
from deltaproof.verify.cases.case import Replay
from deltaproof.verify.verdicts.document import SCHEMA
from deltaproof.verify.verdicts.verdict import Counterexample, Verdict
from tests.helpers.bad_documents import bad_texts, bad_values, shown
from tests.helpers.limits import answer, limited, refusal

H100 = json.loads((packaged("tables") / "h100-sxm.json").read_text())
TABLE = H100 | {"entries": H100["entries"][:1]}
KEY = {name: TABLE["entries"][0][name] for name in ("op", "rule", "dtype", "K", "V", "options", "tokens", "heads")}
ABOUT = {"schema": 1, **KEY, "config": "c64", "kernel": "0" * 16, "triton": "3.7.1", "driver": ""}
RESOURCES = {"shared": 0, "registers": 0, "threads": 32}
COUNTEREXAMPLE = Counterexample(
    problem="p",
    config="c64",
    message="wrong",
    replay="r",
    tensor="o",
    index=(0,),
    token=1,
    expected=1.0,
    got=2.0,
    story="s",
)
VERDICT = Verdict(
    kernel="a/b", rule="gdn", target="deltaproof", property="error", arithmetic="faithful", status="failed", problems=3,
    seconds=1.5, kind="precision", worst_ratio=2.0, counterexample=COUNTEREXAMPLE, configs=("c64",), notes=("n",),
    ratios=(("ordinary", "o", 2.0),), worst="r", covered=("K 16",),
)  # fmt: skip
MEASURED = json.loads(
    record_to_line(
        Measured(key=key_from_json(Fields(KEY, "")), config="c64", kernel="0" * 16, samples=(1.0,), device="d",
                 protocol="events-2", resources=Resources(**RESOURCES))
    )
)  # fmt: skip
REPORT = {
    "schema": SCHEMA, "environment": {"python": "3.12"}, "verdicts": [VERDICT.to_json()], "summary": {"seconds": 1.5},
}  # fmt: skip
T4 = {
    "schema_version": "1.0.0",
    "results": [
        {"configuration": {"block": 64}, "times": {"runtimes": [1.0]}, "invalidity": "correct", "correctness": 1,
         "measurements": [{"name": "time", "value": 1.0, "unit": "ms"}], "objectives": ["time"]}
    ],
}  # fmt: skip
ABOUT_MEGATRON = {"arch": "sm90", "triton": "3.7.1", "packages": {"mine": "1.0"}, "source": "somebody"}
MEGATRON = ABOUT_MEGATRON | {"kernels": {"f": {"N=64|torch.bfloat16": {"kwargs": {}, "num_warps": 4, "num_stages": 2}}}}
GPUS = """
[gpus.mine]
aliases = ["Mine"]
arch = "sm_89"
sm_count = 142
memory_gib = 48
bandwidth_gbs = 864
bf16_tflops = 181
fp32_tflops = 90.5
l2_mib = 96
clock_mhz = 2490
"""
REPLAY = "error@chunk_fwd/split[c64,states=64x4x2]@gdn2:bf16:b1:t64:h1x1:k32:v32:ordinary:s0+no_h0+lengths=60.4@strided"


def read_table(data: bytes) -> str:
    return dumps(loads(data.decode(), "the file"))


def read_record(data: bytes) -> str:
    return record_to_line(record_from_line(data.decode(), "the file"))


def without_defaults(document: Any) -> Any:
    """What is written for it: an entry that passed under nothing does not say so."""
    if isinstance(document, dict):
        return {name: without_defaults(x) for name, x in document.items() if (name, x) != ("passed_under", [])}
    return [without_defaults(x) for x in document] if isinstance(document, list) else document


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (read_table, TABLE),
        (read_table, TABLE | {"left": [KEY | {"count": 3}], "refused": [KEY | {"config": "c64", "kernel": "0" * 16}]}),
        (read_record, ABOUT | {"kind": "compiled", "stage": "scores", "resources": RESOURCES, "stack": 0, "tensor_core": [],
                               "code": "0" * 16, "program": "", "assembler": "", "seconds": 1.0}),
        (read_record, MEASURED),
    ],
    ids=["table", "table-left", "compiled", "measured"],
)  # fmt: skip
def test_what_tables_keep_is_refused_or_kept_whole(read: Callable[[bytes], str], document: dict[str, Any]):
    assert json.loads(read(shown(document)))  # it is right before it is made wrong
    faults = []
    for what, changed in bad_values(document):
        try:
            kept = json.loads(read(shown(changed)))
        except BaseException as error:
            wrong = refusal(error, "the file")
        else:
            wrong = None if kept == without_defaults({**kept, **changed}) else f"read as {kept}"
        faults += [f"{what}: {wrong}"] if wrong else []
    assert not faults, "\n".join(faults)


def of_command(command: list[str], names: tuple[str, ...] = ()) -> Callable[[Path, pytest.MonkeyPatch], str | None]:
    """What is wrong with the answer of a command to a file; it may take it for what it says it is, and end with 0, 1 or 3."""

    def judge(path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
        pages = [word for name in names for word in (f"--{name}", str(path.with_suffix(f".{name}")))]
        with limited(monkeypatch):
            found = answer(command[0], [*command[1:], *pages, str(path)])
        if found.traceback or found.code not in (0, 1, 2, 3):
            return f"exit code {found.code} {found.traceback}"
        refused = found.code == 2 and "nothing" not in found.stdout
        return found.fault([path.name]) if refused and found.stderr else None

    return judge


def look_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    forget()
    try:
        lookup("chunk_fwd", rule="gdn", dtype="bf16", K=128, V=128, tokens=1024, heads=16, gpu="h100-sxm", tables=path)
    except BaseException as error:
        return refusal(error, path.name)
    return None


def own_gpus(path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    monkeypatch.setenv("DELTAPROOF_GPUS", str(path))
    forget()
    found = answer("autotune", ["gpus"])
    if found.code == 0:
        return None
    return found.fault([path.name])


def calibration(path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    try:
        float(read_calibration(path)["tau"])
    except BaseException as error:
        return refusal(error, path.name)
    return None


def megatron(path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    try:
        to_megatron(MEGATRON["kernels"], **ABOUT_MEGATRON, before=read_text(path), where=path.name)
    except BaseException as error:
        return refusal(error, path.name)
    return None


FORMATS: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], str | None], Any]] = {
    "report": (of_command(["verify", "report"], ("html", "junit")), REPORT),
    "markdown": (of_command(["verify", "report", "--format", "md"]), REPORT),
    "t4": (of_command(["autotune", "import"]), T4),
    "table": (look_up, TABLE),
    "megatron": (megatron, MEGATRON),
    "calibration": (calibration, {name: json.loads(CALIBRATION.read_text())[name] for name in ("schema", "tau")}),
}


def bad_files(document: Any) -> Iterable[tuple[str, bytes]]:
    yield from bad_texts(json.dumps(document, indent=1))
    for what, changed in bad_values(document) if document is not TABLE else ():  # a table's values are above
        yield what, shown(changed)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_refused_by_name_or_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judge, document = FORMATS[name]
    path = tmp_path / "given.json"
    path.write_bytes(shown(document))
    assert judge(path, monkeypatch) is None
    faults = []
    for what, data in bad_files(document):
        path.write_bytes(data)
        wrong = judge(path, monkeypatch)
        faults += [f"{what}: {wrong}"] if wrong else []
        assert path.read_bytes() == data
    assert not faults, "\n".join(faults)


def bad_toml() -> Iterator[tuple[str, bytes]]:
    yield from bad_texts(GPUS)
    for line in GPUS.strip().splitlines()[1:]:
        for value in (
            "-1",
            "nan",
            "inf",
            "9" * 40,
            "true",
            '"x"',
            "[]",
            '["x", 1]',
            "1979-05-27",
            "{}",
            "0",
            '"../up"',
        ):
            yield f"{line} is {value}", GPUS.replace(line, f"{line.partition('=')[0]}= {value}").encode()
    for name in ("gpus", "architectures", "sources", "gpus.mine", "architectures.sm_89"):
        yield f"{name} is 1", f"{name} = 1".encode()


def test_a_file_of_gpus_is_refused_by_name_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "mine.toml"
    faults = []
    for what, data in bad_toml():
        path.write_bytes(data)
        wrong = own_gpus(path, monkeypatch)
        faults += [f"{what}: {wrong}"] if wrong else []
    monkeypatch.undo()
    forget()
    assert not faults, "\n".join(faults)


def bad_tokens(token: str) -> Iterator[str]:
    """One character left out, doubled or another, for each place; and numbers too large for what they count."""
    for at in range(len(token)):
        yield token[:at] + token[at + 1 :]
        yield token[:at] + token[at] + token[at:]
        for other in "0-@:[ \n.é":
            yield token[:at] + other + token[at + 1 :]
    yield from (token.replace(number, "9" * 5000) for number in ("1", "64", "32", "0"))


@pytest.mark.parametrize(
    ("read", "token"),
    [
        (lambda token: Replay.parse(token).token, REPLAY),
        (lambda token: Problem.parse(token).token, REPLAY.split("@")[2]),
        (lambda token: LaunchConfig.parse(token).token, "c64,states=64x4x2,scores=32x2x1"),
    ],
    ids=["replay", "problem", "configuration"],
)
def test_a_token_is_refused_or_is_itself(read: Callable[[str], str], token: str):
    faults = []
    for bad in bad_tokens(token):
        try:
            read(bad)
        except BaseException as error:
            wrong = refusal(error)
            faults += [f"{bad[:200]!r}: {wrong}"] if wrong else []
    assert not faults, "\n".join(faults)

"""The pages hold together without being built: navigation, links, names of the reference, and examples of formats."""

from __future__ import annotations

import json
import re
from importlib import import_module
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from deltaproof import kernels, results
from deltaproof.autotune.gates.running import can_run
from deltaproof.kernels import fla_names, layers, relatives
from deltaproof.results.schema.strict import TableError
from deltaproof.results.schema.table import SCHEMA, dumps, loads
from deltaproof.specs.gpus import shipped
from deltaproof.verify.verdicts.document import read_document

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SHOWN = [
    name for page in (DOCS / "reference").glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
]


def leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for part in (nav.values() if isinstance(nav, dict) else nav) for leaf in leaves(part)]


def test_the_navigation_has_every_page_once():
    configuration = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(leaves(configuration["nav"])) == [str(page.relative_to(DOCS)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """Of its headings, as Python-Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_installed_from_where_it_is_not(page: Path):
    """No package index has deltaproof: a page installs it from a clone or an address."""
    assert not re.search(r"pip install (-\S+ )*deltaproof(?! @)", page.read_text())


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert DOCS in found.parents or page.name == "README.md", f"{target} is not part of the site"
        assert not anchor or anchor in anchors(found), target


def test_the_gpus_that_are_named_are_those_that_are_known():
    named = re.findall(r"^\| ((?:sm_|gfx)\w+) \| (.+?) \| are (run|compiled)", (DOCS / "tuning.md").read_text(), re.M)
    gpus = shipped().values()
    assert {arch: set(re.sub(r" \(.*?\)", "", slugs).split(", ")) for arch, slugs, _ in named} == {
        arch: {gpu.slug for gpu in gpus if gpu.arch.name == arch} for arch in {gpu.arch.name for gpu in gpus}
    }
    assert all(can_run(arch) == (what == "run") for arch, _, what in named)
    assert f"[{len(gpus)} GPUs are known by name]" in (ROOT / "README.md").read_text()


def test_what_the_reference_shows_is_there_and_says_what_it_does():
    for name in SHOWN:
        module, _, attribute = name.rpartition(".")
        assert getattr(import_module(module), attribute).__doc__, name


def test_every_public_name_is_in_the_reference():
    shown = {name.rpartition(".")[2] for name in SHOWN}
    tables = {"KERNELS", "VARIANTS", "RELATIVES", "Relative"}  # of names, for registries
    for package in (kernels, layers, relatives, results):
        assert set(package.__all__) - tables <= shown, package.__name__


def test_every_name_of_flash_linear_attention_says_what_it_does():
    """The page of a module shows what has a docstring."""
    module = "deltaproof.kernels.fla_names"
    assert module in SHOWN
    source = Path(import_module(module).__file__ or "").read_text()
    names = [name for name in vars(fla_names) if name.startswith(("chunk_", "fused_"))]
    assert len(names) > 20
    for name in names:
        assert re.search(rf'(^def {name}\((.|\n)*?:(  # fmt: skip)?\n    """)|(^{name} = .*\n""")', source, re.M), name


def test_every_equation_that_the_code_cites_is_on_the_page_of_the_mathematics():
    cited: set[int] = set()
    for folder in ("specs", "kernels", "verify"):
        for source in (ROOT / folder).rglob("*.py"):
            cited |= numbers(source.read_text())
    there = numbers((DOCS / "mathematics.md").read_text())
    assert len(cited) > 10 and not cited - there


def numbers(text: str) -> set[int]:
    """Of equations, those of a range too."""
    ends = [(int(first), int(last or first)) for first, last in re.findall(r"Eqs?\. (\d+)(?:-(\d+))?", text)]
    return {number for first, last in ends for number in range(first, last + 1)}


def examples(page: str) -> list[str]:
    return re.findall(r"```json\n(.*?)```", (DOCS / page).read_text(), re.S)


def test_the_table_of_the_page_is_one():
    (example,) = examples("tables.md")
    assert json.loads(dumps(loads(example, "the page"))) == json.loads(example)
    for field in json.loads(example)["entries"][0]:
        assert f"`{field}`" in (DOCS / "tables.md").read_text() or field in (
            "rule",
            "dtype",
            "K",
            "V",
            "options",
            "resources",
        )


def test_the_report_of_the_page_is_one(tmp_path: Path):
    (example,) = examples("formats.md")
    (tmp_path / "report.json").write_text(example)
    (verdict,) = read_document(tmp_path / "report.json").verdicts
    assert verdict.status == "held"


@pytest.mark.parametrize("schema", [0, 1, SCHEMA + 1])
def test_a_table_of_another_schema_is_refused_and_says_which_is_read(schema: int):
    (example,) = examples("tables.md")
    other = json.dumps(json.loads(example) | {"schema": schema})
    with pytest.raises(TableError, match=f"'schema' is {schema}, this version of deltaproof reads {SCHEMA}"):
        loads(other, "the file")


def test_a_table_from_before_a_field_was_added_means_what_it_meant():
    """`passed_under` came within schema 2: without it entries passed nowhere, and are written back as they were."""
    (example,) = examples("tables.md")
    old = json.loads(example)
    del old["entries"][0]["passed_under"]
    table = loads(json.dumps(old), "the file")
    assert table.entries[0].passed_under == ()
    assert json.loads(dumps(table)) == old


def test_every_arrow_of_the_architecture_is_an_import():
    (drawing,) = re.findall(r"```text\n(autotune .*?)```", (DOCS / "architecture.md").read_text(), re.S)
    graph, folder, count = grimp.build_graph("deltaproof"), "", 0
    for line in drawing.splitlines():
        folder = named[1] if (named := re.match(r"(\w+) {2,}", line)) else folder
        rooms = [re.findall(r"[\w.]+", part) for part in line.split("→")]
        for above, below in pairwise(rooms):
            for importer, imported in product(above, below):
                own = [f"deltaproof.{folder}.{room}" for room in (importer, imported)]
                names = [own[0], own[1] if own[1] in graph.modules else f"deltaproof.{imported}"]
                assert graph.direct_import_exists(importer=names[0], imported=names[1], as_packages=True), names
                count += 1
    assert count > 40


def test_no_page_fetches_what_draws_it():
    """A browser would load the program for such a drawing from somebody else's server."""
    assert not [page for page in PAGES if "```mermaid" in page.read_text()]
    assert "mermaid" not in (ROOT / "mkdocs.yml").read_text()


def test_what_the_readme_says_of_a_released_package_is_in_its_reports():
    readme, peers = (ROOT / "README.md").read_text(), ROOT / "results" / "peers"
    rows = dict.fromkeys(re.findall(r"^\| (0\.\d\.\d) \|", readme, re.M), "")
    for release in rows:
        rows[release] = " ".join(re.findall(rf"^\| {release} \| (.*) \|$", readme, re.M))
    older, newer = (read_document(peers / f"fla-core-{release}.json").verdicts for release in rows)
    found = [verdict.counterexample.message for verdict in older if verdict.counterexample]
    (place,) = re.findall(r"`(fla/\S+:\d+)`", rows["0.5.2"])
    (token,) = re.findall(r"only gates from token (\d+) on", rows["0.5.2"])
    assert any(place in message for message in found)
    assert any(f"nothing but g at tokens from {token} " in message for message in found)
    worst = max(v.worst_ratio for v in newer if v.worst_ratio and "/" not in v.kernel)
    assert f"up to {worst:.0f} times its error budget" in rows["0.6.0"]
    (decay,) = re.findall(r"NaN at a log decay of (-\d+)", rows["0.6.0"])
    assert any(
        v.counterexample and f"strongest log decay of a token is {decay}" in v.counterexample.message for v in newer
    )


def listing(text: str, row: str) -> set[str]:
    """The names in backticks of what the text says of a folder; what stands in parentheses is about one of them."""
    (said,) = re.findall(row, text, re.M | re.S)
    return set(re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", said)))


@pytest.mark.parametrize("folder", ["specs", "results", "kernels", "verify", "autotune", "tests"])
def test_the_rooms_of_a_folder_are_those_that_are_listed(folder: str):
    """All of its folders, and of its modules all or none."""
    files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()]
    rooms = {path.parts[0] for path in files if len(path.parts) > 1 and "__pycache__" not in path.parts}
    modules = {path.stem for path in files if path.suffix == ".py" and len(path.parts) == 1} - {"__init__"}
    found = [listing((ROOT / "README.md").read_text(), rf"^\| `{folder}/` \| [^|]* \|([^|]*)\|")]
    if folder != "tests":
        found.append(listing((DOCS / "architecture.md").read_text(), rf"^- `{folder}/`:(.*?)(?=^- |^## )"))
    for named in found:
        assert named in (rooms, rooms | modules)

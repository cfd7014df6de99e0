"""PTX as text: the kernel of a module, its parameters and variables, and its statements with their source lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import PtxError, UnknownInstruction

_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*(?:\((.*?)\))?", re.DOTALL)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)(?:\s+\.ptr)?(?:\s+\.(?:global|shared|const|local))?(?:\s+\.align\s+\d+)?"
    r"\s+([\w$]+)(?:\[(\d+)\])?"
)
_VARIABLE = re.compile(
    r"\.(shared|global|const|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$%]+)(?:\[(\d*)\])?(?:\s*=\s*\{([^}]*)\}|\s*=\s*([^;]+))?"
)
_STATEMENT = re.compile(r"(?:@(!?)([%\w$.]+)\s+)?([a-z][\w.:]*)\s*(.*)$", re.DOTALL)
_LABEL = re.compile(r"([$\w%]+):(?!:)\s*")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+\d+")
_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"(?:\s+"([^"]*)")?', re.MULTILINE)
_CHAIN = re.compile(r"@\[\s*([\w.]+):(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One instruction. predicate: register that guards it, with a leading ! where it is negated; or empty.

    operands: as written. source: "file.py:line" and the lines that it was inlined at, or "" where the PTX has none.
    """

    predicate: str
    opcode: str
    operands: tuple[str, ...]
    text: str
    source: str

    @property
    def parts(self) -> list[str]:
        return self.opcode.split(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable of a module. size: bytes; 0 for the dynamic shared memory. initial: its bytes, or None."""

    name: str
    space: str
    size: int
    align: int
    initial: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A kernel's parameter: its type as PTX says it, and its bytes where it is an array."""

    name: str
    type: str
    size: int = 0


@dataclass(slots=True, kw_only=True)
class PtxKernel:
    """The kernel of a module.

    widths: bits of every register, by name; threads: of a program, along x, y and z; labels: statement that each stands
    before.
    """

    name: str
    target: str
    parameters: list[Parameter]
    threads: tuple[int, int, int]
    statements: list[Statement] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


def parse(ptx: str) -> PtxKernel:
    """The one kernel of a module.

    Raises PtxError for text that is no whole module of one kernel, Unsupported for one with functions to call.
    """
    if ".version" not in ptx[:4000] or ".target" not in ptx[:4000]:
        raise PtxError("not PTX: there is no .version and .target at its head")
    entries = _ENTRY.findall(ptx)
    if len(entries) != 1:
        raise PtxError(f"the module has {len(entries)} kernels; accepted: one")
    entry = _ENTRY.search(ptx)
    assert entry is not None
    target = re.search(r"\.target\s+(\w+)", ptx)
    start = ptx.find("{", entry.end())
    if start < 0 or target is None:
        raise PtxError("the PTX is cut: its kernel has no body")
    head = ptx[entry.end() : start]
    found = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", head)
    if found is None:
        raise PtxError("the kernel does not say how many threads a program has (.reqntid)")
    threads = (int(found[1]), int(found[2] or 1), int(found[3] or 1))
    count = threads[0] * threads[1] * threads[2]
    if count % 32 or not 32 <= count <= 1024:
        raise PtxError(f"a program has {count} threads; accepted: a multiple of 32 from 32 to 1024")
    if ".reqnctapercluster" in head or ".explicitcluster" in head:
        sizes = re.search(r"\.reqnctapercluster\s+([\d,\s]+)", head)
        if sizes is None or any(int(size) != 1 for size in sizes[1].replace(",", " ").split()):
            raise UnknownInstruction("clusters of several programs")
    kernel = PtxKernel(
        name=entry[1], target=target[1], threads=threads,
        parameters=[
            Parameter(name=name, type=kind, size=int(size or 0)) for kind, name, size in _PARAMETER.findall(entry[2] or "")
        ],
    )  # fmt: skip
    for found in _VARIABLE.finditer(_without_comments(ptx[: entry.start()])):
        variable = _variable(found)
        kernel.variables[variable.name] = variable
    files = {int(number): (second or first).rsplit("/", 1)[-1] for number, first, second in _FILE.findall(ptx)}
    _Body(kernel, files).read(ptx, start + 1)
    return kernel


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


def _variable(found: re.Match[str]) -> Variable:
    space, align, kind, name, count, many, one = found.groups()
    width = int(kind[1:]) // 8
    values = [int(word, 0) for word in (many or one or "").replace(",", " ").split() if re.fullmatch(r"-?\w+", word)]
    size = width * (int(count) if count else len(values) or (1 if count is None else 0))
    initial = None
    if values:
        initial = b"".join((value % (1 << 8 * width)).to_bytes(width, "little") for value in values).ljust(size, b"\0")
    return Variable(name=name, space=space, size=size, align=int(align or width), initial=initial)


class _Body:
    """Reads a kernel's body. Braces make scopes, whose registers and labels are told apart by the scope's number."""

    def __init__(self, kernel: PtxKernel, files: dict[int, str]) -> None:
        self.kernel, self.files = kernel, files
        self.scopes: list[dict[str, str]] = [{}]
        self.opened = 0
        self.source = ""
        # Branches may go forward: a label's name is looked up in the scopes that were open where it is used.
        self.waiting: list[tuple[int, list[dict[str, str]]]] = []

    def read(self, ptx: str, start: int) -> None:
        rest = ""
        ended = False
        for line in ptx[start:].split("\n"):
            stripped = line.strip()
            if stripped.startswith((".loc ", ".loc\t")):
                self.source = self._source(stripped)
                continue
            if stripped.startswith((".file", ".pragma", ".section", "//")) or not stripped:
                if stripped.startswith(".section"):
                    break
                continue
            if "//" in line:
                line = line[: line.index("//")]
            rest = self._consume(rest + line + "\n")
            if not self.scopes:
                ended = True
                break
        if not ended or rest.strip(" \n\t;"):
            raise PtxError("the PTX is cut: its kernel does not end")
        self._resolve()

    def _source(self, line: str) -> str:
        found = _LOC.match(line)
        if found is None or found[2] == "0":
            return self.source
        chain = "".join(f" @ {name}:{number}" for name, number in _CHAIN.findall(line))
        return f"{self.files.get(int(found[1]), '?')}:{found[2]}{chain}"

    def _consume(self, text: str) -> str:
        """Take all whole statements off the head of the text; the rest waits for more lines."""
        while text := text.lstrip(" \t\r\n;"):
            if text[0] == "{":
                self.opened += 1
                self.scopes.append({})
                text = text[1:]
            elif text[0] == "}":
                self.scopes.pop()
                text = text[1:]
                if not self.scopes:
                    return text
            elif found := _LABEL.match(text):
                name = self._declare(found[1])
                self.kernel.labels[name] = len(self.kernel.statements)
                text = text[found.end() :]
            else:
                end = text.find(";")
                if end < 0:
                    return text
                self._statement(" ".join(text[:end].split()))
                text = text[end + 1 :]
        return ""

    def _declare(self, name: str) -> str:
        scoped = name if len(self.scopes) == 1 else f"{name}@{self.opened}"
        self.scopes[-1][name] = scoped
        return scoped

    def _statement(self, text: str) -> None:
        if text.startswith(".reg"):
            self._registers(text)
            return
        if text.startswith((".shared", ".local", ".global", ".const")):
            found = _VARIABLE.match(text)
            if found is None:
                raise PtxError(f"not a variable: {text[:80]}")
            variable = _variable(found)
            self.kernel.variables[variable.name] = variable
            return
        if text.startswith((".pragma", ".noreturn", ".param")):
            if text.startswith(".param"):
                raise UnknownInstruction("call")
            return
        found = _STATEMENT.match(text)
        if found is None:
            raise PtxError(f"not an instruction: {text[:80]}")
        negated, guard, opcode, operands = found.groups()
        if opcode in ("call", "call.uni"):
            raise UnknownInstruction("call", text[:80])
        statement = Statement(
            predicate=negated + self._scoped(guard) if guard else "",
            opcode=opcode,
            operands=tuple(self._scoped_words(operand) for operand in split_operands(operands)),
            text=text,
            source=self.source,
        )
        if opcode.startswith(("bra", "brx")):
            self.waiting.append((len(self.kernel.statements), list(self.scopes)))
        self.kernel.statements.append(statement)

    def _registers(self, text: str) -> None:
        kind, names = text.split(None, 2)[1].lstrip("."), text.split(None, 2)[2]
        width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind.split("x")[0] if "x2" not in kind else "32") or 0)
        for name in names.split(","):
            name = name.strip()
            if found := re.fullmatch(r"(.*)<(\d+)>", name):
                names_of = [f"{found[1]}{i}" for i in range(int(found[2]))]
                inner = len(self.scopes) > 1
                self.kernel.widths.update(dict.fromkeys(map(self._declare, names_of) if inner else names_of, width))
            else:
                self.kernel.widths[self._declare(name)] = width

    def _scoped(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return name

    def _scoped_words(self, operand: str) -> str:
        if len(self.scopes) == 1:
            return operand
        return re.sub(r"[%$A-Za-z_][\w$%]*", lambda found: self._scoped(found[0]), operand)

    def _resolve(self) -> None:
        """Branches to labels that a scope declares after them."""
        for index, scopes in self.waiting:
            statement = self.kernel.statements[index]
            target = statement.operands[-1]
            if target in self.kernel.labels:
                continue
            for scope in reversed(scopes):
                if target in scope:
                    changed = (*statement.operands[:-1], scope[target])
                    self.kernel.statements[index] = Statement(
                        predicate=statement.predicate, opcode=statement.opcode, operands=changed, text=statement.text,
                        source=statement.source,
                    )  # fmt: skip
                    break


def split_operands(text: str) -> list[str]:
    """Operands of one instruction; commas inside braces and brackets do not separate them."""
    if not text:
        return []
    if "{" not in text and "[" not in text:
        return [word.strip() for word in text.split(",")]
    found, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        if letter in "{[":
            depth += 1
        elif letter in "}]":
            depth -= 1
        elif letter == "," and not depth:
            found.append(text[start:index].strip())
            start = index + 1
    found.append(text[start:].strip())
    return found

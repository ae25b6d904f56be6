"""The house rules that a reader cannot check by eye: who imports whom, and how long things may be.

Each rule is a function from a file to what is wrong with it; every rule is held against every file.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("octavo", "frontend", "core", "executor", "kernels", "plugins", "tools")

MAY_IMPORT = {
    "octavo": {"octavo"},
    "kernels": {"kernels", "octavo"},
    "executor": {"executor", "kernels", "octavo"},
    "core": {"core", "executor", "octavo"},
    "frontend": {"frontend", "core", "plugins", "octavo"},
    "plugins": {"plugins", "octavo"},
    "tools": set(ROOMS),
}
"""Imports point one way only; nobody but the tools themselves imports tools."""

NAMES_OF_OTHERS = {"octavo.modeling"}
"""Modules for other packages to import, made of other rooms' names."""

HEAVY = {"torch", "transformers"}
WIRE = {f"core/{name}.py" for name in ("transport", "client")}
PICKLES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
MARKS = ("TO" + "DO", "FIX" + "ME", "XXX")
TYPE_CHECKING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
LONGEST_FILE = 550
LONGEST_FUNCTION = 60

Rule = Callable[[Path, ast.Module], Iterator[str]]


def imports_point_one_way(path: Path, tree: ast.Module) -> Iterator[str]:
    room = path.relative_to(ROOT).parts[0]
    if module_name(path) in NAMES_OF_OTHERS:
        return
    # The package's root names the rooms' classes for type checkers, and loads them when they are first used.
    nodes = module_level(tree.body) if module_name(path) == "octavo" else ast.walk(tree)
    for node in nodes:
        for name in imported(node, path):
            target = room_of(name)
            if target is not None and target not in MAY_IMPORT[room]:
                yield f"line {node.lineno} imports {name}, but {room}/ may import only {sorted(MAY_IMPORT[room])}"  # type: ignore[attr-defined]


def frontend_and_wire_import_no_torch(path: Path, tree: ast.Module) -> Iterator[str]:
    relative = path.relative_to(ROOT)
    torchless = relative.parts[0] in ("frontend", "octavo") and module_name(path) not in NAMES_OF_OTHERS
    if torchless or relative.as_posix() in WIRE:
        for node in module_level(tree.body):
            for name in imported(node, path):
                if name.split(".")[0] in HEAVY:
                    yield f"line {node.lineno} imports {name} at module level"


def files_are_short(path: Path, tree: ast.Module) -> Iterator[str]:
    lines = path.read_text(encoding="utf-8").count("\n")
    if lines > LONGEST_FILE:
        yield f"{lines} lines: the file holds two ideas"


def functions_are_short(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{node.name} has {length} lines"


def nothing_is_pickled(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if any(name.split(".")[0] in PICKLES for name in imported(node, path)):
            yield f"line {node.lineno} imports a pickler"  # type: ignore[attr-defined]
        if isinstance(node, ast.Attribute) and node.attr in ("send_pyobj", "recv_pyobj"):
            yield f"line {node.lineno} uses {node.attr}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            if not safe:
                yield f"line {node.lineno}: torch.load without weights_only=True"


def no_exception_is_swallowed(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            wholesale = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            idle = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
            if wholesale and idle:
                yield f"line {node.lineno} catches everything and does nothing"


def no_note_to_self_is_left(path: Path, tree: ast.Module) -> Iterator[str]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if any(mark in line for mark in MARKS):
            yield f"line {number}: {line.strip()}"


def text_becomes_ids_in_one_place(path: Path, tree: ast.Module) -> Iterator[str]:
    """Through `TokenizerPool`, which bounds a text before it is read and keeps long ones off the event loop."""
    if path.relative_to(ROOT).parts[0] != "frontend" or path.name in ("tokenizer.py", "tokenizer_pool.py"):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("encode"):
            receiver = ast.unparse(node.func.value).lower()
            if "tokenizer" in receiver or "backend" in receiver:
                yield f"line {node.lineno}: {ast.unparse(node.func)} goes past the tokenizer pool"


RULES: list[Rule] = [
    imports_point_one_way,
    frontend_and_wire_import_no_torch,
    files_are_short,
    functions_are_short,
    nothing_is_pickled,
    no_exception_is_swallowed,
    no_note_to_self_is_left,
    text_becomes_ids_in_one_place,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds_in_every_file(rule: Rule) -> None:
    files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    assert len(files) > 50
    wrong = [f"{path.relative_to(ROOT)}: {finding}" for path in files for finding in rule(path, parsed(path))]
    assert not wrong, "\n".join(wrong)


BAD = {
    "imports_point_one_way": "def f():\n    from octavo.frontend import llm",
    "frontend_and_wire_import_no_torch": "try:\n    import torch.nn\nexcept ImportError:\n    raise",
    "files_are_short": "x = 1\n" * (LONGEST_FILE + 1),
    "functions_are_short": "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION,
    "nothing_is_pickled": "import pickle",
    "no_exception_is_swallowed": "try:\n    f()\nexcept Exception:\n    pass",
    "text_becomes_ids_in_one_place": "ids = self.tokenizer.encode(text)",
    "no_note_to_self_is_left": f"x = 1  # {MARKS[0]} better",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_finds_what_it_forbids(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / ("frontend" if rule is text_becomes_ids_in_one_place else "core") / "client.py"
    path.parent.mkdir()
    path.write_text(BAD[rule.__name__])
    assert list(rule(path, ast.parse(path.read_text())))


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count, and so do packages, which run before what lies in them; those for type checkers do not."""
    files = {module_name(path): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    graph = {
        name: {run for target in imported_modules(path, files) for run in run_before(target, name, files) if run != name}
        for name, path in files.items()
    }
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert not circles(graph)


def run_before(target: str, importer: str, files: Collection[str]) -> Iterator[str]:
    """`target`, and the packages around it that do not hold the importer, too."""
    while target and not f"{importer}.".startswith(f"{target}."):
        if target in files:
            yield target
        target = target.rpartition(".")[0]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of names that all reach each other."""
    reached = {name: reachable(graph, name) for name in graph}
    groups = {tuple(sorted({name, *(other for other in reached[name] if name in reached[other])})) for name in graph}
    return sorted(list(group) for group in groups if len(group) > 1)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = graph[waiting.pop()] - seen
        seen |= fresh
        waiting += fresh
    return seen


def imported_modules(path: Path, files: Collection[str]) -> Iterator[str]:
    for node in at_run_time(parsed(path)):
        for name in imported(node, path):
            if (ROOT / f"{name.removeprefix('octavo.').replace('.', '/')}.pyi").exists():
                continue  # a compiled module, not its package
            while name and name not in files:  # what is imported may be a name inside a module
                name = name.rpartition(".")[0]
            if name:
                yield name


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) in TYPE_CHECKING):
            yield child
            yield from at_run_time(child)


@pytest.mark.parametrize("module", ["octavo.frontend.server.run", "octavo.frontend.llm", "octavo.core.client", "octavo.config"])
def test_frontend_process_loads_no_torch(module: str) -> None:
    """No torch at run time either, through everything a module imports: the frontend's memory and start-up depend on it."""
    code = f"import sys, {module}; print([name for name in {sorted(HEAVY)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def module_name(path: Path) -> str:
    """octavo/config.py -> octavo.config; core/client.py -> octavo.core.client"""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts if parts[0] == "octavo" else ["octavo", *parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(node: ast.AST, path: Path) -> list[str]:
    """Full names of what an import statement imports; [] for other nodes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = node.module or ""
    if node.level:
        package = module_name(path).split(".")
        package = package if path.name == "__init__.py" else package[:-1]
        base = package[: len(package) - node.level + 1]
        module = ".".join([*base, *([module] if module else [])])
    return [f"{module}.{alias.name}" for alias in node.names]


def room_of(name: str) -> str | None:
    """The room a module belongs to; None for other packages."""
    parts = name.split(".")
    if parts[0] == "tests":
        return "tests"
    if parts[0] != "octavo":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in (*ROOMS[1:], "tests") else "octavo"


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at import time, those inside if, try, with and classes included."""
    for node in body:
        yield node
        type_checking = isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_CHECKING
        if type_checking or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from module_level(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            yield from module_level(handler.body)

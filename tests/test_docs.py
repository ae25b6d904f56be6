"""What the docs say is there: classes, flags, files, endpoints, code that compiles."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from octavo import envs
from octavo.frontend.cli import serve
from octavo.frontend.server.app import ROUTES
from octavo.tools import bench_latency, bench_perplexity, bench_serve, bench_throughput, cli_docs, models_docs, vllm_docs

ROOT = Path(__file__).parent.parent
ROOMS = ("octavo", "frontend", "core", "executor", "kernels", "plugins", "tools")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def defined_names() -> frozenset[str]:
    """Every class and function of the project."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds))


@cache
def known_flags() -> frozenset[str]:
    benchmarks = (bench_serve, bench_throughput, bench_latency, bench_perplexity)
    parsers = [serve.make_parser(), *(benchmark.make_parser() for benchmark in benchmarks)]
    return frozenset(name for parser in parsers for action in parser._actions for name in action.option_strings)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def code(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_cli_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == cli_docs.page(), "run: make docs"


def test_vllm_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "vllm.md").read_text(encoding="utf-8") == vllm_docs.page(), "run: make docs"


def test_models_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == models_docs.page(), "run: make docs"


def test_architecture_names_what_exists() -> None:
    text = prose(ROOT / "docs" / "architecture.md")
    names = set(re.findall(r"`([A-Z][A-Za-z]+)`", text)) | set(re.findall(r"`([a-z]+_[a-z_]+)`", text))
    assert len(names) > 25
    assert names <= defined_names(), names - defined_names()


@pytest.mark.parametrize("name", ["adding-a-model.md", "server.md"])
def test_other_pages_name_classes_that_exist(name: str) -> None:
    names = set(re.findall(r"`([A-Z][a-z]+[A-Z][A-Za-z]+)`", prose(ROOT / "docs" / name)))
    assert names <= defined_names(), names - defined_names()


@every_page
def test_flags_exist(page: Path) -> None:
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", prose(page))) - {"--x", "--no-x", "--flag"}
    accepted = known_flags() | {
        name for line in (cli_docs.page() + vllm_docs.page()).splitlines() for name in re.findall(r"`(--[a-z-]+)`", line)
    }
    assert flags <= accepted | {"--config"}, flags - accepted


@every_page
def test_environment_variables_exist(page: Path) -> None:
    names = set(re.findall(r"OCTAVO_([A-Z_]+)", page.read_text(encoding="utf-8")))
    assert names <= set(envs.TABLE), names


@every_page
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:octavo|frontend|core|executor|kernels|plugins|tools|tests|docs|examples)/[\w./]*)`", text)
    missing = [link for link in links if not (page.parent / link).exists()] + [p for p in paths if not (ROOT / p).exists()]
    assert not missing


@every_page
def test_python_blocks_compile(page: Path) -> None:
    for block in code(page, "python"):
        text = block if not block.lstrip().startswith('"') else "x = {" + block + "}"
        lines = text.splitlines()
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        ast.parse("\n".join(line[indent:] for line in lines))


def test_server_page_lists_every_route() -> None:
    text = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    paths = {re.sub(r":[^}]*", "", path) for _, path, _ in ROUTES}
    assert not [path for path in paths if f"{path}`" not in text]


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert {"serve", "test", "lint"} <= targets
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)

"""README and docs are true: their examples do what they show, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [README, ROOT / "benchmarks" / "README.md", *PAGES]
README_LINES = 200


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def sessions(text: str) -> list[tuple[str, str]]:
    """Every command of the ``console`` blocks of a page, with the output that is shown."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            command = [lines.pop(0)]
            # The shell's second prompt: the command continues.
            while lines and lines[0].startswith("> "):
                command.append(lines.pop(0).removeprefix("> "))
            found.append(("".join(command), "".join(lines)))
    return found


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as MkDocs and code hosts make them."""
    titles = re.findall(r"^#+ (.*)", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_two_commands_are_where_ci_looks_for_them() -> None:
    text = README.read_text(encoding="utf-8")
    for name in ("use", "check"):
        assert re.search(rf"<!-- run:{name} -->\n```sh\n[^\n]+\n```\n<!-- end -->", text)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_sessions_are_taken_apart() -> None:
    text = "```console\n$ a\n1\n2\n$ b '\n>   c'\n3\n```\n\n```text\n$ no\n```\n```console\n$ d\n```\n"
    assert sessions(text) == [("a\n", "1\n2\n"), ("b '\n  c'\n", "3\n"), ("d\n", "")]


def test_there_are_examples() -> None:
    assert sum(len(sessions(file.read_text(encoding="utf-8"))) for file in TEXTS) >= 12


@pytest.mark.parametrize(
    "file",
    [
        README,
        *(
            pytest.param(file, marks=pytest.mark.long)
            for file in TEXTS
            if file != README and "```console" in file.read_text(encoding="utf-8")
        ),
    ],
    ids=lambda file: file.relative_to(ROOT).as_posix(),
)
def test_examples_do_what_they_show(file: Path, tmp_path: Path) -> None:
    """In order, in one folder for each page; ``...`` stands for anything."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for command, output in sessions(file.read_text(encoding="utf-8")):
        script = f'cvae() {{ "{sys.executable}" -m cvae_cli "$@"; }}\n{command}'
        run = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        # Progress, which a slow machine prints now and then, is not part of what is shown.
        said = re.sub(r"^\w+: \d+ .*images.*\n", "", run.stdout, flags=re.MULTILINE)
        pattern = re.escape(output).replace(re.escape("..."), ".*?")
        assert re.fullmatch(pattern, said, re.DOTALL), f"$ {command}{run.stdout}"


@pytest.mark.parametrize("file", TEXTS, ids=name_of)
def test_links_and_pictures_are_there(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), target
        # The site holds nothing but docs/.
        assert DOCS not in file.parents or DOCS in there.parents, target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


def test_every_picture_is_shown() -> None:
    shown = {target for file in TEXTS for target in re.findall(r"([\w-]+\.(?:png|jpg))\)", file.read_text())}
    assert {file.name for file in (DOCS / "images").iterdir()} <= shown


def test_every_page_is_in_the_navigation() -> None:
    yaml = pytest.importorskip("yaml")
    config: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [page for part in parts for page in pages(part)]

    listed = pages(config["nav"])
    assert sorted(listed) == [file.relative_to(DOCS).as_posix() for file in PAGES]
    assert config["theme"]["name"] == "material"


def test_the_map_of_the_house_names_every_file() -> None:
    text = (DOCS / "development.md").read_text(encoding="utf-8")
    named = set()
    for room, rows in re.findall(r"^### `(\w+)/`.*?\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE):
        for row in re.findall(r"^\| (`.*?) \|", rows, re.MULTILINE):
            named |= {f"{room}/{name}" for name in re.findall(r"`(\w+)`", row)}
    package = ROOT / "cvae_cli"
    modules = [file for file in package.glob("*/*.py") if file.name != "__init__.py"]
    files = {file.relative_to(package).with_suffix("").as_posix() for file in modules}
    assert sorted(named ^ files) == []


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocs_click")),
    reason="needs the extra [docs]",
)
def test_the_site_builds(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = ["mkdocs", "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(site)]
    # Not from the checkout, whose package would come before the one that is installed.
    run = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path, text=True, check=False, capture_output=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    reference = (site / "cli" / "index.html").read_text(encoding="utf-8")
    for words in ("cvae relabel", "--min-confidence", "cvae models"):
        assert words in reference
    # Nothing is fetched from elsewhere when a page is read.
    for page in site.rglob("*.html"):
        assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=\"https?:", page.read_text()), page

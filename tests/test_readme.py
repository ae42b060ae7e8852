"""The README is true: its options are those of --help, its examples do what they show.

``python tests/test_readme.py`` writes the options again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
COMMANDS = ("relabel", "grid", "train", "evaluate", "models")
BLOCK = "<!-- help:{} -->\n(.*?)<!-- end -->"


def help_block(command: str) -> str:
    """What --help prints, 100 columns wide, as it stands in the README."""
    environment = {**os.environ, "COLUMNS": "100"}
    run = subprocess.run(
        [sys.executable, "-m", "cvae_cli", command, "--help"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    text = run.stdout.replace("python -m cvae_cli", "cvae")
    title = f"<summary>All options of <code>cvae {command}</code></summary>"
    return f"<details>\n{title}\n\n```text\n{text}```\n\n</details>\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_those_of_help(command: str) -> None:
    found = re.search(BLOCK.format(command), README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == help_block(command), "run: python tests/test_readme.py"


def test_the_two_commands_are_where_ci_looks_for_them() -> None:
    text = README.read_text(encoding="utf-8")
    for name in ("use", "check"):
        assert re.search(rf"<!-- run:{name} -->\n```sh\n[^\n]+\n```\n<!-- end -->", text)


def sessions() -> list[tuple[str, str]]:
    """Every command of the ``console`` blocks with the output that is shown."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def test_examples_do_what_they_show(tmp_path: Path) -> None:
    """In order, in one folder; ``...`` stands for anything."""
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "examples" / "digits")
    shown = sessions()
    assert len(shown) >= 8
    for command, output in shown:
        script = f'cvae() {{ "{sys.executable}" -m cvae_cli "$@"; }}\n{command}'
        run = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        # How often a slow machine says where it stands is not part of what is shown.
        said = re.sub(r"^\w+: \d+ .*images.*\n", "", run.stdout, flags=re.MULTILINE)
        pattern = re.escape(output).replace(re.escape("..."), ".*?")
        assert re.fullmatch(pattern, said, re.DOTALL), f"$ {command}\n{run.stdout}"


def test_links_and_pictures_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#][^)]*)\)", text):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
    titles = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    headings = {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in headings


if __name__ == "__main__":
    content = README.read_text(encoding="utf-8")
    for name in COMMANDS:
        block = f"<!-- help:{name} -->\n{help_block(name)}<!-- end -->"
        content = re.sub(BLOCK.format(name), lambda _, block=block: block, content, flags=re.DOTALL)
    README.write_text(content, encoding="utf-8")

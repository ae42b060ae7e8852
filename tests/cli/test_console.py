from __future__ import annotations

import io
import shlex
import warnings
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers import export_untrained
from rich.console import Console

from cvae_cli.cli import _show_own_warnings, console
from cvae_cli.errors import ProcessLostWarning
from cvae_cli.model.spec import ModelSpec


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü.png", "plain ü.png"),
        ("new\nline\t.png", "new\\nline\\t.png"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("bad \udcff.png", "bad \\udcff.png"),
        ("\u202efdp.exe", "\\u202efdp.exe"),
    ],
)
def test_any_name_is_shown_on_one_line_without_control_characters(text: str, shown: str) -> None:
    assert console.visible(text) == shown


def test_a_path_can_be_pasted_into_a_shell() -> None:
    for path in ("runs/mnist", "my runs/it's $HOME"):
        assert shlex.split(console.shown_path(Path(path))) == [path]


def printed(*, terminal: bool, monkeypatch: pytest.MonkeyPatch, no_color: bool = False) -> str:
    stream = io.StringIO()
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    target = Console(file=stream, force_terminal=terminal, width=40, highlight=False)
    console.print_failure(target, "[red]a.png", "no such file " * 8)
    console.print_warning(target, "[bold]look")
    return stream.getvalue()


def test_markup_in_a_name_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(terminal=False, monkeypatch=monkeypatch)
    assert "failed [red]a.png: no such file" in text
    assert "warning: [bold]look" in text
    assert "\x1b[" not in text
    assert "\x1b[31m" in printed(terminal=True, monkeypatch=monkeypatch)
    assert "\x1b[31m" not in printed(terminal=True, monkeypatch=monkeypatch, no_color=True)


def test_lines_of_a_log_are_not_wrapped(capfd: pytest.CaptureFixture[str]) -> None:
    made = console.make_console()
    made.print("x" * 500)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "x" * 500 + "\n"


@pytest.mark.parametrize(("given", "level"), [(-1, -1), (0, 0), (2, 2), (None, 0)])
def test_how_much_is_said(given: int | None, level: int) -> None:
    @click.group()
    @click.pass_context
    def main(ctx: click.Context) -> None:
        ctx.obj = given

    @main.command()
    def inner() -> None:
        click.echo(console.verbosity())

    assert CliRunner().invoke(main, ["inner"]).stdout == f"{level}\n"
    assert console.verbosity() == 0  # outside of a command


def test_classes_that_captions_cannot_show_are_named(small_spec: ModelSpec, tmp_path: Path) -> None:
    for classes, says in ((("猫", "bird"), "have boxes instead: 猫"), (("Жук", "ü"), "")):
        model = export_untrained(replace(small_spec, classes=classes), tmp_path / "m.safetensors")
        stream = io.StringIO()
        console.warn_of_unshown(Console(file=stream, width=200), str(model))
        assert says in stream.getvalue()
        assert bool(stream.getvalue()) is bool(says)


def test_warnings_go_where_the_bars_are(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(console, "_made", [])
    first = console.current_console()
    assert console.current_console() is first
    second = console.make_console()
    assert console.current_console() is second
    stream = io.StringIO()
    monkeypatch.setattr(console, "_made", [Console(file=stream, width=200)])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    _show_own_warnings()
    warnings.warn("gone", ProcessLostWarning, stacklevel=1)
    assert stream.getvalue() == "warning: gone\n"

"""Options that several commands share: what they take, and what they refuse."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cvae_cli.cli import options


def parse(kind: click.ParamType, value: str) -> Any:
    return kind.convert(value, None, None)


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("3/8", (3, 8))])
def test_a_shard(text: str, shard: tuple[int, int]) -> None:
    assert parse(options.Shard(), text) == shard
    assert options.Shard().convert(shard, None, None) == shard


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3", "1.0/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not of the form I/N"):
        parse(options.Shard(), text)


def test_a_home_folder_is_expanded_where_a_shell_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse(options.FilePath(), "~/imgs") == Path("/home/somebody/imgs")
    assert parse(options.Text(), "~/model.safetensors") == "/home/somebody/model.safetensors"
    assert parse(options.Text(), "mnist") == "mnist"
    assert parse(options.FilePath(allow_dash=True), "-") == options.DASH
    assert options.expand_home("a~b") == "a~b"


@pytest.mark.parametrize("kind", [options.FilePath(), options.Text()])
def test_an_empty_value_is_a_variable_that_is_not_set(kind: click.ParamType) -> None:
    with pytest.raises(click.BadParameter, match="is a variable of your script unset"):
        parse(kind, "")
    assert str(parse(kind, "x")) == "x"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "2", "x"])
def test_a_number_is_finite_and_in_its_range(text: str) -> None:
    assert parse(options.Number(0, 1), "0.5") == 0.5
    with pytest.raises(click.BadParameter):
        parse(options.Number(0, 1), text)
    if text in ("nan", "inf"):
        with pytest.raises(click.BadParameter, match="not a finite number"):
            parse(options.Number(0), text)


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_names_that_name_nothing(text: str) -> None:
    assert parse(options.Names(), "cat, dog") == "cat, dog"
    with pytest.raises(click.BadParameter, match="at least one class"):
        parse(options.Names(), text)


def test_names_from_the_environment_may_have_spaces() -> None:
    @click.command()
    @click.option("--targets", type=options.Names(), multiple=True, envvar="TARGETS")
    def command(targets: tuple[str, ...]) -> None:
        click.echo(repr(targets))

    run = CliRunner().invoke(command, env={"TARGETS": "ankle boot, bag"})
    assert run.stdout == "('ankle boot, bag',)\n"


def listed(monkeypatch: pytest.MonkeyPatch, content: bytes, *, null: bool) -> list[str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    found = options.listing((options.DASH,), null=null)
    assert found is not None
    return list(found)


def test_a_tilde_is_the_home_folder_unless_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert options.expand_home("~/x") == "/home/me/x"
    assert options.expand_home("~nobody-of-this-name.png") == "~nobody-of-this-name.png"
    assert options.expand_home("a~") == "a~"
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "x").touch()
    assert options.expand_home("~/x") == "~/x"
    assert options.expand_home("~") == "~"


def test_a_list_of_paths_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(monkeypatch, b"a b.png\n\xff.png\n", null=False) == ["a b.png", "\udcff.png"]
    assert listed(monkeypatch, b"\xef\xbb\xbfa.png\r\n\xef\xbb\xbfb", null=False) == ["a.png", "\ufeffb"]
    assert listed(monkeypatch, b"cr.png\r\0lf.png\n\0", null=True) == ["cr.png\r", "lf.png\n"]
    assert listed(monkeypatch, b"a\nb.png\0\xff.png\0", null=True) == ["a\nb.png", "\udcff.png"]
    assert listed(monkeypatch, b"a.png\0b.png", null=True) == ["a.png", "b.png"]
    assert listed(monkeypatch, b"", null=True) == []


def test_a_long_list_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:06}.png" for number in range(30_000)]  # more than one read holds
    assert listed(monkeypatch, "\0".join(names).encode(), null=True) == names


def test_a_list_cannot_be_mixed_with_other_sources() -> None:
    assert options.listing((Path("a"), Path("b")), null=False) is None
    with pytest.raises(click.UsageError, match="cannot be mixed"):
        options.listing((Path("a"), options.DASH), null=False)
    with pytest.raises(click.UsageError, match="add - as the source"):
        options.listing((Path("a"),), null=True)

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cvae_cli.cli.tables import echo_columns, print_metrics, print_pairs
from cvae_cli.evaluation.report import Better, Evaluation, Metric, Unit

FOUND = Evaluation(
    model="mnist",
    model_sha256="a" * 64,
    data="digits",
    images=50,
    judge="digits-judge",
    judge_sha256="b" * 64,
    classes=("[red]cat", "a very long class name"),
    metrics=(
        Metric(
            "effectiveness", 0.98765, "effectiveness", Unit.SHARE, Better.HIGHER,
            references={"real images": 0.99, "copies": math.nan}, is_key=True,
        ),
        Metric("composition", 12.345, "composition", Unit.GREY_LEVELS, Better.LOWER),
        Metric("kl", 20.5, "KL", Unit.NATS, note="of one sample"),
    ),
    pairs=((0.5, 1.0), (math.nan, 0.25)),
    device="cpu",
    precision="fp32",
    seconds=1.0,
)  # fmt: skip


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert err == ""
    return [" ".join(line.split()) for line in out.splitlines() if line.strip()]


def test_each_metric_has_a_line_with_what_to_compare_it_with(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(FOUND)
    printed = lines(capsys)
    assert printed[0].startswith(
        f"mnist ({'a' * 12}) on 50 test images of digits: 50 tiles, judge digits-judge"
    )
    assert "effectiveness, higher is better 98.77% real images 99.00%, copies -" in printed
    assert "composition, lower is better 12.35 grey levels" in printed
    assert "KL 20.50 nats of one sample" in printed


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(FOUND, model="[bold]m", data="photos [/x]", classes=("[/x]", "a\nb"))
    print_metrics(odd)
    print_pairs(odd)
    printed = "\n".join(lines(capsys))
    for text in ("[bold]m", "photos [/x]", "[/x] (50.0) 100.0", "a\\nb - (25.0)"):
        assert text in printed


def test_in_short_there_are_only_the_key_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(FOUND, short=True)
    printed = "\n".join(lines(capsys))
    assert "effectiveness" in printed
    assert "composition" not in printed
    assert "KL" not in printed


def test_pairs_have_their_reconstruction_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs(FOUND)
    printed = lines(capsys)
    assert "[red]cat (50.0) 100.0" in printed
    assert "a very long - (25.0)" in printed  # the name of a row is cut at twelve characters


def test_a_table_in_a_file_is_not_wrapped_or_padded(capsys: pytest.CaptureFixture[str]) -> None:
    long = replace(FOUND.metrics[0], references={f"reference {number}": 0.5 for number in range(6)})
    print_metrics(replace(FOUND, metrics=(long,)))
    printed = capsys.readouterr().out.splitlines()
    assert any("reference 0 50.00%" in line and "reference 5 50.00%" in line for line in printed)
    assert all(line == line.rstrip() for line in printed)


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    echo_columns([["name", "kind"], ["a", "model"], ["longer name", "x"]])
    assert capsys.readouterr().out == "name         kind\na            model\nlonger name  x\n"
    echo_columns([])
    assert capsys.readouterr().out == ""

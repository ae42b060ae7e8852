"""``cvae models``."""

from __future__ import annotations

import json
from typing import Any

import click

from cvae_cli.cli.console import print_warning


@click.command("models", short_help="List the models that come with cvae, or show one.")
@click.argument("name", required=False, metavar="[NAME|FILE]")
@click.option("--json", "as_json", is_flag=True, envvar="CVAE_MODELS_JSON", help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the models that come with cvae; with a name, show all that is known of it.

    The list, and what is shown, go to stdout.
    """
    from cvae_cli.model import weights

    if name is None:
        lines = [_line(weights.read_metadata(file)) for file in weights.shipped(None).values()]
        if as_json:
            click.echo(json.dumps(lines, indent=2))
        else:
            _print_table(lines)
        return
    file = weights.shipped(None).get(name) or weights.resolve(name)
    raw = weights.read_metadata(file)
    is_model = raw.get("kind", weights.MODEL) == weights.MODEL
    if as_json:
        click.echo(json.dumps(raw, indent=2))
    else:
        _print_card(raw)
    if is_model and weights.read_card(file).ignores_label:
        from cvae_cli.cli.console import make_console

        print_warning(make_console(), "this model ignores its label: relabelled images will hardly differ.")


def _line(raw: dict[str, Any]) -> dict[str, Any]:
    spec = raw["spec"]
    return {
        "name": raw["name"],
        "kind": raw.get("kind", "model"),
        "classes": len(spec["classes"]),
        "size": f"{spec['image_size']}x{spec['image_size']} {'grey' if spec['channels'] == 1 else 'RGB'}",
        "parameters": raw["parameters"],
        "MB": round(raw["bytes"] / 1e6, 1),
        "data_set": raw["data_set"],
        "licence": raw["licence"],
    }


def _print_table(lines: list[dict[str, Any]]) -> None:
    # Plain columns: the table goes to stdout, for people and for cut and awk alike.
    if not lines:
        return
    heads = list(lines[0])
    cells = [heads, *([str(line[head]) for head in heads] for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_card(raw: dict[str, Any], indent: str = "") -> None:
    for key, value in raw.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{key}:")
            _print_card(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            click.echo(f"{indent}{key}:")
            for item in value:
                click.echo(f"{indent}  - " + ", ".join(f"{name} {number}" for name, number in item.items()))
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            click.echo(f"{indent}{key}: {shown}")

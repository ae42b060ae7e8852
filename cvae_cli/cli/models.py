"""``cvae models``."""

from __future__ import annotations

import json
from typing import Any

import click

from cvae_cli.cli import completion
from cvae_cli.cli.console import make_console, print_warning, visible
from cvae_cli.cli.tables import echo_columns
from cvae_cli.errors import CvaeError
from cvae_cli.storage import Location


@click.command("models", short_help="List the models that come with cvae, or show one.")
@click.argument("name", required=False, metavar="[NAME|FILE]", shell_complete=completion.weights)
@click.option("--json", "as_json", is_flag=True, envvar="CVAE_MODELS_JSON", help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the models that come with cvae; with a name, show everything known about it.

    Both go to stdout.
    """
    from cvae_cli.model import registry

    if name is None:
        lines = []
        for shipped in registry.shipped(None).values():
            try:
                lines.append(_line(registry.read_metadata(shipped)))
            except (CvaeError, KeyError, TypeError) as error:
                reason = error if isinstance(error, CvaeError) else f"{shipped}: its metadata is incomplete."
                print_warning(make_console(), str(reason))
        if as_json:
            click.echo(json.dumps(lines, indent=2))
        else:
            heads = list(lines[0]) if lines else []
            echo_columns([heads, *([str(line[head]) for head in heads] for line in lines)])
        return
    file: Location = registry.shipped(None).get(name) or registry.resolve(name)
    raw = registry.read_metadata(file)
    is_model = raw.get("kind", registry.MODEL) == registry.MODEL
    if as_json:
        click.echo(json.dumps(raw, indent=2))
    else:
        _print_card(raw)
    if is_model and registry.read_card(file).ignores_label:
        print_warning(make_console(), "this model ignores its label: its tiles will hardly differ.")


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
            click.echo(visible(f"{indent}{key}: {shown}"))

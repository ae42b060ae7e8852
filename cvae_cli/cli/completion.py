"""What a shell completes after an option, through click's own mechanism; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from cvae_cli.data.catalogue import NAMES
from cvae_cli.errors import CvaeError
from cvae_cli.model import registry

_LABELS = ("auto", "folder", "predict")


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shipped models, and files."""
    return [*_beginning_with(incomplete, registry.shipped()), CompletionItem(incomplete, type="file")]


def weights(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shipped models and judges, and files."""
    return [*_beginning_with(incomplete, registry.shipped(None)), CompletionItem(incomplete, type="file")]


def data_sets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The data sets known by name, and folders."""
    return [*_beginning_with(incomplete, NAMES), CompletionItem(incomplete, type="dir")]


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The classes of the chosen model that are not named yet; after a comma, the next one."""
    named, comma, begun = incomplete.rpartition(",")
    taken = {name.strip() for name in named.split(",")}
    known = [name for name in _classes(ctx) if name not in taken]
    if not comma:
        known.append("all")
    return [CompletionItem(f"{named}{comma}{item.value}") for item in _beginning_with(begun, known)]


def labels(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Where a label may come from, the classes of the chosen model, and files."""
    known = [*_LABELS, *_classes(ctx)]
    return [*_beginning_with(incomplete, known), CompletionItem(incomplete, type="file")]


def _classes(ctx: click.Context) -> tuple[str, ...]:
    try:
        return registry.read_card(registry.resolve(str(ctx.params.get("model") or "mnist"))).spec.classes
    except CvaeError:
        return ()  # nothing can be said in the middle of a line


def _beginning_with(incomplete: str, known: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]

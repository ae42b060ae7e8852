"""Messages for people, all on stderr."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console


_made: list[Console] = []
"""The console that was made last."""


def make_console() -> Console:
    """A rich console on stderr; colours follow the terminal and ``NO_COLOR``."""
    console = _rich_console(stderr=True, highlight=False, emoji=False)
    # Lines wrap at the edge of a terminal, but a line of a log stays one line, for grep.
    console.soft_wrap = not console.is_terminal
    _made[:] = [console]
    return console


def current_console() -> Console:
    """The console that a command prints to: it knows of bars on the screen, another would print into them."""
    return _made[0] if _made else make_console()


def make_stdout_console() -> Console:
    """A rich console on stdout, for pictures that were asked for."""
    return _rich_console(highlight=False, emoji=False)


def _rich_console(**options: Any) -> Console:
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            """Leave it to the command, which has an exit code for that."""
            raise BrokenPipeError

    return Ours(**options)


def verbosity() -> int:
    """-1 after ``-q``, 0, or 1 and more after ``-v``."""
    context = click.get_current_context(silent=True)
    root = context.find_root() if context else None
    return int(root.obj) if root is not None and isinstance(root.obj, int) else 0


def print_failure(console: Console, path: str, reason: str) -> None:
    """One bad image: its path and what is wrong with it."""
    from rich.text import Text

    console.print(Text.assemble(("failed ", "red"), visible(path), ": ", visible(reason)))


def print_error(message: str) -> None:
    """A mistake of the user's, and what to do about it."""
    from rich.text import Text

    make_console().print(Text.assemble(("error: ", "bold red"), visible(message)))


def print_warning(console: Console, message: str) -> None:
    """Something that the user must not overlook."""
    from rich.text import Text

    console.print(Text.assemble(("warning: ", "bold yellow"), visible(message)))


def warn_of_unshown(console: Console, model: str) -> None:
    """Name the classes of a model whose names captions cannot show."""
    from cvae_cli.images.captions import unshown
    from cvae_cli.model import registry

    if verbosity() < 0:
        return
    classes = registry.read_card(registry.resolve(model)).spec.classes
    if names := [name for name in classes if unshown(name)]:
        print_warning(
            console,
            f"captions cannot show the names of these classes and have boxes instead: {', '.join(names)}",
        )


def shown_path(path: object) -> str:
    """A path as a shell takes it, to be copied from a message."""
    return shlex.quote(visible(str(path)))


def visible(text: str) -> str:
    """Text on one line, without control characters or broken encoding: a file's name may hold any."""
    clean = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in clean)

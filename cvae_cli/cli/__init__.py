"""The ``cvae`` command. Nothing here imports torch before a command needs it."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from cvae_cli import __version__, storage
from cvae_cli.errors import UserError, did_you_mean
from cvae_cli.outcomes import Exit

_COMMANDS = {
    "relabel": "Draw every image of folders under every other label.",
    "grid": "Make a contact sheet: one row per image, one column per class.",
    "gallery": "Make a page for viewing a run in a browser.",
    "train": "Train a model.",
    "evaluate": "Measure a model on real test images, with an independent judge.",
    "export": "Write a model as ONNX, to run it without cvae.",
    "models": "List the models that come with cvae, or show one.",
}


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a full place says."""

_DATABASE_FULL = (("sqlite3", "OperationalError"), ("sqlite3", "DatabaseError"))
"""By name, since most commands import no database."""


class _LazyGroup(click.Group):
    """Imports a command's module only when the command is run or its help is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"cvae_cli.cli.{cmd_name}")
        command: click.Command = module.command
        _accept_verbosity(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but with the command that was probably meant."""
        known = ctx.resilient_parsing or not args or args[0].startswith("-")  # while a line is completed
        if not known and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"no such command {args[0]!r}.{did_you_mean(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; only here do errors become messages and exit codes."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _print_error(str(error))
            ctx.exit(Exit.USER_ERROR)
        except BrokenPipeError:
            # The reader has gone, as with | head. Python would complain at exit.
            _discard_what_fails()
            ctx.exit(Exit.BROKEN_PIPE)
        except KeyboardInterrupt:
            _print_error("interrupted; everything that was finished is kept.")
            ctx.exit(Exit.INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # Where cvae writes files of its own, such errors are caught and name them.
            if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
                _discard_what_fails()
                _print_error(f"stdout, stderr or a temporary file cannot be written: {error.strerror}.")
                ctx.exit(Exit.USER_ERROR)
            if (type(error).__module__, type(error).__name__) in _DATABASE_FULL:
                _print_error(
                    f"the folder for temporary files cannot be used ({error}); name another one by setting "
                    "TMPDIR or SQLITE_TMPDIR."
                )
                ctx.exit(Exit.USER_ERROR)
            import traceback

            traceback.print_exc()
            _print_error("this is a bug in cvae; please report it, with the lines above and the command.")
            ctx.exit(Exit.BUG)


def _discard_what_fails() -> None:
    """Lead streams nowhere that cannot be written to any more, or Python would complain when it ends."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            storage.discard(stream.fileno())


def _accept_verbosity(command: click.Command) -> None:
    """Take ``-q`` and ``-v`` after the command, too."""
    if any(param.name == "more_verbose" for param in command.params):
        return

    def quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            ctx.find_root().obj = -1

    def verbose(ctx: click.Context, param: click.Parameter, value: int) -> None:
        root = ctx.find_root()
        if value and root.obj != -1:
            root.obj = (root.obj or 0) + value

    options = {"expose_value": False, "allow_from_autoenv": False}
    command.params += [
        click.Option(
            ["-q", "--quiet", "more_quiet"], is_flag=True, callback=quiet, help="Only errors.", **options
        ),
        click.Option(
            ["-v", "--verbose", "more_verbose"], count=True, callback=verbose, help="More detail.", **options
        ),
    ]


def _print_error(message: str) -> None:
    from cvae_cli.cli.console import print_error

    try:
        print_error(message)
    except OSError:  # a full or broken stderr: what is left is the exit code
        _discard_what_fails()


@click.group(
    cls=_LazyGroup,
    context_settings={
        "auto_envvar_prefix": "CVAE",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, "-V", "--version", prog_name="cvae")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@click.option("-v", "--verbose", count=True, help="More detail.")
@click.pass_context
def main(ctx: click.Context, quiet: bool, verbose: int) -> None:
    """Redraw every image of a folder under every other label.

    Messages and progress go to stderr, results for scripts to stdout. Exit codes: 0 done, 1 a bug,
    2 a mistake in the command, 3 some images failed, 130/143 interrupted. Every option can also
    be set in the environment, as CVAE_COMMAND_OPTION.
    """
    ctx.obj = -1 if quiet else verbose
    _show_own_warnings()


def _show_own_warnings() -> None:
    """Print warnings of ours as messages, without the line of code that they come from."""
    import warnings

    from cvae_cli.errors import LabelIgnoredWarning, ProcessLostWarning

    own, default = (LabelIgnoredWarning, ProcessLostWarning), warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, own):
            from cvae_cli.cli.console import current_console, print_warning

            print_warning(current_console(), str(message))
        else:
            default(message, category, *where, **more)

    warnings.showwarning = show
    for category in own:
        warnings.simplefilter("always", category)

"""cvae: redraw every image of a folder under every other label.

    from cvae_cli import load_model
    load_model("mnist").relabel("seven.png").grid().show()

The command line lives in :mod:`cvae_cli.cli`, the functions for Python in :mod:`cvae_cli.api`. The jobs
behind both are :mod:`cvae_cli.relabelling`, :mod:`cvae_cli.training` and :mod:`cvae_cli.evaluation`; the
model itself is in :mod:`cvae_cli.model`. Imports run one way: ``cli, api -> relabelling | training |
evaluation | gallery -> judge -> data, inference -> model, images -> storage, outcomes, errors``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cvae_cli.api import Latents, Model, Relabelled, evaluate, load_model, train
    from cvae_cli.images.manifest import RecordedRun, read_manifest

__all__ = [
    "Latents",
    "Model",
    "RecordedRun",
    "Relabelled",
    "__version__",
    "evaluate",
    "load_model",
    "read_manifest",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what is public when it is first used: importing the package costs nothing."""
    if name in ("RecordedRun", "read_manifest"):
        from cvae_cli.images import manifest

        return getattr(manifest, name)
    if name in __all__:
        from cvae_cli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is public, for those who look."""
    return sorted([*globals(), *__all__])

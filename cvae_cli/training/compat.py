"""What differs between pytorch-lightning 1.9 and 2.x, and what Lightning must not leave behind."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from cvae_cli import storage
from cvae_cli.errors import UserError
from cvae_cli.model.device import bf16_is_fast, fp16_is_fast, resolve_device

# Lightning reads these as it is imported. Set but empty, or no number, is as good as not set.
for _name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
    if not os.environ.get(_name, "0").isdecimal():
        del os.environ[_name]

with warnings.catch_warnings():
    # Lightning 1.9 imports what its setuptools warns about.
    warnings.simplefilter("ignore")
    import pytorch_lightning as pl
    from pytorch_lightning.loggers.logger import Logger
    from pytorch_lightning.plugins import CheckpointIO
    from pytorch_lightning.strategies import DDPStrategy
    from pytorch_lightning.utilities import rank_zero_only
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

__all__ = [
    "UNUSABLE",
    "TensorBoardLogs",
    "WholeCheckpoints",
    "accelerator",
    "is_main_process",
    "pl",
    "precision",
    "quiet",
    "reorder",
    "restored",
    "strategy",
]

UNUSABLE = (MisconfigurationException, ImportError, ValueError)
"""What Lightning raises for devices, nodes and strategies that this machine does not have (the last but one
for ``xla`` and other strategies whose package is missing)."""

_LOGGERS = ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")
_PATIENCE = timedelta(hours=6)
"""How long processes that train together wait for each other."""
_DDP: dict[str, dict[str, bool]] = {
    "ddp": {},
    "ddp_find_unused_parameters_true": {"find_unused_parameters": True},
    "ddp_find_unused_parameters_false": {"find_unused_parameters": False},
}
"""Lightning's names for this strategy, and what they stand for."""
_MAJOR = int(pl.__version__.split(".")[0])


def accelerator(device: str) -> str:
    """Lightning's name for ``--device``."""
    return {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}[device]


def strategy(asked: str, processes: int) -> Any:
    """Lightning's strategy for ``--strategy``; ``auto`` is DDP for several processes.

    Raises:
        UserError: one whose processes do not run the command themselves.
    """
    if any(word in asked for word in ("spawn", "fork", "notebook")):
        # Everything would have to be pickled, and what the processes find out would be lost with them.
        raise UserError(f"--strategy {asked}: processes that are spawned or forked cannot train; use ddp.")
    name = "ddp" if asked == "auto" and processes > 1 else asked
    if name in _DDP:
        # The others wait while one pre-trains the classifier, longer than NCCL's ten minutes.
        return DDPStrategy(timeout=_PATIENCE, **_DDP[name])
    if asked != "auto":
        return asked
    return "auto" if _MAJOR >= 2 else None


def precision(asked: str, device: str) -> Any:
    """Lightning's precision for ``--precision``.

    ``auto`` is bf16 where that is fast, else fp16 where that is, with losses scaled so that small gradients
    do not vanish (Micikevicius et al. 2018, "Mixed precision training", section 3.2); else fp32.
    """
    if asked == "auto":
        where = resolve_device(device)
        asked = "bf16" if bf16_is_fast(where) else "fp16" if fp16_is_fast(where) else "fp32"
    if _MAJOR >= 2:
        return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[asked]
    return {"fp32": 32, "bf16": "bf16", "fp16": 16}[asked]


def reorder(trainer: Any, seed: int) -> None:
    """Seed the order of the training images, where it is not drawn by torch's global generator."""
    loader: Any = trainer.train_dataloader if _MAJOR >= 2 else trainer.train_dataloader.loaders
    # Of several processes Lightning's sampler is around ours, or in its place and seeded by a number.
    inner: Any = getattr(getattr(loader.sampler, "dataset", None), "_sampler", None)
    for sampler in (loader.sampler, inner):
        if isinstance(getattr(sampler, "seed", None), int):
            sampler.seed = seed
        if isinstance(getattr(sampler, "generator", None), torch.Generator):
            sampler.generator.manual_seed(seed)


def is_main_process() -> bool:
    """Whether this process speaks for the run, where several train together."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    # Set but empty is as good as not set.
    return all((os.environ.get(name) or "0") == "0" for name in names)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's advice, which is meant for its own users; cvae says what ours must know."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning|lightning_fabric)\b.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def restored() -> Iterator[None]:
    """Undo what Lightning leaves behind after training on several processes, and what training sets.

    With its ``LOCAL_RANK`` in the environment, and still in its process group, the next training in this
    process would wait for others that are gone.
    """
    environment, had_group = dict(os.environ), _has_process_group()
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
        if _has_process_group() and not had_group:
            torch.distributed.destroy_process_group()
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def _has_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class WholeCheckpoints(CheckpointIO):  # type: ignore[misc]
    """Checkpoints written whole or not at all, and read without executing anything.

    Lightning's own go through a library that takes ``::`` in a path for a chain of file systems.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; a kill in between leaves the old one whole."""
        storage.write_file(Path(path), storage.to_bytes(lambda stream: torch.save(checkpoint, stream)))

    def load_checkpoint(self, path: Any, map_location: Any = None, **options: Any) -> dict[str, Any]:
        """Read a checkpoint: tensors, numbers and strings only."""
        with storage.open_to_read(Path(path)) as stream:
            return torch.load(stream, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        storage.remove(Path(path))


class TensorBoardLogs(Logger):  # type: ignore[misc]
    """TensorBoard's writer on a plain folder, for the same reason as :class:`WholeCheckpoints`."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written yet."""
        super().__init__()
        self.folder = folder
        self._writer: Any = None

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "logs"

    @property
    def version(self) -> str:
        """Lightning asks for one."""
        return ""

    @property
    def experiment(self) -> Any:
        """The ``SummaryWriter``."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write scalars."""
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """``run.json`` holds them."""

    @rank_zero_only  # type: ignore[untyped-decorator]
    def finalize(self, status: str) -> None:
        """Write what is still buffered."""
        if self._writer is not None:
            self._writer.close()

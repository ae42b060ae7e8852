"""What the user asked ``cvae relabel`` for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cvae_cli.images.prepare import Fit, Invert
from cvae_cli.storage import Location


@dataclass(frozen=True)
class RelabelOptions:
    """What the user asked for.

    Attributes:
        sources: files and folders, of this machine or as URLs.
        out: the folder to write to, likewise.
        model: a shipped name or a file.
        listing: paths, one per item, instead of sources: ``-`` on the command line.
        labels: ``auto``, ``folder``, ``predict``, a class, or a CSV file.
        targets: classes to draw, each item one or several with commas between; empty for all. An
            image's own class is always left out.
        write: ``grid``, ``tiles``, ``both`` or ``parquet``.
        invert: ``auto``, ``always`` or ``never``.
        fit: ``auto``, ``pad``, ``crop`` or ``stretch``.
        device: as ``--device``.
        precision: as ``--precision``.
        batch_size: images per batch; ``None`` chooses.
        workers: threads for reading and writing, and on the CPU for drawing; ``None`` chooses.
        check: have a judge classify every tile.
        min_confidence: leave out tiles for which the judge's probability of the target is lower, with
            ``tiles``; ``None`` for none. It implies ``check``.
        min_realism: leave out tiles that are more unusual than all but this share of real images of their
            target, with ``tiles``; ``None`` for none. It implies ``check``.
        overwrite: do finished images again.
        shard: this process's part: index from 1, and the number of parts.
        dry_run: only say what would be written.
        processes: let processes work for the threads of a run that takes long. They import the script that
            began it: it has to be guarded by ``if __name__ == "__main__"``.
    """

    sources: tuple[Location, ...]
    out: Location
    model: str = "mnist"
    listing: Iterable[str] | None = None
    labels: str = "auto"
    targets: tuple[str, ...] = ()
    write: str = "grid"
    invert: Invert = "auto"
    fit: Fit = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    check: bool = False
    min_confidence: float | None = None
    min_realism: float | None = None
    overwrite: bool = False
    shard: tuple[int, int] | None = None
    dry_run: bool = False
    processes: bool = False

"""Tiles in Parquet files: nothing lost, nothing twice, whatever happens to a run."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, invoke, manifest_lines, tree
from PIL import Image
from pyarrow import parquet

from cvae_cli.data import folders, tables
from cvae_cli.errors import OutputError, UserError
from cvae_cli.images.output import OutputFolder
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling import parts
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.parts import EarlierParts, PartWriter
from cvae_cli.relabelling.plan import make_plan
from cvae_cli.relabelling.run import relabel

EXAMPLES = ROOT / "examples" / "digits"


@pytest.fixture
def asked(folder_of_digits: Path, tmp_path: Path) -> RelabelOptions:
    return RelabelOptions(
        sources=(folder_of_digits,), out=tmp_path / "out", write="parquet", targets=("0", "1", "2"),
        device="cpu", batch_size=4,
    )  # fmt: skip


def rows_in(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "tiles").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def tiles_in(out: Path) -> Counter[tuple[str, int]]:
    return Counter((row["name"], row["label"]) for row in rows_in(out))


def statuses(asked: RelabelOptions) -> Counter[str]:
    return Counter(outcome.status for outcome in relabel(asked))


def every(asked: RelabelOptions, folder: Path) -> Counter[tuple[str, int]]:
    """The tiles that there should be: of each image one for every target but its own label."""
    other = replace(asked, out=folder, write="tiles")
    outcomes = [outcome for outcome in relabel(other) if outcome.status == "done"]
    return Counter(
        (str(Path(outcome.path).with_suffix("")), int(target))
        for outcome in outcomes
        for target in outcome.targets
    )


def test_rows_are_the_tiles_that_would_be_files(asked: RelabelOptions, tmp_path: Path) -> None:
    outcomes = list(relabel(replace(asked, check=True)))
    files = tmp_path / "files"
    assert [one.status for one in relabel(replace(asked, out=files, write="tiles", check=True))] == [
        one.status for one in outcomes
    ]
    rows = rows_in(asked.out)
    drawn = {path.relative_to(files).as_posix() for path in files.rglob("*.png")}
    assert {row["image"]["path"] for row in rows} == drawn
    for row in rows:
        with Image.open(files / row["image"]["path"]) as tile:
            shown = tile.convert("L")
        (asked.out / "one.png").write_bytes(row["image"]["bytes"])
        with Image.open(asked.out / "one.png") as tile:
            assert tile.convert("L").tobytes() == shown.tobytes()
        assert 0.0 <= row["confidence"] <= 1.0
        assert 0.0 <= row["realism"] <= 1.0
        assert row["label"] != row["source_label"]
    (part,) = {name for one in outcomes for name in one.paths}
    assert part.startswith("tiles/")
    lines = manifest_lines(asked.out)
    assert [(line["path"], line["status"], [one["path"] for one in line["outputs"]]) for line in lines] == [
        (one.path, one.status, list(one.paths)) for one in outcomes
    ]


def test_the_same_run_writes_the_same_bytes(asked: RelabelOptions, tmp_path: Path) -> None:
    statuses(asked)
    statuses(replace(asked, out=tmp_path / "again"))
    assert tree(tmp_path / "again" / "tiles") == tree(asked.out / "tiles")


def test_runs_at_the_same_time_do_not_share_names(asked: RelabelOptions, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    differing = (
        asked,
        replace(asked, sources=(tmp_path / "others",)),
        replace(asked, targets=("1",)),
        replace(asked, check=True, min_confidence=0.5),
        replace(asked, labels="predict"),
        replace(asked, shard=(1, 2)),
        replace(asked, listing=[]),
        replace(asked, listing=[]),
    )
    before = EarlierParts(asked.out, make_plan(asked).spec.classes)
    names = [parts.run_name(make_plan(one), before, one) for one in differing]
    assert len(set(names)) == len(names)
    assert parts.run_name(make_plan(asked), before, asked) == names[0]


def test_names_that_are_printed_alike_are_kept_apart(asked: RelabelOptions) -> None:
    (source,) = asked.sources
    assert isinstance(source, Path)
    image = sorted(source.glob("*.png"))[0].read_bytes()
    odd = ("\udcff.png", "\\xff.png", "\\\\xff.png")
    for name in odd:
        (source / name).write_bytes(image)
    statuses(asked)
    before = tiles_in(asked.out)
    assert max(before.values()) == 1
    for _ in range(2):
        assert statuses(asked)["done"] == 0
        assert tiles_in(asked.out) == before


def test_a_file_that_is_there_is_never_replaced(asked: RelabelOptions, tmp_path: Path) -> None:
    statuses(asked)
    (part,) = (asked.out / "tiles").iterdir()
    other = replace(asked, out=tmp_path / "other")
    outcomes = relabel(other)
    next(outcomes)
    (other.out / "tiles").mkdir(exist_ok=True)
    (other.out / "tiles" / part.name).write_bytes(b"mine")  # under the very name that the run has in mind
    list(outcomes)
    assert (other.out / "tiles" / part.name).read_bytes() == b"mine"
    (other.out / "tiles" / part.name).unlink()
    assert tiles_in(other.out) == tiles_in(asked.out)
    written = {
        path for line in manifest_lines(other.out) for path in (one["path"] for one in line["outputs"])
    }
    assert written == {f"tiles/{file.name}" for file in (other.out / "tiles").iterdir()}


def test_copies_with_other_times_change_nothing(asked: RelabelOptions, tmp_path: Path) -> None:
    statuses(asked)
    statuses(replace(asked, targets=("3",)))
    files = sorted((asked.out / "tiles").iterdir())
    for number, file in enumerate(files):
        os.utime(file, (10**9 - number, 10**9 - number))
    before = tiles_in(asked.out)
    assert statuses(replace(asked, targets=("3",)))["done"] == 0
    assert tiles_in(asked.out) == before


def test_a_link_does_not_lead_out_of_the_folder(asked: RelabelOptions, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    asked.out.mkdir()
    assert isinstance(asked.out, Path)
    (asked.out / "tiles").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="a link that leads out of"):
        statuses(asked)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_in_a_part_is_finished(asked: RelabelOptions) -> None:
    before = statuses(asked)
    files = tree(asked.out / "tiles")
    (asked.out / "manifest.jsonl").unlink()  # the parts themselves say so
    again = list(relabel(asked))
    assert Counter(one.status for one in again) == Counter(skipped=before["done"])
    assert all(one.reason == "finished before" for one in again)
    assert tree(asked.out / "tiles") == files
    for source in asked.sources:
        assert isinstance(source, Path)
        for file in source.rglob("*.png"):
            file.touch()  # another version, the same content
    assert statuses(asked) == Counter(skipped=before["done"])


def test_a_run_that_ends_early_keeps_what_it_has_drawn(asked: RelabelOptions, tmp_path: Path) -> None:
    outcomes = relabel(asked)
    first = [next(outcomes) for _ in range(3)]
    outcomes.close()  # type: ignore[attr-defined]
    written = {row["name"] for row in rows_in(asked.out)}
    assert written >= {str(Path(one.path).with_suffix("")) for one in first if one.status == "done"}
    statuses(asked)
    assert tiles_in(asked.out) == every(asked, tmp_path / "all")


def test_changed_images_and_options_replace_their_rows(asked: RelabelOptions, tmp_path: Path) -> None:
    statuses(asked)
    (source,) = asked.sources
    assert isinstance(source, Path)
    file = sorted(source.glob("*.png"))[0]
    Image.open(file).rotate(8).save(file)
    assert statuses(asked)["done"] == 1
    assert tiles_in(asked.out) == every(asked, tmp_path / "one")
    assert len(list((asked.out / "tiles").glob("*.parquet"))) == 2
    wider = replace(asked, targets=("3", "4"))
    statuses(wider)
    assert tiles_in(asked.out) == every(wider, tmp_path / "other")
    assert len(list((asked.out / "tiles").glob("*.parquet"))) == 1
    assert statuses(replace(wider, overwrite=True))["skipped"] == 0
    assert tiles_in(asked.out) == every(wider, tmp_path / "again")


def test_rows_that_a_killed_run_left_twice_are_removed(
    asked: RelabelOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses(asked)
    with monkeypatch.context() as killed:
        killed.setattr(EarlierParts, "remove_stale", lambda self: None)
        statuses(replace(asked, targets=("3",)))
    assert max(tiles_in(asked.out).values()) == 1
    assert len(tiles_in(asked.out)) > len(every(replace(asked, targets=("3",)), tmp_path / "all"))
    assert statuses(replace(asked, targets=("3",)))["done"] == 0
    assert tiles_in(asked.out) == every(replace(asked, targets=("3",)), tmp_path / "again")


def test_full_parts_are_written_as_the_run_goes_on(
    asked: RelabelOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.PartWriter, "__init__", _small(parts.PartWriter.__init__))
    outcomes = list(relabel(asked))
    names = sorted({name for one in outcomes for name in one.paths})
    assert len(names) > 2
    assert names == [f"tiles/{file.name}" for file in sorted((asked.out / "tiles").iterdir())]
    assert tiles_in(asked.out) == every(asked, tmp_path / "all")


def _small(plain: Any) -> Any:
    def init(self: PartWriter, *arguments: Any) -> None:
        plain(self, *arguments, part_bytes=1000)

    return init


def test_a_part_that_cannot_be_written_is_not_said_to_be(
    asked: RelabelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: OutputFolder, name: str, content: bytes) -> None:
        raise OutputError(f"{name}: cannot be written: No space left on device")

    monkeypatch.setattr(OutputFolder, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        list(relabel(asked))
    assert manifest_lines(asked.out) == []


def test_parts_of_other_classes_are_not_mixed(asked: RelabelOptions) -> None:
    (asked.out / "tiles").mkdir(parents=True)
    (asked.out / "tiles" / "x.parquet").write_bytes(tables.encode([], ("cat", "dog")))
    with pytest.raises(UserError, match="holds tiles of other classes; choose another --out"):
        relabel(asked)
    (asked.out / "tiles" / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"x\.parquet: cannot be read"):
        relabel(asked)


def test_files_of_others_are_left_alone(asked: RelabelOptions) -> None:
    import pyarrow as pa

    (asked.out / "tiles").mkdir(parents=True)
    parquet.write_table(pa.table({"a": [1]}), asked.out / "tiles" / "mine.parquet")
    before = (asked.out / "tiles" / "mine.parquet").read_bytes()
    statuses(replace(asked, overwrite=True))
    assert (asked.out / "tiles" / "mine.parquet").read_bytes() == before


def test_what_is_not_drawn_is_recorded_at_once() -> None:
    """So that a run over finished images holds none of them."""
    plan = make_plan(RelabelOptions(sources=(EXAMPLES,), out=Path("nowhere"), write="parquet"))
    seen: list[str] = []
    outcomes = [ImageOutcome(name, ".").failed("x") for name in "abc"]
    writer = PartWriter(plan, OutputFolder(plan.out), "run")
    collected = writer.collect(outcomes, lambda one, name: seen.append(one.path))
    assert [one.path for one in collected] == ["a", "b", "c"]
    assert seen == ["a", "b", "c"]  # of which nothing had to be waited for


def test_the_command_line_makes_a_data_set_and_trains_on_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = invoke("relabel", EXAMPLES, "--out", out, "--write", "parquet", "--min-confidence", "0.5")
    assert (done.exit_code, done.stdout) == (0, "")
    found = folders.scan(out / "tiles")
    assert found.classes == tuple("0123456789")
    dry = invoke("relabel", EXAMPLES, "--out", tmp_path / "dry", "--write", "parquet", "--dry-run")
    assert "24 images would be relabelled" in dry.stderr
    assert not (tmp_path / "dry").exists()
    shutil.rmtree(out / "tiles")
    again = invoke("relabel", EXAMPLES, "--out", out, "--write", "parquet", "--min-confidence", "0.5")
    assert "24 done" in again.stderr

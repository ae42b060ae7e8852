from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers import manifest_lines, tree
from PIL import Image

import cvae_cli
from cvae_cli.errors import LabelError, OutputError, UserError
from cvae_cli.model import device, registry
from cvae_cli.outcomes import ImageOutcome
from cvae_cli.relabelling import worker
from cvae_cli.relabelling.options import RelabelOptions
from cvae_cli.relabelling.run import relabel


def options(source: Path, out: Path, **changes: object) -> RelabelOptions:
    asked = RelabelOptions(sources=(source,), out=out, device="cpu", precision="fp32", batch_size=4)
    return replace(asked, **changes)


def run(asked: RelabelOptions) -> list[ImageOutcome]:
    return list(relabel(asked))


def test_a_grid_for_every_image(folder_of_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcomes = run(options(folder_of_digits, out))
    assert [outcome.status for outcome in outcomes] == ["done"] * 10
    assert list(tree(out)) == sorted(
        [f"d{i}.png" for i in range(6)] + ["7/d6.png", "7/d7.png", "notes/d8.png", "notes/d9.png"]
    )
    assert [outcome.path for outcome in outcomes][-4:] == [
        "7/d6.png",
        "7/d7.png",
        "notes/d8.png",
        "notes/d9.png",
    ]
    by_folder = [outcome for outcome in outcomes if outcome.path.startswith("7/")]
    assert all(outcome.label == "7" and outcome.label_source == "folder" for outcome in by_folder)
    assert all("7" not in outcome.targets and len(outcome.targets) == 9 for outcome in by_folder)
    guessed = outcomes[0]
    assert guessed.label_source == "predict"
    assert 0 < (guessed.confidence or 0) <= 1
    assert guessed.label not in guessed.targets
    assert guessed.prepared["size"] == [28, 28]
    lines = manifest_lines(out)
    assert [line["path"] for line in lines] == [outcome.path for outcome in outcomes]
    assert [one["path"] for one in lines[0]["outputs"]] == ["d0.png"]


def test_tiles_are_a_data_set_in_class_folders(folder_of_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(options(folder_of_digits, out, write="tiles", targets=("7", "1"), labels="7"))
    assert set(tree(out)) == {
        f"tiles/1/{name}"
        for name in [*(f"d{i}.png" for i in range(6)), "7/d6.png", "7/d7.png", "notes/d8.png", "notes/d9.png"]
    }
    with Image.open(out / "tiles" / "1" / "d0.png") as tile:
        assert tile.size == (28, 28)
        assert tile.mode == "L"
        assert json.loads(tile.text["cvae"])["target"] == "1"


def test_both(folder_of_digits: Path, tmp_path: Path) -> None:
    (folder_of_digits / "tiles" / "3").mkdir(parents=True)
    Image.open(folder_of_digits / "d0.png").save(folder_of_digits / "tiles" / "3" / "d0.png")
    out = tmp_path / "out"
    outcomes = run(options(folder_of_digits, out, write="both"))
    names = [name for outcome in outcomes for name in outcome.paths]
    assert len(names) == len(set(names)) == 11 * 10
    assert set(tree(out)) == set(names)


def test_finished_images_are_skipped_and_still_described(folder_of_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = options(folder_of_digits, out, write="both")
    first, before = run(asked), tree(out)
    stamps = {name: (out / name).stat().st_mtime_ns for name in before}
    again = run(asked)
    assert [outcome.status for outcome in again] == ["skipped"] * 10
    assert {name: (out / name).stat().st_mtime_ns for name in before} == stamps
    for old, new in zip(first, again, strict=True):
        assert (old.label, old.label_source, old.targets, old.outputs, old.prepared) == (
            new.label, new.label_source, new.targets, new.outputs, new.prepared
        )  # fmt: skip
    assert [outcome.status for outcome in run(replace(asked, overwrite=True))] == ["done"] * 10
    assert tree(out) == before


def test_what_changes_the_pictures_makes_them_anew(folder_of_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = options(folder_of_digits, out)
    run(asked)
    Image.fromarray(np.asarray(Image.open(folder_of_digits / "d3.png")).T.copy()).save(
        folder_of_digits / "d3.png"
    )
    (out / "d4.png").unlink()
    (out / "d5.png").write_bytes(b"")
    assert [o.path for o in run(asked) if o.status == "done"] == ["d3.png", "d4.png", "d5.png"]
    assert all(o.status == "done" for o in run(replace(asked, precision="bf16")))
    assert all(o.status == "done" for o in run(replace(asked, targets=("1", "2"))))
    assert all(o.status == "done" for o in run(replace(asked, targets=("1", "2"), invert="always")))
    assert all(o.status == "skipped" for o in run(replace(asked, targets=("2", "1"), invert="always")))


def test_batches_workers_order_and_interruption_leave_the_same_bytes(
    folder_of_digits: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    run(options(folder_of_digits, whole))
    parts = tmp_path / "parts"
    for stop in (1, 3, 5):
        outcomes = relabel(options(folder_of_digits, parts, workers=stop))
        for _ in range(stop):
            next(outcomes)
        outcomes.close()
        assert not list(parts.rglob("*.part"))
    final = run(options(folder_of_digits, parts, workers=3))
    assert sum(outcome.status == "skipped" for outcome in final) >= 5
    assert tree(parts) == tree(whole)
    listed = tmp_path / "listed"
    lines = sorted((str(file) for file in folder_of_digits.rglob("*.png")), reverse=True)
    run(options(folder_of_digits, listed, listing=lines))
    pixels = {name.split("imgs/")[-1]: Image.open(listed / name).tobytes() for name in tree(listed)}
    assert pixels == {name: Image.open(whole / name).tobytes() for name in tree(whole)}


def test_shards_together_make_what_one_run_makes(folder_of_digits: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(options(folder_of_digits, whole))
    counts = [len(run(options(folder_of_digits, parts, shard=(index, 3)))) for index in (1, 2, 3)]
    assert sum(counts) == 10
    assert tree(parts) == tree(whole)
    assert len(list(parts.glob("manifest-*-of-3.jsonl"))) == 3


def spoil(source: Path) -> dict[str, str]:
    """Add bad files; what is said of each."""
    content = (source / "d0.png").read_bytes()
    (source / "bad-cut.png").write_bytes(content[: len(content) // 2])
    (source / "bad-empty.png").touch()
    (source / "bad-text.png").write_text("not a picture")
    os.mkfifo(source / "bad-pipe.png")
    (source / "bad-link.png").symlink_to(source / "gone.png")
    Image.new("L", (50, 50), 255).save(source / "bad-blank.png")
    return {
        "bad-cut.png": "damaged",
        "bad-empty.png": "empty",
        "bad-text.png": "not an image",
        "bad-pipe.png": "not a regular file",
        "bad-link.png": "no such file",
        "bad-blank.png": "blank",
    }


def test_bad_files_fail_alone(folder_of_digits: Path, tmp_path: Path) -> None:
    reasons = spoil(folder_of_digits)
    outcomes = run(options(folder_of_digits, tmp_path / "out"))
    failed = {outcome.path: outcome.reason for outcome in outcomes if outcome.status == "failed"}
    assert failed.keys() == reasons.keys()
    for path, reason in reasons.items():
        assert reason in failed[path]
    assert len(tree(tmp_path / "out")) == 10


def test_more_failures_and_skips_than_the_window_holds(folder_of_digits: Path, tmp_path: Path) -> None:
    """One image to draw ahead of very many that are not: the run must not wait for ever."""
    out = tmp_path / "out"
    for number in range(90):
        (folder_of_digits / f"e{number:02}.png").touch()
    outcomes = run(options(folder_of_digits, out))
    assert sum(outcome.status == "failed" for outcome in outcomes) == 90
    (out / "d0.png").unlink()
    again = run(options(folder_of_digits, out))
    assert [outcome.path for outcome in again] == [outcome.path for outcome in outcomes]
    assert [outcome.status for outcome in again].count("done") == 1


def test_dark_on_light_is_shown_as_it_came(tmp_path: Path, digit) -> None:
    source = tmp_path / "imgs"
    source.mkdir()
    Image.fromarray(255 - digit(1)).save(source / "dark.png")
    Image.fromarray(digit(1)).save(source / "light.png")
    out = tmp_path / "out"
    dark, light = run(options(source, out, write="tiles", labels="1", targets=("0",)))
    assert dark.prepared["inverted"] is True
    assert "inverted" not in light.prepared
    pictures = [np.asarray(Image.open(out / outcome.paths[0])) for outcome in (dark, light)]
    assert np.array_equal(255 - pictures[0], pictures[1])


def test_colour_model_on_grey_images_and_other_sizes(small_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "imgs"
    source.mkdir()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (30, 50), np.uint8)).save(source / "grey.png")
    Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).save(source / "native.png")
    grey, native = run(options(source, tmp_path / "out", model=str(small_model), labels="cat", write="both"))
    assert grey.prepared["channels"] == [1, 3]
    assert grey.prepared["cut"] == [10, 0, 40, 30]
    assert native.prepared == {"size": [12, 12], "mode": "RGB"}
    assert grey.targets == ("dog", "a very long class name indeed")
    with Image.open(tmp_path / "out" / "tiles" / "dog" / "grey.png") as tile:
        assert (tile.size, tile.mode) == ((12, 12), "RGB")


def test_own_class_only_is_nothing_to_do(folder_of_digits: Path, tmp_path: Path) -> None:
    outcomes = run(options(folder_of_digits, tmp_path / "out", targets=("7",), labels="folder"))
    kinds = {outcome.path: (outcome.status, outcome.reason) for outcome in outcomes}
    assert kinds["7/d6.png"] == ("skipped", "already of the only class to draw")
    assert kinds["d0.png"][0] == "failed"  # its folder names no class


def test_dry_run_writes_nothing(folder_of_digits: Path, tmp_path: Path) -> None:
    spoil(folder_of_digits)
    out = tmp_path / "out"
    planned = [
        outcome
        for outcome in run(options(folder_of_digits, out, dry_run=True))
        if outcome.status == "planned"
    ]
    assert not out.exists()
    assert "d0.png" in [name for outcome in planned for name in outcome.paths]
    run(options(folder_of_digits, out))
    kinds = {o.path: o.status for o in run(options(folder_of_digits, out, dry_run=True))}
    assert kinds["d0.png"] == "skipped"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "nist"}, UserError, "shipped with cvae: cifar10, fashion, letters, mnist"),
        ({"labels": "eleven"}, LabelError, "model's classes"),
        ({"targets": ("3", "eleven")}, LabelError, "no class 'eleven'"),
        ({"sources": (Path("nowhere"),)}, UserError, "no such file"),
        ({"device": "cuda:77"}, UserError, "device"),
        ({"listing": []}, UserError, "no image found in the list on stdin"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    folder_of_digits: Path, tmp_path: Path, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        relabel(options(folder_of_digits, tmp_path / "out", **changes))  # before an outcome is asked for
    assert tree(tmp_path / "out") == {}


def test_an_empty_folder_and_an_output_that_is_a_file(folder_of_digits: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="no image found"):
        relabel(options(tmp_path / "empty", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="is a file"):
        relabel(options(folder_of_digits, tmp_path / "file"))


def test_the_output_may_lie_in_the_source_but_not_be_it(folder_of_digits: Path) -> None:
    """Pictures must never be written over their originals."""
    with pytest.raises(UserError, match="is the source itself"):
        run(options(folder_of_digits, folder_of_digits))
    outcomes = run(options(folder_of_digits, folder_of_digits / "grids"))
    assert len(run(options(folder_of_digits, folder_of_digits / "grids"))) == len(outcomes) == 10


def test_originals_are_never_written_over(folder_of_digits: Path, tmp_path: Path, monkeypatch) -> None:
    """Whatever the way in: a file, a list, several folders; with --overwrite too."""
    monkeypatch.chdir(tmp_path)
    before = tree(folder_of_digits)
    for overwrite in (False, True):
        asked = options(Path("imgs/d1.png"), Path("imgs"), overwrite=overwrite)
        listed = replace(asked, sources=(Path("-"),), out=Path(), listing=["imgs/d1.png"])
        folders = replace(asked, sources=(Path("imgs/7"), Path("imgs/notes")))
        for way in (asked, listed, folders):
            outcomes = run(way)
            assert outcomes
            for outcome in outcomes:
                assert outcome.status == "failed"
                assert "one of the images themselves" in outcome.reason
    assert {name: tree(folder_of_digits)[name] for name in before} == before


def test_a_tile_that_is_a_source_is_never_deleted_or_replaced(folder_of_digits: Path, tmp_path: Path) -> None:
    """Though cvae drew it, from an image whose wrong label it would be."""
    out = tmp_path / "ds"
    run(replace(options(folder_of_digits, out), write="tiles"))
    tile = next((out / "tiles" / "1").rglob("*.png"))
    before = tree(out / "tiles" / "1")
    outcomes = run(replace(options(out / "tiles" / "1", out), write="tiles"))
    assert {outcome.label_source for outcome in outcomes} == {"provenance"}
    assert tree(out / "tiles" / "1") == before
    with pytest.raises(UserError, match="apart from what cvae wrote below"):
        run(replace(options(tile, tile.parent), write="grid", overwrite=True))
    assert tree(out / "tiles" / "1") == before


def test_a_manifest_replaces_only_a_manifest(folder_of_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(OutputError, match="is no manifest of cvae"):
        run(options(folder_of_digits, out))
    image = (folder_of_digits / "d1.png").read_bytes()
    (out / "manifest.jsonl").write_bytes(image)
    with pytest.raises(OutputError, match="is no manifest of cvae"):
        run(options(out / "manifest.jsonl", out, overwrite=True))
    assert (out / "manifest.jsonl").read_bytes() == image
    assert [path.name for path in out.iterdir()] == ["manifest.jsonl"]
    run(options(folder_of_digits, out, overwrite=True))
    run(options(folder_of_digits, out))  # its own
    assert "status" in (out / "manifest.jsonl").read_text()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_manifest_is_not_written_through_a_link(folder_of_digits: Path, tmp_path: Path, link: str) -> None:
    out, image = tmp_path / "out", folder_of_digits / "d1.png"
    out.mkdir()
    getattr(out / "manifest.jsonl.part", link)(image)
    before = image.read_bytes()
    assert run(options(image, out))[0].status == "done"
    assert image.read_bytes() == before
    assert "d1.png" in (out / "manifest.jsonl").read_text()


def test_what_others_wrote_is_replaced_only_when_asked(folder_of_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    Image.new("L", (5, 5)).save(out / "d1.png")
    planned = {outcome.path: outcome for outcome in run(options(folder_of_digits, out, dry_run=True))}
    assert "--overwrite" in planned["d1.png"].reason
    outcomes = {outcome.path: outcome for outcome in run(options(folder_of_digits, out))}
    assert outcomes["d1.png"].status == "failed"
    assert "--overwrite" in outcomes["d1.png"].reason
    assert outcomes["d2.png"].status == "done"
    assert all(o.status == "done" for o in run(options(folder_of_digits, out, overwrite=True)))


def test_a_list_replaces_nothing_that_it_may_still_name(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The output of the first would be the second.
    (tmp_path / "out" / "imgs").mkdir(parents=True)
    Image.open(folder_of_digits / "d1.png").save(tmp_path / "out" / "imgs" / "d0.png")
    before = (tmp_path / "out" / "imgs" / "d0.png").read_bytes()
    asked = options(Path("-"), tmp_path / "out", overwrite=True)
    first, second = run(replace(asked, listing=["imgs/d0.png", "out/imgs/d0.png"]))
    assert (first.status, second.status) == ("failed", "done")
    assert first.reason.endswith("out/imgs/d0.png exists and was not written by cvae; move it")
    assert (tmp_path / "out" / "imgs" / "d0.png").read_bytes() == before


def test_a_corrected_label_takes_the_wrong_tile_away(folder_of_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = options(folder_of_digits / "d1.png", out, write="tiles")
    run(replace(asked, labels="3"))
    assert (out / "tiles" / "5" / "d1.png").exists()
    run(replace(asked, labels="5"))
    assert not (out / "tiles" / "5" / "d1.png").exists()
    assert (out / "tiles" / "3" / "d1.png").exists()
    assert [o.status for o in run(replace(asked, labels="5"))] == ["skipped"]


def test_the_list_may_name_the_outputs_of_the_last_run(
    folder_of_digits: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        lines = [str(file.relative_to(tmp_path)) for file in sorted(tmp_path.rglob("*.png"))]
        assert len(run(options(Path("-"), Path("grids"), listing=lines))) == 10


def test_dry_run_knows_what_is_nothing_to_do(folder_of_digits: Path, tmp_path: Path) -> None:
    asked = options(folder_of_digits / "7", tmp_path / "out", targets=("7",), dry_run=True)
    assert [(o.status, o.outputs) for o in run(asked)] == [("skipped", ())] * 2


def test_examples_find_their_labels(examples: Path, tmp_path: Path) -> None:
    truth = dict(line.split(",") for line in (examples / "labels.csv").read_text().splitlines()[1:])
    outcomes = run(options(examples, tmp_path / "out"))
    assert {outcome.path for outcome in outcomes} == truth.keys()
    assert len(outcomes) == 24
    assert {outcome.label_source for outcome in outcomes} == {"folder", "predict"}
    right = sum(outcome.label == truth[outcome.path] for outcome in outcomes)
    assert right >= 0.9 * len(outcomes)


def test_several_devices_share_the_batches_and_draw_the_same(
    folder_of_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(options(folder_of_digits, tmp_path / "one", check=True, write="both"))
    used: list[int] = []
    barrier = threading.Barrier(2, timeout=20)
    real = worker.relabel_batch

    def drawing(plan: object, relabeller: object, *rest: object) -> object:
        used.append(id(relabeller))
        if len(used) <= 2:
            barrier.wait()  # both at once
        return real(plan, relabeller, *rest)

    monkeypatch.setattr(worker, "relabel_batch", drawing)
    monkeypatch.setattr(device, "all_devices", lambda asked: [asked, asked])
    outcomes = run(options(folder_of_digits, tmp_path / "two", check=True, write="both"))
    assert [outcome.status for outcome in outcomes] == ["done"] * 10
    assert len(set(used)) == 2
    assert tree(tmp_path / "two") == tree(tmp_path / "one")


@pytest.mark.parametrize("write", ["grid", "both", "parquet"])
def test_manifests_are_as_their_schema_says(folder_of_digits: Path, tmp_path: Path, write: str) -> None:
    schema = json.loads((Path(cvae_cli.__file__).parent / "schemas" / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    asked = options(folder_of_digits, tmp_path / "out", write=write, check=True, shard=(1, 1))
    for job in (asked, replace(asked, min_realism=None if write == "grid" else 0.5), asked):
        run(job)
        lines = (tmp_path / "out" / "manifest-1-of-1.jsonl").read_text().splitlines()
        for number, line in enumerate(lines):
            record = json.loads(line)
            jsonschema.validate(record, {**schema["$defs"]["run" if number == 0 else "image"]})
            jsonschema.validate(record, schema)
    assert len(lines) > 5


@pytest.mark.parametrize("mistake", ["fp16", "damaged"])
def test_a_mistake_in_a_later_run_leaves_the_manifest_alone(
    folder_of_digits: Path, tmp_path: Path, mistake: str
) -> None:
    model = tmp_path / "model" / "mine.safetensors"
    model.parent.mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(registry.shipped()["mnist"].with_suffix(suffix), model.with_suffix(suffix))
    asked = options(folder_of_digits, tmp_path / "out", model=str(model))
    run(asked)
    manifest = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    shutil.copy(folder_of_digits / "d1.png", folder_of_digits / "new.png")
    if mistake == "damaged":
        model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"fp16 needs a GPU|sha256"):
        relabel(replace(asked, precision="fp16") if mistake == "fp16" else asked)
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == manifest
    assert [file.name for file in (tmp_path / "out").glob(".manifest*")] == []


def test_the_manifest_says_what_the_model_computed_in(folder_of_digits: Path, tmp_path: Path) -> None:
    for number, precision in enumerate(("fp32", None)):  # drawn, and finished before
        run(options(folder_of_digits, tmp_path / "out", precision="fp32"))
        first = json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[0])
        assert first["precision"] == precision, number
        assert first["options"]["precision"] == "fp32"

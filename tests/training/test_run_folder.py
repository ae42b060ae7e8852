from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cvae_cli.errors import OutputError, UserError
from cvae_cli.training.recipes import CIFAR10, MNIST, with_these_eyes
from cvae_cli.training.run_folder import (
    check_run_folder,
    choose_run_folder,
    create_run_folder,
    describe_run,
)

RUN = describe_run("mnist", 0, MNIST)


def test_runs_get_a_name_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run of mnist"):
        choose_run_folder("mnist", resume=True, runs=tmp_path)
    for name in ("mnist", "mnist-2", "mnist-3"):
        folder = choose_run_folder("mnist", resume=False, runs=tmp_path)
        assert folder == tmp_path / name
        create_run_folder(folder, RUN, resume=False)
        assert choose_run_folder("mnist", resume=True, runs=tmp_path) == folder


def test_a_folder_with_something_in_it_is_not_used(tmp_path: Path) -> None:
    check_run_folder(tmp_path / "new", RUN, resume=False)
    check_run_folder(tmp_path, RUN, resume=False)
    (tmp_path / "notes.txt").touch()
    for folder in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="not empty: add --resume"):
            check_run_folder(folder, RUN, resume=False)


def test_only_the_same_run_is_resumed(tmp_path: Path) -> None:
    create_run_folder(tmp_path / "run", RUN, resume=False)
    check_run_folder(tmp_path / "run", RUN, resume=True)
    others = (
        describe_run("fashion", 0, MNIST),
        describe_run("mnist", 1, MNIST),
        describe_run("mnist", 0, replace(MNIST, batch_size=32)),
    )
    for other in others:
        with pytest.raises(UserError, match="other data, another seed"):
            check_run_folder(tmp_path / "run", other, resume=True)
    with pytest.raises(UserError, match="no such run"):
        check_run_folder(tmp_path / "other", RUN, resume=True)
    (tmp_path / "junk").mkdir()
    with pytest.raises(UserError, match="not a run folder"):
        check_run_folder(tmp_path / "junk", RUN, resume=True)


def test_a_run_from_before_there_was_an_option_goes_on(tmp_path: Path) -> None:
    recipe = replace(with_these_eyes(CIFAR10, imagenet=False), map_dropout=0.0)
    raw = json.loads(json.dumps(describe_run("cifar10", 0, recipe)))
    del raw["recipe"]["map_dropout"], raw["recipe"]["discriminator"]["eyes"]
    create_run_folder(tmp_path / "run", raw, resume=False)
    check_run_folder(tmp_path / "run", describe_run("cifar10", 0, recipe), resume=True)
    for junk in ({}, None, {"spec": 1}, {**raw["recipe"], "no_such": 1}):
        folder = tmp_path / str(id(junk))
        create_run_folder(folder, {**raw, "recipe": junk}, resume=False)
        with pytest.raises(UserError, match="other data, another seed"):
            check_run_folder(folder, describe_run("cifar10", 0, CIFAR10), resume=True)


def test_an_extra_that_came_or_went_is_named(tmp_path: Path) -> None:
    without = with_these_eyes(CIFAR10, imagenet=False)
    create_run_folder(tmp_path / "run", describe_run("pets", 0, CIFAR10), resume=False)
    with pytest.raises(UserError, match=r"started with the extra \[photographs\]"):
        check_run_folder(tmp_path / "run", describe_run("pets", 0, without), resume=True)
    create_run_folder(tmp_path / "other", describe_run("pets", 0, without), resume=False)
    with pytest.raises(UserError, match=r"started without the extra \[photographs\]"):
        check_run_folder(tmp_path / "other", describe_run("pets", 0, CIFAR10), resume=True)


def test_a_run_goes_on_from_the_weights_that_it_began_with(tmp_path: Path) -> None:
    create_run_folder(tmp_path / "run", describe_run("mnist", 0, MNIST, "abc"), resume=False)
    check_run_folder(tmp_path / "run", describe_run("mnist", 0, MNIST, "abc"), resume=True)
    for other in (None, "def"):
        with pytest.raises(UserError, match="other data, another seed"):
            check_run_folder(tmp_path / "run", describe_run("mnist", 0, MNIST, other), resume=True)


def test_a_run_is_resumed_whatever_the_spelling_of_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marks").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("marks", target_is_directory=True)
    create_run_folder(Path("run"), describe_run("marks", 0, MNIST), resume=False)
    for spelling in (str(tmp_path / "marks"), "other/../marks", "link"):
        check_run_folder(Path("run"), describe_run(spelling, 0, MNIST), resume=True)
    with pytest.raises(UserError, match="other data"):
        check_run_folder(Path("run"), describe_run("other", 0, MNIST), resume=True)


def test_a_folder_that_cannot_be_made_is_a_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="the run folder cannot be written"):
        create_run_folder(tmp_path / "file" / "run", RUN, resume=False)

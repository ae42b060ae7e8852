from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import export_untrained

from cvae_cli.errors import UserError
from cvae_cli.inference.relabeller import Relabeller
from cvae_cli.model import registry
from cvae_cli.model.canvas import from_canvas
from cvae_cli.model.device import bf16_is_fast, resolve_device
from cvae_cli.model.latent_maps import Latent
from cvae_cli.model.spec import ModelSpec

MNIST = registry.shipped()["mnist"]


def batch(digit: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    return np.stack([digit(number)[None] for number in range(count)])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_bytes_whatever_the_neighbours(digit: Callable[[int], np.ndarray], precision: str) -> None:
    """Alone, in a full batch, at another place in it, beside others: the same bytes."""
    if precision == "bf16" and not bf16_is_fast(resolve_device("cpu")):
        pytest.skip("this processor has no bf16")
    relabeller = Relabeller(MNIST, device="cpu", precision=precision, batch_size=8)
    images, labels = batch(digit, 8), np.arange(8)
    targets = np.tile(np.arange(10), (8, 1))
    together = relabeller.draw(images, labels, targets)
    assert together.shape == (8, 10, 1, 28, 28)
    alone = np.concatenate(
        [relabeller.draw(images[i : i + 1], labels[i : i + 1], targets[:1]) for i in range(8)]
    )
    assert np.array_equal(alone, together)
    order = np.random.default_rng(0).permutation(8)
    assert np.array_equal(relabeller.draw(images[order], labels[order], targets), together[order])


def test_batch_sizes_agree_within_one_grey_level(digit: Callable[[int], np.ndarray]) -> None:
    images, labels, targets = batch(digit, 6), np.arange(6), np.tile(np.arange(10), (6, 1))
    drawn = [
        Relabeller(MNIST, device="cpu", precision="fp32", batch_size=size)
        .draw(images, labels, targets)
        .astype(int)
        for size in (6, 32)
    ]
    assert np.abs(drawn[0] - drawn[1]).max() <= 1


def test_the_label_decides(digit: Callable[[int], np.ndarray], examples: Path) -> None:
    """The classifier reads what was asked for, also from styles sampled from the prior."""
    relabeller = Relabeller(MNIST, device="cpu", precision="fp32", batch_size=32)
    drawn = relabeller.sample(20, seed=1)
    assert drawn.shape == (20, 10, 1, 28, 28)
    read = np.stack([relabeller.classify(style)[0] for style in drawn])
    assert (read == np.arange(10)).mean() > 0.95


def test_samples_depend_on_the_seed_alone() -> None:
    relabeller = Relabeller(MNIST, device="cpu", precision="fp32", batch_size=4)
    few, many = relabeller.sample(2, seed=3), relabeller.sample(6, seed=3)
    assert np.abs(few.astype(int) - many[:2]).max() <= 1
    assert not np.array_equal(few, relabeller.sample(2, seed=4))


def test_half_precision_is_for_gpus() -> None:
    with pytest.raises(UserError, match="fp16"):
        Relabeller(MNIST, device="cpu", precision="fp16")


def test_a_batch_that_does_not_fit_in_memory_is_halved(
    digit: Callable[[int], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels, targets = batch(digit, 8), np.arange(8), np.tile(np.arange(10), (8, 1))
    expected = Relabeller(MNIST, device="cpu", batch_size=2).draw(images, labels, targets)
    relabeller = Relabeller(MNIST, device="cpu", batch_size=8)
    sizes = []
    relabel = relabeller.model.relabel

    def small_memory(latent: Latent, y: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        sizes.append(len(wanted))
        if len(wanted) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return relabel(latent, y, wanted)

    monkeypatch.setattr(relabeller.model, "relabel", small_memory)
    assert np.array_equal(relabeller.draw(images, labels, targets), expected)
    assert sizes == [8, 4, 2, 2, 2, 2]
    # It has learned what fits.
    relabeller.draw(images, labels, targets)
    assert sizes[6:] == [2, 2, 2, 2]


def test_samples_are_drawn_at_the_mean_of_the_prior_of_latent_maps(tmp_path: Path) -> None:
    """As tiles are; sampled as well, they make strokes ragged."""
    torch.manual_seed(0)
    spec = ModelSpec(classes=("a", "b"), image_size=16, canvas_size=16, latent_dim=4, latent_maps=(3, 2))
    file = export_untrained(spec, tmp_path / "model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it ignores its label
        relabeller = Relabeller(file, device="cpu", batch_size=3)
    first, other = (relabeller.sample(count, seed=5) for count in (1, 4))
    assert np.array_equal(first[0], other[0])
    noise = relabeller.model.draw_noise(1, torch.Generator().manual_seed(5 * 100_003))
    with torch.inference_mode():
        mean, sampled = (
            from_canvas(relabeller.model.relabel(latent, None, torch.tensor([[0, 1]])), 16).numpy()
            for latent in (Latent(noise.z), noise)
        )
    assert np.abs(first.astype(int) - mean.astype(int)).max() <= 1
    assert not np.array_equal(mean, sampled)


@pytest.fixture
def fast_model(tmp_path: Path) -> Callable[[str], Path]:
    """An untrained model with a decoder of tiles, whose spec says what ``auto`` is."""

    def make(auto: str) -> Path:
        spec = ModelSpec(
            tuple("abc"),
            polarity="light-on-dark",
            widths=(16, 8, 8, 8),
            tile_widths=(16, 3),
            auto_precision=auto,
        )
        return export_untrained(spec, tmp_path / auto / "model.safetensors")

    return make


@pytest.mark.parametrize(
    ("auto", "asked", "is_fast", "precision", "in_tiles"),
    [
        ("tiles", "auto", True, "fp32", "bf16"),
        ("tiles", "auto", False, "fp32", "fp32"),
        ("bf16", "auto", True, "bf16", "bf16"),
        ("fp32", "auto", True, "fp32", "fp32"),
        ("tiles", "fp32", True, "fp32", "fp32"),
        ("fp32", "bf16", False, "bf16", "bf16"),
    ],
)
def test_auto_is_what_the_spec_says_where_it_is_fast(
    fast_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    auto: str,
    asked: str,
    is_fast: bool,
    precision: str,
    in_tiles: str,
) -> None:
    monkeypatch.setattr("cvae_cli.inference.relabeller.bf16_is_fast", lambda device: is_fast)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        relabeller = Relabeller(fast_model(auto), device="cpu", precision=asked)
    assert (relabeller.precision, relabeller.tiles_precision) == (precision, in_tiles)
    words = precision if precision == in_tiles else f"{precision}, tiles in {in_tiles}"
    assert relabeller.described_precision == words
    assert relabeller.model.tiles is not None
    weight = relabeller.model.tiles.pixels.weight
    assert weight.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[in_tiles]


def test_an_image_drawn_as_itself_beside_others_changes_none_of_them(
    fast_model: Callable[[str], Path],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        relabeller = Relabeller(fast_model("tiles"), device="cpu", batch_size=4)
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28), np.uint8)
    labels, targets = np.array([0, 1, 2, 0]), np.array([[1, 2], [0, 2], [0, 1], [1, 2]])
    apart = relabeller.draw(images, labels, targets)
    targets[3, 1] = 0
    together = relabeller.draw(images, labels, targets)
    assert np.array_equal(together[:3], apart[:3])
    assert np.array_equal(together[3, 0], apart[3, 0])
    assert not np.array_equal(together[3, 1], apart[3, 1])

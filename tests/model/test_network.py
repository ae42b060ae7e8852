from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence
from torch.utils.flop_counter import FlopCounterMode

from cvae_cli.model.canvas import from_canvas, to_canvas
from cvae_cli.model.losses import gaussian_kl
from cvae_cli.model.network import CommonCode, ConditionalVAE, ResidualClassifier
from cvae_cli.model.spec import ModelSpec


@pytest.fixture
def model(small_spec: ModelSpec) -> ConditionalVAE:
    torch.manual_seed(0)
    return ConditionalVAE(small_spec).eval()


def test_shapes_and_ranges(model: ConditionalVAE) -> None:
    x, y = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    mu, logvar = model.encode(x, y)
    assert mu.shape == logvar.shape == (5, 4)
    drawn = model.decode(mu, y)
    assert drawn.shape == x.shape
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert model.classify(x).shape == (5, 3)


def test_terms_are_named_and_add_up(model: ConditionalVAE) -> None:
    terms = model(torch.rand(5, 3, 16, 16), torch.zeros(5, dtype=torch.int64))
    assert terms.elbo.item() == pytest.approx(-(terms.recon_loss + terms.kl).item())
    assert terms.kl.item() >= 0


def test_relabel_is_decode_for_every_target(model: ConditionalVAE) -> None:
    mu, targets = torch.randn(4, 4), torch.tensor([[0, 1], [1, 2], [2, 0], [1, 1]])
    with torch.no_grad():
        tiles = model.relabel(mu, targets)
        for row in range(4):
            for column in range(2):
                alone = model.decode(mu[row : row + 1], targets[row, column : column + 1])[0]
                torch.testing.assert_close(tiles[row, column], alone)


SCALES = ("block8", "block4", "block2", "block1")


@pytest.mark.parametrize("scale", [*SCALES, None])
def test_the_label_enters_at_every_scale(model: ConditionalVAE, scale: str | None) -> None:
    """Cut the label off everywhere but at one scale: the picture still follows it; at all: no more."""
    decoder = model.decoder
    with torch.no_grad():
        for name in SCALES:
            if name != scale:
                getattr(decoder, name).film.weight.zero_()
        # The first layer takes the condition beside z, whose columns come last.
        decoder.start.weight[:, : -model.spec.latent_dim] = 0
        drawn = [model.decode(torch.ones(1, 4), torch.tensor([y])) for y in (0, 1)]
    assert torch.equal(*drawn) is (scale is None)


def test_an_output_depends_on_its_own_image_alone(model: ConditionalVAE) -> None:
    x, y = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        together = model.encode(x, y)[0]
        x[1:] = torch.rand(5, 3, 16, 16)
        assert torch.equal(model.encode(x, y)[0][0], together[0])


@pytest.mark.parametrize(("size", "canvas"), [(28, 32), (12, 16), (32, 32), (13, 16)])
def test_canvas_and_back(size: int, canvas: int) -> None:
    images = torch.randint(0, 256, (3, 1, size, size), dtype=torch.uint8)
    x = to_canvas(images, canvas)
    assert x.shape == (3, 1, canvas, canvas)
    assert torch.equal(from_canvas(x, size), images)


def test_the_mnist_model_is_as_small_as_promised() -> None:
    from cvae_cli.engine.recipes import MNIST

    model = ConditionalVAE(MNIST.spec)
    assert sum(value.numel() for value in model.parameters()) <= 4_000_000
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.decode(torch.zeros(1, MNIST.spec.latent_dim), torch.tensor([3]))
    assert 0 < counter.get_total_flops() / 2 <= 12_000_000


def test_the_model_of_photographs_is_as_small_as_promised() -> None:
    from cvae_cli.engine.recipes import CIFAR10

    model = ConditionalVAE(CIFAR10.spec)
    assert sum(value.numel() for value in model.parameters()) <= 8_000_000
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.decode(torch.zeros(1, CIFAR10.spec.latent_dim), torch.tensor([3]))
    assert 0 < counter.get_total_flops() / 2 <= 80_000_000


RESIDUAL = ModelSpec(
    classes=("a", "b", "c"),
    image_size=16,
    canvas_size=16,
    channels=3,
    latent_dim=4,
    widths=(8, 8, 8, 8),
    decoder_widths=(16, 16, 16, 16),
    arch="residual",
    classifier_width=8,
    likelihood="laplace",
)


@pytest.mark.parametrize("scale", ["up4", "up2", "last", None])
def test_the_label_enters_a_residual_decoder_at_every_scale(scale: str | None) -> None:
    torch.manual_seed(0)
    model = ConditionalVAE(RESIDUAL).eval()
    decoder = model.decoder
    with torch.no_grad():
        for name in ("up4", "up2", "last"):
            if name != scale:
                getattr(decoder, name).film1.weight.zero_()
                getattr(decoder, name).film2.weight.zero_()
        decoder.start.weight[:, : -RESIDUAL.latent_dim] = 0
        drawn = [model.decode(torch.ones(1, 4), torch.tensor([y])) for y in (0, 1)]
    assert drawn[0].shape == (1, 3, 16, 16)
    assert torch.equal(*drawn) is (scale is None)


def test_a_folded_classifier_reads_as_the_one_that_was_taught() -> None:
    torch.manual_seed(0)
    classifier = ResidualClassifier(RESIDUAL)
    pupil = classifier.normalised()
    for _ in range(5):  # running statistics that are not those of the start
        pupil(torch.rand(32, 3, 16, 16) * 0.5)
    classifier.fold(pupil)
    x = torch.rand(7, 3, 16, 16)
    torch.testing.assert_close(classifier(x), pupil(x), rtol=1e-4, atol=1e-5)
    assert [part.shape[1:] for part in classifier.maps(x)] == [(8, 8, 8), (16, 4, 4), (32, 2, 2)]


def codes_of_three_classes(count: int = 3000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes (N, 4) with another mean and covariance for every class, log-variances and labels."""
    torch.manual_seed(0)
    y = torch.arange(count) % 3
    shapes, places = torch.randn(3, 4, 4), torch.randn(3, 4)
    mu = torch.einsum("bij,bj->bi", shapes[y], torch.randn(count, 4)) + places[y]
    return mu, torch.randn(count, 4) - 2, y


def fitted() -> tuple[CommonCode, torch.Tensor, torch.Tensor, torch.Tensor]:
    mu, logvar, y = codes_of_three_classes()
    of_class = torch.nn.functional.one_hot(y, 3).float().T / len(y)
    common = CommonCode(3, 4)
    common.fit(
        of_class.sum(dim=1),
        of_class @ mu,
        torch.einsum("kb,bi,bj->kij", of_class, mu, mu),
        of_class @ logvar.exp(),
        images=len(y),
    )
    return common, mu, logvar, y


def test_common_codes_have_the_same_moments_in_every_class() -> None:
    common, mu, logvar, y = fitted()
    code = common(mu, y)
    covariances = [torch.cov(code[y == label].T) for label in range(3)]
    for label in range(3):
        assert code[y == label].mean(dim=0).abs().max() < 0.01
        assert (covariances[label] - covariances[0]).abs().max() < 0.05
    # With the noise of the posteriors they are distributed as the prior is.
    noise = common.map_logvar(logvar, y).exp().mean(dim=0)
    assert (covariances[0].diagonal() + noise - 1).abs().max() < 0.05


def test_common_codes_go_back_to_where_they_came_from() -> None:
    common, mu, _, y = fitted()
    torch.testing.assert_close(common.inverse(common(mu, y), y), mu, rtol=1e-3, atol=1e-3)
    other = common.inverse(common(mu, y), (y + 1) % 3)
    assert torch.allclose(other[y == 0].mean(dim=0), mu[y == 1].mean(dim=0), atol=0.02)


def test_kl_in_the_common_code_is_that_of_torch_distributions() -> None:
    common, mu, logvar, y = fitted()
    there = common.there[y]
    posterior = MultivariateNormal(common(mu, y), there @ torch.diag_embed(logvar.exp()) @ there.mT)
    prior = MultivariateNormal(torch.zeros(4), torch.eye(4))
    wanted = kl_divergence(posterior, prior).mean()
    assert common.kl(mu, logvar, y).item() == pytest.approx(wanted.item(), rel=1e-3)
    untouched = CommonCode(3, 4)
    assert untouched.kl(mu, logvar, y).item() == pytest.approx(gaussian_kl(mu, logvar).item(), rel=1e-4)


def test_a_class_with_few_codes_leans_on_the_others() -> None:
    common = CommonCode(2, 8)
    torch.manual_seed(0)
    mu = torch.randn(1001, 8)
    y = torch.zeros(1001, dtype=torch.int64)
    y[0] = 1  # a single one: its own covariance would be nought
    of_class = torch.nn.functional.one_hot(y, 2).float().T / len(y)
    square = torch.einsum("kb,bi,bj->kij", of_class, mu, mu)
    common.fit(of_class.sum(dim=1), of_class @ mu, square, of_class @ torch.ones(1001, 8), images=1001)
    assert common.there.isfinite().all()
    assert common.there[1].abs().max() < 20

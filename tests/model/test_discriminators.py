from __future__ import annotations

import pytest
import torch
from helpers import RESIDUAL_SPEC

from cvae_cli.model.classifiers import ResidualClassifier, classifier_widths
from cvae_cli.model.discriminators import FeatureDiscriminator, ProjectionDiscriminator


@pytest.mark.parametrize("centred", [False, True])
def test_a_score_depends_on_image_and_label(centred: bool) -> None:
    torch.manual_seed(0)
    discriminator = ProjectionDiscriminator(RESIDUAL_SPEC, 8, centred=centred).eval()
    x, y = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        scores, maps = discriminator(x, y)
        assert scores.shape == (4,)
        assert [tuple(part.shape[1:]) for part in maps] == [(8, 8, 8), (16, 4, 4), (32, 2, 2)]
        assert ((discriminator(x, (y + 1) % 3)[0] - scores).abs() > 1e-4).all()
        assert ((discriminator(1 - x, y)[0] - scores).abs() > 1e-4).all()
        alone = discriminator(x[1:2], y[1:2])[0]
    torch.testing.assert_close(alone, scores[1:2])


def test_no_layer_amplifies_more_than_its_gain() -> None:
    """Spectral normalisation: however large the weights, two images score as apart as they are."""
    torch.manual_seed(0)
    discriminator = ProjectionDiscriminator(RESIDUAL_SPEC, 8)
    with torch.no_grad():
        for convolution in discriminator.features:
            convolution.parametrizations.weight.original.mul_(1000)
    x = torch.rand(8, 3, 16, 16)
    for _ in range(20):  # each step in training improves the estimate of the largest singular value
        discriminator(x, torch.zeros(8, dtype=torch.int64))
    discriminator.eval()
    with torch.no_grad():
        apart = [discriminator(image, torch.tensor([0]))[1][0] for image in (x[:1], x[1:2])]
    # A 4x4 kernel of stride 2 sees each pixel four times at most.
    assert (apart[0] - apart[1]).norm() <= 4 * (x[0] - x[1]).norm()


def test_one_score_for_each_of_the_smaller_scales() -> None:
    torch.manual_seed(0)
    classifier = ResidualClassifier(RESIDUAL_SPEC).eval()
    discriminator = FeatureDiscriminator(classifier_widths(RESIDUAL_SPEC)[1:], 3, 8).eval()
    x, y = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        maps = classifier.maps(x)[1:]
        scores = discriminator(maps, y)
        assert scores.shape == (4, 2)
        assert ((discriminator(maps, (y + 1) % 3) - scores).abs() > 1e-4).all()
        changed = discriminator([maps[0], maps[1] + 1], y)
    assert torch.equal(changed[:, 0], scores[:, 0])
    assert ((changed[:, 1] - scores[:, 1]).abs() > 1e-4).all()


def test_gradients_reach_the_image() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    scores, _ = ProjectionDiscriminator(RESIDUAL_SPEC, 8)(x, torch.tensor([0, 1]))
    scores.sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean() > 0.9

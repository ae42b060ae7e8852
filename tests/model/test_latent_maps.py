from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import RESIDUAL_SPEC
from torch.distributions import Normal, kl_divergence

from cvae_cli.errors import WeightsError
from cvae_cli.model.latent_maps import Given, Inferred, Latent, LatentMap, map_shapes
from cvae_cli.model.spec import ModelSpec
from cvae_cli.model.vae import ConditionalVAE

FLAT = ModelSpec(
    classes=("a", "b", "c"), image_size=16, canvas_size=16, latent_dim=4, widths=(16, 12, 8, 8), label_dim=4
)


@pytest.fixture(params=["compact", "residual"])
def model(request: pytest.FixtureRequest) -> ConditionalVAE:
    """With maps whose distributions depend on what they should."""
    torch.manual_seed(0)
    spec = FLAT if request.param == "compact" else RESIDUAL_SPEC
    model = ConditionalVAE(replace(spec, latent_maps=(3, 2), map_carry=0.25)).eval()
    for latent_map in model.decoder.maps:
        for convolution in (latent_map.prior, latent_map.posterior):
            torch.nn.init.normal_(convolution.weight, std=0.1)
    return model


def images(model: ConditionalVAE, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, model.spec.channels, 16, 16), torch.arange(count) % 3


def test_levels_are_at_twice_and_four_times_the_coarsest_features(model: ConditionalVAE) -> None:
    x, y = images(model)
    latent = model.infer(x, y)
    assert latent.z.shape == (4, 4)
    assert [each.shape[1:] for each in latent.maps] == [(3, 4, 4), (2, 8, 8)]
    assert map_shapes((3, 2), 2) == ((3, 4, 4), (2, 8, 8))
    assert model.infer(x, y, with_maps=False).maps == ()


def test_a_model_without_maps_is_as_it_was() -> None:
    model = ConditionalVAE(FLAT)
    x, y = images(model)
    assert model.infer(x, y).maps == ()
    assert not any("maps" in name for name in model.state_dict())
    assert model.draw_noise(3).maps == ()


def test_the_divergence_is_that_of_gaussians() -> None:
    torch.manual_seed(0)
    latent_map = LatentMap(6, 5, 2)
    for convolution in (latent_map.prior, latent_map.posterior):
        torch.nn.init.normal_(convolution.weight, std=0.1)
    h, features = torch.randn(3, 6, 4, 4), torch.randn(3, 5, 4, 4)
    inferred = Inferred([features])
    residual = inferred.at(0, latent_map, h)
    mu, logvar = latent_map.prior(torch.nn.functional.silu(h)).chunk(2, dim=1)
    sigma = (0.5 * logvar).exp()
    _, relative = latent_map.infer(h, features)
    posterior = Normal(mu + sigma * residual, sigma * (0.5 * relative).exp())
    expected = kl_divergence(posterior, Normal(mu, sigma)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(inferred.kl, expected)
    assert (expected > 0.1).all()


def test_no_residual_is_the_mean_of_the_prior(model: ConditionalVAE) -> None:
    z, y = torch.randn(4, 4), torch.arange(4) % 3
    zeros = [torch.zeros(4, *shape) for shape in map_shapes((3, 2), 2)]
    with torch.no_grad():
        assert torch.equal(model.decode(z, y), model.decode(z, y, zeros))
        ones = [torch.ones_like(each) for each in zeros]
        assert (model.decode(z, y) - model.decode(z, y, ones)).abs().max() > 1e-3


def test_residuals_are_used_in_full_for_the_own_label_and_in_part_for_others(model: ConditionalVAE) -> None:
    x, y = images(model)
    with torch.no_grad():
        latent = model.infer(x, y)
        tiles = model.relabel(latent, y, torch.stack([y, (y + 1) % 3], dim=1))
        own = model.decode(latent.z, y, latent.maps)
        other = model.decode(latent.z, (y + 1) % 3, [0.25 * each for each in latent.maps])
        everywhere = model.relabel(latent, None, (y[:, None] + 1) % 3)[:, 0]
        full = model.decode(latent.z, (y + 1) % 3, latent.maps)
    torch.testing.assert_close(tiles[:, 0], own)
    torch.testing.assert_close(tiles[:, 1], other)
    torch.testing.assert_close(everywhere, full)
    assert (full - other).abs().max() > 1e-4


def test_images_and_their_tiles_are_drawn_in_one_pass_as_in_two(model: ConditionalVAE) -> None:
    x, y = images(model)
    target = (y + 1) % 3
    with torch.no_grad():
        z, features = torch.randn(4, 4), model.encoder(x, y).features
        both = model.decoder(torch.cat([z, z]), torch.cat([y, target]), Inferred(features, carry=0.25))
        alone = Inferred(features)
        own = model.decoder(z, y, alone)
        tile = model.decoder(z, target, Given([0.25 * each for each in alone.maps]))
    torch.testing.assert_close(both, torch.cat([own, tile]))


def test_an_image_without_its_maps_is_drawn_from_the_mean_of_the_prior(model: ConditionalVAE) -> None:
    x, y = images(model)
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0])
    with torch.no_grad():
        z, features = torch.randn(4, 4), model.encoder(x, y).features
        noise = model.draw_noise(4).maps
        some, every = (Inferred(features, noise, kept=each) for each in (kept, None))
        drawn = model.decoder(z, y, some)
        model.decoder(z, y, every)
        torch.testing.assert_close(drawn[1::2], model.decoder(z, y)[1::2])
    assert torch.as_tensor(some.kl)[1::2].tolist() == [0.0, 0.0]
    torch.testing.assert_close(torch.as_tensor(some.kl)[::2], torch.as_tensor(every.kl)[::2])


def test_the_bound_counts_every_level(model: ConditionalVAE) -> None:
    x, y = images(model)
    noise = model.draw_noise(4, torch.Generator().manual_seed(0))
    terms = model(x, y, noise)
    mu, logvar, features = model.encoder(x, y)
    residuals = Inferred(features, noise.maps)
    logits = model.decoder(mu + noise.z * (0.5 * logvar).exp(), y, residuals)
    torch.testing.assert_close(terms.recon_loss, model.recon_loss(logits, x))
    flat = model.alignment.kl(mu, logvar, y)
    torch.testing.assert_close(terms.kl, flat + residuals.kl.mean())
    assert terms.kl > flat


def test_every_level_learns_from_the_bound(model: ConditionalVAE) -> None:
    x, y = images(model)
    (-model(x, y).elbo).backward()
    for name, value in (*model.decoder.named_parameters(), *model.encoder.named_parameters()):
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_a_vector_longer_than_usual_is_shrunk_under_other_labels(model: ConditionalVAE) -> None:
    model.spec = replace(model.spec, latent_norm=2.0)
    z = torch.tensor([[1.0, 0, 0, 0], [3.0, 0, 4.0, 0]])
    y, targets = torch.tensor([0, 0]), torch.tensor([[0, 1], [0, 1]])
    assert model.latent_scale(z).tolist() == [1.0, pytest.approx(0.4)]
    with torch.no_grad():
        tiles = model.relabel(Latent(z), y, targets)
        torch.testing.assert_close(tiles[1, 0], model.decode(z[1:], y[1:])[0])
        torch.testing.assert_close(tiles[0, 1], model.decode(z[:1], targets[:1, 1])[0])
        torch.testing.assert_close(tiles[1, 1], model.decode(0.4 * z[1:], targets[1:, 1])[0])
        sampled = model.relabel(Latent(z), None, targets)
        torch.testing.assert_close(sampled[1, 1], model.decode(z[1:], targets[1:, 1])[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_maps": (4,)},
        {"latent_maps": (4, 0)},
        {"latent_maps": (True, 2)},
        {"map_carry": 1.5},
        {"latent_norm": 0},
        {"latent_norm": "2"},
    ],
)
def test_specs_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match=next(iter(changes))):
        replace(FLAT, **changes)  # type: ignore[arg-type]


def test_latents_of_samples_come_from_the_generator(model: ConditionalVAE) -> None:
    one, again = (model.draw_noise(2, torch.Generator().manual_seed(3)) for _ in range(2))
    assert isinstance(one, Latent)
    assert torch.equal(one.z, again.z)
    assert all(torch.equal(a, b) for a, b in zip(one.maps, again.maps, strict=True))

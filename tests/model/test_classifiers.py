from __future__ import annotations

import torch
from helpers import RESIDUAL_SPEC

from cvae_cli.model.classifiers import ResidualClassifier


def test_a_folded_classifier_computes_what_the_trained_one_did() -> None:
    torch.manual_seed(0)
    classifier = ResidualClassifier(RESIDUAL_SPEC)
    trained = classifier.with_batch_norm()
    for _ in range(5):  # running statistics that are not those of the start
        trained(torch.rand(32, 3, 16, 16) * 0.5)
    classifier.fold(trained)
    x = torch.rand(7, 3, 16, 16)
    torch.testing.assert_close(classifier(x), trained(x), rtol=1e-4, atol=1e-5)
    assert [part.shape[1:] for part in classifier.maps(x)] == [(8, 8, 8), (16, 4, 4), (32, 2, 2)]

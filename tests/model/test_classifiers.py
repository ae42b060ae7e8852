from __future__ import annotations

from dataclasses import replace

import torch
from helpers import RESIDUAL_SPEC

from cvae_cli.model.classifiers import ResidualClassifier, make_classifier
from cvae_cli.model.whitened import WhitenedClassifier


def test_the_maps_of_a_residual_classifier() -> None:
    maps = ResidualClassifier(RESIDUAL_SPEC).maps(torch.rand(7, 3, 16, 16))
    assert [part.shape[1:] for part in maps] == [(8, 8, 8), (16, 4, 4), (32, 2, 2)]


def test_a_spec_says_which_classifier() -> None:
    assert isinstance(make_classifier(RESIDUAL_SPEC), ResidualClassifier)
    network = make_classifier(replace(RESIDUAL_SPEC, classifier="whitened"))
    assert isinstance(network, WhitenedClassifier)
    assert network.widths == (8, 32, 32)

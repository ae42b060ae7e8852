"""The data sets known by name, and the sizes of models of one's own images; needs no torch."""

from __future__ import annotations

CLASSES: dict[str, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "fashion": (
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle-boot",
    ),
    "cifar10": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
}
"""The classes of each data set, in the order of its labels."""

NAMES = tuple(CLASSES)

SIZES = (28, 32, 48, 64, 96, 128, 192, 256)
"""Native sizes, in pixels, that a model of one's own images can have."""
LARGEST_UNASKED = 64
"""Images of larger sizes are made smaller unless it is asked for: they take hours on a CPU."""
DEFAULT_SIZE = 32
"""Used where the images do not agree on one of these: small enough to train on a laptop."""

"""Image files to what a model takes: read, decode, prepare."""

from __future__ import annotations

from cvae_cli import storage
from cvae_cli.errors import ImageError
from cvae_cli.images.decode import Decoded, decode
from cvae_cli.images.prepare import Fit, InputSpec, Invert, LoadedImage, prepare, sufficient_side
from cvae_cli.images.recognise import may_be_image
from cvae_cli.storage import Location

MAX_BYTES = 1_000_000_000
_LARGE_BYTES = 64_000_000


def read_image(file: Location) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: it cannot be read, is not a regular file, is empty, or is larger than 1 GB.
    """
    return storage.read_image_bytes(
        file, max_bytes=MAX_BYTES, large_bytes=_LARGE_BYTES, may_be_image=may_be_image
    )


def open_image(file: Location, *, sufficient_side: int | None = None) -> Decoded:
    """Read and decode an image file; see :func:`cvae_cli.images.decode.decode`.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    return decode(read_image(file), sufficient_side=sufficient_side)


def load_image(
    source: Location | bytes, spec: InputSpec, *, invert: Invert = "auto", fit: Fit = "auto"
) -> LoadedImage:
    """Bring an image file to what a model takes.

    Args:
        source: the file, or its bytes.
        spec: what the model takes.
        invert: as :func:`cvae_cli.images.prepare.prepare`.
        fit: as there.

    Raises:
        ImageError: it cannot be read, decoded or prepared. Its ``preprocessing`` says what had been
            done by then.
    """
    content = source if isinstance(source, bytes) else read_image(source)
    decoded = decode(content, sufficient_side=sufficient_side(spec))
    try:
        return prepare(decoded.pixels, spec, invert=invert, fit=fit, decoding=decoded.preprocessing)
    except ImageError as error:
        error.preprocessing = decoded.preprocessing.to_dict()
        raise

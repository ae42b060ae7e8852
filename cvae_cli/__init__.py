"""cvae: redraw every image of a folder under every other label.

The command line lives in :mod:`cvae_cli.cli`, the jobs behind it in :mod:`cvae_cli.engine`,
the conditional variational autoencoder in :mod:`cvae_cli.model` and everything that touches
image files in :mod:`cvae_cli.images`. Imports run one way:
``cli -> engine -> model, images -> outcomes, errors``.
"""

__version__ = "0.1.0"

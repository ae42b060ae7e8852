"""cvae: redraw every image of a folder under every other label.

The command line lives in :mod:`cvae_cli.cli`. The three jobs behind it are
:mod:`cvae_cli.relabelling`, :mod:`cvae_cli.training` and :mod:`cvae_cli.evaluation`; the model itself
is in :mod:`cvae_cli.model`. Imports run one way: ``cli -> relabelling | training | evaluation ->
judge -> data, inference -> model, images -> storage, outcomes, errors``.
"""

__version__ = "0.1.0"

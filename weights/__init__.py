"""The weights that come with cvae: ``NAME.safetensors``, with its metadata in ``NAME.json``."""

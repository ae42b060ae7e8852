"""The judge: a classifier that measures models and never trains or chooses one.

It takes no part in training a model: it has another architecture (batch-normalised convolutions and
pooling, where a model's own classifier has strides and no normalisation; for photographs the same kind
of network in another shape), another seed, and real training images only. A test keeps it out of
``training`` and ``model``.
"""

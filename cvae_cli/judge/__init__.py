"""The judge: a classifier that measures models and never trains or chooses one.

It shares nothing with what trains a model: another architecture (batch-normalised convolutions and
pooling, where a model's own classifier has strides and no normalisation), another seed, and real
training images only. A test keeps it out of ``training`` and ``model``.
"""

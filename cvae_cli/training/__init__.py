"""Training: from labelled images and a recipe to a run folder with a model."""

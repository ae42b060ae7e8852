"""Folders of images in, relabelled pictures out."""

"""Transformers of images."""

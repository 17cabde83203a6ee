"""Transformers for images: HDiT and its layers."""

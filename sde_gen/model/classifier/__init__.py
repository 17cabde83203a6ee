"""Encoders that return logits."""

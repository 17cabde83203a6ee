"""Shared helpers: broadcasting, types, hashing, atomic files, images, locking, timing."""

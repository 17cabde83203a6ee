"""Helpers without a subject of their own: broadcasting, types, hashing, atomic files, images, locking, timing."""

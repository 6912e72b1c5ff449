"""Resolvable transforms: two of them, one after the other, are one of the same kind."""

"""Purifiers, one a file: ``purify``, and the options that it takes."""

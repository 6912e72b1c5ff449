"""Classifiers behind purifiers, with the exact gradient of the whole."""

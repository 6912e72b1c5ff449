"""Certificates: guarantees against every attack, or over all samples of a generator."""

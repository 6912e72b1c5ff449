"""Certificates: what holds for every attack, or for every draw of a generator, with confidence."""

"""Types, keyed noise and batching, which need torch and the standard library only.

``ALGORITHM`` is the version of what is computed; a run never mixes versions.  It rises only when
the same command gives other images, rows or weights than before, for a reason other than rounding.
Every manifest, card and cell key has it.

    1   noise from 32-bit keys; files without a version
    2   noise by Philox from 128-bit keys; a defense draws separately for each image in all tasks
"""

ALGORITHM = 2
LEGACY_ALGORITHM = 1  # of files without a version

"""The version of what is computed: results of two versions do not belong to one run.

It rises only when the same command gives other images, rows or weights than before, for a reason
that is not rounding.  Every manifest, card and key of a cell holds it.

    1   noise from 32 bits of key; without a version in files
    2   noise by Philox from 128 bits of key; a defense draws for each image by itself in all tasks
"""

ALGORITHM = 2
LEGACY_ALGORITHM = 1  # of files without one

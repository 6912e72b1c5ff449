"""Work on disk: a folder a run, a row an image, and going on where it was interrupted."""

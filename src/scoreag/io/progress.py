"""Progress bars: a notebook's in notebooks, and a terminal's elsewhere."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets, bars are plain text
    from tqdm.auto import tqdm as tqdm

__all__ = ["tqdm"]

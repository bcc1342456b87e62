"""STAR from where it is published, for machines that have no copy: one archive of a fixed commit, checked by digest.

The archive is kept outside the checkout, in the user's cache folder, in the layout that star.py reads.
"""

from pathlib import Path


def download_star() -> Path:
    """Folder of the downloaded data set."""
    raise NotImplementedError

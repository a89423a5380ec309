"""One plan on many machines, moved by Dask: an extra, without which everything else works."""

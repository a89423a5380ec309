"""Results on disk: records, reports, shipped references, and what changed between two of them."""

"""Solutions to the exercises of page 01, with the reason. Each takes what the page's cells have made."""

from collections.abc import Sequence

from workshop_lib.records import ModelVariant


def smallest_variant(offered: Sequence[ModelVariant]) -> str:
    """01-smallest-variant: the id in the line with the smallest size.

    Why an id and not the alias: the alias stands for several variants, and only one of them is the smallest. Why the
    size on disk: it is what comes over the line. Fewer bits per weight make it smaller; the number of weights counts
    more.
    """
    with_size = [variant for variant in offered if variant.size_mb is not None]
    return min(with_size, key=lambda variant: variant.size_mb or 0.0).model_id

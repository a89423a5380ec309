"""Energy and its cost per token: pure functions of recorded joules and tokens. `None` = cannot be known, never 0.

Joules inside, watt-hours (3 600 J) in rows, money in the currency of the price. What the joules cover depends on
their source (`power`): a processor's counter covers its whole package, other programs and idling included; a graphics
card's covers the card without the processor; watts that were declared cover what the person who gave them meant.
"""

from __future__ import annotations

from collections.abc import Iterable

from workshop_lib.records import Completion, TokensSource

JOULES_PER_WATT_HOUR = 3600.0
ASSUMED = "assumed"

UPDATE_S = {"measured:rapl": 0.001, "measured:nvml": 0.1}
"""How often the counters behind a source move, at worst; shorter requests get their neighbours' energy as well."""

ENOUGH_UPDATES = 10


def watt_hours(joules: float) -> float:
    """Joules as watt-hours.

    >>> watt_hours(7200.0)
    2.0
    """
    return joules / JOULES_PER_WATT_HOUR


def wh_per_1000_tokens(joules: float | None, tokens: int) -> float | None:
    """Watt-hours per 1 000 completion tokens; None without joules or tokens.

    For assumed power the joules are watts x seconds, so this is watts x seconds per token x 1 000 / 3 600.

    >>> wh_per_1000_tokens(36.0, 100)
    0.1
    """
    return watt_hours(joules) / tokens * 1000 if joules and tokens else None


def cost_per_million_tokens(wh_per_1000: float | None, price_per_kwh: float | None) -> float | None:
    """Price of the electricity for a million completion tokens.

    A thousand times 1 000 tokens cost a thousand times as many watt-hours, which is the same number of kilowatt-hours.

    >>> cost_per_million_tokens(0.1, 0.3)
    0.03
    """
    return None if wh_per_1000 is None or price_per_kwh is None else wh_per_1000 * price_per_kwh


def of_requests(
    answered: Iterable[Completion], counts: Iterable[tuple[int | None, TokensSource]]
) -> tuple[float | None, str | None]:
    """Watt-hours per 1 000 completion tokens of these requests, and what the energy is known from.

    Args:
        answered: successful timed requests.
        counts: the tokens of each and how they are known, see `timing.completion_tokens`.

    Only requests count whose energy and tokens (by the server's `usage`) are both known. Measured and assumed energy
    never mix into a measured figure: it is then called assumed.
    """
    joules, tokens, sources = 0.0, 0, set()
    for completion, (counted, known_from) in zip(answered, counts, strict=True):
        if completion.energy_j is not None and known_from == "usage" and counted:
            joules, tokens = joules + completion.energy_j, tokens + counted
            sources.add(completion.energy_source)
    figure = wh_per_1000_tokens(joules, tokens)
    if figure is None:
        return None, None
    return figure, sources.pop() if len(sources) == 1 else ASSUMED


def is_coarse(energy_source: str | None, latency_avg: float | None) -> bool:
    """True when the requests are so short that the meter's counter moves fewer than ten times in a typical one."""
    if energy_source not in UPDATE_S or latency_avg is None:
        return False
    return latency_avg < ENOUGH_UPDATES * UPDATE_S[energy_source]

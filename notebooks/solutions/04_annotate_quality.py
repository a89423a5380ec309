"""Solutions to the exercises of page 04, with the reason. Each takes what the page's cells have made."""

from workshop_lib.quality import show
from workshop_lib.records import Prompt, Run


def aspect_grade(run: Run, shown: Prompt) -> int:
    """04-aspect-grade: 1 + 4 x share, rounded, of the table's last line.

    Why 4 and not 5: from 1 to 5 there are four steps, so a share of 0 is grade 1 and a share of 1 is grade 5. Who
    multiplies by 5 gives an empty answer grade 0, which the rubric does not have. A half is rounded up.
    """
    last = show.aspects(run, shown.id).iloc[-1]
    found = len(last["words found"].split(", "))
    if last["mentions"] in {"none", "forbidden"}:
        return 1
    return int(1 + 4 * found / len(shown.aspects) + 0.5)

"""What is not beaten, and whether something that is not ours is."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

SAME_SPEED, SAME_COST_DB = 0.97, 0.05  # what another run changes, and other scenes

Row = Mapping[str, Any]


def frontier(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other beats in both speed and true cost, fastest first."""
    fastest = sorted(rows, key=lambda row: -row["speedup_dit"])
    best, lowest = [], float("inf")
    for row in fastest:
        if row["true_cost_db"] < lowest:
            best.append(row)
            lowest = row["true_cost_db"]
    return best


def unmatched(rows: Sequence[Row], ours: Collection[str]) -> list[Row]:
    """Rows of others that none of `ours` (names, at whatever number of steps) is as fast as at no more true cost."""
    mine = [row for row in rows if base_name(row) in ours]
    return [row for row in rows if base_name(row) not in ours and not any(_as_good(one, row) for one in mine)]


def base_name(row: Row) -> str:
    """The name without the number of steps."""
    return str(row["name"]).partition("@")[0]


def _as_good(mine: Row, other: Row) -> bool:
    return bool(
        mine["speedup_dit"] >= SAME_SPEED * other["speedup_dit"]
        and mine["true_cost_db"] <= other["true_cost_db"] + SAME_COST_DB
    )

"""Quality tiers by name."""

from .schedule import Policy

PRESETS: dict[str, Policy] = {
    "exact": Policy(enabled=False),
    "safe": Policy(floor=0.99, margin=0.01, max_deviation=1.0, protect_step0="strict"),
    "balanced": Policy(),  # the paper's defaults
    "fast": Policy(floor=0.90, margin=0.05, max_deviation=4.0, front=0),
}


def preset(name: str) -> Policy:
    """The tier of that name; ValueError lists the names there are."""
    if name not in PRESETS:
        raise ValueError(f"expected a tier named {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]

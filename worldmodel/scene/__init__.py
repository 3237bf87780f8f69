"""The structured world behind the pixels: maps, traffic, ego, scenarios, checks, rigs, layouts."""

"""What docs/learning.md says of the shipped weights is true."""

import re
from pathlib import Path

from clients.policies.vision import STAGES, bundled_network

PAGE = (Path(__file__).parents[2] / "docs" / "learning.md").read_text(encoding="utf-8")


def test_the_shipped_weights_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| `([\w-]+)\.safetensors` \| (\d+) \| `(\w+)` \|", PAGE, re.M)
    assert {int(stage): name for name, stage, _ in rows} == STAGES
    for _, stage, digest in rows:
        assert bundled_network(int(stage)).digest.startswith(digest)

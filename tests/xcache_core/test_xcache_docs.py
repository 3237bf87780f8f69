"""The page about the cache runs, from the first example to the last."""

import re
from pathlib import Path

from xcache_core import BASELINES, PRESETS, Policy

PAGE = (Path(__file__).parents[2] / "docs" / "x-cache.md").read_text()


def test_the_examples_run_in_order():
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 3
    names = {}
    for example in examples:
        exec(compile(example, "docs/x-cache.md", "exec"), names)


def test_every_tier_and_baseline_is_named_on_the_page():
    assert [name for name in (*PRESETS, *BASELINES) if f"`{name}`" not in PAGE] == []


def test_the_fields_that_the_page_names_exist():
    for name in ("budget", "refresh_every", "stagger", "max_skips", "shadow_every"):
        assert hasattr(Policy(), name)
        assert f"`{name}`" in PAGE

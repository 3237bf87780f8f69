"""How a session ends."""

from typing import Literal

Outcome = Literal["running", "success", "failure", "timeout"]

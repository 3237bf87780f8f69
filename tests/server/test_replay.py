import numpy as np

from server.replay import _decided_alike


def test_a_replay_compares_what_was_skipped_and_not_how_long_deciding_took() -> None:
    recorded = {"reason": np.array([[9, 0], [9, 4]], np.uint8), "gate_us": 41.0}
    assert _decided_alike({"reason": recorded["reason"].copy(), "gate_us": 57.0}, recorded)
    assert not _decided_alike({"reason": np.zeros((2, 2), np.uint8), "gate_us": 41.0}, recorded)
    assert not _decided_alike(None, recorded)

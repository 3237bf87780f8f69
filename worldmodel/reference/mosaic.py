"""All cameras in one picture, laid out as they sit on the car: front row, sides, rear row with an inset."""

import numpy as np

from worldmodel.rig import Camera, Rig

GAP = 2  # pixels between pictures
COLUMNS = 3


def rig_mosaic(frames: np.ndarray, rig: Rig, inset: np.ndarray | None = None) -> np.ndarray:
    """One picture of all cameras at one time.

    What looks forward is in the first row, then the sides from front to rear, then the rear; within a row the camera
    that looks farther to the left is on the left.

    Args:
        frames: uint8 [V, H, W, 3] in rig order.
        rig: whose cameras they are.
        inset: uint8 [H, W, 3], shown after the last camera: usually the scene from above.

    Returns:
        uint8 [rows * (H + GAP) - GAP, columns * (W + GAP) - GAP, 3].
    """
    if len(frames) != len(rig):
        raise ValueError(f"expected a picture for each of the {len(rig)} cameras, got {len(frames)}")
    rows = [[frames[k] for k in row] for row in mosaic_rows(rig)]
    if inset is not None:
        if inset.shape != frames.shape[1:]:
            raise ValueError(f"expected an inset of {frames.shape[1:]}, got {inset.shape}")
        if len(rows[-1]) >= COLUMNS:
            rows.append([])
        rows[-1].append(inset)
    height, width = frames.shape[1:3]
    columns = max(len(row) for row in rows)
    sheet = np.zeros((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for r, row in enumerate(rows):
        left = (sheet.shape[1] - len(row) * (width + GAP) + GAP) // 2  # rows are centred
        for c, picture in enumerate(row):
            top, start = r * (height + GAP), left + c * (width + GAP)
            sheet[top : top + height, start : start + width] = picture
    return sheet


def mosaic_rows(rig: Rig) -> list[list[int]]:
    """Camera indices row by row."""
    groups = [
        [k for k, camera in enumerate(rig.cameras) if camera.group == group] for group in ("front", "rear")
    ]
    sides = sorted(
        (k for k, camera in enumerate(rig.cameras) if camera.group == "side"),
        key=lambda k: (round(abs(rig.cameras[k].yaw_rad), 3), -_left(rig.cameras[k])),
    )
    pairs = [sides[k : k + 2] for k in range(0, len(sides), 2)]
    front, rear = (sorted(group, key=lambda k: -_left(rig.cameras[k])) for group in groups)
    return [row for row in [front, *pairs, rear] if row]


def _left(camera: Camera) -> float:
    """How far to the left a camera looks, -1 to 1."""
    return float(np.round(np.sin(camera.yaw_rad), 6))

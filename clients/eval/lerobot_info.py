"""What a LeRobotDataset says about itself: `meta/info.json` and `meta/tasks.parquet`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .mcap_log import ACTION_COLUMNS

VERSION = "v3.0"
STATE = ("speed_mps", "accel_mps2", "steering_rad", "yaw_rate_radps")
CHECKS = ("lane_offset_m", "heading_error_rad", "speed_limit_mps")
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILES_PER_CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200


def dataset_info(
    lengths: Sequence[int],
    tasks: Sequence[str],
    cameras: Mapping[str, Mapping[str, Any]],
    space: str,
    fps: float,
) -> dict[str, Any]:
    """`info.json`.

    Args:
        lengths: rows of every episode.
        tasks: all of them.
        cameras: name -> its fields.
        space: of the actions.
        fps: rows per second.
    """
    return {
        "codebase_version": VERSION,
        "robot_type": "roadloop",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": len(tasks),
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": round(fps),
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": DATA,
        "video_path": VIDEO,
        "features": _features(space, cameras, fps),
    }


def tasks_table(pyarrow: Any, tasks: list[str]) -> Any:
    """`tasks.parquet`: a table that pandas reads with the task as its index."""
    columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None}
            for name, kind, dtype in columns
        ],
        "pandas_version": "2.0.0",
    }
    table = pyarrow.table({"task_index": np.arange(len(tasks)), "task": tasks})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def _features(space: str, cameras: Mapping[str, Mapping[str, Any]], fps: float) -> dict[str, Any]:
    def plain(dtype: str, names: Sequence[str] | None = None) -> dict[str, Any]:
        return {
            "dtype": dtype,
            "shape": [len(names) if names else 1],
            "names": list(names) if names else None,
        }

    features = {
        "observation.state": plain("float32", (*STATE, *CHECKS)),
        "action": plain("float32", ACTION_COLUMNS[space]),
        "next.reward": plain("float32"),
        "next.done": plain("bool"),
        "next.success": plain("bool"),
        "timestamp": plain("float32"),
        **{name: plain("int64") for name in ("frame_index", "episode_index", "index", "task_index")},
    }
    for name, camera in cameras.items():
        height, width = camera["height"] // 2 * 2, camera["width"] // 2 * 2
        features[f"observation.images.{name}"] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": round(fps),
                "video.channels": 3,
                "has_audio": False,
            },
        }
    return features

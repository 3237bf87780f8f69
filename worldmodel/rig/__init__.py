"""The set of cameras on the ego: intrinsics, extrinsics, projection, presets."""

from .camera import Camera
from .rig import Rig
from .spec import RigError, load_rig, parse_rig

__all__ = ["Camera", "Rig", "RigError", "load_rig", "parse_rig"]

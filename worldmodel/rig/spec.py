"""Rigs as YAML: what a file may say, and what is refused."""

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worldmodel.preset_files import preset_path

from . import projection
from .camera import Camera
from .rig import Rig

Pixels = Annotated[int, Field(ge=16, le=4096)]
Degrees = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]
Metres = Annotated[float, Field(ge=-20, le=20, allow_inf_nan=False)]
Focal = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

PINHOLE_MAX_FOV_DEG = 160.0
FISHEYE_MAX_FOV_DEG = 220.0


class RigError(ValueError):
    """A rig that cannot exist. The message reads *expected X, got Y*."""


class CameraSpec(BaseModel):
    """One camera in a rig file. Give either `hfov_deg` or `fx` and `fy`; the principal point is the middle unless given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    model: Literal["pinhole", "fisheye"] = "pinhole"
    width: Pixels = 224
    height: Pixels = 128
    hfov_deg: Annotated[float, Field(gt=0, le=360, allow_inf_nan=False)] | None = None
    fx: Focal | None = None
    fy: Focal | None = None
    cx: Finite | None = None
    cy: Finite | None = None
    distortion: tuple[Finite, Finite, Finite, Finite] = (0.0, 0.0, 0.0, 0.0)
    position_m: tuple[Metres, Metres, Metres]
    yaw_deg: Degrees = 0.0
    pitch_deg: Degrees = 0.0
    roll_deg: Degrees = 0.0
    group: Literal["front", "side", "rear"] = "front"

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if (self.hfov_deg is None) == (self.fx is None and self.fy is None):
            raise ValueError(f"expected either hfov_deg or fx and fy, got {_given(self)}")
        if (self.fx is None) != (self.fy is None):
            raise ValueError(f"expected both fx and fy, got {_given(self)}")
        if self.model == "pinhole" and any(self.distortion):
            raise ValueError(f"expected no distortion for a pinhole, got {self.distortion}")
        if self.position_m[2] <= 0.1:
            raise ValueError(
                f"expected a camera at least 0.1 m above the ground, got z = {self.position_m[2]}"
            )
        self._check_fov()
        return self

    def _check_fov(self) -> None:
        """Refuse a view wider than the model can form, and a principal point outside the image."""
        limit = PINHOLE_MAX_FOV_DEG if self.model == "pinhole" else FISHEYE_MAX_FOV_DEG
        if self.hfov_deg is not None and self.hfov_deg > limit:
            raise ValueError(
                f"expected hfov_deg of at most {limit:g} for a {self.model}, got {self.hfov_deg:g}"
            )
        camera = self.camera()
        if not (0 < camera.cx < camera.width and 0 < camera.cy < camera.height):
            raise ValueError(
                f"expected a principal point inside the image, got ({camera.cx:g}, {camera.cy:g})"
            )
        corners = np.array(
            [[0, 0], [self.width, 0], [0, self.height], [self.width, self.height]], dtype=float
        )
        x, y = (corners[:, 0] - camera.cx) / camera.fx, (corners[:, 1] - camera.cy) / camera.fy
        radius = float(np.hypot(x, y).max())
        if self.model == "pinhole":
            half_deg = np.degrees(np.arctan(np.abs(np.concatenate([x, y])).max()))
            if 2 * half_deg > PINHOLE_MAX_FOV_DEG:
                raise ValueError(
                    f"expected a field of view of at most {limit:g} degrees, got {2 * half_deg:.0f}"
                )
            return
        edge = projection.largest_angle(self.distortion)
        reach = float(projection.distorted(np.array(edge), self.distortion))
        if radius > reach or np.radians(self.hfov_deg or 0) / 2 > edge:
            raise ValueError(
                "expected a distortion that grows up to the image corner, got one that turns back "
                f"{np.degrees(edge):.0f} degrees from the view axis"
            )

    def camera(self) -> Camera:
        """The calibrated camera."""
        fx, fy = self._focal()
        return Camera(
            name=self.name,
            model=self.model,
            width=self.width,
            height=self.height,
            fx=fx,
            fy=fy,
            cx=self.width / 2 if self.cx is None else self.cx,
            cy=self.height / 2 if self.cy is None else self.cy,
            position_m=self.position_m,
            yaw_rad=float(np.radians(self.yaw_deg)),
            pitch_rad=float(np.radians(self.pitch_deg)),
            roll_rad=float(np.radians(self.roll_deg)),
            group=self.group,
            distortion=self.distortion,
        )

    def _focal(self) -> tuple[float, float]:
        if self.hfov_deg is None:
            assert self.fx is not None
            assert self.fy is not None
            return self.fx, self.fy
        half = np.radians(self.hfov_deg) / 2
        edge = np.tan(half) if self.model == "pinhole" else projection.distorted(half, self.distortion)
        focal = float(self.width / 2 / edge)
        return focal, focal


class RigSpec(BaseModel):
    """A rig file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    description: str = ""
    cameras: Annotated[tuple[CameraSpec, ...], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _cameras_agree(self) -> Self:
        names = [camera.name for camera in self.cameras]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"expected distinct camera names, got {', '.join(doubled)} more than once")
        sizes = sorted({(camera.height, camera.width) for camera in self.cameras})
        if len(sizes) > 1:
            got = ", ".join(f"{height}x{width}" for height, width in sizes)
            raise ValueError(f"expected cameras of one size, got {got}")
        return self

    def rig(self) -> Rig:
        """The rig that the file describes."""
        return Rig(self.name, tuple(camera.camera() for camera in self.cameras))


def load_rig(name: str) -> Rig:
    """A rig preset by name, or a rig file by path.

    Raises:
        worldmodel.preset_files.PresetError: no such preset or file.
        RigError: the file is not a possible rig.
    """
    return parse_rig(preset_path("rigs", name))


def parse_rig(path: Path) -> Rig:
    """Read a rig file. Raises RigError with every complaint, one per line."""
    try:
        return RigSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).rig()
    except yaml.YAMLError as error:
        raise RigError(f"expected a YAML file at {path}, got {error}") from error
    except ValidationError as error:
        # A camera that is refused also leaves the list too short: only the cause is worth reading.
        causes = [item for item in error.errors() if item["type"] != "too_short"] or error.errors()
        raise RigError(f"{path.name}: " + "; ".join(_complaint(item) for item in causes)) from error


def _complaint(item) -> str:  # type: ignore[no-untyped-def]
    where = ".".join(str(part) for part in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        fields = CameraSpec.model_fields if "cameras" in item["loc"] else RigSpec.model_fields
        message = f"expected one of {', '.join(fields)}, got an unknown key"
    elif not message.startswith("expected"):
        message = f"{message}, got {item['input']!r}"
    return f"{where}: {message}" if where else message


def _given(spec: CameraSpec) -> str:
    given = [key for key in ("hfov_deg", "fx", "fy") if getattr(spec, key) is not None]
    return " and ".join(given) or "neither"

"""Weather and time of day as numbers: what lights the scene and what the air adds.

Light is a multiplier of surface colours (1 shows a colour as it is); colours are RGB 0..255.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from worldmodel.scene.state import Atmosphere

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """How one atmosphere looks."""

    ambient: Rgb  # light from the whole sky
    sun: Rgb  # light from the sun at right angles
    horizon: Rgb  # sky colour at the horizon, and of the haze
    zenith: Rgb
    cloud: Rgb
    clouds: float  # share of the sky
    haze_per_m: float
    wet: float  # 0 dry, 1 shining road
    lamps: float  # 0 off, 1 street lamps, windows and head lamps on
    stars: float
    sun_direction: tuple[float, float, float]  # unit, world frame, towards the sun


_DAY = Look(
    (0.62, 0.65, 0.70),
    (0.56, 0.51, 0.43),
    (205, 220, 234),
    (88, 140, 208),
    (250, 250, 250),
    0.35,
    0.0006,
    0.0,
    0.0,
    0.0,
    (0, 0, 1),
)
_DUSK = Look(
    (0.52, 0.48, 0.55),
    (0.46, 0.27, 0.13),
    (246, 176, 120),
    (74, 88, 146),
    (232, 148, 124),
    0.45,
    0.0009,
    0.0,
    0.75,
    0.0,
    (0, 0, 1),
)
_NIGHT = Look((0.27, 0.28, 0.36), (0.03, 0.03, 0.05), (46, 50, 72), (9, 12, 28), (38, 40, 56), 0.3, 0.0008, 0.0, 1.0, 1.0, (0, 0, 1))  # fmt: skip
_TIMES = {"day": _DAY, "dusk": _DUSK, "night": _NIGHT}


def look_of(atmosphere: Atmosphere) -> Look:
    """The look of an atmosphere."""
    base = replace(_TIMES[atmosphere.time_of_day], sun_direction=sun_direction(atmosphere))
    return _WEATHERS[atmosphere.weather](base)


def sun_direction(atmosphere: Atmosphere) -> tuple[float, float, float]:
    """Unit vector towards the sun; never lower than 4 degrees, so that shadows end. At dusk it stands low."""
    low = atmosphere.time_of_day == "dusk"
    elevation = float(np.clip(atmosphere.sun_elevation_rad, 0.07, 0.25 if low else 1.5))
    cos = np.cos(elevation)
    azimuth = atmosphere.sun_azimuth_rad
    return float(cos * np.cos(azimuth)), float(cos * np.sin(azimuth)), float(np.sin(elevation))


def _cloudy(look: Look) -> Look:
    sky = _towards(look.horizon, (200, 205, 211), look, 0.75)
    return replace(
        look,
        ambient=_scaled(_grey(look.ambient, 0.7), 1.42),
        sun=_scaled(look.sun, 0.08),
        horizon=sky,
        zenith=_scaled(sky, 0.78),
        cloud=_scaled(sky, 0.92),
        clouds=0.9,
        haze_per_m=look.haze_per_m * 2,
        stars=0.0,
    )


def _rain(look: Look) -> Look:
    cloudy = _cloudy(look)
    return replace(
        cloudy,
        ambient=_scaled(cloudy.ambient, 0.80),
        sun=(0.0, 0.0, 0.0),
        horizon=_scaled(cloudy.horizon, 0.80),
        zenith=_scaled(cloudy.horizon, 0.60),
        cloud=_scaled(cloudy.horizon, 0.66),
        haze_per_m=0.0045,
        wet=1.0,
        lamps=max(look.lamps, 0.5),
    )


def _fog(look: Look) -> Look:
    cloudy = _cloudy(look)
    haze = _scaled(cloudy.horizon, 1.02)
    return replace(
        cloudy,
        sun=(0.0, 0.0, 0.0),
        horizon=haze,
        zenith=_scaled(haze, 0.92),
        cloud=haze,
        clouds=0.0,
        haze_per_m=0.022,
        lamps=max(look.lamps, 0.5),
    )


_WEATHERS: dict[str, Callable[[Look], Look]] = {
    "clear": lambda look: look,
    "cloudy": _cloudy,
    "rain": _rain,
    "fog": _fog,
}


def _scaled(color: Rgb, factor: float) -> Rgb:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _grey(color: Rgb, share: float) -> Rgb:
    mean = sum(color) / 3
    return tuple(c + (mean - c) * share for c in color)  # type: ignore[return-value]


def _towards(color: Rgb, target: Rgb, look: Look, share: float) -> Rgb:
    """Mix a sky colour with the grey of clouds, as bright as the time of day allows."""
    brightness = {0.0: 1.0, 0.75: 0.72}.get(look.lamps, 0.22)
    return tuple(c + (t * brightness - c) * share for c, t in zip(color, target, strict=True))  # type: ignore[return-value]

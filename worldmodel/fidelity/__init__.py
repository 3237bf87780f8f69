"""How faithful generated frames are: picture error, motion, and the ego motion that can be read back from them."""

from .agents import agents_present
from .errors import MOVING_M, TURNING_RAD, mean_square, pair_is_right, psnr_of, relative_error
from .images import psnr, ssim
from .motion import motion_energy, recover_ego_motion
from .overlap import cross_view_error
from .warp import bare_warp

__all__ = [
    "MOVING_M",
    "TURNING_RAD",
    "agents_present",
    "bare_warp",
    "cross_view_error",
    "mean_square",
    "motion_energy",
    "pair_is_right",
    "psnr",
    "psnr_of",
    "recover_ego_motion",
    "relative_error",
    "ssim",
]

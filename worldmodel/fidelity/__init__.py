"""How faithful generated frames are: picture error, motion, and the ego motion that can be read back from them."""

from .images import psnr, ssim
from .motion import motion_energy, recover_ego_motion

__all__ = ["motion_energy", "psnr", "recover_ego_motion", "ssim"]

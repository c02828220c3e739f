"""The PSF that settings describe."""

from __future__ import annotations

import math
from pathlib import Path

from config.errors import SettingsError
from config.schema import OpticsSettings
from simulation.psf import AstigmaticPsf, FocusCurve, GaussianPsf, Psf
from simulation.spline_psf import MeasuredPsf, SplinePsf

SAME_SIZE = 0.01
"""Relative difference of two pixel sizes that are taken for the same."""


def make_psf(optics: OpticsSettings, pixel_size: float, blur: float = 0.0) -> Psf:
    """The PSF on pixels of ``pixel_size`` nm, widened by motion within a frame of standard deviation ``blur`` nm.

    Raises SettingsError for what is missing or does not fit.
    """
    if optics.psf == "spline":
        _as_measured(optics, blur)
        return spline_psf(optics.psf_file, "optics.psf_file", pixel_size)
    if optics.psf_sigma is None:
        raise SettingsError("a simulation needs optics.psf_sigma in nm: optics.psf_sigma=135, or optics=challenge")
    sigma = optics.psf_sigma / pixel_size
    if optics.psf == "gaussian":
        return GaussianPsf(math.hypot(sigma, blur / pixel_size) if blur else sigma)
    curves = zip(optics.focus, optics.focal_depth, optics.third, optics.fourth, strict=True)
    x, y = (FocusCurve(sigma, *curve) for curve in curves)
    return AstigmaticPsf(x, y, blur / pixel_size)


def spline_psf(path: str | None, key: str, pixel_size: float | None = None) -> SplinePsf:
    """A measured PSF for pixels of ``pixel_size`` nm (None: of any). Raises SettingsError."""
    if path is None:
        raise SettingsError(f"a spline PSF needs {key}: a file that `liveloc psf` made of a bead's z-stack.")
    measured = MeasuredPsf.load(Path(path))
    if pixel_size is not None and abs(measured.pixel_size / pixel_size - 1) > SAME_SIZE:
        raise SettingsError(
            f"{key}={path} was measured with pixels of {measured.pixel_size:g} nm, but the camera's are "
            f"{pixel_size:g} nm. Measure the PSF with this camera, or set camera.pixel_size={measured.pixel_size:g}."
        )
    return SplinePsf(measured)


def _as_measured(optics: OpticsSettings, blur: float) -> None:
    """Raise SettingsError where the width of a measured PSF would have to change."""
    for key, value in (("optics.sigma_spread", optics.sigma_spread), ("dataset.vibration", blur)):
        if value > 0:
            raise SettingsError(
                f"{key} changes the width of the PSF, but a spline PSF has one width, the measured one. Set it to 0, "
                "or take optics.psf=gaussian or astigmatic."
            )

"""From expected photons to ADU: what an EMCCD or an sCMOS camera does to light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CameraNoise:
    """The camera's chain. Every value is a number, or a tensor that broadcasts against the frames."""

    quantum_efficiency: float
    em_gain: float
    """1 for a camera without an EM register."""
    e_per_adu: float | Tensor
    baseline: float | Tensor
    """[ADU]"""
    read_noise: float | Tensor
    """[e⁻ rms] at the output."""
    spurious_charge: float
    """[e⁻ / pixel / frame] before the register."""
    saturation: float = 65535.0
    """[ADU]"""

    def expose(self, photons: Tensor, generator: torch.Generator) -> Tensor:
        """ADU (float tensor of whole numbers) for expected photons, any shape.

        Photoelectrons and spurious charge are Poisson; the EM register multiplies n electrons into a gamma variate of
        shape n and scale em_gain (Hirsch et al. 2013, PLoS ONE 8:e53671, eq. 3), whose variance 2·n·em_gain² with that
        of n gives the excess noise factor² of 2; read noise is normal; the converter floors and saturates.
        """
        electrons = torch.poisson(photons * self.quantum_efficiency + self.spurious_charge, generator=generator)
        if self.em_gain > 1:
            electrons = self._multiply(electrons, generator)
        noise = torch.randn(photons.shape, generator=generator, device=photons.device) * self.read_noise
        adu = (electrons + noise) / self.e_per_adu + self.baseline
        # A division that rounds, because floor_ wakes all threads on a small frame: a hundred times the work.
        return adu.div_(1, rounding_mode="floor").clamp_(0, self.saturation)

    def to_photons(self, adu: Tensor) -> Tensor:
        """The camera's own calibration: photons for ADU."""
        return (adu - self.baseline) * self.e_per_adu / (self.em_gain * self.quantum_efficiency)

    def _multiply(self, electrons: Tensor, generator: torch.Generator) -> Tensor:
        flat = electrons.flatten()
        # Indices and not a mask: indexing by a mask wakes all of torch's threads, ten times the work on a small frame.
        lit = flat.nonzero().squeeze(1)
        # torch.distributions.Gamma takes no generator; this is what it calls.
        gamma = torch._standard_gamma(flat.index_select(0, lit), generator=generator)  # noqa: SLF001 # pyright: ignore[reportPrivateImportUsage]
        return flat.index_copy_(0, lit, gamma * self.em_gain).view(electrons.shape)

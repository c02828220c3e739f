"""Networks by kind. A new kind is one class and one line here; its variants are YAML files in config/network/."""

from __future__ import annotations

from collections.abc import Callable

from config.errors import SettingsError
from config.schema import NetworkSettings
from models.attention_unet import AttentionUNet
from models.decode import Decode
from models.diffusion import Diffusion
from models.liteloc import LiteLoc
from models.network import Network
from models.seed import SeedV1, SeedV2
from models.unet import PlainUNet
from models.vit import ViT

NETWORKS: dict[str, Callable[[NetworkSettings], Network]] = {
    "attention_unet": AttentionUNet,
    "decode": Decode,
    "diffusion": Diffusion,
    "liteloc": LiteLoc,
    "seed_v1": SeedV1,
    "seed_v2": SeedV2,
    "unet": PlainUNet,
    "vit": ViT,
}


def build_network(settings: NetworkSettings) -> Network:
    """A new network with fresh weights. Raises SettingsError for an unknown kind and for settings at odds."""
    if settings.kind not in NETWORKS:
        there = ", ".join(sorted(NETWORKS))
        raise SettingsError(f"network.kind={settings.kind}: no such network. There are: {there}.")
    return NETWORKS[settings.kind](settings)

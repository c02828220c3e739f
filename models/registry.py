"""Networks by kind. A new kind is one class and one line here; its variants are YAML files in config/network/."""

from __future__ import annotations

from collections.abc import Callable

from config.errors import SettingsError
from config.schema import NetworkSettings
from models.attention_unet import AttentionUNet

NETWORKS: dict[str, Callable[[NetworkSettings], AttentionUNet]] = {"attention_unet": AttentionUNet}


def build_network(settings: NetworkSettings) -> AttentionUNet:
    """A new network with fresh weights. Raises SettingsError for an unknown kind."""
    try:
        return NETWORKS[settings.kind](settings)
    except KeyError:
        raise SettingsError(
            f"network.kind={settings.kind}: no such network. There are: {', '.join(sorted(NETWORKS))}."
        ) from None

"""The mobile form of the network, which the exporters convert for phones."""

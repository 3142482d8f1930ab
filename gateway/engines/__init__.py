"""One adapter per engine protocol, all behind :class:`gateway.engines.base.Engine`."""

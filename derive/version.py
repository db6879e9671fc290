"""The engine's version, as it stands in banners of generated modules."""

ENGINE = "0.1.0"

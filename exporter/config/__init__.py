"""What can be configured, where each value came from, and what is wrong with it.

Every option is one field of :class:`Config`; flags, environment variables, keys of the YAML file
and ``docs/configuration.md`` follow from it.
"""

from exporter.config.options import Config
from exporter.config.values import Address

__all__ = ["Address", "Config"]

"""timm's models with predicted parameters: `create_model`, names for timm's registry, folders that timm loads.

timm itself is imported when one of them is called.
"""

from ghn_init.timm.create import create_model
from ghn_init.timm.export import export
from ghn_init.timm.register import register

__all__ = ["create_model", "export", "register"]

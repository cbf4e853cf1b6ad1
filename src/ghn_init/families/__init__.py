"""Families that people use: small members of them, by their own constructors in timm, torchvision and transformers.

Generated, not downloaded. The libraries are imported when a member of theirs is built.
"""

from __future__ import annotations

from ghn_init.families.member import Member, Recipe
from ghn_init.families.registry import FAMILIES, Family
from ghn_init.families.sequences import Networks, mixed, networks
from ghn_init.families.splits import SPLITS, member, network
from ghn_init.families.statistics import FamilySummary, MemberStatistics

__all__ = [
    "FAMILIES",
    "SPLITS",
    "Family",
    "FamilySummary",
    "Member",
    "MemberStatistics",
    "Networks",
    "Recipe",
    "member",
    "mixed",
    "network",
    "networks",
]

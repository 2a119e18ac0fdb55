"""Clicks: their kinds, their positions in a case, and a robot that clicks like a person."""

from .annotator import Click, RobotAnnotator
from .kinds import KINDS, click_targets, kind_of_label
from .place import Clicks, given_clicks, place_clicks

__all__ = [
    "KINDS",
    "Click",
    "Clicks",
    "RobotAnnotator",
    "click_targets",
    "given_clicks",
    "kind_of_label",
    "place_clicks",
]

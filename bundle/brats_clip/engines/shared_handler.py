"""A handler that several parts of a config refer to, in a list where MONAI expects components."""

from __future__ import annotations


def shared_handler(handler):
    """Return ``handler``.

    ``ConfigWorkflow.check_properties`` reads the ``_target_`` of every entry of the trainer's handlers, so a plain
    reference such as ``"@ema"`` fails there.
    """
    return handler

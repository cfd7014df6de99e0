"""The compiler of this installation, which decides what may be launched in it."""

from __future__ import annotations


def installed_triton() -> str | None:
    """The version of the Triton that is installed here, or None. Triton itself is not imported."""
    # Whole as it stands, since an exported table holds this function's text.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        return None

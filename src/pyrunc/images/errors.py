"""What is wrong with an image."""

from __future__ import annotations

from pyrunc.errors import Error


class ImageInvalid(Error):
    """An archive or layout of an image is damaged, does harm, or is of a kind not known here."""

    code = "archive-invalid"

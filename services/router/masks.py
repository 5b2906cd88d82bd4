"""What a mask must be, whoever draws. Pure."""

from __future__ import annotations

from mesh.errors import FieldViolation, InvalidArgument


def check_mask(image: tuple[int, int], mask: tuple[int, int]) -> None:
    """Raises InvalidArgument, naming both fields, unless the mask is as large as the first image (width, height)."""
    if image != mask:
        fix = f"the mask has {mask[0]}x{mask[1]} pixels and the first image {image[0]}x{image[1]}; make them the same"
        violations = tuple(FieldViolation(field, fix) for field in ("spec.images", "spec.mask"))
        raise InvalidArgument(f"spec.mask: {fix}", violations=violations)

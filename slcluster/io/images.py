"""Images as nilearn takes them: paths, patterns, nibabel images and lists of these, to arrays and back."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from slcluster.errors import GeometryError, InputError, NotAnImageError, one_line
from slcluster.io.grid import GRID_TOLERANCE, check_same_grid

__all__ = ["Samples", "center_voxels", "feature_mask", "is_in", "read_image", "read_samples", "score_image"]


class Samples(NamedTuple):
    """``values`` (nx, ny, nz, n_samples), unscaled integers as stored; ``affine`` (4, 4), indices to mm."""

    values: np.ndarray
    affine: np.ndarray


def read_samples(imgs: Any, name: str = "imgs") -> Samples:
    """All samples of an image or of several, in memory.

    Parameters
    ----------
    imgs : path, nibabel image, or iterable of these
        4D, or several: 3D images are one sample each, 4D images follow each other. A path may be a pattern
        (``"run-*.nii.gz"``), which takes its files in the order of their names, and may begin with ``~``.
    name : str
        What errors call it.

    Returns
    -------
    Samples
        Unscaled integers and floats of every width keep their dtype, scaled integers are float64: nilearn's
        rule. Several images have the widest of their dtypes.

    Raises
    ------
    NotAnImageError
        Something else than an image; a TypeError as well.
    InputError
        A file is missing or damaged, or the dimensions do not fit.
    GeometryError
        Several images lie on different grids.
    """
    found = _expand(imgs)
    if isinstance(found, list):
        if not found:
            raise InputError(f"{name} is empty; expected at least one image")
        images = [read_image(one, f"{name}[{n}]") for n, one in enumerate(found)]
    else:
        images = [read_image(found, name)]
        if len(images[0].shape) == 3:
            raise InputError(
                f"{name} is one 3D image, shape {images[0].shape}; expected a 4D image, or a list of 3D images"
            )
    affine = np.asarray(images[0].affine, np.float64)
    parts = []
    for number, image in enumerate(images):
        if not 3 <= len(image.shape) <= 4:
            raise InputError(f"{name} has shape {image.shape}; expected 4 dimensions: x, y, z and samples")
        check_same_grid(f"{name}[{number}]", image.shape[:3], image.affine, images[0].shape[:3], affine)
        values = _values(image, name)
        parts.append(values if values.ndim == 4 else values[..., None])
    return Samples(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=3), affine)


def _expand(imgs: Any) -> Any:
    """A list where several images are meant, else what was given."""
    if isinstance(imgs, str | os.PathLike):
        path = os.path.expanduser(os.fspath(imgs))
        if glob.has_magic(path) and not os.path.exists(path):
            files = sorted(glob.glob(path))
            if not files:
                raise InputError(f"no file matches {path}")
            return files
        return path
    is_many = isinstance(imgs, Iterable) and not isinstance(imgs, np.ndarray) and not hasattr(imgs, "affine")
    return list(imgs) if is_many else imgs


def read_image(img: Any, name: str) -> Any:
    """The nibabel image that a path or an image is; no voxel is read.

    Raises
    ------
    NotAnImageError
        It is neither.
    InputError
        No such file, or none that nibabel reads.
    """
    if isinstance(img, str | os.PathLike):
        try:
            return nib.load(os.path.expanduser(os.fspath(img)))
        except FileNotFoundError:
            raise InputError(f"{name}: no such file: {os.fspath(img)}") from None
        except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
            raise InputError(f"{name}: cannot read {os.fspath(img)}: {one_line(error)}") from error
    if not (hasattr(img, "affine") and hasattr(img, "dataobj") and len(np.shape(img.affine)) == 2):
        hint = (
            "; an array does not say where it lies, wrap it: nibabel.Nifti1Image(array, affine)"
            if isinstance(img, np.ndarray)
            else ""
        )
        raise NotAnImageError(
            f"{name}: input should be a NiftiLike object (a path or a nibabel image) or an iterable of "
            f"NiftiLike objects, got {type(img).__name__}{hint}"
        )
    return img


def _values(image: Any, name: str) -> np.ndarray:
    """Voxels as nibabel scales them, in native byte order."""
    try:
        values = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{name} is damaged or cut off: {one_line(error)}; get a fresh copy") from error
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name} has voxels of type {values.dtype}; expected real integers or floats")
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def is_in(image: Any, name: str) -> np.ndarray:
    """Voxels of a 3D mask image that are neither 0 nor NaN: bool (nx, ny, nz) on its own grid.

    Raises
    ------
    InputError
        It has not three dimensions, or no voxel is in it.
    """
    values = _values(image, name)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(f"{name} has shape {values.shape}; expected a 3D image")
    inside: np.ndarray = (values != 0) & ~np.isnan(values)
    if not inside.any():
        raise InputError(f"{name} is invalid as it is empty: none of its {inside.size} voxels differs from 0")
    return inside


def feature_mask(image: Any, shape: tuple[int, ...], affine: np.ndarray) -> tuple[np.ndarray, bool]:
    """A mask image on the grid of the samples, and whether it had to be resampled.

    On the same lattice voxels are looked up; else the nearest voxel counts, by
    ``nilearn.image.resample_img`` as in nilearn's searchlight.

    Raises
    ------
    GeometryError
        The two do not overlap.
    InputError
        It has to be resampled and nilearn is not installed.
    """
    inside, name = is_in(image, "mask_img"), "mask_img"
    own = np.asarray(image.affine, np.float64)
    try:
        check_same_grid(name, inside.shape, own, shape, affine)
    except GeometryError:
        pass
    else:
        return inside, False
    mask = np.zeros(shape, bool)
    ijk, is_on, one_to_one = _on_lattice(np.argwhere(inside), own, affine)
    if one_to_one and is_on.all():
        within = ((ijk >= 0) & (ijk < np.array(shape))).all(axis=1)
        mask[tuple(ijk[within].T)] = True
    else:
        mask = _resampled(image, shape, affine)
    if not mask.any():
        raise GeometryError(f"{name} covers no voxel of the images; they lie in different places in space")
    return mask, True


def _resampled(image: Any, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    try:
        from nilearn.image import resample_img
    except ImportError:
        raise InputError(
            "mask_img is on another grid than the images, and resampling it needs nilearn: "
            "pip install 'slcluster[plot]', or bring it to their grid"
        ) from None
    try:
        moved = resample_img(image, target_affine=affine, target_shape=tuple(shape), interpolation="nearest")
    except ValueError:  # nothing of it lies within the images
        return np.zeros(shape, bool)
    values = np.asarray(moved.dataobj)
    inside: np.ndarray = (values != 0) & ~np.isnan(values)
    return inside


def center_voxels(
    inside: np.ndarray, own: np.ndarray, shape: tuple[int, ...], wanted: np.ndarray
) -> np.ndarray:
    """Voxels of the samples at which the voxels of a process mask lie: int (n_centers, 3), C order of the mask.

    Parameters
    ----------
    inside : array of bool, shape (nx, ny, nz)
        The process mask on its own grid.
    own, wanted : array, shape (4, 4)
        Affines of that grid and of the samples'.
    shape : tuple of 3 ints
        Grid of the samples.

    Raises
    ------
    GeometryError
        Centers lie between the voxels of the samples, or outside them.
    """
    ijk, is_on, _ = _on_lattice(np.argwhere(inside), own, wanted)
    fix = "bring the process mask (mask_img where none is given) to the grid of the images: "
    fix += "nilearn.image.resample_to_img(mask, imgs, interpolation='nearest')"
    if not is_on.all():
        raise GeometryError(
            f"{np.count_nonzero(~is_on)} of {len(ijk)} centers lie between voxels of the images; {fix}"
        )
    outside = ~((ijk >= 0) & (ijk < np.array(shape))).all(axis=1)
    if outside.any():
        raise GeometryError(
            f"{np.count_nonzero(outside)} of {len(ijk)} centers lie outside the images; {fix}"
        )
    return ijk


def _on_lattice(ijk: np.ndarray, own: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Nearest voxels of the wanted grid; which of them are met; whether each grid's voxels are the other's."""
    to_wanted = np.linalg.inv(wanted) @ own
    at = ijk @ to_wanted[:3, :3].T + to_wanted[:3, 3]
    nearest = np.rint(at)
    off_mm = np.linalg.norm((at - nearest) @ wanted[:3, :3].T, axis=1)
    allowed_mm = GRID_TOLERANCE * float(np.linalg.norm(wanted[:3, :3], axis=0).min())
    volumes = abs(np.linalg.det(to_wanted[:3, :3]))
    return nearest.astype(np.int64), off_mm <= allowed_mm, bool(abs(volumes - 1) < GRID_TOLERANCE)


def score_image(values: np.ndarray, affine: np.ndarray) -> Any:
    """A map in memory as a NIfTI image, in mm."""
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    return image

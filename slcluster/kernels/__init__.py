"""Arrays in, arrays out. Nothing here imports Dask, Xarray, Zarr, nibabel or pandas.

A kernel is called as ``kernel(bold, targets, train, test, spheres, *, outputs, **params)``:

========== ============================== ==================================================================
argument   shape                          meaning
========== ============================== ==================================================================
bold       (n_voxels, n_samples), C order floats; the mask voxels of one slab in C order of the grid
targets    (n_permutations, n_samples)    integer codes of classes, or float64 to be predicted
train      n_folds index arrays           samples to train on, in the splitter's own order
test       n_folds index arrays           samples to test on; neither is derived from the other
spheres    CSR (indptr, indices)          columns of each center's sphere, ascending, local to the slab
========== ============================== ==================================================================

It returns a dict of arrays of shape ``(n_centers, n_permutations, n_folds, ...)``, holds no global state and
draws no random numbers. One sphere is one computation of fixed shape, so how centers are cut into blocks
cannot change a bit of the answer. Folds are index arrays, not masks, because solvers that stop early
answer differently to another order of the samples; :func:`slcluster.kernels.folds.as_masks` gives masks to
kernels that do not mind.
"""

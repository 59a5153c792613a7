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

Fast engines, which know their estimator, return what scores are computed from, as ``outputs`` asks:

============== ============================================ ==============================================
output         shape and dtype                              meaning
============== ============================================ ==============================================
confusion      (n_centers, n_permutations, n_folds, K, K)   int32, test samples of class (row) predicted
                                                            as class (column)
prediction     (n_centers, n_permutations, n_tested)        codes (int64), or float64 of a regression
decision       (n_centers, n_permutations, n_tested, D)     float64, scikit-learn's ``decision_function``:
                                                            D = 1 for two classes, K for more
log_proba      (n_centers, n_permutations, n_tested, K)     float64, natural logarithm of class
                                                            probabilities, where the estimator has them
n_unconverged  (n_centers, n_permutations, n_folds)         int32, 1 where an iteration ended before the optimum;
                                                            engines that iterate have it
============== ============================================ ==============================================

K is the number of classes. ``n_tested`` runs over the test samples of the first fold, then those of the second,
and so on, each in the fold's own order. Every training part has a sample of every class. An empty sphere is all
zeros in ``confusion``, -1 in ``prediction`` (NaN of a regression) and NaN elsewhere.
"""

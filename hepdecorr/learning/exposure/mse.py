"""Exposure of the reconstruction."""

from __future__ import annotations

from torch import Tensor

from hepdecorr.learning.exposure.exposure import Exposure, Seen, paired
from hepdecorr.learning.latents.term import weighted_mean


class MSEOE(Exposure):
    """L_OE = sigmoid(MSE_out - MSE_in) (Cheng's slides, 'Outlier Exposure').

    When to use it: to raise the AUC of scores 'mse' and 'nll'; the reward for outliers that are reconstructed
    badly is bounded, so that background still is reconstructed well.

    form: 'batch' compares the means of a batch's outliers and background; 'pair' one outlier with one
    background jet, and averages over the pairs.
    """

    forms = ("batch", "pair")
    decodes = True

    def price(self, outside: Seen, inside: Seen) -> Tensor:
        """Between -1 and 0."""
        if self.form == "batch":
            apart = weighted_mean(outside.mse, outside.w) - weighted_mean(inside.mse, inside.w)
            return -apart.sigmoid()
        first, second, w = paired(outside, inside)
        return -weighted_mean((first.mse - second.mse).sigmoid(), w)

"""Estimates with uncertainties from arrays; numpy and scipy only."""

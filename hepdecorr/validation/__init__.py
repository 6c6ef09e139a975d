"""The proof: measures, plots and the report. Neither torch nor coffea is imported here."""

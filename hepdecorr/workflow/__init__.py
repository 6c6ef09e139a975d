"""Steps of an analysis, callable from Python: tables, training, evaluation, reports, scans, comparisons."""

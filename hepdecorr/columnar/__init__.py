"""The columnar half: ROOT events in; training tables, scores and histograms out.  It never imports torch."""

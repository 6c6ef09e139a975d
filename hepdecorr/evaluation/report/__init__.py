"""Pages and tables that report results."""

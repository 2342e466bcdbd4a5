"""Stage 05: benchmarks → score rows → metrics. Every number of the project is a pure function of score rows."""

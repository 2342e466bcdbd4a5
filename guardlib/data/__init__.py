"""Stage 01: sources → records → deduplicated, clustered, leak-free splits (see :func:`guardlib.data.build.build_dataset`)."""

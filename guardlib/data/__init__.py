"""Stage 01, sources → records → clustered, leak-free splits; see :func:`guardlib.data.build.build_dataset`."""

"""Student-aware distillation: a large teacher (of experts) taught into a small student, and guards into a guard.

``python -m guardlib.distillation --help`` distils any pair of language models; notebook 09 tells the story.
"""

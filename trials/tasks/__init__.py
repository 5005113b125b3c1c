"""The sources of a mixture: what is trained, what is held out, what a right answer is."""

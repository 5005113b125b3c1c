"""The search while it runs: what is next, who trains it, what came of it, and how it ends."""
